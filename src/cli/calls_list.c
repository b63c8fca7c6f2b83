/* cli: `serin calls list` and `serin calls watch`: calls in a table, a line each, or as JSON. Main thread.
 * Watching asks the ledger a few times a second what has come, until Ctrl-C or a number of calls.
 */
#include "cli/calls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define POLL_US 250000

static const char *const head[] = {"time (UTC)", "call", "model", "prompt", "status",
                                   "end",        "in",   "out",   "ttft",   "total"};
enum { N_COLUMNS = SRN_LEN(head), RIGHT = 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 };

typedef struct listing {
    srn__calls *c;
    srn__table table;
    srn_buf json;
    uint8_t last[16];
    uint64_t n, seq;
} listing;

/* ---- one call ---- */

static void add_row(srn__table *t, const srn_call_row *r) {
    char time[32], id[SRN_ULID_CHARS + 1], text[300], ttft[24], total[24];
    srn__calls_time(r->begun_us, false, time);
    srn_ulid_format(r->id, id);
    srn__table_add(t, time);
    srn__table_add(t, id);
    srn__table_add(t, *r->model ? r->model : "-");
    if (*r->prompt)
        snprintf(text, sizeof text, "%.200s@%" PRIu32, r->prompt, r->version);
    else
        snprintf(text, sizeof text, "-");
    srn__table_add(t, text);
    snprintf(text, sizeof text, "%" PRId32, r->status);
    srn__table_add(t, text);
    srn__table_add(t, *r->error ? r->error : *r->finish ? r->finish : "-");
    snprintf(text, sizeof text, "%" PRIu32, r->n_input);
    srn__table_add(t, text);
    snprintf(text, sizeof text, "%" PRIu32, r->n_output);
    srn__table_add(t, text);
    srn__calls_span(r->ttft_us, ttft);
    srn__calls_span(r->total_us, total);
    srn__table_add(t, ttft);
    srn__table_add(t, total);
}

static bool take(void *ctx, const srn_call_row *row, const srn_stored *s) {
    listing *l = ctx;
    memcpy(l->last, row->id, sizeof l->last);
    l->seq = s->seq;
    if (l->c->json) {
        srn_buf_addz(&l->json, l->n ? ",\n" : "");
        srn_call_write_json(s, &l->json);
    } else {
        add_row(&l->table, row);
    }
    l->n++;
    return true;
}

/* ---- list ---- */

/* Where the page is full there may be more. */
static void print_list(listing *l) {
    char id[SRN_ULID_CHARS + 1];
    bool full = l->n == (uint64_t)l->c->limit;
    srn_ulid_format(l->last, id);
    if (l->c->json) {
        printf("{\"object\":\"list\",\"data\":[");
        if (l->json.len) fwrite(l->json.data, 1, l->json.len, stdout);
        printf("],\"has_more\":%s,\"next\":%s%s%s}\n", full ? "true" : "false", full ? "\"" : "",
               full ? id : "null", full ? "\"" : "");
        return;
    }
    if (l->n) srn__table_print(&l->table);
    fflush(stdout);
    if (!l->n) srn__calls_none(l->c);
    if (full) fprintf(stderr, "older ones: add --before %s, or --limit N\n", id);
}

static int parse_before(const srn__calls *c, uint8_t ret[16], srn_err *err) {
    if (srn_ulid_parse(srn_str_of(c->before), ret)) return SRN_OK;
    return srn_fail(err, SRN_EINVAL, "--before needs the id of a call, 26 letters and digits, not '%.60s'",
                    c->before);
}

int srn__calls_list(int argc, char **argv) {
    srn__calls c = {.command = "calls list", .limit = 20};
    const srn__calls_spec spec = {
        .usage = "serin calls list [FILTER...] [--since WHEN] [--limit N]",
        .about = "Lists calls, newest first. A filter is terms that all must hold, field=value, also with\n"
                 "!= > >= < <= ~: docs/calls.md has the fields.",
        .examples = "  serin calls list\n"
                    "  serin calls list --since 1h --status 5xx\n"
                    "  serin calls list 'ttft>2s tokens>4k' --model small\n"
                    "  serin calls list prompt=support@3 --json\n",
        .own = {{"limit", 'n', SRN_OPT_INT, &c.limit, 1, 10000, "N", "at most so many (20)"},
                {"before", 0, SRN_OPT_STR, &c.before, 0, 0, "CALL", "older than this call: the next page"}},
        .n_own = 2,
        .filtered = true};
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    uint8_t before[16];
    listing l = {.c = &c};
    srn__table_init(&l.table, head, N_COLUMNS, RIGHT);
    srn_buf_init(&l.json, (size_t)1 << 30);
    code = c.before ? parse_before(&c, before, &err) : SRN_OK;
    if (!code)
        code =
            srn_reader_calls(c.reader, c.filter, c.before ? before : NULL, (uint32_t)c.limit, take, &l, &err);
    if (!code && (l.table.failed || l.json.failed)) code = srn_fail_nomem(&err, l.json.len);
    if (!code) print_list(&l);
    srn__table_done(&l.table);
    srn_buf_done(&l.json);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : srn_cli_flush(c.command);
}

