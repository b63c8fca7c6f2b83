/* serve: who may ask. Keys, Host headers, origins of web pages. Pure but for reading the key file; the
 * listener calls it for every request.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <strings.h>

#include "serve/http_internal.h"

/* ---- keys ---- */

int srn__keyring_load(const char *path, srn__keyring **ret, srn_err *err) {
    srn__keyring *k = srn_calloc(1, sizeof *k);
    if (!k) return srn_fail_nomem(err, sizeof *k);
    int code = srn_keys_load(path, &k->keys, err);
    if (code) return free(k), code;
    atomic_init(&k->refs, 1);
    *ret = k;
    return 0;
}

void srn__keyring_put(srn__keyring *k) {
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1) return;
    srn_keys_free(k->keys);
    free(k);
}

static srn_str trim(const char *z) {
    z += strspn(z, " \t");
    size_t n = strlen(z);
    while (n && (z[n - 1] == ' ' || z[n - 1] == '\t')) n--;
    return (srn_str){z, n};
}

srn_str srn__access_secret(const srn__call *c) {
    const char *v = srn__call_header(c, "Authorization");
    if (v) {
        v += strspn(v, " \t");
        if (strncasecmp(v, "Bearer", 6) == 0 && (v[6] == ' ' || v[6] == '\t')) return trim(v + 6);
    }
    v = srn__call_header(c, "x-api-key"); /* Anthropic's clients */
    if (!v) v = srn__call_header(c, "api-key");
    return v ? trim(v) : (srn_str){0};
}

/* ---- the Host header ---- */

/* The name without its port and, for IPv6, without its brackets; false when malformed. */
static bool host_name(const char *host, char name[256]) {
    srn_str h = trim(host);
    const char *end = h.ptr + h.len;
    if (h.len && h.ptr[0] == '[') {
        h.ptr++;
        end = memchr(h.ptr, ']', h.len - 1);
        if (!end) return false;
    } else {
        const char *colon = memchr(h.ptr, ':', h.len);
        if (colon) end = colon;
    }
    size_t n = (size_t)(end - h.ptr);
    if (n == 0 || n >= 256) return false;
    if (n > 1 && h.ptr[n - 1] == '.') n--; /* the root's dot */
    memcpy(name, h.ptr, n);
    name[n] = 0;
    return true;
}

static bool is_address(const char *name) {
    unsigned char b[16];
    return inet_pton(AF_INET, name, b) == 1 || inet_pton(AF_INET6, name, b) == 1;
}

bool srn__access_host(const srn_config *c, const srn__address *a, const char *host) {
    char name[256], allowed[256];
    if (a->path[0]) return true; /* no page of a browser reaches a unix socket */
    if (!host) return true;      /* HTTP/1.0; browsers always send one */
    if (!host_name(host, name)) return false;
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        if (strcmp(c->hosts[i], "*") == 0) return true;
        if (host_name(c->hosts[i], allowed) && strcasecmp(name, allowed) == 0) return true;
    }
    if (c->n_hosts) return false;
    if (strcasecmp(name, "localhost") == 0 || strcasecmp(name, a->host) == 0) return true;
    if (strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0) return true;
    /* Who listens beyond loopback is reached by addresses of the machine; a page cannot make a browser send
     * an address in place of the name that it was loaded from. */
    return !a->loopback && is_address(name);
}

/* ---- origins ---- */

const char *srn__access_origin(const srn_config *c, const char *origin) {
    if (!origin) return NULL;
    for (uint32_t i = 0; i < c->n_cors; i++) {
        if (strcmp(c->cors[i], "*") == 0) return "*";
        if (strcasecmp(c->cors[i], origin) == 0) return c->cors[i];
    }
    return NULL;
}

bool srn__access_same_origin(const char *origin, const char *host) {
    const char *after = strstr(origin, "://");
    return after && host && strcasecmp(after + 3, host) == 0;
}
