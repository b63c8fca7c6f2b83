/* Generation: a prompt is fed to a session, tokens are drawn one by one and given to a callback until the
 * model ends, a limit is reached or somebody cancels. Runs on the thread that calls; that one owns the
 * session. Refuses a prompt that leaves no room for an answer before it computes anything.
 */
#include <stdlib.h>

#include "engine/engine_internal.h"

/* A long prompt is fed in pieces so that a cancellation is heard soon: the first is small, and they double
 * while they are quick. How a prompt is cut changes no bit of the result. */
#define FIRST_PIECE    64u
#define LARGEST_PIECE  512u
#define QUICK_PIECE_US 250000u

const char *srn_finish_name(srn_finish f) {
    static const char *const names[] = {
#define SRN_FINISH_TEXT(name, text) text,
        SRN_FINISHES(SRN_FINISH_TEXT)
#undef SRN_FINISH_TEXT
    };
    return (size_t)f < SRN_LEN(names) ? names[f] : "?";
}

int srn_generate_check(const srn_engine *e, const int32_t *prompt, size_t n_prompt, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(e);
    if (n_prompt == 0) return srn_fail(err, SRN_EINVAL, "the prompt is empty: it has no tokens");
    for (size_t i = 0; i < n_prompt; i++)
        if (prompt[i] < 0 || (uint32_t)prompt[i] >= info.n_vocab)
            return srn_fail(err, SRN_EINVAL,
                            "token %zu of the prompt has the id %d, and the vocabulary has 0 to %u", i,
                            prompt[i], info.n_vocab - 1);
    if (n_prompt >= info.n_ctx && info.n_ctx < info.n_ctx_train)
        return srn_fail(
            err, SRN_ECONTEXT,
            "the prompt has %zu tokens and the context is %u, so that no room is left for an answer; "
            "ask for a larger context (--ctx, at most %u) or shorten the prompt",
            n_prompt, info.n_ctx, info.n_ctx_train);
    if (n_prompt >= info.n_ctx)
        return srn_fail(
            err, SRN_ECONTEXT,
            "the prompt has %zu tokens and the context is %u, all that the model was trained for, so "
            "that no room is left for an answer; shorten the prompt",
            n_prompt, info.n_ctx);
    return SRN_OK;
}

static int feed_prompt(srn_session *s, const int32_t *prompt, uint32_t n_prompt, const srn_generate_opts *o,
                       srn_err *err) {
    uint32_t piece = FIRST_PIECE;
    for (uint32_t at = srn_session_length(s); at < n_prompt;) {
        uint32_t n = SRN_MIN(piece, n_prompt - at);
        uint64_t start = srn_now_us();
        int code = srn_session_feed(s, prompt + at, n, o->cancel, err);
        if (code) return code;
        at += n;
        if (srn_now_us() - start < QUICK_PIECE_US) piece = SRN_MIN(2 * piece, LARGEST_PIECE);
        if (o->progress) o->progress(o->progress_ctx, "reading the prompt", at, n_prompt);
    }
    return SRN_OK;
}

/* ---- decoding ---- */

typedef struct run {
    srn_session *s;
    const srn_vocab *vocab; /* NULL: no token ends the answer */
    const srn_generate_opts *o;
    srn_matcher *matcher; /* or NULL */
    uint64_t *allowed;    /* [(n_vocab+63)/64] where there is a matcher */
} run;

static int draw(const run *r, uint32_t n_prompt, int32_t *ret, srn_err *err) {
    int code = r->matcher ? srn_matcher_mask(r->matcher, r->allowed, err) : SRN_OK;
    if (code) return code;
    *ret = srn__session_draw(r->s, &r->o->sampling, n_prompt, r->allowed);
    return *ret < 0 ? srn__draw_fail(err) : SRN_OK;
}

