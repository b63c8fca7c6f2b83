/* serve: the life of a server: HTTP first, so that a wrong address fails at once and health answers while
 * models load; then the scheduler and the models; then requests. The stop goes the other way. Called by the
 * command, on its main thread.
 */
#include <stdlib.h>

#include "serve/openai_internal.h"
#include "serve/server_internal.h"

/* Set before srn__http_ready lets the first handler run that asks for them. */
srn__models *srn__call_models(const srn__call *c) {
    return srn__call_server(c)->models;
}
srn_scheduler *srn__call_scheduler(const srn__call *c) {
    return srn__call_server(c)->scheduler;
}
srn_prompts *srn__call_prompts(const srn__call *c) {
    return srn__call_server(c)->prompts;
}
srn__metrics *srn__call_metrics(const srn__call *c) {
    return srn__call_server(c)->metrics;
}

srn__recorder *srn__call_recorder(const srn__call *c) {
    return srn__call_server(c)->recorder;
}

srn__rollouts *srn__call_rollouts(const srn__call *c) {
    return srn__call_server(c)->rollouts;
}

srn__fallbacks *srn__call_fallbacks(const srn__call *c) {
    return srn__call_server(c)->fallbacks;
}

srn__background *srn__call_background(const srn__call *c) {
    return srn__call_server(c)->background;
}

srn__upstreams *srn__call_upstreams(const srn__call *c) {
    return srn__call_server(c)->upstreams;
}

srn__watcher *srn__call_watcher(const srn__call *c) {
    return srn__call_server(c)->watcher;
}

srn__copies *srn__call_copies(const srn__call *c) {
    return srn__call_server(c)->copies;
}

srn__otel *srn__call_otel(const srn__call *c) {
    return atomic_load(&srn__call_server(c)->otel);
}

static void count(void *ctx, const srn__call_end *e) {
    srn_server *s = ctx;
    srn__metrics_call(s->metrics, e->route, e->status, e->facts, e->total_us);
    if (!e->complete) srn__metrics_gone(s->metrics);
}

static void last(void *ctx, srn__call *c) {
    (void)ctx;
    srn__otel_last(c);
    srn__record_last(c);
}

/* The ledger opens before there is an HTTP core that logs. */
static void log_ledger(void *ctx, const char *event, const char *detail) {
    const srn_server_opts *o = ctx;
    srn__log_event(o->log, o->log_ctx, event, detail);
}

/* Says what a model was given, for memory is planned here and never grows. */
static void log_model(void *ctx, const char *name, const srn__served *v, const srn_err *why) {
    srn_server *s = ctx;
    char text[sizeof why->text + 800];
    if (why) snprintf(text, sizeof text, "%.127s: %s", name, why->text);
    if (why && v)
        srn__recorder_event(s->recorder, "digest_mismatch",
                            json_pack("{s:o, s:s, s:o}", "model", srn__text_json(srn_str_of(name)), "weights",
                                      v->ids.weights, "what", srn__text_json(srn_str_of(why->text))));
    if (why) return srn__http_log_event(s->http, v ? "digest_mismatch" : "model_failed", text);
    if (!v) {
        srn__recorder_event(s->recorder, "model_unloaded",
                            json_pack("{s:o}", "model", srn__text_json(srn_str_of(name))));
        return srn__http_log_event(s->http, "model_unloaded", name);
    }
    srn__recorder_model(s->recorder, v);
    srn_engine_info i = srn_engine_get_info(v->engine);
    snprintf(
        text, sizeof text,
        "%.127s: context %u tokens, %u requests at once, KV cache of %llu tokens (%.1f MiB), weights %.1f "
        "MiB, working memory %.1f MiB, %u threads, %s, %s, weights id %s, tokenizer id %s, template id %s",
        name, i.n_ctx, i.max_seqs, (unsigned long long)i.cache_tokens, (double)i.kv_bytes / 1048576,
        (double)i.weights_bytes / 1048576, (double)i.work_bytes / 1048576, i.threads, i.engine_id,
        v->ids.quantisation, v->ids.weights, v->ids.tokenizer,
        v->ids.chat_template[0] ? v->ids.chat_template : "none");
    srn__http_log_event(s->http, "model_loaded", text);
    uint32_t longest = srn_engine_longest(v->engine);
    if (longest == i.n_ctx) return;
    snprintf(
        text, sizeof text,
        "warning: %.127s: the KV cache of %llu tokens is smaller than the context of %u; prompt and answer "
        "of a request can have %u together; set cache_tokens (--cache-tokens) to %u or more, or ctx "
        "(--ctx) to %u",
        name, (unsigned long long)i.cache_tokens, i.n_ctx, longest, i.n_ctx, longest);
    srn__http_log_event(s->http, "cache_too_small", text);
}

