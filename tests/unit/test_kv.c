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

/* ---- a naive search: every position of every block that can be found, by what it holds ---- */

/* Whether some findable block of the group holds position p of the sequence's plan. */
static bool is_findable(const cache *c, const seq *q, uint32_t g, uint32_t p) {
    for (uint32_t b = 0; b < c->o.n_blocks[g]; b++) {
        uint32_t node = c->kv->pools[g].blocks[b].node;
        if (node == SRN_KV_NONE || p % BLOCK >= c->kv->nodes[node].n_tokens) continue;
        const cell *x = &c->d.memory[g][b][p % BLOCK];
        if (x->position == p && x->prefix == q->prefix[p]) return true;
    }
    return false;
}

/* The longest prefix of n planned tokens for which each group has every position that the next token reads.
 */
static uint32_t naive_lookup(const cache *c, const seq *q, uint32_t n) {
    uint32_t run[SRN_KV_MAX_GROUPS] = {0}, longest = 0; /* run: findable positions that end before i */
    for (uint32_t i = 1; i <= n; i++) {
        bool all = true;
        for (uint32_t g = 0; g < c->o.n_groups; g++) {
            uint32_t w = c->o.groups[g].window, reads = w == 0 || i < w ? i : SRN_MAX(w, 2u) - 1;
            run[g] = is_findable(c, q, g, i - 1) ? run[g] + 1 : 0;
            all = all && run[g] >= reads;
        }
        if (all) longest = i;
    }
    return longest;
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
    uint32_t taken, taken_part, searches, shorter;
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
        plan(q, 0, text, n);
        uint32_t found = srn_kv_lookup(c->kv, q->salt, text, n), naive = naive_lookup(c, q, n);
        assert_true(found <= naive);
        t->searches++, t->shorter += found < naive;
        uint32_t got = take(c, q, text, n, most);
        assert_true(got <= found);
        if (q->alone) assert_int_equal(got, 0);
        t->taken += got > 0, t->taken_part += got % BLOCK != 0;
    } else if (what < 55) {
        make_text(x, text);
        uint32_t room = N_CTX - q->n, n = room ? 1 + below(x, below(x, 3) ? SRN_MIN(room, 3u) : room) : 0;
        uint32_t step = 1 + below(x, 200);
        memmove(text, text + q->n, n * sizeof *text);
        bool can = srn_kv_seq_can_reach(q->s, q->n + n, step), did = extend(c, q, text, n, step);
        if (can) assert_true(did);
    } else if (what < 70) { /* drafts that come to nothing */
        uint32_t to = SRN_MIN(q->n + 1 + below(x, 16), (uint32_t)N_CTX);
        if (srn_kv_seq_reserve(q->s, to)) write_step(c, q, to, true);
        if (below(x, 2)) srn_kv_seq_truncate(q->s, q->n);
    } else if (what < 85) {
        uint32_t n = below(x, 2) ? q->n - SRN_MIN(q->n, below(x, 80)) : below(x, q->n + 1);
        uint32_t left = srn_kv_seq_truncate(q->s, n);
        assert_true(left <= n);
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
    /* Two groups may have lost different ones of two tails that begin alike; otherwise nothing is missed. */
    if (n_groups == 1) assert_int_equal(t.shorter, 0);
    assert_true(t.shorter * 20 <= t.searches);
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

/* ---- the rules ---- */

static cache *full_cache(uint32_t n_blocks) {
    return open_cache(1, (const uint32_t[]){0}, &n_blocks);
}

static int32_t *text_of(int32_t out[N_CTX], int32_t first) {
    for (int32_t i = 0; i < N_CTX; i++) out[i] = first + i;
    return out;
}

/* A sequence of n tokens, computed from the beginning. */
static seq computed(cache *c, uint64_t salt, const int32_t *tokens, uint32_t n) {
    seq q;
    begin(c, &q, salt);
    assert_true(extend(c, &q, tokens, n, 100));
    return q;
}

static void whole_blocks_are_shared_and_the_rest_is_copied(void **state) {
    (void)state;
    cache *c = full_cache(10);
    int32_t t[N_CTX], other[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 150), b;
    begin(c, &b, 0);
    memcpy(other, t, sizeof t);
    other[140] = -5;
    assert_int_equal(srn_kv_lookup(c->kv, 0, other, 200), 140);
    assert_int_equal(take(c, &b, other, 200, 200), 140); /* of a tail that a still appends to */
    assert_int_equal(srn_kv_get_stats(c->kv).copies, 1);
    assert_int_equal(srn_kv_get_stats(c->kv).n_held, 4);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(srn_kv_seq_table(a.s, 0)[i], srn_kv_seq_table(b.s, 0)[i]);
    assert_true(extend(c, &b, other + 140, 100, 30));
    assert_true(extend(c, &a, t + 150, 60, 1));
    check_seq(c, &a);
    check_seq(c, &b);
    end(&a);
    end(&b);
    close_cache(c);
}

static void a_tail_that_nobody_holds_is_continued_in_place(void **state) {
    (void)state;
    cache *c = full_cache(4);
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 100), b;
    uint32_t block = srn_kv_seq_table(a.s, 0)[1];
    end(&a);
    assert_int_equal(srn_kv_get_stats(c->kv).n_cached, 2);
    begin(c, &b, 0);
    assert_int_equal(take(c, &b, t, 128, 128), 100);
    assert_int_equal(srn_kv_seq_table(b.s, 0)[1], block);
    assert_true(extend(c, &b, t + 100, 28, 7));
    assert_int_equal(srn_kv_get_stats(c->kv).copies, 0);
    end(&b);
    /* All but the last token of what is there: a part of a whole block, so a copy. */
    begin(c, &b, 0);
    assert_int_equal(take(c, &b, t, 128, 127), 127);
    assert_int_equal(srn_kv_get_stats(c->kv).copies, 1);
    end(&b);
    close_cache(c);
}

