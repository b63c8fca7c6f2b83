/* Roll-ups, sketches and pages: what they say equals what the calls say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "ledger/query_internal.h"
#include "ledger_fill.h"

#define DAY_US UINT64_C(86400000000)
#define NOW    UINT64_C(1795340000000000)

/* ---- sketches ---- */

static void every_value_is_near_the_middle_of_its_bucket(void **state) {
    (void)state;
    uint32_t last = 0;
    for (uint64_t v = 0; v < UINT64_C(1) << 43; v = v < 70000 ? v + 1 : v + v / 997 + 1) {
        uint32_t b = srn__sketch_bucket(v);
        uint64_t m = srn__sketch_middle(b);
        assert_true(b >= last && b < SRN__SKETCH_BUCKETS);
        double off = (double)(m > v ? m - v : v - m);
        if (off > 0.004 * (double)v) fail_msg("%" PRIu64 " lies in a bucket whose middle is %" PRIu64, v, m);
        last = b;
    }
    assert_int_equal(srn__sketch_bucket(UINT64_MAX), SRN__SKETCH_BUCKETS - 1);
}

static void sketches_add_up_through_bytes(void **state) {
    (void)state;
    srn__sketch whole = {0}, parts = {0};
    fill f = {.state = 7};
    srn_err err = {0};
    for (int i = 0; i < 20; i++) {
        srn__sketch one = {0};
        srn_buf b;
        size_t at = 0;
        srn_buf_init(&b, 1 << 20);
        for (int k = 0; k < 500; k++) {
            uint32_t bucket = srn__sketch_bucket(fill_time(&f, 1000 << i % 7, 3));
            assert_true(srn__sketch_add(&one, bucket, 1) && srn__sketch_add(&whole, bucket, 1));
        }
        srn__sketch_write(&one, &b);
        assert_int_equal(srn__sketch_read(&parts, (const uint8_t *)b.data, b.len, &at, &err), SRN_OK);
        assert_int_equal(at, b.len);
        for (size_t cut = 0; cut < b.len; cut += 97) { /* what is cut off is refused */
            srn__sketch bad = {0};
            at = 0;
            assert_int_equal(srn__sketch_read(&bad, (const uint8_t *)b.data, cut, &at, &err), SRN_EFORMAT);
            srn__sketch_done(&bad);
        }
        srn_buf_done(&b);
        srn__sketch_done(&one);
    }
    assert_int_equal(parts.total, 10000);
    for (double q = 0.01; q <= 1; q += 0.01)
        assert_int_equal(srn__sketch_quantile(&parts, q), srn__sketch_quantile(&whole, q));
    srn__sketch_done(&whole);
    srn__sketch_done(&parts);
}

/* ---- a ledger ---- */

typedef struct place {
    char dir[64];
    fill fill;
} place;

