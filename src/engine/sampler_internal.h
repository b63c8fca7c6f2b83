/* The sampler, inside: sampler.c checks parameters and draws, sampler_adjust.c changes logits (bias, mask,
 * penalties), rank.c orders them, row.c and x86/ pass over whole rows. Pure functions; any thread.
 */
#ifndef SRN_ENGINE_SAMPLER_INTERNAL_H
#define SRN_ENGINE_SAMPLER_INTERNAL_H

#include "engine/engine_internal.h"

/* A token that may not be drawn has this logit; it is never a candidate. */
#define SRN__BANNED (-__builtin_inff())

/* ---- row.c: passes over a row, as fast as the machine has them and with the same bits everywhere ---- */

#define SRN__ROW_BLOCK 64u
#define SRN__ROW_CHUNK 4096u /* values whose exponentials are added in f32 */
#define SRN__BANDS     8

/* Two rows of logits that are compared: of each its greatest value, 1 over the sum of e^fl(x - max), and of
 * both the difference of their constants (srn_log_sum_exp), the first's minus the second's. */
typedef struct srn__row_pair {
    float max[2], scale[2];
    double shift;
} srn__row_pair;

typedef struct srn__row_ops {
    /* The greatest of each block of SRN__ROW_BLOCK values (the last may be short) into ret; returns the
     * greatest of all. A NaN counts for nothing. */
    float (*maxima)(const float *x, uint32_t n, float *ret);
    /* ret[i]: x[i] where bit i of allowed is set, else SRN__BANNED. ret may be x. */
    void (*mask)(const float *x, uint32_t n, const uint64_t *allowed, float *ret);
    /* Adds e^fl(x[i] - max) to p[i % 16], ascending in i. */
    void (*add_exp)(const float *x, uint32_t n, float max, float p[16]);
    /* x[i] becomes fl(fl(x[i] - max) / temperature), and w[i] e to that. */
    void (*weights)(float *x, uint32_t n, float max, float temperature, float *w);
    /* The sum of the weights of those x that are not banned, in any order: within n * 2^-53 of the exact one,
     * relatively. Roughly, ret_bands[j] of it is that of x >= bounds[j]. */
    double (*weight_sum)(const float *x, uint32_t n, float max, float temperature,
                         const float bounds[SRN__BANDS], float ret_bands[SRN__BANDS]);
    /* Adds value i's part of the Jensen-Shannon divergence to js[i % 16] and of the Kullback-Leibler
     * divergence of b from a to kl[i % 16], ascending in i: compare.c. */
    void (*compare)(const srn__row_pair *pair, const float *a, const float *b, uint32_t n, float js[16],
                    double kl[16]);
} srn__row_ops;
extern const srn__row_ops srn__row_ref; /* what the numerics say */
#if defined(__x86_64__)
extern const srn__row_ops srn__row_avx2; /* needs AVX2 and FMA */
#endif
/* The best that this CPU can run. */
const srn__row_ops *srn__row(void);

/* The greatest value and the sum of e^fl(x - max), in the order that srn_log_sum_exp has. */
double srn__row_sum_exp(const float *x, uint32_t n, float *ret_max);

/* ---- compare.c: how far two rows are apart ---- */

/* g(u) = u^2/2 + u^4/12 + u^6/30 + ... below u^2 = SRN__JS_FAR, from there on by logarithms. */
#define SRN__JS_FAR 0x1p-4f
#define SRN__JS_C2  0x1.555556p-4f
#define SRN__JS_C3  0x1.111112p-5f
#define SRN__JS_C4  0x1.24924ap-6f
#define SRN__JS_C5  0x1.6c16c2p-7f
/* What two probabilities are at least taken to add up to, so that none is divided by 0. */
#define SRN__LEAST_MASS 0x1p-120f

typedef struct srn__row_distance {
    double jsd, kl;    /* nats; kl of b from a */
    double logprob[2]; /* of the token that follows, by a and by b */
    bool same_top;
} srn__row_distance;
/* Of two rows of logits [n]. Any thread. */
void srn__compare_rows(const float *a, const float *b, uint32_t n, int32_t next, srn__row_distance *ret);
/* One more token. */
void srn__divergence_add(srn_divergence *d, const srn__row_distance *r);
/* The reference of srn__row_ops.compare. */
void srn__compare_values(const srn__row_pair *pair, const float *a, const float *b, uint32_t n, float js[16],
                         double kl[16]);

/* ---- rank.c: the order of a row ---- */

/* The candidates in their order, greatest logit first, ties to the lower id, as far as somebody asked. Banned
 * tokens are none of them. */
typedef struct srn__rank {
    const float *logits; /* [n] */
    uint32_t n;
    float *maxima;             /* [blocks of n] */
    uint64_t *entries, *spare; /* [n + 1]; entries[0..n_sorted) are in order */
    uint32_t n_sorted;
    float max, least; /* the greatest logit; every one from `least` on is sorted */
} srn__rank;
/* The arrays are the caller's. False when there is no candidate. */
bool srn__rank_begin(srn__rank *r, const float *logits, uint32_t n);
/* Sorts all from this logit on. */
void srn__rank_to(srn__rank *r, float bound);
/* Sorts until there are at least n, or all. */
void srn__rank_grow(srn__rank *r, uint32_t n);
/* The first in order. */
int32_t srn__rank_first(const srn__rank *r);
static inline int32_t srn__rank_id(const srn__rank *r, uint32_t i) {
    return (int32_t)(uint32_t)r->entries[i];
}
float srn__rank_logit(const srn__rank *r, uint32_t i);

/* ---- sampler_adjust.c ---- */

/* The logits after bias, mask and penalties: d's own where nothing changes them, else own [n_vocab]. marks
 * [n_vocab] is zero, and zero again afterwards. */
const float *srn__adjust(const srn__draw_in *d, float *own, uint32_t *marks);

#endif
