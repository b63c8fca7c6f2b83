/* Calls and statistics as text, the same for commands and for HTTP: JSON objects, lines of CSV, and lines for
 * evaluations. Pure. Leaves out what a form cannot say: a call without content is no line of an evaluation.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "ledger/query_internal.h"

void srn_filter_span(const srn_filter *f, uint64_t *ret_since_us, uint64_t *ret_until_us) {
    *ret_since_us = f->since_us;
    *ret_until_us = f->until_us;
}

int srn_stats_by(srn_str list, uint32_t *ret, srn_err *err) {
    uint32_t by = 0;
    for (size_t at = 0; at < list.len;) {
        size_t n = 0;
        while (at + n < list.len && list.ptr[at + n] != ',') n++;
        srn_by b;
        if (!srn_by_of((srn_str){list.ptr + at, n}, &b)) {
            srn_buf known;
            srn_buf_init(&known, 600);
            for (int i = 0; i < SRN_BY_END; i++)
                srn_buf_addf(&known, "%s%s", i ? ", " : "", srn__bys[i].name);
            int code = srn_fail(err, SRN_EINVAL, "calls cannot be grouped by '%.*s'; there are %s",
                                (int)SRN_MIN(n, (size_t)60), list.ptr + at, known.data);
            srn_buf_done(&known);
            return code;
        }
        by |= 1u << b;
        at += n + 1;
    }
    *ret = by;
    return SRN_OK;
}

/* ---- JSON ---- */

