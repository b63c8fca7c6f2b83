/* Automata over code points, inside the room: what several patterns, a length and a set of names make
 * together. A pattern is parsed by srn__regex into a grammar of its own, whose nodes are then read as a tree.
 */
#ifndef SRN_CONSTRAIN_PATTERN_H
#define SRN_CONSTRAIN_PATTERN_H

#include "constrain/constrain_internal.h"

typedef struct srn__dfa {
    uint32_t n_states, n_atoms; /* state 0 is the first */
    uint32_t *next;             /* [n_states][n_atoms], SRN__DFA_NONE for none */
    uint32_t *label;            /* [n_states] bit i: the text so far is in language i */
    srn_range *ranges;          /* of the atoms, which are disjoint: ranges[atom_at[i] .. atom_at[i + 1]) */
    uint32_t *atom_at;          /* [n_atoms + 1] */
} srn__dfa;
#define SRN__DFA_NONE UINT32_MAX

/* One of the languages of an automaton. */
typedef struct srn__language {
    const srn_grammar *g; /* the tree of a pattern, without rules; NULL: see the others */
    srn_node node;
    const srn_str *texts; /* exactly these [n_texts] */
    size_t n_texts;
    uint32_t min, max;       /* with neither: any text of min to max characters */
    const srn_range *ranges; /* of these [n_ranges]; NULL: all */
    size_t n_ranges;
} srn__language;
enum { SRN__MAX_LANGUAGES = 16 };

/* In the arena; SRN_ELIMIT past the caps. Adds the steps it took to *work. */
int srn__dfa_new(srn_arena *a, const srn__language *languages, uint32_t n, uint64_t *work, srn__dfa **ret,
                 srn_err *err);
/* Whether the text is in all languages of the label. */
bool srn__dfa_accepts(const srn__dfa *d, srn_str text, uint32_t label);

#endif
