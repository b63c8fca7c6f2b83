/* The tokens of a vocabulary as a trie over their bytes, so that one walk tells for each whether it may come
 * next. Made once for a model; immutable, any thread. Tokens that end an answer, control tokens that are no
 * marks and tokens without bytes are not in it.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

/* Bytes of one token; the trie's depths are 16 bits. */
#define MAX_TOKEN_BYTES 4096u

void srn_token_trie_free(srn_token_trie *t) {
    if (!t) return;
    free(t->byte);
    free(t->depth);
    free(t->skip);
    free(t->parent);
    free(t->tokens_at);
    free(t->tokens);
    free(t->bytes);
    free(t->bytes_at);
    free(t->ends);
    free(t);
}

uint64_t srn_token_trie_bytes(const srn_token_trie *t) {
    return sizeof *t + (uint64_t)t->n_nodes * 15 + (uint64_t)t->n_vocab * 8 + t->bytes_at[t->n_vocab];
}

/* ---- tokens in the order of their bytes ---- */

typedef struct row {
    uint64_t head; /* first 8 bytes, big-endian, zeros behind the end */
    const uint8_t *bytes;
    uint32_t n;
    int32_t id;
} row;

static int by_bytes(const void *a, const void *b) {
    const row *x = a, *y = b;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    int c = memcmp(x->bytes, y->bytes, SRN_MIN(x->n, y->n));
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static row make_row(const srn_token_trie *t, uint32_t id) {
    row r = {0, t->bytes + t->bytes_at[id], t->bytes_at[id + 1] - t->bytes_at[id], (int32_t)id};
    for (unsigned i = 0; i < 8; i++) r.head = r.head << 8 | (i < r.n ? r.bytes[i] : 0u);
    return r;
}

static bool is_one_of(int32_t id, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

/* Reads every token's bytes; control tokens have none but for the marks. */
static int read_tokens(srn_token_trie *t, const int32_t *marks, size_t n_marks, srn_err *err) {
    srn_buf all;
    srn_buf_init(&all, (size_t)1 << 30);
    int code = SRN_OK;
    t->bytes_at = srn_calloc((size_t)t->n_vocab + 1, sizeof *t->bytes_at);
    t->ends = srn_calloc(t->n_vocab, sizeof *t->ends);
    if (!t->bytes_at || !t->ends) code = srn_fail_nomem(err, t->n_vocab * sizeof *t->ends);
    for (uint32_t i = 0; !code && i < t->n_vocab; i++) {
        int32_t id = (int32_t)i;
        size_t before = all.len;
        if (srn_vocab_is_eog(t->v, id))
            t->ends[t->n_ends++] = id;
        else
            srn_token_bytes(t->v, id, is_one_of(id, marks, n_marks), &all);
        if (all.failed) code = srn_fail_nomem(err, all.len);
        if (all.len - before > MAX_TOKEN_BYTES) all.len = before; /* no text can need it */
        t->bytes_at[i + 1] = (uint32_t)all.len;
        t->most_bytes = SRN_MAX(t->most_bytes, t->bytes_at[i + 1] - t->bytes_at[i]);
    }
    t->bytes = (uint8_t *)all.data;
    return code;
}

/* Whether a stream of text leaves out the space that its first token begins with. */
static bool drops_space(const srn_token_trie *t) {
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        uint32_t n = t->bytes_at[i + 1] - t->bytes_at[i];
        if (n < 2 || t->bytes[t->bytes_at[i]] != ' ' || t->bytes[t->bytes_at[i] + 1] >= 0x80) continue;
        srn_buf out;
        srn_detok d;
        srn_buf_init(&out, (size_t)MAX_TOKEN_BYTES * 4);
        srn_detok_init(&d, t->v, false);
        srn_detok_add(&d, (int32_t)i, &out);
        bool drops = out.len && out.data[0] != ' ';
        srn_buf_done(&out);
        return drops;
    }
    return false;
}

/* ---- nodes ---- */

static uint32_t common(const row *a, const row *b) {
    uint32_t n = SRN_MIN(a->n, b->n), i = 0;
    while (i < n && a->bytes[i] == b->bytes[i]) i++;
    return i;
}

static bool alloc_nodes(srn_token_trie *t, const row *rows, uint32_t n_rows) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_rows; i++) n += rows[i].n - (i ? common(&rows[i - 1], &rows[i]) : 0);
    t->n_nodes = (uint32_t)n;
    t->byte = srn_calloc(n, sizeof *t->byte);
    t->depth = srn_calloc(n, sizeof *t->depth);
    t->skip = srn_calloc(n, sizeof *t->skip);
    t->parent = srn_calloc(n, sizeof *t->parent);
    t->tokens_at = srn_calloc(n + 1, sizeof *t->tokens_at);
    t->tokens = srn_calloc(n_rows, sizeof *t->tokens);
    return t->byte && t->depth && t->skip && t->parent && t->tokens_at && t->tokens;
}

/* open [most_bytes]: the nodes of the path of the token at hand. */
static void fill_nodes(srn_token_trie *t, const row *rows, uint32_t n_rows, uint32_t *open) {
    uint32_t n = 0, n_open = 0;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t shared = i ? common(&rows[i - 1], &rows[i]) : 0;
        while (n_open > shared) t->skip[open[--n_open]] = n;
        for (uint32_t k = shared; k < rows[i].n; k++) {
            t->byte[n] = rows[i].bytes[k];
            t->depth[n] = (uint16_t)k;
            t->parent[n] = k ? open[k - 1] : UINT32_MAX;
            t->tokens_at[n] = i;
            open[n_open++] = n++;
        }
        t->tokens[i] = rows[i].id;
    }
    while (n_open) t->skip[open[--n_open]] = n;
    t->tokens_at[n] = n_rows;
}

static int build(srn_token_trie *t, srn_err *err) {
    uint32_t n_rows = 0;
    row *rows = srn_calloc(t->n_vocab, sizeof *rows);
    uint32_t *open = srn_calloc(t->most_bytes, sizeof *open);
    int code = SRN_OK;
    for (uint32_t i = 0; rows && i < t->n_vocab; i++)
        if (t->bytes_at[i + 1] > t->bytes_at[i]) rows[n_rows++] = make_row(t, i);
    if (rows) qsort(rows, n_rows, sizeof *rows, by_bytes);
    if (!rows || !open || !alloc_nodes(t, rows, n_rows))
        code = srn_fail_nomem(err, t->n_vocab * sizeof *rows);
    else
        fill_nodes(t, rows, n_rows, open);
    free(rows);
    free(open);
    return code;
}

int srn_token_trie_new(const srn_vocab *v, srn_token_trie **ret, srn_err *err) {
    return srn_token_trie_new_marks(v, NULL, 0, ret, err);
}

int srn_token_trie_new_marks(const srn_vocab *v, const int32_t *marks, size_t n_marks, srn_token_trie **ret,
                             srn_err *err) {
    srn_token_trie *t = srn_calloc(1, sizeof *t);
    if (!t) return srn_fail_nomem(err, sizeof *t);
    t->v = v;
    t->id = srn_hash_seed();
    t->n_vocab = (uint32_t)srn_vocab_size(v);
    int code = read_tokens(t, marks, n_marks, err);
    if (!code) {
        t->drops_space = drops_space(t);
        code = build(t, err);
    }
    if (code)
        srn_token_trie_free(t);
    else
        *ret = t;
    return code;
}
