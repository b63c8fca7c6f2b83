/* That what was hashed is what runs. While a device packs a watched model, each thread tells what rows it has
 * read; a reading, which hashes the files from end to end, counts the same rows as it comes by them. Packing
 * goes in another order and on many threads, SHA-256 in the file's order on one; so of each tensor both keep
 * a sum, over its rows, of a digest of the row's bytes (XXH3-128 under a secret drawn for this model) mixed
 * with the row's number. Sums that differ show that the file changed in between, or that memory failed.
 *
 * Tensors that are used where they are mapped have no sums of the first kind: a reading sees the very pages
 * that they are used from.
 *
 * srn_weights_saw is called by the device's threads, the rest by whoever loads or verifies; a reading belongs
 * to one thread at a time.
 */
#include "format/format_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <xxhash.h>

#define SECRET_BYTES 192 /* at least XXH3_SECRET_SIZE_MIN */

/* Of one tensor, by all threads. */
typedef struct sight {
    atomic_uint_least64_t rows, a, b;
} sight;

struct srn__watch {
    uint8_t secret[SECRET_BYTES];
    sight *of; /* [n_tensors]; NULL: nobody watches */
};

typedef struct sums {
    uint64_t rows, a, b;
} sums;

struct srn_reading {
    const srn_weights *w;
    sums *of;                 /* [n_tensors]; NULL where nobody watches */
    const srn_tensor **order; /* [n_tensors]: by part and offset */
    XXH3_state_t *row;        /* of a row that goes on in the next bytes */
    size_t next;              /* in order: the tensor that the next bytes may belong to */
    uint64_t in_row;          /* bytes of its row that have come by, so far as they are in `row` */
    char id[65];
};

srn__watch *srn__watch_new(void) {
    return srn_calloc(1, sizeof(srn__watch));
}

void srn__watch_free(srn__watch *x) {
    if (x) free(x->of);
    free(x);
}

int srn_weights_watch(const srn_weights *w, srn_err *err) {
    if (w->watch->of) return SRN_OK;
    if (sodium_init() < 0) return srn_fail(err, SRN_EIO, "libsodium finds no source of random numbers");
    randombytes_buf(w->watch->secret, SECRET_BYTES);
    w->watch->of = srn_calloc(w->n_tensors + 1, sizeof *w->watch->of);
    return w->watch->of ? SRN_OK : srn_fail_nomem(err, (w->n_tensors + 1) * sizeof *w->watch->of);
}

bool srn_weights_watched(const srn_weights *w) {
    return w->watch->of != NULL;
}

static uint64_t rows_of(const srn_tensor *t) {
    return t->ne[1] * t->ne[2] * t->ne[3]; /* checked when the file was opened */
}

static uint64_t row_bytes_of(const srn_tensor *t) {
    uint64_t rows = rows_of(t);
    return rows ? t->n_bytes / rows : 0;
}

/* ---- sums ---- */

/* With an odd factor a difference of one digest always changes the sum. */
static void add_row(sums *s, uint64_t row, XXH128_hash_t h) {
    uint64_t odd = row * UINT64_C(0x9E3779B97F4A7C15) * 2 + 1;
    s->rows++;
    s->a += h.low64 * odd;
    s->b += h.high64 * odd;
}

void srn_weights_saw(const srn_weights *w, const srn_tensor *t, uint64_t row0, uint64_t n_rows,
                     const void *rows) {
    sight *to = &w->watch->of[t - w->tensors];
    uint64_t bytes = row_bytes_of(t);
    sums s = {0};
    for (uint64_t i = 0; i < n_rows; i++)
        add_row(&s, row0 + i,
                XXH3_128bits_withSecret((const uint8_t *)rows + i * bytes, (size_t)bytes, w->watch->secret,
                                        SECRET_BYTES));
    atomic_fetch_add_explicit(&to->rows, s.rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&to->a, s.a, memory_order_relaxed);
    atomic_fetch_add_explicit(&to->b, s.b, memory_order_relaxed);
}

/* ---- readings ---- */

