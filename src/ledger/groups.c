/* What calls add up to: counts, tokens, times and their sketches, by the values of some columns. Used by the
 * writer for roll-ups and by readers for statistics; owned by whoever asks, one thread. Refuses more groups
 * than memory should hold, and stored sums that are damaged.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/query_internal.h"

const srn__by srn__bys[SRN_BY_END] = {
    [SRN_BY_MODEL] = {"model", "model", false},
    [SRN_BY_WEIGHTS] = {"weights", "weights", false},
    [SRN_BY_QUANTISATION] = {"quantisation", "quantisation", false},
    [SRN_BY_PROMPT] = {"prompt", "prompt", false},
    [SRN_BY_VERSION] = {"version", "version", true},
    [SRN_BY_EXPERIMENT] = {"experiment", "experiment", false},
    [SRN_BY_ARM] = {"arm", "arm", false},
    [SRN_BY_ENDPOINT] = {"endpoint", "endpoint", false},
    [SRN_BY_ROUTE] = {"route", "route", false},
    [SRN_BY_STATUS] = {"status", "status", true},
    [SRN_BY_FINISH] = {"finish", "finish", false},
    [SRN_BY_ERROR] = {"error", "error", false},
    [SRN_BY_TENANT] = {"tenant", "tenant", false},
    [SRN_BY_KEY] = {"key", "key", false},
    [SRN_BY_CONFIG] = {"config", "config", false},
};

bool srn_by_of(srn_str name, srn_by *ret) {
    for (int i = 0; i < SRN_BY_END; i++)
        if (srn_str_eqz(name, srn__bys[i].name)) return *ret = (srn_by)i, true;
    return false;
}

const char *srn_by_name(srn_by b) {
    return (unsigned)b < SRN_BY_END ? srn__bys[b].name : "?";
}

/* ---- sums ---- */

void srn__sums_done(srn__sums *s) {
    for (int t = 0; t < SRN_TIME_END; t++) srn__sketch_done(&s->sketches[t]);
}

bool srn__sums_call(srn__sums *s, const srn_call_row *row) {
    const uint64_t times[SRN_TIME_END] = {[SRN_TIME_TTFT] = row->ttft_us,
                                          [SRN_TIME_ITL] = row->itl_us,
                                          [SRN_TIME_TOTAL] = row->total_us,
                                          [SRN_TIME_QUEUE] = row->queue_us};
    s->calls++;
    s->input += row->n_input;
    s->cached += row->n_cached;
    s->output += row->n_output;
    s->reasoning += row->n_reasoning;
    for (int t = 0; t < SRN_TIME_END; t++) {
        s->sum_us[t] += times[t];
        if (times[t] && !srn__sketch_add(&s->sketches[t], srn__sketch_bucket(times[t]), 1)) return false;
    }
    return true;
}

enum { N_NUMBERS = 5 + SRN_TIME_END };

void srn__sums_write(const srn__sums *s, srn_buf *ret) {
    const uint64_t numbers[5] = {s->calls, s->input, s->cached, s->output, s->reasoning};
    for (int i = 0; i < 5; i++) srn__varint_put(ret, numbers[i]);
    for (int t = 0; t < SRN_TIME_END; t++) srn__varint_put(ret, s->sum_us[t]);
    for (int t = 0; t < SRN_TIME_END; t++) srn__sketch_write(&s->sketches[t], ret);
}

int srn__sums_read(srn__sums *s, srn_str bytes, srn_err *err) {
    const uint8_t *p = (const uint8_t *)bytes.ptr;
    uint64_t v[N_NUMBERS];
    size_t at = 0;
    for (int i = 0; i < N_NUMBERS; i++)
        if (!srn__varint_get(p, bytes.len, &at, &v[i]))
            return srn_fail(err, SRN_EFORMAT, "a roll-up of the ledger is damaged at byte %zu of %zu", at,
                            bytes.len);
    s->calls += v[0];
    s->input += v[1];
    s->cached += v[2];
    s->output += v[3];
    s->reasoning += v[4];
    for (int t = 0; t < SRN_TIME_END; t++) s->sum_us[t] += v[5 + t];
    int code = SRN_OK;
    for (int t = 0; t < SRN_TIME_END && !code; t++)
        code = srn__sketch_read(&s->sketches[t], p, bytes.len, &at, err);
    return code;
}