static void salts_are_worlds_apart(void **state) {
    (void)state;
    cache *c = full_cache(10);
    int32_t t[N_CTX];
    seq a = computed(c, 1, text_of(t, 0), 150), b = computed(c, 2, t, 150), d;
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 150), 0);
    assert_int_equal(srn_kv_lookup(c->kv, 3, t, 150), 0);
    assert_int_equal(srn_kv_lookup(c->kv, 2, t, 150), 150);
    assert_int_equal(srn_kv_get_stats(c->kv).n_held, 6);
    begin(c, &d, 3);
    assert_int_equal(take(c, &d, t, 150, 150), 0);
    end(&a), end(&b), end(&d);
    close_cache(c);
}

static void who_is_alone_neither_finds_nor_is_found(void **state) {
    (void)state;
    cache *c = full_cache(10);
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 150), b;
    begin(c, &b, 0);
    srn_kv_seq_set_alone(b.s);
    assert_int_equal(take(c, &b, t, 150, 150), 0);
    assert_true(extend(c, &b, t, 300, 100));
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 300), 150);
    assert_int_equal(srn_kv_get_stats(c->kv).n_held, 3 + 5);
    b.n = srn_kv_seq_truncate(b.s, 70);
    assert_int_equal(b.n, 70);
    check_seq(c, &b);
    end(&b);
    assert_int_equal(srn_kv_get_stats(c->kv).n_cached, 0);
    end(&a);
    close_cache(c);
}

static void equal_blocks_become_one(void **state) {
    (void)state;
    cache *c = full_cache(10);
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 60), b = computed(c, 0, t, 60);
    assert_int_equal(srn_kv_get_stats(c->kv).n_held, 2);
    assert_true(extend(c, &a, t + 60, 80, 3));
    assert_true(extend(c, &b, t + 60, 100, 40));
    assert_int_equal(srn_kv_get_stats(c->kv).n_held, 2 + 2);
    end(&b);
    end(&a); /* its tail is the beginning of b's */
    assert_int_equal(srn_kv_get_stats(c->kv).n_cached, 3);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 200), 160);
    srn_kv_forget(c->kv);
    a = computed(c, 0, t, 140);
    end(&a);
    b = computed(c, 0, t, 160);
    end(&b); /* the other way round */
    assert_int_equal(srn_kv_get_stats(c->kv).n_cached, 3);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 200), 160);
    close_cache(c);
}

