/* Sketches: histograms of times whose relative error is bounded, small enough to be kept for every minute,
 * and exact under addition: a day's sketch is that of its calls, whichever way they were added up. Pure but
 * for the memory of the counts, which reach from the least bucket in use to the greatest. Refuses stored ones
 * with buckets or counts that there cannot be.
 */
#include <stdlib.h>

#include "ledger/query_internal.h"

enum { EXACT = 256, PER_OCTAVE = 128, PER_OCTAVE_BITS = 7 };

uint32_t srn__sketch_bucket(uint64_t v) {
    if (v < EXACT) return (uint32_t)v;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(v) - PER_OCTAVE_BITS;
    uint64_t b = EXACT + (uint64_t)(shift - 1) * PER_OCTAVE + (v >> shift) - PER_OCTAVE;
    return b < SRN__SKETCH_BUCKETS ? (uint32_t)b : SRN__SKETCH_BUCKETS - 1;
}

uint64_t srn__sketch_middle(uint32_t bucket) {
    if (bucket < EXACT) return bucket;
    uint32_t shift = (bucket - EXACT) / PER_OCTAVE + 1;
    uint64_t low = (uint64_t)(PER_OCTAVE + (bucket - EXACT) % PER_OCTAVE) << shift;
    return low + ((UINT64_C(1) << shift) - 1) / 2;
}

void srn__sketch_done(srn__sketch *s) {
    free(s->counts);
    *s = (srn__sketch){0};
}

/* Makes room for the bucket, and for some beyond it on the side to which the sketch grows. */
static bool reach(srn__sketch *s, uint32_t bucket) {
    uint32_t slack = s->n / 2;
    uint32_t first = s->n ? s->first : bucket, end = s->n ? s->first + s->n : bucket;
    if (bucket < first) first = bucket > slack ? bucket - slack : 0;
    if (bucket >= end) end = SRN_MIN(bucket + 1 + slack, (uint32_t)SRN__SKETCH_BUCKETS);
    uint64_t *counts = srn_calloc(end - first, sizeof *counts);
    if (!counts) return false;
    if (s->n) memcpy(counts + (s->first - first), s->counts, s->n * sizeof *counts);
    free(s->counts);
    s->counts = counts;
    s->first = first;
    s->n = end - first;
    return true;
}

bool srn__sketch_add(srn__sketch *s, uint32_t bucket, uint64_t count) {
    if ((bucket < s->first || bucket - s->first >= s->n) && !reach(s, bucket)) return false;
    s->counts[bucket - s->first] += count;
    s->total += count;
    return true;
}

/* ---- as bytes: the number of buckets, then distance to the one before and count of each ---- */

void srn__varint_put(srn_buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) srn_buf_addc(b, (char)(v | 0x80));
    srn_buf_addc(b, (char)v);
}

bool srn__varint_get(const uint8_t *p, size_t n, size_t *at, uint64_t *ret) {
    uint64_t v = 0;
    for (uint32_t shift = 0; shift < 63 && *at < n; shift += 7) {
        uint8_t byte = p[(*at)++];
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (byte & 0x80) continue;
        *ret = v;
        return true;
    }
    return false;
}

void srn__sketch_write(const srn__sketch *s, srn_buf *ret) {
    uint64_t used = 0;
    for (uint32_t i = 0; i < s->n; i++) used += s->counts[i] != 0;
    srn__varint_put(ret, used);
    for (uint32_t i = 0, last = 0; i < s->n; i++) {
        if (!s->counts[i]) continue;
        srn__varint_put(ret, s->first + i - last);
        srn__varint_put(ret, s->counts[i]);
        last = s->first + i;
    }
}

int srn__sketch_read(srn__sketch *s, const uint8_t *blob, size_t n, size_t *at, srn_err *err) {
    uint64_t used = 0, step = 0, count = 0, bucket = 0;
    bool good = srn__varint_get(blob, n, at, &used) && used <= SRN__SKETCH_BUCKETS;
    for (uint64_t i = 0; good && i < used; i++) {
        good = srn__varint_get(blob, n, at, &step) && srn__varint_get(blob, n, at, &count) && count > 0 &&
               step < SRN__SKETCH_BUCKETS && (i == 0 || step > 0);
        bucket += step;
        good = good && bucket < SRN__SKETCH_BUCKETS;
        if (good && !srn__sketch_add(s, (uint32_t)bucket, count)) return srn_fail_nomem(err, sizeof *s);
    }
    if (good) return SRN_OK;
    return srn_fail(err, SRN_EFORMAT, "a roll-up of the ledger is damaged at byte %zu of %zu", *at, n);
}

uint64_t srn__sketch_quantile(const srn__sketch *s, double q) {
    if (!s->total) return 0;
    double exact = q * (double)s->total;
    uint64_t rank = (uint64_t)exact, seen = 0;
    if ((double)rank < exact) rank++;
    rank = SRN_MAX((uint64_t)1, SRN_MIN(rank, s->total));
    for (uint32_t i = 0; i < s->n; i++) {
        seen += s->counts[i];
        if (seen >= rank) return srn__sketch_middle(s->first + i);
    }
    return 0;
}
