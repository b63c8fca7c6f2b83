/* cli: `serin calls stats`: what calls add up to: counts, errors, tokens, percentiles of times, by model and
 * prompt version or by other columns, and over time. Main thread.
 */
#include "cli/calls.h"

#include <inttypes.h>
#include <stdlib.h>

enum { TIME_COLUMNS = 3 };
static const double shares[TIME_COLUMNS] = {0.5, 0.95, 0.99};
static const struct {
    srn_time time;
    const char *name;
} times[] = {{SRN_TIME_TTFT, "ttft"}, {SRN_TIME_ITL, "itl"}, {SRN_TIME_TOTAL, "total"}};

typedef struct counting {
    srn__calls *c;
    srn_stats_opts o;
    srn__table table;
    srn_buf json;
    uint64_t n, calls;
} counting;

static void add_count(srn__table *t, uint64_t v) {
    char text[32];
    if (v < 1000000)
        snprintf(text, sizeof text, "%" PRIu64, v);
    else if (v < 1000000000)
        snprintf(text, sizeof text, "%.2fM", (double)v / 1e6);
    else
        snprintf(text, sizeof text, "%.2fG", (double)v / 1e9);
    srn__table_add(t, text);
}

/* Prompt and version make one column where both are asked for. */
static bool is_joined(const counting *k, int b) {
    return b == SRN_BY_VERSION && k->o.by >> SRN_BY_PROMPT & 1;
}

static void add_values(counting *k, const srn_stats_row *row) {
    char text[400];
    srn__table *t = &k->table;
    if (k->o.step_us) {
        char time[32];
        srn__calls_time(row->start_us, false, time);
        srn__table_add(t, time);
    }
    for (int b = 0; b < SRN_BY_END; b++) {
        const char *v = row->values[b], *version = row->values[SRN_BY_VERSION];
        if (!(k->o.by >> b & 1) || is_joined(k, b)) continue;
        if (b == SRN_BY_PROMPT && *v && k->o.by >> SRN_BY_VERSION & 1)
            snprintf(text, sizeof text, "%.300s@%s", v, version);
        else if (b == SRN_BY_WEIGHTS && strlen(v) > 12)
            snprintf(text, sizeof text, "%.12s", v);
        else
            snprintf(text, sizeof text, "%.300s", *v ? v : "-");
        srn__table_add(t, text);
    }
}

static bool take(void *ctx, const srn_stats_row *row) {
    counting *k = ctx;
    srn__table *t = &k->table;
    k->calls += row->calls;
    if (k->c->json) {
        srn_buf_addz(&k->json, k->n++ ? ",\n" : "");
        srn_stats_write_json(row, &k->o, &k->json);
        return !k->json.failed;
    }
    char text[32];
    k->n++;
    add_values(k, row);
    add_count(t, row->calls);
    snprintf(text, sizeof text, "%.2f%%", 100.0 * (double)row->errors / (double)row->calls);
    srn__table_add(t, text);
    add_count(t, row->n_input);
    add_count(t, row->n_output);
    for (size_t i = 0; i < SRN_LEN(times); i++)
        for (int q = 0; q < TIME_COLUMNS; q++) {
            srn__calls_span(srn_stats_quantile(row, times[i].time, shares[q]), text);
            srn__table_add(t, text);
        }
    return !t->failed;
}

static void make_head(counting *k) {
    const char *head[24];
    static const char *const fixed[] = {"calls",   "errors", "in",  "out",       "ttft p50", "p95", "p99",
                                        "itl p50", "p95",    "p99", "total p50", "p95",      "p99"};
    size_t n = 0, first;
    if (k->o.step_us) head[n++] = "from (UTC)";
    for (int b = 0; b < SRN_BY_END; b++)
        if ((k->o.by >> b & 1) && !is_joined(k, b) && n < 11) head[n++] = srn_by_name((srn_by)b);
    first = n;
    for (size_t i = 0; i < SRN_LEN(fixed); i++) head[n++] = fixed[i];
    srn__table_init(&k->table, head, n, ((1u << n) - 1) & ~((1u << first) - 1));
}

static int read_opts(counting *k, srn_err *err) {
    static const struct {
        const char *name;
        uint64_t us;
    } steps[] = {{"minute", 60000000}, {"hour", 3600000000u}, {"day", 86400000000u}};
    const srn__calls *c = k->c;
    int n = 0, code = srn_stats_by(srn_str_of(c->by ? c->by : "model,prompt,version"), &k->o.by, err);
    if (code) return code;
    for (int b = 0; b < SRN_BY_END; b++) n += (int)(k->o.by >> b & 1);
    if (n > 8) return srn_fail(err, SRN_EINVAL, "--by takes at most 8 columns");
    for (size_t i = 0; c->step && i < SRN_LEN(steps); i++)
        if (strcmp(c->step, steps[i].name) == 0) k->o.step_us = steps[i].us;
    if (c->step && !k->o.step_us)
        return srn_fail(err, SRN_EINVAL, "--step is minute, hour or day, not '%.40s'", c->step);
    return SRN_OK;
}

static void print_stats(counting *k) {
    if (k->c->json) {
        printf("{\"object\":\"list\",\"data\":[");
        if (k->json.len) fwrite(k->json.data, 1, k->json.len, stdout);
        printf("]}\n");
        return;
    }
    if (k->n) srn__table_print(&k->table);
    fflush(stdout);
    if (!k->n) srn__calls_none(k->c);
}

int srn__calls_stats(int argc, char **argv) {
    srn__calls c = {.command = "calls stats"};
    const srn__calls_spec spec = {
        .usage = "serin calls stats [FILTER...] [--since WHEN] [--by COLUMNS] [--step hour]",
        .about =
            "Counts calls: errors, tokens, and p50, p95 and p99 of the time to the first token (ttft), of\n"
            "the mean gap between tokens (itl) and of the whole call, by model and prompt version.",
        .examples = "  serin calls stats --since 1d\n"
                    "  serin calls stats --since 7d --by model,arm --step day\n"
                    "  serin calls stats --by error,status 'status>=400'\n",
        .own = {{"by", 0, SRN_OPT_STR, &c.by, 0, 0, "COLUMNS", "group by these (model,prompt,version)"},
                {"step", 0, SRN_OPT_STR, &c.step, 0, 0, "STEP", "and by time: minute, hour or day"}},
        .n_own = 2,
        .filtered = true};
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    counting k = {.c = &c};
    srn_buf_init(&k.json, (size_t)1 << 30);
    code = read_opts(&k, &err);
    if (!code) {
        make_head(&k);
        code = srn_reader_stats(c.reader, c.filter, &k.o, take, &k, &err);
    }
    if (!code && (k.table.failed || k.json.failed)) code = srn_fail_nomem(&err, k.json.len);
    if (!code) print_stats(&k);
    srn__table_done(&k.table);
    srn_buf_done(&k.json);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : srn_cli_flush(c.command);
}