static void add_string(srn_buf *b, const char *text) {
    json_t *s = json_string(text);
    char *t = s ? json_dumps(s, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    srn_buf_addz(b, t ? t : "null");
    free(t);
    json_decref(s);
}

void srn_call_write_json(const srn_stored *s, srn_buf *ret) {
    srn_buf_addf(ret, "{\"seq\":%" PRIu64 ",\"recorded_us\":%" PRIu64 ",\"has_content\":%s", s->seq, s->t_us,
                 s->has_content ? "true" : "false");
    size_t at = 1; /* a body is an object; what it says follows */
    while (at < s->body.len && strchr(" \t\r\n", s->body.ptr[at])) at++;
    if (at + 1 < s->body.len) {
        srn_buf_addc(ret, ',');
        srn_buf_add(ret, s->body.ptr + at, s->body.len - at);
    } else {
        srn_buf_addc(ret, '}');
    }
}

static void add_time(srn_buf *b, const char *name, const srn_stats_row *row, srn_time t) {
    uint64_t n = row->times[t].n;
    srn_buf_addf(b, ",\"%s_us\":{\"n\":%" PRIu64, name, n);
    if (n)
        srn_buf_addf(b,
                     ",\"mean\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p90\":%" PRIu64 ",\"p95\":%" PRIu64
                     ",\"p99\":%" PRIu64,
                     row->times[t].sum_us / n, srn_stats_quantile(row, t, 0.5),
                     srn_stats_quantile(row, t, 0.9), srn_stats_quantile(row, t, 0.95),
                     srn_stats_quantile(row, t, 0.99));
    srn_buf_addc(b, '}');
}

void srn_stats_write_json(const srn_stats_row *row, const srn_stats_opts *o, srn_buf *ret) {
    srn_buf_addc(ret, '{');
    if (o->step_us) srn_buf_addf(ret, "\"start_us\":%" PRIu64 ",", row->start_us);
    for (int b = 0; b < SRN_BY_END; b++) {
        if (!(o->by >> b & 1)) continue;
        srn_buf_addf(ret, "\"%s\":", srn__bys[b].name);
        if (srn__bys[b].number)
            srn_buf_addz(ret, row->values[b]);
        else
            add_string(ret, row->values[b]);
        srn_buf_addc(ret, ',');
    }
    srn_buf_addf(
        ret,
        "\"calls\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"aborted\":%" PRIu64 ",\"tokens\":{\"input\":%" PRIu64
        ",\"cached\":%" PRIu64 ",\"output\":%" PRIu64 ",\"reasoning\":%" PRIu64 "}",
        row->calls, row->errors, row->aborted, row->n_input, row->n_cached, row->n_output, row->n_reasoning);
    add_time(ret, "ttft", row, SRN_TIME_TTFT);
    add_time(ret, "itl", row, SRN_TIME_ITL);
    add_time(ret, "total", row, SRN_TIME_TOTAL);
    add_time(ret, "queue", row, SRN_TIME_QUEUE);
    srn_buf_addc(ret, '}');
}

/* ---- CSV ---- */

/* Between quotes where it must be; what a table would take for a formula gets a quote before it. */
static void add_field(srn_buf *b, const char *text) {
    bool formula = *text && strchr("=+-@\t\r", *text);
    if (!formula && !strpbrk(text, ",\"\r\n")) {
        srn_buf_addz(b, text);
        return;
    }
    srn_buf_addc(b, '"');
    if (formula) srn_buf_addc(b, '\'');
    for (; *text; text++) {
        if (*text == '"') srn_buf_addc(b, '"');
        srn_buf_addc(b, *text);
    }
    srn_buf_addc(b, '"');
}

static void add_csv(const srn_call_row *r, srn_buf *b) {
    char id[SRN_ULID_CHARS + 1];
    const char *const texts[] = {r->finish, r->error,        r->endpoint,    r->route,      r->key,
                                 r->tenant, r->conversation, r->model,       r->weights,    r->quantisation,
                                 r->config, r->prompt,       r->prompt_hash, r->experiment, r->arm};
    srn_ulid_format(r->id, id);
    srn_buf_addf(b, "%s,%" PRIu64 ",%d", id, r->begun_us, r->status);
    for (size_t i = 0; i < SRN_LEN(texts); i++) {
        srn_buf_addc(b, ',');
        add_field(b, texts[i]);
    }
    srn_buf_addf(b,
                 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRIu64
                 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%s\n",
                 r->version, r->n_input, r->n_cached, r->n_output, r->n_reasoning, r->queue_us, r->ttft_us,
                 r->total_us, r->itl_us, r->itl_max_us, r->streamed ? "true" : "false");
}

/* ---- evaluations ---- */

/* What was asked, as messages of a chat, a new reference; NULL: it cannot be told. */
static json_t *messages_of(const json_t *request) {
    json_t *messages = json_object_get(request, "messages"), *input = json_object_get(request, "input"),
           *prompt = json_object_get(request, "prompt"), *system = json_object_get(request, "system");
    if (!system) system = json_object_get(request, "instructions");
    json_t *list = json_array();
    if (json_is_string(system) || json_is_array(system))
        json_array_append_new(list, json_pack("{s:s, s:O}", "role", "system", "content", system));
    if (json_is_array(messages))
        json_array_extend(list, messages);
    else if (json_is_array(input))
        json_array_extend(list, input);
    else if (json_is_string(input))
        json_array_append_new(list, json_pack("{s:s, s:O}", "role", "user", "content", input));
    else if (json_is_string(prompt))
        json_array_append_new(list, json_pack("{s:s, s:O}", "role", "user", "content", prompt));
    if (json_array_size(list)) return list;
    json_decref(list);
    return NULL;
}

static bool add_eval(const srn_call_row *row, srn_str content, srn_buf *b) {
    json_t *root = json_loadb(content.ptr, content.len, JSON_ALLOW_NUL, NULL); /* models give NULs too */
    json_t *request = json_incref(json_object_get(root, "request"));
    if (json_is_string(request)) { /* as it came */
        json_t *parsed = json_loadb(json_string_value(request), json_string_length(request), 0, NULL);
        json_decref(request);
        request = parsed;
    }
    json_t *output = json_object_get(json_array_get(json_object_get(root, "choices"), 0), "text");
    json_t *messages = json_is_string(output) ? messages_of(request) : NULL;
    json_t *line = NULL;
    char id[SRN_ULID_CHARS + 1], *text = NULL;
    srn_ulid_format(row->id, id);
    if (messages)
        line = json_pack("{s:O, s:O, s:s, s:s}", "messages", messages, "output", output, "id", id, "model",
                         row->model);
    if (line && *row->prompt) {
        json_object_set_new(line, "prompt", json_string(row->prompt));
        json_object_set_new(line, "version", json_integer(row->version));
    }
    if (line) text = json_dumps(line, JSON_COMPACT);
    if (text) srn_buf_addf(b, "%s\n", text);
    free(text);
    json_decref(line);
    json_decref(messages);
    json_decref(request);
    json_decref(root);
    return text != NULL;
}

/* ---- lines ---- */

bool srn_export_of(srn_str name, srn_export *ret) {
    static const char *const names[] = {"jsonl", "csv", "eval"};
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (srn_str_eqz(name, names[i])) return *ret = (srn_export)i, true;
    return false;
}

void srn_export_head(srn_export e, srn_buf *ret) {
    if (e == SRN_EXPORT_CSV)
        srn_buf_addz(ret, "id,begun_us,status,finish,error,endpoint,route,key,tenant,conversation,model,"
                          "weights,quantisation,config,prompt,prompt_hash,experiment,arm,version,n_input,"
                          "n_cached,n_output,n_reasoning,queue_us,ttft_us,total_us,itl_us,itl_max_us,"
                          "streamed\n");
}

bool srn_export_call(srn_export e, const srn_call_row *row, const srn_stored *s, srn_str content,
                     srn_buf *ret) {
    switch (e) {
    case SRN_EXPORT_CSV:
        add_csv(row, ret);
        return true;
    case SRN_EXPORT_EVAL:
        return content.len && add_eval(row, content, ret);
    default:
        srn_call_write_json(s, ret);
        if (content.len && ret->len && !ret->failed) { /* before the brace that ends it */
            ret->len--;
            srn_buf_addz(ret, ",\"content\":");
            for (size_t i = 0; i < content.len; i++) /* one line: breaks stand between values only */
                srn_buf_addc(ret, content.ptr[i] == '\n' || content.ptr[i] == '\r' ? ' ' : content.ptr[i]);
            srn_buf_addc(ret, '}');
        }
        srn_buf_addc(ret, '\n');
        return true;
    }
}
