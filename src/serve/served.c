/* One loaded model with all that its requests need: opened from its file, handed to the scheduler, and closed
 * by the last to let go, on a thread of its own, for that may take long and the listener must not wait.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/models_internal.h"

static void served_free(srn__served *v) {
    if (!v) return;
    srn_template_free(v->chat);
    srn_template_free(v->chat_tools);
    srn_token_trie_free(v->trie);
    srn_engine_close(v->engine);
    srn__slot_put(v->slot);
    free(v);
}

static void *close_model(void *p) {
    srn__served *v = p;
    srn__models *m = v->models;
    char name[128];
    pthread_setname_np(pthread_self(), "serin-close");
    snprintf(name, sizeof name, "%s", v->name);
    if (!v->removed) srn_scheduler_remove(m->scheduler, v->engine, 0);
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

const srn_config_model *srn__served_config(const srn__served *v, const srn_config *c) {
    for (uint32_t i = 0; c && i < c->n_models; i++)
        if (strcmp(c->models[i].name, v->name) == 0) return &c->models[i];
    return v->config;
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
static int served_open(srn__models *m, srn__slot *slot, srn_progress_fn *progress, void *ctx, srn__served *v,
                       srn_err *err) {
    char path[4096];
    const srn_config_model *c = &slot->config;
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
    v->slot = slot;
    atomic_fetch_add(&slot->refs, 1);
    v->loaded_unix = (int64_t)time(NULL);
    atomic_init(&v->refs, 1);
    return SRN_OK;
}

int srn__served_new(srn__models *m, srn__slot *slot, srn_progress_fn *progress, void *ctx, srn__served **ret,
                    srn_err *err) {
    srn__served *v = srn_calloc(1, sizeof *v);
    if (!v) return srn_fail_nomem(err, sizeof *v);
    int code = served_open(m, slot, progress, ctx, v, err);
    if (!code) code = srn_scheduler_add(m->scheduler, v->engine, err);
    if (code) {
        served_free(v);
        return code;
    }
    if (m->tell) m->tell(m->tell_ctx, v->name, v, NULL);
    *ret = v;
    return SRN_OK;
}
