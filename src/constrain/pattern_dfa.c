/* constrain: several languages over code points as one deterministic automaton, by the subset construction
 * (Rabin and Scott, 1959) over all of them at once, so that a state's label says which hold. Code points
 * that no class tells apart are one atom. States, steps and memory are capped. Pure; the result lies in the
 * caller's arena.
 */
#include "constrain/pattern.h"

#include <stdlib.h>

enum { MAX_NFA = 60000, MAX_DFA = 4000, MAX_CLASSES = 400, MAX_DFA_WORK = 8000000, MAX_MIB = 64 };

typedef enum nkind { N_CHAR, N_SPLIT, N_ACCEPT } nkind;
typedef struct nstate {
    nkind kind;
    uint32_t to, also; /* also: of SPLIT, UINT32_MAX for none; of CHAR its class; of ACCEPT its language */
} nstate;

typedef struct set {
    const srn_range *r;
    size_t n;
} set;

typedef struct builder {
    srn_arena scratch;
    nstate *n;
    uint32_t n_nfa, cap_nfa;
    set classes[MAX_CLASSES];
    uint32_t n_classes;
    uint8_t *member; /* [n_atoms][n_classes] */
    srn__dfa *d;
    /* states of the automaton as sorted lists of CHAR and ACCEPT */
    uint32_t **lists, *list_n;
    uint32_t *table; /* hash: state + 1 */
    uint32_t cap_dfa;
    uint32_t *mark, generation, *stack, *out, n_out;
    uint64_t *work;
    uint32_t starts[SRN__MAX_LANGUAGES], n_starts;
    int code;
    srn_err *err;
} builder;

static bool fail(builder *b, int code, const char *what) {
    if (!b->code) b->code = srn_fail(b->err, code, "%s", what);
    return false;
}
static bool no_memory(builder *b) {
    return fail(b, SRN_ELIMIT, "the patterns take too much memory; make them simpler");
}

static void *room(builder *b, size_t n, size_t size) {
    void *p = n < ((size_t)1 << 40) / size ? srn_arena_alloc(&b->scratch, n * size) : NULL;
    if (!p) no_memory(b);
    return p;
}

/* ---- the automaton that is not deterministic, made from the end to the beginning ---- */

static uint32_t nfa(builder *b, nkind kind, uint32_t to, uint32_t also) {
    if (b->code) return 0;
    if (b->n_nfa == MAX_NFA) return fail(b, SRN_ELIMIT, "the patterns and lengths are too large together"), 0;
    if (b->n_nfa == b->cap_nfa) {
        uint32_t cap = b->cap_nfa ? 2 * b->cap_nfa : 256;
        nstate *n = room(b, cap, sizeof *n);
        if (!n) return 0;
        if (b->n_nfa) memcpy(n, b->n, b->n_nfa * sizeof *n);
        b->n = n;
        b->cap_nfa = cap;
    }
    b->n[b->n_nfa] = (nstate){kind, to, also};
    return b->n_nfa++;
}

static uint32_t class_number(builder *b, const srn_range *r, size_t n) {
    for (uint32_t i = 0; i < b->n_classes; i++)
        if (b->classes[i].n == n && (n == 0 || memcmp(b->classes[i].r, r, n * sizeof *r) == 0)) return i;
    if (b->n_classes == MAX_CLASSES)
        return fail(b, SRN_ELIMIT, "the patterns have too many character classes"), 0;
    b->classes[b->n_classes] = (set){r, n};
    return b->n_classes++;
}

static const srn_range any_char[] = {{0, 0xd7ff}, {0xe000, 0x10ffff}};

static uint32_t one_char(builder *b, const srn__language *l, uint32_t to) {
    if (l->ranges) return nfa(b, N_CHAR, to, class_number(b, l->ranges, l->n_ranges));
    return nfa(b, N_CHAR, to, class_number(b, any_char, SRN_LEN(any_char)));
}

/* A loop over the language's characters before `to`. */
static uint32_t any_before(builder *b, const srn__language *l, uint32_t to) {
    uint32_t split = nfa(b, N_SPLIT, to, UINT32_MAX), c = one_char(b, l, split);
    if (!b->code) b->n[split].also = c;
    return split;
}

static uint32_t text(builder *b, srn_str t, uint32_t to);
static uint32_t tree(builder *b, const srn_grammar *g, srn_node node, uint32_t to);

static uint32_t repeat(builder *b, const srn_grammar *g, const srn__gnode *x, uint32_t to) {
    if (x->max == SRN_NO_MAX) {
        uint32_t split = nfa(b, N_SPLIT, to, UINT32_MAX), body = tree(b, g, x->at, split);
        if (!b->code) b->n[split].also = body;
        to = split;
    } else {
        uint32_t end = to;
        for (uint32_t i = x->min; i < x->max && !b->code; i++)
            to = nfa(b, N_SPLIT, end, tree(b, g, x->at, to));
    }
    for (uint32_t i = 0; i < x->min && !b->code; i++) to = tree(b, g, x->at, to);
    return to;
}

