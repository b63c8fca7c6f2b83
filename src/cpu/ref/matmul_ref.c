/* The matrix product of the numerics (docs/numerics.md), in plain C: the definition that every kernel equals
 * to the bit. Reads the file's rows (no packing). Called through the kernel table, on any engine thread; its
 * only memory is the caller's scratch. It refuses nothing: the loader checked types and sizes.
 *
 * Activations of column i: int16 codes t[k], then f32 scales d[k/32], then padding to 64 bytes. With one
 * plane the codes are within +-127, with two within +-32512.
 */
#include "cpu/cpu_internal.h"

/* ---- activations ---- */

static size_t column_bytes(uint32_t k) {
    return (size_t)srn_align_up((uint64_t)k * 2 + (uint64_t)(k / SRN_GROUP) * 4, 64);
}
static int16_t *column_codes(const srn_act *a, uint32_t i) {
    return (int16_t *)((char *)a->q + i * column_bytes(a->k));
}
static float *column_scales(const srn_act *a, uint32_t i) {
    return (float *)(void *)(column_codes(a, i) + a->k);
}

static size_t act_bytes(uint32_t k, uint32_t n, uint32_t planes) {
    (void)planes;
    return n * column_bytes(k);
}

static bool quantize_group(const float *x, float limit, int16_t *t, float *ret_d) {
    float amax = 0;
    bool finite = true;
    for (int i = 0; i < SRN_GROUP; i++) {
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
        finite = finite && srn_is_finite(x[i]);
    }
    if (!finite || amax < 0x1p-100f) {
        memset(t, 0, SRN_GROUP * sizeof *t);
        *ret_d = 0;
        return finite;
    }
    float inverse = limit / amax;
    for (int i = 0; i < SRN_GROUP; i++) {
        /* |v| is at most a few ulp past the limit; adding and subtracting 1.5 * 2^23 rounds to even */
        float v = x[i] * inverse;
        t[i] = (int16_t)((v + 0x1.8p23f) - 0x1.8p23f);
    }
    *ret_d = amax / limit;
    return true;
}

static bool quantize(const srn_act *a, uint32_t c0, uint32_t c1, uint32_t g0, uint32_t g1) {
    float limit = a->planes == 2 ? 32512.0f : 127.0f;
    bool finite = true;
    for (uint32_t c = c0; c < c1; c++)
        for (uint32_t g = g0; g < g1; g++) {
            const float *x = a->x + c * a->x_stride + (size_t)g * SRN_GROUP;
            finite &=
                quantize_group(x, limit, column_codes(a, c) + (size_t)g * SRN_GROUP, column_scales(a, c) + g);
        }
    return finite;
}

/* ---- one group into an accumulator ---- */

/* Sums of q*c and of c over one half of a group. */
typedef struct half_sums {
    int64_t qc, c;
} half_sums;

static half_sums sum_half(const int8_t *q, const int16_t *c) {
    int32_t qc = 0, s = 0;
    for (int i = 0; i < SRN_GROUP / 2; i++) {
        qc += q[i] * c[i];
        s += c[i];
    }
    return (half_sums){qc, s};
}

static float add_group(srn_form form, const srn_group *g, const int16_t *c, float dx, float acc) {
    half_sums h0 = sum_half(g->q, c), h1 = sum_half(g->q + SRN_GROUP / 2, c + SRN_GROUP / 2);
    switch (form) {
    case SRN_FORM_SCALE:
        return fmaf(g->d * dx, (float)(h0.qc + h1.qc), acc);
    case SRN_FORM_SCALE_MIN:
        acc = fmaf(g->d * dx, (float)(h0.qc + h1.qc), acc);
        return fmaf(g->m, dx * (float)(h0.c + h1.c), acc);
    case SRN_FORM_SUB:
        return fmaf(g->d * dx, (float)(g->sc[0] * h0.qc + g->sc[1] * h1.qc), acc);
    case SRN_FORM_SUB_MIN:
        acc = fmaf(g->d * dx, (float)(g->sc[0] * h0.qc + g->sc[1] * h1.qc), acc);
        return fmaf(g->m * dx, (float)(g->mn[0] * h0.c + g->mn[1] * h1.c), acc);
    case SRN_FORM_SPLIT:
        acc = fmaf(g->d2[0] * dx, (float)h0.qc, acc);
        return fmaf(g->d2[1] * dx, (float)h1.qc, acc);
    case SRN_FORM_FLOAT:
    case SRN_FORM_NONE:
        break;
    }
    return acc;
}