/* Whether the answer ends after this token, which was given out. */
static bool ends(const run *r, int32_t token, uint32_t index, srn_generation *g) {
    const srn_generate_opts *o = r->o;
    srn_go go = o->on_token ? o->on_token(o->on_token_ctx, token) : SRN_GO_ON;
    if (go != SRN_GO_ON)
        g->finish = go == SRN_GO_STOP ? SRN_FINISH_STOP : SRN_FINISH_CANCELLED;
    else if (o->cancel && *o->cancel)
        g->finish = SRN_FINISH_CANCELLED;
    else if (r->matcher && srn_matcher_must_end(r->matcher))
        g->finish = SRN_FINISH_STOP;
    else if (g->n_output == o->max_tokens)
        g->finish = SRN_FINISH_LENGTH;
    else if (index + 1 == srn_engine_get_info(srn_session_engine(r->s)).n_ctx)
        g->finish = SRN_FINISH_CONTEXT;
    else
        return false;
    return true;
}

/* Draws and gives out tokens until something ends the answer. */
static int decode(const run *r, uint64_t start, srn_generation *g, srn_err *err) {
    for (;;) {
        uint32_t index = srn_session_length(r->s);
        int32_t token;
        int code = draw(r, g->n_prompt, &token, err);
        if (code) return code;
        if (g->n_output == 0) g->ttft_us = srn_now_us() - start;
        if (r->vocab && srn_vocab_is_eog(r->vocab, token)) {
            g->end_token = token;
            return g->finish = SRN_FINISH_STOP, SRN_OK;
        }
        if (r->matcher && (code = srn_matcher_accept(r->matcher, token, err))) return code;
        g->n_output++;
        if (ends(r, token, index, g)) return SRN_OK;
        code = srn_session_feed(r->s, &token, 1, NULL, err);
        if (code) return code;
        g->n_steps++;
    }
}

static int check_all(const run *r, const int32_t *prompt, uint32_t n_prompt, srn_err *err) {
    srn_engine *e = srn_session_engine(r->s);
    int code = srn_generate_check(e, prompt, n_prompt, err);
    if (!code) code = srn_sampling_check(&r->o->sampling, err);
    if (!code) code = srn_sampling_check_ids(&r->o->sampling, srn_engine_get_info(e).n_vocab, err);
    if (!code && r->matcher && r->o->ignore_eog)
        code = srn_fail(err, SRN_EINVAL,
                        "an answer under a constraint ends where the constraint says; do not "
                        "set ignore_eog");
    return code;
}

int srn_generate_constrained(srn_session *s, const int32_t *prompt, uint32_t n_prompt,
                             const srn_generate_opts *opts, srn_matcher *m, srn_generation *ret,
                             srn_err *err) {
    uint64_t start = srn_now_us();
    srn_generate_opts o = opts ? *opts : (srn_generate_opts){.sampling = srn_sampling_default()};
    run r = {.s = s, .o = &o, .matcher = m};
    int code = check_all(&r, prompt, n_prompt, err);
    if (!code && !o.ignore_eog) code = srn_engine_vocab(srn_session_engine(s), &r.vocab, err);
    if (code) return code;
    size_t words = ((size_t)srn_engine_get_info(srn_session_engine(s)).n_vocab + 63) / 64;
    if (m && !(r.allowed = srn_calloc(words, sizeof *r.allowed)))
        return srn_fail_nomem(err, words * sizeof *r.allowed);
    srn_generation g = {
        .end_token = -1, .n_prompt = n_prompt, .n_cached = srn__session_begin(s, prompt, n_prompt)};
    code = feed_prompt(s, prompt, n_prompt, &o, err);
    g.prompt_us = srn_now_us() - start;
    if (code == SRN_ECANCELLED) {
        g.finish = SRN_FINISH_CANCELLED;
        code = SRN_OK;
    } else if (!code) {
        code = decode(&r, start, &g, err);
        g.generate_us = srn_now_us() - start - g.ttft_us;
    }
    free(r.allowed);
    if (!code) *ret = g;
    return code;
}

int srn_generate(srn_session *s, const int32_t *prompt, uint32_t n_prompt, const srn_generate_opts *opts,
                 srn_generation *ret, srn_err *err) {
    return srn_generate_constrained(s, prompt, n_prompt, opts, NULL, ret, err);
}
