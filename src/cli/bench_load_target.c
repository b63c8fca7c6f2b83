/* serin bench --prompts: who answers. A model of this machine is served by this very process on a port of
 * loopback while it is its turn, so that what HTTP costs is in every row of the table, and the same code
 * measures it as a URL. Main thread. Refuses models and URLs that are not there before anything is measured,
 * and URLs that offer several models without a choice.
 */
#include <stdlib.h>
#include <unistd.h>

#include "cli/bench_load.h"
#include "cli/info.h"
#include "format/format.h"

enum { ASK_MS = 10000, MAX_MODELS_BYTES = 8 << 20, OPEN_PARALLEL = 64 };

/* ---- finding ---- */

/* "/models/small.Q4_K_M.gguf" to "small.Q4_K_M". */
static void short_name(const char *said, char *ret, size_t cap) {
    const char *slash = strrchr(said, '/');
    size_t n;
    snprintf(ret, cap, "%s", slash && slash[1] ? slash + 1 : said);
    n = strlen(ret);
    if (n > 5 && strcmp(ret + n - 5, ".gguf") == 0) ret[n - 5] = 0;
}

static int find_model(srn__bench_target *t, srn_err *err) {
    srn_weights *w = NULL;
    srn__info info = {0};
    int code = srn_weights_locate(t->said, t->path, sizeof t->path, err);
    if (!code) code = srn_weights_open(t->path, NULL, &w, err);
    if (!code) code = srn__info_gather(w, &info, err);
    if (!code && !info.model) code = srn_fail(err, SRN_EUNSUP, "%s: %s", t->said, info.refusal);
    if (!code) {
        snprintf(t->quantisation, sizeof t->quantisation, "%s", info.quantisation);
        t->weights_bytes = info.tensor_bytes;
        short_name(t->said, t->name, sizeof t->name);
        snprintf(t->model, sizeof t->model, "%s", t->name);
    }
    srn__info_done(&info);
    srn_weights_free(w);
    return code;
}

/* The only model that the server has. */
static int only_model(srn__bench_target *t, const char *answer, srn_err *err) {
    json_t *o = json_loads(answer, 0, NULL);
    const json_t *list = json_object_get(o, "data");
    size_t n = json_array_size(list);
    const char *id = json_string_value(json_object_get(json_array_get(list, 0), "id"));
    int code = SRN_OK;
    if (n == 1 && id && strlen(id) < sizeof t->model)
        snprintf(t->model, sizeof t->model, "%s", id);
    else
        code = srn_fail(err, SRN_EINVAL, "%s offers %zu models; say which one, behind a '#': --url '%s#%s'",
                        t->base, n, t->base, id && n ? id : "MODEL");
    json_decref(o);
    return code;
}

static int find_url(const srn__bench_load *b, srn__bench_target *t, srn_err *err) {
    const char *hash = strchr(t->said, '#');
    char *answer = NULL;
    size_t n = hash ? (size_t)(hash - t->said) : strlen(t->said);
    int status = 0;
    if (n >= sizeof t->base || (hash && strlen(hash) > sizeof t->model))
        return srn_fail(err, SRN_EINVAL, "--url: the address is too long");
    snprintf(t->base, sizeof t->base, "%.*s", (int)n, t->said);
    if (hash) snprintf(t->model, sizeof t->model, "%s", hash + 1);
    t->bearer = t->key_env ? getenv(t->key_env) : NULL;
    if (t->key_env && !t->bearer)
        return srn_fail(err, SRN_EINVAL, "--key-env: the environment has no %s", t->key_env);
    const srn_request_to ask = {.base = t->base,
                                .path = "/v1/models",
                                .bearer = t->bearer,
                                .ca_file = b->ca,
                                .max_bytes = MAX_MODELS_BYTES,
                                .timeout_ms = ASK_MS,
                                .cancel = b->cancel};
    int code = srn_http_request(&ask, &status, &answer, &n, err);
    if (!code && !t->model[0]) {
        if (status == 200)
            code = only_model(t, answer, err);
        else
            code = srn_fail(err, SRN_EIO,
                            "%s: it does not say which models it has (HTTP %d); name one behind a '#': "
                            "--url '%s#MODEL'",
                            t->base, status, t->base);
    }
    free(answer);
    const char *host = strstr(t->base, "://");
    snprintf(t->name, sizeof t->name, "%.120s @ %.120s", t->model, host ? host + 3 : t->base);
    return code;
}

