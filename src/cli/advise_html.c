/* serin advise: a report in one file: for each route a bar an option with its range, what moves the result,
 * and each formula with its numbers. Nothing is loaded from elsewhere, every text of others is escaped, and a
 * policy in the page lets no script run. Main thread.
 */
#include <math.h>

#include "cli/advise.h"
#include "cli/html.h"

enum { MAX_REPORT = 64 << 20, SHOWN_TEXT = 4000, PLOT_W = 760, BAR_H = 26, NAME_W = 300 };

/* ---- lines of words as a table ---- */

static void put_words(srn_buf *b, const srn_buf *words) {
    srn_buf_addz(b, "<table class=\"words\">");
    for (size_t at = 0; at < words->len;) {
        const char *p = words->data + at, *end = memchr(p, '\n', words->len - at);
        size_t n = end ? (size_t)(end - p) : words->len - at;
        const char *tab = memchr(p, '\t', n);
        size_t label = tab ? (size_t)(tab - p) : 0, skip = tab ? label + 1 : 0;
        srn_buf_addz(b, "<tr><th>");
        srn__html_text(b, (srn_str){p, label}, SHOWN_TEXT);
        srn_buf_addz(b, "</th><td>");
        srn__html_text(b, (srn_str){p + skip, n - skip}, SHOWN_TEXT);
        srn_buf_addz(b, "</td></tr>\n");
        at += n + 1;
    }
    srn_buf_addz(b, "</table>\n");
}

/* ---- plots ---- */

static double x_of(double v, double low, double high) {
    return NAME_W + (PLOT_W - NAME_W - 70) * (v - low) / (high > low ? high - low : 1);
}

static void open_plot(srn_buf *b, const char *title, uint32_t rows) {
    uint32_t h = 14 + rows * BAR_H;
    srn_buf_addf(b,
                 "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %u\" width=\"%d\" height=\"%u\" "
                 "role=\"img\" "
                 "aria-label=\"%s\">",
                 title, PLOT_W, h, PLOT_W, h, title);
}

/* A bar from a to b with a name on its left and a mark. */
static void put_bar(srn_buf *b, uint32_t row, const char *kind, srn_str name, double from, double to,
                    double mark) {
    double y = 4 + row * BAR_H, left = SRN_MIN(from, to), width = SRN_MAX(2, fabs(to - from));
    srn_buf_addf(b, "<text class=\"tick\" x=\"4\" y=\"%.0f\">", y + 15);
    srn__html_text(b, name, 48);
    srn_buf_addf(b, "</text><rect class=\"%s\" x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"%d\"/>", kind,
                 left, y + 4, width, BAR_H - 10);
    if (!isnan(mark)) srn_buf_addf(b, "<path class=\"mark\" d=\"M%.1f %.0fv%d\"/>", mark, y + 1, BAR_H - 4);
}

static void put_number(srn_buf *b, uint32_t row, double x, double v) {
    srn_buf_addf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%u\">", x, 19 + row * BAR_H);
    srn__advise_money(v, b);
    srn_buf_addz(b, "</text>");
}

static void put_options(srn_buf *b, const srn_route_advice *r) {
    double most = 0;
    for (uint32_t i = 0; i < r->n_options; i++) most = SRN_MAX(most, r->options[i].cost.range.high);
    open_plot(b, "A month, with its range; the mark is the middle", r->n_options);
    for (uint32_t i = 0; i < r->n_options; i++) {
        const srn_option *o = &r->options[i];
        srn_buf name;
        srn_buf_init(&name, 400);
        srn__advise_option_name(o, &name);
        if (o->vetoed) srn_buf_addz(&name, " (vetoed)");
        if (!o->reaches) srn_buf_addz(&name, " (not available enough)");
        double low = x_of(o->cost.range.low, 0, most), high = x_of(o->cost.range.high, 0, most);
        const char *kind = o->vetoed || !o->reaches ? "out" : o->kind == SRN_OPTION_CLOUD ? "cloud" : "local";
        put_bar(b, i, kind, (srn_str){name.data, name.len}, low, high, x_of(o->cost.mid, 0, most));
        put_number(b, i, high + 6, o->cost.mid);
        srn_buf_done(&name);
    }
    srn_buf_addz(b, "</svg></figure>\n");
}

