/* What one token costs to draw, per kind of sampling, and to compare with another model's, on the logits of
 * real models: microseconds of CPU time, the quickest of some runs. sampler_bench MODEL.gguf...
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/sampler_internal.h"

enum { ROWS = 64, REPS = 15 };

typedef struct kind {
    const char *name;
    srn_sampling p;
    bool masked;
    uint32_t n_top; /* log-probabilities too */
    bool logprobs;
} kind;

static double cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

typedef struct rows {
    float *logits; /* [ROWS, n] */
    uint32_t n;
    int32_t *history; /* [ROWS] */
    uint64_t *allowed;
    void *scratch;
} rows;

static double run(const rows *r, const kind *k) {
    double least = 1e30;
    volatile int32_t sink = 0;
    for (int rep = 0; rep < REPS; rep++) {
        double start = cpu_us();
        for (uint32_t i = 0; i < ROWS; i++) {
            const float *row = r->logits + (size_t)i * r->n;
            int32_t token = srn__draw(&(srn__draw_in){.logits = row,
                                                      .n_vocab = r->n,
                                                      .params = &k->p,
                                                      .history = r->history,
                                                      .n_history = ROWS,
                                                      .n_prompt = ROWS / 2,
                                                      .position = i,
                                                      .allowed = k->masked ? r->allowed : NULL,
                                                      .scratch = r->scratch});
            srn_top_token tops[20];
            float logprob;
            if (k->logprobs) srn__logprobs(row, r->n, token, k->n_top, &logprob, tops);
            sink = sink + token;
        }
        least = SRN_MIN(least, (cpu_us() - start) / ROWS);
    }
    return least;
}

/* The constant of log-probabilities, and two models' rows compared. */
static void run_rows(const rows *r) {
    double least[2] = {1e30, 1e30};
    volatile double sink = 0;
    for (int rep = 0; rep < REPS; rep++) {
        double start = cpu_us();
        for (uint32_t i = 0; i < ROWS; i++) sink = sink + srn_log_sum_exp(r->logits + (size_t)i * r->n, r->n);
        double middle = cpu_us();
        for (uint32_t i = 0; i + 1 < ROWS; i++) {
            srn__row_distance d;
            const float *row = r->logits + (size_t)i * r->n;
            srn__compare_rows(row, row + r->n, r->n, 0, &d);
            sink = sink + d.jsd;
        }
        least[0] = SRN_MIN(least[0], (middle - start) / ROWS);
        least[1] = SRN_MIN(least[1], (cpu_us() - middle) / (ROWS - 1));
    }
    printf("  %-40s %8.1f us\n", "log-sum-exp", least[0]);
    printf("  %-40s %8.1f us\n", "two rows compared", least[1]);
}

static srn_sampling with(float temperature, int32_t top_k, float top_p, float min_p) {
    srn_sampling p = srn_sampling_default();
    p.temperature = temperature, p.top_k = top_k, p.top_p = top_p, p.min_p = min_p;
    return p;
}

static void bench(const rows *r) {
    kind kinds[] = {
        {.name = "greedy", .p = with(0, 0, 1, 0)},
        {.name = "greedy, logprobs, top 5", .p = with(0, 0, 1, 0), .logprobs = true, .n_top = 5},
        {.name = "greedy, logprobs, top 20", .p = with(0, 0, 1, 0), .logprobs = true, .n_top = 20},
        {.name = "greedy, mask", .p = with(0, 0, 1, 0), .masked = true},
        {.name = "temp 0.8 top_k 40 top_p .95 min_p .05", .p = with(0.8f, 40, 0.95f, 0.05f)},
        {.name = "temp 1", .p = with(1, 0, 1, 0)},
        {.name = "temp 1 top_p .9", .p = with(1, 0, 0.9f, 0)},
        {.name = "temp 1 top_p .95", .p = with(1, 0, 0.95f, 0)},
        {.name = "temp 1 top_p .95, mask", .p = with(1, 0, 0.95f, 0), .masked = true},
        {.name = "temp 1.5 top_p .95", .p = with(1.5f, 0, 0.95f, 0)},
        {.name = "temp 1 min_p .05", .p = with(1, 0, 1, 0.05f)},
        {.name = "temp 1 typical_p .9", .p = with(1, 0, 1, 0)},
        {.name = "temp 1 top_k 40 penalties, DRY", .p = with(1, 40, 1, 0)},
        {.name = "temp 1 top_k 5000", .p = with(1, 5000, 1, 0)},
    };
    for (size_t i = 0; i < SRN_LEN(kinds); i++) {
        srn_sampling *p = &kinds[i].p;
        if (strstr(kinds[i].name, "typical")) p->typical_p = 0.9f;
        if (strstr(kinds[i].name, "DRY"))
            p->repeat_penalty = 1.1f, p->presence_penalty = 0.5f, p->frequency_penalty = 0.5f,
            p->dry_multiplier = 0.8f;
        printf("  %-40s %8.1f us\n", kinds[i].name, run(r, kinds + i));
    }
    run_rows(r);
}

static int bench_model(const char *path) {
    srn_err err = {0};
    srn_engine *e = NULL;
    srn_session *s = NULL;
    int32_t *prompt = NULL;
    uint32_t n_prompt = 0;
    static const char text[] =
        "The kestrel hovers over the field, and then it drops. Once, in the north of the "
        "country, a man who kept birds told me how they learn to hunt: nobody shows them, "
        "they fail for weeks, and the ones that live have found out by themselves how to "
        "hold still in the wind, which is harder than it looks from below, he said.";
    int code = srn_engine_open(path, &(srn_engine_opts){.n_ctx = 512}, &e, &err);
    if (!code) code = srn_session_new(e, &s, &err);
    if (!code) code = srn_engine_tokenize(e, text, sizeof text - 1, 0, &prompt, &n_prompt, &err);
    rows r = {.n = code ? 1 : srn_engine_get_info(e).n_vocab};
    r.logits = srn_calloc((size_t)ROWS * r.n, sizeof *r.logits);
    r.allowed = srn_calloc(r.n / 64 + 1, sizeof *r.allowed);
    r.scratch = srn_calloc(1, srn__draw_scratch_bytes(r.n));
    r.history = prompt;
    for (uint32_t i = 0; i < r.n; i++)
        if (i * 2654435761u >> 30) r.allowed[i / 64] |= 1ull << (i % 64);
    if (!code && n_prompt < ROWS) code = srn_fail(&err, SRN_EINVAL, "the text has only %u tokens", n_prompt);
    if (!code) code = srn_session_feed_all(s, prompt, ROWS, r.logits, &err);
    if (!code) printf("%s, %u logits\n", path, r.n);
    if (!code) bench(&r);
    if (code) fprintf(stderr, "%s\n", err.text);
    srn_session_free(s);
    srn_engine_close(e);
    free(prompt);
    free(r.logits);
    free(r.allowed);
    free(r.scratch);
    return code;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (bench_model(argv[i])) return 1;
    return 0;
}
