/* Telemetry's part of the configuration: what OpenTelemetry's environment variables say where serin.yaml says
 * nothing, and whether an endpoint and its headers can be used. The environment is a function that is passed
 * in; pure. Refuses endpoints that are neither http nor https, and headers that would be two. Values of
 * headers appear in no message.
 */
#include <stdlib.h>
#include <strings.h>

#include "config/config_internal.h"

enum { MAX_PAIRS = 64 };

/* ---- what a text must be ---- */

static bool is_token(const char *s) {
    static const char marks[] = "!#$%&'*+-.^_`|~";
    if (!*s) return false;
    for (; *s; s++) {
        bool alnum = (*s >= '0' && *s <= '9') || (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
        if (!alnum && !strchr(marks, *s)) return false;
    }
    return true;
}

static bool is_line(const char *s) {
    for (; *s; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7F) return false;
    return true;
}

static bool is_endpoint(const char *s) {
    size_t scheme = strncmp(s, "http://", 7) == 0 ? 7 : strncmp(s, "https://", 8) == 0 ? 8 : 0;
    return scheme && s[scheme] && s[scheme] != '/' && !strpbrk(s, "?# \t\r\n") && is_line(s);
}

int srn__telemetry_check(const srn_config *c, srn_err *err) {
    const srn_config_telemetry *t = &c->telemetry;
    char shown[256];
    if (!t->endpoint) return SRN_OK;
    srn_url_shown(t->endpoint, shown, sizeof shown);
    if (!is_endpoint(t->endpoint))
        return srn_config_fail(c, t->endpoint, err,
                               "telemetry: endpoint: '%s' is no address of a collector; write "
                               "http://HOST:4318 or https://HOST:4318 without a query",
                               shown);
    for (uint32_t i = 0; i < t->n_headers; i++)
        if (!is_token(t->headers[i].name) || !is_line(t->headers[i].value))
            return srn_config_fail(c, t->headers[i].value, err,
                                   "telemetry: headers: '%.100s' is no header, or its value has a line break",
                                   t->headers[i].name);
    return SRN_OK;
}

/* ---- the environment ---- */

typedef struct env {
    srn_config *c;
    const char *(*get)(const char *name);
    srn_err *err;
} env;

/* NULL for what is not set, or is empty, which is the same by OpenTelemetry's rules. */
static const char *value_of(const env *e, const char *name) {
    const char *v = e->get(name);
    return v && *v ? v : NULL;
}

/* Said in the log once there is one. */
static void note(const env *e, const char *what, const char *value) {
    char text[300];
    int n = snprintf(text, sizeof text, "%s%.60s", what, value);
    e->c->telemetry.note = srn_arena_strndup(&e->c->arena, text, (size_t)n);
}

static int bad(const env *e, const char *name, const char *what) {
    return srn_fail(e->err, SRN_EINVAL, "the environment's %s: %s", name, what);
}

static int hex_of(char c) {
    const char *p = c ? strchr("0123456789abcdef", c | 0x20) : NULL;
    return p ? (int)(p - "0123456789abcdef") : -1;
}

/* Blanks around it left off, %41 read as A. NULL: it cannot be read, or no memory. */
static const char *decoded(srn_config *c, const char *p, size_t n) {
    while (n && (*p == ' ' || *p == '\t')) p++, n--;
    while (n && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    char *ret = srn_arena_strndup(&c->arena, p, n), *to = ret;
    for (size_t i = 0; ret && i < n; i++, to++) {
        int hi = p[i] == '%' && i + 2 < n ? hex_of(p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_of(p[i + 2]) : -1;
        if (p[i] == '%' && (lo < 0 || (hi | lo) == 0)) return NULL;
        *to = p[i] == '%' ? (char)(hi << 4 | lo) : p[i];
        if (p[i] == '%') i += 2;
    }
    if (ret) *to = 0;
    return ret;
}

/* "a=1,b=2" */
static int read_list(const env *e, const char *name, const srn_config_pair **ret, uint32_t *ret_n) {
    const char *text = value_of(e, name);
    srn_config_pair *pairs = srn_arena_alloc(&e->c->arena, MAX_PAIRS * sizeof *pairs);
    uint32_t n = 0;
    if (!text || *ret_n) return SRN_OK;
    if (!pairs) return srn_fail_nomem(e->err, MAX_PAIRS * sizeof *pairs);
    for (const char *p = text; *p; p += *p == ',') {
        size_t len = strcspn(p, ","), key = strcspn(p, "=,");
        if (len && key < len && n < MAX_PAIRS) {
            pairs[n].name = decoded(e->c, p, key);
            pairs[n].value = decoded(e->c, p + key + 1, len - key - 1);
        }
        bool blank = strspn(p, " \t") >= len;
        if (!blank && (key >= len || n == MAX_PAIRS || !pairs[n].name || !pairs[n].value || !*pairs[n].name))
            return bad(e, name, "write NAME=VALUE,NAME=VALUE, at most 64 of them, with %XX for other signs");
        n += !blank;
        p += len;
    }
    *ret = pairs;
    *ret_n = n;
    return SRN_OK;
}

static int read_ms(const env *e, const char *name, uint32_t least, uint32_t most, uint32_t *to) {
    const char *text = value_of(e, name);
    char *end = NULL;
    if (!text) return SRN_OK;
    unsigned long long v = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end || v < least || v > most) {
        char what[80];
        snprintf(what, sizeof what, "needs a whole number of milliseconds from %u to %u", least, most);
        return bad(e, name, what);
    }
    *to = (uint32_t)v;
    return SRN_OK;
}

static int read_sampler(const env *e) {
    srn_config_telemetry *t = &e->c->telemetry;
    const char *name = value_of(e, "OTEL_TRACES_SAMPLER"), *arg = value_of(e, "OTEL_TRACES_SAMPLER_ARG");
    static const struct {
        const char *name;
        double sample; /* -1: what the argument says */
    } known[] = {{"always_on", 1}, {"always_off", 0}, {"traceidratio", -1}};
    if (!name) return SRN_OK;
    bool parent = strncmp(name, "parentbased_", 12) == 0;
    for (size_t i = 0; i < SRN_LEN(known); i++) {
        if (strcmp(name + (parent ? 12 : 0), known[i].name) != 0) continue;
        t->ignore_parent = !parent;
        t->sample = known[i].sample < 0 ? 1 : known[i].sample;
        if (known[i].sample >= 0 || !arg || srn__share_parse(srn_str_of(arg), &t->sample)) return SRN_OK;
        return bad(e, "OTEL_TRACES_SAMPLER_ARG", "needs a number from 0 to 1");
    }
    note(e, "OTEL_TRACES_SAMPLER is not known here, and every call is traced: ", name);
    return SRN_OK;
}

static bool is_none(const env *e, const char *name) {
    const char *v = value_of(e, name);
    return v && strcmp(v, "none") == 0;
}

static bool is_disabled(const env *e) {
    const char *v = value_of(e, "OTEL_SDK_DISABLED");
    return v && strcasecmp(v, "true") == 0;
}

/* An endpoint by the environment; one that speaks gRPC is none. */
static void read_endpoint(const env *e) {
    srn_config_telemetry *t = &e->c->telemetry;
    const char *protocol = value_of(e, "OTEL_EXPORTER_OTLP_PROTOCOL");
    const char *endpoint = value_of(e, "OTEL_EXPORTER_OTLP_ENDPOINT");
    if (!endpoint) return;
    if (protocol && strcmp(protocol, "grpc") == 0)
        note(e,
             "nothing is sent: Serin speaks http/json only; name the collector's HTTP port (4318), and leave "
             "out "
             "OTEL_EXPORTER_OTLP_PROTOCOL, which is ",
             protocol);
    else
        t->endpoint = srn_arena_strndup(&e->c->arena, endpoint, strlen(endpoint));
}

int srn_config_otel_env(srn_config *c, const char *(*get)(const char *name), srn_err *err) {
    srn_config_telemetry *t = &c->telemetry;
    const env e = {c, get, err};
    if (is_disabled(&e)) {
        t->endpoint = NULL;
        return SRN_OK;
    }
    int code = SRN_OK;
    if (!t->endpoint) { /* a file that names one has said the rest too */
        read_endpoint(&e);
        if (!t->endpoint) return SRN_OK;
        code = read_sampler(&e);
        if (!code) code = read_ms(&e, "OTEL_EXPORTER_OTLP_TIMEOUT", 100, 600000, &t->timeout_ms);
        if (!code) code = read_ms(&e, "OTEL_METRIC_EXPORT_INTERVAL", 100, 86400000, &t->metrics_interval_ms);
        if (!code) code = read_ms(&e, "OTEL_BSP_SCHEDULE_DELAY", 0, 600000, &t->delay_ms);
        t->no_traces = is_none(&e, "OTEL_TRACES_EXPORTER");
        t->no_metrics = is_none(&e, "OTEL_METRICS_EXPORTER");
        const char *ca = value_of(&e, "OTEL_EXPORTER_OTLP_CERTIFICATE");
        if (ca && !t->ca) t->ca = srn_arena_strndup(&c->arena, ca, strlen(ca));
    }
    const char *service = value_of(&e, "OTEL_SERVICE_NAME");
    if (service && strcmp(t->service_name, "serin") == 0)
        t->service_name = srn_arena_strndup(&c->arena, service, strlen(service));
    /* Secrets may come this way where the file holds none. */
    if (!code) code = read_list(&e, "OTEL_EXPORTER_OTLP_HEADERS", &t->headers, &t->n_headers);
    if (!code) code = read_list(&e, "OTEL_RESOURCE_ATTRIBUTES", &t->resource, &t->n_resource);
    if (code) return code;
    return t->service_name ? SRN_OK : srn_fail_nomem(err, 256);
}
