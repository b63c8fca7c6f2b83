/* Two nodes that become automata of bytes: a class of code points, by the structure of UTF-8, and free text
 * with triggers, by Aho and Corasick's automaton (Communications of the ACM 18, 1975) joined with one that
 * lets only valid UTF-8 through. For compile.c; inputs are those of a checked grammar.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

/* ---- classes ---- */

typedef struct utf8 {
    srn__compiler *c;
    uint32_t full[4]; /* [k] any k continuation bytes, then the class's next; SRN__NO_OP: not made yet */
} utf8;

static uint32_t any_tail(utf8 *u, unsigned k) {
    if (u->full[k] == SRN__NO_OP) {
        uint32_t next = any_tail(u, k - 1), op = srn__new_op(u->c);
        if (op != SRN__NO_OP) srn__set_edges(u->c, op, &(srn__edge){0x80, 0xBF, next}, 1);
        u->full[k] = op;
    }
    return u->full[k];
}

/* Appends an edge, joined to the last one where they touch and lead to the same place. */
static void add_edge(srn__edge *edges, uint32_t *n, uint32_t first, uint32_t last, uint32_t next) {
    srn__edge *e = *n ? &edges[*n - 1] : NULL;
    if (e && e->next == next && e->last + 1u == first)
        e->last = (uint8_t)last;
    else
        edges[(*n)++] = (srn__edge){(uint8_t)first, (uint8_t)last, next};
}

/* Edges for the first of k + 1 bytes that write the code points r[0..n), all of one length; the byte is
 * `marker` plus the code point's bits above the lower 6k, less those of `base`. The ranges are consumed. */
static void add_lead_edges(utf8 *u, srn_range *r, uint32_t n, unsigned k, uint32_t base, uint32_t marker,
                           srn__edge *edges, uint32_t *n_edges) {
    uint32_t unit = 1u << (6 * k);
    for (uint32_t i = 0; i < n && !u->c->failed;) {
        uint32_t v = (r[i].first - base) / unit, lo = base + v * unit, hi = lo + unit - 1;
        if (r[i].first == lo && r[i].last >= hi) { /* whole units */
            uint32_t end = (r[i].last - base + 1) / unit;
            add_edge(edges, n_edges, marker + v, marker + end - 1, any_tail(u, k));
            r[i].first = base + end * unit;
            if (r[i].first > r[i].last) i++;
            continue;
        }
        uint32_t j = i; /* pieces of one unit */
        while (j + 1 < n && r[j + 1].first <= hi) j++;
        srn_range rest = r[j];
        r[j].last = SRN_MIN(r[j].last, hi);
        srn__edge below[64];
        uint32_t n_below = 0;
        add_lead_edges(u, r + i, j - i + 1, k - 1, lo, 0x80, below, &n_below);
        uint32_t op = srn__new_op(u->c);
        if (op == SRN__NO_OP) return;
        srn__set_edges(u->c, op, below, n_below);
        add_edge(edges, n_edges, marker + v, marker + v, op);
        i = j;
        r[j] = (srn_range){hi + 1, rest.last};
        if (rest.last <= hi) i++;
    }
}

/* Least and greatest code point of each length, and the first byte's marker. */
static const struct {
    uint32_t least, most, marker;
} lengths[4] = {{0, 0x7F, 0}, {0x80, 0x7FF, 0xC0}, {0x800, 0xFFFF, 0xE0}, {0x10000, SRN__MAX_CP, 0xF0}};

uint32_t srn__compile_class(srn__compiler *c, const srn_range *ranges, uint32_t n, uint32_t next) {
    utf8 u = {c, {next, SRN__NO_OP, SRN__NO_OP, SRN__NO_OP}};
    srn__edge edges[256];
    uint32_t n_edges = 0;
    srn_range *r = srn_calloc(n, sizeof *r);
    if (!r) return c->failed = SRN_ENOMEM, SRN__NO_OP;
    for (unsigned k = 0; k < 4; k++) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < n; i++) {
            srn_range x = {SRN_MAX(ranges[i].first, lengths[k].least),
                           SRN_MIN(ranges[i].last, lengths[k].most)};
            if (x.first <= x.last) r[m++] = x;
        }
        add_lead_edges(&u, r, m, k, 0, lengths[k].marker, edges, &n_edges);
    }
    free(r);
    uint32_t op = srn__new_op(c);
    if (op != SRN__NO_OP) srn__set_edges(c, op, edges, n_edges);
    return op;
}

/* ---- valid UTF-8 as an automaton of 8 states; 0 is between characters ---- */

