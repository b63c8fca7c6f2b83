/* Text with trust: the builder that every string operation writes through, substrings, code points. Called by
 * every file of this room while rendering, on the rendering's thread. A byte's trust is decided where it is
 * put and never raised afterwards.
 */
#include "chat/chat_internal.h"

static bool builder_room(srn__in *in, srn__builder *b, size_t more) {
    if (b->len + more <= b->cap) return true;
    size_t cap = SRN_MAX(b->cap * 2, b->len + more);
    cap = SRN_MAX(cap, 64);
    if (b->len + more > SRN__OUTPUT_MAX)
        return srn__err(in, SRN_ELIMIT, "a text grew past the limit of %zu bytes", SRN__OUTPUT_MAX);
    char *p = srn__alloc(in, cap, 1);
    if (!p) return false;
    if (b->len) memcpy(p, b->ptr, b->len);
    b->ptr = p;
    b->cap = cap;
    return true;
}

static bool builder_run(srn__in *in, srn__builder *b, size_t more, bool trusted) {
    if (b->n_runs && b->runs[b->n_runs - 1].trusted == trusted) {
        b->runs[b->n_runs - 1].end += more;
        return true;
    }
    if (b->n_runs == b->cap_runs) {
        size_t cap = b->cap_runs ? b->cap_runs * 2 : 4;
        srn__run *runs = srn__alloc(in, cap, sizeof *runs);
        if (!runs) return false;
        if (b->n_runs) memcpy(runs, b->runs, b->n_runs * sizeof *runs);
        b->runs = runs;
        b->cap_runs = cap;
    }
    b->runs[b->n_runs++] = (srn__run){b->len + more, trusted};
    return true;
}

bool srn__put(srn__in *in, srn__builder *b, const char *p, size_t n, bool trusted) {
    if (n == 0) return true;
    if (n > SRN__OUTPUT_MAX)
        return srn__err(in, SRN_ELIMIT, "a text grew past the limit of %zu bytes", SRN__OUTPUT_MAX);
    if (!builder_room(in, b, n) || !builder_run(in, b, n, trusted)) return false;
    memcpy(b->ptr + b->len, p, n);
    b->len += n;
    return srn__work(in, n / 256);
}

bool srn__put_part(srn__in *in, srn__builder *b, const srn__text *s, size_t from, size_t to) {
    if (from >= to) return true;
    if (!s->runs) return srn__put(in, b, s->ptr + from, to - from, s->trusted);
    size_t start = 0;
    for (uint32_t i = 0; i < s->n_runs && start < to; i++) {
        size_t a = SRN_MAX(start, from), z = SRN_MIN(s->runs[i].end, to);
        if (a < z && !srn__put(in, b, s->ptr + a, z - a, s->runs[i].trusted)) return false;
        start = s->runs[i].end;
    }
    return srn__work(in, s->n_runs / 8);
}

bool srn__put_text(srn__in *in, srn__builder *b, const srn__text *s) {
    return srn__put_part(in, b, s, 0, s->len);
}

bool srn__put_cp(srn__in *in, srn__builder *b, uint32_t cp, bool trusted) {
    char utf8[4];
    return srn__put(in, b, utf8, srn_utf8_put(cp, utf8), trusted);
}

static bool text_val(srn__in *in, srn__text text, srn__val *ret) {
    srn__text *s = srn__alloc(in, 1, sizeof *s);
    if (!s) return false;
    *s = text;
    *ret = (srn__val){.type = V_STR, .u.s = s};
    return true;
}

bool srn__finish(srn__in *in, const srn__builder *b, srn__val *ret) {
    srn__text s = {.ptr = b->len ? b->ptr : "", .len = b->len, .trusted = true};
    if (b->n_runs == 1) s.trusted = b->runs[0].trusted;
    if (b->n_runs > 1) {
        s.runs = b->runs;
        s.n_runs = (uint32_t)b->n_runs;
        s.trusted = false;
    }
    return text_val(in, s, ret);
}

bool srn__str_new(srn__in *in, const char *p, size_t n, bool trusted, srn__val *ret) {
    return text_val(in, (srn__text){.ptr = n ? p : "", .len = n, .trusted = trusted}, ret);
}

bool srn__str_part(srn__in *in, const srn__text *s, size_t from, size_t to, srn__val *ret) {
    if (from >= to) return srn__str_new(in, "", 0, srn__all_trusted(s), ret);
    if (!s->runs) return srn__str_new(in, s->ptr + from, to - from, s->trusted, ret);
    uint32_t first = 0;
    while (s->runs[first].end <= from) first++;
    uint32_t last = first;
    while (s->runs[last].end < to) last++;
    if (!srn__work(in, last / 8)) return false;
    if (first == last) return srn__str_new(in, s->ptr + from, to - from, s->runs[first].trusted, ret);
    srn__run *runs = srn__alloc(in, last - first + 1, sizeof *runs);
    if (!runs) return false;
    for (uint32_t i = first; i <= last; i++)
        runs[i - first] = (srn__run){SRN_MIN(s->runs[i].end, to) - from, s->runs[i].trusted};
    return text_val(in, (srn__text){s->ptr + from, to - from, runs, last - first + 1, false}, ret);
}

bool srn__trust_at(const srn__text *s, size_t at) {
    if (!s->runs) return s->trusted;
    uint32_t lo = 0, hi = s->n_runs - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->runs[mid].end <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return s->runs[lo].trusted;
}

bool srn__all_trusted(const srn__text *s) {
    return !s->runs && s->trusted;
}

size_t srn__cp_next(const char *p, size_t n, uint32_t *ret_cp) {
    size_t len = srn_utf8_get(p, n, ret_cp);
    if (len) return len;
    *ret_cp = 0xFFFD;
    return n ? 1 : 0;
}

size_t srn__cp_count(const srn__text *s) {
    size_t count = 0;
    uint32_t cp;
    for (size_t at = 0; at < s->len; count++) at += srn__cp_next(s->ptr + at, s->len - at, &cp);
    return count;
}

size_t srn__cp_offset(const srn__text *s, size_t index) {
    size_t at = 0;
    uint32_t cp;
    for (; index > 0 && at < s->len; index--) at += srn__cp_next(s->ptr + at, s->len - at, &cp);
    return at;
}

size_t srn__find(srn_str hay, srn_str needle, size_t from) {
    if (from > hay.len || needle.len > hay.len - from) return SIZE_MAX;
    if (needle.len == 0) return from;
    const char *p = memmem(hay.ptr + from, hay.len - from, needle.ptr, needle.len);
    return p ? (size_t)(p - hay.ptr) : SIZE_MAX;
}

size_t srn__rfind(srn_str hay, srn_str needle) {
    if (needle.len > hay.len) return SIZE_MAX;
    for (size_t at = hay.len - needle.len + 1; at-- > 0;)
        if (needle.len == 0 || memcmp(hay.ptr + at, needle.ptr, needle.len) == 0) return at;
    return SIZE_MAX;
}
