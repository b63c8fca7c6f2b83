/* How many records a ledger has and how fast it grows, by questions that every store takes; on its writer's
 * thread or a reader's.
 */
#include <math.h>

#include "ledger/query_internal.h"

#define DAY_US UINT64_C(86400000000)

double srn__days_left(const srn__usage *u, uint64_t max_bytes) {
    if (!u->recent || !u->records || u->recent_span_us < (uint64_t)60 * 1000000) return INFINITY;
    double per_record = (double)u->disk_bytes / (double)u->records;
    double per_day = per_record * (double)u->recent / ((double)u->recent_span_us / 86400e6);
    double left = u->free_bytes == SRN_LEDGER_FREE_UNKNOWN ? INFINITY : (double)u->free_bytes;
    if (max_bytes)
        left = SRN_MIN(left, max_bytes > u->disk_bytes ? (double)(max_bytes - u->disk_bytes) : 0.0);
    return per_day > 0 ? left / per_day : INFINITY;
}

typedef struct pair {
    uint64_t a, b;
} pair;

static bool take_pair(void *ctx, const srn__cell *c) {
    *(pair *)ctx = (pair){(uint64_t)c[0].number, (uint64_t)c[1].number};
    return false;
}

/* A statement that gives two numbers and takes one; zeros where it gives none. */
static int ask(srn__db *db, const char *before, uint64_t number, const char *after, pair *ret, srn_err *err) {
    srn__sql q;
    *ret = (pair){0};
    srn__sql_init(&q);
    srn_buf_addz(&q.text, before);
    srn__sql_number(&q, (int64_t)number);
    srn_buf_addz(&q.text, after);
    int code = srn__sql_check(&q, err);
    if (!code) code = db->ask(db, &q, take_pair, ret, err);
    srn__sql_done(&q);
    return code;
}

static int at_or_after(srn__db *db, uint64_t seq, pair *ret, srn_err *err) {
    return ask(db, "SELECT seq, t_us FROM records WHERE seq >= ", seq, " ORDER BY seq LIMIT 1", ret, err);
}

/* Times never go back along the chain, so the first record since then is found by halving. */
static int first_since(srn__db *db, uint64_t since_us, uint64_t first, uint64_t last, pair *ret,
                       srn_err *err) {
    int code = SRN_OK;
    *ret = (pair){0};
    while (!code && first <= last) {
        uint64_t middle = first + (last - first) / 2;
        pair p;
        code = at_or_after(db, middle, &p, err);
        if (code || !p.a) break;
        if (p.b < since_us) {
            first = p.a + 1;
            continue;
        }
        *ret = p;
        if (!middle) break;
        last = middle - 1;
    }
    return code;
}

int srn__usage_count(srn__db *db, uint64_t now_us, srn__usage *ret, srn_err *err) {
    pair oldest, any, newest, events = {0}, recent = {0};
    int code = ask(db, "SELECT seq, t_us FROM records WHERE kind <> ", SRN_RECORD_EVENT,
                   " ORDER BY seq LIMIT 1", &oldest, err);
    if (!code) code = at_or_after(db, 0, &any, err);
    if (!code)
        code = ask(db, "SELECT seq, t_us FROM records WHERE seq >= ", 0, " ORDER BY seq DESC LIMIT 1",
                   &newest, err);
    if (code) return code;
    uint64_t first = oldest.a ? oldest.a : any.a;
    if (first > 1) /* events that stayed where the rest was dropped */
        code = ask(db, "SELECT count(*), 0 FROM records WHERE seq < ", first, "", &events, err);
    if (!code && newest.a)
        code = first_since(db, now_us > DAY_US ? now_us - DAY_US : 0, first, newest.a, &recent, err);
    if (code) return code;
    ret->first = first;
    ret->last = newest.a;
    ret->records = newest.a ? newest.a - first + 1 + events.a : 0;
    ret->recent = recent.a ? newest.a - recent.a + 1 : 0;
    ret->recent_span_us = recent.a && now_us > recent.b ? now_us - recent.b : 0;
    if (first && recent.a > first) ret->recent_span_us = DAY_US;
    return SRN_OK;
}
