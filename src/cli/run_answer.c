/* serin run: one answer, from prompt tokens to text on standard output, and its figures. Ctrl-C ends
 * the answer. */
#include "cli/run.h"
#include "engine/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { MAX_ANSWER_BYTES = 1 << 28 };

/* ---- streaming ---- */

typedef struct stream {
    srn__answer *answer;
    srn_stream *text;
    srn__screen screen;
    bool to_screen, failed, no_memory;
    int why; /* errno of the write that failed */
} stream;

/* Takes what became certain into the answer, and shows it. */
static bool take(stream *s) {
    srn_buf *kept = &s->answer->text;
    srn_str all = srn_stream_text(s->text), fresh = {all.ptr + kept->len, all.len - kept->len};
    s->no_memory = s->no_memory || srn_stream_failed(s->text) || !srn_buf_add(kept, fresh.ptr, fresh.len);
    if (!s->to_screen || s->failed || s->no_memory) return !s->failed && !s->no_memory;
    errno = 0;
    s->failed = !srn__screen_add(&s->screen, fresh);
    s->why = errno;
    return !s->failed;
}

static srn_go on_token(void *ctx, int32_t token) {
    stream *s = ctx;
    s->answer->stop = srn_stream_add(s->text, token);
    s->no_memory = !srn_tokens_push(&s->answer->tokens, token);
    if (!take(s)) return SRN_GO_CANCEL;
    return s->answer->stop >= 0 ? SRN_GO_STOP : SRN_GO_ON;
}

void srn__answer_done(srn__answer *a) {
    srn_buf_done(&a->text);
    srn_tokens_done(&a->tokens);
}

static int generate(srn__run *r, const srn_tokens *prompt, stream *s, const volatile int *cancel,
                    srn_err *err) {
    srn_generate_opts o = {.sampling = r->sampling,
                           .max_tokens = (uint32_t)r->max_tokens,
                           .cancel = cancel,
                           .on_token = on_token,
                           .on_token_ctx = s,
                           .progress = srn_cli_progress};
    srn_matcher *matcher = NULL;
    int code = r->constraint ? srn_matcher_new(r->constraint, r->trie, &matcher, err) : SRN_OK;
    if (!code)
        code = srn_generate_constrained(r->session, prompt->ids, (uint32_t)prompt->n, &o, matcher,
                                        &s->answer->g, err);
    srn_matcher_free(matcher);
    return code;
}

int srn__run_answer(srn__run *r, const srn_tokens *prompt, bool thinking, srn__answer *ret, srn_err *err) {
    *ret = (srn__answer){.stop = -1};
    srn_buf_init(&ret->text, MAX_ANSWER_BYTES);
    stream s = {.answer = ret, .to_screen = !r->json};
    int code = srn_stream_new(r->vocab, false, r->stops, (uint32_t)r->stop.n, false, &s.text, err);
    if (code) return code;
    if (!r->chat) /* what continues a text may begin with a space; a message's is the tokenizer's */
        srn_stream_continues(s.text);
    if (s.to_screen) srn__screen_init(&s.screen, thinking);
    code = generate(r, prompt, &s, srn_cli_catch_interrupts(), err);
    srn_stream_end(s.text);
    if (take(&s) && s.to_screen) {
        errno = 0;
        s.failed = !srn__screen_end(&s.screen);
        s.why = errno;
    }
    srn_cli_release_interrupts();
    srn_stream_free(s.text);
    if (!code && s.no_memory) code = srn_fail_nomem(err, ret->text.len);
    if (!code && s.failed)
        code = srn_fail(err, SRN_EIO, "standard output could not be written: %s",
                        s.why ? strerror(s.why) : "an earlier write failed");
    return code;
}

/* ---- figures ---- */

static double rate(uint32_t n, uint64_t us) {
    return us ? (double)n * 1e6 / (double)us : 0;
}

double srn__run_prompt_rate(const srn_generation *g) {
    return g->ttft_us ? rate(g->n_prompt - g->n_cached, g->prompt_us)
                      : 0; /* else it was not read to its end */
}

double srn__run_output_rate(const srn_generation *g) {
    return rate(g->n_steps, g->generate_us);
}

void srn__run_figures(const srn__run *r, const srn__answer *a) {
    const srn_generation *g = &a->g;
    if (r->quiet) return;
    char cached[48] = "", why[48] = "", drawn[48] = "greedy", speed[48] = "";
    if (g->n_cached) snprintf(cached, sizeof cached, " (%" PRIu32 " of them known)", g->n_cached);
    if (g->n_steps) snprintf(speed, sizeof speed, " at %.1f tok/s", srn__run_output_rate(g));
    if (g->finish == SRN_FINISH_LENGTH) snprintf(why, sizeof why, ", cut at -n %" PRIu32, g->n_output);
    if (g->finish == SRN_FINISH_CONTEXT) snprintf(why, sizeof why, ", cut: the context is full");
    if (g->finish == SRN_FINISH_CANCELLED) snprintf(why, sizeof why, ", interrupted");
    if (r->sampling.temperature > 0) snprintf(drawn, sizeof drawn, "seed %" PRIu64, r->sampling.seed);
    srn__dim(stderr, true);
    if (!g->ttft_us)
        fprintf(stderr, "[prompt %" PRIu32 " tokens%s, interrupted while it was read; %s]", g->n_prompt,
                cached, drawn);
    else
        fprintf(stderr,
                "[prompt %" PRIu32 " tokens%s at %.1f tok/s; answer %" PRIu32
                " tokens%s%s; first token after %.0f ms; %s]",
                g->n_prompt, cached, srn__run_prompt_rate(g), g->n_output, speed, why,
                (double)g->ttft_us / 1000, drawn);
    srn__dim(stderr, false);
    fputc('\n', stderr);
}
