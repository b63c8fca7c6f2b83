/* serin regress: what is asked. Items are recorded calls that a filter finds, with their content, or lines of
 * a file; each gets the checks that apply to it. Main thread. Refuses lines that are no request, naming them.
 */
#include <stdlib.h>

#include "cli/regress.h"

enum { MAX_ITEMS = 1000000, MAX_FILE = 256 << 20, MAX_LINE = 8 << 20, MAX_CHECKS_FILE = 8 << 20 };

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

static int add_item(srn__regress *g, srn_str id, srn__regress_item **ret, srn_err *err) {
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        srn__regress_item *grown =
            cap <= 2 * MAX_ITEMS ? srn_realloc_array(g->items, cap, sizeof *grown) : NULL;
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        g->items = grown;
        g->cap = cap;
    }
    srn__regress_item *it = &g->items[g->n];
    *it = (srn__regress_item){.group = "unregistered"};
    if (!(it->id = srn_strndup(id.ptr, id.len))) return srn_fail_nomem(err, id.len);
    g->n++;
    *ret = it;
    return SRN_OK;
}

static void add_checks(srn__regress_item *it, const srn_checks *c) {
    if (c && srn_checks_count(c)) it->checks[it->n_checks++] = c;
}

/* ---- prompts ---- */

/* The checks of a registered version, read once. */
static int checks_of(srn__regress *g, const srn_prompt_ref *ref, const srn_checks **ret, srn_err *err) {
    const srn_prompt *p = NULL;
    char name[SRN_PROMPT_NAME_MAX + 16];
    *ret = NULL;
    if (!g->prompts) return SRN_OK;
    snprintf(name, sizeof name, "%s@%u", ref->name, ref->version);
    for (size_t i = 0; i < g->n_named; i++)
        if (strcmp(g->named[i].name, name) == 0) return *ret = g->named[i].checks, SRN_OK;
    srn__regress_named *grown = srn_realloc_array(g->named, g->n_named + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    g->named = grown;
    srn__regress_named *n = &g->named[g->n_named];
    *n = (srn__regress_named){0};
    snprintf(n->name, sizeof n->name, "%s", name);
    int code = srn_prompts_get(g->prompts, ref, &p, NULL, err);
    if (!code && p->checks) code = srn_checks_new(p->checks, name, &n->checks, err);
    srn_prompts_put(p);
    if (code) return code;
    g->n_named++;
    *ret = n->checks;
    return SRN_OK;
}

/* A label becomes the number of the version at which it points. */
static int read_ref(srn__regress *g, const char *text, srn_prompt_ref *ret, srn_err *err) {
    const srn_prompt *p = NULL;
    int code = srn_prompt_ref_parse(srn_str_of(text), ret, err);
    if (!code && !g->prompts)
        code = srn_fail(err, SRN_ENOENT, "the ledger has no registered prompts; serin prompts list");
    if (!code) code = srn_prompts_get(g->prompts, ret, &p, NULL, err);
    if (!code) ret->version = p->version;
    if (!code) ret->label[0] = 0;
    srn_prompts_put(p);
    return code;
}

/* ---- calls ---- */

static int note_prompt(srn__regress *g, srn__regress_item *it, srn_err *err) {
    const json_t *named = json_object_get(it->record, "prompt");
    const char *name = text_of(named, "name");
    const srn_checks *checks = NULL;
    srn_prompt_ref ref = {.version = (uint32_t)json_integer_value(json_object_get(named, "version"))};
    if (!*name) return SRN_OK;
    snprintf(ref.name, sizeof ref.name, "%s", name);
    if (g->to_prompt) ref = g->refs[1];
    if (g->to_prompt)
        snprintf(it->group, sizeof it->group, "%s", ref.name);
    else
        snprintf(it->group, sizeof it->group, "%s@%u", ref.name, ref.version);
    int code = checks_of(g, &ref, &checks, err);
    add_checks(it, checks);
    return code;
}

static int read_call(srn__regress *g, const uint8_t id[16], srn__regress_item *it, srn_err *err) {
    srn_buf content;
    json_t *o = NULL;
    srn_buf_init(&content, (size_t)1 << 30);
    if (srn_reader_content(g->reader, id, &content, &it->why) == SRN_OK) {
        o = json_loadb(content.data, content.len, JSON_ALLOW_NUL, NULL);
        const char *request = json_string_value(json_object_get(o, "request"));
        if (!request)
            srn_fail(&it->why, SRN_EFORMAT, "its content has no request");
        else
            it->request = srn_strndup(request, strlen(request));
    }
    json_decref(o);
    srn_buf_done(&content);
    if (!it->why.code && !it->request) return srn_fail_nomem(err, 1);
    return note_prompt(g, it, err);
}

typedef struct finding {
    srn__regress *g;
    srn_err *err;
    int code;
    size_t n_found;
} finding;

/* Calls that were refused, failed or gave out no text are no items. */
static bool found(void *ctx, const srn_call_row *row, const srn_stored *s) {
    finding *f = ctx;
    srn__regress *g = f->g;
    srn__regress_item *it;
    f->n_found++;
    json_t *record = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    bool answered = json_integer_value(json_object_get(json_object_get(record, "tokens"), "output")) > 0 &&
                    s->kind == SRN_RECORD_CALL && strcmp(text_of(record, "endpoint"), "/v1/embeddings") != 0;
    if (answered && g->from_prompt)
        answered = strcmp(text_of(json_object_get(record, "prompt"), "name"), g->refs[0].name) == 0;
    if (!answered) {
        json_decref(record);
        return true;
    }
    f->code = add_item(g, srn_str_of(text_of(record, "id")), &it, f->err);
    if (f->code) {
        json_decref(record);
        return false;
    }
    it->record = record;
    (void)row;
    return true;
}

static int read_calls(srn__regress *g, srn_err *err) {
    srn_filter *filter = NULL;
    finding f = {g, err, SRN_OK, 0};
    int code = srn_filter_parse(srn_str_of(g->filter), srn_unix_us(), &filter, err);
    if (!code) code = srn_reader_calls(g->reader, filter, NULL, (uint32_t)g->limit, found, &f, err);
    srn_filter_free(filter);
    if (!code) code = f.code;
    for (size_t i = 0; !code && i < g->n; i++) {
        uint8_t id[16];
        srn__regress_item *it = &g->items[i];
        if (!srn_ulid_parse(srn_str_of(it->id), id))
            code = srn_fail(err, SRN_EFORMAT, "the record of the call '%.40s' has no id", it->id);
        else
            code = read_call(g, id, it, err);
    }
    if (!code && !g->n)
        code = srn_fail(err, SRN_ENOENT,
                        "none of the %zu calls that the filter finds gave out an answer%s; serin calls list "
                        "shows them",
                        f.n_found, g->from_prompt ? " with that prompt" : "");
    return code;
}

/* ---- the file ---- */

typedef struct line {
    const char *file;
    size_t number;
} line;

static int wrong(const line *l, srn_err *err, const char *what) {
    return srn_fail(err, SRN_EFORMAT, "%s: line %zu: %s", l->file, l->number, what);
}

static int check_line(const line *l, const json_t *o, srn_err *err) {
    const json_t *messages = json_object_get(o, "messages"), *prompt = json_object_get(o, "prompt");
    const json_t *id = json_object_get(o, "id");
    if (!json_is_object(o)) return wrong(l, err, "one JSON object is expected");
    if (!messages == !prompt) return wrong(l, err, "give either 'messages' or 'prompt'");
    if (messages && (!json_is_array(messages) || !json_array_size(messages)))
        return wrong(l, err, "'messages' must be a list with at least one message");
    if (prompt && !json_is_string(prompt)) return wrong(l, err, "'prompt' must be a text");
    if (id && (!json_is_string(id) || json_string_length(id) > 200))
        return wrong(l, err, "'id' must be a text of at most 200 bytes");
    return SRN_OK;
}

static int read_line(srn__regress *g, const line *l, srn_str text, srn_err *err) {
    json_error_t je;
    srn__regress_item *it;
    char number[32], place[256];
    if (text.len > MAX_LINE) return wrong(l, err, "it is longer than 8 MiB");
    json_t *o = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &je);
    if (!o)
        return srn_fail(err, SRN_EFORMAT, "%s: line %zu, column %d: %s", l->file, l->number, je.column,
                        je.text);
    int code = check_line(l, o, err);
    if (code) return json_decref(o), code;
    snprintf(number, sizeof number, "line %zu", l->number);
    const char *id = json_string_value(json_object_get(o, "id"));
    code = add_item(g, srn_str_of(id ? id : number), &it, err);
    const json_t *checks = json_object_get(o, "checks");
    snprintf(place, sizeof place, "%.150s: line %zu: checks", l->file, l->number);
    if (!code && checks) code = srn_checks_new(checks, place, &it->own, err);
    if (!code) {
        add_checks(it, it->own);
        json_object_del(o, "id");
        json_object_del(o, "checks");
        json_object_del(o, "stream");
        it->request = json_dumps(o, JSON_COMPACT);
        if (!it->request) code = srn_fail_nomem(err, text.len);
    }
    json_decref(o);
    return code;
}

