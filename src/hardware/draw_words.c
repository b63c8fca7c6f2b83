/* The words of the drawings: what a device, a link, a pair and an advice are called on a terminal and in an
 * SVG alike. Pure; any thread.
 */
#include "hardware/draw_internal.h"

#define CLASS_NVME 0x0108u

/* ---- what is drawn ---- */

static bool is_worth_it(const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    bool port = p->kind == SRN_HW_ROOT_PORT || p->kind == SRN_HW_SWITCH_DOWN;
    if (srn__hw_gpu_at(m, i) != SRN_HW_NONE) return true;
    if (p->kind == SRN_HW_DEVICE) return p->class_code >> 8 == CLASS_NVME || p->class_code >> 16 == 0x02;
    return port && p->slot[0] && p->link.max_width && !srn__hw_has_children(m, i);
}

void srn__draw_choose(const srn_hw_machine *m, bool all, bool *shown) {
    for (uint32_t i = 0; i < m->n_pci; i++) shown[i] = all;
    for (uint32_t i = m->n_pci; i-- > 0;) {
        if (!shown[i]) shown[i] = is_worth_it(m, i);
        if (shown[i] && m->pci[i].parent != SRN_HW_NONE) shown[m->pci[i].parent] = true;
    }
}

/* ---- devices ---- */

void srn__draw_bytes(srn_buf *b, uint64_t bytes) {
    double mib = (double)bytes / (1 << 20);
    if (bytes == SRN_HW_UNKNOWN)
        srn_buf_addz(b, "unknown size");
    else if (mib < 1)
        srn_buf_addf(b, "%.0f KiB", mib * 1024);
    else if (mib < 1000)
        srn_buf_addf(b, "%.0f MiB", mib);
    else
        srn_buf_addf(b, "%.*f GiB", mib / 1024 < 10 && bytes & 0x3fffffff ? 1 : 0, mib / 1024);
}

void srn__draw_kind(srn_buf *b, const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    static const char *const names[] = {"host", "root port", "switch", "switch port", "bridge", "device"};
    uint32_t gpu = srn__hw_gpu_at(m, i);
    if (gpu != SRN_HW_NONE)
        srn_buf_addf(b, "GPU %u", gpu);
    else if (p->chipset == SRN_HW_YES && (p->kind == SRN_HW_SWITCH_UP || p->kind == SRN_HW_SWITCH_DOWN))
        srn_buf_addz(b, p->kind == SRN_HW_SWITCH_UP ? "chipset" : "chipset port");
    else if (p->class_code >> 8 == CLASS_NVME)
        srn_buf_addz(b, "disk");
    else if (p->class_code >> 16 == 0x02)
        srn_buf_addz(b, "network");
    else
        srn_buf_addz(b, names[p->kind]);
}

void srn__draw_name(srn_buf *b, const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    uint32_t gpu = srn__hw_gpu_at(m, i);
    if (gpu != SRN_HW_NONE) {
        srn_buf_addf(b, "%s, ", m->gpus[gpu].name[0] ? m->gpus[gpu].name : p->name);
        srn__draw_bytes(b, m->gpus[gpu].bytes);
    } else if (p->kind == SRN_HW_HOST) {
        if (p->node != SRN_HW_NONE)
            srn_buf_addf(b, "node %u, socket %u", m->nodes[p->node].os_index, m->nodes[p->node].socket);
    } else if (p->kind != SRN_HW_ROOT_PORT && p->kind != SRN_HW_SWITCH_DOWN) {
        srn_buf_addz(b, p->name);
    }
    if (p->slot[0]) srn_buf_addf(b, "%s%s", b->len && b->data[b->len - 1] != ' ' ? " " : "", p->slot);
}

/* ---- links ---- */

/* "gen3 x16", with what is unknown as "?" */
static void add_link(srn_buf *b, uint32_t gen, uint32_t width) {
    srn_buf_addz(b, "gen");
    gen ? srn_buf_addf(b, "%u x", gen) : srn_buf_addz(b, "? x");
    width ? srn_buf_addf(b, "%u", width) : srn_buf_addz(b, "?");
}

