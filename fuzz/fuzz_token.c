/* Any bytes as a small vocabulary and a text: the vocabulary is refused with a sentence, or tokenizing holds
 * what token.h promises: ids in range, no control token from untrusted text, the same ids however the text is
 * split, near-linear work, and well-formed UTF-8 from the stream.
 *
 * Input: kind, flags, number of tokens, then each token as (length, type, score, bytes); number of merges,
 * then pairs of token numbers; the rest is the text.
 */
#include "token/token_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

/* ---- the input ---- */

typedef struct reader {
    const uint8_t *p;
    size_t left;
} reader;

static uint8_t next(reader *r) {
    if (r->left == 0) return 0;
    r->left--;
    return *r->p++;
}

static srn_str take(reader *r, size_t n) {
    srn_str s = {(const char *)r->p, SRN_MIN(n, r->left)};
    r->p += s.len;
    r->left -= s.len;
    return s;
}

/* ---- a GGUF image ---- */

typedef struct image {
    srn_buf keys;
    uint64_t n_keys;
} image;

static void put(srn_buf *b, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) srn_buf_addc(b, (char)(uint8_t)(v >> (8 * i)));
}

static void put_str(srn_buf *b, srn_str s) {
    put(b, s.len, 8);
    srn_buf_add(b, s.ptr, s.len);
}

static void key(image *g, const char *name, uint32_t type) {
    put_str(&g->keys, srn_str_of(name));
    put(&g->keys, type, 4);
    g->n_keys++;
}

static void key_str(image *g, const char *name, const char *value) {
    key(g, name, SRN_META_STR);
    put_str(&g->keys, srn_str_of(value));
}

static void key_array(image *g, const char *name, uint32_t elem, uint64_t n) {
    key(g, name, SRN_META_ARR);
    put(&g->keys, elem, 4);
    put(&g->keys, n, 8);
}

enum { MAX_TOKENS = 64 };

static void add_ids(image *g, reader *r) {
    static const char *const names[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.unknown_token_id",
                                        "tokenizer.ggml.seperator_token_id"};
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        uint8_t id = next(r);
        if (id == 0xFF) continue;
        key(g, names[i], SRN_META_U32);
        put(&g->keys, id, 4);
    }
}

static void add_vocabulary(image *g, reader *r) {
    srn_str text[MAX_TOKENS];
    uint8_t type[MAX_TOKENS], score[MAX_TOKENS];
    size_t n = next(r) % (MAX_TOKENS + 1);
    for (size_t i = 0; i < n; i++) {
        size_t len = next(r) % 12;
        type[i] = next(r) % 8;
        score[i] = next(r);
        text[i] = take(r, len);
    }
    key_array(g, "tokenizer.ggml.tokens", SRN_META_STR, n);
    for (size_t i = 0; i < n; i++) put_str(&g->keys, text[i]);
    key_array(g, "tokenizer.ggml.token_type", SRN_META_I32, n);
    for (size_t i = 0; i < n; i++) put(&g->keys, type[i], 4);
    key_array(g, "tokenizer.ggml.scores", SRN_META_F32, n);
    for (size_t i = 0; i < n; i++) put(&g->keys, (uint32_t)score[i] << 24 | (uint32_t)score[i] << 16, 4);
    size_t n_merges = n ? next(r) % 32 : 0;
    key_array(g, "tokenizer.ggml.merges", SRN_META_STR, n_merges);
    for (size_t i = 0; i < n_merges; i++) {
        srn_str a = text[next(r) % n], b = text[next(r) % n];
        put(&g->keys, a.len + 1 + b.len, 8);
        srn_buf_add(&g->keys, a.ptr, a.len);
        srn_buf_addc(&g->keys, ' ');
        srn_buf_add(&g->keys, b.ptr, b.len);
    }
}

