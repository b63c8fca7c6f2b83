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

/* Code points of one of utf8proc's categories, from `first` to where the next run begins. */
typedef struct srn__category_run {
    uint32_t first;
    uint8_t category;
} srn__category_run;

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
    srn__category_run *runs; /* [n_runs] of all code points; NULL until a category was asked for */
    uint32_t n_runs;
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

/* The parts of a sequence or the alternatives, as a front end reads them; {0} is empty, free(ids) its end. */
typedef struct srn__nodes {
    srn_node *ids;
    size_t n, cap;
} srn__nodes;
bool srn__nodes_add(srn__nodes *list, srn_node node); /* false: no memory, and the list is as it was */

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

/* ---- regex.c ---- */

typedef struct srn__regex_how {
    bool search; /* a match may begin and end anywhere in the text, but for ^ and $ */
    /* The node for one code point of the ranges (normalised); NULL: srn_g_class. */
    srn_node (*leaf)(void *ctx, srn_grammar *g, const srn_range *ranges, size_t n);
    void *ctx;
} srn__regex_how;
/* As srn_g_regex. */
srn_node srn__regex(srn_grammar *g, srn_str pattern, const srn__regex_how *how, srn_err *err);

/* ---- analyse.c: what the compiler must know of each node ---- */

typedef struct srn__analysis {
    uint8_t *reached, *productive, *nullable; /* [n_nodes] */
    uint32_t *refs;                           /* [n_nodes] parents and rules that use the node */
    uint32_t *size;                           /* [n_nodes] operations that it becomes, estimated */
    uint8_t *rule_reached;                    /* [n_rules] */
} srn__analysis;
/* SRN_EINVAL: a rule that is used is not defined. */
int srn__analyse(const srn_grammar *g, srn_node root, srn__analysis *ret, srn_err *err);
void srn__analysis_done(srn__analysis *a);
/* Whether a node that is used several times is worth a rule of its own. */
bool srn__is_shared(const srn_grammar *g, const srn__analysis *a, srn_node node);
/* Whether a repetition becomes copies of its body; otherwise it counts, or is a plain loop. */
bool srn__is_unrolled(const srn_grammar *g, const srn__analysis *a, srn_node node);

/* ---- compile.c: the program ----
 * A program is a set of rules; a rule is a graph of operations from its start to an END. Everything that
 * nothing could finish is left out, so that whatever can still go on can also end.
 */

typedef enum srn__op_kind {
    SRN__OP_BYTES, /* edges [at, at + n): sorted, disjoint */
    SRN__OP_SPLIT, /* any of targets [at, at + n) */
    SRN__OP_CALL,  /* call `at`; while the program is being made, rule at, then operation n */
    SRN__OP_END,   /* of the rule */
    SRN__OP_LOOP,  /* of counted repetition loop: END when the count is at least its min, body `at` when it is
                      below its max */
    SRN__OP_INC    /* counts one and goes to the LOOP at `at` */
} srn__op_kind;
enum {
    SRN__CALL_TAIL = 1,  /* nothing follows in this rule, and the rules call each other so without end */
    SRN__CALL_EMPTY = 2, /* the rule may match nothing, and that counts as a match here */
};
#define SRN__NO_LOOP UINT32_MAX
typedef struct srn__op {
    uint8_t kind, flags;
    uint32_t at, n;
    uint32_t loop; /* of the rule's counted repetition, or SRN__NO_LOOP */
} srn__op;
typedef struct srn__edge {
    uint8_t first, last;
    uint32_t next;
} srn__edge;
typedef struct srn__loop {
    uint32_t min, max;
} srn__loop;

typedef struct srn__call {
    uint32_t rule, next; /* what is called, and the operation after it */
    uint32_t loop;       /* of the CALL */
} srn__call;

typedef struct srn__program {
    srn__op *ops;
    uint32_t n_ops, cap_ops;
    srn__edge *edges;
    uint32_t n_edges, cap_edges;
    uint32_t *targets;
    uint32_t n_targets, cap_targets;
    srn__loop *loops;
    uint32_t n_loops, cap_loops;
    srn__call *calls; /* by rule */
    uint32_t n_calls;
    uint32_t *starts; /* [n_rules] first operation; rule 0 is the whole text */
    uint32_t n_rules;
    uint32_t n_classes;    /* of bytes that no edge tells apart */
    uint8_t class_of[256]; /* byte -> class */
    uint8_t byte_of[256];  /* class -> one of its bytes */
} srn__program;
/* Most operations, edges or targets of a program. */
#define SRN__MAX_OPS (1u << 20)
int srn__compile(const srn_grammar *g, srn_node root, srn__program *ret, srn_err *err);
void srn__program_done(srn__program *p);

