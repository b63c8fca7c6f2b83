/* cli, inside: the words of `serin ledger` that have a file of their own. argv[0] is "ledger WORD". */
#ifndef SRN_CLI_LEDGER_H
#define SRN_CLI_LEDGER_H

int srn__cmd_ledger_backup(int argc, char **argv);
int srn__cmd_ledger_restore(int argc, char **argv);
int srn__cmd_ledger_forget(int argc, char **argv);

#endif
