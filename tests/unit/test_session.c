/* Sessions that share an engine's KV blocks, on the tiny models of tests/golden: after prefix hits, partial
 * takes, copies, cuts and evictions the logits are those of a run that shared nothing, to the bit; and what a
 * generation says it did not compute was not computed. The models' contexts are made longer than the files
 * say, and windows of several sizes are tried, so that sequences leave many blocks behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine_internal.h"

enum { N_CTX = 420, N_VOCAB = 112, TEXTS = 5, SESSIONS = 3 };

/* ---- models ---- */

/* Sets the 32-bit value of the metadata key that ends so, if the file has it. */
static void set_key(char *data, size_t n, const char *key, uint32_t value) {
    size_t len = strlen(key);
    for (size_t i = 0; i + len + 8 <= n; i++)
        if (memcmp(data + i, key, len) == 0) {
            memcpy(data + i + len + 4, &value, 4); /* after the value's type */
            return;
        }
}

/* A golden with a context of N_CTX and, where it has one, this window. */
static srn_engine *open_model(const char *name, uint32_t window, srn_engine_opts o) {
    char path[512], temporary[] = "/tmp/serin-session-XXXXXX", *data;
    size_t n;
    srn_err err = {0};
    srn_engine *e = NULL;
    snprintf(path, sizeof path, SRN_TEST_DIR "/golden/%s.gguf", name);
    if (srn_read_file(path, 1 << 24, &data, &n, &err)) fail_msg("%s", err.text);
    set_key(data, n, ".context_length", N_CTX);
    if (window) set_key(data, n, ".attention.sliding_window", window);
    int fd = mkstemp(temporary);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, n), (ssize_t)n);
    close(fd);
    free(data);
    o.n_ctx = N_CTX;
    o.threads = 2;
    int code = srn_engine_open(temporary, &o, &e, &err);
    unlink(temporary);
    if (code) fail_msg("%s", err.text);
    assert_int_equal(srn_engine_get_info(e).n_vocab, N_VOCAB);
    return e;
}

static srn_session *new_session(srn_engine *e) {
    srn_session *s;
    srn_err err = {0};
    if (srn_session_new(e, &s, &err)) fail_msg("%s", err.text);
    return s;
}

/* ---- texts and what follows each of their prefixes ---- */

typedef struct texts {
    int32_t tokens[TEXTS][N_CTX];
    float logits[TEXTS][N_CTX][N_VOCAB];
} texts;

static uint64_t next(uint64_t *x) {
    *x ^= *x << 13, *x ^= *x >> 7, *x ^= *x << 17;
    return *x;
}
static uint32_t below(uint64_t *x, uint32_t n) {
    return (uint32_t)(next(x) >> 33) % n;
}

static uint32_t common(const int32_t *a, const int32_t *b) {
    uint32_t i = 0;
    while (i < N_CTX && a[i] == b[i]) i++;
    return i;
}

/* Text i leaves an earlier one somewhere; each is computed by an engine of its own. */
static texts *make_texts(uint64_t *x, const char *name, uint32_t window, srn_engine_opts o) {
    texts *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (uint32_t i = 0; i < TEXTS; i++) {
        uint32_t same = i ? 1 + below(x, 300) : 0;
        if (i) memcpy(t->tokens[i], t->tokens[below(x, i)], sizeof t->tokens[i]);
        for (uint32_t k = same; k < N_CTX; k++) t->tokens[i][k] = (int32_t)below(x, N_VOCAB);
        srn_engine *e = open_model(name, window, o);
        srn_session *s = new_session(e);
        srn_err err = {0};
        if (srn_session_feed_all(s, t->tokens[i], N_CTX, &t->logits[i][0][0], &err)) fail_msg("%s", err.text);
        srn_session_free(s);
        srn_engine_close(e);
    }
    return t;
}

/* ---- a device that counts what it computes, and looks at the tables that it gets ---- */

typedef struct counting {
    srn_device_ops ops; /* the device's, with a forward of ours */
    const srn_device_ops *real;
    const srn_engine *e;
    uint64_t n_tokens;
    uint32_t fail_in; /* the call that fails, counted down; 0: none */
} counting;

