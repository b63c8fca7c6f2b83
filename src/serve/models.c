/* The models in memory: names and aliases to engines that the scheduler runs, loaded at start and at run
 * time. Worker threads look models up and load them; a reply holds its model until it is sent. One lock
 * guards the lists and the states; loading and unloading happen outside it. Refuses unknown names with the
 * list of those that there are, and a second load or unload while one is under way: they occupy a worker, of
 * which requests need some. Requests for a lazy model wait for the load without a worker.
 */
#include <stdlib.h>

#include "serve/models_internal.h"

/* So long after a lazy model could not be loaded its requests are told so without another try. */
#define FAILED_US UINT64_C(5000000)

/* ---- slots and views ---- */

static const char *own_text(srn_arena *a, const char *z, bool *ok) {
    const char *copy = z ? srn_arena_strndup(a, z, strlen(z)) : NULL;
    if (z && !copy) *ok = false;
    return copy;
}

int srn__slot_new(const srn_config_model *c, srn__slot **ret, srn_err *err) {
    srn__slot *s = srn_calloc(1, sizeof *s);
    bool ok = true;
    if (!s) return srn_fail_nomem(err, sizeof *s);
    srn_arena_init(&s->own, 32768);
    atomic_init(&s->refs, 1);
    s->named = 1;
    s->config = *c;
    s->config.aliases = NULL;
    s->config.n_aliases = 0;
    s->config.name = own_text(&s->own, c->name, &ok);
    s->config.path = own_text(&s->own, c->path, &ok);
    s->config.kv_type = own_text(&s->own, c->kv_type, &ok);
    s->config.upstream = own_text(&s->own, c->upstream, &ok);
    s->config.model = s->config.key_file = s->config.key_env = s->config.ca = NULL; /* calls have their own */
    if (!ok) {
        srn__slot_put(s);
        return srn_fail_nomem(err, 4096);
    }
    *ret = s;
    return SRN_OK;
}

void srn__slot_put(srn__slot *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    srn_arena_done(&s->own);
    free(s);
}

/* What goes with the last name, to be put outside the lock. */
static srn__served *unnamed(srn__slot *s) {
    srn__served *v = s->named == 0 && s->state == SRN__SLOT_LOADED ? s->served : NULL;
    if (!v) return NULL;
    atomic_store(&v->leaving, true);
    s->served = NULL;
    s->state = SRN__SLOT_UNLOADED;
    return v;
}

void srn__slot_leave(srn__models *m, srn__slot *s) {
    if (!s) return;
    pthread_mutex_lock(&m->lock);
    s->named--;
    srn__served *v = unnamed(s);
    pthread_mutex_unlock(&m->lock);
    srn__served_put(v);
    srn__slot_put(s);
}

int srn__view_new(const srn_config *c, srn__view **ret, srn_err *err) {
    srn__view *v = srn_calloc(1, sizeof *v);
    if (!v) return srn_fail_nomem(err, sizeof *v);
    v->config = c;
    v->slots = srn_calloc((size_t)c->n_models + 1, sizeof(srn__slot *));
    if (!v->slots) {
        free(v);
        return srn_fail_nomem(err, ((size_t)c->n_models + 1) * sizeof(srn__slot *));
    }
    *ret = v;
    return SRN_OK;
}

void srn__view_free(srn__models *m, srn__view *v) {
    if (!v) return;
    for (uint32_t i = 0; i < v->config->n_models; i++) srn__slot_leave(m, v->slots[i]);
    free(v->slots);
    free(v);
}

/* ---- life ---- */