void srn__draw_link(srn_buf *b, const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    const srn_hw_link *l = &p->link;
    bool port = p->kind == SRN_HW_ROOT_PORT || p->kind == SRN_HW_SWITCH_DOWN;
    if (!srn_hw_has_link(m, i)) {
        if (!port || !l->max_width || srn__hw_has_children(m, i)) return;
        srn_buf_addz(b, "free, up to ");
        add_link(b, l->max_gen, l->max_width);
        return;
    }
    uint32_t gen, width, could_gen, could_width;
    srn_hw_link_most(m, i, &gen, &width);
    if (!l->gen && !l->width) {
        srn_buf_addz(b, "link unknown");
        return;
    }
    const srn_hw_link *above = &m->pci[p->parent].link;
    could_gen = SRN_MAX(gen, SRN_MAX(l->max_gen, above->max_gen));
    could_width = SRN_MAX(width, SRN_MAX(l->max_width, above->max_width));
    add_link(b, l->gen, l->width);
    if (l->idle) srn_buf_addz(b, " at rest");
    bool slower = (gen && l->gen && l->gen < gen) || (width && l->width && l->width < width);
    if (slower) {
        srn_buf_addz(b, ", could be ");
        add_link(b, gen, width);
    } else if (l->max_width > l->width && l->width && could_width > l->width) {
        srn_buf_addf(b, " (the card: x%u)", l->max_width);
    } else if (l->max_gen > l->gen && l->gen && could_gen > l->gen) {
        srn_buf_addf(b, " (the card: gen%u)", l->max_gen);
    }
}

bool srn__draw_marks(srn_buf *b, const srn_hw_machine *m, const srn_hw_advices *a, uint32_t i) {
    bool any = false;
    for (uint32_t k = 0; k < a->n; k++) {
        const srn_hw_advice *v = &a->v[k];
        bool redirects = v->problem == SRN_HW_ACS && m->pci[i].acs_redirect == SRN_HW_YES &&
                         v->pci != SRN_HW_NONE && i > v->pci && srn__hw_is_below(m, i, v->pci);
        /* Moves are marked at the card, not where it would go. */
        bool here = v->pci == i && v->problem != SRN_HW_ACS && v->problem != SRN_HW_CROSSES_SOCKETS &&
                    v->problem != SRN_HW_CROSSES_CPU;
        if (!here && !redirects) continue;
        srn_buf_addf(b, "%s!%u", any ? " " : "", k + 1);
        any = true;
    }
    return any;
}

/* ---- pairs ---- */

bool srn__draw_is_crossing(const srn_hw_path *p) {
    return p->through_cpu && p->route != SRN_HW_VIA_UNKNOWN;
}

bool srn__draw_pair(srn_buf *b, const srn_hw_machine *m, uint32_t x, uint32_t y) {
    if (x == y) return srn_buf_addz(b, "-"), false;
    srn_hw_path p = srn_hw_path_of(m, x, y);
    if (p.bytes_per_s > 0)
        srn_buf_addf(b, "%.*f ", p.bytes_per_s < 99.95e9 ? 1 : 0, p.bytes_per_s / 1e9);
    else
        srn_buf_addz(b, "? ");
    srn_buf_addf(b, "%s%s",
                 p.acs != SRN_HW_NONE && p.route == SRN_HW_VIA_SWITCH ? "acs" : srn_hw_route_name(p.route),
                 p.staged ? "*" : "");
    return srn__draw_is_crossing(&p);
}

bool srn__draw_exchange(srn_buf *b, const srn_hw_machine *m) {
    uint32_t all[SRN_HW_MOST_GPUS], busiest = SRN_HW_NONE;
    for (uint32_t i = 0; i < m->n_gpus; i++) all[i] = i;
    double each = srn_hw_exchange_bytes_per_s(m, all, m->n_gpus, &busiest);
    if (each <= 0) return false;
    srn_buf_addf(b, "all to all at once: %.1f GB/s from each GPU", each / 1e9);
    if (busiest != SRN_HW_NONE) srn_buf_addf(b, "; the link above %s decides", m->pci[busiest].address);
    return true;
}

/* ---- the machine ---- */

static void add_count(srn_buf *b, uint32_t n, const char *one) {
    if (n) srn_buf_addf(b, ", %u %s%s", n, one, n == 1 ? "" : "s");
}

