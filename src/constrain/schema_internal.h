/* What the schema*.c files share: the index of a schema's sub-schemas, the lists of them that must hold
 * together, and the pieces of JSON text. One compile belongs to one thread; all its memory is in one arena.
 *
 * The way through: schema_index.c walks every sub-schema that can be reached, checks each keyword and refuses
 * what cannot be enforced. schema.c takes a list of sub-schemas that must all hold, follows $ref and allOf,
 * picks one branch of every anyOf and oneOf, and gets leaves: lists whose own keywords are all that is left.
 * Each leaf becomes one rule of the grammar (schema_leaf.c, schema_object.c, schema_number.c,
 * schema_string.c). Lists are interned, so that recursion ends.
 */
#ifndef SRN_CONSTRAIN_SCHEMA_INTERNAL_H
#define SRN_CONSTRAIN_SCHEMA_INTERNAL_H

#include <jansson.h>

#include "constrain/pattern.h"

/* Types as bits; "number" is both kinds of number. */
enum {
    SRN__T_NULL = 1,
    SRN__T_BOOL = 2,
    SRN__T_INT = 4,
    SRN__T_REAL = 8, /* numbers that are not integers */
    SRN__T_STRING = 16,
    SRN__T_ARRAY = 32,
    SRN__T_OBJECT = 64,
    SRN__T_NUMBER = SRN__T_INT | SRN__T_REAL,
    SRN__T_ANY = 127
};

/* The caps of one schema. */
enum {
    SRN__CAP_DEPTH = 64,       /* nesting of the schema, and of references to references */
    SRN__CAP_SCHEMAS = 10000,  /* sub-schemas */
    SRN__CAP_MEMBERS = 1000,   /* properties of one object, values of prefixItems */
    SRN__CAP_VALUES = 10000,   /* values of all enums */
    SRN__CAP_NAME = 200,       /* bytes of a property's name */
    SRN__CAP_BRANCHES = 256,   /* of one anyOf or oneOf */
    SRN__CAP_LEAVES = 512,     /* combinations of branches at one place */
    SRN__CAP_ITEMS = 256,      /* sub-schemas that hold together at one place */
    SRN__CAP_LISTS = 20000,    /* different lists of them */
    SRN__CAP_WORK = 8000000,   /* steps of all kinds */
    SRN__CAP_NODES = 400000,   /* of the grammar */
    SRN__CAP_ARENA = 64 << 20, /* bytes */
    SRN__CAP_DIGITS = 40,      /* of a number before and after its point */
    SRN__CAP_INDENT = 64,      /* spaces after a line break */
    SRN__NEVER_DEPTH = 6       /* of the search for what nothing satisfies, where it only saves work */
};

/* One sub-schema, its keywords checked. */
typedef struct srn__sch {
    const json_t *j; /* an object or a boolean */
    const char *ptr; /* "#/properties/a" */
    uint32_t types;
    bool asserts;      /* has keywords of its own, beyond $ref, allOf, anyOf and oneOf */
    uint8_t mark;      /* the walk that looks for circles: 0 not seen, 1 open, 2 done */
    const json_t *ref; /* what $ref leads to */
    const json_t *enumeration, *constant;
    const json_t *properties, *pattern_properties, *additional, *required;
    const json_t *prefix_items, *items;
    uint32_t min_length, max_length, min_items, max_items, min_properties, max_properties;
    const json_t *minimum, *maximum, *exclusive_minimum, *exclusive_maximum;
    const json_t *multiple_of;
    const json_t *pattern;
    const char *format; /* a regular expression, NULL where there is none or it is not known */
} srn__sch;

enum { SRN__NOT_ASKED, SRN__OPEN, SRN__NEVER, SRN__MAYBE };

/* A list of sub-schemas (numbers in the index) that must all hold, in the document's order, none twice. */
typedef struct srn__list {
    const uint32_t *ids;
    uint32_t n;
    uint32_t rule;  /* UINT32_MAX until it was asked for */
    uint8_t status; /* whether nothing satisfies it, for leaves; SRN__MAYBE as far as `depth` steps show */
    unsigned depth;
    bool leaf;
    srn__dfa *dfa; /* of its strings, once it was needed */
} srn__list;

/* A pattern as a tree in srn__schema.trees. */
typedef struct srn__pattern {
    const char *text;
    srn_node node;
    srn__dfa *dfa; /* of it alone, once it was needed */
    struct srn__pattern *next;
} srn__pattern;

/* A character class in the grammar. */
typedef struct srn__class {
    srn_range *ranges;
    size_t n;
    srn_node node;
    struct srn__class *next;
} srn__class;

typedef struct srn__map {
    uint32_t *slots; /* number + 1, 0 for none */
    size_t n_slots;  /* a power of two */
} srn__map;

typedef struct srn__schema {
    srn_grammar *g;
    const json_t *root;
    srn_err *err;
    int code; /* the first failure, 0 while there is none; sticky */
    srn_arena arena;
    uint64_t seed, work;
    srn__sch **sch;
    uint32_t n_sch;
    srn__map by_json, by_list;
    srn__list **lists;
    uint32_t n_lists;
    srn__list **queue; /* leaves whose rule was asked for, in that order */
    uint32_t n_queue;
    uint32_t n_values;
    srn_grammar *trees; /* of patterns; NULL until the first */
    srn__pattern *patterns;
    srn__class *classes;
    /* Whether it is being shown that branches of oneOf exclude each other: then patterns and formats do not
     * count, for programs differ in what they match. */
    bool excluding;
    const json_t *member, *member_of; /* a value that is being tried, and the enum it is from, or NULL */
    uint32_t rule_json;               /* UINT32_MAX until it is needed */
} srn__schema;

