/* What hwloc knows: processor, caches and NUMA nodes of this machine, and whole machines out of exports as
 * its lstopo writes them (XML, version 2). Any thread. What an export does not have is unknown, with that
 * reason: the lanes and generation of links (it keeps their product), ACS, the IOMMU, windows, P2P.
 */
#include "hardware/hardware_internal.h"

#include <hwloc.h>
#include <stdlib.h>

static bool take_text(srn_hw_machine *m, const char *from, const char **to) {
    const char *t = from ? srn__hw_text(m, srn_str_of(from)) : *to;
    if (t) *to = t;
    return t != NULL;
}

static uint32_t count_of(hwloc_topology_t t, hwloc_obj_type_t type) {
    int n = hwloc_get_nbobjs_by_type(t, type);
    return n > 0 ? (uint32_t)n : 0;
}

static uint64_t cache_bytes(hwloc_topology_t t, hwloc_obj_type_t type) {
    hwloc_obj_t o = hwloc_get_obj_by_type(t, type, 0);
    return o && o->attr ? SRN_MIN(o->attr->cache.size, (uint64_t)INT64_MAX) : 0;
}

/* Index of the package that a node lies in; 0 where it spans none or all. */
static uint32_t socket_of(hwloc_topology_t t, hwloc_obj_t node) {
    for (hwloc_obj_t o = node->parent; o; o = o->parent)
        if (o->type == HWLOC_OBJ_PACKAGE) return o->logical_index;
    hwloc_obj_t package = NULL;
    while ((package = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PACKAGE, package)))
        if (node->cpuset && package->cpuset && hwloc_bitmap_isincluded(node->cpuset, package->cpuset) &&
            !hwloc_bitmap_iszero(node->cpuset))
            return package->logical_index;
    return 0;
}

static bool take_nodes(srn_hw_machine *m, hwloc_topology_t t) {
    uint32_t n = SRN_MIN(count_of(t, HWLOC_OBJ_NUMANODE), (uint32_t)SRN_HW_MOST_NODES);
    m->nodes = srn__hw_items(m, n, sizeof *m->nodes);
    if (!m->nodes) return false;
    for (uint32_t i = 0; i < n; i++) {
        hwloc_obj_t o = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, i);
        char cpus[SRN__HW_MOST_TEXT] = "";
        srn__hw_node_clear(&m->nodes[i]);
        m->nodes[i].os_index = o->os_index < 1u << 20 ? o->os_index : i;
        m->nodes[i].socket = SRN_MIN(socket_of(t, o), 1u << 20);
        if (o->attr && o->attr->numanode.local_memory && o->attr->numanode.local_memory <= INT64_MAX)
            m->nodes[i].bytes = o->attr->numanode.local_memory;
        if (o->cpuset) hwloc_bitmap_list_snprintf(cpus, sizeof cpus, o->cpuset);
        if (!take_text(m, cpus, &m->nodes[i].cpus)) return false;
        m->n_nodes = i + 1;
    }
    return true;
}

bool srn__hw_take_processor(srn_hw_machine *m, struct hwloc_topology *t) {
    hwloc_obj_t package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
    const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    if (!model) model = hwloc_obj_get_info_by_name(hwloc_get_root_obj(t), "CPUModel");
    m->cpu.sockets = SRN_MAX(count_of(t, HWLOC_OBJ_PACKAGE), 1u);
    m->cpu.cores = count_of(t, HWLOC_OBJ_CORE);
    m->cpu.threads = count_of(t, HWLOC_OBJ_PU);
    m->cpu.l1d_bytes = cache_bytes(t, HWLOC_OBJ_L1CACHE);
    m->cpu.l2_bytes = cache_bytes(t, HWLOC_OBJ_L2CACHE);
    m->cpu.l3_bytes = cache_bytes(t, HWLOC_OBJ_L3CACHE);
    m->cpu.n_l2 = count_of(t, HWLOC_OBJ_L2CACHE);
    m->cpu.n_l3 = count_of(t, HWLOC_OBJ_L3CACHE);
    return take_text(m, model, &m->cpu.name) && take_nodes(m, t);
}

/* ---- devices of an export ---- */

static bool is_host(hwloc_obj_t o) {
    return o->type == HWLOC_OBJ_BRIDGE && o->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_HOST;
}

/* The device's own place; of a host bridge there is none. */
static const struct hwloc_pcidev_attr_s *pci_of(hwloc_obj_t o) {
    if (o->type == HWLOC_OBJ_PCI_DEVICE) return &o->attr->pcidev;
    if (o->type == HWLOC_OBJ_BRIDGE && o->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI)
        return &o->attr->bridge.upstream.pci;
    return NULL;
}

