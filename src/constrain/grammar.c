/* The grammar's tables and the builders that fill them, for the front ends and whoever composes grammars; one
 * thread at a time. The first failure (a cap, memory, a wrong argument) is kept and everything after it gives
 * SRN_NODE_NONE, so that srn_constraint_new can say what it was.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

int srn_grammar_new(uint32_t max_nodes, srn_grammar **ret, srn_err *err) {
    srn_grammar *g = srn_calloc(1, sizeof *g);
    if (!g) return srn_fail_nomem(err, sizeof *g);
    g->max_nodes = SRN_MIN(max_nodes, 1u << 24);
    *ret = g;
    return SRN_OK;
}

void srn_grammar_free(srn_grammar *g) {
    if (!g) return;
    for (uint32_t i = 0; i < g->n_rules; i++) free((void *)(uintptr_t)g->rules[i].name.ptr);
    free(g->nodes);
    free(g->kids);
    free(g->ranges);
    free(g->bytes);
    free(g->rules);
    free(g->triggers);
    free(g->runs);
    free(g);
}

int srn__grammar_status(const srn_grammar *g, srn_err *err) {
    return g->failed.code ? srn_fail(err, g->failed.code, "%s", g->failed.text) : SRN_OK;
}

srn_node srn__grammar_fail(srn_grammar *g, int code, const char *fmt, ...) {
    if (g->failed.code) return SRN_NODE_NONE;
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(&g->failed, code, fmt, ap);
    va_end(ap);
    return SRN_NODE_NONE;
}

/* Room for n more elements of a table: at most 16 a node that may be made, for together they are what a
 * hostile input can make us hold. */
static bool grow(srn_grammar *g, void **table, uint32_t used, uint32_t *cap, size_t n, size_t size) {
    uint64_t most = 16 * (uint64_t)g->max_nodes + 64;
    if (g->failed.code) return false;
    if (n > most || used + n > most) {
        srn__grammar_fail(g, SRN_ELIMIT, "the grammar is too large: it needs more than %u nodes",
                          g->max_nodes);
        return false;
    }
    if (used + n <= *cap) return true;
    uint64_t want = SRN_MAX(used + n, *cap ? 2 * (uint64_t)*cap : 16);
    void *p = srn_realloc_array(*table, (size_t)want, size);
    if (!p) {
        srn__grammar_fail(g, SRN_ENOMEM, "out of memory for a grammar's table of %zu bytes",
                          (size_t)want * size);
        return false;
    }
    *table = p;
    *cap = (uint32_t)want;
    return true;
}

static srn_node add_node(srn_grammar *g, srn__gnode node) {
    if (g->failed.code) return SRN_NODE_NONE;
    if (g->n_nodes >= g->max_nodes)
        return srn__grammar_fail(g, SRN_ELIMIT, "the grammar is too large: it needs more than %u nodes",
                                 g->max_nodes);
    if (node.depth > SRN__MAX_DEPTH)
        return srn__grammar_fail(g, SRN_ELIMIT, "the grammar is nested more than %u levels deep",
                                 SRN__MAX_DEPTH);
    if (!grow(g, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, 1, sizeof *g->nodes)) return SRN_NODE_NONE;
    g->nodes[g->n_nodes] = node;
    return g->n_nodes++;
}

static bool valid(srn_grammar *g, srn_node node) {
    if (node < g->n_nodes) return true;
    srn__grammar_fail(g, SRN_EINVAL, "a part of the grammar is missing");
    return false;
}

static bool add_bytes(srn_grammar *g, srn_str text, uint32_t *ret_at) {
    if (!grow(g, (void **)&g->bytes, g->n_bytes, &g->cap_bytes, text.len, 1)) return false;
    if (text.len) memcpy(g->bytes + g->n_bytes, text.ptr, text.len);
    *ret_at = g->n_bytes;
    g->n_bytes += (uint32_t)text.len;
    return true;
}

srn_node srn_g_text(srn_grammar *g, srn_str text) {
    uint32_t at;
    if (text.len == 0) return add_node(g, (srn__gnode){.kind = SRN__NODE_EMPTY});
    if (!add_bytes(g, text, &at)) return SRN_NODE_NONE;
    return add_node(g, (srn__gnode){.kind = SRN__NODE_TEXT, .at = at, .n = (uint32_t)text.len});
}

srn_node srn_g_class(srn_grammar *g, const srn_range *ranges, size_t n, bool negated) {
    srn__ranges s = {0};
    srn_node node = SRN_NODE_NONE;
    srn__ranges_add_all(&s, ranges, n);
    srn__ranges_normalise(&s);
    if (negated) srn__ranges_negate(&s);
    if (s.failed) {
        srn__grammar_fail(g, SRN_ENOMEM, "out of memory for a character class of %zu ranges", n);
    } else if (grow(g, (void **)&g->ranges, g->n_ranges, &g->cap_ranges, s.n, sizeof *g->ranges)) {
        if (s.n) memcpy(g->ranges + g->n_ranges, s.r, s.n * sizeof *s.r);
        node = add_node(g, (srn__gnode){.kind = SRN__NODE_CLASS, .at = g->n_ranges, .n = (uint32_t)s.n});
        g->n_ranges += (uint32_t)s.n;
    }
    srn__ranges_done(&s);
    return node;
}

