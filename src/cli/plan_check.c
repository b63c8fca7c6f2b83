/* serin plan --check: what was foretold beside what is. Memory is what the process takes for an engine and
 * its scheduler with these settings. Times are those of steps of a device of its own, whose cache is filled
 * with copies, so that depths need not be computed first: a prompt's time is that of its first, middle and
 * last step. Main thread.
 */
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/plan.h"
#include "engine/engine.h"
#include "engine/scheduler.h"

typedef struct check_row {
    bool prefill;
    uint32_t n_seqs, n_ctx;
    double predicted, measured; /* tokens per second */
} check_row;

typedef struct check {
    const srn__plan_ask *a;
    const srn__plan_model *m;
    uint64_t memory, memory_predicted;
    check_row rows[16];
    uint32_t n;
} check;

/* ---- memory ---- */

/* Bytes of private writable mappings, in use or reserved. */
static uint64_t data_bytes(void) {
    char line[256];
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmData: %" SCNu64 " kB", &kib) == 1) break;
    if (f) fclose(f);
    return kib * 1024;
}

/* Address space that a thread's stack reserves, of which next to nothing is used. */
static uint64_t stack_bytes(void) {
    pthread_attr_t attr;
    size_t n = 0;
    if (pthread_attr_init(&attr)) return 0;
    if (pthread_attr_getstacksize(&attr, &n)) n = 0;
    pthread_attr_destroy(&attr);
    return n;
}

static int measure_memory(check *c, srn_err *err) {
    const srn_hw_settings *s = &c->a->s;
    srn_hw_memory p;
    srn_engine *e = NULL;
    srn_scheduler *scheduler = NULL;
    srn_engine_opts o = {.threads = s->threads,
                         .n_ctx = s->n_ctx,
                         .max_seqs = s->n_seqs,
                         .cache_tokens = (uint64_t)s->n_ctx * s->n_seqs,
                         .kv_type = srn_kv_type_name(s->kv),
                         .progress = srn_cli_progress};
    malloc_trim(0); /* what was freed while the model was made is not there for the engine to use again */
    uint64_t before = data_bytes();
    int code = srn_hw_predict_memory(c->m->m, s, &p, err);
    if (!code) code = srn_engine_open(c->m->path, &o, &e, err);
    if (!code) code = srn_scheduler_new(NULL, &scheduler, err);
    if (!code) code = srn_scheduler_add(scheduler, e, err);
    if (!code) {
        uint64_t stacks =
            stack_bytes() * srn_engine_get_info(e).threads; /* the pool's but one, the scheduler's */
        c->memory = data_bytes() - before - stacks;
        c->memory_predicted = p.all;
    }
    if (scheduler && e) srn_scheduler_remove(scheduler, e, 0);
    srn_scheduler_free(scheduler);
    srn_engine_close(e);
    return code;
}

/* ---- times ---- */

static int time_of(srn_hw_steps *s, uint32_t n_seqs, uint32_t n_past, uint32_t n_tokens, uint32_t reps,
                   double *ret, srn_err *err) {
    double turns[32], warm_up;
    int code = reps > 1 ? srn_hw_steps_time(s, n_seqs, n_past, n_tokens, true, &warm_up, err) : SRN_OK;
    for (uint32_t i = 0; i < reps && !code; i++)
        code = srn_hw_steps_time(s, n_seqs, n_past, n_tokens, true, &turns[i], err);
    if (!code) *ret = srn_hw_median(turns, reps);
    return code;
}

/* First, middle and last step; the time of a step is nearly a line over its depth. */
static int time_prefill(srn_hw_steps *s, uint32_t n, double *ret, srn_err *err) {
    uint32_t step = SRN_MIN(n, 512u), depths[3] = {0, (n - step) / 2, n - step};
    double sum = 0, t = 0;
    uint32_t points = n > step ? 3 : 1;
    for (uint32_t i = 0; i < points; i++) {
        int code = time_of(s, 1, depths[i], step, points == 1 ? 3 : 1, &t, err);
        if (code) return code;
        sum += t;
    }
    *ret = sum / points * n / step;
    return SRN_OK;
}

