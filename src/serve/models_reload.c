/* From one configuration's models to the next one's, while requests go on. Models that both describe alike
 * stay where they are, whatever their aliases; what is new or described otherwise gets a slot of its own and,
 * unless it is lazy, is loaded before anything changes. So for a moment both the old and the new one may be
 * in memory. Called by one thread at a time; requests for lazy models wait meanwhile as for any load.
 */
#include <stdlib.h>

#include "serve/models_internal.h"

static bool same_text(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Whether what is loaded as one is what the other asks for. */
static bool is_alike(const srn_config_model *a, const srn_config_model *b) {
    return !a->upstream == !b->upstream && same_text(a->name, b->name) && same_text(a->path, b->path) &&
           same_text(a->kv_type, b->kv_type) && a->ctx == b->ctx && a->parallel == b->parallel &&
           a->threads == b->threads && a->cache_tokens == b->cache_tokens;
}

/* The slot that can stay, or NULL; the lock is held. One that is not loaded and must be from now on is none:
 * that a load failed may not show in it before the commit. */
static srn__slot *staying(const srn__models *m, const srn_config_model *c) {
    const srn__view *v = m->views;
    for (uint32_t i = 0; i < v->config->n_models; i++) {
        bool wakes = v->config->models[i].lazy && !c->lazy && v->slots[i]->state == SRN__SLOT_UNLOADED;
        if (is_alike(&v->slots[i]->config, c) && !wakes) return v->slots[i];
    }
    for (uint32_t i = 0; i < m->n_added; i++)
        if (is_alike(&m->added[i]->config, c)) return m->added[i];
    return NULL;
}

static int fill(srn__models *m, const srn_config_model *c, srn__slot **ret, srn_err *err) {
    srn__served *v = NULL;
    pthread_mutex_lock(&m->lock);
    srn__slot *s = staying(m, c);
    if (s) s->named++, atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&m->lock);
    if (s) return *ret = s, SRN_OK;
    int code = srn__slot_new(c, ret, err);
    if (code || c->lazy || c->upstream) return code;
    code = srn__served_new(m, *ret, NULL, NULL, &v, err);
    if (code) return srn_fail_prefix(err, code, "model '%s'", c->name);
    pthread_mutex_lock(&m->lock);
    (*ret)->served = v;
    (*ret)->state = SRN__SLOT_LOADED;
    pthread_mutex_unlock(&m->lock);
    return SRN_OK;
}

/* Nobody else loads or unloads from here on, until end. */
static int begin(srn__models *m, srn_err *err) {
    pthread_mutex_lock(&m->lock);
    while (m->loading) pthread_cond_wait(&m->changed, &m->lock);
    bool free_now = !m->unloading;
    if (free_now) m->loading = m->unloading = true;
    pthread_mutex_unlock(&m->lock);
    return free_now ? SRN_OK
                    : srn_fail(err, SRN_EBUSY, "a model is being unloaded; ask again when it is gone");
}

static void end(srn__models *m) {
    pthread_mutex_lock(&m->lock);
    m->unloading = false;
    pthread_mutex_unlock(&m->lock);
    srn__models_loaded(m);
}

int srn__models_prepare(srn__models *m, const srn_config *next, srn__view **ret, srn_err *err) {
    srn__view *v = NULL;
    int code = begin(m, err);
    if (code) return code;
    code = srn__view_new(next, &v, err);
    for (uint32_t i = 0; !code && i < next->n_models; i++)
        code = fill(m, &next->models[i], &v->slots[i], err);
    if (code)
        srn__models_abort(m, v);
    else
        *ret = v;
    return code;
}

void srn__models_abort(srn__models *m, srn__view *v) {
    srn__view_free(m, v);
    end(m);
}

/* Of those that were added, the first whose name the newest configuration has; the lock is held. */
static srn__slot *take_known(srn__models *m) {
    const srn_config *c = m->views->config;
    for (uint32_t i = 0; i < m->n_added; i++)
        for (uint32_t k = 0; k < c->n_models; k++)
            if (strcmp(m->added[i]->config.name, c->models[k].name) == 0) {
                srn__slot *s = m->added[i];
                memmove(&m->added[i], &m->added[i + 1], (--m->n_added - i) * sizeof(srn__slot *));
                return s;
            }
    return NULL;
}

void srn__models_commit(srn__models *m, srn__view *v) {
    bool more = true;
    pthread_mutex_lock(&m->lock);
    v->next = m->views;
    m->views = v;
    pthread_mutex_unlock(&m->lock);
    while (more) {
        pthread_mutex_lock(&m->lock);
        srn__slot *s = take_known(m);
        pthread_mutex_unlock(&m->lock);
        srn__slot_leave(m, s);
        more = s != NULL;
    }
    srn__verifier_wake(m->verifier);
    end(m);
}
