/* A machine out of an export of hwloc (XML, version 2), as its lstopo writes it. Pure; any thread. The
 * library's own reader trusts such files, so they are read here: the part of XML that exports are made of,
 * with every tag closed, at most 128 of them open at once. What an export does not have is unknown, with that
 * reason: the lanes and generation of links (it keeps their product), ACS, the IOMMU, windows, P2P.
 */
#include "hardware/hardware_internal.h"

#include <stdlib.h>

enum { MOST_OPEN = 128, MOST_ATTRS = 32, MOST_CPUS = 8192 };

typedef struct attr {
    srn_str name, value; /* the value as it stands in the file */
} attr;
typedef struct tag {
    srn_str name;
    attr attrs[MOST_ATTRS];
    uint32_t n;
    bool ends, closed; /* </name>, <name/> */
} tag;

typedef struct frame {      /* an object that is open */
    srn_str name, type;     /* of the tag; of the object */
    uint32_t package, node; /* index of the package, index of the system's node; SRN_HW_NONE */
    uint32_t pci, gpu;      /* of the device that it is, or belongs to */
} frame;

typedef struct reader {
    srn_hw_machine *m;
    const char *at, *end, *start;
    frame open[MOST_OPEN];
    uint32_t n_open, n_packages, most_pci, most_nodes;
    bool *express; /* [most_pci] */
    bool topology; /* its tag was there */
    srn_err *err;
} reader;

static int nomem(const reader *r) {
    return srn_fail_nomem(r->err, SRN__HW_MOST_TEXT);
}

static int wrong(const reader *r, const char *what) {
    size_t line = 1;
    for (const char *p = r->start; p < r->at && p < r->end; p++) line += *p == '\n';
    return srn_fail(r->err, SRN_EFORMAT, "line %zu: %s", line, what);
}

/* ---- tags ---- */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(reader *r) {
    while (r->at < r->end && is_space(*r->at)) r->at++;
}

static srn_str take_name(reader *r) {
    const char *from = r->at;
    while (r->at < r->end && (is_space(*r->at) || strchr("<>/=\"", *r->at)) == 0) r->at++;
    return (srn_str){from, (size_t)(r->at - from)};
}

/* Past the next text, comment, declaration or <!...>; at the '<' of a tag, or the end. */
static int skip_to_tag(reader *r) {
    for (;;) {
        while (r->at < r->end && *r->at != '<') r->at++;
        size_t left = (size_t)(r->end - r->at);
        if (left < 2 || (r->at[1] != '!' && r->at[1] != '?')) return SRN_OK;
        const char *close = left > 3 && memcmp(r->at, "<!--", 4) == 0 ? "-->" : ">";
        const char *found = memmem(r->at, left, close, strlen(close));
        if (!found) return wrong(r, "a comment or declaration has no end");
        r->at = found + strlen(close);
    }
}

static int take_attr(reader *r, tag *t) {
    attr a = {.name = take_name(r)};
    skip_space(r);
    if (!a.name.len || r->at == r->end || *r->at != '=')
        return wrong(r, "a tag is not written as hwloc writes it");
    r->at++;
    skip_space(r);
    const char *close =
        r->at < r->end && *r->at == '"' ? memchr(r->at + 1, '"', (size_t)(r->end - r->at - 1)) : NULL;
    if (!close) return wrong(r, "a value has no quotes around it");
    a.value = (srn_str){r->at + 1, (size_t)(close - r->at - 1)};
    r->at = close + 1;
    if (t->n == MOST_ATTRS) return wrong(r, "a tag has more than 32 attributes");
    t->attrs[t->n++] = a;
    return SRN_OK;
}

static int take_tag(reader *r, tag *t) {
    *t = (tag){.n = 0};
    r->at++;
    if (r->at < r->end && *r->at == '/') t->ends = true, r->at++;
    t->name = take_name(r);
    if (!t->name.len) return wrong(r, "a tag has no name");
    for (;;) {
        skip_space(r);
        if (r->at == r->end) return wrong(r, "the file ends within a tag");
        if (*r->at == '>') return r->at++, SRN_OK;
        if (*r->at == '/' && r->at + 1 < r->end && r->at[1] == '>')
            return t->closed = true, r->at += 2, SRN_OK;
        int code = take_attr(r, t);
        if (code) return code;
    }
}

