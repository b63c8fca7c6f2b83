/* The probe: its buffer and threads, and the clock around the loops of probe_internal.h. Called by commands
 * that judge speed; main thread. It refuses instruction sets that the CPU lacks. A turn ends by the clock, so
 * that a slow machine takes no longer; a thread's rate is its own work over its own time, and the sum of the
 * rates is what the machine does, even where one thread is held up.
 */
#include "cpu/probe.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"
#include "cpu/probe_internal.h"

#define CHUNK      ((size_t)256 << 10) /* bytes read between two looks at the clock */
#define LINE       ((size_t)4096)      /* unit of a part */
#define MAX_LEVELS 8u
#define ROUNDS     2000u /* of arithmetic between two looks at the clock */

typedef struct part {
    _Alignas(64) uint8_t *at;
    size_t bytes, next; /* next: where reading goes on */
    double rate;        /* of the last turn, per second */
    uint64_t sum;       /* what the loops returned, so that nobody leaves them out */
} part;

struct srn_probe {
    srn_pool *pool;
    uint8_t *mem;
    size_t bytes;
    part *parts; /* [threads] */
    size_t n_levels;
    const char *levels[MAX_LEVELS];
    srn_probe_loops loops[MAX_LEVELS];
};

/* ---- life ---- */

static const struct {
    const char *level;
    void (*fill)(srn_probe_loops *l);
} fills[] = {
    {"ref", srn__probe_ref},
#if defined(__x86_64__)
    {"avx2", srn__probe_avx2},
    {"avx512", srn__probe_avx512},
    {"avx512vnni", srn__probe_avx512vnni},
#elif defined(__aarch64__)
    {"neon", srn__probe_neon},
    {"dotprod", srn__probe_dotprod},
    {"i8mm", srn__probe_i8mm},
#endif
};

/* The loops of every level up to the limit; a level without loops of its own has those below it. */
static int choose_levels(srn_probe *p, const char *limit, srn_err *err) {
    srn_kernels unused;
    int code = srn__kernels_select(limit, &unused, err);
    if (code) return code;
    srn_probe_loops l = {0};
    for (const char *const *name = srn__kernels_available(); *name && p->n_levels < MAX_LEVELS; name++) {
        for (size_t i = 0; i < SRN_LEN(fills); i++)
            if (strcmp(fills[i].level, *name) == 0) fills[i].fill(&l);
        p->loops[p->n_levels] = l;
        p->levels[p->n_levels++] = *name;
        if (limit && strcmp(limit, *name) == 0) break;
    }
    return SRN_OK;
}

static void touch(void *ctx, uint32_t thread, uint32_t n_threads) {
    srn_probe *p = ctx;
    (void)n_threads;
    part *mine = &p->parts[thread];
    memset(mine->at, (int)(thread + 1), mine->bytes);
}

static uint64_t default_bytes(void) {
    uint64_t beyond = 4 * srn_probe_l3_bytes(), least = (uint64_t)256 << 20, most = (uint64_t)1 << 30;
    return SRN_MIN(SRN_MAX(beyond, least), most);
}

static int init(srn_probe *p, const srn_probe_opts *o, srn_err *err) {
    int code = choose_levels(p, o->cpu_limit, err);
    if (!code) code = srn__pool_new(o->threads ? o->threads : srn_cpu_count(), &p->pool, err);
    if (code) return code;
    uint32_t n = srn__pool_threads(p->pool);
    uint64_t bytes = o->bytes ? o->bytes : default_bytes();
    if (bytes > SIZE_MAX / 4) return srn_fail_nomem(err, SIZE_MAX);
    size_t each = (size_t)srn_align_up((bytes + n - 1) / n, LINE);
    p->bytes = each * n;
    p->mem = srn_pages_alloc(p->bytes);
    p->parts = srn_aligned_calloc(n, sizeof *p->parts);
    if (!p->mem || !p->parts) return srn_fail_nomem(err, p->bytes);
    for (uint32_t i = 0; i < n; i++) p->parts[i].at = p->mem + i * each, p->parts[i].bytes = each;
    srn__pool_run(p->pool, touch, p);
    return SRN_OK;
}

int srn_probe_new(const srn_probe_opts *o, srn_probe **ret, srn_err *err) {
    srn_probe *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    int code = init(p, o, err);
    if (code) {
        srn_probe_free(p);
        return code;
    }
    *ret = p;
    return SRN_OK;
}

void srn_probe_free(srn_probe *p) {
    if (!p) return;
    srn__pool_free(p->pool);
    srn_pages_free(p->mem, p->bytes);
    srn_aligned_free(p->parts);
    free(p);
}

uint32_t srn_probe_threads(const srn_probe *p) {
    return srn__pool_threads(p->pool);
}

srn_pool *srn__probe_pool(const srn_probe *p) {
    return p->pool;
}

uint64_t srn_probe_bytes(const srn_probe *p) {
    return p->bytes;
}

size_t srn_probe_levels(const srn_probe *p) {
    return p->n_levels;
}

const char *srn_probe_level(const srn_probe *p, size_t i) {
    return i < p->n_levels ? p->levels[i] : NULL;
}

