/* constrain, inside the room: the grammar's tables, as front ends fill them and compile.c reads them; the
 * program that compile.c makes of them; the item sets that matchers walk.
 */
#ifndef SRN_CONSTRAIN_INTERNAL_H
#define SRN_CONSTRAIN_INTERNAL_H

#include "constrain/constrain.h"

/* ---- grammar.c: the tree ---- */

typedef enum srn__node_kind {
    SRN__NODE_EMPTY,
    SRN__NODE_TEXT,   /* bytes [at, at + n) */
    SRN__NODE_CLASS,  /* ranges [at, at + n): sorted, disjoint, without surrogates; none matches nothing */
    SRN__NODE_SEQ,    /* kids [at, at + n) */
    SRN__NODE_ALT,    /* kids [at, at + n); none matches nothing */
    SRN__NODE_REPEAT, /* kid at, min to max times */
    SRN__NODE_REF,    /* rule at */
    SRN__NODE_FREE    /* triggers [at, at + n) */
} srn__node_kind;

typedef struct srn__gnode {
    uint8_t kind;   /* srn__node_kind */
    uint16_t depth; /* of the tree below, without what lies behind references */
    uint32_t at, n, min, max;
} srn__gnode;
typedef struct srn__grule {
    srn_str name;  /* owned */
    srn_node body; /* SRN_NODE_NONE: not defined */
} srn__grule;
typedef struct srn__gtrigger {
    uint32_t text_at, text_len; /* of bytes */
    srn_node body;
} srn__gtrigger;

struct srn_grammar {
    uint32_t max_nodes;
    srn__gnode *nodes;
    uint32_t n_nodes, cap_nodes;
    uint32_t *kids;
    uint32_t n_kids, cap_kids;
    srn_range *ranges;
    uint32_t n_ranges, cap_ranges;
    uint8_t *bytes;
    uint32_t n_bytes, cap_bytes;
    srn__grule *rules;
    uint32_t n_rules, cap_rules;
    srn__gtrigger *triggers;
    uint32_t n_triggers, cap_triggers;
    srn_err failed; /* code SRN_OK: nothing failed */
};

/* Deepest nesting of nodes; functions that follow it recurse. */
#define SRN__MAX_DEPTH 1000u
/* Longest trigger of free text. */
#define SRN__MAX_TRIGGER_BYTES 256u
/* Nodes of a grammar that the front ends make for srn_constraint_of_*. */
#define SRN__MAX_NODES (1u << 18)

/* SRN_OK, or what failed first, in err. */
int srn__grammar_status(const srn_grammar *g, srn_err *err);
/* Makes a failure sticky (the first one stays); returns SRN_NODE_NONE. */
srn_node srn__grammar_fail(srn_grammar *g, int code, const char *fmt, ...) SRN_PRINTF(3, 4);
/* The declared rule of this name, or UINT32_MAX. */
uint32_t srn__grammar_find_rule(const srn_grammar *g, srn_str name);

/* ---- ranges.c: sets of code points ---- */

#define SRN__MAX_CP 0x10FFFFu
typedef struct srn__ranges {
    srn_range *r;
    size_t n, cap;
    bool failed; /* out of memory; sticky */
} srn__ranges;
void srn__ranges_done(srn__ranges *s);
void srn__ranges_add(srn__ranges *s, uint32_t first, uint32_t last);
void srn__ranges_add_all(srn__ranges *s, const srn_range *r, size_t n);
/* Sorts, joins, cuts off what is no code point and takes surrogates out. */
void srn__ranges_normalise(srn__ranges *s);
/* Every other code point; s is normalised before and after. */
void srn__ranges_negate(srn__ranges *s);

#endif
