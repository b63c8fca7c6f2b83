/* serin run: what its files share. run.c reads the command line and opens the model, run_prompt.c makes
 * tokens of prompts and conversations, run_sampling.c says how tokens are drawn, run_answer.c generates and
 * streams, run_screen.c is what a terminal shows, run_json.c the JSON object, run_chat.c the conversation on
 * a terminal, run_line.c its line editor. Main thread.
 */
#ifndef SRN_CLI_RUN_H
#define SRN_CLI_RUN_H

#include <jansson.h>

#include "chat/chat.h"
#include "cli/cli.h"
#include "engine/engine.h"

typedef struct srn__run {
    /* the command line */
    const char *text, *prompt_file, *system, *kv;
    bool raw, special, json, quiet;
    int64_t max_tokens, ctx, threads; /* max_tokens 0: no limit */
    srn_str_list set;
    int64_t top_k, repeat_last_n, dry_allowed_length, dry_last_n, seed; /* seed -1: none */
    double temperature, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
    double dry_multiplier, dry_base;
    srn_str_list logit_bias, dry_breaker, stop;
    const char *schema, *regex, *gbnf;
    /* what is open */
    char path[4096];
    json_t *vars; /* --set, or NULL */
    char *prompt; /* of one answer; NULL in a chat */
    size_t prompt_len;
    srn_engine *engine;
    srn_session *session;
    const srn_vocab *vocab;     /* the engine's */
    srn_template *chat;         /* NULL: plain text is completed */
    srn_tokens prompt_tokens;   /* of one answer */
    bool thinking;              /* the prompt ends inside <think> */
    srn_sampling sampling;      /* its lists are ours */
    srn_str *stops;             /* [stop.n] */
    srn_constraint *constraint; /* with trie, or NULL */
    srn_token_trie *trie;
    uint64_t started_us, load_us;
} srn__run;

/* ---- run_sampling.c ---- */

#define SRN__RUN_SAMPLING_OPTS 24
/* Writes the rows of the options; returns how many. */
size_t srn__run_sampling_opts(srn__run *r, srn_opt *ret);
void srn__run_sampling_defaults(srn__run *r);
/* r->sampling, the stops and the constraint from the options; before the model is opened. */
int srn__run_check_sampling(srn__run *r, srn_err *err);
/* What needs the vocabulary. */
int srn__run_bind_sampling(srn__run *r, srn_err *err);
void srn__run_sampling_done(srn__run *r);

/* ---- run_prompt.c ---- */

/* Reads the one prompt from -p, a file or standard input into r->prompt; it stays NULL for a chat. */
int srn__run_read_prompt(srn__run *r, const char *operand, srn_err *err);
/* Takes the vocabulary and the chat template (r->chat stays NULL where plain text is completed); refuses
 * options that need a template where there is none. */
int srn__run_open_template(srn__run *r, srn_engine *e, srn_err *err);
/* A conversation [{role, content}], with the system message where there is one. NULL when memory ran out. */
json_t *srn__run_conversation(const char *system);
/* Appends a message; what is not UTF-8 in text becomes U+FFFD. */
int srn__run_say(json_t *messages, const char *role, srn_str text, srn_err *err);
/* Appends the tokens of a conversation, or of a plain text. *ret_thinking: the prompt ends inside <think>. */
int srn__run_chat_tokens(const srn__run *r, const json_t *messages, srn_tokens *ret, bool *ret_thinking,
                         srn_err *err);
int srn__run_plain_tokens(const srn__run *r, srn_str text, srn_tokens *ret, srn_err *err);

/* ---- run_screen.c ---- */

/* A stream of text on its way to standard output. A pipe gets the bytes as they are; on a terminal, control
 * characters become U+FFFD (a model must not steer the terminal) and what stands between <think> and </think>
 * is dim. */
typedef struct srn__screen {
    bool terminal, colour, thinking;
    unsigned n_held; /* bytes of the awaited tag seen so far */
    char last;       /* last byte written */
} srn__screen;
void srn__screen_init(srn__screen *s, bool thinking);
/* Writes and flushes; false when standard output takes no more. text holds whole characters. */
bool srn__screen_add(srn__screen *s, srn_str text);
bool srn__screen_end(srn__screen *s); /* ends the line and the dimness */
/* Starts and ends dim text on a stream, if it is a terminal that shows colour. */
void srn__dim(FILE *f, bool on);

/* ---- run_answer.c ---- */

typedef struct srn__answer {
    srn_buf text;      /* UTF-8 */
    srn_tokens tokens; /* without the one that ended it */
    srn_generation g;
    int32_t stop; /* index of the stop text that ended it, or -1 */
} srn__answer;
void srn__answer_done(srn__answer *a);
/* Generates, and streams to standard output unless --json was given. Ctrl-C ends the answer
 * (SRN_FINISH_CANCELLED); a second one ends the process. */
int srn__run_answer(srn__run *r, const srn_tokens *prompt, bool thinking, srn__answer *ret, srn_err *err);
/* The line of figures on standard error, unless --quiet. */
void srn__run_figures(const srn__run *r, const srn__answer *a);
/* Tokens per second; 0 where nothing was timed. */
double srn__run_prompt_rate(const srn_generation *g);
double srn__run_output_rate(const srn_generation *g);

/* ---- run_json.c ---- */
int srn__run_print_json(const srn__run *r, const srn__answer *a, srn_err *err);

/* ---- run_line.c ---- */

/* The line editor of a chat: editing keys, a history that outlives the process, pasted text as one line. */
typedef struct srn__editor srn__editor;
typedef enum srn__line { SRN__LINE_TEXT, SRN__LINE_EOF, SRN__LINE_INTERRUPT } srn__line;
/* The terminal must be standard input. */
int srn__editor_new(srn__editor **ret, srn_err *err);
void srn__editor_free(srn__editor *e); /* saves the history */
/* Reads a text, which a backslash at a line's end continues, without its last line break. INTERRUPT: Ctrl-C
 * on an empty line (on another one it empties the line). The terminal is as it was when this returns. */
srn__line srn__editor_read(srn__editor *e, srn_buf *ret);

/* ---- run_chat.c ---- */

/* Turns until the person leaves; returns the exit code. */
int srn__run_chat(srn__run *r);

#endif
