/* serve: regressions over HTTP, for administrators and the operator's page: two models of the server, or two
 * versions of a prompt, asked the same; as serin regress, but on the models that are there. POST /v1/regress
 * makes a job, which runs on the thread of regressions; GET tells how far it is and what came of it; DELETE
 * ends it, or forgets one that has ended. Bounded: jobs that wait, requests and answers of a job, results.
 * Refuses programs as checks, for whoever has a key must not run any.
 */
#include <pthread.h>
#include <stdlib.h>

#include "format/format.h"
#include "serve/background.h"
#include "serve/fields.h"
#include "serve/http_internal.h"
#include "serve/regress.h"
#include "serve/routes.h"

enum {
    KEPT_JOBS = 16,
    KEPT_BYTES = 64 << 20,   /* of all results */
    RESULT_BYTES = 32 << 20, /* of one */
    JOB_BYTES = 64 << 20,    /* of a job's requests and answers */
    MOST_ITEMS = 1000,
    USUAL_ITEMS = 100,
    WORKERS = 2
};

typedef enum job_state { QUEUED, RUNNING, DONE, FAILED, CANCELLED } job_state;

typedef struct job {
    srn__task task; /* first */
    char id[SRN_ULID_CHARS + 1];
    char *names[2], *prompts[2], *filter; /* owned; NULL: not given */
    char *by;
    srn_regress g;
    char paths[2][4096];
    srn__lent lent;
    srn__background *background;
    srn__regressions *all;
    /* Guarded by the lock of all. */
    atomic_uint refs; /* the list, and the runner */
    job_state state;
    const char *what; /* it does now */
    uint64_t done, total, created_us, started_us, ended_us;
    char *result;
    size_t n_result;
    srn_err err;
    struct job *next;
} job;

struct srn__regressions {
    pthread_mutex_t lock;
    job *first; /* the newest first */
};

static void job_free(job *j) {
    if (!j || atomic_fetch_sub(&j->refs, 1) != 1) return;
    srn_regress_done(&j->g);
    srn__lent_done(&j->lent);
    for (int k = 0; k < 2; k++) {
        free(j->names[k]);
        free(j->prompts[k]);
    }
    free(j->filter);
    free(j->by);
    free(j->result);
    free(j);
}

int srn__regressions_new(srn__regressions **ret, srn_err *err) {
    srn__regressions *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    *ret = r;
    return SRN_OK;
}

