/* Telemetry: what was said in a call, in the form of OpenTelemetry's input and output messages. Pure.
 * Messages come in the form of chat completions, whichever API asked; of an answer it is the text as the
 * model wrote it, marks of tools and reasoning included.
 */
#include <stdlib.h>

#include "serve/openai_internal.h"
#include "serve/otel_internal.h"

static void put_member(srn_buf *b, const char *name, srn_str value) {
    srn_buf_addf(b, ",\"%s\":", name);
    srn__put_string(b, value);
}

static srn_str text_of(const json_t *v) {
    const char *p = json_string_value(v);
    return (srn_str){p ? p : "", json_string_length(v)};
}

/* A part of a message; the first of its list has no comma. */
static void begin_part(srn_buf *b, bool *any, const char *type) {
    srn_buf_addf(b, "%s{\"type\":\"%s\"", *any ? "," : "", type);
    *any = true;
}

static void put_text_part(srn_buf *b, bool *any, srn_str text) {
    begin_part(b, any, "text");
    put_member(b, "content", text);
    srn_buf_addc(b, '}');
}

/* A text, or an array of parts of which only texts are taken here. */
static void put_parts_of(srn_buf *b, bool *any, const json_t *content) {
    const json_t *part;
    size_t i;
    if (json_is_string(content)) put_text_part(b, any, text_of(content));
    json_array_foreach(content, i, part) put_text_part(b, any, text_of(json_object_get(part, "text")));
}

static void put_calls(srn_buf *b, bool *any, const json_t *calls) {
    const json_t *call;
    size_t i;
    json_array_foreach(calls, i, call) {
        const json_t *f = json_object_get(call, "function"), *arguments = json_object_get(f, "arguments");
        begin_part(b, any, "tool_call");
        put_member(b, "id", text_of(json_object_get(call, "id")));
        put_member(b, "name", text_of(json_object_get(f, "name")));
        char *given = json_is_string(arguments) || !arguments ? NULL : json_dumps(arguments, JSON_COMPACT);
        put_member(b, "arguments", given ? srn_str_of(given) : text_of(arguments));
        free(given);
        srn_buf_addc(b, '}');
    }
}

static void put_message(srn_buf *b, const json_t *m) {
    const char *role = json_string_value(json_object_get(m, "role"));
    bool any = false;
    srn_buf_addz(b, "{\"role\":");
    srn__put_string(b, srn_str_of(role ? role : "user"));
    srn_buf_addz(b, ",\"parts\":[");
    if (role && strcmp(role, "tool") == 0) {
        begin_part(b, &any, "tool_call_response");
        put_member(b, "id", text_of(json_object_get(m, "tool_call_id")));
        srn_buf_addz(b, ",\"response\":[");
        any = false;
        put_parts_of(b, &any, json_object_get(m, "content"));
        srn_buf_addz(b, "]}");
    } else {
        put_parts_of(b, &any, json_object_get(m, "content"));
        put_calls(b, &any, json_object_get(m, "tool_calls"));
    }
    srn_buf_addz(b, "]}");
}

void srn__otel_put_input(srn_buf *b, const srn__job_spec *spec) {
    const json_t *m;
    size_t i;
    bool any = false;
    if (spec->messages) {
        json_array_foreach(spec->messages, i, m) {
            srn_buf_addc(b, i ? ',' : '[');
            put_message(b, m);
        }
        srn_buf_addz(b, i ? "]" : "[]");
    } else if (spec->text.ptr) {
        srn_buf_addz(b, "[{\"role\":\"user\",\"parts\":[");
        put_text_part(b, &any, spec->text);
        srn_buf_addz(b, "]}]");
    }
}

void srn__otel_put_output(srn_buf *b, srn_str text, const char *finish) {
    bool any = false;
    srn_buf_addf(b, "%s{\"role\":\"assistant\",\"parts\":[", b->len ? "," : "");
    put_text_part(b, &any, text);
    srn_buf_addz(b, "]");
    put_member(b, "finish_reason", srn_str_of(finish));
    srn_buf_addc(b, '}');
}
