/* The tree of PCI devices as sysfs shows it: who hangs on whom, kinds of ports, links, ACS, windows, IOMMU
 * groups and slots; and which devices are GPUs. Any thread. Entries that are no device, or have no place in
 * the tree, are left out; the tree cannot have circles, since each entry is placed once, below a host.
 */
#include "hardware/discover_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define SLOTS   "/sys/bus/pci/slots"

enum { MOST_PATH = 512, MOST_LINK = 4096, CONFIG_BYTES = 4096 };

typedef struct entry {
    char address[16], parent[16]; /* parent: "0000:00:01.0", or "0000:00" of a host */
    bool placed;
} entry;

typedef struct scan {
    srn_hw_machine *m;
    const char *root;
    entry *entries;
    size_t n;
    bool *express;        /* [m->n_pci]: it speaks PCI Express */
    srn__config *configs; /* [m->n_pci] */
    srn_err *err;
} scan;

static int nomem(srn_err *err) {
    return srn_fail_nomem(err, SRN__HW_MOST_TEXT);
}

/* ---- which devices there are ---- */

/* "0000:03:00.0", or "0000:00" of a host, as the kernel writes them. */
static bool is_address(const char *t, size_t n, bool host) {
    const char *form = host ? "xxxx:xx" : "xxxx:xx:xx.o";
    size_t skip = 0, len = strlen(form);
    while (skip < n && t[skip] != ':') skip++;
    if (skip < 4 || skip > 8 || n != skip + len - 4 || n > 15) return false;
    for (size_t i = 0; i < n; i++) {
        char want = i < skip ? 'x' : form[4 + i - skip], c = t[i];
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (want == 'x' ? !hex : want == 'o' ? c < '0' || c > '7' : c != want) return false;
    }
    return true;
}

/* The one before the last part of a link such as "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0". */
static bool take_parent(const char *target, char ret[16]) {
    const char *end = strrchr(target, '/'), *start = end;
    if (!end) return false;
    while (start > target && start[-1] != '/') start--;
    size_t n = (size_t)(end - start);
    bool host = n > 3 && strncmp(start, "pci", 3) == 0;
    if (host) start += 3, n -= 3;
    if (!is_address(start, n, host)) return false;
    snprintf(ret, 16, "%.*s", (int)n, start);
    return true;
}

static int by_address(const void *a, const void *b) {
    const char *x = ((const entry *)a)->address, *y = ((const entry *)b)->address;
    size_t nx = strlen(x), ny = strlen(y);
    return nx != ny ? (nx > ny) - (nx < ny) : strcmp(x, y); /* long domains last */
}

static int list_devices(scan *s) {
    char path[MOST_PATH], target[MOST_LINK];
    snprintf(path, sizeof path, "%.400s" DEVICES, s->root);
    DIR *d = opendir(path);
    if (!d)
        return srn__hw_unknown(
                   s->m, errno == ENOENT ? "the system shows no PCI devices" : srn__sysfs_why(-errno), "pci")
                   ? SRN_OK
                   : nomem(s->err);
    s->entries = srn_calloc(SRN_HW_MOST_PCI, sizeof *s->entries);
    for (struct dirent *e; s->entries && s->n < SRN_HW_MOST_PCI - 64 && (e = readdir(d));) {
        entry *x = &s->entries[s->n];
        if (!is_address(e->d_name, strlen(e->d_name), false)) continue;
        ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        snprintf(x->address, sizeof x->address, "%.15s", e->d_name);
        if (take_parent(target, x->parent)) {
            s->n++;
        } else if (!srn__hw_unknown(s->m, "its place in the tree is not shown", "pci/%.15s", e->d_name)) {
            break;
        }
    }
    closedir(d);
    if (!s->entries) return nomem(s->err);
    qsort(s->entries, s->n, sizeof *s->entries, by_address);
    return SRN_OK;
}

/* ---- the tree ---- */

