/* The compiled constraint: an immutable program with its id, shared by reference between threads, and a few
 * idle caches of sets and masks that matchers take and give back under its lock. Also the conveniences that
 * go from one text to a constraint.
 */
#include "constrain/constrain_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Caches kept for later matchers. */
#define MAX_IDLE 4u

struct srn_constraint {
    atomic_uint refs;
    srn__program program;
    uint8_t id[SRN_SHA256_BYTES];
    pthread_mutex_t lock; /* guards idle, n_idle */
    srn__cache *idle[MAX_IDLE];
    uint32_t n_idle;
};

/* ---- id ---- */

/* Numbers nodes and rules in the order in which they are met from the root, so that the id does not depend on
 * how a front end made them, nor on names. */
typedef struct canon {
    const srn_grammar *g;
    srn_sha256 *h;
    uint32_t *node_number, *rule_number; /* 0: not met yet */
    uint32_t *rules;                     /* met */
    uint32_t n_nodes, n_rules;
} canon;

static void add_u32(canon *c, uint32_t v) {
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    srn_sha256_add(c->h, b, sizeof b);
}

static void add_node(canon *c, srn_node node);

static void add_fields(canon *c, const srn__gnode *x) {
    const srn_grammar *g = c->g;
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_EMPTY:
        break;
    case SRN__NODE_TEXT:
        srn_sha256_add(c->h, g->bytes + x->at, x->n);
        break;
    case SRN__NODE_CLASS:
        for (uint32_t i = 0; i < x->n; i++) {
            add_u32(c, g->ranges[x->at + i].first);
            add_u32(c, g->ranges[x->at + i].last);
        }
        break;
    case SRN__NODE_SEQ:
    case SRN__NODE_ALT:
        for (uint32_t i = 0; i < x->n; i++) add_node(c, g->kids[x->at + i]);
        break;
    case SRN__NODE_REPEAT:
        add_u32(c, x->min);
        add_u32(c, x->max);
        add_node(c, x->at);
        break;
    case SRN__NODE_REF:
        if (!c->rule_number[x->at]) {
            c->rules[c->n_rules++] = x->at;
            c->rule_number[x->at] = c->n_rules;
        }
        add_u32(c, c->rule_number[x->at]);
        break;
    case SRN__NODE_FREE:
        for (uint32_t i = 0; i < x->n; i++) {
            const srn__gtrigger *t = &g->triggers[x->at + i];
            add_u32(c, t->text_len);
            srn_sha256_add(c->h, g->bytes + t->text_at, t->text_len);
            add_node(c, t->body);
        }
        break;
    }
}

/* Recurses as deep as the tree, which the builders cap. */
static void add_node(canon *c, srn_node node) {
    const srn__gnode *x = &c->g->nodes[node];
    if (c->node_number[node]) {
        add_u32(c, UINT32_MAX); /* again */
        add_u32(c, c->node_number[node]);
        return;
    }
    c->node_number[node] = ++c->n_nodes;
    add_u32(c, x->kind);
    add_u32(c, x->kind == SRN__NODE_REPEAT || x->kind == SRN__NODE_REF ? 0 : x->n);
    add_fields(c, x);
}

static int make_id(const srn_grammar *g, srn_node root, uint8_t id[SRN_SHA256_BYTES], srn_err *err) {
    canon c = {.g = g,
               .h = srn_sha256_new(),
               .node_number = srn_calloc(g->n_nodes, sizeof(uint32_t)),
               .rule_number = srn_calloc(g->n_rules, sizeof(uint32_t)),
               .rules = srn_calloc(g->n_rules, sizeof(uint32_t))};
    int code = SRN_OK;
    if (!c.h || !c.node_number || !c.rule_number || !c.rules) {
        code = srn_fail_nomem(err, g->n_nodes * sizeof(uint32_t));
    } else {
        srn_sha256_add(c.h, "serin grammar 1", 15);
        add_node(&c, root);
        for (uint32_t i = 0; i < c.n_rules; i++) add_node(&c, g->rules[c.rules[i]].body);
    }
    if (c.h) srn_sha256_end(c.h, id);
    free(c.node_number);
    free(c.rule_number);
    free(c.rules);
    return code;
}

