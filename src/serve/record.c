/* One call's record: what is gathered while the call runs, the intent before the work, and the record at its
 * end, each appended once. The worker that runs the handler begins it; its parts end on the listener thread;
 * the ledger's answers come on any thread and do no more than note themselves and wake the call. Nothing
 * waits here.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/openai_internal.h"
#include "serve/record_internal.h"
#include "serve/rollout.h"

enum { MOST_AT_ONCE = 32 << 10, MAX_BODY = 1 << 20, MAX_CONTENT = 1 << 30, MAX_IDS = 256 << 20 };

/* ---- what it costs ---- */

/* Processor time of this thread, ns. */
static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_cost(srn__recorder *recorder, uint64_t since_ns) {
    atomic_fetch_add(&recorder->cpu_ns, cpu_ns() - since_ns);
}

/* The first token was there before the intent: what waited for it. */
static void add_intent_wait(srn__record *r) {
    pthread_mutex_lock(&r->lock);
    uint64_t until_us = r->intent_us ? r->intent_us : r->ready_us;
    pthread_mutex_unlock(&r->lock);
    if (r->required && r->first_us && until_us > r->first_us)
        atomic_fetch_add(&r->recorder->wait_us, until_us - r->first_us);
}

/* ---- life ---- */

static srn__record *record_new(srn__call *c, srn__recorder *recorder) {
    srn__record *r = srn_calloc(1, sizeof *r);
    if (!r) return NULL;
    r->recorder = recorder;
    r->call = c;
    pthread_mutex_init(&r->lock, NULL);
    srn_buf_init(&r->head, MAX_BODY);
    srn_buf_init(&r->content, MAX_CONTENT);
    srn_buf_init(&r->choices, MAX_CONTENT);
    srn_buf_init(&r->in_ids, MAX_IDS);
    srn_buf_init(&r->out_ids, MAX_IDS);
    srn_buf_init(&r->answer, MAX_CONTENT);
    return r;
}

