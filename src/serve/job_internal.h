/* Jobs, inside: what job_prompt.c does for job.c. */
#ifndef SRN_SERVE_JOB_INTERNAL_H
#define SRN_SERVE_JOB_INTERNAL_H

#include "serve/job.h"

/* The prompt as text (may be NULL) and tokens (may be NULL); *ret_in_reasoning (may be NULL): it ends inside
 * the reasoning mark. On failure *ret_param may be set. */
int srn__job_build_prompt(const srn__job_spec *spec, srn_buf *text, srn_tokens *ids, bool *ret_in_reasoning,
                          const char **ret_param, srn_err *err);
/* The constraint of the answer, or NULL where anything goes. Sets reply->guarded. */
int srn__job_constraint(const srn__job_spec *spec, srn_reply_opts *reply, srn_constraint **ret,
                        const char **ret_param, srn_err *err);

#endif
