/* Measures a machine's figures: its limits, the disk, products of each type of weights, attention, and what
 * else a layer takes. The last two come from steps of models of random weights that are made for it, so that
 * all is in them that a real model's step has. Called by one thread, which does nothing else meanwhile; the
 * probe's and the device's threads are asleep while the other's run. Refuses nothing but lack of memory.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "hardware/predict.h"
#include "model/model.h"
#include "synth/synth.h"

/* Columns of the matrices that stand for a type. */
#define PRODUCT_COLS 2048u
#define REST_US      8000u
#define MOST_REPS    16u
#define DISK_CHUNK   ((size_t)4 << 20)

typedef struct measuring {
    const srn_hw_measure_opts *o;
    srn_hw_figures *f;
    srn_probe *probe;
    uint32_t reps;
    srn_err *err;
} measuring;

static bool stopped(const measuring *m) {
    return m->o->cancel && *m->o->cancel;
}

static int cancelled(const measuring *m) {
    return srn_fail(m->err, SRN_ECANCELLED, "interrupted while the machine was measured");
}

static void show(const measuring *m, const char *what, uint64_t done, uint64_t total) {
    if (m->o->progress) m->o->progress(m->o->progress_ctx, what, done, total);
}

/* ---- products ---- */

static int measure_type(measuring *m, srn_type type) {
    srn_probe_matrix *mat;
    srn_hw_product *to = &m->f->products[type];
    double turns[2][SRN_HW_N_COLUMNS][MOST_REPS];
    uint64_t us = m->o->quick ? 6000 : 15000;
    int code = srn_probe_matrix_new(m->probe, (uint32_t)type, PRODUCT_COLS, &mat, m->err);
    if (code == SRN_EUNSUP) return SRN_OK; /* figures without it */
    if (code) return code;
    for (uint32_t r = 0; r <= m->reps && !stopped(m); r++) /* the first round warms up */
        for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++)
            for (uint32_t p = 0; p < 2; p++) {
                double rate = srn_probe_product(mat, srn_hw_columns(i), p + 1, us);
                if (r) turns[p][i][r - 1] = 1e12 / rate;
            }
    srn_probe_matrix_free(mat);
    if (stopped(m)) return cancelled(m);
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++)
        for (uint32_t p = 0; p < 2; p++) to->ps[p][i] = srn_hw_median(turns[p][i], m->reps);
    return SRN_OK;
}

static int measure_products(measuring *m) {
    uint32_t n = 0, done = 0;
    int code = SRN_OK;
    for (uint32_t t = 0; t < SRN_TYPE_END; t++) n += m->o->types[t];
    for (uint32_t t = 0; t < SRN_TYPE_END && !code; t++) {
        if (!m->o->types[t]) continue;
        show(m, "measuring products", done++, n);
        code = measure_type(m, (srn_type)t);
    }
    show(m, "measuring products", n, n);
    return code;
}

/* ---- models made for it ---- */

typedef struct made {
    srn_out *out;
    srn_weights *w;
    srn_model *m;
    srn_hw_steps *steps;
} made;

static void unmake(made *d) {
    srn_hw_steps_free(d->steps);
    srn_model_free(d->m);
    srn_weights_free(d->w);
    srn_out_free(d->out);
}

/* A dense model of heads of d, of which `group` share keys and values. */
static srn_shape shape_of(uint32_t n_embd, uint32_t n_layer, uint32_t n_head, uint32_t group, uint32_t d,
                          uint32_t n_ff) {
    return (srn_shape){.name = "probe",
                       .arch = "llama",
                       .n_vocab = 512,
                       .n_embd = n_embd,
                       .n_layer = n_layer,
                       .n_head = n_head,
                       .n_head_kv = n_head / group,
                       .d_head = d,
                       .n_ff = n_ff,
                       .n_ctx = 1u << 16,
                       .rope_base = 1e4,
                       .norm_eps = 1e-5,
                       .tied = true};
}

