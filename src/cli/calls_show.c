/* cli: `serin calls show`: everything that the ledger has of one call. Main thread. Text of others is printed
 * so that it cannot steer a terminal.
 */
#include "cli/calls.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

typedef struct showing {
    srn__calls *c;
    uint8_t id[16];
    srn_stored stored;
    srn_buf body, content;
    json_t *record, *feedback;
    char why_no_content[sizeof((srn_err *)0)->text];
} showing;

/* ---- gathering ---- */

static bool take_newest(void *ctx, const srn_call_row *row, const srn_stored *s) {
    (void)s;
    memcpy(ctx, row->id, 16);
    return false;
}

static int find_id(showing *s, srn_err *err) {
    const char *text = s->c->operands[0];
    static const uint8_t none[16] = {0};
    if (strcmp(text, "last") == 0) {
        int code = srn_reader_calls(s->c->reader, NULL, NULL, 1, take_newest, s->id, err);
        if (!code && memcmp(s->id, none, 16) == 0)
            code = srn_fail(err, SRN_ENOENT, "the ledger has no calls yet");
        return code;
    }
    if (srn_ulid_parse(srn_str_of(text), s->id)) return SRN_OK;
    return srn_fail(
        err, SRN_EINVAL,
        "'%.60s' is no id of a call, which has 26 letters and digits; `serin calls list` shows them", text);
}

static bool take_feedback(void *ctx, const srn_stored *s) {
    json_t *one = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    if (one) json_array_append_new(ctx, one);
    return true;
}

static int gather(showing *s, srn_err *err) {
    int code = find_id(s, err);
    if (!code) code = srn_reader_call(s->c->reader, s->id, &s->stored, &s->body, err);
    if (code) return code;
    s->stored.body = (srn_str){s->body.data, s->body.len};
    s->record = json_loadb(s->body.data, s->body.len, 0, NULL);
    s->feedback = json_array();
    if (!s->record || !s->feedback) return srn_fail(err, SRN_EFORMAT, "the record of this call is damaged");
    code = srn_reader_feedback(s->c->reader, s->id, take_feedback, s->feedback, err);
    if (code || !s->c->content) return code;
    code = srn_reader_content(s->c->reader, s->id, &s->content, err);
    if (code != SRN_ENOENT) return code;
    snprintf(s->why_no_content, sizeof s->why_no_content, "%s", err->text);
    return SRN_OK;
}

/* ---- printing ---- */

static const json_t *at(const json_t *j, const char *path) {
    char key[64];
    while (j && *path) {
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        j = json_object_get(j, key);
        path += n + (path[n] == '.');
    }
    return json_is_null(j) ? NULL : j;
}

typedef enum form { TEXT, TIME, SPAN } form;

static void put_value(const json_t *v, form f) {
    char text[32];
    if (f == TIME && json_is_integer(v)) {
        srn__calls_time((uint64_t)json_integer_value(v), true, text);
        printf("%s UTC", text);
    } else if (f == SPAN && json_is_integer(v)) {
        srn__calls_span((uint64_t)json_integer_value(v), text);
        fputs(text, stdout);
    } else if (json_is_string(v)) {
        srn_cli_put_text(stdout, (srn_str){json_string_value(v), json_string_length(v)}, 2000, false);
    } else {
        char *dump = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        if (dump) srn_cli_put_text(stdout, srn_str_of(dump), 4000, false);
        free(dump);
    }
}

/* Several values of one label stand on one line. */
static const struct {
    const char *label, *path, *before;
    form form;
} lines[] = {
    {"begun", "begun_us", "", TIME},
    {"endpoint", "endpoint", "", TEXT},
    {NULL, "route", "  route ", TEXT},
    {"status", "status", "", TEXT},
    {NULL, "finish", "  ", TEXT},
    {NULL, "error", "  error ", TEXT},
    {"model", "model", "", TEXT},
    {NULL, "asked", "  asked for as ", TEXT},
    {NULL, "quantisation", "  ", TEXT},
    {"weights", "weights", "", TEXT},
    {"engine", "engine", "", TEXT},
    {NULL, "kv", "  kv ", TEXT},
    {"config", "config", "", TEXT},
    {"upstream", "upstream", "", TEXT},
    {"prompt", "prompt.name", "", TEXT},
    {NULL, "prompt.version", "@", TEXT},
    {NULL, "prompt.label", "  by label ", TEXT},
    {"prompt hash", "prompt.hash", "", TEXT},
    {"experiment", "experiment", "", TEXT},
    {NULL, "arm", "  arm ", TEXT},
    {NULL, "why", "  for ", TEXT},
    {"key", "key", "", TEXT},
    {NULL, "tenant", "  tenant ", TEXT},
    {"subject", "subject", "", TEXT},
    {"conversation", "conversation", "", TEXT},
    {"tokens", "tokens.input", "input ", TEXT},
    {NULL, "tokens.cached", "  cached ", TEXT},
    {NULL, "tokens.output", "  output ", TEXT},
    {NULL, "tokens.reasoning", "  reasoning ", TEXT},
    {"times", "us.queue", "queue ", SPAN},
    {NULL, "us.ttft", "  ttft ", SPAN},
    {NULL, "us.itl", "  itl ", SPAN},
    {NULL, "us.itl_max", " at most ", SPAN},
    {NULL, "us.total", "  total ", SPAN},
    {"sampling", "sampling", "", TEXT},
    {"constraint", "constraint", "", TEXT},
    {"content", "policy", "policy ", TEXT},
};

