/* constrain: numbers. A bound becomes decimal digits and the text is held against them digit by digit, so
 * that ranges are exact: rounding to a double is monotonic, so a text not below the digits of a double is not
 * below the double once it is read. An exclusive bound is the next double, for integers the next integer. A
 * number has at most SRN__CAP_DIGITS digits before its point and as many behind it, and no leading zeros; an
 * exponent is let through where every number of its form lies inside the bounds.
 */
#include <math.h>
#include <stdlib.h>

#include "constrain/schema_internal.h"

enum { DIGITS = SRN__CAP_DIGITS };

/* digits[0, n_int) before the point without leading zeros (but "0"), then n_frac without trailing zeros. */
typedef struct decimal {
    bool neg;
    unsigned n_int, n_frac;
    uint8_t digits[2 * DIGITS];
} decimal;

/* A bound that is open when set is false. */
typedef struct bound {
    bool set, beyond; /* beyond: it has more digits than any text; the sign in at.neg */
    decimal at;
} bound;

typedef struct bounds {
    bound lo, hi;
    uint64_t multiple; /* 0: none */
} bounds;

/* ---- decimals ---- */

static int compare_size(const decimal *a, const decimal *b) {
    if (a->n_int != b->n_int) return a->n_int < b->n_int ? -1 : 1;
    int c = memcmp(a->digits, b->digits, a->n_int);
    if (c) return c < 0 ? -1 : 1;
    c = memcmp(a->digits + a->n_int, b->digits + b->n_int, SRN_MIN(a->n_frac, b->n_frac));
    if (c) return c < 0 ? -1 : 1;
    return (a->n_frac > b->n_frac) - (a->n_frac < b->n_frac);
}

static int compare(const decimal *a, const decimal *b) {
    if (a->neg != b->neg) return a->neg ? -1 : 1;
    return a->neg ? compare_size(b, a) : compare_size(a, b);
}

static void trim(decimal *d) {
    while (d->n_frac && d->digits[d->n_int + d->n_frac - 1] == 0) d->n_frac--;
    if (d->n_frac == 0 && d->n_int == 1 && d->digits[0] == 0) d->neg = false;
}

/* Adds one unit in the last place of `places` behind the point to the size of d; false past the digits. */
static bool away_from_zero(decimal *d, unsigned places) {
    while (d->n_frac < places) d->digits[d->n_int + d->n_frac++] = 0;
    d->n_frac = places;
    for (unsigned i = d->n_int + places; i-- > 0;) {
        if (++d->digits[i] < 10) return trim(d), true;
        d->digits[i] = 0;
    }
    if (d->n_int == DIGITS) return false;
    memmove(d->digits + 1, d->digits, d->n_int + d->n_frac);
    d->digits[0] = 1;
    d->n_int++;
    return trim(d), true;
}

/* Cuts to `places` behind the point, towards +infinity (up) or -infinity. */
static bool round_to(decimal *d, unsigned places, bool up) {
    if (d->n_frac <= places) return true;
    d->n_frac = places;
    bool away = up != d->neg;
    if (away) return away_from_zero(d, places);
    return trim(d), true;
}

/* text: an optional -, digits, optional point and digits, as printf's %f writes; far more digits behind the
 * point than are kept are cut inwards (up for a lower bound). */
static bound bound_of_text(const char *text, bool up) {
    bound b = {.set = true};
    b.at.neg = *text == '-';
    text += b.at.neg;
    const char *point = strchr(text, '.');
    size_t n_int = point ? (size_t)(point - text) : strlen(text);
    if (n_int > DIGITS) {
        b.beyond = true;
        return b;
    }
    for (size_t i = 0; i < n_int; i++) b.at.digits[i] = (uint8_t)(text[i] - '0');
    b.at.n_int = (unsigned)n_int;
    bool cut = false;
    for (const char *p = point ? point + 1 : ""; *p; p++)
        if (b.at.n_frac < DIGITS)
            b.at.digits[n_int + b.at.n_frac++] = (uint8_t)(*p - '0');
        else
            cut |= *p != '0';
    bool away = cut && up != b.at.neg;
    if (away) b.beyond = !away_from_zero(&b.at, DIGITS);
    trim(&b.at);
    return b;
}

