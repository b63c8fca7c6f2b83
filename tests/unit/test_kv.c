/* KV blocks: random sequences against memory that remembers what was written, and the rules one by one. The
 * fake device has for each block and position the token whose K and V would be there, and the position: a
 * sequence must read back its own tokens, at their places, as far as its windows reach, after everything that
 * was shared, copied, evicted and cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <time.h>

#include "engine/kv_internal.h"

enum { MOST_BLOCKS = 64, N_CTX = 700, BLOCK = SRN_KV_BLOCK };

typedef struct cell {
    int32_t token;
    uint32_t position;
    uint64_t prefix; /* of all tokens up to this one, and of the salt */
} cell;

typedef struct device {
    cell memory[SRN_KV_MAX_GROUPS][MOST_BLOCKS][BLOCK];
} device;

static void copy(void *ctx, uint32_t group, uint32_t from, uint32_t to, uint32_t n) {
    device *d = ctx;
    assert_int_not_equal(from, to);
    assert_in_range(n, 1, BLOCK);
    memcpy(d->memory[group][to], d->memory[group][from], n * sizeof(cell));
    memset(d->memory[group][to] + n, 0xEE, (BLOCK - n) * sizeof(cell));
}

typedef struct cache {
    device d;
    srn_kv *kv;
    srn_kv_opts o;
} cache;

/* windows: of each group; 0 for a full one. */
static cache *open_cache(uint32_t n_groups, const uint32_t *windows, const uint32_t *n_blocks) {
    cache *c = calloc(1, sizeof *c);
    assert_non_null(c);
    memset(&c->d, 0xEE, sizeof c->d);
    c->o = (srn_kv_opts){.n_groups = n_groups, .n_ctx = N_CTX, .key = "0123456789abcde", .copy = copy};
    c->o.copy_ctx = &c->d;
    for (uint32_t g = 0; g < n_groups; g++) {
        c->o.groups[g] = (srn_kv_group){.window = windows[g], .n_layers = 1};
        c->o.n_blocks[g] = n_blocks[g];
        assert_in_range(n_blocks[g], 1, MOST_BLOCKS);
    }
    srn_err err = {0};
    if (srn_kv_new(&c->o, &c->kv, &err)) fail_msg("%s", err.text);
    return c;
}

static void close_cache(cache *c) {
    srn_kv_stats s = srn_kv_get_stats(c->kv);
    assert_int_equal(s.n_held, 0);
    srn_kv_forget(c->kv);
    s = srn_kv_get_stats(c->kv);
    assert_int_equal(s.n_cached, 0);
    uint32_t n = 0; /* nothing is left in the tree */
    for (uint32_t i = c->kv->free_node; i != SRN_KV_NONE; i = c->kv->nodes[i].parent) n++;
    assert_int_equal(n, c->kv->n_nodes);
    srn_kv_free(c->kv);
    free(c);
}

/* One sequence and the tokens that it should hold. */
typedef struct seq {
    srn_kv_seq *s;
    uint64_t salt;
    bool alone;
    int32_t tokens[N_CTX];
    uint64_t prefix[N_CTX];
    uint32_t n;
} seq;

static void begin(cache *c, seq *q, uint64_t salt) {
    srn_err err = {0};
    *q = (seq){.salt = salt};
    if (srn_kv_seq_new(c->kv, salt, &q->s, &err)) fail_msg("%s", err.text);
}

/* Puts n tokens at index `at` of what the sequence is to hold. */
static void plan(seq *q, uint32_t at, const int32_t *tokens, uint32_t n) {
    memmove(q->tokens + at, tokens, n * sizeof *tokens);
    uint64_t h = at ? q->prefix[at - 1] : 0xCBF29CE484222325u ^ q->salt * 0x9E3779B97F4A7C15u;
    for (uint32_t k = at; k < at + n; k++)
        q->prefix[k] = h = (h ^ (uint64_t)(uint32_t)q->tokens[k]) * 0x100000001B3u + (h >> 29);
}

/* The sequence's tables give back exactly its tokens wherever the next one looks. */
static void check_seq(const cache *c, const seq *q) {
    assert_int_equal(srn_kv_seq_length(q->s), q->n);
    for (uint32_t g = 0; g < c->o.n_groups; g++) {
        uint32_t w = c->o.groups[g].window, from = w && q->n >= w ? q->n - w + 1 : 0;
        const uint32_t *table = srn_kv_seq_table(q->s, g);
        for (uint32_t i = 0; i < from / BLOCK && from < q->n; i++) assert_int_equal(table[i], SRN_KV_NONE);
        for (uint32_t p = from; p < q->n; p++) {
            assert_in_range(table[p / BLOCK], 0, c->o.n_blocks[g] - 1);
            const cell *x = &c->d.memory[g][table[p / BLOCK]][p % BLOCK];
            assert_int_equal(x->token, q->tokens[p]);
            assert_int_equal(x->position, p);
            assert_true(x->prefix == q->prefix[p]);
        }
    }
}