static uint32_t count_below(hwloc_obj_t o) {
    uint32_t n = is_host(o) || pci_of(o) ? 1 : 0;
    for (hwloc_obj_t c = o->io_first_child; c; c = c->next_sibling) n += count_below(c);
    return n;
}

static uint32_t node_of(const srn_hw_machine *m, hwloc_topology_t t, hwloc_obj_t o) {
    hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(t, o);
    for (; near; near = near->parent)
        if (near->nodeset && hwloc_bitmap_weight(near->nodeset) == 1) {
            int os = hwloc_bitmap_first(near->nodeset);
            for (uint32_t i = 0; i < m->n_nodes; i++)
                if ((int)m->nodes[i].os_index == os) return i;
        } else if (near->nodeset) {
            break;
        }
    return SRN_HW_NONE;
}

typedef struct import {
    srn_hw_machine *m;
    hwloc_topology_t t;
    bool *express; /* [n_pci] */
    uint32_t most;
    srn_err *err;
} import;

static int nomem(srn_err *err) {
    return srn_fail_nomem(err, SRN__HW_MOST_TEXT);
}

/* What is known of the GPU that the operating system's devices below o belong to. */
static int take_gpu(import *x, hwloc_obj_t o, uint32_t pci) {
    srn_hw_machine *m = x->m;
    if (m->n_gpus == SRN_HW_MOST_GPUS) return SRN_OK;
    srn_hw_gpu *g = &m->gpus[m->n_gpus++];
    srn__hw_gpu_clear(g);
    g->pci = pci;
    bool ok = take_text(m, m->pci[pci].name, &g->name);
    for (hwloc_obj_t d = o->io_first_child; d && ok; d = d->next_sibling) {
        static const char *const sizes[] = {"CUDAGlobalMemorySize", "RSMIVRAMSize"};
        const char *model = hwloc_obj_get_info_by_name(d, "GPUModel");
        const char *uuid = hwloc_obj_get_info_by_name(d, "NVIDIAUUID");
        const char *sm = hwloc_obj_get_info_by_name(d, "CUDAMultiProcessors");
        ok = take_text(m, model, &g->name) && take_text(m, uuid, &g->uuid);
        for (size_t i = 0; i < SRN_LEN(sizes); i++) {
            const char *kib = hwloc_obj_get_info_by_name(d, sizes[i]);
            uint64_t v = kib ? strtoull(kib, NULL, 10) : 0;
            if (v && v < (uint64_t)1 << 40) g->bytes = v << 10;
        }
        if (sm) g->sm = (uint32_t)SRN_MIN(strtoull(sm, NULL, 10), 1ull << 16);
    }
    ok = ok && (g->bytes != SRN_HW_UNKNOWN ||
                srn__hw_unknown(m, "the hwloc export does not say", "gpu/%u/bytes", m->n_gpus - 1));
    return ok ? SRN_OK : nomem(x->err);
}

static int take_device(import *x, hwloc_obj_t o, uint32_t parent) {
    srn_hw_machine *m = x->m;
    const struct hwloc_pcidev_attr_s *a = pci_of(o);
    uint32_t at = m->n_pci;
    srn_hw_pci *p = &m->pci[at];
    const char *name = o->name ? o->name : hwloc_obj_get_info_by_name(o, "PCIDevice");
    srn__hw_pci_clear(p);
    p->parent = parent;
    p->node = node_of(m, x->t, o);
    if (a) {
        snprintf(p->address, sizeof p->address, "%04x:%02x:%02x.%x", a->domain & 0xffffu, a->bus,
                 a->dev & 31u, a->func & 7u);
        p->kind = o->type == HWLOC_OBJ_BRIDGE ? SRN_HW_BRIDGE : SRN_HW_DEVICE;
        p->vendor = a->vendor_id;
        p->device = a->device_id;
        p->class_code = (uint32_t)a->class_id << 8;
        x->express[at] = a->linkspeed > 0;
        if (!take_text(m, name, &p->name)) return nomem(x->err);
    } else {
        snprintf(p->address, sizeof p->address, "%04x:%02x", o->attr->bridge.downstream.pci.domain & 0xffffu,
                 o->attr->bridge.downstream.pci.secondary_bus);
        p->kind = SRN_HW_HOST;
    }
    if (srn__hw_find(m, p->address) != SRN_HW_NONE)
        return srn_fail(x->err, SRN_EFORMAT, "the address %s is there twice", p->address);
    m->n_pci++;
    return p->kind == SRN_HW_DEVICE && srn__hw_is_gpu_class(p->class_code) && p->vendor != 0x1a03
               ? take_gpu(x, o, at)
               : SRN_OK;
}