static void place_below(scan *s, uint32_t parent, uint32_t depth) {
    if (depth >= SRN__HW_MOST_DEPTH) return;
    for (size_t i = 0; i < s->n && s->m->n_pci < SRN_HW_MOST_PCI; i++) {
        entry *e = &s->entries[i];
        if (e->placed || strcmp(e->parent, s->m->pci[parent].address) != 0) continue;
        uint32_t at = s->m->n_pci++;
        srn__hw_pci_clear(&s->m->pci[at]);
        memcpy(s->m->pci[at].address, e->address, sizeof e->address);
        s->m->pci[at].parent = parent;
        e->placed = true;
        place_below(s, at, depth + 1);
    }
}

static bool is_host_address(const char *a) {
    return !strchr(a, '.');
}

static int place_all(scan *s) {
    srn_hw_machine *m = s->m;
    m->pci = srn__hw_items(m, 2 * s->n, sizeof *m->pci);
    s->express = srn__hw_items(m, 2 * s->n, sizeof *s->express);
    s->configs = srn_calloc(2 * s->n, sizeof *s->configs);
    if (!m->pci || !s->express || !s->configs) return nomem(s->err);
    for (size_t i = 0; i < s->n && m->n_pci < SRN_HW_MOST_PCI; i++) {
        const entry *e = &s->entries[i];
        if (e->placed || !is_host_address(e->parent) || srn__hw_find(m, e->parent) != SRN_HW_NONE) continue;
        uint32_t at = m->n_pci++;
        srn__hw_pci_clear(&m->pci[at]);
        memcpy(m->pci[at].address, e->parent, sizeof e->parent);
        m->pci[at].kind = SRN_HW_HOST;
        place_below(s, at, 1);
    }
    for (size_t i = 0; i < s->n; i++)
        if (!s->entries[i].placed &&
            !srn__hw_unknown(m, "its place in the tree is not shown", "pci/%.15s", s->entries[i].address))
            return nomem(s->err);
    return SRN_OK;
}

/* ---- one device ---- */

static long read_of(const scan *s, uint32_t i, const char *file, void *ret, size_t cap) {
    char path[MOST_PATH];
    snprintf(path, sizeof path, DEVICES "/%s/%s", s->m->pci[i].address, file);
    return srn__sysfs_read(s->root, path, ret, cap);
}

/* A number as the kernel writes it, 0 where there is none or it is beyond `most`. */
static uint64_t number_of(const scan *s, uint32_t i, const char *file, int base, uint64_t most) {
    char text[32], *end;
    if (read_of(s, i, file, text, sizeof text) <= 0) return 0;
    errno = 0;
    unsigned long long v = strtoull(text, &end, base);
    return errno || end == text || text[0] == '-' || v > most ? 0 : v;
}

/* "8.0 GT/s PCIe" */
static uint32_t gen_of(const scan *s, uint32_t i, const char *file) {
    static const char *const rates[] = {"2.5", "5", "8", "16", "32", "64", "128"};
    char text[32];
    if (read_of(s, i, file, text, sizeof text) <= 0) return 0;
    for (uint32_t k = 0; k < SRN_LEN(rates); k++) {
        size_t n = strlen(rates[k]);
        if (strncmp(text, rates[k], n) != 0) continue;
        const char *rest = text + n;
        if (k && strncmp(rest, ".0", 2) == 0) rest += 2;
        if (strncmp(rest, " GT/s", 5) == 0) return k + 1;
    }
    return 0;
}

static uint32_t width_of(const scan *s, uint32_t i, const char *file) {
    return (uint32_t)number_of(s, i, file, 10, 32);
}

/* The largest memory window of "0xstart 0xend 0xflags" lines, of which the first six are the device's own. */
static uint64_t largest_bar(const char *text) {
    enum { IS_MEMORY = 0x200, BARS = 6 };
    uint64_t most = 0;
    const char *p = text;
    for (int i = 0; i < BARS && *p; i++) {
        char *end;
        uint64_t start = strtoull(p, &end, 16), last = strtoull(end, &end, 16),
                 flags = strtoull(end, &end, 16);
        if (flags & IS_MEMORY && last > start && last - start < (uint64_t)1 << 50)
            most = SRN_MAX(most, last - start + 1);
        p = strchr(end, '\n');
        if (!p) break;
        p++;
    }
    return most;
}

