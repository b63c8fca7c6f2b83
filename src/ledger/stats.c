/* What calls add up to, by the values of some columns and by time. Whole hours and minutes come from roll-ups
 * where these hold every column that is asked about; the rest of the time, and the calls that came after the
 * roll-ups' high-water mark, from the calls themselves, all in one moment. So the sums are those of the
 * calls, whichever way they were added. Runs on the reader's thread. Refuses steps that are no whole minutes,
 * and more groups than anybody reads.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/query_internal.h"

#define MINUTE_US UINT64_C(60000000)
#define HOUR_US   (60 * MINUTE_US)

typedef struct adder {
    srn__db *db;
    const srn_filter *filter;
    uint64_t step_us, mark;
    srn__groups groups;
    int code;
    srn_err *err;
} adder;

static uint64_t step_of(const adder *a, uint64_t begun_us) {
    return a->step_us ? begun_us - begun_us % a->step_us : 0;
}

/* ---- from calls ---- */

static bool add_call(void *ctx, const srn__cell *cells) {
    adder *a = ctx;
    srn_call_row row;
    srn__values v;
    srn__group *g = NULL;
    srn__call_cells(cells, &row);
    srn__call_values(&row, &v);
    a->code = srn__groups_get(&a->groups, step_of(a, row.begun_us), v.list, &g, a->err);
    if (a->code) return false;
    srn__group_outcome(g, 1, v.list);
    if (!srn__sums_call(&g->sums, &row)) a->code = srn_fail_nomem(a->err, sizeof *g);
    return !a->code;
}

static int ask(adder *a, srn__sql *q, srn__cells_fn *fn) {
    int code = srn__sql_check(q, a->err);
    if (!code) code = a->db->ask(a->db, q, fn, a, a->err);
    srn__sql_done(q);
    return code ? code : a->code;
}

/* Calls begun in [from, to) whose seq is beyond the mark, or not. The plus keeps a column from choosing the
 * index: beyond the mark there are few, and up to it the time is short. */
static int add_calls(adder *a, uint64_t from_us, uint64_t to_us, bool beyond) {
    srn__sql q;
    if (from_us >= to_us) return SRN_OK;
    srn__sql_init(&q);
    const char *plus = beyond && a->mark ? "+" : "";
    srn_buf_addf(&q.text, "SELECT %s FROM calls WHERE %s ", srn__call_columns, beyond ? "seq >" : "+seq <=");
    srn__sql_number(&q, (int64_t)a->mark);
    if (from_us > 0) {
        srn_buf_addf(&q.text, " AND %sbegun_us >= ", plus);
        srn__sql_number(&q, (int64_t)from_us);
    }
    if (to_us < INT64_MAX) {
        srn_buf_addf(&q.text, " AND %sbegun_us < ", plus);
        srn__sql_number(&q, (int64_t)to_us);
    }
    srn__sql_filter(&q, a->filter);
    return ask(a, &q, add_call);
}

/* ---- from roll-ups ---- */

static bool add_rollup(void *ctx, const srn__cell *cells) {
    adder *a = ctx;
    srn_str values[SRN_BY_END] = {0};
    char numbers[SRN__N_ROLLED][24];
    srn__group *g = NULL;
    for (int b = 0; b < SRN__N_ROLLED; b++) {
        values[b] = cells[2 + b].text;
        if (!srn__bys[b].number) continue;
        int n = snprintf(numbers[b], sizeof numbers[b], "%" PRId64, cells[2 + b].number);
        values[b] = (srn_str){numbers[b], (size_t)n};
    }
    uint64_t start_us = (uint64_t)cells[0].number * 1000000;
    a->code = srn__groups_get(&a->groups, step_of(a, start_us), values, &g, a->err);
    if (a->code) return false;
    uint64_t before = g->sums.calls;
    a->code = srn__sums_read(&g->sums, cells[1].text, a->err);
    srn__group_outcome(g, g->sums.calls - before, values);
    return !a->code;
}

static int add_rollups(adder *a, uint64_t span_us, uint64_t from_us, uint64_t to_us) {
    srn__sql q;
    if (from_us >= to_us) return SRN_OK;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT r.start, r.sums");
    for (int b = 0; b < SRN__N_ROLLED; b++) srn_buf_addf(&q.text, ", d.%s", srn__bys[b].column);
    srn_buf_addz(&q.text, " FROM rollups r JOIN rollup_dims d ON d.id = r.dim WHERE r.span = ");
    srn__sql_number(&q, (int64_t)(span_us / 1000000));
    srn_buf_addz(&q.text, " AND r.start >= ");
    srn__sql_number(&q, (int64_t)(from_us / 1000000));
    srn_buf_addz(&q.text, " AND r.start < ");
    srn__sql_number(&q, (int64_t)(to_us / 1000000));
    srn__sql_filter(&q, a->filter);
    return ask(a, &q, add_rollup);
}