static srn_node add_list(srn_grammar *g, srn__node_kind kind, const srn_node *nodes, size_t n) {
    uint16_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (!valid(g, nodes[i])) return SRN_NODE_NONE;
        depth = SRN_MAX(depth, g->nodes[nodes[i]].depth);
    }
    if (n == 1) return nodes[0];
    if (!grow(g, (void **)&g->kids, g->n_kids, &g->cap_kids, n, sizeof *g->kids)) return SRN_NODE_NONE;
    uint32_t at = g->n_kids;
    if (n) memcpy(g->kids + at, nodes, n * sizeof *nodes);
    g->n_kids += (uint32_t)n;
    return add_node(
        g, (srn__gnode){.kind = (uint8_t)kind, .depth = (uint16_t)(depth + 1), .at = at, .n = (uint32_t)n});
}

srn_node srn_g_seq(srn_grammar *g, const srn_node *nodes, size_t n) {
    if (n == 0) return add_node(g, (srn__gnode){.kind = SRN__NODE_EMPTY});
    return add_list(g, SRN__NODE_SEQ, nodes, n);
}

srn_node srn_g_alt(srn_grammar *g, const srn_node *nodes, size_t n) {
    return add_list(g, SRN__NODE_ALT, nodes, n);
}

srn_node srn_g_repeat(srn_grammar *g, srn_node node, uint32_t min, uint32_t max) {
    if (!valid(g, node)) return SRN_NODE_NONE;
    if (min > max)
        return srn__grammar_fail(g, SRN_EINVAL, "a repetition of at least %u and at most %u times", min, max);
    if (max == 0) return add_node(g, (srn__gnode){.kind = SRN__NODE_EMPTY});
    if (min == 1 && max == 1) return node;
    uint16_t depth = g->nodes[node].depth;
    return add_node(
        g, (srn__gnode){
               .kind = SRN__NODE_REPEAT, .depth = (uint16_t)(depth + 1), .at = node, .min = min, .max = max});
}

uint32_t srn_g_rule(srn_grammar *g, srn_str name) {
    if (!grow(g, (void **)&g->rules, g->n_rules, &g->cap_rules, 1, sizeof *g->rules)) return UINT32_MAX;
    if (g->n_rules >= g->max_nodes) {
        srn__grammar_fail(g, SRN_ELIMIT, "the grammar has more than %u rules", g->max_nodes);
        return UINT32_MAX;
    }
    char *copy = srn_strndup(name.ptr, SRN_MIN(name.len, 200));
    if (!copy) {
        srn__grammar_fail(g, SRN_ENOMEM, "out of memory for a rule's name");
        return UINT32_MAX;
    }
    g->rules[g->n_rules] = (srn__grule){.name = {copy, SRN_MIN(name.len, 200)}, .body = SRN_NODE_NONE};
    return g->n_rules++;
}

void srn_g_define(srn_grammar *g, uint32_t rule, srn_node body) {
    if (g->failed.code || !valid(g, body)) return;
    if (rule >= g->n_rules) {
        srn__grammar_fail(g, SRN_EINVAL, "a rule is defined that was not declared");
    } else if (g->rules[rule].body != SRN_NODE_NONE) {
        srn__grammar_fail(g, SRN_EINVAL, "the rule '%.*s' is defined twice", (int)g->rules[rule].name.len,
                          g->rules[rule].name.ptr);
    } else {
        g->rules[rule].body = body;
    }
}

srn_node srn_g_ref(srn_grammar *g, uint32_t rule) {
    if (g->failed.code) return SRN_NODE_NONE;
    if (rule >= g->n_rules)
        return srn__grammar_fail(g, SRN_EINVAL, "the grammar refers to a rule that was not declared");
    return add_node(g, (srn__gnode){.kind = SRN__NODE_REF, .at = rule});
}

uint32_t srn__grammar_find_rule(const srn_grammar *g, srn_str name) {
    for (uint32_t i = 0; i < g->n_rules; i++)
        if (srn_str_eq(g->rules[i].name, name)) return i;
    return UINT32_MAX;
}

bool srn__nodes_add(srn__nodes *list, srn_node node) {
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 8;
        srn_node *ids = srn_realloc_array(list->ids, cap, sizeof *ids);
        if (!ids) return false;
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->n++] = node;
    return true;
}

static bool valid_trigger(srn_grammar *g, const srn_trigger *t) {
    size_t i = 0;
    while (i < t->text.len) {
        size_t k = srn_utf8_len(t->text.ptr + i, t->text.len - i);
        if (!k) break;
        i += k;
    }
    if (t->text.len == 0 || t->text.len > SRN__MAX_TRIGGER_BYTES || i < t->text.len) {
        srn__grammar_fail(g, SRN_EINVAL,
                          "the trigger of a free text has %zu bytes; it must be valid UTF-8 of 1 to %u bytes",
                          t->text.len, SRN__MAX_TRIGGER_BYTES);
        return false;
    }
    return valid(g, t->body);
}

srn_node srn_g_free_text(srn_grammar *g, const srn_trigger *triggers, size_t n) {
    uint16_t depth = 0;
    if (!grow(g, (void **)&g->triggers, g->n_triggers, &g->cap_triggers, n, sizeof *g->triggers))
        return SRN_NODE_NONE;
    uint32_t at = g->n_triggers;
    for (size_t i = 0; i < n; i++) {
        uint32_t text_at;
        if (!valid_trigger(g, &triggers[i]) || !add_bytes(g, triggers[i].text, &text_at))
            return SRN_NODE_NONE;
        depth = SRN_MAX(depth, g->nodes[triggers[i].body].depth);
        g->triggers[at + i] = (srn__gtrigger){text_at, (uint32_t)triggers[i].text.len, triggers[i].body};
    }
    g->n_triggers += (uint32_t)n;
    return add_node(
        g, (srn__gnode){.kind = SRN__NODE_FREE, .depth = (uint16_t)(depth + 1), .at = at, .n = (uint32_t)n});
}
