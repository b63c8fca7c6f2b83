/* Filters of calls: "model=small status>=500 since=1h ttft>2s prompt=support@3" to a list of terms that all
 * must hold. Pure, any thread. docs/calls.md states the language; the table of fields below is the one place
 * where fields are known. Refuses unknown fields, operators that a field does not take, values that are none
 * of its kind, and more terms or values than anybody writes; each error names the column.
 */
#include <stdlib.h>

#include "ledger/query_internal.h"

enum { MAX_TEXT = 4096, ARENA_BYTES = 256 << 10, MAX_LIST = 64 };

static const srn__field fields[] = {
    {"model", "model", SRN__FIELD_TEXT, true, false},
    {"weights", "weights", SRN__FIELD_DIGEST, true, false},
    {"quantisation", "quantisation", SRN__FIELD_TEXT, true, false},
    {"prompt", "prompt", SRN__FIELD_PROMPT, true, false},
    {"version", "version", SRN__FIELD_COUNT, true, false},
    {"prompt_hash", "prompt_hash", SRN__FIELD_DIGEST, false, false},
    {"experiment", "experiment", SRN__FIELD_TEXT, true, false},
    {"arm", "arm", SRN__FIELD_TEXT, true, false},
    {"why", "why", SRN__FIELD_WORD, false, false},
    {"fallback", "fallback", SRN__FIELD_FROM, false, false},
    {"endpoint", "endpoint", SRN__FIELD_TEXT, true, false},
    {"route", "route", SRN__FIELD_TEXT, true, false},
    {"key", "key", SRN__FIELD_TEXT, false, false},
    {"tenant", "tenant", SRN__FIELD_TEXT, false, false},
    {"subject", "subject", SRN__FIELD_MEMBER, false, false},
    {"conversation", "conversation", SRN__FIELD_DIGEST, false, false},
    {"config", "config", SRN__FIELD_DIGEST, false, false},
    {"status", "status", SRN__FIELD_STATUS, true, false},
    {"finish", "finish", SRN__FIELD_TEXT, true, false},
    {"error", "error", SRN__FIELD_TEXT, true, false},
    {"streamed", "streamed", SRN__FIELD_FLAG, false, false},
    {"total", "total_us", SRN__FIELD_SPAN, false, false},
    {"slow", "total_us", SRN__FIELD_SPAN, false, false},
    {"ttft", "ttft_us", SRN__FIELD_SPAN, false, true},
    {"itl", "itl_us", SRN__FIELD_SPAN, false, true},
    {"itl_max", "itl_max_us", SRN__FIELD_SPAN, false, true},
    {"queue", "queue_us", SRN__FIELD_SPAN, false, false},
    {"tokens", "(n_input + n_output)", SRN__FIELD_COUNT, false, false},
    {"input", "n_input", SRN__FIELD_COUNT, false, false},
    {"cached", "n_cached", SRN__FIELD_COUNT, false, false},
    {"output", "n_output", SRN__FIELD_COUNT, false, false},
    {"reasoning", "n_reasoning", SRN__FIELD_COUNT, false, false},
    {"since", "begun_us", SRN__FIELD_SINCE, true, false},
    {"until", "begun_us", SRN__FIELD_UNTIL, true, false},
};

typedef enum op { EQ, NE, GT, GE, LT, LE, CONTAINS, LACKS } op;
/* Longer ones first. */
static const struct {
    const char *text;
    op op;
} operators[] = {{"!=", NE}, {">=", GE}, {"<=", LE}, {"!~", LACKS},
                 {"=", EQ},  {">", GT},  {"<", LT},  {"~", CONTAINS}};

typedef struct parser {
    srn_str text;
    size_t at;
    uint64_t now_us;
    srn_filter *f;
    srn_err *err;
} parser;

static bool takes(const srn__field *f, op o) {
    switch (f->kind) {
    case SRN__FIELD_SINCE:
    case SRN__FIELD_UNTIL:
        return o == EQ;
    case SRN__FIELD_TEXT:
    case SRN__FIELD_DIGEST:
    case SRN__FIELD_PROMPT:
        return o == EQ || o == NE || o == CONTAINS || o == LACKS;
    case SRN__FIELD_FLAG:
    case SRN__FIELD_MEMBER:
    case SRN__FIELD_WORD:
    case SRN__FIELD_FROM:
        return o == EQ || o == NE;
    default:
        return o != CONTAINS && o != LACKS;
    }
}

/* ---- errors ---- */

static void list_fields(srn_buf *b) {
    for (size_t i = 0; i < SRN_LEN(fields); i++) srn_buf_addf(b, "%s%s", i ? ", " : "", fields[i].name);
}

