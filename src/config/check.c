/* What one value of a configuration cannot show: names used twice, references to what is not there, an open
 * door. And the match of a request against the routes. srn_config_check looks whether files are there; the
 * rest is pure.
 */
#include <stdlib.h>
#include <unistd.h>

#include "config/config_internal.h"

int srn_config_fail(const srn_config *c, const char *text, srn_err *err, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int code = srn_vfail(err, SRN_EINVAL, fmt, ap);
    va_end(ap);
    for (const srn_config_place *p = text ? c->places : NULL; p; p = p->next)
        if (p->text == text) return srn_fail_prefix(err, code, "%s:%u:%u", c->file, p->line, p->column);
    return srn_fail_prefix(err, code, "%s", c->file);
}

static bool answers_to(const srn_config_model *m, const char *name) {
    if (strcmp(m->name, name) == 0) return true;
    for (uint32_t i = 0; i < m->n_aliases; i++)
        if (strcmp(m->aliases[i], name) == 0) return true;
    return false;
}

static int check_file(const srn_config *c, const char *key, const char *path, srn_err *err) {
    if (!path || access(path, R_OK) == 0) return SRN_OK;
    return srn_config_fail(c, path, err, "%s: the file %s cannot be read", key, path);
}

const srn_config_model *srn_config_model_of(const srn_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0) return &c->models[i];
    for (uint32_t i = 0; i < c->n_models; i++)
        if (answers_to(&c->models[i], name)) return &c->models[i];
    return NULL;
}

static bool has_model(const srn_config *c, const char *name) {
    return srn_config_model_of(c, name) != NULL;
}

/* How many models answer to a name. */
static uint32_t claims(const srn_config *c, const char *name) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_models; i++) {
        n += strcmp(c->models[i].name, name) == 0;
        for (uint32_t k = 0; k < c->models[i].n_aliases; k++) n += strcmp(c->models[i].aliases[k], name) == 0;
    }
    return n;
}

static int check_model(const srn_config *c, const srn_config_model *m, srn_err *err) {
    static const char *const kv_types[] = {"f16", "f32", "q8_0"};
    const char *twice = claims(c, m->name) > 1 ? m->name : NULL;
    for (uint32_t k = 0; k < m->n_aliases && !twice; k++)
        if (claims(c, m->aliases[k]) > 1) twice = m->aliases[k];
    if (twice)
        return srn_config_fail(
            c, twice, err,
            "models: the name '%s' is used more than once; name one of them otherwise (name:, or --model "
            "NAME=MODEL)",
            twice);
    bool known = !m->kv_type;
    for (size_t k = 0; k < SRN_LEN(kv_types) && !known; k++) known = strcmp(m->kv_type, kv_types[k]) == 0;
    if (known) return SRN_OK;
    return srn_config_fail(c, m->kv_type, err, "models: '%s': kv: '%s' is not known; use f16, q8_0 or f32",
                           m->name, m->kv_type);
}

/* What only a model that is computed here has, by its name in the file; NULL: it has none of it. */
static const char *given_of_a_file(const srn_config_model *m) {
    return m->path           ? "path"
           : m->ctx          ? "ctx"
           : m->parallel     ? "parallel"
           : m->threads      ? "threads"
           : m->cache_tokens ? "cache_tokens"
           : m->kv_type      ? "kv"
           : m->speculate    ? "speculate"
           : m->lazy         ? "lazy"
                             : NULL;
}

static const char *given_of_an_upstream(const srn_config_model *m) {
    return m->model         ? "model"
           : m->key_file    ? "key_file"
           : m->key_env     ? "key_env"
           : m->ca          ? "ca"
           : m->timeout_ms  ? "timeout"
           : m->connections ? "connections"
                            : NULL;
}

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

/* An address that people may see: a key has its own place. */
static int check_address(const srn_config *c, const srn_config_model *m, srn_err *err) {
    const char *at = m->upstream, *host = strstr(at, "://");
    bool socket = begins(at, "unix:/"), web = begins(at, "http://") || begins(at, "https://");
    if (!socket && !(web && host[3] && host[3] != '/'))
        return srn_config_fail(c, at, err,
                               "models: '%s': upstream: '%.200s' is no address; write http://HOST:PORT, "
                               "https://HOST or unix:/PATH",
                               m->name, begins(at, "http") ? "http..." : at);
    if (web && strpbrk(host, "@?#"))
        return srn_config_fail(c, at, err,
                               "models: '%s': upstream: an address has no user, password or query; a key "
                               "belongs in key_file or key_env",
                               m->name);
    return SRN_OK;
}