/* ---- groups ---- */

enum { MAX_TEXTS = 256 << 20, FIRST_SLOTS = 256 };

void srn__groups_init(srn__groups *g, uint32_t by) {
    *g = (srn__groups){.by = by, .seed = srn_hash_seed()};
    srn_arena_init(&g->arena, MAX_TEXTS);
}

void srn__groups_done(srn__groups *g) {
    for (uint32_t i = 0; i < g->n; i++) srn__sums_done(&g->list[i]->sums);
    free(g->list);
    free(g->slots);
    srn_arena_done(&g->arena);
    *g = (srn__groups){0};
}

static bool wants(const srn__groups *g, int b) {
    return g->by >> b & 1;
}

static uint64_t hash_of(const srn__groups *g, uint64_t start_us, const srn_str *values) {
    uint64_t h = g->seed ^ start_us;
    for (int b = 0; b < SRN_BY_END; b++)
        if (wants(g, b)) h = srn_hash(h, values[b]);
    return h ^ start_us * UINT64_C(0x9E3779B97F4A7C15);
}

static bool is_group(const srn__groups *g, const srn__group *x, uint64_t start_us, const srn_str *values) {
    if (x->start_us != start_us) return false;
    for (int b = 0; b < SRN_BY_END; b++)
        if (wants(g, b) && !srn_str_eqz(values[b], x->values[b])) return false;
    return true;
}

static void place(srn__groups *g, uint64_t hash, uint32_t index) {
    uint32_t i = (uint32_t)hash & (g->n_slots - 1);
    while (g->slots[i]) i = (i + 1) & (g->n_slots - 1);
    g->slots[i] = index + 1;
}

/* Room for one more group, slots at most half full. */
static bool grow(srn__groups *g) {
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? 2 * g->cap : 64;
        srn__group **list = srn_realloc_array(g->list, cap, sizeof *list);
        if (!list) return false;
        g->list = list;
        g->cap = cap;
    }
    if (2 * (g->n + 1) <= g->n_slots) return true;
    uint32_t n = g->n_slots ? 2 * g->n_slots : FIRST_SLOTS;
    uint32_t *slots = srn_calloc(n, sizeof *slots);
    if (!slots) return false;
    free(g->slots);
    g->slots = slots;
    g->n_slots = n;
    for (uint32_t i = 0; i < g->n; i++) place(g, g->list[i]->hash, i);
    return true;
}

int srn__groups_get(srn__groups *g, uint64_t start_us, const srn_str values[SRN_BY_END], srn__group **ret,
                    srn_err *err) {
    uint64_t hash = hash_of(g, start_us, values);
    if (g->n_slots)
        for (uint32_t i = (uint32_t)hash & (g->n_slots - 1); g->slots[i]; i = (i + 1) & (g->n_slots - 1)) {
            srn__group *x = g->list[g->slots[i] - 1];
            if (x->hash != hash || !is_group(g, x, start_us, values)) continue;
            *ret = x;
            return SRN_OK;
        }
    if (g->n == SRN__MAX_GROUPS)
        return srn_fail(err, SRN_ELIMIT,
                        "these calls fall into more than %d groups; group by less, or filter more",
                        SRN__MAX_GROUPS);
    srn__group *x = srn_arena_alloc(&g->arena, sizeof *x);
    if (!x || !grow(g)) return srn_fail_nomem(err, sizeof *x);
    x->start_us = start_us;
    x->hash = hash;
    for (int b = 0; b < SRN_BY_END; b++) {
        x->values[b] = wants(g, b) ? srn_arena_strndup(&g->arena, values[b].ptr, values[b].len) : "";
        if (!x->values[b]) return srn_fail_nomem(err, values[b].len);
    }
    place(g, hash, g->n);
    g->list[g->n++] = x;
    *ret = x;
    return SRN_OK;
}

void srn__group_outcome(srn__group *g, uint64_t n, const srn_str values[SRN_BY_END]) {
    srn_str status = values[SRN_BY_STATUS];
    bool refused = status.len == 3 && status.ptr[0] >= '4';
    if (refused || values[SRN_BY_ERROR].len) g->errors += n;
    if (srn_str_eqz(values[SRN_BY_FINISH], "abort")) g->aborted += n;
}
