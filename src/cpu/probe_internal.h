/* The loops of the probe, one table per instruction set, chosen by the ladder of kernel tables. */
#ifndef SRN_CPU_PROBE_INTERNAL_H
#define SRN_CPU_PROBE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

typedef struct srn_probe_loops {
    /* Reads n bytes, a multiple of 4,096 from a 64-byte aligned address. What it returns depends on all. */
    uint64_t (*read)(const void *p, size_t n);
    /* Independent chains, long enough that their latency is hidden; each returns how many multiply-adds it
     * did in `rounds` rounds. */
    uint64_t (*int8)(uint32_t rounds);
    uint64_t (*f32)(uint32_t rounds);
} srn_probe_loops;

/* Each fills in what it has over what is there already. */
void srn__probe_ref(srn_probe_loops *l);
void srn__probe_avx2(srn_probe_loops *l);
void srn__probe_avx512(srn_probe_loops *l);
void srn__probe_avx512vnni(srn_probe_loops *l);
void srn__probe_neon(srn_probe_loops *l);
void srn__probe_dotprod(srn_probe_loops *l);
void srn__probe_i8mm(srn_probe_loops *l);

/* What probe_product.c needs of a probe: its threads and its highest level. */
struct srn_pool;
struct srn_probe;
struct srn_pool *srn__probe_pool(const struct srn_probe *p);

#endif