int srn__models_new(const srn_config *c, srn_scheduler *s, srn__models_tell *tell, void *tell_ctx,
                    srn__models **ret, srn_err *err) {
    srn__models *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    m->tell = tell;
    m->tell_ctx = tell_ctx;
    m->scheduler = s;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    int code = srn__view_new(c, &m->views, err);
    for (uint32_t i = 0; !code && i < c->n_models; i++)
        code = srn__slot_new(&c->models[i], &m->views->slots[i], err);
    if (!code) code = srn__verifier_new(m, tell, tell_ctx, &m->verifier, err);
    if (code) {
        srn__models_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}

void srn__models_free(srn__models *m) {
    if (!m) return;
    srn__verifier_free(m->verifier);
    for (srn__view *v = m->views, *next; v; v = next) {
        next = v->next;
        srn__view_free(m, v);
    }
    for (uint32_t i = 0; i < m->n_added; i++) srn__slot_leave(m, m->added[i]);
    pthread_mutex_lock(&m->lock);
    while (m->n_closing) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    free(m->added);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    free(m);
}

void srn__models_let_go(srn__models *m, const srn_config *c) {
    srn__view *gone = NULL;
    pthread_mutex_lock(&m->lock);
    for (srn__view **at = &m->views->next; *at && !gone; at = &(*at)->next)
        if ((*at)->config == c) {
            gone = *at;
            *at = gone->next;
            break;
        }
    pthread_mutex_unlock(&m->lock);
    srn__view_free(m, gone);
}

/* ---- look-up; the lock is held ---- */

static const srn__view *view_of(const srn__models *m, const srn_config *c) {
    const srn__view *v = m->views;
    while (v && v->config != c) v = v->next;
    return v ? v : m->views;
}

/* The slot and what the view's configuration says of it, or NULL. */
static srn__slot *find(const srn__models *m, const srn__view *v, const char *name,
                       const srn_config_model **ret) {
    const srn_config *c = v->config;
    for (uint32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0) return *ret = &c->models[i], v->slots[i];
    for (uint32_t i = 0; i < c->n_models; i++)
        for (uint32_t k = 0; k < c->models[i].n_aliases; k++)
            if (strcmp(c->models[i].aliases[k], name) == 0) return *ret = &c->models[i], v->slots[i];
    for (uint32_t i = 0; i < m->n_added; i++)
        if (strcmp(m->added[i]->config.name, name) == 0) return *ret = &m->added[i]->config, m->added[i];
    return NULL;
}

static int unknown(const srn__models *m, const srn__view *v, const char *name, srn_err *err) {
    srn_buf list;
    srn_buf_init(&list, 600);
    for (uint32_t i = 0; i < v->config->n_models; i++)
        srn_buf_addf(&list, "%s%s", i ? ", " : "", v->config->models[i].name);
    for (uint32_t i = 0; i < m->n_added; i++)
        srn_buf_addf(&list, "%s%s", list.len ? ", " : "", m->added[i]->config.name);
    int code = srn_fail(err, SRN_ENOENT, "there is no model '%.200s'; this server has: %s", name,
                        list.len ? list.data : "none");
    srn_buf_done(&list);
    return code;
}

static srn__served *hold(srn__slot *s) {
    atomic_fetch_add(&s->served->refs, 1);
    return s->served;
}

static bool failed_lately(const srn__slot *s) {
    return s->failed_us && srn_now_us() < s->failed_us + FAILED_US;
}

static int add_waiter(srn__models *m, void (*again)(void *ctx), void *ctx, srn_err *err) {
    srn__load_waiter *grown = srn_realloc_array(m->waiters, m->n_waiters + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    m->waiters = grown;
    m->waiters[m->n_waiters++] = (srn__load_waiter){again, ctx};
    return SRN_OK;
}

void srn__models_each(srn__models *m, void (*fn)(void *ctx, const srn_config_model *c, srn__served *v),
                      void *ctx) {
    pthread_mutex_lock(&m->lock);
    const srn__view *v = m->views;
    for (uint32_t i = 0; i < v->config->n_models; i++)
        fn(ctx, &v->config->models[i], v->slots[i]->state == SRN__SLOT_LOADED ? v->slots[i]->served : NULL);
    for (uint32_t i = 0; i < m->n_added; i++)
        fn(ctx, &m->added[i]->config, m->added[i]->state == SRN__SLOT_LOADED ? m->added[i]->served : NULL);
    pthread_mutex_unlock(&m->lock);
}

/* ---- loading and unloading ---- */

void srn__models_loaded(srn__models *m) {
    pthread_mutex_lock(&m->lock);
    m->loading = false;
    srn__load_waiter *waiters = m->waiters;
    size_t n_waiters = m->n_waiters;
    m->waiters = NULL;
    m->n_waiters = 0;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < n_waiters; i++) waiters[i].again(waiters[i].ctx);
    free(waiters);
}

/* Takes a slot out of the list of those that were added; the lock is held. */
static bool take_added(srn__models *m, const srn__slot *s) {
    for (uint32_t i = 0; i < m->n_added; i++)
        if (m->added[i] == s) {
            memmove(&m->added[i], &m->added[i + 1], (--m->n_added - i) * sizeof(srn__slot *));
            return true;
        }
    return false;
}

/* Loads a slot whose state is LOADING and which the caller holds, while m->loading is the caller's, and tells
 * those that waited; one that was added for it does not outlive a failure. ret may be NULL: else it gets a
 * hold. */
static int load_slot(srn__models *m, srn__slot *s, bool added, srn_progress_fn *progress, void *ctx,
                     srn__served **ret, srn_err *err) {
    srn__served *v = NULL;
    int code = srn__served_new(m, s, progress, ctx, &v, err);
    if (code && m->tell) m->tell(m->tell_ctx, s->config.name, NULL, err);
    pthread_mutex_lock(&m->lock);
    s->served = v;
    s->state = code ? SRN__SLOT_UNLOADED : SRN__SLOT_LOADED;
    s->failed_us = code ? srn_now_us() : 0;
    if (!code && ret) *ret = hold(s);
    srn__served *gone = unnamed(s);
    bool taken = code && added && take_added(m, s);
    pthread_mutex_unlock(&m->lock);
    srn__served_put(gone);
    if (taken) srn__slot_leave(m, s);
    if (!code) srn__verifier_wake(m->verifier);
    srn__models_loaded(m);
    return code;
}

/* For a request. Why it failed is for the log: it may tell of the machine's files. */
static int load_for(srn__models *m, srn__slot *s, srn__served **ret, srn_err *err) {
    int code = load_slot(m, s, false, NULL, NULL, ret, err);
    if (code)
        code = srn_fail(err, SRN_EBUSY, "the model '%s' could not be loaded; the server's log says why",
                        s->config.name);
    srn__slot_put(s);
    return code;
}

/* The slot that a name asked for stands for, or NULL; the lock is held. */
static srn__slot *asked_for(const srn__models *m, const srn__view *v, const char *name,
                            const srn_config_model **ret) {
    if (!name || !*name) name = v->config->default_model;
    if (!name && v->config->n_models) name = v->config->models[0].name;
    return name ? find(m, v, name, ret) : NULL;
}

bool srn__models_name(srn__models *m, const srn_config *c, const char *name, char ret[128]) {
    const srn_config_model *known = NULL;
    pthread_mutex_lock(&m->lock);
    const srn__slot *s = asked_for(m, view_of(m, c), name, &known);
    if (s) snprintf(ret, 128, "%s", known->name);
    pthread_mutex_unlock(&m->lock);
    return s != NULL;
}

srn__served *srn__models_peek(srn__models *m, const char *name) {
    const srn_config_model *known = NULL;
    pthread_mutex_lock(&m->lock);
    srn__slot *s = find(m, view_of(m, NULL), name, &known);
    srn__served *v = s && s->state == SRN__SLOT_LOADED ? hold(s) : NULL;
    pthread_mutex_unlock(&m->lock);
    return v;
}

int srn__models_get(srn__models *m, const srn_config *c, const char *name, void (*again)(void *ctx),
                    void *ctx, srn__served **ret, bool *ret_later, srn_err *err) {
    int code = SRN_OK;
    pthread_mutex_lock(&m->lock);
    const srn__view *v = view_of(m, c);
    const srn_config_model *known = NULL;
    srn__slot *s = asked_for(m, v, name, &known);
    bool lazy = s && known->lazy;
    bool load = s && s->state == SRN__SLOT_UNLOADED && lazy && !m->loading && !failed_lately(s);
    if (!s)
        code = unknown(m, v, name ? name : "", err);
    else if (s->state == SRN__SLOT_LOADED)
        *ret = hold(s);
    else if (load)
        s->state = SRN__SLOT_LOADING, m->loading = true, atomic_fetch_add(&s->refs, 1);
    else if (s->state == SRN__SLOT_UNLOADED && lazy && failed_lately(s))
        code = srn_fail(err, SRN_EBUSY, "the model '%s' could not be loaded; the server's log says why",
                        s->config.name);
    else if (known->upstream)
        code = srn_fail(
            err, SRN_EUNSUP,
            "the model '%s' is computed by another server, and not here; what needs the model itself, "
            "as its tokens, is to be asked there",
            known->name);
    else if (lazy && m->loading)
        code = add_waiter(m, again, ctx, err), *ret_later = !code;
    else
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is %s", s->config.name,
                        s->state == SRN__SLOT_UNLOADING ? "being unloaded"
                                                        : "not loaded now; POST /v1/models/load loads it");
    pthread_mutex_unlock(&m->lock);
    return load ? load_for(m, s, ret, err) : code;
}