/* The compiler's own state, shared with compile_parts.c. Operations are made from the end of a text to its
 * beginning, so that each knows what follows it. */
#define SRN__NO_OP UINT32_MAX
typedef struct srn__compiler {
    const srn_grammar *g;
    srn__analysis a;
    srn__program *p;
    srn_node *rule_node;  /* [p->n_rules] what each rule matches */
    uint8_t *rule_counts; /* [p->n_rules] whether it is the loop of the repetition rule_node */
    uint32_t *rule_ends;  /* [p->n_rules] one past its last operation */
    uint32_t cap_rules;
    uint32_t *rule_of_node; /* [n_nodes] rule that matches the node, or SRN__NO_OP */
    uint32_t *loop_of_node; /* [n_nodes] rule that counts the repetition, or SRN__NO_OP */
    uint32_t *rule_of_name; /* [g->n_rules] */
    uint32_t loop;          /* of the rule that is compiled, or SRN__NO_LOOP */
    int failed;             /* SRN_ENOMEM, SRN_ELIMIT; sticky */
} srn__compiler;
/* One more operation, all zero but its loop; SRN__NO_OP after a failure. */
uint32_t srn__new_op(srn__compiler *c);
void srn__set_edges(srn__compiler *c, uint32_t op, const srn__edge *edges, uint32_t n);
void srn__set_targets(srn__compiler *c, uint32_t op, const uint32_t *targets, uint32_t n);
/* The operations of a node followed by `next`; the node is productive. */
uint32_t srn__compile_node(srn__compiler *c, srn_node node, uint32_t next);
/* compile_parts.c: the two nodes that are automata of bytes. */
uint32_t srn__compile_class(srn__compiler *c, const srn_range *ranges, uint32_t n, uint32_t next);
uint32_t srn__compile_free(srn__compiler *c, const srn__gnode *x, uint32_t next);

/* ---- sets.c: what a text can be so far ----
 * A set holds the items that a text leads to: places in rules from which bytes can go on, and calls that wait
 * for a rule that began after the same text. Each item knows the set in which its rule was called, so that
 * sets stand for whole stacks (Earley's sets, Communications of the ACM 13, 1970, with the input cut off).
 * Equal sets have one number. The table of sets is a cache: a matcher has one to itself, and it goes back to
 * the constraint for the next matcher.
 */

typedef struct srn__item {
    uint32_t op;     /* a BYTES; of a rule that waits, the call */
    uint32_t rule;   /* that is completed at its END */
    uint32_t origin; /* set in which `rule` was called; SRN__SELF: this one */
    uint32_t count;  /* of a counted repetition */
} srn__item;
#define SRN__SELF UINT32_MAX

enum {
    SRN__SET_ACCEPTS = 1, /* the text may end here */
    SRN__SET_ESCAPES = 2, /* a rule was completed whose caller is a stand-in */
};
typedef struct srn__set {
    uint32_t items; /* of the table's items: first those that wait for bytes, then the calls by rule */
    uint32_t n_bytes, n_calls;
    uint32_t row; /* of transitions, or SRN__NO_ROW */
    uint32_t flags;
} srn__set;
#define SRN__NO_ROW UINT32_MAX

/* Numbers of sets. Stand-ins take the place of real sets in a set's shape (srn__sets_shape). */
#define SRN__DEAD      0u
#define SRN__STAND_INS 32u
#define SRN__FIRST_SET (1u + SRN__STAND_INS)
#define SRN__UNKNOWN   UINT32_MAX       /* in rows: not computed yet */
#define SRN__FAILED    (UINT32_MAX - 1) /* memory or work is spent */

typedef struct srn__sets {
    const srn__program *p;
    srn__set *sets;
    uint32_t n_sets, cap_sets;
    srn__item *items;
    uint32_t n_items, cap_items;
    uint32_t *rows; /* [n_rows][n_classes] */
    uint32_t n_rows, cap_rows;
    uint32_t *table, table_size; /* hash table of numbers, 0 is free; size a power of two */
    uint64_t seed;
    uint32_t start; /* of the empty text */
    /* of the set that is being made */
    srn__item *work;
    uint32_t n_work, cap_work;
    srn__item *calls;
    uint32_t n_calls, cap_calls;
    srn__item *waiting;
    uint32_t n_waiting, cap_waiting;
    uint64_t *seen; /* hash table: generation, index into work */
    uint32_t seen_size, generation;
    uint32_t flags;
    uint64_t budget; /* operations that may still be spent; the caller fills it up */
    uint64_t bytes;  /* held */
    int failed;      /* SRN_ENOMEM or SRN_ELIMIT; cleared by the caller */
} srn__sets;