static int make(measuring *m, const srn_shape *shape, const char *quant, srn_kv_type kv, uint32_t n_seqs,
                uint32_t n_ctx, made *ret) {
    const srn_mix *mix;
    srn_synth *s = NULL;
    srn_synth_opts so = {.seed = 1, .threads = m->o->threads, .pure = true};
    srn_open_opts open = {0};
    srn_hw_steps_opts o = {.threads = m->o->threads,
                           .cpu_limit = m->o->cpu_limit,
                           .kv = kv,
                           .n_seqs = n_seqs,
                           .n_ctx = n_ctx,
                           .cancel = m->o->cancel};
    *ret = (made){0};
    int code = srn_mix_find(quant, &mix, m->err);
    if (!code) code = srn_synth_new(shape, mix, &so, &s, m->err);
    if (!code) code = srn_out_memory(srn_synth_file_bytes(s), &ret->out, m->err);
    if (!code) code = srn_synth_fill(s, ret->out, m->err);
    srn_synth_free(s);
    if (!code) code = srn_weights_open(srn_out_path(ret->out), &open, &ret->w, m->err);
    if (!code) code = srn_model_new(ret->w, 0, &ret->m, m->err);
    if (!code) code = srn_hw_steps_new(ret->m, &o, &ret->steps, m->err);
    if (code) {
        unmake(ret);
        *ret = (made){0};
    }
    return code;
}

/* The median time of a step. */
static int time_step(measuring *m, const made *d, uint32_t n_seqs, uint32_t n_past, uint32_t n_tokens,
                     uint32_t reps, double *ret) {
    double turns[64], warm_up;
    reps = SRN_MIN(reps, (uint32_t)SRN_LEN(turns));
    int code = srn_hw_steps_time(d->steps, n_seqs, n_past, n_tokens, true, &warm_up, m->err);
    for (uint32_t r = 0; r < reps && !code; r++)
        code = stopped(m) ? cancelled(m)
                          : srn_hw_steps_time(d->steps, n_seqs, n_past, n_tokens, true, &turns[r], m->err);
    if (!code) *ret = srn_hw_median(turns, reps);
    return code;
}

/* ---- attention ---- */

/* Two depths of one model differ by attention alone. Decode reads from memory: the cache is beyond the
 * processor's. */
static int measure_pair(measuring *m, srn_kv_type kv, uint32_t d, uint32_t queries, uint32_t group) {
    uint32_t n_head = 2048 / d,
             n_layer = queries > 1 ? 2
                       : group > 1 ? 12
                                   : 4,
             depth = 4096, reps = 2 * m->reps;
    srn_shape s = shape_of(256, n_layer, n_head, group, d, 256);
    double shallow = 0, deep = 0;
    made model;
    int code = make(m, &s, "Q8_0", kv, 1, depth, &model);
    if (code) return code;
    code = time_step(m, &model, 1, 0, queries, reps, &shallow);
    if (!code) code = time_step(m, &model, 1, depth - queries, queries, reps, &deep);
    unmake(&model);
    double pairs = (double)(depth - queries) * queries * n_head * n_layer;
    srn_hw_attention a = {.kv = kv,
                          .d = d,
                          .queries = queries,
                          .group = group,
                          .ps = SRN_MAX(deep - shallow, 0) * 1e12 / pairs};
    if (!code) m->f->attention[m->f->n_attention++] = a;
    return code;
}

static int measure_attention(measuring *m) {
    static const uint32_t sizes[] = {64, 128, 256};
    int code = SRN_OK;
    uint32_t n_types = m->o->quick ? 1 : SRN_KV_Q8_0 + 1;
    for (uint32_t t = 0; t < n_types && !code; t++)
        for (size_t i = 0; i < SRN_LEN(sizes) && !code; i++) {
            show(m, "measuring attention", t * SRN_LEN(sizes) + i, n_types * SRN_LEN(sizes));
            code = measure_pair(m, (srn_kv_type)t, sizes[i], 1, 4);
            if (!code) code = measure_pair(m, (srn_kv_type)t, sizes[i], 1, 1);
            if (!code) code = measure_pair(m, (srn_kv_type)t, sizes[i], 512, 4);
        }
    if (!code) show(m, "measuring attention", 1, 1);
    return code;
}

/* ---- the rest of a layer ---- */

/* Memory is faster at one time than at another. So a product with as many columns is measured beside each
 * step, and the step is judged by that. */
static int rest_once(measuring *m, const made *d, srn_probe_matrix *mat, uint32_t i, double *ret) {
    uint32_t n = srn_hw_columns(i), n_seqs = n <= 16 ? n : 1, n_tokens = n / n_seqs;
    srn_cost_step step = {.n_seqs = n_seqs, .n_tokens = n_tokens, .n_rows = n_seqs};
    double *const ps[2] = {&m->f->products[SRN_Q4_0].ps[0][i], &m->f->products[SRN_Q4_0].ps[1][i]};
    double kept[2] = {*ps[0], *ps[1]}, t = 0;
    for (uint32_t p = 0; p < 2; p++) *ps[p] = 1e12 / srn_probe_product(mat, n, p + 1, REST_US);
    int code = time_step(m, d, n_seqs, 0, n_tokens, n > 16 ? 1 : 3, &t);
    *ret = (t - srn_hw_predict_step(d->m, m->f, SRN_KV_F16, &step).all) / d->m->hp.n_layer;
    for (uint32_t p = 0; p < 2; p++) *ps[p] = kept[p];
    return code;
}