/* ---- rows ---- */

static float row_codes(const srn_packed *w, const srn_group *groups, const srn_act *a, uint32_t column) {
    const int16_t *codes = column_codes(a, column);
    const float *scales = column_scales(a, column);
    uint32_t runs = srn__run_count(w->cols), unit = srn_type_get((uint32_t)w->type)->block_elems;
    float r[SRN_MAX_RUNS];
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t g0 = srn__run_start(w->cols, unit, i, runs) / SRN_GROUP;
        uint32_t g1 = srn__run_start(w->cols, unit, i + 1, runs) / SRN_GROUP;
        float acc = 0;
        for (uint32_t g = g0; g < g1; g++)
            acc = add_group(w->form, &groups[g], codes + (size_t)g * SRN_GROUP, scales[g], acc);
        r[i] = acc;
    }
    srn__run_tree(r, runs, 1);
    return r[0];
}

static float row_floats(const srn_packed *w, const float *row, const srn_act *a, uint32_t column) {
    const float *x = a->x + column * a->x_stride;
    uint32_t runs = srn__run_count(w->cols);
    float r[SRN_MAX_RUNS];
    for (uint32_t i = 0; i < runs; i++) {
        uint32_t e1 = srn__run_start(w->cols, 1, i + 1, runs);
        float acc = 0;
        for (uint32_t e = srn__run_start(w->cols, 1, i, runs); e < e1; e++) acc = fmaf(row[e], x[e], acc);
        r[i] = acc;
    }
    srn__run_tree(r, runs, 1);
    return r[0];
}

static size_t panel_bytes(srn_type type, uint32_t cols) {
    (void)type, (void)cols;
    return 0;
}

static void pack(const srn_packed *w, uint32_t p0, uint32_t p1) {
    (void)w, (void)p0, (void)p1;
}

/* A decoded row: k floats, or the groups of k codes. */
static size_t scratch_bytes(uint32_t k) {
    size_t floats = (size_t)k * sizeof(float), groups = (size_t)(k / SRN_GROUP + 1) * sizeof(srn_group);
    return SRN_MAX(floats, groups);
}

static void matmul(const srn_packed *w, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                   uint32_t n_cols, float *y, size_t y_stride, void *scratch) {
    uint32_t row_end = SRN_MIN(p1 * SRN_PANEL, w->rows);
    for (uint32_t row = p0 * SRN_PANEL; row < row_end; row++) {
        const uint8_t *raw = w->raw + row * w->row_bytes;
        if (w->form == SRN_FORM_FLOAT)
            srn_dequant(w->type, raw, scratch, w->cols);
        else
            srn_group_decode(w->type, raw, scratch, w->cols);
        for (uint32_t i = 0; i < n_cols; i++) {
            uint32_t column = cols ? cols[i] : i;
            y[i * y_stride + row] = w->form == SRN_FORM_FLOAT ? row_floats(w, scratch, a, column)
                                                              : row_codes(w, scratch, a, column);
        }
    }
}

void srn__kernels_ref_matmul(srn_kernels *k) {
    k->panel_bytes = panel_bytes;
    k->pack = pack;
    k->act_bytes = act_bytes;
    k->quantize = quantize;
    k->scratch_bytes = scratch_bytes;
    k->matmul = matmul;
}
