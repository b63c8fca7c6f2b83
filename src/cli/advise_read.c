/* serin advise: calls from the ledger or from a file. Main thread; the ledger is only read. Refuses a filter
 * that finds nothing, saying what the ledger has.
 */
#include <jansson.h>
#include <stdlib.h>

#include "cli/advise.h"
#include "cli/ledger.h"
#include "ledger/ledger.h"

enum { PAGE = 1000, MAX_FILE = 512 << 20 };

/* ---- the ledger ---- */

/* --from A..B as terms of a filter behind those of --calls. */
static int make_filter(const srn__advise *c, srn_filter **ret, srn_err *err) {
    srn_buf b;
    const char *dots = c->from ? strstr(c->from, "..") : NULL;
    if (c->from && strpbrk(c->from, "\" \\"))
        return srn_fail(err, SRN_EUSAGE, "--from is DATE.. or DATE..DATE, not '%.60s'", c->from);
    srn_buf_init(&b, 64 << 10);
    srn_buf_addz(&b, c->calls);
    if (c->from) {
        size_t n = dots ? (size_t)(dots - c->from) : strlen(c->from);
        if (n) srn_buf_addf(&b, " since=\"%.*s\"", (int)n, c->from);
        if (dots && dots[2]) srn_buf_addf(&b, " until=\"%s\"", dots + 2);
    }
    int code = b.failed ? srn_fail(err, SRN_EINVAL, "the filter is too long")
                        : srn_filter_parse((srn_str){b.data ? b.data : "", b.len}, srn_unix_us(), ret, err);
    srn_buf_done(&b);
    return code;
}

typedef struct reading {
    srn__advise *c;
    uint8_t last[16];
    size_t seen;
    int code;
    srn_err *err;
} reading;

static bool take_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    reading *g = ctx;
    static const char upstream[] = "\"upstream\":{"; /* a key: quotes inside of texts stand behind a \ */
    memcpy(g->last, row->id, sizeof g->last);
    g->seen++;
    if (row->status >= 400 || !row->n_input) return true; /* refused or failed: nobody is charged for it */
    srn_advise_call call = {.begun_us = row->begun_us,
                            .total_us = row->total_us,
                            .ttft_us = row->ttft_us,
                            .queue_us = row->queue_us,
                            .itl_us = row->itl_us,
                            .n_input = row->n_input,
                            .n_cached = row->n_cached,
                            .n_output = row->n_output,
                            .elsewhere =
                                memmem(s->body.ptr, s->body.len, upstream, sizeof upstream - 1) != NULL};
    const char *route = row->route ? row->route : "";
    g->code = srn_advise_traffic_route(&g->c->traffic, srn_str_of(route), &call.route, g->err);
    if (!g->code) g->code = srn_advise_traffic_add(&g->c->traffic, &call, g->err);
    return g->code == SRN_OK;
}

/* What the newest configuration says of a route counts. */
static void take_routes(srn_advise_traffic *t, const json_t *routes) {
    const json_t *r;
    size_t k;
    json_array_foreach(routes, k, r) {
        const char *name = json_string_value(json_object_get(r, "name"));
        for (uint32_t i = 0; name && i < t->n_routes; i++)
            if (strcmp(t->routes[i].name, name) == 0)
                t->routes[i].local_only = json_is_true(json_object_get(r, "local_only"));
    }
}

static void take_models(srn_advise_traffic *t, const json_t *models) {
    const json_t *m;
    size_t k;
    t->parallel = 0;
    json_array_foreach(models, k, m) {
        json_int_t v = json_integer_value(json_object_get(m, "parallel"));
        if (v > t->parallel && v <= UINT16_MAX) t->parallel = (uint32_t)v;
    }
}

/* The configurations that the ledger holds, oldest first. */
static bool take_event(void *ctx, const srn_stored *s) {
    json_t *o = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *event = json_string_value(json_object_get(o, "event"));
    const json_t *c = json_object_get(o, "config");
    if (event && strcmp(event, "config") == 0) {
        take_routes(ctx, json_object_get(c, "routes"));
        take_models(ctx, json_object_get(c, "models"));
    }
    json_decref(o);
    return true;
}

static int read_pages(reading *g, srn_reader *reader, const srn_filter *f) {
    int code = SRN_OK;
    for (bool more = true; !code && more;) {
        size_t before = g->seen;
        code = srn_reader_calls(reader, f, before ? g->last : NULL, PAGE, take_call, g, g->err);
        if (!code) code = g->code;
        more = g->seen - before == PAGE;
    }
    return code;
}

int srn__advise_read_ledger(srn__advise *c, srn_err *err) {
    srn_buf place;
    srn_reader *reader = NULL;
    srn_filter *filter = NULL;
    const char *where = c->ledger;
    reading g = {.c = c, .err = err};
    int code = make_filter(c, &filter, err);
    if (code) return code;
    uint64_t since, until, now = srn_unix_us();
    srn_filter_span(filter, &since, &until);
    c->traffic.from_us = since;
    c->traffic.until_us = since ? SRN_MIN(until, now) : 0;
    code = srn__ledger_place(&where, c->folder, &place, err);
    if (!code) code = srn_reader_open_in(where, c->folder, c->keys, &reader, err);
    if (!code) code = read_pages(&g, reader, filter);
    if (!code) code = srn_reader_records(reader, SRN_RECORD_EVENT, 0, take_event, &c->traffic, err);
    if (!code && !c->traffic.n)
        code = srn_fail(err, SRN_ENOENT,
                        g.seen ? "the calls that match all failed, so there is nothing to advise on; `serin "
                                 "calls stats` counts them"
                               : "no calls match; `serin calls list` without a filter shows what there is");
    srn_reader_close(reader);
    srn_filter_free(filter);
    srn_buf_done(&place);
    return code;
}

/* ---- a file ---- */

int srn__advise_read_prompts(srn__advise *c, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(c->prompts, MAX_FILE, &text, &len, err);
    if (code) return code;
    code = srn_advise_traffic_lines(&c->traffic, (srn_str){text, len}, c->prompts, err);
    free(text);
    return code;
}
