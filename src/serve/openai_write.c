/* The OpenAI API: writing JSON straight into a reply's buffer, for it is done for every token of every
 * stream. Pure; listener thread and tests.
 */
#include "serve/openai_internal.h"

void srn__put_string(srn_buf *b, srn_str s) {
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    srn_buf_addc(b, '"');
    for (size_t i = 0; i < s.len;) {
        unsigned char c = (unsigned char)s.ptr[i];
        size_t n = c < 0x80 ? 1 : srn_utf8_len(s.ptr + i, s.len - i);
        if (n && c >= 32 && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        srn_buf_add(b, s.ptr + from, i - from);
        if (n == 0)
            srn_buf_addz(b, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\')
            srn_buf_add(b, (char[]){'\\', (char)c}, 2);
        else if (c == '\n')
            srn_buf_add(b, "\\n", 2);
        else
            srn_buf_add(b, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        from = ++i;
    }
    srn_buf_add(b, s.ptr + from, s.len - from);
    srn_buf_addc(b, '"');
}

json_t *srn__text_json(srn_str s) {
    srn_buf b;
    srn_buf_init(&b, 3 * s.len + 16);
    for (size_t at = 0; at < s.len;) {
        size_t n = srn_utf8_len(s.ptr + at, s.len - at);
        if (n)
            srn_buf_add(&b, s.ptr + at, n);
        else
            srn_buf_addz(&b, "\xEF\xBF\xBD");
        at += n ? n : 1;
    }
    json_t *j = json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return j;
}

void srn__put_logprob(srn_buf *b, float p) {
    if (p > -9999.0f)
        srn_buf_addf(b, "%.9g", (double)p);
    else
        srn_buf_addz(b, "-9999.0");
}

void srn__put_token(srn_buf *b, const srn_vocab *v, int32_t id) {
    srn_buf text;
    srn_buf_init(&text, 1 << 16);
    srn_token_bytes(v, id, true, &text);
    srn__put_string(b, (srn_str){text.data ? text.data : "", text.len});
    srn_buf_done(&text);
}

/* {"token": ..., "logprob": ..., "bytes": [...]; the caller closes it. */
static void put_entry(srn_buf *b, const srn_vocab *v, int32_t id, float logprob) {
    srn_buf text;
    srn_buf_init(&text, 1 << 16);
    srn_token_bytes(v, id, true, &text);
    srn_buf_addz(b, "{\"token\":");
    srn__put_string(b, (srn_str){text.data ? text.data : "", text.len});
    srn_buf_addz(b, ",\"logprob\":");
    srn__put_logprob(b, logprob);
    srn_buf_addz(b, ",\"bytes\":[");
    for (size_t i = 0; i < text.len; i++) srn_buf_addf(b, i ? ",%u" : "%u", (unsigned char)text.data[i]);
    srn_buf_addc(b, ']');
    srn_buf_done(&text);
}

void srn__put_chat_logprobs(srn_buf *b, const srn_vocab *v, const srn_out_token *tokens,
                            const srn_top_token *tops, uint32_t n, uint32_t stride, uint32_t n_top) {
    for (uint32_t i = 0; i < n; i++) {
        if (i) srn_buf_addc(b, ',');
        put_entry(b, v, tokens[i].id, tokens[i].logprob);
        srn_buf_addz(b, ",\"top_logprobs\":[");
        for (uint32_t k = 0; k < n_top; k++) {
            const srn_top_token *t = &tops[(size_t)i * stride + k];
            if (k) srn_buf_addc(b, ',');
            put_entry(b, v, t->id, t->logprob);
            srn_buf_addc(b, '}');
        }
        srn_buf_addz(b, "]}");
    }
}

/* ---- the lists of completions ---- */

enum { MAX_LIST = 256 << 20 };

void srn__lists_init(srn__lists *l) {
    *l = (srn__lists){0};
    srn_buf *bufs[] = {&l->tokens, &l->logprobs, &l->tops, &l->offsets};
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_init(bufs[i], MAX_LIST);
}

void srn__lists_done(srn__lists *l) {
    srn_buf *bufs[] = {&l->tokens, &l->logprobs, &l->tops, &l->offsets};
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_done(bufs[i]);
}

/* Characters: bytes that begin one. */
static uint64_t count_chars(const srn_buf *b) {
    uint64_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += (b->data[i] & 0xC0) != 0x80;
    return n;
}

void srn__lists_add(srn__lists *l, const srn_vocab *v, int32_t id, const float *logprob,
                    const srn_top_token *tops, uint32_t n_top) {
    const char *comma = l->n++ ? "," : "";
    srn_buf text;
    srn_buf_init(&text, 1 << 16);
    srn_token_bytes(v, id, true, &text);
    srn_buf_addz(&l->tokens, comma);
    srn__put_string(&l->tokens, (srn_str){text.data ? text.data : "", text.len});
    srn_buf_addf(&l->offsets, "%s%llu", comma, (unsigned long long)l->chars);
    l->chars += count_chars(&text);
    srn_buf_done(&text);
    srn_buf_addz(&l->logprobs, comma);
    srn_buf_addz(&l->tops, comma);
    if (!logprob) {
        srn_buf_addz(&l->logprobs, "null");
        srn_buf_addz(&l->tops, "null");
        return;
    }
    srn__put_logprob(&l->logprobs, *logprob);
    srn_buf_addc(&l->tops, '{');
    for (uint32_t k = 0; k < n_top; k++) {
        if (k) srn_buf_addc(&l->tops, ',');
        srn__put_token(&l->tops, v, tops[k].id);
        srn_buf_addc(&l->tops, ':');
        srn__put_logprob(&l->tops, tops[k].logprob);
    }
    srn_buf_addc(&l->tops, '}');
}

static void put_list(srn_buf *b, const char *name, srn_buf *list) {
    srn_buf_addf(b, "\"%s\":[", name);
    srn_buf_add(b, list->data ? list->data : "", list->len);
    srn_buf_addc(b, ']');
    srn_buf_clear(list);
}

void srn__lists_put(srn_buf *b, srn__lists *l) {
    srn_buf_addc(b, '{');
    put_list(b, "tokens", &l->tokens);
    srn_buf_addc(b, ',');
    put_list(b, "token_logprobs", &l->logprobs);
    srn_buf_addc(b, ',');
    put_list(b, "top_logprobs", &l->tops);
    srn_buf_addc(b, ',');
    put_list(b, "text_offset", &l->offsets);
    srn_buf_addc(b, '}');
    l->n = 0;
}

/* vLLM's form: for each token of the prompt {"ID": {"logprob", "rank", "decoded_token"}}, the token itself
 * and the most likely ones; null for the first. The rank of a token that is not among these is null. */
void srn__put_prompt_logprobs(srn_buf *b, const srn_vocab *v, const int32_t *ids, const float *logprobs,
                              const srn_top_token *tops, uint32_t n, uint32_t stride, uint32_t n_top) {
    srn_buf_addz(b, "[null");
    for (uint32_t i = 1; i < n; i++) {
        uint32_t rank = 0;
        srn_buf_addz(b, ",{");
        for (uint32_t k = 0; k < n_top; k++) {
            const srn_top_token *t = &tops[(size_t)i * stride + k];
            if (t->id == ids[i]) rank = k + 1;
            srn_buf_addf(b, "%s\"%d\":{\"logprob\":", k ? "," : "", t->id);
            srn__put_logprob(b, t->logprob);
            srn_buf_addf(b, ",\"rank\":%u,\"decoded_token\":", k + 1);
            srn__put_token(b, v, t->id);
            srn_buf_addc(b, '}');
        }
        if (!rank) {
            srn_buf_addf(b, "%s\"%d\":{\"logprob\":", n_top ? "," : "", ids[i]);
            srn__put_logprob(b, logprobs[i]);
            srn_buf_addz(b, ",\"rank\":null,\"decoded_token\":");
            srn__put_token(b, v, ids[i]);
            srn_buf_addc(b, '}');
        }
        srn_buf_addc(b, '}');
    }
    srn_buf_addc(b, ']');
}

void srn__put_usage(srn_buf *b, const srn__job_usage *u) {
    srn_buf_addf(b,
                 "{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":%u},"
                 "\"completion_tokens_details\":{\"reasoning_tokens\":%u}}",
                 u->prompt_tokens, u->output_tokens, u->prompt_tokens + u->output_tokens, u->cached_tokens,
                 u->reasoning_tokens);
}
