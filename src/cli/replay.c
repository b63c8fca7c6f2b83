/* serin replay: recorded calls run again and compared to the bit. Reads the ledger (never writes it), finds
 * the weights that each call names, runs the calls of one model together. Main thread, and workers that each
 * read and run one call at a time, so that no more contents than workers are in memory.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/ledger.h"
#include "serve/replay.h"

enum { MAX_CALLS = 1000000, WORKERS = 8, USUAL_CTX = 8192 };

typedef struct group { /* calls that run on one model */
    char weights[2 * SRN_SHA256_BYTES + 1], kv[16];
    size_t n;
    uint64_t longest; /* tokens */
} group;

typedef struct replay {
    const char *ledger, *folder, *keys, *filter, *weights, *model;
    int64_t threads, limit;
    bool json, no_divergence;
    srn_prompts *prompts;
    json_t *paths; /* weights id -> the file that was loaded last with it */
    srn_replay_call *calls;
    size_t n, cap;
    group *groups;
    size_t n_groups;
    uint32_t *group_of; /* [n] 1 + the call's; 0: it is done */
    /* of the group that runs */
    srn_replayer *replayer; /* of the recorded weights; with --model NULL where they cannot be had */
    srn_replayer *other;    /* of --model */
    srn_err no_was;         /* why there is no replayer, with --model */
    uint32_t running;       /* 1 + the group */
    pthread_mutex_t lock;   /* guards what follows */
    srn_reader *reader;
    size_t next, n_done;
} replay;

/* ---- which calls ---- */

static int add_call(replay *p, const uint8_t id[16], srn_err *err) {
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 64;
        srn_replay_call *grown = cap <= MAX_CALLS ? srn_realloc_array(p->calls, cap, sizeof *grown) : NULL;
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        p->calls = grown;
        p->cap = cap;
    }
    srn_replay_call *c = &p->calls[p->n++];
    *c = (srn_replay_call){0};
    memcpy(c->id, id, 16);
    return SRN_OK;
}

typedef struct finding {
    replay *p;
    srn_err *err;
    int code;
} finding;

static bool found(void *ctx, const srn_call_row *row, const srn_stored *s) {
    finding *f = ctx;
    (void)s;
    f->code = add_call(f->p, row->id, f->err);
    return !f->code;
}

static int find_calls(replay *p, srn_err *err) {
    srn_filter *filter = NULL;
    finding f = {p, err, SRN_OK};
    int code = srn_filter_parse(srn_str_of(p->filter), srn_unix_us(), &filter, err);
    if (!code) code = srn_reader_calls(p->reader, filter, NULL, (uint32_t)p->limit, found, &f, err);
    srn_filter_free(filter);
    return code ? code : f.code;
}

/* ---- running them ---- */

/* Of a call only what came of it stays. */
static void forget(srn_replay_call *c) {
    json_decref(c->record);
    json_decref(c->content);
    c->record = c->content = NULL;
}

static void *work(void *ctx) {
    replay *p = ctx;
    srn_answerer *was = p->replayer ? srn_replayer_answerer(p->replayer) : NULL;
    for (;;) {
        pthread_mutex_lock(&p->lock);
        while (p->next < p->n && p->group_of[p->next] != p->running) p->next++;
        srn_replay_call *c = p->next < p->n ? &p->calls[p->next++] : NULL;
        if (c) srn_replay_read(p->reader, c);
        pthread_mutex_unlock(&p->lock);
        if (!c) return NULL;
        if (!c->done && p->other) /* done: it was dropped, or forgotten, meanwhile */
            srn_replay_run_other(srn_replayer_answerer(p->other), p->model, was, p->no_was.text, c);
        else if (!c->done)
            srn_replay_run(p->replayer, c);
        forget(c);
        pthread_mutex_lock(&p->lock);
        srn_cli_progress(NULL, "replaying", ++p->n_done, p->groups[p->running - 1].n);
        pthread_mutex_unlock(&p->lock);
    }
}

/* ---- the weights ---- */

static bool note_path(void *ctx, const srn_stored *s) {
    json_t *paths = ctx, *e = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *name = json_string_value(json_object_get(e, "event"));
    const char *weights = json_string_value(json_object_get(e, "weights"));
    if (name && weights && strcmp(name, "model_loaded") == 0)
        json_object_set(paths, weights, json_object_get(e, "path"));
    json_decref(e);
    return true;
}

