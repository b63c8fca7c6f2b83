/* serin bench --prompts: what came of it, as a table and as JSON (docs/bench.md). */
#include <inttypes.h>
#include <math.h>

#include "cli/bench_load.h"

/* ---- the traffic ---- */

srn__bench_traffic srn__bench_traffic_of(const srn__bench_load *b) {
    srn__bench_traffic t = {.n = b->asks.n};
    for (size_t i = 0; i < b->asks.n; i++) {
        const srn_load_ask *a = &b->asks.items[i];
        t.n_recorded += a->counted;
        t.n_input += a->n_input;
        t.n_cached += a->n_cached;
        t.n_output += a->n_output;
    }
    return t;
}

void srn__bench_load_name(const srn__bench_cell *c, char *ret, size_t cap) {
    if (c->concurrency)
        snprintf(ret, cap, "%" PRIu32, c->concurrency);
    else
        snprintf(ret, cap, "%g/s", c->rate);
}

bool srn__bench_has_slo(const srn__bench_load *b) {
    return b->slo.ttft_us || b->slo.itl_us || b->slo.gap_us || b->slo.e2e_us;
}

/* ---- the table ---- */

static void print_ms(double v) {
    if (isnan(v))
        printf(" %8s", "-");
    else
        printf(" %8.*f", v < 100 ? 1 : 0, v);
}

static void print_traffic(const srn__bench_load *b) {
    srn__bench_traffic t = srn__bench_traffic_of(b);
    printf("%zu prompts", t.n);
    if (b->asks.without) printf(" (%zu more calls have no content to ask again)", b->asks.without);
    if (t.n_recorded)
        printf("; %" PRIu64 " recorded: %.1f tokens of prompt for one of answer, %.0f %% of them cached",
               t.n_recorded, (double)t.n_input / (double)SRN_MAX(t.n_output, 1u),
               100 * (double)t.n_cached / (double)SRN_MAX(t.n_input, 1u));
    printf("\n%s; %s\n\n", b->cpu,
           b->keep_cache ? "prompts as they are: what a server has cached counts"
                         : "each prompt with a first line of its own, so that nothing is cached");
}

static void print_cell(const srn__bench_load *b, const srn__bench_cell *c, int width) {
    const srn_load_sum *s = &c->sum;
    char load[32];
    srn__bench_load_name(c, load, sizeof load);
    printf("%-*.*s %7s %5zu %4zu", width, width, c->target->name, load, s->n, s->n_failed);
    print_ms(s->ttft.p50);
    print_ms(s->ttft.p95);
    print_ms(s->tpot.p50);
    print_ms(s->itl.p95);
    print_ms(s->e2e.p50);
    print_ms(s->e2e.p95);
    printf(" %8.1f %7.2f", s->tok_per_s, s->req_per_s);
    if (srn__bench_has_slo(b)) printf(" %4.0f %%", 100 * s->good_share);
    putchar('\n');
}

srn__bench_counts srn__bench_counts_of(const srn__bench_load *b, const srn__bench_target *t) {
    srn__bench_counts n = {0};
    for (size_t i = 0; i < b->n_cells; i++) {
        const srn__bench_cell *c = &b->cells[i];
        if (c->target != t) continue;
        n.n_cells++;
        n.n_compared += c->n_compared;
        n.n_agreed += c->n_agreed;
        n.n_checked += c->n_checked;
        n.n_passed += c->n_passed;
        n.n_output += c->sum.n_output;
        n.joules += c->joules;
    }
    return n;
}

/* What is not a time: a line a target. */
static void print_target(const srn__bench_load *b, const srn__bench_target *t) {
    srn__bench_counts n = srn__bench_counts_of(b, t);
    printf("%s:", t->name);
    if (t->local) printf(" %s, %.0f MB of weights", t->quantisation, (double)t->weights_bytes / 1e6);
    if (t->memory_bytes) printf(", %.0f MB of memory at most", (double)t->memory_bytes / 1e6);
    if (t->local && n.n_cells) printf(", ready in %.1f s", t->start_seconds);
    if (!isnan(n.joules) && n.n_output) printf(", %.2f J a token", n.joules / (double)n.n_output);
    if (n.n_checked)
        printf("%s %zu of %zu checked answers pass", t->local ? ";" : "", n.n_passed, n.n_checked);
    if (n.n_compared) printf("; %zu of %zu answers are the reference's", n.n_agreed, n.n_compared);
    if (t->divergence.tokens)
        printf("; %.3g nats a token from the reference, the same likeliest token at %.1f %%",
               t->divergence.mean, 100 * t->divergence.likeliest);
    if (t->why.code) printf("; not measured: %s", t->why.text);
    putchar('\n');
}

