/* serin bench --prompts: a report in one file, with plots as SVG and nothing that is loaded from elsewhere.
 * Every text of a model, a server or a file is escaped, and a policy in the page lets no script run. Main
 * thread.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "cli/bench_load.h"
#include "cli/html.h"

enum { MAX_REPORT = 1 << 30, SHOWN_TEXT = 4000, SHOWN_ASKS = 200, COLOURS = 8 };
enum { PLOT_W = 460, PLOT_H = 270, LEFT = 62, RIGHT = 26, TOP = 14, BOTTOM = 42, CURVE = 120 };

static void put_z(srn_buf *b, const char *z) {
    srn__html_text(b, srn_str_of(z), SHOWN_TEXT);
}

static size_t colour_of(const srn__bench_load *l, const srn__bench_cell *c) {
    return (size_t)(c->target - l->targets) % COLOURS;
}

/* ---- plots ---- */

typedef struct axis {
    double most;
    bool time; /* milliseconds */
} axis;

/* The least of 1, 2, 2.5, 5 times a power of ten that is not below v. */
static double round_up(double v) {
    static const double steps[] = {1, 2, 2.5, 5, 10};
    double unit = pow(10, floor(log10(v > 0 ? v : 1)));
    for (size_t i = 0; i < SRN_LEN(steps); i++)
        if (v <= steps[i] * unit * (1 + 1e-9)) return steps[i] * unit;
    return 10 * unit;
}

static void put_value(srn_buf *b, double v, bool time) {
    if (time && v >= 1000)
        srn_buf_addf(b, "%.3g s", v / 1000);
    else
        srn_buf_addf(b, "%.3g%s", v, time ? " ms" : "");
}

static double x_at(double share) {
    return LEFT + (PLOT_W - LEFT - RIGHT) * share;
}

static double y_at(double share) {
    return PLOT_H - BOTTOM - (PLOT_H - TOP - BOTTOM) * share;
}

static void open_plot(srn_buf *b, const char *title, const char *about, const char *x) {
    srn_buf_addf(
        b,
        "<figure><figcaption>%s<small>%s</small></figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" "
        "aria-label=\"%s\"><text class=\"name\" x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
        title, about, PLOT_W, PLOT_H, title, x_at(0.5), PLOT_H - 6, x);
}

static void put_y_axis(srn_buf *b, axis y) {
    for (int i = 0; i <= 4; i++) {
        double at = y_at(i / 4.0);
        srn_buf_addf(b, "<path class=\"%s\" d=\"M%d %.1fH%d\"/>", i ? "grid" : "axis", LEFT, at,
                     PLOT_W - RIGHT);
        srn_buf_addf(b, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, at + 3.5);
        put_value(b, y.most * i / 4, y.time);
        srn_buf_addz(b, "</text>");
    }
}

static void close_plot(srn_buf *b) {
    srn_buf_addz(b, "</svg></figure>\n");
}

/* ---- bars: a group a load, a bar a target ---- */

typedef struct bars {
    const char *title, *about;
    bool time;
    double (*value)(const srn_load_sum *s);
    double (*low)(const srn_load_sum *s); /* of an interval; NULL: none is shown */
    double (*high)(const srn_load_sum *s);
    double target; /* a line; 0: none */
    double most;   /* where the axis ends; 0: as the values want it */
} bars;

static size_t n_loads(const srn__bench_load *l) {
    return SRN_MAX(l->concurrency.n, (size_t)1);
}

static size_t load_of(const srn__bench_load *l, const srn__bench_cell *c) {
    for (size_t i = 0; i < l->concurrency.n; i++)
        if (l->concurrency.v[i] == c->concurrency) return i;
    return 0;
}

static void put_bar(srn_buf *b, const srn__bench_load *l, const srn__bench_cell *c, const bars *p, axis y) {
    double v = p->value(&c->sum), group = (PLOT_W - LEFT - RIGHT) / (double)n_loads(l);
    double w = SRN_MIN(44.0, group * 0.8 / (double)l->n_targets);
    double first = LEFT + group * ((double)load_of(l, c) + 0.5) - w * (double)l->n_targets / 2;
    double x = first + w * (double)(c->target - l->targets), top = y_at(SRN_MIN(v / y.most, 1));
    if (isnan(v)) return;
    srn_buf_addf(b,
                 "<rect class=\"c%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"><title>",
                 colour_of(l, c), x + 1.5, top, w - 3, SRN_MAX(y_at(0) - top, 0.5));
    put_z(b, c->target->name);
    srn_buf_addz(b, ": ");
    put_value(b, v, y.time);
    srn_buf_addz(b, "</title></rect>");
    double low = p->low ? p->low(&c->sum) : NAN, high = p->low ? p->high(&c->sum) : NAN;
    if (!isnan(low))
        srn_buf_addf(b, "<path class=\"whisker\" d=\"M%.1f %.1fV%.1f\"/>", x + w / 2, y_at(low / y.most),
                     y_at(SRN_MIN(high / y.most, 1)));
}

