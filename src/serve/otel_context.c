/* W3C's Trace Context as requests bring it: traceparent and tracestate, and whether a trace is among those
 * that are kept. Pure; any thread. What is not as the recommendation says is no context at all: the trace
 * then begins here.
 */
#include "serve/otel_internal.h"

/* Small letters only, as the recommendation has it. */
static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes of hex; false also for bytes that are all zero where that is no id. */
static bool read_hex(const char *p, size_t n, bool is_id, uint8_t *ret) {
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        int hi = digit(p[2 * i]), lo = digit(p[2 * i + 1]);
        if (hi < 0 || lo < 0) return false;
        ret[i] = (uint8_t)(hi << 4 | lo);
        any |= ret[i];
    }
    return any || !is_id;
}

/* VERSION-TRACE-PARENT-FLAGS: 2, 32, 16 and 2 digits. Later versions may have more behind a dash. */
bool srn__traceparent_parse(srn_str s, srn__parent *ret) {
    enum { TRACE = 3, PARENT = 36, FLAGS = 53, LENGTH = 55 };
    srn__parent p;
    uint8_t version;
    while (s.len && (*s.ptr == ' ' || *s.ptr == '\t')) s.ptr++, s.len--;
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) s.len--;
    if (s.len < LENGTH || !read_hex(s.ptr, 1, false, &version) || version == 0xFF) return false;
    if (s.len > LENGTH && (version == 0 || s.ptr[LENGTH] != '-')) return false;
    if (s.ptr[TRACE - 1] != '-' || s.ptr[PARENT - 1] != '-' || s.ptr[FLAGS - 1] != '-') return false;
    if (!read_hex(s.ptr + TRACE, SRN__TRACE_ID, true, p.trace_id)) return false;
    if (!read_hex(s.ptr + PARENT, SRN__SPAN_ID, true, p.span_id)) return false;
    if (!read_hex(s.ptr + FLAGS, 1, false, &p.flags)) return false;
    p.flags &= 3;
    *ret = p;
    return true;
}

/* KEY=VALUE: a key begins with a small letter or a digit; a value has neither comma nor equals sign. */
static bool member_good(srn_str m) {
    static const char marks[] = "_-*/@";
    size_t i = 0;
    for (; i < m.len && m.ptr[i] != '='; i++) {
        char c = m.ptr[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && (!i || !c || !strchr(marks, c))) return false;
    }
    if (i == 0 || i > 256 || i + 1 >= m.len || m.len - i - 1 > 256) return false;
    for (i++; i < m.len; i++)
        if (m.ptr[i] < 0x20 || m.ptr[i] > 0x7E || m.ptr[i] == '=') return false;
    return true;
}

bool srn__tracestate_good(srn_str s) {
    uint32_t n = 0;
    if (s.len > SRN__TRACESTATE_MAX) return false;
    for (size_t from = 0; from <= s.len;) {
        const char *comma = memchr(s.ptr + from, ',', s.len - from);
        size_t to = comma ? (size_t)(comma - s.ptr) : s.len;
        srn_str m = {s.ptr + from, to - from};
        while (m.len && (*m.ptr == ' ' || *m.ptr == '\t')) m.ptr++, m.len--;
        while (m.len && (m.ptr[m.len - 1] == ' ' || m.ptr[m.len - 1] == '\t')) m.len--;
        if (m.len && (!member_good(m) || ++n > 32)) return false;
        from = to + 1;
    }
    return n > 0;
}

/* By the last 7 bytes, which are random, as a fraction. */
bool srn__trace_in_share(const uint8_t id[SRN__TRACE_ID], double share) {
    uint64_t v = 0;
    for (int i = SRN__TRACE_ID - 7; i < SRN__TRACE_ID; i++) v = v << 8 | id[i];
    return (double)v >= (1 - share) * 0x1p56;
}
