/* The models in memory: names and aliases to engines that the scheduler runs, loaded at start and at run
 * time. Worker threads look models up and load them; a reply holds its model until it is sent, and the last
 * to let go has it closed by a thread of its own, for that may take long and the listener must not wait. One
 * lock guards the list and the states; loading and unloading happen outside it. Refuses unknown names with
 * the list of those that there are, and a second load or unload while one is under way: they occupy a worker,
 * of which requests need some. Requests for a lazy model wait for the load without a worker.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "serve/serve_internal.h"

/* So long after a lazy model could not be loaded its requests are told so without another try. */
#define FAILED_US UINT64_C(5000000)

typedef enum state { UNLOADED, LOADING, LOADED, UNLOADING } state;

typedef struct entry {
    srn_config_model config; /* strings belong to the server's config, or to own */
    srn_arena own;           /* strings of a model that was added at run time */
    state state;
    srn__served *served; /* while LOADED: the list's own hold */
    uint64_t failed_us;  /* when it could not be loaded; 0: it never failed */
} entry;

/* Who is told when the load that is under way has ended. */
typedef struct waiter {
    void (*again)(void *ctx);
    void *ctx;
} waiter;

struct srn__models {
    const srn_config *config;
    srn_scheduler *scheduler;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    entry **entries;
    uint32_t n;
    bool loading, unloading; /* one model at a time */
    waiter *waiters;         /* [n_waiters], none but while loading */
    size_t n_waiters;
    uint32_t n_closing;     /* threads that close models */
    srn__models_tell *tell; /* may be NULL */
    void *tell_ctx;
    srn__verifier *verifier;
};

int srn__models_new(const srn_config *c, srn_scheduler *s, srn__models_tell *tell, void *tell_ctx,
                    srn__models **ret, srn_err *err) {
    srn__models *m = srn_calloc(1, sizeof *m);
    if (!m) return srn_fail_nomem(err, sizeof *m);
    m->config = c;
    m->tell = tell;
    m->tell_ctx = tell_ctx;
    m->scheduler = s;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    m->entries = srn_calloc(c->n_models + 1, sizeof(entry *));
    for (uint32_t i = 0; m->entries && i < c->n_models; i++) {
        entry *e = srn_calloc(1, sizeof *e);
        if (!e) break;
        e->config = c->models[i];
        m->entries[m->n++] = e;
    }
    int code = SRN_OK;
    if (!m->entries || m->n < c->n_models) code = srn_fail_nomem(err, (c->n_models + 1) * sizeof(entry));
    if (!code) code = srn__verifier_new(m, tell, tell_ctx, &m->verifier, err);
    if (code) {
        srn__models_free(m);
        return code;
    }
    *ret = m;
    return SRN_OK;
}

/* ---- one loaded model ---- */

static void served_free(srn__served *v) {
    if (!v) return;
    srn_template_free(v->chat);
    srn_template_free(v->chat_tools);
    srn_token_trie_free(v->trie);
    srn_engine_close(v->engine);
    free(v);
}

