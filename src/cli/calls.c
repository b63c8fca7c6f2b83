/* cli: `serin calls`: asks the ledger of a server, running or not. The subcommands are files of their own;
 * here is what they share: options that become terms of a filter, the ledger that is opened, tables. Main
 * thread; the ledger is only read, never written nor checkpointed. Refuses folders without a ledger, with the
 * command that makes one.
 */
#include "cli/calls.h"

#include "cli/ledger.h"

#include <stdlib.h>
#include <time.h>

/* ---- the subcommands ---- */

static const srn_command commands[] = {
    {"list", srn__calls_list, "calls by a filter, newest first"},
    {"show", srn__calls_show, "one call: its record, its feedback, its content"},
    {"stats", srn__calls_stats, "how many, errors, tokens, times, by model and prompt"},
    {"export", srn__calls_export, "calls as JSON lines, CSV, or lines for an evaluation"},
    {"watch", srn__calls_watch, "calls as they end"},
    {"blame", srn__calls_blame, "which recorded change moved a metric"},
};

static void help(FILE *f) {
    fprintf(f, "usage: serin calls COMMAND [ARGUMENTS]\n\n"
               "Asks the ledger, in which `serin serve` records every call.\n\n");
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\nexamples:\n"
               "  serin calls list --since 1h --status 5xx\n"
               "  serin calls stats --since 1d\n"
               "  serin calls watch 'ttft>2s'\n"
               "  serin calls blame itl --since 14d\n"
               "\n`serin calls COMMAND --help` tells more.\n");
}

int srn__cmd_calls(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) return help(stderr), 2;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
        return help(stdout), srn_cli_flush("calls");
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    const char *nearest =
        srn_cli_nearest(name, strlen(name), &commands[0].name, SRN_LEN(commands), sizeof commands[0]);
    fprintf(stderr, "serin calls: there is no command '%s'; ", name);
    if (nearest) fprintf(stderr, "did you mean '%s'? ", nearest);
    fprintf(stderr, "`serin calls --help` lists them\n");
    return 2;
}

/* ---- the filter ---- */

/* A term of an option: its value as one quoted text, but for lists and ranges of statuses, which stay. */
static void add_term(srn_buf *b, const char *field, const char *value, bool quote) {
    if (!value) return;
    srn_buf_addf(b, "%s%s=", b->len ? " " : "", field);
    if (quote) srn_buf_addc(b, '"');
    for (; *value; value++) {
        if (quote && (*value == '"' || *value == '\\')) srn_buf_addc(b, '\\');
        srn_buf_addc(b, *value);
    }
    if (quote) srn_buf_addc(b, '"');
}

/* What was typed comes first, so that the columns in errors are those of it. */
static int make_filter(srn__calls *c, const char *subject, srn_err *err) {
    const struct {
        const char *field, *value;
        bool quote;
    } terms[] = {{"since", c->since, true},   {"until", c->until, true},      {"model", c->model, true},
                 {"prompt", c->prompt, true}, {"version", c->version, false}, {"arm", c->arm, true},
                 {"tenant", c->tenant, true}, {"status", c->status, false},   {"slow", c->slow, true},
                 {"subject", subject, true}};
    srn_buf text;
    srn_buf_init(&text, 64 << 10);
    for (int i = 0; i < c->n_operands; i++) srn_buf_addf(&text, "%s%s", i ? " " : "", c->operands[i]);
    for (size_t i = 0; i < SRN_LEN(terms); i++)
        add_term(&text, terms[i].field, terms[i].value, terms[i].quote);
    int code = text.failed ? srn_fail(err, SRN_EINVAL, "the filter is too long")
                           : srn_filter_parse((srn_str){text.data ? text.data : "", text.len}, srn_unix_us(),
                                              &c->filter, err);
    srn_buf_done(&text);
    return code;
}

/* ---- the ledger ---- */

static int open_ledger(srn__calls *c, srn_err *err) {
    int code = srn__ledger_place(&c->ledger, c->folder, &c->place, err);
    if (code) return code;
    code = srn_reader_open_in(c->ledger, c->folder, c->keys, &c->reader, err);
    if (code == SRN_ENOENT && !srn_ledger_is_postgres(c->ledger))
        code = srn_fail(err, code,
                        "there is no ledger in %s; `serin serve MODEL --ledger DIR` writes one, and --ledger "
                        "DIR names it here",
                        c->ledger);
    return code;
}