/* Models that only its calls could ask for may go. */
static void unused(void *ctx, const srn_config *c) {
    srn_server *s = ctx;
    pthread_mutex_lock(&s->unused_lock);
    if (s->models) srn__models_let_go(s->models, c);
    pthread_mutex_unlock(&s->unused_lock);
}

/* Under the lock to its end: until then no configuration that a model is known by goes. */
static void free_models(srn_server *s) {
    pthread_mutex_lock(&s->unused_lock);
    srn__models_free(s->models);
    s->models = NULL;
    pthread_mutex_unlock(&s->unused_lock);
}

static void server_free(srn_server *s, uint32_t grace_ms) {
    srn__server_reload_stop(s);
    srn__background_end(s->background);
    srn__copies_end(s->copies);
    if (s->http) srn__http_stop(s->http, grace_ms);
    srn__upstreams_stop(s->upstreams);
    srn__background_free(s->background);
    srn__recorder_stop(s->recorder);
    srn__watcher_free(s->watcher);
    s->watcher = NULL;
    srn__copies_finish(s->copies);
    srn__otel_engines(atomic_load(&s->otel), NULL, NULL);
    free_models(s);
    srn_scheduler_free(s->scheduler);
    srn__recorder_settle(s->recorder);
    srn__http_free(s->http);
    srn__upstreams_free(s->upstreams);
    srn__otel_free(atomic_load(&s->otel));
    srn__rollouts_free(s->rollouts);
    srn__copies_free(s->copies);
    srn_prompts_close(s->prompts);
    srn__recorder_free(s->recorder);
    srn__metrics_free(s->metrics);
    srn__fallbacks_free(s->fallbacks);
    pthread_mutex_destroy(&s->unused_lock);
    pthread_mutex_destroy(&s->reload_lock);
    pthread_mutex_destroy(&s->asked_lock);
    pthread_cond_destroy(&s->asked_more);
    free(s);
}

static void burst(void *ctx, bool begins) {
    srn__http_burst(ctx, begins);
}

/* Once the address is known, and before any call can come for a model. */
static int start_telemetry(srn_server *s, srn_err *err) {
    srn__otel_opts o = {.config = s->opts.config,
                        .address = srn__http_address(s->http),
                        .keys = srn__recorder_keys(s->recorder),
                        .log = log_ledger,
                        .log_ctx = &s->opts};
    srn__otel *otel = NULL;
    int code = srn__otel_new(&o, &otel, err);
    atomic_store(&s->otel, otel);
    return code;
}