static void put_bars(srn_buf *b, const srn__bench_load *l, const bars *p) {
    axis y = {p->target, p->time};
    char name[32];
    for (size_t i = 0; i < l->n_cells; i++) {
        double v = p->value(&l->cells[i].sum), high = p->high ? p->high(&l->cells[i].sum) : NAN;
        if (!isnan(v)) y.most = SRN_MAX(y.most, v);
        if (!isnan(high)) y.most = SRN_MAX(y.most, high);
    }
    y.most = p->most > 0 ? p->most : round_up(y.most);
    open_plot(b, p->title, p->about,
              l->concurrency.n ? "requests at once" : "requests a second, whatever becomes of them");
    put_y_axis(b, y);
    for (size_t i = 0; i < l->n_cells; i++) {
        put_bar(b, l, &l->cells[i], p, y);
        if (l->cells[i].target != l->cells[0].target) continue;
        srn__bench_load_name(&l->cells[i], name, sizeof name);
        srn_buf_addf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                     LEFT + (PLOT_W - LEFT - RIGHT) * ((double)load_of(l, &l->cells[i]) + 0.5) /
                                (double)n_loads(l),
                     PLOT_H - BOTTOM + 15, name);
    }
    if (p->target > 0)
        srn_buf_addf(b, "<path class=\"target\" d=\"M%d %.1fH%d\"/>", LEFT, y_at(p->target / y.most),
                     PLOT_W - RIGHT);
    close_plot(b);
}

static double tok_per_s(const srn_load_sum *s) {
    return s->tok_per_s;
}
static double ttft_p95(const srn_load_sum *s) {
    return s->ttft.p95;
}
static double e2e_p95(const srn_load_sum *s) {
    return s->e2e.p95;
}
static double tpot_p50(const srn_load_sum *s) {
    return s->tpot.p50;
}
static double tpot_low(const srn_load_sum *s) {
    return s->tpot.low;
}
static double tpot_high(const srn_load_sum *s) {
    return s->tpot.high;
}
static double good_percent(const srn_load_sum *s) {
    return 100 * s->good_share;
}

/* ---- curves: the share of the answers whose first token came within a time ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* First tokens of a cell, ascending; how many. */
static size_t first_tokens(const srn__bench_cell *c, double *ms) {
    size_t n = 0;
    for (size_t i = 0; i < c->run.n; i++) {
        const srn_load_answer *a = &c->run.answers[i];
        if (!a->why.code && a->streamed && a->first_us) ms[n++] = (double)(a->first_us - a->due_us) / 1e3;
    }
    qsort(ms, n, sizeof *ms, ascending);
    return n;
}

static void put_curve(srn_buf *b, const srn__bench_load *l, const srn__bench_cell *c, double most) {
    double *ms = srn_calloc(c->run.n + 1, sizeof *ms);
    size_t n = ms ? first_tokens(c, ms) : 0;
    if (n) {
        srn_buf_addf(b, "<path class=\"line l%zu\" d=\"M%.1f %.1f", colour_of(l, c), x_at(0), y_at(0));
        for (size_t k = 0, points = SRN_MIN(n, (size_t)CURVE); k < points; k++) {
            size_t i = (k + 1) * n / points - 1;
            double x = x_at(ms[i] / most);
            srn_buf_addf(b, "H%.1fV%.1f", x, y_at((double)(i + 1) / (double)n));
        }
        srn_buf_addf(b, "H%.1f\"/>", x_at(1));
    }
    free(ms);
}

