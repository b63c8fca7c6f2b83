/* One step of a lane: every running answer gets its next token, prompts get what the policy leaves them,
 * drafts what is left then. What the step computes for a sequence never depends on what else is in it. Runs
 * on the scheduler's thread; the forward pass and the draws use the device's threads as well.
 *
 * Answers whose engine time is measured (slices) have, now and then, a step of their own beside others that
 * run, so that two slices are compared in like steps whatever else the engine does.
 *
 * Texts to be embedded have steps of their own, in turn with those of the answers, since they need hidden
 * states where the others need logits.
 */
#include "engine/scheduler_internal.h"

#define SLICE_EVERY 8u /* steps from one that a slice has for itself to the next */
#define ANY_SLICE   UINT32_MAX

/* A batch while it is put together. */
typedef struct batch {
    srn__lane *l;
    uint32_t n_tokens, n_rows;
    uint32_t room, extra_rows; /* tokens, and rows beyond one of each sequence, that may still be added */
    uint32_t n_decoding;       /* answers that will be in it */
    uint32_t slice;            /* whose answers alone are in it, or ANY_SLICE */
} batch;

static bool is_in(const batch *b, const srn_request *r) {
    return b->slice == ANY_SLICE || b->slice == r->o.slice;
}

static void add_part(batch *b, srn_request *r, uint32_t n_known, const int32_t *draft, uint32_t n_draft,
                     uint32_t n_rows, bool draws) {
    srn__lane *l = b->l;
    uint32_t n = n_known + n_draft;
    l->parts[l->n_parts] = (srn__part){.r = r,
                                       .first = b->n_tokens,
                                       .n_tokens = n,
                                       .row = b->n_rows,
                                       .n_rows = n_rows,
                                       .n_draft = n_draft,
                                       .draws = draws,
                                       .end_token = -1,
                                       .err = &l->errs[l->n_parts]};
    l->slices[l->n_parts] = srn__kv_slice(r->seq, r->n_computed, n, b->n_tokens);
    memcpy(l->tokens + b->n_tokens, r->tokens + r->n_computed, n_known * sizeof *l->tokens);
    if (n_draft) memcpy(l->tokens + b->n_tokens + n_known, draft, n_draft * sizeof *l->tokens);
    uint32_t first_row = b->n_tokens + n - n_rows;
    if (r->o.kind == SRN_REQUEST_EMBED && r->o.pooling == SRN_POOL_CLS) first_row = b->n_tokens;
    for (uint32_t i = 0; i < n_rows; i++) l->wanted[b->n_rows + i] = first_row + i;
    b->n_tokens += n;
    b->n_rows += n_rows;
    l->n_parts++;
}

/* ---- prompts ---- */

static bool wants_every_row(const srn_request *r) {
    if (r->o.kind == SRN_REQUEST_EMBED) return r->o.pooling == SRN_POOL_MEAN;
    return srn__request_keeps_rows(r) || (r->o.prompt_logprobs && r->n_scored < r->n_prompt);
}

/* How many of a prompt's tokens one step may take: none beyond those whose rows are not kept together with
 * those whose rows are. */
static uint32_t next_tokens(const srn_request *r) {
    uint32_t left = r->n_tokens - r->n_computed, before = r->n_prompt - r->o.n_rows;
    return r->o.n_rows && r->n_computed < before ? before - r->n_computed : left;
}

/* Rows that the next n tokens of a prompt give. */
static uint32_t rows_of(const srn_request *r, uint32_t n) {
    if (wants_every_row(r)) return n;
    if (r->o.kind == SRN_REQUEST_EMBED && r->o.pooling == SRN_POOL_CLS) return r->n_computed == 0;
    return r->n_computed + n == r->n_tokens;
}

/* Gives chunks to prompts in the order of their merit until the time is spent; returns what is left of it. */
static double add_prompts(batch *b, srn_request_kind kind, double us) {
    srn__lane *l = b->l;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < l->n_running && b->room; i++) {
        srn_request *r = l->running[i];
        if (r->o.kind != kind || srn__request_decodes(r)) continue;
        uint32_t most = SRN_MIN(next_tokens(r), b->room);
        if (wants_every_row(r)) most = SRN_MIN(most, b->extra_rows + 1);
        uint32_t n = srn__policy_chunk(&l->policy, us, taken, r->n_computed, most);
        if (n == 0) break;
        /* Others' blocks can be taken only while the batch is empty: they may be in it. */
        if (!srn__queue_reserve(l, r, r->n_computed + n)) {
            if (l->n_parts || b->n_decoding) continue;
            uint32_t before = l->n_running;
            bool ours = srn__queue_make_room(l, r, r->n_computed + n);
            if (!ours && l->n_running < before) i = (uint32_t)-1; /* the list has changed: from its start */
            if (!ours) continue;
        }
        uint32_t rows = rows_of(r, n);
        us -= srn__policy_chunk_us(&l->policy, r->n_computed, n);
        add_part(b, r, n, NULL, 0, rows, kind == SRN_REQUEST_GENERATE && r->n_computed + n == r->n_tokens);
        taken += n;
        b->room -= n;
        b->extra_rows -= rows > 1 ? rows - 1 : 0;
    }
    return us;
}

