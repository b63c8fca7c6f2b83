/* chat: the Jinja subset that chat templates are written in, and the messages they render. Pure functions, no
 * I/O; steps, depth and output are capped. A srn_template is immutable and may be rendered by many threads.
 */
#ifndef SRN_CHAT_CHAT_H
#define SRN_CHAT_CHAT_H

#include <jansson.h>

#include "base/base.h"
#include "token/token.h"

typedef struct srn_template srn_template;

/* Compiles a template. Errors name the line. name is used in messages. */
int srn_template_new(srn_str source, const char *name, srn_template **ret, srn_err *err);
void srn_template_free(srn_template *t);

typedef struct srn_render_opts {
    /* Array of {role, content, ...}; every string in it is untrusted but a role that is one of the well-known
     * words (user, assistant, ...), from which templates build <|user|>. */
    const json_t *messages;
    const json_t *tools; /* array or NULL; untrusted */
    const json_t *extra; /* object of further variables (enable_thinking, ...) or NULL; strings untrusted */
    srn_str bos_token, eos_token; /* trusted; undefined in the template where ptr is NULL */
    bool add_generation_prompt;
    uint64_t max_steps; /* small operations that a rendering may take; 0 for the default of 50 million */
    int64_t now_unix;   /* for strftime_now (UTC); the clock is passed in */
} srn_render_opts;

/* Rendered text and, byte by byte, where it came from: a run of bytes is trusted when the template itself
 * wrote them and untrusted when they derive from messages, tools or extra. */
typedef struct srn_rendered {
    srn_buf text;
    srn_span *spans; /* pointing into text, in order, alternating */
    size_t n_spans;
} srn_rendered;
void srn_rendered_done(srn_rendered *r);

/* SRN_EINVAL: the template itself refused the messages (raise_exception); SRN_EFORMAT: an error in the
 * template, with its line; SRN_ELIMIT: too many steps, too deep, too long. */
int srn_template_render(const srn_template *t, const srn_render_opts *o, srn_rendered *ret, srn_err *err);

/* ---- what a model brings, and what callers hand in ---- */

/* The chat template in a model's metadata; with_tools prefers the one named tool_use where there is one.
 * SRN_ENOENT: the file has none. */
int srn_template_of(const srn_weights *w, bool with_tools, srn_template **ret, srn_err *err);
/* The text of the model's BOS and EOS tokens for srn_render_opts, ptr NULL where it names none. They point
 * into w. */
void srn_template_specials(const srn_weights *w, srn_str *ret_bos, srn_str *ret_eos);
/* Whether messages (and tools, which may be NULL) have the shapes that templates rely on: SRN_EINVAL names
 * the index and the field that is wrong. */
int srn_messages_check(const json_t *messages, const json_t *tools, srn_err *err);

#endif
