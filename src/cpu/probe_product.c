/* The probe's products: a matrix of one type, as large as memory must be to lie beyond the caches, multiplied
 * with some columns by the kernels that a device uses. Each thread walks its own part of the panels, as in a
 * step of a model. Called by whoever has the probe. Refuses types that are no weights or that nothing here
 * can encode.
 */
#include <stdlib.h>

#include "cpu/cpu_internal.h"
#include "cpu/probe.h"
#include "cpu/probe_internal.h"
#include "quant/quant.h"

#define MOST_COLUMNS 512u
/* Panels of one call: as many rows as a thread has of a usual matrix. */
#define CALL_PANELS 64u

typedef struct product_part {
    _Alignas(64) uint32_t first, n, next; /* panels */
    float *y;                             /* [MOST_COLUMNS][CALL_PANELS * SRN_PANEL] */
    uint8_t *scratch;
    double rate;
} product_part;

struct srn_probe_matrix {
    srn_probe *p;
    srn_kernels k;
    srn_packed w;
    uint8_t *mem; /* the panels, or the raw rows where the table reads those */
    size_t mem_bytes;
    uint8_t *rows; /* SRN_PANEL rows in the file's form */
    float *x;      /* [MOST_COLUMNS][cols] */
    void *q[2];    /* codes of one and of two planes */
    product_part *parts;
};

/* ---- life ---- */

/* Numbers in (-1, 1) from a generator of their own. */
static void fill_random(float *x, size_t n) {
    uint64_t z = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        z ^= z << 13, z ^= z >> 7, z ^= z << 17;
        x[i] = (float)(int32_t)(uint32_t)(z >> 32) * 0x1p-31f;
    }
}

static int encode_rows(srn_probe_matrix *m, srn_err *err) {
    size_t n = (size_t)SRN_PANEL * m->w.cols;
    m->x = srn_aligned_calloc((size_t)MOST_COLUMNS * m->w.cols, sizeof *m->x);
    m->rows = srn_aligned_calloc(SRN_PANEL, m->w.row_bytes);
    if (!m->x || !m->rows) return srn_fail_nomem(err, MOST_COLUMNS * m->w.cols * sizeof *m->x);
    fill_random(m->x, (size_t)MOST_COLUMNS * m->w.cols);
    if (!srn_quantize(m->w.type, m->x, m->rows, n))
        return srn_fail(err, SRN_EUNSUP, "weights of type %s cannot be made here, so they cannot be measured",
                        srn_type_get((uint32_t)m->w.type)->name);
    return SRN_OK;
}

static void fill_panels(void *ctx, uint32_t thread, uint32_t n_threads) {
    srn_probe_matrix *m = ctx;
    product_part *mine = &m->parts[thread];
    size_t each = m->w.panel_bytes ? m->w.panel_bytes : SRN_PANEL * m->w.row_bytes;
    (void)n_threads;
    for (uint32_t i = mine->first; i < mine->first + mine->n; i++) {
        if (!m->w.panel_bytes) {
            memcpy(m->mem + i * each, m->rows, each);
            continue;
        }
        srn_packed one = m->w;
        one.rows = SRN_PANEL;
        one.raw = m->rows;
        one.panels = m->mem + i * each;
        m->k.pack(&one, 0, 1);
    }
}

static int alloc_panels(srn_probe_matrix *m, srn_err *err) {
    uint32_t n_threads = srn_probe_threads(m->p);
    size_t each = m->w.panel_bytes ? m->w.panel_bytes : SRN_PANEL * m->w.row_bytes;
    uint32_t panels = (uint32_t)SRN_MAX(srn_probe_bytes(m->p) / each / n_threads, (uint64_t)1) * n_threads;
    m->w.rows = panels * SRN_PANEL;
    m->mem_bytes = panels * each;
    m->mem = srn_pages_alloc(m->mem_bytes);
    if (!m->mem) return srn_fail_nomem(err, m->mem_bytes);
    m->w.raw = m->mem;
    if (m->w.panel_bytes) m->w.panels = m->mem;
    for (uint32_t i = 0; i < n_threads; i++) {
        m->parts[i].first = panels / n_threads * i;
        m->parts[i].n = panels / n_threads;
    }
    srn__pool_run(srn__probe_pool(m->p), fill_panels, m);
    return SRN_OK;
}

