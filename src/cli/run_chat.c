/* serin run: the conversation on a terminal. */
#include "cli/run.h"

int srn__run_chat(srn__run *r) {
    (void)r;
    srn_err err;
    srn_fail(&err, SRN_EUSAGE,
             "a prompt is needed; give it with -p TEXT, --prompt-file FILE or on standard input");
    return srn_cli_error("run", &err);
}
