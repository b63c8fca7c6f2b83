/* The ledger of a server: opened before anything else, so that no call comes before it can be recorded, and
 * closed after everything else. Finds a default folder that no other server writes; tells the ledger of the
 * server's own changes. Called by the server on its main thread, and by calls for what they share.
 */
#include <stdlib.h>
#include <unistd.h>

#include "serve/openai_internal.h"
#include "serve/record_internal.h"

srn_ledger *srn__recorder_ledger(const srn__recorder *r) {
    return r->ledger;
}

const srn_ledger_keys *srn__recorder_keys(const srn__recorder *r) {
    return r->keys;
}

srn_ledger_keys *srn__recorder_sealing_keys(srn__recorder *r) {
    return r->own_keys ? r->own_keys : srn_ledger_get_keys(r->ledger);
}

srn__recorder_stats srn__recorder_get_stats(srn__recorder *r) {
    pthread_mutex_lock(&r->lock);
    srn__recorder_stats s = r->stats;
    pthread_mutex_unlock(&r->lock);
    s.cpu_ns = atomic_load(&r->cpu_ns);
    s.wait_us = atomic_load(&r->wait_us);
    return s;
}

void srn__recorder_say(srn__recorder *r, const char *event, const char *detail) {
    if (r->log) r->log(r->log_ctx, event, detail);
}

void srn__ledger_trouble(const srn__call *c, const srn_err *why, srn_err *ret) {
    const srn_key *key = srn__call_key(c);
    if (!key || key->admin) {
        *ret = *why;
        return;
    }
    srn_fail(ret, why->code, "%s",
             why->code == SRN_ETIMEOUT ? "the record of calls takes too long to answer; ask again later"
             : why->code == SRN_EBUSY  ? "the record of calls falls behind; ask again later"
                                       : "the record of calls is out of order now; ask again later");
}

/* What was refused is told in the chain with the first call that is taken again. */
static void tell_refused(srn__recorder *r) {
    srn__recorder_event(r, "refused",
                        json_pack("{s:I}", "calls", (json_int_t)srn__recorder_get_stats(r).refused));
}

bool srn__recorder_ready(srn__recorder *r, bool required, srn_err *ret_why) {
    srn_ledger_stats s;
    if (!r->ledger || srn_ledger_ready(r->ledger, ret_why)) return true;
    if (required || ret_why->code != SRN_EIO) return false;
    srn_ledger_get_stats(r->ledger, &s);
    return !s.waiting && s.queued < r->config->ledger.queue;
}

bool srn__recorder_takes(srn__recorder *r, bool required, srn_err *ret_why) {
    if (srn__recorder_ready(r, required, ret_why)) {
        if (atomic_exchange(&r->untold, false)) tell_refused(r);
        return true;
    }
    pthread_mutex_lock(&r->lock);
    r->stats.refused++;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->untold, true);
    return false;
}

void srn__recorder_lost(srn__recorder *r, const char *id, const srn_err *why) {
    char text[sizeof why->text + 64];
    snprintf(text, sizeof text, "call %s: %s", id, why->text);
    pthread_mutex_lock(&r->lock);
    r->stats.unrecorded++;
    pthread_mutex_unlock(&r->lock);
    srn__recorder_say(r, "record_lost", text);
}

/* ---- opening ---- */

static int open_at(srn__recorder *r, const char *where, srn_err *err) {
    const srn_config_ledger *l = &r->config->ledger;
    srn_ledger_opts o = {.where = where,
                         .folder = l->folder,
                         .keys_dir = l->keys,
                         .queue = l->queue,
                         .patience_us = (uint64_t)l->patience_ms * 1000,
                         .retention_us = l->retention_ms * 1000,
                         .max_bytes = l->max_bytes,
                         .log = r->log,
                         .log_ctx = r->log_ctx};
    return srn_ledger_open(&o, &r->ledger, err);
}

/* The default folder, or the next free one beside it. */
static int open_default(srn__recorder *r, srn_err *err) {
    srn_buf dir, other;
    srn_buf_init(&dir, 4096);
    srn_buf_init(&other, 4112);
    int code = srn_ledger_default_dir(&dir, err);
    if (!code) code = open_at(r, dir.data, err);
    for (unsigned i = 2; code == SRN_EBUSY && i <= SRN_LEDGER_FOLDERS; i++) {
        char first[sizeof err->text];
        snprintf(first, sizeof first, "%s", err->text);
        srn_buf_clear(&other);
        if (srn_ledger_numbered_dir(dir.data, i, &other, err)) break;
        code = open_at(r, other.data, err);
        if (!code) {
            char text[sizeof first + 4200];
            snprintf(text, sizeof text, "calls are recorded in %s: %s", other.data, first);
            srn__recorder_say(r, "ledger_elsewhere", text);
        }
    }
    srn_buf_done(&dir);
    srn_buf_done(&other);
    return code;
}