static srn_str attr_of(const tag *t, const char *name) {
    for (uint32_t i = 0; i < t->n; i++)
        if (srn_str_eqz(t->attrs[i].name, name)) return t->attrs[i].value;
    return (srn_str){"", 0};
}

/* A whole number, 0 where there is none or it is beyond `most`. */
static uint64_t number_of(srn_str s, uint64_t most) {
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || !srn_mul_u64(v, 10, &v) ||
            !srn_add_u64(v, (uint64_t)(s.ptr[i] - '0'), &v))
            return 0;
    }
    return v <= most ? v : 0;
}

/* The text that a value stands for. NULL: no memory. */
static const char *text_of(const reader *r, srn_str s) {
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char out[SRN__HW_MOST_TEXT];
    size_t n = 0;
    for (size_t i = 0; i < s.len && n < sizeof out;) {
        size_t k = 0, len = 0;
        for (; k < SRN_LEN(names); k++) {
            len = strlen(names[k].name);
            if (s.len - i >= len && memcmp(s.ptr + i, names[k].name, len) == 0) break;
        }
        out[n++] = k < SRN_LEN(names) ? names[k].c : s.ptr[i];
        i += k < SRN_LEN(names) ? len : 1;
    }
    return srn__hw_text(r->m, (srn_str){out, n});
}

static int take_text(const reader *r, srn_str s, const char **to) {
    const char *t = text_of(r, s);
    if (!t) return nomem(r);
    *to = t;
    return SRN_OK;
}

/* ---- sets: "0x0000000f", "0x1,0x00000000": words of 32 bits, the highest first ---- */

typedef struct set {
    uint32_t words[MOST_CPUS / 32], n; /* the lowest first */
} set;

/* What is longer, or goes on without end ("0xf...f"), is empty. */
static void take_set(srn_str s, set *ret) {
    uint32_t n = s.len > 0;
    for (size_t i = 0; i < s.len; i++) n += s.ptr[i] == ',';
    ret->n = 0;
    if (n > SRN_LEN(ret->words) || (s.len && memchr(s.ptr, '.', s.len))) return;
    memset(ret->words, 0, n * sizeof *ret->words);
    ret->n = n;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                                                : 16;
        if (c == ',') n--;
        if (digit < 16) ret->words[n - 1] = ret->words[n - 1] << 4 | digit;
    }
}

static bool has(const set *s, uint32_t i) {
    return i / 32 < s->n && (s->words[i / 32] >> i % 32 & 1);
}

/* The one member of a set; SRN_HW_NONE where it has another number of them. */
static uint32_t only_member(const set *s) {
    uint32_t found = SRN_HW_NONE;
    for (uint32_t i = 0; i < 32 * s->n; i++) {
        if (!has(s, i)) continue;
        if (found != SRN_HW_NONE) return SRN_HW_NONE;
        found = i;
    }
    return found;
}

/* "0-15,32-47" */
static void list_members(const set *s, char *ret, size_t cap) {
    size_t n = 0;
    ret[0] = 0;
    for (uint32_t i = 0; i < 32 * s->n && n + 24 < cap; i++) {
        if (!has(s, i)) continue;
        uint32_t last = i;
        while (has(s, last + 1)) last++;
        n += (size_t)snprintf(ret + n, cap - n, last > i ? "%s%u-%u" : "%s%u", n ? "," : "", i, last);
        i = last;
    }
}

/* ---- objects ---- */

static void count_cache(uint64_t size, uint64_t *bytes, uint32_t *n) {
    if (!*bytes) *bytes = size;
    if (n) ++*n;
}

