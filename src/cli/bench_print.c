/* serin bench: what was measured, as a table, as Markdown, as JSON (docs/bench.md). */
#include <inttypes.h>
#include <jansson.h>

#include "cli/bench.h"
#include "cli/cli.h"

/* ---- JSON ---- */

static json_t *result_json(const srn_bench_result *x) {
    return json_pack("{s:s, s:{s:f, s:f, s:f}, s:f, s:s, s:{s:f, s:f, s:f}, s:{s:f, s:f, s:f, s:f}}", "test",
                     x->test, "tok_per_s", "median", x->tok_per_s.median, "min", x->tok_per_s.min, "max",
                     x->tok_per_s.max, "limit_share", x->limit_share, "limit", x->limit, "shares", "read",
                     x->read_share, "int8", x->int8_share, "f32", x->f32_share, "per_token", "int8_macs",
                     x->each.int8_macs, "f32_macs", x->each.f32_macs, "weights_bytes", x->each.weights_bytes,
                     "kv_bytes", x->each.kv_bytes);
}

static json_t *machine_json(const srn_bench_machine *m) {
    return json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:I, s:f}", "cpu", m->cpu, "isa", m->isa, "threads",
                     (int)m->threads, "read_bytes_per_s", m->limits.read_bytes_per_s, "int8_macs_per_s",
                     m->limits.int8_macs_per_s, "f32_macs_per_s", m->limits.f32_macs_per_s, "probe_bytes",
                     (json_int_t)m->probe_bytes, "huge_page_share", m->huge_share);
}

static int print_json(const srn_bench_report *r, srn_err *err) {
    const srn_engine_info *e = &r->engine;
    json_t *results = json_array();
    for (size_t i = 0; i < r->n; i++) json_array_append_new(results, result_json(&r->results[i]));
    json_t *model = json_pack("{s:s, s:s, s:s, s:s?, s:I, s:I, s:s, s:i, s:s}", "path", r->path,
                              "architecture", e->architecture, "quantisation", r->info->quantisation,
                              "weights_id", r->weights_id[0] ? r->weights_id : NULL, "parameters",
                              (json_int_t)r->info->parameters, "weights_bytes", (json_int_t)e->weights_bytes,
                              "engine", e->engine_id, "numerics", SRN_NUMERICS_ID, "kv", r->kv);
    json_t *o = json_pack("{s:o, s:o, s:i, s:o}", "machine", machine_json(&r->machine), "model", model,
                          "reps", (int)r->reps, "results", results);
    if (!o) return srn_fail(err, SRN_EINVAL, "the result cannot be written as JSON: the path is not UTF-8");
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(o);
    putchar('\n');
    return SRN_OK;
}

/* ---- for people ---- */

static void print_head(const srn_bench_report *r) {
    const srn_bench_machine *m = &r->machine;
    srn_cli_put_text(stdout, srn_str_of(r->path), SIZE_MAX, false);
    printf(": %s, %s, %.0f MB; %s\n", r->engine.architecture, r->info->quantisation,
           (double)r->info->tensor_bytes / 1e6, r->engine.engine_id);
    printf("%s, %" PRIu32 " thread%s: reads %.1f GB/s, %.0f G int8 and %.0f G f32 multiply-adds/s\n", m->cpu,
           m->threads, m->threads == 1 ? "" : "s", m->limits.read_bytes_per_s / 1e9,
           m->limits.int8_macs_per_s / 1e9, m->limits.f32_macs_per_s / 1e9);
}

/* What the share is a share of. */
static const char *limit_text(const srn_bench_result *x) {
    return strcmp(x->limit, "read") == 0 ? "memory reads" : "multiply-adds";
}

static void print_table(const srn_bench_report *r) {
    print_head(r);
    printf("\n%-16s %10s %10s %10s   %s\n", "test", "tok/s", "min", "max", "share of the limit");
    for (size_t i = 0; i < r->n; i++) {
        const srn_bench_result *x = &r->results[i];
        printf("%-16s %10.1f %10.1f %10.1f   %3.0f %% of %s\n", x->test, x->tok_per_s.median,
               x->tok_per_s.min, x->tok_per_s.max, 100 * x->limit_share, limit_text(x));
    }
    printf("\nmedians of %zu run%s\n", r->reps, r->reps == 1 ? "" : "s");
}

static void print_markdown(const srn_bench_report *r) {
    print_head(r);
    printf("\n| test | tok/s | min | max | share of the limit |\n|---|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < r->n; i++) {
        const srn_bench_result *x = &r->results[i];
        printf("| %s | %.1f | %.1f | %.1f | %.0f %% of %s |\n", x->test, x->tok_per_s.median,
               x->tok_per_s.min, x->tok_per_s.max, 100 * x->limit_share, limit_text(x));
    }
}

int srn__bench_print(const srn_bench_report *r, srn_bench_format format, srn_err *err) {
    switch (format) {
    case SRN_BENCH_JSON:
        return print_json(r, err);
    case SRN_BENCH_MARKDOWN:
        print_markdown(r);
        break;
    case SRN_BENCH_TABLE:
        print_table(r);
        break;
    }
    return SRN_OK;
}