static int count_forward(srn_device *d, const srn_batch *b, srn_err *err) {
    counting *c = (counting *)(uintptr_t)d->ops;
    c->n_tokens += b->n_tokens;
    assert_in_range(b->n_tokens, 1, c->e->plan.max_batch);
    assert_in_range(b->n_wanted, 0, c->e->plan.max_wanted);
    for (uint32_t i = 0; i < b->n_slices; i++)
        for (uint32_t g = 0; g < c->e->plan.n_groups; g++) {
            const srn_slice *s = &b->slices[i];
            uint32_t w = c->e->plan.groups[g].window;
            uint32_t first = w && s->n_past >= w ? s->n_past - w + 1 : 0, end = s->n_past + s->n_tokens;
            for (uint32_t k = first / SRN_KV_BLOCK; k * SRN_KV_BLOCK < end; k++)
                assert_in_range(s->blocks[g][k], 0, c->e->plan.n_blocks[g] - 1);
        }
    if (c->fail_in && --c->fail_in == 0) return srn_fail(err, SRN_ENONFINITE, "as the test wants");
    return c->real->forward(d, b, err);
}

static void count_steps(srn_engine *e, counting *c) {
    *c = (counting){.ops = *e->device->ops, .real = e->device->ops, .e = e};
    c->ops.forward = count_forward;
    e->device->ops = &c->ops;
}

/* ---- random sessions ---- */

typedef struct player {
    srn_session *s;
    uint32_t text, n; /* it should hold n tokens of a text */
} player;

typedef struct game {
    srn_engine *e;
    const texts *t;
    uint64_t x;
    counting c;
    player players[SESSIONS];
    uint32_t hits, part_hits, refused;
} game;

static void check_logits(const game *g, const player *p) {
    assert_int_equal(srn_session_length(p->s), p->n);
    assert_memory_equal(srn_session_tokens(p->s), g->t->tokens[p->text], p->n * sizeof(int32_t));
    assert_memory_equal(srn_session_logits(p->s), g->t->logits[p->text][p->n - 1], N_VOCAB * sizeof(float));
}

/* Feeds up to index `to` in pieces. When the cache is full another session gives its blocks back. */
static void feed_to(game *g, player *p, uint32_t to) {
    while (p->n < to) {
        uint32_t n = SRN_MIN(1 + below(&g->x, below(&g->x, 2) ? 8 : 300), to - p->n);
        srn_err err = {0};
        int code = srn_session_feed(p->s, g->t->tokens[p->text] + p->n, n, NULL, &err);
        if (code == SRN_ECONTEXT) {
            assert_int_equal(srn_session_length(p->s), p->n);
            player *other = &g->players[below(&g->x, SESSIONS)];
            if (other != p) srn_session_truncate(other->s, other->n = 0);
            g->refused++;
            continue;
        }
        if (code) fail_msg("%s", err.text);
        p->n += n;
        check_logits(g, p);
    }
}

static void play(game *g) {
    player *p = &g->players[below(&g->x, SESSIONS)];
    uint32_t what = below(&g->x, 10), to = 2 + below(&g->x, N_CTX - 1);
    if (what < 5) { /* another prompt, as srn_generate begins it */
        p->text = below(&g->x, TEXTS);
        uint64_t before = g->c.n_tokens;
        p->n = srn__session_begin(p->s, g->t->tokens[p->text], to);
        assert_true(p->n < to);
        assert_true(g->c.n_tokens == before);
        uint32_t cached = p->n;
        g->hits += cached > 0, g->part_hits += cached % SRN_KV_BLOCK != 0;
        srn_err err = {0};
        int code = srn_session_feed(p->s, g->t->tokens[p->text] + cached, to - cached, NULL, &err);
        if (code == SRN_ECONTEXT) return;
        if (code) fail_msg("%s", err.text);
        assert_true(g->c.n_tokens == before + to - cached);
        p->n = to;
        check_logits(g, p);
    } else if (what < 7) { /* cut, and on with another text that begins alike */
        uint32_t text = below(&g->x, TEXTS), n = below(&g->x, p->n + 1);
        n = SRN_MIN(n, common(g->t->tokens[text], g->t->tokens[p->text]));
        srn_session_truncate(p->s, n);
        p->n = n;
        p->text = text;
        feed_to(g, p, SRN_MAX(to, n));
    } else if (what < 9) {
        feed_to(g, p, SRN_MAX(to, p->n));
    } else {
        srn_session_free(p->s);
        *p = (player){.s = new_session(g->e)};
    }
}