static int read_node(scan *s, uint32_t i) {
    char text[32];
    srn_hw_machine *m = s->m;
    if (m->n_nodes == 1) m->pci[i].node = 0;
    if (read_of(s, i, "numa_node", text, sizeof text) <= 0 || text[0] == '-') return SRN_OK;
    uint64_t os = strtoull(text, NULL, 10);
    for (uint32_t k = 0; k < m->n_nodes; k++)
        if (m->nodes[k].os_index == os) m->pci[i].node = k;
    return SRN_OK;
}

static void take_kind(scan *s, uint32_t i) {
    srn_hw_pci *p = &s->m->pci[i];
    srn__config *c = &s->configs[i];
    static const srn_hw_kind kinds[16] = {
        SRN_HW_DEVICE,      SRN_HW_DEVICE, SRN_HW_DEVICE, SRN_HW_DEVICE, SRN_HW_ROOT_PORT, SRN_HW_SWITCH_UP,
        SRN_HW_SWITCH_DOWN, SRN_HW_BRIDGE, SRN_HW_BRIDGE, SRN_HW_DEVICE, SRN_HW_DEVICE,    SRN_HW_DEVICE,
        SRN_HW_DEVICE,      SRN_HW_DEVICE, SRN_HW_DEVICE, SRN_HW_DEVICE};
    char text[16];
    s->express[i] = c->express || read_of(s, i, "max_link_width", text, sizeof text) > 0;
    p->kind = c->bridge || p->class_code >> 8 == 0x0604 ? SRN_HW_BRIDGE : SRN_HW_DEVICE;
    if (c->express && p->kind == SRN_HW_BRIDGE) p->kind = kinds[c->port_type & 15];
}

static void read_link(scan *s, uint32_t i) {
    srn_hw_link *l = &s->m->pci[i].link;
    const srn__config *c = &s->configs[i];
    l->gen = gen_of(s, i, "current_link_speed");
    l->width = width_of(s, i, "current_link_width");
    l->max_gen = gen_of(s, i, "max_link_speed");
    l->max_width = width_of(s, i, "max_link_width");
    if (!l->max_gen) l->max_gen = c->max_gen;
    if (!l->max_width) l->max_width = c->max_width;
    char text[16];
    if (read_of(s, i, "current_link_width", text, sizeof text) < 0) l->gen = c->gen, l->width = c->width;
    if (!l->width || !l->gen) l->gen = l->width = 0; /* a link that is down says 2.5 GT/s of no lanes */
}

static int read_device(scan *s, uint32_t i) {
    srn_hw_pci *p = &s->m->pci[i];
    uint8_t config[CONFIG_BYTES + 1];
    char text[2048], path[MOST_PATH], group[32];
    p->vendor = (uint32_t)number_of(s, i, "vendor", 16, 0xffff);
    p->device = (uint32_t)number_of(s, i, "device", 16, 0xffff);
    p->class_code = (uint32_t)number_of(s, i, "class", 16, 0xffffff);
    long n = read_of(s, i, "config", config, sizeof config);
    if (n > 0) srn__config_parse(config, (size_t)n, &s->configs[i]);
    take_kind(s, i);
    read_link(s, i);
    read_node(s, i);
    if (read_of(s, i, "resource", text, sizeof text) > 0) p->bar_bytes = largest_bar(text);
    snprintf(path, sizeof path, DEVICES "/%s/iommu_group", p->address);
    srn__sysfs_link(s->root, path, group, sizeof group);
    p->iommu_group = srn__hw_text(s->m, srn_str_of(group));
    return p->iommu_group ? SRN_OK : nomem(s->err);
}

/* ---- what needs kinds ---- */

