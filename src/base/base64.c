/* Base64 (RFC 4648, the standard alphabet): bytes to text for answers and records, and back for records that
 * are read again. Pure. Refuses what is none.
 */
#include "base/base.h"

void srn_base64_add(srn_buf *out, const uint8_t *p, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        if (i + 1 < n) v |= (uint32_t)p[i + 1] << 8;
        if (i + 2 < n) v |= p[i + 2];
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                        i + 2 < n ? digits[v & 63] : '='};
        srn_buf_add(out, four, sizeof four);
    }
}

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The digits of a text, without the padding at its end. */
static size_t digits_of(srn_str text) {
    size_t n = text.len;
    while (n && text.ptr[n - 1] == '=') n--;
    return n;
}

size_t srn_base64_bytes(srn_str text) {
    size_t n = digits_of(text);
    return n / 4 * 3 + n % 4 * 3 / 4;
}

bool srn_base64_get(srn_str text, uint8_t *ret) {
    size_t n = digits_of(text), bytes = srn_base64_bytes(text), at = 0;
    uint32_t hold = 0;
    if (n % 4 == 1) return false;
    for (size_t i = 0, bits = 0; i < n; i++) {
        int d = digit(text.ptr[i]);
        if (d < 0) return false;
        hold = hold << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8 && at < bytes) bits -= 8, ret[at++] = (uint8_t)(hold >> bits);
    }
    return true;
}