static void record_free(srn__record *r) {
    if (!r) return;
    srn_buf_done(&r->head);
    srn_buf_done(&r->content);
    srn_buf_done(&r->choices);
    srn_buf_done(&r->in_ids);
    srn_buf_done(&r->out_ids);
    srn_buf_done(&r->answer);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool srn__record_wanted(const srn__call *c) {
    srn__recorder *r = c->route && (c->route->flags & SRN__ROUTE_RECORD) ? srn__call_recorder(c) : NULL;
    return r && r->ledger;
}

/* The call's record, made on first use; NULL: it leaves none, or there is no memory. */
static srn__record *record_of(srn__call *c) {
    if (c->record || !srn__record_wanted(c)) return c->record;
    srn__record *r = record_new(c, srn__call_recorder(c));
    if (!r) return NULL;
    const srn_config_ledger *l = &c->settings->config->ledger;
    srn_content_policy_of(srn_str_of(l->content), &r->policy);
    r->required = strcmp(l->mode, "required") == 0;
    return c->record = r;
}

static bool keeps_content(const srn__record *r) {
    return r->policy == SRN_CONTENT_FULL || r->policy == SRN_CONTENT_ENCRYPTED;
}

bool srn__record_keeps(const srn__call *c) {
    return c->record && keeps_content(c->record);
}

/* ---- before the work ---- */

bool srn__record_admit(srn__call *c, const srn_config_route *route, const char *asked) {
    srn__record *r = record_of(c);
    srn_err why = {0}, told;
    if (!r && !srn__record_wanted(c)) return true;
    if (!r) {
        srn__call_fail(c, 503, NULL, NULL, "out_of_memory", "no memory for the record of this call now");
        return false;
    }
    r->route = route;
    r->routed = true;
    if (route && route->content) srn_content_policy_of(srn_str_of(route->content), &r->policy);
    if (route && route->ledger) r->required = strcmp(route->ledger, "required") == 0;
    if (srn__copy_of(c)) r->required = false; /* nobody waits for it */
    snprintf(r->asked, sizeof r->asked, "%s", asked ? asked : "");
    if (srn__recorder_takes(r->recorder, r->required, &why)) return true;
    r->skipped = true;
    srn__ledger_trouble(c, &why, &told); /* the ledger has said in the log what is wrong */
    srn__call_fail(c, 503, NULL, NULL, "ledger_unavailable",
                   "calls cannot be recorded now, and are refused: %s", told.text);
    return false;
}

void srn__record_prompt(srn__call *c, const char *hash) {
    srn__record *r = record_of(c);
    if (r) snprintf(r->prompt_hash, sizeof r->prompt_hash, "%s", hash);
}

/* ---- appending ---- */

static void entry_waits(srn__recorder *r) {
    pthread_mutex_lock(&r->lock);
    r->n_waiting++;
    pthread_mutex_unlock(&r->lock);
}

static void entry_answered(srn__recorder *r) {
    pthread_mutex_lock(&r->lock);
    if (--r->n_waiting == 0) pthread_cond_broadcast(&r->settled);
    pthread_mutex_unlock(&r->lock);
}

/* What is wrong the ledger has said in the log. */
static void refusal_of(const srn__call *c, const srn_err *why, srn_err *ret) {
    srn_err told = {.code = SRN_EIO};
    if (why) srn__ledger_trouble(c, why, &told);
    srn_fail(ret, SRN_EIO, "the call could not be recorded: %s", told.text[0] ? told.text : "no reason");
}

/* The intent's commit, or its failure; holds the call until here. */
static void intent_done(void *ctx, int code, const srn_err *why) {
    srn__call *c = ctx;
    srn__record *r = c->record;
    srn__recorder *recorder = r->recorder;
    srn_err err = {0};
    if (code) refusal_of(c, why, &err);
    pthread_mutex_lock(&r->lock);
    r->intent_us = srn_now_us();
    pthread_mutex_unlock(&r->lock);
    srn__call_release(c, code ? &err : NULL);
    srn__call_drop(c);
    entry_answered(recorder);
}

static int append_intent(srn__call *c, srn__record *r, srn_err *err) {
    srn_buf body;
    srn_buf_init(&body, MAX_BODY);
    srn_buf_add(&body, r->head.data, r->head.len);
    srn_buf_addf(&body, ",\"policy\":\"%s\"}", srn_content_policy_name(r->policy));
    if (body.failed) {
        srn_buf_done(&body);
        return srn_fail_nomem(err, r->head.len);
    }
    srn_entry e = {.kind = SRN_RECORD_INTENT,
                   .body = {body.data, body.len},
                   .durable = true,
                   .done = intent_done,
                   .ctx = c};
    srn__call_withhold(c);
    srn__call_hold(c);
    entry_waits(r->recorder);
    int code = srn_ledger_append(r->recorder->ledger, &e, err);
    srn_buf_done(&body);
    if (!code) return SRN_OK;
    srn__call_release(c, NULL); /* the error is the reply */
    srn__call_drop(c);
    entry_answered(r->recorder);
    return code;
}

/* The record's commit or its place in the queue. */
static void end_done(void *ctx, int code, const srn_err *why) {
    srn__call *c = ctx;
    srn__record *r = c->record;
    srn__recorder *recorder = r->recorder;
    pthread_mutex_lock(&r->lock);
    r->end = code && r->required ? SRN__STEP_FAILED : SRN__STEP_DONE;
    if (code) refusal_of(c, why, &r->why);
    bool wake = !r->inside;
    if (r->required || wake) atomic_fetch_add(&recorder->wait_us, srn_now_us() - r->ready_us);
    pthread_mutex_unlock(&r->lock);
    if (wake) srn__call_wake(c);
    srn__call_drop(c);
    entry_answered(recorder);
}

/* What is kept of the content, sealed; empty: nothing. That it could not be kept fails a required record, and
 * is counted for the others. */
static int seal_content(srn__record *r, srn_buf *ret, srn_err *err) {
    const srn__call *c = r->call;
    srn_buf text;
    if (!keeps_content(r)) return SRN_OK;
    bool unclear = !r->routed && c->settings->config->n_routes > 0; /* a route might have kept less */
    if (!r->begun && (unclear || !c->body.len)) return SRN_OK;
    srn_buf_init(&text, MAX_CONTENT);
    if (r->begun)
        srn_buf_add(&text, r->content.data, r->content.len);
    else
        srn__record_put_request(&text, r, NULL);
    srn_buf_addz(&text, r->begun ? "],\"choices\":[" : ",\"choices\":[");
    srn_buf_add(&text, r->choices.data ? r->choices.data : "", r->choices.len);
    srn_buf_addz(&text, "]}");
    bool failed = text.failed || r->content.failed || r->choices.failed;
    int code = failed ? srn_fail_nomem(err, text.len)
                      : srn_ledger_seal(srn__recorder_sealing_keys(r->recorder), r->policy,
                                        c->key ? c->key->tenant : "", r->subject,
                                        (srn_str){text.data, text.len}, ret, err);
    srn_buf_done(&text);
    if (!code) return SRN_OK;
    srn_buf_clear(ret);
    pthread_mutex_lock(&r->recorder->lock);
    r->recorder->stats.content_lost++;
    pthread_mutex_unlock(&r->recorder->lock);
    return r->required ? code : SRN_OK;
}

/* Of a call that ended before its work began, whose handler may not have come to its body: content is sealed
 * under the key of whom the request names, and of nobody else. */
static void read_subject(srn__record *r) {
    srn__call *c = r->call;
    bool unread = !c->json && c->body.len && r->policy == SRN_CONTENT_ENCRYPTED;
    if (unread) srn__json_parse(srn__call_body(c), c->settings->config->limits.json_depth, &c->json, NULL);
    srn__record_subject(r);
}

/* Puts the answer to those of the prompt's checks that need no program, once. */
static void run_checks(srn__record *r) {
    const srn_checks *checks = r->checks ? r->call->assigned->checks : NULL;
    srn_str answer = {r->answer.data ? r->answer.data : "", r->answer.len};
    r->checks = false;
    for (uint32_t i = 0; i < srn_checks_count(checks) && !r->answer.failed; i++)
        if (!srn_check_command(checks, i))
            *(srn_check_passes(checks, i, answer, 0) ? &r->n_passed : &r->n_failed) += 1;
}

static int append_end(srn__record *r, int status, bool waits, srn_err *err) {
    srn__call *c = r->call;
    srn_buf body, sealed;
    srn_buf_init(&body, MAX_BODY);
    srn_buf_init(&sealed, MAX_CONTENT);
    if (!r->begun) read_subject(r);
    run_checks(r);
    if (r->head.len)
        srn_buf_add(&body, r->head.data, r->head.len);
    else
        srn__record_put_head(&body, r, NULL);
    srn__record_put_end(&body, r, status, srn_now_us() - c->begun_us);
    int code = body.failed ? srn_fail_nomem(err, body.len) : seal_content(r, &sealed, err);
    if (!code) {
        srn_entry e = {.kind = SRN_RECORD_CALL,
                       .body = {body.data, body.len},
                       .content = {sealed.data, sealed.len},
                       .durable = r->required,
                       .done = waits ? end_done : NULL,
                       .ctx = c};
        code = srn_ledger_append(r->recorder->ledger, &e, err);
    }
    srn_buf_done(&body);
    srn_buf_done(&sealed);
    return code;
}

/* The record that the end of an answer waits for: hold and count are taken. */
static void make_waited(srn__record *r) {
    srn_err err = {0};
    srn__call *c = r->call;
    srn__recorder *recorder = r->recorder;
    int code = append_end(r, 200, true, &err);
    if (!code) return; /* end_done has, or will have, the hold */
    pthread_mutex_lock(&r->lock);
    r->end = r->required ? SRN__STEP_FAILED : SRN__STEP_DONE;
    refusal_of(c, &err, &r->why);
    bool wake = !r->inside;
    pthread_mutex_unlock(&r->lock);
    srn__recorder_lost(recorder, c->id, &err);
    if (wake) srn__call_wake(c);
    srn__call_drop(c);
    entry_answered(recorder);
}

/* The record of a call that is over. */
static void make_last(srn__record *r) {
    srn_err err = {0};
    const srn__call *c = r->call;
    bool sent = c->stage == SRN__STAGE_REPLY;
    if (append_end(r, sent ? c->status : 0, false, &err)) srn__recorder_lost(r->recorder, c->id, &err);
}

static void leave(srn__call *c) {
    record_free(c->record);
    c->record = NULL;
    srn__assign_done(c);
    srn__call_drop(c);
}

void srn__record_make(srn__record *r) {
    srn__call *c = r->call;
    srn__recorder *recorder = r->recorder;
    uint64_t since_ns = cpu_ns();
    bool leaves = r->leaves;
    if (leaves)
        make_last(r);
    else
        make_waited(r); /* it may be gone now */
    add_cost(recorder, since_ns);
    if (leaves) leave(c);
}

/* Much content takes its time to be compressed and sealed, and so may checks: not on the listener's. */
static bool is_large(const srn__record *r) {
    size_t content = keeps_content(r) ? r->content.len + r->choices.len + r->call->body.len : 0;
    return r->checks || content > MOST_AT_ONCE;
}

/* The answer can go out once the record is there. */
static void append_waited(srn__record *r) {
    bool inside = !is_large(r), several = r->n_parts > 1;
    srn__call *c = r->call;
    r->inside = inside; /* nobody else knows of the entry yet */
    r->ready_us = srn_now_us();
    srn__call_fix(c);
    add_intent_wait(r);
    r->end = SRN__STEP_WAITS;
    srn__call_hold(c);
    entry_waits(r->recorder);
    if (!inside && srn__recorder_thread_push(r->recorder, r)) return;
    make_waited(r);
    pthread_mutex_lock(&r->lock);
    r->inside = false;
    bool settled = inside && r->end != SRN__STEP_WAITS;
    pthread_mutex_unlock(&r->lock);
    if (settled && several) srn__call_wake(c); /* other parts asked before */
}

/* ---- the work ---- */

static void add_ids(srn_buf *b, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)ids[i];
        const uint8_t four[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
        srn_buf_add(b, four, sizeof four);
    }
}