int srn__sets_init(srn__sets *s, const srn__program *p, srn_err *err);
void srn__sets_done(srn__sets *s);
/* The set after one more byte of the class: SRN__DEAD, SRN__FAILED or a set. Looks its row up first. */
uint32_t srn__sets_next(srn__sets *s, uint32_t set, unsigned byte_class);
/* A set that treats the next `ahead` bytes as this one does, until a rule is completed that was called before
 * the set: origins become stand-ins and counts that are far from their bounds become one of them. Sets of
 * different contexts share a shape. SRN__FAILED when there are too many origins; otherwise like next. */
uint32_t srn__sets_shape(srn__sets *s, uint32_t set, uint32_t ahead);
/* How many bytes ahead the set's shape should look: `most`, or fewer where counts are too near their bounds
 * for that, so that shapes are the same all the way to a bound but for the last steps. */
uint32_t srn__sets_look_ahead(const srn__sets *s, uint32_t set, uint32_t most);
/* Bytes of the tables that are in use; what collect brings down. */
uint64_t srn__sets_used(const srn__sets *s);
/* Forgets all sets that roots[0..n) do not need, and renumbers; roots are changed in place. */
int srn__sets_collect(srn__sets *s, uint32_t *roots, size_t n, srn_err *err);

/* ---- trie.c ---- */

/* Nodes in depth-first order, children by byte; the root is not stored. */
struct srn_token_trie {
    const srn_vocab *v;
    uint64_t id; /* random: tells tries apart whose addresses are equal */
    uint32_t n_vocab, n_nodes;
    uint8_t *byte;    /* [n_nodes] */
    uint16_t *depth;  /* [n_nodes] 0 for first bytes */
    uint32_t *skip;   /* [n_nodes] the node after the subtree */
    uint32_t *parent; /* [n_nodes] UINT32_MAX: the root */
    uint32_t
        *tokens_at; /* [n_nodes + 1] tokens that end at a node: tokens[tokens_at[i] .. tokens_at[i + 1]) */
    int32_t *tokens;
    uint8_t *bytes;              /* of all tokens */
    uint32_t *bytes_at;          /* [n_vocab + 1] */
    int32_t *ends;               /* [n_ends] tokens that end an answer */
    uint32_t n_ends, most_bytes; /* of a token */
    bool drops_space;            /* the space that a text's first token begins with is not part of the text */
};

/* ---- matcher.c: masks ---- */

/* What a shape lets in, and where that depends on what surrounds it or lies too far ahead. */
typedef struct srn__mask {
    uint32_t shape;    /* SRN__DEAD: the slot is free */
    uint32_t ahead;    /* bytes that it holds for */
    uint32_t n_tokens; /* UINT32_MAX: bits, else a list */
    uint32_t bytes;    /* of memory */
    uint32_t n_open;   /* nodes of the trie whose subtree must be walked in the real set */
    uint64_t *bits;    /* [(n_vocab + 63) / 64], or int32_t [n_tokens] */
    uint32_t *open;    /* [n_open] */
} srn__mask;
#define SRN__MASK_SLOTS 512u

/* What a matcher needs besides its place: sets and masks made so far. */
typedef struct srn__cache {
    srn__sets sets;
    uint64_t trie_id; /* of the trie that the masks belong to */
    srn__mask masks[SRN__MASK_SLOTS];
    uint64_t mask_bytes;
    uint64_t collect_at; /* bytes of sets in use from which they are collected */
    uint32_t *stack;     /* [most_bytes + 1] set before each byte of a path in the trie */
    uint32_t *path;      /* [most_bytes] nodes of a path */
    uint8_t *escaped;    /* [most_bytes + 1] */
    uint32_t *open;
    uint32_t n_open, cap_open;
} srn__cache;
void srn__cache_free(srn__cache *k);

/* A cache for one matcher, warm if there is one; NULL when memory ran out or the sets cannot begin. */
srn__cache *srn__constraint_take_cache(srn_constraint *c, srn_err *err);
void srn__constraint_give_cache(srn_constraint *c, srn__cache *k);

#endif
