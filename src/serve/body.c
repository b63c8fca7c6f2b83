/* serve: a request's body as JSON. Pure; workers call it with bytes from outside. Two passes: a scan that
 * needs no stack and no memory refuses what would cost either (depth, number of values) and what jansson
 * would describe less well (UTF-8, NUL); jansson then parses. An object that names a key twice is refused:
 * two parsers in a row may each take another one.
 */
#include <limits.h>

#include "serve/http_internal.h"

typedef struct place {
    size_t line, column; /* from 1; columns count bytes */
} place;

static place place_of(srn_str s, size_t offset) {
    place p = {1, 1};
    for (size_t i = 0; i < offset && i < s.len; i++) {
        p.column++;
        if (s.ptr[i] == '\n') p = (place){p.line + 1, 1};
    }
    return p;
}

static int fail_at(srn_str s, size_t offset, srn_err *err, int code, const char *what) {
    place p = place_of(s, offset);
    return srn_fail(err, code, "the body is not acceptable JSON: %s at line %zu, column %zu (offset %zu)",
                    what, p.line, p.column, offset);
}

typedef struct scan {
    srn_str s;
    uint32_t depth, max_depth, containers, values;
    bool in_string;
} scan;

/* What one ASCII byte outside strings means for the counts. */
static int scan_structure(scan *x, size_t i, srn_err *err) {
    char what[80];
    switch (x->s.ptr[i]) {
    case '"':
        x->in_string = true;
        return 0;
    case '{':
    case '[':
        if (++x->depth > x->max_depth) {
            snprintf(what, sizeof what, "more than %u arrays or objects inside each other", x->max_depth);
            return fail_at(x->s, i, err, SRN_ELIMIT, what);
        }
        if (++x->containers > SRN__JSON_MAX_CONTAINERS) {
            snprintf(what, sizeof what, "more than %d arrays and objects", SRN__JSON_MAX_CONTAINERS);
            return fail_at(x->s, i, err, SRN_ELIMIT, what);
        }
        return 0;
    case '}':
    case ']':
        if (x->depth == 0) return fail_at(x->s, i, err, SRN_EFORMAT, "a bracket that closes nothing");
        x->depth--;
        return 0;
    case ',':
        if (++x->values > SRN__JSON_MAX_VALUES) {
            snprintf(what, sizeof what, "more than %d values", SRN__JSON_MAX_VALUES);
            return fail_at(x->s, i, err, SRN_ELIMIT, what);
        }
        return 0;
    default:
        return 0;
    }
}

int srn__json_check(srn_str body, uint32_t max_depth, srn_err *err) {
    if (body.len == 0) return srn_fail(err, SRN_EFORMAT, "the body is empty; send a JSON object");
    scan x = {.s = body, .max_depth = max_depth};
    for (size_t i = 0; i < body.len;) {
        char c = body.ptr[i];
        if (c == 0) return fail_at(body, i, err, SRN_EFORMAT, "a NUL byte");
        if ((unsigned char)c >= 0x80) {
            size_t n = srn_utf8_len(body.ptr + i, body.len - i);
            if (n == 0) return fail_at(body, i, err, SRN_EFORMAT, "bytes that are not UTF-8");
            if (!x.in_string) return fail_at(body, i, err, SRN_EFORMAT, "a character outside any string");
            i += n;
        } else if (x.in_string) {
            if (c == '"') x.in_string = false;
            i += c == '\\' && i + 1 < body.len && (unsigned char)body.ptr[i + 1] < 0x80 ? 2 : 1;
        } else {
            int code = scan_structure(&x, i, err);
            if (code) return code;
            i++;
        }
    }
    if (x.in_string) return fail_at(body, body.len, err, SRN_EFORMAT, "the end inside a string");
    if (x.depth) return fail_at(body, body.len, err, SRN_EFORMAT, "the end inside an array or object");
    return 0;
}

int srn__json_parse(srn_str body, uint32_t max_depth, json_t **ret, srn_err *err) {
    int code = srn__json_check(body, max_depth, err);
    if (code) return code;
    json_error_t e;
    json_t *v = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!v) {
        if (json_error_code(&e) == json_error_out_of_memory) return srn_fail_nomem(err, body.len);
        /* jansson's position is behind the token that it stumbled on */
        size_t offset = e.position > 0 ? SRN_MIN((size_t)e.position, body.len) - 1 : 0;
        return fail_at(body, offset, err, SRN_EFORMAT,
                       json_error_code(&e) == json_error_null_character ? "a NUL character (\\u0000)"
                                                                        : e.text);
    }
    *ret = v;
    return 0;
}
