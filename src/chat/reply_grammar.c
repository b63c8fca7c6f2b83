/* chat: the grammar of answers. Where tools are offered, text is free until a call's opening mark; from there
 * the name is one of theirs and the arguments validate against their parameters. Reasoning comes before all
 * of it. Builds nodes only; srn_grammar keeps the first failure. Refuses parameters that a format cannot
 * write.
 */
#include <stdlib.h>

#include "chat/reply_internal.h"

enum { MAX_CALLS = 16 }; /* in an answer that must consist of calls, so that it ends */

typedef struct builder {
    srn_grammar *g;
    const srn_reply_format *f;
    const srn_reply_opts *o;
    srn_err *err;
} builder;

static srn_node textz(builder *b, const char *z) {
    return srn_g_text(b->g, srn_str_of(z));
}

static srn_node optional(builder *b, srn_node n) {
    return srn_g_repeat(b->g, n, 0, 1);
}

#define SEQ(b, ...)                                                                                          \
    srn_g_seq((b)->g, (const srn_node[]){__VA_ARGS__}, sizeof((srn_node[]){__VA_ARGS__}) / sizeof(srn_node))
#define ALT(b, ...)                                                                                          \
    srn_g_alt((b)->g, (const srn_node[]){__VA_ARGS__}, sizeof((srn_node[]){__VA_ARGS__}) / sizeof(srn_node))

/* At most two line breaks or spaces. */
static srn_node blanks(builder *b, uint32_t min, uint32_t max) {
    const srn_range blank[] = {{'\n', '\n'}, {' ', ' '}};
    return srn_g_repeat(b->g, srn_g_class(b->g, blank, SRN_LEN(blank), false), min, max);
}

/* Text without the mark in it. The mark's first character stands nowhere else in it, so
 * a failed beginning can only be followed by another beginning: text is any number of other characters and of
 * beginnings that another character follows. */
static srn_node without(builder *b, const char *mark) {
    uint32_t cps[64] = {0};
    size_t at[65], n = 0, len = strlen(mark);
    for (size_t i = 0; i < len && n < SRN_LEN(cps); n++) {
        at[n] = i;
        i += srn_utf8_get(mark + i, len - i, &cps[n]);
    }
    srn_node begins[64], units[65];
    size_t n_units = 0;
    const srn_range first = {cps[0], cps[0]};
    units[n_units++] = srn_g_class(b->g, &first, 1, true);
    for (size_t i = 1; i < n; i++) begins[i - 1] = srn_g_text(b->g, (srn_str){mark, at[i]});
    if (n == 1) return srn_g_repeat(b->g, units[0], 0, SRN_NO_MAX);
    srn_node again = srn_g_repeat(b->g, srn_g_alt(b->g, begins, n - 1), 0, SRN_NO_MAX);
    for (size_t i = 1; i < n; i++) {
        srn_range next[] = {first, {cps[i], cps[i]}};
        units[n_units++] = SEQ(b, again, begins[i - 1], srn_g_class(b->g, next, SRN_LEN(next), true));
    }
    srn_node unit = srn_g_alt(b->g, units, n_units);
    return SEQ(b, srn_g_repeat(b->g, unit, 0, SRN_NO_MAX), again);
}

static srn_node up_to(builder *b, const char *mark) {
    return SEQ(b, without(b, mark), textz(b, mark));
}

/* ---- one call ---- */

static srn_node quoted(builder *b, const char *z) {
    json_t *j = json_string(z);
    char *dump = json_dumps(j, JSON_ENCODE_ANY);
    json_decref(j);
    srn_node n = dump ? textz(b, dump) : SRN_NODE_NONE;
    free(dump);
    return n;
}

