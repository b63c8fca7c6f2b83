/* From a grammar's tree to the program that matchers walk. Called by srn_constraint_new on one thread. Rules
 * of the grammar, large nodes that are used more than once and counted repetitions become rules of the
 * program, so that its size stays near the grammar's. Refuses a grammar that nothing satisfies and one past
 * the cap.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

void srn__program_done(srn__program *p) {
    free(p->ops);
    free(p->edges);
    free(p->targets);
    free(p->loops);
    free(p->calls);
    free(p->starts);
    *p = (srn__program){0};
}

/* ---- tables ---- */

static bool grow(srn__compiler *c, void **table, uint32_t used, uint32_t *cap, uint32_t n, size_t size) {
    if (c->failed) return false;
    if (used + (uint64_t)n > SRN__MAX_OPS) {
        c->failed = SRN_ELIMIT;
        return false;
    }
    if (used + n <= *cap) return true;
    uint32_t want = SRN_MAX(used + n, *cap ? 2 * *cap : 64);
    void *t = srn_realloc_array(*table, want, size);
    if (!t) {
        c->failed = SRN_ENOMEM;
        return false;
    }
    *table = t;
    *cap = want;
    return true;
}

uint32_t srn__new_op(srn__compiler *c) {
    srn__program *p = c->p;
    if (!grow(c, (void **)&p->ops, p->n_ops, &p->cap_ops, 1, sizeof *p->ops)) return SRN__NO_OP;
    p->ops[p->n_ops] = (srn__op){.loop = c->loop};
    return p->n_ops++;
}

void srn__set_edges(srn__compiler *c, uint32_t op, const srn__edge *edges, uint32_t n) {
    srn__program *p = c->p;
    if (!grow(c, (void **)&p->edges, p->n_edges, &p->cap_edges, n, sizeof *p->edges)) return;
    memcpy(p->edges + p->n_edges, edges, n * sizeof *edges);
    p->ops[op].kind = SRN__OP_BYTES;
    p->ops[op].at = p->n_edges;
    p->ops[op].n = n;
    p->n_edges += n;
}

void srn__set_targets(srn__compiler *c, uint32_t op, const uint32_t *targets, uint32_t n) {
    srn__program *p = c->p;
    if (!grow(c, (void **)&p->targets, p->n_targets, &p->cap_targets, n, sizeof *p->targets)) return;
    if (n) memcpy(p->targets + p->n_targets, targets, n * sizeof *targets);
    p->ops[op].kind = SRN__OP_SPLIT;
    p->ops[op].at = p->n_targets;
    p->ops[op].n = n;
    p->n_targets += n;
}

/* ---- rules ---- */

static bool grow_rules(srn__compiler *c, uint32_t cap) {
    srn_node *nodes = srn_realloc_array(c->rule_node, cap, sizeof *nodes);
    if (nodes) c->rule_node = nodes;
    uint8_t *flags = srn_realloc_array(c->rule_counts, cap, 1);
    if (flags) c->rule_counts = flags;
    uint32_t *ends = srn_realloc_array(c->rule_ends, cap, sizeof *ends);
    if (ends) c->rule_ends = ends;
    uint32_t *starts = srn_realloc_array(c->p->starts, cap, sizeof *starts);
    if (starts) c->p->starts = starts;
    if (!nodes || !flags || !ends || !starts) return c->failed = SRN_ENOMEM, false;
    c->cap_rules = cap;
    return true;
}

static uint32_t add_rule(srn__compiler *c, srn_node node, bool counts) {
    uint32_t n = c->p->n_rules;
    if (c->failed || (n == c->cap_rules && !grow_rules(c, n ? 2 * n : 16))) return 0;
    c->rule_node[n] = node;
    c->rule_counts[n] = counts;
    return c->p->n_rules++;
}

/* The rule that matches the node; a reference has one already. */
static uint32_t rule_for(srn__compiler *c, srn_node node) {
    const srn__gnode *x = &c->g->nodes[node];
    uint32_t *rule = x->kind == SRN__NODE_REF ? &c->rule_of_name[x->at] : &c->rule_of_node[node];
    if (*rule == SRN__NO_OP)
        *rule = add_rule(c, x->kind == SRN__NODE_REF ? c->g->rules[x->at].body : node, false);
    return *rule;
}

