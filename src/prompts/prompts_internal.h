/* prompts, inside: how a version lies in memory, the pieces of a text with variables, the writers. */
#ifndef SRN_PROMPTS_PROMPTS_INTERNAL_H
#define SRN_PROMPTS_PROMPTS_INTERNAL_H

#include <stdatomic.h>

#include "config/yaml.h"
#include "prompts/prompts.h"

enum {
    SRN__PROMPT_DEPTH = 64,        /* containers in each other, in a file */
    SRN__PROMPT_MESSAGES = 256,    /* of one version */
    SRN__PROMPT_VARIABLES = 256,   /* declared */
    SRN__PROMPT_CHOICES = 256,     /* of an enum */
    SRN__PROMPT_MODELS = 64,       /* that it may run on */
    SRN__PROMPT_TOOLS = 128,       /* of one version */
    SRN__PROMPT_FILLED = 16 << 20, /* bytes of one text with the values in place */
    SRN__PROMPT_WORD = 64          /* bytes of a variable's name */
};

/* A version with what it stands on. pub comes first: srn_prompt_free and srn_prompts_put find the rest. */
typedef struct srn__version {
    srn_prompt pub;
    atomic_uint refs;
    srn_arena arena; /* names, choices, variables */
    json_t *doc;     /* the document, in its canonical order; pub's JSON values are parts of it */
    /* of a stored one */
    json_t *source; /* where it came from, or NULL */
    const char *by;
    uint64_t at_us;
} srn__version;
static inline srn__version *srn__version_of(const srn_prompt *p) {
    return (srn__version *)(uintptr_t)p;
}

/* Reads documents: what is wrong is said with file, line and path. */
typedef struct srn__prompt_reader {
    const char *file;
    const srn_yaml *yaml; /* NULL: JSON, which does not tell lines */
    srn__version *v;
    bool stored; /* it was checked when it came; schemas are not compiled again */
    srn_err *err;
} srn__prompt_reader;
int srn__prompt_wrong(const srn__prompt_reader *r, int code, const char *path, const char *fmt, ...)
    SRN_PRINTF(4, 5);
/* document.c: a value to a version that nobody else holds; what is written into it is shared with value. */
int srn__prompt_read(srn__prompt_reader *r, const json_t *value);
int srn__prompt_stored(const json_t *document, const char *what, srn_prompt **ret, srn_err *err);

/* check.c: the parts of a document, each put into r->v->doc and r->v->pub. */
int srn__prompt_read_variables(srn__prompt_reader *r, const json_t *o);
int srn__prompt_read_models(srn__prompt_reader *r, const json_t *list);
int srn__prompt_read_messages(srn__prompt_reader *r, const json_t *list);
int srn__prompt_read_tools(srn__prompt_reader *r, const json_t *list);
int srn__prompt_read_format(srn__prompt_reader *r, const json_t *o);
int srn__prompt_read_sampling(srn__prompt_reader *r, const json_t *o);
int srn__prompt_read_checks(srn__prompt_reader *r, const json_t *list);
const char *srn__prompt_kind(const json_t *j); /* "a text", "a list", ... */

/* fill.c: the next piece of a text from byte *at on. */
typedef enum srn__piece_kind {
    SRN__PIECE_END,
    SRN__PIECE_TEXT,
    SRN__PIECE_VARIABLE,
    SRN__PIECE_BAD
} srn__piece_kind;
typedef struct srn__piece {
    srn__piece_kind kind;
    srn_str text; /* as it is; a variable's name; of BAD: from the braces on */
} srn__piece;
srn__piece srn__prompt_piece(srn_str text, size_t *at);
const srn_prompt_variable *srn__prompt_variable(const srn_prompt *p, srn_str name);
/* Whether v may stand for the variable; else a sentence in ret: "must be an integer, it is a text". */
bool srn__prompt_value_fits(const srn_prompt_variable *d, const json_t *v, char ret[240]);

/* write.c: compact JSON in the order of the value, reals in their shortest digits. */
void srn__prompt_put(srn_buf *b, const json_t *v);
/* The value as the text that it becomes in a message. */
void srn__prompt_put_value(srn_buf *b, const json_t *v);

#endif
