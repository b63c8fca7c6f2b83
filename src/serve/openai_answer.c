/* The OpenAI API: the answer to a chat or completion, as a stream of chunks or as one object. A source that
 * the listener thread pulls: it takes the jobs' events and writes them. One id and one time per answer; the
 * role comes in a choice's first chunk only; an error midway becomes an error object in the stream.
 */
#include <stdlib.h>
#include <time.h>

#include "serve/openai_internal.h"
#include "serve/rollout.h"

enum { MAX_BODY = 512 << 20, CHUNKS_PER_PULL = 64 << 10 };

typedef struct tool_call {
    const char *id; /* the job's */
    srn_buf name, arguments;
} tool_call;

typedef struct choice {
    bool begun, ended;
    srn__job_event_kind last; /* what the last text was: its tokens are the content's, or are not */
    srn__job_finish finish;
    srn_buf content, reasoning;
    tool_call *calls;
    uint32_t n_calls;
    srn_buf ranges;   /* pairs of uint32_t: tokens of the content */
    srn__lists lists; /* completions */
} choice;

typedef struct answer {
    srn__call *call;
    srn__openai_request r; /* its model is the answer's hold */
    srn__job **jobs;       /* [n_jobs], one a prompt */
    uint32_t n_jobs, n_choices;
    choice *choices; /* [n_jobs * n] */
    srn_buf head;    /* {"id": ..., "object": ..., "created": ..., "model": ..., "system_fingerprint": ... */
    bool over;
} answer;

static choice *choice_of(answer *a, uint32_t job, uint32_t i) {
    return &a->choices[job * a->r.spec.n + i];
}

/* ---- pieces ---- */

static const char *finish_name(srn__job_finish f) {
    static const char *const names[] = {[SRN__FINISH_STOP] = "stop",
                                        [SRN__FINISH_LENGTH] = "length",
                                        [SRN__FINISH_TOOL_CALLS] = "tool_calls"};
    return names[f];
}

/* Tokens [first, first + n) of a choice as logprobs, without brackets. */
static void put_tokens(answer *a, uint32_t job, uint32_t i, uint32_t first, uint32_t n, srn_buf *out) {
    uint32_t have, stride = a->r.spec.n_top, n_top = a->r.n_top;
    const srn_top_token *tops;
    const srn_out_token *tokens = srn__job_tokens(a->jobs[job], i, &have, &tops);
    const srn_vocab *v = a->r.spec.model->vocab;
    if (first + n > have) n = first < have ? have - first : 0;
    if (n == 0) return;
    if (stride) tops += (size_t)first * stride;
    if (a->r.chat) {
        srn__put_chat_logprobs(out, v, tokens + first, tops, n, stride, n_top);
        return;
    }
    for (uint32_t k = 0; k < n; k++)
        srn__lists_add(&choice_of(a, job, i)->lists, v, tokens[first + k].id, &tokens[first + k].logprob,
                       stride ? tops + (size_t)k * stride : NULL, n_top);
}

static void put_logprobs(answer *a, uint32_t job, uint32_t i, uint32_t first, uint32_t n, srn_buf *out) {
    if (!a->r.logprobs) {
        srn_buf_addz(out, ",\"logprobs\":null");
        return;
    }
    srn_buf_addz(out, a->r.chat ? ",\"logprobs\":{\"content\":[" : ",\"logprobs\":");
    put_tokens(a, job, i, first, n, out);
    if (a->r.chat)
        srn_buf_addz(out, "],\"refusal\":null}");
    else
        srn__lists_put(out, &choice_of(a, job, i)->lists);
}

static void put_ids(const int32_t *ids, uint32_t n, srn_buf *out) {
    srn_buf_addc(out, '[');
    for (uint32_t i = 0; i < n; i++) srn_buf_addf(out, i ? ",%d" : "%d", ids[i]);
    srn_buf_addc(out, ']');
}

static void put_token_ids(answer *a, uint32_t job, uint32_t i, uint32_t first, uint32_t n, srn_buf *out) {
    uint32_t have;
    const srn_out_token *tokens = srn__job_tokens(a->jobs[job], i, &have, NULL);
    srn_buf_addz(out, ",\"token_ids\":[");
    for (uint32_t k = first; k < first + n && k < have; k++)
        srn_buf_addf(out, k > first ? ",%d" : "%d", tokens[k].id);
    srn_buf_addc(out, ']');
}

