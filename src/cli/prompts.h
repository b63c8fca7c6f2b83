/* cli, serin prompts: what its files share. prompts.c holds the subcommands, prompts_write.c changes the
 * registry (through the server where one runs on the ledger, else itself), prompts_diff.c compares,
 * prompts_sync.c reads folders. Main thread. */
#ifndef SRN_CLI_PROMPTS_H
#define SRN_CLI_PROMPTS_H

#include "cli/cli.h"
#include "cli/ledger.h"
#include "prompts/prompts.h"

typedef struct srn__prompts_opts {
    const char *ledger, *folder, *by; /* NULL: the default folder; the user's name */
    bool json;
} srn__prompts_opts;
/* The three rows of these options, for a table of options. */
#define SRN__PROMPTS_OPTS(o)                                                                                  \
    SRN__LEDGER_FOLDER(&(o)->folder), {"ledger", 0, SRN_OPT_STR, &(o)->ledger,                                \
                                       0,        0, "DIR|URL",   "the ledger (~/.local/state/serin/ledger)"}, \
    {                                                                                                         \
        "json", 0, SRN_OPT_FLAG, &(o)->json, 0, 0, NULL, "print JSON"                                         \
    }
#define SRN__PROMPTS_BY(o)                                                                                   \
    { "by", 0, SRN_OPT_STR, &(o)->by, 0, 0, "NAME", "who does it, for the record (your user name)" }

int srn__prompts_open_read(const srn__prompts_opts *o, srn_prompts **ret, srn_err *err);
/* Prints a value as one line of JSON; takes it. */
int srn__prompts_print(json_t *o, srn_err *err);

/* ---- changing (prompts_write.c) ---- */

typedef struct srn__prompts_writer srn__prompts_writer;
int srn__prompts_writer_open(const srn__prompts_opts *o, srn__prompts_writer **ret, srn_err *err);
void srn__prompts_writer_close(srn__prompts_writer *w);
int srn__prompts_writer_push(srn__prompts_writer *w, const char *name, const srn_prompt *p,
                             const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err);
int srn__prompts_writer_label(srn__prompts_writer *w, const char *name, const char *label, uint32_t version,
                              bool *ret_moved, srn_err *err);

/* ---- others ---- */

/* Lines of a and b, those of only one marked with - and +, with three lines around (prompts_diff.c). */
bool srn__prompts_diff(srn_str a, srn_str b, srn_buf *out);
int srn__prompts_sync(int argc, char **argv);
/* {"file", "commit", "branch"} of a file in a git checkout, else {"file"}; NULL: no memory. dir_git is the
 * place of a checkout, or NULL. */
typedef struct srn__git {
    char root[4096];  /* of the working tree; "": none */
    char commit[65];  /* that is checked out; "": none yet */
    char branch[256]; /* "": detached */
} srn__git;
/* Reads .git itself, upward from dir. What cannot be read is left out. */
void srn__git_of(const char *dir, srn__git *ret);

#endif
