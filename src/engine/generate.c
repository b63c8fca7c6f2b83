/* Generation: a prompt is fed to a session, tokens are drawn one by one and given to a callback until the
 * model ends, a limit is reached or somebody cancels. Runs on the thread that calls; that one owns the
 * session. Refuses a prompt that leaves no room for an answer before it computes anything.
 */
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

/* Draws and gives out tokens until something ends the answer. */
static int decode(srn_session *s, const srn_vocab *vocab, const srn_generate_opts *o, uint64_t start,
                  srn_generation *g, srn_err *err) {
    srn_engine_info info = srn_engine_get_info(srn_session_engine(s));
    for (;;) {
        uint32_t index = srn_session_length(s);
        int32_t token = srn__session_draw(s, &o->sampling, g->n_prompt, NULL);
        if (token < 0) return srn__draw_fail(err);
        if (g->n_output == 0) g->ttft_us = srn_now_us() - start;
        if (vocab && srn_vocab_is_eog(vocab, token)) {
            g->end_token = token;
            return g->finish = SRN_FINISH_STOP, SRN_OK;
        }
        g->n_output++;
        srn_go go = o->on_token ? o->on_token(o->on_token_ctx, token) : SRN_GO_ON;
        if (go != SRN_GO_ON)
            return g->finish = go == SRN_GO_STOP ? SRN_FINISH_STOP : SRN_FINISH_CANCELLED, SRN_OK;
        if (o->cancel && *o->cancel) return g->finish = SRN_FINISH_CANCELLED, SRN_OK;
        if (g->n_output == o->max_tokens) return g->finish = SRN_FINISH_LENGTH, SRN_OK;
        if (index + 1 == info.n_ctx) return g->finish = SRN_FINISH_CONTEXT, SRN_OK;
        int code = srn_session_feed(s, &token, 1, NULL, err);
        if (code) return code;
        g->n_steps++;
    }
}

int srn_generate(srn_session *s, const int32_t *prompt, uint32_t n_prompt, const srn_generate_opts *opts,
                 srn_generation *ret, srn_err *err) {
    uint64_t start = srn_now_us();
    srn_generate_opts o = opts ? *opts : (srn_generate_opts){.sampling = srn_sampling_default()};
    const srn_vocab *vocab = NULL;
    int code = srn_generate_check(srn_session_engine(s), prompt, n_prompt, err);
    if (!code) code = srn_sampling_check(&o.sampling, err);
    if (!code)
        code = srn_sampling_check_ids(&o.sampling, srn_engine_get_info(srn_session_engine(s)).n_vocab, err);
    if (!code && !o.ignore_eog) code = srn_engine_vocab(srn_session_engine(s), &vocab, err);
    if (code) return code;
    srn_generation g = {
        .end_token = -1, .n_prompt = n_prompt, .n_cached = srn__session_begin(s, prompt, n_prompt)};
    code = feed_prompt(s, prompt, n_prompt, &o, err);
    g.prompt_us = srn_now_us() - start;
    if (code == SRN_ECANCELLED) {
        g.finish = SRN_FINISH_CANCELLED;
        code = SRN_OK;
    } else if (!code) {
        code = decode(s, vocab, &o, start, &g, err);
        g.generate_us = srn_now_us() - start - g.ttft_us;
    }
    if (!code) *ret = g;
    return code;
}
