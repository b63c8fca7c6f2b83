/* serin run: the line editor of a chat, over libedit. Owns the history file, which only its user may read
 * (lines that begin with a space are not kept). The terminal is in the editor's mode only while a line is
 * read.
 */
#include "cli/run.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { HISTORY_LINES = 500, MAX_LINE_BYTES = 1 << 24, MAX_PASTE = 1 << 20 };

struct srn__editor {
    EditLine *el;
    History *history;
    FILE *out;
    bool continued, interrupted;
    bool brackets; /* the terminal is asked to mark pasted text */
    char history_path[4096];
};

static srn__editor *editor_of(EditLine *el) {
    void *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return e;
}

/* ---- what keys do ---- */

/* libedit wants char *, and reads only. */
static char *prompt(EditLine *el) {
    static char first[] = "> ", next[] = ". ";
    return editor_of(el)->continued ? next : first;
}

static unsigned char on_interrupt(EditLine *el, int key) {
    (void)key;
    editor_of(el)->interrupted = true;
    return CC_NEWLINE;
}

/* libedit's handler for the signal gives the terminal back first. */
static unsigned char on_suspend(EditLine *el, int key) {
    (void)el, (void)key;
    raise(SIGTSTP);
    return CC_REFRESH;
}

/* Between ESC [ 200 ~, which brought us here, and ESC [ 201 ~ every character is text, line breaks too. */
static unsigned char on_paste(EditLine *el, int key) {
    static const wchar_t end[] = L"\033[201~";
    const size_t n_end = SRN_LEN(end) - 1;
    (void)key;
    wchar_t *text = srn_calloc(MAX_PASTE + 1, sizeof *text);
    size_t n = 0;
    wchar_t c;
    while (text && n < MAX_PASTE && el_wgetc(el, &c) == 1) {
        if (c == 0) continue;
        text[n++] = c == L'\r' ? L'\n' : c;
        if (n >= n_end && wmemcmp(text + n - n_end, end, n_end) == 0) {
            text[n - n_end] = 0;
            break;
        }
    }
    if (text && text[0]) el_winsertstr(el, text);
    free(text);
    return CC_REFRESH;
}

/* ---- history ---- */

/* Makes the folders above a path; what cannot be made shows when the file is opened. */
static void make_folders(const char *path) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *p = folder + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(folder, 0700);
        *p = '/';
    }
}

static void load_history(srn__editor *e) {
    HistEvent ev;
    e->history = history_init();
    if (!e->history) return;
    history(e->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(e->history, &ev, H_SETUNIQUE, 1);
    el_set(e->el, EL_HIST, history, e->history);
    if (!srn_cache_path("chat-history", e->history_path, sizeof e->history_path)) e->history_path[0] = 0;
    if (e->history_path[0]) history(e->history, &ev, H_LOAD, e->history_path);
}

/* A history that cannot be kept is no reason to trouble anybody. */
static void save_history(srn__editor *e) {
    HistEvent ev;
    if (!e->history || !e->history_path[0]) return;
    if (history(e->history, &ev, H_GETSIZE) < 0 || ev.num == 0) return;
    make_folders(e->history_path);
    int fd = open(e->history_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f) {
        fchmod(fd, 0600);
        history(e->history, &ev, H_SAVE_FP, f);
        fclose(f);
    } else if (fd >= 0) {
        close(fd);
    }
}

/* ---- life ---- */

/* libedit reads characters by the locale; where that knows only ASCII, UTF-8 is the better guess. */
static void use_utf8(void) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
}

int srn__editor_new(srn__editor **ret, srn_err *err) {
    srn__editor *e = srn_calloc(1, sizeof *e);
    if (!e) return srn_fail_nomem(err, sizeof *e);
    const char *term = getenv("TERM");
    use_utf8();
    e->out = isatty(STDOUT_FILENO) ? stdout : stderr;
    e->brackets = term && strcmp(term, "dumb") != 0;
    e->el = el_init("serin", stdin, e->out, stderr);
    if (!e->el) {
        free(e);
        return srn_fail(err, SRN_EIO, "the terminal cannot be used for a chat; give a prompt with -p TEXT");
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT, prompt);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_SIGNAL, 1);
    el_set(e->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key here, and a signal everywhere else */
    /* The wide variant keeps these texts; the other one would keep copies for ever. */
    el_wset(e->el, EL_ADDFN, L"serin-interrupt", L"empty the line, or leave", on_interrupt);
    el_wset(e->el, EL_ADDFN, L"serin-paste", L"take pasted text as it is", on_paste);
    el_wset(e->el, EL_ADDFN, L"serin-suspend", L"stop until the shell goes on with us", on_suspend);
    el_set(e->el, EL_BIND, "^C", "serin-interrupt", NULL);
    el_set(e->el, EL_BIND, "^Z", "serin-suspend", NULL);
    el_set(e->el, EL_BIND, "\\e[200~", "serin-paste", NULL);
    el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    load_history(e);
    *ret = e;
    return SRN_OK;
}

void srn__editor_free(srn__editor *e) {
    if (!e) return;
    save_history(e);
    el_end(e->el);
    if (e->history) history_end(e->history);
    free(e);
}

/* ---- reading ---- */

static void ask_for_brackets(srn__editor *e, bool on) {
    if (!e->brackets) return;
    fputs(on ? "\033[?2004h" : "\033[?2004l", e->out);
    fflush(e->out);
}

/* One line of the terminal; NULL at its end. */
static const char *read_line(srn__editor *e, int *ret_n) {
    e->interrupted = false;
    *ret_n = 0;
    el_set(e->el, EL_PREP_TERM, 1); /* before the prompt shows: a key typed at once is the editor's already */
    ask_for_brackets(e, true);
    el_resize(e->el);
    const char *line = el_gets(e->el, ret_n);
    ask_for_brackets(e, false);
    if (!line || e->interrupted) fputc('\n', e->out);
    fflush(e->out);
    return *ret_n > 0 ? line : NULL;
}

static void remember(srn__editor *e, const srn_buf *text) {
    HistEvent ev;
    if (e->history && text->len && text->data[0] != ' ') history(e->history, &ev, H_ENTER, text->data);
}

srn__line srn__editor_read(srn__editor *e, srn_buf *ret) {
    srn_buf_clear(ret);
    e->continued = false;
    for (;;) {
        int n;
        const char *line = read_line(e, &n);
        if (e->interrupted) {
            if (!line && !e->continued) return SRN__LINE_INTERRUPT;
            srn_buf_clear(ret);
            e->continued = false;
            continue;
        }
        if (!line) return SRN__LINE_EOF;
        size_t len = (size_t)n;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
        e->continued = len && line[len - 1] == '\\';
        srn_buf_add(ret, line, e->continued ? len - 1 : len);
        if (e->continued) srn_buf_addc(ret, '\n');
        if (!e->continued) break;
    }
    remember(e, ret);
    return SRN__LINE_TEXT;
}