static int start(srn_server *s, const srn_server_opts *o, srn_err *err) {
    const srn_config *c = o->config;
    int code = srn__metrics_new(&s->metrics, err);
    if (!code) code = srn__fallbacks_new(&s->fallbacks, err);
    srn__recorder_opts ro = {.config = c, .log = log_ledger, .log_ctx = &s->opts};
    if (!code) code = srn__recorder_new(&ro, &s->recorder, err);
    srn_ledger *ledger = code ? NULL : srn__recorder_ledger(s->recorder);
    if (ledger) code = srn_prompts_open(ledger, &s->prompts, err);
    srn__rollouts_opts xo = {
        .prompts = s->prompts, .recorder = s->recorder, .log = log_ledger, .log_ctx = &s->opts};
    if (!code && ledger) code = srn__rollouts_new(&xo, &s->rollouts, err);
    if (!code && ledger) code = srn__rollouts_may(s->rollouts, c, c, err);
    if (!code && ledger) code = srn__copies_new(&s->copies, err);
    if (code) return code;
    srn__http_opts h = {.config = c,
                        .routes = srn__routes,
                        .n_routes = srn__n_routes,
                        .local_token = srn__recorder_token(s->recorder),
                        .server = s,
                        .log = o->log,
                        .log_ctx = o->log_ctx,
                        .on_end = count,
                        .on_last = last,
                        .on_rerun = srn__fallback_renew,
                        .on_unused = unused,
                        .end_ctx = s};
    code = srn__http_new(&h, &s->http, err);
    if (!code) code = srn__recorder_start(s->recorder, srn__http_address(s->http), err);
    if (!code) code = start_telemetry(s, err);
    srn_scheduler_opts so = {.max_queue = c->limits.queue, .notifying = burst, .notifying_ctx = s->http};
    if (!code) code = srn_scheduler_new(&so, &s->scheduler, err);
    if (!code) code = srn__models_new(c, s->scheduler, log_model, s, &s->models, err);
    srn__background_opts bo = {s->models, s->scheduler, s->prompts, s->recorder};
    if (!code) code = srn__background_new(&bo, &s->background, err);
    if (!code) code = srn__upstreams_new(log_ledger, &s->opts, &s->upstreams, err);
    if (!code) srn__otel_engines(atomic_load(&s->otel), s->models, s->scheduler);
    if (!code) code = srn__models_load_all(s->models, o->progress, o->progress_ctx, err);
    srn__watcher_opts wo = {.rollouts = s->rollouts,
                            .recorder = s->recorder,
                            .models = s->models,
                            .scheduler = s->scheduler,
                            .copies = s->copies,
                            .log = log_ledger,
                            .log_ctx = &s->opts};
    if (!code && s->rollouts) code = srn__watcher_new(&wo, &s->watcher, err);
    if (!code && s->rollouts) code = srn__rollouts_declared(s->rollouts, s->models, NULL, c, NULL, err);
    return code;
}

int srn_server_start(const srn_server_opts *o, srn_server **ret, srn_err *err) {
    srn_server *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    s->opts = *o;
    atomic_init(&s->grace_ms, o->config->grace_ms);
    pthread_mutex_init(&s->unused_lock, NULL);
    pthread_mutex_init(&s->reload_lock, NULL);
    pthread_mutex_init(&s->asked_lock, NULL);
    pthread_cond_init(&s->asked_more, NULL);
    json_object_seed(0); /* nobody outside can choose names that collide */
    int code = start(s, o, err);
    if (code) {
        server_free(s, 0);
        return code;
    }
    srn__http_ready(s->http);
    *ret = s;
    return SRN_OK;
}

const char *srn_server_address(const srn_server *s) {
    return srn__http_address(s->http);
}

uint32_t srn_server_grace_ms(const srn_server *s) {
    return atomic_load(&s->grace_ms);
}

void srn_server_hurry(srn_server *s) {
    srn__http_hurry(s->http);
}

bool srn_server_alive(const srn_server *s) {
    return srn_scheduler_silence_us(s->scheduler) <= SRN__STUCK_US;
}

void srn_server_drain(srn_server *s, uint32_t grace_ms) {
    srn__http_log_event(s->http, "stopping", NULL);
    srn__background_end(s->background);
    srn__copies_end(s->copies);
    srn__http_stop(s->http, grace_ms);
}

void srn_server_stop(srn_server *s, uint32_t grace_ms) {
    if (s) server_free(s, grace_ms);
}

