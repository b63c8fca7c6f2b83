/* From one configuration to the next: which keys differ, and what a server that runs cannot take from the
 * next one. Pure; any thread. Both look at what is in force, defaults and command line included, through the
 * same text that the configuration's id is the digest of, so no secret is ever among what is named.
 */
#include <stdlib.h>

#include "config/config_internal.h"

enum { MAX_KEY = 512, MAX_DEPTH = 8 };

typedef struct differ {
    srn_config_change_fn *fn;
    void *ctx;
} differ;

/* Keys of the text that the file calls otherwise. */
static const struct {
    const char *text, *file;
} names[] = {
    {"keys_file", "keys"},
    {"tls_cert", "tls.cert"},
    {"tls_key", "tls.key"},
    {"max_bytes", "max_size"},
};

static void name_of(const char *key, char ret[MAX_KEY]) {
    size_t n = strlen(key);
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (strcmp(names[i].text, key) == 0) key = names[i].file, n = strlen(key);
    if (n > 3 && strcmp(key + n - 3, "_ms") == 0) n -= 3;
    snprintf(ret, MAX_KEY, "%.*s", (int)SRN_MIN(n, (size_t)MAX_KEY - 1), key);
}

static void join(char ret[MAX_KEY], const char *prefix, const char *key) {
    snprintf(ret, MAX_KEY, "%.380s%s%.120s", prefix, *prefix ? "." : "", key);
}

static void tell(const differ *d, const char *key, const char *what) {
    char text[MAX_KEY + 16];
    snprintf(text, sizeof text, "%s%s", key, what);
    d->fn(d->ctx, text);
}

static void diff(const differ *d, const char *prefix, const json_t *a, const json_t *b, int depth);

static const char *item_name(const json_t *item) {
    return json_string_value(json_object_get(item, "name"));
}

static const json_t *item_of(const json_t *list, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, i, item) {
        const char *is = item_name(item);
        if (is && strcmp(is, name) == 0) return item;
    }
    return NULL;
}

static bool all_named(const json_t *list) {
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, i, item) {
        if (!item_name(item)) return false;
    }
    return true;
}

/* Of lists whose items have names: which came, which went, which differ, and whether the order does. */
static void diff_lists(const differ *d, const char *prefix, const json_t *a, const json_t *b, int depth) {
    char key[MAX_KEY];
    size_t i, last = 0;
    bool moved = false;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)a, i, item) {
        join(key, prefix, item_name(item));
        if (!item_of(b, item_name(item))) tell(d, key, " (removed)");
    }
    json_array_foreach((json_t *)(uintptr_t)b, i, item) {
        const json_t *before = item_of(a, item_name(item));
        join(key, prefix, item_name(item));
        if (before)
            diff(d, key, before, item, depth + 1);
        else
            tell(d, key, " (added)");
        for (size_t k = 0; before && k < json_array_size(a); k++) {
            if (json_array_get(a, k) != before) continue;
            moved = moved || k < last;
            last = k;
        }
    }
    if (moved) tell(d, prefix, " (order)");
}

static void diff(const differ *d, const char *prefix, const json_t *a, const json_t *b, int depth) {
    if (json_equal(a, b)) return;
    bool lists = json_is_array(a) && json_is_array(b) && all_named(a) && all_named(b) &&
                 json_array_size(a) + json_array_size(b) > 0;
    if (lists && depth < MAX_DEPTH) return diff_lists(d, prefix, a, b, depth);
    if (!json_is_object(a) || !json_is_object(b) || depth == MAX_DEPTH) return tell(d, prefix, "");
    const char *key;
    json_t *value;
    char name[MAX_KEY], whole[MAX_KEY];
    json_object_foreach((json_t *)(uintptr_t)b, key, value) {
        name_of(key, name);
        join(whole, prefix, name);
        const json_t *before = json_object_get(a, key);
        if (before)
            diff(d, whole, before, value, depth + 1);
        else
            tell(d, whole, "");
    }
    json_object_foreach((json_t *)(uintptr_t)a, key, value) {
        name_of(key, name);
        join(whole, prefix, name);
        if (!json_object_get(b, key)) tell(d, whole, "");
    }
}