static int open_ledger(srn__recorder *r, srn_err *err) {
    const char *where = r->config->ledger.where;
    int code;
    if (where && strcmp(where, "off") == 0) {
        code = srn_ledger_keys_open(NULL, &r->own_keys, err);
        r->keys = r->own_keys;
        return code;
    }
    code = where ? open_at(r, where, err) : open_default(r, err);
    if (code == SRN_EBUSY)
        return srn_fail_prefix(err, code, "the ledger (name another folder with --ledger DIR)");
    if (code)
        return srn_fail_prefix(err, code, "the ledger (--ledger DIR names another one, --ledger off none)");
    r->keys = srn_ledger_get_keys(r->ledger);
    return srn__recorder_thread_start(r, err);
}

int srn__recorder_new(const srn__recorder_opts *o, srn__recorder **ret, srn_err *err) {
    srn__recorder *r = srn_calloc(1, sizeof *r);
    if (!r) return srn_fail_nomem(err, sizeof *r);
    r->config = o->config;
    r->log = o->log;
    r->log_ctx = o->log_ctx;
    atomic_init(&r->keep_weights, o->config->ledger.keep_weights);
    atomic_init(&r->cpu_ns, 0);
    atomic_init(&r->wait_us, 0);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->settled, NULL);
    pthread_cond_init(&r->work, NULL);
    srn__local_token(r->token);
    int code = srn_config_identity(o->config, NULL, r->config_id, err);
    if (!code) code = open_ledger(r, err);
    if (code) {
        srn__recorder_free(r);
        return code;
    }
    *ret = r;
    return SRN_OK;
}

/* ---- events ---- */

void srn__recorder_event_by(srn__recorder *r, const char *name, const char *by, json_t *fields) {
    char *text = fields ? json_dumps(fields, JSON_COMPACT) : srn_strndup("{}", 2);
    srn_err err = {0};
    int code = SRN_OK;
    if (r && r->ledger)
        code =
            text ? srn_ledger_event(r->ledger, name, by, srn_str_of(text), &err) : srn_fail_nomem(&err, 64);
    if (code) srn__recorder_lost(r, name, &err);
    free(text);
    json_decref(fields);
}

void srn__recorder_event(srn__recorder *r, const char *name, json_t *fields) {
    srn__recorder_event_by(r, name, "server", fields);
}

void srn__recorder_model(srn__recorder *r, const srn__served *v) {
    const char *path = srn_weights_path(srn_engine_weights(v->engine));
    srn__recorder_event(r, "model_loaded",
                        json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "model",
                                  srn__text_json(srn_str_of(v->name)), "path",
                                  srn__text_json(srn_str_of(path)), "weights", v->ids.weights, "tokenizer",
                                  v->ids.tokenizer, "template", v->ids.chat_template, "quantisation",
                                  v->ids.quantisation, "engine", v->ids.engine, "numerics",
                                  (int)v->ids.numerics, "kv", v->ids.kv));
    srn__recorder_keep(r, v);
}

void srn__recorder_config(srn__recorder *r, const srn_config *c) {
    srn_buf text;
    srn_err err = {0};
    char id[65];
    srn_buf_init(&text, 16u << 20);
    if (srn_config_identity(c, &text, id, &err))
        srn__recorder_lost(r, "config", &err);
    else
        srn__recorder_event(
            r, "config",
            json_pack("{s:s, s:o}", "id", id, "config", json_loadb(text.data, text.len, 0, NULL)));
    srn_buf_done(&text);
}

void srn__recorder_adopt(srn__recorder *r, const srn_config *c) {
    const srn_config_ledger *l = &c->ledger;
    atomic_store(&r->keep_weights, l->keep_weights);
    if (r->ledger) srn_ledger_retain(r->ledger, l->retention_ms * 1000, l->max_bytes);
}

const char *srn__recorder_token(const srn__recorder *r) {
    return r->ledger ? r->token : NULL;
}

void srn__recorder_stop(srn__recorder *r) {
    if (r && r->started && r->ledger) srn__local_withdraw(r);
}

int srn__recorder_start(srn__recorder *r, const char *address, srn_err *err) {
    int code = r->ledger ? srn__local_publish(r, address, r->token, err) : SRN_OK;
    if (!code && r->ledger) code = srn_ledger_announce(r->ledger, address, err);
    if (code) return code;
    r->started = true;
    srn__recorder_event(r, "start",
                        json_pack("{s:s, s:i, s:s, s:i, s:s}", "address", address, "pid", (int)getpid(),
                                  "version", srn_version(), "numerics", SRN_NUMERICS_ID, "config",
                                  r->config_id));
    srn__recorder_remember(r);
    srn__recorder_config(r, r->config);
    return SRN_OK;
}

void srn__recorder_settle(srn__recorder *r) {
    if (!r) return;
    srn__recorder_thread_stop(r);
    pthread_mutex_lock(&r->lock);
    while (r->n_waiting) pthread_cond_wait(&r->settled, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void srn__recorder_free(srn__recorder *r) {
    if (!r) return;
    srn__recorder_thread_stop(r);
    if (r->started) srn__recorder_event(r, "stop", json_pack("{s:i}", "pid", (int)getpid()));
    srn_ledger_close(r->ledger);
    srn_ledger_keys_close(r->own_keys);
    pthread_cond_destroy(&r->settled);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