static void add_cache(srn_buf *b, const char *level, uint32_t n, uint64_t bytes) {
    if (!bytes) return;
    srn_buf_addf(b, ", %s ", level);
    if (n > 1) srn_buf_addf(b, "%u x ", n);
    srn__draw_bytes(b, bytes);
}

void srn__draw_processor(srn_buf *b, const srn_hw_machine *m) {
    const srn_hw_cpu *c = &m->cpu;
    srn_buf_addz(b, c->name[0] ? c->name : "processor unknown");
    add_count(b, c->sockets, "socket");
    add_count(b, c->cores, "core");
    add_count(b, c->threads, "thread");
    if (c->isa[0]) srn_buf_addf(b, ", %s", c->isa);
    add_cache(b, "L2", c->n_l2, c->l2_bytes);
    add_cache(b, "L3", c->n_l3, c->l3_bytes);
}

void srn__draw_node(srn_buf *b, const srn_hw_node *n) {
    srn_buf_addf(b, "node %u: ", n->os_index);
    srn__draw_bytes(b, n->bytes);
    if (n->memory[0]) srn_buf_addf(b, " %s", n->memory);
    if (n->mts) srn_buf_addf(b, "%s%u", n->memory[0] ? "-" : " at ", n->mts);
    if (n->channels) {
        srn_buf_addf(b, ", %u", n->channels);
        if (n->channels_most) srn_buf_addf(b, " of %u", n->channels_most);
        srn_buf_addz(b, n->channels == 1 && n->channels_most <= 1 ? " channel" : " channels");
        if (n->mts) srn_buf_addf(b, " (%.1f GB/s at most)", n->channels * 8e-3 * n->mts);
    } else {
        srn_buf_addz(b, ", channels unknown");
    }
    if (n->cpus[0]) srn_buf_addf(b, ", cpus %s", n->cpus);
}

void srn__draw_state(srn_buf *b, const srn_hw_machine *m) {
    static const char *const names[] = {"IOMMU off", "IOMMU passes addresses on", "IOMMU translates",
                                        "IOMMU unknown"};
    srn_buf_addz(b, names[m->iommu]);
    if (m->is_virtual)
        srn_buf_addz(b, "; a virtual machine: this tree is its hypervisor's, and says nothing of real ways");
}

bool srn__draw_gain(srn_buf *b, const srn_hw_advice *v) {
    double now = v->now_bytes_per_s, then = v->then_bytes_per_s;
    if (now <= 0) return false;
    srn_buf_addf(b, "%.1f GB/s now", now / 1e9);
    if (then > 0) srn_buf_addf(b, ", %.1f GB/s then: %.1f times", then / 1e9, then / now);
    if (v->problem == SRN_HW_CROSSES_CPU || v->problem == SRN_HW_CROSSES_SOCKETS ||
        v->problem == SRN_HW_ACS || v->problem == SRN_HW_NO_P2P)
        srn_buf_addz(b, ", from each GPU when all send to all at once");
    else if (v->problem == SRN_HW_SHARED_UPLINK)
        srn_buf_addz(b, ", to each when all load at once");
    else if (v->gpus[0] != SRN_HW_NONE)
        srn_buf_addz(b, ", to the processor and back");
    return true;
}

/* ---- text ---- */

size_t srn__draw_width(const char *text, size_t n) {
    size_t width = 0;
    for (size_t i = 0; i < n; i++) width += ((uint8_t)text[i] & 0xC0) != 0x80;
    return width;
}

size_t srn__draw_wrap(const char *text, size_t columns, size_t *ret_skip) {
    size_t n = 0, width = 0, space = 0;
    for (; text[n] && width <= columns; n++) {
        if (((uint8_t)text[n] & 0xC0) == 0x80) continue;
        if (text[n] == ' ' && width <= columns) space = n;
        width++;
    }
    if (!text[n] && width <= columns) return *ret_skip = 0, n;
    if (space) return *ret_skip = 1, space;
    /* A word longer than the line is broken between characters. */
    while (n > 1 && (width > columns || ((uint8_t)text[n] & 0xC0) == 0x80)) {
        n--;
        if (((uint8_t)text[n] & 0xC0) != 0x80) width--;
    }
    *ret_skip = 0;
    return n;
}
