/* Jobs: from what a client asked to requests of the scheduler, and from its tokens back to events. start runs
 * on a worker thread, next on the listener thread; only cancel may come from any other. A job holds its model
 * and its call until it is freed. Refuses chats for models without a template, prompts without tokens, and
 * constraints that cannot be compiled.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/fallback.h"
#include "serve/job.h"
#include "serve/job_internal.h"
#include "serve/metrics.h"
#include "serve/otel.h"
#include "serve/rollout.h"

typedef srn__job_choice choice;
typedef srn__job_queued queued;

enum { MAX_CALL_IDS = 16 << 20 };
#define COPY_US UINT64_C(600000000) /* nobody waits for a copy, but what is so late says little */

/* ---- events ---- */

static void push(srn__job *j, srn__job_event e, srn_str text) {
    if (j->n_queue == j->cap_queue) {
        size_t cap = j->cap_queue ? 2 * j->cap_queue : 8;
        queued *grown = srn_realloc_array(j->queue, cap, sizeof *grown);
        if (!grown) {
            j->no_memory = true;
            return;
        }
        j->queue = grown;
        j->cap_queue = cap;
    }
    size_t from = j->text.len;
    if (text.len && !srn_buf_add(&j->text, text.ptr, text.len)) j->no_memory = true;
    j->queue[j->n_queue++] = (queued){e, from, j->text.len - from};
}

/* An event of choice c that accounts for all text up to byte end. */
static srn__job_event event_of(srn__job *j, choice *c, srn__job_event_kind kind, uint64_t end) {
    srn__job_event e = {
        .kind = kind, .choice = (uint32_t)(c - j->choices), .first_token = c->told, .stop = -1};
    while (c->told < c->n_tokens && c->tokens[c->told].text_end <= end) c->told++;
    e.n_tokens = c->told - e.first_token;
    return e;
}

static void fail(srn__job *j, const srn_err *err) {
    if (j->failed) return;
    j->failed = true;
    j->err = *err;
    srn__job_cancel(j);
    for (uint32_t i = 0; i < j->n; i++) j->choices[i].ended = true;
    j->n_held = 0;
    push(j, (srn__job_event){.kind = SRN__JOB_FAIL, .stop = -1, .err = &j->err}, (srn_str){0});
}

/* What the model, and not the client, is to blame for; NULL: it is the client, or nobody. */
static const char *blame(const srn__job *j, const srn_err *err) {
    int status = srn__error_status(err, NULL);
    if (atomic_load(&j->model->leaving)) return "unloading";
    if (err->code == SRN_ECANCELLED || err->code == SRN_ETIMEOUT) return NULL;
    return status == 429 ? "queue_full" : status >= 500 ? "failed" : NULL;
}

/* Whether another model answers: then the job says nothing more. */
static bool give_up(srn__job *j, const srn_err *err) {
    const char *why = blame(j, err);
    if (why && srn__fall_back(j->call, why, err)) j->given_up = true;
    return j->given_up;
}

static const char *new_call_id(srn__job *j) {
    char id[32];
    snprintf(id, sizeof id, "call_%016llx%08x", (unsigned long long)srn_hash_seed(),
             (unsigned)srn_hash_seed());
    return srn_arena_strndup(&j->ids, id, strlen(id));
}

static void on_reply(void *ctx, const srn_reply_event *r) {
    srn__job *j = ctx;
    choice *c = j->reading;
    static const srn__job_event_kind kinds[] = {[SRN_REPLY_REASONING] = SRN__JOB_REASONING,
                                                [SRN_REPLY_CONTENT] = SRN__JOB_TEXT,
                                                [SRN_REPLY_CALL] = SRN__JOB_CALL,
                                                [SRN_REPLY_ARGUMENTS] = SRN__JOB_ARGUMENTS,
                                                [SRN_REPLY_CALL_END] = SRN__JOB_CALL_END};
    srn__job_event e = event_of(j, c, kinds[r->kind], r->end);
    if (r->kind == SRN_REPLY_CALL) {
        c->call_id = new_call_id(j);
        c->n_calls++;
        if (!c->call_id) j->no_memory = true;
    }
    if (r->kind == SRN_REPLY_CALL || r->kind == SRN_REPLY_CALL_END)
        c->whole_call = r->kind == SRN_REPLY_CALL_END;
    e.call_index = r->index;
    e.call_id = c->call_id;
    push(j, e, r->text);
}

