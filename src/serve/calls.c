/* serve: the record of a call over HTTP, and what somebody thought of it. Workers read the ledger by a reader
 * of their own; a call belongs to the tenant that made it, and administrators see all of them. To others it
 * is not there.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/fields.h"
#include "serve/http_internal.h"
#include "serve/openai_internal.h"
#include "serve/record_internal.h"
#include "serve/rollout.h"
#include "serve/routes.h"

enum {
    MAX_RECORD = 4 << 20,
    MAX_CONTENT = 1 << 30,
    CATCH_UP_US = 1000000,
    RECENT_MS = 10000,
    MAX_LOOKING = 2,
    MAX_OPENING = 2, /* of four workers */
    OPENING_US = 500000,
    MAX_COMMENT = 64 << 10,
    QUESTION_MS = 30000 /* a worker is for others, too */
};

/* A database that hangs lets go of whoever connects to it after seconds only, and all workers together must
 * not stand there: others wait for a moment. */
int srn__recorder_reader(srn__recorder *r, srn_reader **ret, srn_err *err) {
    const srn_ledger *l = srn__recorder_ledger(r);
    const uint64_t until = srn_now_us() + OPENING_US;
    const struct timespec nap = {0, 2000000};
    if (!srn_ledger_is_postgres(srn_ledger_where(l))) return srn_reader_open_beside(l, ret, err);
    while (atomic_fetch_add(&r->n_opening, 1) >= MAX_OPENING) {
        atomic_fetch_sub(&r->n_opening, 1);
        if (srn_now_us() > until)
            return srn_fail(err, SRN_EIO, "%s: others wait for its answer already; ask again later",
                            srn_ledger_name(l));
        nanosleep(&nap, NULL);
    }
    int code = srn_reader_open_within(l, QUESTION_MS, ret, err);
    atomic_fetch_sub(&r->n_opening, 1);
    return code;
}

bool srn__recorder_catch_up(srn__recorder *r) {
    srn_ledger *l = srn__recorder_ledger(r);
    srn_ledger_stats s;
    const uint64_t until = srn_now_us() + CATCH_UP_US;
    const struct timespec nap = {0, 1000000};
    for (uint64_t target = 0; !srn__recorder_made(r, &target); nanosleep(&nap, NULL))
        if (srn_now_us() > until) return false;
    srn_ledger_get_stats(l, &s);
    const uint64_t wanted = s.appended;
    while (s.committed + s.failed + s.lost < wanted) {
        if (srn_now_us() > until) return false;
        nanosleep(&nap, NULL);
        srn_ledger_get_stats(l, &s);
    }
    return true;
}

static bool may_see(const srn__call *c, const srn_record *r) {
    const srn_key *key = srn__call_key(c);
    return !key || key->admin || strcmp(key->tenant, srn_record_call(r)->tenant) == 0;
}

static int not_there(const char *id, srn_err *err) {
    return srn_fail(err, SRN_ENOENT, "there is no record of the call '%.64s'", id);
}

/* The newest record of a call that this key may see. */
static int find_call(srn__call *c, srn_reader *r, const char *text, srn_stored *ret, srn_buf *ret_body,
                     srn_err *err) {
    uint8_t id[16];
    srn_record *record = NULL;
    if (!srn_ulid_parse(srn_str_of(text), id)) return not_there(text, err);
    int code = srn_reader_call(r, id, ret, ret_body, err);
    if (!code) code = srn_record_decode(ret->kind, (srn_str){ret_body->data, ret_body->len}, &record, err);
    if (code == SRN_ENOENT || (!code && !may_see(c, record))) code = not_there(text, err);
    srn_record_free(record);
    return code;
}

