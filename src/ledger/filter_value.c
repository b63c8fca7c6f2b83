/* Values in filters: moments (ago, or a date), spans of time with their unit, counts. Pure. Refuses numbers
 * without the unit that they need, dates that there are not, and what does not fit.
 */
#include "ledger/query_internal.h"

#define MOST_US (UINT64_C(200) * 366 * 86400 * 1000000) /* farther than any record */

static const struct {
    const char *name;
    uint64_t us;
} units[] = {{"us", 1},         {"ms", 1000},       {"s", 1000000},      {"sec", 1000000},    {"m", 60000000},
             {"min", 60000000}, {"h", 3600000000u}, {"d", 86400000000u}, {"w", 604800000000u}};

static int wrong(const srn__place *p, const char *what, srn_err *err) {
    return srn_fail(err, SRN_EINVAL, "filter, column %u: '%.*s' is no value of '%s': %s", p->column,
                    (int)SRN_MIN(p->text.len, (size_t)60), p->text.ptr, p->field, what);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Digits at *at of s; false: none, or more than fit. */
static bool digits(srn_str s, size_t *at, uint64_t *ret) {
    uint64_t v = 0;
    size_t from = *at;
    for (; *at < s.len && is_digit(s.ptr[*at]); ++*at)
        if (!srn_mul_u64(v, 10, &v) || !srn_add_u64(v, (uint64_t)(s.ptr[*at] - '0'), &v)) return false;
    *ret = v;
    return *at > from;
}

/* "1.5h" in microseconds; false: it is not of that form, or too long. */
static bool span(srn_str s, uint64_t *ret) {
    size_t at = 0;
    uint64_t whole = 0, part = 0, scale = 1;
    if (!digits(s, &at, &whole)) return false;
    if (at < s.len && s.ptr[at] == '.')
        for (at++; at < s.len && is_digit(s.ptr[at]); at++)
            if (scale < 1000000000) part = part * 10 + (uint64_t)(s.ptr[at] - '0'), scale *= 10;
    srn_str unit = {s.ptr + at, s.len - at};
    for (size_t i = 0; i < SRN_LEN(units); i++) {
        if (!srn_str_eqz(unit, units[i].name)) continue;
        uint64_t us = 0;
        if (!srn_mul_u64(whole, units[i].us, &us) || us > MOST_US) return false;
        *ret = us + (uint64_t)((double)part / (double)scale * (double)units[i].us + 0.5);
        return true;
    }
    return false;
}

int srn__value_span(const srn__place *p, uint64_t *ret_us, srn_err *err) {
    if (srn_str_eqz(p->text, "0")) return *ret_us = 0, SRN_OK;
    if (span(p->text, ret_us)) return SRN_OK;
    return wrong(p, "it needs a number and a unit: 300ms, 2s, 1.5min, 1h", err);
}

int srn__value_count(const srn__place *p, uint64_t *ret, srn_err *err) {
    size_t at = 0;
    uint64_t v = 0, scale = 1;
    bool good = digits(p->text, &at, &v);
    if (good && at + 1 == p->text.len && (p->text.ptr[at] == 'k' || p->text.ptr[at] == 'M'))
        scale = p->text.ptr[at++] == 'k' ? 1000 : 1000000;
    if (!good || at != p->text.len || !srn_mul_u64(v, scale, &v) || v > UINT32_MAX)
        return wrong(p, "it needs a whole number: 500, 4k", err);
    *ret = v;
    return SRN_OK;
}

/* ---- moments ---- */

/* Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so that the odd day comes
 * last. */
static int64_t days_of(int64_t y, int64_t m, int64_t d) {
    y -= m <= 2;
    int64_t era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Exactly n digits, from least to most. */
static bool fixed(srn_str s, size_t *at, size_t n, uint64_t least, uint64_t most, int64_t *ret) {
    uint64_t v = 0;
    if (s.len - *at < n) return false;
    srn_str part = {s.ptr, *at + n};
    size_t from = *at;
    if (!digits(part, at, &v) || *at != from + n || v < least || v > most) return false;
    *ret = (int64_t)v;
    return true;
}

static bool skip(srn_str s, size_t *at, char c) {
    if (*at >= s.len || s.ptr[*at] != c) return false;
    ++*at;
    return true;
}

/* "Z", "+01:00" or nothing, which is UTC too; the offset in seconds. */
static bool zone(srn_str s, size_t *at, int64_t *ret) {
    int64_t h = 0, m = 0, sign = 1;
    *ret = 0;
    if (*at == s.len || skip(s, at, 'Z')) return *at == s.len;
    if (skip(s, at, '-'))
        sign = -1;
    else if (!skip(s, at, '+'))
        return false;
    if (!fixed(s, at, 2, 0, 14, &h)) return false;
    skip(s, at, ':');
    if (!fixed(s, at, 2, 0, 59, &m)) return false;
    *ret = sign * (h * 3600 + m * 60);
    return *at == s.len;
}

/* "10:00", "10:00:30", "10:00:30.5" in microseconds. */
static bool clock_time(srn_str s, size_t *at, int64_t *ret) {
    int64_t h = 0, m = 0, sec = 0, us = 0;
    if (!fixed(s, at, 2, 0, 23, &h) || !skip(s, at, ':') || !fixed(s, at, 2, 0, 59, &m)) return false;
    if (skip(s, at, ':') && !fixed(s, at, 2, 0, 60, &sec)) return false;
    if (skip(s, at, '.')) {
        size_t from = *at;
        for (int64_t unit = 100000; *at < s.len && is_digit(s.ptr[*at]); ++*at, unit /= 10)
            us += (s.ptr[*at] - '0') * unit;
        if (*at == from) return false;
    }
    *ret = ((h * 60 + m) * 60 + sec) * 1000000 + us;
    return true;
}

/* "2026-11-22", or with a time of the day. */
static bool date(srn_str s, uint64_t *ret_us) {
    static const uint8_t days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t y = 0, m = 0, d = 0, of_day = 0, offset = 0;
    size_t at = 0;
    if (!fixed(s, &at, 4, 1970, 2199, &y) || !skip(s, &at, '-') || !fixed(s, &at, 2, 1, 12, &m) ||
        !skip(s, &at, '-') || !fixed(s, &at, 2, 1, days[m - 1], &d))
        return false;
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    if (m == 2 && d == 29 && !leap) return false;
    if (skip(s, &at, 'T') || skip(s, &at, ' ')) {
        if (!clock_time(s, &at, &of_day)) return false;
    }
    if (!zone(s, &at, &offset)) return false;
    int64_t us = days_of(y, m, d) * 86400000000 + of_day - offset * 1000000;
    *ret_us = us > 0 ? (uint64_t)us : 0;
    return true;
}

int srn__value_time(const srn__place *p, uint64_t now_us, uint64_t *ret_us, srn_err *err) {
    uint64_t us = 0;
    size_t at = 0;
    if (srn_str_eqz(p->text, "now")) return *ret_us = now_us, SRN_OK;
    if (span(p->text, &us)) {
        *ret_us = us < now_us ? now_us - us : 0;
        return SRN_OK;
    }
    if (digits(p->text, &at, &us) && at == p->text.len && us < MOST_US / 1000000) {
        *ret_us = us * 1000000; /* Unix seconds */
        return SRN_OK;
    }
    if (date(p->text, ret_us)) return SRN_OK;
    return wrong(p, "it needs how long ago (90s, 1h, 7d) or a moment in UTC (2026-11-22, 2026-11-22T10:00)",
                 err);
}
