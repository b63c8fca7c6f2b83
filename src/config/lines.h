/* Files with a JSON value a line (JSONL): the lines as values, with places for errors. Pure; any thread. */
#ifndef SRN_CONFIG_LINES_H
#define SRN_CONFIG_LINES_H

#include <jansson.h>

#include "base/base.h"

enum { SRN_JSON_LINE_MAX = 8 << 20, SRN_JSON_PLACE_MAX = 256 };

/* A value and its place, "FILE: line N", for errors of fn's own. Other than SRN_OK ends the reading. */
typedef int srn_json_line_fn(void *ctx, json_t *value, const char *place, srn_err *err);
/* Every line that is not blank, in order. *ret_lines (may be NULL): how many lines there are, blank ones
 * included. SRN_EFORMAT names line and column: no JSON, a name twice in an object, more than 8 MiB. */
int srn_json_lines(srn_str text, const char *file, srn_json_line_fn *fn, void *ctx, size_t *ret_lines,
                   srn_err *err);
/* "line N" of such a place: a name for who has none. */
const char *srn_json_line_name(const char *place);

#endif
