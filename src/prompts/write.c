/* Documents as text: canonical JSON, in the order that the author chose (a model reads tools and schemas in
 * their order), and YAML for people. Both are read back as the same document. Pure.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "prompts/prompts_internal.h"

/* ---- JSON ---- */

/* The shortest digits that read as the same double, always with a point or an exponent. */
static void put_real(srn_buf *b, double d) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d) break;
    }
    srn_buf_addz(b, text);
    if (!strpbrk(text, ".e")) srn_buf_addz(b, ".0");
}

static void put_string(srn_buf *b, const char *p, size_t n) {
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    srn_buf_addc(b, '"');
    for (size_t i = 0; i < n; i++) {
        const char *e = NULL;
        for (size_t k = 0; k + 1 < sizeof escapes && !e; k += 2)
            if (escapes[k] == p[i]) e = &escapes[k + 1];
        if (e)
            srn_buf_addf(b, "\\%c", *e);
        else if ((unsigned char)p[i] < 32 || p[i] == 127)
            srn_buf_addf(b, "\\u%04x", (unsigned)(unsigned char)p[i]);
        else
            srn_buf_addc(b, p[i]);
    }
    srn_buf_addc(b, '"');
}

void srn__prompt_put(srn_buf *b, const json_t *v) {
    const char *key;
    json_t *item;
    size_t i;
    bool first = true;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        srn_buf_addc(b, '{');
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            if (!first) srn_buf_addc(b, ',');
            first = false;
            put_string(b, key, strlen(key));
            srn_buf_addc(b, ':');
            srn__prompt_put(b, item);
        }
        srn_buf_addc(b, '}');
        break;
    case JSON_ARRAY:
        srn_buf_addc(b, '[');
        json_array_foreach(v, i, item) {
            if (i) srn_buf_addc(b, ',');
            srn__prompt_put(b, item);
        }
        srn_buf_addc(b, ']');
        break;
    case JSON_STRING:
        put_string(b, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        srn_buf_addf(b, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        put_real(b, json_real_value(v));
        break;
    default:
        srn_buf_addz(b, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
    }
}

void srn__prompt_put_value(srn_buf *b, const json_t *v) {
    if (json_is_string(v))
        srn_buf_add(b, json_string_value(v), json_string_length(v));
    else
        srn__prompt_put(b, v);
}

int srn_prompt_document(const srn_prompt *p, srn_buf *ret, srn_err *err) {
    srn__prompt_put(ret, srn__version_of(p)->doc);
    return ret->failed ? srn_fail(err, SRN_ELIMIT, "the document is larger than its buffer") : SRN_OK;
}

/* ---- YAML ---- */

static void put_yaml(srn_buf *b, const json_t *v, int indent, bool in_list);

static void put_indent(srn_buf *b, int n) {
    for (int i = 0; i < n; i++) srn_buf_addc(b, ' ');
}

/* Whether a text of several lines can stand as a block: printable, and no line that could be misread. */
static bool is_block(const char *p, size_t n) {
    if (n < 2 || !memchr(p, '\n', n - 1) || *p == ' ' || *p == '\n' || *p == '\t') return false;
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp;
        k = srn_utf8_get(p + i, n - i, &cp);
        bool odd = (cp < 32 && cp != '\n') || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029 ||
                   cp == 0xFEFF || cp == 0xFFFE || cp == 0xFFFF;
        if (!k || odd) return false;
        if (cp == '\n' && i && p[i - 1] == ' ') return false; /* blanks at a line's end get lost in editors */
    }
    return p[n - 1] != ' ';
}

/* Keeps the number of line breaks at the end: strip, clip or keep them. */
static void put_block(srn_buf *b, const char *p, size_t n, int indent) {
    size_t breaks = 0;
    while (breaks < n && p[n - 1 - breaks] == '\n') breaks++;
    srn_buf_addz(b, breaks == 0 ? "|-\n" : breaks == 1 ? "|\n" : "|+\n");
    for (size_t i = 0; i < n;) {
        const char *end = memchr(p + i, '\n', n - i);
        size_t len = end ? (size_t)(end - (p + i)) : n - i;
        if (len) put_indent(b, indent);
        srn_buf_add(b, p + i, len);
        srn_buf_addc(b, '\n');
        i += len + 1;
    }
}

