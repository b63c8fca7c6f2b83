/* Calls by a filter, newest first: a page at a time, in the order of their ids, which sort by the time of
 * their beginning. Runs on the reader's thread; the store's columns become rows here, and the record's body
 * comes along. Refuses nothing of its own.
 */
#include <inttypes.h>

#include "ledger/query_internal.h"

const char srn__call_columns[] =
    "id, begun_us, status, finish, error, endpoint, route, key, tenant, conversation, model, weights,"
    " quantisation, config, prompt, version, prompt_hash, experiment, arm, n_input, n_cached, n_output,"
    " n_reasoning, queue_us, ttft_us, total_us, itl_us, itl_max_us, streamed";

void srn__call_cells(const srn__cell *c, srn_call_row *ret) {
    *ret = (srn_call_row){.begun_us = (uint64_t)c[1].number,
                          .status = (int32_t)c[2].number,
                          .finish = c[3].text.ptr,
                          .error = c[4].text.ptr,
                          .endpoint = c[5].text.ptr,
                          .route = c[6].text.ptr,
                          .key = c[7].text.ptr,
                          .tenant = c[8].text.ptr,
                          .conversation = c[9].text.ptr,
                          .model = c[10].text.ptr,
                          .weights = c[11].text.ptr,
                          .quantisation = c[12].text.ptr,
                          .config = c[13].text.ptr,
                          .prompt = c[14].text.ptr,
                          .version = (uint32_t)c[15].number,
                          .prompt_hash = c[16].text.ptr,
                          .experiment = c[17].text.ptr,
                          .arm = c[18].text.ptr,
                          .n_input = (uint32_t)c[19].number,
                          .n_cached = (uint32_t)c[20].number,
                          .n_output = (uint32_t)c[21].number,
                          .n_reasoning = (uint32_t)c[22].number,
                          .queue_us = (uint64_t)c[23].number,
                          .ttft_us = (uint64_t)c[24].number,
                          .total_us = (uint64_t)c[25].number,
                          .itl_us = (uint64_t)c[26].number,
                          .itl_max_us = (uint64_t)c[27].number,
                          .streamed = c[28].number != 0};
    if (c[0].text.len == sizeof ret->id) memcpy(ret->id, c[0].text.ptr, sizeof ret->id);
}

void srn__call_values(const srn_call_row *row, srn__values *ret) {
    const char *const texts[SRN_BY_END] = {
        [SRN_BY_MODEL] = row->model,     [SRN_BY_WEIGHTS] = row->weights,
        [SRN_BY_PROMPT] = row->prompt,   [SRN_BY_QUANTISATION] = row->quantisation,
        [SRN_BY_VERSION] = ret->version, [SRN_BY_EXPERIMENT] = row->experiment,
        [SRN_BY_ARM] = row->arm,         [SRN_BY_ENDPOINT] = row->endpoint,
        [SRN_BY_ROUTE] = row->route,     [SRN_BY_STATUS] = ret->status,
        [SRN_BY_FINISH] = row->finish,   [SRN_BY_ERROR] = row->error,
        [SRN_BY_TENANT] = row->tenant,   [SRN_BY_KEY] = row->key,
        [SRN_BY_CONFIG] = row->config};
    snprintf(ret->version, sizeof ret->version, "%" PRIu32, row->version);
    snprintf(ret->status, sizeof ret->status, "%" PRId32, row->status);
    for (int b = 0; b < SRN_BY_END; b++) ret->list[b] = srn_str_of(texts[b]);
}

/* ---- pages ---- */

typedef struct page {
    srn_call_fn *fn;
    void *ctx;
} page;

static bool give(void *ctx, const srn__cell *c) {
    const page *p = ctx;
    srn_call_row row;
    srn__call_cells(c, &row);
    c += SRN__CALL_CELLS;
    srn_stored s = {.seq = (uint64_t)c[0].number,
                    .kind = SRN_RECORD_CALL,
                    .t_us = (uint64_t)c[1].number,
                    .body = c[2].text,
                    .has_content = c[3].number != 0};
    return p->fn(p->ctx, &row, &s);
}

/* Where the page before ended: the call's place, or that of its id's time where it is gone. */
typedef struct place {
    uint64_t begun_us, seq;
} place;

static bool take_place(void *ctx, const srn__cell *c) {
    *(place *)ctx = (place){(uint64_t)c[0].number, (uint64_t)c[1].number};
    return false;
}

