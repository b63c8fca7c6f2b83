/* The rules about links, slots, windows and memory channels. Pure; any thread. Links count where a GPU is
 * below them, or a disk, which loads weights.
 */
#include "hardware/advice_internal.h"

#define CLASS_NVME 0x0108u

uint32_t srn__advice_card(const srn_hw_machine *m, uint32_t gpu) {
    uint32_t i = m->gpus[gpu].pci, vendor = m->pci[i].vendor;
    for (;;) {
        uint32_t down = m->pci[i].parent, up = down == SRN_HW_NONE ? down : m->pci[down].parent;
        if (up == SRN_HW_NONE || m->pci[down].kind != SRN_HW_SWITCH_DOWN ||
            m->pci[up].kind != SRN_HW_SWITCH_UP || m->pci[down].vendor != vendor ||
            m->pci[up].vendor != vendor)
            return i;
        i = up;
    }
}

void srn__advice_move(srn_hw_machine *copy, uint32_t card, uint32_t port) {
    srn_hw_link *l = &copy->pci[card].link;
    copy->pci[card].parent = port;
    copy->pci[card].chipset = copy->pci[port].chipset;
    srn_hw_link_most(copy, card, &l->gen, &l->width);
    l->idle = false;
}

/* ---- better slots ---- */

/* The one device below a port; SRN_HW_NONE where there is none. */
static uint32_t child_of(const srn_hw_machine *m, uint32_t port) {
    for (uint32_t i = port + 1; i < m->n_pci; i++)
        if (m->pci[i].parent == port) return i;
    return SRN_HW_NONE;
}

static bool any_gpu_below(const srn_hw_machine *m, uint32_t i) {
    for (uint32_t g = 0; g < m->n_gpus; g++)
        if (m->gpus[g].pci != SRN_HW_NONE && srn__hw_is_below(m, m->gpus[g].pci, i)) return true;
    return false;
}

/* Whether that port has a slot that a card can be put in, or one whose card could change places. A device of
 * a port without a slot's name is taken to be soldered. */
static bool takes_cards(const srn_hw_machine *m, uint32_t port, bool *ret_swap) {
    srn_hw_kind k = m->pci[port].kind;
    uint32_t child = child_of(m, port);
    if ((k != SRN_HW_ROOT_PORT && k != SRN_HW_SWITCH_DOWN) || !m->pci[port].link.max_width) return false;
    *ret_swap = child != SRN_HW_NONE;
    if (child == SRN_HW_NONE) return true;
    return m->pci[port].slot[0] && m->pci[child].kind == SRN_HW_DEVICE && !any_gpu_below(m, port);
}

/* The port from which the GPU would have the most bytes per second to its processor, of the processor's own
 * alone if asked; free, or with a card that is no GPU and could change places (*ret_swap). SRN_HW_NONE: none
 * is better. */
static uint32_t better_slot(srn__adviser *a, uint32_t gpu, bool of_processor, bool *ret_swap) {
    const srn_hw_machine *m = a->m;
    srn_hw_machine *copy = srn__advice_copy(a);
    uint32_t card = srn__advice_card(m, gpu), best = SRN_HW_NONE, own = m->pci[card].parent;
    double most = srn_hw_path_to_host(m, gpu).bytes_per_s;
    if (most <= 0) return best;
    for (uint32_t i = 0; i < m->n_pci; i++) {
        bool swap = false;
        if (i == own || !takes_cards(m, i, &swap) || (of_processor && m->pci[i].chipset != SRN_HW_NO))
            continue;
        if (srn__hw_is_below(m, i, card)) continue;
        srn__advice_move(copy, card, i);
        double rate = srn_hw_path_to_host(copy, gpu).bytes_per_s;
        copy->pci[card] = m->pci[card];
        /* A free slot is worth more than the same one with another card to move. */
        if (rate > most || (rate == most && best != SRN_HW_NONE && *ret_swap && !swap))
            best = i, most = rate, *ret_swap = swap;
    }
    return best;
}

static void say_link(srn_buf *b, uint32_t gen, uint32_t width) {
    srn_buf_addf(b, "gen%u x%u", gen, width);
}

