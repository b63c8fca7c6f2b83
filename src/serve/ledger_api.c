/* serve: the ledger over HTTP, for administrators and the operator's page: lists of calls, statistics,
 * exports. The same filters and the same forms as `serin calls` has. Handlers run on workers, each with a
 * reader of its own that lives as long as the request; answers are pages, so that none holds a worker for
 * long.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "serve/record.h"
#include "serve/routes.h"

enum { LIST_CALLS = 50, LIST_MOST = 1000, EXPORT_CALLS = 1000, EXPORT_MOST = 10000, MAX_ANSWER = 256 << 20 };

typedef struct asked {
    srn_reader *reader;
    srn_filter *filter;
    srn_buf out;
    uint8_t last[SRN_ULID_BYTES];
    uint64_t n, last_seq;
    const char *param; /* that is to blame */
    srn_err err;
} asked;

/* ---- the request ---- */

static bool read_number(srn__call *c, asked *a, const char *name, uint64_t most, uint64_t *ret) {
    const char *text = srn__call_query(c, name);
    if (!text) return true;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && v <= most) {
        *ret = v;
        return true;
    }
    a->param = name;
    srn_fail(&a->err, SRN_EINVAL, "%s needs a whole number up to %" PRIu64, name, most);
    return false;
}

static bool read_id(srn__call *c, asked *a, const char *name, uint8_t ret[SRN_ULID_BYTES], bool *ret_given) {
    const char *text = srn__call_query(c, name);
    *ret_given = text != NULL;
    if (!text || srn_ulid_parse(srn_str_of(text), ret)) return true;
    a->param = name;
    srn_fail(&a->err, SRN_EINVAL, "%s needs the id of a call: 26 letters and digits", name);
    return false;
}

/* Opens the ledger and reads the filter; false: a->err says why not. */
static bool begin(srn__call *c, asked *a) {
    const srn_ledger *l = srn__recorder_ledger(srn__call_recorder(c));
    const char *filter = srn__call_query(c, "filter");
    *a = (asked){0};
    srn_buf_init(&a->out, MAX_ANSWER);
    if (!l) {
        srn_fail(&a->err, SRN_ENOENT, "this server keeps no ledger (ledger: off)");
        return false;
    }
    if (srn_filter_parse(srn_str_of(filter ? filter : ""), srn_unix_us(), &a->filter, &a->err)) {
        a->param = "filter";
        return false;
    }
    return srn__recorder_reader(srn__call_recorder(c), &a->reader, &a->err) == SRN_OK;
}

static void end(srn__call *c, asked *a, bool good, const char *content_type) {
    if (good && a->out.failed)
        good = srn_fail(&a->err, SRN_ELIMIT, "the answer is too long; ask for fewer") == 0;
    if (good)
        srn__call_reply_text(c, 200, content_type, (srn_str){a->out.data ? a->out.data : "", a->out.len});
    else
        srn__call_fail_err(c, a->param, &a->err);
    srn_reader_close(a->reader);
    srn_filter_free(a->filter);
    srn_buf_done(&a->out);
}

/* ---- GET /v1/calls ---- */

static bool add_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    asked *a = ctx;
    if (a->n++) srn_buf_addz(&a->out, ",\n");
    srn_call_write_json(s, &a->out);
    memcpy(a->last, row->id, sizeof a->last);
    a->last_seq = s->seq;
    return !a->out.failed;
}

static bool list(srn__call *c, asked *a) {
    uint64_t limit = LIST_CALLS, after = UINT64_MAX, at_end = 0;
    uint8_t before[SRN_ULID_BYTES];
    char id[SRN_ULID_CHARS + 1];
    bool paged;
    if (!read_number(c, a, "limit", LIST_MOST, &limit) || !read_number(c, a, "after", INT64_MAX, &after) ||
        !read_id(c, a, "before", before, &paged))
        return false;
    bool follows = after != UINT64_MAX;
    srn_buf_addz(&a->out, "{\"object\":\"list\",\"data\":[");
    int code = srn_reader_end(a->reader, &at_end, &a->err);
    if (!code && follows)
        code = srn_reader_calls_after(a->reader, a->filter, after, (uint32_t)limit, add_call, a, &a->err);
    else if (!code)
        code = srn_reader_calls(a->reader, a->filter, paged ? before : NULL, (uint32_t)limit, add_call, a,
                                &a->err);
    bool full = a->n == limit;
    if (follows && full) at_end = limit ? a->last_seq : after;
    srn_ulid_format(a->last, id);
    srn_buf_addf(&a->out, "],\"has_more\":%s,\"next\":", full ? "true" : "false");
    srn_buf_addf(&a->out, full && !follows && limit ? "\"%s\"" : "null", id);
    srn_buf_addf(&a->out, ",\"seq\":%" PRIu64 "}\n", at_end);
    return code == SRN_OK;
}