int srn__models_load_all(srn__models *m, srn_progress_fn *progress, void *progress_ctx, srn_err *err) {
    const srn_config *c = m->views->config; /* nobody changes it yet */
    for (uint32_t i = 0; i < c->n_models; i++) {
        if (c->models[i].lazy || c->models[i].upstream) continue;
        srn__slot *s = m->views->slots[i];
        pthread_mutex_lock(&m->lock); /* models that are there already are looked at by their verifier */
        s->state = SRN__SLOT_LOADING;
        pthread_mutex_unlock(&m->lock);
        int code = load_slot(m, s, false, progress, progress_ctx, NULL, err);
        if (code) return srn_fail_prefix(err, code, "model '%s'", s->config.name);
    }
    return SRN_OK;
}

/* A slot for a model that no configuration names; the lock is held. */
static int add_slot(srn__models *m, const char *name, const char *path, srn__slot **ret, srn_err *err) {
    const srn_config_model c = {.name = name, .path = path};
    srn__slot **grown = srn_realloc_array(m->added, m->n_added + 1, sizeof(srn__slot *));
    if (!grown) return srn_fail_nomem(err, sizeof(srn__slot *));
    m->added = grown;
    int code = srn__slot_new(&c, ret, err);
    if (!code) m->added[m->n_added++] = *ret;
    return code;
}