#define UTF8_STATES 8
static const struct {
    uint8_t first, last, from, to;
} utf8_edges[] = {
    {0x00, 0x7F, 0, 0}, {0xC2, 0xDF, 0, 1}, {0xE0, 0xE0, 0, 4}, {0xE1, 0xEC, 0, 2},
    {0xED, 0xED, 0, 5}, {0xEE, 0xEF, 0, 2}, {0xF0, 0xF0, 0, 6}, {0xF1, 0xF3, 0, 3},
    {0xF4, 0xF4, 0, 7}, {0x80, 0xBF, 1, 0}, {0x80, 0xBF, 2, 1}, {0x80, 0xBF, 3, 2},
    {0xA0, 0xBF, 4, 1}, {0x80, 0x9F, 5, 1}, {0x90, 0xBF, 6, 2}, {0x80, 0x8F, 7, 2},
};

static int utf8_step(unsigned state, unsigned byte) {
    for (size_t i = 0; i < SRN_LEN(utf8_edges); i++)
        if (utf8_edges[i].from == state && byte >= utf8_edges[i].first && byte <= utf8_edges[i].last)
            return utf8_edges[i].to;
    return -1;
}

/* ---- free text ---- */

#define MAX_TRIGGERS_BYTES 8192u /* of one free text */

/* A state of the joined automaton: the trigger's prefix that the text ends with and, where that is none, how
 * far into a character it is (the prefix tells that otherwise). */
typedef struct place {
    uint32_t op;    /* its operation: BYTES, or between characters a SPLIT of those and the end */
    uint32_t bytes; /* the BYTES */
    bool seen, live;
} place;

typedef struct free_text {
    srn__compiler *c;
    const srn__gtrigger *triggers;
    uint32_t n_triggers;
    uint32_t *bodies;   /* [n_triggers] operation of each, SRN__NO_OP where it can never be finished */
    uint32_t *next;     /* [n][256] prefix after a byte; node 0 is the empty prefix */
    uint32_t *fail;     /* [n] longest proper suffix that is a prefix too */
    uint32_t *body;     /* [n] operation of the longest trigger that ends here, SRN__NO_OP: none */
    uint8_t *ends;      /* [n] whether one does */
    uint8_t *character; /* [n] UTF-8 state */
    uint32_t n;
    place *places; /* [UTF8_STATES + n]: those of the empty prefix, then one a prefix */
} free_text;

static void free_text_done(free_text *f) {
    free(f->bodies);
    free(f->next);
    free(f->fail);
    free(f->body);
    free(f->ends);
    free(f->character);
    free(f->places);
}

static bool free_text_init(free_text *f) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < f->n_triggers; i++) bytes += f->triggers[i].text_len;
    if (bytes > MAX_TRIGGERS_BYTES) {
        f->c->failed = SRN_ELIMIT;
        return false;
    }
    f->next = srn_calloc(bytes * 256, sizeof *f->next);
    f->fail = srn_calloc(bytes, sizeof *f->fail);
    f->body = srn_calloc(bytes, sizeof *f->body);
    f->ends = srn_calloc(bytes, 1);
    f->character = srn_calloc(bytes, 1);
    f->places = srn_calloc(bytes + UTF8_STATES, sizeof *f->places);
    f->n = 1;
    if (f->next && f->fail && f->body && f->ends && f->character && f->places) {
        memset(f->body, 0xFF, bytes * sizeof *f->body);
        return true;
    }
    f->c->failed = SRN_ENOMEM;
    return false;
}

/* Puts a trigger into the tree of prefixes; of two equal triggers either body may follow. */
static void add_trigger(free_text *f, const srn__gtrigger *t, uint32_t body) {
    srn__compiler *c = f->c;
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->text_len; i++) {
        uint8_t b = c->g->bytes[t->text_at + i];
        uint32_t *to = &f->next[(size_t)at * 256 + b];
        if (!*to) {
            *to = f->n++;
            f->character[*to] = (uint8_t)utf8_step(f->character[at], b);
        }
        at = *to;
    }
    f->ends[at] = 1;
    if (body == SRN__NO_OP) return;
    if (f->body[at] != SRN__NO_OP) {
        uint32_t either = srn__new_op(c);
        if (either == SRN__NO_OP) return;
        srn__set_targets(c, either, (uint32_t[]){f->body[at], body}, 2);
        body = either;
    }
    f->body[at] = body;
}

/* Compiles the bodies to go on with the free text at `start`. They come before the automaton is made, for
 * bodies can hold free text themselves. */
static bool compile_bodies(free_text *f, uint32_t start) {
    srn__compiler *c = f->c;
    f->bodies = srn_calloc(f->n_triggers, sizeof *f->bodies);
    if (!f->bodies) return c->failed = SRN_ENOMEM, false;
    for (uint32_t i = 0; i < f->n_triggers && !c->failed; i++)
        f->bodies[i] = c->a.productive[f->triggers[i].body] ? srn__compile_node(c, f->triggers[i].body, start)
                                                            : SRN__NO_OP;
    return !c->failed;
}

