/* serve: another configuration for a server that runs. It is read and checked whole, models that it has new
 * are loaded, keys and certificate are read; only then it is put in force, by handing it to the listener:
 * calls that run keep what they began with. What was wrong is said in the log, in the ledger and in the
 * answer, and changes nothing. What cannot change while the server runs is named, and stays as it was.
 *
 * One reload at a time, on the thread of who asked: a worker for POST /v1/reload, for signals a thread of its
 * own, since models may take long to load.
 */
#include <stdlib.h>

#include "serve/routes.h"
#include "serve/server_internal.h"

/* What is made ready and not in force yet. */
typedef struct readied {
    srn_config *config; /* until the settings own it */
    srn__settings *settings;
    srn__cert *cert;
    srn__view *view;
} readied;

static void config_free(srn_config *c) {
    if (c) srn_config_done(c);
    free(c);
}

static void add_name(void *ctx, const char *key) {
    json_array_append_new(ctx, json_string(key));
}

/* Those of `wanted` that are not in `changed`. */
static json_t *without(const json_t *wanted, const json_t *changed) {
    json_t *rest = json_array(), *one, *other;
    size_t i, k;
    json_array_foreach((json_t *)(uintptr_t)wanted, i, one) {
        bool found = false;
        json_array_foreach((json_t *)(uintptr_t)changed, k, other) found = found || json_equal(one, other);
        if (!found) json_array_append(rest, one);
    }
    return rest;
}

/* Reads and checks; nothing that runs knows of it. */
static int read_next(srn_server *s, const srn__settings *now, readied *r, json_t **ret_wanted, srn_err *err) {
    if (!s->opts.configure)
        return srn_fail(err, SRN_EUNSUP, "this server was not told how to read its configuration again");
    int code = s->opts.configure(s->opts.configure_ctx, &r->config, err);
    if (!code) code = srn_server_check(r->config, err);
    if (code) return code;
    json_t *wanted = json_array();
    code =
        wanted ? srn_config_changes(now->config, r->config, add_name, wanted, err) : srn_fail_nomem(err, 64);
    if (!code) code = srn_config_keep(r->config, now->config, err);
    if (!code) code = srn_config_check(r->config, err);
    if (code)
        json_decref(wanted);
    else
        *ret_wanted = wanted;
    return code;
}

/* Everything that may fail or take long. */
static int make_ready(srn_server *s, const srn__settings *now, readied *r, srn__reloaded *ret, srn_err *err) {
    json_t *wanted = NULL;
    int code = read_next(s, now, r, &wanted, err);
    if (code) return code;
    const srn_config *c = r->config;
    ret->changed = json_array();
    code = ret->changed ? srn_config_changes(now->config, c, add_name, ret->changed, err)
                        : srn_fail_nomem(err, 64);
    if (!code) {
        ret->restart = without(wanted, ret->changed);
        code = srn__settings_new(c, r->config, &r->settings, err);
    }
    json_decref(wanted);
    if (code) return code;
    r->config = NULL;
    srn_keys_changes(now->keys, r->settings->keys, add_name, ret->changed);
    if (c->tls_cert) code = srn__cert_load(c->tls_cert, c->tls_key, &r->cert, err);
    if (!code) code = srn__http_may(s->http, r->settings, err);
    if (!code) code = srn__rollouts_may(s->rollouts, now->config, c, err);
    if (!code) code = srn__models_prepare(s->models, c, &r->view, err);
    return code;
}

static void put_in_force(srn_server *s, readied *r) {
    const srn_config *c = r->settings->config;
    srn__models_commit(s->models, r->view);
    srn__recorder_adopt(s->recorder, c);
    atomic_store(&s->grace_ms, c->grace_ms);
    srn__http_adopt(s->http, r->settings, r->cert);
    *r = (readied){0};
}

/* What cannot be recorded now is tried again by the next reload. */
static void adopt_rollouts(srn_server *s, const srn_config *before, const srn_config *c, json_t *waits) {
    srn_err err = {0};
    int code = s->rollouts ? srn__rollouts_declared(s->rollouts, s->models, before, c, waits, &err) : SRN_OK;
    if (code) srn__http_log_event(s->http, "rollouts_not_changed", err.text);
    srn__watcher_poke(s->watcher);
}

static void forget(readied *r) {
    config_free(r->config);
    srn__settings_put(r->settings);
    srn__cert_free(r->cert);
}

static char *list_of(const json_t *names) {
    srn_buf b;
    size_t i;
    json_t *name;
    srn_buf_init(&b, 1000);
    json_array_foreach((json_t *)(uintptr_t)names, i, name)
        srn_buf_addf(&b, "%s%s", i ? ", " : "", json_string_value(name));
    char *text = srn_strndup(b.len ? b.data : "nothing", b.len ? b.len : 7);
    srn_buf_done(&b);
    return text;
}

