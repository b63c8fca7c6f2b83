/* The rules about pairs of GPUs: traffic through the processor or across sockets, ACS that sends it there,
 * P2P that the driver does not grant, an IOMMU in between. Pure; any thread.
 */
#include "hardware/advice_internal.h"

typedef struct pairs { /* that have one fault, and the GPUs of them */
    uint32_t n, first[2];
    srn__gpu_set gpus;
} pairs;

static void add_pair(pairs *p, uint32_t a, uint32_t b) {
    if (p->n++ == 0) p->first[0] = a, p->first[1] = b;
    srn__gpu_set_add(&p->gpus, a);
    srn__gpu_set_add(&p->gpus, b);
}

/* "GPU 0 and GPU 2", "4 pairs of GPU 0, 1, 2 and 3" */
static void say_pairs(srn_buf *b, const pairs *p) {
    if (p->n == 1) {
        srn_buf_addf(b, "GPU %u and GPU %u", p->first[0], p->first[1]);
    } else {
        srn_buf_addf(b, "%u pairs of ", p->n);
        srn__advice_gpus(b, &p->gpus);
    }
}

/* ---- moving cards below one switch ---- */

typedef struct moves {
    uint32_t n, gpus[SRN_HW_MOST_GPUS], ports[SRN_HW_MOST_GPUS], at; /* at: the switch's upper port */
} moves;

static bool is_free(const srn_hw_machine *m, uint32_t i) {
    return m->pci[i].kind == SRN_HW_SWITCH_DOWN && m->pci[i].link.max_width && !srn__hw_has_children(m, i);
}

/* What brings all the GPUs below that switch; false: it has not enough places. */
static bool moves_to(const srn_hw_machine *m, const srn__gpu_set *s, uint32_t up, moves *ret) {
    moves v = {.at = up};
    uint32_t port = up;
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t at = m->gpus[s->v[i]].pci;
        if (at == SRN_HW_NONE) return false;
        if (srn__hw_is_below(m, at, up)) continue;
        for (port++; port < m->n_pci; port++)
            if (m->pci[port].parent == up && is_free(m, port)) break;
        if (port >= m->n_pci) return false;
        v.gpus[v.n] = s->v[i];
        v.ports[v.n++] = port;
    }
    *ret = v;
    return true;
}

static double after_moves(srn__adviser *a, const srn__gpu_set *s, const moves *v) {
    srn_hw_machine *copy = srn__advice_copy(a);
    for (uint32_t i = 0; i < v->n; i++)
        srn__advice_move(copy, srn__advice_card(a->m, v->gpus[i]), v->ports[i]);
    return srn_hw_exchange_bytes_per_s(copy, s->v, s->n, NULL);
}

/* To the switch from which they exchange the most, and no less than now; of equal ones that with the fewest
 * cards to move. No switch of the chipset. */
static bool find_moves(srn__adviser *a, const srn__gpu_set *s, double now, moves *ret, double *ret_then) {
    const srn_hw_machine *m = a->m;
    bool found = false;
    for (uint32_t i = 0; i < m->n_pci; i++) {
        moves v;
        if (m->pci[i].kind != SRN_HW_SWITCH_UP || m->pci[i].chipset == SRN_HW_YES) continue;
        if (!moves_to(m, s, i, &v) || !v.n) continue;
        double then = after_moves(a, s, &v);
        if (then < now || (found && (then < *ret_then || (then == *ret_then && v.n >= ret->n)))) continue;
        *ret = v, *ret_then = then, found = true;
    }
    return found;
}

static void say_moves(srn__adviser *a, const srn__gpu_set *s, const moves *v) {
    for (uint32_t i = 0; i < v->n; i++) {
        srn_buf_addf(&a->fix, "%s GPU %u to ", i ? " and" : "Move", v->gpus[i]);
        srn__advice_place(&a->fix, a->m, v->ports[i]);
        srn_buf_addz(&a->fix, ", which is free,");
    }
    if (a->fix.len) a->fix.data[--a->fix.len] = 0;
    double up = srn_hw_link_now(a->m, v->at);
    srn_buf_addf(&a->fix, ": below the switch at %s all %u reach each other past the processor",
                 a->m->pci[v->at].address, s->n);
    if (up > 0) {
        srn_buf_addz(&a->fix, "; they then share its ");
        srn__advice_rate(&a->fix, up);
        srn_buf_addz(&a->fix, " upwards");
    }
    srn_buf_addz(&a->fix, ".");
}

/* ---- crossing ---- */