static void finish(srn__job *j, choice *c) {
    srn__job_event e = event_of(j, c, SRN__JOB_FINISH, UINT64_MAX);
    bool ended = c->status.finish == SRN_FINISH_STOP;
    e.finish = !ended                        ? SRN__FINISH_LENGTH
               : c->n_calls && c->whole_call ? SRN__FINISH_TOOL_CALLS
                                             : SRN__FINISH_STOP;
    e.stop = c->status.stop;
    c->finish = e.finish;
    c->ended = true;
    if (j->records)
        j->held[j->n_held++] = e;
    else
        push(j, e, (srn_str){0});
}

/* The record is made once every choice has ended; their ends are told once it is there. */
static void settle(srn__job *j) {
    srn_err why = {0};
    for (uint32_t i = 0; i < j->n; i++)
        if (!j->choices[i].ended) return;
    if (j->failed) return;
    if (!j->recorded) srn__job_record(j, true);
    srn__record_state state = srn__record_settled(j->call, &why);
    if (state == SRN__RECORD_FAILED) {
        fail(j, &why);
        j->queue[j->n_queue - 1].event.unclean = true;
    }
    if (state == SRN__RECORD_SETTLED)
        for (uint32_t i = 0; i < j->n_held; i++) push(j, j->held[i], (srn_str){0});
    if (state != SRN__RECORD_OPEN) j->n_held = 0;
}

/* ---- reading ---- */

bool srn__job_room(srn__job *j, choice *c) {
    if (c->cap - c->n_tokens >= 64) return true;
    uint32_t cap = c->cap ? 2 * c->cap : 128;
    srn_out_token *tokens = srn_realloc_array(c->tokens, cap, sizeof *tokens);
    if (!tokens) return false;
    c->tokens = tokens;
    if (j->n_top) {
        srn_top_token *tops = srn_realloc_array(c->tops, (size_t)cap * j->n_top, sizeof *tops);
        if (!tops) return false;
        c->tops = tops;
    }
    c->cap = cap;
    return true;
}

/* Takes what the scheduler has of a choice; true: there was something. */
static bool read_choice(srn__job *j, choice *c) {
    srn_buf text;
    srn_buf_init(&text, SRN__MAX_ANSWER);
    srn_request_status later;
    srn_err err = {0};
    bool first = true, some = false;
    for (;;) {
        if (!srn__job_room(j, c)) {
            j->no_memory = true;
            break;
        }
        uint32_t cap = c->cap - c->n_tokens;
        srn_top_token *tops = j->n_top ? c->tops + (size_t)c->n_tokens * j->n_top : NULL;
        uint32_t got = srn_request_read(c->request, c->text_from, first ? &text : NULL, c->n_tokens,
                                        c->tokens + c->n_tokens, tops, cap, first ? &c->status : &later);
        first = false;
        uint32_t before = c->n_tokens ? c->n_tokens - 1 : 0;
        c->n_tokens += got;
        if (got)
            srn__metrics_gaps(srn__copy_of(j->call) ? NULL : srn__call_metrics(j->call), j->model->name,
                              c->tokens + before, c->n_tokens - before);
        some = some || got;
        if (got < cap) break;
    }
    int code = SRN_OK;
    j->reading = c;
    if (text.len) {
        some = true;
        c->text_from += text.len;
        srn_str s = {text.data, text.len};
        if (c->parser)
            code = srn_reply_parser_add(c->parser, s, &err);
        else
            push(j, event_of(j, c, SRN__JOB_TEXT, c->text_from), s);
    }
    if (text.failed) j->no_memory = true;
    srn_buf_done(&text);
    bool done = c->status.state == SRN_REQUEST_DONE;
    if (!code && done && !c->status.code && c->parser) code = srn_reply_parser_end(c->parser, &err);
    if (j->no_memory) code = srn_fail_nomem(&err, j->text.len);
    if (!code && done) code = c->status.code, err = c->status.err;
    if (code && !give_up(j, &err))
        fail(j, &err);
    else if (!code && done)
        finish(j, c);
    return some || done;
}