static int unknown_field(parser *p, size_t from, size_t n) {
    srn_buf known;
    srn_buf_init(&known, 700);
    list_fields(&known);
    int code =
        srn_fail(p->err, SRN_EINVAL, "filter, column %zu: there is no field '%.*s'; there are %s", from + 1,
                 (int)SRN_MIN(n, (size_t)60), p->text.ptr + from, known.data ? known.data : "");
    srn_buf_done(&known);
    return code;
}

static int wrong_operator(parser *p, const srn__field *f, size_t at) {
    bool time = f->kind == SRN__FIELD_SINCE || f->kind == SRN__FIELD_UNTIL;
    bool text = f->kind == SRN__FIELD_TEXT || f->kind == SRN__FIELD_DIGEST || f->kind == SRN__FIELD_PROMPT;
    const char *those = time            ? "="
                        : text          ? "=, !=, ~ and !~"
                        : !takes(f, GT) ? "= and !="
                                        : "=, !=, >, >=, < and <=";
    return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: '%s' takes %s", at + 1, f->name, those);
}

/* ---- words ---- */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_spaces(parser *p) {
    while (p->at < p->text.len && is_space(p->text.ptr[p->at])) p->at++;
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || c == '_';
}

static int read_field(parser *p, const srn__field **ret) {
    size_t from = p->at, n = 0;
    while (from + n < p->text.len && is_name(p->text.ptr[from + n])) n++;
    srn_str name = {p->text.ptr + from, n};
    for (size_t i = 0; i < SRN_LEN(fields); i++)
        if (n && srn_str_eqz(name, fields[i].name)) {
            *ret = &fields[i];
            p->at += n;
            return SRN_OK;
        }
    if (!n) { /* show the word that is there */
        while (from + n < p->text.len && !is_space(p->text.ptr[from + n])) n++;
    }
    return unknown_field(p, from, n);
}

static int read_operator(parser *p, const srn__field *f, op *ret) {
    skip_spaces(p);
    for (size_t i = 0; i < SRN_LEN(operators); i++) {
        size_t n = strlen(operators[i].text);
        if (p->text.len - p->at < n || memcmp(p->text.ptr + p->at, operators[i].text, n) != 0) continue;
        *ret = operators[i].op;
        p->at += n;
        return SRN_OK;
    }
    return srn_fail(p->err, SRN_EINVAL,
                    "filter, column %zu: '%s' needs an operator and a value, such as %s=VALUE", p->at + 1,
                    f->name, f->name);
}

/* The text between quotes, in which \ takes the next character as it is. */
static int read_quoted(parser *p, srn_str *ret) {
    size_t from = p->at++, n = 0;
    char *to = srn_arena_alloc(&p->f->arena, p->text.len - from + 1);
    if (!to) return srn_fail_nomem(p->err, p->text.len - from);
    for (; p->at < p->text.len; p->at++) {
        char c = p->text.ptr[p->at];
        if (c == '"') {
            p->at++;
            *ret = (srn_str){to, n};
            return SRN_OK;
        }
        if (c == '\\' && p->at + 1 < p->text.len) c = p->text.ptr[++p->at];
        to[n++] = c;
    }
    return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: the quote is not closed", from + 1);
}

static int read_word(parser *p, srn_str *ret) {
    size_t from = p->at;
    if (from < p->text.len && p->text.ptr[from] == '"') return read_quoted(p, ret);
    while (p->at < p->text.len && !is_space(p->text.ptr[p->at]) && p->text.ptr[p->at] != ',') p->at++;
    char *copy = srn_arena_strndup(&p->f->arena, p->text.ptr + from, p->at - from);
    if (!copy) return srn_fail_nomem(p->err, p->at - from);
    *ret = (srn_str){copy, p->at - from};
    return SRN_OK;
}

/* ---- values ---- */

static int wrong_value(parser *p, const srn__place *w, const char *what) {
    return srn_fail(p->err, SRN_EINVAL, "filter, column %u: '%.*s' is no value of '%s': %s", w->column,
                    (int)SRN_MIN(w->text.len, (size_t)60), w->text.ptr, w->field, what);
}

static int read_digest(parser *p, const srn__place *w, srn__value *ret) {
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.ptr[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return wrong_value(p, w, "it needs the first digits of one, 0-9 and a-f");
    }
    ret->text = w->text;
    ret->prefix = w->text.len > 0; /* empty: where there is none */
    return SRN_OK;
}

static int read_plain(parser *p, const srn__place *w, srn__value *ret) {
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.ptr[i];
        if (!((c >= 'a' && c <= 'z') || c == '_')) return wrong_value(p, w, "it needs a word, a-z and _");
    }
    ret->text = w->text;
    return SRN_OK;
}

