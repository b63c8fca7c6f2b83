/* A machine: its memory, its texts, its id, and what is looked up in its tree. Called by everything that
 * fills or reads one; pure but for memory. Texts are made harmless here, once, whoever wrote them.
 */
#include "hardware/hardware_internal.h"

#include <stdlib.h>

#define MOST_BYTES ((size_t)64 << 20)

srn_hw_machine *srn__hw_machine_new(void) {
    srn_hw_machine *m = srn_calloc(1, sizeof *m);
    if (!m) return NULL;
    srn_arena_init(&m->arena, MOST_BYTES);
    m->name = m->board = m->os = m->id = m->cpu.name = m->cpu.isa = "";
    m->iommu = SRN_HW_IOMMU_UNKNOWN;
    return m;
}

void srn_hw_machine_free(srn_hw_machine *m) {
    if (!m) return;
    srn_arena_done(&m->arena);
    free(m);
}

void *srn__hw_items(srn_hw_machine *m, size_t n, size_t size) {
    uint64_t bytes;
    return srn_mul_u64(n, size, &bytes) && bytes <= MOST_BYTES ? srn_arena_alloc(&m->arena, bytes) : NULL;
}

/* What has no width, parts lines or turns the direction of writing. */
static bool is_harmless(uint32_t cp) {
    bool control = cp < 0x20 || (cp >= 0x7F && cp < 0xA0);
    bool hidden = (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x2028 && cp <= 0x202E) ||
                  (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF;
    return !control && !hidden;
}

const char *srn__hw_text(srn_hw_machine *m, srn_str s) {
    char out[SRN__HW_MOST_TEXT + 1];
    size_t n = 0;
    for (size_t i = 0, k; i < s.len && n < SRN__HW_MOST_TEXT; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get(s.ptr + i, s.len - i, &cp);
        if (k && is_harmless(cp)) {
            if (n + k > SRN__HW_MOST_TEXT) break;
            memcpy(out + n, s.ptr + i, k);
            n += k;
        } else {
            k = SRN_MAX(k, (size_t)1);
            out[n++] = '?';
        }
    }
    while (n && out[n - 1] == ' ') n--;
    return srn_arena_strndup(&m->arena, out, n);
}

void srn__hw_pci_clear(srn_hw_pci *p) {
    *p = (srn_hw_pci){
        .parent = SRN_HW_NONE, .kind = SRN_HW_DEVICE, .name = "", .slot = "", .node = SRN_HW_NONE};
    p->chipset = p->acs_redirect = SRN_HW_MAYBE;
    p->bar_bytes = SRN_HW_UNKNOWN;
    p->iommu_group = "";
}

void srn__hw_gpu_clear(srn_hw_gpu *g) {
    *g = (srn_hw_gpu){.pci = SRN_HW_NONE, .name = "", .uuid = "", .driver = ""};
    g->bytes = g->bar1_bytes = SRN_HW_UNKNOWN;
}

void srn__hw_node_clear(srn_hw_node *n) {
    *n = (srn_hw_node){.bytes = SRN_HW_UNKNOWN, .cpus = "", .memory = ""};
}

bool srn__hw_pairs(srn_hw_machine *m) {
    size_t n = (size_t)m->n_gpus * m->n_gpus;
    m->pairs = srn__hw_items(m, n, sizeof *m->pairs);
    if (!m->pairs) return false;
    for (size_t i = 0; i < n; i++) {
        m->pairs[i].why_not = "";
        if (i % (m->n_gpus + 1)) m->pairs[i].read = m->pairs[i].write = m->pairs[i].atomics = SRN_HW_MAYBE;
    }
    return true;
}

bool srn__hw_unknown(srn_hw_machine *m, const char *why, const char *fmt, ...) {
    char what[SRN__HW_MOST_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (m->n_unknown >= SRN__HW_MOST_UNKNOWN) return true;
    if ((m->n_unknown & (m->n_unknown - 1)) == 0) { /* full at 0, 1, 2, 4, ... */
        srn_hw_unknown *more = srn__hw_items(m, m->n_unknown ? 2 * (size_t)m->n_unknown : 1, sizeof *more);
        if (!more) return false;
        if (m->n_unknown) memcpy(more, m->unknown, m->n_unknown * sizeof *more);
        m->unknown = more;
    }
    srn_hw_unknown u = {srn__hw_text(m, srn_str_of(what)), srn__hw_text(m, srn_str_of(why))};
    if (!u.what || !u.why) return false;
    m->unknown[m->n_unknown++] = u;
    return true;
}

/* ---- the id ---- */

static void add_text(srn_sha256 *h, const char *z) {
    srn_sha256_add(h, z, strlen(z) + 1);
}

int srn__hw_identify(srn_hw_machine *m, srn_err *err) {
    uint8_t digest[SRN_SHA256_BYTES];
    char hex[2 * SRN_SHA256_BYTES + 1], line[96];
    srn_sha256 *h = srn_sha256_new();
    if (!h) return srn_fail_nomem(err, sizeof digest);
    add_text(h, m->cpu.name);
    add_text(h, m->board);
    snprintf(line, sizeof line, "%u %u", m->cpu.sockets, m->cpu.cores);
    add_text(h, line);
    for (uint32_t i = 0; i < m->n_pci; i++) {
        const srn_hw_pci *p = &m->pci[i];
        snprintf(line, sizeof line, "%s %04x %04x %06x", p->address, p->vendor, p->device, p->class_code);
        add_text(h, line);
    }
    for (uint32_t i = 0; i < m->n_gpus; i++) add_text(h, m->gpus[i].name), add_text(h, m->gpus[i].uuid);
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, hex);
    const char *id = srn_arena_strndup(&m->arena, hex, 32);
    if (!id) return srn_fail_nomem(err, 33);
    m->id = id;
    return SRN_OK;
}

/* ---- the tree ---- */

uint32_t srn__hw_find(const srn_hw_machine *m, const char *address) {
    for (uint32_t i = 0; i < m->n_pci; i++)
        if (strcmp(m->pci[i].address, address) == 0) return i;
    return SRN_HW_NONE;
}

uint32_t srn__hw_depth(const srn_hw_machine *m, uint32_t i) {
    uint32_t depth = 0;
    for (; m->pci[i].parent != SRN_HW_NONE; i = m->pci[i].parent) depth++;
    return depth;
}

bool srn__hw_is_below(const srn_hw_machine *m, uint32_t i, uint32_t above) {
    while (i != SRN_HW_NONE && i > above) i = m->pci[i].parent;
    return i == above;
}

bool srn__hw_has_children(const srn_hw_machine *m, uint32_t i) {
    for (uint32_t k = i + 1; k < m->n_pci; k++)
        if (m->pci[k].parent == i) return true;
    return false;
}

uint32_t srn__hw_gpu_at(const srn_hw_machine *m, uint32_t i) {
    for (uint32_t g = 0; g < m->n_gpus; g++)
        if (m->gpus[g].pci == i) return g;
    return SRN_HW_NONE;
}

/* ---- names ---- */

const char *srn_hw_kind_name(srn_hw_kind k) {
    static const char *const names[] = {"host", "root_port", "switch_up", "switch_down", "bridge", "device"};
    return (size_t)k < SRN_LEN(names) ? names[k] : "?";
}

const char *srn__hw_vendor_name(uint32_t vendor) {
    static const struct {
        uint32_t vendor;
        const char *name;
    } names[] = {
        {0x1000, "Broadcom"}, {0x1002, "AMD"},      {0x1022, "AMD"},       {0x10b5, "PLX"},
        {0x10de, "NVIDIA"},   {0x10ec, "Realtek"},  {0x11f8, "Microchip"}, {0x1344, "Micron"},
        {0x144d, "Samsung"},  {0x14e4, "Broadcom"}, {0x15b3, "Mellanox"},  {0x15b7, "SanDisk"},
        {0x1a03, "ASPEED"},   {0x1af4, "virtio"},   {0x1b21, "ASMedia"},   {0x1c5c, "SK hynix"},
        {0x1d0f, "Amazon"},   {0x8086, "Intel"},
    };
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (names[i].vendor == vendor) return names[i].name;
    return "";
}
