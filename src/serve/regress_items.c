/* regress: what is asked. Items are recorded calls that a filter finds, with their content, or requests that
 * the caller adds; each gets the checks that apply to it. One thread. Refuses what is no request, naming it.
 */
#include "serve/regress.h"

#include <stdlib.h>

enum { MAX_ITEMS = 1000000 };

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

static int add_item(srn_regress *g, srn_str id, srn_regress_item **ret, srn_err *err) {
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        srn_regress_item *grown =
            cap <= 2 * MAX_ITEMS ? srn_realloc_array(g->items, cap, sizeof *grown) : NULL;
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        g->items = grown;
        g->cap = cap;
    }
    srn_regress_item *it = &g->items[g->n];
    *it = (srn_regress_item){.group = "unregistered"};
    if (!(it->id = srn_strndup(id.ptr, id.len))) return srn_fail_nomem(err, id.len);
    g->n++;
    *ret = it;
    return SRN_OK;
}

/* Where programs may not judge, a list of such checks alone applies to nothing. */
static void add_checks(const srn_regress *g, srn_regress_item *it, const srn_checks *c) {
    bool judges = false;
    for (uint32_t i = 0; c && i < srn_checks_count(c); i++)
        judges = judges || g->program || !srn_check_command(c, i);
    if (judges) it->checks[it->n_checks++] = c;
}

/* Takes a malloc'd text as the item's request. */
static int set_request(srn_regress *g, srn_regress_item *it, char *text, srn_err *err) {
    if (!text) return srn_fail_nomem(err, 64);
    it->request = text;
    g->bytes += strlen(text);
    if (!g->max_bytes || g->bytes <= g->max_bytes) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT, "the requests have more than %zu MiB in all; ask for fewer of them",
                    g->max_bytes >> 20);
}

/* ---- prompts ---- */

