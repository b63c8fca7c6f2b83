/* serin run: answers one prompt, or chats on a terminal. Everything that can be refused is refused before the
 * weights are loaded: options, the prompt, the template, a prompt longer than the context, too little memory.
 * Main thread.
 */
#include "cli/run.h"
#include "cli/template.h"

#include <stdlib.h>

/* The one prompt's tokens, made and counted before the weights are packed. */
static int before_load(void *ctx, srn_engine *e, srn_err *err) {
    srn__run *r = ctx;
    r->engine = e;
    int code = srn__run_open_template(r, e, err);
    if (!code) code = srn__run_bind_sampling(r, err);
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

static int open_model(srn__run *r, const char *model, const volatile int *cancel, srn_err *err) {
    int code = srn_weights_locate(model, r->path, sizeof r->path, err);
    if (code) return code;
    uint64_t start = srn_now_us();
    srn_engine_opts o = {.threads = (uint32_t)r->threads,
                         .n_ctx = (uint32_t)r->ctx,
                         .kv_type = r->kv,
                         .progress = srn_cli_progress,
                         .before_load = before_load,
                         .before_load_ctx = r,
                         .cancel = cancel};
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
    int code = srn__run_check_sampling(r, &err);
    if (!code) code = srn__cli_template_vars(&r->set, &r->vars, &err);
    if (!code) code = srn__run_read_prompt(r, operand, &err);
    const volatile int *cancel = srn_cli_catch_interrupts();
    if (!code) code = open_model(r, model, cancel, &err);
    if (!code && !r->prompt && *cancel) code = srn_fail(&err, SRN_ECANCELLED, "interrupted");
    int exit_code = code ? srn_cli_error("run", &err) : r->prompt ? answer_once(r, &err) : 0;
    srn_cli_release_interrupts();
    return code || r->prompt ? exit_code : srn__run_chat(r);
}

static void done(srn__run *r) {
    srn_session_free(r->session);
    srn_template_free(r->chat);
    srn_engine_close(r->engine);
    srn_tokens_done(&r->prompt_tokens);
    srn_str_list_done(&r->set);
    srn__run_sampling_done(r);
    json_decref(r->vars);
    free(r->prompt);
}

static int parse(srn__run *r, int argc, char **argv, const char **operands, int *n) {
    const srn_opt own[] = {
        {"prompt", 'p', SRN_OPT_STR, &r->text, 0, 0, "TEXT", "answer this and end"},
        {"prompt-file", 'f', SRN_OPT_STR, &r->prompt_file, 0, 0, "FILE", "the same with a file's text"},
        {"max-tokens", 'n', SRN_OPT_INT, &r->max_tokens, 1, 1 << 30, "N",
         "longest answer in tokens (what the context holds)"},
        {"system", 0, SRN_OPT_STR, &r->system, 0, 0, "TEXT", "the system message of a chat"},
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
    srn_opt opts[SRN_LEN(own) + SRN__RUN_SAMPLING_OPTS];
    memcpy(opts, own, sizeof own);
    size_t n_opts = SRN_LEN(own) + srn__run_sampling_opts(r, opts + SRN_LEN(own));
    const srn_cli_spec spec = {
        .usage = "serin run MODEL [-p TEXT | --prompt-file FILE | -] [-n N] [options]",
        .about = "Answers a prompt, streaming; without one, chats on a terminal or reads standard input. "
                 "MODEL is a\n"
                 "path or the name of a model in the cache. Ctrl-C stops an answer, Ctrl-D leaves a chat.",
        .examples = "  serin run smollm2\n"
                    "  serin run smollm2 -p 'Why is the sky blue?' --temp 0 -n 200\n"
                    "  git diff | serin run model.gguf --system 'Summarise this change.' -\n"
                    "  serin run model.gguf --raw -p 'Once upon a time' --seed 7 --json\n"
                    "  serin run smollm2 -p 'Name a bird as JSON.' --schema bird.json\n"
                    "  serin run smollm2 -p 'List three birds.' --stop '4.' --logit-bias ' parrot=-100'\n",
        .opts = opts,
        .n_opts = n_opts,
        .min_operands = 1,
        .max_operands = 2};
    return srn_cli_parse(&spec, argc, argv, operands, n);
}

int srn__cmd_run(int argc, char **argv) {
    srn__run r = {.started_us = srn_now_us()};
    srn__run_sampling_defaults(&r);
    const char *operands[2] = {0};
    int n = 0, code = parse(&r, argc, argv, operands, &n);
    if (code < 0) code = run(&r, operands[0], n > 1 ? operands[1] : NULL);
    done(&r);
    return code;
}
