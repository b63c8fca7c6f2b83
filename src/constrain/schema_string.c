/* constrain: strings and their patterns. One pattern goes into the grammar as it is; several of them, or one
 * with a length that it does not imply, become one deterministic automaton whose states are rules. Also the
 * formats, as patterns, and srn_g_regex_in_json.
 */
#include <stdlib.h>

#include "constrain/schema_internal.h"

/* ---- formats ---- */

#define OCTET    "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4     OCTET "(?:\\." OCTET "){3}"
#define H16      "[0-9A-Fa-f]{1,4}"
#define YEAR     "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define MONTHS31 "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
#define MONTHS30 "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
#define FEBRUARY "02-(?:0[1-9]|1[0-9]|2[0-8])"
#define LEAP4    "[0-9]{2}(?:0[48]|[2468][048]|[13579][26])"
#define LEAP400  "(?:0[48]|[2468][048]|[13579][26])00"
#define DATE     "(?:" YEAR "-(?:" MONTHS31 "|" MONTHS30 "|" FEBRUARY ")|(?:" LEAP4 "|" LEAP400 ")-02-29)"
#define TIME                                                                                                 \
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define WORD  "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,32}"
#define URIC  "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})"

/* RFC 3339 for times, with at most nine digits of a second and no leap seconds; RFC 4122; RFC 2673 and 4291;
 * RFC 5321 with a plain local part; RFC 3986 with a scheme and, after // , an authority; RFC 1123; ISO 8601.
 */
static const struct {
    const char *name, *regex;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"ipv4", "^" IPV4 "$"},
    {"ipv6",
     "^(?:(?:" H16 ":){7}" H16 "|(?:" H16 ":){6}" IPV4 "|::(?:" H16 ":){0,5}" H16 "|(?:" H16 ":){1,7}:|::"
     "|(?:" H16 ":){1}(?::" H16 "){1,6}|(?:" H16 ":){2}(?::" H16 "){1,5}|(?:" H16 ":){3}(?::" H16 "){1,4}"
     "|(?:" H16 ":){4}(?::" H16 "){1,3}|(?:" H16 ":){5}(?::" H16 "){1,2}|(?:" H16 ":){6}:" H16 "|::(?:" H16
     ":){0,5}" IPV4 ")$"},
    {"email", "^" WORD "(?:\\." WORD ")*@" LABEL "(?:\\." LABEL ")*$"},
    {"uri", "^[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9._~!$&'()*+,;=:@%-]+(?:[/?]" URIC
            "*)?|[A-Za-z0-9._~]" URIC "*)(?:#" URIC "*)?$"},
    {"hostname", "^" LABEL "(?:\\." LABEL "){0,7}$"},
    {"duration", "^P(?:[0-9]{1,9}W|(?:[0-9]{1,9}Y(?:[0-9]{1,9}M(?:[0-9]{1,9}D)?)?|[0-9]{1,9}M(?:[0-9]{1,9}D)?"
                 "|[0-9]{1,9}D)(?:T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?"
                 "|[0-9]{1,9}S))?|T(?:[0-9]{1,9}H(?:[0-9]{1,9}M(?:[0-9]{1,9}S)?)?|[0-9]{1,9}M(?:[0-9]{1,9}S)?"
                 "|[0-9]{1,9}S))$"},
};

const char *srn__format_regex(const char *format) {
    for (size_t i = 0; i < SRN_LEN(formats); i++)
        if (strcmp(formats[i].name, format) == 0) return formats[i].regex;
    return NULL;
}

/* ---- patterns as trees ---- */

/* Puts the sentence of a pattern's error behind the place of the schema. */
static bool pattern_failed(srn__schema *s, const char *ptr, const srn_err *err) {
    return srn__schema_fail(s, err->code ? err->code : SRN_EINVAL, ptr, "%s", err->text);
}