bool srn__job_next(srn__job *j, srn__job_event *ret) {
    if (j->given_up) return false;
    if (j->taken == j->n_queue) {
        j->taken = j->n_queue = 0;
        srn_buf_clear(&j->text);
        for (uint32_t i = 0; i < j->n && !j->failed && !j->given_up; i++)
            if (!j->choices[i].ended) read_choice(j, &j->choices[i]);
        if (j->n_held && !j->given_up) settle(j);
    }
    if (j->taken == j->n_queue || j->given_up) return false;
    const queued *q = &j->queue[j->taken++];
    *ret = q->event;
    ret->text = (srn_str){q->len ? j->text.data + q->from : "", q->len};
    return true;
}

bool srn__job_done(const srn__job *j) {
    for (uint32_t i = 0; i < j->n; i++)
        if (!j->choices[i].ended) return false;
    return j->taken == j->n_queue && !j->n_held;
}

void srn__job_cancel(srn__job *j) {
    for (uint32_t i = 0; i < j->n; i++) srn_request_cancel(j->requests[i]);
}

/* ---- what became of it ---- */

uint32_t srn__job_reasoning_tokens(const choice *c) {
    uint64_t end = c->parser ? srn_reply_parser_reasoning_end(c->parser) : 0;
    uint32_t n = 0;
    while (end && n < c->n_tokens && c->tokens[n].text_end <= end) n++;
    return n;
}

srn__job_usage srn__job_get_usage(const srn__job *j) {
    srn__job_usage u = {.prompt_tokens = (uint32_t)j->prompt.n};
    for (uint32_t i = 0; i < j->n; i++) {
        const choice *c = &j->choices[i];
        u.output_tokens += c->n_tokens;
        u.reasoning_tokens += srn__job_reasoning_tokens(c);
        u.cached_tokens = i ? SRN_MIN(u.cached_tokens, c->status.n_cached) : c->status.n_cached;
    }
    return u;
}

/* How a choice ended, for log and metrics: an answer that nobody waited for any more, or that the server
 * ended early, is an abort. */
const char *srn__job_end_of(const srn__job *j, const choice *c) {
    static const char *const names[] = {[SRN__FINISH_STOP] = "stop",
                                        [SRN__FINISH_LENGTH] = "length",
                                        [SRN__FINISH_TOOL_CALLS] = "tool_calls"};
    if (j->failed) return j->err.code == SRN_ECANCELLED ? "abort" : "error";
    return c->ended ? names[c->finish] : "abort";
}

const char *srn__job_error_of(const srn__job *j) {
    bool unasked = srn__copy_of(j->call) && j->err.code == SRN_ECANCELLED;
    return j->failed && !unasked ? srn_err_name(j->err.code) : NULL;
}

/* Adds to the facts of the call, which are complete once all its jobs are gone. */
static void add_facts(srn__job *j) {
    srn__call_facts *f = srn__call_get_facts(j->call);
    uint64_t now = srn_now_us();
    uint32_t unread = 0;
    for (uint32_t i = 0; i < j->n; i++) {
        choice *c = &j->choices[i];
        srn_request_status *s = &c->status;
        if (!c->ended || j->failed) { /* what was computed since it was last looked at counts too */
            srn_request_read(c->request, 0, NULL, 0, NULL, NULL, 0, s);
            unread += s->n_output > c->n_tokens ? s->n_output - c->n_tokens : 0;
        }
        uint64_t started = s->started_us ? s->started_us : now;
        if (started > s->submitted_us) f->queue_us = SRN_MAX(f->queue_us, started - s->submitted_us);
        if (s->first_token_us) f->ttft_us = SRN_MAX(f->ttft_us, s->first_token_us - s->submitted_us);
        bool bad = strcmp(f->finish, "abort") == 0 || strcmp(f->finish, "error") == 0;
        if (!bad) snprintf(f->finish, sizeof f->finish, "%s", srn__job_end_of(j, c));
        srn__otel_choice_end(
            j->call, &(srn__otel_choice){c->request, s, srn__job_end_of(j, c), srn__job_reasoning_tokens(c)});
    }
    srn__job_usage u = srn__job_get_usage(j);
    f->output_tokens += unread;
    f->prompt_tokens += u.prompt_tokens;
    f->cached_tokens += u.cached_tokens;
    f->output_tokens += u.output_tokens;
    const char *error = srn__job_error_of(j);
    if (error) snprintf(f->error, sizeof f->error, "%s", error);
}

