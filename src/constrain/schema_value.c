/* constrain: JSON values as data: their type, equality, whether they satisfy a sub-schema, and their text.
 * Used for enum and const, whose values are tried against whatever else holds at their place.
 */
#include <stdlib.h>

#include "constrain/schema_internal.h"

/* ---- facts ---- */

static bool whole(double d) {
    return d >= 1e15 || d <= -1e15 || d == (double)(int64_t)d;
}

uint32_t srn__json_type(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_NULL:
        return SRN__T_NULL;
    case JSON_INTEGER:
        return SRN__T_INT;
    case JSON_REAL:
        return whole(json_real_value(v)) ? SRN__T_INT : SRN__T_REAL;
    case JSON_STRING:
        return SRN__T_STRING;
    case JSON_ARRAY:
        return SRN__T_ARRAY;
    case JSON_OBJECT:
        return SRN__T_OBJECT;
    default:
        return SRN__T_BOOL;
    }
}

/* Exact for integers and doubles where long double has 64 bits of significand. */
static long double value_of(const json_t *v) {
    return json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_real_value(v);
}

bool srn__json_equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return value_of(a) == value_of(b);
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        for (size_t i = 0; i < json_array_size(a); i++)
            if (!srn__json_equal(json_array_get(a, i), json_array_get(b, i))) return false;
        return true;
    }
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b)) return false;
        const char *key;
        size_t len;
        json_t *v;
        json_object_keylen_foreach((json_t *)(uintptr_t)a, key, len, v) {
            const json_t *w = json_object_getn(b, key, len);
            if (!w || !srn__json_equal(v, w)) return false;
        }
        return true;
    }
    return json_equal(a, b);
}

/* ---- validity ---- */

static bool valid_number(const srn__sch *c, const json_t *v) {
    long double x = value_of(v);
    if (c->minimum && x < value_of(c->minimum)) return false;
    if (c->maximum && x > value_of(c->maximum)) return false;
    if (c->exclusive_minimum && x <= value_of(c->exclusive_minimum)) return false;
    if (c->exclusive_maximum && x >= value_of(c->exclusive_maximum)) return false;
    if (!c->multiple_of) return true;
    int64_t m = (int64_t)value_of(c->multiple_of);
    if (json_is_integer(v)) return json_integer_value(v) % m == 0;
    return x > -9e15L && x < 9e15L && x == (long double)(int64_t)x && (int64_t)x % m == 0;
}

static bool valid_string(srn__schema *s, const srn__sch *c, const json_t *v) {
    srn_str text = {json_string_value(v), json_string_length(v)};
    uint32_t n = 0;
    for (size_t i = 0; i < text.len; i++) n += ((uint8_t)text.ptr[i] & 0xc0) != 0x80;
    if (n < c->min_length || n > c->max_length) return false;
    if (s->excluding) return true;
    if (c->pattern && !srn__pattern_matches(s, json_string_value(c->pattern), text, c->ptr)) return false;
    return !c->format || srn__pattern_matches(s, c->format, text, c->ptr);
}

static bool valid_array(srn__schema *s, const srn__sch *c, const json_t *v, unsigned depth) {
    size_t n = json_array_size(v);
    if (n < c->min_items || n > c->max_items) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *j =
            i < json_array_size(c->prefix_items) ? json_array_get(c->prefix_items, i) : c->items;
        if (j && !srn__schema_valid(s, json_array_get(v, i), srn__schema_at(s, j), false, depth + 1))
            return false;
    }
    return true;
}

static bool valid_object(srn__schema *s, const srn__sch *c, uint32_t id, const json_t *v, unsigned depth) {
    size_t n = json_object_size(v);
    if (n < c->min_properties || n > c->max_properties) return false;
    for (size_t i = 0; i < json_array_size(c->required); i++) {
        const json_t *name = json_array_get(c->required, i);
        if (!json_object_getn(v, json_string_value(name), json_string_length(name))) return false;
    }
    srn__list alone = {.ids = &id, .n = 1};
    srn__ids ids;
    const char *key;
    size_t len;
    json_t *child;
    json_object_keylen_foreach((json_t *)(uintptr_t)v, key, len, child) {
        srn__leaf_property(s, &alone, (srn_str){key, len}, &ids);
        for (uint32_t i = 0; i < ids.n; i++)
            if (!srn__schema_valid(s, child, ids.ids[i], false, depth + 1)) return false;
    }
    return true;
}