static void play_game(const char *name, uint32_t window, const char *kv_type, uint32_t cache_tokens,
                      uint64_t seed) {
    print_message("%s, window %u, %s, seed %llu\n", name, window, kv_type, (unsigned long long)seed);
    srn_engine_opts o = {.kv_type = kv_type};
    game g = {.x = seed};
    g.t = make_texts(&g.x, name, window, o);
    o.max_seqs = SESSIONS;
    o.cache_tokens = cache_tokens;
    g.e = open_model(name, window, o);
    count_steps(g.e, &g.c);
    for (uint32_t i = 0; i < SESSIONS; i++) g.players[i].s = new_session(g.e);
    for (uint32_t i = 0; i < 60; i++) play(&g);
    assert_true(g.hits > 5 && g.part_hits > 3);
    srn_kv_stats s = srn_kv_get_stats(g.e->kv);
    assert_true(s.evictions > 0 && s.copies > 0);
    for (uint32_t i = 0; i < SESSIONS; i++) srn_session_free(g.players[i].s);
    assert_int_equal(srn_kv_get_stats(g.e->kv).n_held, 0);
    srn_engine_close(g.e);
    free((void *)(uintptr_t)g.t);
}

static void what_sessions_share_changes_no_bit(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u | 1;
    const char *given = getenv("SRN_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    play_game("llama-gqa", 0, "f16", 900, seed);
    play_game("llama", 0, "q8_0", 640, seed + 2);
    play_game("gemma3", 8, "f16", 900, seed + 4);
    play_game("gemma3", 100, "q8_0", 700, seed + 6);
    play_game("gemma2", 64, "f32", 900, seed + 8);
    play_game("mistral", 8, "f16", 500, seed + 10);
    play_game("mistral", 150, "f16", 700, seed + 12);
}

/* ---- what is reported ---- */

static void a_generation_takes_the_cache_and_says_so(void **state) {
    (void)state;
    srn_engine *e = open_model("llama", 0, (srn_engine_opts){.max_seqs = 2});
    counting c;
    count_steps(e, &c);
    srn_session *a = new_session(e), *b = new_session(e);
    int32_t prompt[200];
    uint64_t x = 7;
    for (size_t i = 0; i < SRN_LEN(prompt); i++) prompt[i] = (int32_t)below(&x, N_VOCAB);
    srn_generate_opts o = {.sampling = srn_sampling_default(), .max_tokens = 1, .ignore_eog = true};
    srn_generation g;
    srn_err err = {0};
    assert_int_equal(srn_generate(a, prompt, 200, &o, &g, &err), SRN_OK);
    assert_int_equal(g.n_cached, 0);
    assert_int_equal(c.n_tokens, 200);
    assert_int_equal(srn_generate(b, prompt, 200, &o, &g, &err), SRN_OK);
    assert_int_equal(g.n_cached, 199);
    assert_int_equal(c.n_tokens, 201);
    /* A feed computes: what is timed by it is no copy. */
    srn_session_truncate(b, 0);
    assert_int_equal(srn_session_feed(b, prompt, 200, NULL, &err), SRN_OK);
    assert_int_equal(c.n_tokens, 401);
    srn_session_free(a);
    srn_session_free(b);
    srn_engine_close(e);
}

static void a_feed_that_fails_in_its_middle_leaves_the_session_as_it_was(void **state) {
    (void)state;
    const char *const names[] = {"llama", "gemma3"};
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        uint64_t x = 99;
        const texts *t = make_texts(&x, names[i], 0, (srn_engine_opts){0});
        srn_engine *e = open_model(names[i], 0, (srn_engine_opts){0});
        counting c;
        count_steps(e, &c);
        srn_session *s = new_session(e);
        srn_err err = {0};
        float *rows = calloc(N_CTX, sizeof t->logits[0][0]);
        assert_non_null(rows);
        assert_int_equal(srn_session_feed(s, t->tokens[0], 100, NULL, &err), SRN_OK);
        c.fail_in = 4; /* the rows wanted are 64 a step */
        assert_int_equal(srn_session_feed_all(s, t->tokens[1], 300, rows, &err), SRN_ENONFINITE);
        assert_int_equal(c.fail_in, 0);
        assert_int_equal(srn_session_length(s), 100);
        assert_int_equal(srn_session_feed_all(s, t->tokens[0] + 100, 200, rows, &err), SRN_OK);
        assert_memory_equal(rows, t->logits[0][100], 200 * sizeof t->logits[0][0]);
        volatile int cancel = 1;
        assert_int_equal(srn_session_feed(s, t->tokens[0], 1, &cancel, &err), SRN_ECANCELLED);
        assert_int_equal(srn_session_length(s), 300);
        srn_session_free(s);
        srn_engine_close(e);
        free(rows);
        free((void *)(uintptr_t)t);
    }
}

