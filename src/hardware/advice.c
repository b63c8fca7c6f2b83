/* The advice: runs every rule over a machine and puts what they found in order. Pure; any thread. A rule that
 * finds nothing known enough says nothing.
 */
#include "hardware/advice_internal.h"

#define MOST_BYTES    ((size_t)32 << 20)
#define MOST_SENTENCE ((size_t)16 << 10)

void srn__gpu_set_add(srn__gpu_set *s, uint32_t gpu) {
    uint32_t at = 0;
    while (at < s->n && s->v[at] < gpu) at++;
    if (s->n == SRN_HW_MOST_GPUS || (at < s->n && s->v[at] == gpu)) return;
    memmove(s->v + at + 1, s->v + at, (s->n - at) * sizeof *s->v);
    s->v[at] = gpu;
    s->n++;
}

/* ---- words ---- */

void srn__advice_gpus(srn_buf *b, const srn__gpu_set *s) {
    srn_buf_addz(b, "GPU ");
    for (uint32_t i = 0; i < s->n; i++)
        srn_buf_addf(b, "%s%u", i == 0 ? "" : i + 1 == s->n ? " and " : ", ", s->v[i]);
}

void srn__advice_place(srn_buf *b, const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    if (p->slot[0])
        srn_buf_addf(b, "the slot %s (%s)", p->slot, p->address);
    else
        srn_buf_addz(b, p->address);
}

void srn__advice_rate(srn_buf *b, double bytes_per_s) {
    srn_buf_addf(b, "%.1f GB/s", bytes_per_s / 1e9);
}

/* ---- the list ---- */

srn_hw_machine *srn__advice_copy(srn__adviser *a) {
    srn_hw_pci *pci = a->scratch.pci;
    srn_hw_pair *pairs = a->scratch.pairs;
    a->scratch = *a->m;
    a->scratch.pci = pci;
    a->scratch.pairs = pairs;
    if (a->m->n_pci) memcpy(pci, a->m->pci, a->m->n_pci * sizeof *pci);
    if (a->m->n_gpus) memcpy(pairs, a->m->pairs, (size_t)a->m->n_gpus * a->m->n_gpus * sizeof *pairs);
    return &a->scratch;
}

int srn__advice_push(srn__adviser *a, srn_hw_advice v) {
    srn_arena *arena = &a->out->arena;
    if (a->out->n == a->cap) {
        uint32_t cap = a->cap ? 2 * a->cap : 16;
        srn_hw_advice *more = srn_arena_alloc(arena, cap * sizeof *more);
        if (!more) return srn_fail_nomem(a->err, cap * sizeof *more);
        if (a->cap) memcpy(more, a->out->v, a->out->n * sizeof *more);
        a->out->v = more;
        a->cap = cap;
    }
    if (a->what.failed || a->fix.failed) return srn_fail_nomem(a->err, MOST_SENTENCE);
    v.what = srn_arena_strndup(arena, a->what.data, a->what.len);
    v.fix = srn_arena_strndup(arena, a->fix.data, a->fix.len);
    if (!v.what || !v.fix) return srn_fail_nomem(a->err, a->what.len + a->fix.len);
    a->out->v[a->out->n++] = v;
    srn_buf_clear(&a->what);
    srn_buf_clear(&a->fix);
    return SRN_OK;
}

static double gain(const srn_hw_advice *v) {
    return v->now_bytes_per_s > 0 && v->then_bytes_per_s > v->now_bytes_per_s
               ? v->then_bytes_per_s / v->now_bytes_per_s
               : 1;
}

static bool comes_before(const srn_hw_advice *x, const srn_hw_advice *y) {
    double gx = gain(x), gy = gain(y);
    return gx > gy || (gx == gy && x->problem < y->problem);
}

/* By insertion: what is equal stays in the order of the tree. */
static void sort(srn_hw_advices *a) {
    for (uint32_t i = 1; i < a->n; i++) {
        srn_hw_advice v = a->v[i];
        uint32_t k = i;
        for (; k > 0 && comes_before(&v, &a->v[k - 1]); k--) a->v[k] = a->v[k - 1];
        a->v[k] = v;
    }
}

int srn_hw_advise(const srn_hw_machine *m, srn_hw_advices *ret, srn_err *err) {
    static int (*const rules[])(srn__adviser *) = {
        srn__advise_crossing, srn__advise_acs,      srn__advise_p2p,     srn__advise_iommu,
        srn__advise_training, srn__advise_slots,    srn__advise_chipset, srn__advise_uplinks,
        srn__advise_windows,  srn__advise_channels,
    };
    srn_hw_advices out = {.n = 0};
    srn_arena_init(&out.arena, MOST_BYTES);
    srn__adviser a = {.m = m, .out = &out, .err = err};
    srn_buf_init(&a.what, MOST_SENTENCE);
    srn_buf_init(&a.fix, MOST_SENTENCE);
    a.scratch.pci = srn_arena_alloc(&out.arena, m->n_pci * sizeof *m->pci);
    a.scratch.pairs = srn_arena_alloc(&out.arena, (size_t)m->n_gpus * m->n_gpus * sizeof *m->pairs);
    int code = a.scratch.pci && a.scratch.pairs ? SRN_OK : srn_fail_nomem(err, m->n_pci * sizeof *m->pci);
    for (size_t i = 0; i < SRN_LEN(rules) && !code; i++) code = rules[i](&a);
    srn_buf_done(&a.what);
    srn_buf_done(&a.fix);
    if (code) {
        srn_arena_done(&out.arena);
        return code;
    }
    sort(&out);
    *ret = out;
    return SRN_OK;
}

void srn_hw_advices_done(srn_hw_advices *a) {
    srn_arena_done(&a->arena);
    *a = (srn_hw_advices){0};
}

/* ---- as JSON ---- */

static json_t *rate_json(double v) {
    return v > 0 ? json_real(v) : json_null();
}

json_t *srn_hw_advices_json(const srn_hw_machine *m, const srn_hw_advices *a) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < a->n && list; i++) {
        const srn_hw_advice *v = &a->v[i];
        json_t *gpus = json_array();
        for (size_t k = 0; k < 2; k++)
            if (v->gpus[k] != SRN_HW_NONE) json_array_append_new(gpus, json_integer(v->gpus[k]));
        json_t *o =
            json_pack("{s:s, s:o, s:s?, s:s, s:s, s:o, s:o}", "problem", srn_hw_problem_name(v->problem),
                      "gpus", gpus, "pci", v->pci == SRN_HW_NONE ? NULL : m->pci[v->pci].address, "what",
                      v->what, "fix", v->fix, "now_bytes_per_s", rate_json(v->now_bytes_per_s),
                      "then_bytes_per_s", rate_json(v->then_bytes_per_s));
        if (!o || json_array_append_new(list, o)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

const char *srn_hw_problem_name(srn_hw_problem p) {
    static const char *const names[] = {
        "crosses_cpu", "crosses_sockets", "down_trained", "narrow_slot", "old_slot",         "acs",
        "on_chipset",  "shared_uplink",   "small_bar",    "no_p2p",      "iommu_translates", "few_channels",
    };
    return (size_t)p < SRN_LEN(names) ? names[p] : "?";
}
