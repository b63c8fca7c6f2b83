/* A shape from JSON: an object of numbers and a few names. Pure; any thread. Refuses keys that there are not,
 * values of another kind, and whatever srn_shape_check refuses, each with the key's name.
 */
#include <jansson.h>
#include <math.h>

#include "synth/synth_internal.h"

typedef enum kind { TEXT, COUNT, REAL, FLAG } kind;

typedef struct field {
    const char *key;
    kind kind;
    size_t offset, size; /* in srn_shape */
} field;

#define FIELD(member, kind_)                                                                                 \
    { #member, kind_, offsetof(srn_shape, member), sizeof(((srn_shape *)0)->member) }

static const field fields[] = {
    FIELD(name, TEXT),         FIELD(arch, TEXT),    FIELD(n_vocab, COUNT),   FIELD(n_embd, COUNT),
    FIELD(n_layer, COUNT),     FIELD(n_head, COUNT), FIELD(n_head_kv, COUNT), FIELD(d_head, COUNT),
    FIELD(n_ff, COUNT),        FIELD(n_ctx, COUNT),  FIELD(n_expert, COUNT),  FIELD(n_expert_used, COUNT),
    FIELD(n_ff_expert, COUNT), FIELD(window, COUNT), FIELD(rope_base, REAL),  FIELD(norm_eps, REAL),
    FIELD(rope_factor, REAL),  FIELD(tied, FLAG),
};

static int wrong(const char *key, const char *wanted, srn_err *err) {
    return srn_fail(err, SRN_EFORMAT, "'%s' must be %s", key, wanted);
}

static int read_text(const field *f, const json_t *v, char *to, srn_err *err) {
    if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) >= f->size ||
        strlen(json_string_value(v)) != json_string_length(v)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "a text of 1 to %zu bytes", f->size - 1);
        return wrong(f->key, wanted, err);
    }
    memcpy(to, json_string_value(v), json_string_length(v) + 1);
    return SRN_OK;
}

static int read_field(const field *f, const json_t *v, srn_shape *s, srn_err *err) {
    char *to = (char *)s + f->offset;
    switch (f->kind) {
    case TEXT:
        return read_text(f, v, to, err);
    case COUNT:
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
            return wrong(f->key, "a whole number from 0 to 4294967295", err);
        memcpy(to, &(uint32_t){(uint32_t)json_integer_value(v)}, sizeof(uint32_t));
        return SRN_OK;
    case REAL:
        if (!json_is_number(v)) return wrong(f->key, "a number", err);
        memcpy(to, &(double){json_number_value(v)}, sizeof(double));
        return SRN_OK;
    case FLAG:
        if (!json_is_boolean(v)) return wrong(f->key, "true or false", err);
        memcpy(to, &(bool){json_is_true(v)}, sizeof(bool));
        return SRN_OK;
    }
    return SRN_OK;
}

static int read_all(json_t *o, srn_shape *s, srn_err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(o, key, v) {
        size_t i = 0;
        if (strcmp(key, "like") == 0) continue;
        while (i < SRN_LEN(fields) && strcmp(fields[i].key, key) != 0) i++;
        if (i == SRN_LEN(fields))
            return srn_fail(err, SRN_EFORMAT,
                            "there is no key '%.40s'; keys are like, name, arch, n_vocab, n_embd, n_layer, "
                            "n_head, n_head_kv, d_head, n_ff, n_ctx, n_expert, n_expert_used, n_ff_expert, "
                            "window, rope_base, norm_eps, rope_factor and tied",
                            key);
        int code = read_field(&fields[i], v, s, err);
        if (code) return code;
    }
    return SRN_OK;
}

/* What is not said follows from what is. */
static int complete(const json_t *o, bool alike, srn_shape *s, srn_err *err) {
    static const char *const needed[] = {"arch", "n_vocab", "n_embd", "n_layer", "n_head", "n_ff"};
    for (size_t i = 0; i < SRN_LEN(needed) && !alike; i++)
        if (!json_object_get(o, needed[i]))
            return srn_fail(
                err, SRN_EFORMAT,
                "the key '%s' is missing; \"like\": \"llama-3.2-1b\" takes what is not said from there",
                needed[i]);
    if (!s->n_head_kv) s->n_head_kv = s->n_head;
    if (!alike && !json_object_get(o, "d_head") && s->n_head) s->d_head = s->n_embd / s->n_head;
    if (!s->n_ctx) s->n_ctx = 8192;
    if (s->rope_base == 0) s->rope_base = 10000;
    if (s->norm_eps == 0) s->norm_eps = 1e-5;
    if (s->n_expert && !s->n_ff_expert) s->n_ff_expert = s->n_ff;
    return SRN_OK;
}

static int parse(json_t *o, const char *file, srn_shape *s, srn_err *err) {
    const json_t *like = json_object_get(o, "like");
    const srn_shape *base = NULL;
    if (!json_is_object(o))
        return srn_fail(err, SRN_EFORMAT, "a shape is an object: {\"arch\": \"llama\", ...}");
    if (like && !json_is_string(like)) return wrong("like", "the name of a shape", err);
    if (like && !(base = srn_shape_find(json_string_value(like))))
        return srn_fail(err, SRN_EINVAL,
                        "'like' is '%.60s', which no shape is called; `serin synth --list` names them",
                        json_string_value(like));
    if (base) *s = *base;
    const char *slash = strrchr(file, '/'), *start = slash ? slash + 1 : file, *dot = strrchr(start, '.');
    snprintf(s->name, sizeof s->name, "%.*s", dot && dot > start ? (int)SRN_MIN(dot - start, 60) : 60, start);
    int code = read_all(o, s, err);
    if (!code) code = complete(o, base, s, err);
    return code ? code : srn_shape_check(s, err);
}

int srn_shape_parse(const char *json, size_t len, const char *file, srn_shape *ret, srn_err *err) {
    json_error_t why;
    srn_shape s = {.n_vocab = 0};
    json_t *o = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        return srn_fail(err, SRN_EFORMAT, "%s: line %d, column %d: %s", file, why.line, why.column, why.text);
    int code = parse(o, file, &s, err);
    json_decref(o);
    if (code) return srn_fail_prefix(err, code, "%s", file);
    *ret = s;
    return SRN_OK;
}
