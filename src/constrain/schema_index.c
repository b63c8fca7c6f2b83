/* constrain: the index of a schema. Walks every sub-schema that can be reached from the root, follows local
 * references, checks each keyword's value and refuses by name what cannot be enforced. What it lets through,
 * the other files need not check again. References that lead back to themselves without any text between are
 * refused: nothing would end them.
 */
#include "constrain/schema_internal.h"

/* ---- the table from JSON values to entries ---- */

static size_t map_find(const srn__schema *s, const json_t *j) {
    const srn__map *m = &s->by_json;
    size_t at = (size_t)srn_hash(s->seed, (srn_str){(const char *)&j, sizeof j}) & (m->n_slots - 1);
    while (m->slots[at] && s->sch[m->slots[at] - 1]->j != j) at = (at + 1) & (m->n_slots - 1);
    return at;
}

uint32_t srn__schema_at(const srn__schema *s, const json_t *j) {
    uint32_t slot = s->by_json.slots[map_find(s, j)];
    return slot ? slot - 1 : 0;
}

/* The entry for j, made where there is none; UINT32_MAX after a failure. */
static uint32_t add(srn__schema *s, const json_t *j, const char *ptr) {
    if (!json_is_object(j) && !json_is_boolean(j)) {
        srn__schema_fail(s, SRN_EINVAL, ptr, "a schema is an object, true or false");
        return UINT32_MAX;
    }
    size_t slot = map_find(s, j);
    if (s->by_json.slots[slot]) return s->by_json.slots[slot] - 1;
    if (s->n_sch == SRN__CAP_SCHEMAS) {
        srn__schema_fail(s, SRN_ELIMIT, ptr, "the schema has more than %d sub-schemas", SRN__CAP_SCHEMAS);
        return UINT32_MAX;
    }
    srn__sch *sch = srn_arena_alloc(&s->arena, sizeof *sch);
    if (!sch) {
        srn__schema_nomem(s);
        return UINT32_MAX;
    }
    *sch = (srn__sch){.j = j,
                      .ptr = ptr,
                      .types = SRN__T_ANY,
                      .max_length = SRN_NO_MAX,
                      .max_items = SRN_NO_MAX,
                      .max_properties = SRN_NO_MAX};
    s->sch[s->n_sch] = sch;
    s->by_json.slots[slot] = ++s->n_sch;
    return s->n_sch - 1;
}

/* "BASE/KEY" with ~ and / escaped. */
static const char *pointer(srn__schema *s, const char *base, const char *key) {
    size_t n = strlen(base), extra = 0, k = strlen(key);
    for (size_t i = 0; i < k; i++) extra += key[i] == '~' || key[i] == '/';
    char *p = srn_arena_alloc(&s->arena, n + k + extra + 2);
    if (!p) return srn__schema_nomem(s), base;
    memcpy(p, base, n);
    p[n++] = '/';
    for (size_t i = 0; i < k; i++) {
        if (key[i] == '~' || key[i] == '/') {
            p[n++] = '~';
            p[n++] = key[i] == '~' ? '0' : '1';
        } else {
            p[n++] = key[i];
        }
    }
    p[n] = 0;
    return p;
}

static const char *pointer_at(srn__schema *s, const char *base, size_t i) {
    char number[24];
    snprintf(number, sizeof number, "%zu", i);
    return pointer(s, base, number);
}

/* ---- references ---- */

/* One step of a JSON pointer with its escapes taken out; false where they are malformed. */
static bool unescape(const char *p, size_t n, srn_buf *out) {
    srn_buf_clear(out);
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == '%') {
            unsigned v = 0;
            for (int k = 1; k <= 2; k++) {
                char h = i + (size_t)k < n ? p[i + (size_t)k] : 'x';
                unsigned d = h >= '0' && h <= '9'                 ? (unsigned)(h - '0')
                             : (h | 32) >= 'a' && (h | 32) <= 'f' ? (unsigned)((h | 32) - 'a') + 10
                                                                  : 16;
                if (d > 15) return false;
                v = v * 16 + d;
            }
            c = (char)v;
            i += 2;
        }
        srn_buf_addc(out, c);
    }
    size_t k = 0;
    for (size_t i = 0; i < out->len; i++) {
        char c = out->data[i];
        if (c == '~') {
            if (++i == out->len || (out->data[i] != '0' && out->data[i] != '1')) return false;
            c = out->data[i] == '0' ? '~' : '/';
        }
        out->data[k++] = c;
    }
    if (out->data) out->data[k] = 0;
    out->len = k;
    return !out->failed;
}

