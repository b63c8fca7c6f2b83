/* Encoders of the types that store points of a grid by index (docs/quant-types.md has the layouts): the
 * nearest point by looking at all of them, with a scale per run of 16 or 32 weights that is fitted by turns
 * with the points. Slow beside the other encoders; called by encode.c; pure functions.
 */
#include <math.h>

#include "quant/encode_internal.h"

enum { MAX_POINTS = 2048, MAX_DIM = 8, ROUNDS = 3 };

/* A grid as floats; the first weight of a point is at[0]. */
typedef struct points {
    int n, dim;
    float norm[MAX_POINTS]; /* squared */
    float at[MAX_POINTS][MAX_DIM];
    float size; /* of a level, root of the mean square over all points */
} points;

static void points_init(points *p, const uint16_t *grid, int n, int dim, const int8_t *level) {
    int bits = 16 / dim;
    float sum = 0;
    p->n = n, p->dim = dim;
    for (int i = 0; i < n; i++) {
        p->norm[i] = 0;
        for (int j = 0; j < MAX_DIM; j++) {
            float v = j < dim ? (float)level[grid[i] >> bits * j & (dim == 8 ? 3 : 7)] : 0;
            p->at[i][j] = v;
            p->norm[i] += v * v;
        }
        sum += p->norm[i];
    }
    p->size = sqrtf(sum / (float)(n * dim));
}

/* The point with the least distance to a[dim]. */
static int nearest_point(const points *p, const float *a) {
    int best = 0;
    float most = -INFINITY, v[MAX_DIM] = {0};
    for (int j = 0; j < p->dim; j++) v[j] = a[j];
    for (int i = 0; i < p->n; i++) {
        const float *at = p->at[i];
        float dot = ((v[0] * at[0] + v[1] * at[1]) + (v[2] * at[2] + v[3] * at[3])) +
                    ((v[4] * at[4] + v[5] * at[5]) + (v[6] * at[6] + v[7] * at[7]));
        if (2 * dot - p->norm[i] > most) most = 2 * dot - p->norm[i], best = i;
    }
    return best;
}

/* What 8 weights become: one point or two, and signs. */
typedef struct coded8 {
    int index[2];
    unsigned signs;
    float fit[8]; /* what is decoded, over the scale */
} coded8;

typedef struct book {
    const points *p;
    bool has_signs; /* points are magnitudes */
    bool even;      /* 7 sign bits: the number of negative weights is even */
} book;

static void code_8(const book *k, const float *x, float inverse, coded8 *c) {
    float a[8];
    int smallest = 0;
    c->signs = 0;
    for (int j = 0; j < 8; j++) {
        a[j] = x[j] * inverse;
        if (!k->has_signs) continue;
        if (a[j] < 0) c->signs |= 1u << j;
        a[j] = srn__abs(a[j]);
        if (a[j] < a[smallest]) smallest = j;
    }
    if (k->even && __builtin_parity(c->signs)) {
        c->signs ^= 1u << smallest;
        a[smallest] = -a[smallest];
    }
    for (int i = 0; i < 8 / k->p->dim; i++) {
        c->index[i] = nearest_point(k->p, a + i * k->p->dim);
        for (int j = 0; j < k->p->dim; j++) {
            int w = i * k->p->dim + j;
            float v = k->p->at[c->index[i]][j];
            c->fit[w] = c->signs >> w & 1 ? -v : v;
        }
    }
}

/* The scale of n weights: points for the scale, the best scale for the points, and so on. *ret_gain: by how
 * much the sum of squares falls. */
static float fit_run(const book *k, const float *x, int n, float *ret_gain) {
    float sum = 0, d, gain = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    d = sqrtf(sum / (float)n) / k->p->size;
    for (int round = 0; round < ROUNDS && d > 0; round++) {
        float xq = 0, qq = 0;
        for (int i = 0; i < n; i += 8) {
            coded8 c;
            code_8(k, x + i, 1.0f / d, &c);
            for (int j = 0; j < 8; j++) xq += x[i + j] * c.fit[j], qq += c.fit[j] * c.fit[j];
        }
        d = qq > 0 && xq > 0 ? xq / qq : 0;
        gain = d > 0 ? xq * d : 0;
    }
    *ret_gain = gain;
    return d;
}

