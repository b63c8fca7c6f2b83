/* serin run: answers one prompt, or chats on a terminal. Everything that can be refused is refused before the
 * weights are loaded: options, the prompt, the template, a prompt longer than the context, too little memory.
 * Main thread.
 */
#include "cli/run.h"
#include "cli/template.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

/* 53 bits, so that every reader of JSON keeps them. */
#define SEED_BITS 53
#define SEED_MAX  ((double)((1ull << SEED_BITS) - 1))

static int pick_seed(const srn__run *r, uint64_t *ret, srn_err *err) {
    *ret = (uint64_t)r->seed;
    if (r->seed >= 0) return SRN_OK;
    if (getrandom(ret, sizeof *ret, 0) != (ssize_t)sizeof *ret)
        return srn_fail(err, SRN_EIO, "the system gives no random seed; give one with --seed N");
    *ret >>= 64 - SEED_BITS;
    return SRN_OK;
}

/* Puts the option's name in the place of the field's, with which a sentence of srn_sampling_check begins. */
static int name_option(int code, srn_err *err) {
    char name[64];
    size_t n = strcspn(err->text, " ");
    if (!code || n >= sizeof name) return code;
    for (size_t i = 0; i <= n; i++) name[i] = (char)(i == n ? 0 : err->text[i] == '_' ? '-' : err->text[i]);
    srn_err was = *err;
    return srn_fail(err, code, "--%s%s", name, was.text + n);
}

static int check_sampling(srn__run *r, srn_err *err) {
    r->sampling = srn_sampling_default();
    r->sampling.temperature = (float)r->temperature;
    r->sampling.top_k = (int32_t)r->top_k;
    r->sampling.top_p = (float)r->top_p;
    r->sampling.min_p = (float)r->min_p;
    r->sampling.repeat_penalty = (float)r->repeat_penalty;
    r->sampling.repeat_last_n = (int32_t)r->repeat_last_n;
    int code = name_option(srn_sampling_check(&r->sampling, err), err);
    if (!code) code = pick_seed(r, &r->sampling.seed, err);
    return code;
}

/* The one prompt's tokens, made and counted before the weights are packed. */
static int before_load(void *ctx, srn_engine *e, srn_err *err) {
    srn__run *r = ctx;
    r->engine = e;
    int code = srn__run_open_template(r, e, err);
    if (code || !r->prompt) return code;
    srn_str text = {r->prompt, r->prompt_len};
    if (r->chat) {
        json_t *messages = srn__run_conversation(r->system);
        code = messages ? srn__run_say(messages, "user", text, err) : srn_fail_nomem(err, r->prompt_len);
        if (!code) code = srn__run_chat_tokens(r, messages, &r->prompt_tokens, &r->thinking, err);
        json_decref(messages);
    } else {
        code = srn__run_plain_tokens(r, text, &r->prompt_tokens, err);
    }
    return code ? code : srn_generate_check(e, r->prompt_tokens.ids, r->prompt_tokens.n, err);
}

static int open_model(srn__run *r, const char *model, srn_err *err) {
    int code = srn_weights_locate(model, r->path, sizeof r->path, err);
    if (code) return code;
    uint64_t start = srn_now_us();
    srn_engine_opts o = {.threads = (uint32_t)r->threads,
                         .n_ctx = (uint32_t)r->ctx,
                         .kv_type = r->kv,
                         .progress = srn_cli_progress,
                         .before_load = before_load,
                         .before_load_ctx = r};
    srn_engine *e = NULL;
    code = srn_engine_open(r->path, &o, &e, err);
    r->engine = e; /* before_load has shown one that may be gone */
    if (!code) code = srn_session_new(e, &r->session, err);
    r->load_us = srn_now_us() - start;
    return code;
}

static int answer_once(srn__run *r, srn_err *err) {
    srn__answer a;
    int code = srn__run_answer(r, &r->prompt_tokens, r->thinking, &a, err);
    if (!code) srn__run_figures(r, &a);
    if (!code && r->json) code = srn__run_print_json(r, &a, err);
    int exit_code = code ? srn_cli_error("run", err) : srn_cli_flush("run");
    if (!exit_code && a.g.finish == SRN_FINISH_CANCELLED) exit_code = 130;
    srn__answer_done(&a);
    return exit_code;
}

static int run(srn__run *r, const char *model, const char *operand) {
    srn_err err = {0};
    int code = check_sampling(r, &err);
    if (!code) code = srn__cli_template_vars(&r->set, &r->vars, &err);
    if (!code) code = srn__run_read_prompt(r, operand, &err);
    if (!code) code = open_model(r, model, &err);
    if (code) return srn_cli_error("run", &err);
    return r->prompt ? answer_once(r, &err) : srn__run_chat(r);
}