static const json_t *step(const json_t *j, const srn_buf *key) {
    if (json_is_object(j)) return json_object_getn(j, key->len ? key->data : "", key->len);
    if (!json_is_array(j) || key->len == 0 || key->len > 9) return NULL;
    size_t i = 0;
    for (size_t k = 0; k < key->len; k++) {
        if (key->data[k] < '0' || key->data[k] > '9' || (k > 0 && i == 0)) return NULL;
        i = i * 10 + (size_t)(key->data[k] - '0');
    }
    return json_array_get(j, i);
}

static bool kw_ref(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_string(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "a reference is a string");
    const char *ref = json_string_value(v);
    if (strcmp(ref, "#") != 0 && strncmp(ref, "#/", 2) != 0)
        return srn__schema_fail(
            s, SRN_EUNSUP, ptr,
            "the reference \"%.80s\" leads out of the schema or to an anchor; only those that "
            "begin with #/ are followed",
            ref);
    const json_t *j = s->root;
    srn_buf key;
    srn_buf_init(&key, 4096);
    for (const char *p = ref + 1; j && *p == '/';) {
        const char *end = strchr(++p, '/');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        j = unescape(p, n, &key) ? step(j, &key) : NULL;
        p += n;
    }
    srn_buf_done(&key);
    if (!j) return srn__schema_fail(s, SRN_EINVAL, ptr, "\"%.200s\" points to nothing", ref);
    size_t n = strlen(ref);
    const char *copy = srn_arena_strndup(&s->arena, ref, n);
    if (!copy) return srn__schema_nomem(s);
    sch->ref = j;
    return add(s, j, copy) != UINT32_MAX;
}

/* ---- keywords ---- */

static const struct {
    const char *name;
    uint32_t types;
} type_names[] = {{"null", SRN__T_NULL},     {"boolean", SRN__T_BOOL},  {"integer", SRN__T_INT},
                  {"number", SRN__T_NUMBER}, {"string", SRN__T_STRING}, {"array", SRN__T_ARRAY},
                  {"object", SRN__T_OBJECT}};

static uint32_t type_named(const json_t *v) {
    for (size_t i = 0; json_is_string(v) && i < SRN_LEN(type_names); i++)
        if (strcmp(type_names[i].name, json_string_value(v)) == 0) return type_names[i].types;
    return 0;
}

static bool kw_type(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    uint32_t types = 0;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t t = type_named(json_is_array(v) ? json_array_get(v, i) : v);
        if (!t)
            return srn__schema_fail(
                s, SRN_EINVAL, ptr,
                "a type is one of null, boolean, integer, number, string, array, object, or a list "
                "of these");
        types |= t;
    }
    if (!types) return srn__schema_fail(s, SRN_EINVAL, ptr, "the list of types is empty");
    sch->types = types;
    return true;
}

static bool kw_nullable(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)sch;
    return json_is_boolean(v) || srn__schema_fail(s, SRN_EINVAL, ptr, "nullable is true or false");
}

static bool kw_enum(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_array(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "enum is a list of values");
    if (json_array_size(v) > SRN__CAP_VALUES - s->n_values)
        return srn__schema_fail(s, SRN_ELIMIT, ptr, "the schema's enums have more than %d values",
                                SRN__CAP_VALUES);
    s->n_values += (uint32_t)json_array_size(v);
    sch->enumeration = v;
    return true;
}

static bool kw_const(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)s, (void)ptr;
    sch->constant = v;
    return true;
}

/* A map from names to schemas. */
static bool children(srn__schema *s, const json_t *v, const char *ptr, size_t max_name) {
    if (!json_is_object(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "this is an object of schemas");
    if (json_object_size(v) > SRN__CAP_MEMBERS)
        return srn__schema_fail(s, SRN_ELIMIT, ptr, "more than %d members", SRN__CAP_MEMBERS);
    const char *key;
    size_t len;
    json_t *child;
    json_object_keylen_foreach((json_t *)(uintptr_t)v, key, len, child) {
        if (strlen(key) != len)
            return srn__schema_fail(s, SRN_EUNSUP, ptr, "a name with a NUL character is not supported");
        if (len > max_name)
            return srn__schema_fail(s, SRN_ELIMIT, ptr, "the name \"%.40s...\" is longer than %zu bytes", key,
                                    max_name);
        if (add(s, child, pointer(s, ptr, key)) == UINT32_MAX) return false;
    }
    return true;
}

static bool kw_properties(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    sch->properties = v;
    return children(s, v, ptr, SRN__CAP_NAME);
}

static bool kw_pattern_properties(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (json_is_object(v) && json_object_size(v) > 4)
        return srn__schema_fail(s, SRN_EUNSUP, ptr,
                                "more than 4 patterns of names on one object are not supported");
    sch->pattern_properties = v;
    return children(s, v, ptr, 1000);
}

static bool kw_additional(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    sch->additional = v;
    return add(s, v, ptr) != UINT32_MAX;
}

static bool kw_required(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_array(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "required is a list of names");
    if (json_array_size(v) > SRN__CAP_MEMBERS)
        return srn__schema_fail(s, SRN_ELIMIT, ptr, "more than %d names", SRN__CAP_MEMBERS);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *name = json_array_get(v, i);
        if (!json_is_string(name)) return srn__schema_fail(s, SRN_EINVAL, ptr, "required is a list of names");
        if (json_string_length(name) > SRN__CAP_NAME)
            return srn__schema_fail(s, SRN_ELIMIT, ptr, "a name is longer than %d bytes", SRN__CAP_NAME);
    }
    sch->required = v;
    return true;
}

