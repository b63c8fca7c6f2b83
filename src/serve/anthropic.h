/* The Anthropic Messages API: a request as a job's spec. Shared by anthropic.c (handlers, events) and
 * anthropic_request.c (parsing, pure).
 */
#ifndef SRN_SERVE_ANTHROPIC_H
#define SRN_SERVE_ANTHROPIC_H

#include "serve/fields.h"
#include "serve/job.h"
#include "serve/prompt.h"

/* A parsed request. spec points into it and into the body. */
typedef struct srn__anthropic {
    srn__job_spec spec;
    const char *model; /* as asked */
    bool stream;
    json_t *messages, *tools, *vars; /* in the form of chat completions; owned */
    srn_str *stops;                  /* owned */
    const json_t *stop_texts;        /* the same as they were given, or NULL */
    srn__prompt_use use;             /* of a registered prompt */
    srn__fields fields;              /* on failure: the one that is wrong */
} srn__anthropic;

/* Translates a body. to_count: of /v1/messages/count_tokens, which needs no max_tokens. Errors: SRN_EINVAL,
 * SRN_EUNSUP, SRN_ELIMIT, SRN_ENOMEM with fields.param set. Call srn__anthropic_done in any case. */
int srn__anthropic_parse(const json_t *body, const srn_config_limits *limits, bool to_count,
                         srn__anthropic *ret, srn_err *err);
/* The same with a registered prompt, whose messages come first; without one (empty) it is
 * srn__anthropic_parse. Takes what use holds in any case. */
int srn__anthropic_parse_prompt(const json_t *body, srn__prompt_use *use, const srn_config_limits *limits,
                                bool to_count, srn__anthropic *ret, srn_err *err);
void srn__anthropic_done(srn__anthropic *a);

#endif
