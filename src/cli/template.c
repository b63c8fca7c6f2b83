/* cli: `serin template`: messages to the prompt that a model's chat template makes of them, or to its token
 * ids. Main thread. Messages, tools and --set are data: special tokens spelled in them stay text.
 */
#include "chat/chat.h"
#include "cli/cli.h"
#include "cli/template.h"
#include "cli/tokens.h"

#include <stdlib.h>
#include <time.h>

enum { MAX_JSON_BYTES = 1 << 28, MAX_TEMPLATE_BYTES = 1 << 20 };

typedef struct request {
    bool tokens, no_generation, json;
    const char *model, *template_file, *messages_file, *tools_file;
    srn_str_list set;
    int64_t now;
} request;

typedef struct work {
    json_t *messages, *tools, *extra;
    char *source;
    srn_weights *w;
    srn_vocab *v;
    srn_template *t;
    srn_rendered out;
    srn_tokens ids;
} work;

static int load_json(const char *path, json_t **ret, srn_err *err) {
    char *text;
    size_t len;
    json_error_t e;
    int code = srn_read_file(path, MAX_JSON_BYTES, &text, &len, err);
    if (code) return code;
    *ret = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    free(text);
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    if (!*ret) return srn_fail(err, SRN_EFORMAT, "%s, line %d: %s", name, e.line, e.text);
    return SRN_OK;
}