static void put_curves(srn_buf *b, const srn__bench_load *l, size_t load) {
    double most = l->slo.ttft_us ? (double)l->slo.ttft_us / 1e3 : 0;
    char title[64], name[32] = "";
    for (size_t i = 0; i < l->n_cells; i++)
        if (load_of(l, &l->cells[i]) == load) {
            if (l->cells[i].sum.ttft.n) most = SRN_MAX(most, l->cells[i].sum.ttft.max);
            srn__bench_load_name(&l->cells[i], name, sizeof name);
        }
    most = round_up(most);
    snprintf(title, sizeof title, l->concurrency.n ? "First tokens, %s at once" : "First tokens, %s", name);
    open_plot(b, title, "share of the answers that had begun within a time", "time to the first token");
    put_y_axis(b, (axis){100, false});
    for (int i = 0; i <= 4; i++) {
        srn_buf_addf(b, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x_at(i / 4.0),
                     PLOT_H - BOTTOM + 15);
        put_value(b, most * i / 4, true);
        srn_buf_addz(b, "</text>");
    }
    for (size_t i = 0; i < l->n_cells; i++)
        if (load_of(l, &l->cells[i]) == load) put_curve(b, l, &l->cells[i], most);
    if (l->slo.ttft_us)
        srn_buf_addf(b, "<path class=\"target\" d=\"M%.1f %.1fV%.1f\"/>",
                     x_at((double)l->slo.ttft_us / 1e3 / most), y_at(0), y_at(1));
    close_plot(b);
}

/* ---- what it comes to ---- */

/* The load's best cell by a value; NULL: none has one. */
static const srn__bench_cell *best_of(const srn__bench_load *l, double (*value)(const srn_load_sum *s),
                                      bool least) {
    const srn__bench_cell *best = NULL;
    for (size_t i = 0; i < l->n_cells; i++) {
        double v = value(&l->cells[i].sum), was = best ? value(&best->sum) : NAN;
        if (!isnan(v) && l->cells[i].sum.n > l->cells[i].sum.n_failed &&
            (isnan(was) || (least ? v < was : v > was)))
            best = &l->cells[i];
    }
    return best;
}

static void put_card(srn_buf *b, const char *title, const srn__bench_cell *c, double v, bool time,
                     const char *unit) {
    char load[32];
    if (!c) return;
    srn__bench_load_name(c, load, sizeof load);
    srn_buf_addf(b, "<div class=\"card\"><span>%s</span><b>", title);
    put_value(b, v, time);
    srn_buf_addf(b, "%s</b><span>", unit);
    put_z(b, c->target->name);
    srn_buf_addf(b, ", %s%s</span></div>", load, c->concurrency ? " at once" : "");
}

static void put_cards(srn_buf *b, const srn__bench_load *l) {
    const srn__bench_cell *fast = best_of(l, tok_per_s, false), *soon = best_of(l, ttft_p95, true),
                          *good = best_of(l, good_percent, false);
    srn_buf_addz(b, "<div class=\"cards\">");
    put_card(b, "most tokens per second", fast, fast ? fast->sum.tok_per_s : 0, false, " tok/s");
    put_card(b, "soonest first token (p95)", soon, soon ? soon->sum.ttft.p95 : 0, true, "");
    if (srn__bench_has_slo(l))
        put_card(b, "most answers within the target", good, good ? 100 * good->sum.good_share : 0, false,
                 " %");
    srn_buf_addz(b, "</div>\n");
}

/* ---- tables ---- */

static void put_ms(srn_buf *b, double v) {
    if (isnan(v))
        srn_buf_addz(b, "<td>–</td>");
    else
        srn_buf_addf(b, "<td>%.*f</td>", v < 100 ? 1 : 0, v);
}

static void put_median(srn_buf *b, const srn_load_spread *s) {
    if (isnan(s->p50)) {
        srn_buf_addz(b, "<td>–</td>");
        return;
    }
    int digits = s->p50 < 100 ? 1 : 0;
    srn_buf_addf(b, "<td>%.*f", digits, s->p50);
    if (!isnan(s->low)) srn_buf_addf(b, " <small>%.*f–%.*f</small>", digits, s->low, digits, s->high);
    srn_buf_addz(b, "</td>");
}

static void put_dot(srn_buf *b, const srn__bench_load *l, const srn__bench_target *t) {
    srn_buf_addf(b, "<i class=\"c%zu\"></i>", (size_t)(t - l->targets) % COLOURS);
    put_z(b, t->name);
}

