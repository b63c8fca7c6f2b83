/* serve: the table of routes. A row is a method, a path, the handler and what it needs; handlers are in the
 * file of their API. Read by the listener for each request, and by metrics for their labels.
 */
#include "serve/openai.h"
#include "serve/routes.h"

#define ANSWERS (SRN__ROUTE_MODEL | SRN__ROUTE_RECORD | SRN__ROUTE_ANSWERS)

const srn__route srn__routes[] = {
    {"GET", "/health", srn__handle_live, SRN__ROUTE_OPEN | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"GET", "/health/live", srn__handle_live, SRN__ROUTE_OPEN | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"GET", "/health/ready", srn__handle_ready, SRN__ROUTE_OPEN | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"GET", "/v1/health", srn__handle_live, SRN__ROUTE_OPEN | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"GET", "/metrics", srn__handle_metrics, SRN__ROUTE_METRICS | SRN__ROUTE_INLINE, SRN__OPENAI},
    {"POST", "/v1/models/load", srn__handle_load, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/models/unload", srn__handle_unload, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/chat/completions", srn__openai_chat, ANSWERS, SRN__OPENAI},
    {"POST", "/v1/completions", srn__openai_completions, ANSWERS, SRN__OPENAI},
    {"POST", "/v1/embeddings", srn__openai_embeddings, SRN__ROUTE_MODEL | SRN__ROUTE_RECORD, SRN__OPENAI},
    {"GET", "/v1/prompts", srn__handle_prompts_list, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/prompts", srn__handle_prompts_push, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/prompts/{id}", srn__handle_prompts_get, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/prompts/{id}", srn__handle_prompts_label, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/rollouts", srn__handle_rollouts_list, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/rollouts", srn__handle_rollout_begin, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/rollouts/{id}", srn__handle_rollout_get, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/rollouts/{id}", srn__handle_rollout_act, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/freeze", srn__handle_freeze, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/models", srn__openai_models, 0, SRN__OPENAI},
    {"GET", "/v1/models/{id}", srn__openai_model_info, 0, SRN__OPENAI},
    {"POST", "/tokenize", srn__tokenize, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"POST", "/detokenize", srn__detokenize, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"POST", "/apply-template", srn__apply_template, SRN__ROUTE_MODEL, SRN__OPENAI},
    {"POST", "/v1/responses", srn__handle_responses, ANSWERS, SRN__OPENAI},
    {"POST", "/v1/messages", srn__handle_messages, ANSWERS, SRN__ANTHROPIC},
    {"POST", "/v1/messages/count_tokens", srn__handle_count_tokens, SRN__ROUTE_MODEL, SRN__ANTHROPIC},
    {"GET", "/v1/calls", srn__handle_calls, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/calls/stats", srn__handle_calls_stats, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/calls/export", srn__handle_calls_export, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/calls/{id}", srn__handle_call, 0, SRN__OPENAI},
    {"POST", "/v1/calls/{id}/cancel", srn__handle_cancel, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/calls/{id}/replay", srn__handle_replay, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/regress", srn__handle_regress, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/regress", srn__handle_regressions, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/regress/{id}", srn__handle_regression, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"DELETE", "/v1/regress/{id}", srn__handle_regression_end, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"GET", "/v1/ps", srn__handle_ps, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/reload", srn__handle_reload, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/drain", srn__handle_drain, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/ledger/forget", srn__handle_forget, SRN__ROUTE_ADMIN, SRN__OPENAI},
    {"POST", "/v1/feedback", srn__handle_feedback, 0, SRN__OPENAI},
};
const size_t srn__n_routes = SRN_LEN(srn__routes);