void srn_constraint_id(const srn_constraint *c, char ret_hex[2 * SRN_SHA256_BYTES + 1]) {
    srn_hex(c->id, sizeof c->id, ret_hex);
}

/* ---- the object ---- */

int srn_constraint_new(const srn_grammar *g, srn_node root, srn_constraint **ret, srn_err *err) {
    int code = srn__grammar_status(g, err);
    if (code) return code;
    if (root >= g->n_nodes) return srn_fail(err, SRN_EINVAL, "the grammar has no root");
    srn_constraint *c = srn_calloc(1, sizeof *c);
    if (!c) return srn_fail_nomem(err, sizeof *c);
    code = srn__compile(g, root, &c->program, err);
    if (!code) code = make_id(g, root, c->id, err);
    if (!code && pthread_mutex_init(&c->lock, NULL)) code = srn_fail(err, SRN_ENOMEM, "no memory for a lock");
    if (code) {
        srn__program_done(&c->program);
        free(c);
        return code;
    }
    atomic_init(&c->refs, 1);
    *ret = c;
    return SRN_OK;
}

srn_constraint *srn_constraint_ref(srn_constraint *c) {
    if (c) atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void srn_constraint_free(srn_constraint *c) {
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1) return;
    for (uint32_t i = 0; i < c->n_idle; i++) srn__cache_free(c->idle[i]);
    pthread_mutex_destroy(&c->lock);
    srn__program_done(&c->program);
    free(c);
}

srn_constraint_stats srn_constraint_get_stats(const srn_constraint *c) {
    const srn__program *p = &c->program;
    return (srn_constraint_stats){.rules = p->n_rules,
                                  .operations = p->n_ops,
                                  .classes = p->n_classes,
                                  .bytes = p->cap_ops * sizeof *p->ops + p->cap_edges * sizeof *p->edges +
                                           p->cap_targets * sizeof *p->targets +
                                           p->n_calls * sizeof *p->calls};
}

srn__cache *srn__constraint_take_cache(srn_constraint *c, srn_err *err) {
    srn__cache *k = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->n_idle) k = c->idle[--c->n_idle];
    pthread_mutex_unlock(&c->lock);
    if (k) return k;
    k = srn_calloc(1, sizeof *k);
    if (!k) {
        srn_fail_nomem(err, sizeof *k);
    } else if (srn__sets_init(&k->sets, &c->program, err)) {
        srn__cache_free(k);
        k = NULL;
    }
    return k;
}

void srn__constraint_give_cache(srn_constraint *c, srn__cache *k) {
    pthread_mutex_lock(&c->lock);
    if (c->n_idle < MAX_IDLE) {
        c->idle[c->n_idle++] = k;
        k = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    srn__cache_free(k);
}

/* ---- from one text ---- */

typedef srn_node front_end(srn_grammar *g, srn_str text, srn_err *err);

static int of_text(front_end *read, srn_str text, srn_constraint **ret, srn_err *err) {
    srn_grammar *g = NULL;
    int code = srn_grammar_new(SRN__MAX_NODES, &g, err);
    if (code) return code;
    srn_err why = {0};
    srn_node root = read(g, text, &why);
    if (root == SRN_NODE_NONE)
        code = srn_fail(err, why.code ? why.code : SRN_EINVAL, "%s", why.text);
    else
        code = srn_constraint_new(g, root, ret, err);
    srn_grammar_free(g);
    return code;
}

int srn_constraint_of_regex(srn_str pattern, srn_constraint **ret, srn_err *err) {
    return of_text(srn_g_regex, pattern, ret, err);
}

int srn_constraint_of_gbnf(srn_str text, srn_constraint **ret, srn_err *err) {
    return of_text(srn_g_gbnf, text, ret, err);
}
