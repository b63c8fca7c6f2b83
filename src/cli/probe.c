/* serin probe: measures what this machine does in a second and keeps it for `serin plan`, by the machine's
 * id, in the cache folder. Main thread. Refuses types of weights that there are not; Ctrl-C keeps nothing.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "cpu/cpu.h"
#include "format/format.h"
#include "hardware/hardware.h"

typedef struct request {
    const char *types, *disk, *record;
    int64_t threads;
    bool json, quick, show;
} request;

/* Whole lists of names; the first that is none is an error. */
static int read_types(const char *list, bool types[SRN_TYPE_END], srn_err *err) {
    for (const char *at = list; *at; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        uint32_t t = 0;
        for (; t < SRN_TYPE_END; t++) {
            const srn_type_info *info = srn_type_get(t);
            if (info && info->name && strlen(info->name) == n && !strncasecmp(info->name, at, n)) break;
        }
        if (t == SRN_TYPE_END || !srn_can_quantize((srn_type)t))
            return srn_fail(
                err, SRN_EUSAGE,
                "--types: '%.*s' is no type of weights that can be made here; for example: --types "
                "Q4_K,Q6_K",
                (int)SRN_MIN(n, (size_t)40), at);
        types[t] = true;
        at += n;
    }
    return SRN_OK;
}

/* What models that people download are made of. */
static void usual_types(bool types[SRN_TYPE_END]) {
    static const srn_type usual[] = {SRN_F32,    SRN_F16,    SRN_BF16, SRN_Q8_0, SRN_Q6_K, SRN_Q5_K,
                                     SRN_Q5_1,   SRN_Q5_0,   SRN_Q4_K, SRN_Q4_1, SRN_Q4_0, SRN_Q3_K,
                                     SRN_IQ4_NL, SRN_IQ4_XS, SRN_Q2_K, SRN_MXFP4};
    for (size_t i = 0; i < SRN_LEN(usual); i++) types[usual[i]] = srn_can_quantize(usual[i]);
}

/* ---- showing them ---- */

static void print_products(const srn_hw_figures *f) {
    printf("\nweights multiplied, millions per second, by tokens of a step (q, k, v and logits in "
           "brackets)\n%-8s",
           "");
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++) printf(" %15u", srn_hw_columns(i));
    putchar('\n');
    for (uint32_t t = 0; t < SRN_TYPE_END; t++) {
        const srn_hw_product *p = &f->products[t];
        if (p->ps[0][0] <= 0) continue;
        printf("%-8s", srn_type_get(t)->name);
        for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++) {
            char cell[32];
            snprintf(cell, sizeof cell, "%.0f (%.0f)", 1e6 / p->ps[0][i], 1e6 / p->ps[1][i]);
            printf(" %15s", cell);
        }
        putchar('\n');
    }
}

static void print_rest(const srn_hw_figures *f) {
    printf("\nattention, ps for a query head and a position\n");
    for (uint32_t i = 0; i < f->n_attention; i++) {
        const srn_hw_attention *a = &f->attention[i];
        printf("%-5s heads of %-4u %u share %-8s %8.0f\n", srn_kv_type_name(a->kv), a->d, a->group,
               a->queries > 1 ? "prefill" : "decode", a->ps);
    }
    printf("\nwhat else a layer takes: us, and ps for an element\n");
    for (uint32_t i = 0; i < SRN_HW_N_COLUMNS; i++)
        printf("%3u token%s %10.1f %10.1f\n", srn_hw_columns(i), i ? "s" : " ", f->rest[i].us,
               f->rest[i].ps_per_element);
    if (f->disk_read_bytes_per_s > 0)
        printf("\nreads from the disk %.2f GB/s\n", f->disk_read_bytes_per_s / 1e9);
}

static int print(const request *r, const srn_hw_figures *f, srn_err *err) {
    if (!r->json) {
        srn__bench_limits_print(&f->limits, false);
        print_products(f);
        print_rest(f);
        return SRN_OK;
    }
    json_t *o = srn_hw_figures_json(f);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the figures cannot be written as JSON");
    puts(text);
    free(text);
    return SRN_OK;
}

/* ---- measuring ---- */

/* The machine's id and name, without waking its GPUs. */
static int name_machine(srn_hw_figures *f, srn_err *err) {
    srn_hw_discover_opts o = {.root = "", .no_load = true};
    srn_hw_machine *m;
    int code = srn_hw_discover(&o, &m, err);
    if (code) return code;
    snprintf(f->id, sizeof f->id, "%s", m->id);
    snprintf(f->name, sizeof f->name, "%s", m->name);
    srn_hw_machine_free(m);
    return SRN_OK;
}

