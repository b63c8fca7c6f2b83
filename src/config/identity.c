/* The id of a configuration: the SHA-256 of one canonical JSON text of everything that is in force, defaults
 * and command line included, so that two servers that behave alike have one id. Pure; any thread. Secrets
 * never are in it: of keys and certificates it has the files' names, of a database's address all but the
 * password, of a collector's all but the user, of headers that carry credentials the name.
 */
#include <stdlib.h>
#include <strings.h>

#include "config/config_internal.h"

/* Values that are 0 or NULL stand for "not set": null. jansson drops nothing here; a NULL from lack of memory
 * shows in the text at the end. */

static json_t *text_json(const char *s) {
    return s ? json_string(s) : json_null();
}

static json_t *number_json(uint64_t v) {
    return json_integer((json_int_t)SRN_MIN(v, (uint64_t)INT64_MAX));
}

static json_t *texts_json(const char *const *items, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) json_array_append_new(list, json_string(items[i]));
    return list;
}

/* Of its key the place. */
static json_t *upstream_json(const srn_config_model *m) {
    char shown[1536];
    srn_url_shown(m->upstream, shown, sizeof shown);
    return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", text_json(m->name), "aliases",
                     texts_json(m->aliases, m->n_aliases), "upstream", shown, "model", text_json(m->model),
                     "key_file", text_json(m->key_file), "key_env", text_json(m->key_env), "ca",
                     text_json(m->ca), "timeout_ms", number_json(m->timeout_ms), "connections",
                     number_json(m->connections));
}

static json_t *model_json(const srn_config_model *m) {
    if (m->upstream) return upstream_json(m);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "name", text_json(m->name), "path",
                     text_json(m->path), "aliases", texts_json(m->aliases, m->n_aliases), "ctx",
                     number_json(m->ctx), "parallel", number_json(m->parallel), "threads",
                     number_json(m->threads), "cache_tokens", number_json(m->cache_tokens), "kv",
                     text_json(m->kv_type), "speculate", number_json(m->speculate), "lazy", m->lazy);
}

static const char *header_value(const srn_config_route *r) {
    static const char *const credentials[] = {"authorization", "proxy-authorization", "cookie", "x-api-key",
                                              "api-key"};
    for (size_t i = 0; r->header && i < SRN_LEN(credentials); i++)
        if (strcasecmp(r->header, credentials[i]) == 0) return "hidden";
    return r->header_value;
}

static json_t *route_json(const srn_config_route *r) {
    json_t *match = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "endpoint", text_json(r->endpoint), "key",
                              text_json(r->key), "alias", text_json(r->alias), "prompt", text_json(r->prompt),
                              "header", text_json(r->header), "header_value", text_json(header_value(r)));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:b, s:b}", "name",
                     text_json(r->name), "match", match, "model", text_json(r->model), "fallback",
                     text_json(r->fallback), "max_tokens", number_json(r->max_tokens), "timeout_ms",
                     number_json(r->timeout_ms), "priority", (int)r->priority, "ledger", text_json(r->ledger),
                     "content", text_json(r->content), "risk", text_json(r->risk), "require_prompt",
                     r->require_prompt, "local_only", r->local_only);
}

static json_t *limits_json(const srn_config_limits *l) {
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {
        {"body", l->body_bytes},
        {"header", l->header_bytes},
        {"json_depth", l->json_depth},
        {"messages", l->messages},
        {"tools", l->tools},
        {"stops", l->stops},
        {"choices", l->choices},
        {"logprobs", l->logprobs},
        {"max_tokens", l->max_tokens},
        {"schema", l->schema_bytes},
        {"queue", l->queue},
        {"connections", l->connections},
        {"connections_per_ip", l->connections_per_ip},
        {"header_timeout_ms", l->header_timeout_ms},
        {"body_timeout_ms", l->body_timeout_ms},
        {"request_timeout_ms", l->request_timeout_ms},
        {"idle_timeout_ms", l->idle_timeout_ms},
    };
    json_t *o = json_object();
    for (size_t i = 0; i < SRN_LEN(all); i++) json_object_set_new(o, all[i].name, number_json(all[i].value));
    return o;
}