static int by_place(const void *a, const void *b) {
    const srn_tensor *x = *(const srn_tensor *const *)a, *y = *(const srn_tensor *const *)b;
    if (x->part != y->part) return x->part < y->part ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

int srn_reading_new(const srn_weights *w, srn_reading **ret, srn_err *err) {
    srn_reading *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    r->w = w;
    if (srn_weights_watched(w)) {
        r->of = srn_calloc(w->n_tensors + 1, sizeof *r->of);
        r->order = srn_calloc(w->n_tensors + 1, sizeof *r->order);
        r->row = XXH3_createState();
        if (!r->of || !r->order || !r->row) {
            srn_reading_free(r);
            return srn_fail_nomem(err, (w->n_tensors + 1) * sizeof *r->of);
        }
        for (size_t i = 0; i < w->n_tensors; i++) r->order[i] = &w->tensors[i];
        qsort(r->order, w->n_tensors, sizeof *r->order, by_place);
    }
    *ret = r;
    return SRN_OK;
}

void srn_reading_free(srn_reading *r) {
    if (!r) return;
    if (r->row) XXH3_freeState(r->row);
    free(r->order);
    free(r->of);
    free(r);
}

const char *srn_reading_id(const srn_reading *r) {
    return r->id;
}

/* The n bytes of a tensor from its byte `at` on, following those before. */
static void count_bytes(srn_reading *r, const srn_tensor *t, uint64_t at, const uint8_t *p, uint64_t n) {
    const uint8_t *secret = r->w->watch->secret;
    uint64_t bytes = row_bytes_of(t);
    sums *s = &r->of[t - r->w->tensors];
    while (n) {
        uint64_t row = at / bytes, take = SRN_MIN(bytes - r->in_row, n);
        if (take == bytes) {
            add_row(s, row, XXH3_128bits_withSecret(p, (size_t)bytes, secret, SECRET_BYTES));
        } else {
            if (r->in_row == 0) XXH3_128bits_reset_withSecret(r->row, secret, SECRET_BYTES);
            XXH3_128bits_update(r->row, p, (size_t)take);
            r->in_row += take;
            if (r->in_row == bytes) {
                add_row(s, row, XXH3_128bits_digest(r->row));
                r->in_row = 0;
            }
        }
        at += take, p += take, n -= take;
    }
}

void srn__reading_add(srn_reading *r, uint32_t part, uint64_t at, const uint8_t *p, size_t n) {
    uint64_t end = at + n;
    while (r->of && r->next < r->w->n_tensors) {
        const srn_tensor *t = r->order[r->next];
        uint64_t t_end = t->offset + t->n_bytes;
        if (t->part > part || (t->part == part && t->offset >= end)) return;
        uint64_t from = SRN_MAX(t->offset, at), to = SRN_MIN(t_end, end);
        if (t->part == part && from < to) count_bytes(r, t, from - t->offset, p + (from - at), to - from);
        if (t->part == part && t_end > end) return;
        r->next++;
    }
}

int srn_reading_run(srn_reading *r, const srn_reading_opts *o, srn_err *err) {
    r->next = 0;
    r->in_row = 0;
    if (r->of) memset(r->of, 0, r->w->n_tensors * sizeof *r->of);
    return srn__hash_all(r->w, o, r, r->id, err);
}

int srn_reading_check(const srn_reading *r, srn_err *err) {
    for (size_t i = 0; r->of && i < r->w->n_tensors; i++) {
        const sight *seen = &r->w->watch->of[i];
        const sums *s = &r->of[i];
        uint64_t rows = atomic_load(&seen->rows);
        if (rows == 0 || (rows == s->rows && atomic_load(&seen->a) == s->a && atomic_load(&seen->b) == s->b))
            continue;
        return srn_fail(err, SRN_EIO,
                        "%s: tensor '%s' was read with other bytes when it was loaded than when it was "
                        "hashed: the file was changed meanwhile, or memory or disk are failing; load it "
                        "again, and check the file with `serin info --rehash`",
                        r->w->parts[r->w->tensors[i].part].path, r->w->tensors[i].name);
    }
    return SRN_OK;
}