/* Double quotes as YAML has them; a character beyond JSON's reach of "printable" is written by its number. */
static void put_quoted(srn_buf *b, const char *p, size_t n) {
    srn_buf_addc(b, '"');
    for (size_t i = 0, k; i < n; i += k) {
        uint32_t cp = 0;
        k = srn_utf8_get(p + i, n - i, &cp);
        if (!k) k = 1, cp = 0xFFFD;
        if (cp == '"' || cp == '\\')
            srn_buf_addf(b, "\\%c", (char)cp);
        else if (cp == '\n')
            srn_buf_addz(b, "\\n");
        else if (cp == '\t')
            srn_buf_addz(b, "\\t");
        else if (cp < 32 || (cp >= 0x7F && cp < 0xA0))
            srn_buf_addf(b, "\\x%02x", (unsigned)cp);
        else if (cp == 0x2028 || cp == 0x2029 || cp == 0xFEFF || cp == 0xFFFE || cp == 0xFFFF)
            srn_buf_addf(b, "\\u%04x", (unsigned)cp);
        else if (cp > 0xFFFF)
            srn_buf_addf(b, "\\U%08x", (unsigned)cp);
        else
            srn_buf_add(b, p + i, k);
    }
    srn_buf_addc(b, '"');
}

/* Words that are a text without quotes in every reader: letters and blanks, beginning with a letter. */
static bool is_plain(const char *p, size_t n) {
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    char lower[8] = "";
    if (n == 0 || n > 80 || p[n - 1] == ' ') return false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i], l = (char)(c | 32);
        bool letter = l >= 'a' && l <= 'z';
        if (!letter &&
            (i == 0 || !(c == ' ' || c == '_' || c == '-' || c == '/' || c == '.' || (c >= '0' && c <= '9'))))
            return false;
        if (n < sizeof lower) lower[i] = l;
    }
    for (size_t i = 0; i < SRN_LEN(words); i++)
        if (strcmp(lower, words[i]) == 0) return false;
    return true;
}

static void put_text(srn_buf *b, const char *p, size_t n) {
    if (is_plain(p, n))
        srn_buf_add(b, p, n);
    else
        put_quoted(b, p, n);
}

static void put_members(srn_buf *b, const json_t *v, int indent, bool in_list) {
    const char *key;
    json_t *item;
    bool first = in_list; /* the first one stands behind the dash */
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        if (!first) put_indent(b, indent);
        first = false;
        put_text(b, key, strlen(key));
        srn_buf_addc(b, ':');
        put_yaml(b, item, indent, false);
    }
}

static void put_items(srn_buf *b, const json_t *v, int indent) {
    json_t *item;
    size_t i;
    json_array_foreach(v, i, item) {
        put_indent(b, indent);
        srn_buf_addc(b, '-');
        put_yaml(b, item, indent, true);
    }
}

/* A value behind "key:" or "-", with the line break that ends it. */
static void put_yaml(srn_buf *b, const json_t *v, int indent, bool in_list) {
    if (json_object_size(v)) {
        if (in_list)
            srn_buf_addc(b, ' ');
        else
            srn_buf_addc(b, '\n');
        put_members(b, v, indent + 2, in_list);
    } else if (json_array_size(v)) {
        srn_buf_addc(b, '\n');
        put_items(b, v, indent + 2);
    } else if (json_is_string(v) && is_block(json_string_value(v), json_string_length(v))) {
        srn_buf_addc(b, ' ');
        put_block(b, json_string_value(v), json_string_length(v), indent + 2);
    } else {
        srn_buf_addc(b, ' ');
        if (json_is_string(v))
            put_text(b, json_string_value(v), json_string_length(v));
        else
            srn__prompt_put(b, v);
        srn_buf_addc(b, '\n');
    }
}

int srn_prompt_yaml(const srn_prompt *p, srn_buf *ret, srn_err *err) {
    put_members(ret, srn__version_of(p)->doc, 0, false);
    return ret->failed ? srn_fail(err, SRN_ELIMIT, "the document is larger than its buffer") : SRN_OK;
}