void srn__regressions_free(srn__regressions *r) {
    if (!r) return;
    for (job *j = r->first, *next; j; j = next) {
        next = j->next;
        job_free(j);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- the list; the lock is held ---- */

static const char *state_name(job_state s) {
    static const char *const names[] = {"queued", "running", "done", "failed", "cancelled"};
    return names[s];
}

static bool has_ended(const job *j) {
    return j->state >= DONE;
}

static void unlink_job(srn__regressions *r, job *j) {
    job **p = &r->first;
    while (*p && *p != j) p = &(*p)->next;
    if (*p) *p = j->next;
}

static job *find(srn__regressions *r, const char *id) {
    job *j = r->first;
    while (j && strcmp(j->id, id) != 0) j = j->next;
    return j;
}

/* The oldest results go until the others have room. */
static void trim(srn__regressions *r) {
    for (;;) {
        size_t n = 0, bytes = 0;
        job *oldest = NULL;
        for (job *j = r->first; j; j = j->next) {
            if (!has_ended(j)) continue;
            n++;
            bytes += j->n_result;
            oldest = j;
        }
        if (n <= KEPT_JOBS && bytes <= KEPT_BYTES) return;
        unlink_job(r, oldest);
        job_free(oldest);
    }
}

/* ---- on the thread of regressions ---- */

static int open_side(void *ctx, int side, srn_answerer **ret, srn_err *err) {
    job *j = ctx;
    srn_regress_side *s = &j->g.sides[side];
    int code = srn__lend_named(&j->lent, side, j->background, s->model, err);
    if (code) return code;
    srn_replayer *r = j->lent.replayers[side];
    snprintf(j->paths[side], sizeof j->paths[side], "%s", srn_weights_path(srn_replayer_weights(r)));
    s->path = j->paths[side];
    *ret = srn_replayer_answerer(r);
    return SRN_OK;
}

static void close_side(void *ctx, int side, srn_answerer *a) {
    job *j = ctx;
    (void)side;
    for (int k = 0; k < 2; k++)
        if (j->lent.replayers[k] && srn_replayer_answerer(j->lent.replayers[k]) == a)
            srn__lent_return(&j->lent, k);
}

static bool stop(void *ctx) {
    return srn__lent_cancelled(&((job *)ctx)->lent);
}

static void progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    job *j = ctx;
    pthread_mutex_lock(&j->all->lock);
    j->what = what;
    j->done = done;
    j->total = total;
    pthread_mutex_unlock(&j->all->lock);
}

static int write_result(const job *j, char **ret, size_t *ret_n, srn_err *err) {
    srn_regress_sum *sums = NULL;
    size_t n = 0;
    int code = srn_regress_add_up(&j->g, &sums, &n, err);
    if (code) return code;
    json_t *o = srn_regress_json(&j->g, sums, n);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (!text) code = srn_fail_nomem(err, 4096);
    if (text && strlen(text) > RESULT_BYTES)
        code = srn_fail(err, SRN_ELIMIT, "the result has more than %d MiB; ask for fewer items",
                        RESULT_BYTES >> 20);
    json_decref(o);
    free(sums);
    if (code) {
        free(text);
        return code;
    }
    *ret_n = strlen(text);
    *ret = text;
    return SRN_OK;
}

static int compare(job *j, char **ret, size_t *ret_n, srn_err *err) {
    srn_regress *g = &j->g;
    int code = SRN_OK;
    if (g->filter) code = srn__background_reader(j->background, &g->reader, err);
    if (!code) code = srn_regress_read(g, err);
    if (!code) code = srn_regress_run(g, err);
    if (!code) code = write_result(j, ret, ret_n, err);
    srn_reader_close(g->reader);
    g->reader = NULL;
    return code;
}

static void begin(job *j) {
    pthread_mutex_lock(&j->all->lock);
    j->state = RUNNING;
    j->started_us = srn_unix_us();
    pthread_mutex_unlock(&j->all->lock);
}

static void run(srn__task *t) {
    job *j = (job *)t;
    char *result = NULL;
    size_t n_result = 0;
    srn_err err = {0};
    begin(j);
    int code =
        stop(j) ? srn_fail(&err, SRN_ECANCELLED, "it was cancelled") : compare(j, &result, &n_result, &err);
    job_state state = !code ? DONE : code == SRN_ECANCELLED ? CANCELLED : FAILED;
    srn__recorder_event_by(srn__background_get(j->background)->recorder, "regressed", j->by,
                           json_pack("{s:s, s:s, s:s, s:I, s:s}", "id", j->id, "from", j->g.sides[0].model,
                                     "to", j->g.sides[1].model, "items", (json_int_t)j->g.n, "state",
                                     state_name(state)));
    pthread_mutex_lock(&j->all->lock);
    j->state = state;
    j->err = err;
    j->result = result;
    j->n_result = n_result;
    j->ended_us = srn_unix_us();
    trim(j->all);
    pthread_mutex_unlock(&j->all->lock);
    srn_regress_done(&j->g); /* only the result stays */
    j->g = (srn_regress){0};
}

static void cancel(srn__task *t) {
    srn__lent_cancel(&((job *)t)->lent);
}

static void drop(srn__task *t) {
    job_free((job *)t);
}

/* ---- POST /v1/regress ---- */

static int take_text(const json_t *body, const char *name, char **ret, const char **ret_param, srn_err *err) {
    const char *text = NULL;
    int code = srn__field_string(body, name, &text, ret_param, err);
    if (!code && text && !(*ret = srn_strndup(text, strlen(text)))) code = srn_fail_nomem(err, 64);
    return code;
}

static int wrong(const char *param, const char **ret_param, srn_err *err, const char *text) {
    *ret_param = param;
    return srn_fail(err, SRN_EINVAL, "%s", text);
}

/* Models by name, or versions of a prompt on one model. */
static int read_sides(srn__call *c, const json_t *body, job *j, const char **ret_param, srn_err *err) {
    static const char *const names[] = {"from", "to"}, *const prompts[] = {"from_prompt", "to_prompt"};
    int code = SRN_OK;
    for (int k = 0; !code && k < 2; k++) {
        code = take_text(body, names[k], &j->names[k], ret_param, err);
        if (!code) code = take_text(body, prompts[k], &j->prompts[k], ret_param, err);
    }
    if (!code && !j->prompts[0] != !j->prompts[1])
        code = wrong("to_prompt", ret_param, err, "'from_prompt' and 'to_prompt' go together");
    if (!code && j->prompts[0] && j->names[1])
        code = wrong("to", ret_param, err, "versions of a prompt are compared on one model, 'from'");
    if (!code && j->prompts[0] && !j->filter)
        code = wrong("calls", ret_param, err, "versions of a prompt are compared over 'calls' that used it");
    if (!code && (!j->names[0] || (!j->names[1] && !j->prompts[0])))
        code =
            wrong(j->names[0] ? "to" : "from", ret_param, err, "'from' and 'to' name models of this server");
    for (int k = 0; !code && k < 2; k++) {
        char name[128];
        srn_regress_side *s = &j->g.sides[k];
        s->model = j->names[k] ? j->names[k] : j->names[0];
        s->prompt = j->prompts[k];
        if (srn__models_name(srn__call_models(c), srn__call_config(c), s->model, name)) continue;
        *ret_param = names[k];
        code =
            srn_fail(err, SRN_ENOENT, "there is no model '%.100s' here; GET /v1/models lists them", s->model);
    }
    return code;
}

static int read_requests(const json_t *body, job *j, const char **ret_param, srn_err *err) {
    const json_t *list = NULL;
    size_t i;
    json_t *one;
    srn_filter *filter = NULL;
    int code = take_text(body, "calls", &j->filter, ret_param, err);
    if (!code) code = srn__field_array(body, "prompts", &list, ret_param, err);
    if (!code && !j->filter == !list)
        code = wrong("calls", ret_param, err,
                     "give the requests: recorded ones with 'calls', a filter, or a list of 'prompts'");
    if (!code && j->filter) {
        *ret_param = "calls";
        code = srn_filter_parse(srn_str_of(j->filter), srn_unix_us(), &filter, err);
        srn_filter_free(filter);
    }
    if (!code && json_array_size(list) > MOST_ITEMS)
        code = wrong("prompts", ret_param, err, "'prompts' has more than 1000 requests");
    j->g.filter = j->filter;
    *ret_param = code ? *ret_param : "prompts";
    json_array_foreach(list, i, one) {
        char place[40];
        snprintf(place, sizeof place, "prompts[%zu]", i);
        if (!code) code = srn_regress_add(&j->g, one, place, place, err);
    }
    if (!code) *ret_param = NULL;
    return code;
}

static int read_checks(const json_t *body, job *j, const char **ret_param, srn_err *err) {
    const json_t *list = NULL;
    int code = srn__field_array(body, "checks", &list, ret_param, err);
    if (code || !list) return code;
    *ret_param = "checks";
    code = srn_regress_common(&j->g, list, "checks", err);
    for (uint32_t i = 0; !code && i < srn_checks_count(j->g.common); i++)
        if (srn_check_command(j->g.common, i))
            code = srn_fail(err, SRN_EUNSUP, "checks[%u]: a server runs no programs; serin regress does", i);
    if (!code) *ret_param = NULL;
    return code;
}

typedef struct numbers {
    uint32_t limit, max_tokens;
    bool greedy, divergence;
} numbers;

static int read_numbers(const json_t *body, job *j, const char **ret_param, srn_err *err) {
    static const srn__field fields[] = {
        {"limit", SRN__FIELD_U32, offsetof(numbers, limit), 1, MOST_ITEMS, false},
        {"max_tokens", SRN__FIELD_U32, offsetof(numbers, max_tokens), 1, 1 << 24, false},
        {"greedy", SRN__FIELD_BOOL, offsetof(numbers, greedy), 0, 0, false},
        {"divergence", SRN__FIELD_BOOL, offsetof(numbers, divergence), 0, 0, false}};
    numbers n = {.limit = USUAL_ITEMS, .divergence = true};
    int code = srn__fields_read(body, fields, SRN_LEN(fields), &n, ret_param, err);
    j->g.limit = n.limit;
    j->g.max_tokens = n.max_tokens ? n.max_tokens : j->filter ? 0 : SRN_REGRESS_LINE_TOKENS;
    j->g.greedy = n.greedy;
    j->g.no_divergence = !n.divergence;
    return code;
}

static int read_job(srn__call *c, const json_t *body, job *j, const char **ret_param, srn_err *err) {
    const char *by = srn__call_key(c)->name;
    j->g = (srn_regress){.workers = WORKERS,
                         .max_bytes = JOB_BYTES,
                         .prompts = srn__call_prompts(c),
                         .open = open_side,
                         .close = close_side,
                         .stop = stop,
                         .progress = progress,
                         .ctx = j};
    j->task = (srn__task){.run = run, .cancel = cancel, .drop = drop};
    j->background = srn__call_background(c);
    j->all = srn__background_regressed(j->background);
    j->created_us = srn_unix_us();
    if (!(j->by = srn_strndup(by, strlen(by)))) return srn_fail_nomem(err, 64);
    int code = read_requests(body, j, ret_param, err);
    if (!code) code = read_sides(c, body, j, ret_param, err);
    if (!code) code = read_checks(body, j, ret_param, err);
    if (!code) code = read_numbers(body, j, ret_param, err);
    if (!code && j->filter && !srn__recorder_ledger(srn__call_recorder(c)))
        code = srn_fail(err, SRN_ENOENT, "this server keeps no ledger (ledger: off)");
    return code;
}

static json_t *job_json(const job *j, bool whole) {
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:{s:s?, s:I, s:I}, s:s?}", "object",
                          "regression", "id", j->id, "state", state_name(j->state), "from", j->names[0], "to",
                          j->names[1] ? j->names[1] : j->names[0], "created_us", (json_int_t)j->created_us,
                          "started_us", (json_int_t)j->started_us, "ended_us", (json_int_t)j->ended_us,
                          "progress", "what", j->what, "done", (json_int_t)j->done, "total",
                          (json_int_t)j->total, "error", j->err.code ? j->err.text : NULL);
    if (whole)
        json_object_set_new(
            o, "result", j->result ? json_loadb(j->result, j->n_result, JSON_ALLOW_NUL, NULL) : json_null());
    return o;
}

