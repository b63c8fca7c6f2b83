/* Placements of a model: each with its memory, what fits, and its speeds. Pure; any thread. Refuses settings
 * that an engine would refuse; what does not fit is a placement that says so.
 */
#include "hardware/plan.h"

const char *srn_hw_where_name(srn_hw_where w) {
    return w == SRN_HW_ON_CPU ? "cpu" : "?";
}

uint64_t srn_hw_headroom(uint64_t available) {
    return SRN_MAX(available / 20, (uint64_t)512 << 20);
}

static void add_speed(const srn_model *m, const srn_hw_figures *f, srn_kv_type kv, uint32_t n_seqs,
                      uint32_t n_ctx, bool prefill, srn_hw_placement *p) {
    if (p->n_speeds == SRN_HW_MOST_SPEEDS) return;
    srn_hw_speed *s = &p->speeds[p->n_speeds++];
    *s = (srn_hw_speed){.n_seqs = n_seqs, .n_ctx = n_ctx, .prefill = prefill};
    srn_cost_step step = {.n_seqs = n_seqs, .n_past = n_ctx - 1, .n_tokens = 1, .n_rows = n_seqs};
    s->time = prefill ? srn_hw_predict_prefill(m, f, kv, 0, n_ctx) : srn_hw_predict_step(m, f, kv, &step);
    double tokens = prefill ? n_ctx : n_seqs;
    s->tok_per_s = s->time.all > 0 ? tokens / s->time.all : 0;
}

/* Appends v in ascending order unless it is there or beyond `most`. */
static void add_number(uint32_t v, uint32_t most, uint32_t *list, uint32_t *n) {
    uint32_t at = 0;
    if (v > most || v == 0) return;
    while (at < *n && list[at] < v) at++;
    if (at < *n && list[at] == v) return;
    for (uint32_t i = (*n)++; i > at; i--) list[i] = list[i - 1];
    list[at] = v;
}

static void add_speeds(const srn_model *m, const srn_hw_figures *f, const srn_hw_settings *s,
                       srn_hw_placement *p) {
    uint32_t contexts[4], loads[3], n_contexts = 0, n_loads = 0;
    const uint32_t usual[] = {512, 4096, 8192};
    for (size_t i = 0; i < SRN_LEN(usual); i++) add_number(usual[i], s->n_ctx, contexts, &n_contexts);
    add_number(s->n_ctx, s->n_ctx, contexts, &n_contexts);
    add_number(1, 1, loads, &n_loads);
    add_number(8, 8, loads, &n_loads);
    add_number(s->n_seqs, s->n_seqs, loads, &n_loads);
    for (uint32_t c = 0; c < n_contexts; c++) add_speed(m, f, s->kv, 1, contexts[c], true, p);
    for (uint32_t l = 0; l < n_loads; l++)
        for (uint32_t c = 0; c < n_contexts; c++) add_speed(m, f, s->kv, loads[l], contexts[c], false, p);
    p->has_speeds = true;
}

static int on_cpu(const srn_model *m, const srn_hw_figures *f, const srn_hw_settings *s, uint64_t available,
                  srn_hw_placement *ret, srn_err *err) {
    srn_hw_placement p = {.where = SRN_HW_ON_CPU,
                          .available = available,
                          .headroom = srn_hw_headroom(available),
                          .unmeasured = SRN_TYPE_END};
    int code = srn_hw_predict_memory(m, s, &p.memory, err);
    if (code) return code;
    uint64_t budget = available > p.headroom ? available - p.headroom : 0;
    p.fits = p.memory.all <= budget;
    p.longest_ctx = srn_hw_longest_context(m, s, budget);
    p.most_sequences = srn_hw_most_sequences(m, s, budget);
    if (f) p.unmeasured = srn_hw_unmeasured(m, f);
    if (f && p.unmeasured == SRN_TYPE_END) add_speeds(m, f, s, &p);
    *ret = p;
    return SRN_OK;
}

int srn_hw_plan(const srn_model *m, const srn_hw_figures *f, const srn_hw_settings *s, uint64_t available,
                srn_hw_placement ret[SRN_HW_MOST_PLACEMENTS], uint32_t *ret_n, srn_err *err) {
    int code = on_cpu(m, f, s, available, &ret[0], err);
    if (!code) *ret_n = 1;
    return code;
}