static void print_record(const showing *s) {
    bool open = false;
    printf("%-13s ", "call");
    put_value(at(s->record, "id"), TEXT);
    printf("%s  record %" PRIu64 "\n", s->stored.kind == SRN_RECORD_INTENT ? "  running" : "", s->stored.seq);
    for (size_t i = 0; i < SRN_LEN(lines); i++) {
        const json_t *v = at(s->record, lines[i].path);
        if (lines[i].label && open) putchar('\n');
        if (lines[i].label) open = v != NULL;
        if (!v || !open) continue;
        if (lines[i].label) printf("%-13s ", lines[i].label);
        fputs(lines[i].before, stdout);
        put_value(v, lines[i].form);
    }
    if (open) printf("%s\n", s->stored.has_content ? "; kept, --content shows it" : "");
}

static void print_feedback(const showing *s) {
    size_t i;
    json_t *f;
    json_array_foreach(s->feedback, i, f) {
        printf("%-13s ", "feedback");
        put_value(at(f, "at_us"), TIME);
        if (at(f, "score")) printf("  score "), put_value(at(f, "score"), TEXT);
        if (at(f, "label")) printf("  label "), put_value(at(f, "label"), TEXT);
        if (at(f, "by")) printf("  by "), put_value(at(f, "by"), TEXT);
        putchar('\n');
    }
}

static void print_content(const showing *s) {
    if (!s->c->content) return;
    if (!s->content.len) {
        fflush(stdout);
        fprintf(stderr, "%s\n", s->why_no_content);
        return;
    }
    json_t *j = json_loadb(s->content.data, s->content.len, JSON_ALLOW_NUL, NULL);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    putchar('\n');
    srn_cli_put_result(text ? srn_str_of(text) : (srn_str){s->content.data, s->content.len});
    putchar('\n');
    free(text);
    json_decref(j);
}

static int print_json(const showing *s, srn_err *err) {
    json_t *content =
        s->content.len ? json_loadb(s->content.data, s->content.len, JSON_ALLOW_NUL, NULL) : NULL;
    json_t *all =
        json_pack("{s:s, s:I, s:I, s:b, s:O, s:O, s:o?}", "state",
                  s->stored.kind == SRN_RECORD_INTENT ? "running" : "ended", "seq", (json_int_t)s->stored.seq,
                  "recorded_us", (json_int_t)s->stored.t_us, "has_content", (int)s->stored.has_content,
                  "record", s->record, "feedback", s->feedback, "content", content);
    char *text = all ? json_dumps(all, JSON_INDENT(2)) : NULL;
    if (text) printf("%s\n", text);
    int code = text ? SRN_OK : srn_fail_nomem(err, s->body.len);
    free(text);
    json_decref(all);
    return code;
}

int srn__calls_show(int argc, char **argv) {
    srn__calls c = {.command = "calls show"};
    const srn__calls_spec spec = {
        .usage = "serin calls show CALL [--content] [--json]",
        .about =
            "Shows the record of a call, whose id the header x-serin-call had, or of the last one, with the\n"
            "feedback on it and, where it was kept, its content.",
        .examples = "  serin calls show 01JDA6Z4N8M0Q5V3X7C2B9K1RT\n"
                    "  serin calls show last --content\n",
        .own = {{"content", 0, SRN_OPT_FLAG, &c.content, 0, 0, NULL, "also what was asked and answered"}},
        .n_own = 1,
        .min_operands = 1,
        .max_operands = 1};
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    showing s = {.c = &c};
    srn_buf_init(&s.body, (size_t)16 << 20);
    srn_buf_init(&s.content, (size_t)256 << 20);
    code = gather(&s, &err);
    if (!code && c.json) {
        code = print_json(&s, &err);
    } else if (!code) {
        print_record(&s);
        print_feedback(&s);
        print_content(&s);
    }
    json_decref(s.record);
    json_decref(s.feedback);
    srn_buf_done(&s.body);
    srn_buf_done(&s.content);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : srn_cli_flush(c.command);
}