/* Whether the call with that id began a moment ago: its first 48 bits are the time in milliseconds. */
static bool is_recent(const char *text) {
    uint8_t id[16];
    uint64_t ms = 0;
    if (!srn_ulid_parse(srn_str_of(text), id)) return false;
    for (int i = 0; i < 6; i++) ms = ms << 8 | id[i];
    uint64_t now_ms = srn_unix_us() / 1000;
    return ms <= now_ms && now_ms - ms < RECENT_MS;
}

/* The same once what is on its way is committed: an error may be with its client before its record is
 * appended. Few wait at a time, for an id is easily invented, and waiting takes a worker. */
static int find_committed(srn__call *c, srn_reader *r, const char *text, srn_stored *ret, srn_buf *ret_body,
                          srn_err *err) {
    const struct timespec nap = {0, 5000000};
    const uint64_t until = srn_now_us() + CATCH_UP_US;
    srn__recorder *recorder = srn__call_recorder(c);
    int code = find_call(c, r, text, ret, ret_body, err);
    bool running = !code && ret->kind == SRN_RECORD_INTENT;
    bool may_wait = atomic_fetch_add(&recorder->n_looking, 1) < MAX_LOOKING;
    while (may_wait && (running || (code == SRN_ENOENT && is_recent(text)))) {
        if (!srn__recorder_catch_up(recorder)) break;
        srn_buf_clear(ret_body);
        code = find_call(c, r, text, ret, ret_body, err);
        if (running || srn_now_us() > until) break;
        if (code) nanosleep(&nap, NULL);
    }
    atomic_fetch_sub(&recorder->n_looking, 1);
    return code;
}

/* What is wrong with the ledger is the log's to say; what is wrong with the question is the answer's. */
static void fail_reading(srn__call *c, const char *param, const srn_err *err) {
    bool asked_wrong = err->code == SRN_EINVAL || err->code == SRN_ENOENT || err->code == SRN_ELIMIT;
    char text[sizeof err->text + 64];
    srn_err told;
    if (asked_wrong) return srn__call_fail_err(c, param, err);
    snprintf(text, sizeof text, "call %s: %s", srn__call_id(c), err->text);
    srn__recorder_say(srn__call_recorder(c), "ledger_trouble", text);
    srn__ledger_trouble(c, err, &told);
    srn__call_fail_err(c, param, &told);
}

/* false: there is no ledger, and that was replied. */
static bool has_ledger(srn__call *c) {
    if (srn__recorder_ledger(srn__call_recorder(c))) return true;
    srn__call_fail(c, 404, NULL, NULL, "no_ledger", "this server keeps no record of calls (--ledger off)");
    return false;
}

static void put_content(const srn__call *c, srn_reader *r, const char *text, srn_buf *out) {
    uint8_t id[16];
    srn_err why = {0};
    srn_buf content;
    srn_buf_init(&content, MAX_CONTENT);
    int code = srn_ulid_parse(srn_str_of(text), id) ? srn_reader_content(r, id, &content, &why) : SRN_ENOENT;
    if (code == SRN_EIO || code == SRN_ETIMEOUT) srn__ledger_trouble(c, &why, &why);
    srn_buf_addz(out, ",\"content\":");
    if (code) {
        srn_buf_addz(out, "null,\"content_missing\":");
        srn__put_string(out, srn_str_of(why.text));
    } else {
        srn_buf_add(out, content.data, content.len);
    }
    srn_buf_done(&content);
}

void srn__handle_call(srn__call *c) {
    const char *id = srn__call_path_id(c), *wants = srn__call_query(c, "content");
    srn_reader *r = NULL;
    srn_stored s;
    srn_err err = {0};
    srn_buf body;
    if (!has_ledger(c)) return;
    srn_buf_init(&body, MAX_CONTENT);
    int code = srn__recorder_reader(srn__call_recorder(c), &r, &err);
    if (!code) code = find_committed(c, r, id, &s, &body, &err);
    if (!code) {
        body.len--; /* the object's end */
        srn_buf_addf(&body, ",\"kind\":\"%s\",\"recorded_us\":%llu",
                     s.kind == SRN_RECORD_CALL ? "call" : "intent", (unsigned long long)s.t_us);
        if (wants && strcmp(wants, "1") == 0) put_content(c, r, id, &body);
        srn_buf_addz(&body, "}\n");
        if (body.failed) code = srn_fail_nomem(&err, body.len);
    }
    srn_reader_close(r);
    if (code)
        fail_reading(c, NULL, &err);
    else
        srn__call_reply_text(c, 200, "application/json", (srn_str){body.data, body.len});
    srn_buf_done(&body);
}