static int find_place(srn__db *db, const uint8_t *id, place *ret, srn_err *err) {
    srn__sql q;
    *ret = (place){0};
    for (int i = 0; i < 6; i++) ret->begun_us = ret->begun_us << 8 | id[i];
    ret->begun_us *= 1000;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT begun_us, seq FROM calls WHERE id = ");
    srn__sql_bytes(&q, (srn_str){(const char *)id, SRN_ULID_BYTES});
    int code = srn__sql_check(&q, err);
    if (!code) code = db->ask(db, &q, take_place, ret, err);
    srn__sql_done(&q);
    return code;
}

/* Conditions that follow from the terms, in the words of partial indexes, so that these can be used. */
static void add_hints(srn__sql *q, const srn_filter *f) {
    bool refused = false, prompt = false, tenant = false;
    for (uint32_t i = 0; f && i < f->n_terms; i++) {
        const srn__term *t = &f->terms[i];
        bool status = strcmp(t->field->name, "status") == 0, hints = !t->negated && !t->contains;
        bool high = status, named = true;
        for (uint32_t k = 0; k < t->n_values; k++) {
            high = high && t->values[k].least >= 400;
            named = named && t->values[k].text.len;
        }
        refused = refused || (hints && high);
        prompt = prompt || (hints && named && strcmp(t->field->name, "prompt") == 0);
        tenant = tenant || (hints && named && strcmp(t->field->name, "tenant") == 0);
    }
    if (refused) srn_buf_addz(&q->text, " AND status >= 400");
    if (prompt) srn_buf_addz(&q->text, " AND prompt <> ''");
    if (tenant) srn_buf_addz(&q->text, " AND tenant <> ''");
}

/* plus: "+" where the index of begun_us is not to be chosen, else "". */
static void begin_page(srn__sql *q, const srn_filter *f, const char *plus) {
    srn__sql_init(q);
    srn_buf_addf(&q->text,
                 "SELECT x.*, r.t_us, r.body, CASE WHEN r.content_sha IS NULL THEN 0 ELSE 1 END FROM"
                 " (SELECT %s, seq FROM calls WHERE 1 = 1",
                 srn__call_columns);
    if (f && f->since_us) {
        srn_buf_addf(&q->text, " AND %sbegun_us >= ", plus);
        srn__sql_number(q, (int64_t)f->since_us);
    }
    if (f && f->until_us < INT64_MAX) {
        srn_buf_addf(&q->text, " AND %sbegun_us < ", plus);
        srn__sql_number(q, (int64_t)f->until_us);
    }
    srn__sql_filter(q, f);
    add_hints(q, f);
}

static const char newest[] = "begun_us DESC, seq DESC", newest_of_few[] = "+begun_us DESC, seq DESC",
                  oldest[] = "seq";

static int end_page(srn__db *db, srn__sql *q, const char *order, uint32_t limit, srn_call_fn *fn, void *ctx,
                    srn_err *err) {
    page p = {fn, ctx};
    srn_buf_addf(&q->text, " ORDER BY %s LIMIT ", order);
    srn__sql_number(q, limit);
    srn_buf_addf(&q->text, ") x JOIN records r ON r.seq = x.seq ORDER BY %s",
                 order == oldest ? "x.seq" : "x.begun_us DESC, x.seq DESC");
    int code = srn__sql_check(q, err);
    if (!code) code = db->ask(db, q, give, &p, err);
    srn__sql_done(q);
    return code;
}

int srn__ask_calls(srn__db *db, const srn_filter *f, const uint8_t *before, uint32_t limit, srn_call_fn *fn,
                   void *ctx, srn_err *err) {
    srn__sql q;
    place at = {0};
    uint64_t mark = 0;
    bool may = true;
    int code = before ? find_place(db, before, &at, err) : SRN_OK;
    if (!code) code = srn__rollup_may_match(db, f, &mark, &may, err);
    if (code) return code;
    begin_page(&q, f, may ? "" : "+");
    if (!may) {
        srn_buf_addz(&q.text, " AND seq > ");
        srn__sql_number(&q, (int64_t)mark);
    }
    if (before) {
        srn_buf_addz(&q.text, " AND begun_us <= ");
        srn__sql_number(&q, (int64_t)at.begun_us);
        srn_buf_addz(&q.text, " AND (begun_us < ");
        srn__sql_number(&q, (int64_t)at.begun_us);
        srn_buf_addz(&q.text, " OR seq < ");
        srn__sql_number(&q, (int64_t)at.seq);
        srn_buf_addc(&q.text, ')');
    }
    return end_page(db, &q, may ? newest : newest_of_few, limit, fn, ctx, err);
}

