/* How far two models are apart on a given text, token by token: what a change of weights or quantisation
 * does, measured without anybody's judgement. Both are fed the same tokens (teacher-forced) and their
 * distributions are compared. Called by replay and regress; pure.
 */
#include "engine/sampler_internal.h"

void srn_divergence_add(srn_divergence *d, const float *a, const float *b, uint32_t n_vocab, int32_t next) {
    srn__row_distance r;
    srn__compare_rows(a, b, n_vocab, next, &r);
    srn__divergence_add(d, &r);
}
