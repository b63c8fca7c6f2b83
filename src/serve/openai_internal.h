/* The OpenAI API, inside: bodies become checked requests (openai_fields.c, openai_request.c), jobs' events
 * become answers (openai_write.c, openai_answer.c); the handlers stand in openai_*.c. What parses and what
 * writes is pure, so that tests and fuzzers need no server.
 */
#ifndef SRN_SERVE_OPENAI_INTERNAL_H
#define SRN_SERVE_OPENAI_INTERNAL_H

#include "serve/fields.h"
#include "serve/job.h"
#include "serve/prompt.h"

/* ---- requests ---- */

typedef struct srn__openai_prompt {
    srn_str text;
    const int32_t *tokens; /* NULL: a text */
    uint32_t n_tokens;
} srn__openai_prompt;

/* A chat or completion as it was asked for. spec.model is NULL until srn__openai_bind. Strings point into the
 * body, which outlives it. */
typedef struct srn__openai_request {
    srn_arena arena;
    json_t *owned;       /* array of what was built beside the body */
    srn__prompt_use use; /* of a registered prompt */
    srn__job_spec spec;
    const char *model; /* NULL: the default one */
    bool chat, stream, include_usage, echo, no_output, token_ids;
    bool logprobs, prompt_logprobs; /* of answer and prompt, wanted by the client */
    uint32_t n_top, n_prompt_top;
    srn__openai_prompt *prompts; /* completions: [n_prompts] */
    uint32_t n_prompts;
    const json_t *dry_breakers; /* texts, or NULL: the usual ones */
    /* Fields whose meaning is settled once all were read. */
    bool cache_prompt, skip_special, generation_prompt, include_reasoning;
    int32_t max_tokens, max_completion_tokens, n_predict; /* INT32_MIN: not given */
    float repetition_penalty;                             /* below 0: not given */
    uint32_t best_of;
} srn__openai_request;

/* Body to request. On failure *ret_param names the field (in the request's arena or constant), and ret must
 * be done all the same. SRN_EINVAL: wrong type or value; SRN_EUNSUP: not supported; SRN_ELIMIT: too many or
 * too large. */
int srn__openai_parse(json_t *body, bool chat, const srn_config_limits *limits, srn__openai_request *ret,
                      const char **ret_param, srn_err *err);
/* The same of a chat with a registered prompt, whose messages come first; without one (empty) it is
 * srn__openai_parse. Takes what use holds in any case. */
int srn__openai_parse_prompt(json_t *body, srn__prompt_use *use, const srn_config_limits *limits,
                             srn__openai_request *ret, const char **ret_param, srn_err *err);
void srn__openai_request_done(srn__openai_request *r);
/* What depends on the model: token ids in range, DRY's breakers. The hold on v stays the caller's. */
int srn__openai_bind(srn__openai_request *r, srn__served *v, const char **ret_param, srn_err *err);

/* ---- fields (openai_fields.c) ---- */

/* Fields that would change what an answer means if they were ignored: refused by name, unless they have the
 * value that changes nothing. */
int srn__fields_refused(const json_t *body, bool chat, const char **ret_param, srn_err *err);
/* Tools, tool_choice, parallel_tool_calls; response_format and the other constraints. */
int srn__openai_parse_tools(const json_t *body, const srn_config_limits *limits, srn__openai_request *r,
                            const char **ret_param, srn_err *err);
/* An array of tools in the form of chat completions: their number, names, schemas and bytes. */
int srn__openai_check_tools(const json_t *tools, const srn_config_limits *limits, const char **ret_param,
                            srn_err *err);
/* SRN_ELIMIT where a schema, written out, is larger than limits allow. */
int srn__fits_schema_bytes(const json_t *value, const srn_config_limits *limits, const char *param,
                           srn_err *err);
int srn__openai_parse_constraint(const json_t *body, const srn_config_limits *limits, srn__openai_request *r,
                                 const char **ret_param, srn_err *err);
/* Keeps a new JSON value with the request; NULL: no memory. */
json_t *srn__openai_keep(srn__openai_request *r, json_t *value);

/* ---- writing (openai_write.c) ---- */

void srn__put_string(srn_buf *b, srn_str s); /* a JSON string; what is not UTF-8 becomes U+FFFD */
json_t *srn__text_json(srn_str s);           /* the same as a value */
void srn__put_logprob(srn_buf *b, float p);  /* minus infinity: -9999 */
/* A token's text as JSON string, and its bytes. */
void srn__put_token(srn_buf *b, const srn_vocab *v, int32_t id);
/* {"content": [...]} of chat: tokens [n] with tops [n, stride], of which n_top are shown. */
void srn__put_chat_logprobs(srn_buf *b, const srn_vocab *v, const srn_out_token *tokens,
                            const srn_top_token *tops, uint32_t n, uint32_t stride, uint32_t n_top);
/* Logprobs of completions are gathered in four lists. */
typedef struct srn__lists {
    srn_buf tokens, logprobs, tops, offsets;
    uint64_t chars; /* characters of the text so far */
    uint32_t n;
} srn__lists;
void srn__lists_init(srn__lists *l);
void srn__lists_done(srn__lists *l);
/* logprob NULL: there is none (the first token of a prompt). */
void srn__lists_add(srn__lists *l, const srn_vocab *v, int32_t id, const float *logprob,
                    const srn_top_token *tops, uint32_t n_top);
void srn__lists_put(srn_buf *b, srn__lists *l); /* writes and empties them */
void srn__put_prompt_logprobs(srn_buf *b, const srn_vocab *v, const int32_t *ids, const float *logprobs,
                              const srn_top_token *tops, uint32_t n, uint32_t stride, uint32_t n_top);
void srn__put_usage(srn_buf *b, const srn__job_usage *u);

/* ---- embeddings (openai_embeddings.c) ---- */

/* A request's inputs as token ids, [*ret_n], for srn__embedding_inputs_done. */
int srn__embedding_inputs(const json_t *body, const srn_vocab *v, srn_tokens **ret, uint32_t *ret_n,
                          const char **ret_param, srn_err *err);
void srn__embedding_inputs_done(srn_tokens *inputs, uint32_t n);
/* What a client gets for a pooled state v: ret [n] of length 1 (a vector of zeros stays one), and the SHA-256
 * of its bytes, 32-bit floats in little-endian order. */
int srn__embedding_of(const float *v, uint32_t n, float *ret, char ret_digest[65], srn_err *err);

/* ---- answers (openai_answer.c) ---- */

/* Replies with the answer to r: starts its jobs. Takes what r holds, and the hold on its model. */
void srn__openai_answer(srn__call *c, srn__openai_request *r, const srn_config_route *route);
/* "serin-0.1.0/...+0123456789abcdef" */
void srn__openai_fingerprint(const srn__served *v, char *ret, size_t cap);

#endif