static void put_call_head(const char *id, srn_str name, srn_buf *out) {
    srn_buf_addf(out, "\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", id);
    srn__put_string(out, name);
    srn_buf_addz(out, ",\"arguments\":");
}

static srn_str text_of(const srn_buf *b) {
    return (srn_str){b->data ? b->data : "", b->len};
}

static srn__job_usage usage_of(answer *a) {
    srn__job_usage sum = {0};
    for (uint32_t j = 0; j < a->n_jobs; j++) {
        srn__job_usage u = srn__job_get_usage(a->jobs[j]);
        sum.prompt_tokens += u.prompt_tokens;
        sum.cached_tokens += u.cached_tokens;
        sum.output_tokens += a->r.no_output ? 0 : u.output_tokens;
        sum.reasoning_tokens += u.reasoning_tokens;
    }
    return sum;
}

/* The text of a completion's prompt, for echo. */
static void add_prompt_text(answer *a, uint32_t job, srn_buf *out) {
    const srn__openai_prompt *p = &a->r.prompts[job];
    if (!p->tokens) {
        srn_buf_add(out, p->text.ptr, p->text.len);
        return;
    }
    srn_detok d;
    srn_detok_init(&d, a->r.spec.model->vocab, true);
    for (uint32_t i = 0; i < p->n_tokens; i++) srn_detok_add(&d, p->tokens[i], out);
    srn_detok_end(&d, out);
}

/* ---- chunks ---- */

static void begin_chunk(answer *a, uint32_t index, srn_buf *out) {
    srn_buf_addz(out, "data: ");
    srn_buf_add(out, a->head.data, a->head.len);
    srn_buf_addf(out, ",\"choices\":[{\"index\":%u", index);
}

