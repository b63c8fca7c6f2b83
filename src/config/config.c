/* serin.yaml to srn_config: tables of keys, one a mapping, say what each value is and where it goes. Pure but
 * for srn_config_load. Refuses unknown keys (naming the nearest known one), wrong kinds and values out of
 * range, with file, line, column and key.
 */
#include <stdlib.h>

#include "config/config_internal.h"

#define MAX_FILE_BYTES (1u << 20)
#define ARENA_BYTES    (16u << 20)
#define MAX_DEPTH      16

/* MS and DAYS are milliseconds, in 32 and in 64 bits. */
typedef enum kind { TEXT, BOOL, U32, U64, BYTES, MS, DAYS, I32, SHARE, TEXTS } kind;

/* A key of a mapping; its value goes to the struct's byte `at`. */
typedef struct field {
    const char *key;
    kind kind;
    size_t at;
    uint64_t min, max;
} field;

#define F(type, key, kind, member, min, max)                                                                 \
    { key, kind, offsetof(type, member), min, max }

static const field top_fields[] = {
    F(srn_config, "listen", TEXT, listen, 1, 256),
    F(srn_config, "keys", TEXT, keys_file, 1, 4095),
    F(srn_config, "allow_open", BOOL, allow_open, 0, 0),
    F(srn_config, "hosts", TEXTS, hosts, 1, 253),
    F(srn_config, "cors", TEXTS, cors, 1, 300),
    F(srn_config, "default_model", TEXT, default_model, 1, 127),
    F(srn_config, "metrics_open", BOOL, metrics_open, 0, 0),
    F(srn_config, "grace", MS, grace_ms, 0, 3600000),
};
static const field tls_fields[] = {
    F(srn_config, "cert", TEXT, tls_cert, 1, 4095),
    F(srn_config, "key", TEXT, tls_key, 1, 4095),
};
static const field model_fields[] = {
    F(srn_config_model, "name", TEXT, name, 1, 127),
    F(srn_config_model, "path", TEXT, path, 1, 4095),
    F(srn_config_model, "aliases", TEXTS, aliases, 1, 127),
    F(srn_config_model, "ctx", U32, ctx, 1, UINT32_MAX),
    F(srn_config_model, "parallel", U32, parallel, 1, 256),
    F(srn_config_model, "threads", U32, threads, 1, 1024),
    F(srn_config_model, "cache_tokens", U64, cache_tokens, 1, 1ull << 40),
    F(srn_config_model, "kv", TEXT, kv_type, 1, 16),
    F(srn_config_model, "speculate", U32, speculate, 0, 16),
    F(srn_config_model, "lazy", BOOL, lazy, 0, 0),
    F(srn_config_model, "upstream", TEXT, upstream, 1, 1500),
    F(srn_config_model, "model", TEXT, model, 1, 255),
    F(srn_config_model, "key_file", TEXT, key_file, 1, 4095),
    F(srn_config_model, "key_env", TEXT, key_env, 1, 255),
    F(srn_config_model, "ca", TEXT, ca, 1, 4095),
    F(srn_config_model, "timeout", MS, timeout_ms, 100, 86400000),
    F(srn_config_model, "connections", U32, connections, 1, 4096),
};
static const field limit_fields[] = {
    F(srn_config_limits, "body", BYTES, body_bytes, 1024, 1u << 30),
    F(srn_config_limits, "header", BYTES, header_bytes, 1024, 1u << 20),
    F(srn_config_limits, "json_depth", U32, json_depth, 4, 256),
    F(srn_config_limits, "messages", U32, messages, 1, 1000000),
    F(srn_config_limits, "tools", U32, tools, 0, 10000),
    F(srn_config_limits, "stops", U32, stops, 0, 64),
    F(srn_config_limits, "choices", U32, choices, 1, 128),
    F(srn_config_limits, "logprobs", U32, logprobs, 0, 20),
    F(srn_config_limits, "max_tokens", U32, max_tokens, 1, UINT32_MAX),
    F(srn_config_limits, "schema", BYTES, schema_bytes, 64, 16u << 20),
    F(srn_config_limits, "queue", U32, queue, 1, 1000000),
    F(srn_config_limits, "connections", U32, connections, 1, 65536),
    F(srn_config_limits, "connections_per_ip", U32, connections_per_ip, 0, 65536),
    F(srn_config_limits, "header_timeout", MS, header_timeout_ms, 100, 3600000),
    F(srn_config_limits, "body_timeout", MS, body_timeout_ms, 100, 3600000),
    F(srn_config_limits, "request_timeout", MS, request_timeout_ms, 0, 86400000),
    F(srn_config_limits, "idle_timeout", MS, idle_timeout_ms, 1000, 3600000),
};
static const field ledger_fields[] = {
    F(srn_config_ledger, "where", TEXT, where, 1, 4095),
    F(srn_config_ledger, "folder", TEXT, folder, 1, 4095),
    F(srn_config_ledger, "keys", TEXT, keys, 1, 4095),
    F(srn_config_ledger, "mode", TEXT, mode, 1, 16),
    F(srn_config_ledger, "content", TEXT, content, 1, 16),
    F(srn_config_ledger, "queue", U32, queue, 1, 1000000),
    F(srn_config_ledger, "patience", MS, patience_ms, 1, 3600000),
    F(srn_config_ledger, "retention", DAYS, retention_ms, 3600000, 100ull * 365 * 86400000),
    F(srn_config_ledger, "max_size", BYTES, max_bytes, 1u << 20, 1ull << 60),
    F(srn_config_ledger, "keep_weights", BOOL, keep_weights, 0, 0),
};
static const field telemetry_fields[] = {
    F(srn_config_telemetry, "endpoint", TEXT, endpoint, 1, 1500),
    F(srn_config_telemetry, "ca", TEXT, ca, 1, 4095),
    F(srn_config_telemetry, "service_name", TEXT, service_name, 1, 255),
    F(srn_config_telemetry, "sample", SHARE, sample, 0, 1),
    F(srn_config_telemetry, "content", BOOL, content, 0, 0),
    F(srn_config_telemetry, "timeout", MS, timeout_ms, 100, 600000),
    F(srn_config_telemetry, "metrics_interval", MS, metrics_interval_ms, 100, 86400000),
    F(srn_config_telemetry, "delay", MS, delay_ms, 0, 600000),
    F(srn_config_telemetry, "queue", U32, queue, 1, 1000000),
};
static const field match_fields[] = {
    F(srn_config_route, "endpoint", TEXT, endpoint, 1, 127),
    F(srn_config_route, "key", TEXT, key, 1, 127),
    F(srn_config_route, "alias", TEXT, alias, 1, 127),
    F(srn_config_route, "prompt", TEXT, prompt, 1, 127),
};
static const field route_fields[] = {
    F(srn_config_route, "name", TEXT, name, 1, 63),
    F(srn_config_route, "model", TEXT, model, 1, 127),
    F(srn_config_route, "fallback", TEXT, fallback, 1, 127),
    F(srn_config_route, "max_tokens", U32, max_tokens, 1, UINT32_MAX),
    F(srn_config_route, "timeout", MS, timeout_ms, 1, 86400000),
    F(srn_config_route, "priority", I32, priority, 0, 0),
    F(srn_config_route, "ledger", TEXT, ledger, 1, 16),
    F(srn_config_route, "content", TEXT, content, 1, 16),
    F(srn_config_route, "risk", TEXT, risk, 1, 16),
    F(srn_config_route, "require_prompt", BOOL, require_prompt, 0, 0),
    F(srn_config_route, "local_only", BOOL, local_only, 0, 0),
};