/* A growing list of numbers in the arena, on its way to be interned. */
typedef struct srn__ids {
    uint32_t n;
    uint32_t ids[SRN__CAP_ITEMS]; /* copies have room for n alone */
} srn__ids;

/* ---- schema.c ---- */

/* Fails once with the sentence behind the pointer; always false. */
bool srn__schema_fail(srn__schema *s, int code, const char *ptr, const char *fmt, ...) SRN_PRINTF(4, 5);
bool srn__schema_nomem(srn__schema *s);
/* Counts steps; false once there were too many. */
bool srn__schema_work(srn__schema *s, uint64_t steps);
/* Adds a sub-schema to a list unless it is there or always true. */
void srn__ids_add(srn__schema *s, srn__ids *ids, uint32_t id);
/* The value of a place where all of these must hold: a reference to a rule. */
srn_node srn__schema_place(srn__schema *s, const srn__ids *ids);
/* Whether nothing satisfies them, as far as can be shown; depth bounds the search. */
bool srn__schema_never(srn__schema *s, const srn__ids *ids, unsigned depth);
/* The same for items [n] that hold as they are (their own keywords only) together with all of ids. */
bool srn__schema_never_with(srn__schema *s, uint32_t own, const srn__ids *ids, unsigned depth);

/* ---- schema_index.c ---- */

/* Fills the index from the root; entry 0 is the root. */
bool srn__schema_index(srn__schema *s);
/* The entry of a sub-schema that the index has met. */
uint32_t srn__schema_at(const srn__schema *s, const json_t *j);

/* ---- schema_value.c: JSON values as data ---- */

uint32_t srn__json_type(const json_t *v);
bool srn__json_equal(const json_t *a, const json_t *b);
/* Whether the value satisfies the sub-schema; own: only its own keywords. */
bool srn__schema_valid(srn__schema *s, const json_t *v, uint32_t id, bool own, unsigned depth);
/* The texts of these values (filtered already). */
srn_node srn__g_values(srn__schema *s, const json_t *const *values, size_t n);

/* ---- schema_leaf.c ---- */

bool srn__leaf_never(srn__schema *s, const srn__list *leaf, unsigned depth);
srn_node srn__leaf_node(srn__schema *s, const srn__list *leaf);
/* What must hold for the property of this name, for element i, by the leaf's items. */
void srn__leaf_property(srn__schema *s, const srn__list *leaf, srn_str name, srn__ids *ret);
void srn__leaf_element(srn__schema *s, const srn__list *leaf, size_t i, srn__ids *ret);

/* ---- schema_object.c ---- */

srn_node srn__g_object(srn__schema *s, const srn__list *leaf);
bool srn__object_never(srn__schema *s, const srn__list *leaf, unsigned depth);

/* ---- schema_number.c ---- */

srn_node srn__g_number(srn__schema *s, const srn__list *leaf, bool integer);
bool srn__number_never(srn__schema *s, const srn__list *leaf, bool integer);
/* Sizes from lo to hi (digits; hi NULL: open) that are a multiple; SRN_NODE_NONE where there are none. */
srn_node srn__g_multiples(srn__schema *s, uint64_t of, const uint8_t *lo, unsigned n_lo, const uint8_t *hi,
                          unsigned n_hi, const char *ptr);
/* A number without bounds. */
srn_node srn__g_any_number(srn_grammar *g, bool integer);

/* ---- schema_string.c ---- */

srn_node srn__g_string(srn__schema *s, const srn__list *leaf);
/* NULL after a failure. */
srn__pattern *srn__schema_pattern(srn__schema *s, const char *text, const char *ptr);
/* Bit i of a label: pattern i is in the name; bit n: the name is one of names; bit n + 1: of its characters
 * none could be read differently. */
srn__dfa *srn__dfa_of_names(srn__schema *s, const char *const *patterns, uint32_t n, const srn_str *names,
                            size_t n_names, const char *ptr);
/* The contents of strings whose label is exactly this, SRN_NODE_NONE where there are none. */
srn_node srn__dfa_node(srn__schema *s, const srn__dfa *d, uint32_t label);
bool srn__string_never(srn__schema *s, const srn__list *leaf);
/* Whether the text matches somewhere; false also after a failure, which it is that programs would differ. */
bool srn__pattern_matches(srn__schema *s, const char *pattern, srn_str text, const char *ptr);
/* The regular expression of a format, NULL for one that is not known. */
const char *srn__format_regex(const char *format);

/* ---- schema_text.c: pieces of JSON text ---- */

/* What may stand between two tokens, and after a colon. */
srn_node srn__g_space(srn_grammar *g);
srn_node srn__g_colon(srn_grammar *g);
/* One character of a string, in each form in which it may be written. */
srn_node srn__g_char(srn_grammar *g, const srn_range *ranges, size_t n);
/* The same, made once for each set of ranges. */
srn_node srn__schema_char(srn__schema *s, const srn_range *ranges, size_t n);
/* min to max characters of any kind. */
srn_node srn__g_chars(srn_grammar *g, uint32_t min, uint32_t max);
/* The text as the contents of a string. */
srn_node srn__g_literal(srn_grammar *g, srn_str text);
/* The string that has one of these texts, or, negated, none of them: contents without the quotes. */
srn_node srn__g_one_of(srn__schema *s, const srn_str *texts, size_t n, bool negated);
srn_node srn__g_opt(srn_grammar *g, srn_node node);
srn_node srn__g_join(srn_grammar *g, size_t n, const srn_node *nodes);
#define SRN__SEQ(g, ...)                                                                                     \
    srn__g_join((g), sizeof((srn_node[]){__VA_ARGS__}) / sizeof(srn_node), (srn_node[]){__VA_ARGS__})

#endif