/* The decimal of a double: its shortest digits, or all of them from 2^53 on. */
static bound bound_of_double(double d, bool up) {
    char text[400], shortest[40];
    if (d >= 9007199254740992.0 || d <= -9007199254740992.0) {
        snprintf(text, sizeof text, "%.0f", d);
        return bound_of_text(text, up);
    }
    int digits = 1;
    for (; digits <= 17; digits++) {
        snprintf(shortest, sizeof shortest, "%.*e", digits - 1, d);
        if (strtod(shortest, NULL) == d) break;
    }
    int decimals = digits - 1 - (int)strtol(strchr(shortest, 'e') + 1, NULL, 10);
    snprintf(text, sizeof text, "%.*f", SRN_MIN(SRN_MAX(decimals, 0), 360), d);
    return bound_of_text(text, up);
}

/* The greatest double below an integer or it itself (up: the smallest above). */
static double double_of_int(int64_t i, bool up) {
    double d = (double)i;
    if (up && (long double)d < (long double)i) return nextafter(d, INFINITY);
    if (!up && (long double)d > (long double)i) return nextafter(d, -INFINITY);
    return d;
}

static bound bound_of_int(int64_t i, int step) {
    char text[32];
    long long next;
    if (__builtin_add_overflow((long long)i, (long long)step, &next)) {
        /* One past 64 bits: 9223372036854775808 or its negative counterpart less one. */
        return bound_of_text(step > 0 ? "9223372036854775808" : "-9223372036854775809", step > 0);
    }
    snprintf(text, sizeof text, "%lld", next);
    return bound_of_text(text, step > 0);
}

/* What one keyword says; up: it is a lower bound. */
static bound bound_of(const json_t *v, bool up, bool exclusive, bool integer) {
    int step = exclusive ? (up ? 1 : -1) : 0;
    if (json_is_integer(v) && integer) return bound_of_int(json_integer_value(v), step);
    double d = json_is_integer(v) ? double_of_int(json_integer_value(v), up) : json_real_value(v);
    if (exclusive) d = nextafter(d, up ? INFINITY : -INFINITY);
    if (isinf(d)) return (bound){.set = true, .beyond = true, .at.neg = d < 0};
    bound b = bound_of_double(d, up);
    if (integer && !b.beyond) b.beyond = !round_to(&b.at, 0, up);
    return b;
}

static int compare_bounds(const bound *a, const bound *b) {
    if (a->beyond || b->beyond) {
        int x = a->beyond ? (a->at.neg ? -1 : 1) : 0, y = b->beyond ? (b->at.neg ? -1 : 1) : 0;
        return (x > y) - (x < y);
    }
    return compare(&a->at, &b->at);
}

static void raise(bound *lo, bound b) {
    if (!lo->set || compare_bounds(&b, lo) > 0) *lo = b;
}
static void lower(bound *hi, bound b) {
    if (!hi->set || compare_bounds(&b, hi) < 0) *hi = b;
}

static uint64_t common_multiple(uint64_t a, uint64_t b) {
    uint64_t x = a, y = b;
    while (y) {
        uint64_t r = x % y;
        x = y;
        y = r;
    }
    uint64_t m;
    return srn_mul_u64(a / x, b, &m) ? m : UINT64_MAX;
}