/* ---- answers ---- */

/* Room for one token of each answer; those for which there is none give their blocks back. */
static void reserve_answers(const batch *b, srn__load *load) {
    srn__lane *l = b->l;
    for (uint32_t i = 0; i < l->n_running; i++) {
        srn_request *r = l->running[i];
        if (!is_in(b, r) || !srn__request_decodes(r) || !srn__queue_make_room(l, r, r->n_tokens)) continue;
        load->n_rows++;
        load->attended += r->n_tokens;
    }
}

static uint32_t make_draft(batch *b, srn_request *r, const srn__load *answers, double *us,
                           int32_t draft[SRN__MAX_DRAFT]) {
    srn__lane *l = b->l;
    if (!r->o.speculate) return 0;
    if (r->draft_pause) return r->draft_pause--, 0;
    bool trial = r->draft_penalty > 0 || r->status.n_draft == 0;
    if (!trial && !srn__policy_draft_pays(&l->policy, answers, r->n_tokens, r->draft_rate)) return 0;
    double each = srn__policy_draft_us(&l->policy, r->n_tokens);
    uint32_t room = r->n_prompt + r->most_out - r->n_tokens; /* tokens that the answer may still have */
    uint32_t most = SRN_MIN(SRN_MIN(r->draft_now, room - 1), SRN_MIN(b->room, b->extra_rows));
    if (each > 0 && *us < each * most) most = *us > 0 ? (uint32_t)(*us / each) : 0;
    uint32_t n = srn__draft(r->tokens, r->n_tokens, most, draft);
    if (n == 0 || !srn_kv_seq_reserve(r->seq, r->n_tokens + n)) return 0;
    *us -= each * n;
    b->room -= n;
    b->extra_rows -= n;
    return n;
}

static void add_answers(batch *b, const srn__load *answers, double us) {
    srn__lane *l = b->l;
    int32_t draft[SRN__MAX_DRAFT];
    for (uint32_t i = 0; i < l->n_running; i++) {
        srn_request *r = l->running[i];
        if (!is_in(b, r) || !srn__request_decodes(r)) continue;
        uint32_t n = make_draft(b, r, answers, &us, draft);
        add_part(b, r, 1, draft, n, 1 + n, true);
    }
}

/* ---- the batch ---- */

static bool has_kind(const srn__lane *l, srn_request_kind kind) {
    for (uint32_t i = 0; i < l->n_running; i++)
        if (l->running[i]->o.kind == kind) return true;
    return false;
}

double srn__lane_answers_us(const srn__lane *l) {
    srn__load load = {0};
    for (uint32_t i = 0; i < l->n_running; i++) {
        if (!srn__request_decodes(l->running[i])) continue;
        load.n_rows++;
        load.attended += l->running[i]->n_tokens;
    }
    return load.n_rows ? srn__policy_answers_us(&l->policy, &load) : 0;
}

/* How many requests have their prompts read. */
static uint32_t reading(const srn__lane *l) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n_running; i++)
        n += l->running[i]->o.kind == SRN_REQUEST_GENERATE && !srn__request_decodes(l->running[i]);
    return n;
}

/* The slice whose answers have this step for themselves, those that have waited longer first. */
static uint32_t slice_of_step(srn__lane *l) {
    uint32_t next = 0, least = 0;
    bool others = false;
    const srn_request *first = NULL;
    for (uint32_t i = 0; i < l->n_running; i++) {
        const srn_request *r = l->running[i];
        if (!srn__request_decodes(r)) continue;
        if (!first) first = r;
        others = others || r->o.slice != first->o.slice;
        uint32_t s = r->o.slice;
        if (s > l->slice_last && (!next || s < next)) next = s;
        if (s && (!least || s < least)) least = s;
    }
    if (!least || !others || ++l->slice_turns < SLICE_EVERY) return ANY_SLICE;
    l->slice_turns = 0;
    return l->slice_last = next ? next : least;
}