static void several_sessions_in_a_step_get_what_each_gets_alone(void **state) {
    (void)state;
    const char *const names[] = {"llama", "gemma3"};
    for (size_t i = 0; i < SRN_LEN(names); i++) {
        uint64_t x = 5 + i;
        const texts *t = make_texts(&x, names[i], 40, (srn_engine_opts){0});
        srn_engine *e = open_model(names[i], 40, (srn_engine_opts){.max_seqs = SESSIONS});
        counting c;
        count_steps(e, &c);
        srn_session *s[SESSIONS + 1];
        uint32_t n[SESSIONS];
        int32_t tokens[SESSIONS + 1] = {0};
        float rows[SESSIONS][N_VOCAB];
        srn_err err = {0};
        for (uint32_t k = 0; k <= SESSIONS; k++) s[k] = new_session(e);
        for (uint32_t k = 0; k < SESSIONS; k++) {
            n[k] = 90 * k; /* the first is empty */
            if (k) assert_int_equal(srn_session_feed(s[k], t->tokens[k], n[k] + 60, NULL, &err), SRN_OK);
            srn_session_truncate(s[k], n[k]); /* the window that is needed again is gone */
        }
        for (uint32_t step = 0; step < 40; step++) {
            for (uint32_t k = 0; k < SESSIONS; k++) tokens[k] = t->tokens[k][n[k]];
            uint64_t before = c.n_tokens;
            assert_int_equal(srn_session_feed_each(s, tokens, SESSIONS, &rows[0][0], &err), SRN_OK);
            if (step) assert_int_equal(c.n_tokens - before, SESSIONS);
            for (uint32_t k = 0; k < SESSIONS; k++) {
                assert_memory_equal(rows[k], t->logits[k][n[k]++], sizeof rows[k]);
                assert_int_equal(srn_session_length(s[k]), n[k]);
            }
        }
        /* What cannot be done leaves all of them as they were. */
        assert_int_equal(srn_session_feed_each(s, tokens, SESSIONS + 1, &rows[0][0], &err), SRN_ELIMIT);
        assert_int_equal(srn_session_feed_each(s, tokens, 0, &rows[0][0], &err), SRN_EINVAL);
        tokens[1] = N_VOCAB;
        assert_int_equal(srn_session_feed_each(s, tokens, SESSIONS, &rows[0][0], &err), SRN_EINVAL);
        tokens[1] = 0, c.fail_in = 1;
        assert_int_equal(srn_session_feed_each(s, tokens, SESSIONS, &rows[0][0], &err), SRN_ENONFINITE);
        for (uint32_t k = 0; k < SESSIONS; k++) {
            assert_int_equal(srn_session_length(s[k]), n[k]);
            assert_int_equal(srn_session_feed(s[k], t->tokens[k] + n[k], 1, NULL, &err), SRN_OK);
            assert_memory_equal(srn_session_logits(s[k]), t->logits[k][n[k]], sizeof rows[k]);
        }
        for (uint32_t k = 0; k <= SESSIONS; k++) srn_session_free(s[k]);
        srn_engine_close(e);
        free((void *)(uintptr_t)t);
    }
}