static int read_file(srn__regress *g, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(g->file, MAX_FILE, &text, &len, err);
    if (code) return code;
    line l = {g->file, 0};
    for (size_t at = 0; !code && at < len && g->n < (size_t)g->limit;) {
        const char *p = text + at, *end = memchr(p, '\n', len - at);
        size_t n = end ? (size_t)(end - p) : len - at;
        at += n + 1;
        l.number++;
        size_t blank = 0;
        while (blank < n && memchr(" \t\r", p[blank], 3)) blank++;
        if (blank < n) code = read_line(g, &l, (srn_str){p, n}, err);
    }
    free(text);
    if (!code && !g->n) code = srn_fail(err, SRN_EFORMAT, "%s: there is no request in it", g->file);
    return code;
}

static int read_common(srn__regress *g, srn_err *err) {
    char *text;
    size_t len;
    json_error_t je;
    if (!g->checks_file) return SRN_OK;
    int code = srn_read_file(g->checks_file, MAX_CHECKS_FILE, &text, &len, err);
    if (code) return code;
    json_t *list = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    free(text);
    if (!list)
        return srn_fail(err, SRN_EFORMAT, "%s: line %d, column %d: %s", g->checks_file, je.line, je.column,
                        je.text);
    code = srn_checks_new(list, g->checks_file, &g->common, err);
    json_decref(list);
    return code;
}