/* The member after a list of texts is its length, in every struct above. */
static uint32_t *length_of(void *member) {
    return (uint32_t *)(void *)((char *)member + sizeof(char *));
}

void srn_config_init(srn_config *c) {
    *c = (srn_config){.listen = "127.0.0.1:8080", .grace_ms = 30000, .file = "the command line"};
    c->limits = (srn_config_limits){.body_bytes = 8u << 20,
                                    .header_bytes = 64u << 10,
                                    .json_depth = 64,
                                    .messages = 4096,
                                    .tools = 128,
                                    .stops = 16,
                                    .choices = 16,
                                    .logprobs = 20,
                                    .schema_bytes = 256u << 10,
                                    .queue = 1024,
                                    .connections = 1024,
                                    .header_timeout_ms = 10000,
                                    .body_timeout_ms = 60000,
                                    .idle_timeout_ms = 75000};
    c->ledger =
        (srn_config_ledger){.mode = "buffered", .content = "hash", .queue = 10000, .patience_ms = 30000};
    c->telemetry = (srn_config_telemetry){.service_name = "serin",
                                          .sample = 1,
                                          .timeout_ms = 10000,
                                          .metrics_interval_ms = 60000,
                                          .delay_ms = 1000,
                                          .queue = 2048};
    srn_arena_init(&c->arena, ARENA_BYTES);
}

