/* serin regress, inside: the command's options (regress.c), the file of requests (regress_file.c), programs
 * as checks (regress_check.c), what is printed (regress_print.c, regress_html.c). What is compared and how is
 * the library's (serve/regress.h). Main thread.
 */
#ifndef SRN_CLI_REGRESS_H
#define SRN_CLI_REGRESS_H

#include <jansson.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "serve/regress.h"

typedef struct srn__regress {
    srn_regress g;
    const char *file, *checks_file, *ledger, *folder, *keys, *html, *kv, *fail_on;
    int64_t limit, threads, ctx, max_tokens, patience;
    double max_kl; /* below 0: not asked */
    bool json, as_side;
    char paths[2][4096]; /* of the models */
} srn__regress;

/* ---- regress_file.c ---- */
/* The items of the file, and the checks for all. */
int srn__regress_read_files(srn__regress *c, srn_err *err);
/* A file with a JSON list of checks. */
int srn__regress_checks_of(const char *file, srn_checks **ret, srn_err *err);

/* ---- regress_check.c ---- */
enum { SRN__REGRESS_NO_VERDICT = 255 };
/* What a program says of an answer that it gets on standard input: its exit status, 128 + signal, or 255
 * where it cannot be started or takes more than 10 s. */
int srn__regress_ask_program(const char *const *argv, srn_str answer);

/* Starts a program in a process group of its own; out -1: what it says is thrown away. Returns 0 or an errno.
 */
int srn__regress_spawn(const char *const *argv, int in, int out, pid_t *ret);
/* Its exit status, or 128 + signal, once it has ended, which is waited for half a second; -1: it has not. It
 * stays to be reaped. */
int srn__regress_peek(pid_t pid);
/* Waits for its end, at most 10 s; returns as srn__regress_ask_program. */
int srn__regress_reap(pid_t pid);

/* ---- regress_program.c ---- */
typedef struct srn__program_opts {
    const char *program, *model, *kv, *ledger, *keys;
    uint32_t threads, ctx, patience_s;
} srn__program_opts;
/* Another build of serin as one who answers: a child process that runs until it is closed. Errors: it cannot
 * be started, does not speak the protocol, or what it says of the model. */
int srn__program_open(const srn__program_opts *o, srn_answerer **ret, srn_err *err);
/* SHA-256 of the program's file; program NULL: of this one. */
int srn__program_id(const char *program, char ret[65], srn_err *err);

/* ---- regress_side.c ---- */
/* Answers another program on standard input and output until it says no more; returns the exit code. */
int srn__regress_as_side(void);

/* ---- regress_print.c, regress_html.c ---- */
void srn__regress_print(const srn_regress *g, const srn_regress_sum *sums, size_t n);
int srn__regress_write_html(const srn_regress *g, const char *file, const srn_regress_sum *sums, size_t n,
                            srn_err *err);

#endif
