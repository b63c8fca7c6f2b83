/* Making a model: the plan, then its pools, then its tensors chunk by chunk on several threads. Owns a
 * srn_synth and its threads. Which thread makes a chunk changes no byte, for every draw is keyed by tensor
 * and place.
 */
#include "synth/synth.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "synth/synth_internal.h"

enum { MAX_THREADS = 64 };

static int plan(srn_synth *s, const srn_shape *shape, const srn_mix *mix, srn_err *err) {
    int code = srn_shape_check(shape, err);
    if (code) return code;
    s->shape = shape, s->mix = mix, s->traits = srn__traits_of(shape->arch);
    srn_gguf_head_init(&s->head);
    return srn__plan_tensors(s, err);
}

int srn_synth_new(const srn_shape *shape, const srn_mix *mix, const srn_synth_opts *opts, srn_synth **ret,
                  srn_err *err) {
    srn_synth *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    if (opts) s->opts = *opts;
    int code = plan(s, shape, mix, err);
    if (!code) {
        srn__put_keys(s);
        srn__put_vocab(&s->head, shape->n_vocab);
        code = srn_gguf_head_finish(&s->head, &s->head_bytes, err);
    }
    if (code) {
        srn_synth_free(s);
        return code;
    }
    *ret = s;
    return SRN_OK;
}

int srn_synth_measure(const srn_shape *shape, const srn_mix *mix, bool pure, uint64_t *ret_params,
                      uint64_t *ret_bytes, srn_err *err) {
    srn_synth *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->opts.pure = pure;
    int code = plan(s, shape, mix, err);
    if (!code) *ret_params = s->n_params, *ret_bytes = s->head.data_bytes;
    srn_synth_free(s);
    return code;
}

void srn_synth_free(srn_synth *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_pools; i++) srn_aligned_free(s->pools[i].blocks);
    srn_gguf_head_done(&s->head);
    srn_buf_done(&s->head_bytes);
    free(s->pools);
    free(s->tensors);
    free(s);
}

uint64_t srn_synth_params(const srn_synth *s) {
    return s->n_params;
}

uint64_t srn_synth_file_bytes(const srn_synth *s) {
    return s->head_bytes.len + s->head.data_bytes;
}

/* ---- threads ---- */

typedef struct job {
    const srn_synth *s;
    srn_out *out;
    _Atomic uint64_t next_part, next_chunk, done_bytes;
    uint64_t n_parts;
    _Atomic int code;     /* the first failure's; others stop */
    pthread_mutex_t lock; /* guards err */
    srn_err err;
} job;

static void fail(job *j, int code, const srn_err *err) {
    pthread_mutex_lock(&j->lock);
    if (!atomic_load(&j->code)) j->err = *err;
    pthread_mutex_unlock(&j->lock);
    atomic_store(&j->code, code);
}

static bool stopped(job *j) {
    const volatile int *cancel = j->s->opts.cancel;
    if (cancel && *cancel) {
        srn_err err = {0};
        fail(j, srn_fail(&err, SRN_ECANCELLED, "interrupted; nothing was written"), &err);
    }
    return atomic_load(&j->code) != 0;
}

static void fill_pools(job *j) {
    for (;;) {
        uint64_t part = atomic_fetch_add(&j->next_part, 1);
        if (part >= j->n_parts || stopped(j)) return;
        size_t i = 0;
        for (; part >= srn__pool_weights(&j->s->pools[i]) / SRN__POOL_PART; i++)
            part -= srn__pool_weights(&j->s->pools[i]) / SRN__POOL_PART;
        srn__pool_fill(&j->s->pools[i], j->s->opts.seed, (uint32_t)part);
    }
}

/* Makes chunks until there are none; the thread that called srn_synth_fill tells the progress. */
static int make_chunks(job *j, uint8_t *buf, bool tells, srn_err *err) {
    const srn_synth *s = j->s;
    uint64_t data = s->head_bytes.len;
    size_t i = 0;
    int code = SRN_OK;
    while (!code && !stopped(j)) {
        uint64_t chunk = atomic_fetch_add(&j->next_chunk, 1), offset;
        if (chunk >= s->n_chunks) break;
        while (i + 1 < s->n_tensors && s->tensors[i + 1].first_chunk <= chunk) i++;
        size_t n = srn__draw_chunk(s, &s->tensors[i], chunk - s->tensors[i].first_chunk, buf, &offset);
        code = srn_out_write(j->out, data + offset, buf, n, err);
        uint64_t done = atomic_fetch_add(&j->done_bytes, n) + n;
        if (tells && s->opts.progress)
            s->opts.progress(s->opts.progress_ctx, "making weights", done, s->head.data_bytes);
    }
    return code;
}

static void make(job *j, bool tells) {
    srn_err err = {0};
    uint8_t *buf = srn_aligned_calloc(1, SRN__CHUNK_BYTES);
    int code = buf ? make_chunks(j, buf, tells, &err) : srn_fail_nomem(&err, SRN__CHUNK_BYTES);
    if (code) fail(j, code, &err);
    srn_aligned_free(buf);
}

static void *pool_helper(void *arg) {
    fill_pools(arg);
    return NULL;
}

static void *make_helper(void *arg) {
    make(arg, false);
    return NULL;
}

static uint32_t count_threads(uint32_t wanted) {
    cpu_set_t set;
    if (!wanted && sched_getaffinity(0, sizeof set, &set) == 0) wanted = (uint32_t)CPU_COUNT(&set);
    return SRN_MAX(1u, SRN_MIN(wanted, (uint32_t)MAX_THREADS));
}

/* The threads that cannot be started leave their share to the others. */
static size_t start(pthread_t *threads, size_t n, void *(*helper)(void *), job *j) {
    size_t i = 0;
    while (i < n && pthread_create(&threads[i], NULL, helper, j) == 0) i++;
    return i;
}

static void join(const pthread_t *threads, size_t n) {
    for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

static int run(job *j, uint32_t n_threads, srn_err *err) {
    pthread_t threads[MAX_THREADS];
    pthread_mutex_init(&j->lock, NULL);
    size_t n = start(threads, n_threads - 1, pool_helper, j);
    fill_pools(j);
    join(threads, n);
    n = start(threads, n_threads - 1, make_helper, j);
    make(j, true);
    join(threads, n);
    pthread_mutex_destroy(&j->lock);
    int code = atomic_load(&j->code);
    if (code && err) *err = j->err;
    return code;
}

int srn_synth_head(const srn_synth *s, srn_out *out, srn_err *err) {
    return srn_out_write(out, 0, s->head_bytes.data, s->head_bytes.len, err);
}

int srn_synth_fill(const srn_synth *s, srn_out *out, srn_err *err) {
    job j = {.s = s, .out = out};
    for (size_t i = 0; i < s->n_pools; i++) {
        int code = s->pools[i].blocks ? SRN_OK : srn__pool_alloc(&s->pools[i], err);
        if (code) return code;
        j.n_parts += srn__pool_weights(&s->pools[i]) / SRN__POOL_PART;
    }
    int code = srn_synth_head(s, out, err);
    if (!code) code = run(&j, count_threads(s->opts.threads), err);
    if (!code && s->opts.progress)
        s->opts.progress(s->opts.progress_ctx, "making weights", s->head.data_bytes, s->head.data_bytes);
    return code;
}
