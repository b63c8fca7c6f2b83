/* Pools: per type and standard deviation some thousand blocks that hold quantised Gaussian weights. Blocks of
 * a model are drawn from them, so that codes and scales have the distribution of a real quantisation at the
 * speed of copying. Called by srn_synth_fill on every thread, before any drawing.
 */
#include <math.h>
#include <stdlib.h>

#include "base/num.h"
#include "synth/synth_internal.h"

#define TAU 6.283185307179586

void srn__normal_pair(uint64_t draw, float ret[2]) {
    /* (0, 1] and [0, 1): the logarithm of 0 is never asked for */
    double u = ((double)(uint32_t)draw + 1.0) * 0x1p-32, v = (double)(uint32_t)(draw >> 32) * 0x1p-32;
    double sine, cosine, r = sqrt(-2.0 * srn_log(u));
    srn_sincos(TAU * v, &sine, &cosine);
    ret[0] = (float)(r * cosine);
    ret[1] = (float)(r * sine);
}

static void gaussians(uint64_t key, float std, float *x, size_t n) {
    for (size_t i = 0; i < n; i += 2) {
        float pair[2];
        srn__normal_pair(srn__draw(key, i / 2), pair);
        x[i] = pair[0] * std;
        if (i + 1 < n) x[i + 1] = pair[1] * std;
    }
}

/* As many as are drawn, between 16 thousand and a million, or a quarter of that where blocks are plain
 * floats: what a processor's cache holds. */
size_t srn__pool_weights(const srn__pool_blocks *p) {
    bool plain = srn_type_get((uint32_t)p->type)->form == SRN_FORM_FLOAT;
    size_t n = 1u << 14, most = plain ? 1u << 18 : 1u << 20;
    while (n < most && n < p->n_drawn) n *= 2;
    return n;
}

int srn__pool_alloc(srn__pool_blocks *p, srn_err *err) {
    const srn_type_info *t = srn_type_get((uint32_t)p->type);
    if (!srn_can_quantize(p->type))
        return srn_fail(err, SRN_EUNSUP, "weights of type %s cannot be made", t->name);
    p->block_bytes = t->block_bytes;
    p->unit_blocks = SRN__UNIT_WEIGHTS / t->block_elems;
    p->n_blocks = (uint32_t)(srn__pool_weights(p) / t->block_elems);
    p->blocks = srn_aligned_calloc(p->n_blocks, p->block_bytes);
    return p->blocks ? SRN_OK : srn_fail_nomem(err, (size_t)p->n_blocks * p->block_bytes);
}

void srn__pool_fill(srn__pool_blocks *p, uint64_t seed, uint32_t part) {
    float x[SRN__POOL_PART];
    const srn_type_info *t = srn_type_get((uint32_t)p->type);
    size_t first = (size_t)part * SRN__POOL_PART, block = first / t->block_elems;
    gaussians(srn__draw(seed, 0x706F6F6C00000000u + part), p->std, x, SRN__POOL_PART);
    srn_quantize(p->type, x, p->blocks + block * p->block_bytes, SRN__POOL_PART);
}

/* ---- drawing ---- */

static void draw_blocks(const srn__pool_blocks *p, const srn__synth_tensor *t, uint64_t unit,
                        uint64_t n_units, uint8_t *out) {
    size_t bytes = (size_t)p->unit_blocks * p->block_bytes;
    uint64_t starts = p->n_blocks - p->unit_blocks + 1;
    for (uint64_t i = 0; i < n_units; i++) {
        uint64_t at = (uint64_t)((unsigned __int128)srn__draw(t->key, unit + i) * starts >> 64);
        memcpy(out + i * bytes, p->blocks + at * p->block_bytes, bytes);
    }
}

/* A channel in 128 is an outlier, three to six times the others, and the same one in every layer, as it is in
 * trained models. */
static float outlier(uint64_t seed, uint64_t channel) {
    uint64_t r = srn__draw(seed ^ 0x6368616E6E656C73u, channel);
    return r % 128 ? 1.0f : 3.0f + 3.0f * (float)(uint32_t)(r >> 40) * 0x1p-24f;
}

/* The divisors of Llama 3's frequencies: waves longer than the first context are stretched. */
static float rope_factor(const srn_shape *s, uint64_t i) {
    enum { CTX = 8192, LOW = 1, HIGH = 4 };
    double waves = CTX * srn_pow(s->rope_base, -2.0 * (double)i / s->d_head) / TAU; /* in the first context */
    if (waves > HIGH) return 1;
    if (waves < LOW) return (float)s->rope_factor;
    double smooth = (waves - LOW) / (HIGH - LOW);
    return (float)(1.0 / ((1.0 - smooth) / s->rope_factor + smooth));
}

static void draw_floats(const srn_synth *s, const srn__synth_tensor *t, uint64_t first, uint64_t n,
                        float *out) {
    for (uint64_t i = 0; i < n; i++) {
        float pair[2];
        srn__normal_pair(srn__draw(t->key, first + i), pair);
        if (t->fill == SRN__FILL_NORM) {
            float near = pair[0] < -3 ? -3 : pair[0] > 3 ? 3 : pair[0];
            out[i] = t->mean * (1.0f + 0.1f * near) * (t->outliers ? outlier(s->opts.seed, first + i) : 1.0f);
        } else {
            out[i] = t->fill == SRN__FILL_GAUSS ? pair[0] * t->std : rope_factor(s->shape, first + i);
        }
    }
}

size_t srn__draw_chunk(const srn_synth *s, const srn__synth_tensor *t, uint64_t chunk, uint8_t *out,
                       uint64_t *ret_offset) {
    uint64_t per_chunk = (uint64_t)SRN__UNIT_WEIGHTS * SRN__CHUNK_UNITS;
    uint64_t first = chunk * per_chunk, n = SRN_MIN(t->n - first, per_chunk), begin = 0, bytes = 0;
    srn_type_bytes(t->type, first, &begin);
    srn_type_bytes(t->type, n, &bytes);
    *ret_offset = t->offset + begin;
    if (t->fill == SRN__FILL_POOL)
        draw_blocks(&s->pools[t->pool], t, first / SRN__UNIT_WEIGHTS,
                    (n + SRN__UNIT_WEIGHTS - 1) / SRN__UNIT_WEIGHTS, out);
    else
        draw_floats(s, t, first, n, (float *)(void *)out);
    return (size_t)bytes;
}