static int check_speeds(check *c, srn_hw_steps *s, const srn_hw_placement *p, srn_err *err) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < p->n_speeds && c->n < SRN_LEN(c->rows) && !code; i++) {
        const srn_hw_speed *v = &p->speeds[i];
        double t = 0;
        if (v->n_seqs > SRN_MAX(c->a->s.n_seqs, 1u)) continue;
        code = v->prefill ? time_prefill(s, v->n_ctx, &t, err)
                          : time_of(s, v->n_seqs, v->n_ctx - 1, 1, 12, &t, err);
        double tokens = v->prefill ? v->n_ctx : v->n_seqs;
        if (!code) c->rows[c->n++] = (check_row){v->prefill, v->n_seqs, v->n_ctx, v->tok_per_s, tokens / t};
        srn_cli_progress(NULL, "checking", i + 1, p->n_speeds);
    }
    return code;
}

static int measure_times(check *c, const srn_hw_placement *p, srn_err *err) {
    const srn_hw_settings *s = &c->a->s;
    srn_hw_steps *steps;
    srn_hw_steps_opts o = {.threads = s->threads,
                           .cpu_limit = s->cpu_limit,
                           .kv = s->kv,
                           .n_seqs = s->n_seqs,
                           .n_ctx = s->n_ctx,
                           .progress = srn_cli_progress};
    int code = srn_hw_steps_new(c->m->m, &o, &steps, err);
    if (code) return code;
    code = check_speeds(c, steps, p, err);
    srn_hw_steps_free(steps);
    return code;
}

/* ---- showing it ---- */

static double error_of(double predicted, double measured) {
    return measured > 0 ? predicted / measured - 1 : 0;
}

static int print(const check *c, srn_err *err) {
    double memory = error_of((double)c->memory_predicted, (double)c->memory);
    if (c->a->json) {
        json_t *rows = json_array();
        for (uint32_t i = 0; i < c->n; i++) {
            const check_row *r = &c->rows[i];
            json_array_append_new(rows, json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "kind",
                                                  r->prefill ? "prefill" : "decode", "sequences",
                                                  (json_int_t)r->n_seqs, "context", (json_int_t)r->n_ctx,
                                                  "predicted", r->predicted, "measured", r->measured, "error",
                                                  error_of(r->predicted, r->measured)));
        }
        return srn__plan_put_json(json_pack("{s:s, s:{s:I, s:I, s:f}, s:o}", "model", c->m->name, "memory",
                                            "predicted", (json_int_t)c->memory_predicted, "measured",
                                            (json_int_t)c->memory, "error", memory, "speeds", rows),
                                  err);
    }
    srn_cli_put_text(stdout, srn_str_of(c->m->name), 200, false);
    printf("\nmemory: %.1f MB predicted, %.1f MB measured, %+.1f %%\n\n", (double)c->memory_predicted / 1e6,
           (double)c->memory / 1e6, 100 * memory);
    printf("%-10s %9s %9s %12s %12s %8s\n", "", "sequences", "context", "predicted", "measured", "error");
    for (uint32_t i = 0; i < c->n; i++) {
        const check_row *r = &c->rows[i];
        printf("%-10s %9u %9u %12.1f %12.1f %+7.1f%%\n", r->prefill ? "prefill" : "decode", r->n_seqs,
               r->n_ctx, r->predicted, r->measured, 100 * error_of(r->predicted, r->measured));
    }
    return SRN_OK;
}

int srn__plan_check(const srn__plan_ask *a, const srn__plan_model *m, srn_err *err) {
    srn_hw_placement p[SRN_HW_MOST_PLACEMENTS];
    uint32_t n = 0;
    check c = {.a = a, .m = m};
    int code = srn_hw_plan(m->m, a->figures, &a->s, a->available, p, &n, err);
    if (code) return code;
    if (!p[0].fits)
        return srn_fail(err, SRN_ENOMEM,
                        "%s needs %.1f MB and %.1f MB are available, so it cannot be run here; ask for a "
                        "smaller --ctx or --parallel",
                        m->name, (double)p[0].memory.all / 1e6, (double)p[0].available / 1e6);
    /* In this order, for what was freed stays with the heap. A model made in memory gives its weights back
     * once they were packed and reads as zeros then, which takes as long. */
    code = measure_memory(&c, err);
    if (!code) code = measure_times(&c, &p[0], err);
    return code ? code : print(&c, err);
}
