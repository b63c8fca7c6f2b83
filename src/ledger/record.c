/* Bodies of records: JSON objects from the server, or from a database that somebody may have edited, checked
 * and turned into what is searched. Pure; any thread. Refuses what is not an object, duplicate fields,
 * another version, fields of other types or past their bounds, and kinds that do not exist; unknown fields
 * stay in the body and are not looked at.
 */
#include <stdlib.h>

#include "ledger/ledger_internal.h"

struct srn_record {
    json_t *root;
    srn_record_kind kind;
    bool has_id;
    srn_call_row row;
};

enum { TEXT_BYTES = 4096 };

typedef struct fields { /* of one object; errors name "path.field" */
    const json_t *object;
    const char *path;
    srn_err *err;
} fields;

static int bad(const fields *f, const char *name, const char *what) {
    return srn_fail(f->err, SRN_EFORMAT, "record: %s%s%s %s", f->path, *f->path ? "." : "", name, what);
}

/* A text, "" where it is null or absent. */
static int get_text(const fields *f, const char *name, const char **ret) {
    const json_t *v = json_object_get(f->object, name);
    *ret = "";
    if (!v || json_is_null(v)) return SRN_OK;
    if (!json_is_string(v)) return bad(f, name, "must be a text or null");
    if (json_string_length(v) > TEXT_BYTES) return bad(f, name, "is longer than 4096 bytes");
    *ret = json_string_value(v);
    return SRN_OK;
}

static int need_text(const fields *f, const char *name, const char **ret) {
    int code = get_text(f, name, ret);
    return code || **ret ? code : bad(f, name, "is missing");
}

/* A whole number of 0 to max, 0 where it is null or absent. */
static int get_number(const fields *f, const char *name, uint64_t max, uint64_t *ret) {
    const json_t *v = json_object_get(f->object, name);
    *ret = 0;
    if (!v || json_is_null(v)) return SRN_OK;
    if (!json_is_integer(v)) return bad(f, name, "must be a whole number or null");
    json_int_t n = json_integer_value(v);
    if (n < 0 || (uint64_t)n > max) return bad(f, name, "is out of range");
    *ret = (uint64_t)n;
    return SRN_OK;
}

static int get_u32(const fields *f, const char *name, uint32_t *ret) {
    uint64_t n;
    int code = get_number(f, name, UINT32_MAX, &n);
    if (!code) *ret = (uint32_t)n;
    return code;
}

static int need_number(const fields *f, const char *name, uint64_t *ret) {
    if (!json_is_integer(json_object_get(f->object, name))) return bad(f, name, "must be a whole number");
    return get_number(f, name, INT64_MAX, ret);
}

/* An object within: absent and null are an empty one. */
static int get_object(const fields *f, const char *name, fields *ret) {
    const json_t *v = json_object_get(f->object, name);
    *ret = (fields){NULL, name, f->err};
    if (!v || json_is_null(v)) return SRN_OK;
    if (!json_is_object(v)) return bad(f, name, "must be an object or null");
    ret->object = v;
    return SRN_OK;
}

static int get_id(const fields *f, srn_record *r) {
    const char *text;
    int code = need_text(f, "id", &text);
    if (code) return code;
    if (!srn_ulid_parse(srn_str_of(text), r->row.id))
        return bad(f, "id", "must be the id of a call: 26 letters and digits");
    r->has_id = true;
    return SRN_OK;
}

static int decode_texts(const fields *f, srn_call_row *row) {
    const struct {
        const char *name, **dest;
    } texts[] = {
        {"finish", &row->finish},
        {"error", &row->error},
        {"endpoint", &row->endpoint},
        {"route", &row->route},
        {"key", &row->key},
        {"tenant", &row->tenant},
        {"conversation", &row->conversation},
        {"model", &row->model},
        {"weights", &row->weights},
        {"quantisation", &row->quantisation},
        {"config", &row->config},
        {"experiment", &row->experiment},
        {"arm", &row->arm},
    };
    int code = SRN_OK;
    for (size_t i = 0; i < SRN_LEN(texts) && !code; i++) code = get_text(f, texts[i].name, texts[i].dest);
    return code;
}

static int decode_prompt(const fields *f, srn_call_row *row) {
    fields p;
    int code = get_object(f, "prompt", &p);
    if (!code) code = get_text(&p, "name", &row->prompt);
    if (!code) code = get_u32(&p, "version", &row->version);
    if (!code) code = get_text(&p, "hash", &row->prompt_hash);
    if (!code && !*row->prompt != !row->version)
        code = bad(&p, "version", "and prompt.name belong together: one of them is missing");
    return code;
}

static int decode_tokens(const fields *f, srn_call_row *row) {
    fields t;
    int code = get_object(f, "tokens", &t);
    if (!code) code = get_u32(&t, "input", &row->n_input);
    if (!code) code = get_u32(&t, "cached", &row->n_cached);
    if (!code) code = get_u32(&t, "output", &row->n_output);
    if (!code) code = get_u32(&t, "reasoning", &row->n_reasoning);
    return code;
}