static uint32_t call(srn__compiler *c, uint32_t rule, bool may_be_empty, uint32_t next) {
    uint32_t op = srn__new_op(c);
    if (op == SRN__NO_OP) return op;
    srn__op *o = &c->p->ops[op];
    o->kind = SRN__OP_CALL;
    o->flags = may_be_empty ? SRN__CALL_EMPTY : 0;
    o->at = rule;
    o->n = next;
    return op;
}

/* ---- nodes ---- */

static uint32_t compile_text(srn__compiler *c, const srn__gnode *x, uint32_t next) {
    for (uint32_t i = x->n; i-- > 0 && !c->failed;) {
        uint8_t byte = c->g->bytes[x->at + i];
        uint32_t op = srn__new_op(c);
        if (op == SRN__NO_OP) return op;
        srn__set_edges(c, op, &(srn__edge){byte, byte, next}, 1);
        next = op;
    }
    return next;
}

static uint32_t compile_alt(srn__compiler *c, const srn__gnode *x, uint32_t next) {
    uint32_t *targets = srn_calloc(x->n, sizeof *targets), n = 0, op = SRN__NO_OP;
    if (!targets) return c->failed = SRN_ENOMEM, SRN__NO_OP;
    for (uint32_t i = 0; i < x->n && !c->failed; i++) {
        srn_node kid = c->g->kids[x->at + i];
        if (c->a.productive[kid]) targets[n++] = srn__compile_node(c, kid, next);
    }
    if (n == 1) {
        op = targets[0];
    } else {
        op = srn__new_op(c);
        if (op != SRN__NO_OP) srn__set_targets(c, op, targets, n);
    }
    free(targets);
    return op;
}

/* body* or, with at_least_one, body+ */
static uint32_t compile_star(srn__compiler *c, srn_node body, bool at_least_one, uint32_t next) {
    uint32_t head = srn__new_op(c);
    if (head == SRN__NO_OP) return head;
    uint32_t first = srn__compile_node(c, body, head);
    srn__set_targets(c, head, (uint32_t[]){first, next}, 2);
    return at_least_one ? first : head;
}

static uint32_t compile_repeat(srn__compiler *c, srn_node node, uint32_t next) {
    const srn__gnode *x = &c->g->nodes[node];
    srn_node body = x->at;
    if (!c->a.productive[body]) return next;
    uint32_t min = c->a.nullable[body] ? 0 : x->min;
    if (!srn__is_unrolled(c->g, &c->a, node)) {
        uint32_t *rule = &c->loop_of_node[node];
        if (*rule == SRN__NO_OP) *rule = add_rule(c, node, true);
        return call(c, *rule, min == 0, next);
    }
    if (x->max == SRN_NO_MAX) {
        next = compile_star(c, body, min > 0, next);
        min = min ? min - 1 : 0;
    } else {
        uint32_t end = next;
        for (uint32_t i = min; i < x->max && !c->failed; i++) {
            uint32_t op = srn__new_op(c);
            if (op == SRN__NO_OP) return op;
            uint32_t once = srn__compile_node(c, body, next);
            srn__set_targets(c, op, (uint32_t[]){once, end}, 2);
            next = op;
        }
    }
    for (uint32_t i = 0; i < min && !c->failed; i++) next = srn__compile_node(c, body, next);
    return next;
}

static uint32_t compile_inside(srn__compiler *c, srn_node node, uint32_t next) {
    const srn__gnode *x = &c->g->nodes[node];
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_TEXT:
        return compile_text(c, x, next);
    case SRN__NODE_CLASS:
        return srn__compile_class(c, c->g->ranges + x->at, x->n, next);
    case SRN__NODE_SEQ:
        for (uint32_t i = x->n; i-- > 0 && !c->failed;)
            next = srn__compile_node(c, c->g->kids[x->at + i], next);
        return next;
    case SRN__NODE_ALT:
        return compile_alt(c, x, next);
    case SRN__NODE_REPEAT:
        return compile_repeat(c, node, next);
    case SRN__NODE_REF:
        return call(c, rule_for(c, node), c->a.nullable[node], next);
    case SRN__NODE_FREE:
        return srn__compile_free(c, x, next);
    case SRN__NODE_EMPTY:
        break;
    }
    return next;
}

uint32_t srn__compile_node(srn__compiler *c, srn_node node, uint32_t next) {
    if (c->failed) return SRN__NO_OP;
    if (srn__is_shared(c->g, &c->a, node)) return call(c, rule_for(c, node), c->a.nullable[node], next);
    return compile_inside(c, node, next);
}

