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

enum { SRN_PROMPT_NAME_MAX = 128, SRN_PROMPT_LABEL_MAX = 64, SRN_PROMPT_FILE_MAX = 1 << 20 };

/* ---- one version (document.c, check.c, fill.c, write.c; pure) ---- */

typedef enum srn_prompt_type {
    SRN_PROMPT_STRING,
    SRN_PROMPT_INTEGER,
    SRN_PROMPT_NUMBER,
    SRN_PROMPT_BOOLEAN,
    SRN_PROMPT_ENUM, /* one of the texts in `choices` */
    SRN_PROMPT_JSON  /* any JSON value, written compactly */
} srn_prompt_type;
const char *srn_prompt_type_name(srn_prompt_type t); /* "string", ... */
typedef struct srn_prompt_variable {
    const char *name;
    const char *description; /* or NULL */
    srn_prompt_type type;
    bool required;          /* no default */
    const json_t *fallback; /* the default, or NULL */
    const char *const *choices;
    uint32_t n_choices;
    uint32_t max_bytes; /* of its text; 0: no limit of its own */
} srn_prompt_variable;
typedef struct srn_prompt {
    const char *name;
    uint32_t version;                                          /* 0: not stored yet */
    char hash[2 * SRN_SHA256_BYTES + 1];                       /* of the canonical document */
    const json_t *messages;                                    /* with {{name}} in the texts */
    const json_t *tools, *response_format, *sampling, *checks; /* or NULL */
    const char *const *models;                                 /* that it may run on; n_models 0: all */
    uint32_t n_models;
    const srn_prompt_variable *variables;
    uint32_t n_variables;
    const char *description; /* or NULL */
} srn_prompt;
/* A prompt file: YAML, or JSON where it begins with '{', of docs/prompts.md. Errors name file, line and key
 * (JSON: the line of what is no JSON, else the key). *ret is freed by srn_prompt_free. */
int srn_prompt_parse(srn_str text, const char *file, srn_prompt **ret, srn_err *err);
/* The same of a JSON value that somebody sent. */
int srn_prompt_of_json(const json_t *value, const char *what, srn_prompt **ret, srn_err *err);
void srn_prompt_free(srn_prompt *p);
/* The canonical document (JSON) that is stored and hashed. */
int srn_prompt_document(const srn_prompt *p, srn_buf *ret, srn_err *err);
/* The same as YAML for people; parsed again it is the same document. */
int srn_prompt_yaml(const srn_prompt *p, srn_buf *ret, srn_err *err);
/* The messages with the variables' values in place, a new reference. Values are text of the user's: nothing
 * in them can become a special token or template code. SRN_EINVAL with *ret_param ("prompt.variables.name"):
 * missing, unknown, of another type, too long. */
int srn_prompt_fill(const srn_prompt *p, const json_t *variables, json_t **ret, char ret_param[96],
                    srn_err *err);

/* Names are parts of letters, digits, '_', '-' and '.', joined by '/'; labels one such part that is no
 * number. SRN_EINVAL says what is wrong. */
int srn_prompt_check_name(srn_str name, srn_err *err);
int srn_prompt_check_label(srn_str label, srn_err *err);
/* "NAME", "NAME@3", "NAME@production". */
typedef struct srn_prompt_ref {
    char name[SRN_PROMPT_NAME_MAX + 1];
    uint32_t version;                     /* 0: not said */
    char label[SRN_PROMPT_LABEL_MAX + 1]; /* "": not said */
} srn_prompt_ref;
int srn_prompt_ref_parse(srn_str text, srn_prompt_ref *ret, srn_err *err);

/* ---- the registry (registry.c) ---- */

typedef struct srn_prompts srn_prompts;
/* Reads what the ledger holds; the ledger outlives it. */
int srn_prompts_open(srn_ledger *l, srn_prompts **ret, srn_err *err);
/* Only for reading, while another process may write; where and keys_dir as for srn_reader_open. */
int srn_prompts_read(const char *where, const char *keys_dir, srn_prompts **ret, srn_err *err);
void srn_prompts_close(srn_prompts *p);
/* A version by number, or by label, or (neither) the one labelled "production", else the newest; with a hold.
 * ret_label (may be NULL): the label that it was found by, or "". Any thread. SRN_ENOENT names what there is.
 */
int srn_prompts_get(srn_prompts *p, const srn_prompt_ref *ref, const srn_prompt **ret,
                    char ret_label[SRN_PROMPT_LABEL_MAX + 1], srn_err *err);
void srn_prompts_put(const srn_prompt *p); /* NULL is fine */
/* Stores a version, unless the newest one has this content already (*ret_new false). source: where it came
 * from ({"file", "commit", ...}), kept with it, or NULL. Waits for the commit. */
int srn_prompts_push(srn_prompts *p, const char *name, const srn_prompt *draft, const char *by,
                     const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err);
/* Points a label at a version; version 0 takes it away. One that points there already stays (*ret_moved
 * false). Waits for the commit. */
int srn_prompts_label(srn_prompts *p, const char *name, const char *label, uint32_t version, const char *by,
                      bool *ret_moved, srn_err *err);
/* The same for a label that points at `from` and was not moved since then, however many try; any other one
 * stays as it is. */
int srn_prompts_relabel(srn_prompts *p, const char *name, const char *label, uint32_t from, uint64_t since_us,
                        uint32_t version, const char *by, bool *ret_moved, srn_err *err);
/* Takes in what an event of the ledger says (prompt_pushed, label_moved; others say nothing), where another
 * server that shares it did that. SRN_EBUSY: this one is changing something; again later. */
int srn_prompts_follow(srn_prompts *p, srn_reader *r, const json_t *event, srn_err *err);
/* As JSON, as /v1/prompts states it; name NULL: all of them, shortly. SRN_ENOENT. */
int srn_prompts_json(srn_prompts *p, const char *name, json_t **ret, srn_err *err);
/* One version whole, with who pushed it and when. */
int srn_prompts_version_json(srn_prompts *p, const srn_prompt_ref *ref, json_t **ret, srn_err *err);
/* The moves of its labels and its versions, oldest first. */
int srn_prompts_history(srn_prompts *p, const char *name, json_t **ret, srn_err *err);

#endif
