/* cli, serin serve: the options, and how they are laid over serin.yaml: a flag wins over the file. What
 * describes models (--ctx, --kv, ...) is for those of the command line, or, where there are none, for every
 * model of the file. Refuses what srn_cli_parse and the parser of serin.yaml refuse.
 */
#include <stdlib.h>

#include "cli/serve.h"
#include "format/format.h"

enum { DRAFT_TOKENS = 4, DRAFT_MOST = 16 };

static const char examples[] =
    "  serin serve smollm2\n"
    "  serin serve smollm2 --listen 0.0.0.0:8080 --keys keys.txt --tls-cert cert.pem --tls-key key.pem\n"
    "  serin serve ./model.gguf --alias gpt-4o-mini --ctx 8192 --parallel 32 --kv q8_0\n"
    "  serin serve smollm2 --model big=./large.gguf --lazy   # each is loaded by its first request\n"
    "  serin serve smollm2 --model next=http://10.0.0.5:8080 # another server computes it\n"
    "  serin serve smollm2 --ledger /var/lib/serin --ledger-mode required --ledger-content full\n"
    "  serin serve --config serin.yaml --check-config\n"
    "  curl http://127.0.0.1:8080/v1/chat/completions \\\n"
    "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'\n";

static int parse_flags(int argc, char **argv, srn__serve_flags *f) {
    const srn_opt opts[] = {
        {"listen", 'l', SRN_OPT_STR, &f->listen, 0, 0, "ADDRESS", "HOST:PORT or unix:PATH (127.0.0.1:8080)"},
        {"config", 'C', SRN_OPT_STR, &f->config, 0, 0, "FILE", "serin.yaml: models, routes, limits"},
        {"check-config", 0, SRN_OPT_FLAG, &f->check_config, 0, 0, NULL, "say what is wrong with it, and end"},
        {"ctx", 'c', SRN_OPT_INT, &f->ctx, 1, UINT32_MAX, "N", "tokens of the longest conversation"},
        {"parallel", 'p', SRN_OPT_INT, &f->parallel, 1, 256, "N", "requests that run at once (16)"},
        {"threads", 't', SRN_OPT_INT, &f->threads, 1, 1024, "N", "threads that compute (all cores)"},
        {"cache-tokens", 0, SRN_OPT_INT, &f->cache_tokens, 1, 1e12, "N", "tokens that the KV cache holds"},
        {"kv", 0, SRN_OPT_STR, &f->kv, 0, 0, "TYPE", "type of the KV cache: f16, q8_0 or f32"},
        {"speculate", 0, SRN_OPT_STR, &f->speculate, 0, 0, "HOW",
         "ngram, ngram:N or off: drafts from the text"},
        {"model", 'm', SRN_OPT_LIST, &f->models, 0, 0, "NAME=MODEL",
         "one more, by this name, or another server: NAME=http://..."},
        {"lazy", 0, SRN_OPT_FLAG, &f->lazy, 0, 0, NULL, "models are loaded by the first request for them"},
        {"alias", 'a', SRN_OPT_LIST, &f->aliases, 0, 0, "NAME",
         "another name for the first MODEL; may be repeated"},
        {"default-model", 0, SRN_OPT_STR, &f->default_model, 0, 0, "NAME", "for requests that name none"},
        {"keys", 'k', SRN_OPT_STR, &f->keys, 0, 0, "FILE", "API keys, one NAME KEY [admin] a line"},
        {"allow-open", 0, SRN_OPT_FLAG, &f->allow_open, 0, 0, NULL,
         "listen beyond this machine without keys"},
        {"tls-cert", 0, SRN_OPT_STR, &f->tls_cert, 0, 0, "FILE", "certificate chain in PEM"},
        {"tls-key", 0, SRN_OPT_STR, &f->tls_key, 0, 0, "FILE", "its private key in PEM"},
        {"host", 0, SRN_OPT_LIST, &f->hosts, 0, 0, "NAME",
         "allowed Host header (not the address to listen on)"},
        {"cors", 0, SRN_OPT_LIST, &f->cors, 0, 0, "ORIGIN", "allowed origin of web pages; may be repeated"},
        {"metrics-open", 0, SRN_OPT_FLAG, &f->metrics_open, 0, 0, NULL, "/metrics needs no key"},
        {"ledger", 0, SRN_OPT_STR, &f->ledger, 0, 0, "WHERE",
         "record of calls: a folder, postgresql://... or off"},
        {"ledger-folder", 0, SRN_OPT_STR, &f->ledger_folder, 0, 0, "DIR",
         "of this machine, for a ledger in PostgreSQL"},
        {"ledger-keys", 0, SRN_OPT_STR, &f->ledger_keys, 0, 0, "DIR", "its keys (keys in the folder)"},
        {"ledger-mode", 0, SRN_OPT_STR, &f->ledger_mode, 0, 0, "MODE",
         "buffered, or required: no answer without its record"},
        {"ledger-content", 0, SRN_OPT_STR, &f->ledger_content, 0, 0, "POLICY",
         "of prompts and answers: none, hash, full or encrypted"},
        {"limit", 0, SRN_OPT_LIST, &f->limits, 0, 0, "NAME=VALUE",
         "a limit as in serin.yaml, e.g. body=1MiB"},
        {"grace", 0, SRN_OPT_INT, &f->grace, 0, 3600, "SECONDS", "for running answers at the stop (30)"},
        {"json", 0, SRN_OPT_FLAG, &f->json, 0, 0, NULL, "say the address as JSON"},
    };
    static const srn_cli_foreign foreign[] = {
        {"port", "it belongs to the address: --listen 127.0.0.1:PORT"},
        {"bind", "write --listen HOST:PORT"},
        {"ctx-size", "write --ctx N"},
        {"max-model-len", "write --ctx N"},
        {"max-num-seqs", "write --parallel N"},
        {"n", "the length of answers is each request's own max_tokens; the slots are --parallel N"},
        {"served-model-name", "write --alias NAME"},
        {"api-key", "keys stand in a file, where `ps` does not show them: --keys FILE"},
        {"ssl-cert-file", "write --tls-cert FILE"},
        {"ssl-key-file", "write --tls-key FILE"},
        {"cache-type-k", "write --kv TYPE, for keys and values together"},
        {"cache-type-v", "write --kv TYPE, for keys and values together"},
        {"kv-cache-dtype", "write --kv TYPE"},
        {"n-gpu-layers", "this version computes on the CPU"},
        {"metrics", "/metrics is always there; --metrics-open opens it to those without a key"},
    };
    const srn_cli_spec spec = {
        .foreign = foreign,
        .n_foreign = SRN_LEN(foreign),
        .usage = "serin serve [MODEL...] [--config FILE] [--listen ADDRESS] ...",
        .about =
            "Serves models over HTTP with the APIs of OpenAI and Anthropic. Prints its address when it is\n"
            "ready; the log goes to standard error, one JSON line a request. SIGHUP reads configuration,\n"
            "keys and certificate again; SIGTERM lets running answers finish.",
        .examples = examples,
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .max_operands = SRN__SERVE_MODELS,
    };
    f->ctx = f->parallel = f->threads = f->cache_tokens = f->grace = -1;
    return srn_cli_parse(&spec, argc, argv, f->operands, &f->n_operands);
}