static bool kw_items(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (json_is_array(v))
        return srn__schema_fail(
            s, SRN_EUNSUP, ptr,
            "a list of schemas under items is an older draft's form; use prefixItems, and items for "
            "what follows");
    sch->items = v;
    return add(s, v, ptr) != UINT32_MAX;
}

static bool schema_list(srn__schema *s, const json_t *v, const char *ptr, size_t max) {
    if (!json_is_array(v) || json_array_size(v) == 0)
        return srn__schema_fail(s, SRN_EINVAL, ptr, "this is a list of schemas with at least one in it");
    if (json_array_size(v) > max) return srn__schema_fail(s, SRN_ELIMIT, ptr, "more than %zu schemas", max);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (add(s, json_array_get(v, i), pointer_at(s, ptr, i)) == UINT32_MAX) return false;
    return true;
}

static bool kw_prefix_items(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    sch->prefix_items = v;
    return schema_list(s, v, ptr, SRN__CAP_BRANCHES);
}

static bool kw_branches(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)sch;
    return schema_list(s, v, ptr, SRN__CAP_BRANCHES);
}

/* Not negative, whole; what is beyond 2^31 is cut to it. */
static bool count(srn__schema *s, const json_t *v, const char *ptr, uint32_t *ret) {
    double d = json_is_number(v) ? json_number_value(v) : -1;
    if (!(d >= 0) || (d < 2147483648.0 && d != (double)(uint32_t)d))
        return srn__schema_fail(s, SRN_EINVAL, ptr, "this is a number of things: 0, 1, 2, ...");
    *ret = d < 2147483648.0 ? (uint32_t)d : 0x80000000u;
    return true;
}

static bool kw_min_length(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->min_length);
}
static bool kw_max_length(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->max_length);
}
static bool kw_min_items(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->min_items);
}
static bool kw_max_items(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->max_items);
}
static bool kw_min_properties(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->min_properties);
}
static bool kw_max_properties(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return count(s, v, ptr, &sch->max_properties);
}

static bool number(srn__schema *s, const json_t *v, const char *ptr, const json_t **ret) {
    if (json_is_boolean(v))
        return srn__schema_fail(s, SRN_EUNSUP, ptr,
                                "true or false is an older draft's form; give the number itself");
    if (!json_is_number(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "this is a number");
    *ret = v;
    return true;
}

static bool kw_minimum(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return number(s, v, ptr, &sch->minimum);
}
static bool kw_maximum(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return number(s, v, ptr, &sch->maximum);
}
static bool kw_exclusive_minimum(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return number(s, v, ptr, &sch->exclusive_minimum);
}
static bool kw_exclusive_maximum(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    return number(s, v, ptr, &sch->exclusive_maximum);
}

static bool kw_multiple_of(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_number(v) || !(json_number_value(v) > 0))
        return srn__schema_fail(s, SRN_EINVAL, ptr, "this is a number above 0");
    double d = json_number_value(v);
    if (d >= 2147483648.0 || d != (double)(uint32_t)d)
        return srn__schema_fail(
            s, SRN_EUNSUP, ptr,
            "multipleOf is enforced for whole numbers below 2^31; a fraction of a decimal is not "
            "exact in binary");
    sch->multiple_of = v;
    return true;
}

static bool kw_pattern(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_string(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "a pattern is a string");
    sch->pattern = v;
    return true;
}

static bool kw_format(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    if (!json_is_string(v)) return srn__schema_fail(s, SRN_EINVAL, ptr, "a format is a string");
    sch->format = srn__format_regex(json_string_value(v));
    return true;
}