/* ---- feedback ---- */

typedef struct feedback {
    const char *call, *label, *comment;
    const json_t *score; /* NULL: none */
} feedback;

static bool is_word(const char *z) {
    for (const char *c = z; *c; c++)
        if (!strchr("_-.:", *c) && !(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') &&
            !(*c >= 'A' && *c <= 'Z'))
            return false;
    return *z != 0;
}

static int text_of(srn__fields *f, const json_t *body, const char *name, size_t most, const char **ret) {
    const json_t *v = json_object_get(body, name);
    if (!srn__field_given(body, name)) return SRN_OK;
    if (!json_is_string(v) || json_string_length(v) > most)
        return srn__field_wrong(f, SRN_EINVAL, name, "must be a text of at most %zu bytes", most);
    *ret = json_string_value(v);
    return SRN_OK;
}

static int read_feedback(srn__fields *f, const json_t *body, feedback *ret) {
    int code = text_of(f, body, "call", 64, &ret->call);
    if (!code && !ret->call)
        code = srn__field_wrong(f, SRN_EINVAL, "call", "needs the id of a call (x-serin-call)");
    if (!code) code = text_of(f, body, "label", 128, &ret->label);
    if (!code) code = text_of(f, body, "comment", MAX_COMMENT, &ret->comment);
    ret->score = srn__field_given(body, "score") ? json_object_get(body, "score") : NULL;
    if (!code && ret->score && !json_is_number(ret->score))
        code = srn__field_wrong(f, SRN_EINVAL, "score", "must be a number");
    if (!code && ret->label && !is_word(ret->label))
        code = srn__field_wrong(
            f, SRN_EINVAL, "label",
            "needs a word of letters, digits, '_', '-', '.' and ':'; what a person writes is "
            "a comment, which is kept as content");
    if (!code && !ret->score && !ret->label && !ret->comment)
        code = srn__field_wrong(f, SRN_EINVAL, "score", "needs a value, or label or comment do");
    return code;
}

/* A comment is content: it is kept as that of its call is, sealed, as base64; "" where it is not kept. */
static int seal_comment(const srn__call *c, const char *comment, const json_t *call, srn_buf *ret,
                        srn_err *err) {
    const char *policy = json_string_value(json_object_get(call, "policy"));
    const char *tenant = json_string_value(json_object_get(call, "tenant"));
    const char *subject = json_string_value(json_object_get(call, "subject"));
    srn_content_policy p = SRN_CONTENT_NONE;
    srn_buf text, sealed;
    if (!comment || !policy || !srn_content_policy_of(srn_str_of(policy), &p)) return SRN_OK;
    if (p != SRN_CONTENT_FULL && p != SRN_CONTENT_ENCRYPTED) return SRN_OK;
    srn_buf_init(&text, 8 * MAX_COMMENT);
    srn_buf_init(&sealed, 16 * MAX_COMMENT);
    srn_buf_addz(&text, "{\"comment\":");
    srn__put_string(&text, srn_str_of(comment));
    srn_buf_addc(&text, '}');
    int code = text.failed ? srn_fail_nomem(err, text.len)
                           : srn_ledger_seal(srn_ledger_get_keys(srn__recorder_ledger(srn__call_recorder(c))),
                                             p, tenant ? tenant : "", subject ? subject : "",
                                             (srn_str){text.data, text.len}, &sealed, err);
    if (!code) srn_base64_add(ret, (const uint8_t *)sealed.data, sealed.len);
    srn_buf_done(&text);
    srn_buf_done(&sealed);
    return code;
}

static int store(srn__call *c, const feedback *f, const json_t *call, bool *ret_kept, srn_err *err) {
    srn_buf comment;
    const srn_key *key = srn__call_key(c);
    srn_buf_init(&comment, 32 * MAX_COMMENT);
    int code = seal_comment(c, f->comment, call, &comment, err);
    *ret_kept = comment.len > 0;
    json_t *body = json_pack("{s:i, s:O, s:I, s:s, s:O?, s:s?, s:s?, s:o*}", "v", 1, "id",
                             json_object_get(call, "id"), "at_us", (json_int_t)srn_unix_us(), "by",
                             key ? key->name : "anybody", "score", f->score, "label", f->label, "comment",
                             comment.len ? comment.data : NULL, "rollout", srn__rollout_of_marked(call));
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    if (!code && !text) code = srn_fail_nomem(err, 256);
    if (!code) {
        const srn_entry e = {.kind = SRN_RECORD_FEEDBACK, .body = srn_str_of(text), .durable = true};
        code = srn_ledger_commit(srn__recorder_ledger(srn__call_recorder(c)), &e, err);
    }
    if (!code) srn__watcher_poke(srn__call_watcher(c));
    free(text);
    json_decref(body);
    srn_buf_done(&comment);
    return code;
}

void srn__handle_feedback(srn__call *c) {
    srn_err err = {0};
    srn__fields f = {.err = &err};
    feedback what = {0};
    srn_reader *r = NULL;
    srn_stored s;
    srn_buf body;
    json_t *asked = srn__call_json(c), *call = NULL;
    bool kept = false;
    if (!asked || !has_ledger(c)) return;
    srn_buf_init(&body, MAX_RECORD);
    int code = read_feedback(&f, asked, &what);
    if (!code) code = srn__recorder_reader(srn__call_recorder(c), &r, &err);
    if (!code) code = find_committed(c, r, what.call, &s, &body, &err);
    srn_reader_close(r);
    if (code == SRN_ENOENT) snprintf(f.param, sizeof f.param, "call");
    if (!code) call = json_loadb(body.data, body.len, 0, NULL);
    if (!code) code = call ? store(c, &what, call, &kept, &err) : srn_fail_nomem(&err, body.len);
    if (code)
        fail_reading(c, f.param[0] ? f.param : NULL, &err);
    else
        srn__call_reply_json(
            c, 200,
            json_pack("{s:s, s:s, s:b}", "call", what.call, "status", "recorded", "comment_kept", kept));
    json_decref(call);
    srn_buf_done(&body);
}

/* ---- forgetting ---- */

void srn__handle_forget(srn__call *c) {
    const json_t *body = srn__call_json(c);
    srn_ledger *l = srn__recorder_ledger(srn__call_recorder(c));
    const char *tenant = NULL, *subject = NULL, *param = NULL;
    srn_err err = {0};
    if (!body) return;
    int code = srn__field_string(body, "tenant", &tenant, &param, &err);
    if (!code) code = srn__field_string(body, "subject", &subject, &param, &err);
    if (!code && (!subject || !*subject)) {
        param = "subject";
        code = srn_fail(&err, SRN_EINVAL,
                        "'subject' says whom to forget: the user as requests name him, or a "
                        "record's subject");
    }
    if (!code && !l) code = srn_fail(&err, SRN_ENOENT, "this server has no ledger");
    const srn_key *key = srn__call_key(c);
    if (!code)
        code = srn_ledger_forget_subject(l, key ? key->name : "anybody", tenant ? tenant : "", subject, &err);
    if (code)
        srn__call_fail_err(c, param, &err);
    else
        srn__call_reply_json(c, 200, json_pack("{s:b}", "forgotten", 1));
}
