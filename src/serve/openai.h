/* The OpenAI API: handlers for the routing table. */
#ifndef SRN_SERVE_OPENAI_H
#define SRN_SERVE_OPENAI_H

#include "serve/serve_internal.h"

void srn__openai_chat(srn__call *c);        /* POST /v1/chat/completions */
void srn__openai_completions(srn__call *c); /* POST /v1/completions */
void srn__openai_embeddings(srn__call *c);  /* POST /v1/embeddings */
void srn__openai_models(srn__call *c);      /* GET /v1/models */
void srn__openai_model_info(srn__call *c);  /* GET /v1/models/{id} */
void srn__tokenize(srn__call *c);           /* POST /tokenize */
void srn__detokenize(srn__call *c);         /* POST /detokenize */
void srn__apply_template(srn__call *c);     /* POST /apply-template */

#endif
