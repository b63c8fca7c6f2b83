/* An answer's text as its tokens come: what is held back, where it stops and which tokens are certain,
 * against a search of the whole text after every token, for random tokens and stop texts and for every split
 * of a text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "engine/stream.h"
#include "unit/vocab_image.h"

enum { MAX_PIECES = 2048, MAX_STOPS = 8, MAX_TOKENS = 64 };

/* ---- a byte-level vocabulary of any byte strings ---- */

typedef struct pieces {
    char *spelled[MAX_PIECES];
    srn_str bytes[MAX_PIECES];
    size_t n;
} pieces;

/* How byte-level vocabularies spell a byte: printable ones of Latin-1 as themselves, the rest from U+0100 on.
 */
static uint32_t letter(unsigned byte) {
    uint32_t next = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return itself ? b : next;
        next += !itself;
    }
    return 0;
}

static int32_t piece(pieces *p, const char *bytes, size_t n) {
    for (size_t i = 0; i < p->n; i++)
        if (srn_str_eq(p->bytes[i], (srn_str){bytes, n})) return (int32_t)i;
    assert_true(p->n < MAX_PIECES);
    char *s = calloc(1, 2 * n + 1), *at = s;
    for (size_t i = 0; i < n; i++) at += srn_utf8_put(letter((unsigned char)bytes[i]), at);
    p->spelled[p->n] = s;
    p->bytes[p->n] = (srn_str){srn_strndup(bytes, n), n};
    return (int32_t)p->n++;
}