/* One more prompt of the content's list, whose last bytes are those that were just added to in_ids. */
static void add_prompt(srn__record *r, const srn__record_work *w) {
    size_t bytes = w->prompt.n * 4;
    add_ids(&r->in_ids, w->prompt.ids, w->prompt.n);
    if (!keeps_content(r) || r->in_ids.failed) return;
    srn_buf_addz(&r->content, r->n_parts ? ",\"" : "\"");
    srn_base64_add(&r->content, (const uint8_t *)r->in_ids.data + r->in_ids.len - bytes, bytes);
    srn_buf_addc(&r->content, '"');
}

static int begin(srn__record *r, const srn__record_work *w, uint32_t *ret_part, srn_err *err) {
    int code = SRN_OK;
    if (!r->begun) {
        snprintf(r->model, sizeof r->model, "%s", w->model ? w->model->name : w->name);
        srn__record_subject(r);
        srn__record_put_head(&r->head, r, w);
        if (keeps_content(r)) {
            srn__record_put_request(&r->content, r, w->spec);
            srn_buf_addz(&r->content, ",\"prompt\":[");
        }
        if (r->head.failed) return srn_fail_nomem(err, r->head.len);
        if (r->required && !r->intended) code = append_intent(r->call, r, err);
        r->intended = r->begun = !code;
    }
    if (code) return code;
    if (!w->model) srn_buf_add(&r->in_ids, w->asked.ptr, w->asked.len);
    if (w->model) add_prompt(r, w);
    if (ret_part) *ret_part = r->n_parts;
    r->n_parts++;
    return SRN_OK;
}