static int crossing(srn__adviser *a, const pairs *p, srn_hw_problem problem) {
    bool sockets = problem == SRN_HW_CROSSES_SOCKETS;
    srn_hw_advice v = {problem, {p->first[0], p->first[1]}, SRN_HW_NONE, NULL, NULL, 0, 0};
    moves m = {.n = 0};
    v.now_bytes_per_s = srn_hw_exchange_bytes_per_s(a->m, p->gpus.v, p->gpus.n, NULL);
    say_pairs(&a->what, p);
    srn_buf_addz(&a->what, p->n == 1 ? " reach each other " : " reach each other only ");
    srn_buf_addz(&a->what, sockets
                               ? "from one socket to the other, over a link that all of the machine shares."
                               : "through the processor.");
    if (find_moves(a, &p->gpus, v.now_bytes_per_s, &m, &v.then_bytes_per_s)) {
        v.pci = m.at;
        say_moves(a, &p->gpus, &m);
    } else if (sockets) {
        srn_buf_addz(&a->fix,
                     "No switch here has free slots for all of them. Keep tensor parallel within one socket, "
                     "and split layers between the two.");
    } else {
        srn_buf_addz(&a->fix,
                     "No switch here has free slots for all of them. An NVLink bridge, where the cards take "
                     "one, or a board whose slots hang on one PCIe switch keeps the processor out of it.");
    }
    return srn__advice_push(a, v);
}

int srn__advise_crossing(srn__adviser *a) {
    pairs cpu = {.n = 0}, sockets = {.n = 0};
    for (uint32_t i = 0; i < a->m->n_gpus; i++)
        for (uint32_t k = i + 1; k < a->m->n_gpus; k++) {
            srn_hw_route r = srn_hw_path_of(a->m, i, k).route;
            if (r == SRN_HW_VIA_ROOT || r == SRN_HW_VIA_SOCKET) add_pair(&cpu, i, k);
            if (r == SRN_HW_VIA_SOCKETS) add_pair(&sockets, i, k);
        }
    int code = sockets.n ? crossing(a, &sockets, SRN_HW_CROSSES_SOCKETS) : SRN_OK;
    return code || !cpu.n ? code : crossing(a, &cpu, SRN_HW_CROSSES_CPU);
}

/* ---- ACS ---- */

/* Pairs that meet in pci[meet] and are sent past it. */
static pairs redirected_at(const srn_hw_machine *m, uint32_t meet) {
    pairs p = {.n = 0};
    for (uint32_t i = 0; i < m->n_gpus; i++)
        for (uint32_t k = i + 1; k < m->n_gpus; k++) {
            srn_hw_path path = srn_hw_path_of(m, i, k);
            bool inside = path.route == SRN_HW_VIA_SWITCH || path.route == SRN_HW_VIA_CHIPSET;
            if (inside && path.meet == meet && path.acs != SRN_HW_NONE) add_pair(&p, i, k);
        }
    return p;
}

/* Whether pci[i] is a port on the way from one of the GPUs up to pci[meet] that redirects. */
static bool redirects(const srn_hw_machine *m, const pairs *p, uint32_t meet, uint32_t i) {
    if (m->pci[i].acs_redirect != SRN_HW_YES || i <= meet || !srn__hw_is_below(m, i, meet)) return false;
    for (uint32_t k = 0; k < p->gpus.n; k++)
        if (srn__hw_is_below(m, m->gpus[p->gpus.v[k]].pci, i)) return true;
    return false;
}

static int acs_at(srn__adviser *a, const pairs *p, uint32_t meet) {
    srn_hw_advice v = {SRN_HW_ACS, {p->first[0], p->first[1]}, meet, NULL, NULL, 0, 0};
    srn_hw_machine *copy = srn__advice_copy(a);
    uint32_t n = 0;
    v.now_bytes_per_s = srn_hw_exchange_bytes_per_s(a->m, p->gpus.v, p->gpus.n, NULL);
    srn_buf_addf(&a->what, "The switch at %s could pass on what ", a->m->pci[meet].address);
    srn__advice_gpus(&a->what, &p->gpus);
    srn_buf_addz(&a->what,
                 " send each other, but ACS makes its ports send it up to the processor, where all share "
                 "one link.");
    srn_buf_addz(&a->fix, "Disable ACS redirection on these bridges, as root and after each start: ");
    for (uint32_t i = meet + 1; i < a->m->n_pci; i++)
        if (redirects(a->m, p, meet, i)) {
            srn_buf_addf(&a->fix, "%ssetpci -s %s ECAP_ACS+6.w=0000:001c", n++ ? "; " : "",
                         a->m->pci[i].address);
            copy->pci[i].acs_redirect = SRN_HW_NO;
        }
    srn_buf_addz(&a->fix,
                 ". The firmware may have a setting for it. Virtual machines that are given one of these "
                 "cards are then not kept apart from the others.");
    v.then_bytes_per_s = srn_hw_exchange_bytes_per_s(copy, p->gpus.v, p->gpus.n, NULL);
    return srn__advice_push(a, v);
}