/* Puts the step's parts together; returns what it computes, for the policy. */
static srn__load build(srn__lane *l, batch *b, bool embeds, double others_us) {
    srn__load load = {0};
    l->n_parts = 0;
    *b = (batch){.l = l, .room = l->max_batch, .extra_rows = l->max_rows - l->max_seqs, .slice = ANY_SLICE};
    if (embeds) {
        b->extra_rows = l->max_hidden - l->max_seqs;
        double us = srn__policy_allowance(&l->policy, &load, 0, others_us + srn__lane_answers_us(l));
        add_prompts(b, SRN_REQUEST_EMBED, us);
    } else {
        b->slice = slice_of_step(l);
        reserve_answers(b, &load);
        b->n_decoding = load.n_rows;
        b->room -= load.n_rows;
        srn__load answers = load;
        double us = srn__policy_allowance(&l->policy, &answers, reading(l), others_us);
        if (b->slice == ANY_SLICE && (!load.n_rows || !srn__policy_wants_quiet(&l->policy)))
            us = add_prompts(b, SRN_REQUEST_GENERATE, us);
        add_answers(b, &answers, us);
    }
    load = (srn__load){0};
    for (uint32_t i = 0; i < l->n_parts; i++) {
        const srn__part *p = &l->parts[i];
        bool answer = srn__request_decodes(p->r);
        *(answer ? &load.n_rows : &load.n_prompt) += p->n_tokens;
        load.attended +=
            (uint64_t)p->n_tokens * p->r->n_computed + (uint64_t)p->n_tokens * (p->n_tokens + 1) / 2;
    }
    return load;
}

/* ---- the forward pass ---- */

static int run(srn__lane *l, bool embeds, const srn__part *p, const srn_slice *slices, uint32_t n_slices,
               uint32_t n_tokens, const uint32_t *wanted, uint32_t n_rows, srn_err *err) {
    srn_batch b = {.tokens = l->tokens + p->first,
                   .n_tokens = n_tokens,
                   .slices = slices,
                   .n_slices = n_slices,
                   .wanted = wanted,
                   .n_wanted = n_rows};
    if (n_rows && embeds) b.hidden = l->hidden + (size_t)p->row * l->n_embd;
    if (n_rows && !embeds) b.logits = l->logits + (size_t)p->row * l->n_vocab;
    return l->e->device->ops->forward(l->e->device, &b, err);
}

/* The parts of a step in which a value overflowed, one by one: the same bits, and only those fail whose
 * fault it is. */
static void run_apart(srn__lane *l, bool embeds) {
    for (uint32_t i = 0; i < l->n_parts; i++) {
        srn__part *p = &l->parts[i];
        srn_slice slice = l->slices[i];
        slice.first = 0;
        for (uint32_t k = 0; k < p->n_rows; k++) l->wanted[p->row + k] -= p->first;
        p->code = run(l, embeds, p, &slice, 1, p->n_tokens, l->wanted + p->row, p->n_rows, p->err);
    }
}

static void forward(srn__lane *l, const batch *b, bool embeds) {
    srn_err err = {0};
    int code = run(l, embeds, &l->parts[0], l->slices, l->n_parts, b->n_tokens, l->wanted, b->n_rows, &err);
    if (code == SRN_ENONFINITE && l->n_parts > 1) return run_apart(l, embeds);
    for (uint32_t i = 0; i < l->n_parts && code; i++) {
        l->parts[i].code = code;
        *l->parts[i].err = err;
    }
}

/* Engine time to those whose time is measured: before the answers take what the step gave. */
static void measure(srn__lane *l, const batch *b, uint64_t us) {
    bool alike = true;
    for (uint32_t i = 0; i < l->n_parts; i++) {
        const srn_request *r = l->parts[i].r;
        alike = alike && srn__request_decodes(r) && r->o.slice == l->parts[0].r->o.slice;
    }
    for (uint32_t i = 0; i < l->n_parts; i++) {
        srn__part *p = &l->parts[i];
        if (!p->r->o.slice) continue;
        pthread_mutex_lock(&p->r->lock);
        if (!srn__request_decodes(p->r))
            p->r->status.prefill_us += us * p->n_tokens / b->n_tokens;
        else if (alike)
            p->r->status.decode_us += us, p->r->status.n_decoded += p->n_new + (p->end_token >= 0);
        pthread_mutex_unlock(&p->r->lock);
    }
}

bool srn__lane_step(srn__lane *l, uint64_t (*now_us)(void), double others_us) {
    batch b;
    uint64_t start = now_us();
    bool embeds = has_kind(l, SRN_REQUEST_EMBED) && (l->embeds_next || !has_kind(l, SRN_REQUEST_GENERATE));
    srn__load load = build(l, &b, embeds, others_us);
    l->embeds_next = !embeds;
    if (!l->n_parts) return false;
    forward(l, &b, embeds);
    uint64_t computed = now_us();
    if (!embeds) srn__answer_draw(l);
    uint64_t end = now_us();
    if (!embeds) measure(l, &b, end - start);
    srn__answer_apply(l, end);
    srn__policy_learn(&l->policy, &load, (double)(end - start));
    l->served_us += end - start;
    l->stats.n_steps++;
    l->stats.step_us += computed - start;
    l->stats.sample_us += end - computed;
    l->stats.prompt_tokens += load.n_prompt;
    l->stats.step_tokens += b.n_tokens;
    return true;
}
