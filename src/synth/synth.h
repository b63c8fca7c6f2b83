/* synth: models with random weights, of the shape of any other: as a GGUF file, or in memory only. Everything
 * that costs time and memory is as in the model whose shape it has; what it says means nothing. Equal shape,
 * quantisation and seed give equal bytes on every machine, with any number of threads.
 */
#ifndef SRN_SYNTH_SYNTH_H
#define SRN_SYNTH_SYNTH_H

#include "base/base.h"
#include "format/write.h"
#include "quant/quant.h"

/* ---- shapes ---- */

typedef struct srn_shape {
    char name[64]; /* "llama-3.2-1b" */
    char arch[24]; /* general.architecture */
    uint32_t n_vocab, n_embd, n_layer, n_head, n_head_kv, d_head, n_ff, n_ctx;
    uint32_t n_expert, n_expert_used, n_ff_expert; /* 0: dense */
    uint32_t window;                               /* 0: none */
    double rope_base, norm_eps;
    double rope_factor; /* llama: of Llama 3's scaling; gemma3: linear; gpt-oss: YaRN; 0: none */
    bool tied;          /* the embedding is the head as well */
} srn_shape;

/* The table of well-known models; NULL past the end. */
const srn_shape *srn_shape_at(size_t i);
const srn_shape *srn_shape_find(const char *name); /* any letter case */
/* A shape from JSON text of len bytes: an object with the members of srn_shape as keys, and "like" for one of
 * the table to start from (docs/synth.md). file stands in messages, and in names that the text does not give.
 * The result has passed srn_shape_check. SRN_EFORMAT and SRN_EINVAL name the key. */
int srn_shape_parse(const char *json, size_t len, const char *file, srn_shape *ret, srn_err *err);
/* Whether a model of this shape can be made; names the key that is wrong. SRN_EINVAL, SRN_EUNSUP. */
int srn_shape_check(const srn_shape *s, srn_err *err);

/* ---- quantisations ---- */

/* One row: what every matrix is, before the rules that give some of them more bits. */
typedef struct srn_mix {
    const char *name; /* "Q4_K_M" */
    srn_type base;
    int file_type;  /* general.file_type; -1: none stands for it */
    unsigned rules; /* which rules apply, as a set that mix.c knows */
} srn_mix;
const srn_mix *srn_mix_at(size_t i); /* NULL past the end */
/* Any letter case. SRN_EUSAGE with the names that there are. */
int srn_mix_find(const char *name, const srn_mix **ret, srn_err *err);

/* Weights, as model cards count them, and bytes of all tensors. SRN_EINVAL, SRN_ENOMEM. */
int srn_synth_measure(const srn_shape *shape, const srn_mix *mix, bool pure, uint64_t *ret_params,
                      uint64_t *ret_bytes, srn_err *err);

/* ---- making ---- */

typedef struct srn_synth_opts {
    uint64_t seed;
    uint32_t threads;          /* 0: as many as the process may run on */
    bool pure;                 /* every matrix has the mix's base type, where its width allows it */
    srn_progress_fn *progress; /* may be NULL */
    void *progress_ctx;
    const volatile int *cancel; /* may be NULL */
} srn_synth_opts;

typedef struct srn_synth srn_synth;

/* Decides on every tensor. shape and mix must live as long; opts may be NULL. */
int srn_synth_new(const srn_shape *shape, const srn_mix *mix, const srn_synth_opts *opts, srn_synth **ret,
                  srn_err *err);
void srn_synth_free(srn_synth *s);
uint64_t srn_synth_params(const srn_synth *s);     /* weights, as model cards count them */
uint64_t srn_synth_file_bytes(const srn_synth *s); /* of the whole GGUF file */
/* Fills the model into `out`, which has srn_synth_file_bytes bytes; commits nothing. SRN_EIO, SRN_ENOMEM,
 * SRN_ECANCELLED. */
int srn_synth_fill(const srn_synth *s, srn_out *out, srn_err *err);

/* Writes only what comes before the weights: a model whose tensors can be counted but not read. SRN_EIO. */
int srn_synth_head(const srn_synth *s, srn_out *out, srn_err *err);

#endif