srn__pattern *srn__schema_pattern(srn__schema *s, const char *text, const char *ptr) {
    for (srn__pattern *p = s->patterns; p; p = p->next)
        if (p->text == text || strcmp(p->text, text) == 0) return p;
    srn_err err = {0};
    if (s->code) return NULL;
    if (!s->trees && srn_grammar_new(SRN__CAP_NODES, &s->trees, &err))
        return pattern_failed(s, ptr, &err), NULL;
    srn__pattern *p = srn_arena_alloc(&s->arena, sizeof *p);
    if (!p) return srn__schema_nomem(s), NULL;
    p->text = text;
    p->node = srn__regex(s->trees, srn_str_of(text), &(srn__regex_how){.search = true}, &err);
    if (p->node == SRN_NODE_NONE) return pattern_failed(s, ptr, &err), NULL;
    p->next = s->patterns;
    s->patterns = p;
    srn__schema_work(s, 10 + strlen(text));
    return p;
}

static srn__dfa *dfa(srn__schema *s, const srn__language *languages, uint32_t n, const char *ptr) {
    srn__dfa *d = NULL;
    srn_err err = {0};
    uint64_t steps = 0;
    if (s->code) return NULL;
    if (srn__dfa_new(&s->arena, languages, n, &steps, &d, &err)) return pattern_failed(s, ptr, &err), NULL;
    return srn__schema_work(s, steps / 4) ? d : NULL;
}

/* Whether the pattern has a class of which programs differ: \d, \w, \s, their opposites, and \p. */
static bool has_class_escape(const char *pattern) {
    for (const char *p = strchr(pattern, '\\'); p && p[1]; p = strchr(p + 2, '\\'))
        if (strchr("dDwWsSpP", p[1])) return true;
    return false;
}

/* Whether programs may differ in what they say of this text: of a class beyond printable ASCII, of $ before a
 * line break. */
static bool is_open_to_doubt(const char *pattern, srn_str text) {
    bool beyond = false, line = false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = (uint8_t)text.ptr[i];
        beyond |= c < 0x20 || c > 0x7e;
        line |= c == '\n';
    }
    return (beyond && has_class_escape(pattern)) || (line && strchr(pattern, '$'));
}

bool srn__pattern_matches(srn__schema *s, const char *pattern, srn_str text, const char *ptr) {
    srn__pattern *p = srn__schema_pattern(s, pattern, ptr);
    if (!p) return false;
    if (is_open_to_doubt(pattern, text))
        return srn__schema_fail(
            s, SRN_EUNSUP, ptr,
            "whether \"%.80s\" matches the pattern \"%.80s\" differs between programs; write the "
            "pattern's classes out",
            text.ptr, pattern);
    if (!p->dfa) p->dfa = dfa(s, &(srn__language){.g = s->trees, .node = p->node}, 1, ptr);
    return p->dfa && srn__schema_work(s, text.len) && srn__dfa_accepts(p->dfa, text, 1);
}

srn__dfa *srn__dfa_of_names(srn__schema *s, const char *const *patterns, uint32_t n, const srn_str *names,
                            size_t n_names, const char *ptr) {
    srn__language languages[SRN__MAX_LANGUAGES] = {{0}};
    static const srn_range ascii[] = {{0x20, 0x7e}},
                           not_a_line[] = {{0, 9}, {11, 0xd7ff}, {0xe000, 0x10ffff}};
    bool escapes = false;
    uint32_t k = 0;
    for (uint32_t i = 0; i < n; i++) escapes |= has_class_escape(patterns[i]);
    for (; k < n && k + 2 < SRN__MAX_LANGUAGES; k++) {
        srn__pattern *p = srn__schema_pattern(s, patterns[k], ptr);
        if (!p) return NULL;
        languages[k] = (srn__language){.g = s->trees, .node = p->node};
    }
    languages[k++] = (srn__language){.texts = names, .n_texts = n_names};
    languages[k++] = (srn__language){.max = SRN_NO_MAX,
                                     .ranges = escapes ? ascii : not_a_line,
                                     .n_ranges = escapes ? SRN_LEN(ascii) : SRN_LEN(not_a_line)};
    return dfa(s, languages, k, ptr);
}

/* ---- automata as grammar ---- */

typedef struct emitter {
    srn__schema *s;
    const srn__dfa *d;
    bool *live;      /* [n_states] can still end well */
    uint32_t *rules; /* [n_states] */
    uint32_t want;
} emitter;

