/* serin regress: a report in one file, with plots as SVG and nothing that is loaded from elsewhere. Every
 * text of a model, a file or a record is escaped, and a policy in the page lets no script run. Main thread.
 */
#include <math.h>

#include "cli/html.h"
#include "cli/regress.h"

enum { MAX_REPORT = 1 << 30, SHOWN_ITEMS = 5000, SHOWN_TEXT = 4000, SHOWN_POINTS = 5000 };
enum { PLOT_W = 420, PLOT_H = 260, PAD = 44 };
enum { BINS = 14, FIRST_DECADE = -12 }; /* a bin a decade from 1e-12 on, and one for 0 */

static void put_z(srn_buf *b, const char *z) {
    srn__html_text(b, srn_str_of(z), SHOWN_TEXT);
}

/* ---- plots ---- */

static void open_plot(srn_buf *b, const char *title, const char *x, const char *y) {
    srn_buf_addf(b,
                 "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                 "role=\"img\" aria-label=\"%s\">"
                 "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>"
                 "<text class=\"name\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>"
                 "<text class=\"name\" x=\"%d\" y=\"12\">%s</text>",
                 title, PLOT_W, PLOT_H, PLOT_W, PLOT_H, title, PAD, 18, PLOT_H - PAD, PLOT_W - 8, PLOT_W - 8,
                 PLOT_H - 6, x, 4, y);
}

static void close_plot(srn_buf *b) {
    srn_buf_addz(b, "</svg></figure>\n");
}

static int bin_of(const srn_divergence *d) {
    double mean = d->sum / d->n;
    if (mean <= 0) return 0;
    return 1 + SRN_MAX(0, SRN_MIN(BINS - 2, (int)floor(log10(mean)) - FIRST_DECADE));
}

static void put_divergences(srn_buf *b, const srn_regress *g) {
    uint64_t counts[BINS] = {0}, most = 1;
    for (size_t i = 0; i < g->n; i++)
        if (g->items[i].has_divergence) counts[bin_of(&g->items[i].divergence)]++;
    for (int i = 0; i < BINS; i++) most = SRN_MAX(most, counts[i]);
    open_plot(b, "Divergence of items", "mean nats a token", "items");
    const double w = (double)(PLOT_W - PAD - 16) / BINS, room = PLOT_H - PAD - 30;
    for (int i = 0; i < BINS; i++) {
        double x = PAD + 4 + i * w, h = room * (double)counts[i] / (double)most;
        char label[8] = "0";
        if (i) snprintf(label, sizeof label, "1e%d", FIRST_DECADE + i - 1);
        srn_buf_addf(b,
                     "<rect class=\"a\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%s: "
                     "%llu</title></rect><text class=\"tick\" x=\"%.1f\" y=\"%d\">%s</text>",
                     x, PLOT_H - PAD - h, w - 2, h, label, (unsigned long long)counts[i], x,
                     PLOT_H - PAD + 12, label);
        if (counts[i])
            srn_buf_addf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">%llu</text>", x, PLOT_H - PAD - h - 3,
                         (unsigned long long)counts[i]);
    }
    close_plot(b);
}