static uint32_t tree(builder *b, const srn_grammar *g, srn_node node, uint32_t to) {
    if (b->code) return 0;
    const srn__gnode *x = &g->nodes[node];
    uint32_t all = UINT32_MAX;
    ++*b->work;
    switch ((srn__node_kind)x->kind) {
    case SRN__NODE_EMPTY:
        return to;
    case SRN__NODE_TEXT:
        return text(b, (srn_str){(const char *)g->bytes + x->at, x->n}, to);
    case SRN__NODE_CLASS:
        return nfa(b, N_CHAR, to, class_number(b, g->ranges + x->at, x->n));
    case SRN__NODE_SEQ:
        for (uint32_t i = x->n; i-- > 0;) to = tree(b, g, g->kids[x->at + i], to);
        return to;
    case SRN__NODE_ALT:
        if (x->n == 0) return nfa(b, N_SPLIT, UINT32_MAX, UINT32_MAX);
        for (uint32_t i = x->n; i-- > 0;) {
            uint32_t one = tree(b, g, g->kids[x->at + i], to);
            all = i == x->n - 1 ? one : nfa(b, N_SPLIT, one, all);
        }
        return all;
    case SRN__NODE_REPEAT:
        return repeat(b, g, x, to);
    default:
        return fail(b, SRN_EINVAL, "a pattern has no rules"), 0;
    }
}

static uint32_t text(builder *b, srn_str t, uint32_t to) {
    uint32_t *cps = room(b, t.len + 1, sizeof *cps);
    size_t n = 0;
    for (size_t i = 0; cps && i < t.len;) {
        size_t len = srn_utf8_get(t.ptr + i, t.len - i, &cps[n]);
        if (!len) return fail(b, SRN_EINVAL, "malformed UTF-8"), 0;
        n++;
        i += len;
    }
    while (n-- > 0 && !b->code) {
        srn_range *r = room(b, 1, sizeof *r);
        if (!r) return 0;
        *r = (srn_range){cps[n], cps[n]};
        to = nfa(b, N_CHAR, to, class_number(b, r, 1));
    }
    return to;
}

static void language(builder *b, const srn__language *l, uint32_t number) {
    uint32_t accept = nfa(b, N_ACCEPT, 0, number), start;
    if (l->g) {
        start = tree(b, l->g, l->node, accept);
    } else if (l->texts) {
        start = nfa(b, N_SPLIT, UINT32_MAX, UINT32_MAX);
        for (size_t i = 0; i < l->n_texts && !b->code; i++)
            start = nfa(b, N_SPLIT, text(b, l->texts[i], accept), start);
    } else {
        start = accept;
        if (l->max == SRN_NO_MAX) start = any_before(b, l, accept);
        for (uint32_t i = l->min; l->max != SRN_NO_MAX && i < l->max && !b->code; i++)
            start = nfa(b, N_SPLIT, accept, one_char(b, l, start));
        for (uint32_t i = 0; i < l->min && !b->code; i++) start = one_char(b, l, start);
    }
    b->starts[b->n_starts++] = start;
}

/* ---- atoms ---- */

static int by_value(const void *x, const void *y) {
    uint32_t a = *(const uint32_t *)x, c = *(const uint32_t *)y;
    return (a > c) - (a < c);
}