static void place_make(place *p, uint64_t seed) {
    srn_err err = {0};
    snprintf(p->dir, sizeof p->dir, "/tmp/serin-rollup-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    if (fill_open(&p->fill, p->dir, seed, &err)) fail_msg("%s", err.text);
}

static void place_done(place *p) {
    static const char *const files[] = {"ledger.db", "ledger.db-wal", "ledger.db-shm"};
    char path[128];
    fill_close(&p->fill);
    for (size_t i = 0; i < SRN_LEN(files); i++) {
        snprintf(path, sizeof path, "%s/%s", p->dir, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(p->dir), 0);
}

static void add(place *p, uint64_t n, uint64_t from, uint64_t to) {
    srn_err err = {0};
    if (fill_calls(&p->fill, n, from, to, &err)) fail_msg("%s", err.text);
}

static uint32_t advance(place *p, uint32_t limit) {
    srn__store *s = p->fill.store;
    srn_err err = {0};
    bool unknown;
    uint32_t n = 0;
    if (s->ops->begin(s, &err) || srn__rollup_advance(s->db, limit, &n, &err) ||
        s->ops->commit(s, &unknown, &err))
        fail_msg("%s", err.text);
    return n;
}

static bool write_row(void *ctx, const srn_stats_row *row) {
    srn_buf *b = ctx;
    srn_buf_addf(b, "%" PRIu64, row->start_us);
    for (int i = 0; i < SRN_BY_END; i++) srn_buf_addf(b, " %s", row->values[i]);
    srn_buf_addf(b, ": %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                 row->calls, row->errors, row->aborted, row->n_input, row->n_cached, row->n_output,
                 row->n_reasoning);
    for (int t = 0; t < SRN_TIME_END; t++) {
        srn_buf_addf(b, " | %" PRIu64 " %" PRIu64, row->times[t].n, row->times[t].sum_us);
        for (int q = 1; q <= 4; q++)
            srn_buf_addf(b, " %" PRIu64, srn_stats_quantile(row, (srn_time)t, q / 4.0));
    }
    srn_buf_addc(b, '\n');
    return true;
}

static void stats_text(srn_reader *r, const char *filter, const srn_stats_opts *o, srn_buf *ret) {
    srn_filter *f = NULL;
    srn_err err = {0};
    srn_buf_init(ret, 64 << 20);
    if (srn_filter_parse(srn_str_of(filter), NOW, &f, &err) ||
        srn_reader_stats(r, f, o, write_row, ret, &err))
        fail_msg("%s: %s", filter, err.text);
    srn_filter_free(f);
    assert_false(ret->failed);
}

/* By roll-ups, and counted from the calls, the same to the last digit. */
static void compare(place *p) {
    static const char *const filters[] = {"",
                                          "since=1d",
                                          "since=3h until=90min",
                                          "since=31min until=1min",
                                          "since=20s until=10s",
                                          "model=small,large status=200 since=2d",
                                          "prompt=summary@2 since=26h",
                                          "weights=22 status!=200",
                                          "error~bus",
                                          "until=2d"};
    static const srn_stats_opts by[] = {
        {0},
        {.by = 1u << SRN_BY_MODEL | 1u << SRN_BY_PROMPT | 1u << SRN_BY_VERSION},
        {.by = 1u << SRN_BY_STATUS | 1u << SRN_BY_ERROR, .step_us = 3600000000u},
        {.by = 1u << SRN_BY_WEIGHTS, .step_us = 60000000},
        {.step_us = DAY_US}};
    srn_reader *r = NULL;
    srn_err err = {0};
    if (srn_reader_open(p->dir, NULL, &r, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < SRN_LEN(filters); i++)
        for (size_t k = 0; k < SRN_LEN(by); k++) {
            srn_buf rolled, counted;
            srn_stats_opts o = by[k];
            stats_text(r, filters[i], &o, &rolled);
            o.from_calls = true;
            stats_text(r, filters[i], &o, &counted);
            assert_int_equal(rolled.len, counted.len);
            if (rolled.len) assert_string_equal(rolled.data, counted.data);
            srn_buf_done(&rolled);
            srn_buf_done(&counted);
        }
    srn_reader_close(r);
}

static void rollups_say_what_the_calls_say(void **state) {
    (void)state;
    place p;
    place_make(&p, 1);
    compare(&p); /* nothing yet */
    add(&p, 1000, NOW - 3 * DAY_US, NOW - 2 * DAY_US);
    compare(&p); /* none rolled */
    assert_int_equal(advance(&p, 300), 300);
    compare(&p); /* some */
    assert_int_equal(advance(&p, 100000), 700);
    assert_int_equal(advance(&p, 100000), 0);
    compare(&p); /* all */
    add(&p, 1500, NOW - 2 * DAY_US, NOW - 60000000);
    advance(&p, 1111);
    add(&p, 300, NOW - 7200000000, NOW);
    compare(&p); /* minutes that grew after they were rolled */
    advance(&p, 100000);
    compare(&p);
    place_done(&p);
}

static void what_was_rolled_back_is_rolled_up_later(void **state) {
    (void)state;
    place p;
    srn_err err = {0};
    uint32_t n = 0;
    place_make(&p, 2);
    add(&p, 500, NOW - DAY_US, NOW);
    srn__store *s = p.fill.store;
    assert_int_equal(s->ops->begin(s, &err), SRN_OK);
    assert_int_equal(srn__rollup_advance(s->db, 300, &n, &err), SRN_OK);
    s->ops->rollback(s); /* as a crash would */
    compare(&p);
    assert_int_equal(advance(&p, 1000), 500);
    compare(&p);
    place_done(&p);
}

static bool ask_none(void *ctx, const srn__cell *cells) {
    (void)ctx, (void)cells;
    return true;
}

static void forgotten_calls_leave_the_rollups(void **state) {
    (void)state;
    place p;
    srn_err err = {0};
    srn__sql q;
    bool unknown;
    place_make(&p, 3);
    add(&p, 1500, NOW - 2 * DAY_US, NOW);
    advance(&p, 1400);
    srn__store *s = p.fill.store;
    assert_int_equal(s->ops->begin(s, &err), SRN_OK);
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "DELETE FROM calls WHERE seq <= 617");
    assert_int_equal(s->db->ask(s->db, &q, ask_none, NULL, &err), SRN_OK);
    srn__sql_done(&q);
    uint64_t end = NOW - 2 * DAY_US + DAY_US * 2 * 617 / 1500 + 1;
    assert_int_equal(srn__rollup_forget(s->db, end, &err), SRN_OK);
    assert_int_equal(s->ops->commit(s, &unknown, &err), SRN_OK);
    compare(&p);
    advance(&p, 10000);
    compare(&p);
    place_done(&p);
}

/* ---- percentiles and pages ---- */

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

typedef struct seen {
    uint64_t total[5000], n;
    uint8_t last[16];
    uint64_t last_us;
} seen;

static bool see(void *ctx, const srn_call_row *row, const srn_stored *s) {
    seen *x = ctx;
    srn_record *record = NULL;
    srn_err err = {0};
    assert_true(x->n == 0 || row->begun_us <= x->last_us); /* newest first */
    if (srn_record_decode(SRN_RECORD_CALL, s->body, &record, &err)) fail_msg("%s", err.text);
    const srn_call_row *body = srn_record_call(record);
    assert_memory_equal(body->id, row->id, 16);
    assert_string_equal(body->model, row->model);
    assert_int_equal(body->total_us, row->total_us);
    assert_int_equal(body->streamed, row->streamed);
    srn_record_free(record);
    x->total[x->n++] = row->total_us;
    x->last_us = row->begun_us;
    memcpy(x->last, row->id, 16);
    return true;
}

static bool check_quantiles(void *ctx, const srn_stats_row *row) {
    seen *x = ctx;
    assert_int_equal(row->calls, x->n);
    qsort(x->total, x->n, sizeof *x->total, by_number);
    for (double q = 0.05; q < 1; q += 0.05) {
        double exact = (double)x->total[(uint64_t)ceil(q * (double)x->n) - 1];
        double got = (double)srn_stats_quantile(row, SRN_TIME_TOTAL, q);
        if (fabs(got - exact) > 0.005 * exact) fail_msg("quantile %.2f: %f, not %f", q, got, exact);
    }
    return true;
}

static void pages_hold_every_call_once_and_percentiles_are_theirs(void **state) {
    (void)state;
    place p;
    srn_reader *r = NULL;
    srn_err err = {0};
    srn_filter *f = NULL;
    seen *x = calloc(1, sizeof *x);
    place_make(&p, 4);
    add(&p, 4000, NOW - DAY_US, NOW);
    advance(&p, 3000);
    if (srn_reader_open(p.dir, NULL, &r, &err)) fail_msg("%s", err.text);
    assert_int_equal(srn_filter_parse(SRN_STR("model=small since=20h"), NOW, &f, &err), SRN_OK);
    for (uint64_t before = UINT64_MAX; before != x->n;) {
        before = x->n;
        if (srn_reader_calls(r, f, before ? x->last : NULL, 97, see, x, &err)) fail_msg("%s", err.text);
    }
    assert_true(x->n > 1000);
    srn_stats_opts o = {0};
    assert_int_equal(srn_reader_stats(r, f, &o, check_quantiles, x, &err), SRN_OK);
    uint64_t end = 0;
    assert_int_equal(srn_reader_end(r, &end, &err), SRN_OK);
    assert_int_equal(end, 4000);
    srn_filter_free(f);
    srn_reader_close(r);
    place_done(&p);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_near_the_middle_of_its_bucket),
        cmocka_unit_test(sketches_add_up_through_bytes),
        cmocka_unit_test(rollups_say_what_the_calls_say),
        cmocka_unit_test(what_was_rolled_back_is_rolled_up_later),
        cmocka_unit_test(forgotten_calls_leave_the_rollups),
        cmocka_unit_test(pages_hold_every_call_once_and_percentiles_are_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
