/* prompts: the registry of prompts. A version is immutable, numbered from 1 and named by the hash of its
 * content: messages with typed variables, optionally tools, a response schema, sampling defaults and the
 * models it may run on. Labels are names that point at a version, and move. Everything is kept in the ledger
 * as documents that events brought about; the registry in memory is what readers see, replaced as a whole
 * when it changes.
 */
#ifndef SRN_PROMPTS_PROMPTS_H
#define SRN_PROMPTS_PROMPTS_H

#include <jansson.h>

#include "ledger/ledger.h"

/* ---- one version (document.c; pure) ---- */

typedef enum srn_prompt_type {
    SRN_PROMPT_STRING,
    SRN_PROMPT_INTEGER,
    SRN_PROMPT_NUMBER,
    SRN_PROMPT_BOOLEAN,
    SRN_PROMPT_ENUM, /* one of the texts in `choices` */
    SRN_PROMPT_JSON  /* any JSON value, written compactly */
} srn_prompt_type;
typedef struct srn_prompt_variable {
    const char *name;
    srn_prompt_type type;
    bool required;          /* no default */
    const json_t *fallback; /* the default, or NULL */
    const char *const *choices;
    uint32_t n_choices;
    uint32_t max_bytes; /* of a text; 0: no limit of its own */
} srn_prompt_variable;
typedef struct srn_prompt {
    const char *name;
    uint32_t version;                                 /* 0: not stored yet */
    char hash[2 * SRN_SHA256_BYTES + 1];              /* of the canonical document */
    const json_t *messages;                           /* with {{name}} in the texts */
    const json_t *tools, *response_format, *sampling; /* or NULL */
    const char *const *models;                        /* that it may run on; n_models 0: all */
    uint32_t n_models;
    const srn_prompt_variable *variables;
    uint32_t n_variables;
    const char *description; /* or NULL */
} srn_prompt;
/* A prompt file: YAML or JSON of docs/prompts.md. Errors name line and key. *ret is freed by srn_prompt_free.
 */
int srn_prompt_parse(srn_str text, const char *file, srn_prompt **ret, srn_err *err);
void srn_prompt_free(srn_prompt *p);
/* The canonical document (JSON) that is stored and hashed. */
int srn_prompt_document(const srn_prompt *p, srn_buf *ret, srn_err *err);
/* The messages with the variables' values in place, a new reference. Values are text of the user's: nothing
 * in them can become a special token or template code. SRN_EINVAL with *ret_param ("prompt.variables.name"):
 * missing, unknown, of another type, too long. */
int srn_prompt_fill(const srn_prompt *p, const json_t *variables, json_t **ret, char ret_param[96],
                    srn_err *err);

/* ---- the registry ---- */

typedef struct srn_prompts srn_prompts;
/* Reads what the ledger holds. */
int srn_prompts_open(srn_ledger *l, srn_prompts **ret, srn_err *err);
void srn_prompts_close(srn_prompts *p);
/* A version by number, or by label, or (0, NULL) the one labelled "production", else the newest; with a hold.
 * Any thread. SRN_ENOENT names what there is. */
int srn_prompts_get(srn_prompts *p, const char *name, uint32_t version, const char *label,
                    const srn_prompt **ret, srn_err *err);
void srn_prompts_put(const srn_prompt *p);
/* Stores a version, unless the newest one has this content already (*ret_new false). Waits for the commit. */
int srn_prompts_push(srn_prompts *p, const srn_prompt *draft, const char *by, uint32_t *ret_version,
                     bool *ret_new, srn_err *err);
/* Points a label at a version; version 0 takes it away. Waits for the commit. */
int srn_prompts_label(srn_prompts *p, const char *name, const char *label, uint32_t version, const char *by,
                      srn_err *err);
/* Everything as JSON: for lists, and for /v1/prompts. name NULL: all, without their content. */
int srn_prompts_json(srn_prompts *p, const char *name, json_t **ret, srn_err *err);
/* The moves of its labels and its versions, oldest first. */
int srn_prompts_history(srn_prompts *p, const char *name, json_t **ret, srn_err *err);

#endif
