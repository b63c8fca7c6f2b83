/* Ledgers of invented calls, written through the store as the writer would, for tests and for measuring. What
 * is drawn depends on the seed alone. */
#ifndef LEDGER_FILL_H
#define LEDGER_FILL_H

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "ledger/ledger_internal.h"

typedef struct fill {
    srn__store *store;
    srn__tail tail;
    uint64_t state; /* of the generator */
    srn_buf body;
} fill;

static uint64_t fill_draw(fill *f) { /* splitmix64 */
    uint64_t z = f->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static double fill_share(fill *f) { /* [0, 1) */
    return (double)(fill_draw(f) >> 11) * 0x1p-53;
}

static uint64_t fill_time(fill *f, double middle_us, double spread) { /* roughly lognormal */
    double x = fill_share(f) + fill_share(f) + fill_share(f) + fill_share(f) - 2;
    return (uint64_t)(middle_us * exp(spread * x)) + 1;
}

/* The store is the fill's then. */
static int fill_begin(fill *f, srn__store *store, uint64_t seed, srn_err *err) {
    *f = (fill){.state = seed, .store = store};
    srn_buf_init(&f->body, 1 << 16);
    return f->store->ops->tail(f->store, &f->tail, err);
}

static int fill_open(fill *f, const char *dir, uint64_t seed, srn_err *err) {
    srn__store *store = NULL;
    *f = (fill){0};
    int code = srn__sqlite_open(dir, &store, err);
    return code ? code : fill_begin(f, store, seed, err);
}

static void fill_close(fill *f) {
    if (f->store) f->store->ops->close(f->store);
    srn_buf_done(&f->body);
}

static const char *fill_null(const char *text, char *out, size_t cap) {
    snprintf(out, cap, *text ? "\"%s\"" : "null", text);
    return out;
}

static void fill_body(fill *f, const srn_call_row *r) {
    char id[SRN_ULID_CHARS + 1], t[10][160];
    srn_buf *b = &f->body;
    srn_ulid_format(r->id, id);
    srn_buf_clear(b);
    srn_buf_addf(b,
                 "{\"v\":1,\"id\":\"%s\",\"begun_us\":%" PRIu64
                 ",\"endpoint\":\"%s\",\"route\":%s,\"key\":%s,"
                 "\"tenant\":%s,\"conversation\":null,\"streamed\":%s,\"model\":\"%s\",\"weights\":\"%s\","
                 "\"quantisation\":\"%s\",\"config\":\"%s\",\"prompt\":{\"name\":%s,\"version\":",
                 id, r->begun_us, r->endpoint, fill_null(r->route, t[0], sizeof t[0]),
                 fill_null(r->key, t[1], sizeof t[1]), fill_null(r->tenant, t[2], sizeof t[2]),
                 r->streamed ? "true" : "false", r->model, r->weights, r->quantisation, r->config,
                 fill_null(r->prompt, t[3], sizeof t[3]));
    if (r->version)
        srn_buf_addf(b, "%" PRIu32, r->version);
    else
        srn_buf_addz(b, "null");
    srn_buf_addf(b,
                 ",\"hash\":%s,\"label\":null},\"experiment\":%s,\"arm\":%s,\"tokens\":{\"input\":%" PRIu32
                 ",\"cached\":%" PRIu32 ",\"output\":%" PRIu32 ",\"reasoning\":%" PRIu32
                 ",\"draft\":0,\"accepted\":0},\"us\":{\"queue\":%" PRIu64 ",\"ttft\":%" PRIu64
                 ",\"itl\":%" PRIu64 ",\"itl_max\":%" PRIu64 ",\"total\":%" PRIu64
                 "},\"status\":%d,\"finish\":%s,\"error\":%s,\"policy\":\"hash\"}",
                 fill_null(r->prompt_hash, t[4], sizeof t[4]), fill_null(r->experiment, t[5], sizeof t[5]),
                 fill_null(r->arm, t[6], sizeof t[6]), r->n_input, r->n_cached, r->n_output, r->n_reasoning,
                 r->queue_us, r->ttft_us, r->itl_us, r->itl_max_us, r->total_us, r->status,
                 fill_null(r->finish, t[7], sizeof t[7]), fill_null(r->error, t[8], sizeof t[8]));
}

/* A call that began then; texts are constants. */
static srn_call_row fill_row(fill *f, uint64_t begun_us) {
    static const char *const models[] = {"small", "large", "tiny"};
    static const char *const weights[] = {"1111111111111111111111111111111111111111111111111111111111111111",
                                          "22222222222222222222222222222222222222222222222222222222222222ab",
                                          "22222222222222222222222222222222222222222222222222222222222222cd"};
    static const char *const prompts[] = {"support-answer", "summary", "classify", ""};
    static const char *const tenants[] = {"acme", "globex", "initech", "umbrella", "hooli", ""};
    static const char *const endpoints[] = {"/v1/chat/completions", "/v1/messages", "/v1/responses"};
    uint64_t d = fill_draw(f);
    int m = d % 10 < 6 ? 0 : d % 10 < 9 ? 1 : 2, p = (int)(d / 10 % 4);
    srn_call_row r = {.begun_us = begun_us,
                      .status = 200,
                      .finish = d / 40 % 5 ? "stop" : "length",
                      .error = "",
                      .endpoint = endpoints[m],
                      .route = "",
                      .key = "web",
                      .tenant = tenants[d / 200 % 6],
                      .conversation = "",
                      .model = models[m],
                      .weights = weights[m],
                      .quantisation = m ? "Q8_0" : "Q4_K",
                      .config = "cafe",
                      .prompt = prompts[p],
                      .version = p < 3 ? (uint32_t)(1 + d / 1200 % 3) : 0,
                      .prompt_hash = p < 3 ? "" : "beef",
                      .experiment = "",
                      .arm = "",
                      .streamed = d / 3600 % 2};
    uint64_t random[2] = {fill_draw(f), fill_draw(f)};
    for (int i = 0; i < 6; i++) r.id[i] = (uint8_t)(begun_us / 1000 >> (40 - 8 * i));
    memcpy(r.id + 6, random, 10);
    r.n_input = (uint32_t)fill_time(f, 400, 1.5);
    r.n_cached = r.n_input / 2;
    r.n_output = (uint32_t)fill_time(f, 120, 1);
    r.queue_us = fill_share(f) < 0.3 ? 0 : fill_time(f, 5000, 2);
    r.ttft_us = r.queue_us + fill_time(f, m == 1 ? 300000 : 90000, 1);
    r.itl_us = fill_time(f, m == 1 ? 30000 : 9000, 0.4);
    r.itl_max_us = 3 * r.itl_us;
    r.total_us = r.ttft_us + r.itl_us * r.n_output;
    if (d / 7200 % 50) return r;
    r.status = d / 360000 % 2 ? 500 : 429;
    r.error = r.status == 500 ? "EIO" : "EBUSY";
    r.finish = r.status == 500 ? "error" : "";
    r.n_input = r.n_cached = r.n_output = 0;
    r.queue_us = r.ttft_us = r.itl_us = r.itl_max_us = 0;
    r.total_us = fill_time(f, 900, 1);
    return r;
}

/* Puts a row into the store's transaction, at the end of the chain. */
static int fill_put(fill *f, const srn_call_row *r, srn_err *err) {
    srn_record *record = NULL;
    fill_body(f, r);
    srn__row row = {.seq = f->tail.seq + 1,
                    .epoch = f->tail.epoch,
                    .t_us = SRN_MAX(r->begun_us + r->total_us, f->tail.t_us),
                    .kind = SRN_RECORD_CALL,
                    .body = {f->body.data, f->body.len}};
    int code = srn_record_decode(SRN_RECORD_CALL, row.body, &record, err);
    row.record = record;
    if (!code) code = srn__chain_next(f->tail.hash, &row, row.hash);
    if (!code) code = f->store->ops->put(f->store, &row, err);
    srn_record_free(record);
    if (code) return code;
    f->tail.seq = row.seq;
    f->tail.t_us = row.t_us;
    memcpy(f->tail.hash, row.hash, sizeof row.hash);
    return SRN_OK;
}

/* n calls whose beginnings lie evenly in [from, to), give or take a second. */
static int fill_calls(fill *f, uint64_t n, uint64_t from_us, uint64_t to_us, srn_err *err) {
    enum { GROUP = 5000 };
    bool unknown = false;
    int code = SRN_OK;
    for (uint64_t i = 0; i < n && !code; i++) {
        if (i % GROUP == 0) code = f->store->ops->begin(f->store, err);
        uint64_t at = from_us + (uint64_t)((double)i / (double)n * (double)(to_us - from_us));
        uint64_t back = fill_draw(f) % 1000000;
        srn_call_row r = fill_row(f, at > from_us + back ? at - back : at);
        if (!code) code = fill_put(f, &r, err);
        if (!code && (i % GROUP == GROUP - 1 || i == n - 1)) {
            code = f->store->ops->commit(f->store, &unknown, err);
            f->store->ops->idle(f->store);
        }
    }
    return code;
}

#endif
