/* cli, between `tokenize` and `detokenize`: opening a vocabulary. Main thread. */
#ifndef SRN_CLI_TOKENS_H
#define SRN_CLI_TOKENS_H

#include "cli/cli.h"
#include "token/token.h"

/* Opens MODEL, with or without tensors, and its vocabulary; the caller frees both, on failure neither. */
int srn__cli_open_vocab(const char *model, srn_weights **ret_w, srn_vocab **ret_v, srn_err *err);

#endif