static uint64_t round_up(uint64_t v, uint64_t unit) {
    return v % unit ? v - v % unit + unit : v;
}

/* Edges from calls, then minutes up to whole hours, hours, minutes again; then what the roll-ups lack. */
static int add_by_rollups(adder *a, uint64_t since, uint64_t until) {
    int code = srn__rollup_mark(a->db, &a->mark, a->err);
    if (code) return code;
    uint64_t from = round_up(since, MINUTE_US), to = until - until % MINUTE_US;
    if (from >= to) {
        code = add_calls(a, since, until, false);
        return code ? code : add_calls(a, since, until, true);
    }
    uint64_t first = round_up(from, HOUR_US), last = to - to % HOUR_US;
    if (first >= last || a->step_us % HOUR_US) first = last = to;
    code = add_calls(a, since, from, false);
    if (!code) code = add_rollups(a, MINUTE_US, from, first);
    if (!code) code = add_rollups(a, HOUR_US, first, last);
    if (!code) code = add_rollups(a, MINUTE_US, last, to);
    if (!code) code = add_calls(a, to, until, false);
    return code ? code : add_calls(a, since, until, true);
}

/* ---- giving out ---- */

static int compare(const void *x, const void *y) {
    const srn__group *a = *(srn__group *const *)x, *b = *(srn__group *const *)y;
    if (a->start_us != b->start_us) return a->start_us < b->start_us ? -1 : 1;
    if (a->sums.calls != b->sums.calls) return a->sums.calls > b->sums.calls ? -1 : 1;
    for (int i = 0; i < SRN_BY_END; i++) {
        int d = strcmp(a->values[i], b->values[i]);
        if (d) return d;
    }
    return 0;
}

static bool give(const srn__group *g, srn_stats_fn *fn, void *ctx) {
    const srn__sums *s = &g->sums;
    srn_stats_row row = {.start_us = g->start_us,
                         .calls = s->calls,
                         .errors = g->errors,
                         .aborted = g->aborted,
                         .n_input = s->input,
                         .n_cached = s->cached,
                         .n_output = s->output,
                         .n_reasoning = s->reasoning,
                         .inside = s};
    memcpy(row.values, g->values, sizeof row.values);
    for (int t = 0; t < SRN_TIME_END; t++) {
        row.times[t].n = s->sketches[t].total;
        row.times[t].sum_us = s->sum_us[t];
    }
    return fn(ctx, &row);
}

uint64_t srn_stats_quantile(const srn_stats_row *row, srn_time t, double q) {
    const srn__sums *s = row->inside;
    return srn__sketch_quantile(&s->sketches[t], q);
}

int srn__ask_stats(srn__db *db, const srn_filter *f, const srn_stats_opts *o, srn_stats_fn *fn, void *ctx,
                   srn_err *err) {
    uint64_t since = f ? f->since_us : 0, until = f ? f->until_us : INT64_MAX;
    bool rolled = !o->from_calls && srn__filter_rolled(f) && !(o->by >> SRN__N_ROLLED);
    if (o->step_us % MINUTE_US)
        return srn_fail(err, SRN_EINVAL, "spans of time are whole minutes; %" PRIu64 " us is none",
                        o->step_us);
    adder a = {.db = db, .filter = f, .step_us = o->step_us, .err = err};
    srn__groups_init(&a.groups, o->by & ((1u << SRN_BY_END) - 1));
    int code = db->snapshot ? db->snapshot(db, true, err) : SRN_OK;
    if (!code) {
        code = rolled ? add_by_rollups(&a, since, until) : add_calls(&a, since, until, true);
        if (db->snapshot) db->snapshot(db, false, NULL);
    }
    if (!code && a.groups.n) qsort(a.groups.list, a.groups.n, sizeof *a.groups.list, compare);
    for (uint32_t i = 0; i < a.groups.n && !code; i++)
        if (!give(a.groups.list[i], fn, ctx)) break;
    srn__groups_done(&a.groups);
    return code;
}

int srn_reader_stats(srn_reader *r, const srn_filter *f, const srn_stats_opts *o, srn_stats_fn *fn, void *ctx,
                     srn_err *err) {
    return srn__ask_stats(srn__reader_db(r), f, o, fn, ctx, err);
}