int srn__record_begin(srn__call *c, const srn__record_work *w, uint32_t *ret_part, srn_err *err) {
    uint64_t since_ns = cpu_ns();
    srn__record *r = record_of(c);
    if (!r || r->skipped) return SRN_OK;
    int code = begin(r, w, ret_part, err);
    add_cost(r->recorder, since_ns);
    return code;
}

/* The intent stays what it is: it says that there was a call. */
void srn__record_again(srn__call *c) {
    srn__record *r = c->record;
    if (!r) return;
    srn_buf *const bufs[] = {&r->head, &r->content, &r->choices, &r->in_ids, &r->out_ids, &r->answer};
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_clear(bufs[i]);
    r->begun = r->checks = false;
    r->n_parts = r->n_ended = r->n_gaps = 0;
    r->gap_us = r->gap_max_us = r->first_us = 0;
    r->sum = (srn__record_part){0};
    r->model[0] = r->prompt_hash[0] = r->finish[0] = r->error[0] = 0;
}

static void end_choice(srn__record *r, const srn__record_choice *choice) {
    for (uint32_t i = 1; i < choice->n_tokens; i++) {
        uint64_t gap = choice->tokens[i].at_us - choice->tokens[i - 1].at_us;
        r->gap_us += gap;
        r->gap_max_us = SRN_MAX(r->gap_max_us, gap);
        r->n_gaps++;
    }
    if (choice->relayed) {
        r->gap_us += choice->gaps_us;
        r->gap_max_us = SRN_MAX(r->gap_max_us, choice->gap_max_us);
        r->n_gaps += choice->n_gaps;
    }
    if (r->policy == SRN_CONTENT_NONE) return;
    if (choice->relayed) srn_buf_add(&r->out_ids, choice->text.ptr, choice->text.len);
    for (uint32_t i = 0; i < choice->n_tokens; i++) add_ids(&r->out_ids, &choice->tokens[i].id, 1);
    add_ids(&r->out_ids, &(int32_t){-1}, 1); /* between choices */
    if (choice->vector) srn_buf_addz(&r->out_ids, choice->vector);
    if (keeps_content(r)) srn__record_put_choice(&r->choices, choice);
}

