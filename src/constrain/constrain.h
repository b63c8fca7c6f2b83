/* constrain: what an answer may look like, as a mask over the vocabulary at each token. JSON schema, regular
 * expressions and GBNF become one immutable srn_constraint; a srn_matcher walks it for one sequence. Pure, no
 * I/O, all costs capped; a constraint and a vocabulary's index may be used by many threads, a matcher by one.
 */
#ifndef SRN_CONSTRAIN_CONSTRAIN_H
#define SRN_CONSTRAIN_CONSTRAIN_H

#include <jansson.h>

#include "base/base.h"
#include "constrain/grammar.h"
#include "token/token.h"

typedef struct srn_constraint srn_constraint;

/* ---- front ends: each adds to a grammar and returns the node, SRN_NODE_NONE with err filled on failure ----
 */

/* Text that is valid JSON and validates against the schema (draft 2020-12). Compact or spaced is the model's
 * choice within bounds (at most one space or a line break with indentation between tokens, so that it cannot
 * pad for ever); properties come in the schema's order. Errors: SRN_EUNSUP names the keyword and its JSON
 * pointer; SRN_EINVAL a malformed schema or one that nothing satisfies; SRN_ELIMIT too large or too deep. */
srn_node srn_g_schema(srn_grammar *g, const json_t *schema, srn_err *err);
/* Any JSON value, and any JSON object. */
srn_node srn_g_json(srn_grammar *g, bool object_only);
/* A regular expression that the whole text must match: literals, escapes (\d \w \s \b is refused, \uXXXX,
 * \xXX, \p{..} for general categories at least L, N, P, Z and their sub-categories), classes, groups (also
 * (?:...)), alternation, * + ? {m,n} with their lazy forms taken as the greedy ones, ^ and $ at the ends.
 * Refused by name: back references, look-around. */
srn_node srn_g_regex(srn_grammar *g, srn_str pattern, srn_err *err);
/* Text in which somewhere a match begins and ends, as JSON schema's "pattern" means it, as the contents of a
 * JSON string: what JSON must escape is written escaped. */
srn_node srn_g_regex_in_json(srn_grammar *g, srn_str pattern, uint32_t min_length, uint32_t max_length,
                             srn_err *err);
/* A GBNF grammar as llama.cpp reads it; its rule `root`. Errors name the line. */
srn_node srn_g_gbnf(srn_grammar *g, srn_str text, srn_err *err);

/* ---- compiled ---- */

/* Compiles the grammar with this root; g may be freed afterwards. Left recursion is handled or refused by the
 * rule's name. The id is a SHA-256 over the canonical grammar, for records. */
int srn_constraint_new(const srn_grammar *g, srn_node root, srn_constraint **ret, srn_err *err);
/* Shared ownership, any thread. */
srn_constraint *srn_constraint_ref(srn_constraint *c);
void srn_constraint_free(srn_constraint *c); /* gives one reference back */
void srn_constraint_id(const srn_constraint *c, char ret_hex[2 * SRN_SHA256_BYTES + 1]);

/* Convenience: one text or JSON value to a constraint. */
int srn_constraint_of_schema(const json_t *schema, srn_constraint **ret, srn_err *err);
int srn_constraint_of_regex(srn_str pattern, srn_constraint **ret, srn_err *err);
int srn_constraint_of_gbnf(srn_str text, srn_constraint **ret, srn_err *err);

/* ---- the vocabulary's side: a trie of all tokens' bytes, made once for a model ---- */

typedef struct srn_token_trie srn_token_trie;
/* Control tokens have no bytes and are never allowed by a mask, but for those that end an answer where the
 * text may end. v must outlive it. */
int srn_token_trie_new(const srn_vocab *v, srn_token_trie **ret, srn_err *err);
/* The same, but these control tokens stand for their text: the marks around tool calls and reasoning, which
 * answers show. */
int srn_token_trie_new_marks(const srn_vocab *v, const int32_t *marks, size_t n_marks, srn_token_trie **ret,
                             srn_err *err);
void srn_token_trie_free(srn_token_trie *t);

/* ---- one sequence ---- */

typedef struct srn_matcher srn_matcher;
/* c and t must outlive it. t NULL: only bytes can be accepted. */
int srn_matcher_new(srn_constraint *c, const srn_token_trie *t, srn_matcher **ret, srn_err *err);
void srn_matcher_free(srn_matcher *m);
/* Sets bit i of mask [(n_vocab+63)/64] for each token that may come next; end tokens where the text may end.
 * SRN_ELIMIT when the grammar is so ambiguous that the caps on its states or on its masks' time are reached:
 * the first mask may take some tenths of a second, a later one one tenth, and all of them a hundredth each on
 * average. (What is already in the constraint's tables costs nothing: a matcher that follows others may get
 * further than they did. It never gets another mask.) What nothing could finish is not let in, so that a mask
 * has a bit before the end, unless the vocabulary lacks the bytes that must follow: SRN_EUNSUP. */
int srn_matcher_mask(srn_matcher *m, uint64_t *mask, srn_err *err);
/* Moves on by a token that the mask allowed (SRN_EINVAL otherwise; nothing changes). */
int srn_matcher_accept(srn_matcher *m, int32_t token, srn_err *err);
/* The same for bytes: how many of n were let through (all, or up to the first that is not allowed). */
size_t srn_matcher_accept_bytes(srn_matcher *m, const char *bytes, size_t n);
bool srn_matcher_may_end(const srn_matcher *m);  /* the text so far is complete */
bool srn_matcher_must_end(const srn_matcher *m); /* and nothing can follow it */
/* Takes back the last n accepted tokens (speculation); at least 64 are kept. */
int srn_matcher_rollback(srn_matcher *m, uint32_t n, srn_err *err);

/* Whether exactly this text is let through, without a vocabulary. false also where memory or the caps ran
 * out. */
bool srn_constraint_accepts(srn_constraint *c, srn_str text);

/* ---- what it costs, for benchmarks and metrics ---- */

typedef struct srn_constraint_stats {
    uint32_t rules, operations, classes; /* of the program; classes of bytes that it tells apart */
    uint64_t bytes;
} srn_constraint_stats;
srn_constraint_stats srn_constraint_get_stats(const srn_constraint *c);

typedef struct srn_matcher_stats {
    uint64_t bytes;       /* of memory */
    uint64_t sets, masks; /* kept */
} srn_matcher_stats;
srn_matcher_stats srn_matcher_get_stats(const srn_matcher *m);

uint64_t srn_token_trie_bytes(const srn_token_trie *t);

#endif