static void the_least_recently_used_go_first_and_leaves_before_what_they_grow_on(void **state) {
    (void)state;
    cache *c = full_cache(6);
    int32_t t[N_CTX], u[N_CTX], v[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 192), b;
    end(&a);
    a = computed(c, 0, text_of(u, 10000), 192);
    end(&a); /* full: t, then u */
    begin(c, &b, 0);
    assert_int_equal(take(c, &b, t, 192, 64), 64); /* t's first block is the latest used */
    end(&b);
    a = computed(c, 0, text_of(v, 20000), 100);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 192), 64);
    assert_int_equal(srn_kv_lookup(c->kv, 0, u, 192), 192);
    assert_int_equal(srn_kv_get_stats(c->kv).evictions, 2);
    assert_true(extend(c, &a, v + 100, 60, 60));
    assert_int_equal(srn_kv_lookup(c->kv, 0, u, 192), 128);
    assert_true(extend(c, &a, v + 160, 200, 100));
    assert_int_equal(srn_kv_lookup(c->kv, 0, u, 192), 0);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 192), 0);
    end(&a);
    close_cache(c);
}

static void a_pool_that_is_held_refuses_and_changes_nothing(void **state) {
    (void)state;
    cache *c = full_cache(5);
    int32_t t[N_CTX], u[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 192), b = computed(c, 0, text_of(u, 10000), 64);
    srn_kv_stats before = srn_kv_get_stats(c->kv), after;
    assert_false(srn_kv_seq_reserve(b.s, 64 + 65));
    assert_false(srn_kv_seq_can_reach(b.s, 64 + 65, 10));
    assert_false(srn_kv_seq_reserve(b.s, N_CTX + 1));
    after = srn_kv_get_stats(c->kv);
    assert_true(before.n_blocks == after.n_blocks && before.n_held == after.n_held &&
                before.n_cached == after.n_cached && before.evictions == after.evictions &&
                before.copies == after.copies);
    assert_true(srn_kv_seq_can_reach(b.s, 128, 10));
    assert_true(extend(c, &b, u + 64, 64, 10));
    assert_int_equal(srn_kv_longest(c->kv, 512), 5 * 64);
    /* No room for a copy: a sequence cut inside its own last block goes on in place, elsewhere at a border.
     */
    b.n = srn_kv_seq_truncate(b.s, 100);
    assert_int_equal(b.n, 100);
    check_seq(c, &b);
    assert_int_equal(srn_kv_get_stats(c->kv).copies, 0);
    assert_int_equal(srn_kv_lookup(c->kv, 0, u, 128), 100);
    seq d;
    begin(c, &d, 0);
    assert_int_equal(take(c, &d, t, 192, 192), 192);
    a.n = srn_kv_seq_truncate(a.s, 150);
    assert_int_equal(a.n, 128);
    check_seq(c, &a);
    check_seq(c, &d);
    assert_int_equal(take(c, &a, t, 192, 192), 128); /* not empty: it keeps what it has */
    end(&a), end(&b), end(&d);
    close_cache(c);
}

static void a_cut_inside_a_block_that_can_be_found_is_a_copy(void **state) {
    (void)state;
    cache *c = full_cache(8);
    int32_t t[N_CTX], u[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 192);
    a.n = srn_kv_seq_truncate(a.s, 100);
    assert_int_equal(a.n, 100);
    assert_int_equal(srn_kv_get_stats(c->kv).copies, 1);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 192), 192);
    assert_true(extend(c, &a, text_of(u, 10000), 60, 60));
    memmove(u + 100, u, 60 * sizeof *u);
    memcpy(u, t, 100 * sizeof *u);
    assert_int_equal(srn_kv_lookup(c->kv, 0, u, 160), 160);
    end(&a);
    close_cache(c);
}

