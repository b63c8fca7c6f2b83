/* What follows from a tree of devices as it was read, from sysfs or from an export: which bridges are ports
 * of the processor and of switches, what belongs to a chipset, names for people. Pure; any thread. Facts come
 * from the structure of PCI Express and from ids that are a chipset's; what neither decides stays unknown.
 */
#include "hardware/hardware_internal.h"

static bool has_express_ports(const srn_hw_machine *m, const bool *express, uint32_t i) {
    for (uint32_t k = i + 1; k < m->n_pci; k++)
        if (m->pci[k].parent == i && express[k] && m->pci[k].kind != SRN_HW_DEVICE) return true;
    return false;
}

void srn__hw_refine_kinds(srn_hw_machine *m, const bool *express) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        srn_hw_pci *p = &m->pci[i];
        if (p->kind != SRN_HW_BRIDGE || !express[i] || p->parent == SRN_HW_NONE) continue;
        switch (m->pci[p->parent].kind) {
        case SRN_HW_HOST:
            p->kind = SRN_HW_ROOT_PORT;
            break;
        case SRN_HW_ROOT_PORT:
        case SRN_HW_SWITCH_DOWN:
            if (has_express_ports(m, express, i)) p->kind = SRN_HW_SWITCH_UP;
            break;
        case SRN_HW_SWITCH_UP:
            p->kind = SRN_HW_SWITCH_DOWN;
            break;
        case SRN_HW_BRIDGE:
        case SRN_HW_DEVICE:
            break;
        }
    }
}

/* Intel's chipsets have their ports on bus 0 as devices 0x1a to 0x1d, the processor has others; AMD's are a
 * switch with ids of their own, below a port of the processor. */
static srn_hw_is is_chipset(const srn_hw_pci *p) {
    bool intel = p->vendor == 0x8086, amd = p->vendor == 0x1022;
    if (p->kind == SRN_HW_ROOT_PORT) {
        bool low = strncmp(p->address, "0000:00:1", 9) == 0;
        char at = low ? p->address[9] : 0;
        if (intel) return at >= 'a' && at <= 'd' ? SRN_HW_YES : SRN_HW_NO;
        return amd ? SRN_HW_NO : SRN_HW_MAYBE;
    }
    if (p->kind == SRN_HW_SWITCH_UP) {
        if (!amd) return SRN_HW_NO;
        return (p->device & 0xff00) == 0x4300 || p->device == 0x57ad ? SRN_HW_YES : SRN_HW_NO;
    }
    return SRN_HW_MAYBE;
}

void srn__hw_find_chipset(srn_hw_machine *m) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        srn_hw_pci *p = &m->pci[i];
        srn_hw_is above = p->parent == SRN_HW_NONE ? SRN_HW_NO : m->pci[p->parent].chipset;
        bool below_host = p->parent != SRN_HW_NONE && m->pci[p->parent].kind == SRN_HW_HOST;
        srn_hw_is own = is_chipset(p);
        if (m->is_virtual)
            p->chipset = SRN_HW_MAYBE;
        else if (p->kind == SRN_HW_HOST)
            p->chipset = SRN_HW_NO;
        else if (own == SRN_HW_YES || below_host)
            p->chipset = own;
        else
            p->chipset = above;
    }
}

bool srn__hw_is_gpu_class(uint32_t class_code) {
    return class_code >> 16 == 0x03 || class_code >> 8 == 0x1200;
}

static const char *class_name(const srn_hw_pci *p) {
    static const struct {
        uint32_t class, mask;
        const char *name;
    } names[] = {
        {0x010800, 0xffff00, "NVMe disk"},   {0x010000, 0xff0000, "disk controller"},
        {0x020000, 0xff0000, "network"},     {0x030000, 0xff0000, "GPU"},
        {0x120000, 0xff0000, "accelerator"}, {0x0c0300, 0xffff00, "USB"},
        {0x040000, 0xff0000, "audio"},       {0x060100, 0xffff00, "ISA bridge"},
        {0x060000, 0xffff00, "host bridge"}, {0x0c0500, 0xffff00, "SMBus"},
    };
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if ((p->class_code & names[i].mask) == names[i].class) return names[i].name;
    return "device";
}

static const char *kind_name(const srn_hw_pci *p) {
    switch (p->kind) {
    case SRN_HW_HOST:
        return "host bridge";
    case SRN_HW_ROOT_PORT:
        return "root port";
    case SRN_HW_SWITCH_UP:
        return p->chipset == SRN_HW_YES ? "chipset" : "PCIe switch";
    case SRN_HW_SWITCH_DOWN:
        return p->chipset == SRN_HW_YES ? "chipset port" : "switch port";
    case SRN_HW_BRIDGE:
        return "bridge";
    case SRN_HW_DEVICE:
        break;
    }
    return class_name(p);
}

bool srn__hw_name_devices(srn_hw_machine *m) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        srn_hw_pci *p = &m->pci[i];
        char name[80];
        const char *vendor = srn__hw_vendor_name(p->vendor);
        if (p->name[0]) continue;
        snprintf(name, sizeof name, "%s%s%s", vendor, vendor[0] ? " " : "", kind_name(p));
        p->name = srn__hw_text(m, srn_str_of(name));
        if (!p->name) return false;
    }
    return true;
}