static void a_full_cache_is_an_error_that_says_what_to_do(void **state) {
    (void)state;
    srn_engine *e = open_model("llama", 0, (srn_engine_opts){.max_seqs = 2, .cache_tokens = 320});
    srn_session *a = new_session(e), *b = new_session(e);
    int32_t tokens[N_CTX] = {0};
    srn_err err = {0};
    assert_int_equal(srn_session_feed(a, tokens, 321, NULL, &err), SRN_ECONTEXT);
    assert_non_null(strstr(err.text, "--cache-tokens"));
    assert_int_equal(srn_session_feed(a, tokens, 200, NULL, &err), SRN_OK);
    for (int32_t i = 0; i < N_CTX; i++) tokens[i] = 1 + i % 100;
    assert_int_equal(srn_session_feed(b, tokens, 100, NULL, &err), SRN_ECONTEXT);
    assert_non_null(strstr(err.text, "other sessions"));
    assert_int_equal(srn_session_length(b), 0);
    srn_session_free(a);
    assert_int_equal(srn_session_feed(b, tokens, 320, NULL, &err), SRN_OK);
    srn_session_free(b);
    srn_engine_close(e);
}

/* ---- the plan ---- */

static void the_plan_says_how_many_blocks_there_are(void **state) {
    (void)state;
    srn_layer last[2] = {{.window = 0, .kv_group = 0}, {.window = 1000, .kv_group = 1}};
    srn_model m = {.hp = {.n_layer = 2, .n_head_kv = 2, .d_k = 64, .d_v = 64}, .layers = last};
    srn_cache_plan p;
    srn_err err = {0};
    srn_cache_wish w = {.n_ctx = 8192, .max_seqs = 4, .available_bytes = UINT64_MAX};
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_OK);
    assert_int_equal(p.tokens, 4 * 8192);
    assert_int_equal(p.n_blocks[0], 512);
    assert_int_equal(p.n_blocks[1], 4 * 25 + 128); /* (1000 + 512) / 64 and a border; a quarter of 512 */
    assert_int_equal(p.bytes, (512ull + 228) * 64 * 2 * (64 + 64) * 2);
    assert_int_equal(p.max_batch, 512);
    assert_int_equal(p.max_wanted, 4 * 17);

    w.available_bytes = 4 * p.bytes - 1; /* one context less fits */
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_OK);
    assert_int_equal(p.tokens, 3 * 8192);
    w.available_bytes = 0; /* one there must be */
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_OK);
    assert_int_equal(p.tokens, 8192);
    w.cache_tokens = 100; /* what is stated is not weighed */
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_OK);
    assert_int_equal(p.tokens, 128);
    assert_int_equal(p.n_blocks[1], 2);

    w = (srn_cache_wish){.n_ctx = 100, .max_seqs = 0};
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_OK);
    assert_int_equal(p.max_seqs, 1);
    assert_int_equal(p.max_batch, 100);
    assert_int_equal(p.max_wanted, 64);
    w.max_seqs = 513;
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_ELIMIT);
    w.max_seqs = 1, w.cache_tokens = UINT64_MAX;
    assert_int_equal(srn_plan_cache(&m, &w, &p, &err), SRN_ELIMIT);
}

static void memory_that_is_not_there_is_refused_with_figures_and_options(void **state) {
    (void)state;
    srn_engine *e = NULL;
    srn_err err = {0};
    srn_engine_opts o = {.cache_tokens = 1ull << 36};
    assert_int_equal(srn_engine_open(SRN_TEST_DIR "/golden/llama.gguf", &o, &e, &err), SRN_ENOMEM);
    assert_null(e);
    assert_non_null(strstr(err.text, "68719476736 positions"));
    assert_non_null(strstr(err.text, "--cache-tokens"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_sessions_share_changes_no_bit),
        cmocka_unit_test(a_generation_takes_the_cache_and_says_so),
        cmocka_unit_test(a_feed_that_fails_in_its_middle_leaves_the_session_as_it_was),
        cmocka_unit_test(several_sessions_in_a_step_get_what_each_gets_alone),
        cmocka_unit_test(a_full_cache_is_an_error_that_says_what_to_do),
        cmocka_unit_test(the_plan_says_how_many_blocks_there_are),
        cmocka_unit_test(memory_that_is_not_there_is_refused_with_figures_and_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
