/* The OpenAI API: the handlers of /v1/chat/completions and /v1/completions. Worker threads.
 */
#include "serve/openai.h"
#include "serve/openai_internal.h"

/* The field `prompt` of a completion is its text; only chats may name a registered prompt. */
static int parse(srn__call *c, json_t *body, bool chat, srn__openai_request *r, srn__fields *f,
                 const char **ret_param) {
    const srn_config_limits *limits = &srn__call_config(c)->limits;
    srn__prompt_use use = {0};
    int code = chat ? srn__prompt_take(c, body, &use, f) : SRN_OK;
    *ret_param = code && f->param[0] ? f->param : NULL;
    if (code) return code;
    return chat ? srn__openai_parse_prompt(body, &use, limits, r, ret_param, f->err)
                : srn__openai_parse(body, false, limits, r, ret_param, f->err);
}

static void answer(srn__call *c, bool chat, const char *endpoint) {
    srn__openai_request r = {0};
    srn__served *v = NULL;
    const srn_config_route *route = NULL;
    const char *param = NULL;
    srn_err err = {0};
    srn__fields f = {.err = &err};
    json_t *body = srn__call_json(c);
    if (!body) return;
    int code = parse(c, body, chat, &r, &f, &param);
    if (code) {
        srn__call_fail_err(c, param, &err);
    } else if (srn__job_model(c, endpoint, r.model, &v, &route)) {
        code = srn__openai_bind(&r, v, &param, &err);
        if (code) {
            srn__call_fail_err(c, param, &err);
            srn__served_put(v);
        } else {
            srn__openai_answer(c, &r, route);
        }
    }
    srn__openai_request_done(&r);
}

void srn__openai_chat(srn__call *c) {
    answer(c, true, "/v1/chat/completions");
}

void srn__openai_completions(srn__call *c) {
    answer(c, false, "/v1/completions");
}