static void *close_model(void *p) {
    srn__served *v = p;
    srn__models *m = v->models;
    const char *name = v->name; /* the entry's, which outlives it */
    pthread_setname_np(pthread_self(), "serin-close");
    served_free(v);
    if (m->tell) m->tell(m->tell_ctx, name, NULL, NULL);
    pthread_mutex_lock(&m->lock);
    m->n_closing--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

void srn__served_put(srn__served *v) {
    if (!v || atomic_fetch_sub(&v->refs, 1) != 1) return;
    srn__models *m = v->models;
    pthread_t thread;
    pthread_mutex_lock(&m->lock);
    m->n_closing++;
    pthread_mutex_unlock(&m->lock);
    if (pthread_create(&thread, NULL, close_model, v) == 0)
        pthread_detach(thread);
    else
        close_model(v);
}

static srn_pooling pooling_of(const srn_weights *w, const char *architecture) {
    char key[128];
    uint64_t type = 0;
    snprintf(key, sizeof key, "%s.pooling_type", architecture);
    if (srn_meta_u64(w, key, &type, NULL)) return SRN_POOL_LAST;
    return type == 1 ? SRN_POOL_MEAN : type == 2 ? SRN_POOL_CLS : SRN_POOL_LAST;
}

static int open_templates(srn__served *v, const srn_weights *w, srn_err *err) {
    srn_err why;
    for (int tools = 0; tools < 2; tools++) {
        int code = srn_template_of(w, tools, tools ? &v->chat_tools : &v->chat, &why);
        if (code && code != SRN_ENOENT) {
            *err = why;
            return srn_fail_prefix(err, code, "the chat template of %s", srn_weights_path(w));
        }
    }
    srn_str source = {"", 0};
    if (srn_meta_str(w, "tokenizer.chat_template.tool_use", &source, NULL))
        srn_meta_str(w, "tokenizer.chat_template", &source, NULL);
    v->format = srn_reply_format_of(source);
    srn_template_specials(w, &v->bos, &v->eos);
    return SRN_OK;
}

/* The trie, in which the marks of the template's format are text where they are control tokens. */
static int open_trie(srn__served *v, srn_err *err) {
    int32_t marks[32];
    size_t n = 0;
    const char *mark;
    for (size_t i = 0; (mark = srn_reply_mark(v->format, true, true, i)) != NULL && n < SRN_LEN(marks); i++) {
        int32_t id = srn_vocab_find(v->vocab, srn_str_of(mark));
        if (id >= 0 && srn_vocab_attr(v->vocab, id) == SRN_TOKEN_CONTROL) marks[n++] = id;
    }
    return srn_token_trie_new_marks(v->vocab, marks, n, &v->trie, err);
}

/* Everything but handing the engine to the scheduler. */
static int served_open(srn__models *m, const srn_config_model *c, srn_progress_fn *progress, void *ctx,
                       srn__served *v, srn_err *err) {
    char path[4096];
    srn_engine_opts o = {.threads = c->threads,
                         .n_ctx = c->ctx,
                         .kv_type = c->kv_type,
                         .cache_tokens = c->cache_tokens,
                         .max_seqs = c->parallel ? c->parallel : SRN__PARALLEL,
                         .progress = progress,
                         .progress_ctx = ctx};
    int code = srn_weights_locate(c->path, path, sizeof path, err);
    bool verified = false;
    if (!code) code = srn_engine_open_identified(path, &o, v->ids.weights, &verified, &v->engine, err);
    if (code) return code;
    atomic_init(&v->verified, verified ? SRN__VERIFIED : SRN__UNVERIFIED);
    const srn_weights *w = srn_engine_weights(v->engine);
    code = srn_engine_vocab(v->engine, &v->vocab, err);
    if (!code) code = open_templates(v, w, err);
    if (!code) code = open_trie(v, err);
    if (!code) code = srn_engine_ids(v->engine, &v->ids, err);
    if (code) return code;
    v->models = m;
    v->pooling = pooling_of(w, srn_engine_get_info(v->engine).architecture);
    v->config = c;
    v->name = c->name;
    v->loaded_unix = (int64_t)time(NULL);
    atomic_init(&v->refs, 1);
    return SRN_OK;
}

static int served_new(srn__models *m, const srn_config_model *c, srn_progress_fn *progress, void *ctx,
                      srn__served **ret, srn_err *err) {
    srn__served *v = srn_calloc(1, sizeof *v);
    if (!v) return srn_fail_nomem(err, sizeof *v);
    int code = served_open(m, c, progress, ctx, v, err);
    if (!code) code = srn_scheduler_add(m->scheduler, v->engine, err);
    if (code) {
        served_free(v);
        return code;
    }
    if (m->tell) m->tell(m->tell_ctx, v->name, v, NULL);
    *ret = v;
    return SRN_OK;
}

void srn__models_free(srn__models *m) {
    if (!m) return;
    srn__verifier_free(m->verifier);
    for (uint32_t i = 0; i < m->n; i++) {
        entry *e = m->entries[i];
        if (e->served) srn_scheduler_remove(m->scheduler, e->served->engine, 0);
        srn__served_put(e->served);
    }
    pthread_mutex_lock(&m->lock);
    while (m->n_closing) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    for (uint32_t i = 0; i < m->n; i++) {
        srn_arena_done(&m->entries[i]->own);
        free(m->entries[i]);
    }
    free(m->entries);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    free(m);
}

/* ---- look-up; the lock is held ---- */

static entry *find(const srn__models *m, const char *name) {
    for (uint32_t i = 0; i < m->n; i++)
        if (strcmp(m->entries[i]->config.name, name) == 0) return m->entries[i];
    for (uint32_t i = 0; i < m->n; i++)
        for (uint32_t k = 0; k < m->entries[i]->config.n_aliases; k++)
            if (strcmp(m->entries[i]->config.aliases[k], name) == 0) return m->entries[i];
    return NULL;
}

static int unknown(const srn__models *m, const char *name, srn_err *err) {
    srn_buf list;
    srn_buf_init(&list, 600);
    for (uint32_t i = 0; i < m->n; i++)
        srn_buf_addf(&list, "%s%s", i ? ", " : "", m->entries[i]->config.name);
    int code = srn_fail(err, SRN_ENOENT, "there is no model '%.200s'; this server has: %s", name,
                        list.len ? list.data : "none");
    srn_buf_done(&list);
    return code;
}

static srn__served *hold(entry *e) {
    atomic_fetch_add(&e->served->refs, 1);
    return e->served;
}

static bool failed_lately(const entry *e) {
    return e->failed_us && srn_now_us() < e->failed_us + FAILED_US;
}

static int add_waiter(srn__models *m, void (*again)(void *ctx), void *ctx, srn_err *err) {
    waiter *grown = srn_realloc_array(m->waiters, m->n_waiters + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    m->waiters = grown;
    m->waiters[m->n_waiters++] = (waiter){again, ctx};
    return SRN_OK;
}

void srn__models_each(srn__models *m, void (*fn)(void *ctx, const srn_config_model *c, srn__served *v),
                      void *ctx) {
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->n; i++)
        fn(ctx, &m->entries[i]->config, m->entries[i]->state == LOADED ? m->entries[i]->served : NULL);
    pthread_mutex_unlock(&m->lock);
}

/* ---- loading and unloading ---- */

/* Takes an entry that was added at run time out of the list again; the lock is held. */
static void remove_entry(srn__models *m, entry *e) {
    for (uint32_t i = 0; i < m->n; i++)
        if (m->entries[i] == e) memmove(&m->entries[i], &m->entries[i + 1], (--m->n - i) * sizeof(entry *));
    srn_arena_done(&e->own);
    free(e);
}

/* Loads an entry whose state is LOADING, while m->loading is the caller's, and tells those that waited; one
 * that was added for it does not outlive a failure. ret may be NULL: else it gets a hold. */
static int load_entry(srn__models *m, entry *e, bool added, srn_progress_fn *progress, void *ctx,
                      srn__served **ret, srn_err *err) {
    srn__served *v = NULL;
    int code = served_new(m, &e->config, progress, ctx, &v, err);
    if (code && m->tell) m->tell(m->tell_ctx, e->config.name, NULL, err);
    pthread_mutex_lock(&m->lock);
    m->loading = false;
    waiter *waiters = m->waiters;
    size_t n_waiters = m->n_waiters;
    m->waiters = NULL;
    m->n_waiters = 0;
    e->served = v;
    e->state = code ? UNLOADED : LOADED;
    e->failed_us = code ? srn_now_us() : 0;
    if (!code && ret) *ret = hold(e);
    if (code && added) remove_entry(m, e);
    pthread_mutex_unlock(&m->lock);
    if (!code) srn__verifier_wake(m->verifier);
    for (size_t i = 0; i < n_waiters; i++) waiters[i].again(waiters[i].ctx);
    free(waiters);
    return code;
}

/* For a request. Why it failed is for the log: it may tell of the machine's files. */
static int load_for(srn__models *m, entry *e, srn__served **ret, srn_err *err) {
    const char *name = e->config.name;
    if (load_entry(m, e, false, NULL, NULL, ret, err) == SRN_OK) return SRN_OK;
    return srn_fail(err, SRN_EBUSY, "the model '%s' could not be loaded; the server's log says why", name);
}

/* The entry that a name asked for stands for, or NULL. */
static entry *entry_of(const srn__models *m, const char *name) {
    if (!name || !*name) name = m->config->default_model;
    return name ? find(m, name) : m->n ? m->entries[0] : NULL;
}

bool srn__models_name(srn__models *m, const char *name, char ret[128]) {
    pthread_mutex_lock(&m->lock);
    const entry *e = entry_of(m, name);
    if (e) snprintf(ret, 128, "%s", e->config.name);
    pthread_mutex_unlock(&m->lock);
    return e != NULL;
}

int srn__models_get(srn__models *m, const char *name, void (*again)(void *ctx), void *ctx, srn__served **ret,
                    bool *ret_later, srn_err *err) {
    int code = SRN_OK;
    pthread_mutex_lock(&m->lock);
    entry *e = entry_of(m, name);
    bool load = e && e->state == UNLOADED && e->config.lazy && !m->loading && !failed_lately(e);
    if (!e)
        code = unknown(m, name ? name : "", err);
    else if (e->state == LOADED)
        *ret = hold(e);
    else if (load)
        e->state = LOADING, m->loading = true;
    else if (e->state == UNLOADED && e->config.lazy && failed_lately(e))
        code = srn_fail(err, SRN_EBUSY, "the model '%s' could not be loaded; the server's log says why",
                        e->config.name);
    else if (e->config.lazy && m->loading)
        code = add_waiter(m, again, ctx, err), *ret_later = !code;
    else
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is %s", e->config.name,
                        e->state == UNLOADING ? "being unloaded"
                                              : "not loaded now; POST /v1/models/load loads it");
    pthread_mutex_unlock(&m->lock);
    return load ? load_for(m, e, ret, err) : code;
}

