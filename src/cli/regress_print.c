/* serin regress: the result as a table for people and as JSON. Main thread. */
#include "cli/regress.h"

enum { SHOWN_TENSORS = 5, SHOWN_LOST = 20, SHOWN_BYTES = 120 };

/* ---- text ---- */

static void print_side(const srn_regress *g, int k) {
    printf("%c  ", k ? 'B' : 'A');
    srn_cli_put_text(stdout, srn_str_of(g->sides[k].model), 200, false);
    if (g->sides[0].prompt) printf("  %s@%u", g->sides[k].ref.name, g->sides[k].ref.version);
    printf("  weights %.12s, %s\n", g->sides[k].ids.weights, g->sides[k].ids.quantisation);
    if (!g->sides[k].program_id[0]) return;
    printf("   by ");
    srn_cli_put_text(stdout, srn_str_of(g->sides[k].program ? g->sides[k].program : "this program"), 200,
                     false);
    printf(" %.12s, %s\n", g->sides[k].program_id, g->sides[k].ids.engine);
}

static void print_weights(const srn_regress *g) {
    const srn_ids *a = &g->sides[0].ids, *b = &g->sides[1].ids;
    if (strcmp(a->weights, b->weights) == 0) {
        printf("   the weights are the same bytes\n");
        return;
    }
    if (a->quantisation[0] && !strcmp(a->quantisation, b->quantisation))
        printf("   the weights are different bytes of the same quantisation\n");
    const json_t *d = g->weights_differ, *bytes = json_object_get(d, "other_bytes");
    if (!d) return;
    int n = (int)json_integer_value(json_object_get(d, "differ"));
    printf("   the weights differ in %d of %d tensors", n, (int)json_integer_value(json_object_get(d, "of")));
    if (!n) printf("; what differs is the rest of the file");
    for (size_t i = 0; n && i < json_array_size(bytes) && i < SHOWN_TENSORS; i++) {
        printf("%s", i ? ", " : ": ");
        srn_cli_put_text(stdout, srn_str_of(json_string_value(json_array_get(bytes, i))), 100, false);
    }
    printf("%s\n", n > SHOWN_TENSORS && json_array_size(bytes) > SHOWN_TENSORS ? ", ..." : "");
}

static void print_differs(const srn_regress *g) {
    const char *name;
    for (size_t i = 0; (name = srn_regress_differs(g, i)); i++)
        printf("%s%s", i ? ", " : "   A and B differ in: ", name);
    printf("%s\n", srn_regress_differs(g, 0) ? "" : "   A and B are the same in everything");
}

static void print_sum(const srn_regress_sum *s) {
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
    printf("  same answer  %llu of %llu, %llu with every bit of the logits\n", (unsigned long long)s->same,
           (unsigned long long)s->compared, (unsigned long long)s->same_bits);
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

static void print_answer(char side, const srn_regress_result *s) {
    printf("    %c  ", side);
    if (s->ran)
        srn_cli_put_text(stdout, (srn_str){s->answer.text, s->answer.n_text}, SHOWN_BYTES, true);
    else
        srn_cli_put_text(stdout, srn_str_of(s->why.text), 300, false);
    printf("\n");
}

static void print_lost(const srn_regress_item *it) {
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

void srn__regress_print(const srn_regress *g, const srn_regress_sum *sums, size_t n) {
    for (int k = 0; k < 2; k++) print_side(g, k);
    print_weights(g);
    print_differs(g);
    if (g->no_divergence_why) {
        printf("   no divergence: ");
        srn_cli_put_text(stdout, srn_str_of(g->no_divergence_why), 400, false);
        printf("\n");
    }
    /* One group is its own total. */
    for (size_t i = n == 2 ? 1 : 0; i < n; i++) print_sum(&sums[i]);
    uint64_t lost = 0, failed = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (!srn_regress_lost(&g->items[i])) continue;
        if (!lost) printf("\nlost:\n");
        if (lost++ < SHOWN_LOST) print_lost(&g->items[i]);
    }
    if (lost > SHOWN_LOST)
        printf("  and %llu more; --json and --html have them\n", (unsigned long long)(lost - SHOWN_LOST));
    for (size_t i = 0; i < g->n; i++) {
        const srn_regress_item *it = &g->items[i];
        const srn_regress_result *s = it->sides[0].ran ? &it->sides[1] : &it->sides[0];
        if (s->ran || srn_regress_lost(it)) continue;
        if (!failed) printf("\nnot answered:\n");
        if (failed++ >= SHOWN_LOST) continue;
        printf("  ");
        srn_cli_put_text(stdout, srn_str_of(it->id), 200, false);
        printf(": %c: ", s == it->sides ? 'A' : 'B');
        srn_cli_put_text(stdout, srn_str_of(s->why.text), 300, false);
        printf("\n");
    }
}