static int take_node(reader *r, const tag *t, const frame *f) {
    char cpus[SRN__HW_MOST_TEXT];
    set own;
    srn_hw_machine *m = r->m;
    if (m->n_nodes == r->most_nodes) return wrong(r, "there are more NUMA nodes than a machine has");
    srn_hw_node *n = &m->nodes[m->n_nodes++];
    srn__hw_node_clear(n);
    n->os_index = (uint32_t)number_of(attr_of(t, "os_index"), 1u << 20);
    n->socket = f->package == SRN_HW_NONE ? 0 : f->package;
    uint64_t bytes = number_of(attr_of(t, "local_memory"), INT64_MAX);
    if (bytes) n->bytes = bytes;
    take_set(attr_of(t, "cpuset"), &own);
    list_members(&own, cpus, sizeof cpus);
    return take_text(r, srn_str_of(cpus), &n->cpus);
}

/* Of "0000:03:00.0" or, of a host, the domain and the first bus of "0000:[00-01]". */
static bool take_address(srn_str s, bool host, char ret[16]) {
    unsigned domain, bus, device, function;
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)SRN_MIN(s.len, sizeof text - 1), s.ptr);
    if (host) {
        if (sscanf(text, "%6x:[%2x-", &domain, &bus) != 2 || domain > 0xffffff || bus > 0xff) return false;
        snprintf(ret, 16, "%04x:%02x", domain, bus);
        return true;
    }
    if (sscanf(text, "%6x:%2x:%2x.%1x", &domain, &bus, &device, &function) != 4) return false;
    if (domain > 0xffffff || bus > 0xff || device > 0xff || function > 7) return false;
    snprintf(ret, 16, "%04x:%02x:%02x.%x", domain, bus, device, function);
    return true;
}

static int take_gpu(reader *r, frame *f) {
    srn_hw_machine *m = r->m;
    const srn_hw_pci *p = &m->pci[f->pci];
    if (p->kind != SRN_HW_DEVICE || !srn__hw_is_gpu_class(p->class_code) || p->vendor == 0x1a03 ||
        m->n_gpus == SRN_HW_MOST_GPUS)
        return SRN_OK;
    f->gpu = m->n_gpus++;
    srn__hw_gpu_clear(&m->gpus[f->gpu]);
    m->gpus[f->gpu].pci = f->pci;
    m->gpus[f->gpu].name = p->name;
    return SRN_OK;
}

static bool is_above_zero(srn_str number) {
    size_t i = 0;
    while (i < number.len && (number.ptr[i] == '0' || number.ptr[i] == '.')) i++;
    return i < number.len;
}

/* A bridge or device; those whose host is not in the export have no place. */
static int take_device(reader *r, const tag *t, frame *f, bool bridge) {
    srn_hw_machine *m = r->m;
    bool host = bridge && attr_of(t, "bridge_type").len && attr_of(t, "bridge_type").ptr[0] == '0';
    unsigned class, vendor, device;
    char text[32];
    uint32_t parent = f->pci;
    if (!host && parent == SRN_HW_NONE) return SRN_OK;
    if (m->n_pci == r->most_pci) return wrong(r, "there are more devices than a machine has");
    srn_hw_pci *p = &m->pci[m->n_pci];
    srn__hw_pci_clear(p);
    p->parent = host ? SRN_HW_NONE : parent;
    p->kind = host ? SRN_HW_HOST : bridge ? SRN_HW_BRIDGE : SRN_HW_DEVICE;
    p->node = f->node; /* the system's number, until all nodes are known */
    if (!take_address(attr_of(t, host ? "bridge_pci" : "pci_busid"), host, p->address))
        return wrong(r, host ? "the \"bridge_pci\" of a host is missing"
                             : "the \"pci_busid\" of a device is missing");
    if (srn__hw_find(m, p->address) != SRN_HW_NONE) return wrong(r, "an address is there twice");
    if (!host && m->pci[parent].kind == SRN_HW_DEVICE)
        return wrong(r, "a device hangs on one that is no bridge");
    if (!host && srn__hw_depth(m, parent) + 1 >= SRN__HW_MOST_DEPTH)
        return wrong(r, "devices are more than 64 deep");
    srn_str type = attr_of(t, "pci_type");
    snprintf(text, sizeof text, "%.*s", (int)SRN_MIN(type.len, sizeof text - 1), type.ptr);
    if (sscanf(text, "%4x [%4x:%4x]", &class, &vendor, &device) == 3)
        p->class_code = (class & 0xffff) << 8, p->vendor = vendor & 0xffff, p->device = device & 0xffff;
    r->express[m->n_pci] = is_above_zero(attr_of(t, "pci_link_speed"));
    int code = take_text(r, attr_of(t, "name"), &p->name);
    if (code) return code;
    f->pci = m->n_pci++;
    f->gpu = SRN_HW_NONE;
    return take_gpu(r, f);
}

