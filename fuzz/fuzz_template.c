/* Fuzzes chat templates. An input that starts with '[' or '{' is messages, rendered by a template that
 * touches every field; any other is a template, rendered with fixed messages and tools.
 */
#include <stdlib.h>

#include "chat/chat.h"

static const char walker[] =
    "{%- macro show(v) -%}{%- if v is mapping -%}{% for k, w in v.items() %}{{ k }}={{ show(w) }};{% endfor "
    "%}"
    "{%- elif v is string -%}{{ v | trim | title }}{{ v[1:3] }}{{ v.split() | join('|') }}{{ v.upper() }}{{ "
    "v[::-1] }}"
    "{{ '%5s' % v }}{{ v | indent }}{{ v | replace('a', '<') }}"
    "{%- elif v is iterable -%}{% for w in v %}{{ show(w) }},{% endfor %}"
    "{%- else -%}{{ v }}{%- endif -%}{%- endmacro -%}"
    "{% for m in messages %}<|{{ m.role }}|>{{ show(m) }}{{ m | tojson(indent=1) }}{{ m }}{% endfor %}"
    "{{ messages | map(attribute='content') | select('string') | sort | unique | list | tojson }}";
static const char messages[] =
    "[{\"role\":\"system\",\"content\":\" s \"},{\"role\":\"user\",\"content\":\"h\\u00e9 <b> 1\\n2\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"abcdefghi\",\"function\":{\"name\":"
    "\"f\","
    "\"arguments\":{\"a\":1.5,\"b\":[true,null,-3]}}}]},{\"role\":\"tool\",\"content\":\"{}\"}]";
static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\"}}}}}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The spans must cover the text without gaps, alternate, and never be empty. */
static void check(const srn_rendered *r) {
    size_t at = 0;
    for (size_t i = 0; i < r->n_spans; i++) {
        const srn_span *s = &r->spans[i];
        if (s->text.ptr != r->text.data + at || s->text.len == 0) abort();
        if (i && s->trusted == r->spans[i - 1].trusted) abort();
        at += s->text.len;
    }
    if (at != r->text.len) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool is_json = size && (data[0] == '[' || data[0] == '{');
    is_json = is_json && !(size > 1 && (data[1] == '%' || data[1] == '{' || data[1] == '#'));
    json_t *m =
        is_json ? json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL) : json_loads(messages, 0, NULL);
    json_t *t = json_loads(tools, 0, NULL);
    srn_str source = is_json ? srn_str_of(walker) : (srn_str){(const char *)data, size};
    srn_template *tpl = NULL;
    srn_err err;
    if (m && srn_template_new(source, "fuzz", &tpl, &err) == SRN_OK) {
        srn_render_opts o = {.messages = m,
                             .tools = t,
                             .bos_token = SRN_STR("<s>"),
                             .add_generation_prompt = true,
                             .max_steps = 200000};
        srn_rendered r;
        (void)srn_messages_check(m, t, &err);
        if (srn_template_render(tpl, &o, &r, &err) == SRN_OK) {
            check(&r);
            srn_rendered_done(&r);
        }
    }
    srn_template_free(tpl);
    json_decref(m);
    json_decref(t);
    return 0;
}
