/* The engine's life: file, model, device; the checks that come before the work. */
#include "engine/engine_internal.h"

#include <sodium.h>
#include <stdlib.h>

#include "cpu/cpu.h"

#define DEFAULT_CTX 8192u

/* What there is for an engine. The pages of a model that lies in memory only come back as it is packed, but
 * for an embedding that is the head too, which is both packed and read as it is. */
static uint64_t available_bytes(const srn_engine *e) {
    uint64_t bytes = srn_memory_available(), back = srn_weights_memory_bytes(e->weights);
    uint64_t stays = e->model->head == e->model->embd ? e->model->embd->t->n_bytes : 0;
    if (back > stays && !srn_add_u64(bytes, back - stays, &bytes)) return UINT64_MAX;
    return bytes;
}

/* The options that make what was asked for smaller. */
static const char *advice(const srn_engine *e, uint64_t cache_tokens, bool without_cache_fits) {
    if (!without_cache_fits) return "use a smaller model or quantisation";
    if (cache_tokens) return "ask for a smaller cache (--cache-tokens, or cache_tokens)";
    return e->plan.max_seqs > 1
               ? "ask for a smaller context (--ctx), fewer sequences (--parallel) or a cache of so many "
                 "positions in all (--cache-tokens)"
               : "ask for a smaller context with --ctx";
}

static int check_memory(const srn_engine *e, const srn_device_opts *d, uint64_t cache_tokens, srn_err *err) {
    const double gib = 1024.0 * 1024.0 * 1024.0;
    uint64_t weights, kv, work, all, have = available_bytes(e);
    int code = srn_cpu_device_bytes(e->model, d, &weights, &kv, &work, err);
    if (code) return code;
    if (srn_add_u64(weights, kv, &all) && srn_add_u64(all, work, &all) && all <= have) return SRN_OK;
    return srn_fail(err, SRN_ENOMEM,
                    "%s: %.1f GiB of weights, %.1f GiB of KV cache for %llu positions and %.1f GiB of work "
                    "buffers are needed, and %.1f GiB of memory are available; %s",
                    srn_weights_path(e->weights), (double)weights / gib, (double)kv / gib,
                    (unsigned long long)e->plan.tokens, (double)work / gib, (double)have / gib,
                    advice(e, cache_tokens, weights + work < have));
}

static int read_opts(srn_engine *e, const srn_engine_opts *o, srn_err *err) {
    const srn_hparams *hp = &e->model->hp;
    srn_cache_wish w = {.n_ctx = o->n_ctx ? o->n_ctx : SRN_MIN(hp->n_ctx_train, DEFAULT_CTX),
                        .max_seqs = o->max_seqs,
                        .cache_tokens = o->cache_tokens,
                        .available_bytes = available_bytes(e)};
    e->kv_type = SRN_KV_F16;
    if (o->kv_type && !srn_kv_type_by_name(o->kv_type, &e->kv_type))
        return srn_fail(err, SRN_EINVAL, "the KV cache type '%s' is not known; use f16, q8_0 or f32",
                        o->kv_type);
    if (w.n_ctx > hp->n_ctx_train)
        return srn_fail(err, SRN_EINVAL,
                        "a context of %u tokens was asked for, and the model was trained for %u; ask for at "
                        "most that (--ctx %u)",
                        w.n_ctx, hp->n_ctx_train, hp->n_ctx_train);
    w.type = e->kv_type;
    return srn_plan_cache(e->model, &w, &e->plan, err);
}

/* Features that a test switches off, by name: SERIN_TEST_OFF=rope,window. Unknown names are an error. The
 * variable is for tests alone; an engine that it maimed says so in its id. */
static int features_off(unsigned *ret, srn_err *err) {
    const char *list = getenv("SERIN_TEST_OFF");
    *ret = 0;
    for (; list && *list; list += strspn(list, ",")) {
        srn_str name = {list, strcspn(list, ",")};
        unsigned bit = srn_feature_by_name(name);
        if (!bit)
            return srn_fail(err, SRN_EINVAL, "SERIN_TEST_OFF: there is no feature '%.*s'", (int)name.len,
                            name.ptr);
        *ret |= bit;
        list += name.len;
    }
    return SRN_OK;
}

static void copy_block(void *ctx, uint32_t group, uint32_t from, uint32_t to, uint32_t n_positions) {
    srn_device *d = ctx;
    d->ops->copy_block(d, group, from, to, n_positions);
}

static int new_kv(srn_engine *e, srn_err *err) {
    srn_kv_opts o = {
        .n_groups = e->plan.n_groups, .n_ctx = e->plan.n_ctx, .copy = copy_block, .copy_ctx = e->device};
    memcpy(o.groups, e->plan.groups, sizeof o.groups);
    memcpy(o.n_blocks, e->plan.n_blocks, sizeof o.n_blocks);
    if (sodium_init() < 0) return srn_fail(err, SRN_EIO, "libsodium finds no source of random numbers");
    randombytes_buf(o.key, sizeof o.key);
    return srn_kv_new(&o, &e->kv, err);
}