int srn__models_load_all(srn__models *m, srn_progress_fn *progress, void *progress_ctx, srn_err *err) {
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->entries[i]->config.lazy) continue;
        pthread_mutex_lock(&m->lock); /* models that are there already are looked at by their verifier */
        m->entries[i]->state = LOADING;
        pthread_mutex_unlock(&m->lock);
        int code = load_entry(m, m->entries[i], false, progress, progress_ctx, NULL, err);
        if (code) return srn_fail_prefix(err, code, "model '%s'", m->entries[i]->config.name);
    }
    return SRN_OK;
}

/* A new entry for a model that the config does not name; the lock is held. */
static entry *add_entry(srn__models *m, const char *name, const char *path) {
    entry **grown = srn_realloc_array(m->entries, m->n + 1, sizeof(entry *));
    if (!grown) return NULL;
    m->entries = grown;
    entry *e = srn_calloc(1, sizeof *e);
    if (!e) return NULL;
    srn_arena_init(&e->own, 16384);
    e->config.name = srn_arena_strndup(&e->own, name, strlen(name));
    e->config.path = srn_arena_strndup(&e->own, path, strlen(path));
    if (!e->config.name || !e->config.path) {
        srn_arena_done(&e->own);
        free(e);
        return NULL;
    }
    return m->entries[m->n++] = e;
}

