/* serin plan: placements for people and as JSON. Main thread. */
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/plan.h"

int srn__plan_put_json(json_t *o, srn_err *err) {
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the plan cannot be written as JSON");
    puts(text);
    free(text);
    return SRN_OK;
}

/* ---- JSON ---- */

static json_t *memory_json(const srn_hw_placement *p) {
    const srn_hw_memory *m = &p->memory;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights_bytes",
                     (json_int_t)m->weights, "kv_bytes", (json_int_t)m->kv, "work_bytes", (json_int_t)m->work,
                     "scheduler_bytes", (json_int_t)m->scheduler, "vocabulary_bytes",
                     (json_int_t)m->vocabulary, "process_bytes", (json_int_t)m->process, "all_bytes",
                     (json_int_t)m->all, "cache_tokens", (json_int_t)m->cache_tokens, "available_bytes",
                     (json_int_t)p->available, "headroom_bytes", (json_int_t)p->headroom);
}

static json_t *speed_json(const srn_hw_speed *s) {
    return json_pack("{s:s, s:I, s:I, s:f, s:{s:f, s:f, s:f, s:f, s:f}}", "kind",
                     s->prefill ? "prefill" : "decode", "sequences", (json_int_t)s->n_seqs, "context",
                     (json_int_t)s->n_ctx, "tok_per_s", s->tok_per_s, "seconds", "products", s->time.products,
                     "attention", s->time.attention, "rest", s->time.rest, "head", s->time.head, "all",
                     s->time.all);
}

static json_t *placement_json(const srn_hw_placement *p) {
    json_t *speeds = json_array();
    for (uint32_t i = 0; i < p->n_speeds; i++) json_array_append_new(speeds, speed_json(&p->speeds[i]));
    const char *lacks = p->unmeasured < SRN_TYPE_END ? srn_type_get((uint32_t)p->unmeasured)->name : NULL;
    return json_pack("{s:s, s:b, s:o, s:I, s:I, s:o, s:s?}", "placement", srn_hw_where_name(p->where), "fits",
                     p->fits, "memory", memory_json(p), "longest_context", (json_int_t)p->longest_ctx,
                     "most_sequences", (json_int_t)p->most_sequences, "speeds",
                     p->has_speeds ? speeds : (json_decref(speeds), json_null()), "unmeasured_type", lacks);
}

static json_t *head_json(const srn__plan_ask *a, const char *model) {
    return json_pack("{s:s, s:{s:s, s:s, s:b, s:o}, s:{s:I, s:I, s:s}}", "model", model, "machine", "id",
                     a->machine->id, "name", a->machine->name, "predicted", a->foreign, "measured_us",
                     a->figures ? json_integer((json_int_t)a->figures->taken_us) : json_null(), "settings",
                     "context", (json_int_t)a->s.n_ctx, "sequences", (json_int_t)a->s.n_seqs, "kv",
                     srn_kv_type_name(a->s.kv));
}

/* ---- for people ---- */

static double mb(uint64_t bytes) {
    return (double)bytes / 1e6;
}

static void print_machine(const srn__plan_ask *a, const char *model) {
    srn_cli_put_text(stdout, srn_str_of(model), 200, false);
    printf(" on ");
    srn_cli_put_text(stdout, srn_str_of(a->machine->cpu.name), 100, false);
    printf(", %u threads, %s%s\n", a->figures ? a->figures->limits.threads : a->machine->cpu.threads,
           a->figures ? a->figures->limits.isa : a->machine->cpu.isa,
           a->foreign ? " (another machine: predicted only)" : "");
}

static void print_why_no_speeds(const srn_hw_placement *p) {
    if (p->has_speeds) return;
    if (p->unmeasured < SRN_TYPE_END) {
        const char *t = srn_type_get((uint32_t)p->unmeasured)->name;
        printf("speeds: unknown, since weights of %s were not measured; run `serin probe --types %s`\n", t,
               t);
    } else {
        printf("speeds: unknown, since the machine was not measured; run `serin probe` (a minute)\n");
    }
}

static void print_memory(const srn__plan_ask *a, const srn_hw_placement *p) {
    const srn_hw_memory *m = &p->memory;
    printf("placement %s: %s, %.1f MB of %.1f MB, of which %.1f MB stay free\n", srn_hw_where_name(p->where),
           p->fits ? "fits" : "does not fit", mb(m->all), mb(p->available), mb(p->headroom));
    printf("  weights %.1f, cache %.1f for %llu positions (%s), work %.1f, scheduler %.1f, vocabulary %.1f, "
           "process "
           "%.1f\n",
           mb(m->weights), mb(m->kv), (unsigned long long)m->cache_tokens, srn_kv_type_name(a->s.kv),
           mb(m->work), mb(m->scheduler), mb(m->vocabulary), mb(m->process));
    if (p->longest_ctx)
        printf("  %u sequence%s of up to %u tokens fit", a->s.n_seqs, a->s.n_seqs == 1 ? "" : "s",
               p->longest_ctx);
    else
        printf("  no context of %u sequence%s fits", a->s.n_seqs, a->s.n_seqs == 1 ? "" : "s");
    printf("; of %u tokens, %s%u sequences\n", a->s.n_ctx, p->most_sequences ? "up to " : "",
           p->most_sequences);
}