static void put_results(srn_buf *b, const srn__bench_load *l) {
    bool slo = srn__bench_has_slo(l);
    srn_buf_addf(
        b,
        "<h2>Figures</h2>\n<table class=\"n\"><tr><th rowspan=\"2\">target</th><th rowspan=\"2\">%s</th><th "
        "rowspan=\"2\">requests</th><th rowspan=\"2\">failed</th><th colspan=\"3\">first token, ms</th><th "
        "colspan=\"2\">a token, ms</th><th>gap, ms</th><th colspan=\"3\">whole answer, ms</th><th "
        "rowspan=\"2\">tok/s</th><th rowspan=\"2\">req/s</th>%s</tr>\n<tr><th>p50</th><th>p95</th>"
        "<th>p99</th><th>p50</th><th>p95</th><th>p95</th><th>p50</th><th>p95</th><th>p99</th></tr>\n",
        l->concurrency.n ? "at once" : "rate",
        slo ? "<th rowspan=\"2\">good</th><th rowspan=\"2\">good/s</th>" : "");
    for (size_t i = 0; i < l->n_cells; i++) {
        const srn__bench_cell *c = &l->cells[i];
        const srn_load_sum *s = &c->sum;
        char load[32];
        srn__bench_load_name(c, load, sizeof load);
        srn_buf_addz(b, "<tr><th>");
        put_dot(b, l, c->target);
        srn_buf_addf(b, "</th><td>%s</td><td>%zu</td><td%s>%zu</td>", load, s->n,
                     s->n_failed ? " class=\"bad\"" : "", s->n_failed);
        put_median(b, &s->ttft);
        put_ms(b, s->ttft.p95);
        put_ms(b, s->ttft.p99);
        put_median(b, &s->tpot);
        put_ms(b, s->tpot.p95);
        put_ms(b, s->itl.p95);
        put_median(b, &s->e2e);
        put_ms(b, s->e2e.p95);
        put_ms(b, s->e2e.p99);
        srn_buf_addf(b, "<td>%.1f</td><td>%.2f</td>", s->tok_per_s, s->req_per_s);
        if (slo) srn_buf_addf(b, "<td>%.0f %%</td><td>%.2f</td>", 100 * s->good_share, s->good_per_s);
        srn_buf_addz(b, "</tr>\n");
    }
    srn_buf_addz(b, "</table>\n<p class=\"note\">Small figures beside a median: between them it lies with a "
                    "probability of at least 95 %.</p>\n");
}

static void put_share(srn_buf *b, size_t of, size_t n) {
    if (n)
        srn_buf_addf(b, "<td>%zu of %zu</td>", of, n);
    else
        srn_buf_addz(b, "<td>–</td>");
}

static void put_targets(srn_buf *b, const srn__bench_load *l) {
    srn_buf_addz(
        b, "<h2>Who answered</h2>\n<table class=\"n\"><tr><th>target</th><th>quantisation</th>"
           "<th>weights, MB</th><th>memory at most, MB</th><th>ready in, s</th><th>J a token</th>"
           "<th>checks passed</th><th>the reference's answers</th><th>nats a token from it</th><th>same "
           "likeliest token</th></tr>\n");
    for (size_t i = 0; i < l->n_targets; i++) {
        const srn__bench_target *t = &l->targets[i];
        srn__bench_counts n = srn__bench_counts_of(l, t);
        srn_buf_addz(b, "<tr><th>");
        put_dot(b, l, t);
        srn_buf_addz(b, "</th><td>");
        put_z(b, t->local ? t->quantisation : "–");
        srn_buf_addz(b, "</td>");
        const double mb[] = {(double)t->weights_bytes / 1e6, (double)t->memory_bytes / 1e6};
        for (size_t k = 0; k < SRN_LEN(mb); k++) put_ms(b, mb[k] > 0 ? mb[k] : NAN);
        put_ms(b, t->local ? t->start_seconds : NAN);
        put_ms(b, n.n_output ? n.joules / (double)n.n_output : NAN);
        put_share(b, n.n_passed, n.n_checked);
        if (i)
            put_share(b, n.n_agreed, n.n_compared);
        else
            srn_buf_addz(b, "<td>is the reference</td>");
        if (t->divergence.tokens)
            srn_buf_addf(b, "<td>%.3g</td><td>%.1f %%</td>", t->divergence.mean,
                         100 * t->divergence.likeliest);
        else
            srn_buf_addz(b, "<td>–</td><td>–</td>");
        srn_buf_addz(b, "</tr>\n");
        if (!t->why.code) continue;
        srn_buf_addz(b, "<tr><td class=\"bad\" colspan=\"10\">not measured: ");
        put_z(b, t->why.text);
        srn_buf_addz(b, "</td></tr>\n");
    }
    srn_buf_addz(b, "</table>\n");
    if (!l->no_energy.code) return;
    srn_buf_addz(b, "<p class=\"note\">Energy is not known: ");
    put_z(b, l->no_energy.text);
    srn_buf_addz(b, ".</p>\n");
}

