/* serve: what watches the server asks: does the process serve, can it answer, and its figures. Alive means
 * that the listener runs, which is shown by its answering at all; ready means that models are loaded, nobody
 * stops the server, the engine's thread shows signs of life, and the ledger takes calls. All of it runs on
 * the listener's thread, so that busy workers never make the server look dead nor hide its figures.
 */
#include "serve/fallback.h"
#include "serve/http_internal.h"
#include "serve/metrics.h"
#include "serve/otel.h"
#include "serve/rollout.h"
#include "serve/routes.h"
#include "serve/upstream.h"

void srn__handle_live(srn__call *c) {
    srn__call_reply_json(c, 200, json_pack("{s:s}", "status", "ok"));
}

void srn__handle_ready(srn__call *c) {
    const char *why = srn__http_unready(c->http);
    /* Once it is past loading, the scheduler is there. */
    if (!why && srn_scheduler_silence_us(srn__call_scheduler(c)) > SRN__STUCK_US) why = "engine stuck";
    srn__recorder *r = srn__call_recorder(c);
    srn_err ledger = {0};
    bool required = strcmp(c->settings->config->ledger.mode, "required") == 0;
    if (!why && r && !srn__recorder_ready(r, required, &ledger)) why = "ledger unavailable";
    if (!why) {
        srn__call_reply_json(c, 200, json_pack("{s:s}", "status", "ready"));
        return;
    }
    srn__call_reply_json(c, 503, json_pack("{s:s, s:s}", "status", "unready", "reason", why));
}

void srn__handle_metrics(srn__call *c) {
    srn_buf text;
    srn_buf_init(&text, 16u << 20);
    srn__metrics_text(srn__call_metrics(c), srn__call_models(c), srn__call_scheduler(c),
                      srn__http_connections(c->http), &text);
    srn__metrics_judge(srn__call_scheduler(c), &text);
    srn__metrics_ledger(srn__call_recorder(c), &text);
    srn__metrics_fallbacks(srn__call_fallbacks(c), &text);
    srn__metrics_rollouts(srn__call_rollouts(c), srn__call_copies(c), &text);
    srn__metrics_upstreams(srn__call_upstreams(c), srn__call_models(c), &text);
    srn__metrics_telemetry(srn__call_otel(c), &text);
    if (text.failed)
        srn__call_fail(c, 500, NULL, NULL, "out_of_memory", "no memory for the metrics' text");
    else
        srn__call_reply_text(c, 200, "text/plain; version=0.0.4; charset=utf-8",
                             (srn_str){text.data, text.len});
    srn_buf_done(&text);
}
