/* A filter as a condition of SQL: every value is a bound parameter, names of columns come from the table of
 * fields alone. Pure. The text is the common ground of SQLite and PostgreSQL: parameters are $1, $2, ... in
 * the order in which they appear, and a substring is looked for by LIKE with an escape.
 */
#include "ledger/query_internal.h"

enum { MAX_SQL = 128 << 10, MAX_PATTERNS = 64 << 10 };

void srn__sql_init(srn__sql *q) {
    srn_buf_init(&q->text, MAX_SQL);
    srn_arena_init(&q->arena, MAX_PATTERNS);
    q->n_params = 0;
}

void srn__sql_done(srn__sql *q) {
    srn_buf_done(&q->text);
    srn_arena_done(&q->arena);
}

static void add_param(srn__sql *q, srn__param p) {
    if (q->n_params == SRN__MAX_PARAMS) {
        q->text.failed = true;
        return;
    }
    q->params[q->n_params++] = p;
    srn_buf_addf(&q->text, "$%u", q->n_params);
}

void srn__sql_number(srn__sql *q, int64_t v) {
    add_param(q, (srn__param){.number = v});
}

void srn__sql_text(srn__sql *q, srn_str v) {
    add_param(q, (srn__param){.kind = SRN__PARAM_TEXT, .text = v});
}

void srn__sql_bytes(srn__sql *q, srn_str v) {
    add_param(q, (srn__param){.kind = SRN__PARAM_BYTES, .text = v});
}

int srn__sql_check(const srn__sql *q, srn_err *err) {
    if (!q->text.failed) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT, "the filter is too long for one question; ask with fewer values");
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* The value as a pattern of LIKE, in lower case; anchored ones begin with it. */
static void add_pattern(srn__sql *q, srn_str s, bool anchored) {
    char *to = srn_arena_alloc(&q->arena, 2 * s.len + 3);
    size_t n = 0;
    if (!to) {
        q->text.failed = true;
        return;
    }
    if (!anchored) to[n++] = '%';
    for (size_t i = 0; i < s.len; i++) {
        char c = lower(s.ptr[i]);
        if (c == '%' || c == '_' || c == '\\') to[n++] = '\\';
        to[n++] = c;
    }
    to[n++] = '%';
    srn__sql_text(q, (srn_str){to, n});
}

static void add_text(srn__sql *q, const srn__term *t, const srn__value *v) {
    const char *column = t->field->column;
    if (t->contains) {
        srn_buf_addf(&q->text, "lower(%s) LIKE ", column);
        add_pattern(q, v->text, v->prefix);
        srn_buf_addz(&q->text, " ESCAPE '\\'");
    } else if (v->prefix) { /* of hex digits: what begins so lies between it and it with "g" */
        char *end = srn_arena_alloc(&q->arena, v->text.len + 1);
        if (!end) {
            q->text.failed = true;
            return;
        }
        memcpy(end, v->text.ptr, v->text.len);
        end[v->text.len] = 'g';
        srn_buf_addf(&q->text, "%s >= ", column);
        srn__sql_text(q, v->text);
        srn_buf_addf(&q->text, " AND %s < ", column);
        srn__sql_text(q, (srn_str){end, v->text.len + 1});
    } else {
        srn_buf_addf(&q->text, "%s = ", column);
        srn__sql_text(q, v->text);
    }
    if (v->version) {
        srn_buf_addz(&q->text, " AND version = ");
        srn__sql_number(q, v->version);
    }
}

/* Bodies are JSON without spaces, in which a quote inside of a text has a backslash before it: so the pattern
 * finds the member alone. */
static void add_member(srn__sql *q, const srn__term *t, const srn__value *v) {
    const char *name = t->field->column;
    bool from = t->field->kind == SRN__FIELD_FROM;
    size_t cap = strlen(name) + v->text.len + 32;
    char *to = srn_arena_alloc(&q->arena, cap);
    if (!to) {
        q->text.failed = true;
        return;
    }
    int n = v->text.len ? snprintf(to, cap, "%%,\"%s\":%s\"%.*s%s%%", name, from ? "{\"from\":" : "",
                                   (int)v->text.len, v->text.ptr, from ? "\"" : "")
                        : snprintf(to, cap, "%%,\"%s\":null,%%", name);
    srn_buf_addz(&q->text, "EXISTS (SELECT 1 FROM records b WHERE b.seq = calls.seq AND b.body LIKE ");
    srn__sql_text(q, (srn_str){to, (size_t)n});
    srn_buf_addc(&q->text, ')');
}

static void add_numbers(srn__sql *q, const srn__term *t, const srn__value *v) {
    const char *column = t->field->column;
    if (v->least == v->most) {
        srn_buf_addf(&q->text, "%s = ", column);
        srn__sql_number(q, v->least);
        return;
    }
    srn_buf_addf(&q->text, "%s >= ", column);
    srn__sql_number(q, v->least);
    if (v->most == INT64_MAX) return;
    srn_buf_addf(&q->text, " AND %s <= ", column);
    srn__sql_number(q, v->most);
}

static void add_term(srn__sql *q, const srn__term *t) {
    srn_buf_addz(&q->text, t->negated ? " AND NOT (" : " AND (");
    for (uint32_t i = 0; i < t->n_values; i++) {
        if (i) srn_buf_addz(&q->text, " OR ");
        switch (t->field->kind) {
        case SRN__FIELD_TEXT:
        case SRN__FIELD_DIGEST:
        case SRN__FIELD_PROMPT:
            add_text(q, t, &t->values[i]);
            break;
        case SRN__FIELD_MEMBER:
        case SRN__FIELD_WORD:
        case SRN__FIELD_FROM:
            add_member(q, t, &t->values[i]);
            break;
        default:
            add_numbers(q, t, &t->values[i]);
        }
    }
    srn_buf_addc(&q->text, ')');
}

bool srn__sql_filter_rolled(srn__sql *q, const srn_filter *f) {
    bool any = false;
    for (uint32_t i = 0; f && i < f->n_terms; i++) {
        if (!f->terms[i].field->rolled) continue;
        add_term(q, &f->terms[i]);
        any = true;
    }
    return any;
}

void srn__sql_filter(srn__sql *q, const srn_filter *f) {
    for (uint32_t i = 0; f && i < f->n_terms; i++) add_term(q, &f->terms[i]);
}
