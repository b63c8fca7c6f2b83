/* Reading fields of a request's JSON (fields.h). Pure; any thread. */
#include "serve/fields.h"

int srn__field_wrong(srn__fields *f, int code, const char *param, const char *fmt, ...) {
    va_list ap;
    snprintf(f->param, sizeof f->param, "%s", param);
    va_start(ap, fmt);
    srn_vfail(f->err, code, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(f->err, code, "%s", f->param);
}

bool srn__field_given(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v);
}

int srn__field_number(srn__fields *f, const json_t *object, const char *key, double min, double max,
                      double *ret) {
    const json_t *v = json_object_get(object, key);
    if (!srn__field_given(object, key)) return SRN_OK;
    if (!json_is_number(v)) return srn__field_wrong(f, SRN_EINVAL, key, "needs a number");
    double x = json_number_value(v);
    if (!(x >= min && x <= max))
        return srn__field_wrong(f, SRN_EINVAL, key, "must be from %g to %g, not %g", min, max, x);
    *ret = x;
    return SRN_OK;
}

int srn__field_integer(srn__fields *f, const json_t *object, const char *key, json_int_t min, json_int_t max,
                       json_int_t *ret) {
    const json_t *v = json_object_get(object, key);
    if (!srn__field_given(object, key)) return SRN_OK;
    if (!json_is_integer(v)) return srn__field_wrong(f, SRN_EINVAL, key, "needs a whole number");
    if (json_integer_value(v) < min || json_integer_value(v) > max)
        return srn__field_wrong(f, SRN_EINVAL, key, "must be from %lld to %lld", (long long)min,
                                (long long)max);
    *ret = json_integer_value(v);
    return SRN_OK;
}

int srn__field_bool(srn__fields *f, const json_t *object, const char *key, const char *param, bool *ret) {
    const json_t *v = json_object_get(object, key);
    if (!srn__field_given(object, key)) return SRN_OK;
    if (!json_is_boolean(v)) return srn__field_wrong(f, SRN_EINVAL, param, "needs true or false");
    *ret = json_is_true(v);
    return SRN_OK;
}

int srn__field_refuse(srn__fields *f, const json_t *object, const char *const *keys, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (srn__field_given(object, keys[i]))
            return srn__field_wrong(f, SRN_EUNSUP, keys[i], "is not supported");
    return SRN_OK;
}
