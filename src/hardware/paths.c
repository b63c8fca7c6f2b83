/* Links and paths: what a PCIe link carries, how two GPUs reach each other, and what is left for each when
 * all of them send at once. Pure; any thread. What one of the facts lacks makes the result unknown, never a
 * guess.
 */
#include "hardware/hardware_internal.h"

/* ---- links ---- */

/* Payload of a packet, and what is sent beside it: a header of 4 words with the packet's frame and sequence
 * number, and acknowledgements. */
#define PACKET_BYTES   256.0
#define OVERHEAD_BYTES (24.0 + 4.0)

double srn_hw_link_bytes_per_s(uint32_t gen, uint32_t width) {
    static const struct {
        double transfers, coding;
    } gens[] = {
        {2.5e9, 8.0 / 10},   {5e9, 8.0 / 10},     {8e9, 128.0 / 130},   {16e9, 128.0 / 130},
        {32e9, 128.0 / 130}, {64e9, 242.0 / 256}, {128e9, 242.0 / 256},
    };
    if (!gen || gen > SRN_LEN(gens)) return 0;
    return width * gens[gen - 1].transfers / 8 * gens[gen - 1].coding * PACKET_BYTES /
           (PACKET_BYTES + OVERHEAD_BYTES);
}

double srn_hw_nvlink_bytes_per_s(uint32_t version) {
    static const double rates[] = {0, 20e9, 25e9, 25e9, 25e9, 50e9};
    return version < SRN_LEN(rates) ? rates[version] : 0;
}

static bool is_port(srn_hw_kind k) {
    return k == SRN_HW_ROOT_PORT || k == SRN_HW_SWITCH_DOWN || k == SRN_HW_BRIDGE;
}

bool srn_hw_has_link(const srn_hw_machine *m, uint32_t i) {
    uint32_t parent = m->pci[i].parent;
    return parent != SRN_HW_NONE && is_port(m->pci[parent].kind);
}

void srn_hw_link_most(const srn_hw_machine *m, uint32_t i, uint32_t *ret_gen, uint32_t *ret_width) {
    *ret_gen = *ret_width = 0;
    if (!srn_hw_has_link(m, i)) return;
    const srn_hw_link *low = &m->pci[i].link, *high = &m->pci[m->pci[i].parent].link;
    *ret_gen = SRN_MIN(low->max_gen, high->max_gen);
    *ret_width = SRN_MIN(low->max_width, high->max_width);
}

double srn_hw_link_now(const srn_hw_machine *m, uint32_t i) {
    const srn_hw_link *l = &m->pci[i].link;
    uint32_t gen, width;
    srn_hw_link_most(m, i, &gen, &width);
    return srn_hw_link_bytes_per_s(l->idle && gen > l->gen ? gen : l->gen, l->width);
}

/* ---- ways ---- */

typedef struct chain { /* from a device up to and with its host */
    uint32_t at[SRN__HW_MOST_DEPTH + 1], n;
} chain;

static chain chain_of(const srn_hw_machine *m, uint32_t i) {
    chain c = {.n = 0};
    for (; i != SRN_HW_NONE && c.n <= SRN__HW_MOST_DEPTH; i = m->pci[i].parent) c.at[c.n++] = i;
    return c;
}

static uint32_t meeting(const chain *a, const chain *b) {
    for (uint32_t i = 0; i < a->n; i++)
        for (uint32_t k = 0; k < b->n; k++)
            if (a->at[i] == b->at[k]) return a->at[i];
    return SRN_HW_NONE;
}

/* Adds the links of c below `end` (SRN_HW_NONE: all) to what the path knows of its narrowest. An unknown one
 * has a rate of 0, which makes the path's unknown. */
static void add_links(const srn_hw_machine *m, const chain *c, uint32_t end, srn_hw_path *p) {
    for (uint32_t i = 0; i < c->n && c->at[i] != end; i++) {
        if (!srn_hw_has_link(m, c->at[i])) continue;
        double rate = srn_hw_link_now(m, c->at[i]);
        p->hops++;
        if (p->narrowest == SRN_HW_NONE || rate < p->bytes_per_s)
            p->narrowest = c->at[i], p->bytes_per_s = rate;
    }
}