void srn__serve_flags_done(srn__serve_flags *f) {
    srn_str_list_done(&f->aliases);
    srn_str_list_done(&f->hosts);
    srn_str_list_done(&f->cors);
    srn_str_list_done(&f->limits);
    srn_str_list_done(&f->models);
}

/* ---- limits: "NAME=VALUE" is read as the file would be ---- */

static int lay_limit(srn_config *c, const char *text, srn_err *err) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || strpbrk(text, "\n\r"))
        return srn_fail(err, SRN_EUSAGE, "--limit %s: write NAME=VALUE, for example --limit body=1MiB", text);
    srn_buf yaml;
    srn_buf_init(&yaml, 65536);
    srn_buf_addf(&yaml, "limits:\n  %.*s: %s\n", (int)(equals - text), text, equals + 1);
    const char *file = c->file;
    int code = yaml.failed ? srn_fail(err, SRN_EUSAGE, "--limit: too long")
                           : srn_config_parse(c, (srn_str){yaml.data, yaml.len}, "--limit", err);
    c->file = file;
    srn_buf_done(&yaml);
    return code;
}

/* ---- models ---- */

/* "ngram", "ngram:N", "off" */
static int parse_speculate(const char *text, uint32_t *ret, srn_err *err) {
    if (strcmp(text, "off") == 0) return *ret = 0, SRN_OK;
    if (strcmp(text, "ngram") == 0) return *ret = DRAFT_TOKENS, SRN_OK;
    char *end;
    if (strncmp(text, "ngram:", 6) == 0 && text[6] >= '0' && text[6] <= '9') {
        long n = strtol(text + 6, &end, 10);
        if (*end == 0 && n >= 1 && n <= DRAFT_MOST) return *ret = (uint32_t)n, SRN_OK;
    }
    return srn_fail(err, SRN_EUSAGE, "--speculate %s: use ngram, ngram:N with N from 1 to %d, or off", text,
                    DRAFT_MOST);
}

