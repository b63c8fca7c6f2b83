/* Checks of answers (checks.h). Patterns and schemas are compiled once, with their costs capped: a pattern
 * has a bounded number of steps, a schema goes through the compiler of constraints. Any thread.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "prompts/checks.h"

#include <math.h>
#include <pcre2.h>
#include <stdlib.h>

#include "constrain/constrain.h"

enum { MAX_TEXT = 64 << 10, MAX_DEPTH = 64, MAX_ARGS = 64, MATCH_STEPS = 1000000 };
enum { PATTERN_STEPS = 4000000, PATTERN_STEPS_A_BYTE = 16 };

typedef enum kind { EXACT, CONTAINS, REGEX, JSON_AT, SCHEMA, NUMBER, COMMAND, N_KINDS } kind;
static const char *const kinds[N_KINDS] = {"exact",  "contains", "regex",  "json",
                                           "schema", "number",   "command"};

typedef struct check {
    kind kind;
    bool turned;
    char name[96];
    const json_t *value, *equals; /* of the list */
    double number, tolerance;
    pcre2_code *pattern;
    srn_node root;
    srn_constraint *schema;
    const char *command[MAX_ARGS + 1];
} check;

struct srn_checks {
    json_t *list;
    check *checks;
    uint32_t n;
};

/* ---- reading ---- */

typedef struct reader {
    const char *what;
    size_t at;
    srn_err *err;
} reader;

static int wrong(const reader *r, int code, const char *fmt, ...) SRN_PRINTF(3, 4);
static int wrong(const reader *r, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(r->err, code, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(r->err, code, "%s[%zu]", r->what, r->at);
}

static int find_kind(const reader *r, const json_t *o, check *c) {
    static const char *const others[] = {"name", "not", "equals", "tolerance"};
    const char *key;
    json_t *v;
    int found = 0;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        size_t k = 0, other = 0;
        while (k < N_KINDS && strcmp(key, kinds[k]) != 0) k++;
        while (other < SRN_LEN(others) && strcmp(key, others[other]) != 0) other++;
        if (k == N_KINDS && other == SRN_LEN(others))
            return wrong(
                r, SRN_EFORMAT,
                "'%.60s' is unknown; a check has one of exact, contains, regex, json, schema, number "
                "and command, and name, not, equals, tolerance",
                key);
        if (k < N_KINDS) c->kind = (kind)k, c->value = v, found++;
    }
    if (found != 1)
        return wrong(r, SRN_EFORMAT, "has %s of exact, contains, regex, json, schema, number and command",
                     found ? "more than one" : "none");
    if (json_object_get(o, "equals") && c->kind != JSON_AT)
        return wrong(r, SRN_EFORMAT, "equals belongs to json");
    if (json_object_get(o, "tolerance") && c->kind != NUMBER)
        return wrong(r, SRN_EFORMAT, "tolerance belongs to number");
    return SRN_OK;
}

static int read_pattern(const reader *r, check *c) {
    int number = 0;
    PCRE2_SIZE at = 0;
    c->pattern = pcre2_compile((PCRE2_SPTR)json_string_value(c->value), json_string_length(c->value),
                               PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT, &number,
                               &at, NULL);
    if (c->pattern) return SRN_OK;
    PCRE2_UCHAR text[120] = {0};
    pcre2_get_error_message(number, text, sizeof text);
    return wrong(r, SRN_EFORMAT, "regex: %s, at byte %zu", (const char *)text, (size_t)at);
}

static int read_command(const reader *r, check *c) {
    size_t n = json_array_size(c->value);
    if (!json_is_array(c->value) || n < 1 || n > MAX_ARGS)
        return wrong(r, SRN_EFORMAT, "command needs a list of a program and its arguments, at most %d",
                     MAX_ARGS);
    for (size_t i = 0; i < n; i++)
        if (!(c->command[i] = json_string_value(json_array_get(c->value, i))))
            return wrong(r, SRN_EFORMAT, "command[%zu] must be a text", i);
    return SRN_OK;
}