static uint32_t first_redirect(const srn_hw_machine *m, const chain *c, uint32_t end) {
    for (uint32_t i = 0; i < c->n && c->at[i] != end; i++)
        if (is_port(m->pci[c->at[i]].kind) && m->pci[c->at[i]].acs_redirect == SRN_HW_YES) return c->at[i];
    return SRN_HW_NONE;
}

static bool any_chipset(const srn_hw_machine *m, const chain *c) {
    for (uint32_t i = 0; i < c->n; i++)
        if (m->pci[c->at[i]].chipset == SRN_HW_YES) return true;
    return false;
}

/* Between two hosts. */
static srn_hw_route beyond_hosts(const srn_hw_machine *m, uint32_t a, uint32_t b) {
    uint32_t x = m->pci[a].node, y = m->pci[b].node;
    if (x != SRN_HW_NONE && y != SRN_HW_NONE)
        return m->nodes[x].socket == m->nodes[y].socket ? SRN_HW_VIA_SOCKET : SRN_HW_VIA_SOCKETS;
    return m->cpu.sockets == 1 ? SRN_HW_VIA_SOCKET : SRN_HW_VIA_UNKNOWN;
}

static srn_hw_route route_of(const srn_hw_machine *m, const chain *a, const chain *b, uint32_t meet) {
    if (meet == SRN_HW_NONE) return beyond_hosts(m, a->at[a->n - 1], b->at[b->n - 1]);
    switch (m->pci[meet].kind) {
    case SRN_HW_HOST:
        return any_chipset(m, a) && any_chipset(m, b) ? SRN_HW_VIA_CHIPSET : SRN_HW_VIA_ROOT;
    case SRN_HW_ROOT_PORT:
        return SRN_HW_VIA_ROOT;
    case SRN_HW_SWITCH_UP:
    case SRN_HW_SWITCH_DOWN:
        return m->pci[meet].chipset == SRN_HW_YES ? SRN_HW_VIA_CHIPSET : SRN_HW_VIA_SWITCH;
    case SRN_HW_BRIDGE:
    case SRN_HW_DEVICE:
        break;
    }
    return SRN_HW_VIA_UNKNOWN;
}

static const srn_hw_pair *pair_at(const srn_hw_machine *m, uint32_t a, uint32_t b) {
    return &m->pairs[(size_t)a * m->n_gpus + b];
}

static srn_hw_path unknown_path(void) {
    return (srn_hw_path){.route = SRN_HW_VIA_UNKNOWN,
                         .meet = SRN_HW_NONE,
                         .narrowest = SRN_HW_NONE,
                         .acs = SRN_HW_NONE,
                         .through_cpu = false};
}

srn_hw_path srn_hw_path_of(const srn_hw_machine *m, uint32_t a, uint32_t b) {
    srn_hw_path p = unknown_path();
    const srn_hw_pair *pair = pair_at(m, a, b);
    if (pair->nvlinks) {
        p.route = SRN_HW_VIA_NVLINK;
        p.bytes_per_s = pair->nvlinks * srn_hw_nvlink_bytes_per_s(m->gpus[a].nvlink_version);
        return p;
    }
    if (a == b || m->is_virtual || m->gpus[a].pci == SRN_HW_NONE || m->gpus[b].pci == SRN_HW_NONE) return p;
    chain x = chain_of(m, m->gpus[a].pci), y = chain_of(m, m->gpus[b].pci);
    p.meet = meeting(&x, &y);
    p.route = route_of(m, &x, &y, p.meet);
    p.acs = first_redirect(m, &x, p.meet);
    if (p.acs == SRN_HW_NONE) p.acs = first_redirect(m, &y, p.meet);
    p.staged = pair->read == SRN_HW_NO && pair->write == SRN_HW_NO;
    bool in_switch = p.route == SRN_HW_VIA_SWITCH || p.route == SRN_HW_VIA_CHIPSET;
    p.through_cpu = !in_switch || p.acs != SRN_HW_NONE || p.staged;
    add_links(m, &x, p.through_cpu ? SRN_HW_NONE : p.meet, &p);
    add_links(m, &y, p.through_cpu ? SRN_HW_NONE : p.meet, &p);
    return p;
}

