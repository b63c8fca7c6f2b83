/* Figures as JSON, both ways, and their files. Any thread. Refuses keys that there are not, numbers that are
 * none or out of range, types and columns that are not known, and lists that are too long; each with its
 * place.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/format.h"
#include "hardware/figures.h"

#define MOST_FILE ((size_t)4 << 20)
/* Beyond any machine, and far below where sums of products lose their sense. */
#define MOST_NUMBER 1e18

/* ---- a field of an object ---- */

typedef enum kind { REAL, SIGNED, U32, U64, TEXT, OTHER } kind;
typedef struct field {
    const char *key;
    kind kind;
    size_t offset, bytes; /* bytes: room of a text */
} field;

#define F(type, member, kind)                                                                                \
    { #member, kind, offsetof(type, member), sizeof(((type *)0)->member) }

typedef srn_hw_limits limits;
typedef srn_hw_figures figures;

static const field limit_fields[] = {
    F(limits, cpu, TEXT),
    F(limits, isa, TEXT),
    F(limits, threads, U32),
    F(limits, cpus, U32),
    F(limits, l2_bytes, U64),
    F(limits, l3_bytes, U64),
    F(limits, probe_bytes, U64),
    F(limits, huge_page_share, REAL),
    F(limits, l2_read_bytes_per_s, REAL),
    F(limits, l3_read_bytes_per_s, REAL),
    F(limits, barrier_us, REAL),
    {"read_by_threads", OTHER, 0, 0},
    {"by_isa", OTHER, 0, 0},
    {"read_bytes_per_s", OTHER, 0, 0}, /* the last of each list again, for whoever reads the file */
    {"int8_macs_per_s", OTHER, 0, 0},
    {"f32_macs_per_s", OTHER, 0, 0},
};
static const field figure_fields[] = {
    {"serin_figures", OTHER, 0, 0}, F(figures, id, TEXT),
    F(figures, name, TEXT),         F(figures, taken_us, U64),
    {"limits", OTHER, 0, 0},        {"columns", OTHER, 0, 0},
    {"products", OTHER, 0, 0},      {"attention", OTHER, 0, 0},
    {"rest", OTHER, 0, 0},          F(figures, disk_read_bytes_per_s, REAL),
};
static const field read_fields[] = {
    F(srn_hw_read, threads, U32),
    F(srn_hw_read, bytes_per_s, REAL),
};

static const field isa_fields[] = {
    F(srn_hw_isa, isa, TEXT),
    F(srn_hw_isa, int8_macs_per_s, REAL),
    F(srn_hw_isa, f32_macs_per_s, REAL),
};

typedef struct reader {
    const char *file;
    char where[64]; /* "products[3]" */
    srn_err *err;
} reader;

static int wrong(const reader *r, const char *key, const char *must) {
    return srn_fail(r->err, SRN_EFORMAT, "%s: %s%s%.64s %s", r->file, r->where,
                    r->where[0] && *key ? "." : "", key, must);
}

static int get_real(const reader *r, const json_t *o, const char *key, double least, double *to) {
    const json_t *v = json_object_get(o, key);
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= least && x <= MOST_NUMBER))
        return wrong(r, key, least < 0 ? "must be a number" : "must be a number that is not negative");
    *to = x;
    return SRN_OK;
}

static int get_whole(const reader *r, const json_t *o, const char *key, uint64_t most, uint64_t *to) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || (uint64_t)json_integer_value(v) > most)
        return wrong(r, key, "must be a whole number that is not negative");
    *to = (uint64_t)json_integer_value(v);
    return SRN_OK;
}

static int get_field(const reader *r, const json_t *o, const field *f, char *to) {
    uint64_t n = 0;
    double x = 0;
    const char *text = json_string_value(json_object_get(o, f->key));
    int code = SRN_OK;
    switch (f->kind) {
    case REAL:
    case SIGNED:
        code = get_real(r, o, f->key, f->kind == SIGNED ? -MOST_NUMBER : 0, &x);
        if (!code) memcpy(to, &x, sizeof x);
        return code;
    case U32:
        code = get_whole(r, o, f->key, UINT32_MAX, &n);
        if (!code) memcpy(to, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
        return code;
    case U64:
        code = get_whole(r, o, f->key, INT64_MAX, &n);
        if (!code) memcpy(to, &n, sizeof n);
        return code;
    case TEXT:
        if (!text) return wrong(r, f->key, "must be a text");
        snprintf(to, f->bytes, "%s", text);
        for (char *c = to; *c; c++)
            if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f) *c = '?';
        return SRN_OK;
    case OTHER:
        break;
    }
    return SRN_OK;
}