static int check_upstream(const srn_config *c, const srn_config_model *m, srn_err *err) {
    const char *foreign = m->upstream ? given_of_a_file(m) : given_of_an_upstream(m);
    if (foreign)
        return srn_config_fail(c, m->name, err,
                               m->upstream ? "models: '%s': %s: is for models that this server computes; an "
                                             "upstream's are its own"
                                           : "models: '%s': %s: is for models with an upstream",
                               m->name, foreign);
    if (!m->upstream) return SRN_OK;
    int code = check_address(c, m, err);
    if (!code && m->key_file && m->key_env)
        code = srn_config_fail(c, m->key_env, err, "models: '%s': key_file and key_env exclude each other",
                               m->name);
    if (!code && m->key_env && !getenv(m->key_env))
        code =
            srn_config_fail(c, m->key_env, err, "models: '%s': key_env: the environment has no variable %s",
                            m->name, m->key_env);
    if (!code) code = check_file(c, "models: key_file", m->key_file, err);
    if (!code) code = check_file(c, "models: ca", m->ca, err);
    return code;
}

static int check_models(const srn_config *c, srn_err *err) {
    if (!c->n_models)
        return srn_config_fail(c, NULL, err, "there is no model to serve; name one: serin serve MODEL");
    for (uint32_t i = c->n_models; i-- > 0;) { /* of two names it is the second that is wrong */
        int code = check_model(c, &c->models[i], err);
        if (!code) code = check_upstream(c, &c->models[i], err);
        if (code) return code;
    }
    if (c->default_model && !has_model(c, c->default_model))
        return srn_config_fail(c, c->default_model, err, "default_model: there is no model '%s'",
                               c->default_model);
    return SRN_OK;
}

static bool is_off(const srn_config_ledger *l) {
    return l->where && strcmp(l->where, "off") == 0;
}

static bool is_one_of(const char *text, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, names[i]) == 0) return true;
    return false;
}

/* Of the ledger, or (route) of one of its routes; either may be NULL. */
static int check_recording(const srn_config *c, const char *route, const char *mode, const char *content,
                           srn_err *err) {
    static const char *const modes[] = {"buffered", "required"}, *const policies[] = {"none", "hash", "full",
                                                                                      "encrypted"};
    char where[96] = "ledger";
    if (route) snprintf(where, sizeof where, "routes: '%s'", route);
    if (mode && !is_one_of(mode, modes, SRN_LEN(modes)))
        return srn_config_fail(c, mode, err, "%s: %s: '%s' is not known; use buffered or required", where,
                               route ? "ledger" : "mode", mode);
    if (content && !is_one_of(content, policies, SRN_LEN(policies)))
        return srn_config_fail(c, content, err,
                               "%s: content: '%s' is not known; use none, hash, full or encrypted", where,
                               content);
    if (route && mode && strcmp(mode, "required") == 0 && is_off(&c->ledger))
        return srn_config_fail(c, mode, err, "%s: ledger: required, and there is no ledger (ledger: off)",
                               where);
    return SRN_OK;
}

static int check_ledger(const srn_config *c, srn_err *err) {
    const srn_config_ledger *l = &c->ledger;
    if (is_off(l) && l->mode && strcmp(l->mode, "required") == 0)
        return srn_config_fail(c, l->mode, err, "ledger: mode: required, and there is no ledger (off)");
    return check_recording(c, NULL, l->mode, l->content, err);
}

/* The model that answers where the route's cannot. */
static int check_fallback(const srn_config *c, const srn_config_route *r, srn_err *err) {
    const srn_config_model *m = r->fallback ? srn_config_model_of(c, r->fallback) : NULL;
    if (!r->fallback) return SRN_OK;
    if (!m)
        return srn_config_fail(c, r->fallback, err, "routes: '%s': fallback: there is no model '%s'", r->name,
                               r->fallback);
    if (r->model && srn_config_model_of(c, r->model) == m)
        return srn_config_fail(c, r->fallback, err,
                               "routes: '%s': fallback: '%s' is the route's own model; name another one, "
                               "which can answer when that one cannot",
                               r->name, r->fallback);
    return SRN_OK;
}