static int read_value(const reader *r, check *c, const json_t *o) {
    const json_t *tolerance = json_object_get(o, "tolerance");
    srn_err why = {0};
    switch (c->kind) {
    case SCHEMA:
        if (srn_constraint_of_schema(c->value, &c->schema, &why))
            return wrong(r, why.code, "schema: %s", why.text);
        return SRN_OK;
    case NUMBER:
        if (!json_is_number(c->value) || (tolerance && !(json_number_value(tolerance) >= 0)))
            return wrong(r, SRN_EFORMAT, "number needs a number, and tolerance one from 0 on");
        c->number = json_number_value(c->value);
        c->tolerance = json_number_value(tolerance);
        return SRN_OK;
    case COMMAND:
        return read_command(r, c);
    default:
        break;
    }
    size_t len = json_string_length(c->value);
    if (!json_is_string(c->value) || len > MAX_TEXT || (!len && c->kind != EXACT))
        return wrong(r, SRN_EFORMAT, "%s needs a text of at most %d bytes", kinds[c->kind], MAX_TEXT);
    if (c->kind == JSON_AT && json_string_value(c->value)[0] != '$')
        return wrong(r, SRN_EFORMAT, "json needs a path that begins with $, such as $.items[0].name");
    return c->kind == REGEX ? read_pattern(r, c) : SRN_OK;
}

static int read_check(const reader *r, const json_t *o, check *c) {
    const json_t *name = json_object_get(o, "name"), *turned = json_object_get(o, "not");
    if (!json_is_object(o)) return wrong(r, SRN_EFORMAT, "must be a mapping");
    int code = find_kind(r, o, c);
    if (code) return code;
    if ((name && (!json_is_string(name) || !json_string_length(name) ||
                  json_string_length(name) >= sizeof c->name)) ||
        (turned && !json_is_boolean(turned)))
        return wrong(r, SRN_EFORMAT, "name needs a text of 1 to %zu bytes, and not true or false",
                     sizeof c->name - 1);
    c->turned = json_is_true(turned);
    c->equals = json_object_get(o, "equals");
    char *text = json_dumps(c->value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (name)
        snprintf(c->name, sizeof c->name, "%s", json_string_value(name));
    else
        snprintf(c->name, sizeof c->name, "%s%s %.60s", c->turned ? "not " : "", kinds[c->kind],
                 text ? text : "");
    for (char *z = c->name + strlen(c->name); !name && z > c->name && (z[-1] & 0x80); z--)
        z[-1] = 0; /* cut */
    free(text);
    return read_value(r, c, o);
}

int srn_checks_new(const json_t *list, const char *what, srn_checks **ret, srn_err *err) {
    reader r = {what, 0, err};
    size_t n = json_array_size(list);
    if (!json_is_array(list)) return srn_fail(err, SRN_EFORMAT, "%s: needs a list of checks", what);
    if (n > SRN_CHECKS_MAX) return srn_fail(err, SRN_ELIMIT, "%s: more than %d checks", what, SRN_CHECKS_MAX);
    srn_checks *c = srn_calloc(1, sizeof *c);
    check *checks = srn_calloc(n + 1, sizeof *checks);
    json_t *copy = json_deep_copy(list);
    if (!c || !checks || !copy) {
        free(c);
        free(checks);
        json_decref(copy);
        return srn_fail_nomem(err, n * sizeof *checks);
    }
    c->list = copy;
    c->checks = checks;
    int code = SRN_OK;
    for (r.at = 0; !code && r.at < n; r.at++) {
        code = read_check(&r, json_array_get(copy, r.at), &checks[r.at]);
        c->n++;
    }
    if (code) {
        srn_checks_free(c);
        return code;
    }
    *ret = c;
    return SRN_OK;
}

void srn_checks_free(srn_checks *c) {
    if (!c) return;
    for (uint32_t i = 0; i < c->n; i++) {
        pcre2_code_free(c->checks[i].pattern);
        srn_constraint_free(c->checks[i].schema);
    }
    free(c->checks);
    json_decref(c->list);
    free(c);
}

uint32_t srn_checks_count(const srn_checks *c) {
    return c ? c->n : 0;
}

const char *srn_check_name(const srn_checks *c, uint32_t i) {
    return c->checks[i].name;
}

const char *const *srn_check_command(const srn_checks *c, uint32_t i) {
    return c->checks[i].kind == COMMAND ? c->checks[i].command : NULL;
}

/* ---- looking ---- */

static srn_str trimmed(srn_str s) {
    while (s.len && strchr(" \t\r\n", s.ptr[0])) s.ptr++, s.len--;
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1])) s.len--;
    return s;
}

