/* client: outgoing HTTP over libcurl: downloads, small requests (commands, telemetry, webhooks), and answers
 * that come piece by piece (upstreams). An object belongs to one thread, but for streams.
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

/* Whether an address is of this machine, whatever a resolver says: a unix socket, localhost, or 127.0.0.0/8
 * or
 * ::1 written out. */
bool srn_url_is_local(const char *base);

/* ---- streams (stream.c): one thread moves the bytes of all of them ---- */

typedef struct srn_streams srn_streams;
int srn_streams_new(srn_streams **ret, srn_err *err);
/* Ends what runs, telling of it, and joins the thread; none begins any more. One thread, perhaps more than
 * once. */
void srn_streams_stop(srn_streams *s);
void srn_streams_free(srn_streams *s); /* stops it; every stream has been released. NULL is fine */

typedef struct srn_stream srn_stream;
typedef struct srn_stream_to {
    const char *base, *path, *bearer, *ca_file; /* as for srn_http_request; all is copied */
    srn_str body;                               /* JSON; ptr NULL: GET */
    const char *const *headers;
    size_t n_headers;
    size_t max_unread;    /* bytes that wait for the reader before the other end is no longer read */
    uint32_t timeout_ms;  /* until the first byte of the answer is there, and between two of them; but while
                             the reader is behind */
    uint32_t limit_ms;    /* of all of it, waiting included; 0: none */
    uint32_t connections; /* at once to this base; what comes beyond it waits, in order */
    void (*notify)(void *ctx, srn_stream *t); /* there is news: the streams' thread; not after the one that
                                  tells of the end, which comes exactly once. Must not block */
    void *ctx;
} srn_stream_to;
/* Names and resolvers that hang hold up nobody. Redirects are not followed; no proxy is asked for addresses
 * of this machine; certificates are checked. SRN_EINVAL (address), SRN_ENOMEM, SRN_ECANCELLED (it has
 * stopped). */
int srn_stream_begin(srn_streams *s, const srn_stream_to *to, srn_stream **ret, srn_err *err);

typedef struct srn_stream_status {
    int status;             /* of the answer; 0: nothing came yet */
    bool done;              /* it has ended: all bytes are there, or err says why not */
    bool unread;            /* there are bytes to be read */
    uint32_t retry_after_s; /* as the answer says; 0: nothing */
    srn_err err;            /* code SRN_OK: none. SRN_EIO, SRN_ETIMEOUT, SRN_ECANCELLED, SRN_ENOMEM */
    bool tls; /* what failed is the other end's certificate, or the agreement on how to encrypt */
} srn_stream_status;
/* A stretch of bytes and when it came. */
typedef struct srn_stream_mark {
    size_t end; /* offset behind its last byte, from the begin of what was read with it */
    uint64_t at_us;
} srn_stream_mark;
/* Any thread. */
void srn_stream_get(srn_stream *t, srn_stream_status *ret);
/* Moves all that is there behind what `to` holds, and the marks of it to marks, as an array of
 * srn_stream_mark (may be NULL). One thread at a time. */
void srn_stream_read(srn_stream *t, srn_buf *to, srn_buf *marks, srn_stream_status *ret);
/* A header of the answer, copied to ret; false: there is none, or it is longer. Once there is a status. */
bool srn_stream_header(srn_stream *t, const char *name, char *ret, size_t cap);
void srn_stream_cancel(srn_stream *t);  /* any thread, quick; it ends soon */
void srn_stream_release(srn_stream *t); /* cancels; any thread, also inside notify. NULL is fine */

#endif