/* Every key must be one of the fields; those that are there are read. */
static int get_fields(const reader *r, json_t *o, const field *f, size_t n, void *to) {
    const char *key;
    json_t *v;
    if (!json_is_object(o)) return wrong(r, "", "must be an object");
    json_object_foreach(o, key, v) {
        size_t i = 0;
        while (i < n && strcmp(f[i].key, key) != 0) i++;
        if (i == n) return wrong(r, key, "is no key that is known here");
        int code = get_field(r, o, &f[i], (char *)to + f[i].offset);
        if (code) return code;
    }
    return SRN_OK;
}

static int get_list(reader *r, const json_t *o, const char *key, size_t most, json_t **ret) {
    *ret = json_object_get(o, key);
    r->where[0] = 0;
    if (!*ret) return SRN_OK;
    if (!json_is_array(*ret) || json_array_size(*ret) > most)
        return wrong(r, key, "must be a list, not as long");
    return SRN_OK;
}

static json_t *item(reader *r, const char *key, json_t *list, size_t i) {
    snprintf(r->where, sizeof r->where, "%s[%zu]", key, i);
    return json_array_get(list, i);
}

/* ---- limits ---- */

static int get_limits(reader *r, json_t *o, srn_hw_limits *l) {
    json_t *reads, *isas;
    snprintf(r->where, sizeof r->where, "limits");
    int code = get_fields(r, o, limit_fields, SRN_LEN(limit_fields), l);
    if (!code) code = get_list(r, o, "read_by_threads", SRN_HW_MOST_READS, &reads);
    for (size_t i = 0; !code && reads && i < json_array_size(reads); i++) {
        json_t *v = item(r, "limits.read_by_threads", reads, i);
        code = get_fields(r, v, read_fields, SRN_LEN(read_fields), &l->reads[l->n_reads++]);
    }
    if (!code) code = get_list(r, o, "by_isa", SRN_HW_MOST_ISAS, &isas);
    for (size_t i = 0; !code && isas && i < json_array_size(isas); i++) {
        json_t *v = item(r, "limits.by_isa", isas, i);
        code = get_fields(r, v, isa_fields, SRN_LEN(isa_fields), &l->isas[l->n_isas++]);
    }
    return code;
}

json_t *srn_hw_limits_json(const srn_hw_limits *l) {
    json_t *reads = json_array(), *isas = json_array();
    for (uint32_t i = 0; i < l->n_reads; i++)
        json_array_append_new(reads, json_pack("{s:I, s:f}", "threads", (json_int_t)l->reads[i].threads,
                                               "bytes_per_s", l->reads[i].bytes_per_s));
    for (uint32_t i = 0; i < l->n_isas; i++)
        json_array_append_new(isas, json_pack("{s:s, s:f, s:f}", "isa", l->isas[i].isa, "int8_macs_per_s",
                                              l->isas[i].int8_macs_per_s, "f32_macs_per_s",
                                              l->isas[i].f32_macs_per_s));
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "cpu", l->cpu, "isa", l->isa,
                          "threads", (json_int_t)l->threads, "cpus", (json_int_t)l->cpus, "l2_bytes",
                          (json_int_t)l->l2_bytes, "l3_bytes", (json_int_t)l->l3_bytes, "probe_bytes",
                          (json_int_t)l->probe_bytes, "huge_page_share", l->huge_page_share,
                          "read_by_threads", reads, "by_isa", isas);
    if (!o) return NULL;
    if (l->l2_read_bytes_per_s > 0)
        json_object_set_new(o, "l2_read_bytes_per_s", json_real(l->l2_read_bytes_per_s));
    if (l->l3_read_bytes_per_s > 0)
        json_object_set_new(o, "l3_read_bytes_per_s", json_real(l->l3_read_bytes_per_s));
    if (l->barrier_us > 0) json_object_set_new(o, "barrier_us", json_real(l->barrier_us));
    if (l->n_reads)
        json_object_set_new(o, "read_bytes_per_s", json_real(l->reads[l->n_reads - 1].bytes_per_s));
    if (l->n_isas) {
        json_object_set_new(o, "int8_macs_per_s", json_real(l->isas[l->n_isas - 1].int8_macs_per_s));
        json_object_set_new(o, "f32_macs_per_s", json_real(l->isas[l->n_isas - 1].f32_macs_per_s));
    }
    return o;
}