void srn__handle_regress(srn__call *c) {
    const char *param = NULL;
    srn_err err = {0};
    char location[64];
    const json_t *body = srn__background_refuses(c) ? NULL : srn__call_json(c);
    if (!body) return;
    job *j = srn_calloc(1, sizeof *j);
    if (!j) {
        srn_fail_nomem(&err, sizeof *j);
        srn__call_fail_err(c, NULL, &err);
        return;
    }
    atomic_init(&j->refs, 1);
    srn__lent_init(&j->lent);
    int code = read_job(c, body, j, &param, &err);
    json_t *answer = NULL;
    if (!code) {
        srn_ulid_new(j->id);
        answer = job_json(j, false);
        pthread_mutex_lock(&j->all->lock);
        atomic_store(&j->refs, 2);
        code = srn__runner_push(srn__background_regressions(j->background), &j->task, &err);
        if (code) {
            atomic_store(&j->refs, 1);
        } else {
            j->next = j->all->first;
            j->all->first = j;
        }
        pthread_mutex_unlock(&j->all->lock);
    }
    if (code) {
        json_decref(answer);
        srn__call_fail_err(c, param, &err);
        job_free(j);
        return;
    }
    snprintf(location, sizeof location, "/v1/regress/%s", json_string_value(json_object_get(answer, "id")));
    srn__call_set_header(c, "Location", location);
    srn__call_reply_json(c, 202, answer);
}