static int take_object(reader *r, const tag *t, frame *f) {
    srn_hw_cpu *c = &r->m->cpu;
    uint64_t size = number_of(attr_of(t, "cache_size"), INT64_MAX);
    f->type = attr_of(t, "type");
    srn_str nodes = attr_of(t, "nodeset");
    if (nodes.len) {
        set near;
        take_set(nodes, &near);
        f->node = only_member(&near);
    }
    if (srn_str_eqz(f->type, "Package")) f->package = r->n_packages++;
    if (srn_str_eqz(f->type, "Core")) c->cores++;
    if (srn_str_eqz(f->type, "PU")) c->threads++;
    if (srn_str_eqz(f->type, "L1Cache")) count_cache(size, &c->l1d_bytes, NULL);
    if (srn_str_eqz(f->type, "L2Cache")) count_cache(size, &c->l2_bytes, &c->n_l2);
    if (srn_str_eqz(f->type, "L3Cache")) count_cache(size, &c->l3_bytes, &c->n_l3);
    if (srn_str_eqz(f->type, "NUMANode")) return take_node(r, t, f);
    if (srn_str_eqz(f->type, "Bridge")) return take_device(r, t, f, true);
    if (srn_str_eqz(f->type, "PCIDev")) return take_device(r, t, f, false);
    return SRN_OK;
}

/* <info name="..." value="..."/> of the object that is open. */
static int take_info(reader *r, const tag *t, const frame *f) {
    srn_hw_machine *m = r->m;
    srn_hw_gpu *g = f->gpu == SRN_HW_NONE ? NULL : &m->gpus[f->gpu];
    srn_str name = attr_of(t, "name"), value = attr_of(t, "value");
    if (srn_str_eqz(name, "CPUModel") && !m->cpu.name[0]) return take_text(r, value, &m->cpu.name);
    if (srn_str_eqz(name, "HostName")) return take_text(r, value, &m->name);
    if (srn_str_eqz(name, "OSRelease")) return take_text(r, value, &m->os);
    if (srn_str_eqz(name, "DMIProductName")) return take_text(r, value, &m->board);
    if (!g) return SRN_OK;
    if (srn_str_eqz(name, "GPUModel")) return take_text(r, value, &g->name);
    if (srn_str_eqz(name, "NVIDIAUUID")) return take_text(r, value, &g->uuid);
    if (srn_str_eqz(name, "CUDAMultiProcessors")) g->sm = (uint32_t)number_of(value, 1u << 16);
    uint64_t kib = number_of(value, (uint64_t)1 << 40);
    if (kib && (srn_str_eqz(name, "CUDAGlobalMemorySize") || srn_str_eqz(name, "RSMIVRAMSize")))
        g->bytes = kib << 10;
    return SRN_OK;
}

static int take_start(reader *r, const tag *t) {
    frame f = {
        .name = t->name, .package = SRN_HW_NONE, .node = SRN_HW_NONE, .pci = SRN_HW_NONE, .gpu = SRN_HW_NONE};
    int code = SRN_OK;
    if (r->n_open) f = r->open[r->n_open - 1], f.name = t->name;
    if (srn_str_eqz(t->name, "topology")) {
        srn_str version = attr_of(t, "version");
        if (!version.len || version.ptr[0] != '2')
            return wrong(r, "this is no export of version 2; `lstopo --of xml FILE` of hwloc 2 writes one");
        r->topology = true;
    } else if (!r->topology) {
        return wrong(r, "this is no export of hwloc: its first tag is not <topology>");
    }
    if (srn_str_eqz(t->name, "object")) code = take_object(r, t, &f);
    if (srn_str_eqz(t->name, "info")) code = take_info(r, t, &f);
    if (code || t->closed) return code;
    if (r->n_open == MOST_OPEN) return wrong(r, "more than 128 tags are open at once");
    r->open[r->n_open++] = f;
    return SRN_OK;
}