srn_hw_path srn_hw_path_to_host(const srn_hw_machine *m, uint32_t gpu) {
    srn_hw_path p = unknown_path();
    if (m->gpus[gpu].pci == SRN_HW_NONE) return p;
    chain x = chain_of(m, m->gpus[gpu].pci);
    p.meet = x.at[x.n - 1];
    p.route = any_chipset(m, &x) ? SRN_HW_VIA_CHIPSET : SRN_HW_VIA_ROOT;
    p.through_cpu = true;
    add_links(m, &x, SRN_HW_NONE, &p);
    return p;
}

const char *srn_hw_route_name(srn_hw_route r) {
    static const char *const names[] = {"nvlink", "switch",  "chipset", "root",
                                        "socket", "sockets", "unknown"};
    return (size_t)r < SRN_LEN(names) ? names[r] : "?";
}

/* ---- all at once ---- */

typedef struct flows { /* that cross the link above pci[i] */
    uint16_t up[SRN_HW_MOST_PCI], down[SRN_HW_MOST_PCI];
} flows;

static void add_flow(const chain *c, uint32_t end, uint16_t *at) {
    for (uint32_t i = 0; i < c->n && c->at[i] != end; i++) at[c->at[i]]++;
}

/* Most NVLinks that a GPU of that version has: more towards the others together go through one switch. */
static uint32_t nvlinks_of(uint32_t version) {
    static const uint32_t links[] = {0, 4, 6, 12, 18, 18};
    return version < SRN_LEN(links) ? links[version] : links[SRN_LEN(links) - 1];
}

/* Bytes per second that GPU a sends to each of the others by NVLink; 0: unknown. */
static double nvlink_share(const srn_hw_machine *m, const uint32_t *gpus, uint32_t n, uint32_t a,
                           uint32_t b) {
    uint32_t version = m->gpus[a].nvlink_version, total = 0, peers = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t links = gpus[i] == a ? 0 : pair_at(m, a, gpus[i])->nvlinks;
        total += links;
        peers += links > 0;
    }
    double rate = pair_at(m, a, b)->nvlinks * srn_hw_nvlink_bytes_per_s(version);
    return total > nvlinks_of(version) && peers ? rate / peers : rate;
}

/* The slowest link's share for each flow, and which that is; 0: one is unknown. */
static double slowest_share(const srn_hw_machine *m, const flows *f, double so_far, uint32_t *busiest) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        uint16_t most = SRN_MAX(f->up[i], f->down[i]);
        if (!most || !srn_hw_has_link(m, i)) continue;
        double share = srn_hw_link_now(m, i) / most;
        if (share <= 0) return 0;
        if (so_far < 0 || share < so_far) so_far = share, *busiest = i;
    }
    return so_far;
}

double srn_hw_exchange_bytes_per_s(const srn_hw_machine *m, const uint32_t *gpus, uint32_t n,
                                   uint32_t *ret_busiest) {
    flows f = {.up = {0}};
    double slowest = -1;
    uint32_t busiest = SRN_HW_NONE;
    if (n < 2) return 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++) {
            if (i == k) continue;
            srn_hw_path p = srn_hw_path_of(m, gpus[i], gpus[k]);
            if (p.route == SRN_HW_VIA_UNKNOWN || p.bytes_per_s <= 0) return 0;
            if (p.route == SRN_HW_VIA_NVLINK) {
                double share = nvlink_share(m, gpus, n, gpus[i], gpus[k]);
                if (slowest < 0 || share < slowest) slowest = share;
                continue;
            }
            chain x = chain_of(m, m->gpus[gpus[i]].pci), y = chain_of(m, m->gpus[gpus[k]].pci);
            uint32_t end = p.through_cpu ? SRN_HW_NONE : p.meet;
            add_flow(&x, end, f.up);
            add_flow(&y, end, f.down);
        }
    slowest = slowest_share(m, &f, slowest, &busiest);
    if (ret_busiest) *ret_busiest = busiest;
    return slowest > 0 ? slowest * (n - 1) : 0;
}
