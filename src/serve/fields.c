/* Reading fields of a request's JSON (fields.h): one by one and by tables. Types are checked strictly, null
 * counts as absent, and every refusal names the field. Pure; any thread.
 */
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

int srn__field_refuse(srn__fields *f, const json_t *object, const char *const *keys, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (srn__field_given(object, keys[i]))
            return srn__field_wrong(f, SRN_EUNSUP, keys[i], "is not supported");
    return SRN_OK;
}

/* ---- tables and types ---- */

const char *srn__json_type_name(const json_t *j) {
    if (!j) return "missing";
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array",     [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real number", [JSON_TRUE] = "a boolean",
        [JSON_FALSE] = "a boolean",    [JSON_NULL] = "null"};
    return names[json_typeof(j)];
}

static int wrong(const char *name, const char *want, const json_t *j, const char **ret_param, srn_err *err) {
    *ret_param = name;
    return srn_fail(err, SRN_EINVAL, "'%s' must be %s, it is %s", name, want, srn__json_type_name(j));
}

static int read_bool(const json_t *j, const srn__field *f, void *at, const char **ret_param, srn_err *err) {
    if (!json_is_boolean(j)) return wrong(f->name, "a boolean", j, ret_param, err);
    *(bool *)at = json_is_true(j);
    return SRN_OK;
}

static int read_field(const json_t *j, const srn__field *f, void *at, const char **ret_param, srn_err *err) {
    if (f->kind == SRN__FIELD_BOOL) return read_bool(j, f, at, ret_param, err);
    bool whole = f->kind != SRN__FIELD_F32;
    if (whole ? !json_is_integer(j) : !json_is_number(j))
        return wrong(f->name, whole ? "an integer" : "a number", j, ret_param, err);
    double v = json_number_value(j);
    if (!(v >= f->min && v <= f->max) || (f->above_min && !(v > f->min))) {
        *ret_param = f->name;
        return srn_fail(err, SRN_EINVAL, "'%s' is %.10g; it must be %s %.10g and at most %.10g", f->name, v,
                        f->above_min ? "above" : "at least", f->min, f->max);
    }
    if (f->kind == SRN__FIELD_F32)
        *(float *)at = (float)v;
    else if (f->kind == SRN__FIELD_I32)
        *(int32_t *)at = (int32_t)json_integer_value(j);
    else
        *(uint32_t *)at = (uint32_t)json_integer_value(j);
    return SRN_OK;
}

int srn__fields_read(const json_t *body, const srn__field *fields, size_t n, void *base,
                     const char **ret_param, srn_err *err) {
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_object_get(body, fields[i].name);
        if (!j || json_is_null(j)) continue;
        int code = read_field(j, &fields[i], (char *)base + fields[i].offset, ret_param, err);
        if (code) return code;
    }
    return SRN_OK;
}

static const json_t *given(const json_t *body, const char *name) {
    const json_t *j = json_object_get(body, name);
    return json_is_null(j) ? NULL : j;
}

int srn__field_string(const json_t *body, const char *name, const char **ret, const char **ret_param,
                      srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_string(j)) return wrong(name, "a string", j, ret_param, err);
    *ret = json_string_value(j);
    return SRN_OK;
}

int srn__field_object(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                      srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_object(j)) return wrong(name, "an object", j, ret_param, err);
    *ret = j;
    return SRN_OK;
}

int srn__field_array(const json_t *body, const char *name, const json_t **ret, const char **ret_param,
                     srn_err *err) {
    const json_t *j = given(body, name);
    if (j && !json_is_array(j)) return wrong(name, "an array", j, ret_param, err);
    *ret = j;
    return SRN_OK;
}

int srn__field_table(srn__fields *f, const json_t *object, const srn__field *fields, size_t n, void *base) {
    const char *param = NULL;
    int code = srn__fields_read(object, fields, n, base, &param, f->err);
    if (code) snprintf(f->param, sizeof f->param, "%s", param);
    return code;
}

/* ---- texts in parts ---- */

static int add_part(srn__fields *f, const json_t *part, const char *param, const char *noun, size_t i,
                    const srn__text_part *kinds, size_t n, json_t *to) {
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) return srn__field_wrong(f, SRN_EINVAL, param, "%s %zu has no type", noun, i);
    for (size_t k = 0; k < n; k++) {
        if (strcmp(type, kinds[k].type) != 0) continue;
        json_t *text = json_object_get(part, kinds[k].member);
        if (!json_is_string(text))
            return srn__field_wrong(f, SRN_EINVAL, param, "%s %zu needs a %s", noun, i, kinds[k].member);
        json_t *chat = json_pack("{s:s, s:O}", "type", "text", "text", text);
        return json_array_append_new(to, chat) ? srn_fail_nomem(f->err, 0) : SRN_OK;
    }
    return srn__field_wrong(f, SRN_EUNSUP, param, "%s %zu has the type '%.40s'; only text is supported here",
                            noun, i, type);
}

int srn__field_text(srn__fields *f, const json_t *v, const char *param, const char *noun,
                    const srn__text_part *kinds, size_t n, json_t **ret) {
    json_t *parts, *part;
    size_t i;
    int code = SRN_OK;
    if (!json_is_string(v) && !json_is_array(v))
        return srn__field_wrong(f, SRN_EINVAL, param, "needs a text or an array of %ss of text", noun);
    parts = json_is_string(v) ? json_copy((json_t *)v) : json_array();
    if (!parts) return srn_fail_nomem(f->err, 0);
    json_array_foreach(v, i, part) if (!code) code = add_part(f, part, param, noun, i, kinds, n, parts);
    if (code)
        json_decref(parts);
    else
        *ret = parts;
    return code;
}
