/* serin regress: what items add up to, per prompt and in total. Pure. */
#include <stdlib.h>

#include "cli/regress.h"

bool srn__regress_lost(const srn__regress_item *it) {
    return it->n_checks && it->sides[0].ran && it->sides[0].passed && !it->sides[1].passed;
}

bool srn__regress_won(const srn__regress_item *it) {
    return it->n_checks && it->sides[1].ran && it->sides[1].passed && !it->sides[0].passed;
}

bool srn__regress_same(const srn__regress_item *it) {
    const srn__regress_side *a = &it->sides[0], *b = &it->sides[1];
    return a->ran && b->ran && a->answer.n_text == b->answer.n_text &&
           memcmp(a->answer.text, b->answer.text, a->answer.n_text) == 0;
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

static void add(srn__regress_sum *s, const srn__regress_item *it) {
    const srn__regress_side *a = &it->sides[0], *b = &it->sides[1];
    s->items++;
    for (int k = 0; k < 2; k++) s->errors[k] += !it->sides[k].ran;
    if (it->n_checks && (a->ran || b->ran)) {
        s->checked++;
        s->passed[0] += a->passed;
        s->passed[1] += b->passed;
        s->lost += srn__regress_lost(it);
        s->won += srn__regress_won(it);
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
    s->same += srn__regress_same(it);
    s->tokens[0] += a->answer.n_tokens;
    s->tokens[1] += b->answer.n_tokens;
}

/* name NULL: all items. times: room for n. */
static void add_up(const srn__regress *g, const char *name, uint64_t *times, srn__regress_sum *ret) {
    *ret = (srn__regress_sum){.name = name ? name : "total"};
    for (size_t i = 0; i < g->n; i++)
        if (!name || strcmp(g->items[i].group, name) == 0) add(ret, &g->items[i]);
    for (int k = 0; k < 4; k++) {
        size_t n = 0;
        for (size_t i = 0; i < g->n; i++) {
            const srn__regress_item *it = &g->items[i];
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

int srn__regress_add_up(const srn__regress *g, srn__regress_sum **ret, size_t *ret_n, srn_err *err) {
    const char **names = srn_calloc(g->n + 1, sizeof *names);
    uint64_t *times = srn_calloc(g->n + 1, sizeof *times);
    size_t n = 0;
    srn__regress_sum *sums = NULL;
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
