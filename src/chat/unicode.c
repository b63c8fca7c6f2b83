/* Characters as Python's str methods see them, over utf8proc's tables. Pure functions. */
#include "chat/chat_internal.h"
#include "chat/unicode_tables.h"

#include <utf8proc.h>

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool srn__is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool srn__is_line_break(uint32_t cp) {
    return (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

bool srn__is_alpha(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool srn__is_decimal(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool srn__is_digit(uint32_t cp) {
    bool super = cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) ||
                 (cp >= 0x2080 && cp <= 0x2089) || (cp >= 0x2460 && cp <= 0x2468) ||
                 (cp >= 0x2474 && cp <= 0x247C) || (cp >= 0x2488 && cp <= 0x2490);
    return super || srn__is_decimal(cp);
}

bool srn__is_numeric(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}

bool srn__is_title(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_LT;
}

bool srn__is_upper(uint32_t cp) {
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z';
    return category(cp) == UTF8PROC_CATEGORY_LU || (cp >= 0x2160 && cp <= 0x216F) ||
           (cp >= 0x24B6 && cp <= 0x24CF);
}

bool srn__is_lower(uint32_t cp) {
    if (cp < 0x80) return cp >= 'a' && cp <= 'z';
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xAA || cp == 0xBA ||
           (cp >= 0x2170 && cp <= 0x217F) || (cp >= 0x24D0 && cp <= 0x24E9);
}

bool srn__is_printable(uint32_t cp) {
    if (cp < 0x80) return cp >= 0x20 && cp < 0x7F;
    utf8proc_category_t c = category(cp);
    return c != UTF8PROC_CATEGORY_CN && c < UTF8PROC_CATEGORY_ZS;
}

static size_t special(const special_case *rows, size_t n, uint32_t cp, uint32_t out[3]) {
    if (cp < 0x80) return 0;
    for (size_t i = 0; i < n && rows[i].cp <= cp; i++) {
        if (rows[i].cp != cp) continue;
        size_t len = 0;
        for (; len < 3 && rows[i].to[len]; len++) out[len] = rows[i].to[len];
        return len;
    }
    return 0;
}

size_t srn__upper(uint32_t cp, uint32_t out[3]) {
    size_t n = special(special_upper, SRN_LEN(special_upper), cp, out);
    if (n) return n;
    out[0] = (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
    return 1;
}

size_t srn__title(uint32_t cp, uint32_t out[3]) {
    size_t n = special(special_title, SRN_LEN(special_title), cp, out);
    if (n) return n;
    out[0] = (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
    return 1;
}

size_t srn__lower(uint32_t cp, uint32_t out[3]) {
    size_t n = special(special_lower, SRN_LEN(special_lower), cp, out);
    if (n) return n;
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    return 1;
}
