/* chat: messages and tools of a request in the form that a template renders: texts instead of parts,
 * arguments as object or as text, ids of the length that a family insists on, and for templates that know no
 * tools, the tools and their calls told in words. Called by the server before rendering; pure. The messages
 * have passed srn_messages_check. Refuses parts that are not text.
 */
#include <stdlib.h>

#include "chat/reply_internal.h"

enum { MAX_TEXT = 64 << 20 };

static const char *string_of(const json_t *object, const char *key) {
    const char *z = json_string_value(json_object_get(object, key));
    return z ? z : "";
}

/* ---- content ---- */

/* The text of a content: a string as it is, the text parts of an array one a line. */
static json_t *joined(const json_t *content, size_t message, srn_err *err) {
    if (!json_is_array(content)) {
        json_t *same = json_is_string(content) ? json_copy((json_t *)(uintptr_t)content) : json_string("");
        if (!same) srn_fail_nomem(err, json_string_length(content));
        return same;
    }
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn_buf_add(&b, "", 0);
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = string_of(part, "type");
        static const char *const texts[] = {"text", "input_text", "output_text", "refusal"};
        const json_t *text = json_object_get(part, strcmp(type, "refusal") == 0 ? "refusal" : "text");
        bool ok = false;
        for (size_t k = 0; k < SRN_LEN(texts); k++) ok = ok || strcmp(type, texts[k]) == 0;
        if (!ok || !json_is_string(text)) {
            srn_fail(err, SRN_EUNSUP,
                     "messages[%zu].content[%zu] is of type '%s'; this model reads parts of type text only",
                     message, i, type);
            srn_buf_done(&b);
            return NULL;
        }
        if (i) srn_buf_addc(&b, '\n');
        srn_buf_add(&b, json_string_value(text), json_string_length(text));
    }
    json_t *ret = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    if (!ret) srn_fail_nomem(err, b.len);
    srn_buf_done(&b);
    return ret;
}

/* ---- calls of earlier answers ---- */

/* Arguments as the template wants them. */
static json_t *adapt_arguments(const srn__call_syntax *s, json_t *given) {
    if (s->arguments_as_text) {
        if (json_is_string(given)) return json_incref(given);
        char *dump = json_dumps(given ? given : json_null(), JSON_ENCODE_ANY);
        json_t *ret = dump ? json_string(dump) : NULL;
        free(dump);
        return ret;
    }
    if (!json_is_string(given)) return given ? json_incref(given) : json_object();
    json_t *parsed = json_loadb(json_string_value(given), json_string_length(given),
                                JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    if (json_string_length(given) == 0) parsed = json_object();
    return parsed ? parsed : json_incref(given);
}

/* Nine letters or digits, where a family insists on that: the id itself, or a digest of it. */
static json_t *adapt_id(const srn__call_syntax *s, json_t *id) {
    const char *z = json_string_value(id);
    if (!z || !s->short_ids) return json_incref(id);
    size_t n = strlen(z), good = strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    if (n == 9 && good == n) return json_incref(id);
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)srn_hash(0x736572696e, srn_str_of(z)));
    return json_stringn(hex, 9);
}

static json_t *adapt_calls(const srn__call_syntax *s, const json_t *calls) {
    json_t *ret = json_array();
    for (size_t i = 0; ret && i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        json_t *copy = json_copy((json_t *)(uintptr_t)call);
        json_t *function = json_object_get(call, "function");
        if (copy && json_is_object(function)) {
            json_t *f = json_copy(function);
            bool ok = f && !json_object_set_new(f, "arguments",
                                                adapt_arguments(s, json_object_get(function, "arguments")));
            if (!ok || json_object_set(copy, "function", f)) json_decref(copy), copy = NULL;
            json_decref(f);
        }
        if (copy && json_object_get(call, "id"))
            json_object_set_new(copy, "id", adapt_id(s, json_object_get(call, "id")));
        if (!copy || json_array_append_new(ret, copy)) {
            json_decref(ret);
            ret = NULL;
        }
    }
    return ret;
}