void srn__bench_load_print(const srn__bench_load *b) {
    int width = 12;
    bool pieces = false;
    for (size_t i = 0; i < b->n_targets; i++)
        width = SRN_MAX(width, (int)SRN_MIN(strlen(b->targets[i].name), (size_t)40));
    print_traffic(b);
    printf("%-*s %7s %5s %4s %8s %8s %8s %8s %8s %8s %8s %7s%s\n", width, "",
           b->rate > 0 ? "rate" : "at once", "n", "bad", "TTFT p50", "p95", "tok p50", "gap p95", "E2E p50",
           "p95", "tok/s", "req/s", srn__bench_has_slo(b) ? "   good" : "");
    for (size_t i = 0; i < b->n_cells; i++) {
        print_cell(b, &b->cells[i], width);
        pieces = pieces || b->cells[i].sum.pieces_counted;
    }
    printf("\nmilliseconds; tok: a token after the first, of each answer's mean; gap: between two pieces\n");
    if (pieces) printf("a server did not say its tokens: there a piece that came counts as one\n");
    if (srn__bench_has_slo(b)) printf("good: the share of the requests that kept %s\n", b->slo_text);
    putchar('\n');
    for (size_t i = 0; i < b->n_targets; i++) print_target(b, &b->targets[i]);
    if (b->no_energy.code) printf("energy: not known: %s\n", b->no_energy.text);
    for (size_t i = 0; i < b->n_cells; i++)
        for (size_t k = 0; k < b->cells[i].run.n; k++)
            if (b->cells[i].run.answers[k].why.code) {
                printf("%s: a request failed: ", b->cells[i].target->name);
                srn_cli_put_text(stdout, srn_str_of(b->cells[i].run.answers[k].why.text), 300, false);
                putchar('\n');
                break;
            }
}

/* ---- JSON ---- */

static json_t *number(double v) {
    return isnan(v) ? json_null() : json_real(v);
}

static json_t *spread_json(const srn_load_spread *s) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:[o, o]}", "n", (json_int_t)s->n, "mean",
                     number(s->mean), "p50", number(s->p50), "p90", number(s->p90), "p95", number(s->p95),
                     "p99", number(s->p99), "max", number(s->max), "p50_interval", number(s->low),
                     number(s->high));
}

static json_t *text_or_null(const char *z) {
    return *z ? json_string(z) : json_null();
}

static json_t *count_or_null(uint64_t v) {
    return v ? json_integer((json_int_t)v) : json_null();
}

static json_t *divergence_json(const srn__bench_divergence *d) {
    if (!d->tokens && !d->why.code) return json_null();
    if (d->why.code) return json_pack("{s:s}", "unknown", d->why.text);
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "prompts", (json_int_t)d->items, "tokens",
                     (json_int_t)d->tokens, "mean_nats", d->mean, "max_nats", d->max, "same_likeliest",
                     d->likeliest);
}

static json_t *target_json(const srn__bench_target *t) {
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", t->name, "kind",
        t->local ? "local" : "url", "model", t->model, "url", t->local ? json_null() : json_string(t->base),
        "path", text_or_null(t->path), "quantisation", text_or_null(t->quantisation), "weights_bytes",
        count_or_null(t->weights_bytes), "memory_bytes", count_or_null(t->memory_bytes), "error",
        text_or_null(t->why.code ? t->why.text : ""), "divergence", divergence_json(&t->divergence));
}

static double ms_since(uint64_t due, uint64_t at) {
    return at ? (double)(at - due) / 1e3 : NAN;
}