void srn_config_done(srn_config *c) {
    srn_arena_done(&c->arena);
    *c = (srn_config){0};
}

typedef struct reader {
    srn_config *c;
    const char *name;
    srn_err *err;
} reader;

static int fail_at(const reader *r, const srn__node *n, const char *fmt, ...) SRN_PRINTF(3, 4);
static int fail_at(const reader *r, const srn__node *n, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int code = srn_vfail(r->err, SRN_EFORMAT, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(r->err, code, "%s:%u:%u", r->name, n->line, n->column);
}

/* ---- one value ---- */

/* A number with one of the suffixes, each a factor. */
static bool number_of(srn_str s, const char *const *suffixes, const uint64_t *factors, size_t n,
                      uint64_t *ret) {
    uint64_t v = 0;
    size_t i = 0;
    for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
        if (!srn_mul_u64(v, 10, &v) || !srn_add_u64(v, (uint64_t)(s.ptr[i] - '0'), &v)) return false;
    if (i == 0) return false;
    while (i < s.len && s.ptr[i] == ' ') i++;
    srn_str rest = {s.ptr + i, s.len - i};
    for (size_t k = 0; k < n; k++)
        if (srn_str_eqz(rest, suffixes[k])) return srn_mul_u64(v, factors[k], ret);
    return false;
}

static bool read_number(srn_str s, kind k, uint64_t *ret) {
    static const char *const none[] = {""}, *const bytes[] = {"", "B", "KiB", "MiB", "GiB", "TiB"},
                             *const times[] = {"ms", "s", "min", "h", "d"};
    static const uint64_t one[] = {1}, byte_factors[] = {1, 1, 1u << 10, 1u << 20, 1u << 30, 1ull << 40},
                          time_factors[] = {1, 1000, 60000, 3600000, 86400000};
    if (k == BYTES) return number_of(s, bytes, byte_factors, SRN_LEN(bytes), ret);
    if (k == MS || k == DAYS) return number_of(s, times, time_factors, SRN_LEN(times), ret);
    return number_of(s, none, one, 1, ret);
}

static int read_int(const reader *r, const field *f, const srn__node *n, int32_t *to) {
    bool negative = n->text.len && n->text.ptr[0] == '-';
    srn_str digits = {n->text.ptr + negative, n->text.len - negative};
    uint64_t v;
    if (!read_number(digits, U64, &v) || v > 1000000)
        return fail_at(r, n, "%s: needs a whole number from -1000000 to 1000000, not '%.40s'", f->key,
                       n->text.ptr);
    *to = negative ? -(int32_t)v : (int32_t)v;
    return SRN_OK;
}

bool srn__share_parse(srn_str s, double *ret) {
    double v = 0, unit = 1;
    size_t i = 0, digits = 0;
    for (; i < s.len && s.len <= 12; i++) {
        if (s.ptr[i] == '.' && unit == 1 && i)
            unit = 0.1;
        else if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        else if (++digits && unit == 1)
            v = 10 * v + (s.ptr[i] - '0');
        else
            v += unit * (s.ptr[i] - '0'), unit /= 10;
    }
    if (!digits || s.len > 12 || v > 1) return false;
    *ret = v;
    return true;
}

static int read_share(const reader *r, const field *f, const srn__node *n, double *to) {
    if (srn__share_parse(n->text, to)) return SRN_OK;
    return fail_at(r, n, "%s: needs a number from 0 to 1, like 0.05, not '%.40s'", f->key, n->text.ptr);
}

static int read_amount(const reader *r, const field *f, const srn__node *n, void *to) {
    static const char *const what[] = {[U32] = "a whole number",
                                       [U64] = "a whole number",
                                       [BYTES] = "bytes like 65536, 64 KiB or 8 MiB",
                                       [MS] = "a time like 250ms, 30s or 5min",
                                       [DAYS] = "a time like 12h or 90d"};
    uint64_t v;
    if (!read_number(n->text, f->kind, &v))
        return fail_at(r, n, "%s: needs %s, not '%.40s'", f->key, what[f->kind], n->text.ptr);
    if (v < f->min || v > f->max)
        return fail_at(r, n, "%s: must be from %llu to %llu%s, not %llu", f->key, (unsigned long long)f->min,
                       (unsigned long long)f->max,
                       f->kind == MS || f->kind == DAYS ? " ms"
                       : f->kind == BYTES               ? " bytes"
                                                        : "",
                       (unsigned long long)v);
    if (f->kind == U64 || f->kind == BYTES || f->kind == DAYS)
        *(uint64_t *)to = v;
    else
        *(uint32_t *)to = (uint32_t)v;
    return SRN_OK;
}

static int read_text(const reader *r, const char *key, const field *f, const srn__node *n, const char **to) {
    if (n->kind != SRN__SCALAR) return fail_at(r, n, "%s: needs a text", key);
    if (n->text.len < f->min || n->text.len > f->max)
        return fail_at(r, n, "%s: must have from %llu to %llu bytes", key, (unsigned long long)f->min,
                       (unsigned long long)f->max);
    *to = n->text.ptr;
    srn_config_place *place = srn_arena_alloc(&r->c->arena, sizeof *place);
    if (!place) return srn_fail_nomem(r->err, sizeof *place);
    *place = (srn_config_place){n->text.ptr, n->line, n->column, r->c->places};
    r->c->places = place;
    return SRN_OK;
}

static int read_texts(const reader *r, const field *f, const srn__node *n, void *to) {
    if (n->kind != SRN__LIST) return fail_at(r, n, "%s: needs a list of texts: [a, b]", f->key);
    const char **items = srn_arena_alloc(&r->c->arena, (n->n + 1) * sizeof *items);
    if (!items) return srn_fail_nomem(r->err, n->n * sizeof *items);
    uint32_t i = 0;
    for (const srn__node *item = n->first; item; item = item->next) {
        int code = read_text(r, f->key, f, item, &items[i++]);
        if (code) return code;
    }
    *(const char *const **)to = items;
    *length_of(to) = i;
    return SRN_OK;
}

static int read_bool(const reader *r, const field *f, const srn__node *n, bool *to) {
    if (srn_str_eqz(n->text, "true")) return *to = true, SRN_OK;
    if (srn_str_eqz(n->text, "false")) return *to = false, SRN_OK;
    return fail_at(r, n, "%s: needs true or false, not '%.40s'", f->key, n->text.ptr);
}

static int read_field(const reader *r, const field *f, const srn__node *n, void *base) {
    void *to = (char *)base + f->at;
    if (f->kind == TEXTS) return read_texts(r, f, n, to);
    if (n->kind != SRN__SCALAR)
        return fail_at(r, n, "%s: needs one value, not a %s", f->key,
                       n->kind == SRN__LIST ? "list" : "mapping");
    switch (f->kind) {
    case TEXT:
        return read_text(r, f->key, f, n, (const char **)to);
    case BOOL:
        return read_bool(r, f, n, to);
    case I32:
        return read_int(r, f, n, to);
    case SHARE:
        return read_share(r, f, n, to);
    default:
        return read_amount(r, f, n, to);
    }
}

/* ---- mappings ---- */

static int unknown_key(const reader *r, const srn__node *n, const char *where, const field *fields,
                       size_t n_fields, const char *more) {
    srn_buf list;
    srn_buf_init(&list, 500);
    for (size_t i = 0; i < n_fields; i++) srn_buf_addf(&list, "%s%s", i ? ", " : "", fields[i].key);
    if (*more) srn_buf_addf(&list, "%s%s", n_fields ? ", " : "", more);
    int code = fail_at(r, n, "%s%s%.80s: there is no such key; known are: %s", where, *where ? "." : "",
                       n->key, list.len ? list.data : "");
    srn_buf_done(&list);
    return code;
}

/* Reads the entry if the table has it; *ret_known says so. */
static int read_known(const reader *r, const field *fields, size_t n_fields, const srn__node *n, void *base,
                      bool *ret_known) {
    *ret_known = false;
    for (size_t i = 0; i < n_fields; i++)
        if (strcmp(fields[i].key, n->key) == 0) {
            *ret_known = true;
            return read_field(r, &fields[i], n, base);
        }
    return SRN_OK;
}

static int read_map(const reader *r, const srn__node *map, const char *where, const field *fields,
                    size_t n_fields, void *base) {
    if (map->kind != SRN__MAP) return fail_at(r, map, "%s: needs a mapping: key: value", where);
    for (const srn__node *n = map->first; n; n = n->next) {
        bool known;
        int code = read_known(r, fields, n_fields, n, base, &known);
        if (!code && !known) code = unknown_key(r, n, where, fields, n_fields, "");
        if (code) return code;
    }
    return SRN_OK;
}

static int read_models(const reader *r, const srn__node *list) {
    if (list->kind != SRN__LIST) return fail_at(r, list, "models: needs a list: - name: ...");
    r->c->models = srn_arena_alloc(&r->c->arena, (list->n + 1) * sizeof *r->c->models);
    if (!r->c->models) return srn_fail_nomem(r->err, list->n * sizeof *r->c->models);
    for (const srn__node *n = list->first; n; n = n->next) {
        srn_config_model *m = &r->c->models[r->c->n_models];
        int code = read_map(r, n, "models", model_fields, SRN_LEN(model_fields), m);
        if (!code && !m->path && !m->upstream)
            code = fail_at(r, n, "models: path is missing: a file, or upstream for another server");
        if (!code && !m->name) code = fail_at(r, n, "models: name is missing");
        if (code) return code;
        r->c->n_models++;
    }
    return SRN_OK;
}

/* The mapping's keys; its name alone says where, or "off". */
static int read_ledger(const reader *r, const srn__node *n) {
    static const field where = F(srn_config_ledger, "ledger", TEXT, where, 1, 4095);
    if (n->kind == SRN__SCALAR) return read_field(r, &where, n, &r->c->ledger);
    return read_map(r, n, "ledger", ledger_fields, SRN_LEN(ledger_fields), &r->c->ledger);
}

/* Names and texts, in the file's order. */
static int read_pairs(const reader *r, const srn__node *map, const char *where, const srn_config_pair **ret,
                      uint32_t *ret_n) {
    static const field value = {"", TEXT, 0, 0, 4000};
    if (map->kind != SRN__MAP) return fail_at(r, map, "%s: needs a mapping: name: value", where);
    srn_config_pair *pairs = srn_arena_alloc(&r->c->arena, (map->n + 1) * sizeof *pairs);
    if (!pairs) return srn_fail_nomem(r->err, map->n * sizeof *pairs);
    uint32_t i = 0;
    for (const srn__node *n = map->first; n; n = n->next) {
        pairs[i].name = n->key;
        int code = read_text(r, n->key, &value, n, &pairs[i++].value);
        if (code) return srn_fail_prefix(r->err, code, "%s", where);
    }
    *ret = pairs;
    *ret_n = i;
    return SRN_OK;
}

/* The mapping's keys; an endpoint alone says where. */
static int read_telemetry(const reader *r, const srn__node *map) {
    srn_config_telemetry *t = &r->c->telemetry;
    static const field endpoint = F(srn_config_telemetry, "telemetry", TEXT, endpoint, 1, 1500);
    if (map->kind == SRN__SCALAR) return read_field(r, &endpoint, map, t);
    if (map->kind != SRN__MAP) return fail_at(r, map, "telemetry: needs a mapping: endpoint: ...");
    for (const srn__node *n = map->first; n; n = n->next) {
        bool known;
        int code = read_known(r, telemetry_fields, SRN_LEN(telemetry_fields), n, t, &known);
        if (!code && !known && strcmp(n->key, "headers") == 0)
            code = read_pairs(r, n, "telemetry.headers", &t->headers, &t->n_headers);
        else if (!code && !known && strcmp(n->key, "resource") == 0)
            code = read_pairs(r, n, "telemetry.resource", &t->resource, &t->n_resource);
        else if (!code && !known)
            code = unknown_key(r, n, "telemetry", telemetry_fields, SRN_LEN(telemetry_fields),
                               "headers, resource");
        if (code) return code;
    }
    return SRN_OK;
}

static int read_header(const reader *r, const srn__node *n, srn_config_route *route) {
    if (n->kind != SRN__MAP || n->n != 1 || n->first->kind != SRN__SCALAR)
        return fail_at(r, n, "routes.match.header: needs one header and its value: {X-Name: value}");
    route->header = n->first->key;
    route->header_value = n->first->text.ptr;
    return SRN_OK;
}

static int read_match(const reader *r, const srn__node *map, srn_config_route *route) {
    if (map->kind != SRN__MAP) return fail_at(r, map, "routes.match: needs a mapping");
    for (const srn__node *n = map->first; n; n = n->next) {
        bool known;
        int code = read_known(r, match_fields, SRN_LEN(match_fields), n, route, &known);
        if (!code && !known)
            code = strcmp(n->key, "header") == 0
                       ? read_header(r, n, route)
                       : unknown_key(r, n, "routes.match", match_fields, SRN_LEN(match_fields), "header");
        if (code) return code;
    }
    return SRN_OK;
}

static int read_routes(const reader *r, const srn__node *list) {
    if (list->kind != SRN__LIST) return fail_at(r, list, "routes: needs a list: - name: ...");
    r->c->routes = srn_arena_alloc(&r->c->arena, (list->n + 1) * sizeof *r->c->routes);
    if (!r->c->routes) return srn_fail_nomem(r->err, list->n * sizeof *r->c->routes);
    for (const srn__node *item = list->first; item; item = item->next) {
        srn_config_route *route = &r->c->routes[r->c->n_routes];
        if (item->kind != SRN__MAP) return fail_at(r, item, "routes: needs a mapping: name: ...");
        for (const srn__node *n = item->first; n; n = n->next) {
            bool known;
            int code = read_known(r, route_fields, SRN_LEN(route_fields), n, route, &known);
            if (!code && !known)
                code = strcmp(n->key, "match") == 0
                           ? read_match(r, n, route)
                           : unknown_key(r, n, "routes", route_fields, SRN_LEN(route_fields), "match");
            if (code) return code;
        }
        if (!route->name) return fail_at(r, item, "routes: name is missing");
        r->c->n_routes++;
    }
    return SRN_OK;
}

/* Each as one JSON text, for the room that knows its keys. */
static int read_rollouts(const reader *r, const srn__node *list) {
    if (list->kind != SRN__LIST) return fail_at(r, list, "canary: needs a list: - name: ...");
    r->c->rollouts = srn_arena_alloc(&r->c->arena, (list->n + 1) * sizeof *r->c->rollouts);
    if (!r->c->rollouts) return srn_fail_nomem(r->err, list->n * sizeof *r->c->rollouts);
    for (const srn__node *n = list->first; n; n = n->next) {
        if (n->kind != SRN__MAP) return fail_at(r, n, "canary: needs a mapping: name: ...");
        json_t *o = srn__yaml_value(n);
        char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        const char *kept = text ? srn_arena_strndup(&r->c->arena, text, strlen(text)) : NULL;
        json_decref(o);
        free(text);
        if (!kept) return srn_fail_nomem(r->err, 4096);
        r->c->rollouts[r->c->n_rollouts++] = (srn_config_rollout){kept, n->line};
    }
    return SRN_OK;
}

static int read_top(const reader *r, const srn__node *n) {
    bool known;
    int code = read_known(r, top_fields, SRN_LEN(top_fields), n, r->c, &known);
    if (code || known) return code;
    if (strcmp(n->key, "tls") == 0) return read_map(r, n, "tls", tls_fields, SRN_LEN(tls_fields), r->c);
    if (strcmp(n->key, "limits") == 0)
        return read_map(r, n, "limits", limit_fields, SRN_LEN(limit_fields), &r->c->limits);
    if (strcmp(n->key, "ledger") == 0) return read_ledger(r, n);
    if (strcmp(n->key, "telemetry") == 0) return read_telemetry(r, n);
    if (strcmp(n->key, "models") == 0) return read_models(r, n);
    if (strcmp(n->key, "routes") == 0) return read_routes(r, n);
    if (strcmp(n->key, "canary") == 0) return read_rollouts(r, n);
    return unknown_key(r, n, "", top_fields, SRN_LEN(top_fields),
                       "tls, limits, ledger, telemetry, models, routes, canary");
}

int srn_config_parse(srn_config *c, srn_str yaml, const char *name, srn_err *err) {
    srn__node *root;
    reader r = {c, name, err};
    c->file = srn_arena_strndup(&c->arena, name, strlen(name));
    if (!c->file) return srn_fail_nomem(err, strlen(name));
    int code = srn__yaml_parse(&c->arena, yaml, name, MAX_DEPTH, &root, err);
    if (code) return code;
    if (root->kind != SRN__MAP) return fail_at(&r, root, "a configuration is a mapping: key: value");
    for (const srn__node *n = root->first; n && !code; n = n->next) code = read_top(&r, n);
    return code;
}

int srn_config_load(srn_config *c, const char *path, srn_err *err) {
    char *data;
    size_t len;
    int code = srn_read_file(path, MAX_FILE_BYTES, &data, &len, err);
    if (code) return code;
    code = srn_config_parse(c, (srn_str){data, len}, path, err);
    free(data);
    return code;
}