int srn__calls_begin(srn__calls *c, const srn__calls_spec *spec, int argc, char **argv) {
    const srn_opt filter[] = {
        {"since", 0, SRN_OPT_STR, &c->since, 0, 0, "WHEN", "begun since: 1h ago, or 2026-11-22T10:00 (UTC)"},
        {"until", 0, SRN_OPT_STR, &c->until, 0, 0, "WHEN", "begun before"},
        {"model", 'm', SRN_OPT_STR, &c->model, 0, 0, "NAME", "of this model"},
        {"prompt", 'p', SRN_OPT_STR, &c->prompt, 0, 0, "NAME[@N]", "of this registered prompt"},
        {"version", 0, SRN_OPT_STR, &c->version, 0, 0, "N", "of the prompt"},
        {"arm", 0, SRN_OPT_STR, &c->arm, 0, 0, "ARM", "of this arm of a roll-out"},
        {"tenant", 0, SRN_OPT_STR, &c->tenant, 0, 0, "NAME", "of this tenant"},
        {"subject", 0, SRN_OPT_STR, &c->subject, 0, 0, "WHO",
         "of this user, as requests name him, or a record's `subject`"},
        {"status", 0, SRN_OPT_STR, &c->status, 0, 0, "STATUS", "500, 5xx, 400..499, or several with commas"},
        {"slow", 0, SRN_OPT_STR, &c->slow, 0, 0, "TIME", "that took longer: 2s, 300ms"},
    };
    const srn_opt common[] = {
        {"ledger", 0, SRN_OPT_STR, &c->ledger, 0, 0, "DIR|URL", "the ledger ($XDG_STATE_HOME/serin/ledger)"},
        SRN__LEDGER_FOLDER(&c->folder),
        {"keys", 0, SRN_OPT_STR, &c->keys, 0, 0, "DIR", "its keys (keys in the ledger's folder)"},
        {"json", 0, SRN_OPT_FLAG, &c->json, 0, 0, NULL, "print JSON"},
    };
    srn_opt opts[SRN_LEN(spec->own) + SRN_LEN(filter) + SRN_LEN(common)];
    size_t n = spec->n_own;
    memcpy(opts, spec->own, n * sizeof *opts);
    if (spec->filtered) {
        memcpy(opts + n, filter, sizeof filter);
        n += SRN_LEN(filter);
    }
    memcpy(opts + n, common, sizeof common);
    n += SRN_LEN(common);
    srn_cli_spec s = {.usage = spec->usage,
                      .about = spec->about,
                      .examples = spec->examples,
                      .opts = opts,
                      .n_opts = n,
                      .min_operands = spec->min_operands,
                      .max_operands = spec->filtered ? SRN__CALLS_WORDS : spec->max_operands};
    char name[64];
    snprintf(name, sizeof name, "calls %s", argv[0]);
    argv[0] = name; /* for messages, while it lasts */
    int code = srn_cli_parse(&s, argc, argv, c->operands, &c->n_operands);
    argv[0] = NULL;
    if (code >= 0) return code;
    srn_err err = {0};
    char hash[SRN_KEYED_HASH_CHARS + 1];
    code = spec->filtered ? make_filter(c, NULL, &err) : SRN_OK;
    if (!code) code = open_ledger(c, &err);
    if (!code && c->subject) { /* the ledger's keys hash a name */
        srn_filter_free(c->filter);
        c->filter = NULL;
        code = srn_reader_subject(c->reader, c->subject, hash, &err);
        if (!code) code = make_filter(c, hash, &err);
    }
    if (!code) return -1;
    srn__calls_end(c);
    return srn_cli_error(c->command, &err);
}

void srn__calls_end(srn__calls *c) {
    srn_filter_free(c->filter);
    srn_reader_close(c->reader);
    srn_buf_done(&c->place);
    c->filter = NULL;
    c->reader = NULL;
}

static bool take_one(void *ctx, const srn_call_row *row, const srn_stored *s) {
    (void)row, (void)s;
    *(bool *)ctx = true;
    return false;
}

