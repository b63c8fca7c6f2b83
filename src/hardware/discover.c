/* Discovery of this machine: asks hwloc, sysfs, the firmware's tables and NVIDIA's library one after the
 * other, and puts the results together. Any thread. Whatever is missing is a line in `unknown`, never an
 * error; only memory can run out.
 */
#include "hardware/discover_internal.h"

#include <hwloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"

static int nomem(srn_err *err) {
    return srn_fail_nomem(err, SRN__HW_MOST_TEXT);
}

static bool take_text(srn_hw_machine *m, const char *from, const char **to) {
    const char *t = srn__hw_text(m, srn_str_of(from));
    if (t) *to = t;
    return t != NULL;
}

/* ---- names ---- */

static int take_names(srn_hw_machine *m, const char *root, srn_err *err) {
    srn_platform p;
    char host[128] = "", vendor[128], board[128], both[260];
    srn_platform_get(&p);
    if (!root[0] && gethostname(host, sizeof host - 1)) host[0] = 0;
    srn__sysfs_text(root, "/sys/class/dmi/id/board_vendor", vendor, sizeof vendor);
    srn__sysfs_text(root, "/sys/class/dmi/id/board_name", board, sizeof board);
    snprintf(both, sizeof both, "%s%s%s", vendor, vendor[0] && board[0] ? " " : "", board);
    m->taken_us = srn_unix_us();
    bool ok = take_text(m, host, &m->name) && take_text(m, p.kernel, &m->os) &&
              take_text(m, both, &m->board) && take_text(m, p.cpu, &m->cpu.name);
    return ok ? SRN_OK : nomem(err);
}

/* A hypervisor shows itself to the processor's own question, which the kernel passes on among the flags, or
 * in the firmware's names. */
static int take_virtual(srn_hw_machine *m, const char *root, srn_err *err) {
    static const char *const makers[] = {"QEMU",
                                         "KVM",
                                         "VMware",
                                         "VirtualBox",
                                         "innotek",
                                         "Xen",
                                         "Bochs",
                                         "Parallels",
                                         "Google Compute Engine",
                                         "OpenStack",
                                         "Virtual Machine"};
    static const char *const files[] = {"/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name"};
    enum { CPUINFO_BYTES = 16384 };
    char *text = srn_calloc(CPUINFO_BYTES, 1);
    if (!text) return nomem(err);
    long n = srn__sysfs_text(root, "/proc/cpuinfo", text, CPUINFO_BYTES);
    if (n > 0 && strstr(text, " hypervisor")) m->is_virtual = true;
    for (size_t i = 0; i < SRN_LEN(files); i++) {
        srn__sysfs_text(root, files[i], text, CPUINFO_BYTES);
        for (size_t k = 0; k < SRN_LEN(makers); k++)
            if (strstr(text, makers[k])) m->is_virtual = true;
    }
    free(text);
    if (!m->is_virtual) return SRN_OK;
    return srn__hw_unknown(m, "this is a virtual machine: the tree is what its hypervisor shows", "pci/real")
               ? SRN_OK
               : nomem(err);
}

static int take_processor(srn_hw_machine *m, srn_err *err) {
    hwloc_topology_t t;
    const char *isa = srn_cpu_level(NULL);
    if (hwloc_topology_init(&t)) return nomem(err);
    bool loaded = hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_NONE) == 0 &&
                  hwloc_topology_load(t) == 0;
    bool ok = loaded ? srn__hw_take_processor(m, t)
                     : srn__hw_unknown(m, "hwloc cannot read this system", "cpu") &&
                           srn__hw_unknown(m, "hwloc cannot read this system", "nodes");
    hwloc_topology_destroy(t);
    m->cpu.threads = srn_cpu_count();
    if (isa && !take_text(m, isa, &m->cpu.isa)) ok = false;
    return ok ? SRN_OK : nomem(err);
}

/* ---- links ---- */

bool srn__discover_idle(srn_hw_machine *m, uint32_t i, const char *why) {
    m->pci[i].link.idle = true;
    return srn__hw_unknown(m, why, "pci/%s/link/gen", m->pci[i].address);
}

/* GPUs slow their links down while they have nothing to do, so what is below the most of both ends may speed
 * up. Of NVIDIA's that was seen to; of others, and of the links above a card's own switch, only a load would
 * tell. */
static int mark_idle(srn_hw_machine *m, srn_err *err) {
    for (uint32_t g = 0; g < m->n_gpus; g++)
        for (uint32_t i = m->gpus[g].pci; i != SRN_HW_NONE; i = m->pci[i].parent) {
            uint32_t gen, width;
            if (m->pci[i].vendor != m->pci[m->gpus[g].pci].vendor) break;
            srn_hw_link_most(m, i, &gen, &width);
            bool slow = gen && m->pci[i].link.gen && m->pci[i].link.gen < gen;
            bool loaded = m->pci[i].vendor == 0x10de && m->gpus[g].uuid[0]; /* NVML knows it */
            if (slow && !loaded && !m->pci[i].link.idle &&
                !srn__discover_idle(m, i,
                                    "read at rest: a GPU slows its link down while it has nothing to do"))
                return nomem(err);
        }
    return SRN_OK;
}

static int say_unknown_links(srn_hw_machine *m, srn_err *err) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        bool linked = srn_hw_has_link(m, i);
        if (linked && !m->pci[i].link.gen &&
            !srn__hw_unknown(m, "the system does not say", "pci/%s/link", m->pci[i].address))
            return nomem(err);
    }
    for (uint32_t g = 0; g < m->n_gpus; g++)
        if (m->gpus[g].bytes == SRN_HW_UNKNOWN &&
            !srn__hw_unknown(m, "no driver says how much memory it has", "gpus/%u/bytes", g))
            return nomem(err);
    return SRN_OK;
}

int srn_hw_discover(const srn_hw_discover_opts *o, srn_hw_machine **ret, srn_err *err) {
    const char *root = o->root ? o->root : "";
    srn_hw_machine *m = srn__hw_machine_new();
    if (!m) return srn_fail_nomem(err, sizeof *m);
    int code = take_names(m, root, err);
    if (!code) code = take_virtual(m, root, err);
    if (!code) code = take_processor(m, err);
    if (!code) code = srn__discover_pci(m, root, err);
    if (!code) code = srn__discover_iommu(m, root, err);
    if (!code) code = srn__discover_gpus(m, root, err);
    if (!code) code = srn__discover_nvml(m, o, err);
    if (!code) code = srn__discover_smbios(m, root, err);
    if (!code) code = mark_idle(m, err);
    if (!code) code = say_unknown_links(m, err);
    if (!code) code = srn__hw_identify(m, err);
    if (code) {
        srn_hw_machine_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}
