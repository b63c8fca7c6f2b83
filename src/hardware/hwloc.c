/* What hwloc knows of this machine: processor, caches and NUMA nodes. Any thread. Only what the library found
 * itself goes through it; exports are files, and hwloc_xml.c reads them.
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