void srn__handle_calls(srn__call *c) {
    asked a;
    bool good = begin(c, &a) && list(c, &a);
    end(c, &a, good, "application/json");
}

/* ---- GET /v1/calls/stats ---- */

typedef struct counting {
    asked *a;
    const srn_stats_opts *o;
} counting;

static bool add_stats(void *ctx, const srn_stats_row *row) {
    counting *k = ctx;
    if (k->a->n++) srn_buf_addz(&k->a->out, ",\n");
    srn_stats_write_json(row, k->o, &k->a->out);
    return !k->a->out.failed;
}

static bool count(srn__call *c, asked *a) {
    const char *by = srn__call_query(c, "by");
    uint64_t step = 0;
    srn_stats_opts o = {0};
    counting k = {a, &o};
    if (!read_number(c, a, "step", 366 * 86400, &step)) return false;
    o.step_us = step * 1000000;
    a->param = "by";
    if (srn_stats_by(srn_str_of(by ? by : "model,prompt,version"), &o.by, &a->err)) return false;
    a->param = "step";
    if (step % 60)
        return srn_fail(&a->err, SRN_EINVAL, "step needs seconds that are whole minutes: 60, 3600") == 0;
    a->param = NULL;
    srn_buf_addz(&a->out, "{\"object\":\"list\",\"data\":[");
    int code = srn_reader_stats(a->reader, a->filter, &o, add_stats, &k, &a->err);
    srn_buf_addz(&a->out, "]}\n");
    return code == SRN_OK;
}

void srn__handle_calls_stats(srn__call *c) {
    asked a;
    bool good = begin(c, &a) && count(c, &a);
    end(c, &a, good, "application/json");
}

/* ---- GET /v1/calls/export ---- */

typedef struct exporting {
    asked *a;
    srn_export form;
    srn_reader *contents; /* NULL: without */
} exporting;

static bool add_export(void *ctx, const srn_call_row *row, const srn_stored *s) {
    exporting *x = ctx;
    asked *a = x->a;
    srn_buf content;
    srn_err why;
    srn_buf_init(&content, MAX_ANSWER);
    if (x->contents && s->has_content && srn_reader_content(x->contents, row->id, &content, &why))
        srn_buf_clear(&content); /* forgotten, dropped, or damaged: the record stays what it is */
    memcpy(a->last, row->id, sizeof a->last);
    a->n++;
    srn_export_call(x->form, row, s, (srn_str){content.data ? content.data : "", content.len}, &a->out);
    srn_buf_done(&content);
    return !a->out.failed;
}

static bool export_page(srn__call *c, asked *a, exporting *x) {
    const char *format = srn__call_query(c, "format"), *content = srn__call_query(c, "content");
    uint64_t limit = EXPORT_CALLS;
    uint8_t before[SRN_ULID_BYTES];
    char id[SRN_ULID_CHARS + 1];
    bool paged;
    if (!srn_export_of(srn_str_of(format ? format : "jsonl"), &x->form)) {
        a->param = "format";
        return srn_fail(&a->err, SRN_EINVAL, "format is jsonl, csv or eval") == 0;
    }
    if (!read_number(c, a, "limit", EXPORT_MOST, &limit) || !read_id(c, a, "before", before, &paged))
        return false;
    bool wanted = (content && strcmp(content, "true") == 0) || x->form == SRN_EXPORT_EVAL;
    if (wanted && srn__recorder_reader(srn__call_recorder(c), &x->contents, &a->err)) return false;
    if (!paged) srn_export_head(x->form, &a->out);
    int code = srn_reader_calls(a->reader, a->filter, paged ? before : NULL, (uint32_t)limit, add_export, x,
                                &a->err);
    srn_ulid_format(a->last, id);
    if (!code && limit && a->n == limit) srn__call_set_header(c, "x-serin-next", id);
    return code == SRN_OK;
}

void srn__handle_calls_export(srn__call *c) {
    asked a;
    exporting x = {.a = &a};
    bool good = begin(c, &a) && export_page(c, &a, &x);
    srn_reader_close(x.contents);
    end(c, &a, good, x.form == SRN_EXPORT_CSV ? "text/csv; charset=utf-8" : "application/jsonl");
}
