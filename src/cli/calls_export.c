/* cli: `serin calls export`: calls as JSON lines, CSV, or lines for an evaluation, to standard output or a
 * file. Main thread; reads a page at a time, so that millions are no burden.
 */
#include "cli/calls.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { PAGE = 1000 };

typedef struct exporting {
    srn__calls *c;
    srn_export form;
    FILE *to;
    srn_reader *contents; /* a second connection: the first one is in the middle of its page */
    srn_buf line, content;
    uint8_t last[16];
    uint64_t n, seen, without;
    srn_err err;
} exporting;

static bool read_content(exporting *x, const srn_call_row *row) {
    srn_buf_clear(&x->content);
    int code = srn_reader_content(x->contents, row->id, &x->content, &x->err);
    if (code != SRN_ENOENT) return code == SRN_OK;
    srn_buf_clear(&x->content); /* forgotten, or dropped: its record stays what it is */
    x->err = (srn_err){0};
    return true;
}

static bool take(void *ctx, const srn_call_row *row, const srn_stored *s) {
    exporting *x = ctx;
    memcpy(x->last, row->id, sizeof x->last);
    x->seen++;
    srn_buf_clear(&x->line);
    srn_buf_clear(&x->content);
    if (x->contents && s->has_content && !read_content(x, row)) return false;
    srn_str content = {x->content.data ? x->content.data : "", x->content.len};
    if (!srn_export_call(x->form, row, s, content, &x->line)) {
        x->without++;
        return true;
    }
    if (x->line.failed) return srn_fail_nomem(&x->err, x->line.len), false;
    x->n++;
    return fwrite(x->line.data, 1, x->line.len, x->to) == x->line.len;
}

static int export_all(exporting *x, srn_err *err) {
    srn_export_head(x->form, &x->line);
    if (x->line.len) fwrite(x->line.data, 1, x->line.len, x->to);
    uint64_t most = x->c->limit ? (uint64_t)x->c->limit : UINT64_MAX;
    int code = SRN_OK;
    for (bool more = true; more && !code && !ferror(x->to);) {
        uint64_t before = x->seen;
        uint32_t page = (uint32_t)SRN_MIN(most - x->seen, (uint64_t)PAGE);
        code = srn_reader_calls(x->c->reader, x->c->filter, before ? x->last : NULL, page, take, x, err);
        if (!code && x->err.code) {
            *err = x->err;
            code = err->code;
        }
        more = x->seen - before == page && x->seen < most;
    }
    return code;
}

static int close_output(exporting *x, srn_err *err) {
    bool good = !ferror(x->to);
    errno = 0;
    good = fflush(x->to) == 0 && good;
    if (x->to != stdout && fclose(x->to) != 0) good = false;
    if (good) return SRN_OK;
    return srn_fail(err, SRN_EIO, "%s could not be written: %s",
                    x->c->output ? x->c->output : "standard output",
                    errno ? strerror(errno) : "an earlier write failed");
}

static int open_all(exporting *x, srn_err *err) {
    srn__calls *c = x->c;
    const char *format = c->format ? c->format : "jsonl";
    if (!srn_export_of(srn_str_of(format), &x->form))
        return srn_fail(err, SRN_EINVAL, "--format is jsonl, csv or eval, not '%.40s'", format);
    bool wanted = c->content || x->form == SRN_EXPORT_EVAL;
    int code = wanted ? srn_reader_open_in(c->ledger, c->folder, c->keys, &x->contents, err) : SRN_OK;
    if (code) return code;
    x->to = c->output ? fopen(c->output, "wx") : stdout;
    if (x->to) return SRN_OK;
    return srn_fail(err, errno == EEXIST ? SRN_EEXIST : SRN_EIO, "%s: %s", c->output, strerror(errno));
}

int srn__calls_export(int argc, char **argv) {
    srn__calls c = {.command = "calls export"};
    const srn__calls_spec spec = {
        .usage = "serin calls export [FILTER...] [--format jsonl|csv|eval] [--output FILE]",
        .about =
            "Writes calls, newest first: records as JSON lines, a table as CSV, or lines for an evaluation\n"
            "({\"messages\", \"output\", ...}), which need the content that `ledger: {content: full}` keeps.",
        .examples = "  serin calls export --since 7d --output calls.jsonl\n"
                    "  serin calls export --format csv model=small > small.csv\n"
                    "  serin calls export --format eval prompt=support@3 --limit 500 > eval.jsonl\n",
        .own = {{"format", 'f', SRN_OPT_STR, &c.format, 0, 0, "FORM", "jsonl, csv or eval (jsonl)"},
                {"output", 'o', SRN_OPT_STR, &c.output, 0, 0, "FILE", "a new file (standard output)"},
                {"content", 0, SRN_OPT_FLAG, &c.content, 0, 0, NULL, "with the content, where it was kept"},
                {"limit", 'n', SRN_OPT_INT, &c.limit, 1, 1e12, "N", "at most so many (all)"}},
        .n_own = 4,
        .filtered = true};
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    exporting x = {.c = &c};
    srn_buf_init(&x.line, (size_t)512 << 20);
    srn_buf_init(&x.content, (size_t)256 << 20);
    code = open_all(&x, &err);
    if (!code) code = export_all(&x, &err);
    if (x.to) {
        srn_err late = {0};
        int closed = close_output(&x, &late);
        if (!code && closed) code = closed, err = late;
    }
    if (!code && (c.output || x.without))
        fprintf(stderr, "%" PRIu64 " call%s%s%s", x.n, x.n == 1 ? "" : "s", c.output ? " in " : "",
                c.output ? c.output : "");
    if (!code && x.without)
        fprintf(stderr, "; %" PRIu64 " more %s no content and %s left out", x.without,
                x.without == 1 ? "has" : "have", x.without == 1 ? "was" : "were");
    if (!code && (c.output || x.without)) fputc('\n', stderr);
    srn_buf_done(&x.line);
    srn_buf_done(&x.content);
    srn_reader_close(x.contents);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : 0;
}