static bool same_endpoint(const char *a, const char *b) {
    char shown[2][1536];
    srn_url_shown(a, shown[0], sizeof shown[0]);
    srn_url_shown(b, shown[1], sizeof shown[1]);
    return strcmp(shown[0], shown[1]) == 0;
}

static bool same_place(const char *a, const char *b) {
    srn_buf shown[2];
    for (size_t i = 0; i < 2; i++) {
        srn_buf_init(&shown[i], 65536);
        srn_hide_password(i ? b : a, &shown[i]);
        srn_buf_addz(&shown[i], "");
    }
    bool same = !shown[0].failed && !shown[1].failed && strcmp(shown[0].data, shown[1].data) == 0;
    for (size_t i = 0; i < 2; i++) srn_buf_done(&shown[i]);
    return same;
}

static bool same_headers(const srn_config_telemetry *a, const srn_config_telemetry *b, bool values) {
    bool same = a->n_headers == b->n_headers;
    for (uint32_t i = 0; i < a->n_headers && same; i++)
        same = strcmp(a->headers[i].name, b->headers[i].name) == 0 &&
               (!values || strcmp(a->headers[i].value, b->headers[i].value) == 0);
    return same;
}

/* What the texts do not show: passwords in addresses, and values of headers. */
static void diff_secrets(const differ *d, const srn_config *from, const srn_config *to) {
    const srn_config_telemetry *a = &from->telemetry, *b = &to->telemetry;
    const char *x = from->ledger.where, *y = to->ledger.where;
    if (x && y && strcmp(x, y) != 0 && same_place(x, y)) tell(d, "ledger.where", " (changed)");
    if (!a->endpoint || !b->endpoint) return;
    if (strcmp(a->endpoint, b->endpoint) != 0 && same_endpoint(a->endpoint, b->endpoint))
        tell(d, "telemetry.endpoint", " (changed)");
    if (same_headers(a, b, false) && !same_headers(a, b, true)) tell(d, "telemetry.headers", " (changed)");
}

int srn_config_changes(const srn_config *from, const srn_config *to, srn_config_change_fn *fn, void *ctx,
                       srn_err *err) {
    json_t *a = srn__config_json(from), *b = srn__config_json(to);
    const differ d = {fn, ctx};
    int code = a && b ? SRN_OK : srn_fail_nomem(err, 4096);
    if (!code) diff(&d, "", a, b, 0);
    if (!code) diff_secrets(&d, from, to);
    json_decref(a);
    json_decref(b);
    return code;
}

/* ---- what stays ---- */

#define FIXED(member)                                                                                        \
    { offsetof(srn_config, member), sizeof(((srn_config *)0)->member) }

/* Members that a server reads at its start alone. Their texts are those of the configuration that it was
 * started with, which outlives it. */
static const struct {
    size_t at, size;
} fixed[] = {
    FIXED(listen),
    FIXED(ledger.where),
    FIXED(ledger.keys),
    FIXED(ledger.folder),
    {offsetof(srn_config, telemetry.endpoint),
     sizeof(srn_config_telemetry) - offsetof(srn_config_telemetry, endpoint)},
    FIXED(ledger.queue),
    FIXED(ledger.patience_ms),
    FIXED(limits.header_bytes),
    FIXED(limits.queue),
    FIXED(limits.connections),
    FIXED(limits.connections_per_ip),
};

static const char *copy(srn_config *c, const char *z, bool *ok) {
    const char *own = z ? srn_arena_strndup(&c->arena, z, strlen(z)) : NULL;
    if (z && !own) *ok = false;
    return own;
}

int srn_config_keep(srn_config *next, const srn_config *running, srn_err *err) {
    bool ok = true;
    for (size_t i = 0; i < SRN_LEN(fixed); i++)
        memcpy((char *)next + fixed[i].at, (const char *)running + fixed[i].at, fixed[i].size);
    if (!next->tls_cert != !running->tls_cert) { /* a certificate can be another one, but TLS is or is not */
        next->tls_cert = copy(next, running->tls_cert, &ok);
        next->tls_key = copy(next, running->tls_key, &ok);
    }
    return ok ? SRN_OK : srn_fail_nomem(err, 4096);
}