/* What needs the file alone: its model, and the options read against it. */
static int open_model(srn_engine *e, const char *path, const srn_engine_opts *o, unsigned off, srn_err *err) {
    srn_open_opts open = {.progress = o->progress, .progress_ctx = o->progress_ctx};
    int code = srn_weights_open(path, &open, &e->weights, err);
    if (!code) code = srn_model_new(e->weights, off, &e->model, err);
    if (!code) code = read_opts(e, o, err);
    return code;
}

int srn__engine_fill(srn_engine *e, const char *path, const srn_engine_opts *o, srn_err *err) {
    unsigned off;
    if (!path)
        return srn_fail(err, SRN_EINVAL, "the path of the model is NULL; give the path of a GGUF file");
    int code = features_off(&off, err);
    if (!code) code = open_model(e, path, o, off, err);
    if (code) return code;
    const char *limit = o->cpu ? o->cpu : getenv("SERIN_CPU");
    srn_device_opts d = {.threads = o->threads,
                         .cpu_limit = limit && *limit ? limit : NULL,
                         .kv_type = e->kv_type,
                         .max_batch = e->plan.max_batch,
                         .max_wanted = e->plan.max_wanted,
                         .n_ctx = e->plan.n_ctx,
                         .progress = o->progress,
                         .progress_ctx = o->progress_ctx,
                         .cancel = o->cancel};
    memcpy(d.n_kv_blocks, e->plan.n_blocks, sizeof d.n_kv_blocks);
    code = check_memory(e, &d, o->cache_tokens, err);
    if (!code && o->before_load) code = o->before_load(o->before_load_ctx, e, err);
    if (!code) code = srn_cpu_device_new(e->model, &d, &e->device, err);
    if (!code) code = new_kv(e, err);
    if (code) return code;
    char maimed[24] = "";
    if (off) snprintf(maimed, sizeof maimed, "/test-off-%x", off);
    snprintf(e->engine_id, sizeof e->engine_id, "serin-%s/numerics-%d/%s/kv-%s%s", srn_version(),
             SRN_NUMERICS_ID, e->device->ops->device_class(e->device), srn_kv_type_name(e->kv_type), maimed);
    snprintf(e->software, sizeof e->software, "serin %s/numerics %d/%s%s", srn_version(), SRN_NUMERICS_ID,
             e->device->ops->device_class(e->device), maimed);
    return SRN_OK;
}

int srn_engine_open(const char *path, const srn_engine_opts *opts, srn_engine **ret, srn_err *err) {
    srn_engine_opts none = {0};
    srn_engine *e = srn_calloc(1, sizeof *e);
    if (!e) return srn_fail_nomem(err, sizeof *e);
    int code = srn__engine_fill(e, path, opts ? opts : &none, err);
    if (code) {
        srn_engine_close(e);
        return code;
    }
    *ret = e;
    return SRN_OK;
}

void srn_engine_close(srn_engine *e) {
    if (!e) return;
    srn_kv_free(e->kv);
    if (e->device) e->device->ops->free(e->device);
    srn_vocab_free(e->vocab);
    srn_model_free(e->model);
    srn_weights_free(e->weights);
    free(e);
}

srn_engine_info srn_engine_get_info(const srn_engine *e) {
    const srn_hparams *hp = &e->model->hp;
    srn_engine_info i = {.architecture = e->model->arch->name,
                         .engine_id = e->engine_id,
                         .n_vocab = hp->n_vocab,
                         .n_ctx = e->plan.n_ctx,
                         .max_seqs = e->plan.max_seqs,
                         .cache_tokens = e->plan.tokens,
                         .n_ctx_train = hp->n_ctx_train,
                         .n_layer = hp->n_layer,
                         .n_embd = hp->n_embd};
    if (!e->device) return i; /* not loaded yet */
    i.device = e->device->ops->device_class(e->device);
    i.threads = e->device->ops->threads(e->device);
    e->device->ops->memory(e->device, &i.weights_bytes, &i.kv_bytes, &i.work_bytes);
    return i;
}

uint32_t srn_engine_longest(const srn_engine *e) {
    return SRN_MIN(e->plan.n_ctx, srn_kv_longest(e->kv, e->plan.max_batch));
}

const srn_weights *srn_engine_weights(const srn_engine *e) {
    return e->weights;
}

int srn_engine_ids(const srn_engine *e, srn_ids *ret, srn_err *err) {
    srn_ids ids = {.numerics = SRN_NUMERICS_ID, .kv = srn_kv_type_name(e->kv_type)};
    int code = srn_tokenizer_id(e->weights, ids.tokenizer, err);
    if (!code) code = srn_chat_template_id(e->weights, ids.chat_template, err);
    if (code) return code;
    srn_weights_quantisation(e->weights, ids.quantisation);
    memcpy(ids.engine, e->software, sizeof ids.engine);
    memcpy(ids.weights, ret->weights, sizeof ids.weights);
    *ret = ids;
    return SRN_OK;
}

int srn_engine_vocab(srn_engine *e, const srn_vocab **ret, srn_err *err) {
    if (!e->vocab) {
        int code = srn_vocab_new(e->weights, &e->vocab, err);
        if (code) return code;
    }
    *ret = e->vocab;
    return SRN_OK;
}