static void windows_hold_what_is_read_and_leave_the_rest_findable(void **state) {
    (void)state;
    cache *c = open_cache(2, (const uint32_t[]){0, 100}, (const uint32_t[]){20, 12});
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 640), b;
    assert_int_equal(c->kv->pools[0].n_unheld, 0);
    assert_int_equal(c->kv->pools[1].n_unheld, 8); /* of 10 blocks, a token at 640 reads 541 and later */
    begin(c, &b, 0);
    assert_int_equal(take(c, &b, t, 640, 300), 300);
    assert_int_equal(srn_kv_seq_table(b.s, 1)[2], SRN_KV_NONE);
    end(&b);
    a.n = srn_kv_seq_truncate(a.s, 200); /* what fell out is still there */
    assert_int_equal(a.n, 200);
    check_seq(c, &a);
    end(&a);
    /* The window group forgets: nothing can be hit where its blocks are gone. */
    while (c->kv->pools[1].n_unheld > 2) srn__kv_evict(c->kv, 1);
    begin(c, &b, 0);
    uint32_t hit = srn_kv_lookup(c->kv, 0, t, 640);
    assert_true(hit < 640);
    assert_int_equal(take(c, &b, t, 640, 640), hit);
    srn_kv_forget(c->kv);
    uint32_t room = SRN_MIN(640 - b.n, 500u);
    assert_true(extend(c, &b, t + b.n, room, 50));
    srn_kv_forget(c->kv);
    uint32_t left = srn_kv_seq_truncate(b.s, b.n - 200); /* its window is gone */
    assert_true(left < b.n - 200);
    b.n = left;
    check_seq(c, &b);
    end(&b);
    close_cache(c);
}

static void long_sequences_need_few_blocks_of_a_window(void **state) {
    (void)state;
    cache *c = open_cache(1, (const uint32_t[]){100}, (const uint32_t[]){5});
    int32_t t[N_CTX];
    seq a;
    begin(c, &a, 0);
    assert_int_equal(srn_kv_longest(c->kv, 128), N_CTX);
    assert_int_equal(srn_kv_longest(c->kv, 256), 5 * 64);
    assert_true(srn_kv_seq_can_reach(a.s, N_CTX, 128));
    assert_false(srn_kv_seq_can_reach(a.s, N_CTX, 256));
    assert_true(extend(c, &a, text_of(t, 0), N_CTX, 128));
    end(&a);
    close_cache(c);
}

static void what_one_group_lost_is_no_hit_and_no_burden(void **state) {
    (void)state;
    cache *c = open_cache(2, (const uint32_t[]){0, 100}, (const uint32_t[]){20, 12});
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 30);
    end(&a);
    srn__kv_evict(c->kv, 1);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 30), 0);
    a = computed(c, 0, t, 30); /* goes in the place of the one that is of no use */
    end(&a);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 30), 30);
    srn__kv_evict(c->kv, 0); /* takes the window's block with it */
    while (srn__kv_evict(c->kv, 0)) {
    }
    assert_int_equal(c->kv->pools[1].n_free, 12);
    close_cache(c);
}

static void a_block_that_others_grow_on_is_not_cut_in_place(void **state) {
    (void)state;
    cache *c = open_cache(2, (const uint32_t[]){0, 100}, (const uint32_t[]){20, 5});
    int32_t t[N_CTX], u[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 192), b;
    a.n = srn_kv_seq_truncate(a.s, 128);
    begin(c, &b, 1);
    assert_true(extend(c, &b, text_of(u, 10000), 160, 60)); /* the window group is held to the last block */
    assert_int_equal(srn__kv_pool_available(&c->kv->pools[1]), 0);
    assert_true(srn__kv_pool_available(&c->kv->pools[0]) > 1);
    a.n = srn_kv_seq_truncate(a.s, 100);
    assert_int_equal(a.n, 64);
    check_seq(c, &a);
    end(&b), end(&a);
    close_cache(c);
}

static void what_others_hold_too_is_not_counted_as_room(void **state) {
    (void)state;
    cache *c = open_cache(1, (const uint32_t[]){300}, (const uint32_t[]){10});
    int32_t t[N_CTX];
    seq a = computed(c, 0, text_of(t, 0), 320), b;
    begin(c, &b, 0);
    assert_int_equal(take(c, &b, t, 320, 320), 320);
    assert_false(srn_kv_seq_can_reach(b.s, N_CTX, 64));
    assert_false(extend(c, &b, t + 320, N_CTX - 320, 64));
    end(&a);
    assert_true(srn_kv_seq_can_reach(b.s, N_CTX, 64));
    assert_true(extend(c, &b, t + b.n, N_CTX - b.n, 64));
    end(&b);
    close_cache(c);
}

