/* The thread pool of the CPU backend: n threads, of which the caller of srn__pool_run is number 0. It decides
 * when threads run and nothing else; who computes what is srn__pool_part's fixed split.
 *
 * Idle workers sleep on a futex. A thread that waits (for a run to begin, at a barrier, for a run's end)
 * first spins for at most SPIN_US, because the others are usually microseconds away, and then sleeps. Where
 * there are more threads than CPUs nobody spins: the thread waited for may need this very CPU.
 *
 * Every thread computes in the default floating-point mode with subnormals (docs/numerics.md); the caller's
 * own mode is put back when a run ends. Workers block all signals. Runs do not nest and belong to one caller
 * at a time; all functions but run and barrier are for the pool's owner.
 */
#include "cpu/cpu_internal.h"

#include <errno.h>
#include <fenv.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SPIN_US     40
#define SPIN_PAUSES 16 /* between two looks at the clock */
#define MAX_THREADS 1024

/* A number that only grows, and how many threads sleep until it does. */
typedef struct gate {
    _Alignas(64) atomic_uint turn;
    atomic_uint sleepers;
} gate;

struct srn_pool {
    uint32_t n_threads, n_started; /* n_started: workers that run, to be joined */
    bool spin;
    pthread_t *threads; /* [n_threads - 1] */
    atomic_int *cpus;   /* where each thread was at its last arrival */
    /* Written by the caller before `start` moves, read by the workers after. */
    srn_pool_fn *fn;
    void *ctx;
    bool stop;
    gate start, pass;
    _Alignas(64) atomic_uint arrived; /* threads at the current barrier */
};

typedef struct worker_arg {
    srn_pool *pool;
    uint32_t thread;
} worker_arg;

static void cpu_relax(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Number of the calling thread in its pool; the caller of a run is 0. */
static _Thread_local uint32_t this_thread;

/* Notes the CPU that the caller is on. Writes only when it has changed: others read the same cache line. */
static void note_cpu(srn_pool *p) {
    int cpu = sched_getcpu();
    atomic_int *mine = &p->cpus[this_thread];
    if (atomic_load_explicit(mine, memory_order_relaxed) != cpu)
        atomic_store_explicit(mine, cpu, memory_order_relaxed);
}

/* Whether another thread was last seen on this thread's CPU. */
static bool shares_cpu(const srn_pool *p) {
    int cpu = atomic_load_explicit(&p->cpus[this_thread], memory_order_relaxed);
    for (uint32_t i = 0; i < p->n_threads; i++)
        if (i != this_thread && atomic_load_explicit(&p->cpus[i], memory_order_relaxed) == cpu) return true;
    return false;
}

static unsigned gate_turn(gate *g) {
    return atomic_load_explicit(&g->turn, memory_order_acquire);
}

/* Whether the gate's turn moved away from `seen` within SPIN_US. */
static bool gate_spin(const srn_pool *p, gate *g, unsigned seen) {
    uint64_t end = 0;
    for (;;) {
        for (int i = 0; i < SPIN_PAUSES; i++) {
            if (gate_turn(g) != seen) return true;
            cpu_relax();
        }
        if (shares_cpu(p)) return false;
        uint64_t now = now_ns();
        if (!end) end = now + SPIN_US * 1000u;
        if (now >= end) return false;
    }
}

/* Returns when the turn is no longer `seen`. The sleeper announces itself before it looks again, and the
 * opener moves the turn before it looks for sleepers (both sequentially consistent), so one sees the other.
 */
static void gate_wait(const srn_pool *p, gate *g, unsigned seen) {
    if (gate_turn(g) != seen) return;
    if (p->spin && gate_spin(p, g, seen)) return;
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->turn) == seen)
        syscall(SYS_futex, &g->turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(gate *g) {
    atomic_fetch_add(&g->turn, 1);
    if (atomic_load(&g->sleepers)) syscall(SYS_futex, &g->turn, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void set_fp_mode(void) {
    fesetenv(FE_DFL_ENV);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() & ~0x8040u); /* flush-to-zero and denormals-are-zero off */
#endif
}

/* Counts this thread in; the last one resets the count and lets all pass. */
static void arrive(srn_pool *p) {
    note_cpu(p);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 < p->n_threads) return;
    atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
    gate_open(&p->pass);
}

static void *worker_main(void *arg) {
    worker_arg *w = arg;
    srn_pool *p = w->pool;
    uint32_t thread = this_thread = w->thread;
    free(w);
    char name[16];
    snprintf(name, sizeof name, "serin-cpu-%u", (unsigned)thread % 10000u);
    pthread_setname_np(pthread_self(), name);
    set_fp_mode();
    for (unsigned turn = 0;; turn++) { /* the first run moves the turn from 0 to 1 */
        gate_wait(p, &p->start, turn);
        if (p->stop) return NULL;
        p->fn(p->ctx, thread, p->n_threads);
        arrive(p); /* the caller alone waits for the end of a run */
    }
}

static bool cpus_suffice(uint32_t n_threads) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return true; /* over 1,024 CPUs */
    return (uint32_t)CPU_COUNT(&set) >= n_threads;
}