/* key: "model" or "fallback", which names a model, or NULL: none. */
static int check_stays(const srn_config *c, const srn_config_route *r, const char *key, const char *name,
                       srn_err *err) {
    const srn_config_model *m = name ? srn_config_model_of(c, name) : NULL;
    if (!m || !m->upstream || srn__upstream_may(r, m)) return SRN_OK;
    return srn_config_fail(
        c, name, err, "routes: '%s': %s: the route is local_only, and '%s' is computed on another machine",
        r->name, key, name);
}

/* Routes that could never match: a path that does not look at them, a key that nobody has. */
static int check_routes(const srn_config *c, const srn_keys *keys, srn_err *err) {
    for (uint32_t i = 0; i < c->n_routes; i++) {
        const srn_config_route *r = &c->routes[i];
        bool known = !r->endpoint;
        for (size_t k = 0; k < srn__n_routes && !known; k++)
            known =
                (srn__routes[k].flags & SRN__ROUTE_MODEL) && strcmp(srn__routes[k].path, r->endpoint) == 0;
        if (!known)
            return srn_config_fail(c, r->endpoint, err,
                                   "routes: '%s': endpoint: no requests for a model come to '%s'", r->name,
                                   r->endpoint);
        if (r->key && !keys)
            return srn_config_fail(c, r->key, err, "routes: '%s': key: there is no file of keys", r->name);
        int code = check_stays(c, r, "model", r->model, err);
        if (!code) code = check_stays(c, r, "fallback", r->fallback, err);
        if (code) return code;
        if (r->key && !srn_keys_has_name(keys, r->key))
            return srn_config_fail(c, r->key, err, "routes: '%s': key: %s has no key '%s'", r->name,
                                   c->keys_file, r->key);
    }
    return SRN_OK;
}

static bool is_named(const srn_config_rollout *r, const char *name) {
    json_t *o = json_loads(r->json, 0, NULL);
    const char *its = json_string_value(json_object_get(o, "name"));
    bool same = its && strcmp(its, name) == 0;
    json_decref(o);
    return same;
}

/* fresh: each of them is to begin, as on an empty ledger. */
static int check_rollouts(const srn_config *c, bool fresh, srn_err *err) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < c->n_rollouts && !code; i++) {
        json_t *o = json_loads(c->rollouts[i].json, 0, NULL);
        srn_rollout *d = NULL;
        code = o ? srn_rollout_parse(o, "canary", &d, err) : srn_fail_nomem(err, 4096);
        if (!code) code = srn_rollout_may_begin(d, err);
        for (uint32_t k = 0; k < i && !code; k++)
            if (is_named(&c->rollouts[k], d->name))
                code = srn_fail(err, SRN_EINVAL, "canary: line %u has a roll-out '%s' already",
                                c->rollouts[k].line, d->name);
        if (!code) code = fresh ? srn__rollout_routes(d, c, err) : srn__rollout_fits(d, c, err);
        if (code) srn_fail_prefix(err, code, "%s:%u", c->file, c->rollouts[i].line);
        srn_rollout_free(d);
        json_decref(o);
    }
    if (!code && c->n_rollouts && c->ledger.where && strcmp(c->ledger.where, "off") == 0)
        code = srn_config_fail(c, c->ledger.where, err,
                               "canary: a roll-out needs the ledger, and there is none (ledger: off)");
    return code;
}

int srn_server_check(const srn_config *c, srn_err *err) {
    srn_keys *keys = NULL;
    srn__cert *cert = NULL;
    int code = srn_config_check(c, err);
    if (!code && c->keys_file) code = srn_keys_load(c->keys_file, &keys, err);
    if (!code) code = check_routes(c, keys, err);
    if (!code) code = check_rollouts(c, false, err);
    if (!code && c->tls_cert) code = srn__cert_load(c->tls_cert, c->tls_key, &cert, err);
    srn_keys_free(keys);
    srn__cert_free(cert);
    return code;
}

int srn_server_check_fresh(const srn_config *c, srn_err *err) {
    int code = srn_server_check(c, err);
    return code ? code : check_rollouts(c, true, err);
}
