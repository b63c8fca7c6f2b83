/* Fuzzes the parser of answers. The first bytes choose the format, the options and how the text is cut; the
 * text is parsed whole and cut, and both must give the same events.
 */
#include <stdlib.h>

#include "chat/reply.h"

static const char *const sources[] = {
    "<tool_call>\"arguments\"",
    "<tool_call><function=",
    "\"parameters\"<|python_tag|>",
    "[TOOL_CALLS][ARGS]",
    "[TOOL_CALLS][THINK]",
    "<TOOLCALL><think>",
    "<|tool_call|><|/tool_call|>",
    "<｜tool▁calls▁begin｜>```json",
    "<｜tool▁calls▁begin｜>",
    "<|tool_calls_section_begin|><|tool_call_argument_begin|>",
    "",
};
static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":"
    "\"string\"},\"n\":{\"type\":\"number\"}}}}},{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

typedef struct record {
    srn_buf text;
    srn_reply_event_kind last;
    uint32_t index;
    uint64_t end;
} record;

static void note(void *ctx, const srn_reply_event *e) {
    record *r = ctx;
    bool goes_on = r->last == e->kind && r->index == e->index && e->kind != SRN_REPLY_CALL &&
                   e->kind != SRN_REPLY_CALL_END;
    if (e->end < r->end) abort();
    if (!goes_on || !r->text.len) srn_buf_addf(&r->text, "\n%d %u ", (int)e->kind, e->index);
    if (e->text.len) srn_buf_add(&r->text, e->text.ptr, e->text.len);
    r->last = e->kind;
    r->index = e->index;
    r->end = e->end;
}

static void parse(const srn_reply_format *f, const srn_reply_opts *o, srn_str text, size_t step, record *r) {
    srn_err err;
    srn_reply_parser *p;
    srn_buf_init(&r->text, 64 << 20);
    if (srn_reply_parser_new(f, o, note, r, &p, &err)) return;
    for (size_t i = 0; i < text.len; i += step)
        if (srn_reply_parser_add(p, (srn_str){text.ptr + i, SRN_MIN(step, text.len - i)}, &err)) break;
    (void)srn_reply_parser_end(p, &err);
    if (r->end > text.len) abort();
    srn_reply_parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3 || size > 1 << 16) return 0;
    const srn_reply_format *f = srn_reply_format_of(srn_str_of(sources[data[0] % SRN_LEN(sources)]));
    srn_str text = {(const char *)data + 3, size - 3};
    json_t *t = json_loads(tools, 0, NULL);
    srn_reply_opts o = {.tools = data[1] & 32 ? NULL : t,
                        .parallel_calls = !(data[1] & 1),
                        .in_reasoning = data[1] & 2,
                        .parse_tools = !(data[1] & 4),
                        .parse_reasoning = !(data[1] & 8),
                        .guarded = data[1] & 16};
    record whole = {0}, cut = {0};
    parse(f, &o, text, text.len + 1, &whole);
    parse(f, &o, text, data[2] % 16 + 1u, &cut);
    if (whole.text.len != cut.text.len ||
        (whole.text.len && memcmp(whole.text.data, cut.text.data, whole.text.len) != 0))
        abort();
    srn_buf_done(&whole.text);
    srn_buf_done(&cut.text);
    json_decref(t);
    return 0;
}