void srn__record_choice_end(srn__call *c, const srn__record_choice *choice) {
    srn__record *r = c->record;
    if (!r || !r->begun) return;
    uint64_t since_ns = cpu_ns(), first_us = choice->n_tokens ? choice->tokens[0].at_us : choice->first_us;
    if (first_us && (!r->first_us || first_us < r->first_us)) r->first_us = first_us;
    end_choice(r, choice);
    add_cost(r->recorder, since_ns);
}

void srn__record_end(srn__call *c, const srn__record_part *p, bool whole) {
    srn__record *r = c->record;
    if (!r || !r->begun) return;
    uint64_t since_ns = cpu_ns();
    srn__recorder *recorder = r->recorder;
    srn__record_part *s = &r->sum;
    s->n_input += p->n_input;
    s->n_cached += p->n_cached;
    s->n_output += p->n_output;
    s->n_reasoning += p->n_reasoning;
    s->n_draft += p->n_draft;
    s->n_accepted += p->n_accepted;
    s->queue_us = SRN_MAX(s->queue_us, p->queue_us);
    s->ttft_us = SRN_MAX(s->ttft_us, p->ttft_us);
    if (p->measured && !s->measured) {
        s->measured = true;
        s->prefill_us = p->prefill_us;
        s->decode_us = p->decode_us;
        s->n_decoded = p->n_decoded;
        s->repetition = p->repetition;
        s->uncertainty = p->uncertainty;
        r->checks = p->answer != NULL;
        if (p->answer) srn_buf_add(&r->answer, p->answer->ptr, p->answer->len);
    }
    bool bad = strcmp(r->finish, "abort") == 0 || strcmp(r->finish, "error") == 0;
    if (!bad && p->finish) snprintf(r->finish, sizeof r->finish, "%s", p->finish);
    if (!r->error[0] && p->error) snprintf(r->error, sizeof r->error, "%s", p->error);
    if (whole && ++r->n_ended == r->n_parts) append_waited(r);
    add_cost(recorder, since_ns);
}

srn__record_state srn__record_settled(srn__call *c, srn_err *ret_why) {
    srn__record *r = c->record;
    if (!r || !r->begun) return SRN__RECORD_SETTLED;
    pthread_mutex_lock(&r->lock);
    srn__record_step end = r->end;
    if (end == SRN__STEP_FAILED) *ret_why = r->why;
    pthread_mutex_unlock(&r->lock);
    return end == SRN__STEP_DONE     ? SRN__RECORD_SETTLED
           : end == SRN__STEP_FAILED ? SRN__RECORD_FAILED
                                     : SRN__RECORD_OPEN;
}

/* ---- after all ---- */

/* The answer was whole, and its record says so; then it was too large to be sent as one piece. */
static void tell_unsent(srn__record *r) {
    const srn__call *c = r ? r->call : NULL;
    if (!r || r->end != SRN__STEP_DONE || c->stage != SRN__STAGE_REPLY || c->status < 400) return;
    srn__recorder_event(r->recorder, "answer_unsent",
                        json_pack("{s:s, s:i}", "call", c->id, "status", c->status));
}

void srn__record_last(srn__call *c) {
    srn__record *r = record_of(c);
    srn_err err = {0};
    if (!r && srn__record_wanted(c)) {
        srn_fail_nomem(&err, sizeof *r);
        srn__recorder_lost(srn__call_recorder(c), c->id, &err);
    }
    /* What never came so far as to be admitted must not heap up before a disk that takes nothing. */
    if (r && !r->routed && !srn__recorder_takes(r->recorder, r->required, &err)) r->skipped = true;
    if (r && !r->skipped && r->end == SRN__STEP_NONE) {
        uint64_t since_ns = cpu_ns();
        if (!r->model[0]) snprintf(r->model, sizeof r->model, "%s", c->facts.model);
        if (!r->finish[0] && r->begun && !c->facts.error[0]) snprintf(r->finish, sizeof r->finish, "abort");
        if (!r->error[0]) snprintf(r->error, sizeof r->error, "%s", c->facts.error);
        r->leaves = true;
        if (is_large(r) && srn__recorder_thread_push(r->recorder, r)) return;
        make_last(r);
        add_cost(r->recorder, since_ns);
    }
    if (r && r->end == SRN__STEP_DONE) tell_unsent(r);
    leave(c);
}
