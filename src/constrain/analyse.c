/* What the compiler must know of a grammar before it starts: which nodes the root reaches and how often they
 * are used, which can be finished at all, which can match nothing, and how large they become. All in time
 * linear in the grammar, for grammars come from outside.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

/* A repetition of up to so many operations in all is written out. */
#define UNROLL_OPS 24u
/* A node used more than once becomes a rule when it is larger than this. */
#define SHARE_OPS 16u
#define SIZE_CAP  (1u << 24)

void srn__analysis_done(srn__analysis *a) {
    free(a->reached);
    free(a->productive);
    free(a->nullable);
    free(a->refs);
    free(a->size);
    free(a->rule_reached);
    *a = (srn__analysis){0};
}

/* ---- kids, whatever the kind ---- */

static uint32_t n_kids(const srn_grammar *g, srn_node node) {
    const srn__gnode *x = &g->nodes[node];
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_SEQ:
    case SRN__NODE_ALT:
    case SRN__NODE_FREE:
        return x->n;
    case SRN__NODE_REPEAT:
    case SRN__NODE_REF:
        return 1;
    default:
        return 0;
    }
}

static srn_node kid_of(const srn_grammar *g, srn_node node, uint32_t i) {
    const srn__gnode *x = &g->nodes[node];
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_REPEAT:
        return x->at;
    case SRN__NODE_REF:
        return g->rules[x->at].body;
    case SRN__NODE_FREE:
        return g->triggers[x->at + i].body;
    default:
        return g->kids[x->at + i];
    }
}

/* ---- reach ---- */

static int reach(const srn_grammar *g, srn_node root, srn__analysis *a, srn_err *err) {
    srn_node *stack = srn_calloc(g->n_nodes, sizeof *stack);
    if (!stack) return srn_fail_nomem(err, g->n_nodes * sizeof *stack);
    uint32_t n = 0;
    int code = SRN_OK;
    stack[n++] = root;
    a->reached[root] = 1;
    a->refs[root] = 1;
    while (n && !code) {
        srn_node node = stack[--n];
        const srn__gnode *x = &g->nodes[node];
        if (x->kind == SRN__NODE_REF) {
            const srn__grule *r = &g->rules[x->at];
            if (r->body == SRN_NODE_NONE) {
                code = srn_fail(err, SRN_EINVAL, "the rule '%.*s' is used but not defined", (int)r->name.len,
                                r->name.ptr);
                break;
            }
            if (a->rule_reached[x->at]) continue;
            a->rule_reached[x->at] = 1;
        }
        for (uint32_t i = 0, k = n_kids(g, node); i < k; i++) {
            srn_node kid = kid_of(g, node, i);
            a->refs[kid]++;
            if (!a->reached[kid]) stack[n++] = kid;
            a->reached[kid] = 1;
        }
    }
    free(stack);
    return code;
}

/* ---- properties that rise from kids to parents ---- */

/* parents [n_edges] of node k stand at [at[k], at[k + 1]). */
typedef struct uses {
    uint32_t *at, *parents;
} uses;

static bool uses_init(const srn_grammar *g, const srn__analysis *a, uses *ret) {
    uint32_t *at = srn_calloc((size_t)g->n_nodes + 2, sizeof *at), *parents;
    if (!at) return false;
    for (srn_node v = 0; v < g->n_nodes; v++)
        for (uint32_t i = 0, k = a->reached[v] ? n_kids(g, v) : 0; i < k; i++) at[kid_of(g, v, i) + 2]++;
    for (uint32_t i = 2; i < g->n_nodes + 2; i++) at[i] += at[i - 1];
    parents = srn_calloc(at[g->n_nodes + 1], sizeof *parents);
    if (!parents) return free(at), false;
    for (srn_node v = 0; v < g->n_nodes; v++)
        for (uint32_t i = 0, k = a->reached[v] ? n_kids(g, v) : 0; i < k; i++)
            parents[at[kid_of(g, v, i) + 1]++] = v;
    *ret = (uses){at, parents};
    return true;
}

/* How many kids (counted as often as they are used) must have the property before the node has it; 0: it has
 * it by itself; UINT32_MAX: never. */
static uint32_t kids_needed(const srn__gnode *x, bool nullable) {
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_EMPTY:
    case SRN__NODE_FREE:
        return 0;
    case SRN__NODE_TEXT:
        return nullable ? UINT32_MAX : 0;
    case SRN__NODE_CLASS:
        return nullable || x->n == 0 ? UINT32_MAX : 0;
    case SRN__NODE_SEQ:
        return x->n;
    case SRN__NODE_REPEAT:
        return x->min == 0 ? 0 : 1;
    default:
        return 1;
    }
}