static loaded load(pieces *p) {
    static token_row rows[MAX_PIECES];
    loaded l;
    image g;
    srn_err err = {0};
    for (size_t i = 0; i < p->n; i++) rows[i] = (token_row){p->spelled[i], 1, 0};
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    key_str(&g, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(&g, rows, p->n);
    put_merges(&g, NULL, 0);
    if (load_image(&g, &l, &err)) fail_msg("%s", err.text);
    return l;
}

static void pieces_done(pieces *p) {
    for (size_t i = 0; i < p->n; i++) {
        free(p->spelled[i]);
        free((void *)p->bytes[i].ptr);
    }
}

/* ---- the reference: everything again after every token ---- */

typedef struct expected {
    srn_buf text;
    size_t certain, pending, bytes;
    uint64_t ends[MAX_TOKENS], brought[MAX_TOKENS]; /* text and bytes up to each token */
    uint32_t n, n_certain;
    int32_t stop;
} expected;

static bool ends_in(const char *text, size_t end, srn_str s, size_t n) {
    return n <= end && memcmp(text + end - n, s.ptr, n) == 0;
}

/* The stop that ends first, of these the longest, of these the first. */
static void cut(expected *e, const srn_str *stops, uint32_t n_stops, bool keep) {
    size_t held = 0;
    for (size_t end = 1; end <= e->text.len && e->stop < 0; end++) {
        size_t longest = 0;
        for (uint32_t k = 0; k < n_stops; k++)
            if (stops[k].len > longest && ends_in(e->text.data, end, stops[k], stops[k].len)) {
                longest = stops[k].len;
                e->stop = (int32_t)k;
                e->certain = end - (keep ? 0 : longest);
            }
    }
    if (e->stop >= 0) return;
    for (uint32_t k = 0; k < n_stops; k++)
        for (size_t n = 1; n < stops[k].len; n++)
            if (n > held && ends_in(e->text.data, e->text.len, stops[k], n)) held = n;
    e->certain = e->text.len - held;
}

static expected expect(const srn_vocab *v, const pieces *p, const int32_t *tokens, uint32_t n,
                       const srn_str *stops, uint32_t n_stops, bool keep) {
    expected e = {.stop = -1, .n = n};
    srn_detok d;
    srn_detok_init(&d, v, false);
    srn_buf_init(&e.text, 1 << 20);
    srn_buf_add(&e.text, "", 0);
    for (uint32_t i = 0; i < n; i++) {
        srn_detok_add(&d, tokens[i], &e.text);
        e.bytes += p->bytes[tokens[i]].len;
        e.brought[i] = e.bytes;
        e.ends[i] = e.text.len;
    }
    cut(&e, stops, n_stops, keep);
    while (e.n_certain < n && (e.stop >= 0 || (e.ends[e.n_certain] <= e.certain &&
                                               e.brought[e.n_certain] <= e.bytes - d.n_pending)))
        e.n_certain++;
    return e;
}

/* Gives the tokens to a stream and looks at it after each; returns the stop that ended it. */
static int32_t compare(const srn_vocab *v, const pieces *p, const int32_t *tokens, uint32_t n,
                       const srn_str *stops, uint32_t n_stops, bool keep) {
    srn_stream *s;
    srn_err err = {0};
    if (srn_stream_new(v, false, stops, n_stops, keep, &s, &err)) fail_msg("%s", err.text);
    int32_t got = -1;
    for (uint32_t i = 0; i < n && got < 0; i++) {
        expected e = expect(v, p, tokens, i + 1, stops, n_stops, keep);
        got = srn_stream_add(s, tokens[i]);
        srn_str text = srn_stream_text(s);
        assert_int_equal(got, e.stop);
        assert_int_equal(text.len, e.certain);
        assert_memory_equal(text.ptr, e.text.data, text.len);
        assert_int_equal(srn_stream_n_tokens(s), e.n_certain);
        for (uint32_t k = 0; k < e.n_certain; k++)
            assert_int_equal(srn_stream_text_end(s, k), SRN_MIN(e.ends[k], e.certain));
        for (size_t k = 0, step; k < text.len; k += step) { /* whole characters */
            step = srn_utf8_len(text.ptr + k, text.len - k);
            assert_true(step > 0);
        }
        srn_buf_done(&e.text);
    }
    if (got < 0) {
        srn_stream_end(s);
        assert_int_equal(srn_stream_n_tokens(s), n);
        if (n) assert_int_equal(srn_stream_text_end(s, n - 1), srn_stream_text(s).len);
    }
    assert_false(srn_stream_failed(s));
    srn_stream_free(s);
    return got;
}

/* ---- the tests ---- */

static uint32_t next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Few letters, so that beginnings of stops are everywhere; characters of 1 to 4 bytes. */
static const char *const letters[] = {
    "a", "b", "\xC3\xA9", "\xE4\xB8\xAD", "\xE4\xB8\xAE", "\xF0\x9F\x99\x82"};

static size_t random_text(uint32_t *seed, char *ret, size_t n_letters) {
    size_t n = 0;
    for (size_t i = 0; i < n_letters; i++) {
        const char *l = letters[next(seed) % 3 ? next(seed) % 2 : next(seed) % SRN_LEN(letters)];
        memcpy(ret + n, l, strlen(l));
        n += strlen(l);
    }
    return n;
}

static void random_answers_are_cut_as_a_search_of_the_whole_text_cuts_them(void **state) {
    (void)state;
    pieces p = {0};
    uint32_t seed = 4711;
    char buf[256];
    print_message("seed %u\n", seed);
    for (unsigned b = 0; b < 256; b++) buf[0] = (char)b, piece(&p, buf, 1);
    for (int i = 0; i < 600; i++) { /* pieces of texts, so that they begin and end inside characters */
        size_t n = random_text(&seed, buf, 6), from = next(&seed) % n, len = 1 + next(&seed) % (n - from);
        piece(&p, buf + from, len);
    }
    loaded l = load(&p);
    int stopped = 0, ran = 0;
    for (int round = 0; round < 4000; round++) {
        char texts[MAX_STOPS][64];
        srn_str stops[MAX_STOPS];
        int32_t tokens[MAX_TOKENS];
        uint32_t n_stops = next(&seed) % (MAX_STOPS + 1), n = next(&seed) % 24;
        for (uint32_t k = 0; k < n_stops; k++)
            stops[k] = (srn_str){texts[k], random_text(&seed, texts[k], 1 + next(&seed) % 6)};
        for (uint32_t k = 0; k < n; k++) /* now and then any byte at all */
            tokens[k] = (int32_t)(next(&seed) % 16 ? 256 + next(&seed) % (p.n - 256) : next(&seed) % 256);
        int32_t got = compare(l.v, &p, tokens, n, stops, n_stops, next(&seed) % 2);
        if (n && n_stops) ran++, stopped += got >= 0;
    }
    assert_true(stopped > ran / 4 && stopped < ran * 9 / 10); /* both ends are tried */
    loaded_done(&l);
    pieces_done(&p);
}

/* Every way to cut a text into tokens gives the same text, stop and order of certainty. */
static void a_stop_is_found_whatever_the_tokens_are(void **state) {
    (void)state;
    static const char *const texts[] = {"abacababac", "x\xE4\xB8\xAD\xE4\xB8\xAEy", "aaaaab",
                                        "\xFF\xE4\xB8z\xF0\x9F"};
    const srn_str stops[] = {SRN_STR("ababac"), SRN_STR("\xE4\xB8\xAEy"), SRN_STR("aab"), SRN_STR("ab"),
                             SRN_STR("\xEF\xBF\xBDz")};
    const int32_t found[] = {0, 1, 2, -1}; /* of the first three stops */
    for (size_t t = 0; t < SRN_LEN(texts); t++) {
        size_t n = strlen(texts[t]);
        pieces p = {0};
        for (size_t i = 0; i < n; i++)
            for (size_t k = i + 1; k <= n; k++) piece(&p, texts[t] + i, k - i);
        loaded l = load(&p);
        for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
            int32_t tokens[MAX_TOKENS];
            uint32_t n_tokens = 0;
            for (size_t i = 0, from = 0; i < n; i++)
                if (i == n - 1 || cuts >> i & 1) {
                    tokens[n_tokens++] = piece(&p, texts[t] + from, i + 1 - from);
                    from = i + 1;
                }
            for (uint32_t first = 0; first < SRN_LEN(stops); first++)
                compare(l.v, &p, tokens, n_tokens, stops + first, (uint32_t)SRN_LEN(stops) - first, cuts & 1);
            assert_int_equal(compare(l.v, &p, tokens, n_tokens, stops, 3, false), found[t]);
        }
        loaded_done(&l);
        pieces_done(&p);
    }
}