/* A bar a prompt: passed both, won, lost, failed both. */
static void put_flips(srn_buf *b, const srn_regress_sum *sums, size_t n) {
    static const char *const classes[] = {"good", "won", "lost", "bad"};
    static const char *const names[] = {"passed both", "won", "lost", "failed both"};
    size_t shown = SRN_MIN(n, (size_t)20);
    srn_buf_addf(b,
                 "<figure><figcaption>Checks</figcaption><svg viewBox=\"0 0 %d %zu\" width=\"%d\" "
                 "height=\"%zu\" role=\"img\" aria-label=\"Checks\">",
                 PLOT_W, 24 + shown * 28, PLOT_W, 24 + shown * 28);
    for (int k = 0; k < 4; k++)
        srn_buf_addf(b,
                     "<rect class=\"%s\" x=\"%d\" y=\"2\" width=\"10\" height=\"10\"/><text class=\"tick\" "
                     "x=\"%d\" y=\"11\">%s</text>",
                     classes[k], 4 + k * 90, 18 + k * 90, names[k]);
    for (size_t i = 0; i < shown; i++) {
        const srn_regress_sum *s = &sums[n - shown + i];
        uint64_t stay = s->passed[0] - s->lost;
        const uint64_t parts[] = {stay, s->won, s->lost, s->checked - stay - s->won - s->lost};
        double x = 4, y = 34 + (double)i * 28, all = s->checked ? (double)s->checked : 1;
        srn_buf_addf(b, "<text class=\"tick\" x=\"4\" y=\"%.0f\">", y - 3);
        srn__html_text(b, srn_str_of(s->name), 60);
        srn_buf_addf(b, " (%llu)</text>", (unsigned long long)s->checked);
        for (int k = 0; k < 4; k++) {
            double w = (PLOT_W - 8) * (double)parts[k] / all;
            srn_buf_addf(b,
                         "<rect class=\"%s\" x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"12\"><title>%s: "
                         "%llu</title></rect>",
                         classes[k], x, y, w, names[k], (unsigned long long)parts[k]);
            x += w;
        }
    }
    close_plot(b);
}

static double tokens_of(const srn_replay_answer *a) {
    return a->n_tokens;
}

static double ms_of(const srn_replay_answer *a) {
    return (double)a->total_us / 1000;
}

/* A point an item, A to the right and B upwards; on the line both are alike. */
static void put_scatter(srn_buf *b, const srn_regress *g, const char *title,
                        double (*value)(const srn_replay_answer *a), const char *unit) {
    double most = 1;
    char x[40], y[40];
    size_t shown = 0;
    for (size_t i = 0; i < g->n; i++)
        for (int k = 0; k < 2; k++)
            if (g->items[i].sides[k].ran) most = SRN_MAX(most, value(&g->items[i].sides[k].answer));
    snprintf(x, sizeof x, "A, up to %.0f %s", most, unit);
    snprintf(y, sizeof y, "B, %s", unit);
    open_plot(b, title, x, y);
    const double w = PLOT_W - PAD - 16, h = PLOT_H - PAD - 26;
    srn_buf_addf(b, "<path class=\"axis\" stroke-dasharray=\"3\" d=\"M%d %dL%.1f %.1f\"/>", PAD, PLOT_H - PAD,
                 PAD + w, PLOT_H - PAD - h);
    for (size_t i = 0; i < g->n && shown < SHOWN_POINTS; i++) {
        const srn_regress_item *it = &g->items[i];
        if (!it->sides[0].ran || !it->sides[1].ran) continue;
        double va = value(&it->sides[0].answer), vb = value(&it->sides[1].answer);
        srn_buf_addf(b, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>",
                     srn_regress_lost(it)  ? "lost"
                     : srn_regress_won(it) ? "won"
                                           : "a",
                     PAD + w * va / most, PLOT_H - PAD - h * vb / most);
        srn__html_text(b, srn_str_of(it->id), 60);
        srn_buf_addf(b, ": %.0f, %.0f</title></circle>", va, vb);
        shown++;
    }
    close_plot(b);
}

/* ---- tables ---- */

static void put_sides(srn_buf *b, const srn_regress *g) {
    srn_buf_addz(b, "<table><tr><th></th><th>model</th><th>prompt</th><th>weights</th><th>quantisation</th>"
                    "<th>engine</th></tr>\n");
    for (int k = 0; k < 2; k++) {
        srn_buf_addf(b, "<tr><th>%c</th><td>", k ? 'B' : 'A');
        put_z(b, g->sides[k].model);
        srn_buf_addz(b, "</td><td>");
        if (g->sides[0].prompt) {
            put_z(b, g->sides[k].ref.name);
            srn_buf_addf(b, "@%u", g->sides[k].ref.version);
        }
        srn_buf_addz(b, "</td><td><code>");
        put_z(b, g->sides[k].ids.weights);
        srn_buf_addz(b, "</code></td><td>");
        put_z(b, g->sides[k].ids.quantisation);
        srn_buf_addz(b, "</td><td>");
        put_z(b, g->sides[k].ids.engine);
        srn_buf_addz(b, "</td></tr>\n");
    }
    srn_buf_addf(b, "</table><p>The weights are %s bytes.",
                 strcmp(g->sides[0].ids.weights, g->sides[1].ids.weights) == 0 ? "the same" : "different");
    if (g->no_divergence_why) {
        srn_buf_addz(b, " There is no divergence: ");
        put_z(b, g->no_divergence_why);
        srn_buf_addc(b, '.');
    }
    srn_buf_addz(b, "</p>\n");
}

