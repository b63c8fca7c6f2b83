/* Makes the Nth allocation of the library fail. For tests named test_*_nomem.c, which are linked so that
 * calls of malloc, calloc, realloc and posix_memalign in our objects come here; cmocka and libc keep their
 * own.
 *
 * for (size_t n = 1; nomem_begin(n), work(), nomem_end(); n++)  runs work with the first, the second, ...
 * allocation failing, until it ran without reaching the one that would have failed.
 */
#ifndef SRN_TEST_NOMEM_H
#define SRN_TEST_NOMEM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static struct { size_t count, fail_at; /* fail_at 0: none fails */ } nomem;

static inline void nomem_begin(size_t n) {
    nomem.count = 0;
    nomem.fail_at = n;
}

/* Whether an allocation failed since nomem_begin; from here on none does. */
static inline bool nomem_end(void) {
    bool reached = nomem.count >= nomem.fail_at;
    nomem.fail_at = 0;
    return reached;
}

static inline bool nomem_fails_now(void) {
    return nomem.fail_at && ++nomem.count == nomem.fail_at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

void *__wrap_malloc(size_t n) {
    return nomem_fails_now() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size) {
    return nomem_fails_now() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n) {
    return nomem_fails_now() ? NULL : __real_realloc(p, n);
}
int __wrap_posix_memalign(void **p, size_t align, size_t n) {
    return nomem_fails_now() ? ENOMEM : __real_posix_memalign(p, align, n);
}

#endif