void srn__job_free(srn__job *j) {
    if (!j) return;
    bool submitted = j->n && j->choices[0].request;
    if (submitted) srn__call_live_end(j->call, &j->live);
    if (submitted && j->records && !j->recorded) srn__job_record(j, false);
    if (submitted) add_facts(j);
    for (uint32_t i = 0; i < j->n; i++) {
        choice *c = &j->choices[i];
        if (j->requests[i]) srn_request_release(j->requests[i]);
        srn_reply_parser_free(c->parser);
        free(c->tokens);
        free(c->tops);
    }
    free(j->choices);
    free(j->requests);
    free(j->queue);
    free(j->held);
    srn_buf_done(&j->text);
    srn_arena_done(&j->ids);
    srn_tokens_done(&j->prompt);
    srn__served_put(j->model);
    srn__call_drop(j->call);
    free(j);
}

/* ---- starting ---- */

static void live_status(void *ctx, srn__live_status *add) {
    const srn__job *j = ctx;
    snprintf(add->model, sizeof add->model, "%s", j->model->name);
    for (uint32_t i = 0; i < j->n; i++) {
        srn_request_status s;
        srn_request_read(j->requests[i], 0, NULL, 0, NULL, NULL, 0, &s);
        add->n_queued += s.state == SRN_REQUEST_QUEUED;
        add->n_running += s.state == SRN_REQUEST_PREFILL || s.state == SRN_REQUEST_DECODE;
        if (i == 0) add->n_input += s.n_prompt;
        add->n_output += s.n_output;
    }
}

static void wake(void *ctx) {
    srn__call_wake(ctx);
}

static uint32_t least(uint32_t a, uint32_t b) { /* 0: no limit */
    return !a || (b && b < a) ? b : a;
}

/* What the server, the key and the moment add to what the request says. */
static srn_request_opts request_opts(srn__job *j, const srn__job_spec *spec, const srn_reply_opts *reply,
                                     srn_constraint *constraint) {
    const srn_config_limits *limits = &srn__call_config(j->call)->limits;
    const srn_key *key = srn__call_key(j->call);
    uint32_t timeout = least(spec->timeout_ms, limits->request_timeout_ms);
    srn_request_opts o = srn__job_request_opts(spec, &j->prompt, reply, constraint);
    o.max_tokens = least(o.max_tokens, limits->max_tokens);
    o.speculate = srn__served_config(j->model, srn__call_config(j->call))->speculate;
    const srn__assigned *a = srn__assigned_of(j->call);
    o.tenant = srn__assigned_tenant(a, key);
    o.cache_salt = srn__assigned_salt(a, o.cache_salt);
    o.slice = srn__assigned_slice(a);
    o.logprobs = o.logprobs || srn__assigned_measured(a); /* for the uncertainty */
    o.priority = (key ? key->priority : 0) + spec->priority;
    o.deadline_us = srn__call_deadline(j->call, timeout);
    o.again = srn__call_was_admitted(j->call);
    o.apart = srn__call_fell_back(j->call);
    if (srn__assigned_is_copy(a))
        o.priority = SRN_PRIORITY_BACKGROUND, o.deadline_us = srn_now_us() + COPY_US;
    o.notify = wake;
    o.notify_ctx = j->call;
    return o;
}

static int post(srn__job *j, const srn_request_opts *opts, uint32_t n, srn_request **ret, srn_err *err) {
    int code = srn_request_submit(srn__call_scheduler(j->call), j->model->engine, opts, n, ret, err);
    if (code && atomic_load(&j->model->leaving)) /* since the request found it */
        code = srn_fail(err, SRN_ECANCELLED, "the model '%s' is being unloaded", j->model->name);
    if (code)
        give_up(j, err);
    else
        srn__call_admitted(j->call);
    return code;
}