static bounds bounds_of(const srn__schema *s, const srn__list *leaf, bool integer) {
    bounds b = {.multiple = 0};
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *c = s->sch[leaf->ids[i]];
        if (c->multiple_of) {
            uint64_t m = (uint64_t)json_number_value(c->multiple_of);
            b.multiple = b.multiple ? common_multiple(b.multiple, m) : m;
        }
        if (c->minimum) raise(&b.lo, bound_of(c->minimum, true, false, integer));
        if (c->exclusive_minimum) raise(&b.lo, bound_of(c->exclusive_minimum, true, true, integer));
        if (c->maximum) lower(&b.hi, bound_of(c->maximum, false, false, integer));
        if (c->exclusive_maximum) lower(&b.hi, bound_of(c->exclusive_maximum, false, true, integer));
    }
    return b;
}

bool srn__number_never(srn__schema *s, const srn__list *leaf, bool integer) {
    bounds b = bounds_of(s, leaf, integer);
    if (b.multiple && !integer) return true; /* then only integers are left, and they are looked at apart */
    return b.lo.set && b.hi.set && compare_bounds(&b.lo, &b.hi) > 0;
}

/* ---- digit by digit ---- */

static srn_node digit(srn_grammar *g, unsigned first, unsigned last) {
    return srn_g_class(g, &(srn_range){'0' + first, '0' + last}, 1, false);
}

static srn_node some_digits(srn_grammar *g, unsigned min, unsigned max) {
    return srn_g_repeat(g, digit(g, 0, 9), min, max);
}

static srn_node empty(srn_grammar *g) {
    return srn_g_text(g, SRN_STR(""));
}

/* A fraction of any digits, or none. */
static srn_node any_fraction(srn_grammar *g, bool fraction) {
    if (!fraction) return empty(g);
    return srn__g_opt(g, SRN__SEQ(g, srn_g_text(g, SRN_STR(".")), some_digits(g, 1, DIGITS)));
}

/* Digits behind the point from the i-th on, where the text so far equals lo and hi (each may be NULL: that
 * side is open). */
static srn_node fraction_digits(srn_grammar *g, const decimal *lo, const decimal *hi, unsigned i) {
    if (lo && i >= lo->n_frac) lo = NULL;
    unsigned least = i == 0;
    if (!lo && !hi) return some_digits(g, least, DIGITS - i);
    if (hi && i >= hi->n_frac) return srn_g_repeat(g, digit(g, 0, 0), least, DIGITS - i);
    unsigned from = lo ? lo->digits[lo->n_int + i] : 0, to = hi ? hi->digits[hi->n_int + i] : 9;
    srn_node alt[4];
    size_t n = 0;
    if (i && !lo) alt[n++] = empty(g);
    if (lo && hi && from == to) {
        alt[n++] = SRN__SEQ(g, digit(g, from, from), fraction_digits(g, lo, hi, i + 1));
        return srn_g_alt(g, alt, n);
    }
    if (lo) {
        alt[n++] = SRN__SEQ(g, digit(g, from, from), fraction_digits(g, lo, NULL, i + 1));
        from++;
    }
    if (hi) {
        alt[n++] = SRN__SEQ(g, digit(g, to, to), fraction_digits(g, NULL, hi, i + 1));
        if (to-- == 0) return srn_g_alt(g, alt, n);
    }
    if (from <= to) alt[n++] = SRN__SEQ(g, digit(g, from, to), some_digits(g, 0, DIGITS - i - 1));
    return srn_g_alt(g, alt, n);
}

/* The point and what follows, where the digits before it equal lo's and hi's. */
static srn_node fraction_part(srn_grammar *g, const decimal *lo, const decimal *hi, bool fraction) {
    if (!fraction) return empty(g);
    srn_node node = SRN__SEQ(g, srn_g_text(g, SRN_STR(".")), fraction_digits(g, lo, hi, 0));
    return lo && lo->n_frac ? node : srn__g_opt(g, node);
}