static bool kw_unique_items(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)sch;
    if (json_is_false(v)) return true;
    return srn__schema_fail(s, SRN_EUNSUP, ptr,
                            "the keyword \"uniqueItems\" is not supported; leave it out and check "
                            "the answer for repeated items");
}

/* Only the form that says nothing: a name is always a string. */
static bool kw_property_names(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)sch;
    if (json_is_true(v) || (json_is_object(v) && json_object_size(v) == 0)) return true;
    if (json_is_object(v) && json_object_size(v) == 1 &&
        type_named(json_object_get(v, "type")) == SRN__T_STRING)
        return true;
    return srn__schema_fail(s, SRN_EUNSUP, ptr,
                            "the keyword \"propertyNames\" is not supported; patternProperties with "
                            "additionalProperties false says the same of a pattern");
}

static bool kw_id(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)v;
    if (sch->j == s->root) return true;
    return srn__schema_fail(s, SRN_EUNSUP, ptr,
                            "the keyword \"$id\" is supported at the root alone; leave it out");
}

static bool kw_note(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)s, (void)sch, (void)v, (void)ptr;
    return true;
}

static bool kw_refused(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr) {
    (void)sch, (void)v;
    const char *name = strrchr(ptr, '/');
    return srn__schema_fail(s, SRN_EUNSUP, ptr,
                            "the keyword \"%s\" is not supported; leave it out or say it with others",
                            name ? name + 1 : ptr);
}

typedef bool keyword_fn(srn__schema *s, srn__sch *sch, const json_t *v, const char *ptr);

/* Every keyword of the drafts. What is not here is an annotation, as the standard says. */
static const struct keyword {
    const char *name;
    keyword_fn *check;
    bool asserts; /* restricts by itself what stands here */
} keywords[] = {
    {"type", kw_type, true},
    {"enum", kw_enum, true},
    {"const", kw_const, true},
    {"properties", kw_properties, true},
    {"patternProperties", kw_pattern_properties, true},
    {"additionalProperties", kw_additional, true},
    {"required", kw_required, true},
    {"minProperties", kw_min_properties, true},
    {"maxProperties", kw_max_properties, true},
    {"prefixItems", kw_prefix_items, true},
    {"items", kw_items, true},
    {"minItems", kw_min_items, true},
    {"maxItems", kw_max_items, true},
    {"minLength", kw_min_length, true},
    {"maxLength", kw_max_length, true},
    {"pattern", kw_pattern, true},
    {"format", kw_format, true},
    {"minimum", kw_minimum, true},
    {"maximum", kw_maximum, true},
    {"exclusiveMinimum", kw_exclusive_minimum, true},
    {"exclusiveMaximum", kw_exclusive_maximum, true},
    {"multipleOf", kw_multiple_of, true},
    {"$ref", kw_ref, false},
    {"allOf", kw_branches, false},
    {"anyOf", kw_branches, false},
    {"oneOf", kw_branches, false},
    {"nullable", kw_nullable, false},
    {"uniqueItems", kw_unique_items, false},
    {"propertyNames", kw_property_names, false},
    {"$id", kw_id, false},
    {"$schema", kw_note, false},
    {"$defs", kw_note, false},
    {"definitions", kw_note, false},
    {"$comment", kw_note, false},
    {"$anchor", kw_note, false},
    {"$vocabulary", kw_note, false},
    {"title", kw_note, false},
    {"description", kw_note, false},
    {"default", kw_note, false},
    {"examples", kw_note, false},
    {"example", kw_note, false},
    {"deprecated", kw_note, false},
    {"readOnly", kw_note, false},
    {"writeOnly", kw_note, false},
    {"contentEncoding", kw_note, false},
    {"contentMediaType", kw_note, false},
    {"contentSchema", kw_note, false},
    {"not", kw_refused, false},
    {"if", kw_refused, false},
    {"then", kw_refused, false},
    {"else", kw_refused, false},
    {"dependentRequired", kw_refused, false},
    {"dependentSchemas", kw_refused, false},
    {"dependencies", kw_refused, false},
    {"contains", kw_refused, false},
    {"minContains", kw_refused, false},
    {"maxContains", kw_refused, false},
    {"unevaluatedItems", kw_refused, false},
    {"unevaluatedProperties", kw_refused, false},
    {"additionalItems", kw_refused, false},
    {"$dynamicRef", kw_refused, false},
    {"$dynamicAnchor", kw_refused, false},
    {"$recursiveRef", kw_refused, false},
    {"$recursiveAnchor", kw_refused, false},
    {"extends", kw_refused, false},
    {"disallow", kw_refused, false},
    {"divisibleBy", kw_refused, false},
};

