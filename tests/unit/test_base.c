/* base: errors, checked arithmetic, buffers, arena, UTF-8, hashing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/base.h"

static void fail_fills_the_sentence_and_returns_the_code(void **state) {
    (void)state;
    srn_err e;
    assert_int_equal(srn_fail(&e, SRN_EFORMAT, "%s at %d", "bad", 7), SRN_EFORMAT);
    assert_string_equal(e.text, "bad at 7");
    assert_int_equal(srn_fail_prefix(&e, SRN_EFORMAT, "file %s", "x"), SRN_EFORMAT);
    assert_string_equal(e.text, "file x: bad at 7");
    assert_string_equal(srn_err_name(SRN_ELIMIT), "ELIMIT");
    assert_string_equal(srn_err_name(-999), "?");
    assert_int_equal(srn_fail(NULL, SRN_EIO, "nobody listens"), SRN_EIO);
}

static void checked_arithmetic_refuses_overflow(void **state) {
    (void)state;
    uint64_t r = 5;
    assert_false(srn_add_u64(UINT64_MAX, 1, &r));
    assert_false(srn_mul_u64(UINT64_MAX / 2 + 1, 2, &r));
    assert_int_equal(r, 5);
    assert_true(srn_mul_u64(1u << 20, 3, &r));
    assert_int_equal(r, 3u << 20);
}

static void buffer_keeps_its_cap_and_fails_sticky(void **state) {
    (void)state;
    srn_buf b;
    srn_buf_init(&b, 5);
    assert_true(srn_buf_addz(&b, "abc"));
    assert_false(srn_buf_addz(&b, "defg"));
    assert_false(srn_buf_addc(&b, 'd'));
    assert_true(b.failed);
    assert_string_equal(b.data, "abc");
    srn_buf_clear(&b);
    assert_true(srn_buf_addf(&b, "%d", 12345));
    assert_string_equal(b.data, "12345");
    srn_buf_done(&b);
}

static void arena_is_zeroed_aligned_and_capped(void **state) {
    (void)state;
    srn_arena a;
    srn_arena_init(&a, 1 << 20);
    for (int i = 1; i < 200; i++) {
        char *p = srn_arena_alloc(&a, (size_t)i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (int k = 0; k < i; k++) assert_int_equal(p[k], 0);
        memset(p, 0xAA, (size_t)i);
    }
    assert_null(srn_arena_alloc(&a, 2 << 20));
    assert_null(srn_arena_alloc(&a, SIZE_MAX));
    srn_arena_done(&a);
}

static void utf8_round_trips_every_code_point_and_refuses_the_rest(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        if (cp >= 0xD800 && cp < 0xE000) continue;
        char s[4];
        uint32_t back = 0;
        size_t n = srn_utf8_put(cp, s);
        assert_int_equal(srn_utf8_get(s, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(srn_utf8_len(s, n - 1), 0);
    }
    assert_int_equal(srn_utf8_len("\xC0\x80", 2), 0);
    assert_int_equal(srn_utf8_len("\xE0\x80\x80", 3), 0);
    assert_int_equal(srn_utf8_len("\xED\xA0\x80", 3), 0);
    assert_int_equal(srn_utf8_len("\xF4\x90\x80\x80", 4), 0);
    assert_int_equal(srn_utf8_len("\x80", 1), 0);
}

static void sha256_is_the_standards(void **state) {
    (void)state;
    uint8_t out[SRN_SHA256_BYTES];
    char hex[65];
    srn_sha256 *h = srn_sha256_new();
    assert_non_null(h);
    srn_sha256_add(h, "ab", 2);
    srn_sha256_add(h, "c", 1);
    srn_sha256_end(h, out);
    srn_hex(out, sizeof out, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void read_file_names_what_is_missing_or_too_long(void **state) {
    (void)state;
    srn_err e;
    char *data;
    size_t n;
    assert_int_equal(srn_read_file("/nonexistent/file", 10, &data, &n, &e), SRN_ENOENT);
    assert_non_null(strstr(e.text, "/nonexistent/file"));
    assert_int_equal(srn_read_file(SRN_TEST_DIR "/CMakeLists.txt", 4, &data, &n, &e), SRN_ELIMIT);
    assert_int_equal(srn_read_file(SRN_TEST_DIR "/CMakeLists.txt", 1 << 20, &data, &n, &e), SRN_OK);
    assert_int_equal(strlen(data), n);
    free(data);
    assert_int_equal(srn_read_file(SRN_TEST_DIR, 10, &data, &n, &e), SRN_EINVAL);
    assert_non_null(strstr(e.text, SRN_TEST_DIR ": is a folder"));
}

static void ulids_are_the_specifications_and_sort_by_time(void **state) {
    (void)state;
    static const uint8_t known[SRN_ULID_BYTES] = {0x01, 0x56, 0x3E, 0x3A, 0xB5, 0xD3, 0xD6, 0x76,
                                                  0x4C, 0x61, 0xEF, 0xB9, 0x93, 0x02, 0xBD, 0x5B};
    char text[SRN_ULID_CHARS + 1], next[SRN_ULID_CHARS + 1];
    uint8_t id[SRN_ULID_BYTES];
    srn_ulid_format(known, text);
    assert_string_equal(text, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_true(srn_ulid_parse(SRN_STR("01arz3ndektsv4rrffq69g5fav"), id));
    assert_memory_equal(id, known, sizeof id);
    assert_true(srn_ulid_parse(SRN_STR("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), id));
    for (size_t i = 0; i < sizeof id; i++) assert_int_equal(id[i], 0xFF);
    static const char *const refused[] = {"",
                                          "01ARZ3NDEKTSV4RRFFQ69G5FA",
                                          "01ARZ3NDEKTSV4RRFFQ69G5FAVV",
                                          "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
                                          "01ARZ3NDEKTSV4RRFFQ69G5FAU",
                                          "01ARZ3NDEKTSV4RRFFQ69G5FA-"};
    for (size_t i = 0; i < SRN_LEN(refused); i++) assert_false(srn_ulid_parse(srn_str_of(refused[i]), id));
    assert_false(srn_ulid_parse((srn_str){"01ARZ3NDEKTSV4RRFFQ69G5FA\0", SRN_ULID_CHARS}, id));
    srn_ulid_new(text);
    assert_true(srn_ulid_parse(srn_str_of(text), id));
    uint64_t ms = 0, now_ms = srn_unix_us() / 1000;
    for (int i = 0; i < 6; i++) ms = ms << 8 | id[i];
    assert_true(ms <= now_ms && ms + 60000 > now_ms);
    do srn_ulid_new(next);
    while (memcmp(next, text, 10) == 0); /* until the clock has moved */
    assert_true(strcmp(text, next) < 0);
}