static int describe_model(const srn__serve_flags *f, srn_config_model *m, srn_err *err) {
    if (m->upstream) return SRN_OK; /* what it computes with is its own */
    if (f->ctx > 0) m->ctx = (uint32_t)f->ctx;
    if (f->parallel > 0) m->parallel = (uint32_t)f->parallel;
    if (f->threads > 0) m->threads = (uint32_t)f->threads;
    if (f->cache_tokens > 0) m->cache_tokens = (uint64_t)f->cache_tokens;
    if (f->kv) m->kv_type = f->kv;
    m->lazy = m->lazy || f->lazy;
    return f->speculate ? parse_speculate(f->speculate, &m->speculate, err) : SRN_OK;
}

/* What clients call it: the name as given, or that of the file without its ending. */
static const char *model_name(srn_config *c, const char *model) {
    const char *slash = strrchr(model, '/'), *name = slash ? slash + 1 : model;
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) n -= 5;
    return srn_arena_strndup(&c->arena, name, n);
}

/* "NAME=MODEL", or MODEL; no name has a slash in it, so that paths may have any sign. */
static int describe_named(const srn__serve_flags *f, srn_config *c, const char *text, srn_config_model *ret,
                          srn_err *err) {
    size_t n = strcspn(text, "=/");
    bool named = text[n] == '=';
    if (named && (n == 0 || !text[n + 1]))
        return srn_fail(err, SRN_EUSAGE, "--model %s: write NAME=MODEL, for example --model big=./large.gguf",
                        text);
    const char *model = named ? text + n + 1 : text;
    bool elsewhere = strncmp(model, "http://", 7) == 0 || strncmp(model, "https://", 8) == 0 ||
                     strncmp(model, "unix:", 5) == 0;
    if (elsewhere && !named)
        return srn_fail(err, SRN_EUSAGE, "--model %s: another server's model needs a name: --model NAME=%s",
                        text, text);
    *(elsewhere ? &ret->upstream : &ret->path) = model;
    ret->name = named ? srn_arena_strndup(&c->arena, text, n) : model_name(c, text);
    return ret->name ? describe_model(f, ret, err) : srn_fail_nomem(err, n);
}

