/* A grammar over bytes, as its front ends (regex, GBNF, JSON schema) build it: nodes in a table, rules by
 * number. Built by one thread; srn_constraint_new turns it into the immutable form that matchers walk. Every
 * builder returns a node, or SRN_NODE_NONE once something failed (out of memory, past a cap): the failure is
 * sticky, so that a front end checks once, at the end.
 */
#ifndef SRN_CONSTRAIN_GRAMMAR_H
#define SRN_CONSTRAIN_GRAMMAR_H

#include "base/base.h"

typedef struct srn_grammar srn_grammar;
typedef uint32_t srn_node;
#define SRN_NODE_NONE UINT32_MAX
#define SRN_NO_MAX    UINT32_MAX

typedef struct srn_range {
    uint32_t first, last; /* code points, both included */
} srn_range;

/* max_nodes caps what a hostile schema or pattern can cost. */
int srn_grammar_new(uint32_t max_nodes, srn_grammar **ret, srn_err *err);
void srn_grammar_free(srn_grammar *g);

/* Exactly these bytes; an empty text is the empty node. */
srn_node srn_g_text(srn_grammar *g, srn_str text);
/* One code point of the ranges (or, negated, any other valid one), as UTF-8. */
srn_node srn_g_class(srn_grammar *g, const srn_range *ranges, size_t n, bool negated);
srn_node srn_g_seq(srn_grammar *g, const srn_node *nodes, size_t n);
srn_node srn_g_alt(srn_grammar *g, const srn_node *nodes, size_t n);
/* min to max times; max SRN_NO_MAX: without end. Counted repetition must not be unrolled into max copies. */
srn_node srn_g_repeat(srn_grammar *g, srn_node node, uint32_t min, uint32_t max);
/* Rules may refer to each other and to themselves. A rule is declared first and defined once. */
uint32_t srn_g_rule(srn_grammar *g, srn_str name);
void srn_g_define(srn_grammar *g, uint32_t rule, srn_node body);
srn_node srn_g_ref(srn_grammar *g, uint32_t rule);
/* Free text (any valid UTF-8) in which nothing is constrained until one of the triggers has been written
 * whole; from then on that trigger's body must follow, and afterwards free text again. With n = 0 it is any
 * text. */
typedef struct srn_trigger {
    srn_str text;  /* "<tool_call>" */
    srn_node body; /* what follows, closing tag included */
} srn_trigger;
srn_node srn_g_free_text(srn_grammar *g, const srn_trigger *triggers, size_t n);

#endif