/* ---- answers side by side ---- */

static const srn_load_answer *answer_to(const srn__bench_cell *c, uint32_t ask) {
    for (size_t i = 0; i < c->run.n; i++)
        if (c->run.answers[i].ask == ask) return &c->run.answers[i];
    return NULL;
}

/* The last text of a request: what the user said. */
static const char *question(const srn_load_ask *a) {
    const json_t *messages = json_object_get(a->body, "messages");
    const json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const char *z = json_string_value(json_object_get(last, "content"));
    if (!z) z = json_string_value(json_object_get(a->body, "prompt"));
    return z ? z : "";
}

static void put_answers(srn_buf *b, const srn__bench_load *l) {
    srn_buf_addz(b, "<h2>Answers side by side</h2>\n<p class=\"note\">The first ones, under each target's "
                    "first load.</p>\n");
    for (uint32_t i = 0; i < l->asks.n && i < SHOWN_ASKS; i++) {
        srn_buf_addz(b, "<details><summary>");
        put_z(b, l->asks.items[i].id);
        srn_buf_addz(b, ": ");
        srn__html_text(b, srn_str_of(question(&l->asks.items[i])), 160);
        srn_buf_addz(b, "</summary><div class=\"pair\">");
        for (size_t k = 0; k < l->n_cells; k++) {
            const srn__bench_cell *c = &l->cells[k];
            const srn_load_answer *a = load_of(l, c) == 0 ? answer_to(c, i) : NULL;
            if (!a) continue;
            srn_buf_addz(b, "<div><b>");
            put_dot(b, l, c->target);
            srn_buf_addf(b, "</b> <small>%u tokens</small><pre%s>", a->n_output,
                         a->why.code ? " class=\"bad\"" : "");
            if (a->why.code)
                put_z(b, a->why.text);
            else
                srn__html_text(b, (srn_str){a->text, a->n_text}, SHOWN_TEXT);
            srn_buf_addz(b, "</pre></div>");
        }
        srn_buf_addz(b, "</div></details>\n");
    }
    if (l->asks.n > SHOWN_ASKS)
        srn_buf_addf(b, "<p class=\"note\">And %zu more; <code>--json</code> has them all.</p>\n",
                     l->asks.n - SHOWN_ASKS);
}

/* ---- the page ---- */

static const char STYLE[] =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1.2em;color:#1d2327;"
    "background:#fff}h1{margin-bottom:0}h2{margin:1.6em 0 "
    ".4em}.lead,.note,small{color:#667}.note{margin:.3em "
    "0}small{font-size:.82em;font-weight:400}table{border-collapse:collapse;display:block;overflow-x:auto;"
    "font-size:.93em}th,td{border-bottom:1px solid #e2e4e7;padding:.32em .7em;text-align:left;vertical-align:"
    "top}.n td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}tr th:first-child{"
    "white-space:nowrap}figure{display:inline-block;width:min(29em,100%);margin:1em 1.4em 0 0;vertical-align:"
    "top}figcaption{font-weight:600}figcaption "
    "small{display:block}svg{width:100%;height:auto}.axis{fill:none;"
    "stroke:#888}.grid{fill:none;stroke:#e2e4e7}.target{fill:none;stroke:#c0392b;stroke-dasharray:5 4;"
    "stroke-width:1.5}.whisker{stroke:#1d2327;stroke-width:1.3}.tick,.name{font-size:11px;fill:#667}.line{"
    "fill:"
    "none;stroke-width:2}.cards{display:flex;flex-wrap:wrap;gap:1em;margin:1.2em 0}.card{border:1px solid "
    "#e2e4e7;border-radius:8px;padding:.7em 1.1em;display:flex;flex-direction:column;min-width:13em}.card b{"
    "font-size:1.7em;line-height:1.3}.card span{color:#667;font-size:.9em}.key span{margin-right:1.4em;"
    "white-space:nowrap}i{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.45em}"
    ".c0{fill:#2b6cb0;background:#2b6cb0}.c1{fill:#d97706;background:#d97706}.c2{fill:#2f8f4e;background:"
    "#2f8f4e}.c3{fill:#8b5fbf;background:#8b5fbf}.c4{fill:#b83280;background:#b83280}.c5{fill:#0f8b8d;"
    "background:#0f8b8d}.c6{fill:#7a6a4f;background:#7a6a4f}.c7{fill:#5a6472;background:#5a6472}.l0{stroke:"
    "#2b6cb0}.l1{stroke:#d97706}.l2{stroke:#2f8f4e}.l3{stroke:#8b5fbf}.l4{stroke:#b83280}.l5{stroke:#0f8b8d}"
    ".l6{stroke:#7a6a4f}.l7{stroke:#5a6472}.bad{color:#c0392b}details{border-bottom:1px solid "
    "#e2e4e7;padding:"
    ".35em "
    "0}summary{cursor:pointer}.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(20em,1fr));"
    "gap:1em}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f7f7;padding:.6em;margin:.3em 0}"
    ".cut{border-left:4px solid #c0392b;padding:.4em .8em;background:#fdf1ef}"
    "@media "
    "(prefers-color-scheme:dark){body{color:#ddd;background:#16191c}pre{background:#22272b}th,td,.card,"
    "details{border-color:#3a4046}.grid{stroke:#2c3238}.whisker{stroke:#ddd}.tick,.name{fill:#9aa}.lead,."
    "note,"
    "small,.card span{color:#9aa}.cut{background:#3a211e}}";