static void end_chunk(answer *a, const srn__job_finish *finish, srn_buf *out) {
    if (finish)
        srn_buf_addf(out, ",\"finish_reason\":\"%s\"}]", finish_name(*finish));
    else
        srn_buf_addz(out, ",\"finish_reason\":null}]");
    srn_buf_addz(out, a->r.include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

/* The inside of a delta for an event. */
static void put_delta(const srn__job_event *e, srn_buf *out) {
    switch (e->kind) {
    case SRN__JOB_TEXT:
        srn_buf_addz(out, "\"content\":");
        srn__put_string(out, e->text);
        break;
    case SRN__JOB_REASONING:
        srn_buf_addz(out, "\"reasoning_content\":");
        srn__put_string(out, e->text);
        break;
    case SRN__JOB_CALL:
        srn_buf_addf(out, "\"tool_calls\":[{\"index\":%u,", e->call_index);
        put_call_head(e->call_id, e->text, out);
        srn_buf_addz(out, "\"\"}}]");
        break;
    case SRN__JOB_ARGUMENTS:
        srn_buf_addf(out, "\"tool_calls\":[{\"index\":%u,\"function\":{\"arguments\":", e->call_index);
        srn__put_string(out, e->text);
        srn_buf_addz(out, "}}]");
        break;
    default:
        break;
    }
}

/* Whether the event's tokens are the content's. */
static bool is_content(const choice *c, const srn__job_event *e) {
    if (e->kind == SRN__JOB_FINISH) return c->last == SRN__JOB_TEXT;
    return e->kind == SRN__JOB_TEXT;
}

static void chat_chunk(answer *a, uint32_t job, const srn__job_event *e, srn_buf *out) {
    choice *c = choice_of(a, job, e->choice);
    uint32_t index = job * a->r.spec.n + e->choice;
    if (!c->begun) {
        c->begun = true;
        begin_chunk(a, index, out);
        srn_buf_addz(out, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null");
        if (a->r.token_ids && index == 0) {
            uint32_t n;
            const int32_t *ids = srn__job_prompt_ids(a->jobs[job], &n, NULL, NULL);
            srn_buf_addz(out, ",\"prompt_token_ids\":");
            put_ids(ids, n, out);
        }
        end_chunk(a, NULL, out);
    }
    bool content = is_content(c, e);
    begin_chunk(a, index, out);
    srn_buf_addz(out, ",\"delta\":{");
    put_delta(e, out);
    srn_buf_addc(out, '}');
    if (content && e->n_tokens)
        put_logprobs(a, job, e->choice, e->first_token, e->n_tokens, out);
    else
        srn_buf_addz(out, ",\"logprobs\":null");
    if (a->r.token_ids) put_token_ids(a, job, e->choice, e->first_token, e->n_tokens, out);
    end_chunk(a, e->kind == SRN__JOB_FINISH ? &e->finish : NULL, out);
}

static void completion_chunk(answer *a, uint32_t job, const srn__job_event *e, srn_buf *out) {
    choice *c = choice_of(a, job, e->choice);
    uint32_t index = job * a->r.spec.n + e->choice;
    if (!c->begun && a->r.echo) {
        srn_buf text;
        srn_buf_init(&text, MAX_BODY);
        add_prompt_text(a, job, &text);
        begin_chunk(a, index, out);
        srn_buf_addz(out, ",\"text\":");
        srn__put_string(out, text_of(&text));
        srn_buf_addz(out, ",\"logprobs\":null");
        end_chunk(a, NULL, out);
        srn_buf_done(&text);
    }
    c->begun = true;
    begin_chunk(a, index, out);
    srn_buf_addz(out, ",\"text\":");
    srn__put_string(out, a->r.no_output ? (srn_str){"", 0} : e->text);
    put_logprobs(a, job, e->choice, e->first_token, a->r.no_output ? 0 : e->n_tokens, out);
    if (a->r.token_ids) put_token_ids(a, job, e->choice, e->first_token, e->n_tokens, out);
    end_chunk(a, e->kind == SRN__JOB_FINISH ? &e->finish : NULL, out);
}

/* ---- one object ---- */

static void keep(choice *c, const srn__job_event *e) {
    if (is_content(c, e) && e->n_tokens) {
        const uint32_t range[] = {e->first_token, e->n_tokens};
        srn_buf_add(&c->ranges, range, sizeof range);
    }
    if (e->kind == SRN__JOB_TEXT) srn_buf_add(&c->content, e->text.ptr, e->text.len);
    if (e->kind == SRN__JOB_REASONING) srn_buf_add(&c->reasoning, e->text.ptr, e->text.len);
    if (e->kind == SRN__JOB_CALL) {
        tool_call *grown = srn_realloc_array(c->calls, c->n_calls + 1, sizeof *grown);
        if (!grown) {
            c->content.failed = true;
            return;
        }
        c->calls = grown;
        tool_call *t = &grown[c->n_calls++];
        *t = (tool_call){.id = e->call_id};
        srn_buf_init(&t->name, MAX_BODY);
        srn_buf_init(&t->arguments, MAX_BODY);
        srn_buf_add(&t->name, e->text.ptr, e->text.len);
    }
    if (e->kind == SRN__JOB_ARGUMENTS && c->n_calls)
        srn_buf_add(&c->calls[c->n_calls - 1].arguments, e->text.ptr, e->text.len);
}

static void put_message(answer *a, const choice *c, srn_buf *out) {
    srn_buf_addz(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
    if (c->n_calls && !c->content.len)
        srn_buf_addz(out, "null");
    else
        srn__put_string(out, text_of(&c->content));
    srn_buf_addz(out, ",\"refusal\":null");
    if (c->reasoning.len && a->r.include_reasoning) {
        srn_buf_addz(out, ",\"reasoning_content\":");
        srn__put_string(out, text_of(&c->reasoning));
    }
    for (uint32_t i = 0; i < c->n_calls; i++) {
        srn_buf_addz(out, i ? ",{" : ",\"tool_calls\":[{");
        put_call_head(c->calls[i].id, text_of(&c->calls[i].name), out);
        srn__put_string(out, text_of(&c->calls[i].arguments));
        srn_buf_addz(out, "}}");
    }
    srn_buf_addz(out, c->n_calls ? "]}" : "}");
}

/* Everything of the content's ranges, which are in order. */
static void put_all_logprobs(answer *a, uint32_t job, uint32_t i, srn_buf *out) {
    const choice *c = choice_of(a, job, i);
    srn_buf_addz(out, ",\"logprobs\":{\"content\":[");
    size_t begin = out->len;
    for (size_t at = 0; at < c->ranges.len; at += 2 * sizeof(uint32_t)) {
        uint32_t range[2];
        memcpy(range, c->ranges.data + at, sizeof range);
        if (out->len > begin) srn_buf_addc(out, ',');
        put_tokens(a, job, i, range[0], range[1], out);
    }
    srn_buf_addz(out, "],\"refusal\":null}");
}

static void put_chat_choice(answer *a, uint32_t job, uint32_t i, srn_buf *out) {
    put_message(a, choice_of(a, job, i), out);
    if (a->r.logprobs)
        put_all_logprobs(a, job, i, out);
    else
        srn_buf_addz(out, ",\"logprobs\":null");
}

static void put_prompt_part(answer *a, uint32_t job, srn__lists *l, srn_buf *out) {
    const float *logprobs;
    const srn_top_token *tops;
    uint32_t n, stride = a->r.spec.n_top;
    const int32_t *ids = srn__job_prompt_ids(a->jobs[job], &n, &logprobs, &tops);
    const srn_vocab *v = a->r.spec.model->vocab;
    if (!logprobs) return;
    for (uint32_t i = 0; l && i < n; i++)
        srn__lists_add(l, v, ids[i], i ? &logprobs[i] : NULL, stride ? tops + (size_t)i * stride : NULL,
                       a->r.n_top);
    if (l) return;
    srn_buf_addz(out, ",\"prompt_logprobs\":");
    srn__put_prompt_logprobs(out, v, ids, logprobs, tops, n, stride, a->r.n_prompt_top);
}

static void put_completion_choice(answer *a, uint32_t job, uint32_t i, srn_buf *out) {
    choice *c = choice_of(a, job, i);
    srn_buf text;
    srn_buf_init(&text, MAX_BODY);
    if (a->r.echo) add_prompt_text(a, job, &text);
    if (!a->r.no_output) srn_buf_add(&text, text_of(&c->content).ptr, c->content.len);
    srn_buf_addz(out, ",\"text\":");
    srn__put_string(out, text_of(&text));
    srn_buf_done(&text);
    if (a->r.echo && a->r.logprobs) put_prompt_part(a, job, &c->lists, NULL);
    uint32_t n = 0;
    srn__job_tokens(a->jobs[job], i, &n, NULL);
    put_logprobs(a, job, i, 0, a->r.no_output ? 0 : n, out);
    if (a->r.prompt_logprobs) put_prompt_part(a, job, NULL, out);
}

static void put_choice(answer *a, uint32_t job, uint32_t i, srn_buf *out) {
    const choice *c = choice_of(a, job, i);
    srn_buf_addf(out, "%s{\"index\":%u", job || i ? "," : "", job * a->r.spec.n + i);
    if (a->r.chat)
        put_chat_choice(a, job, i, out);
    else
        put_completion_choice(a, job, i, out);
    if (a->r.token_ids) {
        uint32_t n = 0;
        srn__job_tokens(a->jobs[job], i, &n, NULL);
        put_token_ids(a, job, i, 0, n, out);
        if (!a->r.chat) {
            const int32_t *ids = srn__job_prompt_ids(a->jobs[job], &n, NULL, NULL);
            srn_buf_addz(out, ",\"prompt_token_ids\":");
            put_ids(ids, n, out);
        }
    }
    srn_buf_addf(out, ",\"finish_reason\":\"%s\"}", finish_name(c->finish));
}

static void put_whole(answer *a, srn_buf *out) {
    srn__job_usage u = usage_of(a);
    srn_buf_add(out, a->head.data, a->head.len);
    srn_buf_addz(out, ",\"choices\":[");
    for (uint32_t j = 0; j < a->n_jobs; j++)
        for (uint32_t i = 0; i < a->r.spec.n; i++) put_choice(a, j, i, out);
    srn_buf_addz(out, "],\"usage\":");
    srn__put_usage(out, &u);
    if (a->r.chat && a->r.token_ids) {
        uint32_t n;
        const int32_t *ids = srn__job_prompt_ids(a->jobs[0], &n, NULL, NULL);
        srn_buf_addz(out, ",\"prompt_token_ids\":");
        put_ids(ids, n, out);
    }
    if (a->r.chat && a->r.prompt_logprobs) put_prompt_part(a, 0, NULL, out);
    srn_buf_addz(out, "}\n");
}

/* ---- the source ---- */

static void put_error(answer *a, const srn__job_event *e, srn_buf *out, int *status) {
    if (a->r.stream) srn_buf_addz(out, "data: ");
    *status = srn__put_error(out, SRN__OPENAI, e->err);
    if (a->r.stream) srn_buf_addz(out, e->unclean ? "\n\n" : "\n\ndata: [DONE]\n\n");
}

static void take(answer *a, uint32_t job, const srn__job_event *e, srn_buf *out) {
    choice *c = choice_of(a, job, e->choice);
    bool hidden = e->kind == SRN__JOB_REASONING && !a->r.include_reasoning;
    if (!a->r.stream)
        keep(c, e);
    else if (e->kind != SRN__JOB_CALL_END && !hidden)
        a->r.chat ? chat_chunk(a, job, e, out) : completion_chunk(a, job, e, out);
    if (e->kind == SRN__JOB_FINISH) {
        c->ended = true;
        c->finish = e->finish;
    } else {
        c->last = e->kind;
    }
}

static void finish(answer *a, srn_buf *out) {
    a->over = true;
    if (!a->r.stream) {
        put_whole(a, out);
        return;
    }
    if (a->r.include_usage) {
        srn__job_usage u = usage_of(a);
        srn_buf_addz(out, "data: ");
        srn_buf_add(out, a->head.data, a->head.len);
        srn_buf_addz(out, ",\"choices\":[],\"usage\":");
        srn__put_usage(out, &u);
        srn_buf_addz(out, "}\n\n");
    }
    srn_buf_addz(out, "data: [DONE]\n\n");
}

static int pull(void *source, srn_buf *out, int *status) {
    answer *a = source;
    bool all = true;
    if (a->over) return 1;
    for (uint32_t j = 0; j < a->n_jobs; j++) {
        srn__job_event e;
        while (out->len < CHUNKS_PER_PULL && srn__job_next(a->jobs[j], &e)) {
            if (e.kind == SRN__JOB_FAIL) {
                a->over = true;
                for (uint32_t k = 0; k < a->n_jobs; k++) srn__job_cancel(a->jobs[k]);
                put_error(a, &e, out, status);
                return e.unclean ? 2 : 1;
            }
            take(a, j, &e, out);
        }
        all = all && srn__job_done(a->jobs[j]);
    }
    if (!all) {
        if (out->len >= CHUNKS_PER_PULL) srn__call_wake(a->call);
        return 0;
    }
    finish(a, out);
    return 1;
}

static void cancel(void *source) {
    answer *a = source;
    for (uint32_t j = 0; j < a->n_jobs; j++) srn__job_cancel(a->jobs[j]);
}

static void choice_done(choice *c) {
    for (uint32_t i = 0; i < c->n_calls; i++) {
        srn_buf_done(&c->calls[i].name);
        srn_buf_done(&c->calls[i].arguments);
    }
    free(c->calls);
    srn_buf_done(&c->content);
    srn_buf_done(&c->reasoning);
    srn_buf_done(&c->ranges);
    srn__lists_done(&c->lists);
}

static void answer_free(void *source) {
    answer *a = source;
    if (!a) return;
    for (uint32_t j = 0; j < a->n_jobs; j++) srn__job_free(a->jobs[j]);
    for (uint32_t i = 0; i < a->n_choices; i++) choice_done(&a->choices[i]);
    free(a->jobs);
    free(a->choices);
    srn_buf_done(&a->head);
    srn__served_put(a->r.spec.model);
    srn__openai_request_done(&a->r);
    srn__call_drop(a->call);
    free(a);
}

/* ---- starting ---- */

void srn__openai_fingerprint(const srn__served *v, char *ret, size_t cap) {
    snprintf(ret, cap, "%s+%.16s", srn_engine_get_info(v->engine).engine_id, v->ids.weights);
}

static void write_head(answer *a) {
    char fingerprint[256];
    srn__openai_fingerprint(a->r.spec.model, fingerprint, sizeof fingerprint);
    const char *object =
        a->r.chat ? a->r.stream ? "chat.completion.chunk" : "chat.completion" : "text_completion";
    srn_buf_addf(&a->head, "{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":%lld,\"model\":",
                 a->r.chat ? "chatcmpl" : "cmpl", srn__call_id(a->call), object, (long long)time(NULL));
    srn__put_string(&a->head, srn_str_of(srn__assigned_shown(a->call, a->r.spec.model->name)));
    srn_buf_addz(&a->head, ",\"system_fingerprint\":");
    srn__put_string(&a->head, srn_str_of(fingerprint));
}

static answer *answer_new(srn__call *c, srn__openai_request *r) {
    answer *a = srn_calloc(1, sizeof *a);
    if (!a) return NULL;
    srn__call_hold(c);
    a->call = c;
    a->r = *r; /* from here on, whatever r held is the answer's */
    *r = (srn__openai_request){0};
    uint32_t n_jobs = a->r.chat ? 1 : a->r.n_prompts;
    srn_buf_init(&a->head, 4096);
    a->jobs = srn_calloc(n_jobs, sizeof(srn__job *));
    a->choices = srn_calloc((size_t)n_jobs * a->r.spec.n, sizeof *a->choices);
    if (!a->jobs || !a->choices) {
        answer_free(a);
        return NULL;
    }
    a->n_choices = n_jobs * a->r.spec.n;
    for (uint32_t i = 0; i < a->n_choices; i++) {
        choice *h = &a->choices[i];
        srn_buf_init(&h->content, MAX_BODY);
        srn_buf_init(&h->reasoning, MAX_BODY);
        srn_buf_init(&h->ranges, MAX_BODY);
        srn__lists_init(&h->lists);
        h->last = SRN__JOB_TEXT;
    }
    write_head(a);
    return a;
}

/* What the queue could never hold is not told to come again. */
static int check_queue(const answer *a, uint32_t n_jobs, const char **ret_param, srn_err *err) {
    uint32_t n = a->r.spec.n, queue = srn__call_config(a->call)->limits.queue;
    if ((uint64_t)n_jobs * n <= queue) return SRN_OK;
    *ret_param = n_jobs > 1 ? "prompt" : "n";
    return srn_fail(err, SRN_ELIMIT,
                    "%u prompt%s with %u answer%s each ask for %llu answers, and the queue holds %u; send "
                    "fewer at once, or let the server queue more (--limit queue=N)",
                    n_jobs, n_jobs > 1 ? "s" : "", n, n > 1 ? "s" : "", (unsigned long long)n_jobs * n,
                    queue);
}

static int start_jobs(answer *a, const char **ret_param, srn_err *err) {
    uint32_t n_jobs = a->r.chat ? 1 : a->r.n_prompts;
    int code = check_queue(a, n_jobs, ret_param, err);
    if (!code) code = srn__job_headers(a->call, &a->r.spec, err);
    for (uint32_t j = 0; !code && j < n_jobs; j++) {
        if (!a->r.chat) {
            const srn__openai_prompt *p = &a->r.prompts[j];
            a->r.spec.text = p->text;
            a->r.spec.tokens = p->tokens;
            a->r.spec.n_tokens = p->n_tokens;
        }
        code = srn__job_start(a->call, &a->r.spec, &a->jobs[j], ret_param, err);
        if (!code) a->n_jobs++;
    }
    return code;
}

void srn__openai_answer(srn__call *c, srn__openai_request *r, const srn_config_route *route) {
    static const srn__source_ops ops = {pull, cancel, answer_free};
    srn_err err = {0};
    const char *param = NULL;
    if (srn__job_apply_route(c, &r->spec, route, &param, &err)) {
        srn__call_fail_err(c, param, &err);
        srn__served_put(r->spec.model);
        return;
    }
    srn__served *model = r->spec.model;
    answer *a = answer_new(c, r);
    if (!a) {
        if (r->spec.model) srn__served_put(model);
        srn_fail_nomem(&err, sizeof *a);
        srn__call_fail_err(c, NULL, &err);
        return;
    }
    if (start_jobs(a, &param, &err)) {
        srn__call_fail_err(c, param, &err);
        answer_free(a);
        return;
    }
    srn__call_reply_source(c, a->r.stream, "application/json", &ops, a);
}