static int start_worker(srn_pool *p, uint32_t thread) {
    worker_arg *w = malloc(sizeof *w);
    if (!w) return ENOMEM;
    *w = (worker_arg){p, thread};
    int e = pthread_create(&p->threads[thread - 1], NULL, worker_main, w);
    if (e) free(w);
    return e;
}

int srn__pool_new(uint32_t n_threads, srn_pool **ret, srn_err *err) {
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return srn_fail(err, SRN_EINVAL, "cannot compute with %u threads: choose 1 to %d", n_threads,
                        MAX_THREADS);
    srn_pool *p = srn_aligned_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    p->n_threads = n_threads;
    p->spin = cpus_suffice(n_threads);
    p->threads = srn_calloc(n_threads, sizeof *p->threads);
    p->cpus = srn_calloc(n_threads, sizeof *p->cpus);
    if (!p->threads || !p->cpus) {
        srn__pool_free(p);
        return srn_fail_nomem(err, n_threads * sizeof *p->threads);
    }
    for (uint32_t i = 0; i < n_threads; i++) atomic_init(&p->cpus[i], -1 - (int)i);
    sigset_t all, old; /* workers inherit the mask of their creator */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = 0;
    while (!e && p->n_started + 1 < n_threads) {
        e = start_worker(p, p->n_started + 1);
        if (!e) p->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        int code = srn_fail(err, SRN_ENOMEM, "thread %u of %u could not be started (%s): use fewer threads",
                            p->n_started + 2, n_threads, strerror(e));
        srn__pool_free(p);
        return code;
    }
    *ret = p;
    return SRN_OK;
}

void srn__pool_free(srn_pool *p) {
    if (!p) return;
    p->stop = true;
    gate_open(&p->start);
    for (uint32_t i = 0; i < p->n_started; i++) pthread_join(p->threads[i], NULL);
    free(p->threads);
    free(p->cpus);
    srn_aligned_free(p);
}

uint32_t srn__pool_threads(const srn_pool *p) {
    return p->n_threads;
}

void srn__pool_run(srn_pool *p, srn_pool_fn *fn, void *ctx) {
    fenv_t callers;
    fegetenv(&callers);
    set_fp_mode();
    if (p->n_threads > 1) {
        p->fn = fn;
        p->ctx = ctx;
        gate_open(&p->start);
    }
    fn(ctx, 0, p->n_threads);
    srn__pool_barrier(p);
    fesetenv(&callers);
}

void srn__pool_barrier(srn_pool *p) {
    if (p->n_threads == 1) return;
    unsigned turn = gate_turn(&p->pass); /* cannot move before this thread has arrived */
    arrive(p);
    gate_wait(p, &p->pass, turn);
}
