/* A file of calls, one JSON object a line: records as `serin calls export` writes them, requests of the
 * OpenAI API with or without the usage of their answers, or prompts by themselves. Pure. Refuses lines that
 * say no length of prompt or answer, with file and line.
 */
#include <jansson.h>
#include <math.h>

#include "config/lines.h"
#include "hardware/advise.h"

enum { BYTES_A_TOKEN = 4 };
#define MOST_TOKENS 100000000

typedef struct line {
    const char *place;
    const json_t *o;
    srn_advise_call c;
    srn_err *err;
} line;

static int fail_line(const line *l, const char *fmt, ...) SRN_PRINTF(2, 3);
static int fail_line(const line *l, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int code = srn_vfail(l->err, SRN_EFORMAT, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(l->err, code, "%s", l->place);
}

/* A whole number of o, where it is there; names the key. */
static int number(const line *l, const json_t *o, const char *key, uint64_t most, uint64_t *ret) {
    const json_t *j = json_object_get(o, key);
    if (!j || json_is_null(j)) return SRN_OK;
    json_int_t v = json_integer_value(j);
    if (!json_is_integer(j) || v < 0 || (uint64_t)v > most)
        return fail_line(l, "%s: needs a whole number from 0 to %llu", key, (unsigned long long)most);
    *ret = (uint64_t)v;
    return SRN_OK;
}

static int tokens(const line *l, const json_t *o, const char *key, uint32_t *ret) {
    uint64_t v = *ret;
    int code = number(l, o, key, MOST_TOKENS, &v);
    *ret = (uint32_t)v;
    return code;
}

/* ---- lengths ---- */

/* Bytes of all texts in it: a text, or messages and their parts. */
static size_t text_bytes(const json_t *j, unsigned depth) {
    size_t i, n = json_is_string(j) ? json_string_length(j) : 0;
    const json_t *e;
    if (depth > 8) return 0;
    json_array_foreach(j, i, e) n +=
        text_bytes(json_is_object(e) && json_object_get(e, "text") ? json_object_get(e, "text")
                   : json_is_object(e)                             ? json_object_get(e, "content")
                                                                   : e,
                   depth + 1);
    return n;
}

static uint32_t guess(size_t bytes) {
    return (uint32_t)SRN_MIN((bytes + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN, (size_t)MOST_TOKENS);
}

/* Of a ledger's record: {"tokens": {"input", "cached", "output"}, "us": {...}}. */
static int read_record(line *l) {
    const json_t *t = json_object_get(l->o, "tokens"), *us = json_object_get(l->o, "us");
    const struct {
        const char *key;
        uint64_t *to;
    } times[] = {
        {"queue", &l->c.queue_us}, {"ttft", &l->c.ttft_us}, {"itl", &l->c.itl_us}, {"total", &l->c.total_us}};
    if (!json_is_object(t)) return fail_line(l, "tokens: needs {\"input\", \"cached\", \"output\"}");
    int code = tokens(l, t, "input", &l->c.n_input);
    if (!code) code = tokens(l, t, "cached", &l->c.n_cached);
    if (!code) code = tokens(l, t, "output", &l->c.n_output);
    for (size_t i = 0; !code && i < SRN_LEN(times); i++)
        code = number(l, us, times[i].key, 1ull << 50, times[i].to);
    return code;
}

/* Of an answer of the OpenAI API, or of ours: "usage". */
static int read_usage(line *l, const json_t *u) {
    const json_t *d = json_object_get(u, "prompt_tokens_details");
    if (!json_is_integer(json_object_get(u, "prompt_tokens")) ||
        !json_is_integer(json_object_get(u, "completion_tokens")))
        return fail_line(l, "usage: needs prompt_tokens and completion_tokens");
    int code = tokens(l, u, "prompt_tokens", &l->c.n_input);
    if (!code) code = tokens(l, u, "completion_tokens", &l->c.n_output);
    return code ? code : tokens(l, d, "cached_tokens", &l->c.n_cached);
}

/* Lengths from the texts themselves, which are guessed. */
static int read_texts(line *l) {
    const json_t *prompt = json_object_get(l->o, "messages"), *answer = json_object_get(l->o, "output");
    if (!prompt) prompt = json_object_get(l->o, "prompt");
    size_t bytes = text_bytes(prompt, 0);
    if (!prompt) return fail_line(l, "it is no call: it has neither tokens, usage, messages nor prompt");
    if (!bytes) return fail_line(l, "its prompt is empty");
    l->c.estimated = true;
    l->c.n_input = guess(bytes);
    if (json_is_string(answer)) return l->c.n_output = guess(json_string_length(answer)), SRN_OK;
    if (!json_is_integer(json_object_get(l->o, "max_tokens")))
        return fail_line(l, "nothing says how long its answer is: give usage, output or max_tokens");
    return tokens(l, l->o, "max_tokens", &l->c.n_output);
}

/* ---- a line ---- */

static int read_object(srn_advise_traffic *t, line *l) {
    const json_t *usage = json_object_get(l->o, "usage"), *route = json_object_get(l->o, "route");
    uint64_t created = 0;
    if (json_integer_value(json_object_get(l->o, "status")) >= 400)
        return SRN_OK; /* nobody is charged for it */
    int code = json_object_get(l->o, "tokens") ? read_record(l)
               : json_is_object(usage)         ? read_usage(l, usage)
                                               : read_texts(l);
    if (!code) code = number(l, l->o, "begun_us", 1ull << 53, &l->c.begun_us);
    if (!code) code = number(l, l->o, "created", 1ull << 33, &created);
    if (code) return code;
    if (!l->c.begun_us) l->c.begun_us = created * 1000000;
    l->c.elsewhere = json_is_object(json_object_get(l->o, "upstream"));
    const char *name = json_is_string(route) ? json_string_value(route) : "";
    code = srn_advise_traffic_route(t, (srn_str){name, strlen(name)}, &l->c.route, l->err);
    if (code) return code;
    if (json_is_true(json_object_get(l->o, "local_only"))) t->routes[l->c.route].local_only = true;
    return srn_advise_traffic_add(t, &l->c, l->err);
}

static int take_line(void *ctx, json_t *value, const char *place, srn_err *err) {
    line l = {.place = place, .o = value, .err = err};
    return json_is_object(value) ? read_object(ctx, &l) : fail_line(&l, "it is no JSON object");
}

int srn_advise_traffic_lines(srn_advise_traffic *t, srn_str text, const char *file, srn_err *err) {
    size_t before = t->n, count = 0;
    int code = srn_json_lines(text, file, take_line, t, &count, err);
    if (!code && t->n == before)
        code = srn_fail(
            err, SRN_EFORMAT,
            "%.200s: line %zu: there is no call in it; a line is {\"prompt\": \"...\", \"max_tokens\": 100}",
            file, count + 1);
    return code;
}