static bool valid_own(srn__schema *s, const srn__sch *c, uint32_t id, const json_t *v, unsigned depth) {
    uint32_t type = srn__json_type(v);
    if (!(c->types & type)) return false;
    if (c->constant && !srn__json_equal(v, c->constant)) return false;
    if (c->enumeration && !(v == s->member && c->enumeration == s->member_of)) {
        size_t i = 0, n = json_array_size(c->enumeration);
        if (!srn__schema_work(s, n)) return false;
        while (i < n && !srn__json_equal(v, json_array_get(c->enumeration, i))) i++;
        if (i == n) return false;
    }
    if (type & SRN__T_NUMBER) return valid_number(c, v);
    if (type == SRN__T_STRING) return valid_string(s, c, v);
    if (type == SRN__T_ARRAY) return valid_array(s, c, v, depth);
    return type != SRN__T_OBJECT || valid_object(s, c, id, v, depth);
}

bool srn__schema_valid(srn__schema *s, const json_t *v, uint32_t id, bool own, unsigned depth) {
    const srn__sch *c = s->sch[id];
    if (!srn__schema_work(s, 1)) return false;
    if (depth > 4 * SRN__CAP_DEPTH)
        return srn__schema_fail(s, SRN_ELIMIT, c->ptr, "a value of enum or const is nested too deep");
    if (c->asserts && !valid_own(s, c, id, v, depth)) return false;
    if (own || !json_is_object(c->j)) return true;
    if (c->ref && !srn__schema_valid(s, v, srn__schema_at(s, c->ref), false, depth + 1)) return false;
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    for (size_t k = 0; k < SRN_LEN(lists); k++) {
        const json_t *list = json_object_get(c->j, lists[k]);
        size_t n = json_array_size(list), good = 0;
        for (size_t i = 0; i < n; i++)
            good += srn__schema_valid(s, v, srn__schema_at(s, json_array_get(list, i)), false, depth + 1);
        if (list && (k == 0 ? good < n : k == 1 ? good == 0 : good != 1)) return false;
    }
    return true;
}

/* ---- text ---- */

/* The shortest digits that read as the same double, with the forms in which common programs write them. */
static srn_node real_node(srn_grammar *g, double d) {
    char shortest[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(shortest, sizeof shortest, "%.*e", digits - 1, d);
        if (strtod(shortest, NULL) == d) break;
    }
    char *e = strchr(shortest, 'e');
    int exponent = e ? (int)strtol(e + 1, NULL, 10) : 0;
    if (!e) return srn_g_text(g, SRN_STR("0")); /* not finite: no JSON parser gives it */
    int digits =
        (int)(e - shortest) - (shortest[0] == '-') - (memchr(shortest, '.', (size_t)(e - shortest)) != NULL);
    char text[400];
    srn_node alt[4];
    size_t n = 0;
    if (exponent >= -6 && exponent < 21) {
        int decimals = digits - 1 - exponent;
        snprintf(text, sizeof text, "%.*f", SRN_MAX(decimals, 0), d);
        alt[n++] = srn_g_text(g, srn_str_of(text));
        if (decimals <= 0) alt[n++] = SRN__SEQ(g, alt[0], srn_g_text(g, SRN_STR(".0")));
    }
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, sizeof text, "%.*s", (int)(e - shortest), shortest);
        srn_node sign = srn_g_text(g, exponent < 0 ? SRN_STR("-") : SRN_STR("+"));
        char number[16];
        snprintf(number, sizeof number, "%d", exponent < 0 ? -exponent : exponent);
        srn_node zero = srn__g_opt(g, srn_g_text(g, SRN_STR("0")));
        alt[n++] =
            SRN__SEQ(g, srn_g_text(g, srn_str_of(text)), srn_g_text(g, SRN_STR("e")),
                     exponent < 0 ? sign : srn__g_opt(g, sign), zero, srn_g_text(g, srn_str_of(number)));
    }
    return srn_g_alt(g, alt, n);
}

