/* The OpenAI Responses API: a request as the body of a chat completion, which openai_internal.h parses.
 * Shared by responses.c (handler, events) and responses_request.c (translation, pure).
 */
#ifndef SRN_SERVE_RESPONSES_H
#define SRN_SERVE_RESPONSES_H

#include "serve/fields.h"
#include "serve/openai_internal.h"

/* Translates a body of /v1/responses into one of /v1/chat/completions (a new reference): items of the input
 * become messages, flat tools nested ones, text.format the response_format. with_prompt: a registered prompt
 * has messages already, and the input may be absent. Errors: SRN_EINVAL, SRN_EUNSUP, SRN_ELIMIT, SRN_ENOMEM,
 * with f->param set. Pure. */
int srn__responses_to_chat(const json_t *body, bool with_prompt, const srn_config_limits *limits,
                           srn__fields *f, json_t **ret);

/* The body with what a registered prompt (NULL: none) gives where it has nothing; a new reference, NULL: no
 * memory.
 */
json_t *srn__responses_effective(const srn_prompt *p, json_t *body);

/* Calls the fields that an error names by what they are called in this API. */
void srn__responses_rename(srn_err *err);

#endif