/* LOOP: body, INC, LOOP again; the count belongs to the rule's call. A body that may match nothing is a call
 * of its own, for then only what is not empty counts. */
static uint32_t compile_loop(srn__compiler *c, srn_node node, uint32_t end) {
    const srn__gnode *x = &c->g->nodes[node];
    srn__program *p = c->p;
    if (!grow(c, (void **)&p->loops, p->n_loops, &p->cap_loops, 1, sizeof *p->loops)) return SRN__NO_OP;
    bool nullable = c->a.nullable[x->at];
    p->loops[p->n_loops] = (srn__loop){nullable ? 0 : x->min, x->max};
    c->loop = p->n_loops++;
    p->ops[end].loop = c->loop;
    uint32_t head = srn__new_op(c), inc = srn__new_op(c);
    if (inc == SRN__NO_OP) return inc;
    p->ops[inc].kind = SRN__OP_INC;
    p->ops[inc].at = head;
    uint32_t body = nullable ? call(c, rule_for(c, x->at), false, inc) : srn__compile_node(c, x->at, inc);
    if (c->failed) return SRN__NO_OP;
    p->ops[head].kind = SRN__OP_LOOP;
    p->ops[head].at = body;
    return head;
}

/* ---- tail calls ----
 * A rule whose last act is to call a rule that may do the same with it (list ::= item | item "," list) would
 * pile up calls that have nothing left to do. Such calls are marked; they hand their caller on. A call is in
 * such a circle when both rules are in one strongly connected component of the graph of last calls. */

typedef struct tarjan {
    const srn__program *p;
    const uint32_t *ends;                                  /* [n_rules] one past the rule's last operation */
    uint32_t *index, *low, *stack, *component, *work, *at; /* [n_rules] */
    uint32_t n_index, n_stack, n_components;
} tarjan;

static bool is_last_call(const srn__program *p, uint32_t op) {
    return p->ops[op].kind == SRN__OP_CALL && p->ops[p->ops[op].n].kind == SRN__OP_END;
}

static void visit(tarjan *t, uint32_t root) {
    uint32_t n = 0;
    t->work[n++] = root;
    while (n) {
        uint32_t r = t->work[n - 1];
        if (!t->index[r]) {
            t->index[r] = t->low[r] = ++t->n_index;
            t->stack[t->n_stack++] = r;
            t->at[r] = r ? t->ends[r - 1] : 0;
        }
        bool deeper = false;
        for (; t->at[r] < t->ends[r] && !deeper; t->at[r]++) {
            if (!is_last_call(t->p, t->at[r])) continue;
            uint32_t to = t->p->ops[t->at[r]].at;
            if (!t->index[to]) {
                t->work[n++] = to;
                deeper = true;
                break; /* looked at again when `to` is done */
            }
            if (!t->component[to]) t->low[r] = SRN_MIN(t->low[r], t->low[to]);
        }
        if (deeper) continue;
        if (t->low[r] == t->index[r]) {
            t->n_components++;
            uint32_t member;
            do {
                member = t->stack[--t->n_stack];
                t->component[member] = t->n_components;
            } while (member != r);
        }
        n--;
    }
}

static void mark_tail_calls(srn__compiler *c) {
    srn__program *p = c->p;
    const uint32_t *ends = c->rule_ends;
    uint32_t n = p->n_rules, *space = srn_calloc((size_t)n * 6, sizeof *space);
    if (!space) {
        c->failed = SRN_ENOMEM;
        return;
    }
    tarjan t = {.p = p,
                .ends = ends,
                .index = space,
                .low = space + n,
                .stack = space + 2 * (size_t)n,
                .component = space + 3 * (size_t)n,
                .work = space + 4 * (size_t)n,
                .at = space + 5 * (size_t)n};
    for (uint32_t r = 0; r < n; r++)
        if (!t.index[r]) visit(&t, r);
    for (uint32_t r = 0, op = 0; r < n; r++)
        for (; op < ends[r]; op++)
            if (is_last_call(p, op) && t.component[r] == t.component[p->ops[op].at])
                p->ops[op].flags |= SRN__CALL_TAIL;
    free(space);
}

/* ---- the whole ---- */