/* Seconds of a layer at each number of columns, less what products and attention account for. */
static int measure_rests(measuring *m, const srn_shape *s, double ret[SRN_HW_N_COLUMNS],
                         double *ret_elements) {
    double turns[MOST_REPS];
    srn_probe_matrix *mat = NULL;
    made model;
    int code = make(m, s, "Q4_0", SRN_KV_F16, 16, 512, &model);
    if (code) return code;
    *ret_elements = srn_hw_layer_elements(model.m);
    code = srn_probe_matrix_new(m->probe, SRN_Q4_0, PRODUCT_COLS, &mat, m->err);
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS && !code; i++) {
        for (uint32_t r = 0; r < m->reps && !code; r++) code = rest_once(m, &model, mat, i, &turns[r]);
        if (!code) ret[i] = srn_hw_median(turns, m->reps);
    }
    srn_probe_matrix_free(mat);
    unmake(&model);
    return code;
}

/* A narrow and a wide model of about as many bytes, beyond the caches both, give a line over the elements. */
static int measure_rest(measuring *m) {
    srn_shape narrow = shape_of(512, 48, 8, 4, 64, 1536), wide = shape_of(2048, 5, 32, 4, 64, 5632);
    double a[SRN_HW_N_COLUMNS], b[SRN_HW_N_COLUMNS], few = 0, many = 0;
    show(m, "measuring layers", 0, 2);
    int code = measure_rests(m, &narrow, a, &few);
    show(m, "measuring layers", 1, 2);
    if (!code) code = measure_rests(m, &wide, b, &many);
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS && !code; i++) {
        double slope = (b[i] - a[i]) / (many - few);
        m->f->rest[i] = (srn_hw_rest){.us = (a[i] - slope * few) * 1e6, .ps_per_element = slope * 1e12};
    }
    show(m, "measuring layers", 2, 2);
    return code;
}

/* ---- the disk ---- */

/* Reads on through a file past the page cache, for up to a second; what cannot be read so is not measured. */
static void measure_disk(measuring *m) {
    int fd = m->o->disk_file ? open(m->o->disk_file, O_RDONLY | O_CLOEXEC | O_DIRECT) : -1;
    uint8_t *mem = fd < 0 ? NULL : srn_aligned_calloc(1, DISK_CHUNK);
    uint64_t start = srn_now_us(), most = m->o->quick ? 200000 : 1000000, us = 0, bytes = 0;
    while (mem && us < most && !stopped(m)) {
        ssize_t n = read(fd, mem, DISK_CHUNK);
        if (n <= 0) break;
        bytes += (uint64_t)n;
        us = srn_now_us() - start;
    }
    if (us) m->f->disk_read_bytes_per_s = (double)bytes * 1e6 / (double)us;
    srn_aligned_free(mem);
    if (fd >= 0) close(fd);
}

/* ---- all ---- */

static int measure_all(measuring *m) {
    int code =
        srn_hw_measure_limits(m->probe, m->reps, m->o->progress, m->o->progress_ctx, &m->f->limits, m->err);
    if (!code) measure_disk(m);
    if (!code) code = measure_products(m);
    if (!code) code = measure_attention(m);
    return code ? code : measure_rest(m);
}

int srn_hw_measure(const srn_hw_measure_opts *o, srn_hw_figures *ret, srn_err *err) {
    srn_hw_measure_opts with = *o;
    srn_hw_figures *f = srn_calloc(1, sizeof *f);
    measuring m = {.o = &with, .f = f, .reps = o->quick ? 3 : 7, .err = err};
    srn_probe_opts po = {.threads = o->threads, .cpu_limit = o->cpu_limit};
    with.types[SRN_Q4_0] = with.types[SRN_Q8_0] = true; /* of the models that are made for it */
    if (!f) return srn_fail_nomem(err, sizeof *f);
    int code = srn_probe_new(&po, &m.probe, err);
    if (!code) code = measure_all(&m);
    srn_probe_free(m.probe);
    if (!code) {
        f->taken_us = srn_unix_us();
        *ret = *f;
    }
    free(f);
    return code;
}
