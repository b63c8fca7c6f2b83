/* Registered prompts in requests: which version a request names, by its field `prompt` or by a header, and
 * what the version gives to it. Shared by the three chat APIs; worker threads. All but srn__prompt_take is
 * pure.
 */
#ifndef SRN_SERVE_PROMPT_H
#define SRN_SERVE_PROMPT_H

#include "serve/fields.h"
#include "serve/job.h"

/* What was named. */
typedef struct srn__prompt_asked {
    bool given;
    bool by_header;
    srn_prompt_ref ref;
    const json_t *variables; /* in the body, or NULL */
} srn__prompt_asked;
/* field: {"id", "version" or "label", "variables"}, or NULL; id may be NAME@VERSION or NAME@LABEL, and is
 * left out where the header (or NULL) says it. SRN_EINVAL names the member. */
int srn__prompt_field(const json_t *field, const char *header, srn__prompt_asked *ret, srn__fields *f);

/* A version that a request uses. */
typedef struct srn__prompt_use {
    const srn_prompt *prompt; /* with a hold; NULL: none was named */
    json_t *messages;         /* its messages with the values in place */
} srn__prompt_use;
/* Finds and fills what the request names, and notes it in the call's facts; nothing is named: *ret is empty.
 * SRN_EINVAL: unknown name, version or label, or values that do not fit; SRN_EUNSUP: no registry. */
int srn__prompt_take(srn__call *c, const json_t *body, srn__prompt_use *ret, srn__fields *f);
void srn__prompt_use_done(srn__prompt_use *u);

/* The body of a chat completion with the version's tools, response_format and sampling parameters where it
 * has none of its own, and without `prompt`; a new reference, NULL: no memory. */
json_t *srn__prompt_defaults(const srn_prompt *p, const json_t *body);
/* The version's sampling parameters but its stops, laid over the spec. */
void srn__prompt_sampling(const srn_prompt *p, srn__job_spec *spec);
/* The version's messages, then those of the request (NULL: none); a new reference, NULL: no memory. */
json_t *srn__prompt_messages(const srn__prompt_use *u, const json_t *own);
/* Whether the model may run the version: SRN_EINVAL names those that may. */
int srn__prompt_check_model(const srn_prompt *p, const srn_config_model *model, const char *weights_id,
                            srn_err *err);

#endif