/* Those of the command line come before those of the file: the first is for requests that name none. */
static int add_models(const srn__serve_flags *f, srn_config *c, const char *const *operands,
                      size_t n_operands, srn_err *err) {
    size_t n = n_operands + f->models.n;
    srn_config_model *all = srn_arena_alloc(&c->arena, (c->n_models + n) * sizeof *all);
    if (n > SRN__SERVE_MODELS)
        return srn_fail(err, SRN_EUSAGE, "%zu models are named; at most %d can be, and more in a file", n,
                        SRN__SERVE_MODELS);
    if (!all) return srn_fail_nomem(err, (c->n_models + n) * sizeof *all);
    memset(all, 0, n * sizeof *all);
    int code = SRN_OK;
    for (size_t i = 0; i < n_operands && !code; i++) {
        all[i] = (srn_config_model){.name = model_name(c, operands[i]), .path = operands[i]};
        code = all[i].name ? describe_model(f, &all[i], err) : srn_fail_nomem(err, strlen(operands[i]));
    }
    for (size_t i = n_operands; i < n && !code; i++)
        code = describe_named(f, c, f->models.items[i - n_operands], &all[i], err);
    if (code) return code;
    all[0].aliases = f->aliases.items;
    all[0].n_aliases = (uint32_t)f->aliases.n;
    if (c->n_models) memcpy(all + n, c->models, c->n_models * sizeof *all);
    c->models = all;
    c->n_models += (uint32_t)n;
    return SRN_OK;
}

static int lay_models(const srn__serve_flags *f, srn_config *c, const char *const *operands, size_t n,
                      srn_err *err) {
    if (n || f->models.n) return add_models(f, c, operands, n, err);
    if (f->aliases.n)
        return srn_fail(err, SRN_EUSAGE,
                        "--alias names the MODEL of the command line, and there is none; write "
                        "'aliases' in the file");
    int code = SRN_OK;
    for (uint32_t i = 0; i < c->n_models && !code; i++) code = describe_model(f, &c->models[i], err);
    return code;
}

/* Each must be there before anything is loaded. */
static int check_paths(const srn_config *c, srn_err *err) {
    char path[4096];
    for (uint32_t i = 0; i < c->n_models; i++) {
        if (c->models[i].upstream) continue;
        int code = srn_weights_locate(c->models[i].path, path, sizeof path, err);
        if (!code) continue;
        srn_err why = *err;
        if (c->n_models > 1 || c->places) {
            srn_config_fail(c, c->models[i].path, err, "models: '%s': %s", c->models[i].name, why.text);
            err->code = code;
        }
        return code;
    }
    return SRN_OK;
}

static const char *from_environment(const char *name) {
    return getenv(name);
}

int srn__serve_configure(const srn__serve_flags *f, srn_config *c, srn_err *err) {
    int code = f->config ? srn_config_load(c, f->config, err) : SRN_OK;
    if (code) return code;
    if (f->listen) c->listen = f->listen;
    if (f->keys) c->keys_file = f->keys;
    if (f->tls_cert) c->tls_cert = f->tls_cert;
    if (f->tls_key) c->tls_key = f->tls_key;
    if (f->default_model) c->default_model = f->default_model;
    if (f->ledger) c->ledger.where = f->ledger;
    if (f->ledger_folder) c->ledger.folder = f->ledger_folder;
    if (f->ledger_keys) c->ledger.keys = f->ledger_keys;
    if (f->ledger_mode) c->ledger.mode = f->ledger_mode;
    if (f->ledger_content) c->ledger.content = f->ledger_content;
    if (f->hosts.n) c->hosts = f->hosts.items, c->n_hosts = (uint32_t)f->hosts.n;
    if (f->cors.n) c->cors = f->cors.items, c->n_cors = (uint32_t)f->cors.n;
    c->allow_open = c->allow_open || f->allow_open;
    c->metrics_open = c->metrics_open || f->metrics_open;
    if (f->grace >= 0) c->grace_ms = (uint32_t)f->grace * 1000;
    for (size_t i = 0; i < f->limits.n && !code; i++) code = lay_limit(c, f->limits.items[i], err);
    if (!code) code = lay_models(f, c, f->operands, (size_t)f->n_operands, err);
    if (!code) code = srn_config_otel_env(c, from_environment, err);
    return code ? code : check_paths(c, err);
}

int srn__serve_parse(int argc, char **argv, srn__serve_flags *f, srn_config *c, srn_err *err) {
    int code = parse_flags(argc, argv, f);
    if (code >= 0) return code;
    code = srn__serve_configure(f, c, err);
    return code ? srn_cli_error("serve", err) : SRN__SERVE_GO;
}