/* ---- templates that know no tools ---- */

/* The calls as the model would have written them, behind the content. */
static json_t *told_calls(const srn__call_syntax *s, const json_t *content, const json_t *calls) {
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn_buf_add(&b, json_string_value(content), json_string_length(content));
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *f = srn__tool_function(json_array_get(calls, i));
        json_t *args = adapt_arguments(s, json_object_get(f, "arguments"));
        json_t *call = json_pack("{s:s, s:O}", "name", string_of(f, "name"), s->arguments_key, args);
        char *dump = call ? json_dumps(call, 0) : NULL;
        if (b.len) srn_buf_addc(&b, '\n');
        if (!dump || !srn_buf_addf(&b, "%s\n%s\n%s", s->call_open, dump, s->call_close)) b.failed = true;
        free(dump);
        json_decref(call);
        json_decref(args);
    }
    json_t *ret = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return ret;
}

/* What the model is told of its tools. */
static json_t *described(const srn__call_syntax *s, const json_t *tools) {
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn_buf_addz(&b, "You can call functions. Each line is the signature of one, as JSON schema:\n");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *f = srn__tool_function(json_array_get(tools, i));
        char *dump = f ? json_dumps(f, 0) : NULL;
        if (dump) srn_buf_addf(&b, "%s\n", dump);
        free(dump);
    }
    srn_buf_addf(&b,
                 "To call a function, answer with its name and its arguments as JSON, like this:\n"
                 "%s\n{\"name\": \"NAME\", \"%s\": {...}}\n%s",
                 s->call_open, s->arguments_key, s->call_close);
    json_t *ret = b.failed ? NULL : json_stringn(b.data, b.len);
    srn_buf_done(&b);
    return ret;
}

/* The texts one after the other; they may hold NUL. */
static json_t *concat(const json_t *const *parts, size_t n) {
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    for (size_t i = 0; i < n; i++) srn_buf_add(&b, json_string_value(parts[i]), json_string_length(parts[i]));
    json_t *ret = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return ret;
}

/* Puts the description into the first message of the role that takes it, or into one of its own. */
static int describe(const srn__call_syntax *s, json_t *messages, const json_t *tools) {
    const char *role = s->in_user ? "user" : "system";
    json_t *first = json_array_get(messages, 0), *told = described(s, tools), *gap = json_string("\n\n");
    json_t *content = json_object_get(first, "content"), *text = NULL, *message = NULL;
    bool there = first && strcmp(string_of(first, "role"), role) == 0, ok = told && gap;
    if (ok && there) {
        const json_t *parts[] = {s->in_user ? told : content, gap, s->in_user ? content : told};
        text = concat(parts, SRN_LEN(parts));
        ok = text && !json_object_set(first, "content", text);
    } else if (ok) {
        message = json_pack("{s:s, s:O}", "role", role, "content", told);
        ok = message && !json_array_insert(messages, 0, message);
    }
    json_decref(told);
    json_decref(gap);
    json_decref(text);
    json_decref(message);
    return ok ? SRN_OK : SRN_ENOMEM;
}

/* A tool's result becomes what a user says; results in a row become one message. */
static int told_result(json_t *messages, const json_t *content) {
    size_t n = json_array_size(messages);
    json_t *last = n ? json_array_get(messages, n - 1) : NULL, *message = NULL;
    bool join = last && json_object_get(last, "tool_results");
    json_t *open = json_string(join ? "\n<tool_response>\n" : "<tool_response>\n");
    json_t *close = json_string("\n</tool_response>");
    const json_t *parts[] = {join ? json_object_get(last, "content") : NULL, open, content, close};
    json_t *text = concat(parts, SRN_LEN(parts));
    bool ok = text != NULL;
    if (ok && join) {
        ok = !json_object_set(last, "content", text);
    } else if (ok) {
        message = json_pack("{s:s, s:O, s:b}", "role", "user", "content", text, "tool_results", 1);
        ok = message && !json_array_append(messages, message);
    }
    json_decref(open);
    json_decref(close);
    json_decref(text);
    json_decref(message);
    return ok ? SRN_OK : SRN_ENOMEM;
}

