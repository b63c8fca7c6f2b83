/* regress: what items add up to, per prompt and in total. Pure. */
#include "serve/regress.h"

#include <stdlib.h>

#include "base/num.h"

bool srn_regress_lost(const srn_regress_item *it) {
    return it->n_checks && it->sides[0].ran && it->sides[0].passed && !it->sides[1].passed;
}

bool srn_regress_won(const srn_regress_item *it) {
    return it->n_checks && it->sides[1].ran && it->sides[1].passed && !it->sides[0].passed;
}

bool srn_regress_same(const srn_regress_item *it) {
    const srn_regress_result *a = &it->sides[0], *b = &it->sides[1];
    return a->ran && b->ran && a->answer.n_text == b->answer.n_text &&
           memcmp(a->answer.text, b->answer.text, a->answer.n_text) == 0;
}

bool srn_regress_same_bits(const srn_regress_item *it, uint32_t *ret_at) {
    const srn_replay_answer *a = &it->sides[0].answer, *b = &it->sides[1].answer;
    uint32_t n = SRN_MIN(a->n_tokens, b->n_tokens), i = 0;
    if (!it->sides[0].ran || !it->sides[1].ran) return false;
    while (i < n && a->tokens[i] == b->tokens[i] && srn_bits_f32(a->logits[i]) == srn_bits_f32(b->logits[i]))
        i++;
    if (ret_at) *ret_at = i;
    return i == a->n_tokens && i == b->n_tokens;
}

static int by_value(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *v, size_t n) {
    if (!n) return 0;
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : v[n / 2 - 1] + (v[n / 2] - v[n / 2 - 1]) / 2;
}

static void add(srn_regress_sum *s, const srn_regress_item *it) {
    const srn_regress_result *a = &it->sides[0], *b = &it->sides[1];
    s->items++;
    for (int k = 0; k < 2; k++) s->errors[k] += !it->sides[k].ran;
    if (it->n_checks && (a->ran || b->ran)) {
        s->checked++;
        s->passed[0] += a->passed;
        s->passed[1] += b->passed;
        s->lost += srn_regress_lost(it);
        s->won += srn_regress_won(it);
    }
    if (it->has_divergence) {
        const srn_divergence *d = &it->divergence;
        s->kl_items++;
        s->kl_tokens += d->n;
        s->top1 += d->n_same_top;
        s->kl_sum += d->sum;
        s->kl_max = SRN_MAX(s->kl_max, d->max);
    }
    if (!a->ran || !b->ran) return;
    s->compared++;
    s->same += srn_regress_same(it);
    s->same_bits += srn_regress_same_bits(it, NULL);
    s->tokens[0] += a->answer.n_tokens;
    s->tokens[1] += b->answer.n_tokens;
}

/* name NULL: all items. times: room for n. */
static void add_up(const srn_regress *g, const char *name, uint64_t *times, srn_regress_sum *ret) {
    *ret = (srn_regress_sum){.name = name ? name : "total"};
    for (size_t i = 0; i < g->n; i++)
        if (!name || strcmp(g->items[i].group, name) == 0) add(ret, &g->items[i]);
    for (int k = 0; k < 4; k++) {
        size_t n = 0;
        for (size_t i = 0; i < g->n; i++) {
            const srn_regress_item *it = &g->items[i];
            if ((name && strcmp(it->group, name) != 0) || !it->sides[0].ran || !it->sides[1].ran) continue;
            const srn_replay_answer *a = &it->sides[k % 2].answer;
            times[n++] = k < 2 ? a->ttft_us : a->total_us;
        }
        *(k < 2 ? &ret->ttft_us[k] : &ret->total_us[k - 2]) = median(times, n);
    }
    ret->p = srn_mcnemar(ret->lost, ret->won);
}

static int by_name(const void *a, const void *b) {
    const char *x, *y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return strcmp(x, y);
}

int srn_regress_add_up(const srn_regress *g, srn_regress_sum **ret, size_t *ret_n, srn_err *err) {
    const char **names = srn_calloc(g->n + 1, sizeof *names);
    uint64_t *times = srn_calloc(g->n + 1, sizeof *times);
    size_t n = 0;
    srn_regress_sum *sums = NULL;
    for (size_t i = 0; names && i < g->n; i++) names[i] = g->items[i].group;
    if (names && g->n) {
        qsort(names, g->n, sizeof *names, by_name);
        for (size_t i = 0; i < g->n; i++)
            if (i == 0 || strcmp(names[i], names[i - 1]) != 0) names[n++] = names[i];
        sums = srn_calloc(n + 1, sizeof *sums);
    }
    if (sums && times) {
        for (size_t i = 0; i < n; i++) add_up(g, names[i], times, &sums[i]);
        add_up(g, NULL, times, &sums[n]);
    }
    free(names);
    if (!sums || !times) {
        free(sums);
        free(times);
        return srn_fail_nomem(err, g->n * sizeof *sums);
    }
    free(times);
    *ret = sums;
    *ret_n = n + 1;
    return SRN_OK;
}
