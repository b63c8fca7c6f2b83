/* Jobs, inside: what job_prompt.c and job_record.c do for job.c. */
#ifndef SRN_SERVE_JOB_INTERNAL_H
#define SRN_SERVE_JOB_INTERNAL_H

#include "serve/job.h"

enum { SRN__MAX_ANSWER = 256 << 20 }; /* bytes of text */

typedef struct srn__job_choice {
    srn_request *request;
    srn_reply_parser *parser; /* NULL: everything is content */
    uint64_t text_from;       /* bytes of the answer that were read */
    srn_out_token *tokens;
    srn_top_token *tops; /* [cap, n_top] */
    uint32_t n_tokens, cap;
    uint32_t told; /* tokens that events have accounted for */
    uint32_t n_calls;
    const char *call_id; /* of the call that is being written */
    bool whole_call;     /* the last call is complete */
    bool ended;
    srn__job_finish finish; /* once it ended, unless the job failed */
    srn_request_status status;
} srn__job_choice;

typedef struct srn__job_queued {
    srn__job_event event;
    size_t from, len; /* of its text, in the job's text */
} srn__job_queued;

struct srn__job {
    srn__call *call;
    srn__live live; /* once it is submitted */
    srn__served *model;
    srn_tokens prompt;
    srn__job_choice *choices;
    srn_request **requests; /* [n], all of them before anybody else sees the job */
    uint32_t n, n_top;
    bool failed, logprobs;
    bool given_up; /* another model answers */
    srn_err err;
    srn__job_queued *queue;
    size_t n_queue, cap_queue, taken;
    /* Where the call leaves a record: the ends of choices wait for it. */
    srn__job_event *held; /* [n] */
    uint32_t n_held;
    bool records, recorded; /* this job is a part of one; it has told what became of it */
    uint32_t part;          /* which */
    srn_buf text;
    srn_arena ids;
    srn__job_choice *reading; /* whose parser is running */
    bool no_memory;
};

/* ---- job.c ---- */

/* Room for 64 more tokens. */
bool srn__job_room(srn__job *j, srn__job_choice *c);
uint32_t srn__job_reasoning_tokens(const srn__job_choice *c);
const char *srn__job_end_of(const srn__job *j, const srn__job_choice *c);
/* The name of its error, for log and record, or NULL: none, or a copy was cancelled, for which nobody waits.
 */
const char *srn__job_error_of(const srn__job *j);

/* ---- job_record.c ---- */

/* Tells the call's record what became of the job, once. whole: every choice has come to its end. */
void srn__job_record(srn__job *j, bool whole);

/* ---- job_prompt.c ---- */

/* The prompt as text (may be NULL) and tokens (may be NULL); *ret_in_reasoning (may be NULL): it ends inside
 * the reasoning mark. On failure *ret_param may be set. */
int srn__job_build_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, bool *ret_in_reasoning,
                          const char **ret_param, srn_err *err);
/* The constraint of the answer, or NULL where anything goes. Sets reply->guarded. */
int srn__job_constraint(const srn__job_spec *spec, srn_reply_opts *reply, srn_constraint **ret,
                        const char **ret_param, srn_err *err);
/* Everything that decides the tokens of a choice, and nothing else: the same for the call and for its replay.
 * Of choice i the seed is i more. Points into spec and prompt. */
srn_request_opts srn__job_request_opts(const srn__job_spec *spec, const srn_tokens *prompt,
                                       const srn_reply_opts *reply, srn_constraint *constraint);

#endif