/* Scales d[n] as unit*(2*sc + 1) with sc in 0..top; *half is what the file holds, unit being half/divisor. */
static float odd_scales(const float *d, int n, int top, float divisor, uint16_t *half, int *sc) {
    float most = 0;
    for (int i = 0; i < n; i++) most = d[i] > most ? d[i] : most;
    *half = srn_f32_to_f16(most / (float)(2 * top + 1) * divisor);
    float unit = srn_f16_to_f32(*half) / divisor, inverse = srn__inverse(unit);
    for (int i = 0; i < n; i++) sc[i] = srn__nearest_in((d[i] * inverse - 1.0f) * 0.5f, 0, top);
    return unit;
}

/* A whole block with signs: scales of runs of `run` weights, and 32 times 8 codes. */
static void code_block(const book *k, const float *x, int run, float divisor, uint8_t *where, int sc[16],
                       coded8 out[32]) {
    float d[16], gain;
    uint16_t half;
    for (int i = 0; i < 256 / run; i++) d[i] = fit_run(k, x + run * i, run, &gain);
    float unit = odd_scales(d, 256 / run, 15, divisor, &half, sc);
    where[0] = (uint8_t)half, where[1] = (uint8_t)(half >> 8);
    for (int c = 0; c < 32; c++)
        code_8(k, x + 8 * c, srn__inverse(unit * (float)(2 * sc[8 * c / run] + 1)), &out[c]);
}

static void put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* A word of 4 times 7 signs and a 4-bit scale. */
static void put_signs_and_scale(uint8_t *p, const coded8 c[4], int sc) {
    uint32_t word = (uint32_t)sc << 28;
    for (int i = 0; i < 4; i++) word |= (uint32_t)(c[i].signs & 127) << 7 * i;
    put32(p, word);
}

void srn__encode_iq2_xxs(const float *x, uint8_t *b) {
    points p;
    coded8 c[32];
    int sc[16];
    points_init(&p, srn__iq2_xxs_grid, 256, 8, srn__iq2_levels);
    code_block(&(book){&p, true, true}, x, 32, 8, b, sc, c);
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < 4; i++) b[2 + 8 * k + i] = (uint8_t)c[4 * k + i].index[0];
        put_signs_and_scale(b + 6 + 8 * k, c + 4 * k, sc[k]);
    }
}

void srn__encode_iq2_xs(const float *x, uint8_t *b) {
    points p;
    coded8 c[32];
    int sc[16];
    points_init(&p, srn__iq2_xs_grid, 512, 8, srn__iq2_levels);
    code_block(&(book){&p, true, true}, x, 16, 8, b, sc, c);
    for (int i = 0; i < 32; i++) {
        unsigned word = (unsigned)c[i].index[0] | (c[i].signs & 127) << 9;
        b[2 + 2 * i] = (uint8_t)word, b[3 + 2 * i] = (uint8_t)(word >> 8);
    }
    for (int k = 0; k < 8; k++) b[66 + k] = (uint8_t)(sc[2 * k] | sc[2 * k + 1] << 4);
}

void srn__encode_iq2_s(const float *x, uint8_t *b) {
    points p;
    coded8 c[32];
    int sc[16];
    points_init(&p, srn__iq2_s_grid, 1024, 8, srn__iq2_levels);
    code_block(&(book){&p, true, false}, x, 16, 8, b, sc, c);
    memset(b + 66, 0, 8);
    for (int i = 0; i < 32; i++) {
        b[2 + i] = (uint8_t)c[i].index[0];
        b[34 + i] = (uint8_t)c[i].signs;
        b[66 + i / 4] = (uint8_t)(b[66 + i / 4] | c[i].index[0] >> 8 << 2 * (i % 4));
    }
    for (int k = 0; k < 8; k++) b[74 + k] = (uint8_t)(sc[2 * k] | sc[2 * k + 1] << 4);
}

void srn__encode_iq3_xxs(const float *x, uint8_t *b) {
    points p;
    coded8 c[32];
    int sc[16];
    points_init(&p, srn__iq3_xxs_grid, 256, 4, srn__iq3_xxs_levels);
    code_block(&(book){&p, true, true}, x, 32, 4, b, sc, c);
    for (int i = 0; i < 64; i++) b[2 + i] = (uint8_t)c[i / 2].index[i % 2];
    for (int k = 0; k < 8; k++) put_signs_and_scale(b + 66 + 4 * k, c + 4 * k, sc[k]);
}