static bool rise(const srn_grammar *g, const srn__analysis *a, const uses *u, bool nullable, uint8_t *has) {
    uint32_t *need = srn_calloc(g->n_nodes, sizeof *need);
    srn_node *queue = srn_calloc(g->n_nodes, sizeof *queue);
    uint32_t n = 0;
    if (!need || !queue) return free(need), free(queue), false;
    for (srn_node v = 0; v < g->n_nodes; v++) {
        need[v] = kids_needed(&g->nodes[v], nullable);
        if (!a->reached[v] || need[v]) continue;
        has[v] = 1;
        queue[n++] = v;
    }
    while (n) {
        srn_node v = queue[--n];
        for (uint32_t i = u->at[v]; i < u->at[v + 1]; i++) {
            srn_node p = u->parents[i];
            if (has[p] || need[p] == UINT32_MAX || --need[p]) continue;
            has[p] = 1;
            queue[n++] = p;
        }
    }
    free(need);
    free(queue);
    return true;
}

/* ---- sizes ---- */

bool srn__is_shared(const srn_grammar *g, const srn__analysis *a, srn_node node) {
    (void)g;
    return a->refs[node] > 1 && a->size[node] > SHARE_OPS;
}

static uint32_t size_in_parent(const srn_grammar *g, const srn__analysis *a, srn_node node) {
    return srn__is_shared(g, a, node) ? 1 : a->size[node];
}

/* Copies that writing a repetition out takes: its max, or its min and a loop. */
static uint64_t n_copies(const srn__gnode *x) {
    return x->max == SRN_NO_MAX ? (uint64_t)x->min + 1 : x->max;
}

bool srn__is_unrolled(const srn_grammar *g, const srn__analysis *a, srn_node node) {
    const srn__gnode *x = &g->nodes[node];
    if (x->max == SRN_NO_MAX && x->min <= 1) return true;
    return x->max == 1 || n_copies(x) * (size_in_parent(g, a, x->at) + 1) <= UNROLL_OPS;
}

static uint32_t size_of(const srn_grammar *g, const srn__analysis *a, srn_node node) {
    const srn__gnode *x = &g->nodes[node];
    uint64_t size = 1;
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_EMPTY:
        return 0;
    case SRN__NODE_TEXT:
        return x->n;
    case SRN__NODE_CLASS:
        return x->n == 0 || g->ranges[x->at + x->n - 1].last < 0x80 ? 1 : 5 + 2 * x->n;
    case SRN__NODE_FREE:
        for (uint32_t i = 0; i < x->n; i++) size += g->triggers[x->at + i].text_len;
        size += 16;
        break;
    case SRN__NODE_REPEAT:
        return srn__is_unrolled(g, a, node)
                   ? (uint32_t)SRN_MIN(n_copies(x) * (size_in_parent(g, a, x->at) + 1), SIZE_CAP)
                   : 1;
    case SRN__NODE_REF:
        return 1;
    default:
        break;
    }
    for (uint32_t i = 0, k = n_kids(g, node); i < k && size < SIZE_CAP; i++)
        size += size_in_parent(g, a, kid_of(g, node, i));
    return (uint32_t)SRN_MIN(size, SIZE_CAP);
}

int srn__analyse(const srn_grammar *g, srn_node root, srn__analysis *ret, srn_err *err) {
    size_t n = g->n_nodes;
    srn__analysis a = {.reached = srn_calloc(n, 1),
                       .productive = srn_calloc(n, 1),
                       .nullable = srn_calloc(n, 1),
                       .refs = srn_calloc(n, sizeof *a.refs),
                       .size = srn_calloc(n, sizeof *a.size),
                       .rule_reached = srn_calloc(g->n_rules, 1)};
    uses u = {0};
    int code = SRN_OK;
    if (!a.reached || !a.productive || !a.nullable || !a.refs || !a.size || !a.rule_reached)
        code = srn_fail_nomem(err, n * 11);
    if (!code) code = reach(g, root, &a, err);
    if (!code && (!uses_init(g, &a, &u) || !rise(g, &a, &u, false, a.productive) ||
                  !rise(g, &a, &u, true, a.nullable)))
        code = srn_fail_nomem(err, n * 8);
    free(u.at);
    free(u.parents);
    /* kids are made before their parents, so that their numbers are lower */
    for (srn_node v = 0; !code && v < n; v++)
        if (a.reached[v]) a.size[v] = size_of(g, &a, v);
    if (code)
        srn__analysis_done(&a);
    else
        *ret = a;
    return code;
}
