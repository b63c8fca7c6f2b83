/* Fields of a request's JSON with their types and ranges; what is wrong is remembered by name, as API errors
 * state it. Pure; any thread. A field that is absent or null leaves the value as it was. Names from a table
 * are constants (ret_param); those that are composed stand in srn__fields.
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
/* Fails with SRN_EUNSUP at the first of the n keys that is given. */
int srn__field_refuse(srn__fields *f, const json_t *object, const char *const *keys, size_t n);

typedef enum srn__field_kind {
    SRN__FIELD_F32,
    SRN__FIELD_I32,
    SRN__FIELD_U32,
    SRN__FIELD_BOOL
} srn__field_kind;
/* One optional field: null or absent leaves *(base + offset) as it is. */
typedef struct srn__field {
    const char *name;
    srn__field_kind kind;
    size_t offset;
    double min, max; /* both allowed, unless above_min */
    bool above_min;
} srn__field;
int srn__fields_read(const json_t *body, const srn__field *fields, size_t n, void *base,
                     const char **ret_param, srn_err *err);
/* A field that must have this type where it is given; *ret NULL where it is absent or null. */
int srn__field_string(const json_t *body, const char *name, const char **ret, const char **ret_param,
                      srn_err *err);
int srn__field_object(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                      srn_err *err);
int srn__field_array(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                     srn_err *err);
const char *srn__json_type_name(const json_t *j); /* "a string", ... */
/* As srn__fields_read, remembering the field. */
int srn__field_table(srn__fields *f, const json_t *object, const srn__field *fields, size_t n, void *base);

typedef struct srn__text_part {
    const char *type, *member; /* of a part: its type, and which of its members is the text */
} srn__text_part;
/* A text, or an array of parts of these kinds [n], as the content of a chat message (a new reference). noun
 * is what the API calls a part. SRN_EINVAL: no text; SRN_EUNSUP: a part of another type. */
int srn__field_text(srn__fields *f, const json_t *v, const char *param, const char *noun,
                    const srn__text_part *kinds, size_t n, json_t **ret);

#endif