static int submit(srn__job *j, const srn__job_spec *spec, const srn_reply_opts *reply,
                  srn_constraint *constraint, srn_err *err) {
    srn_request_opts *opts = srn_calloc(spec->n, sizeof *opts);
    srn_request **requests = srn_calloc(spec->n, sizeof(srn_request *));
    j->choices = srn_calloc(spec->n, sizeof *j->choices);
    j->records = srn__record_wanted(j->call);
    j->held = srn_calloc(spec->n, sizeof *j->held);
    int code =
        opts && requests && j->choices && j->held ? SRN_OK : srn_fail_nomem(err, spec->n * sizeof *opts);
    for (uint32_t i = 0; !code && i < spec->n; i++) {
        opts[i] = request_opts(j, spec, reply, constraint);
        opts[i].sampling.seed += i;
        if (reply->parse_tools || reply->parse_reasoning)
            code = srn_reply_parser_new(j->model->format, reply, on_reply, j, &j->choices[i].parser, err);
    }
    j->requests = requests;
    j->n = j->choices && requests ? spec->n : 0;
    const srn__record_work work = {
        .model = j->model, .spec = spec, .constraint = constraint, .prompt = j->prompt};
    if (!code) code = srn__record_begin(j->call, &work, &j->part, err);
    if (!code) code = post(j, opts, spec->n, requests, err);
    for (uint32_t i = 0; !code && i < spec->n; i++) j->choices[i].request = requests[i];
    if (!code) srn__otel_work(j->call, j->model, spec);
    free(opts);
    return code;
}

int srn__job_start(srn__call *c, const srn__job_spec *spec, srn__job **ret, const char **ret_param,
                   srn_err *err) {
    srn__job *j = srn_calloc(1, sizeof *j);
    if (!j) return srn_fail_nomem(err, sizeof *j);
    srn__call_hold(c);
    j->call = c;
    j->model = spec->model;
    atomic_fetch_add(&spec->model->refs, 1);
    j->logprobs = spec->logprobs;
    j->n_top = spec->logprobs || spec->prompt_logprobs ? spec->n_top : 0;
    srn__assign_checks(c, spec->prompt);
    srn_buf_init(&j->text, SRN__MAX_ANSWER);
    srn_arena_init(&j->ids, MAX_CALL_IDS);
    srn_reply_opts reply = spec->reply;
    srn_constraint *constraint = NULL;
    const char *param = NULL;
    int code = srn__job_build_prompt(spec, NULL, &j->prompt, &reply.in_reasoning, &param, err);
    if (!code) code = srn__job_constraint(spec, &reply, &constraint, &param, err);
    if (!code) code = submit(j, spec, &reply, constraint, err);
    if (code == SRN_ECONTEXT) param = spec->messages ? "messages" : "prompt";
    srn_constraint_free(constraint);
    if (code) {
        srn__job_free(j);
        *ret_param = param;
        return code;
    }
    j->live = (srn__live){.status = live_status, .ctx = j};
    srn__call_live(c, &j->live);
    srn__copies_begin(c, spec->sampling.seed);
    *ret = j;
    return SRN_OK;
}

/* ---- what it holds ---- */

uint32_t srn__job_n_choices(const srn__job *j) {
    return j->n;
}

const srn_out_token *srn__job_tokens(const srn__job *j, uint32_t i, uint32_t *ret_n,
                                     const srn_top_token **ret_tops) {
    *ret_n = j->choices[i].n_tokens;
    if (ret_tops) *ret_tops = j->choices[i].tops;
    return j->choices[i].tokens;
}

const int32_t *srn__job_prompt_ids(const srn__job *j, uint32_t *ret_n, const float **ret_logprobs,
                                   const srn_top_token **ret_tops) {
    *ret_n = (uint32_t)j->prompt.n;
    const srn_top_token *tops = NULL;
    if (ret_logprobs) *ret_logprobs = srn_request_prompt_logprobs(j->requests[0], &tops);
    if (ret_tops) *ret_tops = tops;
    return j->prompt.ids;
}