int srn__advise_acs(srn__adviser *a) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < a->m->n_pci && !code; i++) {
        srn_hw_kind k = a->m->pci[i].kind;
        if (k != SRN_HW_SWITCH_UP && k != SRN_HW_HOST) continue;
        pairs p = redirected_at(a->m, i);
        if (p.n) code = acs_at(a, &p, i);
    }
    return code;
}

/* ---- P2P ---- */

static const srn_hw_pair *pair_of(const srn_hw_machine *m, uint32_t a, uint32_t b) {
    return &m->pairs[(size_t)a * m->n_gpus + b];
}

static bool is_denied(const srn_hw_machine *m, uint32_t a, uint32_t b) {
    const srn_hw_pair *p = pair_of(m, a, b);
    return p->read == SRN_HW_NO && p->write == SRN_HW_NO && !p->nvlinks;
}

static int denied(srn__adviser *a, const pairs *p) {
    srn_hw_advice v = {SRN_HW_NO_P2P, {p->first[0], p->first[1]}, SRN_HW_NONE, NULL, NULL, 0, 0};
    srn_hw_machine *copy = srn__advice_copy(a);
    const char *why = pair_of(a->m, p->first[0], p->first[1])->why_not;
    for (size_t i = 0; i < (size_t)copy->n_gpus * copy->n_gpus; i++)
        copy->pairs[i].read = copy->pairs[i].write = SRN_HW_YES;
    v.now_bytes_per_s = srn_hw_exchange_bytes_per_s(a->m, p->gpus.v, p->gpus.n, NULL);
    double then = srn_hw_exchange_bytes_per_s(copy, p->gpus.v, p->gpus.n, NULL);
    if (then > v.now_bytes_per_s) v.then_bytes_per_s = then;
    srn_buf_addz(&a->what, "The driver grants ");
    say_pairs(&a->what, p);
    srn_buf_addz(&a->what, " no access to each other's memory");
    if (why[0]) srn_buf_addf(&a->what, " (\"%s\")", why);
    srn_buf_addz(&a->what, ": what they exchange is copied by way of the host's memory.");
    srn_buf_addz(&a->fix,
                 "Some cards never have it; where they do, an IOMMU that translates, ACS, or a small window "
                 "into their memory is what mostly stands in the way.");
    return srn__advice_push(a, v);
}

int srn__advise_p2p(srn__adviser *a) {
    const srn_hw_machine *m = a->m;
    int code = SRN_OK;
    for (uint32_t i = 0; i < m->n_gpus; i++)
        for (uint32_t k = i + 1; k < m->n_gpus; k++) {
            bool first = is_denied(m, i, k);
            pairs p = {.n = 0};
            /* Those of one reason together, told when the first of them is met. */
            for (uint32_t x = 0; x < m->n_gpus && first; x++)
                for (uint32_t y = x + 1; y < m->n_gpus && first; y++) {
                    if (!is_denied(m, x, y) ||
                        strcmp(pair_of(m, x, y)->why_not, pair_of(m, i, k)->why_not) != 0)
                        continue;
                    first = x > i || (x == i && y >= k);
                    add_pair(&p, x, y);
                }
            if (first && !code) code = denied(a, &p);
        }
    return code;
}

/* ---- IOMMU ---- */

int srn__advise_iommu(srn__adviser *a) {
    const srn_hw_machine *m = a->m;
    pairs p = {.n = 0};
    if (m->iommu != SRN_HW_IOMMU_ON) return SRN_OK;
    for (uint32_t i = 0; i < m->n_gpus; i++)
        for (uint32_t k = i + 1; k < m->n_gpus; k++)
            if (!pair_of(m, i, k)->nvlinks) add_pair(&p, i, k);
    if (!p.n) return SRN_OK;
    srn_buf_addz(&a->what, "The IOMMU translates every address that ");
    srn__advice_gpus(&a->what, &p.gpus);
    srn_buf_addz(&a->what, " use, which P2P between them pays for or is refused by.");
    srn_buf_addz(
        &a->fix,
        "Start the kernel with iommu=pt, or switch the IOMMU off in the firmware if no virtual machine "
        "needs it.");
    return srn__advice_push(
        a, (srn_hw_advice){SRN_HW_IOMMU_TRANSLATES, {p.first[0], p.first[1]}, SRN_HW_NONE, NULL, NULL, 0, 0});
}