/* Bytes between two neighbouring borders of edges belong together. */
static void find_classes(srn__program *p) {
    bool border[257] = {true};
    for (uint32_t i = 0; i < p->n_edges; i++) border[p->edges[i].first] = border[p->edges[i].last + 1] = true;
    p->n_classes = 0;
    for (unsigned b = 0; b < 256; b++) {
        if (border[b]) p->byte_of[p->n_classes++] = (uint8_t)b;
        p->class_of[b] = (uint8_t)(p->n_classes - 1);
    }
}

/* Gathers the calls in a table by rule, so that those of one rule stand together. */
static void number_calls(srn__compiler *c) {
    srn__program *p = c->p;
    uint32_t *at = srn_calloc((size_t)p->n_rules + 1, sizeof *at);
    for (uint32_t i = 0; at && i < p->n_ops; i++)
        if (p->ops[i].kind == SRN__OP_CALL) at[p->ops[i].at + 1]++, p->n_calls++;
    p->calls = srn_calloc(p->n_calls, sizeof *p->calls);
    if (!at || !p->calls) {
        c->failed = SRN_ENOMEM;
        free(at);
        return;
    }
    for (uint32_t r = 1; r <= p->n_rules; r++) at[r] += at[r - 1];
    for (uint32_t i = 0; i < p->n_ops; i++) {
        srn__op *op = &p->ops[i];
        if (op->kind != SRN__OP_CALL) continue;
        uint32_t k = at[op->at]++;
        p->calls[k] = (srn__call){op->at, op->n, op->loop};
        op->at = k;
    }
    free(at);
}

/* Compiling a rule can add rules, which come later. */
static void compile_rules(srn__compiler *c) {
    srn__program *p = c->p;
    for (uint32_t r = 0; r < p->n_rules && !c->failed; r++) {
        c->loop = SRN__NO_LOOP;
        uint32_t end = srn__new_op(c);
        if (end == SRN__NO_OP) return;
        p->ops[end].kind = SRN__OP_END;
        uint32_t start = c->rule_counts[r] ? compile_loop(c, c->rule_node[r], end)
                                           : compile_inside(c, c->rule_node[r], end);
        p->starts[r] = start;
        c->rule_ends[r] = p->n_ops;
    }
    if (!c->failed) mark_tail_calls(c);
    if (!c->failed) number_calls(c);
}

static int init(srn__compiler *c, srn_node root, srn_err *err) {
    const srn_grammar *g = c->g;
    int code = srn__analyse(g, root, &c->a, err);
    if (code) return code;
    if (!c->a.productive[root])
        return srn_fail(err, SRN_EINVAL,
                        "no text satisfies this constraint: everything in it ends in a part "
                        "that can never be finished");
    c->rule_of_node = srn_calloc(g->n_nodes, sizeof *c->rule_of_node);
    c->loop_of_node = srn_calloc(g->n_nodes, sizeof *c->loop_of_node);
    c->rule_of_name = srn_calloc(g->n_rules, sizeof *c->rule_of_name);
    if (!c->rule_of_node || !c->loop_of_node || !c->rule_of_name)
        return srn_fail_nomem(err, g->n_nodes * sizeof *c->rule_of_node);
    memset(c->rule_of_node, 0xFF, g->n_nodes * sizeof *c->rule_of_node);
    memset(c->loop_of_node, 0xFF, g->n_nodes * sizeof *c->loop_of_node);
    memset(c->rule_of_name, 0xFF, g->n_rules * sizeof *c->rule_of_name);
    add_rule(c, root, false);
    return SRN_OK;
}

int srn__compile(const srn_grammar *g, srn_node root, srn__program *ret, srn_err *err) {
    srn__program p = {0};
    srn__compiler c = {.g = g, .p = &p};
    int code = init(&c, root, err);
    if (!code && !c.failed) compile_rules(&c);
    if (!code && c.failed == SRN_ENOMEM) code = srn_fail(err, SRN_ENOMEM, "out of memory for a constraint");
    if (!code && c.failed)
        code = srn_fail(err, SRN_ELIMIT,
                        "the constraint is too large: it compiles to more than %u operations", SRN__MAX_OPS);
    srn__analysis_done(&c.a);
    free(c.rule_node);
    free(c.rule_counts);
    free(c.rule_ends);
    free(c.rule_of_node);
    free(c.loop_of_node);
    free(c.rule_of_name);
    if (code) return srn__program_done(&p), code;
    find_classes(&p);
    *ret = p;
    return SRN_OK;
}