/* Whether two names differ only in case, _ and -. */
static bool alike(const char *a, const char *b) {
    for (;; a++, b++) {
        while (*a == '_' || *a == '-') a++;
        while (*b == '_' || *b == '-') b++;
        int x = *a >= 'A' && *a <= 'Z' ? *a | 32 : *a, y = *b >= 'A' && *b <= 'Z' ? *b | 32 : *b;
        if (x != y) return false;
        if (!x) return true;
    }
}

static bool keyword(srn__schema *s, srn__sch *sch, const char *name, const json_t *v) {
    const char *ptr = pointer(s, sch->ptr, name);
    for (size_t i = 0; i < SRN_LEN(keywords); i++)
        if (strcmp(keywords[i].name, name) == 0) {
            sch->asserts |= keywords[i].asserts;
            return keywords[i].check(s, sch, v, ptr);
        }
    for (size_t i = 0; i < SRN_LEN(keywords); i++)
        if (alike(keywords[i].name, name))
            return srn__schema_fail(s, SRN_EINVAL, ptr, "there is no keyword \"%s\"; is \"%s\" meant?", name,
                                    keywords[i].name);
    return true;
}

static bool read_one(srn__schema *s, srn__sch *sch) {
    if (!json_is_object(sch->j)) {
        sch->asserts = json_is_false(sch->j);
        if (sch->asserts) sch->types = 0;
        return true;
    }
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)sch->j, name, v) {
        if (!srn__schema_work(s, 1) || !keyword(s, sch, name, v)) return false;
    }
    if (json_is_true(json_object_get(sch->j, "nullable")) && json_object_get(sch->j, "type"))
        sch->types |= SRN__T_NULL;
    return s->code == 0;
}

/* ---- circles ---- */

static bool no_circle(srn__schema *s, const json_t *j, unsigned depth) {
    srn__sch *sch = s->sch[srn__schema_at(s, j)];
    if (sch->mark == 2) return true;
    if (sch->mark == 1)
        return srn__schema_fail(
            s, SRN_EINVAL, sch->ptr,
            "this schema refers to itself without anything between, so that nothing can satisfy it");
    if (depth > SRN__CAP_DEPTH)
        return srn__schema_fail(s, SRN_ELIMIT, sch->ptr, "references lead to references more than %d times",
                                SRN__CAP_DEPTH);
    sch->mark = 1;
    static const char *const lists[] = {"allOf", "anyOf", "oneOf"};
    for (size_t k = 0; k < SRN_LEN(lists); k++) {
        const json_t *v = json_object_get(sch->j, lists[k]);
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!no_circle(s, json_array_get(v, i), depth + 1)) return false;
    }
    if (sch->ref && !no_circle(s, sch->ref, depth + 1)) return false;
    sch->mark = 2;
    return true;
}

/* Nesting of the whole text; functions that follow values recurse. */
static bool shallow(const json_t *j, unsigned depth) {
    if (depth > SRN__CAP_DEPTH) return false;
    size_t i;
    const char *key;
    json_t *v;
    if (json_is_array(j)) {
        json_array_foreach((json_t *)(uintptr_t)j, i, v) if (!shallow(v, depth + 1)) return false;
    } else if (json_is_object(j)) {
        json_object_foreach((json_t *)(uintptr_t)j, key, v) if (!shallow(v, depth + 1)) return false;
    }
    return true;
}

bool srn__schema_index(srn__schema *s) {
    if (!shallow(s->root, 0))
        return srn__schema_fail(s, SRN_ELIMIT, "#", "the schema is nested more than %d deep", SRN__CAP_DEPTH);
    s->by_json.n_slots = 32768; /* more than twice the sub-schemas there may be */
    s->by_json.slots = srn_arena_alloc(&s->arena, s->by_json.n_slots * sizeof *s->by_json.slots);
    s->sch = srn_arena_alloc(&s->arena, SRN__CAP_SCHEMAS * sizeof(srn__sch *));
    if (!s->by_json.slots || !s->sch) return srn__schema_nomem(s);
    if (add(s, s->root, "#") == UINT32_MAX) return false;
    for (uint32_t i = 0; i < s->n_sch; i++)
        if (!read_one(s, s->sch[i])) return false;
    for (uint32_t i = 0; i < s->n_sch; i++)
        if (!no_circle(s, s->sch[i]->j, 0)) return false;
    return true;
}