/* Marks the states from which one with the wanted label is reached. */
static bool find_live(emitter *e) {
    const srn__dfa *d = e->d;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = d->n_states; i-- > 0;) {
            bool live = d->label[i] == e->want;
            for (uint32_t a = 0; a < d->n_atoms && !live && !e->live[i]; a++) {
                uint32_t to = d->next[(size_t)i * d->n_atoms + a];
                live = to != SRN__DFA_NONE && e->live[to];
            }
            if (live && !e->live[i]) changed = e->live[i] = true;
        }
        if (!srn__schema_work(e->s, (uint64_t)d->n_states * d->n_atoms / 8 + 1)) return false;
    }
    return true;
}

/* One character that leads from state i to state `to`. */
static srn_node step(const emitter *e, uint32_t i, uint32_t to) {
    srn__ranges set = {0};
    for (uint32_t a = 0; a < e->d->n_atoms; a++)
        if (e->d->next[(size_t)i * e->d->n_atoms + a] == to)
            srn__ranges_add_all(&set, e->d->ranges + e->d->atom_at[a],
                                e->d->atom_at[a + 1] - e->d->atom_at[a]);
    srn__ranges_normalise(&set);
    srn_node node = set.failed ? SRN_NODE_NONE : srn__schema_char(e->s, set.r, set.n);
    srn__ranges_done(&set);
    return node;
}

static bool define_state(emitter *e, uint32_t i) {
    srn_grammar *g = e->s->g;
    const srn__dfa *d = e->d;
    srn_node *alt = srn_arena_alloc(&e->s->arena, (d->n_atoms + 1) * sizeof *alt);
    if (!alt) return srn__schema_nomem(e->s);
    size_t n = 0;
    bool loop = false;
    if (d->label[i] == e->want) alt[n++] = srn_g_text(g, SRN_STR(""));
    for (uint32_t a = 0; a < d->n_atoms; a++) {
        uint32_t to = d->next[(size_t)i * d->n_atoms + a];
        bool seen = to == SRN__DFA_NONE || !e->live[to];
        for (uint32_t b = 0; b < a && !seen; b++) seen = d->next[(size_t)i * d->n_atoms + b] == to;
        if (seen) continue;
        if (to == i)
            loop = true;
        else
            alt[n++] = SRN__SEQ(g, step(e, i, to), srn_g_ref(g, e->rules[to]));
    }
    srn_node body = srn_g_alt(g, alt, n);
    if (loop) body = SRN__SEQ(g, srn_g_repeat(g, step(e, i, i), 0, SRN_NO_MAX), body);
    srn_g_define(g, e->rules[i], body);
    return srn__schema_work(e->s, d->n_atoms * 4);
}

srn_node srn__dfa_node(srn__schema *s, const srn__dfa *d, uint32_t want) {
    emitter e = {.s = s, .d = d, .want = want};
    if (d->n_states == 0) return SRN_NODE_NONE;
    e.live = srn_arena_alloc(&s->arena, d->n_states * sizeof *e.live);
    e.rules = srn_arena_alloc(&s->arena, d->n_states * sizeof *e.rules);
    if (!e.live || !e.rules) return srn__schema_nomem(s), SRN_NODE_NONE;
    if (!find_live(&e) || !e.live[0]) return SRN_NODE_NONE;
    for (uint32_t i = 0; i < d->n_states; i++)
        if (e.live[i]) e.rules[i] = srn_g_rule(s->g, SRN_STR("state of a pattern"));
    for (uint32_t i = 0; i < d->n_states; i++)
        if (e.live[i] && !define_state(&e, i)) return SRN_NODE_NONE;
    return srn_g_ref(s->g, e.rules[0]);
}

/* ---- strings ---- */

typedef struct string {
    const char *patterns[SRN__MAX_LANGUAGES];
    uint32_t n, min, max;
    const char *ptr;
} string;

static void add_pattern(srn__schema *s, string *t, const char *pattern) {
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->patterns[i], pattern) == 0) return;
    if (t->n + 1 == SRN__MAX_LANGUAGES)
        srn__schema_fail(s, SRN_ELIMIT, t->ptr, "more than %d patterns hold together here",
                         SRN__MAX_LANGUAGES - 1);
    else
        t->patterns[t->n++] = pattern;
}