/* The checks of a registered version, read once. */
static int checks_of(srn_regress *g, const srn_prompt_ref *ref, const srn_checks **ret, srn_err *err) {
    const srn_prompt *p = NULL;
    char name[SRN_PROMPT_NAME_MAX + 16];
    *ret = NULL;
    if (!g->prompts) return SRN_OK;
    snprintf(name, sizeof name, "%s@%u", ref->name, ref->version);
    for (size_t i = 0; i < g->n_named; i++)
        if (strcmp(g->named[i].name, name) == 0) return *ret = g->named[i].checks, SRN_OK;
    srn_regress_named *grown = srn_realloc_array(g->named, g->n_named + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    g->named = grown;
    srn_regress_named *n = &g->named[g->n_named];
    *n = (srn_regress_named){0};
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
static int read_ref(srn_regress *g, const char *text, srn_prompt_ref *ret, srn_err *err) {
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

static int note_prompt(srn_regress *g, srn_regress_item *it, srn_err *err) {
    const json_t *named = json_object_get(it->record, "prompt");
    const char *name = text_of(named, "name");
    const srn_checks *checks = NULL;
    srn_prompt_ref ref = {.version = (uint32_t)json_integer_value(json_object_get(named, "version"))};
    if (!*name) return SRN_OK;
    snprintf(ref.name, sizeof ref.name, "%s", name);
    bool versions = g->sides[1].prompt != NULL;
    if (versions) ref = g->sides[1].ref;
    if (versions)
        snprintf(it->group, sizeof it->group, "%s", ref.name);
    else
        snprintf(it->group, sizeof it->group, "%s@%u", ref.name, ref.version);
    int code = checks_of(g, &ref, &checks, err);
    add_checks(g, it, checks);
    return code;
}

static int read_call(srn_regress *g, const uint8_t id[16], srn_regress_item *it, srn_err *err) {
    srn_buf content;
    json_t *o = NULL;
    int code = SRN_OK;
    srn_buf_init(&content, (size_t)1 << 30);
    if (srn_reader_content(g->reader, id, &content, &it->why) == SRN_OK) {
        o = json_loadb(content.data, content.len, JSON_ALLOW_NUL, NULL);
        const char *request = json_string_value(json_object_get(o, "request"));
        if (!request)
            srn_fail(&it->why, SRN_EFORMAT, "its content has no request");
        else
            code = set_request(g, it, srn_strndup(request, strlen(request)), err);
    }
    json_decref(o);
    srn_buf_done(&content);
    return code ? code : note_prompt(g, it, err);
}

typedef struct finding {
    srn_regress *g;
    srn_err *err;
    int code;
    size_t n_found;
} finding;

/* Calls that were refused, failed or gave out no text are no items. */
static bool found(void *ctx, const srn_call_row *row, const srn_stored *s) {
    finding *f = ctx;
    srn_regress *g = f->g;
    srn_regress_item *it;
    f->n_found++;
    json_t *record = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    bool answered = json_integer_value(json_object_get(json_object_get(record, "tokens"), "output")) > 0 &&
                    s->kind == SRN_RECORD_CALL && strcmp(text_of(record, "endpoint"), "/v1/embeddings") != 0;
    if (answered && g->sides[0].prompt)
        answered = strcmp(text_of(json_object_get(record, "prompt"), "name"), g->sides[0].ref.name) == 0;
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

static int read_calls(srn_regress *g, srn_err *err) {
    srn_filter *filter = NULL;
    finding f = {g, err, SRN_OK, 0};
    int code = srn_filter_parse(srn_str_of(g->filter), srn_unix_us(), &filter, err);
    if (!code) code = srn_reader_calls(g->reader, filter, NULL, (uint32_t)g->limit, found, &f, err);
    srn_filter_free(filter);
    if (!code) code = f.code;
    for (size_t i = 0; !code && i < g->n; i++) {
        uint8_t id[16];
        srn_regress_item *it = &g->items[i];
        if (!srn_ulid_parse(srn_str_of(it->id), id))
            code = srn_fail(err, SRN_EFORMAT, "the record of the call '%.40s' has no id", it->id);
        else
            code = read_call(g, id, it, err);
    }
    if (!code && !g->n)
        code = srn_fail(err, SRN_ENOENT,
                        "none of the %zu calls that the filter finds gave out an answer%s; serin calls list "
                        "shows them",
                        f.n_found, g->sides[0].prompt ? " with that prompt" : "");
    return code;
}

/* ---- requests ---- */

static int wrong(const char *place, srn_err *err, const char *what) {
    return srn_fail(err, SRN_EFORMAT, "%s: %s", place, what);
}

static int check_request(const char *place, const json_t *o, srn_err *err) {
    const json_t *messages = json_object_get(o, "messages"), *prompt = json_object_get(o, "prompt");
    const json_t *id = json_object_get(o, "id");
    if (!json_is_object(o)) return wrong(place, err, "one JSON object is expected");
    if (!messages == !prompt) return wrong(place, err, "give either 'messages' or 'prompt'");
    if (messages && (!json_is_array(messages) || !json_array_size(messages)))
        return wrong(place, err, "'messages' must be a list with at least one message");
    if (prompt && !json_is_string(prompt)) return wrong(place, err, "'prompt' must be a text");
    if (id && (!json_is_string(id) || json_string_length(id) > 200))
        return wrong(place, err, "'id' must be a text of at most 200 bytes");
    return SRN_OK;
}

int srn_regress_add(srn_regress *g, json_t *request, const char *place, const char *name, srn_err *err) {
    srn_regress_item *it;
    char where[256];
    int code = check_request(place, request, err);
    if (code) return code;
    const char *id = json_string_value(json_object_get(request, "id"));
    code = add_item(g, srn_str_of(id ? id : name), &it, err);
    const json_t *checks = json_object_get(request, "checks");
    snprintf(where, sizeof where, "%.200s: checks", place);
    if (!code && checks) code = srn_checks_new(checks, where, &it->own, err);
    if (code) return code;
    add_checks(g, it, it->own);
    json_object_del(request, "id");
    json_object_del(request, "checks");
    json_object_del(request, "stream");
    return set_request(g, it, json_dumps(request, JSON_COMPACT), err);
}

int srn_regress_common(srn_regress *g, const json_t *list, const char *place, srn_err *err) {
    return srn_checks_new(list, place, &g->common, err);
}

int srn_regress_read(srn_regress *g, srn_err *err) {
    int code = SRN_OK;
    for (int k = 0; !code && k < 2; k++)
        if (g->sides[k].prompt) code = read_ref(g, g->sides[k].prompt, &g->sides[k].ref, err);
    if (!code && g->sides[0].prompt && strcmp(g->sides[0].ref.name, g->sides[1].ref.name) != 0)
        code = srn_fail(err, SRN_EUSAGE, "the two prompts must be versions of one prompt");
    if (!code && g->filter) code = read_calls(g, err);
    for (size_t i = 0; !code && i < g->n; i++) add_checks(g, &g->items[i], g->common);
    return code;
}

void srn_regress_done(srn_regress *g) {
    for (size_t i = 0; i < g->n; i++) {
        srn_regress_item *it = &g->items[i];
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
    json_decref(g->weights_differ);
}