/* Digits from the i-th of n_int on, with what follows the point. */
static srn_node whole_digits(srn_grammar *g, const decimal *lo, const decimal *hi, unsigned i, unsigned n_int,
                             bool fraction) {
    if (!lo && !hi) return SRN__SEQ(g, some_digits(g, n_int - i, n_int - i), any_fraction(g, fraction));
    if (i == n_int) return fraction_part(g, lo, hi, fraction);
    unsigned from = lo ? lo->digits[i] : 0, to = hi ? hi->digits[i] : 9;
    if (lo && hi && from == to)
        return SRN__SEQ(g, digit(g, from, from), whole_digits(g, lo, hi, i + 1, n_int, fraction));
    srn_node alt[3];
    size_t n = 0;
    if (lo) {
        alt[n++] = SRN__SEQ(g, digit(g, from, from), whole_digits(g, lo, NULL, i + 1, n_int, fraction));
        from++;
    }
    if (hi) {
        alt[n++] = SRN__SEQ(g, digit(g, to, to), whole_digits(g, NULL, hi, i + 1, n_int, fraction));
        if (to-- == 0) return srn_g_alt(g, alt, n);
    }
    if (from <= to)
        alt[n++] = SRN__SEQ(g, digit(g, from, to), whole_digits(g, NULL, NULL, i + 1, n_int, fraction));
    return srn_g_alt(g, alt, n);
}

/* Numbers without sign from lo to hi; hi NULL: up to as many digits as there may be. */
static srn_node size_range(srn_grammar *g, const decimal *lo, const decimal *hi, bool fraction) {
    if (hi && lo->n_int == hi->n_int) return whole_digits(g, lo, hi, 0, lo->n_int, fraction);
    srn_node alt[3];
    size_t n = 0;
    alt[n++] = whole_digits(g, lo, NULL, 0, lo->n_int, fraction);
    unsigned most = hi ? hi->n_int - 1 : DIGITS; /* the longest that is free of hi */
    if (most > lo->n_int)
        alt[n++] =
            SRN__SEQ(g, digit(g, 1, 9), some_digits(g, lo->n_int, most - 1), any_fraction(g, fraction));
    if (hi) {
        decimal least = {.n_int = hi->n_int, .digits[0] = 1};
        alt[n++] = whole_digits(g, &least, hi, 0, hi->n_int, fraction);
    }
    return srn_g_alt(g, alt, n);
}

/* ---- exponents ---- */

/* d.ddde-K and d.ddde+K with K from the least given to 307; 0: none of that sign. */
static srn_node exponents(srn_grammar *g, unsigned negative, unsigned positive) {
    srn_node alt[2];
    size_t n = 0;
    for (int up = 0; up < 2; up++) {
        unsigned least = up ? positive : negative;
        if (!least) continue;
        decimal lo = {.n_int = 1, .digits[0] = (uint8_t)least}, hi = {.n_int = 3, .digits = {3, 0, 7}};
        srn_node sign = srn_g_text(g, up ? SRN_STR("+") : SRN_STR("-"));
        alt[n++] = SRN__SEQ(g, up ? srn__g_opt(g, sign) : sign, srn__g_opt(g, digit(g, 0, 0)),
                            size_range(g, &lo, &hi, false));
    }
    static const srn_range letters[] = {{'E', 'E'}, {'e', 'e'}};
    return SRN__SEQ(g, digit(g, 1, 9), any_fraction(g, true), srn_g_class(g, letters, 2, false),
                    srn_g_alt(g, alt, n));
}

/* Exponent forms of the numbers without sign from lo to hi (NULL: open), SRN_NODE_NONE for none. Powers of
 * ten up to 9 are looked at; further ones would be no plain numbers anyway. */
static srn_node exponents_within(srn_grammar *g, const decimal *lo, const decimal *hi) {
    bool from_zero = lo->n_int == 1 && lo->digits[0] == 0 && (lo->n_frac == 0 || lo->n_frac == DIGITS);
    unsigned negative = 0, positive = 0;
    if (from_zero && (!hi || hi->n_int > 1 || hi->digits[0])) negative = 1; /* all are below 1 */
    if (from_zero && !negative)
        for (unsigned k = 0; k < 8 && k < hi->n_frac && !negative; k++)
            if (hi->digits[hi->n_int + k]) negative = k + 2; /* below 10^-(k+1) */
    if (!hi && lo->n_int < 9) positive = lo->n_int;          /* at least 10^n_int, above lo */
    return negative || positive ? exponents(g, negative, positive) : SRN_NODE_NONE;
}

