/* The OpenAI API: the handlers of /v1/chat/completions and /v1/completions. Worker threads.
 */
#include "serve/openai.h"
#include "serve/openai_internal.h"

static void answer(srn__call *c, bool chat, const char *endpoint) {
    srn__openai_request r;
    srn__served *v = NULL;
    const srn_config_route *route = NULL;
    const char *param = NULL;
    srn_err err = {0};
    json_t *body = srn__call_json(c);
    if (!body) return;
    int code = srn__openai_parse(body, chat, &srn__call_config(c)->limits, &r, &param, &err);
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
