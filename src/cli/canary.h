/* `serin canary`: its words. canary_ops.c talks to the server that runs the roll-outs. Main thread. */
#ifndef SRN_CLI_CANARY_H
#define SRN_CLI_CANARY_H

int srn__canary_start(int argc, char **argv);
int srn__canary_list(int argc, char **argv);
int srn__canary_status(int argc, char **argv);
int srn__canary_pause(int argc, char **argv);
int srn__canary_resume(int argc, char **argv);
int srn__canary_step(int argc, char **argv);
int srn__canary_promote(int argc, char **argv);
int srn__canary_retire(int argc, char **argv);
int srn__canary_abort(int argc, char **argv);
int srn__canary_rollback(int argc, char **argv);
int srn__canary_history(int argc, char **argv);
int srn__canary_explain(int argc, char **argv);
int srn__canary_freeze(int argc, char **argv);
int srn__canary_thaw(int argc, char **argv);
int srn__canary_simulate(int argc, char **argv); /* canary_simulate.c; talks to nobody */

#endif