static string string_of(srn__schema *s, const srn__list *leaf) {
    string t = {.max = SRN_NO_MAX, .ptr = leaf->n ? s->sch[leaf->ids[0]]->ptr : "#"};
    for (uint32_t i = 0; i < leaf->n; i++) {
        const srn__sch *c = s->sch[leaf->ids[i]];
        t.min = SRN_MAX(t.min, c->min_length);
        t.max = SRN_MIN(t.max, c->max_length);
        if (c->pattern) add_pattern(s, &t, json_string_value(c->pattern));
        if (c->format) add_pattern(s, &t, c->format);
    }
    return t;
}

/* Characters that a tree matches, at least and at most (SRN_NO_MAX: without end). */
static void lengths(const srn_grammar *g, srn_node node, uint64_t *ret_min, uint64_t *ret_max) {
    const srn__gnode *x = &g->nodes[node];
    uint64_t min = x->kind == SRN__NODE_ALT ? SRN_NO_MAX : 0, max = 0, a, b;
    if (x->kind == SRN__NODE_CLASS) min = max = 1;
    if (x->kind == SRN__NODE_TEXT) min = 0, max = SRN_NO_MAX; /* bytes, not characters */
    for (uint32_t i = 0; (x->kind == SRN__NODE_SEQ || x->kind == SRN__NODE_ALT) && i < x->n; i++) {
        lengths(g, g->kids[x->at + i], &a, &b);
        min = x->kind == SRN__NODE_SEQ ? min + a : SRN_MIN(min, a);
        max = x->kind == SRN__NODE_SEQ ? max + b : SRN_MAX(max, b);
    }
    if (x->kind == SRN__NODE_REPEAT) {
        lengths(g, x->at, &a, &b);
        min = a * x->min;
        max = x->max == SRN_NO_MAX ? (b ? SRN_NO_MAX : 0) : b * x->max;
    }
    *ret_min = SRN_MIN(min, (uint64_t)SRN_NO_MAX);
    *ret_max = SRN_MIN(max, (uint64_t)SRN_NO_MAX);
}

/* A pattern's tree in the grammar, its characters as they stand in JSON. */
static srn_node planted(srn__schema *s, srn_node node) {
    const srn__gnode x = s->trees->nodes[node];
    srn_grammar *g = s->g;
    if (!srn__schema_work(s, 1)) return SRN_NODE_NONE;
    if (x.kind == SRN__NODE_CLASS) return srn__schema_char(s, s->trees->ranges + x.at, x.n);
    if (x.kind == SRN__NODE_REPEAT) return srn_g_repeat(g, planted(s, x.at), x.min, x.max);
    if (x.kind == SRN__NODE_TEXT)
        return srn__g_literal(g, (srn_str){(const char *)s->trees->bytes + x.at, x.n});
    srn_node *kids = srn_arena_alloc(&s->arena, (x.n + 1) * sizeof *kids);
    if (!kids) return srn__schema_nomem(s), SRN_NODE_NONE;
    uint32_t n = x.kind == SRN__NODE_EMPTY ? 0 : x.n;
    for (uint32_t i = 0; i < n; i++) kids[i] = planted(s, s->trees->kids[x.at + i]);
    return x.kind == SRN__NODE_ALT ? srn_g_alt(g, kids, n) : srn_g_seq(g, kids, n);
}

/* One pattern whose tree is one class, so and so many times: with the lengths, SRN_NODE_NONE for another. */
static srn_node one_class(srn__schema *s, srn_node node, uint32_t min, uint32_t max) {
    const srn__gnode *x = &s->trees->nodes[node], *c = x;
    uint32_t least = 1, most = 1;
    if (x->kind == SRN__NODE_REPEAT) {
        least = x->min;
        most = x->max;
        c = &s->trees->nodes[x->at];
    }
    if (c->kind != SRN__NODE_CLASS) return SRN_NODE_NONE;
    min = SRN_MAX(min, least);
    max = SRN_MIN(max, most);
    if (min > max) return srn_g_alt(s->g, NULL, 0);
    return srn_g_repeat(s->g, srn__g_char(s->g, s->trees->ranges + c->at, c->n), min, max);
}

