/* What a model writes back: reasoning, content and tool calls, told apart while they stream. A format is a
 * row of a table, chosen by what the chat template contains; a parser belongs to one answer; both are pure.
 */
#ifndef SRN_CHAT_REPLY_H
#define SRN_CHAT_REPLY_H

#include <jansson.h>

#include "chat/chat.h"
#include "constrain/constrain.h"

/* How a family marks tool calls and reasoning: a row (hermes: <tool_call>{json}</tool_call>, llama 3 json,
 * mistral [TOOL_CALLS], qwen3-coder xml, ...; generic for templates that know no tools: hermes marks,
 * described to the model in the system message). */
typedef struct srn_reply_format srn_reply_format;
/* By the template's source. Never NULL. */
const srn_reply_format *srn_reply_format_of(srn_str template_source);
const char *srn_reply_format_name(const srn_reply_format *f);
/* The marks that a model writes around calls (tools) and around reasoning, one by one; NULL after the last.
 * Where one of them is a control token of the vocabulary, the answer's text must show it. */
const char *srn_reply_mark(const srn_reply_format *f, bool tools, bool reasoning, size_t i);
/* Whether a prompt that ends so leaves the model inside its reasoning. */
bool srn_reply_ends_in_reasoning(const srn_reply_format *f, srn_str prompt);
/* The messages and tools as the template shall see them: for the generic format the tools are described in
 * the system message and *ret_tools is NULL; tool calls in earlier messages take the form that the template
 * renders (arguments as object or as text); content parts of type text are joined where the template wants a
 * string. New references. */
int srn_reply_adapt(const srn_reply_format *f, const json_t *messages, const json_t *tools,
                    json_t **ret_messages, json_t **ret_tools, srn_err *err);

typedef enum srn_tool_choice {
    SRN_TOOLS_AUTO,
    SRN_TOOLS_NONE,
    SRN_TOOLS_REQUIRED,
    SRN_TOOLS_NAMED
} srn_tool_choice;
typedef struct srn_reply_opts {
    const json_t *tools; /* chat form: [{type: function, function: {name, parameters, strict}}], or NULL */
    srn_tool_choice choice;
    const char *tool_name; /* SRN_TOOLS_NAMED */
    bool parallel_calls;   /* more than one call in an answer */
    bool in_reasoning;     /* the prompt ends inside the reasoning mark */
    bool parse_tools;      /* false: marks of tool calls are ordinary text */
    bool parse_reasoning;
    /* srn_reply_grammar guards the answer, so that a call once begun is certain: its arguments are given out
     * as they come. Otherwise a call is held until it is complete and seen to be valid. */
    bool guarded;
} srn_reply_opts;
/* The grammar of answers under these tools: the name of a call is one of theirs, its arguments validate
 * against their parameters, and with SRN_TOOLS_REQUIRED or _NAMED there is at least one. content: constraint
 * of the text where no tool is called (a response format), or SRN_NODE_NONE. */
srn_node srn_reply_grammar(const srn_reply_format *f, const srn_reply_opts *o, srn_grammar *g,
                           srn_node content, srn_err *err);

typedef enum srn_reply_event_kind {
    SRN_REPLY_REASONING, /* text */
    SRN_REPLY_CONTENT,   /* text */
    SRN_REPLY_CALL,      /* index, name */
    SRN_REPLY_ARGUMENTS, /* index, text: a piece of the JSON text of the arguments */
    SRN_REPLY_CALL_END   /* index */
} srn_reply_event_kind;
typedef struct srn_reply_event {
    srn_reply_event_kind kind;
    srn_str text; /* or name; valid during the callback */
    uint32_t index;
    uint64_t end; /* all text up to this byte is in the events so far, or was a mark */
} srn_reply_event;
typedef void srn_reply_fn(void *ctx, const srn_reply_event *e);

typedef struct srn_reply_parser srn_reply_parser;
int srn_reply_parser_new(const srn_reply_format *f, const srn_reply_opts *o, srn_reply_fn *on_event,
                         void *ctx, srn_reply_parser **ret, srn_err *err);
void srn_reply_parser_free(srn_reply_parser *p);
/* Text as it comes. What looked like a mark and was none comes out as content; a call that is not valid JSON
 * comes out as the text that it was (when guarded, only up to its name; and one that the answer's end cuts
 * off has no SRN_REPLY_CALL_END). Blanks beside marks are dropped. */
int srn_reply_parser_add(srn_reply_parser *p, srn_str text, srn_err *err);
int srn_reply_parser_end(srn_reply_parser *p, srn_err *err);
/* The byte where the reasoning and its closing mark end: 0 without reasoning, UINT64_MAX while it lasts. */
uint64_t srn_reply_parser_reasoning_end(const srn_reply_parser *p);

#endif
