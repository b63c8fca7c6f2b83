/* token, inside: the vocabulary's layout and the steps between text and ids. Included by src/token only.
 * Everything below is immutable after srn_vocab_new; srn__scratch holds what one srn_tokenize call changes.
 */
#ifndef SRN_TOKEN_INTERNAL_H
#define SRN_TOKEN_INTERNAL_H

#include "token/token.h"

/* U+2581, which SentencePiece and GGUF's WordPiece write for a space (or the start of a word). */
#define SRN__LOWLINE     "\xE2\x96\x81"
#define SRN__REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

enum {
    SRN__MAX_TEXT_BYTES = 1 << 28,  /* of one srn_tokenize call */
    SRN__MAX_TOKENS = 1 << 24,      /* of one vocabulary */
    SRN__MAX_TOKEN_BYTES = 1 << 16, /* of one token's text */
    SRN__MAX_SPECIAL_BYTES =
        1 << 10, /* of a control or user-defined token's text: bounds the matcher's step */
};

/* Text of a file for a sentence: what is not printable ASCII becomes '?', what is long is cut. */
enum { SRN__PRINTABLE = 68 };
const char *srn__printable(srn_str s, char out[SRN__PRINTABLE]);

/* ---- text -> id: open addressing over texts that live elsewhere ---- */
typedef struct srn__strtab {
    srn_str *key;
    int32_t *id;
    uint32_t mask; /* slots - 1 */
    uint32_t n;
    uint64_t seed;
} srn__strtab;
bool srn__strtab_init(srn__strtab *t, size_t n); /* room for n texts at first; grows */
void srn__strtab_done(srn__strtab *t);
/* Puts text with id; a text that is there keeps the id that it has. False when memory runs out. */
bool srn__strtab_put(srn__strtab *t, srn_str text, int32_t id);
int32_t srn__strtab_get(const srn__strtab *t, srn_str text); /* -1 if absent */

/* ---- BPE merges: (left id, right id) -> (rank, merged id) ---- */
typedef struct srn__merge_row {
    int32_t left, right; /* left < 0: the slot is empty */
    uint32_t rank;
    int32_t merged;
} srn__merge_row;

/* ---- special tokens: a sorted list, matched by narrowing it byte by byte ---- */
typedef struct srn__matcher {
    srn_str *text; /* sorted by bytes, without empty or equal ones */
    int32_t *id;
    uint32_t n;
    uint32_t first[257]; /* texts that start with byte b are first[b] .. first[b+1]-1 */
} srn__matcher;
int srn__matcher_init(srn__matcher *m, const srn_str *texts, const int32_t *ids, uint32_t n, srn_err *err);
void srn__matcher_done(srn__matcher *m);
/* The longest text that p[0..n) starts with: its length and id; 0 if there is none. */
size_t srn__matcher_longest(const srn__matcher *m, const char *p, size_t n, int32_t *ret_id);

typedef struct srn__pretok srn__pretok;

struct srn_vocab {
    srn_vocab_kind kind;
    bool raw_bpe; /* BPE over UTF-8 with U+2581 for spaces and <0xXX> for bytes, not over byte letters */
    int32_t n;
    const srn_str *text; /* [n], in the file's mapping */
    uint8_t *attr;       /* [n] srn_token_attr, after the corrections of vocab.c */
    bool *eog;           /* [n] */
    size_t max_bytes;    /* longest text */
    srn__strtab tab;     /* text -> id; ids from n on are strings that only merges name */
    int32_t n_all;       /* n and those strings */
    srn_arena arena;     /* their texts, and escaped ones of the matchers */

    int32_t bos, eos, unk, pad, sep; /* -1: none */
    bool add_bos, add_eos, add_sep, add_space_prefix;
    bool control_rstrip;  /* white space after a control token belongs to it (Phi-3) */
    int32_t byte_id[256]; /* the token of a byte, -1 if there is none */
    bool lacks_bytes;     /* some byte_id is -1 */

    /* BPE */
    srn__merge_row *merges;
    uint32_t merge_mask;
    bool ignore_merges; /* a piece that is a token is that token, whatever the merges say */
    srn__pretok *pretok;

    /* SPM */
    uint32_t *order; /* [n] ascending: merged earlier (a falling map of the score) */
    bool has_unused;

    /* WPM */
    bool lowercase, strip_accents;

    srn__matcher control; /* control and unknown tokens */
    srn__matcher user;    /* user-defined tokens, with U+2581 for spaces where the kind escapes them */
};

/* Whether ordinary text may become this token by a merge or a look-up. */
static inline bool srn__is_ordinary(const srn_vocab *v, int32_t id) {
    return id >= 0 && id < v->n &&
           (v->attr[id] == SRN_TOKEN_NORMAL || v->attr[id] == SRN_TOKEN_USER_DEFINED ||
            v->attr[id] == SRN_TOKEN_UNUSED);
}
static inline bool srn__escapes_spaces(const srn_vocab *v) {
    return v->kind == SRN_VOCAB_SPM || v->raw_bpe;
}

