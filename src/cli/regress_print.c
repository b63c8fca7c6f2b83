/* serin regress: the result as a table for people and as JSON. Main thread. */
#include "cli/regress.h"

enum { SHOWN_LOST = 20, SHOWN_BYTES = 120 };

/* ---- text ---- */

static void print_side(const srn__regress *g, int k) {
    printf("%c  ", k ? 'B' : 'A');
    srn_cli_put_text(stdout, srn_str_of(k ? g->to : g->from), 200, false);
    if (g->from_prompt) printf("  %s@%u", g->refs[k].name, g->refs[k].version);
    printf("  weights %.12s, %s\n", g->ids[k].weights, g->ids[k].quantisation);
}

static void print_sum(const srn__regress_sum *s) {
    double n = s->compared ? (double)s->compared : 1;
    printf("\n%s: %llu items", s->name, (unsigned long long)s->items);
    if (s->errors[0] || s->errors[1])
        printf(", not answered by A %llu, by B %llu", (unsigned long long)s->errors[0],
               (unsigned long long)s->errors[1]);
    printf("\n");
    if (s->checked)
        printf("  checks       %llu items: passed %llu -> %llu, lost %llu, won %llu (McNemar p = %.4g)\n",
               (unsigned long long)s->checked, (unsigned long long)s->passed[0],
               (unsigned long long)s->passed[1], (unsigned long long)s->lost, (unsigned long long)s->won,
               s->p);
    printf("  same answer  %llu of %llu\n", (unsigned long long)s->same, (unsigned long long)s->compared);
    if (s->kl_tokens)
        printf(
            "  divergence   mean %.3g, max %.3g nats a token, the same likeliest token at %.2f %% of %llu\n",
            s->kl_sum / (double)s->kl_tokens, s->kl_max, 100 * (double)s->top1 / (double)s->kl_tokens,
            (unsigned long long)s->kl_tokens);
    printf("  tokens       %.1f -> %.1f in the mean\n", (double)s->tokens[0] / n, (double)s->tokens[1] / n);
    printf("  time         first token %.0f -> %.0f ms, whole answer %.0f -> %.0f ms (medians)\n",
           (double)s->ttft_us[0] / 1000, (double)s->ttft_us[1] / 1000, (double)s->total_us[0] / 1000,
           (double)s->total_us[1] / 1000);
}

static void print_answer(char side, const srn__regress_side *s) {
    printf("    %c  ", side);
    if (s->ran)
        srn_cli_put_text(stdout, (srn_str){s->answer.text, s->answer.n_text}, SHOWN_BYTES, true);
    else
        srn_cli_put_text(stdout, srn_str_of(s->why.text), 300, false);
    printf("\n");
}

static void print_lost(const srn__regress_item *it) {
    size_t i;
    json_t *name;
    printf("  ");
    srn_cli_put_text(stdout, srn_str_of(it->id), 200, false);
    json_array_foreach(it->sides[1].failed, i, name) {
        printf("%s", i ? ", " : ": ");
        srn_cli_put_text(stdout, srn_str_of(json_string_value(name)), 100, false);
    }
    printf("\n");
    print_answer('A', &it->sides[0]);
    print_answer('B', &it->sides[1]);
}

void srn__regress_print(const srn__regress *g, const srn__regress_sum *sums, size_t n) {
    for (int k = 0; k < 2; k++) print_side(g, k);
    if (strcmp(g->ids[0].weights, g->ids[1].weights) == 0)
        printf("   the weights are the same bytes\n");
    else if (g->ids[0].quantisation[0] && !strcmp(g->ids[0].quantisation, g->ids[1].quantisation))
        printf("   the weights are different bytes of the same quantisation\n");
    if (g->no_kl) {
        printf("   no divergence: ");
        srn_cli_put_text(stdout, srn_str_of(g->no_kl), 400, false);
        printf("\n");
    }
    /* One group is its own total. */
    for (size_t i = n == 2 ? 1 : 0; i < n; i++) print_sum(&sums[i]);
    uint64_t lost = 0, failed = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (!srn__regress_lost(&g->items[i])) continue;
        if (!lost) printf("\nlost:\n");
        if (lost++ < SHOWN_LOST) print_lost(&g->items[i]);
    }
    if (lost > SHOWN_LOST)
        printf("  and %llu more; --json and --html have them\n", (unsigned long long)(lost - SHOWN_LOST));
    for (size_t i = 0; i < g->n; i++) {
        const srn__regress_item *it = &g->items[i];
        const srn__regress_side *s = it->sides[0].ran ? &it->sides[1] : &it->sides[0];
        if (s->ran || srn__regress_lost(it)) continue;
        if (!failed) printf("\nnot answered:\n");
        if (failed++ >= SHOWN_LOST) continue;
        printf("  ");
        srn_cli_put_text(stdout, srn_str_of(it->id), 200, false);
        printf(": %c: ", s == it->sides ? 'A' : 'B');
        srn_cli_put_text(stdout, srn_str_of(s->why.text), 300, false);
        printf("\n");
    }
}

/* ---- JSON ---- */

