/* serin bench: what its two files share. */
#ifndef SRN_CLI_BENCH_H
#define SRN_CLI_BENCH_H

#include "engine/engine.h"

/* serin bench MODEL --parallel N: N requests at once through the scheduler, as a server has them. */
typedef struct srn_bench_parallel {
    const char *path;       /* of the model */
    const char *kv;         /* type of the cache, or NULL */
    const char *cpu;        /* the processor's name */
    int64_t threads;        /* 0: all */
    int64_t n, requests;    /* at once; in all */
    int64_t prompt, output; /* tokens of each */
    int64_t long_prompt;    /* of one that arrives while the others run; 0: none */
    int64_t speculate;      /* most draft tokens a step */
    bool json;
} srn_bench_parallel;
int srn__bench_parallel(const srn_bench_parallel *b, srn_err *err);

/* The same n tokens for the same seed. */
void srn__bench_tokens(uint64_t seed, uint32_t n_vocab, int32_t *ret, size_t n);

#endif
