/* The handlers that routes.c names, each in the file of its API. */
#ifndef SRN_SERVE_ROUTES_H
#define SRN_SERVE_ROUTES_H

#include "serve/fields.h"
#include "serve/serve_internal.h"

/* health.c */
void srn__handle_live(srn__call *c);
void srn__handle_ready(srn__call *c);
void srn__handle_metrics(srn__call *c);
/* responses.c */
void srn__handle_responses(srn__call *c);
/* anthropic.c */
void srn__handle_messages(srn__call *c);
void srn__handle_count_tokens(srn__call *c);
/* prompts_api.c */
void srn__handle_prompts_list(srn__call *c);
void srn__handle_prompts_get(srn__call *c);
void srn__handle_prompts_push(srn__call *c);
void srn__handle_prompts_label(srn__call *c);
/* ledger_api.c */
void srn__handle_calls(srn__call *c);
void srn__handle_calls_stats(srn__call *c);
void srn__handle_calls_export(srn__call *c);
/* replay_api.c */
void srn__handle_replay(srn__call *c);
/* regress_api.c */
void srn__handle_regress(srn__call *c);
void srn__handle_regressions(srn__call *c);
void srn__handle_regression(srn__call *c);
void srn__handle_regression_end(srn__call *c);
/* operate.c */
void srn__handle_ps(srn__call *c);
void srn__handle_cancel(srn__call *c);
void srn__handle_drain(srn__call *c);
/* calls.c */
void srn__handle_call(srn__call *c);
void srn__handle_feedback(srn__call *c);
void srn__handle_forget(srn__call *c);
/* rollout_api.c */
void srn__handle_rollouts_list(srn__call *c);
void srn__handle_rollout_get(srn__call *c);
void srn__handle_rollout_begin(srn__call *c);
void srn__handle_rollout_act(srn__call *c);
void srn__handle_freeze(srn__call *c);
/* reload.c */
void srn__handle_reload(srn__call *c);
/* admin.c */
/* Who asks for a change, as the body's `by` and the key say. */
int srn__call_by(srn__call *c, const json_t *body, char ret[128], srn__fields *f);
void srn__handle_load(srn__call *c);
void srn__handle_unload(srn__call *c);

#endif