static int check_routes(const srn_config *c, srn_err *err) {
    static const char *const risks[] = {"low", "normal", "high"};
    for (uint32_t i = 0; i < c->n_routes; i++) {
        const srn_config_route *r = &c->routes[i];
        int code = check_recording(c, r->name, r->ledger, r->content, err);
        if (code) return code;
        if (r->risk && !is_one_of(r->risk, risks, SRN_LEN(risks)))
            return srn_config_fail(c, r->risk, err,
                                   "routes: '%s': risk: '%s' is not known; use low, normal or high", r->name,
                                   r->risk);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(r->name, c->routes[k].name) == 0)
                return srn_config_fail(c, r->name, err, "routes: the name '%s' is used twice", r->name);
        if (r->model && !has_model(c, r->model))
            return srn_config_fail(c, r->model, err, "routes: '%s': model: there is no model '%s'", r->name,
                                   r->model);
        code = check_fallback(c, r, err);
        if (code) return code;
    }
    return SRN_OK;
}

/* Whether an address is reached from this machine alone, as far as its text says; the server looks again at
 * what it became. */
static bool is_loopback(const char *listen) {
    return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]", 5) == 0 ||
           strncmp(listen, "localhost:", 10) == 0 || strncmp(listen, "unix:", 5) == 0;
}

/* The shape alone; whether the address can be had shows when it is opened. */
static int check_listen(const srn_config *c, srn_err *err) {
    const char *port = strrchr(c->listen, ':');
    if (strncmp(c->listen, "unix:", 5) == 0) return SRN_OK;
    size_t digits = port ? strspn(port + 1, "0123456789") : 0;
    if (!port || port == c->listen || !digits || port[1 + digits])
        return srn_config_fail(
            c, c->listen, err,
            "listen: '%s': write HOST:PORT, as 127.0.0.1:8080 for this machine alone or 0.0.0.0:8080 for "
            "others too, or unix:PATH",
            c->listen);
    if (digits > 5 || strtoul(port + 1, NULL, 10) > 65535)
        return srn_config_fail(c, c->listen, err, "listen: '%s': a port is at most 65535 (0: a free one)",
                               c->listen);
    return SRN_OK;
}

int srn_config_check(const srn_config *c, srn_err *err) {
    int code = check_models(c, err);
    if (!code) code = check_routes(c, err);
    if (!code) code = check_ledger(c, err);
    if (!code) code = srn__telemetry_check(c, err);
    if (!code) code = check_file(c, "telemetry.ca", c->telemetry.ca, err);
    if (!code && !c->tls_cert != !c->tls_key)
        code =
            srn_config_fail(c, c->tls_cert ? c->tls_cert : c->tls_key, err,
                            "tls: cert and key belong together; %s is missing", c->tls_cert ? "key" : "cert");
    if (!code) code = check_file(c, "tls.cert", c->tls_cert, err);
    if (!code) code = check_file(c, "tls.key", c->tls_key, err);
    if (!code) code = check_file(c, "keys", c->keys_file, err);
    if (!code) code = check_listen(c, err);
    if (!code && !is_loopback(c->listen) && !c->keys_file && !c->allow_open)
        code = srn_config_fail(
            c, c->listen, err,
            "listen: %s can be reached from other machines and there are no API keys; name a file "
            "with keys (--keys FILE), or say that anybody may use it (--allow-open)",
            c->listen);
    return code;
}

static bool matches(const char *want, const char *have) {
    return !want || (have && strcmp(want, have) == 0);
}

const srn_config_route *srn_config_route_of(const srn_config *c, const srn_route_query *q) {
    for (uint32_t i = 0; i < c->n_routes; i++) {
        const srn_config_route *r = &c->routes[i];
        const char *value = r->header && q->header ? q->header(q->header_ctx, r->header) : NULL;
        if (matches(r->endpoint, q->endpoint) && matches(r->key, q->key) && matches(r->alias, q->alias) &&
            matches(r->prompt, q->prompt) && (!r->header || (value && strcmp(value, r->header_value) == 0)))
            return r;
    }
    return NULL;
}