int srn__models_load(srn__models *m, const char *name, const char *path, srn_err *err) {
    int code = SRN_OK;
    bool added = false;
    pthread_mutex_lock(&m->lock);
    entry *e = find(m, name);
    if (e && path && strcmp(path, e->config.path) != 0)
        code = srn_fail(err, SRN_EINVAL,
                        "the model '%s' is configured with another file, %s; choose another name", name,
                        e->config.path);
    else if (e && e->state != UNLOADED)
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is %s", name,
                        e->state == LOADED    ? "loaded already"
                        : e->state == LOADING ? "being loaded"
                                              : "being unloaded");
    else if (!e && !path)
        code = unknown(m, name, err);
    else if (m->loading)
        code = srn_fail(err, SRN_EBUSY, "another model is being loaded; ask again when it is there");
    else if (!e && (added = true) && !(e = add_entry(m, name, path)))
        code = srn_fail_nomem(err, sizeof *e);
    if (!code) {
        e->state = LOADING;
        m->loading = true;
    }
    pthread_mutex_unlock(&m->lock);
    return code ? code : load_entry(m, e, added, NULL, NULL, NULL, err);
}

int srn__models_unload(srn__models *m, const char *name, uint64_t grace_us, srn_err *err) {
    int code = SRN_OK;
    srn__served *v = NULL;
    pthread_mutex_lock(&m->lock);
    entry *e = find(m, name);
    if (!e)
        code = unknown(m, name, err);
    else if (e->state != LOADED)
        code = srn_fail(err, SRN_EBUSY, "the model '%s' is not loaded", name);
    else if (m->unloading)
        code = srn_fail(err, SRN_EBUSY, "another model is being unloaded; ask again when it is gone");
    else {
        e->state = UNLOADING;
        m->unloading = true;
        v = e->served;
        atomic_store(&v->leaving, true);
    }
    pthread_mutex_unlock(&m->lock);
    if (code) return code;
    srn_scheduler_remove(m->scheduler, v->engine, grace_us);
    pthread_mutex_lock(&m->lock);
    e->served = NULL;
    e->state = UNLOADED;
    m->unloading = false;
    pthread_mutex_unlock(&m->lock);
    srn__served_put(v); /* replies that are still being sent hold it a little longer */
    return SRN_OK;
}
