/* Jobs: what they tell the record of their call, at their end or when they are given up: counts, times, and
 * of the content what the policy keeps. On the listener thread, or on that which frees the job.
 */
#include <math.h>

#include "serve/job_internal.h"
#include "serve/rollout.h"
#include "serve/upstream_internal.h"

/* Of an answer that was given up: tokens that nobody had looked at. */
static void read_rest(srn__job *j, srn__job_choice *c) {
    while (srn__job_room(j, c)) {
        uint32_t cap = c->cap - c->n_tokens;
        srn_top_token *tops = j->n_top ? c->tops + (size_t)c->n_tokens * j->n_top : NULL;
        uint32_t got = srn_request_read(c->request, 0, NULL, c->n_tokens, c->tokens + c->n_tokens, tops, cap,
                                        &c->status);
        c->n_tokens += got;
        if (got < cap) return;
    }
}

static void add_choice(srn__job *j, srn__job_choice *c, srn__record_part *p) {
    const srn_request_status *s = &c->status;
    srn_request_status now;
    srn_buf text;
    if (!c->ended || j->failed) read_rest(j, c);
    srn_buf_init(&text, SRN__MAX_ANSWER);
    if (srn__record_keeps(j->call)) srn_request_read(c->request, 0, &text, 0, NULL, NULL, 0, &now);
    srn__record_choice_end(j->call, &(srn__record_choice){.part = j->part,
                                                          .index = (uint32_t)(c - j->choices),
                                                          .tokens = c->tokens,
                                                          .n_tokens = c->n_tokens,
                                                          .logprobs = j->logprobs,
                                                          .text = {text.data ? text.data : "", text.len},
                                                          .finish = srn__job_end_of(j, c)});
    srn_buf_done(&text);
    uint64_t started = s->started_us ? s->started_us : srn_now_us();
    if (started > s->submitted_us) p->queue_us = SRN_MAX(p->queue_us, started - s->submitted_us);
    if (s->first_token_us) p->ttft_us = SRN_MAX(p->ttft_us, s->first_token_us - s->submitted_us);
    p->n_output += c->n_tokens;
    p->n_reasoning += srn__job_reasoning_tokens(c);
    p->n_draft += s->n_draft;
    p->n_accepted += s->n_accepted;
}

/* text: room for the answer, which p points into. */
static void measure(const srn__job *j, srn__record_part *p, srn_buf *text, srn_str *answer) {
    const srn__job_choice *c = &j->choices[0];
    const srn__assigned *a = srn__assigned_of(j->call);
    srn_request_status now;
    if (!srn__assigned_measured(a)) return;
    if (a->checks || a->wall) {
        srn_request_read(c->request, 0, text, 0, NULL, NULL, 0, &now);
        *answer = (srn_str){text->data ? text->data : "", text->len};
    }
    if (a->checks && !text->failed) p->answer = answer;
    p->measured = true;
    p->prefill_us = c->status.prefill_us;
    p->decode_us = c->status.decode_us;
    p->n_decoded = c->status.n_decoded;
    p->repetition = a->wall ? srn__text_repetition(*answer) /* as an upstream's */
                            : srn_answer_repetition(c->tokens, c->n_tokens);
    p->uncertainty = a->wall ? NAN : srn_answer_uncertainty(c->tokens, c->n_tokens);
}

void srn__job_record(srn__job *j, bool whole) {
    srn__record_part p = {.n_input = (uint32_t)j->prompt.n, .error = srn__job_error_of(j)};
    srn_buf text;
    srn_str answer;
    srn_buf_init(&text, SRN__MAX_ANSWER);
    j->recorded = true;
    for (uint32_t i = 0; i < j->n; i++) {
        srn__job_choice *c = &j->choices[i];
        add_choice(j, c, &p);
        p.n_cached = i ? SRN_MIN(p.n_cached, c->status.n_cached) : c->status.n_cached;
        const char *end = srn__job_end_of(j, c);
        bool bad = p.finish && (strcmp(p.finish, "abort") == 0 || strcmp(p.finish, "error") == 0);
        if (!bad) p.finish = end;
    }
    if (whole && !j->failed && j->n) {
        measure(j, &p, &text, &answer);
        srn__judges_add(srn__watcher_judges(srn__call_watcher(j->call)), j->call, j->prompt.ids,
                        (uint32_t)j->prompt.n, j->choices[0].tokens, j->choices[0].n_tokens);
    }
    srn__record_end(j->call, &p, whole);
    srn_buf_done(&text);
}
