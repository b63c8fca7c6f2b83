/* chat, replies inside: the rows that say how a family writes calls and reasoning. */
#ifndef SRN_CHAT_REPLY_INTERNAL_H
#define SRN_CHAT_REPLY_INTERNAL_H

#include "chat/reply.h"

/* What stands between the marks of one call. */
typedef enum srn__call_body {
    SRN__BODY_OBJECT, /* {"name": ..., "arguments": {...}} */
    SRN__BODY_NAMED,  /* before_name NAME after_name {...} */
    SRN__BODY_XML     /* <function=NAME><parameter=KEY>VALUE</parameter></function> */
} srn__call_body;

/* How calls are written. Blanks may stand between any two marks. A section holds several calls; without one
 * each call stands in the text by itself. NULL: that mark does not exist. */
typedef struct srn__call_syntax {
    const char *name;
    const char *has[2], *has_not; /* what the template's source contains, and does not */
    const char *section_open, *section_close;
    bool list; /* the section's calls stand in [ ] with commas between */
    const char *call_open, *call_close;
    srn__call_body body;
    const char *arguments_key;                       /* of an object */
    const char *before_name, *after_name, *name_cut; /* the name ends at name_cut too; the rest is dropped */
    bool numbered;                                   /* the name is followed by ":" and the call's number */
    bool bare;              /* a call may also stand at the answer's beginning without any mark */
    bool single;            /* one call an answer */
    bool described;         /* the template knows no tools: they are described in a message */
    bool in_user;           /* ... the first user's, since it refuses a system message */
    bool arguments_as_text; /* the template wants arguments as JSON text, not as an object */
    bool short_ids;         /* call ids have 9 letters or digits */
} srn__call_syntax;

typedef struct srn__think_marks {
    const char *has; /* what the template's source contains */
    const char *open, *close;
} srn__think_marks;

struct srn_reply_format {
    const srn__call_syntax *calls;
    const srn__think_marks *think;
};

/* The mark that begins calls: the section's, else the call's. */
static inline const char *srn__call_opener(const srn__call_syntax *s) {
    return s->section_open ? s->section_open : s->call_open;
}

/* A tool's function object, or NULL; its name, or "". */
const json_t *srn__tool_function(const json_t *tool);
const char *srn__tool_name(const json_t *tool);
/* The tool of that name, or NULL. */
const json_t *srn__tool_find(const json_t *tools, srn_str name);
/* Whether a parameter's value is written as it is, not as JSON (XML bodies): its type is string. */
bool srn__tool_param_is_text(const json_t *tool, srn_str param);
/* The schema of a parameter with the definitions that it may refer to; a new reference, NULL when there is no
 * such parameter or memory. */
json_t *srn__tool_param_schema(const json_t *tool, const char *param);

#endif