double srn_probe_huge_share(const srn_probe *p) {
    FILE *f = fopen("/proc/self/smaps", "r");
    if (!f) return 0;
    char line[512];
    bool inside = false;
    uint64_t huge = 0, from, to, kib, start = (uint64_t)(uintptr_t)p->mem, end = start + p->bytes;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            inside = from < end && to > start;
        else if (inside && sscanf(line, "AnonHugePages: %" SCNu64 " kB", &kib) == 1)
            huge += kib * 1024;
    }
    fclose(f);
    double share = (double)huge / (double)p->bytes; /* a neighbour may share the mapping */
    return SRN_MIN(share, 1.0);
}

/* The size of a cache of the first processor's: "1024K". The C library asks the processor, and in a virtual
 * machine that answer is another machine's. */
static uint64_t cache_bytes(unsigned level, int name) {
    char path[96];
    unsigned long long kib = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < 8 && found != level; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%u/level", i);
        FILE *f = fopen(path, "r");
        if (!f) break;
        if (fscanf(f, "%u", &found) != 1) found = 0;
        fclose(f);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%u/size", i);
        f = found == level ? fopen(path, "r") : NULL;
        if (f && fscanf(f, "%lluK", &kib) != 1) kib = 0;
        if (f) fclose(f);
    }
    long n = kib ? 0 : sysconf(name);
    return kib ? (uint64_t)kib * 1024 : n > 0 ? (uint64_t)n : 0;
}

uint64_t srn_probe_l2_bytes(void) {
    return cache_bytes(2, _SC_LEVEL2_CACHE_SIZE);
}

uint64_t srn_probe_l3_bytes(void) {
    return cache_bytes(3, _SC_LEVEL3_CACHE_SIZE);
}

/* ---- turns ---- */

typedef struct turn {
    srn_probe *p;
    const srn_probe_loops *loops;
    uint64_t (*arithmetic)(uint32_t rounds); /* NULL: reading */
    uint64_t again;                          /* bytes that are read over and over; 0: the whole part */
    uint32_t n_threads;
    uint64_t us;
} turn;

/* Reads up to CHUNK bytes; returns how many. */
static size_t read_on(const turn *t, part *mine) {
    size_t end = t->again ? (size_t)t->again : mine->bytes;
    if (mine->next >= end) mine->next = 0;
    size_t n = SRN_MIN(CHUNK, end - mine->next);
    mine->sum += t->loops->read(mine->at + mine->next, n);
    mine->next += n;
    return n;
}

static void run_turn(void *ctx, uint32_t thread, uint32_t n_threads) {
    const turn *t = ctx;
    (void)n_threads;
    part *mine = &t->p->parts[thread];
    srn__pool_barrier(t->p->pool); /* all are awake before the clock starts */
    if (thread >= t->n_threads) return;
    uint64_t done = 0, start = srn_now_us(), now;
    do {
        done += t->arithmetic ? t->arithmetic(ROUNDS) : read_on(t, mine);
        now = srn_now_us();
    } while (now - start < t->us);
    mine->rate = (double)done * 1e6 / (double)(now - start);
}

static double take_turn(turn t) {
    uint32_t n = srn__pool_threads(t.p->pool);
    double sum = 0;
    t.us = SRN_MAX(t.us, 1u);
    t.n_threads = t.n_threads && t.n_threads < n ? t.n_threads : n;
    srn__pool_run(t.p->pool, run_turn, &t);
    for (uint32_t i = 0; i < t.n_threads; i++) sum += t.p->parts[i].rate;
    return sum;
}

static const srn_probe_loops *loops_of(const srn_probe *p, size_t level) {
    return &p->loops[SRN_MIN(level, p->n_levels - 1)];
}

double srn_probe_read(srn_probe *p, uint32_t n_threads, uint64_t us) {
    return take_turn((turn){.p = p, .loops = loops_of(p, SIZE_MAX), .n_threads = n_threads, .us = us});
}

double srn_probe_read_again(srn_probe *p, uint32_t n_threads, uint64_t each, uint64_t us) {
    each = SRN_MAX(SRN_MIN(each, p->parts[0].bytes) / LINE * LINE, LINE);
    return take_turn(
        (turn){.p = p, .loops = loops_of(p, SIZE_MAX), .again = each, .n_threads = n_threads, .us = us});
}

double srn_probe_int8(srn_probe *p, size_t level, uint32_t n_threads, uint64_t us) {
    return take_turn(
        (turn){.p = p, .arithmetic = loops_of(p, level)->int8, .n_threads = n_threads, .us = us});
}

double srn_probe_f32(srn_probe *p, size_t level, uint32_t n_threads, uint64_t us) {
    return take_turn((turn){.p = p, .arithmetic = loops_of(p, level)->f32, .n_threads = n_threads, .us = us});
}

typedef struct barriers {
    srn_probe *p;
    uint32_t n;
    double us;
} barriers;

static void run_barriers(void *ctx, uint32_t thread, uint32_t n_threads) {
    barriers *b = ctx;
    (void)n_threads;
    srn__pool_barrier(b->p->pool);
    uint64_t start = srn_now_us();
    for (uint32_t i = 0; i < b->n; i++) srn__pool_barrier(b->p->pool);
    if (thread == 0) b->us = (double)(srn_now_us() - start) / b->n;
}

double srn_probe_barrier_us(srn_probe *p, uint32_t n_rounds) {
    barriers b = {.p = p, .n = SRN_MAX(n_rounds, 1u)};
    srn__pool_run(p->pool, run_barriers, &b);
    return b.us;
}
