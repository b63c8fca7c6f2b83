/* serin regress: a file with a request a line, and a file of checks. Main thread. Refuses lines that are no
 * request, naming file and line.
 */
#include <stdlib.h>

#include "cli/regress.h"
#include "config/lines.h"

enum { MAX_FILE = 256 << 20, MAX_CHECKS_FILE = 8 << 20 };

static int add_line(void *ctx, json_t *value, const char *place, srn_err *err) {
    srn__regress *c = ctx;
    return c->g.n < c->g.limit ? srn_regress_add(&c->g, value, place, srn_json_line_name(place), err)
                               : SRN_OK;
}

static int read_requests(srn__regress *c, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(c->file, MAX_FILE, &text, &len, err);
    if (code) return code;
    code = srn_json_lines((srn_str){text, len}, c->file, add_line, c, NULL, err);
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