/* ---- products, attention, rest ---- */

static int get_ps(const reader *r, const json_t *o, const char *key, double to[SRN_HW_N_COLUMNS]) {
    const json_t *v = json_object_get(o, key);
    if (json_array_size(v) != SRN_HW_N_COLUMNS)
        return wrong(r, key, "must be a list, a number for each of columns");
    for (size_t i = 0; i < SRN_HW_N_COLUMNS; i++) {
        double x = json_number_value(json_array_get(v, i));
        if (!(x > 0 && x <= MOST_NUMBER)) return wrong(r, key, "must have numbers above 0");
        to[i] = x;
    }
    return SRN_OK;
}

static int get_product(reader *r, json_t *o, srn_hw_figures *f) {
    static const field fields[] = {{"type", OTHER, 0, 0}, {"ps", OTHER, 0, 0}, {"ps_two", OTHER, 0, 0}};
    const char *name = json_string_value(json_object_get(o, "type"));
    uint32_t t = 0;
    int code = get_fields(r, o, fields, SRN_LEN(fields), NULL);
    if (code) return code;
    while (t < SRN_TYPE_END &&
           !(name && srn_type_get(t) && srn_type_get(t)->name && !strcmp(srn_type_get(t)->name, name)))
        t++;
    if (t == SRN_TYPE_END) return wrong(r, "type", "must be a type of weights, such as Q4_K");
    code = get_ps(r, o, "ps", f->products[t].ps[0]);
    return code ? code : get_ps(r, o, "ps_two", f->products[t].ps[1]);
}

static int get_attention(reader *r, json_t *o, srn_hw_figures *f) {
    static const field fields[] = {{"kv", OTHER, 0, 0},
                                   F(srn_hw_attention, d, U32),
                                   F(srn_hw_attention, queries, U32),
                                   F(srn_hw_attention, group, U32),
                                   F(srn_hw_attention, ps, REAL)};
    srn_hw_attention a = {0};
    const char *kv = json_string_value(json_object_get(o, "kv"));
    int code = get_fields(r, o, fields, SRN_LEN(fields), &a);
    if (code) return code;
    if (!kv || !srn_kv_type_by_name(kv, &a.kv)) return wrong(r, "kv", "must be f16, f32 or q8_0");
    if (!a.d || !a.group) return wrong(r, a.d ? "group" : "d", "must be above 0");
    f->attention[f->n_attention++] = a;
    return SRN_OK;
}

static int get_rest(reader *r, json_t *o, size_t i, srn_hw_figures *f) {
    static const field fields[] = {F(srn_hw_rest, us, SIGNED), F(srn_hw_rest, ps_per_element, SIGNED)};
    return get_fields(r, o, fields, SRN_LEN(fields), &f->rest[i]);
}

static int get_columns(reader *r, json_t *root) {
    const json_t *v = json_object_get(root, "columns");
    r->where[0] = 0;
    for (size_t i = 0; i < SRN_HW_N_COLUMNS; i++)
        if (json_array_size(v) != SRN_HW_N_COLUMNS ||
            json_integer_value(json_array_get(v, i)) != srn_hw_columns((uint32_t)i))
            return wrong(r, "columns", "must be [1, 2, 4, 8, 16, 64, 512]");
    return SRN_OK;
}

static int get_lists(reader *r, json_t *root, srn_hw_figures *f) {
    json_t *v;
    int code = get_columns(r, root);
    if (!code) code = get_list(r, root, "products", SRN_TYPE_END, &v);
    for (size_t i = 0; !code && v && i < json_array_size(v); i++)
        code = get_product(r, item(r, "products", v, i), f);
    if (!code) code = get_list(r, root, "attention", SRN_HW_MOST_ATTENTION, &v);
    for (size_t i = 0; !code && v && i < json_array_size(v); i++)
        code = get_attention(r, item(r, "attention", v, i), f);
    if (!code) code = get_list(r, root, "rest", SRN_HW_N_COLUMNS, &v);
    for (size_t i = 0; !code && v && i < json_array_size(v); i++)
        code = get_rest(r, item(r, "rest", v, i), i, f);
    return code;
}

