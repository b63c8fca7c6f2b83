/* Lines of JSON values (lines.h). Pure; any thread. Refuses what is no JSON, and lines beyond a cap. */
#include "config/lines.h"

static int read_line(srn_str line, const char *place, srn_json_line_fn *fn, void *ctx, srn_err *err) {
    json_error_t e;
    if (line.len > SRN_JSON_LINE_MAX)
        return srn_fail(err, SRN_EFORMAT, "%s: it is longer than %d MiB", place, SRN_JSON_LINE_MAX >> 20);
    json_t *v = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!v) return srn_fail(err, SRN_EFORMAT, "%s, column %d: %s", place, e.column, e.text);
    int code = fn(ctx, v, place, err);
    json_decref(v);
    return code;
}

int srn_json_lines(srn_str text, const char *file, srn_json_line_fn *fn, void *ctx, size_t *ret_lines,
                   srn_err *err) {
    char place[SRN_JSON_PLACE_MAX];
    size_t number = 0;
    int code = SRN_OK;
    for (size_t at = 0; !code && at < text.len;) {
        const char *p = text.ptr + at, *end = memchr(p, '\n', text.len - at);
        size_t n = end ? (size_t)(end - p) : text.len - at, blank = 0;
        at += n + 1;
        snprintf(place, sizeof place, "%.200s: line %zu", file, ++number);
        while (blank < n && memchr(" \t\r", p[blank], 3)) blank++;
        if (blank < n) code = read_line((srn_str){p, n}, place, fn, ctx, err);
    }
    if (ret_lines) *ret_lines = number;
    return code;
}

const char *srn_json_line_name(const char *place) {
    const char *name = strstr(place, ": line ");
    for (const char *next = name; next; next = strstr(next + 1, ": line "))
        name = next; /* the file's name may have it */
    return name ? name + 2 : place;
}