static int take_tree(import *x, hwloc_obj_t o, uint32_t parent, uint32_t depth) {
    uint32_t at = parent;
    int code = SRN_OK;
    if (depth >= SRN__HW_MOST_DEPTH)
        return srn_fail(x->err, SRN_ELIMIT, "devices are more than %d deep", SRN__HW_MOST_DEPTH);
    if (is_host(o) || (pci_of(o) && parent != SRN_HW_NONE)) {
        at = x->m->n_pci;
        code = take_device(x, o, is_host(o) ? SRN_HW_NONE : parent);
    }
    for (hwloc_obj_t c = o->io_first_child; c && !code; c = c->next_sibling)
        code = take_tree(x, c, at, depth + 1);
    return code;
}

static int take_devices(import *x) {
    srn_hw_machine *m = x->m;
    int code = SRN_OK;
    hwloc_obj_t host = NULL;
    while ((host = hwloc_get_next_bridge(x->t, host)))
        if (is_host(host)) x->most += count_below(host);
    if (x->most > SRN_HW_MOST_PCI)
        return srn_fail(x->err, SRN_ELIMIT, "%u devices are more than a machine has", x->most);
    m->pci = srn__hw_items(m, x->most, sizeof *m->pci);
    m->gpus = srn__hw_items(m, SRN_HW_MOST_GPUS, sizeof *m->gpus);
    x->express = srn__hw_items(m, x->most, sizeof *x->express);
    if (!m->pci || !m->gpus || !x->express) return nomem(x->err);
    while (!code && (host = hwloc_get_next_bridge(x->t, host)))
        if (is_host(host)) code = take_tree(x, host, SRN_HW_NONE, 0);
    if (code) return code;
    srn__hw_refine_kinds(m, x->express);
    srn__hw_find_chipset(m);
    return srn__hw_name_devices(m) && srn__hw_pairs(m) ? SRN_OK : nomem(x->err);
}

static bool say_what_lacks(srn_hw_machine *m) {
    static const char *const what[] = {"pci/link",       "pci/acs",   "pci/bar_bytes", "pci/slot", "iommu",
                                       "nodes/channels", "pairs/p2p", "pairs/nvlinks", "virtual"};
    bool ok = true;
    for (size_t i = 0; i < SRN_LEN(what) && ok; i++)
        ok = srn__hw_unknown(m,
                             i ? "an hwloc export does not have it"
                               : "an hwloc export has only the product of lanes and rate",
                             "%s", what[i]);
    return ok;
}

static int take_export(import *x, const char *text, size_t len) {
    if (len > INT32_MAX || hwloc_topology_set_xmlbuffer(x->t, text, (int)len) ||
        hwloc_topology_set_io_types_filter(x->t, HWLOC_TYPE_FILTER_KEEP_ALL) || hwloc_topology_load(x->t))
        return srn_fail(
            x->err, SRN_EFORMAT,
            "hwloc cannot read this as an export of version 2; `lstopo --of xml FILE` writes one");
    srn_hw_machine *m = x->m;
    const char *host = hwloc_obj_get_info_by_name(hwloc_get_root_obj(x->t), "HostName");
    const char *board = hwloc_obj_get_info_by_name(hwloc_get_root_obj(x->t), "DMIProductName");
    const char *os = hwloc_obj_get_info_by_name(hwloc_get_root_obj(x->t), "OSRelease");
    if (!take_text(m, host, &m->name) || !take_text(m, board, &m->board) || !take_text(m, os, &m->os) ||
        !srn__hw_take_processor(m, x->t))
        return nomem(x->err);
    int code = take_devices(x);
    if (!code && !say_what_lacks(m)) code = nomem(x->err);
    return code ? code : srn__hw_identify(m, x->err);
}

int srn_hw_machine_of_hwloc(const char *path, srn_hw_machine **ret, srn_err *err) {
    char *text = NULL;
    size_t len;
import x = {.m = srn__hw_machine_new(), .err = err };
    int code = srn_read_file(path, SRN__HW_MOST_FILE, &text, &len, err);
    if (!code && (!x.m || hwloc_topology_init(&x.t))) code = nomem(err);
    if (!code) {
        code = take_export(&x, text, len + 1); /* hwloc counts the NUL at the end */
        if (code) srn_fail_prefix(err, code, "%s", path);
        hwloc_topology_destroy(x.t);
    }
    free(text);
    if (code) {
        srn_hw_machine_free(x.m);
        return code;
    }
    *ret = x.m;
    return SRN_OK;
}