static void put_swings(srn_buf *b, const srn_route_advice *r) {
    double low = 0, high = 0;
    for (uint32_t i = 0; i < r->n_swings; i++) {
        low = SRN_MIN(low, SRN_MIN(r->swings[i].at_low, r->swings[i].at_high));
        high = SRN_MAX(high, SRN_MAX(r->swings[i].at_low, r->swings[i].at_high));
    }
    if (!r->n_swings) return;
    open_plot(b,
              r->local
                  ? "Local less cloud, a month, as one assumption moves; left of the line local costs less"
                  : "The cloud, a month, as one assumption moves",
              r->n_swings);
    double zero = x_of(0, low, high);
    srn_buf_addf(b, "<path class=\"axis\" d=\"M%.1f 2v%u\"/>", zero, r->n_swings * BAR_H + 6);
    for (uint32_t i = 0; i < r->n_swings; i++) {
        const srn_swing *s = &r->swings[i];
        double from = x_of(s->at_low, low, high), to = x_of(s->at_high, low, high);
        put_bar(b, i, "swing", srn_str_of(srn_assumption_name(s->assumption)), from, to, NAN);
        put_number(b, i, SRN_MAX(from, to) + 6, s->at_high - s->at_low);
    }
    srn_buf_addz(b, "</svg></figure>\n");
}

/* ---- the page ---- */

static void put_route(srn_buf *b, const srn__advise *c, const srn_route_advice *r, const char *name) {
    srn_buf words;
    srn_buf_init(&words, 1 << 20);
    srn_buf_addz(b, "<h2>");
    srn__html_text(b, srn_str_of(name), SHOWN_TEXT);
    srn_buf_addf(b, ": %s</h2>\n", srn_advise_verdict_name(r->verdict));
    put_options(b, r);
    put_swings(b, r);
    srn__advise_words(c, r, true, &words);
    put_words(b, &words);
    srn_buf_done(&words);
}

static void put_page(srn_buf *b, const srn__advise *c) {
    srn_buf words;
    srn_buf_init(&words, 1 << 16);
    srn_buf_addz(
        b, "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>serin advise</title>"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
           "'unsafe-inline'; img-src data:\"><meta name=\"viewport\" content=\"width=device-width\">"
           "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 "
           "1em;color:#222}"
           "table.words{border-collapse:collapse;margin:1em "
           "0}th{text-align:left;vertical-align:top;white-space:nowrap;"
           "padding:.2em 1em .2em 0;font-weight:600}td{padding:.2em 0}figure{margin:1em "
           "0}figcaption{font-weight:600}"
           "svg{max-width:100%;height:auto}.tick{font-size:11px;fill:#444}.axis,.mark{stroke:#222;fill:none}"
           ".cloud{fill:#3b6ea8}.local{fill:#2f8f4e}.swing{fill:#b8860b}.out{fill:#bbb}"
           "@media (prefers-color-scheme:dark){body{color:#ddd;background:#16191c}.tick{fill:#bbb}"
           ".axis,.mark{stroke:#ddd}}</style></head><body>\n<h1>Local or cloud</h1>\n<p>");
    srn__advise_head(c, &words);
    srn__html_text(b, (srn_str){words.data, words.len}, SHOWN_TEXT);
    srn_buf_addz(b, "</p>\n");
    srn_buf_clear(&words);
    if (c->a.has_split) {
        srn__advise_split_words(c, &words);
        put_words(b, &words);
    }
    for (uint32_t i = 0; i < c->a.n; i++)
        put_route(b, c, &c->a.routes[i], srn__advise_route_name(&c->a.routes[i]));
    if (c->a.n > 1) put_route(b, c, &c->a.total, "all together");
    srn_buf_addz(b, "</body></html>\n");
    srn_buf_done(&words);
}

int srn__advise_write_html(const srn__advise *c, srn_err *err) {
    srn_buf b;
    srn_buf_init(&b, MAX_REPORT);
    put_page(&b, c);
    int code = srn__html_write(&b, c->report, err);
    srn_buf_done(&b);
    return code;
}
