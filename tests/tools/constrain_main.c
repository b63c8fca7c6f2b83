/* constrain_tool: lets Python tests put many schemas, patterns and grammars to one vocabulary in one process.
 *
 *   constrain_tool MODEL.gguf     cases on standard input, one JSON object a line, one line of answer each:
 *     {"schema": S | "regex": R | "gbnf": G | "json": OBJECT_ONLY | "in_json": [R, MIN, MAX],
 *      "accepts": [TEXT...], "walks": N, "seed": S, "tokens": MOST}
 *   the answer {"compile_us": T, "accepts": [BOOL...], "walks": [TEXT or null...]} or
 *   {"error": SENTENCE, "code": "EUNSUP"}. A walk goes by random tokens of the masks until the text ends; it
 *   prefers to close what is open, the more so the longer it is, and is null where it did not end.
 *
 * Exit code 2 for bad usage or a model that cannot be opened.
 */
#include <stdlib.h>

#include "constrain/constrain.h"

typedef struct tool {
    srn_vocab *v;
    srn_token_trie *trie;
    size_t n_words;
    uint64_t *mask;
    int32_t *allowed; /* [n_vocab] */
    int32_t closers[8];
    uint64_t random;
} tool;

static uint64_t draw(tool *t, uint64_t below) { /* splitmix64 */
    uint64_t z = (t->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

static bool is_allowed(const tool *t, int32_t id) {
    return id >= 0 && (t->mask[id / 64] >> (id % 64) & 1);
}

/* A token of the mask: -1 for none at all, an end token where the walk should stop. */
static int32_t choose(tool *t, uint32_t step, uint32_t most) {
    size_t n = 0;
    int32_t end = -1;
    for (int32_t i = 0; i < srn_vocab_size(t->v); i++) {
        if (!is_allowed(t, i)) continue;
        if (srn_vocab_is_eog(t->v, i))
            end = i;
        else
            t->allowed[n++] = i;
    }
    bool close = step > most / 2 || draw(t, 100) < 25;
    if (end >= 0 && (n == 0 || close)) return end;
    for (size_t i = 0; close && i < SRN_LEN(t->closers); i++)
        if (is_allowed(t, t->closers[i])) return t->closers[i];
    return n ? t->allowed[draw(t, n)] : -1;
}

/* False where the walk cannot go on, which is an error of the library. */
static bool walk(tool *t, srn_constraint *c, uint32_t most, json_t *walks, srn_err *err) {
    srn_matcher *m = NULL;
    srn_buf text;
    srn_buf_init(&text, 1 << 20);
    int rc = srn_matcher_new(c, t->trie, &m, err);
    bool ended = false;
    for (uint32_t step = 0; !rc && !ended && step < most; step++) {
        memset(t->mask, 0, t->n_words * sizeof *t->mask);
        rc = srn_matcher_mask(m, t->mask, err);
        int32_t id = rc ? -1 : choose(t, step, most);
        if (!rc && id < 0)
            rc = srn_fail(err, SRN_EINVAL, "no token is allowed after %.300s", text.len ? text.data : "");
        if (!rc && srn_vocab_is_eog(t->v, id)) {
            ended = true;
        } else if (!rc) {
            srn_token_bytes(t->v, id, false, &text);
            rc = srn_matcher_accept(m, id, err);
        }
    }
    srn_matcher_free(m);
    json_array_append_new(walks, ended ? json_stringn(text.len ? text.data : "", text.len) : json_null());
    srn_buf_done(&text);
    return rc == 0;
}

static bool accepts(tool *t, srn_constraint *c, const json_t *text) {
    srn_matcher *m = NULL;
    srn_err err;
    if (srn_matcher_new(c, t->trie, &m, &err)) return false;
    size_t n = json_string_length(text);
    bool yes = srn_matcher_accept_bytes(m, json_string_value(text), n) == n && srn_matcher_may_end(m);
    srn_matcher_free(m);
    return yes;
}

static srn_str str(const json_t *v) {
    return (srn_str){json_string_value(v), json_string_length(v)};
}

static int compile(const json_t *q, srn_constraint **ret, srn_err *err) {
    const json_t *v = json_object_get(q, "schema");
    if (v) return srn_constraint_of_schema(v, ret, err);
    if ((v = json_object_get(q, "regex"))) return srn_constraint_of_regex(str(v), ret, err);
    if ((v = json_object_get(q, "gbnf"))) return srn_constraint_of_gbnf(str(v), ret, err);
    srn_grammar *g = NULL;
    int rc = srn_grammar_new(100000, &g, err);
    if (rc) return rc;
    srn_node root;
    if ((v = json_object_get(q, "in_json")))
        root = srn_g_regex_in_json(g, str(json_array_get(v, 0)),
                                   (uint32_t)json_integer_value(json_array_get(v, 1)),
                                   (uint32_t)json_integer_value(json_array_get(v, 2)), err);
    else
        root = srn_g_json(g, json_is_true(json_object_get(q, "json")));
    rc = root == SRN_NODE_NONE ? (err->code ? err->code : SRN_ELIMIT) : srn_constraint_new(g, root, ret, err);
    srn_grammar_free(g);
    return rc;
}

static json_t *answer(tool *t, const json_t *q) {
    srn_constraint *c = NULL;
    srn_err err = {0};
    json_t *a = json_object(), *yes = json_array(), *walks = json_array(), *text;
    uint64_t start = srn_now_us();
    bool ok = compile(q, &c, &err) == 0;
    json_object_set_new(a, "compile_us", json_integer((json_int_t)(srn_now_us() - start)));
    t->random = (uint64_t)json_integer_value(json_object_get(q, "seed"));
    size_t i;
    if (ok)
        json_array_foreach(json_object_get(q, "accepts"), i, text)
            json_array_append_new(yes, json_boolean(accepts(t, c, text)));
    uint32_t most = (uint32_t)json_integer_value(json_object_get(q, "tokens"));
    for (json_int_t n = json_integer_value(json_object_get(q, "walks")); ok && n > 0; n--)
        ok = walk(t, c, most ? most : 200, walks, &err);
    json_object_set_new(a, "accepts", yes);
    json_object_set_new(a, "walks", walks);
    if (!ok) {
        json_object_set_new(a, "error", json_string(err.text));
        json_object_set_new(a, "code", json_string(srn_err_name(err.code)));
    }
    srn_constraint_free(c);
    return a;
}

int main(int argc, char **argv) {
    srn_weights *w = NULL;
    tool t = {0};
    srn_err err = {0};
    if (argc != 2) return fprintf(stderr, "usage: constrain_tool MODEL.gguf\n"), 2;
    if (srn_weights_open(argv[1], &(srn_open_opts){.vocab_only = true}, &w, &err) ||
        srn_vocab_new(w, &t.v, &err) || srn_token_trie_new(t.v, &t.trie, &err))
        return fprintf(stderr, "%s\n", err.text), 2;
    size_t n = (size_t)srn_vocab_size(t.v);
    t.n_words = (n + 63) / 64;
    t.mask = srn_calloc(t.n_words, sizeof *t.mask);
    t.allowed = srn_calloc(n, sizeof *t.allowed);
    static const char *const closers[] = {"\"", "}", "]", "\"}", "0", "1", ".", ","};
    for (size_t i = 0; i < SRN_LEN(closers); i++) t.closers[i] = srn_vocab_find(t.v, srn_str_of(closers[i]));
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t len; t.mask && t.allowed && (len = getline(&line, &cap, stdin)) > 1;) {
        json_t *q = json_loadb(line, (size_t)len, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        json_t *a = q ? answer(&t, q) : json_pack("{s:s,s:s}", "error", "this is not JSON", "code", "EUSAGE");
        char *z = json_dumps(a, JSON_COMPACT | JSON_ENSURE_ASCII);
        puts(z ? z : "{}");
        fflush(stdout);
        free(z);
        json_decref(a);
        json_decref(q);
    }
    free(line);
    free(t.mask);
    free(t.allowed);
    srn_token_trie_free(t.trie);
    srn_vocab_free(t.v);
    srn_weights_free(w);
    return 0;
}