int srn__models_load(srn__models *m, const char *name, const char *path, srn_err *err) {
    int code = SRN_OK;
    bool added = false;
    const srn_config_model *known;
    pthread_mutex_lock(&m->lock);
    srn__slot *s = find(m, m->views, name, &known);
    if (s && known->upstream)
        code = srn_fail(err, SRN_EINVAL,
                        "the model '%s' is computed by another server: nothing is loaded here", name);
    else if (s && path && strcmp(path, s->config.path) != 0)
        code = srn_fail(err, SRN_EINVAL,
                        "the model '%s' is configured with another file, %s; choose another name", name,
                        s->config.path);
    else if (s && s->state != SRN__SLOT_UNLOADED)
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is %s", name,
                        s->state == SRN__SLOT_LOADED    ? "loaded already"
                        : s->state == SRN__SLOT_LOADING ? "being loaded"
                                                        : "being unloaded");
    else if (!s && !path)
        code = unknown(m, m->views, name, err);
    else if (m->loading)
        code = srn_fail(err, SRN_EBUSY, "another model is being loaded; ask again when it is there");
    else if (!s)
        added = true, code = add_slot(m, name, path, &s, err);
    if (!code) {
        s->state = SRN__SLOT_LOADING;
        m->loading = true;
        atomic_fetch_add(&s->refs, 1);
    }
    pthread_mutex_unlock(&m->lock);
    if (code) return code;
    code = load_slot(m, s, added, NULL, NULL, NULL, err);
    srn__slot_put(s);
    return code;
}

int srn__models_unload(srn__models *m, const char *name, uint64_t grace_us, srn_err *err) {
    int code = SRN_OK;
    srn__served *v = NULL;
    const srn_config_model *known;
    pthread_mutex_lock(&m->lock);
    srn__slot *s = find(m, m->views, name, &known);
    if (!s)
        code = unknown(m, m->views, name, err);
    else if (s->state != SRN__SLOT_LOADED)
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is not loaded", name);
    else if (m->unloading)
        code = srn_fail(err, SRN_EBUSY, "another model is being unloaded; ask again when it is gone");
    else {
        s->state = SRN__SLOT_UNLOADING;
        m->unloading = true;
        v = s->served; /* the slot's hold */
        s->served = NULL;
        atomic_store(&v->leaving, true);
    }
    pthread_mutex_unlock(&m->lock);
    if (code) return code;
    srn_scheduler_remove(m->scheduler, v->engine, grace_us);
    v->removed = true;
    pthread_mutex_lock(&m->lock);
    s->state = SRN__SLOT_UNLOADED;
    m->unloading = false;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    srn__served_put(v); /* replies that are still being sent hold it a little longer */
    return SRN_OK;
}
