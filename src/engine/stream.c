/* The text of one answer as its tokens come. The detokenizer gives whole characters; each new byte takes
 * every stop text's Knuth-Morris-Pratt automaton one step, so that the time is linear in the text for each of
 * them, whatever the texts are. The longest beginning of a stop text that the text ends in is held back.
 * Owned by whoever owns the sequence. Refuses empty and malformed stop texts, so that a text is never cut
 * inside a character.
 */
#include "engine/stream.h"

#include <stdlib.h>

#define MAX_TEXT ((size_t)1 << 30)

typedef struct stop {
    size_t at, len; /* its bytes in `stop_bytes`, its borders in `borders` */
    size_t matched; /* how much of it the text ends in */
} stop;

struct srn_stream {
    srn_detok detok;
    srn_buf text;   /* all of it, with what is held back; after a stop, what is given out */
    size_t certain; /* bytes of it */
    stop *stops;
    uint32_t n_stops;
    char *stop_bytes;
    uint32_t
        *borders; /* of stop_bytes[at..at+i]: the longest proper beginning of the stop that is its end too */
    uint64_t *ends; /* [n_tokens]: length of the text when the token had been added */
    uint32_t n_tokens, cap_tokens;
    uint32_t n_whole;   /* tokens of which no byte waits for the rest of its character */
    uint32_t n_certain; /* tokens */
    int32_t found;      /* the stop, or -1 */
    bool keep_stop, failed;
};

/* ---- life ---- */

static int check_stops(const srn_str *stops, uint32_t n, size_t *ret_bytes, srn_err *err) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (stops[i].len == 0) return srn_fail(err, SRN_EINVAL, "stop text %u is empty", i);
        if (stops[i].len > UINT32_MAX || bytes > SIZE_MAX / 8 - stops[i].len)
            return srn_fail(err, SRN_EINVAL, "stop text %u has %zu bytes", i, stops[i].len);
        for (size_t k = 0, step; k < stops[i].len; k += step) {
            step = srn_utf8_len(stops[i].ptr + k, stops[i].len - k);
            if (!step) return srn_fail(err, SRN_EINVAL, "stop text %u is not UTF-8 at byte %zu", i, k);
        }
        bytes += stops[i].len;
    }
    *ret_bytes = bytes;
    return SRN_OK;
}

static void find_borders(const char *text, size_t n, uint32_t *borders) {
    size_t k = 0;
    borders[0] = 0;
    for (size_t i = 1; i < n; i++) {
        while (k && text[k] != text[i]) k = borders[k - 1];
        if (text[k] == text[i]) k++;
        borders[i] = (uint32_t)k;
    }
}

static void take_stops(srn_stream *s, const srn_str *stops) {
    size_t at = 0;
    for (uint32_t i = 0; i < s->n_stops; i++) {
        s->stops[i] = (stop){.at = at, .len = stops[i].len};
        memcpy(s->stop_bytes + at, stops[i].ptr, stops[i].len);
        find_borders(stops[i].ptr, stops[i].len, s->borders + at);
        at += stops[i].len;
    }
}

int srn_stream_new(const srn_vocab *v, bool show_special, const srn_str *stops, uint32_t n_stops,
                   bool keep_stop, srn_stream **ret, srn_err *err) {
    size_t bytes = 0;
    int code = check_stops(stops, n_stops, &bytes, err);
    if (code) return code;
    srn_stream *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    srn_detok_init(&s->detok, v, show_special);
    srn_buf_init(&s->text, MAX_TEXT);
    s->keep_stop = keep_stop;
    s->found = -1;
    s->n_stops = n_stops;
    if (n_stops) {
        s->stops = srn_calloc(n_stops, sizeof *s->stops);
        s->stop_bytes = srn_calloc(bytes, 1);
        s->borders = srn_calloc(bytes, sizeof *s->borders);
        if (!s->stops || !s->stop_bytes || !s->borders) {
            srn_stream_free(s);
            return srn_fail_nomem(err, bytes);
        }
        take_stops(s, stops);
    }
    *ret = s;
    return SRN_OK;
}