/* ---- messages ---- */

static int adapt_message(const srn__call_syntax *s, const json_t *m, size_t i, json_t *out, srn_err *err) {
    const char *role = string_of(m, "role");
    json_t *given = json_object_get(m, "content"), *calls = json_object_get(m, "tool_calls");
    json_t *content = joined(given, i, err);
    if (!content) return err ? err->code : SRN_EUNSUP;
    if (s->described && (strcmp(role, "tool") == 0 || strcmp(role, "function") == 0)) {
        int code = told_result(out, content);
        json_decref(content);
        return code;
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)m);
    bool ok = copy != NULL, has_calls = json_array_size(calls) > 0;
    if (ok && has_calls && s->described) {
        json_t *told = told_calls(s, content, calls);
        json_decref(content);
        content = told;
        json_object_del(copy, "tool_calls");
    } else if (ok && has_calls) {
        ok = !json_object_set_new(copy, "tool_calls", adapt_calls(s, calls));
        if (!given || json_is_null(given)) { /* some templates ask for none */
            json_decref(content);
            content = json_null();
        }
    } else if (ok) {
        json_object_del(copy, "tool_calls"); /* null or empty: templates ask only whether it is there */
    }
    if (ok && json_object_get(m, "tool_call_id"))
        ok = !json_object_set_new(copy, "tool_call_id", adapt_id(s, json_object_get(m, "tool_call_id")));
    if (ok && strcmp(role, "developer") == 0) ok = !json_object_set_new(copy, "role", json_string("system"));
    ok = ok && content && !json_object_set(copy, "content", content) && !json_array_append(out, copy);
    json_decref(content);
    json_decref(copy);
    return ok ? SRN_OK : SRN_ENOMEM;
}

/* Templates ask for the description and the parameters of every function; one without takes none. */
static json_t *adapt_tools(const json_t *tools) {
    json_t *ret = json_deep_copy(tools);
    for (size_t i = 0; i < json_array_size(ret); i++) {
        json_t *f = json_object_get(json_array_get(ret, i), "function");
        json_t *params = json_object_get(f, "parameters"), *about = json_object_get(f, "description");
        bool ok = true;
        if (f && (!params || json_is_null(params)))
            ok = !json_object_set_new(f, "parameters",
                                      json_pack("{s:s, s:{}}", "type", "object", "properties"));
        if (f && (!about || json_is_null(about)))
            ok = ok && !json_object_set_new(f, "description", json_string(""));
        if (!ok) {
            json_decref(ret);
            return NULL;
        }
    }
    return ret;
}

int srn_reply_adapt(const srn_reply_format *f, const json_t *messages, const json_t *tools,
                    json_t **ret_messages, json_t **ret_tools, srn_err *err) {
    const srn__call_syntax *s = f->calls;
    json_t *out = json_array();
    int code = out ? SRN_OK : SRN_ENOMEM;
    for (size_t i = 0; !code && i < json_array_size(messages); i++)
        code = adapt_message(s, json_array_get(messages, i), i, out, err);
    bool some = json_array_size(tools) > 0;
    if (!code && some && s->described) code = describe(s, out, tools);
    for (size_t i = 0; !code && i < json_array_size(out); i++)
        json_object_del(json_array_get(out, i), "tool_results");
    json_t *shown = !code && some && !s->described ? adapt_tools(tools) : NULL;
    if (!code && some && !s->described && !shown) code = SRN_ENOMEM;
    if (code) {
        json_decref(out);
        return code == SRN_ENOMEM ? srn_fail(err, code, "no memory for the messages of a chat") : code;
    }
    *ret_messages = out;
    *ret_tools = shown;
    return SRN_OK;
}