/* "move this card" with what it brings; the rate on the way to the processor afterwards, 0 where no slot is
 * better. */
static double say_better_slot(srn__adviser *a, uint32_t gpu, bool of_processor) {
    const srn_hw_machine *m = a->m;
    bool swap = false;
    uint32_t card = srn__advice_card(m, gpu), port = better_slot(a, gpu, of_processor, &swap);
    if (port == SRN_HW_NONE) {
        srn_buf_addz(&a->fix, of_processor
                                  ? "No better slot of the processor is known to be free here; change places "
                                    "with a card that needs less, or take a board with more lanes."
                                  : "No better slot is known to be free here; take a board that has one.");
        return 0;
    }
    srn_hw_machine *copy = srn__advice_copy(a);
    if (swap)
        srn_buf_addf(&a->fix, "Let GPU %u change places with the card in ", gpu);
    else
        srn_buf_addf(&a->fix, "Move GPU %u to ", gpu);
    srn__advice_place(&a->fix, m, port);
    srn__advice_move(copy, card, port);
    srn_buf_addz(&a->fix, swap ? ", of " : ", which is free: ");
    say_link(&a->fix, copy->pci[card].link.gen, copy->pci[card].link.width);
    srn_buf_addz(&a->fix, ". The board's manual says whether other slots lose lanes by that.");
    return srn_hw_path_to_host(copy, gpu).bytes_per_s;
}

/* ---- links ---- */

static bool matters(const srn_hw_machine *m, uint32_t i) {
    return any_gpu_below(m, i) || m->pci[i].class_code >> 8 == CLASS_NVME;
}

static uint32_t first_gpu_below(const srn_hw_machine *m, uint32_t i) {
    for (uint32_t g = 0; g < m->n_gpus; g++)
        if (m->gpus[g].pci != SRN_HW_NONE && srn__hw_is_below(m, m->gpus[g].pci, i)) return g;
    return SRN_HW_NONE;
}

static void say_device(srn_buf *b, const srn_hw_machine *m, uint32_t i) {
    uint32_t gpu = srn__hw_gpu_at(m, i);
    if (gpu != SRN_HW_NONE)
        srn_buf_addf(b, "GPU %u (%s)", gpu, m->pci[i].address);
    else
        srn_buf_addf(b, "%s%s%s", m->pci[i].name, m->pci[i].name[0] ? " at " : "", m->pci[i].address);
}

static int down_trained(srn__adviser *a, uint32_t i, uint32_t gen, uint32_t width) {
    const srn_hw_link *l = &a->m->pci[i].link;
    uint32_t gpu = first_gpu_below(a->m, i);
    srn_hw_machine *copy = srn__advice_copy(a);
    copy->pci[i].link.gen = gen = SRN_MAX(gen, l->gen);
    copy->pci[i].link.width = width = SRN_MAX(width, l->width);
    srn_hw_advice v = {SRN_HW_DOWN_TRAINED, {gpu, SRN_HW_NONE}, i, NULL, NULL, 0, 0};
    bool way = gpu != SRN_HW_NONE;
    v.now_bytes_per_s = way ? srn_hw_path_to_host(a->m, gpu).bytes_per_s : srn_hw_link_now(a->m, i);
    v.then_bytes_per_s = way ? srn_hw_path_to_host(copy, gpu).bytes_per_s : srn_hw_link_now(copy, i);
    srn_buf_addz(&a->what, "The link of ");
    say_device(&a->what, a->m, i);
    srn_buf_addz(&a->what, " runs at ");
    say_link(&a->what, l->idle ? gen : l->gen, l->width);
    srn_buf_addz(&a->what, "; both its ends can do ");
    say_link(&a->what, gen, width);
    srn_buf_addz(&a->what, ".");
    srn_buf_addz(
        &a->fix,
        "With the power off, seat the card and any riser anew and look at the contacts; then look in "
        "the firmware for the slot's speed, and in the board's manual for slots that share lanes "
        "with it.");
    return srn__advice_push(a, v);
}