int srn_hw_figures_parse(srn_str text, const char *file, srn_hw_figures *ret, srn_err *err) {
    json_error_t je;
    reader r = {.file = file, .err = err};
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &je);
    srn_hw_figures *f = srn_calloc(1, sizeof *f);
    int code = SRN_OK;
    if (!f) code = srn_fail_nomem(err, sizeof *f);
    if (!code && !root) code = srn_fail(err, SRN_EFORMAT, "%s:%d: %s", file, je.line, je.text);
    if (!code && json_integer_value(json_object_get(root, "serin_figures")) != 1)
        code = srn_fail(err, SRN_EFORMAT,
                        "%s has no \"serin_figures\": 1, so it holds no figures; `serin probe --record FILE` "
                        "writes such a file",
                        file);
    if (!code) code = get_fields(&r, root, figure_fields, SRN_LEN(figure_fields), f);
    if (!code && json_object_get(root, "limits"))
        code = get_limits(&r, json_object_get(root, "limits"), &f->limits);
    if (!code) code = get_lists(&r, root, f);
    if (!code) *ret = *f;
    json_decref(root);
    free(f);
    return code;
}

int srn_hw_figures_load(const char *path, srn_hw_figures *ret, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(path, MOST_FILE, &text, &len, err);
    if (code) return code;
    code = srn_hw_figures_parse((srn_str){text, len}, path, ret, err);
    free(text);
    return code;
}

static json_t *ps_json(const double v[SRN_HW_N_COLUMNS]) {
    json_t *a = json_array();
    for (size_t i = 0; i < SRN_HW_N_COLUMNS; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

json_t *srn_hw_figures_json(const srn_hw_figures *f) {
    json_t *columns = json_array(), *products = json_array(), *attention = json_array(), *rest = json_array();
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++) {
        json_array_append_new(columns, json_integer(srn_hw_columns(i)));
        json_array_append_new(
            rest, json_pack("{s:f, s:f}", "us", f->rest[i].us, "ps_per_element", f->rest[i].ps_per_element));
    }
    for (uint32_t t = 0; t < SRN_TYPE_END; t++)
        if (f->products[t].ps[0][0] > 0)
            json_array_append_new(products, json_pack("{s:s, s:o, s:o}", "type", srn_type_get(t)->name, "ps",
                                                      ps_json(f->products[t].ps[0]), "ps_two",
                                                      ps_json(f->products[t].ps[1])));
    for (uint32_t i = 0; i < f->n_attention; i++)
        json_array_append_new(
            attention,
            json_pack("{s:s, s:I, s:I, s:I, s:f}", "kv", srn_kv_type_name(f->attention[i].kv), "d",
                      (json_int_t)f->attention[i].d, "queries", (json_int_t)f->attention[i].queries, "group",
                      (json_int_t)f->attention[i].group, "ps", f->attention[i].ps));
    json_t *o = json_pack("{s:i, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:o, s:o}", "serin_figures", 1, "id",
                          f->id, "name", f->name, "taken_us", (json_int_t)f->taken_us, "limits",
                          srn_hw_limits_json(&f->limits), "disk_read_bytes_per_s", f->disk_read_bytes_per_s,
                          "columns", columns, "products", products, "attention", attention, "rest", rest);
    return o;
}

/* ---- files ---- */

bool srn_hw_figures_path(const char *id, const char *isa, uint32_t threads, char *ret, size_t cap) {
    char name[160];
    snprintf(name, sizeof name, "figures/%.72s-%.24s-%u.json", id, isa, threads);
    return srn_cache_path(name, ret, cap);
}

static int write_new(const char *path, const char *text, srn_err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool ok = fd >= 0 && srn_write_all(fd, text, strlen(text)) == 0;
    int why = errno;
    if (fd >= 0 && close(fd) && ok) ok = false, why = errno;
    return ok ? SRN_OK : srn_fail(err, SRN_EIO, "%s could not be written: %s", path, strerror(why));
}

static void make_folders(const char *path) {
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *c = part + 1; *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        mkdir(part, 0777); /* what is missing shows when the file is opened */
        *c = '/';
    }
}

int srn_hw_figures_store(const srn_hw_figures *f, const char *path, srn_err *err) {
    char beside[4096];
    json_t *o = srn_hw_figures_json(f);
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the figures cannot be written as JSON");
    int n = snprintf(beside, sizeof beside, "%s.%ld.new", path, (long)getpid());
    make_folders(path);
    int code = n < (int)sizeof beside ? write_new(beside, text, err)
                                      : srn_fail(err, SRN_EINVAL, "%s is too long a path", path);
    free(text);
    if (!code && rename(beside, path))
        code = srn_fail(err, SRN_EIO, "%s could not be written: %s", path, strerror(errno));
    if (code) unlink(beside);
    return code;
}
