/* serin regress, inside: the command's options (regress.c), the file of requests (regress_file.c), programs
 * as checks (regress_check.c), what is printed (regress_print.c, regress_html.c). What is compared and how is
 * the library's (serve/regress.h). Main thread.
 */
#ifndef SRN_CLI_REGRESS_H
#define SRN_CLI_REGRESS_H

#include <jansson.h>

#include "cli/cli.h"
#include "serve/regress.h"

typedef struct srn__regress {
    srn_regress g;
    const char *file, *checks_file, *ledger, *keys, *html, *kv, *fail_on;
    int64_t limit, threads, ctx, max_tokens;
    double max_kl; /* below 0: not asked */
    bool json;
    char paths[2][4096]; /* of the models */
} srn__regress;

/* ---- regress_file.c ---- */
/* The items of the file, and the checks for all. */
int srn__regress_read_files(srn__regress *c, srn_err *err);

/* ---- regress_check.c ---- */
/* What a program says of an answer that it gets on standard input: its exit status, 128 + signal, or 255
 * where it cannot be started or takes more than 10 s. */
int srn__regress_ask_program(const char *const *argv, srn_str answer);

/* ---- regress_print.c, regress_html.c ---- */
void srn__regress_print(const srn_regress *g, const srn_regress_sum *sums, size_t n);
int srn__regress_write_html(const srn_regress *g, const char *file, const srn_regress_sum *sums, size_t n,
                            srn_err *err);

#endif