/* The arguments' JSON object; a function without parameters takes none. */
static srn_node arguments(builder *b, const json_t *tool) {
    json_t *given = json_object_get(srn__tool_function(tool), "parameters"), *schema;
    if (!given || json_is_null(given) || (json_is_object(given) && json_object_size(given) == 0))
        schema = json_pack("{s:s, s:{}, s:b}", "type", "object", "properties", "additionalProperties", 0);
    else
        schema = json_is_object(given) ? json_copy(given) : json_incref(given);
    if (json_is_object(schema) && !json_object_get(schema, "type"))
        json_object_set_new(schema, "type", json_string("object"));
    srn_node n = schema ? srn_g_schema(b->g, schema, b->err) : SRN_NODE_NONE;
    if (n == SRN_NODE_NONE)
        srn_fail_prefix(b->err, b->err ? b->err->code : SRN_EINVAL, "parameters of the tool '%s'",
                        srn__tool_name(tool));
    json_decref(schema);
    return n;
}

static srn_node object_body(builder *b, const json_t *tool) {
    srn_node space = blanks(b, 0, 1);
    return SEQ(b, textz(b, "{\"name\":"), space, quoted(b, srn__tool_name(tool)), textz(b, ","), space,
               quoted(b, b->f->calls->arguments_key), textz(b, ":"), space, arguments(b, tool),
               textz(b, "}"));
}

static srn_node named_body(builder *b, const json_t *tool) {
    const srn__call_syntax *s = b->f->calls;
    const srn_range digit = {'0', '9'};
    srn_node number =
        s->numbered ? SEQ(b, textz(b, ":"), srn_g_repeat(b->g, srn_g_class(b->g, &digit, 1, false), 1, 3))
                    : textz(b, "");
    return SEQ(b, textz(b, s->before_name), textz(b, srn__tool_name(tool)), number, textz(b, s->after_name),
               blanks(b, 0, 1), arguments(b, tool));
}

/* A value that is written as it is: one of the texts that the schema names, or any up to the closing tag. */
static srn_node raw_value(builder *b, const json_t *schema, const char *where) {
    static const char *const unwritable[] = {"pattern", "format", "minLength", "maxLength"};
    for (size_t i = 0; i < SRN_LEN(unwritable); i++)
        if (json_object_get(schema, unwritable[i])) {
            srn_fail(b->err, SRN_EUNSUP,
                     "parameter '%s': '%s' cannot be held to in the format of this model's tool calls; "
                     "remove it",
                     where, unwritable[i]);
            return SRN_NODE_NONE;
        }
    const json_t *one = json_object_get(schema, "const"), *choices = json_object_get(schema, "enum");
    if (!one && !json_is_array(choices)) return up_to(b, "</parameter>");
    size_t n = one ? 1 : json_array_size(choices);
    srn_node *nodes = srn_calloc(n ? n : 1, sizeof *nodes), ret = SRN_NODE_NONE;
    for (size_t i = 0; nodes && i < n; i++) {
        const json_t *v = one ? one : json_array_get(choices, i);
        nodes[i] = SEQ(b, srn_g_text(b->g, (srn_str){json_string_value(v), json_string_length(v)}),
                       textz(b, "</parameter>"));
    }
    if (nodes && n) ret = srn_g_alt(b->g, nodes, n);
    free(nodes);
    return ret;
}

static srn_node xml_parameter(builder *b, const json_t *tool, const char *key, bool required) {
    json_t *schema = srn__tool_param_schema(tool, key);
    srn_node value = SRN_NODE_NONE;
    if (srn__tool_param_is_text(tool, srn_str_of(key))) {
        value = raw_value(b, schema, key);
    } else if (schema) {
        value = srn_g_schema(b->g, schema, b->err);
        if (value != SRN_NODE_NONE) value = SEQ(b, value, blanks(b, 0, 1), textz(b, "</parameter>"));
    }
    json_decref(schema);
    if (value == SRN_NODE_NONE) return value;
    srn_node n = SEQ(b, textz(b, "<parameter="), textz(b, key), textz(b, ">\n"), value, textz(b, "\n"));
    return required ? n : optional(b, n);
}