int srn__cli_template_vars(const srn_str_list *set, json_t **ret, srn_err *err) {
    *ret = json_object();
    if (!*ret) return srn_fail_nomem(err, sizeof(json_t *));
    for (size_t i = 0; i < set->n; i++) {
        const char *item = set->items[i], *eq = strchr(item, '=');
        if (!eq || eq == item)
            return srn_fail(err, SRN_EUSAGE,
                            "--set %s: write it as KEY=JSON, for example --set enable_thinking=false", item);
        json_error_t e;
        json_t *v = json_loads(eq + 1, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        if (!v)
            return srn_fail(err, SRN_EUSAGE,
                            "--set %s: the value is not JSON (%s); a text needs quotes: --set '%.*s=\"%s\"'",
                            item, e.text, (int)(eq - item), item, eq + 1);
        if (json_object_setn_new(*ret, item, (size_t)(eq - item), v))
            return srn_fail(err, SRN_EUSAGE, "--set %s: the key is not UTF-8", item);
    }
    return SRN_OK;
}

static int open_model(const request *r, work *k, srn_err *err) {
    char path[4096];
    int code = srn_weights_locate(r->model, path, sizeof path, err);
    if (!code) code = srn_weights_open(path, &(srn_open_opts){.vocab_only = true}, &k->w, err);
    if (!code && r->tokens) code = srn_vocab_new(k->w, &k->v, err);
    return code;
}

static int open_template(const request *r, work *k, srn_err *err) {
    size_t len;
    if (r->template_file) {
        int code = srn_read_file(r->template_file, MAX_TEMPLATE_BYTES, &k->source, &len, err);
        return code ? code : srn_template_new((srn_str){k->source, len}, r->template_file, &k->t, err);
    }
    srn_err why;
    int code = srn_template_of(k->w, k->tools != NULL, &k->t, &why);
    if (code == SRN_ENOENT) return srn_fail(err, code, "%s; give one with --template FILE.jinja", why.text);
    if (code) *err = why;
    return code;
}

/* What the person at the terminal sets as BOS or EOS is a special token, not data. */
static void take_special(json_t *extra, const char *key, srn_str *token) {
    json_t *v = json_object_get(extra, key);
    if (json_is_string(v)) *token = (srn_str){json_string_value(v), json_string_length(v)};
}

static int render(const request *r, work *k, srn_err *err) {
    srn_render_opts o = {.messages = k->messages,
                         .tools = k->tools,
                         .extra = k->extra,
                         .add_generation_prompt = !r->no_generation,
                         .now_unix = (int64_t)time(NULL)};
    if (k->w) srn_template_specials(k->w, &o.bos_token, &o.eos_token);
    take_special(k->extra, "bos_token", &o.bos_token);
    take_special(k->extra, "eos_token", &o.eos_token);
    int code = srn_template_render(k->t, &o, &k->out, err);
    if (code || !r->tokens) return code;
    return srn_tokenize(k->v, k->out.spans, k->out.n_spans, 0, &k->ids, err);
}

static json_t *ids_json(const srn_tokens *t) {
    json_t *list = json_array();
    for (size_t i = 0; i < t->n; i++) json_array_append_new(list, json_integer(t->ids[i]));
    return list;
}

/* {"prompt": TEXT, "spans": [{"start", "end", "trusted"}], "tokens": [...]}; offsets in bytes. */
static int print_json(const request *r, const work *k, srn_err *err) {
    json_t *root = json_object(), *spans = json_array();
    for (size_t i = 0; i < k->out.n_spans; i++) {
        const srn_span *s = &k->out.spans[i];
        json_int_t start = s->text.ptr - k->out.text.data;
        json_array_append_new(spans, json_pack("{s:I, s:I, s:b}", "start", start, "end",
                                               start + (json_int_t)s->text.len, "trusted", (int)s->trusted));
    }
    json_t *text = json_stringn(k->out.text.data, k->out.text.len);
    if (!text) {
        json_decref(root);
        json_decref(spans);
        return srn_fail(err, SRN_EFORMAT, "the prompt is not UTF-8, so it cannot be printed as JSON");
    }
    json_object_set_new(root, "prompt", text);
    json_object_set_new(root, "spans", spans);
    if (r->tokens) json_object_set_new(root, "tokens", ids_json(&k->ids));
    int failed = json_dumpf(root, stdout, 0);
    json_decref(root);
    putchar('\n');
    return failed ? srn_fail(err, SRN_EIO, "standard output could not be written") : SRN_OK;
}

static int print(const request *r, const work *k, srn_err *err) {
    if (r->json) return print_json(r, k, err);
    if (!r->tokens) {
        srn_cli_put_result((srn_str){k->out.text.data, k->out.text.len});
        return SRN_OK;
    }
    putchar('[');
    for (size_t i = 0; i < k->ids.n; i++) printf("%s%d", i ? "," : "", k->ids.ids[i]);
    puts("]");
    return SRN_OK;
}

static int run(const request *r, work *k, srn_err *err) {
    int code = srn__cli_template_vars(&r->set, &k->extra, err);
    if (!code && r->model) code = open_model(r, k, err);
    if (!code) code = load_json(r->messages_file, &k->messages, err);
    if (!code && r->tools_file) code = load_json(r->tools_file, &k->tools, err);
    if (!code) code = srn_messages_check(k->messages, k->tools, err);
    if (!code) code = open_template(r, k, err);
    if (!code) code = render(r, k, err);
    return code ? code : print(r, k, err);
}

static int check_usage(const request *r, srn_err *err) {
    if (!r->model && !r->template_file)
        return srn_fail(err, SRN_EUSAGE, "give a model, or a template with --template FILE.jinja");
    if (!r->messages_file)
        return srn_fail(err, SRN_EUSAGE, "--messages FILE.json is missing (- reads standard input)");
    if (r->tools_file && strcmp(r->tools_file, "-") == 0 && strcmp(r->messages_file, "-") == 0)
        return srn_fail(err, SRN_EUSAGE, "--messages and --tools cannot both read standard input");
    if (r->tokens && !r->model)
        return srn_fail(err, SRN_EUSAGE, "--tokens needs a MODEL, whose vocabulary gives the ids");
    return SRN_OK;
}

static int parse(int argc, char **argv, request *r) {
    const srn_opt opts[] = {
        {.name = "template",
         .kind = SRN_OPT_STR,
         .dest = &r->template_file,
         .arg = "FILE",
         .help = "render this template, not the model's own"},
        {.name = "messages",
         .letter = 'm',
         .kind = SRN_OPT_STR,
         .dest = &r->messages_file,
         .arg = "FILE",
         .help = "a JSON array of {role, content, ...}; - for standard input"},
        {.name = "tools",
         .kind = SRN_OPT_STR,
         .dest = &r->tools_file,
         .arg = "FILE",
         .help = "a JSON array of tools"},
        {.name = "set",
         .kind = SRN_OPT_LIST,
         .dest = &r->set,
         .arg = "KEY=JSON",
         .help = "a further variable of the template; may be repeated"},
        {.name = "tokens",
         .kind = SRN_OPT_FLAG,
         .dest = &r->tokens,
         .help = "print a JSON array of the model's token ids"},
        {.name = "no-generation-prompt",
         .kind = SRN_OPT_FLAG,
         .dest = &r->no_generation,
         .help = "do not open the assistant's turn at the end"},
        {.name = "json",
         .kind = SRN_OPT_FLAG,
         .dest = &r->json,
         .help = "print one object: prompt, spans with their trust, tokens"},
    };
    const srn_cli_spec spec = {
        .usage = "serin template (MODEL | --template FILE.jinja) --messages FILE.json [--tools FILE.json]\n"
                 "                      [--set KEY=JSON]... [--tokens] [--no-generation-prompt] [--json]",
        .about =
            "Prints the prompt that a chat template makes of messages, byte for byte, or its token ids.\n"
            "Special tokens spelled inside messages, tools or --set are text, never control tokens.",
        .examples =
            "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | serin template smollm2 --messages -\n"
            "  serin template model.gguf --messages chat.json --tools tools.json --tokens\n"
            "  serin template --template new.jinja --messages chat.json --set enable_thinking=false\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 0,
        .max_operands = 1,
    };
    int n = 0;
    return srn_cli_parse(&spec, argc, argv, &r->model, &n);
}

int srn__cmd_template(int argc, char **argv) {
    request r = {0};
    work k = {0};
    srn_err err;
    int exit_code = parse(argc, argv, &r);
    if (exit_code < 0) {
        int code = check_usage(&r, &err);
        if (!code) code = run(&r, &k, &err);
        exit_code = code ? srn_cli_error("template", &err) : srn_cli_flush("template");
    }
    srn_str_list_done(&r.set);
    srn_tokens_done(&k.ids);
    srn_rendered_done(&k.out);
    srn_template_free(k.t);
    srn_vocab_free(k.v);
    srn_weights_free(k.w);
    json_decref(k.messages);
    json_decref(k.tools);
    json_decref(k.extra);
    free(k.source);
    return exit_code;
}