static int add_targets(srn__bench_load *b, const srn_str_list *l, bool local, srn_err *err) {
    int code = SRN_OK;
    for (size_t i = 0; !code && i < l->n; i++) {
        srn__bench_target *t = &b->targets[b->n_targets++];
        const char *key = !local && i < b->key_envs.n ? b->key_envs.items[i] : "-";
        t->said = l->items[i];
        t->local = local;
        t->key_env = strcmp(key, "-") == 0 ? NULL : key;
        code = local ? find_model(t, err) : find_url(b, t, err);
    }
    return code;
}

int srn__bench_targets_find(srn__bench_load *b, srn_err *err) {
    size_t n = b->models.n + b->urls.n;
    if (b->key_envs.n > b->urls.n)
        return srn_fail(err, SRN_EUSAGE, "--key-env is of the --url at its place, and there are fewer URLs");
    b->targets = srn_calloc(n, sizeof *b->targets);
    if (!b->targets) return srn_fail_nomem(err, n * sizeof *b->targets);
    int code = add_targets(b, &b->models, true, err);
    if (!code) code = add_targets(b, &b->urls, false, err);
    for (size_t i = 0; !code && i < b->n_targets; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(b->targets[i].name, b->targets[k].name) == 0)
                code = srn_fail(err, SRN_EUSAGE, "'%s' is there twice", b->targets[i].name);
    return code;
}

/* ---- a model's turn ---- */

/* Bytes that the process has, or with "VmHWM" has had at most since it was last forgotten; 0: not known. */
static uint64_t memory_of(const char *key) {
    FILE *f = fopen("/proc/self/status", "re");
    unsigned long long kb = 0;
    char line[256];
    size_t n = strlen(key);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') kb = strtoull(line + n + 1, NULL, 10);
    if (f) fclose(f);
    return kb * 1024;
}

static bool forget_most_memory(void) {
    FILE *f = fopen("/proc/self/clear_refs", "we");
    bool done = f && fputs("5", f) >= 0;
    if (f && fclose(f)) done = false;
    return done;
}

static int configure(const srn__bench_load *b, srn__bench_target *t, srn_err *err) {
    uint32_t most = srn__bench_most(&b->concurrency);
    srn_config *c = &t->config;
    srn_config_init(c);
    c->file = "serin bench";
    c->listen = "127.0.0.1:0";
    c->ledger.where = "off";
    c->models = srn_arena_alloc(&c->arena, sizeof *c->models);
    if (!c->models) return srn_fail_nomem(err, sizeof *c->models);
    c->n_models = 1;
    c->models[0] = (srn_config_model){.name = t->model,
                                      .path = t->path,
                                      .ctx = (uint32_t)b->ctx,
                                      .parallel = most ? most : OPEN_PARALLEL,
                                      .threads = (uint32_t)b->threads,
                                      .kv_type = b->kv};
    return srn_server_check(c, err);
}

int srn__bench_target_start(srn__bench_load *b, srn__bench_target *t, srn_err *err) {
    uint64_t from = srn_now_us();
    if (!t->local) return SRN_OK;
    t->before_bytes = forget_most_memory() ? memory_of("VmRSS") : 0;
    int code = configure(b, t, err);
    srn_server_opts o = {.config = &t->config, .progress = srn_cli_progress};
    if (!code) code = srn_server_start(&o, &t->server, err);
    if (!code) snprintf(t->base, sizeof t->base, "%s", srn_server_address(t->server));
    t->start_seconds = (double)(srn_now_us() - from) / 1e6;
    return code;
}

void srn__bench_target_stop(srn__bench_target *t) {
    if (!t->local) return;
    uint64_t most = memory_of("VmHWM");
    if (t->server && t->before_bytes && most > t->before_bytes) t->memory_bytes = most - t->before_bytes;
    if (t->server) srn_server_stop(t->server, 0);
    t->server = NULL;
    srn_config_done(&t->config);
}