static int take_acs(scan *s) {
    for (uint32_t i = 0; i < s->m->n_pci; i++) {
        srn_hw_pci *p = &s->m->pci[i];
        const srn__config *c = &s->configs[i];
        if (p->kind != SRN_HW_ROOT_PORT && p->kind != SRN_HW_SWITCH_DOWN) continue;
        if (c->extended) {
            bool on = c->acs && c->acs_control & (SRN__ACS_REQUEST_REDIRECT | SRN__ACS_COMPLETION_REDIRECT);
            p->acs_redirect = on ? SRN_HW_YES : SRN_HW_NO;
        } else if (!srn__hw_unknown(s->m,
                                    c->whole ? "the system shows the first 256 bytes only" : "needs root",
                                    "pci/%s/acs_redirect", p->address)) {
            return nomem(s->err);
        }
    }
    return SRN_OK;
}

/* A host is where what hangs on it is. */
static void take_host_nodes(srn_hw_machine *m) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        uint32_t parent = m->pci[i].parent;
        if (parent != SRN_HW_NONE && m->pci[parent].kind == SRN_HW_HOST && m->pci[parent].node == SRN_HW_NONE)
            m->pci[parent].node = m->pci[i].node;
    }
}

/* The port whose lower bus a slot's address names, or the device there. */
static uint32_t owner_of_slot(const scan *s, const char *address) {
    for (uint32_t i = 0; i < s->m->n_pci; i++) {
        const srn_hw_pci *p = &s->m->pci[i];
        char bus[24];
        if (!s->configs[i].bridge || p->kind == SRN_HW_HOST || !s->configs[i].secondary_bus) continue;
        snprintf(bus, sizeof bus, "%.*s:%02x:", (int)strcspn(p->address, ":"), p->address,
                 s->configs[i].secondary_bus);
        if (strncmp(address, bus, strlen(bus)) == 0) return i;
    }
    for (uint32_t i = 0; i < s->m->n_pci; i++) {
        size_t n = strlen(address);
        if (strncmp(s->m->pci[i].address, address, n) == 0 && s->m->pci[i].address[n] == '.') return i;
    }
    return SRN_HW_NONE;
}

static int read_slots(scan *s) {
    char path[MOST_PATH], address[32];
    int code = SRN_OK;
    snprintf(path, sizeof path, "%.400s" SLOTS, s->root);
    DIR *d = opendir(path);
    for (struct dirent *e; d && !code && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strlen(e->d_name) > 64) continue;
        snprintf(path, sizeof path, SLOTS "/%.64s/address", e->d_name);
        if (srn__sysfs_text(s->root, path, address, sizeof address) < 7) continue;
        uint32_t at = owner_of_slot(s, address);
        if (at == SRN_HW_NONE || s->m->pci[at].slot[0]) continue;
        s->m->pci[at].slot = srn__hw_text(s->m, srn_str_of(e->d_name));
        if (!s->m->pci[at].slot) s->m->pci[at].slot = "", code = nomem(s->err);
    }
    if (d) closedir(d);
    return code;
}

int srn__discover_pci(srn_hw_machine *m, const char *root, srn_err *err) {
    scan s = {.m = m, .root = root, .err = err};
    int code = list_devices(&s);
    if (!code) code = place_all(&s);
    for (uint32_t i = 0; i < m->n_pci && !code; i++)
        if (m->pci[i].kind != SRN_HW_HOST) code = read_device(&s, i);
    if (!code) {
        srn__hw_refine_kinds(m, s.express);
        srn__hw_find_chipset(m);
        take_host_nodes(m);
        code = take_acs(&s);
    }
    if (!code) code = read_slots(&s);
    if (!code && !srn__hw_name_devices(m)) code = nomem(err);
    free(s.configs);
    free(s.entries);
    return code;
}

/* ---- IOMMU ---- */