/* The first part of a model that the server kept (keep_weights). */
static bool find_kept(const replay *p, const char *weights, char *ret, size_t cap) {
    char dir[4096], best[256] = "";
    srn_buf folder;
    srn_buf_init(&folder, sizeof dir);
    bool known = !srn_ledger_local_dir(p->ledger, p->folder, &folder, NULL);
    snprintf(dir, sizeof dir, "%s/weights/%s", known ? folder.data : "", weights);
    srn_buf_done(&folder);
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d && (e = readdir(d)))
        if (e->d_name[0] != '.' && (!*best || strcmp(e->d_name, best) < 0))
            snprintf(best, sizeof best, "%s", e->d_name);
    if (d) closedir(d);
    return *best && (size_t)snprintf(ret, cap, "%s/%s", dir, best) < cap;
}

static int locate(const replay *p, const char *weights, char *ret, size_t cap, srn_err *err) {
    if (p->weights) return srn_weights_locate(p->weights, ret, cap, err);
    if (find_kept(p, weights, ret, cap)) return SRN_OK;
    const char *path = json_string_value(json_object_get(p->paths, weights));
    if (!path)
        return srn_fail(err, SRN_ENOENT,
                        "the ledger does not say where the weights %.12s were; give the file with --weights",
                        weights);
    snprintf(ret, cap, "%s", path);
    if (access(ret, R_OK) == 0) return SRN_OK;
    return srn_fail(err, SRN_ENOENT,
                    "the weights %.12s are gone: %s is not there any more, so nothing can be proven; give "
                    "a copy with --weights FILE",
                    weights, path);
}

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

static int open_model(const replay *p, const char *model, const char *kv, uint32_t ctx, srn_replayer **ret,
                      srn_err *err) {
    const srn_replayer_opts o = {.model = model,
                                 .kv = *kv ? kv : NULL,
                                 .threads = (uint32_t)p->threads,
                                 .ctx = ctx,
                                 .parallel = WORKERS,
                                 .prompts = p->prompts,
                                 .progress = srn_cli_progress};
    return srn_replayer_open(&o, ret, err);
}

/* The models of a group. With --model the recorded weights are there for the divergence only. */
static int open_group(replay *p, const group *g, srn_err *err) {
    char path[4096];
    /* with room for the token that ends an answer */
    const uint32_t longest = (uint32_t)SRN_MIN(g->longest + 64, (uint64_t)1 << 24), ctx = 2 * longest;
    p->no_was = (srn_err){0};
    int code = SRN_OK;
    if (p->model) /* another model may have another template, and longer prompts */
        code = open_model(p, p->model, g->kv, ctx > USUAL_CTX ? ctx : 0, &p->other, err);
    if (!code && p->no_divergence) return srn_fail(&p->no_was, SRN_ENOENT, "it was not asked for"), SRN_OK;
    if (!code) code = locate(p, g->weights, path, sizeof path, err);
    if (!code) code = open_model(p, path, g->kv, longest, &p->replayer, err);
    if (!code || !p->other) return code;
    p->no_was = *err;
    return SRN_OK;
}

static void run_group(replay *p, const group *g) {
    srn_err err = {0};
    pthread_t threads[WORKERS];
    size_t n = 0;
    int code = open_group(p, g, &err);
    p->next = p->n_done = 0;
    if (!code) {
        while (n < WORKERS && n < g->n && pthread_create(&threads[n], NULL, work, p) == 0) n++;
        if (n == 0) work(p);
        for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; code && i < p->n; i++)
        if (p->group_of[i] == p->running) srn_replay_fail(&p->calls[i], &err);
    srn_replayer_close(p->replayer);
    srn_replayer_close(p->other);
    p->replayer = p->other = NULL;
}

/* Calls of the same weights and cache type run on one model. */
static int group_call(replay *p, size_t at, srn_err *err) {
    const srn_replay_call *c = &p->calls[at];
    const char *weights = srn_replay_weights(c), *kv = srn_replay_kv(c);
    size_t i = 0;
    while (i < p->n_groups && (strcmp(p->groups[i].weights, weights) || strcmp(p->groups[i].kv, kv))) i++;
    if (i == p->n_groups) {
        group *grown = srn_realloc_array(p->groups, i + 1, sizeof *grown);
        if (!grown) return srn_fail_nomem(err, (i + 1) * sizeof *grown);
        p->groups = grown;
        grown[p->n_groups++] = (group){.n = 0};
        snprintf(grown[i].weights, sizeof grown->weights, "%s", weights);
        snprintf(grown[i].kv, sizeof grown->kv, "%s", kv);
    }
    p->groups[i].n++;
    p->groups[i].longest = SRN_MAX(p->groups[i].longest, srn_replay_tokens(c));
    p->group_of[at] = (uint32_t)i + 1;
    return SRN_OK;
}