/* As JSON has it: what would be written otherwise there is in no name. */
static int read_model(parser *p, const srn__place *w, srn__value *ret) {
    for (size_t i = 0; i < w->text.len; i++) {
        char c = w->text.ptr[i];
        if (c == '"' || c == '\\' || (unsigned char)c < ' ')
            return wrong_value(p, w, "it needs the name of a model");
    }
    ret->text = w->text;
    return SRN_OK;
}

static int read_prompt(parser *p, const srn__place *w, srn__value *ret) {
    const char *at = w->text.len ? memchr(w->text.ptr, '@', w->text.len) : NULL;
    ret->text = w->text;
    if (!at) return SRN_OK;
    ret->text.len = (size_t)(at - w->text.ptr);
    srn__place v = *w;
    v.text = (srn_str){at + 1, w->text.len - ret->text.len - 1};
    uint64_t version = 0;
    if (srn__value_count(&v, &version, NULL) || version < 1 || version > UINT32_MAX)
        return wrong_value(p, w, "after @ comes the number of a version, from 1 on");
    ret->version = (uint32_t)version;
    return SRN_OK;
}

static int read_number(parser *p, const srn__field *f, const srn__place *w, uint64_t *ret) {
    return f->kind == SRN__FIELD_SPAN ? srn__value_span(w, ret, p->err) : srn__value_count(w, ret, p->err);
}

/* "5xx" */
static bool status_class(srn_str s, srn__value *ret) {
    if (s.len != 3 || s.ptr[0] < '1' || s.ptr[0] > '5' || memcmp(s.ptr + 1, "xx", 2) != 0) return false;
    ret->least = (s.ptr[0] - '0') * 100;
    ret->most = ret->least + 99;
    return true;
}

/* A number, or a range "a..b". */
static int read_range(parser *p, const srn__field *f, const srn__place *w, srn__value *ret) {
    if (f->kind == SRN__FIELD_STATUS && status_class(w->text, ret)) return SRN_OK;
    size_t dots = 0;
    while (dots + 1 < w->text.len && memcmp(w->text.ptr + dots, "..", 2) != 0) dots++;
    bool range = dots + 1 < w->text.len;
    srn__place low = *w, high = *w;
    uint64_t a = 0, b = 0;
    if (range) {
        low.text.len = dots;
        high.text = (srn_str){w->text.ptr + dots + 2, w->text.len - dots - 2};
        high.column += (uint32_t)dots + 2;
    }
    int code = read_number(p, f, &low, &a);
    if (!code) code = read_number(p, f, &high, &b);
    if (code) return code;
    if (a > b) return wrong_value(p, w, "the range ends before it begins");
    ret->least = (int64_t)a;
    ret->most = (int64_t)b;
    return SRN_OK;
}

/* What the operator makes of the value; false: the field does not take it. */
static bool apply(const srn__field *f, op o, srn__value *v) {
    int64_t floor = f->zero_absent ? 1 : 0;
    switch (o) {
    case GT:
        v->least = v->most + 1;
        v->most = INT64_MAX;
        return true;
    case GE:
        v->most = INT64_MAX;
        return true;
    case LT:
        v->most = v->least - 1;
        v->least = floor;
        return true;
    case LE:
        v->least = floor;
        return true;
    default:
        return o == EQ || o == NE;
    }
}

static int read_value(parser *p, const srn__field *f, op o, const srn__place *w, srn__value *ret) {
    switch (f->kind) {
    case SRN__FIELD_TEXT:
    case SRN__FIELD_DIGEST:
    case SRN__FIELD_PROMPT:
        ret->text = w->text;
        if (o == CONTAINS || o == LACKS) {
            ret->prefix = w->text.len > 0 && w->text.ptr[0] == '^';
            if (ret->prefix) ret->text = (srn_str){w->text.ptr + 1, w->text.len - 1};
            return ret->text.len ? SRN_OK : wrong_value(p, w, "~ looks for a text, which is empty");
        }
        if (f->kind == SRN__FIELD_TEXT) return SRN_OK;
        return f->kind == SRN__FIELD_DIGEST ? read_digest(p, w, ret) : read_prompt(p, w, ret);
    case SRN__FIELD_MEMBER:
        return read_digest(p, w, ret);
    case SRN__FIELD_WORD:
        return read_plain(p, w, ret);
    case SRN__FIELD_FROM:
        return read_model(p, w, ret);
    case SRN__FIELD_FLAG:
        ret->least = ret->most = srn_str_eqz(w->text, "true");
        if (ret->least || srn_str_eqz(w->text, "false")) return SRN_OK;
        return wrong_value(p, w, "it is true or false");
    default: {
        int code = read_range(p, f, w, ret);
        if (!code) apply(f, o, ret);
        return code;
    }
    }
}

/* ---- terms ---- */

