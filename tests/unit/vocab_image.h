/* Small vocabularies as GGUF images, for the tests of the token room. */
#ifndef SRN_TEST_VOCAB_IMAGE_H
#define SRN_TEST_VOCAB_IMAGE_H

#include "token/token.h"
#include "unit/gguf_image.h"

typedef struct token_row {
    const char *text;
    int type;
    float score;
} token_row;

#define LOWLINE "\xE2\x96\x81"

static inline void put_tokens(image *g, const token_row *rows, size_t n) {
    key_array(g, "tokenizer.ggml.tokens", SRN_META_STR, n);
    for (size_t i = 0; i < n; i++) put_str(&g->keys, srn_str_of(rows[i].text));
    key_array(g, "tokenizer.ggml.token_type", SRN_META_I32, n);
    for (size_t i = 0; i < n; i++) put_le(&g->keys, (uint64_t)rows[i].type, 4);
    key_array(g, "tokenizer.ggml.scores", SRN_META_F32, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &rows[i].score, sizeof bits);
        put_le(&g->keys, bits, 4);
    }
}

static inline void put_merges(image *g, const char *const *merges, size_t n) {
    key_array(g, "tokenizer.ggml.merges", SRN_META_STR, n);
    for (size_t i = 0; i < n; i++) put_str(&g->keys, srn_str_of(merges[i]));
}

/* A vocabulary with the bytes that it stands on. */
typedef struct loaded {
    void *bytes;
    srn_weights *w;
    srn_vocab *v;
} loaded;

static inline int load_image(image *g, loaded *ret, srn_err *err) {
    *ret = (loaded){0};
    int code = image_parse(g, &ret->bytes, &ret->w, err);
    image_done(g);
    return code ? code : srn_vocab_new(ret->w, &ret->v, err);
}

static inline void loaded_done(loaded *l) {
    srn_vocab_free(l->v);
    srn_weights_free(l->w);
    free(l->bytes);
}

static const token_row bpe_rows[] = {
    {"a", 1, 0},
    {"b", 1, 0},
    {"c", 1, 0},
    {"\xC4\xA0", 1, 0},
    {"ab", 1, 0},
    {"abc", 1, 0},
    {"<s>", 3, 0},
    {"<|im_end|>", 1, 0},
    {"<tool>", 4, 0},
    {"<|x|>", 4, 0},
    {"<|endoftext|>", 3, 0},
    {"\xC3\xA3", 1, 0},
    {"\xC4\xA3", 1, 0},
    {"\xC4\xA4", 1, 0},
};
static const char *const bpe_merges[] = {"a b", "ab c"};

static inline void bpe_image(image *g) {
    image_init(g);
    key_str(g, "tokenizer.ggml.model", "gpt2");
    key_str(g, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(g, bpe_rows, SRN_LEN(bpe_rows));
    put_merges(g, bpe_merges, SRN_LEN(bpe_merges));
    key_u32(g, "tokenizer.ggml.bos_token_id", 6);
    key_u32(g, "tokenizer.ggml.eos_token_id", 10);
}

static const token_row spm_rows[] = {
    {"<unk>", 2, 0},  {"<s>", 3, 0},        {"</s>", 3, 0},          {"<0xE4>", 6, 0},  {"<0xB8>", 6, 0},
    {"<0xAD>", 6, 0}, {"a", 1, -10},        {"b", 1, -11},           {LOWLINE, 1, -12}, {"ab", 1, -2},
    {"ba", 1, -2},    {LOWLINE "a", 1, -5}, {"<end_of_turn>", 4, 0}, {"\n", 4, 0},
};

static inline void spm_image(image *g) {
    image_init(g);
    key_str(g, "tokenizer.ggml.model", "llama");
    put_tokens(g, spm_rows, SRN_LEN(spm_rows));
}

#endif