static int run_all(replay *p, srn_err *err) {
    int code = SRN_OK;
    p->group_of = srn_calloc(p->n + 1, sizeof *p->group_of);
    if (!p->group_of) return srn_fail_nomem(err, p->n * sizeof *p->group_of);
    for (size_t i = 0; !code && i < p->n; i++) {
        srn_replay_read(p->reader, &p->calls[i]);
        if (!p->calls[i].done) code = group_call(p, i, err);
        forget(&p->calls[i]);
    }
    for (p->running = 1; !code && p->running <= p->n_groups; p->running++)
        run_group(p, &p->groups[p->running - 1]);
    return code;
}

/* ---- what is said ---- */

static void print_difference(const json_t *result) {
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(result, "choices"), i, c) {
        const json_t *d = json_object_get(c, "first_difference");
        if (!json_is_object(d)) continue;
        const json_t *was = json_object_get(d, "recorded"), *is = json_object_get(d, "replayed");
        printf("  choice %d, token %d of %d: %s", (int)i, (int)json_integer_value(json_object_get(d, "at")),
               (int)json_integer_value(json_object_get(c, "recorded")), text_of(d, "kind"));
        if (was)
            printf(", recorded %d (logit %.9g), now %d (logit %.9g)",
                   (int)json_integer_value(json_object_get(was, "token")),
                   json_number_value(json_object_get(was, "logit")),
                   (int)json_integer_value(json_object_get(is, "token")),
                   json_number_value(json_object_get(is, "logit")));
        printf("\n");
    }
}

/* What another model made of the call. */
static void print_other(const srn_replay_call *c) {
    const json_t *d = json_object_get(c->result, "divergence"), *at = json_object_get(c->result, "parts_at");
    const json_t *was = json_object_get(c->result, "recorded");
    printf("%s  ", c->name);
    if (c->verdict == SRN_REPLAY_SAME)
        printf("the same answer");
    else if (json_is_integer(at))
        printf("another answer: they part at token %d of %d", (int)json_integer_value(at),
               (int)json_integer_value(json_object_get(was, "tokens")));
    else
        printf("another answer");
    printf(" (weights %.12s, %s)\n", text_of(c->result, "weights"), text_of(c->result, "quantisation"));
    if (json_is_object(d))
        printf("  divergence: mean %.3g, max %.3g nats a token, the same likeliest token at %.2f %% of %d\n",
               json_number_value(json_object_get(d, "mean")), json_number_value(json_object_get(d, "max")),
               100 * json_number_value(json_object_get(d, "top1")),
               (int)json_integer_value(json_object_get(d, "tokens")));
    else
        printf("  no divergence: %s\n", text_of(c->result, "no_divergence"));
}

static void print_call(const srn_replay_call *c) {
    if (!c->result) {
        printf("%s  %s: %s\n", c->name, srn_replay_verdict_name(c->verdict), c->why.text);
        return;
    }
    if (json_object_get(c->result, "model")) return print_other(c);
    const char *changed = text_of(c->result, "changed");
    int tokens = (int)json_integer_value(json_object_get(c->result, "tokens"));
    int vectors = (int)json_integer_value(json_object_get(c->result, "vectors"));
    const char *what = vectors ? "vectors" : "tokens";
    bool tokens_same = json_is_true(json_object_get(c->result, "tokens_same"));
    if (c->verdict == SRN_REPLAY_SAME)
        printf("%s  the same: %d %s, every bit (weights %.12s, %s)\n", c->name, vectors ? vectors : tokens,
               what, text_of(c->result, "weights"), text_of(c->result, "engine"));
    else if (tokens_same)
        printf("%s  not proven: the %s are the same, but not the %s\n", c->name, what, changed);
    else
        printf("%s  different%s%s\n", c->name, *changed ? "; changed since: " : "", changed);
    print_difference(c->result);
    if (!json_is_true(json_object_get(c->result, "prompt_same")))
        printf("  the prompt is rendered differently now (a template that asks for the time, or a changed "
               "one); the recorded one was run\n");
}

