/* The handlers that routes.c names, each in the file of its API. */
#ifndef SRN_SERVE_ROUTES_H
#define SRN_SERVE_ROUTES_H

#include "serve/serve_internal.h"

/* health.c */
void srn__handle_live(srn__call *c);
void srn__handle_ready(srn__call *c);
void srn__handle_metrics(srn__call *c);
/* admin.c */
void srn__handle_load(srn__call *c);
void srn__handle_unload(srn__call *c);

#endif