int srn_reader_calls(srn_reader *r, const srn_filter *f, const uint8_t *before, uint32_t limit,
                     srn_call_fn *fn, void *ctx, srn_err *err) {
    return srn__ask_calls(srn__reader_db(r), f, before, limit, fn, ctx, err);
}

int srn_reader_calls_after(srn_reader *r, const srn_filter *f, uint64_t seq, uint32_t limit, srn_call_fn *fn,
                           void *ctx, srn_err *err) {
    srn__sql q;
    begin_page(&q, f, "+");
    srn_buf_addz(&q.text, " AND seq > ");
    srn__sql_number(&q, (int64_t)seq);
    return end_page(srn__reader_db(r), &q, oldest, limit, fn, ctx, err);
}

int srn_reader_calls_between(srn_reader *r, uint64_t from, uint64_t until, srn_call_fn *fn, void *ctx,
                             srn_err *err) {
    srn__sql q;
    if (until <= from) return SRN_OK;
    begin_page(&q, NULL, "");
    srn_buf_addz(&q.text, " AND seq >= ");
    srn__sql_number(&q, (int64_t)from);
    srn_buf_addz(&q.text, " AND seq < ");
    srn__sql_number(&q, (int64_t)until);
    return end_page(srn__reader_db(r), &q, oldest, (uint32_t)SRN_MIN(until - from, (uint64_t)UINT32_MAX), fn,
                    ctx, err);
}

int srn_reader_end(srn_reader *r, uint64_t *ret_seq, srn_err *err) {
    srn__tail t;
    int code = r->source->ops->tail(r->source, &t, err);
    if (!code) *ret_seq = t.seq;
    return code;
}

srn__db *srn__reader_db(srn_reader *r) {
    return r->source->db;
}

/* ---- feedback ---- */

typedef struct feedback {
    bool (*fn)(void *ctx, const srn_stored *s);
    void *ctx;
} feedback;

static bool give_feedback(void *ctx, const srn__cell *c) {
    const feedback *f = ctx;
    return f->fn(f->ctx, &(srn_stored){.seq = (uint64_t)c[0].number,
                                       .t_us = (uint64_t)c[1].number,
                                       .kind = SRN_RECORD_FEEDBACK,
                                       .body = c[2].text,
                                       .has_content = c[3].number != 0});
}

int srn_reader_feedback(srn_reader *r, const uint8_t id[16], bool (*fn)(void *ctx, const srn_stored *s),
                        void *ctx, srn_err *err) {
    feedback f = {fn, ctx};
    srn__db *db = srn__reader_db(r);
    srn__sql q;
    srn__sql_init(&q);
    srn_buf_addz(&q.text, "SELECT seq, t_us, body, CASE WHEN content_sha IS NULL THEN 0 ELSE 1 END"
                          " FROM records WHERE kind = 4 AND call = ");
    srn__sql_bytes(&q, (srn_str){(const char *)id, SRN_ULID_BYTES});
    srn_buf_addz(&q.text, " ORDER BY seq");
    int code = srn__sql_check(&q, err);
    if (!code) code = db->ask(db, &q, give_feedback, &f, err);
    srn__sql_done(&q);
    return code;
}

/* ---- content ---- */

int srn_reader_content(srn_reader *r, const uint8_t id[16], srn_buf *ret, srn_err *err) {
    char text[SRN_ULID_CHARS + 1];
    srn_buf body, sealed;
    srn__row row;
    srn_ulid_format(id, text);
    srn_buf_init(&body, SRN__BODY_BYTES);
    srn_buf_init(&sealed, SRN__CONTENT_BYTES);
    int code = r->source->ops->call(r->source, id, &row, &body, err);
    if (!code && !row.has_content)
        code = srn_fail(err, SRN_ENOENT,
                        "the content of call %s was not kept; with `ledger: {content: full}` that of later "
                        "calls is",
                        text);
    if (!code) {
        code = r->source->ops->content(r->source, row.seq, &sealed, err);
        if (code == SRN_ENOENT)
            code = srn_fail(err, code, "the content of call %s was dropped since, by retention", text);
    }
    if (!code && !r->keys)
        code = srn_fail(err, SRN_ENOENT,
                        "the keys of this ledger are not here, without which no content can be read; name "
                        "their folder with --keys");
    if (!code) code = srn_ledger_unseal(r->keys, (srn_str){sealed.data, sealed.len}, ret, err);
    if (code && code != SRN_ENOENT) code = srn_fail_prefix(err, code, "the content of call %s", text);
    srn_buf_done(&body);
    srn_buf_done(&sealed);
    return code;
}
