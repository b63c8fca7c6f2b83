/* Memory: zeroed allocations with checked sizes, what the system has left, the capped byte buffer and the
 * arena. */
#include "base/base.h"

#include <stdlib.h>
#include <sys/mman.h>

void *srn_calloc(size_t n, size_t size) {
    return calloc(n ? n : 1, size ? size : 1);
}

void *srn_realloc_array(void *p, size_t n, size_t size) {
    uint64_t bytes;
    if (!srn_mul_u64(n, size, &bytes)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

void *srn_aligned_calloc(size_t n, size_t size) {
    uint64_t bytes;
    if (!srn_mul_u64(n, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    size_t align = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 64;
    void *p = NULL;
    if (posix_memalign(&p, align, bytes ? srn_align_up(bytes, 64) : 64)) return NULL;
    if (align == HUGE_PAGE_BYTES) madvise(p, bytes, MADV_HUGEPAGE); /* advice only: failure costs speed */
    memset(p, 0, bytes);
    return p;
}

void srn_aligned_free(void *p) {
    free(p);
}

static void *map_pages(size_t bytes, int advice) {
    if (bytes > SIZE_MAX / 2) return NULL;
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    if (bytes >= HUGE_PAGE_BYTES) madvise(p, bytes, advice); /* failure costs speed only */
    return p;
}

void *srn_pages_alloc(size_t bytes) {
    return map_pages(bytes, MADV_HUGEPAGE);
}

void *srn_pages_alloc_sparse(size_t bytes) {
    return map_pages(bytes, MADV_NOHUGEPAGE);
}

void srn_pages_free(void *p, size_t bytes) {
    if (p) munmap(p, bytes ? bytes : 1);
}

uint64_t srn_memory_available(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return UINT64_MAX;
    char line[256];
    unsigned long long kib = 0;
    uint64_t bytes = UINT64_MAX;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) bytes = (uint64_t)kib * 1024;
    fclose(f);
    return bytes;
}

char *srn_strndup(const char *p, size_t n) {
    char *s = malloc(n + 1);
    if (!s) return NULL;
    if (n) memcpy(s, p, n);
    s[n] = 0;
    return s;
}

void srn_buf_init(srn_buf *b, size_t max_bytes) {
    *b = (srn_buf){.max = max_bytes};
}

void srn_buf_done(srn_buf *b) {
    free(b->data);
    *b = (srn_buf){0};
}

void srn_buf_clear(srn_buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

static bool buf_room(srn_buf *b, size_t more) {
    if (b->failed) return false;
    if (more > b->max || b->len > b->max - more) return b->failed = true, false;
    size_t need = b->len + more + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap *= 2;
    char *p = realloc(b->data, cap);
    if (!p) return b->failed = true, false;
    b->data = p;
    b->cap = cap;
    return true;
}

bool srn_buf_add(srn_buf *b, const void *p, size_t n) {
    if (!buf_room(b, n)) return false;
    if (n) memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = 0;
    return true;
}

bool srn_buf_addz(srn_buf *b, const char *z) {
    return srn_buf_add(b, z, strlen(z));
}

bool srn_buf_addc(srn_buf *b, char c) {
    return srn_buf_add(b, &c, 1);
}

bool srn_buf_addf(srn_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    bool ok = n >= 0 && buf_room(b, (size_t)n);
    if (ok) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return ok;
}

struct srn_arena_chunk {
    struct srn_arena_chunk *next;
    size_t used, cap;
    _Alignas(16) char data[];
};

void srn_arena_init(srn_arena *a, size_t max_bytes) {
    *a = (srn_arena){.max = max_bytes};
}

void srn_arena_done(srn_arena *a) {
    for (struct srn_arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (srn_arena){0};
}

void *srn_arena_alloc(srn_arena *a, size_t n) {
    if (n > SIZE_MAX / 2) return NULL;
    n = (size_t)srn_align_up(n ? n : 1, 16);
    if (a->max && (n > a->max || a->used > a->max - n)) return NULL;
    struct srn_arena_chunk *c = a->head;
    if (!c || c->cap - c->used < n) {
        size_t cap = SRN_MAX(n, (size_t)64 << 10);
        c = calloc(1, sizeof *c + cap);
        if (!c) return NULL;
        c->cap = cap;
        c->next = a->head;
        a->head = c;
    }
    void *p = c->data + c->used;
    c->used += n;
    a->used += n;
    return p;
}

char *srn_arena_strndup(srn_arena *a, const char *p, size_t n) {
    char *s = n < SIZE_MAX ? srn_arena_alloc(a, n + 1) : NULL;
    if (s && n) memcpy(s, p, n);
    return s;
}