static srn_node string_node(srn_grammar *g, srn_str text) {
    srn_node quote = srn_g_text(g, SRN_STR("\""));
    return SRN__SEQ(g, quote, srn__g_literal(g, text), quote);
}

static srn_node value_node(srn__schema *s, const json_t *v);

static srn_node members_node(srn__schema *s, const json_t *v) {
    srn_grammar *g = s->g;
    size_t n = json_is_object(v) ? json_object_size(v) : json_array_size(v), k = 0;
    srn_node *parts = srn_arena_alloc(&s->arena, (n + 1) * sizeof *parts);
    if (!parts) return srn__schema_nomem(s), SRN_NODE_NONE;
    srn_node comma = SRN__SEQ(g, srn_g_text(g, SRN_STR(",")), srn__g_space(g));
    const char *key;
    size_t len, i;
    json_t *child;
    if (json_is_object(v)) {
        json_object_keylen_foreach((json_t *)(uintptr_t)v, key, len, child) {
            srn_node name = string_node(g, (srn_str){key, len});
            srn_node member = SRN__SEQ(g, name, srn__g_colon(g), value_node(s, child));
            parts[k] = k ? SRN__SEQ(g, comma, member) : member;
            k++;
        }
    } else {
        json_array_foreach((json_t *)(uintptr_t)v, i, child) {
            srn_node item = value_node(s, child);
            parts[k] = k ? SRN__SEQ(g, comma, item) : item;
            k++;
        }
    }
    return srn_g_seq(g, parts, k);
}

static srn_node value_node(srn__schema *s, const json_t *v) {
    srn_grammar *g = s->g;
    if (!srn__schema_work(s, 1)) return SRN_NODE_NONE;
    char number[32];
    switch (json_typeof(v)) {
    case JSON_NULL:
        return srn_g_text(g, SRN_STR("null"));
    case JSON_TRUE:
        return srn_g_text(g, SRN_STR("true"));
    case JSON_FALSE:
        return srn_g_text(g, SRN_STR("false"));
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        return srn_g_text(g, srn_str_of(number));
    case JSON_REAL:
        return real_node(g, json_real_value(v));
    case JSON_STRING:
        return string_node(g, (srn_str){json_string_value(v), json_string_length(v)});
    case JSON_ARRAY:
        return SRN__SEQ(g, srn_g_text(g, SRN_STR("[")), srn__g_space(g), members_node(s, v), srn__g_space(g),
                        srn_g_text(g, SRN_STR("]")));
    default:
        return SRN__SEQ(g, srn_g_text(g, SRN_STR("{")), srn__g_space(g), members_node(s, v), srn__g_space(g),
                        srn_g_text(g, SRN_STR("}")));
    }
}

srn_node srn__g_values(srn__schema *s, const json_t *const *values, size_t n) {
    srn_str *texts = srn_arena_alloc(&s->arena, (n + 1) * sizeof *texts);
    srn_node *alt = srn_arena_alloc(&s->arena, (n + 1) * sizeof *alt);
    if (!texts || !alt) return srn__schema_nomem(s), SRN_NODE_NONE;
    size_t n_texts = 0, k = 0;
    for (size_t i = 0; i < n; i++)
        if (json_is_string(values[i]))
            texts[n_texts++] = (srn_str){json_string_value(values[i]), json_string_length(values[i])};
        else
            alt[k++] = value_node(s, values[i]);
    if (n_texts) {
        srn_node quote = srn_g_text(s->g, SRN_STR("\""));
        alt[k++] = SRN__SEQ(s->g, quote, srn__g_one_of(s, texts, n_texts, false), quote);
    }
    return srn_g_alt(s->g, alt, k);
}
