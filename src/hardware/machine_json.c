/* A machine as JSON, both ways: one table of fields for each kind of object serves the reader and the writer.
 * Pure; any thread. Refuses keys that there are not, values of another kind or out of range, addresses that
 * appear twice, parents that do not stand before their children, trees deeper than 64, and indices of
 * nothing; each with the place in the file.
 */
#include "hardware/hardware_internal.h"

#include <math.h>
#include <stdlib.h>

typedef enum kind {
    TEXT,
    COUNT, /* uint32_t up to `most` */
    SIZE,  /* uint64_t; 0: none */
    BYTES, /* uint64_t or null: unknown */
    REAL,
    FLAG,
    IS,    /* true, false or null: unknown */
    HEX,   /* uint32_t as "10de" */
    PORT,  /* srn_hw_kind by name */
    IOMMU, /* srn_hw_iommu by name */
    INDEX, /* uint32_t below `most`, or null */
    OTHER  /* read by hand */
} kind;

typedef struct field {
    const char *key;
    kind kind;
    size_t offset;
    uint64_t most;
} field;

typedef struct table {
    const field *fields;
    size_t n;
} table;

#define F(type, member, kind, most)                                                                          \
    { #member, kind, offsetof(type, member), most }
#define TABLE(fields) ((table){fields, SRN_LEN(fields)})

enum { MOST_COUNT = 1 << 20 };
#define MOST_BYTES ((uint64_t)INT64_MAX)

static const field machine_fields[] = {
    {"serin_machine", OTHER, 0, 0},
    F(srn_hw_machine, name, TEXT, 0),
    F(srn_hw_machine, board, TEXT, 0),
    F(srn_hw_machine, os, TEXT, 0),
    F(srn_hw_machine, id, TEXT, 0),
    F(srn_hw_machine, taken_us, SIZE, MOST_BYTES),
    {"virtual", FLAG, offsetof(srn_hw_machine, is_virtual), 0},
    F(srn_hw_machine, iommu, IOMMU, 0),
    {"cpu", OTHER, 0, 0},
    {"nodes", OTHER, 0, 0},
    {"pci", OTHER, 0, 0},
    {"gpus", OTHER, 0, 0},
    {"pairs", OTHER, 0, 0},
    {"unknown", OTHER, 0, 0},
};
static const field cpu_fields[] = {
    F(srn_hw_cpu, name, TEXT, 0),
    F(srn_hw_cpu, isa, TEXT, 0),
    F(srn_hw_cpu, sockets, COUNT, MOST_COUNT),
    F(srn_hw_cpu, cores, COUNT, MOST_COUNT),
    F(srn_hw_cpu, threads, COUNT, MOST_COUNT),
    F(srn_hw_cpu, l1d_bytes, SIZE, MOST_BYTES),
    F(srn_hw_cpu, l2_bytes, SIZE, MOST_BYTES),
    F(srn_hw_cpu, l3_bytes, SIZE, MOST_BYTES),
    F(srn_hw_cpu, n_l2, COUNT, MOST_COUNT),
    F(srn_hw_cpu, n_l3, COUNT, MOST_COUNT),
};
static const field node_fields[] = {
    F(srn_hw_node, os_index, COUNT, MOST_COUNT), F(srn_hw_node, socket, COUNT, MOST_COUNT),
    F(srn_hw_node, bytes, BYTES, MOST_BYTES),    F(srn_hw_node, cpus, TEXT, 0),
    F(srn_hw_node, channels, COUNT, 256),        F(srn_hw_node, channels_most, COUNT, 256),
    F(srn_hw_node, mts, COUNT, 1 << 20),         F(srn_hw_node, memory, TEXT, 0),
};
static const field link_fields[] = {
    F(srn_hw_link, gen, COUNT, 7),        F(srn_hw_link, width, COUNT, 32), F(srn_hw_link, max_gen, COUNT, 7),
    F(srn_hw_link, max_width, COUNT, 32), F(srn_hw_link, idle, FLAG, 0),
};
static const field pci_fields[] = {
    {"address", OTHER, 0, 0},
    {"parent", OTHER, 0, 0},
    F(srn_hw_pci, kind, PORT, 0),
    F(srn_hw_pci, vendor, HEX, 0xffff),
    F(srn_hw_pci, device, HEX, 0xffff),
    {"class", HEX, offsetof(srn_hw_pci, class_code), 0xffffff},
    F(srn_hw_pci, name, TEXT, 0),
    F(srn_hw_pci, slot, TEXT, 0),
    F(srn_hw_pci, node, INDEX, SRN_HW_MOST_NODES),
    {"link", OTHER, 0, 0},
    F(srn_hw_pci, chipset, IS, 0),
    F(srn_hw_pci, acs_redirect, IS, 0),
    F(srn_hw_pci, bar_bytes, BYTES, MOST_BYTES),
    F(srn_hw_pci, iommu_group, TEXT, 0),
};
static const field gpu_fields[] = {
    {"pci", OTHER, 0, 0},
    F(srn_hw_gpu, name, TEXT, 0),
    F(srn_hw_gpu, uuid, TEXT, 0),
    F(srn_hw_gpu, driver, TEXT, 0),
    F(srn_hw_gpu, bytes, BYTES, MOST_BYTES),
    F(srn_hw_gpu, bar1_bytes, BYTES, MOST_BYTES),
    F(srn_hw_gpu, cc_major, COUNT, 99),
    F(srn_hw_gpu, cc_minor, COUNT, 99),
    F(srn_hw_gpu, sm, COUNT, 1 << 16),
    F(srn_hw_gpu, nvlink_version, COUNT, 99),
    F(srn_hw_gpu, power_limit_w, REAL, 100000),
};
static const field pair_fields[] = {
    {"a", OTHER, 0, 0},
    {"b", OTHER, 0, 0},
    {"one_way", OTHER, 0, 0},
    F(srn_hw_pair, nvlinks, COUNT, 64),
    F(srn_hw_pair, read, IS, 0),
    F(srn_hw_pair, write, IS, 0),
    F(srn_hw_pair, atomics, IS, 0),
    F(srn_hw_pair, why_not, TEXT, 0),
};
static const field unknown_fields[] = {
    F(srn_hw_unknown, what, TEXT, 0),
    F(srn_hw_unknown, why, TEXT, 0),
};
static const char *const iommu_names[] = {"off", "pass", "on", "unknown"};

/* ---- reading ---- */

typedef struct reader {
    srn_hw_machine *m;
    char where[96]; /* "pci[3].link" */
    srn_err *err;
} reader;

static int wrong(const reader *r, const char *key, const char *fmt, ...) SRN_PRINTF(3, 4);
static int wrong(const reader *r, const char *key, const char *fmt, ...) {
    char must[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(must, sizeof must, fmt, ap);
    va_end(ap);
    return srn_fail(r->err, SRN_EFORMAT, "%s%s%s %s", r->where, r->where[0] && key[0] ? "." : "", key, must);
}

static int read_text(reader *r, const char *key, const json_t *v, const char **to) {
    if (!json_is_string(v)) return wrong(r, key, "must be a text");
    const char *t = srn__hw_text(r->m, (srn_str){json_string_value(v), json_string_length(v)});
    if (!t) return srn_fail_nomem(r->err, json_string_length(v));
    *to = t;
    return SRN_OK;
}

static int read_u64(reader *r, const char *key, const json_t *v, uint64_t most, uint64_t *to) {
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > most)
        return wrong(r, key, "must be a whole number from 0 to %llu", (unsigned long long)most);
    *to = (uint64_t)json_integer_value(v);
    return SRN_OK;
}

static int read_u32(reader *r, const char *key, const json_t *v, uint64_t most, void *to) {
    uint64_t n = 0;
    int code = read_u64(r, key, v, most, &n);
    if (!code) memcpy(to, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
    return code;
}

static int read_hex(reader *r, const char *key, const json_t *v, uint64_t most, void *to) {
    const char *text = json_string_value(v);
    size_t n = text ? strlen(text) : 0;
    if (!n || n > 6 || n != json_string_length(v) || strspn(text, "0123456789abcdef") != n ||
        strtoul(text, NULL, 16) > most)
        return wrong(r, key, "must be a text of hexadecimal digits in small letters, at most %llx",
                     (unsigned long long)most);
    memcpy(to, &(uint32_t){(uint32_t)strtoul(text, NULL, 16)}, sizeof(uint32_t));
    return SRN_OK;
}

/* The place of a word in a list; n where it is not. */
static size_t place_of(const json_t *v, size_t n, const char *(*name)(size_t)) {
    size_t i = 0;
    while (i < n && (!json_is_string(v) || strcmp(json_string_value(v), name(i)) != 0)) i++;
    return i;
}
static const char *port_name(size_t i) {
    return srn_hw_kind_name((srn_hw_kind)i);
}
static const char *iommu_name(size_t i) {
    return iommu_names[i];
}

static int read_name(reader *r, const field *f, const json_t *v, void *to) {
    bool port = f->kind == PORT;
    size_t i =
        port ? place_of(v, SRN_HW_DEVICE + 1, port_name) : place_of(v, SRN_LEN(iommu_names), iommu_name);
    if (port && i <= SRN_HW_DEVICE) return *(srn_hw_kind *)to = (srn_hw_kind)i, SRN_OK;
    if (!port && i < SRN_LEN(iommu_names)) return *(srn_hw_iommu *)to = (srn_hw_iommu)i, SRN_OK;
    return wrong(r, f->key, "must be %s",
                 port ? "host, root_port, switch_up, switch_down, bridge or device"
                      : "off, pass, on or unknown");
}

static int read_field(reader *r, const field *f, const json_t *v, char *to) {
    switch (f->kind) {
    case TEXT:
        return read_text(r, f->key, v, (const char **)(void *)to);
    case COUNT:
        return read_u32(r, f->key, v, f->most, to);
    case INDEX:
        return json_is_null(v) ? SRN_OK : read_u32(r, f->key, v, f->most - 1, to);
    case BYTES:
        if (json_is_null(v)) return SRN_OK;
        return read_u64(r, f->key, v, f->most, (uint64_t *)(void *)to);
    case SIZE:
        return read_u64(r, f->key, v, f->most, (uint64_t *)(void *)to);
    case REAL:
        if (!json_is_number(v) || json_number_value(v) < 0 || json_number_value(v) > (double)f->most)
            return wrong(r, f->key, "must be a number from 0 to %llu", (unsigned long long)f->most);
        memcpy(to, &(double){json_number_value(v)}, sizeof(double));
        return SRN_OK;
    case FLAG:
        if (!json_is_boolean(v)) return wrong(r, f->key, "must be true or false");
        *(bool *)to = json_is_true(v);
        return SRN_OK;
    case IS:
        if (!json_is_boolean(v) && !json_is_null(v))
            return wrong(r, f->key, "must be true, false or null for unknown");
        *(srn_hw_is *)(void *)to = json_is_null(v) ? SRN_HW_MAYBE : json_is_true(v) ? SRN_HW_YES : SRN_HW_NO;
        return SRN_OK;
    case HEX:
        return read_hex(r, f->key, v, f->most, to);
    case PORT:
    case IOMMU:
        return read_name(r, f, v, to);
    case OTHER:
        break;
    }
    return SRN_OK;
}

static int read_object(reader *r, table t, json_t *o, void *to) {
    const char *key;
    json_t *v;
    if (!json_is_object(o)) return wrong(r, "", "must be an object");
    json_object_foreach(o, key, v) {
        size_t i = 0;
        while (i < t.n && strcmp(t.fields[i].key, key) != 0) i++;
        if (i == t.n) {
            char shown[48];
            snprintf(shown, sizeof shown, "%.40s", key);
            return wrong(r, shown, "is no key that a machine has; docs/topo.md lists them");
        }
        int code = read_field(r, &t.fields[i], v, (char *)to + t.fields[i].offset);
        if (code) return code;
    }
    return SRN_OK;
}

/* The array of that key; *ret is NULL where there is none. */
static int get_list(reader *r, json_t *o, const char *key, size_t most, json_t **ret, uint32_t *ret_n) {
    json_t *list = json_object_get(o, key);
    *ret = NULL;
    *ret_n = 0;
    if (!list) return SRN_OK;
    if (!json_is_array(list)) return wrong(r, key, "must be a list");
    if (json_array_size(list) > most)
        return wrong(r, key, "has %zu entries, at most %zu are taken", json_array_size(list), most);
    *ret = list;
    *ret_n = (uint32_t)json_array_size(list);
    return SRN_OK;
}

static int read_nodes(reader *r, json_t *o) {
    json_t *list;
    uint32_t n;
    int code = get_list(r, o, "nodes", SRN_HW_MOST_NODES, &list, &n);
    if (code) return code;
    if (!(r->m->nodes = srn__hw_items(r->m, n, sizeof *r->m->nodes))) return srn_fail_nomem(r->err, n);
    for (uint32_t i = 0; i < n && !code; i++) {
        srn__hw_node_clear(&r->m->nodes[i]);
        snprintf(r->where, sizeof r->where, "nodes[%u]", i);
        code = read_object(r, TABLE(node_fields), json_array_get(list, i), &r->m->nodes[i]);
    }
    r->m->n_nodes = n;
    r->where[0] = 0;
    return code;
}

/* "0000:03:00.0", of a host "0000:00"; the domain may have up to 8 digits. */
static bool is_address(const char *z, bool host) {
    size_t domain = strspn(z, "0123456789abcdef");
    if (domain < 4 || domain > 8 || z[domain] != ':') return false;
    const char *p = z + domain + 1;
    if (strspn(p, "0123456789abcdef") != 2) return false;
    if (host) return p[2] == 0;
    return p[2] == ':' && strspn(p + 3, "0123456789abcdef") == 2 && p[5] == '.' && p[6] >= '0' &&
           p[6] <= '7' && p[7] == 0;
}

/* The device of the address that a key names; what it names must have been read. */
static int read_reference(reader *r, json_t *o, const char *key, uint32_t *to) {
    const json_t *v = json_object_get(o, key);
    *to = SRN_HW_NONE;
    if (!v || json_is_null(v)) return SRN_OK;
    uint32_t i = json_is_string(v) ? srn__hw_find(r->m, json_string_value(v)) : SRN_HW_NONE;
    if (i == SRN_HW_NONE)
        return wrong(r, key, "must be null or the address of a device that stands before in \"pci\"");
    *to = i;
    return SRN_OK;
}

static int read_place(reader *r, json_t *o, srn_hw_pci *p) {
    const char *address = json_string_value(json_object_get(o, "address"));
    bool host = p->kind == SRN_HW_HOST;
    if (!address || !is_address(address, host))
        return wrong(r, "address", "must be a text like \"%s\"", host ? "0000:00" : "0000:03:00.0");
    if (srn__hw_find(r->m, address) != SRN_HW_NONE)
        return wrong(r, "address", "'%s' is there twice", address);
    int code = read_reference(r, o, "parent", &p->parent);
    if (code) return code;
    if (host != (p->parent == SRN_HW_NONE))
        return wrong(r, "parent", host ? "of a host must be null" : "is missing: only a host has none");
    if (!host && r->m->pci[p->parent].kind == SRN_HW_DEVICE)
        return wrong(r, "parent", "is a device: only ports and bridges have others below them");
    if (!host && srn__hw_depth(r->m, p->parent) + 1 >= SRN__HW_MOST_DEPTH)
        return wrong(r, "parent", "is too deep: at most %d above each other are taken", SRN__HW_MOST_DEPTH);
    if (p->node != SRN_HW_NONE && p->node >= r->m->n_nodes)
        return wrong(r, "node", "is %u, but there are %u nodes", p->node, r->m->n_nodes);
    snprintf(p->address, sizeof p->address, "%s", address);
    return SRN_OK;
}

static int read_pci(reader *r, json_t *o) {
    json_t *list;
    uint32_t n;
    int code = get_list(r, o, "pci", SRN_HW_MOST_PCI, &list, &n);
    if (code) return code;
    if (!(r->m->pci = srn__hw_items(r->m, n, sizeof *r->m->pci))) return srn_fail_nomem(r->err, n);
    for (uint32_t i = 0; i < n && !code; i++) {
        srn_hw_pci *p = &r->m->pci[i];
        json_t *v = json_array_get(list, i), *link = json_object_get(v, "link");
        srn__hw_pci_clear(p);
        snprintf(r->where, sizeof r->where, "pci[%u]", i);
        code = read_object(r, TABLE(pci_fields), v, p);
        if (!code) code = read_place(r, v, p);
        if (!code && link) {
            snprintf(r->where, sizeof r->where, "pci[%u].link", i);
            code = read_object(r, TABLE(link_fields), link, &p->link);
        }
        r->m->n_pci = i + 1;
    }
    r->where[0] = 0;
    return code;
}

static int read_gpus(reader *r, json_t *o) {
    json_t *list;
    uint32_t n;
    int code = get_list(r, o, "gpus", SRN_HW_MOST_GPUS, &list, &n);
    if (code) return code;
    if (!(r->m->gpus = srn__hw_items(r->m, n, sizeof *r->m->gpus))) return srn_fail_nomem(r->err, n);
    for (uint32_t i = 0; i < n && !code; i++) {
        srn_hw_gpu *g = &r->m->gpus[i];
        uint32_t at = SRN_HW_NONE;
        json_t *v = json_array_get(list, i);
        srn__hw_gpu_clear(g);
        snprintf(r->where, sizeof r->where, "gpus[%u]", i);
        code = read_object(r, TABLE(gpu_fields), v, g);
        if (!code) code = read_reference(r, v, "pci", &at);
        if (!code && at != SRN_HW_NONE && srn__hw_gpu_at(r->m, at) != SRN_HW_NONE)
            code = wrong(r, "pci", "is that of another GPU");
        if (!code && at != SRN_HW_NONE && r->m->pci[at].kind != SRN_HW_DEVICE)
            code = wrong(r, "pci", "is no device but a port or bridge");
        g->pci = at;
        r->m->n_gpus = i + 1;
    }
    r->where[0] = 0;
    return code;
}

static int read_pairs(reader *r, json_t *o) {
    json_t *list;
    uint32_t n, n_gpus = r->m->n_gpus;
    int code = get_list(r, o, "pairs", SRN_HW_MOST_GPUS * SRN_HW_MOST_GPUS, &list, &n);
    if (code) return code;
    if (!srn__hw_pairs(r->m)) return srn_fail_nomem(r->err, n_gpus);
    for (uint32_t i = 0; i < n && !code; i++) {
        json_t *v = json_array_get(list, i);
        srn_hw_pair p = {.read = SRN_HW_MAYBE, .write = SRN_HW_MAYBE, .atomics = SRN_HW_MAYBE, .why_not = ""};
        uint32_t at[2] = {0, 0};
        snprintf(r->where, sizeof r->where, "pairs[%u]", i);
        code = read_object(r, TABLE(pair_fields), v, &p);
        for (size_t k = 0; k < 2 && !code; k++) {
            code = read_u32(r, k ? "b" : "a", json_object_get(v, k ? "b" : "a"), MOST_COUNT, &at[k]);
            if (!code && at[k] >= n_gpus)
                code = wrong(r, k ? "b" : "a", "is %u, but there are %u GPUs", at[k], n_gpus);
        }
        if (!code && at[0] == at[1]) code = wrong(r, "b", "is the same GPU as a");
        if (code) return code;
        r->m->pairs[(size_t)at[0] * n_gpus + at[1]] = p;
        if (!json_is_true(json_object_get(v, "one_way"))) r->m->pairs[(size_t)at[1] * n_gpus + at[0]] = p;
    }
    r->where[0] = 0;
    return code;
}

static int read_unknown(reader *r, json_t *o) {
    json_t *list;
    uint32_t n;
    int code = get_list(r, o, "unknown", SRN__HW_MOST_UNKNOWN, &list, &n);
    for (uint32_t i = 0; i < n && !code; i++) {
        srn_hw_unknown u = {"", ""};
        snprintf(r->where, sizeof r->where, "unknown[%u]", i);
        code = read_object(r, TABLE(unknown_fields), json_array_get(list, i), &u);
        if (!code && !srn__hw_unknown(r->m, u.why, "%s", u.what)) code = srn_fail_nomem(r->err, sizeof u);
    }
    r->where[0] = 0;
    return code;
}

static int read_machine(reader *r, json_t *o) {
    const json_t *version = json_object_get(o, "serin_machine");
    if (!json_is_object(o) || !version)
        return srn_fail(
            r->err, SRN_EFORMAT,
            "this is no machine: the key 'serin_machine' is missing; `serin topo --record FILE` writes one");
    if (!json_is_integer(version) || json_integer_value(version) != 1)
        return srn_fail(r->err, SRN_EUNSUP, "serin_machine must be 1, the only version there is");
    int code = read_object(r, TABLE(machine_fields), o, r->m);
    json_t *cpu = json_object_get(o, "cpu");
    if (!code && cpu) {
        snprintf(r->where, sizeof r->where, "cpu");
        code = read_object(r, TABLE(cpu_fields), cpu, &r->m->cpu);
        r->where[0] = 0;
    }
    if (!code) code = read_nodes(r, o);
    if (!code) code = read_pci(r, o);
    if (!code) code = read_gpus(r, o);
    if (!code) code = read_pairs(r, o);
    if (!code) code = read_unknown(r, o);
    if (!code && !r->m->id[0]) code = srn__hw_identify(r->m, r->err);
    return code;
}

int srn_hw_machine_parse(srn_str text, const char *file, srn_hw_machine **ret, srn_err *err) {
    json_error_t why;
    if (text.len > SRN__HW_MOST_FILE)
        return srn_fail(err, SRN_ELIMIT, "%s: %zu bytes are more than a machine has", file, text.len);
    json_t *o = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        return srn_fail(err, SRN_EFORMAT, "%s: line %d, column %d: %s", file, why.line, why.column, why.text);
    reader r = {.m = srn__hw_machine_new(), .err = err};
    int code = r.m ? read_machine(&r, o) : srn_fail_nomem(err, sizeof *r.m);
    json_decref(o);
    if (code) {
        srn_hw_machine_free(r.m);
        return srn_fail_prefix(err, code, "%s", file);
    }
    *ret = r.m;
    return SRN_OK;
}

/* ---- writing ---- */

static json_t *write_is(srn_hw_is is) {
    return is == SRN_HW_MAYBE ? json_null() : json_boolean(is == SRN_HW_YES);
}

static json_t *write_field(const field *f, const char *from) {
    uint32_t u = 0;
    uint64_t b = 0;
    char hex[16];
    if (f->kind == COUNT || f->kind == HEX || f->kind == INDEX) memcpy(&u, from, sizeof u);
    if (f->kind == SIZE || f->kind == BYTES) memcpy(&b, from, sizeof b);
    switch (f->kind) {
    case TEXT:
        return json_string(*(const char *const *)(const void *)from);
    case COUNT:
        return json_integer(u);
    case INDEX:
        return u == SRN_HW_NONE ? json_null() : json_integer(u);
    case HEX:
        snprintf(hex, sizeof hex, f->most > 0xffff ? "%06x" : "%04x", u);
        return json_string(hex);
    case SIZE:
    case BYTES:
        return f->kind == BYTES && b == SRN_HW_UNKNOWN ? json_null() : json_integer((json_int_t)b);
    case REAL:
        return json_real(*(const double *)(const void *)from);
    case FLAG:
        return json_boolean(*(const bool *)from);
    case IS:
        return write_is(*(const srn_hw_is *)(const void *)from);
    case PORT:
        return json_string(srn_hw_kind_name(*(const srn_hw_kind *)(const void *)from));
    case IOMMU:
        return json_string(iommu_names[*(const srn_hw_iommu *)(const void *)from]);
    case OTHER:
        break;
    }
    return NULL;
}

/* false: no memory. What is read by hand is left to the caller. */
static bool write_object(table t, const void *from, json_t *o) {
    bool ok = o != NULL;
    for (size_t i = 0; i < t.n && ok; i++)
        if (t.fields[i].kind != OTHER)
            ok = json_object_set_new(o, t.fields[i].key,
                                     write_field(&t.fields[i], (const char *)from + t.fields[i].offset)) == 0;
    return ok;
}

static bool write_pci(const srn_hw_machine *m, json_t *list) {
    bool ok = true;
    for (uint32_t i = 0; i < m->n_pci && ok; i++) {
        const srn_hw_pci *p = &m->pci[i];
        json_t *o = json_object(), *link = json_object();
        bool linked = p->link.gen || p->link.width || p->link.max_gen || p->link.max_width;
        ok = o && json_object_set_new(o, "address", json_string(p->address)) == 0 &&
             json_object_set_new(o, "parent",
                                 p->parent == SRN_HW_NONE ? json_null()
                                                          : json_string(m->pci[p->parent].address)) == 0 &&
             write_object(TABLE(pci_fields), p, o) && write_object(TABLE(link_fields), &p->link, link) &&
             (!linked || json_object_set(o, "link", link) == 0) && json_array_append(list, o) == 0;
        json_decref(link);
        json_decref(o);
    }
    return ok;
}

static bool write_gpus(const srn_hw_machine *m, json_t *list) {
    bool ok = true;
    for (uint32_t i = 0; i < m->n_gpus && ok; i++) {
        const srn_hw_gpu *g = &m->gpus[i];
        json_t *o = json_object();
        ok = o &&
             json_object_set_new(
                 o, "pci", g->pci == SRN_HW_NONE ? json_null() : json_string(m->pci[g->pci].address)) == 0 &&
             write_object(TABLE(gpu_fields), g, o) && json_array_append(list, o) == 0;
        json_decref(o);
    }
    return ok;
}

static bool same_pair(const srn_hw_pair *a, const srn_hw_pair *b) {
    return a->nvlinks == b->nvlinks && a->read == b->read && a->write == b->write &&
           a->atomics == b->atomics && strcmp(a->why_not, b->why_not) == 0;
}

static bool write_pair(const srn_hw_pair *p, uint32_t a, uint32_t b, bool one_way, json_t *list) {
    json_t *o = json_object();
    bool ok = o && json_object_set_new(o, "a", json_integer(a)) == 0 &&
              json_object_set_new(o, "b", json_integer(b)) == 0 &&
              (!one_way || json_object_set_new(o, "one_way", json_true()) == 0) &&
              write_object(TABLE(pair_fields), p, o) && json_array_append(list, o) == 0;
    json_decref(o);
    return ok;
}

/* What is the same in both directions is written once. */
static bool write_pairs(const srn_hw_machine *m, json_t *list) {
    bool ok = true;
    for (uint32_t a = 0; a < m->n_gpus; a++)
        for (uint32_t b = a + 1; b < m->n_gpus && ok; b++) {
            const srn_hw_pair *ab = &m->pairs[(size_t)a * m->n_gpus + b];
            const srn_hw_pair *ba = &m->pairs[(size_t)b * m->n_gpus + a];
            bool same = same_pair(ab, ba);
            ok = write_pair(ab, a, b, !same, list) && (same || write_pair(ba, b, a, true, list));
        }
    return ok;
}

static bool write_list(table t, const void *items, size_t n, size_t size, json_t *list) {
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        json_t *o = json_object();
        ok = write_object(t, (const char *)items + i * size, o) && json_array_append(list, o) == 0;
        json_decref(o);
    }
    return ok;
}

json_t *srn_hw_machine_json(const srn_hw_machine *m) {
    json_t *o = json_object();
    static const char *const keys[] = {"nodes", "pci", "gpus", "pairs", "unknown"};
    json_t *lists[SRN_LEN(keys)];
    json_t *cpu = json_object();
    bool ok = o && cpu && json_object_set_new(o, "serin_machine", json_integer(1)) == 0 &&
              write_object(TABLE(machine_fields), m, o) && write_object(TABLE(cpu_fields), &m->cpu, cpu) &&
              json_object_set(o, "cpu", cpu) == 0;
    json_decref(cpu);
    for (size_t i = 0; i < SRN_LEN(keys) && ok; i++) {
        lists[i] = json_array();
        ok = lists[i] && json_object_set_new(o, keys[i], lists[i]) == 0;
    }
    ok = ok && write_list(TABLE(node_fields), m->nodes, m->n_nodes, sizeof *m->nodes, lists[0]) &&
         write_pci(m, lists[1]) && write_gpus(m, lists[2]) && write_pairs(m, lists[3]) &&
         write_list(TABLE(unknown_fields), m->unknown, m->n_unknown, sizeof *m->unknown, lists[4]);
    if (ok) return o;
    json_decref(o);
    return NULL;
}

/* ---- files ---- */

static int read_file(const char *path, bool xml, srn_hw_machine **ret, srn_err *err) {
    char *text;
    size_t len, i = 0;
    int code = srn_read_file(path, SRN__HW_MOST_FILE, &text, &len, err);
    if (code) return code;
    while (i < len && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) i++;
    xml = xml || (i < len && text[i] == '<');
    code = xml ? srn__hw_of_xml((srn_str){text, len}, path, ret, err)
               : srn_hw_machine_parse((srn_str){text, len}, path, ret, err);
    free(text);
    return code;
}

int srn_hw_machine_of_hwloc(const char *path, srn_hw_machine **ret, srn_err *err) {
    return read_file(path, true, ret, err);
}

int srn_hw_machine_load(const char *path, srn_hw_machine **ret, srn_err *err) {
    return read_file(path, false, ret, err);
}