int srn__advise_training(srn__adviser *a) {
    int code = SRN_OK;
    if (a->m->is_virtual) return SRN_OK; /* a hypervisor makes up what a port can do */
    for (uint32_t i = 0; i < a->m->n_pci && !code; i++) {
        const srn_hw_link *l = &a->m->pci[i].link;
        uint32_t gen, width;
        srn_hw_link_most(a->m, i, &gen, &width);
        if (!gen || !width || !l->gen || !l->width || !matters(a->m, i)) continue;
        if (l->width < width || (l->gen < gen && !l->idle)) code = down_trained(a, i, gen, width);
    }
    return code;
}

static int poor_slot(srn__adviser *a, uint32_t gpu, srn_hw_problem problem) {
    const srn_hw_machine *m = a->m;
    uint32_t card = srn__advice_card(m, gpu), port = m->pci[card].parent;
    const srn_hw_link *low = &m->pci[card].link, *high = &m->pci[port].link;
    srn_hw_advice v = {problem, {gpu, SRN_HW_NONE}, port, NULL, NULL, 0, 0};
    v.now_bytes_per_s = srn_hw_path_to_host(m, gpu).bytes_per_s;
    if (problem == SRN_HW_NARROW_SLOT) {
        srn_buf_addf(&a->what, "This slot is x%u, and GPU %u could use x%u: ", high->max_width, gpu,
                     low->max_width);
    } else {
        srn_buf_addf(&a->what, "This slot is gen%u, and GPU %u could use gen%u: ", high->max_gen, gpu,
                     low->max_gen);
    }
    srn__advice_place(&a->what, m, port);
    srn_buf_addz(&a->what, ".");
    v.then_bytes_per_s = say_better_slot(a, gpu, false);
    return srn__advice_push(a, v);
}

int srn__advise_slots(srn__adviser *a) {
    int code = SRN_OK;
    if (a->m->is_virtual) return SRN_OK; /* a hypervisor makes up what a port can do */
    for (uint32_t g = 0; g < a->m->n_gpus && !code; g++) {
        if (a->m->gpus[g].pci == SRN_HW_NONE) continue;
        uint32_t card = srn__advice_card(a->m, g);
        if (!srn_hw_has_link(a->m, card)) continue;
        const srn_hw_link *low = &a->m->pci[card].link, *high = &a->m->pci[a->m->pci[card].parent].link;
        if (high->max_width && high->max_width < low->max_width) code = poor_slot(a, g, SRN_HW_NARROW_SLOT);
        if (!code && high->max_gen && high->max_gen < low->max_gen) code = poor_slot(a, g, SRN_HW_OLD_SLOT);
    }
    return code;
}

int srn__advise_chipset(srn__adviser *a) {
    int code = SRN_OK;
    if (a->m->is_virtual) return SRN_OK; /* a hypervisor makes up what a port can do */
    for (uint32_t g = 0; g < a->m->n_gpus && !code; g++) {
        uint32_t i = a->m->gpus[g].pci;
        bool chipset = false;
        for (; i != SRN_HW_NONE && !chipset; i = a->m->pci[i].parent)
            chipset = a->m->pci[i].chipset == SRN_HW_YES;
        if (!chipset) continue;
        srn_hw_advice v = {SRN_HW_ON_CHIPSET, {g, SRN_HW_NONE}, a->m->gpus[g].pci, NULL, NULL, 0, 0};
        v.now_bytes_per_s = srn_hw_path_to_host(a->m, g).bytes_per_s;
        srn_buf_addf(&a->what,
                     "GPU %u hangs on the chipset, whose link to the processor disks, network and USB share.",
                     g);
        v.then_bytes_per_s = say_better_slot(a, g, true);
        code = srn__advice_push(a, v);
    }
    return code;
}

/* ---- uplinks ---- */