/* The texts of RFC 4648, and every length up to some with random bytes. */
static void base64_gives_the_bytes_back_and_refuses_the_rest(void **state) {
    (void)state;
    static const char *const texts[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    static const char *const none[] = {"Z", "Zm9v!", "Zm 9", "Zg==Zg==", "Zm9vY"};
    uint8_t bytes[64], back[64];
    srn_buf b;
    srn_buf_init(&b, 4096);
    for (size_t i = 0; i < SRN_LEN(texts); i++) {
        srn_buf_clear(&b);
        srn_base64_add(&b, (const uint8_t *)texts[i][0], strlen(texts[i][0]));
        assert_string_equal(b.data ? b.data : "", texts[i][1]);
    }
    for (size_t n = 0; n < sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(srn_hash(n, (srn_str){(const char *)&i, sizeof i}));
        srn_buf_clear(&b);
        srn_base64_add(&b, bytes, n);
        srn_str text = {b.data ? b.data : "", b.len};
        assert_int_equal(srn_base64_bytes(text), n);
        memset(back, 0xAA, sizeof back);
        assert_true(srn_base64_get(text, back));
        assert_memory_equal(back, bytes, n);
        if (n < sizeof back) assert_int_equal(back[n], 0xAA);
        while (text.len && text.ptr[text.len - 1] == '=') text.len--;
        assert_true(srn_base64_bytes(text) == n && srn_base64_get(text, back));
    }
    for (size_t i = 0; i < SRN_LEN(none); i++) assert_false(srn_base64_get(srn_str_of(none[i]), back));
    srn_buf_done(&b);
}

static void addresses_are_shown_without_their_secrets(void **state) {
    static const char *const all[][2] = {
        {"/var/lib/serin", "/var/lib/serin"},
        {"postgresql://serin@db/calls?sslmode=require", "postgresql://serin@db/calls?sslmode=require"},
        {"postgresql://[::1]:5432/calls", "postgresql://[::1]:5432/calls"},
        {"postgresql://serin:sesame@db:1/a?PASSWORD=sesame&b=c", "postgresql://serin@db:1/a?b=c"},
        /* libpq takes these for a password */
        {"postgresql://serin:ses?ame@db/calls", "postgresql://serin@db/calls"},
        {"postgresql://serin:ses#ame@db/calls?a=b", "postgresql://serin@db/calls?a=b"},
        /* and these for a port, a database, another password */
        {"postgresql://serin:ses/ame@db/calls?a=b", "postgresql://serin@db/calls?a=b"},
        {"postgresql://serin:ses@a/me@db/calls", "postgresql://serin@db/calls"},
        {"postgresql://serin:12/ame@db", "postgresql://serin@db"},
        {"postgresql://serin:ses/a?me@db/calls", "postgresql://serin"},
        {"postgresql://db:5432/calls?password=ses@ame", "postgresql://db"},
    };
    (void)state;
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn_buf b;
        srn_buf_init(&b, 256);
        srn_hide_password(all[i][0], &b);
        assert_string_equal(b.data, all[i][1]);
        srn_buf_done(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_the_sentence_and_returns_the_code),
        cmocka_unit_test(checked_arithmetic_refuses_overflow),
        cmocka_unit_test(base64_gives_the_bytes_back_and_refuses_the_rest),
        cmocka_unit_test(buffer_keeps_its_cap_and_fails_sticky),
        cmocka_unit_test(arena_is_zeroed_aligned_and_capped),
        cmocka_unit_test(utf8_round_trips_every_code_point_and_refuses_the_rest),
        cmocka_unit_test(ulids_are_the_specifications_and_sort_by_time),
        cmocka_unit_test(sha256_is_the_standards),
        cmocka_unit_test(addresses_are_shown_without_their_secrets),
        cmocka_unit_test(read_file_names_what_is_missing_or_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