/* The parameters in the schema's order, each at most once. */
static srn_node xml_body(builder *b, const json_t *tool) {
    static const char *const known[] = {"type",        "properties", "required", "additionalProperties",
                                        "description", "title",      "$defs",    "definitions",
                                        "$schema",     "strict",     "$id"};
    json_t *params = json_object_get(srn__tool_function(tool), "parameters"), *value;
    const char *key;
    json_object_foreach(params, key, value) {
        bool ok = false;
        for (size_t i = 0; i < SRN_LEN(known); i++) ok = ok || strcmp(key, known[i]) == 0;
        if (ok) continue;
        srn_fail(
            b->err, SRN_EUNSUP,
            "parameters of the tool '%s': '%s' cannot be held to in the format of this model's tool calls",
            srn__tool_name(tool), key);
        return SRN_NODE_NONE;
    }
    srn_node body = SEQ(b, textz(b, "<function="), textz(b, srn__tool_name(tool)), textz(b, ">\n"));
    const json_t *required = json_object_get(params, "required");
    json_object_foreach(json_object_get(params, "properties"), key, value) {
        bool must = false;
        for (size_t i = 0; i < json_array_size(required); i++) {
            const char *name = json_string_value(json_array_get(required, i));
            must = must || (name && strcmp(name, key) == 0);
        }
        srn_node n = strpbrk(key, "<>") ? SRN_NODE_NONE : xml_parameter(b, tool, key, must);
        if (n == SRN_NODE_NONE) return n;
        body = SEQ(b, body, n);
    }
    return SEQ(b, body, textz(b, "</function>"));
}

/* The body of a call of any of the tools (or of the one that is named). */
static srn_node any_body(builder *b) {
    size_t n = json_array_size(b->o->tools), used = 0;
    srn_node *nodes = srn_calloc(n ? n : 1, sizeof *nodes), ret = SRN_NODE_NONE;
    bool named = b->o->choice == SRN_TOOLS_NAMED, ok = nodes != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        const json_t *tool = json_array_get(b->o->tools, i);
        if (named && strcmp(srn__tool_name(tool), b->o->tool_name) != 0) continue;
        srn__call_body body = b->f->calls->body;
        srn_node node = body == SRN__BODY_OBJECT  ? object_body(b, tool)
                        : body == SRN__BODY_NAMED ? named_body(b, tool)
                                                  : xml_body(b, tool);
        ok = node != SRN_NODE_NONE;
        nodes[used++] = node;
    }
    if (ok && used) ret = srn_g_alt(b->g, nodes, used);
    if (ok && !used)
        srn_fail(b->err, SRN_EINVAL, "there is no tool '%s' to call", b->o->tool_name ? b->o->tool_name : "");
    free(nodes);
    return ret;
}

/* ---- several ---- */

/* What follows the opening mark, up to the last closing one. */
static srn_node after_opener(builder *b, srn_node body) {
    const srn__call_syntax *s = b->f->calls;
    srn_node gap = blanks(b, 0, 1);
    srn_node close = *s->call_close ? SEQ(b, gap, textz(b, s->call_close)) : textz(b, "");
    uint32_t more = s->single || !b->o->parallel_calls ? 0 : MAX_CALLS - 1;
    if (!s->section_open) return SEQ(b, gap, body, close);
    if (s->list) {
        srn_node next = SEQ(b, textz(b, ","), gap, body);
        return SEQ(b, gap, textz(b, "["), gap, body, srn_g_repeat(b->g, next, 0, more), gap, textz(b, "]"),
                   gap, textz(b, s->section_close));
    }
    srn_node call = SEQ(b, textz(b, s->call_open), body, close);
    srn_node next = SEQ(b, gap, call);
    return SEQ(b, gap, call, srn_g_repeat(b->g, next, 0, more), gap, textz(b, s->section_close));
}