/* ---- watch ---- */

static void print_line(const srn_call_row *r) {
    char time[32], id[SRN_ULID_CHARS + 1], prompt[300] = "", ttft[24], total[24];
    srn__calls_time(r->begun_us, false, time);
    srn_ulid_format(r->id, id);
    srn__calls_span(r->ttft_us, ttft);
    srn__calls_span(r->total_us, total);
    if (*r->prompt) snprintf(prompt, sizeof prompt, " %.200s@%" PRIu32, r->prompt, r->version);
    printf("%s  %s  ", time, id);
    srn_cli_put_text(stdout, srn_str_of(*r->model ? r->model : "-"), 128, false);
    srn_cli_put_text(stdout, srn_str_of(prompt), 256, false);
    printf("  %" PRId32 " ", r->status);
    srn_cli_put_text(stdout, srn_str_of(*r->error ? r->error : *r->finish ? r->finish : "-"), 64, false);
    printf("  %" PRIu32 " -> %" PRIu32 " tokens  ttft %s  total %s\n", r->n_input, r->n_output, ttft, total);
}

static bool follow(void *ctx, const srn_call_row *row, const srn_stored *s) {
    listing *l = ctx;
    l->seq = s->seq;
    l->n++;
    if (l->c->json) {
        srn_buf_clear(&l->json);
        srn_call_write_json(s, &l->json);
        printf("%s\n", l->json.failed ? "{}" : l->json.data);
    } else {
        print_line(row);
    }
    return true;
}

static bool enough(const listing *l) {
    return l->c->limit && l->n >= (uint64_t)l->c->limit;
}

/* What came since l->seq, in pages; with none left the place moves to the end that was there before. */
static int catch_up(listing *l, srn_err *err) {
    enum { PAGE = 500 };
    uint64_t end = 0;
    int code = srn_reader_end(l->c->reader, &end, err);
    while (!code && l->seq < end && !enough(l)) {
        uint64_t left = l->c->limit ? (uint64_t)l->c->limit - l->n : PAGE, before = l->n;
        uint32_t page = (uint32_t)SRN_MIN(left, (uint64_t)PAGE);
        code = srn_reader_calls_after(l->c->reader, l->c->filter, l->seq, page, follow, l, err);
        if (!code && l->n - before < page) l->seq = SRN_MAX(l->seq, end);
    }
    fflush(stdout);
    return code;
}

int srn__calls_watch(int argc, char **argv) {
    srn__calls c = {.command = "calls watch"};
    const srn__calls_spec spec = {
        .usage = "serin calls watch [FILTER...] [--limit N]",
        .about = "Prints calls as they end, a line each, until Ctrl-C.",
        .examples =
            "  serin calls watch\n  serin calls watch status=5xx\n  serin calls watch 'ttft>1s' --json\n",
        .own = {{"limit", 'n', SRN_OPT_INT, &c.limit, 1, 1e12, "N", "end after so many"}},
        .n_own = 1,
        .filtered = true};
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    listing l = {.c = &c};
    srn_buf_init(&l.json, (size_t)64 << 20);
    const volatile int *stop = srn_cli_catch_interrupts();
    const struct timespec pause = {0, POLL_US * 1000};
    code = srn_reader_end(c.reader, &l.seq, &err);
    if (!code) fprintf(stderr, "watching; Ctrl-C ends it\n");
    while (!code && !*stop && !enough(&l) && !ferror(stdout)) {
        code = catch_up(&l, &err);
        if (!code && !enough(&l)) nanosleep(&pause, NULL);
    }
    srn_cli_release_interrupts();
    srn_buf_done(&l.json);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : srn_cli_flush(c.command);
}