int srn__regress_read(srn__regress *g, srn_err *err) {
    int code = read_common(g, err);
    if (!code && g->filter) {
        srn_err none;
        code = srn_reader_open(g->ledger, g->keys, &g->reader, err);
        if (!code && srn_prompts_read(g->ledger, g->keys, &g->prompts, &none)) g->prompts = NULL;
    }
    if (!code && g->from_prompt) code = read_ref(g, g->from_prompt, &g->refs[0], err);
    if (!code && g->to_prompt) code = read_ref(g, g->to_prompt, &g->refs[1], err);
    if (!code && g->from_prompt && strcmp(g->refs[0].name, g->refs[1].name) != 0)
        code = srn_fail(err, SRN_EUSAGE, "--from-prompt and --to-prompt must be versions of one prompt");
    if (!code) code = g->filter ? read_calls(g, err) : read_file(g, err);
    for (size_t i = 0; !code && i < g->n; i++) add_checks(&g->items[i], g->common);
    return code;
}

void srn__regress_done(srn__regress *g) {
    for (size_t i = 0; i < g->n; i++) {
        srn__regress_item *it = &g->items[i];
        for (int k = 0; k < 2; k++) {
            srn_replay_answer_done(&it->sides[k].answer);
            json_decref(it->sides[k].checks);
            json_decref(it->sides[k].failed);
        }
        srn_checks_free(it->own);
        json_decref(it->record);
        free(it->request);
        free(it->id);
    }
    free(g->items);
    for (size_t i = 0; i < g->n_named; i++) srn_checks_free(g->named[i].checks);
    free(g->named);
    srn_checks_free(g->common);
    srn_prompts_close(g->prompts);
    srn_reader_close(g->reader);
}
