/* A slow, plain reading of grammars, to hold constraints against: the set of places where a match of a node
 * that begins at some place can end, as the bits of a word; references are the least fixed point. Texts have
 * at most 31 letters of a, b and c. Random grammars are built for both sides at once.
 */
#ifndef SRN_TEST_CONSTRAIN_ORACLE_H
#define SRN_TEST_CONSTRAIN_ORACLE_H

#include "constrain/constrain.h"

enum { ORACLE_TEXT, ORACLE_CLASS, ORACLE_SEQ, ORACLE_ALT, ORACLE_REPEAT, ORACLE_REF, ORACLE_FREE };
enum { ORACLE_NODES = 256, ORACLE_RULES = 4, ORACLE_KIDS = 3, ORACLE_LONGEST = 31 };

typedef struct oracle_node {
    int kind, n;
    int kids[ORACLE_KIDS];
    char text[ORACLE_KIDS][8]; /* a TEXT's, a CLASS's letters, a FREE's triggers */
    uint32_t min, max;
} oracle_node;

typedef struct oracle {
    uint64_t seed;
    srn_grammar *g;
    oracle_node nodes[ORACLE_NODES];
    srn_node ids[ORACLE_NODES];
    int n, n_rules, bodies[ORACLE_RULES];
    bool no_free;
    /* of the text at hand */
    const char *at;
    int len;
    uint32_t ends[ORACLE_RULES][ORACLE_LONGEST + 1];
    uint32_t round; /* of the search for the fixed point; known[..] are of rounds too */
    uint32_t known[ORACLE_NODES][ORACLE_LONGEST + 1], known_ends[ORACLE_NODES][ORACLE_LONGEST + 1];
} oracle;

static inline uint32_t oracle_random(oracle *o, uint32_t below) {
    o->seed = o->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(o->seed >> 33) % below;
}

/* ---- random grammars ---- */

static inline void oracle_letters(oracle *o, char *to, uint32_t least, uint32_t most) {
    uint32_t n = least + oracle_random(o, most - least + 1);
    for (uint32_t i = 0; i < n; i++) to[i] = (char)('a' + oracle_random(o, 3));
    to[n] = 0;
}

static inline srn_node oracle_class(srn_grammar *g, const char *letters, bool negated) {
    srn_range r[8];
    size_t n = strlen(letters);
    for (size_t i = 0; i < n; i++) r[i] = (srn_range){(uint8_t)letters[i], (uint8_t)letters[i]};
    return srn_g_class(g, r, n, negated);
}

static inline int oracle_make(oracle *o, int depth) {
    oracle_node x = {0};
    srn_node kids[ORACLE_KIDS] = {0};
    int kinds[] = {ORACLE_TEXT, ORACLE_CLASS, ORACLE_REF,    ORACLE_TEXT,   ORACLE_SEQ, ORACLE_ALT,
                   ORACLE_SEQ,  ORACLE_ALT,   ORACLE_REPEAT, ORACLE_REPEAT, ORACLE_FREE};
    if (o->n > ORACLE_NODES - 32) depth = 0;
    x.kind = kinds[oracle_random(o, depth <= 0 ? 4 : o->no_free ? 10 : 11)];
    if (x.kind == ORACLE_REF && o->n_rules == 0) x.kind = ORACLE_TEXT;
    if (x.kind == ORACLE_SEQ || x.kind == ORACLE_ALT) x.n = 2 + (int)oracle_random(o, 2);
    if (x.kind == ORACLE_REPEAT) x.n = 1;
    if (x.kind == ORACLE_FREE) x.n = (int)oracle_random(o, 3);
    for (int i = 0; i < x.n; i++) kids[i] = o->ids[x.kids[i] = oracle_make(o, depth - 1)];
    srn_node id = SRN_NODE_NONE;
    srn_trigger triggers[ORACLE_KIDS];
    static const uint32_t counts[][2] = {{0, SRN_NO_MAX}, {1, SRN_NO_MAX}, {0, 1},  {2, 4},           {0, 9},
                                         {3, SRN_NO_MAX}, {5, 30},         {7, 40}, {20, SRN_NO_MAX}, {9, 9}};
    switch (x.kind) {
    case ORACLE_TEXT:
        oracle_letters(o, x.text[0], 0, 3);
        id = srn_g_text(o->g, srn_str_of(x.text[0]));
        break;
    case ORACLE_CLASS:
        oracle_letters(o, x.text[0], 1, 2);
        id = oracle_class(o->g, x.text[0], false);
        break;
    case ORACLE_SEQ:
        id = srn_g_seq(o->g, kids, (size_t)x.n);
        break;
    case ORACLE_ALT:
        id = srn_g_alt(o->g, kids, (size_t)x.n);
        break;
    case ORACLE_REPEAT: {
        uint32_t k = oracle_random(o, SRN_LEN(counts));
        x.min = counts[k][0];
        x.max = counts[k][1];
        id = srn_g_repeat(o->g, kids[0], x.min, x.max);
        break;
    }
    case ORACLE_REF:
        x.kids[0] = (int)oracle_random(o, (uint32_t)o->n_rules);
        id = srn_g_ref(o->g, (uint32_t)x.kids[0]);
        break;
    default:
        for (int i = 0; i < x.n; i++) {
            oracle_letters(o, x.text[i], 1, 4);
            triggers[i] = (srn_trigger){srn_str_of(x.text[i]), kids[i]};
        }
        id = srn_g_free_text(o->g, triggers, (size_t)x.n);
    }
    o->nodes[o->n] = x;
    o->ids[o->n] = id;
    return o->n++;
}