static void a_stop_cuts_the_text_and_the_token_that_brings_it(void **state) {
    (void)state;
    pieces p = {0};
    int32_t tokens[] = {piece(&p, "go", 2), piece(&p, " on.E", 5), piece(&p, "N", 1), piece(&p, "D more", 6)};
    loaded l = load(&p);
    const srn_str stop = SRN_STR(".END");
    for (int keep = 0; keep < 2; keep++) {
        srn_stream *s;
        assert_int_equal(srn_stream_new(l.v, false, &stop, 1, keep, &s, NULL), SRN_OK);
        for (int i = 0; i < 3; i++) assert_int_equal(srn_stream_add(s, tokens[i]), -1);
        assert_int_equal(srn_stream_n_tokens(s), 1);
        assert_true(srn_str_eqz(srn_stream_text(s), "go on"));
        assert_int_equal(srn_stream_add(s, tokens[3]), 0);
        assert_true(srn_str_eqz(srn_stream_text(s), keep ? "go on.END" : "go on"));
        assert_int_equal(srn_stream_n_tokens(s), 4);
        const uint64_t ends[2][4] = {{2, 5, 5, 5}, {2, 7, 8, 9}};
        for (uint32_t i = 0; i < 4; i++) assert_int_equal(srn_stream_text_end(s, i), ends[keep][i]);
        assert_int_equal(srn_stream_add(s, tokens[0]), 0); /* what comes after a stop changes nothing */
        srn_stream_end(s);
        assert_true(srn_str_eqz(srn_stream_text(s), keep ? "go on.END" : "go on"));
        srn_stream_free(s);
    }
    loaded_done(&l);
    pieces_done(&p);
}

static void the_end_gives_out_what_was_held_back(void **state) {
    (void)state;
    pieces p = {0};
    int32_t tokens[] = {piece(&p, "a.E", 3), piece(&p, "\xE4\xB8", 2)};
    loaded l = load(&p);
    const srn_str stop = SRN_STR(".END");
    srn_stream *s;
    assert_int_equal(srn_stream_new(l.v, false, &stop, 1, false, &s, NULL), SRN_OK);
    assert_int_equal(srn_stream_add(s, tokens[0]), -1);
    assert_int_equal(srn_stream_add(s, tokens[1]), -1);
    assert_true(srn_str_eqz(srn_stream_text(s), "a"));
    assert_int_equal(srn_stream_n_tokens(s), 0);
    srn_stream_end(s);
    assert_true(srn_str_eqz(srn_stream_text(s), "a.E")); /* half a character is dropped */
    assert_int_equal(srn_stream_n_tokens(s), 2);
    assert_int_equal(srn_stream_text_end(s, 0), 3);
    assert_int_equal(srn_stream_text_end(s, 1), 3);
    srn_stream_free(s);
    loaded_done(&l);
    pieces_done(&p);
}

static void a_space_before_the_first_word_is_text_only_where_a_text_goes_on(void **state) {
    (void)state;
    image g;
    loaded l;
    srn_err err = {0};
    spm_image(&g);
    if (load_image(&g, &l, &err)) fail_msg("%s", err.text);
    for (int goes_on = 0; goes_on < 2; goes_on++) {
        srn_stream *s;
        assert_int_equal(srn_stream_new(l.v, false, NULL, 0, false, &s, NULL), SRN_OK);
        if (goes_on) srn_stream_continues(s);
        for (int i = 0; i < 2; i++) srn_stream_add(s, 11); /* "_a" */
        assert_true(srn_str_eqz(srn_stream_text(s), goes_on ? " a a" : "a a"));
        srn_stream_free(s);
    }
    loaded_done(&l);
}

static void stop_texts_that_are_empty_or_not_utf8_are_refused(void **state) {
    (void)state;
    pieces p = {0};
    piece(&p, "a", 1);
    loaded l = load(&p);
    srn_stream *s = NULL;
    srn_err err = {0};
    const srn_str bad[][2] = {{SRN_STR("a"), SRN_STR("")}, {SRN_STR("a"), SRN_STR("a\xE4\xB8")}};
    for (size_t i = 0; i < SRN_LEN(bad); i++) {
        assert_int_equal(srn_stream_new(l.v, false, bad[i], 2, false, &s, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, "stop text 1"));
        assert_null(s);
    }
    loaded_done(&l);
    pieces_done(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_answers_are_cut_as_a_search_of_the_whole_text_cuts_them),
        cmocka_unit_test(a_stop_is_found_whatever_the_tokens_are),
        cmocka_unit_test(a_stop_cuts_the_text_and_the_token_that_brings_it),
        cmocka_unit_test(the_end_gives_out_what_was_held_back),
        cmocka_unit_test(a_space_before_the_first_word_is_text_only_where_a_text_goes_on),
        cmocka_unit_test(stop_texts_that_are_empty_or_not_utf8_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
