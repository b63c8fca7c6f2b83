/* The time of one step of a model over how many sequences it serves: n sequences decode a token each, at a
 * context of so many positions, alone or beside a chunk of a prompt.
 *
 *   batch_bench MODEL [--table NAME] [--kv TYPE] [--context N] [--threads N] [--seconds S] [--chunk N]
 *               [--only N]
 *
 * The time is the least of the runs, for neighbours on the machine only ever slow it down: one thread's
 * processor time, or with several threads the wall's. "logits" counts the head, for every sequence wants its
 * logits.
 */
#include <stdlib.h>
#include <time.h>

#include "cpu/cpu.h"

enum { MAX_SEQUENCES = 128, OWN_SEQUENCES = 32, MAX_CHUNK = 512 };

typedef struct bench {
    srn_weights *weights;
    srn_model *model;
    srn_device *device;
    uint32_t context, chunk, blocks_each, own; /* own: sequences with blocks of their own; more share these */
    double seconds;
    uint32_t *tables; /* [own + 1][blocks_each]; the last is the prompt's */
    float *logits;
} bench;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(int code, const srn_err *err) {
    if (!code) return;
    fprintf(stderr, "batch_bench: %s\n", err->text);
    exit(1);
}

/* A step of n sequences at the end of the context, beside a chunk of the prompt; SRN_KV_NONE before windows.
 */
static double step(bench *b, uint32_t n, uint32_t chunk, uint32_t n_past, srn_err *err) {
    int32_t tokens[MAX_SEQUENCES + MAX_CHUNK];
    srn_slice slices[MAX_SEQUENCES + 1];
    uint32_t wanted[MAX_SEQUENCES];
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *table = b->tables + (size_t)(i % b->own) * b->blocks_each;
        slices[i] =
            (srn_slice){.blocks = {table, table}, .n_past = n_past - i % 16, .n_tokens = 1, .first = i};
        tokens[i] = (int32_t)(100 + i), wanted[i] = i;
    }
    const uint32_t *own = b->tables + (size_t)b->own * b->blocks_each;
    if (chunk) slices[n] = (srn_slice){.blocks = {own, own}, .n_tokens = chunk, .first = n};
    for (uint32_t i = 0; i < chunk; i++) tokens[n + i] = (int32_t)(5 + i * 7 % 90);
    srn_batch batch = {.tokens = tokens,
                       .n_tokens = n + chunk,
                       .slices = slices,
                       .n_slices = n + (chunk != 0),
                       .wanted = wanted,
                       .n_wanted = n,
                       .logits = b->logits};
    clockid_t clock = b->device->ops->threads(b->device) > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    double t = now(clock);
    check(b->device->ops->forward(b->device, &batch, err), err);
    return now(clock) - t;
}

static double best_of(bench *b, uint32_t n, uint32_t chunk, srn_err *err) {
    double best = 1e9, start = now(CLOCK_MONOTONIC);
    for (int i = 0; i < 3 || now(CLOCK_MONOTONIC) - start < b->seconds; i++) {
        double t = step(b, n, chunk, b->context, err);
        if (t < best) best = t;
    }
    return best;
}

/* The first positions of one sequence are computed, all others are copies of their blocks. */
static void fill_cache(bench *b, srn_err *err) {
    uint32_t groups = 0;
    srn_kv_group group[SRN_KV_MAX_GROUPS];
    groups = srn_kv_groups(b->model, group);
    for (uint32_t i = 0; i < (b->own + 1) * b->blocks_each; i++) b->tables[i] = i;
    int32_t tokens[MAX_CHUNK];
    uint32_t n = SRN_MIN(b->context, (uint32_t)MAX_CHUNK), source = n / SRN_KV_BLOCK;
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)(5 + i * 13 % 500);
    srn_slice s = {.blocks = {b->tables, b->tables}, .n_tokens = n};
    srn_batch batch = {.tokens = tokens, .n_tokens = n, .slices = &s, .n_slices = 1};
    check(b->device->ops->forward(b->device, &batch, err), err);
    for (uint32_t g = 0; g < groups && source; g++)
        for (uint32_t i = source; i < b->own * b->blocks_each; i++)
            b->device->ops->copy_block(b->device, g, i % source, i, SRN_KV_BLOCK);
}

static void run(bench *b, uint32_t only, srn_err *err) {
    static const uint32_t counts[] = {1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32, 48, 64, 96, 128};
    double one = 0, beside = b->chunk ? best_of(b, 0, b->chunk, err) : 0;
    if (b->chunk) printf("a chunk of %u tokens alone: %.3f ms\n", b->chunk, beside * 1e3);
    printf("sequences   step ms   ms/token   against one\n");
    for (size_t i = 0; i < SRN_LEN(counts); i++) {
        uint32_t n = counts[i];
        if (only && n != only) continue;
        double t = best_of(b, n, b->chunk, err) - beside;
        if (one <= 0) one = t;
        printf("%9u %9.3f %10.4f %13.3f\n", n, t * 1e3, t * 1e3 / n, t / n / one);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    bench b = {.context = 128, .seconds = 0.5};
    srn_device_opts o = {.threads = 1};
    uint32_t only = 0;
    for (int i = 2; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (!strcmp(argv[i], "--table"))
            o.cpu_limit = value;
        else if (!strcmp(argv[i], "--kv") && srn_kv_type_by_name(value, &o.kv_type))
            continue;
        else if (!strcmp(argv[i], "--context"))
            b.context = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--threads"))
            o.threads = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--chunk"))
            b.chunk = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--only"))
            only = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(argv[i], "--seconds"))
            b.seconds = strtod(value, NULL);
        else
            argc = 0;
    }
    if (argc < 2 || b.context < 16 || b.context > 65536 || b.chunk > MAX_CHUNK) {
        fprintf(stderr, "usage: batch_bench MODEL [--table NAME] [--kv TYPE] [--context N] [--threads N] "
                        "[--seconds S] [--chunk N] [--only N]\n");
        return 2;
    }
    srn_err err = {0};
    srn_open_opts open = {0};
    check(srn_weights_open(argv[1], &open, &b.weights, &err), &err);
    check(srn_model_new(b.weights, 0, &b.model, &err), &err);
    b.own = only && only < OWN_SEQUENCES ? only : OWN_SEQUENCES;
    b.blocks_each = (SRN_MAX(b.context, (uint32_t)MAX_CHUNK) + SRN_KV_BLOCK) / SRN_KV_BLOCK;
    o.n_kv_blocks[0] = o.n_kv_blocks[1] = (b.own + 1) * b.blocks_each;
    o.max_batch = MAX_SEQUENCES + MAX_CHUNK, o.max_wanted = MAX_SEQUENCES, o.n_ctx = b.context + 1;
    check(srn_cpu_device_new(b.model, &o, &b.device, &err), &err);
    b.tables = srn_calloc((b.own + 1) * b.blocks_each, sizeof *b.tables);
    b.logits = srn_calloc((size_t)MAX_SEQUENCES * b.model->hp.n_vocab, sizeof *b.logits);
    if (!b.tables || !b.logits) return 1;
    fill_cache(&b, &err);
    printf("%s, %s cache, context %u, %u threads\n", b.device->ops->device_class(b.device),
           srn_kv_type_name(o.kv_type), b.context, b.device->ops->threads(b.device));
    run(&b, only, &err);
    b.device->ops->free(b.device);
    srn_model_free(b.model);
    srn_weights_free(b.weights);
    free(b.tables), free(b.logits);
    return 0;
}