static bool contains(srn_str s, srn_str part) {
    return !part.len || (s.len && memmem(s.ptr, s.len, part.ptr, part.len));
}

/* What a pattern may cost on one answer: steps between its items, and bytes that they run over. */
typedef struct meter {
    uint64_t left, each; /* each: what a step costs besides */
    size_t at;
} meter;

/* Between any two items of a pattern. PCRE2's own limit begins anew at each place where a match could begin.
 */
static int on_step(pcre2_callout_block *b, void *ctx) {
    meter *m = ctx;
    size_t now = b->current_position, moved = now > m->at ? now - m->at : m->at - now;
    uint64_t cost = m->each + moved;
    m->at = now;
    if (cost > m->left) return PCRE2_ERROR_MATCHLIMIT;
    m->left -= cost;
    return 0;
}

/* A back reference compares up to the whole answer in one step. */
static bool matches(const pcre2_code *pattern, srn_str s) {
    uint32_t references = 0;
    pcre2_match_data *m = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_pattern_info(pattern, PCRE2_INFO_BACKREFMAX, &references);
    meter cost = {.left = PATTERN_STEPS + PATTERN_STEPS_A_BYTE * (uint64_t)s.len,
                  .each = 1 + (references ? s.len / 64 : 0)};
    bool found = false;
    if (m && limits) {
        pcre2_set_callout(limits, on_step, &cost);
        pcre2_set_match_limit(limits, MATCH_STEPS);
        pcre2_set_heap_limit(limits, 64 << 10);
        found = pcre2_match(pattern, (PCRE2_SPTR)s.ptr, s.len, 0, 0, m, limits) >= 0;
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(m);
    return found;
}

/* The value at $.a.b[0]['c d']; NULL: there is none, or the path is malformed. */
static const json_t *at_path(const json_t *v, const char *path) {
    const char *z = path + 1;
    while (v && *z) {
        if (*z == '.') {
            size_t n = strcspn(++z, ".[");
            v = n ? json_object_getn(v, z, n) : NULL;
            z += n;
        } else if (z[0] == '[' && (z[1] == '\'' || z[1] == '"')) {
            const char *end = strchr(z + 2, z[1]);
            if (!end || end[1] != ']') return NULL;
            v = json_object_getn(v, z + 2, (size_t)(end - z - 2));
            z = end + 2;
        } else {
            char *end = NULL;
            unsigned long long i = *z == '[' && z[1] >= '0' && z[1] <= '9' ? strtoull(z + 1, &end, 10) : 0;
            if (!end || *end != ']') return NULL;
            v = json_array_get(v, (size_t)i);
            z = end + 1;
        }
    }
    return v;
}

static bool same_value(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return x <= y && x >= y;
    }
    return json_equal(a, b);
}

/* The value with its properties in the schema's order, for that is the order in which constraints let them
 * through, and no order is part of what JSON says. */