static bool in_set(const set *s, uint32_t cp) {
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (cp > s->r[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && cp >= s->r[lo].first;
}

typedef struct piece {
    uint32_t first, last, atom;
} piece;

/* Cuts the code points at all borders of classes and joins pieces that are in the same classes. */
static bool atoms(builder *b) {
    size_t n = 0, n_pieces = 0;
    for (uint32_t i = 0; i < b->n_classes; i++) n += 2 * b->classes[i].n;
    uint32_t *cuts = room(b, n + 2, sizeof *cuts);
    piece *pieces = room(b, n + 2, sizeof *pieces);
    size_t most = SRN_MIN(n + 2, (size_t)4096);
    uint8_t *member = room(b, most * b->n_classes + 1, 1);
    uint8_t *row = room(b, b->n_classes + 1, 1);
    if (!cuts || !pieces || !member || !row) return false;
    n = 0;
    for (uint32_t i = 0; i < b->n_classes; i++)
        for (size_t k = 0; k < b->classes[i].n; k++) {
            cuts[n++] = b->classes[i].r[k].first;
            cuts[n++] = b->classes[i].r[k].last + 1;
        }
    qsort(cuts, n, sizeof *cuts, by_value);
    uint32_t n_atoms = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (cuts[i] == cuts[i + 1]) continue;
        bool some = false;
        for (uint32_t c = 0; c < b->n_classes; c++) some |= row[c] = in_set(&b->classes[c], cuts[i]);
        *b->work += b->n_classes;
        if (!some) continue;
        uint32_t atom = 0;
        while (atom < n_atoms && memcmp(member + (size_t)atom * b->n_classes, row, b->n_classes) != 0) atom++;
        *b->work += atom;
        if (atom == n_atoms) {
            if (n_atoms == most)
                return fail(b, SRN_ELIMIT, "the patterns tell too many kinds of characters apart");
            memcpy(member + (size_t)n_atoms++ * b->n_classes, row, b->n_classes);
        }
        pieces[n_pieces++] = (piece){cuts[i], cuts[i + 1] - 1, atom};
    }
    srn__dfa *d = b->d;
    d->n_atoms = n_atoms;
    d->ranges = room(b, n_pieces + 1, sizeof *d->ranges);
    d->atom_at = room(b, n_atoms + 2, sizeof *d->atom_at);
    if (!d->ranges || !d->atom_at) return false;
    uint32_t at = 0;
    for (uint32_t a = 0; a < n_atoms; a++) {
        d->atom_at[a] = at;
        for (size_t i = 0; i < n_pieces; i++)
            if (pieces[i].atom == a) d->ranges[at++] = (srn_range){pieces[i].first, pieces[i].last};
        *b->work += n_pieces / 16;
    }
    d->atom_at[n_atoms] = at;
    b->member = member;
    return true;
}

/* ---- the deterministic automaton ---- */

static void push(builder *b, uint32_t *n, uint32_t state) {
    if (state == UINT32_MAX || b->mark[state] == b->generation) return;
    b->mark[state] = b->generation;
    b->stack[(*n)++] = state;
}

/* Adds the CHAR and ACCEPT states that the pushed states lead to without a character to out. */
static void close_over(builder *b, uint32_t n) {
    while (n > 0) {
        uint32_t i = b->stack[--n];
        nstate s = b->n[i];
        ++*b->work;
        if (s.kind == N_SPLIT) {
            push(b, &n, s.to);
            push(b, &n, s.also);
        } else {
            b->out[b->n_out++] = i;
        }
    }
}

/* The state of the list in out, made where there is none. */
static uint32_t state_of_out(builder *b) {
    srn__dfa *d = b->d;
    uint32_t n = b->n_out;
    if (n == 0) return SRN__DFA_NONE;
    qsort(b->out, n, sizeof *b->out, by_value);
    uint64_t h = srn_hash(0, (srn_str){(const char *)b->out, n * sizeof *b->out});
    uint32_t mask = 4 * MAX_DFA, at = (uint32_t)(h % mask);
    *b->work += n;
    for (; b->table[at]; at = (at + 1) % mask) {
        uint32_t s = b->table[at] - 1;
        if (b->list_n[s] == n && memcmp(b->lists[s], b->out, n * sizeof *b->out) == 0) return s;
    }
    if (d->n_states == MAX_DFA)
        return fail(b, SRN_ELIMIT, "the pattern, with the lengths and patterns beside it, is too complex"),
               SRN__DFA_NONE;
    uint32_t *list = room(b, n, sizeof *list);
    if (!list) return SRN__DFA_NONE;
    memcpy(list, b->out, n * sizeof *list);
    uint32_t s = d->n_states++;
    b->lists[s] = list;
    b->list_n[s] = n;
    b->table[at] = s + 1;
    for (uint32_t i = 0; i < n; i++)
        if (b->n[list[i]].kind == N_ACCEPT) d->label[s] |= 1u << b->n[list[i]].also;
    return s;
}

static bool grow_rows(builder *b) {
    srn__dfa *d = b->d;
    if (d->n_states < b->cap_dfa) return true;
    uint32_t cap = SRN_MIN(2 * b->cap_dfa, (uint32_t)MAX_DFA + 1);
    uint32_t *next = room(b, (size_t)cap * d->n_atoms + 1, sizeof *next);
    if (!next) return false;
    memcpy(next, d->next, (size_t)b->cap_dfa * d->n_atoms * sizeof *next);
    d->next = next;
    b->cap_dfa = cap;
    return true;
}

static bool expand(builder *b, uint32_t s) {
    srn__dfa *d = b->d;
    for (uint32_t a = 0; a < d->n_atoms; a++) {
        uint32_t k = 0;
        b->generation++;
        b->n_out = 0;
        for (uint32_t i = 0; i < b->list_n[s]; i++) {
            nstate n = b->n[b->lists[s][i]];
            if (n.kind == N_CHAR && b->member[(size_t)a * b->n_classes + n.also]) push(b, &k, n.to);
        }
        *b->work += b->list_n[s];
        close_over(b, k);
        uint32_t to = state_of_out(b);
        if (b->code || !grow_rows(b)) return false;
        d->next[(size_t)s * d->n_atoms + a] = to;
        if (*b->work > MAX_DFA_WORK)
            return fail(b, SRN_ELIMIT,
                        "the pattern, with the lengths and patterns beside it, is too complex");
    }
    return true;
}

static bool determinise(builder *b) {
    srn__dfa *d = b->d;
    b->cap_dfa = 64;
    d->next = room(b, (size_t)b->cap_dfa * d->n_atoms + 1, sizeof *d->next);
    d->label = room(b, MAX_DFA + 1, sizeof *d->label);
    b->lists = room(b, MAX_DFA + 1, sizeof *b->lists);
    b->list_n = room(b, MAX_DFA + 1, sizeof *b->list_n);
    b->table = room(b, 4 * (size_t)MAX_DFA, sizeof *b->table);
    b->mark = room(b, b->n_nfa + 1, sizeof *b->mark);
    b->stack = room(b, b->n_nfa + 1, sizeof *b->stack);
    b->out = room(b, b->n_nfa + 1, sizeof *b->out);
    if (b->code) return false;
    uint32_t k = 0;
    b->generation = 1;
    for (uint32_t i = 0; i < b->n_starts; i++) push(b, &k, b->starts[i]);
    close_over(b, k);
    (void)state_of_out(b);
    for (uint32_t s = 0; s < d->n_states; s++)
        if (!expand(b, s)) return false;
    return b->code == 0;
}

/* The automaton alone, out of the scratch memory. */
static srn__dfa *keep(srn_arena *a, const srn__dfa *d) {
    size_t n_next = (size_t)d->n_states * d->n_atoms, n_ranges = d->atom_at[d->n_atoms];
    srn__dfa *k = srn_arena_alloc(a, sizeof *k);
    if (!k) return NULL;
    *k = *d;
    k->next = srn_arena_alloc(a, (n_next + 1) * sizeof *k->next);
    k->label = srn_arena_alloc(a, (d->n_states + 1) * sizeof *k->label);
    k->ranges = srn_arena_alloc(a, (n_ranges + 1) * sizeof *k->ranges);
    k->atom_at = srn_arena_alloc(a, (d->n_atoms + 1) * sizeof *k->atom_at);
    if (!k->next || !k->label || !k->ranges || !k->atom_at) return NULL;
    memcpy(k->next, d->next, n_next * sizeof *k->next);
    memcpy(k->label, d->label, d->n_states * sizeof *k->label);
    memcpy(k->ranges, d->ranges, n_ranges * sizeof *k->ranges);
    memcpy(k->atom_at, d->atom_at, (d->n_atoms + 1) * sizeof *k->atom_at);
    return k;
}

int srn__dfa_new(srn_arena *a, const srn__language *languages, uint32_t n, uint64_t *work, srn__dfa **ret,
                 srn_err *err) {
    builder *b = srn_calloc(1, sizeof *b);
    if (!b) return srn_fail_nomem(err, sizeof *b);
    uint64_t steps = 0;
    b->err = err;
    b->work = &steps;
    srn_arena_init(&b->scratch, (size_t)MAX_MIB << 20);
    b->d = room(b, 1, sizeof *b->d);
    if (n > SRN__MAX_LANGUAGES) fail(b, SRN_ELIMIT, "too many patterns hold together");
    for (uint32_t i = 0; i < n && !b->code; i++) language(b, &languages[i], i);
    if (!b->code && atoms(b) && determinise(b)) {
        srn__dfa *d = keep(a, b->d);
        if (d) *ret = d;
        if (!d) no_memory(b);
    }
    *work += steps;
    int rc = b->code;
    srn_arena_done(&b->scratch);
    free(b);
    return rc;
}

bool srn__dfa_accepts(const srn__dfa *d, srn_str t, uint32_t label) {
    uint32_t s = d->n_states ? 0 : SRN__DFA_NONE;
    for (size_t i = 0; i < t.len && s != SRN__DFA_NONE;) {
        uint32_t cp, to = SRN__DFA_NONE;
        size_t len = srn_utf8_get(t.ptr + i, t.len - i, &cp);
        if (!len) return false;
        for (uint32_t a = 0; a < d->n_atoms && to == SRN__DFA_NONE; a++) {
            const set atom = {d->ranges + d->atom_at[a], d->atom_at[a + 1] - d->atom_at[a]};
            if (in_set(&atom, cp)) to = d->next[(size_t)s * d->n_atoms + a];
        }
        s = to;
        i += len;
    }
    return s != SRN__DFA_NONE && (d->label[s] & label) == label;
}
