/* constrain: integers that are a multiple of a number, digit by digit: a rule for each remainder and number
 * of digits still to come, made when it is first needed.
 */
#include "constrain/schema_internal.h"

enum { MAX_RULES = 20000, MOST_DIGITS = 18 };

typedef struct multiples {
    srn__schema *s;
    uint64_t of;
    uint32_t *rules; /* [digits to come][remainder] rule + 1; 0: not made; UINT32_MAX: nothing fits */
    uint32_t n_rules;
    const uint8_t *lo, *hi; /* digits, as many as there are in all */
} multiples;

static srn_node digit(srn_grammar *g, unsigned d) {
    return srn_g_class(g, &(srn_range){'0' + d, '0' + d}, 1, false);
}

/* n more digits of any kind after which the remainder is 0. */
static srn_node free_digits(multiples *m, unsigned n, uint64_t remainder) {
    srn_grammar *g = m->s->g;
    if (n == 0) return remainder ? SRN_NODE_NONE : srn_g_text(g, SRN_STR(""));
    uint32_t *rule = &m->rules[(size_t)n * m->of + remainder];
    if (*rule == UINT32_MAX) return SRN_NODE_NONE;
    if (*rule) return srn_g_ref(g, *rule - 1);
    if (!srn__schema_work(m->s, 10)) return SRN_NODE_NONE;
    srn_node alt[10];
    size_t k = 0;
    for (unsigned d = 0; d < 10; d++) {
        srn_node rest = free_digits(m, n - 1, (remainder * 10 + d) % m->of);
        if (rest != SRN_NODE_NONE) alt[k++] = SRN__SEQ(g, digit(g, d), rest);
    }
    *rule = UINT32_MAX;
    if (k == 0) return SRN_NODE_NONE;
    uint32_t made = srn_g_rule(g, SRN_STR("multiple"));
    srn_g_define(g, made, srn_g_alt(g, alt, k));
    if (made != UINT32_MAX) *rule = made + 1;
    return srn_g_ref(g, made);
}

/* Digits from i to n, held to lo and hi as long as the digits before were theirs. */
static srn_node digits(multiples *m, unsigned i, unsigned n, uint64_t remainder, bool at_lo, bool at_hi) {
    srn_grammar *g = m->s->g;
    if (i == n) return remainder ? SRN_NODE_NONE : srn_g_text(g, SRN_STR(""));
    if (!at_lo && !at_hi) return free_digits(m, n - i, remainder);
    unsigned from = at_lo ? m->lo[i] : 0, to = at_hi ? m->hi[i] : 9;
    srn_node alt[10];
    size_t k = 0;
    for (unsigned d = from; d <= to; d++) {
        srn_node rest =
            digits(m, i + 1, n, (remainder * 10 + d) % m->of, at_lo && d == from, at_hi && d == to);
        if (rest != SRN_NODE_NONE) alt[k++] = SRN__SEQ(g, digit(g, d), rest);
    }
    return k ? srn_g_alt(g, alt, k) : SRN_NODE_NONE;
}

srn_node srn__g_multiples(srn__schema *s, uint64_t of, const uint8_t *lo, unsigned n_lo, const uint8_t *hi,
                          unsigned n_hi, const char *ptr) {
    static const uint8_t least[SRN__CAP_DIGITS] = {1};
    unsigned most = hi ? n_hi : SRN_MAX((unsigned)MOST_DIGITS, n_lo);
    multiples m = {.s = s, .of = of};
    if (of > MAX_RULES || of * (most + 1) > MAX_RULES)
        return srn__schema_fail(
                   s, SRN_EUNSUP, ptr,
                   "multipleOf %llu cannot be enforced over so wide a range; give a minimum and a maximum "
                   "with few digits, or a smaller number",
                   (unsigned long long)of),
               SRN_NODE_NONE;
    m.rules = srn_arena_alloc(&s->arena, (size_t)of * (most + 1) * sizeof *m.rules);
    if (!m.rules) return srn__schema_nomem(s), SRN_NODE_NONE;
    srn_node alt[SRN__CAP_DIGITS + 1];
    size_t k = 0;
    for (unsigned n = n_lo; n <= most; n++) {
        m.lo = n == n_lo ? lo : least;
        m.hi = hi;
        srn_node node = digits(&m, 0, n, 0, true, hi && n == n_hi);
        if (node != SRN_NODE_NONE) alt[k++] = node;
    }
    return k ? srn_g_alt(s->g, alt, k) : SRN_NODE_NONE;
}
