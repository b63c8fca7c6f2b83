/* serve: who may ask. Keys, Host headers, origins of web pages. Pure; the listener calls it for every
 * request.
 */
#include <arpa/inet.h>
#include <strings.h>
#include <unistd.h>

#include "serve/http_internal.h"

/* ---- keys ---- */

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

/* An IPv6 address as it is, without brackets or port. */
static bool inet_six(const char *text, char name[256]) {
    unsigned char b[16];
    if (inet_pton(AF_INET6, text, b) != 1) return false;
    snprintf(name, 256, "%s", text);
    return true;
}

static bool is_address(const char *name) {
    unsigned char b[16];
    return inet_pton(AF_INET, name, b) == 1 || inet_pton(AF_INET6, name, b) == 1;
}

/* The machine's name as it knows it, its first label, and that in the local network's domain. */
static bool is_own_name(const char *name) {
    char own[256] = "";
    if (gethostname(own, sizeof own - 1) != 0 || !own[0]) return false;
    if (strcasecmp(name, own) == 0) return true;
    size_t n = strcspn(own, ".");
    return n > 0 && strncasecmp(name, own, n) == 0 && (name[n] == 0 || strcasecmp(name + n, ".local") == 0);
}

/* What reaches this machine under whatever address: any literal one, for a page cannot make a browser send an
 * address in place of the name that it was loaded from; and, where keys keep strangers out all the same, the
 * machine's name. */
static bool is_machine(const srn_config *c, const char *name) {
    return is_address(name) || strcasecmp(name, "localhost") == 0 || (c->keys_file && is_own_name(name));
}

static bool is_any(const char *name) {
    return strcmp(name, "0.0.0.0") == 0 || strcmp(name, "::") == 0;
}

bool srn__access_host(const srn_config *c, const srn__address *a, const char *host) {
    char name[256], allowed[256];
    if (a->path[0]) return true; /* no page of a browser reaches a unix socket */
    if (!host) return true;      /* HTTP/1.0; browsers always send one */
    if (!host_name(host, name)) return false;
    for (uint32_t i = 0; i < c->n_hosts; i++) {
        if (strcmp(c->hosts[i], "*") == 0) return true;
        if (!inet_six(c->hosts[i], allowed) && !host_name(c->hosts[i], allowed)) continue;
        if (strcasecmp(name, allowed) == 0 || (is_any(allowed) && is_machine(c, name))) return true;
    }
    if (c->n_hosts) return false;
    if (strcasecmp(name, "localhost") == 0 || strcasecmp(name, a->host) == 0) return true;
    if (strcmp(name, "127.0.0.1") == 0 || strcmp(name, "::1") == 0) return true;
    return !a->loopback && is_machine(c, name);
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
