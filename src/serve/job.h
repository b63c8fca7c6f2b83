/* A job: one chat or completion being answered, whichever API asked for it. The APIs translate their request
 * into a srn__job_spec and the job's events into their own words. Owned by the reply's source; start on a
 * worker thread, next on the listener thread.
 */
#ifndef SRN_SERVE_JOB_H
#define SRN_SERVE_JOB_H

#include "ledger/ledger.h"
#include "serve/serve_internal.h"

typedef struct srn__job srn__job;

typedef struct srn__job_spec {
    srn__served *model; /* the job takes its own hold */
    /* The registered prompt whose messages come first, or NULL; valid until the job was started. What is
     * needed of it later stands in the call's facts. */
    const srn_prompt *prompt;
    /* One of: chat messages (chat-completions form, checked), a text, or token ids. */
    const json_t *messages;
    const json_t *tools; /* shown to the model beside reply.tools, which may be called; NULL: those */
    srn_str text;
    bool parse_special; /* special tokens' text in it becomes these tokens */
    const int32_t *tokens;
    uint32_t n_tokens;
    const json_t *template_vars; /* chat_template_kwargs, or NULL */
    bool continue_last;          /* the last message is an assistant's to be continued */
    bool no_generation_prompt;   /* nothing after the messages */
    /* What the answer may be. */
    srn_reply_opts reply;         /* tools and how they may be called */
    const json_t *schema;         /* the content's JSON schema, or NULL */
    bool json_object;             /* any JSON object */
    srn_str regex, gbnf;          /* or one of these; ptr NULL: none */
    const char *constraint_param; /* the request's field that these came from, for errors */
    /* How it is drawn. */
    srn_sampling sampling;
    uint32_t n; /* choices; seeds seed, seed+1, ... */
    uint32_t max_tokens, min_tokens;
    bool ignore_eog, show_special, keep_stop;
    const srn_str *stops;
    uint32_t n_stops;
    const int32_t *stop_tokens;
    uint32_t n_stop_tokens;
    bool logprobs, prompt_logprobs;
    uint32_t n_top;
    bool no_cache;
    uint64_t cache_salt;
    int32_t priority;
    uint32_t timeout_ms;
} srn__job_spec;

/* The model that a request for `asked` gets by the routes, with a hold; ret_route may be NULL. false: an
 * error was replied, or the handler runs again once the model can be had; it returns in either case. */
bool srn__job_model(srn__call *c, const char *endpoint, const char *asked, srn__served **ret,
                    const srn_config_route **ret_route);
/* What a route (or NULL) says of tokens, time and priority, laid over the spec. SRN_EINVAL with *ret_param: a
 * priority below 0, which goes before everybody, is for admin keys where there are keys. */
int srn__job_apply_route(const srn__call *c, srn__job_spec *spec, const srn_config_route *route,
                         const char **ret_param, srn_err *err);
/* The part of that which looks at the call alone: priority and registered are the request's. */
int srn__job_check_route(const srn__call *c, int32_t priority, bool registered, const srn_config_route *route,
                         const char **ret_param, srn_err *err);
/* x-serin-arm, of a call that a roll-out has. */
void srn__job_arm_header(srn__call *c);
/* The headers that every answer carries: x-serin-model, x-serin-engine, x-serin-prompt, x-serin-seed. */
int srn__job_headers(srn__call *c, const srn__job_spec *spec, srn_err *err);
/* Keyed hash of the prompt's fixed part: template, system messages, tools, schema. */
int srn__job_prompt_hash(const srn_ledger_keys *keys, const srn__job_spec *spec,
                         char ret[SRN_KEYED_HASH_CHARS + 1], srn_err *err);

/* Renders, tokenizes, compiles the constraint, submits. On failure *ret_param names the request's field that
 * is to blame, or is NULL. */
int srn__job_start(srn__call *c, const srn__job_spec *spec, srn__job **ret, const char **ret_param,
                   srn_err *err);
/* Only the prompt: what /apply-template and count_tokens need. ids may be NULL. */
int srn__job_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, srn_err *err);

typedef enum srn__job_event_kind {
    SRN__JOB_TEXT, /* content of a choice */
    SRN__JOB_REASONING,
    SRN__JOB_CALL,      /* a tool call begins: call_index, call_id, text = name */
    SRN__JOB_ARGUMENTS, /* a piece of its arguments */
    SRN__JOB_CALL_END,
    SRN__JOB_FINISH, /* a choice ended: finish */
    SRN__JOB_FAIL    /* the whole job failed: err */
} srn__job_event_kind;
typedef enum srn__job_finish { SRN__FINISH_STOP, SRN__FINISH_LENGTH, SRN__FINISH_TOOL_CALLS } srn__job_finish;
typedef struct srn__job_event {
    srn__job_event_kind kind;
    uint32_t choice;
    srn_str text; /* valid until the next call */
    uint32_t call_index;
    const char *call_id; /* "call_..." */
    /* The tokens whose text this event completes (logprobs): [first_token, first_token + n_tokens) of the
     * choice. */
    uint32_t first_token, n_tokens;
    srn__job_finish finish;
    int32_t stop; /* index of the stop text that ended it, or -1 */
    const srn_err *err;
    bool unclean; /* a stream ends behind it as if it were cut off: the answer was complete, its record is not
                   */
} srn__job_event;
/* The next event; false: nothing now (the call will be woken), or all is done. */
bool srn__job_next(srn__job *j, srn__job_event *ret);
bool srn__job_done(const srn__job *j); /* every choice ended and every event was taken */
void srn__job_cancel(srn__job *j);     /* any thread */
void srn__job_free(srn__job *j);       /* adds what became of it to the facts of its call */

typedef struct srn__job_usage {
    uint32_t prompt_tokens, cached_tokens, output_tokens, reasoning_tokens;
} srn__job_usage;
srn__job_usage srn__job_get_usage(const srn__job *j);
uint32_t srn__job_n_choices(const srn__job *j);
/* Tokens of a choice with their log-probabilities; tops [n_top] each. */
const srn_out_token *srn__job_tokens(const srn__job *j, uint32_t choice, uint32_t *ret_n,
                                     const srn_top_token **ret_tops);
/* The prompt's ids, and their log-probabilities where asked for. */
const int32_t *srn__job_prompt_ids(const srn__job *j, uint32_t *ret_n, const float **ret_logprobs,
                                   const srn_top_token **ret_tops);

#endif