static json_t *address_json(const char *where) {
    srn_buf b;
    if (!where) return json_null();
    srn_buf_init(&b, 65536);
    srn_hide_password(where, &b);
    json_t *o = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return o;
}

static json_t *ledger_json(const srn_config_ledger *l) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "where", address_json(l->where),
                     "folder", text_json(l->folder), "keys", text_json(l->keys), "mode", text_json(l->mode),
                     "content", text_json(l->content), "queue", number_json(l->queue), "patience_ms",
                     number_json(l->patience_ms), "retention_ms", number_json(l->retention_ms), "max_bytes",
                     number_json(l->max_bytes), "keep_weights", l->keep_weights);
}

/* Of an endpoint what people may see, of headers the names. */
static json_t *telemetry_json(const srn_config_telemetry *t) {
    char shown[1536];
    json_t *headers = json_array(), *resource = json_object();
    srn_url_shown(t->endpoint, shown, sizeof shown);
    for (uint32_t i = 0; i < t->n_headers; i++)
        json_array_append_new(headers, json_string(t->headers[i].name));
    for (uint32_t i = 0; i < t->n_resource; i++)
        json_object_set_new(resource, t->resource[i].name, json_string(t->resource[i].value));
    return json_pack("{s:s, s:o, s:o, s:s, s:o, s:f, s:b, s:b, s:b, s:b, s:o, s:o, s:o, s:o}", "endpoint",
                     shown, "headers", headers, "resource", resource, "service_name", t->service_name, "ca",
                     text_json(t->ca), "sample", t->sample, "ignore_parent", t->ignore_parent, "content",
                     t->content, "no_traces", t->no_traces, "no_metrics", t->no_metrics, "timeout_ms",
                     number_json(t->timeout_ms), "metrics_interval_ms", number_json(t->metrics_interval_ms),
                     "delay_ms", number_json(t->delay_ms), "queue", number_json(t->queue));
}

json_t *srn__config_json(const srn_config *c) {
    json_t *models = json_array(), *routes = json_array(), *rollouts = json_array();
    for (uint32_t i = 0; i < c->n_models; i++) json_array_append_new(models, model_json(&c->models[i]));
    for (uint32_t i = 0; i < c->n_routes; i++) json_array_append_new(routes, route_json(&c->routes[i]));
    for (uint32_t i = 0; i < c->n_rollouts; i++)
        json_array_append_new(rollouts, json_loads(c->rollouts[i].json, 0, NULL));
    bool sends = c->telemetry.endpoint != NULL; /* what is off has no part in the id */
    return json_pack("{s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o*}",
                     "listen", text_json(c->listen), "keys_file", text_json(c->keys_file), "tls_cert",
                     text_json(c->tls_cert), "tls_key", text_json(c->tls_key), "allow_open", c->allow_open,
                     "hosts", texts_json(c->hosts, c->n_hosts), "cors", texts_json(c->cors, c->n_cors),
                     "default_model", text_json(c->default_model), "metrics_open", c->metrics_open,
                     "grace_ms", number_json(c->grace_ms), "models", models, "routes", routes, "canary",
                     rollouts, "limits", limits_json(&c->limits), "ledger", ledger_json(&c->ledger),
                     "telemetry", sends ? telemetry_json(&c->telemetry) : NULL);
}

int srn_config_identity(const srn_config *c, srn_buf *ret_json, char ret_id[65], srn_err *err) {
    uint8_t digest[SRN_SHA256_BYTES];
    json_t *o = srn__config_json(c);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII) : NULL;
    srn_sha256 *h = text ? srn_sha256_new() : NULL;
    json_decref(o);
    if (!h) {
        free(text);
        return srn_fail_nomem(err, 4096);
    }
    srn_sha256_add(h, text, strlen(text));
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, ret_id);
    bool ok = !ret_json || srn_buf_addz(ret_json, text);
    free(text);
    return ok ? SRN_OK : srn_fail(err, SRN_ENOMEM, "no memory for the text of the configuration");
}