/* ---- the whole ---- */

/* One sign's half: sizes from lo to hi. */
static size_t half(srn__schema *s, const srn__list *leaf, const bounds *b, const decimal *lo,
                   const decimal *hi, bool neg, bool integer, srn_node *ret) {
    srn_grammar *g = s->g;
    size_t n = 0;
    if (hi && compare_size(lo, hi) > 0) return 0;
    if (b->multiple > 1) {
        ret[n] = srn__g_multiples(s, b->multiple, lo->digits, lo->n_int, hi ? hi->digits : NULL,
                                  hi ? hi->n_int : 0, s->sch[leaf->ids[0]]->ptr);
        n += ret[n] != SRN_NODE_NONE;
    } else {
        ret[n++] = size_range(g, lo, hi, !integer);
        srn_node e = integer ? SRN_NODE_NONE : exponents_within(g, lo, hi);
        if (e != SRN_NODE_NONE) ret[n++] = e;
    }
    if (neg)
        for (size_t i = 0; i < n; i++) ret[i] = SRN__SEQ(g, srn_g_text(g, SRN_STR("-")), ret[i]);
    return n;
}

srn_node srn__g_number(srn__schema *s, const srn__list *leaf, bool integer) {
    bounds b = bounds_of(s, leaf, integer);
    integer |= b.multiple > 0;
    if ((b.lo.set && b.lo.beyond && !b.lo.at.neg) || (b.hi.set && b.hi.beyond && b.hi.at.neg))
        return srn__schema_fail(s, SRN_EUNSUP, s->sch[leaf->ids[0]]->ptr,
                                "a bound with more than %d digits before the point is not supported", DIGITS),
               SRN_NODE_NONE;
    if (!b.lo.set && !b.hi.set && b.multiple <= 1) return srn__g_any_number(s->g, integer);
    const decimal zero = {.n_int = 1};
    decimal least = {.n_int = 1, .digits[0] = integer}, lo = b.lo.at, hi = b.hi.at;
    /* A bound beyond the digits on the harmless side is open; but then exponents stay out. */
    static const decimal most = {.n_int = 1};
    decimal nines = most;
    nines.n_int = DIGITS;
    memset(nines.digits, 9, DIGITS);
    if (b.lo.beyond) lo = nines, lo.neg = true;
    if (b.hi.beyond) hi = nines;
    srn_node alt[4];
    size_t n = 0;
    if (!b.hi.set || !hi.neg)
        n += half(s, leaf, &b, b.lo.set && !lo.neg ? &lo : &zero, b.hi.set ? &hi : NULL, false, integer, alt);
    if (!b.lo.set || lo.neg || compare(&lo, &zero) == 0) {
        bool below = b.hi.set && hi.neg;
        const decimal *to = b.lo.set ? &lo : NULL;
        n += half(s, leaf, &b, below ? &hi : &least, to, true, integer, alt + n);
    }
    return srn_g_alt(s->g, alt, n);
}

srn_node srn__g_any_number(srn_grammar *g, bool integer) {
    const decimal zero = {.n_int = 1}, one = {.n_int = 1, .digits[0] = 1};
    srn_node sign = srn_g_text(g, SRN_STR("-"));
    if (integer) {
        srn_node alt[] = {size_range(g, &zero, NULL, false),
                          SRN__SEQ(g, sign, size_range(g, &one, NULL, false))};
        return srn_g_alt(g, alt, 2);
    }
    srn_node alt[] = {size_range(g, &zero, NULL, true), exponents(g, 1, 1)};
    return SRN__SEQ(g, srn__g_opt(g, sign), srn_g_alt(g, alt, 2));
}