/* A grammar of n_rules rules; rule 0 is the root. Free text begins nothing that its neighbours could read in
 * other ways, so that one grammar in four has any. The caller frees o->g. */
static inline srn_node oracle_grammar(oracle *o, uint64_t seed, srn_err *err) {
    *o = (oracle){.seed = seed * 2 + 1};
    if (srn_grammar_new(4096, &o->g, err)) return SRN_NODE_NONE;
    o->n_rules = 1 + (int)oracle_random(o, ORACLE_RULES);
    o->no_free = oracle_random(o, 4) != 0;
    for (int i = 0; i < o->n_rules; i++) srn_g_rule(o->g, SRN_STR("r"));
    for (int i = 0; i < o->n_rules; i++) {
        o->bodies[i] = oracle_make(o, 3);
        srn_g_define(o->g, (uint32_t)i, o->ids[o->bodies[i]]);
    }
    return srn_g_ref(o->g, 0);
}

/* ---- reading ---- */

static inline uint32_t oracle_ends(oracle *o, int node, int from);

static inline uint32_t oracle_after(oracle *o, int node, uint32_t from) {
    uint32_t ends = 0;
    for (int i = 0; i <= o->len; i++)
        if (from >> i & 1) ends |= oracle_ends(o, node, i);
    return ends;
}

static inline uint32_t oracle_repeat(oracle *o, const oracle_node *x, int from) {
    uint32_t now = 1u << from, ends = x->min == 0 ? now : 0;
    /* beyond min, repetitions that add nothing need not be counted */
    uint64_t most = SRN_MIN((uint64_t)x->max, (uint64_t)x->min + (uint64_t)o->len + 1);
    for (uint64_t i = 1; i <= most; i++) {
        now = oracle_after(o, x->kids[0], now);
        if (i >= x->min) ends |= now;
    }
    return ends;
}

/* Free text up to the first trigger that is complete (of those that end together the longest), its body, and
 * free text again. */
static inline uint32_t oracle_free(oracle *o, const oracle_node *x, int from) {
    uint32_t ends = 1u << from;
    for (int i = from + 1; i <= o->len; i++) {
        size_t longest = 0;
        for (int k = 0; k < x->n; k++) {
            size_t n = strlen(x->text[k]);
            if ((int)n <= i - from && memcmp(o->at + i - n, x->text[k], n) == 0)
                longest = SRN_MAX(longest, n);
        }
        if (longest == 0) {
            ends |= 1u << i;
            continue;
        }
        uint32_t after = 0;
        for (int k = 0; k < x->n; k++)
            if (strlen(x->text[k]) == longest && memcmp(o->at + i - longest, x->text[k], longest) == 0)
                after |= oracle_ends(o, x->kids[k], i);
        for (int k = i; k <= o->len; k++)
            if (after >> k & 1) ends |= oracle_free(o, x, k);
        return ends;
    }
    return ends;
}

static inline uint32_t oracle_node_ends(oracle *o, int node, int from) {
    const oracle_node *x = &o->nodes[node];
    uint32_t ends = 0;
    int n = (int)strlen(x->text[0]);
    switch (x->kind) {
    case ORACLE_TEXT:
        return n <= o->len - from && memcmp(o->at + from, x->text[0], (size_t)n) == 0 ? 1u << (from + n) : 0;
    case ORACLE_CLASS:
        return from < o->len && strchr(x->text[0], o->at[from]) ? 1u << (from + 1) : 0;
    case ORACLE_SEQ:
        ends = 1u << from;
        for (int i = 0; i < x->n; i++) ends = oracle_after(o, x->kids[i], ends);
        return ends;
    case ORACLE_ALT:
        for (int i = 0; i < x->n; i++) ends |= oracle_ends(o, x->kids[i], from);
        return ends;
    case ORACLE_REPEAT:
        return oracle_repeat(o, x, from);
    case ORACLE_REF:
        return o->ends[x->kids[0]][from];
    default:
        return oracle_free(o, x, from);
    }
}

static inline uint32_t oracle_ends(oracle *o, int node, int from) {
    if (o->known[node][from] != o->round) {
        o->known_ends[node][from] = oracle_node_ends(o, node, from);
        o->known[node][from] = o->round;
    }
    return o->known_ends[node][from];
}

static inline bool oracle_accepts(oracle *o, const char *text, int len) {
    bool grows = true;
    o->at = text;
    o->len = len;
    memset(o->ends, 0, sizeof o->ends);
    while (grows) {
        grows = false;
        o->round++;
        for (int r = 0; r < o->n_rules; r++)
            for (int i = 0; i <= len; i++) {
                uint32_t ends = oracle_ends(o, o->bodies[r], i);
                grows |= ends != o->ends[r][i];
                o->ends[r][i] = ends;
            }
    }
    return o->ends[0][0] >> len & 1;
}

#endif
