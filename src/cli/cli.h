/* cli: one file per command, rows in main.c's table. A command gets its own arguments (argv[0] is its name)
 * and returns the exit code: 0 done, 1 failed, 2 bad input or usage, 130 interrupted.
 */
#ifndef SRN_CLI_CLI_H
#define SRN_CLI_CLI_H

#include "base/base.h"

typedef struct srn_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* one line for `serin --help` */
} srn_command;

/* Every command: defined as `int srn__cmd_NAME(int, char **)` in src/cli/NAME.c. */
int srn__cmd_info(int argc, char **argv);
int srn__cmd_tokenize(int argc, char **argv);
int srn__cmd_detokenize(int argc, char **argv);
int srn__cmd_constrain(int argc, char **argv);
int srn__cmd_template(int argc, char **argv);
int srn__cmd_run(int argc, char **argv);
int srn__cmd_pull(int argc, char **argv);
int srn__cmd_score(int argc, char **argv);
int srn__cmd_bench(int argc, char **argv);
int srn__cmd_serve(int argc, char **argv);
int srn__cmd_replay(int argc, char **argv);
int srn__cmd_regress(int argc, char **argv);
int srn__cmd_synth(int argc, char **argv);
int srn__cmd_calls(int argc, char **argv);
int srn__cmd_ps(int argc, char **argv);
int srn__cmd_cancel(int argc, char **argv);
int srn__cmd_drain(int argc, char **argv);
int srn__cmd_reload(int argc, char **argv);
int srn__cmd_prompts(int argc, char **argv);
int srn__cmd_ledger(int argc, char **argv);
int srn__cmd_canary(int argc, char **argv);
int srn__cmd_topo(int argc, char **argv);
int srn__cmd_probe(int argc, char **argv);
int srn__cmd_plan(int argc, char **argv);
int srn__cmd_advise(int argc, char **argv);

/* Options as a table; parses --name VALUE, --name=VALUE, flags, -x shorts, "--" and leaves operands in order.
 */
typedef enum srn_opt_kind {
    SRN_OPT_FLAG,
    SRN_OPT_STR,
    SRN_OPT_INT,
    SRN_OPT_FLOAT,
    SRN_OPT_LIST
} srn_opt_kind;
typedef struct srn_opt {
    const char *name; /* "threads" */
    char letter;      /* 't' or 0 */
    srn_opt_kind kind;
    void *dest;      /* bool *, const char **, int64_t *, double *, srn_str_list * */
    double min, max; /* of numbers */
    const char *arg; /* "N", for help */
    const char *help;
} srn_opt;
typedef struct srn_str_list {
    const char **items; /* srn_str_list_done frees the array only */
    size_t n;
} srn_str_list;
void srn_str_list_done(srn_str_list *l);

/* An option that other programs have and this command has not. */
typedef struct srn_cli_foreign {
    const char *name; /* "port", or one letter: "m" */
    const char *say;  /* what to write instead */
} srn_cli_foreign;

typedef struct srn_cli_spec {
    const char *usage;    /* "serin info MODEL [--json]" */
    const char *about;    /* a sentence or two */
    const char *examples; /* lines, printed by --help */
    const srn_opt *opts;
    size_t n_opts;
    int min_operands, max_operands;
    const srn_cli_foreign *foreign;
    size_t n_foreign;
} srn_cli_spec;

/* Of n names, the one that is a slip or two away from word; NULL if none is. stride is the bytes from one
 * name's pointer to the next one's. */
const char *srn_cli_nearest(const char *word, size_t len, const char *const *names, size_t n, size_t stride);

/* Parses argv; operands go to operands[0..max_operands-1]. Returns -1 to go on, or the exit code at once
 * (0 after --help, 2 after an error that it has printed with the next command to try). */
int srn_cli_parse(const srn_cli_spec *spec, int argc, char **argv, const char **operands, int *ret_n);

/* A command that is a family of words (words.c); each gets "FAMILY WORD" as argv[0]. */
typedef struct srn_cli_family {
    const char *name, *about, *examples;
    const srn_command *words;
    size_t n;
} srn_cli_family;
int srn_cli_run_word(const srn_cli_family *f, int argc, char **argv);

/* Prints "serin COMMAND: sentence" on stderr, as srn_cli_put_text does, and returns the exit code that
 * belongs to err's code: 2 for bad input (EINVAL, ENOENT, EFORMAT, EUNSUP, ELIMIT, ECONTEXT, EUSAGE), 130 for
 * ECANCELLED, else 1. */
int srn_cli_error(const char *command, const srn_err *err);

/* From here to the release, Ctrl-C sets the int (at 0 before) in place of ending the process; a second one
 * ends it. Calls nest: the outermost one counts. */
const volatile int *srn_cli_catch_interrupts(void);
void srn_cli_release_interrupts(void);

/* A progress bar with rate and time left on stderr when it is a terminal, nothing otherwise; pass as
 * srn_progress_fn. Work of under 0.3 s shows none. SERIN_PROGRESS=always shows it at once, =never not at all.
 */
void srn_cli_progress(void *ctx, const char *what, uint64_t done, uint64_t total);

/* Text that came from a file, a model or an argument, in a line of a command's own: control and direction
 * characters and malformed UTF-8 as \xNN, line breaks as \n, so that it cannot steer a terminal or pass for
 * another line; past max_bytes it is cut. quoted: between double quotes, with \ before those inside. */
void srn_cli_put_text(FILE *f, srn_str s, size_t max_bytes, bool quoted);

/* Text that is the command's result, to standard output: as it is, but on a terminal control characters are
 * shown as U+FFFD. */
void srn_cli_put_result(srn_str s);

/* Whether what is written there may have colours: a terminal that is not dumb, and no NO_COLOR. */
bool srn_cli_shows_colour(int fd);

/* Fails (with a message naming standard output) when what was printed could not be written, e.g. a full disk.
 */
int srn_cli_flush(const char *command);

#endif
