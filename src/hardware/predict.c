/* The time of a step: each matrix at the measured time of its type, attention by pairs, and what else a layer
 * has, each interpolated between the sizes that were measured. Follows forward.c's order of work. Pure; any
 * thread.
 */
#include "hardware/predict.h"

#include <math.h>

enum { STEP = 512 };

/* Between measured columns on a line; below the first and beyond the last one in proportion. */
static double at_columns(const double v[SRN_HW_N_COLUMNS], double n) {
    uint32_t i = 1;
    while (i + 1 < SRN_HW_N_COLUMNS && n > srn_hw_columns(i)) i++;
    double a = srn_hw_columns(i - 1), b = srn_hw_columns(i);
    if (n < a) return v[0] * n / a;
    if (n > b) return v[i] * n / b;
    return v[i - 1] + (v[i] - v[i - 1]) * (n - a) / (b - a);
}

/* Seconds of a matrix, of which `share` is multiplied at all, with n columns. */
static double product(const srn_hw_figures *f, const srn_mat *mat, double n, uint32_t planes, double share) {
    if (!mat || n <= 0) return 0;
    const srn_hw_product *p = &f->products[mat->t->type];
    double one = at_columns(p->ps[planes - 1], fmax(n, 1)) * fmin(n, 1);
    return share * (double)mat->rows * (double)mat->cols * one * 1e-12;
}

static double experts(const srn_model *m, const srn_hw_figures *f, const srn_layer *l, double n) {
    double each = (double)m->hp.n_expert_used / m->hp.n_expert, share = 1 - pow(1 - each, n);
    double columns = n * each / share; /* of an expert that is chosen at all */
    return product(f, l->router, n, 1, 1) + product(f, l->gate_exps, columns, 1, share) +
           product(f, l->up_exps, columns, 1, share) + product(f, l->down_exps, columns, 1, share);
}

static double layer_products(const srn_model *m, const srn_hw_figures *f, const srn_layer *l, double n) {
    double s = product(f, l->q, n, 2, 1) + product(f, l->k, n, 2, 1) + product(f, l->v, n, 2, 1) +
               product(f, l->o, n, 1, 1);
    if (l->router) return s + experts(m, f, l, n);
    return s + product(f, l->gate, n, 1, 1) + product(f, l->up, n, 1, 1) + product(f, l->down, n, 1, 1);
}

/* ---- attention ---- */

/* Picoseconds of a pair where so many queries of a sequence are computed together and so many heads share
 * keys and values: on a line over the heads' sizes that were measured. 0: no such group was. */
static double group_ps(const srn_hw_figures *f, srn_kv_type kv, double d, uint32_t queries, uint32_t group) {
    const srn_hw_attention *below = NULL, *above = NULL;
    for (uint32_t i = 0; i < f->n_attention; i++) {
        const srn_hw_attention *a = &f->attention[i];
        if (a->kv != kv || a->queries != queries || a->group != group) continue;
        if (a->d <= d && (!below || a->d > below->d)) below = a;
        if (a->d >= d && (!above || a->d < above->d)) above = a;
    }
    if (!below && !above) return 0;
    if (!below) return above->ps * d / above->d;
    if (!above) return below->ps * d / below->d;
    if (below == above) return below->ps;
    return below->ps + (above->ps - below->ps) * (d - below->d) / (above->d - below->d);
}

/* What a head does for itself, and its share of what is done once for a group: between one head and four on a
 * line over the inverse, which goes on beyond. */
static double pair_ps(const srn_hw_figures *f, srn_kv_type kv, double d, uint32_t queries, double group) {
    double four = group_ps(f, kv, d, queries, 4), one = group_ps(f, kv, d, queries, 1);
    if (one <= 0 || four <= 0) return fmax(one, four);
    double shared = (one - four) / (1 - 0.25);
    return fmax(one - shared * (1 - 1 / group), 0);
}

/* Few queries share what is read less: between one and sixteen on a line over the logarithm. */
static double attention(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv, const srn_layer *l,
                        const srn_cost_step *s) {
    double pairs = 0, d = ((double)m->hp.d_k + m->hp.d_v) / 2;
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        double seen = (double)s->n_past + i + 1;
        pairs += l->window ? fmin(seen, l->window) : seen;
    }
    double group = (double)m->hp.n_head / m->hp.n_head_kv;
    double one = pair_ps(f, kv, d, 1, group), many = pair_ps(f, kv, d, STEP, group);
    double w = fmin(log2(fmax(s->n_tokens, 1)) / 4, 1);
    return pairs * s->n_seqs * m->hp.n_head * (one + (many - one) * w) * 1e-12;
}

/* ---- a step ---- */

double srn_hw_layer_elements(const srn_model *m) {
    const srn_hparams *hp = &m->hp;
    double ff = m->hp.n_expert ? (double)hp->n_ff_expert * hp->n_expert_used : hp->n_ff;
    return 4.0 * hp->n_embd + (double)hp->n_head * (hp->d_k + hp->d_v) +
           (double)hp->n_head_kv * (hp->d_k + hp->d_v) + 2.0 * ff;
}

static double layer_rest(const srn_model *m, const srn_hw_figures *f, double n) {
    double us[SRN_HW_N_COLUMNS], ps[SRN_HW_N_COLUMNS];
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++) us[i] = f->rest[i].us, ps[i] = f->rest[i].ps_per_element;
    return at_columns(us, n) * 1e-6 + at_columns(ps, n) * srn_hw_layer_elements(m) * 1e-12;
}

srn_hw_time srn_hw_predict_step(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv,
                                const srn_cost_step *s) {
    srn_hw_time t = {0};
    double n = (double)s->n_seqs * s->n_tokens;
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        t.products += layer_products(m, f, &m->layers[i], n);
        t.attention += attention(m, f, kv, &m->layers[i], s);
    }
    t.rest = layer_rest(m, f, n) * m->hp.n_layer;
    t.head = product(f, m->head, s->n_rows, 2, 1);
    t.all = fmax(t.products + t.attention + t.rest + t.head, 0);
    return t;
}

srn_hw_time srn_hw_predict_prefill(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv,
                                   uint32_t n_past, uint32_t n_tokens) {
    srn_hw_time sum = {0};
    for (uint32_t at = 0; at < n_tokens; at += STEP) {
        uint32_t n = SRN_MIN(n_tokens - at, (uint32_t)STEP);
        srn_cost_step s = {.n_seqs = 1, .n_past = n_past + at, .n_tokens = n, .n_rows = at + n == n_tokens};
        srn_hw_time t = srn_hw_predict_step(m, f, kv, &s);
        sum = (srn_hw_time){sum.products + t.products, sum.attention + t.attention, sum.rest + t.rest,
                            sum.head + t.head, sum.all + t.all};
    }
    return sum;
}

static bool is_measured(const srn_hw_figures *f, const srn_mat *mat, uint32_t planes) {
    return f->products[mat->t->type].ps[planes - 1][0] > 0;
}

srn_type srn_hw_unmeasured(const srn_model *m, const srn_hw_figures *f) {
    for (uint32_t i = 0; i < m->n_mats; i++) {
        bool is_looked_up = &m->mats[i] == m->embd && m->head != m->embd;
        if (!is_looked_up && (!is_measured(f, &m->mats[i], 1) || !is_measured(f, &m->mats[i], 2)))
            return m->mats[i].t->type;
    }
    return SRN_TYPE_END;
}