static int read_time(parser *p, const srn__field *f) {
    srn__place w = {.column = (uint32_t)p->at + 1, .field = f->name};
    uint64_t us = 0;
    int code = read_word(p, &w.text);
    if (!code) code = srn__value_time(&w, p->now_us, &us, p->err);
    if (code) return code;
    if (f->kind == SRN__FIELD_SINCE)
        p->f->since_us = SRN_MAX(p->f->since_us, us);
    else
        p->f->until_us = SRN_MIN(p->f->until_us, us);
    return SRN_OK;
}

static int read_values(parser *p, const srn__field *f, op o, srn__term *t) {
    srn__value list[MAX_LIST];
    uint32_t n = 0;
    do {
        if (n) p->at++; /* the comma */
        srn__place w = {.column = (uint32_t)p->at + 1, .field = f->name};
        if (n == MAX_LIST || p->f->n_values == SRN__MAX_VALUES)
            return srn_fail(p->err, SRN_EINVAL,
                            "filter, column %u: more than %d values in a list, or %d in all", w.column,
                            MAX_LIST, SRN__MAX_VALUES);
        list[n] = (srn__value){0};
        int code = read_word(p, &w.text);
        if (!code) code = read_value(p, f, o, &w, &list[n]);
        if (code) return code;
        n++;
        p->f->n_values++;
    } while (p->at < p->text.len && p->text.ptr[p->at] == ',');
    srn__value *kept = srn_arena_alloc(&p->f->arena, n * sizeof *kept);
    if (!kept) return srn_fail_nomem(p->err, n * sizeof *kept);
    memcpy(kept, list, n * sizeof *kept);
    t->values = kept;
    t->n_values = n;
    return SRN_OK;
}

/* The operator that `slow=2s` means, and likewise. */
static op meant(const srn__field *f, op o) {
    return o == EQ && strcmp(f->name, "slow") == 0 ? GT : o;
}

static int read_term(parser *p) {
    const srn__field *f = NULL;
    op o = EQ;
    int code = read_field(p, &f);
    if (!code) code = read_operator(p, f, &o);
    if (code) return code;
    if (!takes(f, o)) return wrong_operator(p, f, p->at - 1);
    skip_spaces(p);
    bool text = f->kind == SRN__FIELD_TEXT || f->kind == SRN__FIELD_DIGEST || f->kind == SRN__FIELD_MEMBER ||
                f->kind == SRN__FIELD_WORD || f->kind == SRN__FIELD_FROM || f->kind == SRN__FIELD_PROMPT;
    if (p->at == p->text.len && !text)
        return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: '%s' needs a value", p->at + 1, f->name);
    if (f->kind == SRN__FIELD_SINCE || f->kind == SRN__FIELD_UNTIL) return read_time(p, f);
    if (p->f->n_terms == SRN__MAX_TERMS)
        return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: more than %d terms", p->at + 1,
                        SRN__MAX_TERMS);
    srn__term t = {.field = f, .negated = o == NE || o == LACKS, .contains = o == CONTAINS || o == LACKS};
    code = read_values(p, f, meant(f, o), &t);
    if (!code) p->f->terms[p->f->n_terms++] = t;
    return code;
}

static int read_all(parser *p) {
    if (p->text.len > MAX_TEXT)
        return srn_fail(p->err, SRN_EINVAL, "the filter has %zu bytes; at most %d are read", p->text.len,
                        MAX_TEXT);
    for (size_t i = 0, n; i < p->text.len; i += n) {
        n = srn_utf8_len(p->text.ptr + i, p->text.len - i);
        if (n == 0 || p->text.ptr[i] == 0)
            return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: not UTF-8 text", i + 1);
    }
    for (skip_spaces(p); p->at < p->text.len; skip_spaces(p)) {
        int code = read_term(p);
        if (code) return code;
        if (p->at < p->text.len && !is_space(p->text.ptr[p->at]))
            return srn_fail(p->err, SRN_EINVAL, "filter, column %zu: a space is missing after the quote",
                            p->at + 1);
    }
    return SRN_OK;
}

int srn_filter_parse(srn_str text, uint64_t now_us, srn_filter **ret, srn_err *err) {
    srn_filter *f = srn_calloc(1, sizeof *f);
    if (!f) return srn_fail_nomem(err, sizeof *f);
    srn_arena_init(&f->arena, ARENA_BYTES);
    f->until_us = INT64_MAX;
    parser p = {.text = text, .now_us = now_us, .f = f, .err = err};
    int code = read_all(&p);
    if (code) {
        srn_filter_free(f);
        return code;
    }
    *ret = f;
    return SRN_OK;
}

void srn_filter_free(srn_filter *f) {
    if (!f) return;
    srn_arena_done(&f->arena);
    free(f);
}

bool srn__filter_rolled(const srn_filter *f) {
    for (uint32_t i = 0; f && i < f->n_terms; i++)
        if (!f->terms[i].field->rolled) return false;
    return true;
}
