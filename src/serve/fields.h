/* Fields of a request's JSON with their types and ranges; what is wrong is remembered by name, as API errors
 * state it. Pure; any thread. A field that is absent or null leaves the value as it was.
 */
#ifndef SRN_SERVE_FIELDS_H
#define SRN_SERVE_FIELDS_H

#include <jansson.h>

#include "base/base.h"

typedef struct srn__fields {
    char param[96]; /* of the failure: "messages.2.content"; "" where none is to blame */
    srn_err *err;
} srn__fields;

/* Remembers param and fails with "PARAM: sentence". */
int srn__field_wrong(srn__fields *f, int code, const char *param, const char *fmt, ...) SRN_PRINTF(4, 5);

bool srn__field_given(const json_t *object, const char *key); /* there and not null */
int srn__field_number(srn__fields *f, const json_t *object, const char *key, double min, double max,
                      double *ret);
int srn__field_integer(srn__fields *f, const json_t *object, const char *key, json_int_t min, json_int_t max,
                       json_int_t *ret);
/* param: the field's whole name, for one inside another. */
int srn__field_bool(srn__fields *f, const json_t *object, const char *key, const char *param, bool *ret);
/* Fails with SRN_EUNSUP at the first of the n keys that is given. */
int srn__field_refuse(srn__fields *f, const json_t *object, const char *const *keys, size_t n);

#endif
