/* What `serin info` tells of a model: facts read from the metadata and the table of tensors, and the memory
 * that it needs at a context. info_facts.c gathers, info.c prints. Main thread.
 */
#ifndef SRN_CLI_INFO_H
#define SRN_CLI_INFO_H

#include "format/format.h"
#include "model/device.h"

/* 0 or an empty string stands for what the file does not say. */
typedef struct srn__info {
    const srn_weights *w;
    srn_str arch, name, tokenizer, pre;
    uint64_t parameters, tensor_bytes;
    srn_type_share shares[SRN_TYPE_END]; /* by weights, descending */
    size_t n_shares;
    uint64_t layers, embedding, feed_forward, context, vocab, window;
    uint64_t heads_least, heads_most, kv_heads_least, kv_heads_most; /* they may differ from layer to layer */
    uint64_t experts, experts_used;
    bool chat_template;
    bool recurrent; /* keeps a state besides keys and values, which is not counted */
    char quantisation[SRN_QUANTISATION_CHARS];
    char tokenizer_id[65], template_id[65]; /* "": there is none */
    srn_model *model;   /* NULL when this program does not run the model; srn__info_done frees it */
    char refusal[1024]; /* then why */
} srn__info;

/* Memory at a context, with a type of the KV cache. */
typedef struct srn__kv_need {
    uint64_t ctx;
    uint64_t layers, window_layers; /* that have keys and values at all; that read only the window's */
    uint64_t kv_bytes;    /* as it is allocated for one sequence: whole blocks, less where there are windows.
                             Of a model that this program does not run: every layer in full */
    uint64_t read_bytes;  /* of these, what a token at the end of the context reads */
    uint64_t total_bytes; /* kv_bytes and the tensors */
} srn__kv_need;

/* The weights must outlive the result. */
int srn__info_gather(const srn_weights *w, srn__info *ret, srn_err *err);
void srn__info_done(srn__info *info);
int srn__info_kv(const srn__info *info, uint64_t ctx, srn_kv_type type, srn__kv_need *ret, srn_err *err);

#endif
