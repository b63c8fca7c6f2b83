/* How far two models are apart on a given text, token by token: what a change of weights or quantisation
 * does, measured without anybody's judgement. Both are fed the same tokens (teacher-forced) and their
 * distributions are compared. Called by replay and regress; one thread, which uses both engines.
 */
#include "engine/sampler_internal.h"

int srn_diverge(srn_session *a, srn_session *b, const int32_t *tokens, uint32_t n, uint32_t first,
                const srn_divergence_opts *o, srn_divergence *ret, srn_err *err) {
    uint32_t vocab = srn_engine_get_info(srn_session_engine(a)).n_vocab;
    if (srn_engine_get_info(srn_session_engine(b)).n_vocab != vocab)
        return srn_fail(err, SRN_EINVAL, "the models have vocabularies of different sizes");
    if (first < 1 || first >= n)
        return srn_fail(err, SRN_EINVAL, "there is no token to compare: %u tokens, from the %u-th on", n,
                        first);
    const uint32_t chunk = SRN_MAX(8u, SRN_MIN(256u, (16u << 20) / vocab));
    const size_t bytes = (size_t)chunk * vocab * sizeof(float);
    float *rows_a = srn_pages_alloc(bytes), *rows_b = srn_pages_alloc(bytes);
    srn_divergence d = {0};
    int code = rows_a && rows_b ? SRN_OK : srn_fail_nomem(err, 2 * bytes);
    srn_session_truncate(a, 0);
    srn_session_truncate(b, 0);
    if (!code && first > 1) code = srn_session_feed(a, tokens, first - 1, NULL, err);
    if (!code && first > 1) code = srn_session_feed(b, tokens, first - 1, NULL, err);
    for (uint32_t at = first - 1; !code && at + 1 < n; at += chunk) {
        uint32_t now = SRN_MIN(chunk, n - 1 - at);
        code = srn_session_feed_all(a, tokens + at, now, rows_a, err);
        if (!code) code = srn_session_feed_all(b, tokens + at, now, rows_b, err);
        for (uint32_t i = 0; !code && i < now; i++) {
            srn__row_distance r;
            srn__compare_rows(rows_a + (size_t)i * vocab, rows_b + (size_t)i * vocab, vocab,
                              tokens[at + i + 1], &r);
            if (o && o->each) o->each(o->ctx, d.n, r.kl, r.same_top);
            srn__divergence_add(&d, &r);
        }
    }
    srn_pages_free(rows_a, bytes);
    srn_pages_free(rows_b, bytes);
    if (!code) *ret = d;
    return code;
}