/* ---- what one call changes ---- */
typedef struct srn__sym {
    uint32_t pos, len; /* in the fragment; len 0: merged away */
    int32_t prev, next;
    int32_t id; /* -1: no token has this text */
} srn__sym;

typedef struct srn__cand { /* a possible merge of a symbol with its right neighbour */
    uint32_t key;          /* lower first, then lower left */
    uint32_t left, len;
    int32_t id;
} srn__cand;

typedef struct srn__pieces { /* cuts of a fragment: piece i ends at end[i] */
    uint32_t *end;
    size_t n, cap;
} srn__pieces;
bool srn__pieces_push(srn__pieces *p, size_t end);

typedef struct srn__scratch {
    const srn_vocab *v;
    srn_tokens *out;
    srn_err *err;
    srn__sym *syms;
    size_t n_syms, syms_cap;
    srn__cand *heap;
    size_t n_heap, heap_cap;
    srn_buf text; /* the fragment, escaped */
    srn_buf word; /* a piece in byte letters; a WordPiece word */
    srn__pieces pieces, pieces_next;
    uint32_t *split;  /* SPM: [n] length of the left part that an unused token was last merged from */
    void *match_data; /* pretok.c's */
    bool prev_unk;    /* SPM: the last token pushed was <unk> */
    uint64_t steps;   /* work done, in units that do not depend on the machine */
} srn__scratch;
bool srn__push(srn__scratch *s, int32_t id);
/* Appends a symbol; the caller links them by srn__merge_all. */
bool srn__sym_push(srn__scratch *s, size_t pos, size_t len, int32_t id);

/* Finds what left and right become together; false if nothing. */
typedef bool srn__pair_fn(srn__scratch *s, const char *text, const srn__sym *left, const srn__sym *right,
                          uint32_t *ret_key, int32_t *ret_id);
/* Merges s->syms[0..n_syms) until no pair is left, best pair first; O(n log n). */
int srn__merge_all(srn__scratch *s, const char *text, srn__pair_fn *pair);

/* Tokens of a fragment without special tokens. text is valid until the call returns. */
int srn__bpe_tokenize(srn__scratch *s, const char *text, size_t len);
int srn__spm_tokenize(srn__scratch *s, const char *text, size_t len);
int srn__wpm_tokenize(srn__scratch *s, const char *text, size_t len);

int srn__bpe_load(srn_vocab *v, const srn_weights *w, srn_err *err);
int srn__spm_load(srn_vocab *v, const srn_weights *w, srn_err *err);
int srn__wpm_load(srn_vocab *v, const srn_weights *w, srn_err *err);

/* srn_tokenize, and the steps it took (for tests of its cost). */
int srn__tokenize_counted(const srn_vocab *v, const srn_span *spans, size_t n_spans, unsigned flags,
                          srn_tokens *ret, uint64_t *ret_steps, srn_err *err);

/* ---- byte letters (GPT-2's): bytes as printable code points ---- */
uint32_t srn__byte_letter(uint8_t byte);
int srn__letter_byte(uint32_t cp); /* -1 if it is none */

/* ---- pre-tokenizers ---- */
enum { SRN__PRE_IGNORE_MERGES = 1, SRN__PRE_ADD_BOS = 2, SRN__PRE_RAW = 4 };
typedef enum srn__step_kind {
    SRN__STEP_END,
    SRN__STEP_REGEX,          /* cut out every match; what lies between is a piece too */
    SRN__STEP_DIGITS,         /* decimal digits in groups of three from the right, cut out */
    SRN__STEP_DIGITS_BOUNDED, /* as DIGITS, only where no word character follows the digits */
    SRN__STEP_DIGITS_CUT,     /* one cut before every group; what comes before and after stays joined */
    SRN__STEP_BYTE_DIGITS, /* runs of numeric byte letters, cut after every three ASCII digits; must be last:
                              it cuts within characters */
} srn__step_kind;
typedef struct srn__step {
    srn__step_kind kind;
    const char *regex;
} srn__step;
typedef struct srn__pretok_row {
    const char *name;
    const srn__step *steps; /* run one after the other on the pieces of the one before */
    unsigned flags;
} srn__pretok_row;
extern const srn__pretok_row srn__pretok_rows[];
extern const size_t srn__n_pretok_rows;

/* SRN_EUNSUP with the list of names when there is no such row. */
int srn__pretok_new(srn_str name, srn__pretok **ret, const srn__pretok_row **ret_row, srn_err *err);
void srn__pretok_free(srn__pretok *p);
/* Cuts text into s->pieces. */
int srn__pretok_split(const srn__pretok *p, srn__scratch *s, const char *text, size_t len);
void srn__pretok_scratch_done(srn__scratch *s);

#endif