void srn__calls_none(const srn__calls *c) {
    bool any = false;
    srn_err err;
    if (srn_reader_calls(c->reader, NULL, NULL, 1, take_one, &any, &err) == SRN_OK && !any)
        fprintf(stderr, "this ledger is empty: no server has answered a call with it yet; --ledger DIR names "
                        "another one\n");
    else
        fprintf(stderr, "no calls match; `serin calls list` without a filter shows what there is\n");
}

/* ---- values ---- */

void srn__calls_time(uint64_t us, bool ms, char ret[32]) {
    time_t seconds = (time_t)(us / 1000000);
    struct tm t;
    char text[24] = "?";
    if (gmtime_r(&seconds, &t)) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &t);
    if (ms)
        snprintf(ret, 32, "%s.%03u", text, (unsigned)(us / 1000 % 1000));
    else
        snprintf(ret, 32, "%s", text);
}

void srn__calls_span(uint64_t us, char ret[24]) {
    double v = (double)us;
    if (!us)
        snprintf(ret, 24, "-");
    else if (us < 1000)
        snprintf(ret, 24, "%.0f us", v);
    else if (us < 10000)
        snprintf(ret, 24, "%.1f ms", v / 1e3);
    else if (us < 1000000)
        snprintf(ret, 24, "%.0f ms", v / 1e3);
    else if (us < 100000000)
        snprintf(ret, 24, us < 10000000 ? "%.2f s" : "%.1f s", v / 1e6);
    else
        snprintf(ret, 24, "%.1f min", v / 60e6);
}

/* ---- tables ---- */

enum { TABLE_BYTES = 64 << 20, MAX_COLUMNS = 24, MOST_WIDE = 40 };

void srn__table_init(srn__table *t, const char *const *head, size_t n_columns, uint32_t right) {
    *t = (srn__table){.n_columns = SRN_MIN(n_columns, (size_t)MAX_COLUMNS), .right = right};
    srn_arena_init(&t->arena, TABLE_BYTES);
    for (size_t i = 0; i < n_columns; i++) srn__table_add(t, head[i]);
}

/* Control characters and the like become '?', what is long ends in "..". */
static char *safe(srn__table *t, const char *text) {
    size_t n = strlen(text), wide = 0, to = 0;
    char *copy = srn_arena_alloc(&t->arena, n + 3);
    for (size_t i = 0, k; copy && i < n; i += k, wide++) {
        uint32_t cp = 0;
        size_t len = srn_utf8_get(text + i, n - i, &cp);
        k = len ? len : 1;
        if (wide == MOST_WIDE) {
            memcpy(copy + to, "..", 3);
            return copy;
        }
        bool bad = !len || cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || (cp >= 0x200B && cp <= 0x200F) ||
                   (cp >= 0x2028 && cp <= 0x202E) || (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF;
        memcpy(copy + to, bad ? "?" : text + i, bad ? 1 : k);
        to += bad ? 1 : k;
    }
    return copy;
}

void srn__table_add(srn__table *t, const char *text) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        const char **cells = srn_realloc_array((void *)t->cells, cap, sizeof *cells);
        if (!cells) {
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->cap = cap;
    }
    const char *copy = safe(t, text);
    t->failed = t->failed || !copy;
    t->cells[t->n++] = copy ? copy : "?";
}

static int width_of(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

void srn__table_print(const srn__table *t) {
    int widths[MAX_COLUMNS] = {0};
    for (size_t i = 0; i < t->n; i++)
        widths[i % t->n_columns] = SRN_MAX(widths[i % t->n_columns], width_of(t->cells[i]));
    for (size_t i = 0; i < t->n; i++) {
        size_t column = i % t->n_columns;
        bool last = column + 1 == t->n_columns, right = t->right >> column & 1;
        int pad = widths[column] - width_of(t->cells[i]);
        printf("%*s%s%*s", right ? pad : 0, "", t->cells[i], right || last ? 0 : pad, "");
        fputs(last ? "\n" : "  ", stdout);
    }
}

void srn__table_done(srn__table *t) {
    srn_arena_done(&t->arena);
    free((void *)t->cells);
    *t = (srn__table){0};
}