/* ---- the others ---- */

void srn__handle_regressions(srn__call *c) {
    srn__regressions *r = srn__background_regressed(srn__call_background(c));
    json_t *data = json_array();
    pthread_mutex_lock(&r->lock);
    for (const job *j = r->first; j; j = j->next) json_array_append_new(data, job_json(j, false));
    pthread_mutex_unlock(&r->lock);
    srn__call_reply_json(c, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
}

static void not_there(srn__call *c) {
    srn__call_fail(c, 404, NULL, NULL, "not_found",
                   "there is no regression '%.64s' here (any more); GET /v1/regress lists those there are",
                   srn__call_path_id(c));
}

void srn__handle_regression(srn__call *c) {
    srn__regressions *r = srn__background_regressed(srn__call_background(c));
    pthread_mutex_lock(&r->lock);
    const job *j = find(r, srn__call_path_id(c));
    json_t *o = j ? job_json(j, true) : NULL;
    pthread_mutex_unlock(&r->lock);
    if (o)
        srn__call_reply_json(c, 200, o);
    else
        not_there(c);
}

void srn__handle_regression_end(srn__call *c) {
    srn__regressions *r = srn__background_regressed(srn__call_background(c));
    const char *id = srn__call_path_id(c);
    pthread_mutex_lock(&r->lock);
    job *j = find(r, id), *gone = NULL;
    if (j && has_ended(j)) {
        unlink_job(r, j);
        gone = j;
    } else if (j) {
        srn__lent_cancel(&j->lent);
    }
    pthread_mutex_unlock(&r->lock);
    if (!j) return not_there(c);
    srn__call_reply_json(c, gone ? 200 : 202,
                         json_pack("{s:s, s:s}", "id", id, "state", gone ? "deleted" : "cancelling"));
    job_free(gone);
}