/* Writes positions [q->n, to), as a forward pass does. They must be in blocks that nobody else can see. */
static void write_step(cache *c, seq *q, uint32_t to, bool garbage) {
    for (uint32_t g = 0; g < c->o.n_groups; g++)
        for (uint32_t p = q->n; p < to; p++) {
            uint32_t b = srn_kv_seq_table(q->s, g)[p / BLOCK];
            assert_in_range(b, 0, c->o.n_blocks[g] - 1);
            const srn__kv_block *x = &c->kv->pools[g].blocks[b];
            assert_int_equal(x->held, 1);
            if (x->node != SRN_KV_NONE) { /* our own tail, which ends before p */
                assert_int_equal(x->node, q->s->tail);
                assert_true(c->kv->nodes[x->node].n_tokens <= p % BLOCK);
            }
            c->d.memory[g][b][p % BLOCK] = garbage ? (cell){-7, p, 0} : (cell){q->tokens[p], p, q->prefix[p]};
        }
}

/* Appends n tokens in steps; false when the cache has no room, and then as far as it went. */
static bool extend(cache *c, seq *q, const int32_t *tokens, uint32_t n, uint32_t step) {
    plan(q, q->n, tokens, n);
    for (uint32_t end = q->n + n; q->n < end;) {
        uint32_t to = SRN_MIN(q->n + step, end);
        if (!srn_kv_seq_reserve(q->s, to)) return false;
        write_step(c, q, to, false);
        srn_kv_seq_commit(q->s, q->tokens, to);
        q->n = to;
        check_seq(c, q);
    }
    return true;
}

static uint32_t take(cache *c, seq *q, const int32_t *tokens, uint32_t n, uint32_t most) {
    plan(q, 0, tokens, n);
    q->n = srn_kv_seq_take(q->s, tokens, n, most);
    assert_true(q->n <= n && q->n <= most);
    check_seq(c, q);
    return q->n;
}

static void end(seq *q) {
    srn_kv_seq_free(q->s);
    q->s = NULL;
}

/* Every block is free, held as often as tables say, or findable; lists and counters agree. */
static void check_cache(const cache *c, const seq *seqs, uint32_t n_seqs) {
    const srn_kv *kv = c->kv;
    uint32_t all = 0, held_all = 0, cached_all = 0;
    for (uint32_t g = 0; g < c->o.n_groups; g++) {
        const srn__kv_pool *p = &kv->pools[g];
        uint32_t held[MOST_BLOCKS] = {0}, state[MOST_BLOCKS] = {0}, n = 0;
        for (uint32_t i = 0; i < n_seqs; i++)
            for (uint32_t k = 0; seqs[i].s && k < kv->n_ctx_blocks; k++)
                if (seqs[i].s->tables[g][k] != SRN_KV_NONE) held[seqs[i].s->tables[g][k]]++;
        for (uint32_t i = 0; i < p->n_free; i++) state[p->free[i]]++, n++;
        uint32_t unheld = 0, before = SRN_KV_NONE;
        for (uint32_t i = p->oldest; i != SRN_KV_NONE; before = i, i = p->blocks[i].next, unheld++) {
            assert_int_equal(p->blocks[i].prev, before);
            assert_int_not_equal(p->blocks[i].node, SRN_KV_NONE);
            state[i]++, n++;
        }
        assert_int_equal(before, p->newest);
        assert_int_equal(unheld, p->n_unheld);
        for (uint32_t i = 0; i < p->n_blocks; i++) {
            assert_int_equal(p->blocks[i].held, held[i]);
            assert_int_equal(state[i], held[i] ? 0 : 1);
            n += held[i] != 0, held_all += held[i] != 0;
            if (p->blocks[i].node != SRN_KV_NONE) assert_int_equal(kv->nodes[p->blocks[i].node].block[g], i);
        }
        assert_int_equal(n, p->n_blocks);
        all += p->n_blocks, cached_all += unheld;
    }
    srn_kv_stats s = srn_kv_get_stats(kv);
    assert_int_equal(s.n_blocks, all);
    assert_int_equal(s.n_held, held_all);
    assert_int_equal(s.n_cached, cached_all);
}

/* ---- random operations ---- */

static uint64_t next(uint64_t *x) {
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}
static uint32_t below(uint64_t *x, uint32_t n) {
    return (uint32_t)(next(x) >> 33) % n;
}

