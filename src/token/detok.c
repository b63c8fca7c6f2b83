/* Ids to bytes, and the stream that turns bytes into whole characters. Invalid ids give nothing. A srn_detok
 * belongs to one stream; the vocabulary is shared.
 */
#include "token/token_internal.h"

/* ---- one token ---- */

static void add_unescaped(srn_str t, srn_buf *out) {
    for (size_t i = 0; i < t.len;) {
        if (t.len - i >= 3 && memcmp(t.ptr + i, SRN__LOWLINE, 3) == 0) {
            srn_buf_addc(out, ' ');
            i += 3;
        } else {
            srn_buf_addc(out, t.ptr[i++]);
        }
    }
}

static void add_letters(srn_str t, srn_buf *out) {
    for (size_t i = 0; i < t.len;) {
        uint32_t cp = 0;
        size_t k = srn_utf8_get(t.ptr + i, t.len - i, &cp);
        int byte = k ? srn__letter_byte(cp) : -1;
        if (byte >= 0)
            srn_buf_addc(out, (char)byte);
        else
            srn_buf_add(out, t.ptr + i, k ? k : 1);
        i += k ? k : 1;
    }
}

/* The byte that a byte token stands for. */
static bool byte_token(const srn_vocab *v, int32_t id, uint8_t *ret) {
    unsigned b = 0;
    if (v->attr[id] != SRN_TOKEN_BYTE || v->text[id].len != 6) return false;
    char t[7] = {0};
    memcpy(t, v->text[id].ptr, 6);
    if (sscanf(t, "<0x%2x>", &b) != 1) return false;
    *ret = (uint8_t)b;
    return true;
}

size_t srn_token_bytes(const srn_vocab *v, int32_t id, bool special, srn_buf *out) {
    if (id < 0 || id >= v->n) return 0;
    size_t before = out->len;
    srn_str t = v->text[id];
    uint8_t byte = 0;
    if (v->attr[id] == SRN_TOKEN_CONTROL || v->attr[id] == SRN_TOKEN_UNKNOWN) {
        if (special) srn_buf_add(out, t.ptr, t.len);
    } else if (byte_token(v, id, &byte)) {
        srn_buf_addc(out, (char)byte);
    } else if (v->kind != SRN_VOCAB_BPE || v->raw_bpe) {
        add_unescaped(t, out);
    } else if (v->attr[id] == SRN_TOKEN_USER_DEFINED) {
        srn_buf_add(out, t.ptr, t.len);
    } else {
        add_letters(t, out);
    }
    return out->len - before;
}

/* ---- the stream ---- */

void srn_detok_init(srn_detok *d, const srn_vocab *v, bool special) {
    *d = (srn_detok){.vocab = v, .special = special};
}

/* Whether more bytes can complete the n < 4 bytes at p to a well-formed character. */
static bool is_prefix(const uint8_t *p, size_t n) {
    static const uint8_t least[4][2] = {{0xE0, 0xA0}, {0xF0, 0x90}, {0, 0}, {0, 0}};
    size_t want = p[0] >= 0xC2 && p[0] <= 0xDF   ? 2
                  : (p[0] & 0xF0) == 0xE0        ? 3
                  : p[0] >= 0xF0 && p[0] <= 0xF4 ? 4
                                                 : 0;
    if (n >= want) return false;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return false;
    if (n < 2) return true;
    for (size_t i = 0; i < SRN_LEN(least); i++)
        if (p[0] == least[i][0] && p[1] < least[i][1]) return false; /* overlong */
    return !(p[0] == 0xED && p[1] > 0x9F) && !(p[0] == 0xF4 && p[1] > 0x8F);
}

static void add_byte(srn_detok *d, uint8_t byte, srn_buf *out) {
    d->pending[d->n_pending++] = byte;
    for (;;) {
        if (srn_utf8_len((const char *)d->pending, d->n_pending) == d->n_pending) {
            srn_buf_add(out, d->pending, d->n_pending);
            d->n_pending = 0;
            return;
        }
        if (is_prefix(d->pending, d->n_pending)) return;
        srn_buf_addz(out, SRN__REPLACEMENT);
        if (d->n_pending == 1) {
            d->n_pending = 0;
            return;
        }
        d->pending[0] = byte; /* what came before is lost; the last byte may start a character */
        d->n_pending = 1;
    }
}

void srn_detok_add(srn_detok *d, int32_t id, srn_buf *out) {
    const srn_vocab *v = d->vocab;
    if (id < 0 || id >= v->n) return;
    srn_buf b;
    srn_buf_init(&b, (size_t)SRN__MAX_TOKEN_BYTES * 4);
    srn_token_bytes(v, id, d->special, &b);
    bool control = v->attr[id] == SRN_TOKEN_CONTROL || v->attr[id] == SRN_TOKEN_UNKNOWN;
    bool drops_space = v->kind == SRN_VOCAB_WPM || v->add_space_prefix;
    size_t i = !d->started && !control && drops_space && b.len && b.data[0] == ' ' ? 1 : 0;
    for (; i < b.len; i++) add_byte(d, (uint8_t)b.data[i], out);
    d->started = !control; /* the tokenizer adds its space again after a control token */
    out->failed = out->failed || b.failed;
    srn_buf_done(&b);
}

void srn_detok_end(srn_detok *d, srn_buf *out) {
    if (d->n_pending) srn_buf_addz(out, SRN__REPLACEMENT);
    d->n_pending = 0;
}
