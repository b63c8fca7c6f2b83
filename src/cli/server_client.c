/* cli: talking to a server. Finds it, asks, turns its errors into ours. Main thread; owns nothing but what
 * srn__server_find allocates. Refuses server.json files that are not what a server writes.
 */
#include "cli/server_client.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/client.h"

/* ---- finding it ---- */

static int read_local(const char *dir, srn__server *ret, srn_err *err) {
    char path[4200], *text = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/server.json", dir);
    int code = srn_read_file(path, 1 << 16, &text, &n, err);
    if (code == SRN_ENOENT)
        code = srn_fail(err, code,
                        "%s is written by a process that serves nobody now; try again, or name a "
                        "server with --server URL --key KEY",
                        dir);
    if (code) return code;
    json_t *j = json_loadb(text, n, 0, NULL);
    free(text);
    const char *address = json_string_value(json_object_get(j, "address")),
               *token = json_string_value(json_object_get(j, "token"));
    if (!address || !token) {
        code = srn_fail(err, SRN_EFORMAT, "%s is not what a server writes; restart the server", path);
    } else {
        ret->base = srn_strndup(address, strlen(address));
        ret->token = srn_strndup(token, strlen(token));
        ret->local = true;
        if (!ret->base || !ret->token) code = srn_fail_nomem(err, strlen(address));
    }
    json_decref(j);
    return code;
}

int srn__server_find(const srn__server_opts *o, srn__server *ret, srn_err *err) {
    const char *key = o->key ? o->key : getenv("SERIN_KEY");
    *ret = (srn__server){0};
    int code = SRN_OK;
    if (o->server) {
        ret->base = srn_strndup(o->server, strlen(o->server));
        ret->token = key ? srn_strndup(key, strlen(key)) : NULL;
        return ret->base ? SRN_OK : srn_fail_nomem(err, strlen(o->server));
    }
    srn_buf dir;
    srn_buf_init(&dir, 8192);
    code = srn__ledger_served(o->ledger, o->folder, &dir, err);
    if (!code) code = read_local(dir.data, ret, err);
    srn_buf_done(&dir);
    if (!code && o->key) {
        free(ret->token);
        ret->token = srn_strndup(o->key, strlen(o->key));
    }
    if (code) srn__server_done(ret);
    return code;
}

void srn__server_done(srn__server *s) {
    free(s->base);
    free(s->token);
    *s = (srn__server){0};
}

/* ---- asking ---- */

static int refused(const srn__server *s, int status, const json_t *answer, srn_err *err) {
    const char *text = json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
    int code = status == 404                                     ? SRN_ENOENT
               : status == 401 || status == 403                  ? SRN_EUSAGE
               : status == 409 || status == 429 || status == 503 ? SRN_EBUSY
               : status >= 400 && status < 500                   ? SRN_EINVAL
                                                                 : SRN_EIO;
    if (text) return srn_fail(err, code, "%s", text);
    return srn_fail(err, code, "%s answered with status %d", s->base, status);
}

int srn__server_json(const srn__server *s, const char *path, json_t *body, json_t **ret, srn_err *err) {
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL, *answer = NULL;
    size_t n = 0;
    int status = 0;
    srn_request_to r = {
        .base = s->base, .path = path, .bearer = s->token, .insecure = s->local, .timeout_ms = s->timeout_ms};
    if (body && !text) {
        json_decref(body);
        return srn_fail_nomem(err, 0);
    }
    json_decref(body);
    if (text) r.body = srn_str_of(text);
    int code = srn_http_request(&r, &status, &answer, &n, err);
    free(text);
    if (code == SRN_EIO && s->local)
        code = srn_fail_prefix(err, code, "the server that wrote server.json does not answer; is it gone?");
    if (code) return code;
    json_t *j = json_loadb(answer, n, 0, NULL);
    free(answer);
    if (status < 200 || status > 299)
        code = refused(s, status, j, err);
    else if (!j)
        code = srn_fail(err, SRN_EIO, "%s: the answer is no JSON; is it a Serin server?", s->base);
    if (code)
        json_decref(j);
    else
        *ret = j;
    return code;
}

void srn__server_escape(srn_buf *b, const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("-._~", c));
        if (plain)
            srn_buf_addc(b, (char)c);
        else
            srn_buf_addf(b, "%%%02X", c);
    }
}

const char *srn__server_user(const char *said, char ret[64]) {
    char text[4096];
    struct passwd of, *found = NULL;
    const char *name = said ? said : getenv("USER");
    if (!name || !*name) {
        getpwuid_r(geteuid(), &of, text, sizeof text, &found);
        name = found && *found->pw_name ? found->pw_name : "unknown";
    }
    snprintf(ret, 64, "%.60s", name);
    return ret;
}