static json_t *in_order(const json_t *v, const json_t *schema, int depth) {
    const json_t *properties = json_object_get(schema, "properties"),
                 *items = json_object_get(schema, "items");
    const char *key;
    json_t *item, *out;
    size_t i;
    if (depth < MAX_DEPTH && json_is_array(v) && json_is_object(items)) {
        out = json_array();
        json_array_foreach(v, i, item) json_array_append_new(out, in_order(item, items, depth + 1));
        return out;
    }
    if (depth >= MAX_DEPTH || !json_is_object(v) || !json_is_object(properties))
        return json_incref((json_t *)(uintptr_t)v);
    out = json_object();
    json_object_foreach((json_t *)(uintptr_t)properties, key, item) {
        const json_t *own = json_object_get(v, key);
        if (own) json_object_set_new(out, key, in_order(own, item, depth + 1));
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, item) if (!json_object_get(out, key))
        json_object_set(out, key, item);
    return out;
}

static bool fits(const check *c, const json_t *v) {
    json_t *ordered = in_order(v, c->value, 0);
    char *text = json_dumps(ordered, JSON_COMPACT | JSON_ENCODE_ANY);
    bool accepted = text && srn_constraint_accepts(c->schema, srn_str_of(text));
    free(text);
    json_decref(ordered);
    return accepted;
}

/* The last number in a text, thousands apart by commas; false: there is none. */
static bool last_number(srn_str s, double *ret) {
    bool found = false;
    for (size_t i = 0; i < s.len;) {
        size_t n = 0, digits = 0;
        char text[64];
        size_t at = i;
        if (s.ptr[at] == '-') text[n++] = s.ptr[at++];
        for (; at < s.len && n + 1 < sizeof text; at++) {
            char c = s.ptr[at];
            bool digit = c >= '0' && c <= '9';
            bool comma = c == ',' && digits && at + 1 < s.len && s.ptr[at + 1] >= '0' && s.ptr[at + 1] <= '9';
            bool point = c == '.' && digits && at + 1 < s.len && s.ptr[at + 1] >= '0' && s.ptr[at + 1] <= '9';
            if (!digit && !comma && !point) break;
            digits += digit;
            if (!comma) text[n++] = c;
        }
        if (!digits) {
            i++;
            continue;
        }
        text[n] = 0;
        *ret = strtod(text, NULL);
        found = true;
        i = at;
    }
    return found;
}

static bool looks_right(const check *c, srn_str answer, int ended) {
    const srn_str text = {json_string_value(c->value), json_string_length(c->value)};
    double number = 0;
    if (c->kind == EXACT) return srn_str_eq(trimmed(answer), trimmed(text));
    if (c->kind == CONTAINS) return contains(answer, text);
    if (c->kind == REGEX) return matches(c->pattern, answer);
    if (c->kind == NUMBER) return last_number(answer, &number) && fabs(number - c->number) <= c->tolerance;
    if (c->kind == COMMAND) return ended == 0;
    json_t *v = json_loadb(answer.len ? answer.ptr : "", answer.len, JSON_DECODE_ANY, NULL);
    bool right = false;
    if (v && c->kind == SCHEMA) right = fits(c, v);
    if (v && c->kind == JSON_AT) {
        const json_t *found = at_path(v, text.ptr);
        right = found && (!c->equals || same_value(found, c->equals));
    }
    json_decref(v);
    return right;
}

bool srn_check_passes(const srn_checks *c, uint32_t i, srn_str answer, int ended) {
    return looks_right(&c->checks[i], answer, ended) != c->checks[i].turned;
}

/* ---- pairs ---- */

double srn_mcnemar(uint64_t lost, uint64_t won) {
    uint64_t n = lost + won, k = SRN_MIN(lost, won);
    if (n == 0) return 1;
    double log_half = (double)n * log(0.5), sum = 0;
    for (uint64_t i = 0; i <= k; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) + log_half);
    return sum >= 0.5 ? 1 : 2 * sum;
}
