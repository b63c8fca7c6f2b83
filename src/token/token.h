/* token: text to token ids and back. The vocabulary comes from a model's metadata; nothing here does I/O.
 * A srn_vocab is immutable after srn_vocab_new and may be used by any number of threads (each call takes its
 * scratch memory from the heap); a srn_detok belongs to one stream.
 */
#ifndef SRN_TOKEN_TOKEN_H
#define SRN_TOKEN_TOKEN_H

#include "base/base.h"
#include "format/format.h"

typedef struct srn_vocab srn_vocab;

typedef enum srn_vocab_kind { SRN_VOCAB_BPE, SRN_VOCAB_SPM, SRN_VOCAB_WPM } srn_vocab_kind;

/* Attributes of a token (GGUF's token_type). */
typedef enum srn_token_attr {
    SRN_TOKEN_NORMAL = 1,
    SRN_TOKEN_UNKNOWN = 2,
    SRN_TOKEN_CONTROL = 3,
    SRN_TOKEN_USER_DEFINED = 4,
    SRN_TOKEN_UNUSED = 5,
    SRN_TOKEN_BYTE = 6
} srn_token_attr;

/* Builds the vocabulary from tokenizer.ggml.* of w (which must outlive it). An unknown tokenizer model or
 * pre-tokenizer is refused by name (SRN_EUNSUP). */
int srn_vocab_new(const srn_weights *w, srn_vocab **ret, srn_err *err);
void srn_vocab_free(srn_vocab *v);

srn_vocab_kind srn_vocab_kind_of(const srn_vocab *v);
int32_t srn_vocab_size(const srn_vocab *v);
int32_t srn_vocab_bos(const srn_vocab *v); /* -1 where the file names none */
int32_t srn_vocab_eos(const srn_vocab *v);
int32_t srn_vocab_unk(const srn_vocab *v);
int32_t srn_vocab_pad(const srn_vocab *v);
bool srn_vocab_add_bos(const srn_vocab *v);
bool srn_vocab_add_eos(const srn_vocab *v);
/* True for every token that ends an answer: eos, eot, eom and what the families name so
 * (<|im_end|>, <|eot_id|>, <end_of_turn>, <|end|>, <|endoftext|>, ...). */
bool srn_vocab_is_eog(const srn_vocab *v, int32_t id);
srn_token_attr srn_vocab_attr(const srn_vocab *v, int32_t id);
/* The token's text as the vocabulary stores it (for display of special tokens and errors). */
srn_str srn_vocab_text(const srn_vocab *v, int32_t id);
/* Id of the token with exactly this stored text, or -1. */
int32_t srn_vocab_find(const srn_vocab *v, srn_str text);

/* A piece of text with its origin. Trusted text is the template's own: special tokens in it are parsed;
 * untrusted text came from a user and never yields a control token, whatever it says. */
typedef struct srn_span {
    srn_str text;
    bool trusted;
} srn_span;

enum {
    SRN_TOK_NO_BOS = 1, /* do not add BOS/EOS even where the file asks for it */
    SRN_TOK_FORCE_BOS = 2
};

typedef struct srn_tokens {
    int32_t *ids; /* malloc'd */
    size_t n, cap;
} srn_tokens;
void srn_tokens_done(srn_tokens *t);
bool srn_tokens_push(srn_tokens *t, int32_t id);

/* Appends the tokens of the spans, taken as one text, to *ret. Adjacent untrusted spans and non-special
 * trusted text are pre-tokenized together, so that the split into spans does not change ordinary tokens.
 * Where the template has itself written BOS at the start, no second one is added. Malformed UTF-8 is
 * tokenized byte by byte (or replaced by U+FFFD where the vocabulary has no bytes), never refused. Time is
 * near-linear. */
int srn_tokenize(const srn_vocab *v, const srn_span *spans, size_t n_spans, unsigned flags, srn_tokens *ret,
                 srn_err *err);

/* The bytes of one token (special ones as their text when special is true, else nothing); returns the length
 * appended to out. Not necessarily whole characters. */
size_t srn_token_bytes(const srn_vocab *v, int32_t id, bool special, srn_buf *out);

/* ---- streaming: never emits half a character ---- */
typedef struct srn_detok {
    const srn_vocab *vocab;
    bool special; /* show control tokens as their text */
    bool started; /* whether the text's first token was seen (a leading space is dropped where the file adds
                     one) */
    uint8_t pending[4]; /* start of a character not complete yet */
    size_t n_pending;
} srn_detok;
void srn_detok_init(srn_detok *d, const srn_vocab *v, bool special);
/* Appends what became complete; bytes that can no longer become a character come out as U+FFFD. */
void srn_detok_add(srn_detok *d, int32_t id, srn_buf *out);
void srn_detok_end(srn_detok *d, srn_buf *out); /* flushes what is pending as U+FFFD */

#endif
