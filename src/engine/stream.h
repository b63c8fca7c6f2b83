/* From tokens to an answer's text: whole characters only, stop texts found across token borders, nothing
 * given out that may yet turn out to be the beginning of one. Pure; belongs to one sequence.
 */
#ifndef SRN_ENGINE_STREAM_H
#define SRN_ENGINE_STREAM_H

#include "base/base.h"
#include "token/token.h"

typedef struct srn_stream srn_stream;

/* The stops are copied; one that is empty or not UTF-8 is SRN_EINVAL. keep_stop: the stop text is given out
 * too. */
int srn_stream_new(const srn_vocab *v, bool show_special, const srn_str *stops, uint32_t n_stops,
                   bool keep_stop, srn_stream **ret, srn_err *err);
void srn_stream_free(srn_stream *s);
/* The answer goes on with a text rather than being a message: where the vocabulary puts a space before a
 * text's first word, the space of the answer's first token is its own. Before the first token. */
void srn_stream_continues(srn_stream *s);
/* Takes the next token. Returns the index of the stop text that is complete, else -1; the one that ends
 * first, and of several that end at the same byte the one that begins first. After a stop nothing more may be
 * added.
 */
int32_t srn_stream_add(srn_stream *s, int32_t token);
/* The answer ended otherwise: what was held back is certain now, but for the bytes of a character that was
 * not complete, which are dropped. */
void srn_stream_end(srn_stream *s);
/* Memory ran out: what came since is lost. Stays true. */
bool srn_stream_failed(const srn_stream *s);
/* The text that is certain. Grows only; valid until the next call. */
srn_str srn_stream_text(const srn_stream *s);
/* How many tokens are certain, that is whose text all is; and where the text of token i of these ends. A
 * character belongs to the token that completes it, and a token that brings a part of it is certain with
 * that. The token that brings a stop text is certain once it was found, with as much of its text as is given
 * out. */
uint32_t srn_stream_n_tokens(const srn_stream *s);
uint64_t srn_stream_text_end(const srn_stream *s, uint32_t i);

#endif