/* Texts that share beginnings of all lengths: a few stems, left at any place for one of two tokens. */
static void make_text(uint64_t *x, int32_t out[N_CTX]) {
    uint64_t stem = 1 + below(x, 3);
    for (uint32_t i = 0; i < N_CTX; i++) {
        if (below(x, 150) == 0) stem = stem * 31 + 1 + below(x, 2);
        out[i] = (int32_t)((stem * 2654435761u + i * 40503u) >> 5 & 1023);
    }
}

typedef struct tally {
    uint32_t taken, taken_part, refused, cut_short;
} tally;

static void one_operation(cache *c, seq *seqs, uint32_t n_seqs, uint64_t *x, tally *t) {
    seq *q = &seqs[below(x, n_seqs)];
    uint32_t what = below(x, 100);
    int32_t text[N_CTX];
    if (!q->s) {
        begin(c, q, below(x, 8) == 0);
        if (below(x, 16) == 0) srn_kv_seq_set_alone(q->s), q->alone = true;
        make_text(x, text);
        uint32_t n = 1 + below(x, N_CTX), most = below(x, 4) ? n : below(x, n + 1);
        uint32_t found = srn_kv_lookup(c->kv, q->salt, text, n);
        uint32_t got = take(c, q, text, n, most);
        assert_true(got <= found);
        if (q->alone) assert_int_equal(got, 0);
        t->taken += got > 0, t->taken_part += got % BLOCK != 0;
    } else if (what < 55) {
        make_text(x, text);
        uint32_t room = N_CTX - q->n, n = room ? 1 + below(x, below(x, 3) ? SRN_MIN(room, 3u) : room) : 0;
        uint32_t step = 1 + below(x, 200);
        memcpy(text, text + q->n, n * sizeof *text);
        bool can = srn_kv_seq_can_reach(q->s, q->n + n, step), did = extend(c, q, text, n, step);
        if (can) assert_true(did);
        t->refused += !did;
    } else if (what < 70) { /* drafts that come to nothing */
        uint32_t to = SRN_MIN(q->n + 1 + below(x, 16), (uint32_t)N_CTX);
        if (srn_kv_seq_reserve(q->s, to)) write_step(c, q, to, true);
        if (below(x, 2)) srn_kv_seq_truncate(q->s, q->n);
    } else if (what < 85) {
        uint32_t n = below(x, 2) ? q->n - SRN_MIN(q->n, below(x, 80)) : below(x, q->n + 1);
        uint32_t left = srn_kv_seq_truncate(q->s, n);
        assert_true(left <= n);
        t->cut_short += left < n;
        q->n = left;
    } else if (what < 99) {
        end(q);
    } else {
        srn_kv_forget(c->kv);
    }
    if (q->s) check_seq(c, q);
}

static void run_random(uint32_t n_groups, const uint32_t *windows, const uint32_t *n_blocks, uint64_t seed) {
    enum { SEQS = 6, OPERATIONS = 3000 };
    static seq seqs[SEQS];
    memset(seqs, 0, sizeof seqs);
    cache *c = open_cache(n_groups, windows, n_blocks);
    print_message("seed %llu\n", (unsigned long long)seed);
    tally t = {0};
    uint64_t x = seed;
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        one_operation(c, seqs, SEQS, &x, &t);
        for (uint32_t k = 0; k < SEQS; k++)
            if (seqs[k].s) check_seq(c, &seqs[k]);
        check_cache(c, seqs, SEQS);
    }
    srn_kv_stats s = srn_kv_get_stats(c->kv);
    assert_true(t.taken > 50 && t.taken_part > 10 && s.copies > 10 && s.evictions > 50);
    for (uint32_t k = 0; k < SEQS; k++) end(&seqs[k]);
    check_cache(c, seqs, SEQS);
    close_cache(c);
}

static void random_sequences_read_back_their_own_tokens(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u | 1;
    const char *given = getenv("SRN_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    const struct {
        uint32_t n_groups, windows[2], n_blocks[2];
    } shapes[] = {{1, {0}, {40}},         {1, {0}, {12}},          {2, {0, 128}, {40, 30}},
                  {2, {0, 33}, {24, 16}}, {2, {0, 512}, {30, 30}}, {1, {100}, {20}},
                  {1, {300}, {40}},       {1, {1}, {12}},          {2, {0, 2}, {30, 20}},
                  {2, {0, 64}, {11, 11}}, {2, {0, 65}, {50, 14}}};
    for (size_t i = 0; i < SRN_LEN(shapes); i++)
        run_random(shapes[i].n_groups, shapes[i].windows, shapes[i].n_blocks, seed + 2 * i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences_read_back_their_own_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