static void tell_done(srn_server *s, const char *by, const srn__reloaded *r, const srn_config *c) {
    char *changed = list_of(r->changed), *restart = list_of(r->restart), text[2300];
    snprintf(text, sizeof text, "configuration %.12s, by %.64s; changed: %s%s%s", r->to, by,
             changed ? changed : "?", json_array_size(r->restart) ? "; needs a restart: " : "",
             json_array_size(r->restart) && restart ? restart : "");
    srn__http_log_event(s->http, "reload", text);
    free(changed);
    free(restart);
    srn__recorder_event_by(s->recorder, "reload", by,
                           json_pack("{s:s, s:s, s:O, s:O}", "from", r->from, "to", r->to, "changed",
                                     r->changed, "needs_restart", r->restart));
    if (strcmp(r->from, r->to) != 0) srn__recorder_config(s->recorder, c);
}

static void tell_refused(srn_server *s, const char *by, const srn__reloaded *r, const srn_err *why) {
    srn__http_log_event(s->http, "reload_refused", why->text);
    srn__recorder_event_by(s->recorder, "reload_refused", by,
                           json_pack("{s:s, s:s}", "config", r->from, "what", why->text));
}

int srn__server_reload(srn_server *s, const char *by, srn__reloaded *ret, srn_err *err) {
    readied r = {0};
    *ret = (srn__reloaded){0};
    pthread_mutex_lock(&s->reload_lock);
    srn__settings *now = srn__http_settings(s->http);
    snprintf(ret->from, sizeof ret->from, "%s", now->id);
    snprintf(ret->to, sizeof ret->to, "%s", now->id);
    int code = make_ready(s, now, &r, ret, err);
    if (!code) {
        srn__settings *next = srn__settings_hold(r.settings);
        snprintf(ret->to, sizeof ret->to, "%s", next->id);
        put_in_force(s, &r);
        ret->waits = json_array();
        adopt_rollouts(s, now->config, next->config, ret->waits);
        tell_done(s, by, ret, next->config);
        srn__settings_put(next);
    } else {
        forget(&r);
        tell_refused(s, by, ret, err);
    }
    srn__metrics_reload(s->metrics, code == SRN_OK);
    srn__settings_put(now);
    pthread_mutex_unlock(&s->reload_lock);
    return code;
}

void srn__server_thawed(srn_server *s) {
    pthread_mutex_lock(&s->reload_lock);
    srn__settings *now = srn__http_settings(s->http);
    adopt_rollouts(s, now->config, now->config, NULL);
    srn__settings_put(now);
    pthread_mutex_unlock(&s->reload_lock);
}

void srn__reloaded_done(srn__reloaded *r) {
    json_decref(r->changed);
    json_decref(r->restart);
    json_decref(r->waits);
    *r = (srn__reloaded){0};
}

/* ---- POST /v1/reload ---- */

void srn__handle_reload(srn__call *c) {
    const srn_key *key = srn__call_key(c);
    srn__reloaded r;
    srn_err err = {0};
    int code = srn__server_reload(srn__call_server(c), key ? key->name : "nobody", &r, &err);
    if (!code)
        srn__call_reply_json(c, 200,
                             json_pack("{s:s, s:s, s:O, s:O, s:O}", "config", r.to, "previous", r.from,
                                       "changed", r.changed, "needs_restart", r.restart, "waits", r.waits));
    else if (code == SRN_EBUSY)
        srn__call_fail(c, 409, NULL, NULL, "busy", "%s", err.text);
    else if (code == SRN_ENOMEM)
        srn__call_fail_err(c, NULL, &err);
    else
        srn__call_fail(c, 400, NULL, NULL, "invalid_configuration",
                       "nothing has changed, for the new configuration is not good: %s", err.text);
    srn__reloaded_done(&r);
}

/* ---- by signals ---- */

static void *reload_what_is_asked(void *p) {
    srn_server *s = p;
    pthread_setname_np(pthread_self(), "serin-reload");
    pthread_mutex_lock(&s->asked_lock);
    for (;;) {
        while (!s->asked && !s->stopping) pthread_cond_wait(&s->asked_more, &s->asked_lock);
        if (s->stopping) break;
        s->asked = 0; /* one reload answers all who asked before it began */
        pthread_mutex_unlock(&s->asked_lock);
        srn__reloaded r;
        srn_err err = {0};
        srn__server_reload(s, "signal", &r, &err);
        srn__reloaded_done(&r);
        pthread_mutex_lock(&s->asked_lock);
        if (s->opts.reloaded && !s->asked) s->opts.reloaded(s->opts.configure_ctx);
    }
    pthread_mutex_unlock(&s->asked_lock);
    return NULL;
}

void srn_server_reload(srn_server *s) {
    pthread_mutex_lock(&s->asked_lock);
    if (!s->has_reloader && !s->stopping)
        s->has_reloader = pthread_create(&s->reloader, NULL, reload_what_is_asked, s) == 0;
    s->asked++;
    bool works = s->has_reloader;
    pthread_cond_signal(&s->asked_more);
    pthread_mutex_unlock(&s->asked_lock);
    if (!works) srn__http_log_event(s->http, "reload_refused", "the system refuses a thread for it");
}

void srn__server_reload_stop(srn_server *s) {
    pthread_mutex_lock(&s->asked_lock);
    s->stopping = true;
    bool works = s->has_reloader;
    s->has_reloader = false;
    pthread_cond_signal(&s->asked_more);
    pthread_mutex_unlock(&s->asked_lock);
    if (works) pthread_join(s->reloader, NULL);
}
