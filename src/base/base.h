/* base: what every room may use. Errors, checked arithmetic, capped buffers, arena, clock, log, hashing.
 * Nothing here knows of models. Functions are thread-safe unless they say otherwise; objects belong to one
 * thread at a time.
 */
#ifndef SRN_BASE_BASE_H
#define SRN_BASE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "serin/serin.h"

#define SRN_LEN(a)       (sizeof(a) / sizeof((a)[0]))
#define SRN_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define SRN_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define SRN_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define SRN_WARN_UNUSED  __attribute__((warn_unused_result))

/* ---- errors ---- */

/* Fills err (may be NULL) with code and the formatted sentence; returns code, so that a failing function
 * ends in `return srn_fail(err, SRN_EFORMAT, "...", ...);`. */
int srn_fail(srn_err *err, int code, const char *fmt, ...) SRN_PRINTF(3, 4);
int srn_vfail(srn_err *err, int code, const char *fmt, va_list ap) SRN_PRINTF(3, 0);
/* Puts "PREFIX: " before the sentence already in err; returns err's code. */
int srn_fail_prefix(srn_err *err, int code, const char *fmt, ...) SRN_PRINTF(3, 4);
/* The usual allocation failure: names the bytes that were asked for. */
int srn_fail_nomem(srn_err *err, size_t bytes);

/* ---- checked arithmetic: true on success, *ret untouched on overflow ---- */
static inline bool srn_add_u64(uint64_t a, uint64_t b, uint64_t *ret) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *ret = r;
    return true;
}
static inline bool srn_mul_u64(uint64_t a, uint64_t b, uint64_t *ret) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *ret = r;
    return true;
}
static inline uint64_t srn_align_up(uint64_t v, uint64_t power_of_two) {
    return (v + power_of_two - 1) & ~(power_of_two - 1);
}