static int decode_times(const fields *f, srn_call_row *row) {
    fields t;
    int code = get_object(f, "us", &t);
    if (!code) code = get_number(&t, "queue", INT64_MAX, &row->queue_us);
    if (!code) code = get_number(&t, "ttft", INT64_MAX, &row->ttft_us);
    if (!code) code = get_number(&t, "itl", INT64_MAX, &row->itl_us);
    if (!code) code = get_number(&t, "itl_max", INT64_MAX, &row->itl_max_us);
    if (!code) code = get_number(&t, "total", INT64_MAX, &row->total_us);
    return code;
}

static int decode_call(const fields *f, srn_record *r) {
    srn_call_row *row = &r->row;
    uint64_t status = 0;
    int code = get_id(f, r);
    if (!code) code = need_number(f, "begun_us", &row->begun_us);
    if (!code && r->kind == SRN_RECORD_CALL && !json_is_integer(json_object_get(f->object, "status")))
        code = bad(f, "status", "must be a whole number");
    if (!code) code = get_number(f, "status", 999, &status);
    if (!code) code = decode_texts(f, row);
    if (!code) code = decode_prompt(f, row);
    if (!code) code = decode_tokens(f, row);
    if (!code) code = decode_times(f, row);
    const json_t *streamed = json_object_get(f->object, "streamed");
    if (!code && streamed && !json_is_null(streamed) && !json_is_boolean(streamed))
        code = bad(f, "streamed", "must be true, false or null");
    row->status = (int32_t)status;
    row->streamed = json_is_true(streamed);
    return code;
}

static int decode_event(const fields *f) {
    const char *text;
    uint64_t at_us;
    int code = need_text(f, "event", &text);
    if (!code) code = need_text(f, "by", &text);
    return code ? code : need_number(f, "at_us", &at_us);
}

static int decode_feedback(const fields *f, srn_record *r) {
    const char *text;
    uint64_t at_us;
    int code = get_id(f, r);
    if (!code) code = need_text(f, "by", &text);
    if (!code) code = need_number(f, "at_us", &at_us);
    if (!code) code = get_text(f, "label", &text);
    const json_t *score = json_object_get(f->object, "score");
    if (!code && score && !json_is_null(score) && !json_is_number(score))
        code = bad(f, "score", "must be a number or null");
    return code;
}

/* What checkpoints and tombstones have in common: a signed place in the chain. */
static int decode_signed(const fields *f, const char *const *numbers, const char *const *texts) {
    int code = SRN_OK;
    const char *text;
    uint64_t n;
    for (; *numbers && !code; numbers++) code = need_number(f, *numbers, &n);
    for (; *texts && !code; texts++) code = need_text(f, *texts, &text);
    return code;
}

static int decode_fields(srn_record *r, srn_err *err) {
    fields f = {r->root, "", err};
    const json_t *v = json_object_get(r->root, "v");
    if (!json_is_integer(v) || json_integer_value(v) != 1)
        return bad(&f, "v", "must be 1: records of other versions are not known");
    switch (r->kind) {
    case SRN_RECORD_INTENT:
    case SRN_RECORD_CALL:
        return decode_call(&f, r);
    case SRN_RECORD_EVENT:
        return decode_event(&f);
    case SRN_RECORD_FEEDBACK:
        return decode_feedback(&f, r);
    case SRN_RECORD_CHECKPOINT:
        return decode_signed(&f, (const char *const[]){"epoch", "seq", "at_us", NULL},
                             (const char *const[]){"instance", "hash", "key", "sig", NULL});
    case SRN_RECORD_TOMBSTONE:
        return decode_signed(
            &f, (const char *const[]){"epoch", "from", "to", "to_us", "at_us", "n_kept", NULL},
            (const char *const[]){"instance", "before", "after", "kept", "key", "sig", NULL});
    }
    return srn_fail(err, SRN_EFORMAT, "record: there is no kind %d", (int)r->kind);
}

int srn_record_decode(srn_record_kind kind, srn_str body, srn_record **ret, srn_err *err) {
    if (body.len > SRN__BODY_BYTES)
        return srn_fail(err, SRN_EFORMAT, "record: %zu bytes are more than the %d that it may have", body.len,
                        SRN__BODY_BYTES);
    json_error_t why;
    json_t *root = json_loadb(body.len ? body.ptr : "", body.len, JSON_REJECT_DUPLICATES, &why);
    if (!root) return srn_fail(err, SRN_EFORMAT, "record: at byte %d: %s", why.position, why.text);
    srn_record *r = json_is_object(root) ? srn_calloc(1, sizeof *r) : NULL;
    if (!r) {
        int code = json_is_object(root) ? srn_fail_nomem(err, sizeof *r)
                                        : srn_fail(err, SRN_EFORMAT, "record: it must be a JSON object");
        json_decref(root);
        return code;
    }
    r->root = root;
    r->kind = kind;
    int code = decode_fields(r, err);
    if (code) {
        srn_record_free(r);
        return code;
    }
    *ret = r;
    return SRN_OK;
}

void srn_record_free(srn_record *r) {
    if (!r) return;
    json_decref(r->root);
    free(r);
}

const srn_call_row *srn_record_call(const srn_record *r) {
    return &r->row;
}

const uint8_t *srn__record_id(const srn_record *r) {
    return r->has_id ? r->row.id : NULL;
}

const json_t *srn__record_json(const srn_record *r) {
    return r->root;
}
