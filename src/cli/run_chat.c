/* serin run: the conversation on a terminal. Owns the messages; a turn that fails is taken back, so that the
 * conversation stays one that can go on. Lines that begin with a slash are commands. Main thread.
 */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* A Ctrl-C this soon after an answer ended was meant for the answer. */
#define LATE_US 700000u

typedef struct chat {
    srn__run *r;
    srn__editor *editor;
    json_t *messages; /* where plain text is completed: the last text only */
    char *system;     /* NULL: none of ours */
    uint64_t ended_us;
    bool cancelled, leave; /* the last answer was; /quit was typed */
    int exit_code;
} chat;

/* ---- turns ---- */

static size_t count(const chat *c) {
    return json_array_size(c->messages);
}

static const char *role_of_last(const chat *c) {
    json_t *last = count(c) ? json_array_get(c->messages, count(c) - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    return role ? role : "";
}

static void take_back(chat *c, const char *role) {
    if (strcmp(role_of_last(c), role) == 0) json_array_remove(c->messages, count(c) - 1);
}

static int make_tokens(chat *c, srn_tokens *ret, bool *ret_thinking, srn_err *err) {
    if (c->r->chat) return srn__run_chat_tokens(c->r, c->messages, ret, ret_thinking, err);
    json_t *content = json_object_get(json_array_get(c->messages, 0), "content");
    return srn__run_plain_tokens(c->r, (srn_str){json_string_value(content), json_string_length(content)},
                                 ret, err);
}

/* What was answered joins the conversation; nothing answered takes the question back. */
static int keep(chat *c, const srn__answer *a, srn_err *err) {
    c->ended_us = srn_now_us();
    c->cancelled = a->g.finish == SRN_FINISH_CANCELLED;
    if (a->text.len == 0 && c->cancelled) return take_back(c, "user"), SRN_OK;
    return srn__run_say(c->messages, "assistant", (srn_str){a->text.data ? a->text.data : "", a->text.len},
                        err);
}

/* Answers the messages, of which the last is the user's. */
static void answer(chat *c) {
    srn_tokens tokens = {0};
    bool thinking = false;
    srn_err err = {0};
    srn__answer a = {0};
    int code = make_tokens(c, &tokens, &thinking, &err);
    if (!code) code = srn__run_answer(c->r, &tokens, thinking, &a, &err);
    if (!code) code = keep(c, &a, &err);
    if (!code) {
        srn__run_figures(c->r, &a);
    } else {
        int exit_code = srn_cli_error("run", &err);
        take_back(c, "user");
        if (code == SRN_ECONTEXT) fprintf(stderr, "/reset begins a new conversation\n");
        if (code == SRN_EIO) c->leave = true, c->exit_code = exit_code;
    }
    srn__answer_done(&a);
    srn_tokens_done(&tokens);
}

static void say_and_answer(chat *c, srn_str text) {
    srn_err err = {0};
    if (!c->r->chat) json_array_clear(c->messages);
    if (srn__run_say(c->messages, "user", text, &err))
        srn_cli_error("run", &err);
    else
        answer(c);
}

/* ---- commands ---- */

static void begin_anew(chat *c) {
    json_t *fresh = srn__run_conversation(c->system);
    if (!fresh) return;
    json_decref(c->messages);
    c->messages = fresh;
}

static void cmd_reset(chat *c, const char *rest) {
    (void)rest;
    begin_anew(c);
    fprintf(stderr, "a new conversation\n");
}

static void cmd_system(chat *c, const char *rest) {
    if (!c->r->chat) {
        fprintf(stderr, "there is no chat template here, so there is no system message\n");
        return;
    }
    free(c->system);
    c->system = *rest ? srn_strndup(rest, strlen(rest)) : NULL;
    begin_anew(c);
    fprintf(stderr, c->system ? "a new conversation with this system message\n"
                              : "a new conversation without a system message of yours\n");
}

static void cmd_regen(chat *c, const char *rest) {
    (void)rest;
    bool answered = strcmp(role_of_last(c), "assistant") == 0;
    if (!answered) {
        fprintf(stderr, "there is no answer yet\n");
    } else if (c->r->sampling.temperature <= 0) {
        fprintf(stderr, "at temperature 0 the answer would be the same\n");
    } else {
        take_back(c, "assistant");
        c->r->sampling.seed++;
        answer(c);
    }
}

static void cmd_save(chat *c, const char *rest) {
    if (!*rest) {
        fprintf(stderr, "/save FILE writes the conversation as JSON; say which file\n");
        return;
    }
    int fd = open(rest, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) {
        fprintf(stderr, "%s: %s\n", rest,
                errno == EEXIST ? "exists already; choose another name" : strerror(errno));
        if (fd >= 0) close(fd);
        return;
    }
    bool bad = json_dumpf(c->messages, f, JSON_INDENT(2)) != 0;
    bad = fputc('\n', f) == EOF || bad;
    bad = fclose(f) != 0 || bad;
    fprintf(stderr, bad ? "%s could not be written whole: %s\n" : "%s: written\n", rest, strerror(errno));
}

static void cmd_quit(chat *c, const char *rest) {
    (void)rest;
    c->leave = true;
}

static void cmd_help(chat *c, const char *rest);

static const struct {
    const char *name, *argument;
    void (*run)(chat *c, const char *rest);
    const char *help;
} commands[] = {
    {"help", "", cmd_help, "this list"},
    {"reset", "", cmd_reset, "begin a new conversation"},
    {"system", "TEXT", cmd_system, "begin a new one with this system message"},
    {"regen", "", cmd_regen, "answer the last question again, with the next seed"},
    {"save", "FILE", cmd_save, "write the conversation as JSON, for `serin template --messages`"},
    {"quit", "", cmd_quit, "leave, as Ctrl-D does"},
};

static void cmd_help(chat *c, const char *rest) {
    (void)c, (void)rest;
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        fprintf(stderr, "  /%-6s %-5s %s\n", commands[i].name, commands[i].argument, commands[i].help);
    fprintf(stderr, "  //...         a text that begins with a slash\n"
                    "A backslash at a line's end goes on in the next line. Ctrl-C stops an answer.\n");
}

static void run_command(chat *c, const char *line) {
    size_t n = strcspn(line, " \t\n");
    const char *rest = line + n + strspn(line + n, " \t\n");
    for (size_t i = 0; i < SRN_LEN(commands); i++)
        if (strlen(commands[i].name) == n && memcmp(commands[i].name, line, n) == 0) {
            commands[i].run(c, rest);
            return;
        }
    fprintf(stderr,
            "there is no command /%.*s; /help lists them, and // sends a text that begins with a slash\n",
            (int)n, line);
}

/* ---- the loop ---- */

static void take_text(chat *c, const srn_buf *line) {
    srn_str text = {line->data, line->len};
    if (line->failed) {
        fprintf(stderr, "that was too long\n");
    } else if (line->data[0] == '/' && line->data[1] != '/') {
        run_command(c, line->data + 1);
    } else if (strspn(line->data, " \t\r\n") < line->len) {
        if (line->data[0] == '/') text.ptr++, text.len--;
        say_and_answer(c, text);
    }
}

static void loop(chat *c) {
    srn_buf line;
    srn_buf_init(&line, (size_t)1 << 24);
    while (!c->leave) {
        switch (srn__editor_read(c->editor, &line)) {
        case SRN__LINE_TEXT:
            if (line.len || line.failed) take_text(c, &line);
            break;
        case SRN__LINE_INTERRUPT:
            if (!c->cancelled && c->ended_us && srn_now_us() - c->ended_us < LATE_US) break;
            c->exit_code = 130;
            c->leave = true;
            break;
        case SRN__LINE_EOF:
            c->leave = true;
        }
    }
    srn_buf_done(&line);
}

static void greet(const srn__run *r) {
    const char *slash = strrchr(r->path, '/');
    if (r->quiet) return;
    fprintf(stderr, "%s, a context of %" PRIu32 " tokens%s. /help lists the commands, Ctrl-D leaves.\n",
            slash ? slash + 1 : r->path, srn_engine_get_info(r->engine).n_ctx,
            r->chat ? "" : "; each text is completed by itself");
}

int srn__run_chat(srn__run *r) {
    srn_err err = {0};
    chat c = {.r = r, .system = r->system ? srn_strndup(r->system, strlen(r->system)) : NULL};
    c.messages = srn__run_conversation(c.system);
    int code = c.messages ? srn__editor_new(&c.editor, &err) : srn_fail_nomem(&err, 64);
    if (code) {
        c.exit_code = srn_cli_error("run", &err);
    } else {
        signal(SIGINT, SIG_IGN); /* but in answers, and where the editor reads Ctrl-C as a key */
        greet(r);
        loop(&c);
        signal(SIGINT, SIG_DFL);
    }
    srn__editor_free(c.editor);
    json_decref(c.messages);
    free(c.system);
    return c.exit_code ? c.exit_code : srn_cli_flush("run");
}
