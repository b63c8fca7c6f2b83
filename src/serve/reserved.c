/* Addresses that are spoken for and not built yet: they say so, so that no client takes the silence for an
 * answer. */
#include "serve/routes.h"

void srn__handle_calls(srn__call *c) {
    srn__call_fail(c, 501, "not_implemented", NULL, "not_implemented",
                   "calls are not recorded yet; this address is reserved for the record of call %s",
                   srn__call_path_id(c));
}