static int shared_uplink(srn__adviser *a, uint32_t up) {
    srn__gpu_set s = {.n = 0};
    double below = 0, above = srn_hw_link_now(a->m, up), each = 0;
    for (uint32_t g = 0; g < a->m->n_gpus; g++) {
        uint32_t at = a->m->gpus[g].pci;
        if (at == SRN_HW_NONE || !srn__hw_is_below(a->m, at, up)) continue;
        double rate = srn_hw_link_now(a->m, srn__advice_card(a->m, g));
        if (srn__advice_card(a->m, g) == up || rate <= 0) return SRN_OK;
        srn__gpu_set_add(&s, g);
        below += rate;
        each = SRN_MAX(each, rate);
    }
    if (s.n < 2 || above <= 0 || above >= below) return SRN_OK;
    srn_hw_advice v = {SRN_HW_SHARED_UPLINK, {s.v[0], s.v[1]}, up, NULL, NULL, above / s.n, 0};
    srn__advice_gpus(&a->what, &s);
    srn_buf_addf(&a->what, " share the uplink of the switch at %s, ", a->m->pci[up].address);
    srn__advice_rate(&a->what, above);
    srn_buf_addz(&a->what, " of the ");
    srn__advice_rate(&a->what, below);
    srn_buf_addz(&a->what, " that they have below it.");
    srn_buf_addz(
        &a->fix,
        "This lies in the board: it costs time when all load weights at once or are staged through the "
        "host, not when they exchange below the switch. Keep what they exchange there.");
    return srn__advice_push(a, v);
}

int srn__advise_uplinks(srn__adviser *a) {
    int code = SRN_OK;
    if (a->m->is_virtual) return SRN_OK; /* a hypervisor makes up what a port can do */
    for (uint32_t i = 0; i < a->m->n_pci && !code; i++)
        if (a->m->pci[i].kind == SRN_HW_SWITCH_UP && srn_hw_has_link(a->m, i)) code = shared_uplink(a, i);
    return code;
}

/* ---- windows and channels ---- */

/* What others can reach of a GPU's memory. */
static uint64_t window_of(const srn_hw_machine *m, uint32_t g) {
    if (m->gpus[g].bar1_bytes != SRN_HW_UNKNOWN || m->gpus[g].pci == SRN_HW_NONE)
        return m->gpus[g].bar1_bytes;
    return m->pci[m->gpus[g].pci].bar_bytes;
}

int srn__advise_windows(srn__adviser *a) {
    srn__gpu_set s = {.n = 0};
    uint64_t least = SRN_HW_UNKNOWN;
    for (uint32_t g = 0; g < a->m->n_gpus; g++) {
        uint64_t window = window_of(a->m, g), bytes = a->m->gpus[g].bytes;
        if (window == SRN_HW_UNKNOWN || bytes == SRN_HW_UNKNOWN || window >= bytes - bytes / 16) continue;
        srn__gpu_set_add(&s, g);
        least = SRN_MIN(least, window);
    }
    if (!s.n) return SRN_OK;
    srn_buf_addz(&a->what, "Others reach only ");
    srn_buf_addf(&a->what, "%.0f MiB of the memory of ", (double)least / (1 << 20));
    srn__advice_gpus(&a->what, &s);
    srn_buf_addz(&a->what, ".");
    srn_buf_addz(
        &a->fix,
        "Enable \"Above 4G decoding\" and \"Resizable BAR\" in the firmware, where board and card have "
        "them.");
    return srn__advice_push(
        a,
        (srn_hw_advice){SRN_HW_SMALL_BAR, {s.v[0], SRN_HW_NONE}, a->m->gpus[s.v[0]].pci, NULL, NULL, 0, 0});
}

int srn__advise_channels(srn__adviser *a) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < a->m->n_nodes && !code; i++) {
        const srn_hw_node *n = &a->m->nodes[i];
        if (!n->channels || n->channels >= n->channels_most) continue;
        double each = 8e6 * n->mts; /* a channel is 64 bits wide */
        srn_hw_advice v = {SRN_HW_FEW_CHANNELS, {SRN_HW_NONE, SRN_HW_NONE}, SRN_HW_NONE, NULL, NULL, 0, 0};
        v.now_bytes_per_s = n->channels * each;
        v.then_bytes_per_s = n->channels_most * each;
        srn_buf_addf(&a->what, "Memory of node %u fills %u of %u channels.", n->os_index, n->channels,
                     n->channels_most);
        srn_buf_addf(&a->fix, "Put a module of the same kind into each of the %u empty channels.",
                     n->channels_most - n->channels);
        code = srn__advice_push(a, v);
    }
    return code;
}