/* Types that were not measured now, and attention of other caches, stay as they were. */
static void keep_older(const char *path, srn_hw_figures *f) {
    srn_err none = {0};
    srn_hw_figures *old = srn_calloc(1, sizeof *old);
    if (old && srn_hw_figures_load(path, old, &none) == SRN_OK) {
        for (uint32_t t = 0; t < SRN_TYPE_END; t++)
            if (f->products[t].ps[0][0] <= 0) f->products[t] = old->products[t];
        uint32_t n = f->n_attention;
        for (uint32_t i = 0; i < old->n_attention && f->n_attention < SRN_HW_MOST_ATTENTION; i++) {
            bool there = false;
            for (uint32_t k = 0; k < n; k++) there = there || f->attention[k].kv == old->attention[i].kv;
            if (!there) f->attention[f->n_attention++] = old->attention[i];
        }
    }
    free(old);
}

static int measure(const request *r, srn_hw_figures *f, srn_err *err) {
    const char *limit = getenv("SERIN_CPU");
    char disk[4096] = "";
    srn_hw_measure_opts o = {.threads = (uint32_t)r->threads,
                             .cpu_limit = limit && *limit ? limit : NULL,
                             .quick = r->quick,
                             .progress = srn_cli_progress,
                             .cancel = srn_cli_catch_interrupts()};
    int code = SRN_OK;
    if (r->types)
        code = read_types(r->types, o.types, err);
    else
        usual_types(o.types);
    if (!code && r->disk) code = srn_weights_locate(r->disk, disk, sizeof disk, err);
    if (disk[0]) o.disk_file = disk;
    if (!code) code = srn_hw_measure(&o, f, err);
    srn_cli_release_interrupts();
    return code;
}

static int run(const request *r, srn_hw_figures *f, srn_err *err) {
    const char *limit = getenv("SERIN_CPU"), *isa = srn_cpu_level(limit && *limit ? limit : NULL);
    uint32_t threads = r->threads ? (uint32_t)r->threads : srn_cpu_count();
    char path[4096] = "";
    srn_hw_figures name = {.id = ""};
    int code = name_machine(&name, err);
    if (code) return code;
    if (isa && !srn_hw_figures_path(name.id, isa, threads, path, sizeof path)) path[0] = 0;
    if (r->show) {
        code = srn_hw_figures_load(path, f, err);
        if (code == SRN_ENOENT)
            srn_fail_prefix(err, code, "this machine was not measured yet; run `serin probe`");
        return code ? code : print(r, f, err);
    }
    code = measure(r, f, err);
    if (code) return code;
    memcpy(f->id, name.id, sizeof f->id);
    memcpy(f->name, name.name, sizeof f->name);
    const char *to = r->record ? r->record : path;
    if (!r->record && path[0]) keep_older(path, f);
    if (*to) code = srn_hw_figures_store(f, to, err);
    return code ? code : print(r, f, err);
}

int srn__cmd_probe(int argc, char **argv) {
    request r = {.types = NULL};
    const srn_opt opts[] = {
        {"json", 0, SRN_OPT_FLAG, &r.json, 0, 0, NULL, "print the figures as JSON"},
        {"quick", 0, SRN_OPT_FLAG, &r.quick, 0, 0, NULL,
         "shorter turns, and attention over an f16 cache alone"},
        {"types", 0, SRN_OPT_STR, &r.types, 0, 0, "A,B",
         "types of weights to measure (those that most models have)"},
        {"disk", 0, SRN_OPT_STR, &r.disk, 0, 0, "MODEL",
         "also how fast this file is read past the page cache"},
        {"threads", 't', SRN_OPT_INT, &r.threads, 1, 1024, "N", "threads (all CPUs)"},
        {"record", 0, SRN_OPT_STR, &r.record, 0, 0, "FILE",
         "write the figures there, not to the cache folder"},
        {"show", 0, SRN_OPT_FLAG, &r.show, 0, 0, NULL, "measure nothing: what was measured last"},
    };
    const srn_cli_spec spec = {
        .usage = "serin probe [--quick] [--types A,B] [--disk MODEL] [--threads N] [--record FILE | --show] "
                 "[--json]",
        .about =
            "Measures this machine: what memory, caches and instructions give at most, and how long the\n"
            "engine's own work takes: products of each type of weights by tokens of a step, attention, and\n"
            "the rest of a layer. `serin plan` predicts from it. Kept in the cache folder by the machine's\n"
            "id. Takes about a minute, of which nothing else should run; docs/probe.md explains the figures.",
        .examples = "  serin probe\n"
                    "  serin probe --quick --types Q4_K,Q6_K\n"
                    "  serin probe --disk smollm2\n"
                    "  serin probe --record figures.json      # to plan for this machine on another one\n"
                    "  serin probe --show --json | jq .limits\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    int n, stop = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (stop >= 0) return stop;
    srn_err err = {0};
    srn_hw_figures *f = srn_calloc(1, sizeof *f);
    int code = f ? run(&r, f, &err) : srn_fail_nomem(&err, sizeof *f);
    free(f);
    return code ? srn_cli_error("probe", &err) : srn_cli_flush("probe");
}
