/* client: outgoing HTTP over libcurl: downloads, and small requests (commands, telemetry; upstreams and
 * webhooks later). An object belongs to one thread.
 */
#ifndef SRN_CLIENT_CLIENT_H
#define SRN_CLIENT_CLIENT_H

#include "base/base.h"

typedef struct srn_download_opts {
    const char *url;
    const char *path;   /* where the file shall be; appears there whole or not at all (PATH.part meanwhile) */
    const char *sha256; /* expected, hex, or NULL: then as the server says it (X-Linked-ETag), if it does */
    const char *bearer; /* token, sent to the URL's own host only, or NULL */
    bool no_resume;
    /* Looks at the file's first bytes, n of them (all of a file that is shorter), once they are there; what
     * it refuses is not kept. May be NULL. */
    int (*head)(void *ctx, const uint8_t *p, size_t n, srn_err *err);
    void *head_ctx;
    uint32_t retries;  /* after a cut connection, from where it was cut; 0: 5 */
    uint32_t retry_ms; /* wait before the first retry that follows no progress, doubled each time; 0: 1000 */
    srn_progress_fn *progress;
    void *progress_ctx;
    const volatile int *cancel; /* may be NULL */
} srn_download_opts;
typedef struct srn_download {
    uint64_t bytes, resumed_from;
    char sha256[2 * SRN_SHA256_BYTES + 1];
    bool verified; /* against an expected digest */
} srn_download;
/* Errors say what to do: SRN_EIO (no network, cut, wrong length), SRN_ENOENT (404), SRN_EFORMAT (digest),
 * SRN_EINVAL (URL), SRN_ELIMIT (no room on the disk), SRN_ECANCELLED. */
int srn_download_file(const srn_download_opts *o, srn_download *ret, srn_err *err);

/* GETs a small answer (JSON of a hub) into *ret, at most max_bytes, malloc'd and NUL-terminated. Errors as
 * above. */
int srn_http_get(const char *url, const char *bearer, size_t max_bytes, const volatile int *cancel,
                 char **ret, size_t *ret_len, srn_err *err);

/* What requests to one place share, so that its connection is kept. */
typedef struct srn_http_session srn_http_session;
int srn_http_session_new(srn_http_session **ret, srn_err *err);
void srn_http_session_free(srn_http_session *s);

/* One request with a small answer. */
typedef struct srn_request_to {
    const char *base;    /* "http://HOST:PORT", "https://...", "unix:PATH"; a "/v1" at its end is left off */
    const char *path;    /* "/v1/ps?x=y", encoded */
    const char *bearer;  /* or NULL */
    srn_str body;        /* JSON, to be POSTed; ptr NULL: GET */
    size_t max_bytes;    /* of the answer; 0: 64 MiB */
    uint32_t timeout_ms; /* 0: a minute */
    bool insecure;       /* a server of this machine: its certificate is not checked, no proxy is used */
    const volatile int *cancel; /* may be NULL */
    bool (*give_up)(void *ctx); /* asked about once a second; may be NULL */
    void *give_up_ctx;
    const char *const *headers; /* more of them: "Name: value" [n_headers] */
    size_t n_headers;
    const char *ca_file;         /* certificates to trust, instead of the system's; or NULL */
    bool cut;                    /* what is beyond max_bytes is left out, and no error */
    srn_http_session *session;   /* or NULL */
    uint32_t *ret_retry_after_s; /* what the answer's Retry-After says; 0: nothing. May be NULL */
} srn_request_to;
/* The answer's status and its body, malloc'd and NUL-terminated. Redirects are answers; nobody follows them.
 * SRN_EIO: no server, or it broke off; SRN_ETIMEOUT, SRN_ELIMIT, SRN_EINVAL (address), SRN_ECANCELLED. What
 * they say of the address has neither its user nor its query. */
int srn_http_request(const srn_request_to *r, int *ret_status, char **ret, size_t *ret_len, srn_err *err);

#endif