static json_t *answer_json(const srn__bench_load *b, const srn_load_answer *a, const srn_load_slo *slo) {
    json_t *text = json_stringn_nocheck(a->text ? a->text : "", a->text ? a->n_text : 0);
    return json_pack(
        "{s:s, s:o, s:f, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:b, s:o}", "id", b->asks.items[a->ask].id,
        "text", text, "late_ms", (double)(a->begun_us - a->due_us) / 1e3, "ttft_ms",
        number(a->streamed ? ms_since(a->due_us, a->first_us) : NAN), "tpot_ms",
        number(srn_load_tpot_us(a) / 1e3), "e2e_ms", number(ms_since(a->due_us, a->ended_us)), "pieces",
        (json_int_t)a->n_pieces, "input_tokens", (json_int_t)a->n_input, "cached_tokens",
        (json_int_t)a->n_cached, "output_tokens", (json_int_t)a->n_output, "finish", a->finish, "good",
        srn_load_is_good(a, slo), "error", text_or_null(a->why.code ? a->why.text : ""));
}

static json_t *cell_json(const srn__bench_load *b, const srn__bench_cell *c) {
    const srn_load_sum *s = &c->sum;
    json_t *answers = json_array();
    for (size_t i = 0; i < c->run.n; i++)
        json_array_append_new(answers, answer_json(b, &c->run.answers[i], &b->slo));
    json_t *o = json_pack(
        "{s:s, s:o, s:o, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:o, s:o}, s:f, s:f, s:f}",
        "target", c->target->name, "concurrency", count_or_null(c->concurrency), "rate",
        c->concurrency ? json_null() : json_real(c->rate), "requests", (json_int_t)s->n, "failed",
        (json_int_t)s->n_failed, "seconds", s->seconds, "ttft_ms", spread_json(&s->ttft), "itl_ms",
        spread_json(&s->itl), "tpot_ms", spread_json(&s->tpot), "e2e_ms", spread_json(&s->e2e), "late_ms",
        spread_json(&s->late), "tokens", "input", (json_int_t)s->n_input, "cached", (json_int_t)s->n_cached,
        "output", (json_int_t)s->n_output, "input_each", spread_json(&s->input), "output_each",
        spread_json(&s->output), "tok_per_s", s->tok_per_s, "req_per_s", s->req_per_s, "in_flight",
        s->in_flight);
    json_object_set_new(o, "pieces_counted", json_boolean(s->pieces_counted));
    json_object_set_new(o, "goodput",
                        srn__bench_has_slo(b)
                            ? json_pack("{s:I, s:f, s:f}", "requests", (json_int_t)s->n_good, "share",
                                        s->good_share, "per_s", s->good_per_s)
                            : json_null());
    json_object_set_new(o, "joules", number(c->joules));
    json_object_set_new(o, "checks",
                        c->n_checked ? json_pack("{s:I, s:I}", "answers", (json_int_t)c->n_checked, "passed",
                                                 (json_int_t)c->n_passed)
                                     : json_null());
    json_object_set_new(
        o, "agreement",
        c->n_compared && c->target != b->cells[0].target
            ? json_pack("{s:I, s:I}", "answers", (json_int_t)c->n_compared, "same", (json_int_t)c->n_agreed)
            : json_null());
    json_object_set_new(o, "cut", json_boolean(c->run.cut));
    json_object_set_new(o, "answers", answers);
    return o;
}

json_t *srn__bench_load_json(const srn__bench_load *b) {
    srn__bench_traffic t = srn__bench_traffic_of(b);
    json_t *targets = json_array(), *results = json_array();
    for (size_t i = 0; i < b->n_targets; i++) json_array_append_new(targets, target_json(&b->targets[i]));
    for (size_t i = 0; i < b->n_cells; i++) json_array_append_new(results, cell_json(b, &b->cells[i]));
    json_t *recorded = t.n_recorded ? json_pack("{s:I, s:I, s:I, s:I}", "calls", (json_int_t)t.n_recorded,
                                                "input", (json_int_t)t.n_input, "cached",
                                                (json_int_t)t.n_cached, "output", (json_int_t)t.n_output)
                                    : json_null();
    return json_pack("{s:{s:s}, s:{s:I, s:I, s:o, s:b}, s:o, s:o, s:o, s:o, s:b}", "machine", "cpu", b->cpu,
                     "traffic", "prompts", (json_int_t)t.n, "without_content", (json_int_t)b->asks.without,
                     "recorded", recorded, "keep_cache", b->keep_cache, "slo",
                     b->slo_text ? json_string(b->slo_text) : json_null(), "energy_unknown",
                     text_or_null(b->no_energy.code ? b->no_energy.text : ""), "targets", targets, "results",
                     results, "cut", b->cut);
}
