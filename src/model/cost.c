/* The cost of a step, counted matrix by matrix. Follows what docs/numerics.md says a product is, not how a
 * device does it: q, k, v and the head multiply two planes of codes, the others one; an embedding's rows are
 * looked up. Pure; any thread.
 */
#include "model/cost.h"

#include "base/num.h"

/* rows x cols products for each of n columns, of which `share` of the matrix is needed at all. */
static void add_matrix(const srn_mat *mat, double n, double planes, double share, srn_cost *sum) {
    if (!mat) return;
    double elements = (double)mat->rows * (double)mat->cols;
    const srn_type_info *t = srn_type_get((uint32_t)mat->t->type);
    if (t->form == SRN_FORM_FLOAT)
        sum->f32_macs += elements * n;
    else
        sum->int8_macs += elements * n * planes;
    sum->weights_bytes += share * elements * t->block_bytes / t->block_elems;
}

/* Share of the experts that n tokens choose, if each chooses evenly and for itself. */
static double chosen_share(const srn_hparams *hp, double n) {
    double each = (double)hp->n_expert_used / (double)hp->n_expert;
    return each < 1 ? 1 - srn_pow(1 - each, n) : 1;
}

static void add_feed_forward(const srn_model *m, const srn_layer *l, double n, srn_cost *sum) {
    if (!l->router) {
        add_matrix(l->gate, n, 1, 1, sum);
        add_matrix(l->up, n, 1, 1, sum);
        add_matrix(l->down, n, 1, 1, sum);
        return;
    }
    add_matrix(l->router, n, 1, 1, sum);
    double share = chosen_share(&m->hp, n), each = n * m->hp.n_expert_used / m->hp.n_expert;
    const srn_mat *const experts[] = {l->gate_exps, l->up_exps, l->down_exps};
    for (size_t i = 0; i < SRN_LEN(experts); i++) add_matrix(experts[i], each, 1, share, sum);
}

/* Pairs of query and position that n_tokens queries after n_past positions look at, and the positions that
 * they read together. */
static void count_attention(const srn_cost_step *s, uint32_t window, double *ret_pairs, double *ret_read) {
    double pairs = 0, all = (double)s->n_past + s->n_tokens;
    for (uint32_t i = 0; i < s->n_tokens; i++) {
        double seen = (double)s->n_past + i + 1;
        pairs += window ? SRN_MIN(seen, (double)window) : seen;
    }
    *ret_pairs = pairs;
    *ret_read = window ? SRN_MIN(all, (double)window + s->n_tokens - 1) : all;
}

void srn_cost_add(const srn_model *m, srn_kv_type kv, const srn_cost_step *s, srn_cost *sum) {
    const srn_hparams *hp = &m->hp;
    double n = (double)s->n_seqs * s->n_tokens, position = 0;
    position = (double)(srn_kv_tile_bytes(kv, hp->d_k) + srn_kv_tile_bytes(kv, hp->d_v)) * hp->n_head_kv /
               SRN_KV_BLOCK;
    for (uint32_t i = 0; i < hp->n_layer; i++) {
        const srn_layer *l = &m->layers[i];
        double pairs, read;
        add_matrix(l->q, n, 2, 1, sum);
        add_matrix(l->k, n, 2, 1, sum);
        add_matrix(l->v, n, 2, 1, sum);
        add_matrix(l->o, n, 1, 1, sum);
        add_feed_forward(m, l, n, sum);
        count_attention(s, l->window, &pairs, &read);
        sum->f32_macs += pairs * s->n_seqs * hp->n_head * (hp->d_k + hp->d_v);
        sum->kv_bytes += read * position * s->n_seqs;
    }
    if (s->n_rows) add_matrix(m->head, s->n_rows, 2, 1, sum);
}