static void print_speeds(const srn__plan_ask *a, const srn_hw_placement *p) {
    if (!p->n_speeds) return;
    printf("\n%-10s %9s %9s %12s", "", "sequences", "context", "tokens/s");
    printf(a->explain ? " %12s %10s %10s %10s %10s\n" : "\n", "ms", "products", "attention", "rest",
           "logits");
    for (uint32_t i = 0; i < p->n_speeds; i++) {
        const srn_hw_speed *s = &p->speeds[i];
        printf("%-10s %9u %9u %12.1f", s->prefill ? "prefill" : "decode", s->n_seqs, s->n_ctx, s->tok_per_s);
        if (a->explain)
            printf(" %12.2f %10.2f %10.2f %10.2f %10.2f", 1e3 * s->time.all, 1e3 * s->time.products,
                   1e3 * s->time.attention, 1e3 * s->time.rest, 1e3 * s->time.head);
        putchar('\n');
    }
}

/* The numbers that the times are made of. */
static void print_arithmetic(const srn__plan_ask *a, const srn_model *m) {
    srn_cost c = {0};
    srn_cost_add(m, a->s.kv, &(srn_cost_step){.n_seqs = 1, .n_past = 0, .n_tokens = 1, .n_rows = 1}, &c);
    printf("\na token: %.1f MB of weights as the file has them, %.0f M multiply-adds of codes, %.0f M of "
           "f32; %u layers "
           "of %.0f elements\n",
           c.weights_bytes / 1e6, c.int8_macs / 1e6, c.f32_macs / 1e6, m->hp.n_layer,
           srn_hw_layer_elements(m));
    if (a->figures && a->figures->limits.n_reads) {
        double read = a->figures->limits.reads[a->figures->limits.n_reads - 1].bytes_per_s;
        printf("memory gives %.1f GB/s, so one sequence can have at most %.1f tokens/s\n", read / 1e9,
               read / SRN_MAX(c.weights_bytes, 1.0));
    }
    printf("products: weights times ps a weight at that many tokens, matrix by matrix; attention: pairs of "
           "head and\n"
           "position times ps; rest: us and ps an element for each layer (docs/probe.md, `serin probe "
           "--show`)\n");
}

int srn__plan_print(const srn__plan_ask *a, const srn__plan_model *m, const srn_hw_placement *p, uint32_t n,
                    srn_err *err) {
    if (a->json) {
        json_t *o = head_json(a, m->name), *all = json_array();
        for (uint32_t i = 0; i < n; i++) json_array_append_new(all, placement_json(&p[i]));
        if (o) json_object_set_new(o, "placements", all);
        return srn__plan_put_json(o, err);
    }
    print_machine(a, m->name);
    for (uint32_t i = 0; i < n; i++) {
        print_memory(a, &p[i]);
        print_speeds(a, &p[i]);
        print_why_no_speeds(&p[i]);
    }
    if (a->explain) print_arithmetic(a, m->m);
    return SRN_OK;
}

static double speed_at(const srn_hw_placement *p, bool prefill) {
    for (uint32_t i = 0; i < p->n_speeds; i++)
        if (p->speeds[i].prefill == prefill && p->speeds[i].n_seqs == 1) return p->speeds[i].tok_per_s;
    return 0;
}

int srn__plan_print_quants(const srn__plan_ask *a, const char *name, const srn__plan_quant *q, size_t n,
                           srn_err *err) {
    if (a->json) {
        json_t *o = head_json(a, name), *all = json_array();
        for (size_t i = 0; i < n; i++) {
            json_t *row = json_pack("{s:s, s:I, s:o}", "quant", q[i].quant, "tensor_bytes",
                                    (json_int_t)q[i].bytes, "placement", placement_json(&q[i].p));
            json_array_append_new(all, row);
        }
        if (o) json_object_set_new(o, "quants", all);
        return srn__plan_put_json(o, err);
    }
    print_machine(a, name);
    printf("%u sequence%s of %u tokens, cache %s; tokens/s at the shortest context, one sequence\n\n",
           a->s.n_seqs, a->s.n_seqs == 1 ? "" : "s", a->s.n_ctx, srn_kv_type_name(a->s.kv));
    printf("%-9s %10s %12s %6s %12s %10s %10s\n", "quant", "file MB", "memory MB", "fits", "longest ctx",
           "prefill", "decode");
    for (size_t i = 0; i < n; i++) {
        const srn_hw_placement *p = &q[i].p;
        printf("%-9s %10.1f %12.1f %6s %12u", q[i].quant, mb(q[i].bytes), mb(p->memory.all),
               p->fits ? "yes" : "no", p->longest_ctx);
        if (p->has_speeds)
            printf(" %10.1f %10.1f\n", speed_at(p, true), speed_at(p, false));
        else
            printf(" %10s %10s\n", "unknown", "unknown");
    }
    for (size_t i = 0; i < n; i++)
        if (!q[i].p.has_speeds) return print_why_no_speeds(&q[i].p), SRN_OK;
    return SRN_OK;
}