/* A text of a model may be cut within a character. */
static json_t *text_json(srn_str s) {
    srn_buf b;
    srn_buf_init(&b, 3 * s.len + 16);
    for (size_t at = 0; at < s.len;) {
        size_t n = srn_utf8_len(s.ptr + at, s.len - at);
        if (n)
            srn_buf_add(&b, s.ptr + at, n);
        else
            srn_buf_addz(&b, "\xEF\xBF\xBD");
        at += n ? n : 1;
    }
    json_t *j = json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return j;
}

static json_t *both(uint64_t a, uint64_t b) {
    return json_pack("[I, I]", (json_int_t)a, (json_int_t)b);
}

static json_t *side_json(const srn__regress *g, int k) {
    json_t *o = json_pack("{s:o, s:s, s:s, s:s, s:s}", "model", text_json(srn_str_of(k ? g->to : g->from)),
                          "weights", g->ids[k].weights, "quantisation", g->ids[k].quantisation, "tokenizer",
                          g->ids[k].tokenizer, "engine", g->ids[k].engine);
    char name[SRN_PROMPT_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s@%u", g->refs[k].name, g->refs[k].version);
    json_object_set_new(o, "prompt", g->from_prompt ? json_string(name) : json_null());
    return o;
}

static json_t *sum_json(const srn__regress_sum *s) {
    json_t *o = json_pack(
        "{s:s, s:I, s:I, s:o, s:I, s:o, s:I, s:I, s:f, s:I, s:o, s:o, s:o}", "name", s->name, "items",
        (json_int_t)s->items, "compared", (json_int_t)s->compared, "not_answered",
        both(s->errors[0], s->errors[1]), "checked", (json_int_t)s->checked, "passed",
        both(s->passed[0], s->passed[1]), "lost", (json_int_t)s->lost, "won", (json_int_t)s->won, "mcnemar_p",
        s->p, "same_answers", (json_int_t)s->same, "output_tokens", both(s->tokens[0], s->tokens[1]),
        "ttft_us", both(s->ttft_us[0], s->ttft_us[1]), "total_us", both(s->total_us[0], s->total_us[1]));
    json_object_set_new(o, "divergence",
                        s->kl_tokens ? json_pack("{s:I, s:f, s:f, s:f}", "tokens", (json_int_t)s->kl_tokens,
                                                 "mean", s->kl_sum / (double)s->kl_tokens, "max", s->kl_max,
                                                 "top1", (double)s->top1 / (double)s->kl_tokens)
                                     : json_null());
    return o;
}

static json_t *answer_json(const srn__regress_side *s) {
    json_t *o = json_object();
    if (s->ran) {
        json_object_set_new(o, "text", text_json((srn_str){s->answer.text, s->answer.n_text}));
        json_object_set_new(o, "finish", json_string(s->answer.finish));
        json_object_set_new(o, "input_tokens", json_integer(s->answer.n_prompt));
        json_object_set_new(o, "output_tokens", json_integer(s->answer.n_tokens));
        json_object_set_new(o, "ttft_us", json_integer((json_int_t)s->answer.ttft_us));
        json_object_set_new(o, "total_us", json_integer((json_int_t)s->answer.total_us));
    }
    json_object_set_new(o, "error", s->ran ? json_null() : text_json(srn_str_of(s->why.text)));
    json_object_set(o, "checks", s->checks ? s->checks : json_null());
    return o;
}

const char *srn__regress_verdict(const srn__regress_item *it) {
    if (!it->n_checks) return "no checks";
    if (srn__regress_lost(it)) return "lost";
    if (srn__regress_won(it)) return "won";
    return it->sides[0].passed ? "passed" : "failed";
}

static json_t *item_json(const srn__regress_item *it) {
    const srn_divergence *d = &it->divergence;
    json_t *o = json_pack("{s:o, s:s, s:s, s:b, s:o, s:o}", "id", text_json(srn_str_of(it->id)), "prompt",
                          it->group, "verdict", srn__regress_verdict(it), "same", srn__regress_same(it),
                          "from", answer_json(&it->sides[0]), "to", answer_json(&it->sides[1]));
    json_object_set_new(o, "divergence",
                        it->has_divergence
                            ? json_pack("{s:I, s:f, s:f, s:I, s:f}", "tokens", (json_int_t)d->n, "mean",
                                        d->sum / d->n, "max", d->max, "max_at", (json_int_t)d->max_at, "top1",
                                        (double)d->n_same_top / d->n)
                            : json_null());
    return o;
}

json_t *srn__regress_json(const srn__regress *g, const srn__regress_sum *sums, size_t n) {
    json_t *o = json_object(), *groups = json_array(), *items = json_array();
    for (size_t i = 0; i + 1 < n; i++) json_array_append_new(groups, sum_json(&sums[i]));
    for (size_t i = 0; i < g->n; i++) json_array_append_new(items, item_json(&g->items[i]));
    json_object_set_new(o, "from", side_json(g, 0));
    json_object_set_new(o, "to", side_json(g, 1));
    json_object_set_new(o, "same_weights", json_boolean(strcmp(g->ids[0].weights, g->ids[1].weights) == 0));
    json_object_set_new(o, "no_divergence", g->no_kl ? json_string(g->no_kl) : json_null());
    json_object_set_new(o, "total", sum_json(&sums[n - 1]));
    json_object_set_new(o, "prompts", groups);
    json_object_set_new(o, "items", items);
    return o;
}