static bool print_all(const replay *p) {
    size_t counts[4] = {0};
    for (size_t i = 0; i < p->n; i++) {
        counts[p->calls[i].verdict]++;
        if (!p->json) print_call(&p->calls[i]);
    }
    if (p->json) {
        json_t *o = srn_replay_json(p->calls, p->n);
        json_dumpf(o, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(o);
    } else if (p->n != 1) {
        printf("%zu calls: %zu the same%s, %zu different, %zu not proven, %zu with nothing to replay\n", p->n,
               counts[SRN_REPLAY_SAME], p->model ? " answer" : " to the bit", counts[SRN_REPLAY_DIFFERENT],
               counts[SRN_REPLAY_UNPROVEN], counts[SRN_REPLAY_EMPTY]);
    }
    return !counts[SRN_REPLAY_DIFFERENT] && !counts[SRN_REPLAY_UNPROVEN];
}

/* ---- the command ---- */

static int run(replay *p, const char *const *ids, int n_ids, srn_err *err) {
    srn_err none;
    if (!n_ids == !p->filter) return srn_fail(err, SRN_EUSAGE, "give ids of calls, or a filter with --calls");
    int code = srn_reader_open_in(p->ledger, p->folder, p->keys, &p->reader, err);
    for (int i = 0; !code && i < n_ids; i++) {
        uint8_t id[16];
        if (!srn_ulid_parse(srn_str_of(ids[i]), id))
            code =
                srn_fail(err, SRN_EUSAGE, "'%.80s' is no id of a call; serin calls list shows them", ids[i]);
        if (!code) code = add_call(p, id, err);
        if (!code) snprintf(p->calls[p->n - 1].name, sizeof p->calls->name, "%s", ids[i]);
    }
    if (!code && p->filter) code = find_calls(p, err);
    if (!code) code = srn_reader_records(p->reader, SRN_RECORD_EVENT, 0, note_path, p->paths, err);
    if (!code && srn_prompts_read(p->ledger, p->keys, &p->prompts, &none)) p->prompts = NULL;
    return code ? code : run_all(p, err);
}

static void done(replay *p) {
    for (size_t i = 0; i < p->n; i++) srn_replay_call_done(&p->calls[i]);
    free(p->calls);
    free(p->groups);
    free(p->group_of);
    json_decref(p->paths);
    srn_prompts_close(p->prompts);
    srn_reader_close(p->reader);
    pthread_mutex_destroy(&p->lock);
}

int srn__cmd_replay(int argc, char **argv) {
    replay p = {.limit = 1000, .paths = json_object()};
    const srn_opt opts[] = {
        {"calls", 0, SRN_OPT_STR, &p.filter, 0, 0, "FILTER", "the calls that a filter finds, newest first"},
        {"limit", 0, SRN_OPT_INT, &p.limit, 1, MAX_CALLS, "N", "at most so many of them (1000)"},
        {"model", 0, SRN_OPT_STR, &p.model, 0, 0, "MODEL",
         "ask another model instead: where the answers part, and how far the models are apart"},
        {"no-divergence", 0, SRN_OPT_FLAG, &p.no_divergence, 0, 0, NULL,
         "with --model: leave it out; both models must fit into memory for it"},
        {"weights", 0, SRN_OPT_STR, &p.weights, 0, 0, "MODEL",
         "the model's file, where it is no longer where it was"},
        {"threads", 0, SRN_OPT_INT, &p.threads, 1, 1024, "N", "threads; the result never depends on it"},
        {"ledger", 0, SRN_OPT_STR, &p.ledger, 0, 0, "DIR|URL", "the ledger (the default folder)"},
        SRN__LEDGER_FOLDER(&p.folder),
        {"keys", 0, SRN_OPT_STR, &p.keys, 0, 0, "DIR", "its keys, where they are elsewhere"},
        {"json", 0, SRN_OPT_FLAG, &p.json, 0, 0, NULL, "one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin replay CALL... | --calls FILTER",
        .about =
            "Runs recorded calls again and compares every token, logit and log-probability to the bit. "
            "Ends with 0 when all are the same, with 1 when one is not, or cannot be proven. With --model "
            "another model answers.",
        .examples = "  serin replay 01KATV3WJ8Y0N6P3Q9R2S4T5V6\n"
                    "  serin replay --calls 'since=1h model=small' --limit 100\n"
                    "  serin replay 01KATV3WJ8Y0N6P3Q9R2S4T5V6 --model small.Q4_K_M.gguf\n"
                    "  SERIN_CPU=avx2 serin replay 01KATV3WJ8Y0N6P3Q9R2S4T5V6 --threads 1 --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .max_operands = 64,
    };
    const char *ids[64];
    int n_ids = 0, early = srn_cli_parse(&spec, argc, argv, ids, &n_ids);
    srn_err err = {0};
    srn_buf dir;
    if (early >= 0) {
        json_decref(p.paths);
        return early;
    }
    pthread_mutex_init(&p.lock, NULL);
    int code = srn__ledger_place(&p.ledger, p.folder, &dir, &err);
    if (!code) code = run(&p, ids, n_ids, &err);
    int exit_code = code ? srn_cli_error("replay", &err) : print_all(&p) ? 0 : 1;
    done(&p);
    srn_buf_done(&dir);
    return exit_code ? exit_code : srn_cli_flush("replay");
}