static int read_tags(reader *r) {
    for (;;) {
        tag t;
        int code = skip_to_tag(r);
        if (code) return code;
        if (r->at == r->end) break;
        if ((code = take_tag(r, &t))) return code;
        if (!t.ends) {
            if ((code = take_start(r, &t))) return code;
        } else if (!r->n_open || !srn_str_eq(r->open[--r->n_open].name, t.name)) {
            return wrong(r, "a tag is closed that is not open");
        }
    }
    if (r->n_open) return wrong(r, "the file ends before its last tag is closed");
    return r->topology ? SRN_OK : wrong(r, "this is no export of hwloc: it has no <topology>");
}

/* ---- the whole ---- */

/* How often a word stands in the text, an upper bound of what is allocated. */
static uint32_t count_word(srn_str s, const char *word, uint32_t most) {
    uint32_t n = 0;
    const char *p = s.ptr, *end = s.ptr + s.len;
    while (n < most && (p = memmem(p, (size_t)(end - p), word, strlen(word)))) n++, p += strlen(word);
    return n;
}

static void resolve_nodes(srn_hw_machine *m) {
    for (uint32_t i = 0; i < m->n_pci; i++) {
        uint32_t os = m->pci[i].node;
        m->pci[i].node = SRN_HW_NONE;
        for (uint32_t k = 0; k < m->n_nodes; k++)
            if (m->nodes[k].os_index == os) m->pci[i].node = k;
    }
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
    for (uint32_t g = 0; g < m->n_gpus && ok; g++)
        if (m->gpus[g].bytes == SRN_HW_UNKNOWN)
            ok = srn__hw_unknown(m, "the hwloc export does not say", "gpus/%u/bytes", g);
    return ok;
}

static int read_export(reader *r, srn_str text) {
    srn_hw_machine *m = r->m;
    r->most_pci = count_word(text, "\"PCIDev\"", SRN_HW_MOST_PCI / 2) +
                  count_word(text, "\"Bridge\"", SRN_HW_MOST_PCI / 2);
    r->most_nodes = count_word(text, "\"NUMANode\"", SRN_HW_MOST_NODES);
    m->pci = srn__hw_items(m, r->most_pci, sizeof *m->pci);
    r->express = srn__hw_items(m, r->most_pci, sizeof *r->express);
    m->nodes = srn__hw_items(m, r->most_nodes, sizeof *m->nodes);
    m->gpus = srn__hw_items(m, SRN_HW_MOST_GPUS, sizeof *m->gpus);
    if (!m->pci || !r->express || !m->nodes || !m->gpus) return nomem(r);
    int code = read_tags(r);
    if (code) return code;
    m->cpu.sockets = SRN_MAX(r->n_packages, 1u);
    resolve_nodes(m);
    srn__hw_refine_kinds(m, r->express);
    srn__hw_find_chipset(m);
    if (!srn__hw_name_devices(m) || !srn__hw_pairs(m) || !say_what_lacks(m)) return nomem(r);
    return srn__hw_identify(m, r->err);
}

int srn__hw_of_xml(srn_str text, const char *file, srn_hw_machine **ret, srn_err *err) {
    reader *r = srn_calloc(1, sizeof *r);
    srn_hw_machine *m = srn__hw_machine_new();
    int code = r && m ? SRN_OK : srn_fail_nomem(err, sizeof *r);
    if (!code) {
        *r = (reader){.m = m, .at = text.ptr, .start = text.ptr, .end = text.ptr + text.len, .err = err};
        code = read_export(r, text);
        if (code) srn_fail_prefix(err, code, "%s", file);
    }
    free(r);
    if (code) {
        srn_hw_machine_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}