static int alloc_work(srn_probe_matrix *m, srn_err *err) {
    uint32_t n_threads = srn_probe_threads(m->p), cols = m->w.cols;
    size_t out = (size_t)MOST_COLUMNS * CALL_PANELS * SRN_PANEL, scratch = m->k.scratch_bytes(cols);
    m->parts = srn_aligned_calloc(n_threads, sizeof *m->parts);
    bool ok = m->parts != NULL;
    for (uint32_t planes = 1; ok && planes <= 2 && m->w.form != SRN_FORM_FLOAT; planes++)
        ok = (m->q[planes - 1] = srn_aligned_calloc(1, m->k.act_bytes(cols, MOST_COLUMNS, planes))) != NULL;
    for (uint32_t i = 0; ok && i < n_threads; i++) {
        m->parts[i].y = srn_aligned_calloc(out, sizeof(float));
        m->parts[i].scratch = srn_aligned_calloc(1, scratch + 64);
        ok = m->parts[i].y && m->parts[i].scratch;
    }
    return ok ? SRN_OK : srn_fail_nomem(err, out * sizeof(float));
}

static int init(srn_probe_matrix *m, uint32_t type, uint32_t cols, srn_err *err) {
    const srn_type_info *t = srn_type_get(type);
    uint64_t row_bytes = 0;
    if (!t || t->refused || t->form == SRN_FORM_NONE || !srn_type_bytes((srn_type)type, cols, &row_bytes))
        return srn_fail(err, SRN_EUNSUP, "there is no type of weights %u for rows of %u", type, cols);
    int code = srn__kernels_select(srn_probe_level(m->p, srn_probe_levels(m->p) - 1), &m->k, err);
    if (code) return code;
    m->w =
        (srn_packed){.type = (srn_type)type, .form = t->form, .cols = cols, .row_bytes = (size_t)row_bytes};
    m->w.panel_bytes = m->k.panel_bytes(m->w.type, cols);
    code = alloc_work(m, err);
    if (!code) code = encode_rows(m, err);
    return code ? code : alloc_panels(m, err);
}

int srn_probe_matrix_new(srn_probe *p, uint32_t type, uint32_t cols, srn_probe_matrix **ret, srn_err *err) {
    srn_probe_matrix *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    m->p = p;
    int code = init(m, type, cols, err);
    if (code) {
        srn_probe_matrix_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}

void srn_probe_matrix_free(srn_probe_matrix *m) {
    if (!m) return;
    for (uint32_t i = 0; m->parts && i < srn_probe_threads(m->p); i++) {
        srn_aligned_free(m->parts[i].y);
        srn_aligned_free(m->parts[i].scratch);
    }
    srn_pages_free(m->mem, m->mem_bytes);
    srn_aligned_free(m->rows);
    srn_aligned_free(m->x);
    srn_aligned_free(m->q[0]);
    srn_aligned_free(m->q[1]);
    srn_aligned_free(m->parts);
    free(m);
}

/* ---- a turn ---- */

typedef struct turn {
    srn_probe_matrix *m;
    srn_act a;
    uint64_t us;
} turn;

static void run_turn(void *ctx, uint32_t thread, uint32_t n_threads) {
    const turn *t = ctx;
    srn_probe_matrix *m = t->m;
    product_part *mine = &m->parts[thread];
    (void)n_threads;
    srn__pool_barrier(srn__probe_pool(m->p)); /* all are awake before the clock starts */
    double weights = 0;
    uint64_t start = srn_now_us(), now;
    do {
        if (mine->next >= mine->n) mine->next = 0;
        uint32_t at = mine->first + mine->next, n = SRN_MIN(CALL_PANELS, mine->n - mine->next);
        srn_packed some = m->w; /* whose first panel is the one where the thread is */
        some.rows = n * SRN_PANEL;
        if (some.panels) some.panels += at * m->w.panel_bytes;
        some.raw += (size_t)at * SRN_PANEL * (some.panels ? 0 : m->w.row_bytes);
        m->k.matmul(&some, 0, n, &t->a, NULL, t->a.n, mine->y, CALL_PANELS * SRN_PANEL, mine->scratch);
        mine->next += n;
        weights += (double)n * SRN_PANEL * m->w.cols;
        now = srn_now_us();
    } while (now - start < t->us);
    mine->rate = weights * 1e6 / (double)SRN_MAX(now - start, (uint64_t)1);
}

double srn_probe_product(srn_probe_matrix *m, uint32_t n, uint32_t planes, uint64_t us) {
    uint32_t cols = m->w.cols;
    turn t = {.m = m, .us = us};
    n = SRN_MIN(SRN_MAX(n, 1u), MOST_COLUMNS);
    t.a = (srn_act){.x = m->x, .x_stride = cols, .k = cols, .n = n, .planes = planes == 2 ? 2 : 1};
    if (m->w.form != SRN_FORM_FLOAT) {
        t.a.q = m->q[t.a.planes - 1];
        m->k.quantize(&t.a, 0, n, 0, cols / SRN_GROUP);
    }
    srn__pool_run(srn__probe_pool(m->p), run_turn, &t);
    double sum = 0;
    for (uint32_t i = 0; i < srn_probe_threads(m->p); i++) sum += m->parts[i].rate;
    return sum;
}
