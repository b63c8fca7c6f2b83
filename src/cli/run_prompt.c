/* serin run: from what a person gave to the model's tokens. Text from outside never becomes special tokens,
 * unless --special says so; the chat template's own text does. Refuses an empty prompt, two prompts, and
 * options that need a chat template where none is used.
 */
#include "cli/run.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PROMPT_BYTES = 1 << 28 };

static bool is_blank(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\n' && p[i] != '\r') return false;
    return true;
}

/* A file's or a pipe's last line break ends the text and is no part of it. */
static void drop_line_end(char *p, size_t *n) {
    if (*n && p[*n - 1] == '\n') p[--*n] = 0;
    if (*n && p[*n - 1] == '\r') p[--*n] = 0;
}

int srn__run_read_prompt(srn__run *r, const char *operand, srn_err *err) {
    if (operand && strcmp(operand, "-") != 0)
        return srn_fail(err, SRN_EUSAGE, "what is '%s'? A prompt is given with -p '%s'", operand, operand);
    if ((r->text != NULL) + (r->prompt_file != NULL) + (operand != NULL) > 1)
        return srn_fail(err, SRN_EUSAGE,
                        "there is more than one prompt; give one of -p TEXT, --prompt-file FILE and -");
    bool chat = !r->text && !r->prompt_file && !operand && isatty(STDIN_FILENO);
    if (chat && r->json)
        return srn_fail(err, SRN_EUSAGE,
                        "--json answers one prompt; give it with -p TEXT, --prompt-file FILE or -");
    if (chat) return SRN_OK;
    if (r->text) {
        r->prompt_len = strlen(r->text);
        r->prompt = srn_strndup(r->text, r->prompt_len);
        if (!r->prompt) return srn_fail_nomem(err, r->prompt_len);
    } else {
        int code = srn_read_file(r->prompt_file ? r->prompt_file : "-", MAX_PROMPT_BYTES, &r->prompt,
                                 &r->prompt_len, err);
        if (code) return code;
        drop_line_end(r->prompt, &r->prompt_len);
    }
    if (is_blank(r->prompt, r->prompt_len))
        return srn_fail(err, SRN_EUSAGE,
                        "the prompt is empty; give a text with -p TEXT, --prompt-file FILE or on "
                        "standard input");
    return SRN_OK;
}

/* ---- the template ---- */

static int refuse_chat_options(const srn__run *r, const char *why, srn_err *err) {
    const char *option = r->system ? "--system" : r->set.n ? "--set" : NULL;
    if (!option) return SRN_OK;
    return srn_fail(err, SRN_EUSAGE, "%s is for chat templates, and %s; put such text into the prompt",
                    option, why);
}

int srn__run_open_template(srn__run *r, srn_engine *e, srn_err *err) {
    int code = srn_engine_vocab(e, &r->vocab, err);
    if (code) return code;
    if (r->raw) return refuse_chat_options(r, "--raw uses none", err);
    srn_err why;
    code = srn_template_of(srn_engine_weights(e), false, &r->chat, &why);
    if (code == SRN_OK) return SRN_OK;
    if (code != SRN_ENOENT) {
        *err = why;
        return srn_fail_prefix(err, code, "the chat template of %s (--raw does without)", r->path);
    }
    code = refuse_chat_options(r, "this model's file has none", err);
    if (!code && !r->quiet)
        fprintf(stderr,
                "serin run: %s has no chat template; your text is completed as it stands (--raw: say so "
                "yourself)\n",
                r->path);
    return code;
}

/* ---- conversations ---- */

int srn__run_say(json_t *messages, const char *role, srn_str text, srn_err *err) {
    srn_buf clean;
    srn_buf_init(&clean, 4 * (size_t)MAX_PROMPT_BYTES);
    srn_buf_add(&clean, "", 0);
    for (size_t i = 0, n; i < text.len; i += n) {
        n = srn_utf8_len(text.ptr + i, text.len - i);
        if (n)
            srn_buf_add(&clean, text.ptr + i, n);
        else
            n = 1, srn_buf_addz(&clean, "\xEF\xBF\xBD");
    }
    json_t *content = clean.failed ? NULL : json_stringn(clean.len ? clean.data : "", clean.len);
    srn_buf_done(&clean);
    json_t *message = content ? json_pack("{s:s, s:o}", "role", role, "content", content) : NULL;
    if (!message || json_array_append_new(messages, message)) return srn_fail_nomem(err, text.len);
    return SRN_OK;
}

json_t *srn__run_conversation(const char *system) {
    json_t *messages = json_array();
    if (!messages || !system) return messages;
    if (srn__run_say(messages, "system", srn_str_of(system), NULL) == SRN_OK) return messages;
    json_decref(messages);
    return NULL;
}

/* ---- tokens ---- */

/* A vocabulary that asks for EOS asks for it at the end of a text; a prompt goes on. */
static void drop_eos(const srn__run *r, srn_tokens *t) {
    if (srn_vocab_add_eos(r->vocab) && t->n && t->ids[t->n - 1] == srn_vocab_eos(r->vocab)) t->n--;
}

static bool ends_in_think(const srn_rendered *p) {
    size_t n = p->text.len;
    while (n && (p->text.data[n - 1] == '\n' || p->text.data[n - 1] == ' ')) n--;
    return n >= 7 && memcmp(p->text.data + n - 7, "<think>", 7) == 0 && p->spans[p->n_spans - 1].trusted;
}

int srn__run_chat_tokens(const srn__run *r, const json_t *messages, srn_tokens *ret, bool *ret_thinking,
                         srn_err *err) {
    srn_render_opts o = {.messages = messages,
                         .extra = r->vars,
                         .add_generation_prompt = true,
                         .now_unix = (int64_t)time(NULL)};
    srn_template_specials(srn_engine_weights(r->engine), &o.bos_token, &o.eos_token);
    srn_rendered p = {0};
    int code = srn_template_render(r->chat, &o, &p, err);
    if (code == SRN_EINVAL) srn_fail_prefix(err, code, "the chat template refuses the messages");
    if (!code && p.n_spans == 0) code = srn_fail(err, SRN_EINVAL, "the chat template makes an empty prompt");
    if (!code) code = srn_tokenize(r->vocab, p.spans, p.n_spans, 0, ret, err);
    if (!code) {
        drop_eos(r, ret);
        *ret_thinking = ends_in_think(&p);
    }
    srn_rendered_done(&p);
    return code;
}

int srn__run_plain_tokens(const srn__run *r, srn_str text, srn_tokens *ret, srn_err *err) {
    srn_span span = {text, r->special};
    int code = srn_tokenize(r->vocab, &span, 1, 0, ret, err);
    if (!code) drop_eos(r, ret);
    return code;
}
