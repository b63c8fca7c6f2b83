/* serin: the command line. The table of commands and the help; each command is a file of its own. */
#include "cli/cli.h"

#include <signal.h>

static int cmd_help(int argc, char **argv);

/* In the order of --help. */
static const srn_command commands[] = {
    {"run", srn__cmd_run, "answer a prompt, or chat, with a model"},
    {"serve", srn__cmd_serve, "serve models over HTTP, as OpenAI and Anthropic do"},
    {"ps", srn__cmd_ps, "what a server is answering now"},
    {"cancel", srn__cmd_cancel, "end a call that runs"},
    {"drain", srn__cmd_drain, "take a server out of service, and back"},
    {"reload", srn__cmd_reload, "have a server read its configuration again"},
    {"calls", srn__cmd_calls, "what the ledger has of the calls that were answered"},
    {"info", srn__cmd_info, "what a model file holds, its weights id, the memory it needs"},
    {"tokenize", srn__cmd_tokenize, "text to token ids"},
    {"detokenize", srn__cmd_detokenize, "token ids to text"},
    {"constrain", srn__cmd_constrain,
     "whether a schema, pattern or grammar lets a text through; what masks cost"},
    {"template", srn__cmd_template, "the prompt that a chat template makes of messages"},
    {"ledger", srn__cmd_ledger, "what the ledger of calls holds, and whether its chain is whole"},
    {"pull", srn__cmd_pull, "download a model"},
    {"score", srn__cmd_score, "log-probabilities of tokens, perplexity of a text"},
    {"bench", srn__cmd_bench, "how fast this machine runs a model"},
    {"topo", srn__cmd_topo, "how GPUs, links and memory of this machine hang together, and what to mend"},
    {"plan", srn__cmd_plan, "whether a model fits a machine, and how fast it would be"},
    {"probe", srn__cmd_probe, "measure what this machine can do, for `serin plan`"},
    {"replay", srn__cmd_replay, "run recorded calls again and compare them to the bit"},
    {"regress", srn__cmd_regress, "two models, or two prompts, over the same requests"},
    {"synth", srn__cmd_synth, "make a model of random weights, to measure with"},
    {"prompts", srn__cmd_prompts, "registered prompts: versions, labels, their history"},
    {"canary", srn__cmd_canary, "roll-outs: a share for new weights, judged as it runs"},
    {"advise", srn__cmd_advise, "local or cloud: what measured calls would cost, and how sure that is"},
    {"help", cmd_help, "list the commands"},
};

static void help(FILE *f) {
    fprintf(f, "serin %s: run language models on hardware you own\n\nusage: serin COMMAND [ARGUMENTS]\n\n",
            srn_version());
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\n`serin COMMAND --help` tells more, with examples.\n");
}

static int cmd_help(int argc, char **argv) {
    (void)argc, (void)argv;
    help(stdout);
    return srn_cli_flush("help");
}

/* What other users see of a command line, in ps, must not hold passwords: an address that has one is moved
 * elsewhere, and its place overwritten. */
static void hide_passwords(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        srn_buf shown;
        srn_buf_init(&shown, 1 << 16);
        size_t n = strlen(argv[i]);
        if (strstr(argv[i], "://")) srn_hide_password(argv[i], &shown);
        char *copy = shown.data && shown.len < n ? srn_strndup(argv[i], n) : NULL;
        if (copy) {
            memset(argv[i], 0, n);
            memcpy(argv[i], shown.data, shown.len);
            argv[i] = copy;
        }
        srn_buf_done(&shown);
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a reader that left is a failed write, which srn_cli_flush reports */
    hide_passwords(argc, argv);
    if (argc < 2) return help(stderr), 2;
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return cmd_help(0, NULL);
    if (strcmp(name, "--version") == 0)
        return printf("serin %s\n", srn_version()), srn_cli_flush("--version");
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        if (strcmp(name, commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    const char *nearest =
        srn_cli_nearest(name, strlen(name), &commands[0].name, SRN_LEN(commands), sizeof commands[0]);
    fprintf(stderr, "serin: there is no command '%s'; ", name);
    if (nearest) fprintf(stderr, "did you mean '%s'? ", nearest);
    fprintf(stderr, "`serin --help` lists them\n");
    return 2;
}
