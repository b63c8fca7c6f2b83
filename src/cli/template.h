/* cli, between `template` and `run`: a chat template's further variables. Main thread. */
#ifndef SRN_CLI_TEMPLATE_H
#define SRN_CLI_TEMPLATE_H

#include <jansson.h>

#include "cli/cli.h"

/* --set KEY=JSON, each into one object, which the caller owns also when a later one is refused (SRN_EUSAGE).
 */
int srn__cli_template_vars(const srn_str_list *set, json_t **ret, srn_err *err);

#endif