/* The opening mark and all that follows; an answer of nothing but calls. */
static srn_node calls(builder *b, srn_node body, srn_node after) {
    const srn__call_syntax *s = b->f->calls;
    const char *opener = srn__call_opener(s);
    if (s->bare) return ALT(b, body, SEQ(b, textz(b, opener), after));
    srn_node one = SEQ(b, textz(b, opener), after);
    bool several = !s->section_open && !s->single && b->o->parallel_calls;
    if (!several) return one;
    return SEQ(b, one, srn_g_repeat(b->g, SEQ(b, blanks(b, 0, 1), one), 0, MAX_CALLS - 1));
}

/* Any text that does not begin as a bare call does, then whatever rest allows; neither a blank nor the
 * beginning of the opening mark. */
static srn_node not_bare(builder *b, srn_node rest) {
    static const char mark[] = "{\"name\":";
    srn_node nodes[sizeof mark];
    size_t n = 0;
    for (size_t i = 0; mark[i]; i++) {
        const srn_range next[] = {{(unsigned char)mark[i], (unsigned char)mark[i]},
                                  {'<', '<'},
                                  {' ', ' '},
                                  {'\t', '\n'},
                                  {'\r', '\r'}};
        srn_node other = SEQ(b, srn_g_class(b->g, next, i == 0 ? SRN_LEN(next) : 1, true), rest);
        other = optional(b, other);
        nodes[n++] = i ? SEQ(b, srn_g_text(b->g, (srn_str){mark, i}), other) : other;
    }
    const srn_range bar = {'|', '|'};
    nodes[n++] = SEQ(b, textz(b, "<"), optional(b, SEQ(b, srn_g_class(b->g, &bar, 1, true), rest)));
    return srn_g_alt(b->g, nodes, n);
}

/* Free text in which calls may be made. */
static srn_node text_with_calls(builder *b, srn_node body, srn_node after) {
    const srn__call_syntax *s = b->f->calls;
    const char *opener = srn__call_opener(s);
    const srn_trigger trigger = {srn_str_of(opener), after};
    if (s->bare) {
        srn_node text = not_bare(b, srn_g_free_text(b->g, &trigger, 1));
        return SEQ(b, blanks(b, 0, SRN_NO_MAX), ALT(b, calls(b, body, after), text));
    }
    if (b->o->parallel_calls) return srn_g_free_text(b->g, &trigger, 1);
    /* One call, and nothing behind it. */
    return SEQ(b, without(b, opener), optional(b, SEQ(b, textz(b, opener), after)));
}

/* Reasoning before the answer: what it must be where the prompt ends inside it, and what it may be where the
 * template's models reason. may_end: it need not come to an end. */
static srn_node with_reasoning(builder *b, srn_node answer, bool may_end) {
    const srn__think_marks *t = b->f->think;
    if (!b->o->parse_reasoning || answer == SRN_NODE_NONE) return answer;
    srn_node rest = SEQ(b, textz(b, t->close), blanks(b, 0, 2), answer), text = without(b, t->close);
    if (b->o->in_reasoning) return SEQ(b, text, may_end ? optional(b, rest) : rest);
    return t->has ? SEQ(b, optional(b, SEQ(b, textz(b, t->open), text, textz(b, t->close), blanks(b, 0, 2))),
                        answer)
                  : answer;
}

srn_node srn_reply_grammar(const srn_reply_format *f, const srn_reply_opts *o, srn_grammar *g,
                           srn_node content, srn_err *err) {
    builder b = {g, f, o, err};
    bool tools = o->parse_tools && o->choice != SRN_TOOLS_NONE && json_array_size(o->tools) > 0;
    if (!tools)
        return with_reasoning(&b, content == SRN_NODE_NONE ? srn_g_free_text(g, NULL, 0) : content, false);
    srn_node body = any_body(&b);
    if (body == SRN_NODE_NONE) return body;
    srn_node after = after_opener(&b, body);
    if (o->choice != SRN_TOOLS_AUTO) return with_reasoning(&b, calls(&b, body, after), false);
    if (content != SRN_NODE_NONE) return with_reasoning(&b, ALT(&b, content, calls(&b, body, after)), false);
    srn_node text = text_with_calls(&b, body, after);
    return o->in_reasoning ? with_reasoning(&b, text, true) : text;
}