int srn__discover_iommu(srn_hw_machine *m, const char *root, srn_err *err) {
    char path[MOST_PATH], type[32];
    bool groups = false, translates = false, passes = false, hidden = false;
    for (uint32_t i = 0; i < m->n_pci; i++) {
        const srn_hw_pci *p = &m->pci[i];
        if (!p->iommu_group[0]) continue;
        groups = true;
        if (!srn__hw_is_gpu_class(p->class_code)) continue;
        snprintf(path, sizeof path, "/sys/kernel/iommu_groups/%.32s/type", p->iommu_group);
        long n = srn__sysfs_text(root, path, type, sizeof type);
        hidden = hidden || n < 0;
        translates = translates || strncmp(type, "DMA", 3) == 0;
        passes = passes || strcmp(type, "identity") == 0;
    }
    m->iommu = !groups      ? SRN_HW_IOMMU_OFF
               : translates ? SRN_HW_IOMMU_ON
               : passes     ? SRN_HW_IOMMU_PASS
                            : SRN_HW_IOMMU_UNKNOWN;
    if (!m->n_pci) m->iommu = SRN_HW_IOMMU_UNKNOWN;
    if (m->iommu != SRN_HW_IOMMU_UNKNOWN) return SRN_OK;
    const char *why = hidden ? "the kernel does not say how the group of a GPU is translated"
                             : "no GPU is in a group of the IOMMU";
    return srn__hw_unknown(m, why, "iommu") ? SRN_OK : nomem(err);
}

/* ---- GPUs ---- */

/* Displays of servers' management chips and of virtual machines, and what is built into the processor (right
 * below the host, or with hardly any memory of its own), are no GPUs to compute with. */
static bool is_gpu(const srn_hw_machine *m, uint32_t i, uint64_t bytes) {
    static const uint32_t vendors[] = {0x10de, 0x1002, 0x8086};
    const srn_hw_pci *p = &m->pci[i];
    bool known = false;
    if (p->kind != SRN_HW_DEVICE || !srn__hw_is_gpu_class(p->class_code)) return false;
    for (size_t k = 0; k < SRN_LEN(vendors); k++) known = known || p->vendor == vendors[k];
    bool built_in = p->vendor != 0x10de && m->pci[p->parent].kind == SRN_HW_HOST && !m->is_virtual;
    return known && !built_in && (bytes == SRN_HW_UNKNOWN || bytes >= (uint64_t)1 << 31);
}

static uint64_t memory_of(const char *root, const srn_hw_pci *p) {
    char path[MOST_PATH], text[32];
    snprintf(path, sizeof path, DEVICES "/%s/mem_info_vram_total", p->address);
    if (srn__sysfs_text(root, path, text, sizeof text) <= 0 || text[0] == '-') return SRN_HW_UNKNOWN;
    uint64_t v = strtoull(text, NULL, 10);
    return v && v <= INT64_MAX ? v : SRN_HW_UNKNOWN;
}

/* What the driver calls the product, else the maker and the device's number. */
static bool take_name(srn_hw_machine *m, srn_hw_gpu *g, const char *root) {
    const srn_hw_pci *p = &m->pci[g->pci];
    char path[MOST_PATH], text[128], driver[64];
    snprintf(path, sizeof path, DEVICES "/%s/product_name", p->address);
    if (srn__sysfs_text(root, path, text, sizeof text) <= 0)
        snprintf(text, sizeof text, "%s GPU %04x", srn__hw_vendor_name(p->vendor), p->device);
    snprintf(path, sizeof path, DEVICES "/%s/driver", p->address);
    srn__sysfs_link(root, path, driver, sizeof driver);
    g->name = srn__hw_text(m, srn_str_of(text));
    g->driver = srn__hw_text(m, srn_str_of(driver));
    return g->name && g->driver;
}

int srn__discover_gpus(srn_hw_machine *m, const char *root, srn_err *err) {
    m->gpus = srn__hw_items(m, SRN_HW_MOST_GPUS, sizeof *m->gpus);
    if (!m->gpus) return nomem(err);
    for (uint32_t i = 0; i < m->n_pci && m->n_gpus < SRN_HW_MOST_GPUS; i++) {
        uint64_t bytes = memory_of(root, &m->pci[i]);
        if (!is_gpu(m, i, bytes)) continue;
        srn_hw_gpu *g = &m->gpus[m->n_gpus++];
        srn__hw_gpu_clear(g);
        g->pci = i;
        g->bytes = bytes;
        if (!take_name(m, g, root)) return nomem(err);
    }
    return srn__hw_pairs(m) ? SRN_OK : nomem(err);
}