void srn_stream_free(srn_stream *s) {
    if (!s) return;
    srn_buf_done(&s->text);
    free(s->stops);
    free(s->stop_bytes);
    free(s->borders);
    free(s->ends);
    free(s);
}

void srn_stream_continues(srn_stream *s) {
    s->detok.started = true;
}

/* ---- stops ---- */

/* One byte further; true when the stop is complete. */
static bool advance(const srn_stream *s, stop *t, char byte) {
    const char *text = s->stop_bytes + t->at;
    while (t->matched && text[t->matched] != byte) t->matched = s->borders[t->at + t->matched - 1];
    if (text[t->matched] == byte) t->matched++;
    return t->matched == t->len;
}

/* The bytes from `from` on are new: what of the text is certain, and whether a stop is complete. */
static void search(srn_stream *s, size_t from) {
    size_t held = 0, longest = 0;
    for (size_t i = from; i < s->text.len && s->found < 0; i++)
        for (uint32_t k = 0; k < s->n_stops; k++) {
            stop *t = s->stops + k;
            if (!advance(s, t, s->text.data[i]) || t->len <= longest) continue;
            longest = t->len;
            s->found = (int32_t)k;
            s->certain = i + 1 - (s->keep_stop ? 0 : t->len);
        }
    if (s->found >= 0) {
        s->text.len = s->certain;
        return;
    }
    for (uint32_t k = 0; k < s->n_stops; k++) held = SRN_MAX(held, s->stops[k].matched);
    s->certain = s->text.len - held;
}

/* ---- tokens ---- */

static void mark_certain_tokens(srn_stream *s) {
    uint32_t whole = s->found >= 0 ? s->n_tokens : s->n_whole;
    while (s->n_certain < whole && (s->found >= 0 || s->ends[s->n_certain] <= s->certain)) s->n_certain++;
}

static bool keep_end(srn_stream *s) {
    if (s->n_tokens == s->cap_tokens) {
        uint32_t cap = s->cap_tokens ? 2 * s->cap_tokens : 256;
        uint64_t *more = srn_realloc_array(s->ends, cap, sizeof *more);
        if (!more) return false;
        s->ends = more;
        s->cap_tokens = cap;
    }
    s->ends[s->n_tokens++] = s->text.len;
    return true;
}

int32_t srn_stream_add(srn_stream *s, int32_t token) {
    if (s->found >= 0 || s->failed) return s->found;
    size_t before = s->text.len, waited = s->detok.n_pending;
    srn_detok_add(&s->detok, token, &s->text);
    if (s->text.failed || !keep_end(s)) {
        s->failed = true;
        return -1;
    }
    if (!s->detok.n_pending)
        s->n_whole = s->n_tokens;
    else if (!waited || s->text.len > before) /* what waits is this token's alone */
        s->n_whole = s->n_tokens - 1;
    search(s, before);
    mark_certain_tokens(s);
    return s->found;
}

void srn_stream_end(srn_stream *s) {
    if (s->found >= 0) return;
    s->detok.n_pending = 0;
    s->certain = s->text.len;
    if (s->n_tokens) s->ends[s->n_tokens - 1] = s->text.len;
    s->n_certain = s->n_whole = s->n_tokens;
}

bool srn_stream_failed(const srn_stream *s) {
    return s->failed;
}

srn_str srn_stream_text(const srn_stream *s) {
    return (srn_str){s->text.data ? s->text.data : "", s->certain};
}

uint32_t srn_stream_n_tokens(const srn_stream *s) {
    return s->n_certain;
}

uint64_t srn_stream_text_end(const srn_stream *s, uint32_t i) {
    return SRN_MIN(s->ends[i], s->certain);
}