/* The contents; patterns and a length that no single pattern implies. */
static srn_node contents(srn__schema *s, const string *t, srn__dfa **cache) {
    if (t->n == 0) return srn__g_chars(s->g, t->min, t->max);
    srn__language languages[SRN__MAX_LANGUAGES] = {{0}};
    for (uint32_t i = 0; i < t->n; i++) {
        srn__pattern *p = srn__schema_pattern(s, t->patterns[i], t->ptr);
        if (!p) return SRN_NODE_NONE;
        languages[i] = (srn__language){.g = s->trees, .node = p->node};
    }
    uint64_t min, max;
    lengths(s->trees, languages[0].node, &min, &max);
    bool implied = (t->min <= min && (t->max == SRN_NO_MAX || t->max >= max));
    if (t->n == 1) {
        srn_node node = one_class(s, languages[0].node, t->min, t->max);
        if (node != SRN_NODE_NONE) return node;
    }
    if (t->n == 1 && implied) return planted(s, languages[0].node);
    languages[t->n] = (srn__language){.min = t->min, .max = t->max};
    if (!*cache) *cache = dfa(s, languages, t->n + 1, t->ptr);
    return *cache ? srn__dfa_node(s, *cache, (2u << t->n) - 1) : SRN_NODE_NONE;
}

srn_node srn__g_string(srn__schema *s, const srn__list *leaf) {
    string t = string_of(s, leaf);
    srn__dfa *d = leaf->dfa;
    srn_node quote = srn_g_text(s->g, SRN_STR("\"")), body = s->code ? SRN_NODE_NONE : contents(s, &t, &d);
    if (body == SRN_NODE_NONE) return s->code ? SRN_NODE_NONE : srn_g_alt(s->g, NULL, 0);
    return SRN__SEQ(s->g, quote, body, quote);
}

bool srn__string_never(srn__schema *s, const srn__list *leaf) {
    string t = string_of(s, leaf);
    if (s->code) return false;
    if (t.min > t.max) return true;
    if (t.n == 0 || s->excluding) return false;
    srn__language languages[SRN__MAX_LANGUAGES] = {{0}};
    uint64_t all_min = t.min, all_max = t.max;
    bool binding = t.n > 1;
    for (uint32_t i = 0; i < t.n; i++) {
        srn__pattern *p = srn__schema_pattern(s, t.patterns[i], t.ptr);
        if (!p) return false;
        uint64_t min, max;
        lengths(s->trees, p->node, &min, &max);
        all_min = SRN_MAX(all_min, min);
        all_max = SRN_MIN(all_max, max);
        binding |= !(t.min <= min && (t.max == SRN_NO_MAX || t.max >= max));
        languages[i] = (srn__language){.g = s->trees, .node = p->node};
    }
    if (all_min > all_max) return true;
    if (!binding || (t.n == 1 && s->trees->nodes[languages[0].node].kind == SRN__NODE_REPEAT)) return false;
    languages[t.n] = (srn__language){.min = t.min, .max = t.max};
    srn__list *list = (srn__list *)(uintptr_t)leaf;
    if (!list->dfa) list->dfa = dfa(s, languages, t.n + 1, t.ptr);
    if (!list->dfa) return false;
    for (uint32_t i = 0; i < list->dfa->n_states; i++)
        if (list->dfa->label[i] == (2u << t.n) - 1) return false;
    return true;
}

srn_node srn_g_regex_in_json(srn_grammar *g, srn_str pattern, uint32_t min_length, uint32_t max_length,
                             srn_err *err) {
    srn__schema s = {.g = g, .err = err, .rule_json = UINT32_MAX};
    srn_arena_init(&s.arena, SRN__CAP_ARENA);
    char *z = srn_arena_strndup(&s.arena, pattern.ptr, pattern.len);
    string t = {.n = 1, .min = min_length, .max = max_length, .patterns[0] = z, .ptr = "pattern"};
    srn_node node = SRN_NODE_NONE;
    srn__dfa *d = NULL;
    if (!z)
        srn__schema_nomem(&s);
    else if (memchr(pattern.ptr ? pattern.ptr : "", 0, pattern.len))
        srn__schema_fail(&s, SRN_EUNSUP, "pattern", "a NUL character is not supported");
    else if (min_length > max_length)
        srn__schema_fail(&s, SRN_EINVAL, "pattern", "minLength is above maxLength");
    else
        node = contents(&s, &t, &d);
    if (node == SRN_NODE_NONE && !s.code && !srn__grammar_status(g, err))
        srn__schema_fail(&s, SRN_EINVAL, "pattern", "nothing of this length matches it");
    srn_grammar_free(s.trees);
    srn_arena_done(&s.arena);
    return node;
}