static void build(reader *r, srn_buf *out) {
    static const char *const models[] = {"gpt2", "llama", "bert", "gemma4"};
    image g = {0};
    srn_buf_init(&g.keys, 1 << 20);
    uint8_t kind = next(r), flags = next(r);
    key_str(&g, "tokenizer.ggml.model", models[kind % 4]);
    key_str(&g, "tokenizer.ggml.pre", srn__pretok_rows[(kind / 4) % srn__n_pretok_rows].name);
    key_str(&g, "general.architecture", flags & 1 ? "phi3" : "llama");
    static const char *const names[] = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
                                        "tokenizer.ggml.add_space_prefix",
                                        "tokenizer.ggml.normalizer.lowercase"};
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        key(&g, names[i], SRN_META_BOOL);
        put(&g.keys, flags >> (i + 1) & 1, 1);
    }
    add_ids(&g, r);
    add_vocabulary(&g, r);
    srn_buf_addz(out, "GGUF");
    put(out, 3, 4);
    put(out, 0, 8);
    put(out, g.n_keys, 8);
    srn_buf_add(out, g.keys.data, g.keys.len);
    srn_buf_done(&g.keys);
}

/* ---- the promises ---- */

static void check_stream(const srn_vocab *v, const srn_tokens *t) {
    srn_detok d;
    srn_buf b;
    srn_buf_init(&b, 1 << 24);
    srn_detok_init(&d, v, true);
    for (size_t i = 0; i < t->n; i++) srn_detok_add(&d, t->ids[i], &b);
    srn_detok_end(&d, &b);
    for (size_t i = 0, k; i < b.len; i += k) require((k = srn_utf8_len(b.data + i, b.len - i)) > 0);
    srn_buf_done(&b);
}

static void check_untrusted(const srn_vocab *v, srn_str text, const srn_tokens *t) {
    srn_tokens split = {0};
    srn_err err = {0};
    size_t a = text.len / 3, b = text.len / 2;
    srn_span spans[] = {
        {{text.ptr, a}, false}, {{text.ptr + a, b - a}, false}, {{text.ptr + b, text.len - b}, false}};
    require(srn_tokenize(v, spans, SRN_LEN(spans), SRN_TOK_NO_BOS, &split, &err) == SRN_OK);
    require(split.n == t->n && (t->n == 0 || memcmp(split.ids, t->ids, t->n * sizeof *t->ids) == 0));
    for (size_t i = 0; i < t->n; i++)
        require(srn_vocab_attr(v, t->ids[i]) != SRN_TOKEN_CONTROL || t->ids[i] == srn_vocab_unk(v));
    srn_tokens_done(&split);
}

static void check_text(const srn_vocab *v, srn_str text) {
    for (int trusted = 0; trusted < 2; trusted++) {
        srn_tokens t = {0};
        srn_err err = {0};
        uint64_t steps = 0;
        srn_span span = {text, trusted};
        require(srn__tokenize_counted(v, &span, 1, trusted ? 0 : SRN_TOK_NO_BOS, &t, &steps, &err) == SRN_OK);
        require(steps <= 400 * (text.len + 8));
        for (size_t i = 0; i < t.n; i++) require(t.ids[i] >= 0 && t.ids[i] < srn_vocab_size(v));
        check_stream(v, &t);
        if (!trusted) check_untrusted(v, text, &t);
        srn_tokens_done(&t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    reader r = {data, size};
    srn_buf bytes;
    srn_buf_init(&bytes, 1 << 20);
    build(&r, &bytes);
    srn_weights *w = NULL;
    srn_vocab *v = NULL;
    srn_err err = {0};
    require(srn_gguf_parse(bytes.data, bytes.len, "fuzz.gguf", &w, &err) == SRN_OK);
    int code = srn_vocab_new(w, &v, &err);
    require((code == SRN_OK) == (v != NULL) && err.code == code);
    if (v) {
        check_text(v, (srn_str){(const char *)r.p, r.left});
    } else {
        require(strncmp(err.text, "fuzz.gguf: ", 11) == 0);
        for (const char *p = err.text; *p; p++) require((uint8_t)*p >= 0x20 && *p != 0x7F);
    }
    srn_vocab_free(v);
    srn_weights_free(w);
    srn_buf_done(&bytes);
    return 0;
}
