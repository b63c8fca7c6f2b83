/* Small requests over libcurl: a body there, a body back, whatever its status. For commands that talk to a
 * server, and for telemetry. One thread. Refuses answers that are longer than allowed, redirects, and
 * addresses that are neither http, https nor a unix socket.
 */
#include <curl/curl.h>
#include <stdlib.h>

#include "client/client_internal.h"

enum { MAX_PATH = 2048 };

struct srn_http_session {
    CURL *curl;
};

typedef struct answer {
    srn_buf body;
    const srn_request_to *r;
} answer;

int srn_http_session_new(srn_http_session **ret, srn_err *err) {
    srn_http_session *s = srn_calloc(1, sizeof *s);
    if (s) s->curl = curl_easy_init();
    if (!s || !s->curl) {
        free(s);
        return srn_fail_nomem(err, sizeof *s);
    }
    *ret = s;
    return SRN_OK;
}

void srn_http_session_free(srn_http_session *s) {
    if (!s) return;
    curl_easy_cleanup(s->curl);
    free(s);
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx) {
    answer *a = ctx;
    size_t take = one * n;
    if (a->r->cut) take = SRN_MIN(take, a->body.max - a->body.len);
    return srn_buf_add(&a->body, p, take) ? one * n : 0;
}

static bool given_up(const srn_request_to *r) {
    return (r->cancel && *r->cancel) || (r->give_up && r->give_up(r->give_up_ctx));
}

static int on_progress(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
    (void)total, (void)now, (void)up_total, (void)up;
    const answer *a = ctx;
    return given_up(a->r);
}

int srn__curl_address(CURL *c, const char *base, const char *path, srn_err *err) {
    char url[MAX_PATH];
    bool is_socket = strncmp(base, "unix:", 5) == 0;
    bool known = is_socket || strncmp(base, "http://", 7) == 0 || strncmp(base, "https://", 8) == 0;
    if (!known)
        return srn_fail(err, SRN_EINVAL,
                        "'%.200s' is no address of a server: http://HOST:PORT, https://... or "
                        "unix:PATH",
                        base);
    size_t n = strlen(base);
    while (n && base[n - 1] == '/') n--;
    if (n > 3 && memcmp(base + n - 3, "/v1", 3) == 0) n -= 3;
    int len = is_socket ? snprintf(url, sizeof url, "http://localhost%s", path)
                        : snprintf(url, sizeof url, "%.*s%s", (int)n, base, path);
    if (len < 0 || (size_t)len >= sizeof url)
        return srn_fail(err, SRN_EINVAL, "the address is longer than %d bytes", MAX_PATH);
    if (is_socket) curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, base + 5);
    curl_easy_setopt(c, CURLOPT_URL, url);
    return SRN_OK;
}

struct curl_slist *srn__curl_headers(const srn__curl_head *h) {
    struct curl_slist *list = curl_slist_append(NULL, h->accept);
    char text[4096];
    if (h->bearer) {
        snprintf(text, sizeof text, "Authorization: Bearer %s", h->bearer);
        list = curl_slist_append(list, text);
    }
    if (h->body) list = curl_slist_append(list, "Content-Type: application/json");
    if (h->body) list = curl_slist_append(list, "Expect:"); /* nobody waits to be asked for the body */
    for (size_t i = 0; i < h->n_headers; i++) list = curl_slist_append(list, h->headers[i]);
    return list;
}

static void set_rest(CURL *c, const srn_request_to *r, answer *a) {
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROXY, r->insecure ? "" : NULL); /* this machine's own server: never */
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(r->timeout_ms ? r->timeout_ms : 60000));
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, a);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* a resolver that hangs is not waited for */
#endif
    if (r->ca_file) curl_easy_setopt(c, CURLOPT_CAINFO, r->ca_file);
    if (r->insecure) {
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (!r->body.ptr) return;
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body.ptr);
}

static int result_of(const srn_request_to *r, const answer *a, CURLcode got, const char *why, srn_err *err) {
    char shown[256];
    srn_url_shown(r->base, shown, sizeof shown);
    if (given_up(r)) return srn_fail(err, SRN_ECANCELLED, "cancelled");
    if (a->body.failed) return srn_fail(err, SRN_ELIMIT, "%s%s: the answer is too long", shown, r->path);
    if (got == CURLE_OK) return SRN_OK;
    return srn_fail(err, got == CURLE_OPERATION_TIMEDOUT ? SRN_ETIMEOUT : SRN_EIO, "%s: %s", shown,
                    why[0] ? why : curl_easy_strerror(got));
}

int srn_http_request(const srn_request_to *r, int *ret_status, char **ret, size_t *ret_len, srn_err *err) {
    answer a = {.r = r};
    char why[CURL_ERROR_SIZE] = "";
    long status = 0;
    curl_off_t retry_after = 0;
    CURL *c = r->session ? r->session->curl : curl_easy_init();
    if (!c) return srn_fail_nomem(err, 0);
    if (r->session) curl_easy_reset(c);
    srn_buf_init(&a.body, r->max_bytes ? r->max_bytes : (size_t)64 << 20);
    srn_buf_add(&a.body, "", 0);
    int code = srn__curl_address(c, r->base, r->path, err);
    struct curl_slist *headers = srn__curl_headers(
        &(srn__curl_head){"Accept: application/json", r->bearer, r->body.ptr, r->headers, r->n_headers});
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    set_rest(c, r, &a);
    CURLcode got = code ? CURLE_OK : curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &retry_after);
    if (r->session)
        curl_easy_reset(c);
    else
        curl_easy_cleanup(c);
    curl_slist_free_all(headers);
    if (!code) code = result_of(r, &a, got, why, err);
    if (code) {
        srn_buf_done(&a.body);
        return code;
    }
    if (r->ret_retry_after_s) *r->ret_retry_after_s = (uint32_t)SRN_MIN(retry_after, (curl_off_t)86400);
    *ret_status = (int)status;
    *ret = a.body.data ? a.body.data : srn_strndup("", 0);
    *ret_len = a.body.len;
    return SRN_OK;
}
