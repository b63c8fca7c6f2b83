/* WordPiece. */
#include "token/token_internal.h"
int srn__wpm_load(srn_vocab *v, const srn_weights *w, srn_err *err) {
    (void)v, (void)w;
    return srn_fail(err, SRN_EUNSUP, "tokenizer.ggml.model: WordPiece is not supported");
}
int srn__wpm_tokenize(srn__scratch *s, const char *text, size_t len) {
    (void)text, (void)len;
    return srn_fail(s->err, SRN_EUNSUP, "WordPiece is not supported");
}