static void put_head(srn_buf *b, const srn__bench_load *l) {
    srn__bench_traffic t = srn__bench_traffic_of(l);
    char date[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &tm);
    srn_buf_addf(b,
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\""
                 "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta "
                 "name=\"viewport\" content=\"width=device-width\"><title>serin bench</title>\n<style>%s"
                 "</style></head><body>\n<h1>Our prompts, measured</h1>\n<p class=\"lead\">%s, on ",
                 STYLE, date);
    put_z(b, l->cpu);
    srn_buf_addf(b, ". %zu prompts", t.n);
    if (t.n_recorded)
        srn_buf_addf(b,
                     ", %" PRIu64 " of them recorded calls: %.1f tokens of prompt for one of answer, %.0f %% "
                     "of them from a cache",
                     t.n_recorded, (double)t.n_input / (double)SRN_MAX(t.n_output, UINT64_C(1)),
                     100 * (double)t.n_cached / (double)SRN_MAX(t.n_input, UINT64_C(1)));
    srn_buf_addf(b, ". %s",
                 l->keep_cache
                     ? "What a server has cached counts."
                     : "Each request begins with a line of its own, so nothing comes from a cache.");
    if (srn__bench_has_slo(l)) {
        srn_buf_addz(b, " Target: ");
        put_z(b, l->slo_text);
        srn_buf_addz(b, " (the dashed line).");
    }
    srn_buf_addz(b, "</p>\n");
    if (l->cut)
        srn_buf_addz(b, "<p class=\"cut\">The measuring was stopped: this is what was measured until "
                        "then.</p>\n");
}

static void put_page(srn_buf *b, const srn__bench_load *l) {
    const bars all[] = {{"Tokens per second", "of all answers together", false, tok_per_s, NULL, NULL, 0, 0},
                        {"First token, p95", "19 of 20 answers have begun by then", true, ttft_p95, NULL,
                         NULL, (double)l->slo.ttft_us / 1e3, 0},
                        {"A token", "median of the answers, with its 95 % interval", true, tpot_p50, tpot_low,
                         tpot_high, (double)l->slo.itl_us / 1e3, 0},
                        {"Whole answer, p95", "19 of 20 answers are there by then", true, e2e_p95, NULL, NULL,
                         (double)l->slo.e2e_us / 1e3, 0}};
    put_head(b, l);
    put_cards(b, l);
    srn_buf_addz(b, "<p class=\"key\">");
    for (size_t i = 0; i < l->n_targets; i++) {
        srn_buf_addz(b, "<span>");
        put_dot(b, l, &l->targets[i]);
        srn_buf_addz(b, "</span>");
    }
    srn_buf_addz(b, "</p>\n");
    for (size_t i = 0; i < SRN_LEN(all); i++) put_bars(b, l, &all[i]);
    if (srn__bench_has_slo(l))
        put_bars(
            b, l,
            &(bars){"Within the target", "percent of the requests", false, good_percent, NULL, NULL, 0, 100});
    for (size_t i = 0; i < n_loads(l); i++) put_curves(b, l, i);
    put_results(b, l);
    put_targets(b, l);
    put_answers(b, l);
    srn_buf_addz(b, "</body></html>\n");
}

int srn__bench_load_html(const srn__bench_load *l, srn_err *err) {
    srn_buf b;
    srn_buf_init(&b, MAX_REPORT);
    put_page(&b, l);
    int code = srn__html_write(&b, l->report, err);
    srn_buf_done(&b);
    return code;
}