static void put_sums(srn_buf *b, const srn_regress_sum *sums, size_t n) {
    srn_buf_addz(b, "<table><tr><th>prompt</th><th>items</th><th>not answered A, B</th><th>with checks</th>"
                    "<th>passed A → B</th><th>lost</th><th>won</th><th>McNemar p</th><th>same answers</th>"
                    "<th>mean nats</th><th>max nats</th><th>same likeliest</th><th>tokens A → B</th>"
                    "<th>first token, ms</th><th>answer, ms</th></tr>\n");
    for (size_t i = 0; i < n; i++) {
        const srn_regress_sum *s = &sums[i];
        double c = s->compared ? (double)s->compared : 1, k = (double)s->kl_tokens;
        srn_buf_addz(b, "<tr><th>");
        put_z(b, s->name);
        srn_buf_addf(b,
                     "</th><td>%llu</td><td>%llu, %llu</td><td>%llu</td><td>%llu → %llu</td><td>%llu</td>"
                     "<td>%llu</td><td>%.4g</td><td>%llu</td>",
                     (unsigned long long)s->items, (unsigned long long)s->errors[0],
                     (unsigned long long)s->errors[1], (unsigned long long)s->checked,
                     (unsigned long long)s->passed[0], (unsigned long long)s->passed[1],
                     (unsigned long long)s->lost, (unsigned long long)s->won, s->p,
                     (unsigned long long)s->same);
        if (s->kl_tokens)
            srn_buf_addf(b, "<td>%.3g</td><td>%.3g</td><td>%.2f %%</td>", s->kl_sum / k, s->kl_max,
                         100 * (double)s->top1 / k);
        else
            srn_buf_addz(b, "<td>–</td><td>–</td><td>–</td>");
        srn_buf_addf(b, "<td>%.1f → %.1f</td><td>%.0f → %.0f</td><td>%.0f → %.0f</td></tr>\n",
                     (double)s->tokens[0] / c, (double)s->tokens[1] / c, (double)s->ttft_us[0] / 1000,
                     (double)s->ttft_us[1] / 1000, (double)s->total_us[0] / 1000,
                     (double)s->total_us[1] / 1000);
    }
    srn_buf_addz(b, "</table>\n");
}

static void put_answer(srn_buf *b, const srn_regress_result *s, char name) {
    srn_buf_addf(b, "<div><b>%c</b><pre>", name);
    if (s->ran)
        srn__html_text(b, (srn_str){s->answer.text, s->answer.n_text}, SHOWN_TEXT);
    else
        put_z(b, s->why.text);
    srn_buf_addz(b, "</pre></div>");
}

static void put_flipped(srn_buf *b, const srn_regress *g, const char *title, bool lost) {
    size_t n = 0, i;
    for (size_t k = 0; k < g->n; k++) {
        const srn_regress_item *it = &g->items[k];
        json_t *name;
        if (!(lost ? srn_regress_lost(it) : srn_regress_won(it)) || n++ >= SHOWN_ITEMS) continue;
        if (n == 1) srn_buf_addf(b, "<h2>%s</h2>\n", title);
        srn_buf_addz(b, "<details><summary>");
        put_z(b, it->id);
        json_array_foreach(it->sides[lost].failed, i, name) {
            srn_buf_addz(b, i ? ", " : ": ");
            put_z(b, json_string_value(name));
        }
        srn_buf_addz(b, "</summary><div class=\"pair\">");
        put_answer(b, &it->sides[0], 'A');
        put_answer(b, &it->sides[1], 'B');
        srn_buf_addz(b, "</div></details>\n");
    }
}

