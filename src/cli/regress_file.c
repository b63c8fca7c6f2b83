/* serin regress: a file with a request a line, and a file of checks. Main thread. Refuses lines that are no
 * request, naming file and line.
 */
#include <stdlib.h>

#include "cli/regress.h"

enum { MAX_FILE = 256 << 20, MAX_LINE = 8 << 20, MAX_CHECKS_FILE = 8 << 20 };

static int read_line(srn__regress *c, size_t number, srn_str text, srn_err *err) {
    json_error_t je;
    char name[32], place[256];
    snprintf(name, sizeof name, "line %zu", number);
    snprintf(place, sizeof place, "%.200s: %s", c->file, name);
    if (text.len > MAX_LINE) return srn_fail(err, SRN_EFORMAT, "%s: it is longer than 8 MiB", place);
    json_t *o = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &je);
    if (!o) return srn_fail(err, SRN_EFORMAT, "%s, column %d: %s", place, je.column, je.text);
    int code = srn_regress_add(&c->g, o, place, name, err);
    json_decref(o);
    return code;
}

static int read_requests(srn__regress *c, srn_err *err) {
    char *text;
    size_t len, number = 0;
    int code = srn_read_file(c->file, MAX_FILE, &text, &len, err);
    if (code) return code;
    for (size_t at = 0; !code && at < len && c->g.n < c->g.limit;) {
        const char *p = text + at, *end = memchr(p, '\n', len - at);
        size_t n = end ? (size_t)(end - p) : len - at, blank = 0;
        at += n + 1;
        number++;
        while (blank < n && memchr(" \t\r", p[blank], 3)) blank++;
        if (blank < n) code = read_line(c, number, (srn_str){p, n}, err);
    }
    free(text);
    if (!code && !c->g.n) code = srn_fail(err, SRN_EFORMAT, "%s: there is no request in it", c->file);
    return code;
}

int srn__regress_checks_of(const char *file, srn_checks **ret, srn_err *err) {
    char *text;
    size_t len;
    json_error_t je;
    int code = srn_read_file(file, MAX_CHECKS_FILE, &text, &len, err);
    if (code) return code;
    json_t *list = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    free(text);
    if (!list)
        return srn_fail(err, SRN_EFORMAT, "%s: line %d, column %d: %s", file, je.line, je.column, je.text);
    code = srn_checks_new(list, file, ret, err);
    json_decref(list);
    return code;
}

int srn__regress_read_files(srn__regress *c, srn_err *err) {
    int code = c->checks_file ? srn__regress_checks_of(c->checks_file, &c->g.common, err) : SRN_OK;
    return !code && c->file ? read_requests(c, err) : code;
}
