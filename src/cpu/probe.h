/* probe: what this machine can do at most, measured: bytes read per second from memory and from the caches,
 * multiply-adds of int8 codes and of f32 per second at each instruction set, the time of a barrier. The
 * figures beside which a model's speed is judged, so they are measured in short turns between its runs. An
 * object belongs to one thread at a time; it has threads of its own, which sleep between calls.
 */
#ifndef SRN_CPU_PROBE_H
#define SRN_CPU_PROBE_H

#include "base/base.h"

typedef struct srn_probe srn_probe;

typedef struct srn_probe_opts {
    uint32_t threads;      /* 0: as many as the process may run on */
    const char *cpu_limit; /* highest instruction set to use (SERIN_CPU), or NULL */
    uint64_t bytes;        /* that srn_probe_read reads; 0: enough to be beyond every cache */
} srn_probe_opts;

/* Allocates the bytes as a device's weights are, on huge pages where the system allows them, and writes each
 * thread's part on that thread. Errors: SRN_ENOMEM with the bytes, SRN_EUNSUP and SRN_EINVAL for the
 * instruction set. */
int srn_probe_new(const srn_probe_opts *o, srn_probe **ret, srn_err *err);
void srn_probe_free(srn_probe *p);

uint32_t srn_probe_threads(const srn_probe *p);
uint64_t srn_probe_bytes(const srn_probe *p);
/* Share of these bytes that lies on huge pages; 0 where the system does not say. */
double srn_probe_huge_share(const srn_probe *p);

/* The instruction sets that can be measured, lowest first; NULL from srn_probe_levels on. The last is the
 * best. */
size_t srn_probe_levels(const srn_probe *p);
const char *srn_probe_level(const srn_probe *p, size_t i);

/* Each of these runs for about `us` microseconds on threads 0 to n_threads - 1 (0: all) and returns the sum
 * over the threads. */

/* Bytes per second from memory, each thread reading its part over and over, on from where it last was. */
double srn_probe_read(srn_probe *p, uint32_t n_threads, uint64_t us);
/* Bytes per second where each thread reads the same `each` bytes of its part again and again. */
double srn_probe_read_again(srn_probe *p, uint32_t n_threads, uint64_t each, uint64_t us);
/* Products of unsigned with signed bytes that are added up, per second, at level i. Without dot-product
 * instructions sums of 16 bits are widened after every eighth. */
double srn_probe_int8(srn_probe *p, size_t level, uint32_t n_threads, uint64_t us);
/* Fused multiply-adds of f32 per second at level i. */
double srn_probe_f32(srn_probe *p, size_t level, uint32_t n_threads, uint64_t us);

/* Microseconds from the last thread's coming to a barrier until all have left it, mean of n_rounds. */
double srn_probe_barrier_us(srn_probe *p, uint32_t n_rounds);

/* ---- products, as the engine makes them (probe_product.c) ---- */

/* A matrix of one type, packed as a device packs it, as large as the probe's bytes, so that it is beyond
 * every cache; its rows repeat a few. The probe must outlive it. */
typedef struct srn_probe_matrix srn_probe_matrix;
/* cols: a multiple of 256. Errors: SRN_ENOMEM; SRN_EUNSUP for a type that is no weight or has no encoder. */
int srn_probe_matrix_new(srn_probe *p, uint32_t type, uint32_t cols, srn_probe_matrix **ret, srn_err *err);
void srn_probe_matrix_free(srn_probe_matrix *m);
/* Weights per second that all threads together multiply with n columns each, of 1 or 2 planes of codes
 * (docs/numerics.md), in a turn of about `us` microseconds, on from where the last one ended. n is at most
 * 512. */
double srn_probe_product(srn_probe_matrix *m, uint32_t n, uint32_t planes, uint64_t us);

/* Bytes of a core's second-level cache and of the third-level cache; 0 where the system does not say. */
uint64_t srn_probe_l2_bytes(void);
uint64_t srn_probe_l3_bytes(void);

#endif