static void put_items(srn_buf *b, const srn_regress *g) {
    srn_buf_addz(b, "<h2>Items</h2>\n<table><tr><th>item</th><th>prompt</th><th>verdict</th><th>same</th>"
                    "<th>mean nats</th><th>max nats</th><th>tokens A → B</th></tr>\n");
    for (size_t i = 0; i < g->n && i < SHOWN_ITEMS; i++) {
        const srn_regress_item *it = &g->items[i];
        srn_buf_addz(b, "<tr><td>");
        put_z(b, it->id);
        srn_buf_addz(b, "</td><td>");
        put_z(b, it->group);
        srn_buf_addf(b, "</td><td>%s</td><td>%s</td>", srn_regress_verdict(it),
                     srn_regress_same(it) ? "yes" : "no");
        if (it->has_divergence)
            srn_buf_addf(b, "<td>%.3g</td><td>%.3g</td>", it->divergence.sum / it->divergence.n,
                         it->divergence.max);
        else
            srn_buf_addz(b, "<td>–</td><td>–</td>");
        srn_buf_addf(b, "<td>%u → %u</td></tr>\n", it->sides[0].answer.n_tokens,
                     it->sides[1].answer.n_tokens);
    }
    srn_buf_addz(b, "</table>\n");
    if (g->n > SHOWN_ITEMS)
        srn_buf_addf(b, "<p>And %zu more; <code>--json</code> has them all.</p>\n", g->n - SHOWN_ITEMS);
}

static void put_page(srn_buf *b, const srn_regress *g, const srn_regress_sum *sums, size_t n) {
    srn_buf_addz(
        b,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'\">"
        "<title>serin regress</title>\n<style>"
        "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#1d2327;"
        "background:#fff}table{border-collapse:collapse;display:block;overflow-x:auto}"
        "th,td{border-bottom:1px solid #ddd;padding:.25em .6em;text-align:left;vertical-align:top}"
        "figure{display:inline-block;margin:1em 1em 0 0}figcaption{font-weight:600}"
        ".axis{fill:none;stroke:#888}.tick{font-size:10px;fill:#444}.name{font-size:11px;fill:#444}"
        ".a{fill:#3b6ea8;fill-opacity:.75}.good{fill:#8fb98b}.won{fill:#2f8f4e}.lost{fill:#c0392b}.bad{fill:#"
        "bbb}"
        "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f7f7;padding:.6em}"
        ".pair{display:grid;grid-template-columns:1fr 1fr;gap:1em}code{overflow-wrap:anywhere}"
        "@media (prefers-color-scheme:dark){body{color:#ddd;background:#16191c}pre{background:#22272b}"
        "th,td{border-color:#444}.tick,.name{fill:#bbb}}"
        "</style></head><body>\n<h1>serin regress</h1>\n");
    put_sides(b, g);
    put_sums(b, n == 2 ? sums + 1 : sums, n == 2 ? 1 : n);
    if (sums[n - 1].kl_items) put_divergences(b, g);
    if (sums[n - 1].checked) put_flips(b, n == 2 ? sums + 1 : sums, n == 2 ? 1 : n);
    put_scatter(b, g, "Tokens of answers", tokens_of, "tokens");
    put_scatter(b, g, "Time of answers", ms_of, "ms");
    put_flipped(b, g, "Lost", true);
    put_flipped(b, g, "Won", false);
    put_items(b, g);
    srn_buf_addz(b, "</body></html>\n");
}

int srn__regress_write_html(const srn_regress *g, const char *file, const srn_regress_sum *sums, size_t n,
                            srn_err *err) {
    srn_buf b;
    srn_buf_init(&b, MAX_REPORT);
    put_page(&b, g, sums, n);
    int code = srn__html_write(&b, file, err);
    srn_buf_done(&b);
    return code;
}
