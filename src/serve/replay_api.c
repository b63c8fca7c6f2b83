/* serve: POST /v1/calls/{id}/replay, for administrators and the operator's page: a recorded call runs again
 * on the model that the server has, and the answer is what serin replay --json says. The handler runs on a
 * worker, the replay on the thread of replays, the source on the listener's. A replay is no call of a client:
 * it leaves no record of one, but an event.
 */
#include <pthread.h>
#include <stdlib.h>

#include "serve/background.h"
#include "serve/fields.h"
#include "serve/openai_internal.h"
#include "serve/routes.h"

typedef struct replaying {
    srn__task task;   /* first */
    atomic_uint refs; /* the source, and the runner */
    srn__background *background;
    srn__call *call;
    char *model; /* another one to be asked, or NULL */
    const char *by;
    bool divergence;
    srn__lent lent;
    srn_replay_call it;
    pthread_mutex_t lock; /* guards what is below */
    bool done;
    char *answer; /* or why not: */
    srn_err err;
} replaying;

static void let_go(replaying *r) {
    if (atomic_fetch_sub(&r->refs, 1) != 1) return;
    srn_replay_call_done(&r->it);
    srn__lent_done(&r->lent);
    pthread_mutex_destroy(&r->lock);
    srn__call_drop(r->call);
    free(r->answer);
    free(r->model);
    free(r);
}

/* ---- on the thread of replays ---- */

static int read_call(replaying *r, srn_err *err) {
    srn_reader *reader = NULL;
    int code = srn__background_reader(r->background, &reader, err);
    if (!code) {
        srn__recorder_catch_up(srn__background_get(r->background)->recorder);
        srn_replay_read(reader, &r->it);
    }
    srn_reader_close(reader);
    if (!code && !r->it.record) *err = r->it.why, code = r->it.why.code;
    return code;
}

static void run_other(replaying *r) {
    srn_err err = {0}, why = {0};
    int code = srn__lend_named(&r->lent, 1, r->background, r->model, &err);
    if (code) {
        srn_replay_fail(&r->it, &err);
        return;
    }
    if (!r->divergence)
        srn_fail(&why, SRN_ENOENT, "it was not asked for");
    else
        srn__lend_weights(&r->lent, 0, r->background, srn_replay_weights(&r->it), srn_replay_kv(&r->it),
                          &why);
    srn_replayer *was = r->lent.replayers[0];
    srn_replay_run_other(srn_replayer_answerer(r->lent.replayers[1]), r->model,
                         was ? srn_replayer_answerer(was) : NULL, why.text, &r->it);
}

static void run_same(replaying *r) {
    srn_err err = {0};
    int code = srn__lend_weights(&r->lent, 0, r->background, srn_replay_weights(&r->it),
                                 srn_replay_kv(&r->it), &err);
    if (code)
        srn_replay_fail(&r->it, &err);
    else
        srn_replay_run(r->lent.replayers[0], &r->it);
}

static int run_call(replaying *r, srn_err *err) {
    int code = read_call(r, err);
    if (code) return code;
    bool runs = !r->it.done;
    if (runs) r->model ? run_other(r) : run_same(r);
    for (int k = 0; k < 2; k++) srn__lent_return(&r->lent, k);
    if (r->it.why.code == SRN_ECANCELLED || srn__lent_cancelled(&r->lent))
        return srn_fail(err, SRN_ECANCELLED,
                        "the replay was cancelled: the server drains, or its client left");
    if (runs)
        srn__recorder_event_by(srn__background_get(r->background)->recorder, "replayed", r->by,
                               json_pack("{s:s, s:s?, s:s}", "call", r->it.name, "model", r->model, "verdict",
                                         srn_replay_verdict_name(r->it.verdict)));
    json_t *o = srn_replay_json(&r->it, 1);
    r->answer = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return r->answer ? SRN_OK : srn_fail_nomem(err, 4096);
}

static void run(srn__task *t) {
    replaying *r = (replaying *)t;
    srn_err err = {0};
    int code = run_call(r, &err);
    pthread_mutex_lock(&r->lock);
    r->err = err;
    r->err.code = code;
    r->done = true;
    pthread_mutex_unlock(&r->lock);
    srn__call_wake(r->call);
}

static void cancel_task(srn__task *t) {
    srn__lent_cancel(&((replaying *)t)->lent);
}

static void drop_task(srn__task *t) {
    let_go((replaying *)t);
}

/* ---- the source ---- */

static int pull(void *source, srn_buf *out, int *status) {
    replaying *r = source;
    pthread_mutex_lock(&r->lock);
    bool done = r->done;
    pthread_mutex_unlock(&r->lock);
    if (!done) return 0;
    if (r->err.code)
        *status = srn__put_error(out, SRN__OPENAI, &r->err);
    else
        srn_buf_addz(out, r->answer);
    return 1;
}

static void cancel_source(void *source) {
    srn__lent_cancel(&((replaying *)source)->lent);
}

static void free_source(void *source) {
    cancel_source(source);
    let_go(source);
}

/* ---- the request ---- */

static int read_body(srn__call *c, replaying *r, const char **ret_param, srn_err *err) {
    const json_t *body = srn__call_json(c);
    const char *model = NULL;
    const srn__field divergence = {"divergence", SRN__FIELD_BOOL, 0, 0, 0, false};
    int code = srn__field_string(body, "model", &model, ret_param, err);
    if (!code) code = srn__fields_read(body, &divergence, 1, &r->divergence, ret_param, err);
    if (!code && model && !(r->model = srn_strndup(model, strlen(model)))) code = srn_fail_nomem(err, 64);
    if (!code && model) {
        char name[128];
        if (!srn__models_name(srn__call_models(c), srn__call_config(c), model, name)) {
            *ret_param = "model";
            code = srn_fail(err, SRN_ENOENT, "there is no model '%.100s' here; GET /v1/models lists them",
                            model);
        }
    }
    return code;
}

void srn__handle_replay(srn__call *c) {
    static const srn__source_ops ops = {pull, cancel_source, free_source};
    const char *id = srn__call_path_id(c), *param = NULL;
    srn_err err = {0};
    if (srn__background_refuses(c)) return;
    if (srn__call_body(c).len && !srn__call_json(c)) return;
    replaying *r = srn_calloc(1, sizeof *r);
    int code = r ? SRN_OK : srn_fail_nomem(&err, sizeof *r);
    if (code) {
        srn__call_fail_err(c, NULL, &err);
        return;
    }
    *r = (replaying){.task = {.run = run, .cancel = cancel_task, .drop = drop_task},
                     .background = srn__call_background(c),
                     .call = c,
                     .by = srn__call_key(c)->name,
                     .divergence = true};
    atomic_init(&r->refs, 2);
    srn__call_hold(c);
    pthread_mutex_init(&r->lock, NULL);
    srn__lent_init(&r->lent);
    snprintf(r->it.name, sizeof r->it.name, "%s", id);
    if (!srn_ulid_parse(srn_str_of(id), r->it.id))
        code = srn_fail(&err, SRN_ENOENT, "there is no record of the call '%.64s'", id);
    if (!code && srn__call_body(c).len) code = read_body(c, r, &param, &err);
    if (!code) code = srn__runner_push(srn__background_replays(r->background), &r->task, &err);
    if (code) {
        atomic_store(&r->refs, 1);
        let_go(r);
        srn__call_fail_err(c, param, &err);
        return;
    }
    srn__call_reply_source(c, false, "application/json", &ops, r);
}