static void done(srn__run *r) {
    srn_session_free(r->session);
    srn_template_free(r->chat);
    srn_engine_close(r->engine);
    srn_tokens_done(&r->prompt_tokens);
    srn_str_list_done(&r->set);
    json_decref(r->vars);
    free(r->prompt);
}

static int parse(srn__run *r, int argc, char **argv, const char **operands, int *n) {
    const srn_opt opts[] = {
        {"prompt", 'p', SRN_OPT_STR, &r->text, 0, 0, "TEXT", "answer this and end"},
        {"prompt-file", 'f', SRN_OPT_STR, &r->prompt_file, 0, 0, "FILE", "the same with a file's text"},
        {"max-tokens", 'n', SRN_OPT_INT, &r->max_tokens, 1, 1 << 30, "N",
         "longest answer in tokens (what the context holds)"},
        {"system", 0, SRN_OPT_STR, &r->system, 0, 0, "TEXT", "the system message of a chat"},
        {"temp", 0, SRN_OPT_FLOAT, &r->temperature, 0, 100, "X", "temperature; 0 is greedy (0.8)"},
        {"top-k", 0, SRN_OPT_INT, &r->top_k, 0, INT32_MAX, "N", "only the N likeliest tokens; 0: all (40)"},
        {"top-p", 0, SRN_OPT_FLOAT, &r->top_p, 0, 1, "X", "only the likeliest that make up X; 1: all (0.95)"},
        {"min-p", 0, SRN_OPT_FLOAT, &r->min_p, 0, 1, "X",
         "only those with X of the likeliest one's share (0.05)"},
        {"repeat-penalty", 0, SRN_OPT_FLOAT, &r->repeat_penalty, 0, 100, "X",
         "over 1 makes tokens seen before less likely (1)"},
        {"repeat-last-n", 0, SRN_OPT_INT, &r->repeat_last_n, 0, INT32_MAX, "N",
         "how far back the penalty looks (64)"},
        {"seed", 0, SRN_OPT_INT, &r->seed, 0, SEED_MAX, "N", "equal seeds repeat an answer (random)"},
        {"ctx", 'c', SRN_OPT_INT, &r->ctx, 1, 1 << 30, "N",
         "context in tokens (what the model was trained for, at most 8192)"},
        {"threads", 't', SRN_OPT_INT, &r->threads, 1, 1024, "N",
         "threads (all CPUs); the result never depends on it"},
        {"kv", 0, SRN_OPT_STR, &r->kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"raw", 0, SRN_OPT_FLAG, &r->raw, 0, 0, NULL,
         "complete the text as it stands, without chat template"},
        {"special", 0, SRN_OPT_FLAG, &r->special, 0, 0, NULL,
         "with plain text: special tokens spelled in it are special"},
        {"set", 0, SRN_OPT_LIST, &r->set, 0, 0, "KEY=JSON",
         "a variable of the chat template; may be repeated"},
        {"json", 0, SRN_OPT_FLAG, &r->json, 0, 0, NULL, "one JSON object in place of the stream"},
        {"quiet", 'q', SRN_OPT_FLAG, &r->quiet, 0, 0, NULL, "no figures and no notices"},
    };
    const srn_cli_spec spec = {
        .usage = "serin run MODEL [-p TEXT | --prompt-file FILE | -] [-n N] [options]",
        .about = "Answers a prompt, streaming; without one, chats on a terminal or reads standard input. "
                 "MODEL is a\n"
                 "path or the name of a model in the cache. Ctrl-C stops an answer, Ctrl-D leaves a chat.",
        .examples = "  serin run smollm2\n"
                    "  serin run smollm2 -p 'Why is the sky blue?' --temp 0 -n 200\n"
                    "  git diff | serin run model.gguf --system 'Summarise this change.' -\n"
                    "  serin run model.gguf --raw -p 'Once upon a time' --seed 7 --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 2};
    return srn_cli_parse(&spec, argc, argv, operands, n);
}

int srn__cmd_run(int argc, char **argv) {
    srn_sampling d = srn_sampling_default();
    /* Decimal as they are documented: a float's own digits would show in the JSON. */
    srn__run r = {.started_us = srn_now_us(),
                  .temperature = 0.8,
                  .top_k = d.top_k,
                  .top_p = 0.95,
                  .min_p = 0.05,
                  .repeat_penalty = 1,
                  .repeat_last_n = d.repeat_last_n,
                  .seed = -1};
    const char *operands[2] = {0};
    int n = 0, code = parse(&r, argc, argv, operands, &n);
    if (code < 0) code = run(&r, operands[0], n > 1 ? operands[1] : NULL);
    done(&r);
    return code;
}
