/* cli, inside: where a ledger is (ledger_place.c), and the words of `serin ledger` that have a file of their
 * own; argv[0] is "ledger WORD" there. */
#ifndef SRN_CLI_LEDGER_H
#define SRN_CLI_LEDGER_H

#include <jansson.h>

#include "cli/cli.h"

/* The row of an option for the folder of this machine that belongs to a ledger in PostgreSQL. */
#define SRN__LEDGER_FOLDER(at)                                                                               \
    { "ledger-folder", 0, SRN_OPT_STR, at, 0, 0, "DIR", "of this machine, for a ledger in PostgreSQL" }
/* Where the ledger is: *where as it was said, or the default folder, or, where nobody writes this one, the
 * database of the server that runs here; both lie in place (initialised here; done by the caller). folder:
 * --ledger-folder, or NULL. */
int srn__ledger_place(const char **where, const char *folder, srn_buf *place, srn_err *err);
/* What may be shown of it: without a password (initialised here; done by the caller). */
int srn__ledger_name(const char *where, srn_buf *ret, srn_err *err);
/* The folder in which the running server that writes this ledger left server.json; where NULL: of those that
 * servers take by default, the first in use. SRN_ENOENT: no server writes it; the sentence says what to do.
 */
int srn__ledger_served(const char *where, const char *folder, srn_buf *ret, srn_err *err);
/* Prints the object, indented, and takes it; the exit code. */
int srn__ledger_print(const char *command, json_t *j);

int srn__cmd_ledger_backup(int argc, char **argv);
int srn__cmd_ledger_restore(int argc, char **argv);
int srn__cmd_ledger_forget(int argc, char **argv);

#endif