void srn__encode_iq3_s(const float *x, uint8_t *b) {
    static const int8_t level[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    points p;
    coded8 c[32];
    int sc[16];
    points_init(&p, srn__iq3_s_grid, 512, 4, level);
    code_block(&(book){&p, true, false}, x, 32, 1, b, sc, c);
    memset(b + 66, 0, 8);
    for (int i = 0; i < 64; i++) {
        int index = c[i / 2].index[i % 2];
        b[2 + i] = (uint8_t)index;
        b[66 + i / 8] = (uint8_t)(b[66 + i / 8] | index >> 8 << i % 8);
    }
    for (int i = 0; i < 32; i++) b[74 + i] = (uint8_t)c[i].signs;
    for (int k = 0; k < 4; k++) b[106 + k] = (uint8_t)(sc[2 * k] | sc[2 * k + 1] << 4);
}

/* ---- IQ1: values trit + 1/8 or trit - 1/8, here times 8 ---- */

static const int8_t up[4] = {-7, 1, 9, 0}, down[4] = {-9, -1, 7, 0};

/* The scale of a run, and the delta with which it fits best. */
static float fit_delta(const points *plus, const points *minus, const float *x, int n, bool *ret_down) {
    float gain_up, gain_down;
    float d_up = fit_run(&(book){plus, false, false}, x, n, &gain_up);
    float d_down = fit_run(&(book){minus, false, false}, x, n, &gain_down);
    *ret_down = gain_down > gain_up;
    return *ret_down ? d_down : d_up;
}

void srn__encode_iq1_s(const float *x, uint8_t *b) {
    points plus, minus;
    float d[8];
    bool is_down[8];
    int sc[8];
    uint16_t half;
    points_init(&plus, srn__iq1_grid, 2048, 8, up);
    points_init(&minus, srn__iq1_grid, 2048, 8, down);
    for (int k = 0; k < 8; k++) d[k] = fit_delta(&plus, &minus, x + 32 * k, 32, &is_down[k]);
    float unit = odd_scales(d, 8, 7, 8, &half, sc);
    b[0] = (uint8_t)half, b[1] = (uint8_t)(half >> 8);
    for (int k = 0; k < 8; k++) {
        book grid = {is_down[k] ? &minus : &plus, false, false};
        unsigned word = (unsigned)sc[k] << 12 | (unsigned)is_down[k] << 15;
        for (int i = 0; i < 4; i++) {
            coded8 c;
            code_8(&grid, x + 32 * k + 8 * i, srn__inverse(unit * (float)(2 * sc[k] + 1)), &c);
            b[2 + 4 * k + i] = (uint8_t)c.index[0];
            word |= (unsigned)c.index[0] >> 8 << 3 * i;
        }
        b[34 + 2 * k] = (uint8_t)word, b[35 + 2 * k] = (uint8_t)(word >> 8);
    }
}

static float distance(const coded8 *c, const float *x, float d) {
    float sum = 0;
    for (int j = 0; j < 8; j++) sum += (x[j] - d * c->fit[j]) * (x[j] - d * c->fit[j]);
    return sum;
}

void srn__encode_iq1_m(const float *x, uint8_t *b) {
    points plus, minus;
    float d[16];
    int sc[16];
    uint16_t half;
    points_init(&plus, srn__iq1_grid, 2048, 8, up);
    points_init(&minus, srn__iq1_grid, 2048, 8, down);
    for (int j = 0; j < 16; j++) {
        bool ignored;
        d[j] = fit_delta(&plus, &minus, x + 16 * j, 16, &ignored);
    }
    float unit = odd_scales(d, 16, 7, 8, &half, sc);
    memset(b + 32, 0, 24);
    for (int i = 0; i < 32; i++) {
        coded8 c[2];
        float scale = unit * (float)(2 * sc[i / 2] + 1), inverse = srn__inverse(scale);
        code_8(&(book){&plus, false, false}, x + 8 * i, inverse, &c[0]);
        code_8(&(book){&minus, false, false}, x + 8 * i, inverse, &c[1]);
        int best = distance(&c[1], x + 8 * i, scale) < distance(&c[0], x + 8 * i, scale);
        int index = c[best].index[0];
        b[i] = (uint8_t)index;
        b[32 + i / 2] = (uint8_t)(b[32 + i / 2] | (index >> 8 | best << 3) << 4 * (i % 2));
    }
    for (int w = 0; w < 4; w++) {
        unsigned word = (unsigned)(half >> 4 * w & 15) << 12;
        for (int j = 0; j < 4; j++) word |= (unsigned)sc[4 * w + j] << 3 * j;
        b[48 + 2 * w] = (uint8_t)word, b[49 + 2 * w] = (uint8_t)(word >> 8);
    }
}
