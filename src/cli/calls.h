/* `serin calls`: what its subcommands share. calls.c opens the ledger and makes the filter; calls_list.c
 * lists and follows, calls_show.c shows one call, calls_stats.c counts, calls_export.c writes them out,
 * calls_blame.c says what moved a metric. Main
 * thread; a ledger is only read.
 */
#ifndef SRN_CLI_CALLS_H
#define SRN_CLI_CALLS_H

#include "cli/cli.h"
#include "ledger/ledger.h"

enum { SRN__CALLS_WORDS = 32 }; /* of a filter that is written as several arguments */

typedef struct srn__calls {
    const char *command; /* "calls list" */
    const char *ledger, *folder, *keys;
    const char *since, *until, *model, *prompt, *version, *arm, *tenant, *status, *slow, *subject;
    const char *before, *by, *step, *format, *output;
    int64_t limit;
    bool json, content;
    const char *operands[SRN__CALLS_WORDS];
    int n_operands;
    /* once open */
    srn_buf place; /* of the default folder's path; ledger points to it */
    srn_reader *reader;
    srn_filter *filter;
} srn__calls;

/* What a subcommand is: its own options come before those that all of them have. */
typedef struct srn__calls_spec {
    const char *usage, *about, *examples;
    srn_opt own[6];
    size_t n_own;
    bool filtered; /* takes the options of a filter, and its words */
    int min_operands, max_operands;
} srn__calls_spec;

/* Parses the arguments, opens the ledger and makes the filter. -1 to go on, or the exit code at once. */
int srn__calls_begin(srn__calls *c, const srn__calls_spec *spec, int argc, char **argv);
void srn__calls_end(srn__calls *c);
/* Says on stderr that there are none, and why that may be. */
void srn__calls_none(const srn__calls *c);

int srn__calls_list(int argc, char **argv);
int srn__calls_watch(int argc, char **argv);
int srn__calls_show(int argc, char **argv);
int srn__calls_stats(int argc, char **argv);
int srn__calls_export(int argc, char **argv);
int srn__calls_blame(int argc, char **argv);

/* "2026-11-22 07:33:20" (UTC); with ms: and ".123". */
void srn__calls_time(uint64_t us, bool ms, char ret[32]);
/* "90 ms", "1.25 s", "-" for 0. */
void srn__calls_span(uint64_t us, char ret[24]);

/* A table: cells are collected, then printed with columns as wide as they need to be. */
typedef struct srn__table {
    srn_arena arena;
    const char **cells; /* [n_rows, n_columns], the first row is the head */
    size_t n, cap, n_columns;
    uint32_t right; /* bits of the columns that are numbers */
    bool failed;
} srn__table;
void srn__table_init(srn__table *t, const char *const *head, size_t n_columns, uint32_t right);
void srn__table_add(srn__table *t, const char *text); /* copied; text of others is made safe */
void srn__table_print(const srn__table *t);
void srn__table_done(srn__table *t);

#endif