/* Chains of nodes whose blocks are gone use the nodes up: what cannot be named is not shared, and no more. */
static void nodes_that_run_out_cost_only_sharing(void **state) {
    (void)state;
    cache *c = open_cache(1, (const uint32_t[]){64}, (const uint32_t[]){42});
    enum { SEQS = 20, FIRST = 566, SECOND = 636 };
    static seq q[SEQS];
    int32_t t[SEQS][N_CTX];
    for (uint32_t i = 0; i < SEQS; i++) q[i] = computed(c, 0, text_of(t[i], (int32_t)i * 10000), FIRST);
    assert_int_equal(c->kv->free_node, SRN_KV_NONE);
    for (uint32_t i = 0; i < SEQS; i++) assert_true(extend(c, &q[i], t[i] + FIRST, SECOND - FIRST, 9));
    check_cache(c, q, SEQS);
    assert_int_equal(srn_kv_lookup(c->kv, 0, t[0], N_CTX), 576); /* the tail begun before, to its end */
    assert_int_equal(srn_kv_lookup(c->kv, 0, t[SEQS - 1], N_CTX), 0);
    for (uint32_t i = 0; i < SEQS / 2; i++) end(&q[i]);
    srn_kv_forget(c->kv); /* there are nodes again, but not for what has already left the window */
    assert_int_not_equal(c->kv->free_node, SRN_KV_NONE);
    for (uint32_t i = SEQS / 2; i < SEQS; i++)
        assert_true(extend(c, &q[i], t[i] + SECOND, N_CTX - SECOND, 9));
    check_cache(c, q, SEQS);
    for (uint32_t i = 0; i < SEQS; i++) end(&q[i]);
    close_cache(c);
}

static void many_prompts_that_begin_alike_are_searched_in_bounded_time(void **state) {
    (void)state;
    uint32_t n = MOST_BLOCKS;
    cache *c = open_cache(1, (const uint32_t[]){0}, &n);
    int32_t t[N_CTX];
    for (int32_t i = 0; i < MOST_BLOCKS; i++) {
        text_of(t, 0)[20] = -i;
        seq a = computed(c, 0, t, 40);
        end(&a);
    }
    text_of(t, 0)[20] = -7;
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 40), 40);
    t[20] = -1000;
    assert_int_equal(srn_kv_lookup(c->kv, 0, t, 40), 20);
    close_cache(c);
}

static void what_cannot_be_a_cache_is_refused(void **state) {
    (void)state;
    srn_kv *kv = NULL;
    srn_err err = {0};
    srn_kv_opts o = {.n_groups = 1, .n_ctx = 100, .n_blocks = {4}, .copy = copy};
    const srn_kv_opts good = o;
    o.n_groups = SRN_KV_MAX_GROUPS + 1;
    assert_int_equal(srn_kv_new(&o, &kv, &err), SRN_EINVAL);
    o = good, o.n_ctx = 0;
    assert_int_equal(srn_kv_new(&o, &kv, &err), SRN_EINVAL);
    o = good, o.n_blocks[0] = 0;
    assert_int_equal(srn_kv_new(&o, &kv, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "group 0"));
    assert_null(kv);
    srn_kv_free(kv);
    srn_kv_seq_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences_read_back_their_own_tokens),
        cmocka_unit_test(whole_blocks_are_shared_and_the_rest_is_copied),
        cmocka_unit_test(a_tail_that_nobody_holds_is_continued_in_place),
        cmocka_unit_test(salts_are_worlds_apart),
        cmocka_unit_test(who_is_alone_neither_finds_nor_is_found),
        cmocka_unit_test(equal_blocks_become_one),
        cmocka_unit_test(the_least_recently_used_go_first_and_leaves_before_what_they_grow_on),
        cmocka_unit_test(a_pool_that_is_held_refuses_and_changes_nothing),
        cmocka_unit_test(a_cut_inside_a_block_that_can_be_found_is_a_copy),
        cmocka_unit_test(windows_hold_what_is_read_and_leave_the_rest_findable),
        cmocka_unit_test(long_sequences_need_few_blocks_of_a_window),
        cmocka_unit_test(what_one_group_lost_is_no_hit_and_no_burden),
        cmocka_unit_test(a_block_that_others_grow_on_is_not_cut_in_place),
        cmocka_unit_test(what_others_hold_too_is_not_counted_as_room),
        cmocka_unit_test(nodes_that_run_out_cost_only_sharing),
        cmocka_unit_test(many_prompts_that_begin_alike_are_searched_in_bounded_time),
        cmocka_unit_test(what_cannot_be_a_cache_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