/* Completes next to a function of every byte, by increasing length of prefix. */
static bool link_failures(free_text *f) {
    uint32_t *queue = srn_calloc(f->n, sizeof *queue), head = 0, tail = 0;
    if (!queue) return f->c->failed = SRN_ENOMEM, false;
    queue[tail++] = 0;
    while (head < tail) {
        uint32_t v = queue[head++];
        const uint32_t *after = &f->next[(size_t)f->fail[v] * 256];
        if (!f->ends[v] && f->ends[f->fail[v]]) {
            f->ends[v] = 1;
            f->body[v] = f->body[f->fail[v]];
        }
        for (unsigned b = 0; b < 256; b++) {
            uint32_t *to = &f->next[(size_t)v * 256 + b];
            if (*to) {
                f->fail[*to] = v ? after[b] : 0;
                queue[tail++] = *to;
            } else if (v) {
                *to = after[b];
            }
        }
    }
    free(queue);
    return true;
}

/* Where a byte leads from a place: another place, or the body of a trigger that it completes. */
typedef struct step {
    bool valid;
    uint32_t place, body; /* body SRN__NO_OP: none; with a body, place is unused */
} step;

static step step_from(const free_text *f, uint32_t from, unsigned byte) {
    uint32_t prefix = from < UTF8_STATES ? 0 : from - UTF8_STATES;
    unsigned character = from < UTF8_STATES ? from : f->character[prefix];
    int then = utf8_step(character, byte);
    if (then < 0) return (step){0};
    uint32_t to = f->next[(size_t)prefix * 256 + byte];
    if (f->ends[to]) return (step){f->body[to] != SRN__NO_OP, 0, f->body[to]};
    return (step){true, to ? UTF8_STATES + to : (uint32_t)then, SRN__NO_OP};
}

static unsigned character_at(const free_text *f, uint32_t at) {
    return at < UTF8_STATES ? at : f->character[at - UTF8_STATES];
}

/* Marks the places that the text can reach, and gives them operations. Place 0 has one already. */
static void find_places(free_text *f) {
    uint32_t total = UTF8_STATES + f->n, n = 0, *stack = srn_calloc(total, sizeof *stack);
    if (!stack) {
        f->c->failed = SRN_ENOMEM;
        return;
    }
    stack[n++] = 0;
    f->places[0].seen = true;
    while (n && !f->c->failed) {
        uint32_t at = stack[--n];
        place *p = &f->places[at];
        if (at) p->op = srn__new_op(f->c);
        p->bytes = character_at(f, at) == 0 ? srn__new_op(f->c) : p->op;
        for (unsigned b = 0; b < 256; b++) {
            step s = step_from(f, at, b);
            if (!s.valid || s.body != SRN__NO_OP || f->places[s.place].seen) continue;
            f->places[s.place].seen = true;
            stack[n++] = s.place;
        }
    }
    free(stack);
}

/* A place inside a character is dead when every way to end the character completes a trigger that nothing can
 * follow. Characters have at most four bytes, so that three rounds find all. */
static void find_live(free_text *f) {
    uint32_t total = UTF8_STATES + f->n;
    for (uint32_t i = 0; i < total; i++) f->places[i].live = f->places[i].seen && character_at(f, i) == 0;
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < total; i++)
            for (unsigned b = 0; b < 256 && f->places[i].seen && !f->places[i].live; b++) {
                step s = step_from(f, i, b);
                f->places[i].live = s.valid && (s.body != SRN__NO_OP || f->places[s.place].live);
            }
}

static void write_place(free_text *f, uint32_t at, uint32_t next) {
    place *p = &f->places[at];
    srn__edge edges[256];
    uint32_t n = 0;
    for (unsigned b = 0; b < 256; b++) {
        step s = step_from(f, at, b);
        if (!s.valid || (s.body == SRN__NO_OP && !f->places[s.place].live)) continue;
        add_edge(edges, &n, b, b, s.body != SRN__NO_OP ? s.body : f->places[s.place].op);
    }
    srn__set_edges(f->c, p->bytes, edges, n);
    if (p->bytes != p->op) srn__set_targets(f->c, p->op, (uint32_t[]){p->bytes, next}, 2);
}

uint32_t srn__compile_free(srn__compiler *c, const srn__gnode *x, uint32_t next) {
    free_text f = {.c = c, .triggers = x->n ? c->g->triggers + x->at : NULL, .n_triggers = x->n};
    uint32_t start = srn__new_op(c);
    if (start != SRN__NO_OP && compile_bodies(&f, start) && free_text_init(&f)) {
        f.places[0].op = start;
        for (uint32_t i = 0; i < x->n && !c->failed; i++) add_trigger(&f, &f.triggers[i], f.bodies[i]);
        if (!c->failed && link_failures(&f)) {
            find_places(&f);
            if (!c->failed) find_live(&f);
            for (uint32_t i = 0; i < UTF8_STATES + f.n && !c->failed; i++)
                if (f.places[i].live) write_place(&f, i, next);
        }
    }
    free_text_done(&f);
    return c->failed ? SRN__NO_OP : start;
}