/* ---- strings that may hold NUL: pointer and length, not owned ---- */
typedef struct srn_str {
    const char *ptr;
    size_t len;
} srn_str;
#define SRN_STR(literal) ((srn_str){"" literal, sizeof(literal) - 1})
static inline srn_str srn_str_of(const char *z) {
    return (srn_str){z, strlen(z)};
}
static inline bool srn_str_eq(srn_str a, srn_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool srn_str_eqz(srn_str a, const char *z) {
    return srn_str_eq(a, srn_str_of(z));
}

/* ---- memory: zeroed, NULL when it cannot be had; n*size is checked ---- */
void *srn_calloc(size_t n, size_t size);
void *srn_realloc_array(void *p, size_t n, size_t size);
/* 64-byte aligned (2 MiB and huge-page advice from 2 MiB on), zeroed; srn_aligned_free gives it back. */
void *srn_aligned_calloc(size_t n, size_t size);
void srn_aligned_free(void *p);
char *srn_strndup(const char *p, size_t n);
/* Zero pages that cost nothing until touched, with huge-page advice; NULL when they cannot be had. */
void *srn_pages_alloc(size_t bytes);
/* The same for memory of which little may ever be written, here and there: small pages, since the first touch
 * of a huge one takes and clears 2 MiB. */
void *srn_pages_alloc_sparse(size_t bytes);
void srn_pages_free(void *p, size_t bytes); /* p may be NULL */
/* Bytes that can be had without swapping; UINT64_MAX where the system does not say. */
uint64_t srn_memory_available(void);

/* ---- what the program runs on; "" is what the system does not say ---- */
typedef struct srn_platform {
    char kernel[128], cpu[128], microcode[64], libc[64];
} srn_platform;
void srn_platform_get(srn_platform *ret);

/* ---- a growing byte buffer with a cap ---- */
typedef struct srn_buf {
    char *data; /* always NUL-terminated once anything was added */
    size_t len, cap, max;
    bool failed; /* sticky: an append went past max or memory ran out; what follows is dropped */
} srn_buf;
void srn_buf_init(srn_buf *b, size_t max_bytes);
void srn_buf_done(srn_buf *b);
void srn_buf_clear(srn_buf *b);
bool srn_buf_add(srn_buf *b, const void *p, size_t n);
bool srn_buf_addz(srn_buf *b, const char *z);
bool srn_buf_addc(srn_buf *b, char c);
bool srn_buf_addf(srn_buf *b, const char *fmt, ...) SRN_PRINTF(2, 3);

/* ---- arena: many small allocations, one free ---- */
typedef struct srn_arena {
    struct srn_arena_chunk *head;
    size_t used, max; /* bytes handed out; cap, 0 for none */
} srn_arena;
void srn_arena_init(srn_arena *a, size_t max_bytes);
void srn_arena_done(srn_arena *a);
void *srn_arena_alloc(srn_arena *a, size_t n); /* zeroed, 16-byte aligned; NULL past the cap */
char *srn_arena_strndup(srn_arena *a, const char *p, size_t n);

/* ---- clock ---- */
uint64_t srn_now_us(void);  /* monotonic microseconds */
uint64_t srn_unix_us(void); /* microseconds since 1970, as the machine's clock has them */

/* ---- ULIDs (ulid.c): ids that sort by time, and that nobody can guess ---- */
enum { SRN_ULID_CHARS = 26, SRN_ULID_BYTES = 16 };
void srn_ulid_new(char ret[SRN_ULID_CHARS + 1]);
void srn_ulid_format(const uint8_t id[SRN_ULID_BYTES], char ret[SRN_ULID_CHARS + 1]);
bool srn_ulid_parse(srn_str text, uint8_t ret[SRN_ULID_BYTES]); /* capitals or small letters */

/* ---- addresses ---- */
/* Of "scheme://user:password@host/db?password=x&port=1" the two secrets are left out; other texts are
 * appended as they are. */
void srn_hide_password(const char *address, srn_buf *ret);

/* ---- files ---- */
/* Reads a whole file (or standard input for "-") of at most max_bytes; *ret_data is malloc'd and
 * NUL-terminated. */
int srn_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_len, srn_err *err);
/* Writes all n bytes, however the system cuts them. 0, or -1 with errno. */
int srn_write_all(int fd, const void *p, size_t n);

/* An address as people may see it: without "user:password@", without the query. Cut to cap, NUL-terminated.
 */
void srn_url_shown(const char *url, char *ret, size_t cap);

/* ---- UTF-8 ---- */
/* Length in bytes of the well-formed code point at p (1 to 4), 0 if it is malformed or cut off. */
size_t srn_utf8_len(const char *p, size_t n);
/* Decodes the well-formed code point at p; returns its length, 0 if malformed. */
size_t srn_utf8_get(const char *p, size_t n, uint32_t *ret_cp);
/* Writes cp as UTF-8 to out[4]; returns the length. */
size_t srn_utf8_put(uint32_t cp, char out[4]);

/* ---- base64 (base64.c) ---- */
void srn_base64_add(srn_buf *out, const uint8_t *p, size_t n);
/* The bytes that a text stands for, padded or not; then these, into ret. false: it is no base64. */
size_t srn_base64_bytes(srn_str text);
bool srn_base64_get(srn_str text, uint8_t *ret);

/* ---- hashing ---- */
/* For tables in memory: with a seed that is not known nobody can choose texts that collide. */
uint64_t srn_hash(uint64_t seed, srn_str s);
uint64_t srn_hash_seed(void); /* random */
#define SRN_SHA256_BYTES 32
typedef struct srn_sha256 srn_sha256;
srn_sha256 *srn_sha256_new(void);
void srn_sha256_add(srn_sha256 *h, const void *p, size_t n);
void srn_sha256_end(srn_sha256 *h, uint8_t out[SRN_SHA256_BYTES]); /* frees h */
void srn_hex(const uint8_t *p, size_t n, char *out);               /* out: 2n+1 bytes, lower case */

#endif
