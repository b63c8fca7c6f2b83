/* serin regress: another build of serin that answers for a side. It runs as a child process, and both say
 * lines of JSON (serve/side.h). Workers ask, each waiting for its own answer; a reader thread takes what the
 * child says. A child that ends, falls silent while somebody waits, or says what is no line of the protocol
 * is killed, and everybody is told why.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/regress.h"
#include "serve/side.h"

enum { READ_BYTES = 1 << 16, MAX_PROGRAM = 1 << 30 };

/* Somebody who waits for an answer. */
typedef struct slot {
    struct slot *next;
    uint32_t id;
    bool done;
    srn_side_reply reply;
} slot;

typedef struct program {
    srn_answerer answerer; /* first */
    srn_ids ids;
    char kv[16], name[256];
    pid_t pid;
    int to, from;
    uint32_t patience_s;
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t write; /* one line at a time */
    pthread_mutex_t lock;  /* guards all below */
    pthread_cond_t changed;
    slot *slots;
    uint32_t last_id;
    uint64_t heard_us; /* when it last said something, or was first asked since */
    bool spoke, dead, closing;
    srn_err why; /* of dead */
} program;

/* ---- the reader ---- */

/* Under the lock. */
static void give_up(program *p, const srn_err *why) {
    if (p->dead) return;
    p->dead = true;
    p->why = *why;
    if (!p->closing) kill(-p->pid, SIGKILL);
    pthread_cond_broadcast(&p->changed);
}

static int check_order(const program *p, const srn_side_reply *r, srn_err *err) {
    if (p->spoke == (r->kind == SRN_SIDE_HELLO))
        return srn_fail(err, SRN_EFORMAT, "%s", p->spoke ? "it greets twice" : "it does not greet");
    return SRN_OK;
}

/* Takes the line's content, or leaves it. Under the lock. */
static int dispatch(program *p, srn_side_reply *r, srn_err *err) {
    int code = check_order(p, r, err);
    if (code || r->kind == SRN_SIDE_PROGRESS) return code;
    if (r->kind == SRN_SIDE_HELLO) return p->spoke = true, SRN_OK;
    slot *s = p->slots;
    while (s && (s->id != r->id || s->done)) s = s->next;
    if (!s) return srn_fail(err, SRN_EFORMAT, "it answers what nobody asked");
    s->reply = *r;
    s->reply.ids.kv = s->reply.kv;
    *r = (srn_side_reply){0};
    s->done = true;
    pthread_cond_broadcast(&p->changed);
    return SRN_OK;
}

static bool take_line(program *p, srn_str line) {
    srn_side_reply r = {0};
    srn_err err = {0}, why = {0};
    int code = srn_side_read_reply(line, &r, &err);
    pthread_mutex_lock(&p->lock);
    if (!code && r.kind == SRN_SIDE_PROGRESS && p->spoke) srn_cli_progress(NULL, r.what, r.done, r.total);
    if (!code) code = dispatch(p, &r, &err);
    if (code) {
        srn_fail(&why, SRN_EFORMAT,
                 "the program %s does not answer as a side of serin regress: %.200s; it begins '%.*s'",
                 p->name, err.text, (int)SRN_MIN(line.len, (size_t)60), line.ptr);
        give_up(p, &why);
    }
    p->heard_us = srn_now_us();
    pthread_mutex_unlock(&p->lock);
    srn_side_reply_done(&r);
    return !code;
}

/* Waits until there is something to read; false: it was silent for too long while somebody waits. */
static bool wait_readable(program *p) {
    for (;;) {
        struct pollfd fd = {p->from, POLLIN, 0};
        int n = poll(&fd, 1, 200);
        if (n > 0) return true;
        pthread_mutex_lock(&p->lock);
        uint64_t silent_us = p->slots ? srn_now_us() - p->heard_us : 0;
        bool late = silent_us > (uint64_t)p->patience_s * 1000000;
        if (late) {
            srn_err why = {0};
            srn_fail(
                &why, SRN_ETIMEOUT,
                "the program %s said nothing for %u s and was ended; --patience SECONDS gives it more time",
                p->name, p->patience_s);
            give_up(p, &why);
        }
        pthread_mutex_unlock(&p->lock);
        if (late) return false;
    }
}

/* It says no more: how it ended, unless that was asked of it. */
static void tell_end(program *p) {
    srn_err why = {0};
    char how[48] = "stopped to speak";
    pthread_mutex_lock(&p->lock);
    bool known = p->dead || p->closing;
    pthread_mutex_unlock(&p->lock);
    int status = known ? 0 : srn__regress_peek(p->pid);
    if (status > 128)
        snprintf(how, sizeof how, "was ended by signal %d", status - 128);
    else if (status >= 0)
        snprintf(how, sizeof how, "ended with status %d", status);
    srn_fail(&why, SRN_EIO, "the program %s %s before it had answered%s", p->name, how,
             p->spoke ? "" : "; is it a serin whose regress has --as-side?");
    pthread_mutex_lock(&p->lock);
    give_up(p, &why);
    pthread_mutex_unlock(&p->lock);
}

static void *read_lines(void *ctx) {
    program *p = ctx;
    srn_buf b;
    srn_buf_init(&b, SRN_SIDE_LINE + READ_BYTES);
    bool good = true;
    char *piece = srn_calloc(1, READ_BYTES);
    while (good && piece && wait_readable(p)) {
        ssize_t n = read(p->from, piece, READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        size_t seen = b.len, at = 0;
        srn_buf_add(&b, piece, (size_t)n);
        for (const char *end; good && b.data && (end = memchr(b.data + seen, '\n', b.len - seen));
             seen = at) {
            size_t next = (size_t)(end - b.data) + 1;
            good = take_line(p, (srn_str){b.data + at, next - 1 - at});
            at = next;
        }
        if (at) memmove(b.data, b.data + at, b.len - at);
        b.len -= at;
        if (b.failed) good = take_line(p, (srn_str){"a line of more than 64 MiB", SRN_SIDE_LINE + (size_t)1});
    }
    srn_buf_done(&b);
    free(piece);
    tell_end(p);
    return NULL;
}

/* ---- asking ---- */

/* The child is gone, or will be; a short write is its end too. */
static void write_all(program *p, const srn_buf *b) {
    pthread_mutex_lock(&p->write);
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(p->to, b->data + at, b->len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += (size_t)n;
    }
    pthread_mutex_unlock(&p->write);
}

static uint32_t enter(program *p, slot *s, bool opens) {
    pthread_mutex_lock(&p->lock);
    *s = (slot){.next = p->slots, .id = opens ? 0 : ++p->last_id};
    if (!p->slots) p->heard_us = srn_now_us();
    p->slots = s;
    pthread_mutex_unlock(&p->lock);
    return s->id;
}

/* What it said makes no sense: it is not asked again. */
static int distrust(program *p, const char *what, srn_err *err) {
    int code = srn_fail(err, SRN_EFORMAT, "the program %s %s", p->name, what);
    pthread_mutex_lock(&p->lock);
    give_up(p, err);
    pthread_mutex_unlock(&p->lock);
    return code;
}

/* Says the line and waits for what is wanted; s->reply is the caller's to be done with. */
static int ask(program *p, slot *s, srn_buf *line, srn_side_kind wanted, srn_err *err) {
    bool failed = line->failed;
    if (!failed) write_all(p, line);
    srn_buf_done(line);
    pthread_mutex_lock(&p->lock);
    while (!s->done && !p->dead && !failed) pthread_cond_wait(&p->changed, &p->lock);
    for (slot **at = &p->slots; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    int code = failed ? srn_fail_nomem(err, 1024) : SRN_OK;
    if (!code && !s->done) *err = p->why, code = p->why.code;
    pthread_mutex_unlock(&p->lock);
    if (!code && s->reply.kind == SRN_SIDE_FAILED) *err = s->reply.err, code = s->reply.err.code;
    if (!code && s->reply.kind != wanted)
        code =
            srn_fail(err, SRN_EFORMAT, "the program %s answered something else than it was asked", p->name);
    return code;
}

static bool are_tokens(const int32_t *ids, uint32_t n, uint32_t n_vocab) {
    for (uint32_t i = 0; i < n; i++)
        if ((uint32_t)ids[i] >= n_vocab) return false;
    return true;
}

static int answer(srn_answerer *a, const srn_replay_ask *what, srn_replay_answer *ret, srn_err *err) {
    program *p = (program *)a;
    slot s;
    srn_buf line;
    srn_buf_init(&line, (size_t)1 << 30);
    srn_side_put_ask(&line, enter(p, &s, false), what);
    int code = ask(p, &s, &line, SRN_SIDE_ANSWERED, err);
    const srn_replay_answer *r = &s.reply.answer;
    if (!code &&
        (!are_tokens(r->prompt, r->n_prompt, a->n_vocab) || !are_tokens(r->tokens, r->n_tokens, a->n_vocab)))
        code = distrust(p, "answered with a token that there is not", err);
    if (!code) {
        *ret = s.reply.answer;
        s.reply.answer = (srn_replay_answer){0};
    }
    srn_side_reply_done(&s.reply);
    return code;
}

static int rows(srn_answerer *a, const int32_t *tokens, uint32_t n, uint32_t n_rows, float *ret,
                srn_err *err) {
    program *p = (program *)a;
    slot s;
    srn_buf line;
    srn_buf_init(&line, (size_t)1 << 30);
    srn_side_put_rows(&line, enter(p, &s, false), tokens, n, n_rows);
    int code = ask(p, &s, &line, SRN_SIDE_ROWS_OF, err);
    if (!code && s.reply.n_values != (uint64_t)n_rows * a->n_vocab)
        code = distrust(p, "gave another number of logits than it was asked for", err);
    if (!code) memcpy(ret, s.reply.rows, (size_t)s.reply.n_values * sizeof *ret);
    srn_side_reply_done(&s.reply);
    return code;
}

static int check(srn_answerer *a, srn_err *err) {
    program *p = (program *)a;
    pthread_mutex_lock(&p->lock);
    int code = p->dead ? p->why.code : SRN_OK;
    if (code) *err = p->why;
    pthread_mutex_unlock(&p->lock);
    return code;
}

/* ---- life ---- */

static void cancel(srn_answerer *a) {
    program *p = (program *)a;
    srn_err why = {0};
    srn_fail(&why, SRN_ECANCELLED, "it was cancelled");
    pthread_mutex_lock(&p->lock);
    give_up(p, &why);
    pthread_mutex_unlock(&p->lock);
}

static void close_program(srn_answerer *a) {
    program *p = (program *)a;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_mutex_unlock(&p->lock);
    if (p->to >= 0) close(p->to); /* it ends by itself then, or is ended */
    if (p->pid > 0) srn__regress_reap(p->pid);
    if (p->has_reader) pthread_join(p->reader, NULL);
    if (p->from >= 0) close(p->from);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->write);
    pthread_cond_destroy(&p->changed);
    free(p);
}

static int start(program *p, const srn__program_opts *o, srn_err *err) {
    const char *const argv[] = {o->program, "regress", "--as-side", NULL};
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    if (pipe2(in, O_CLOEXEC)) return srn_fail(err, SRN_EIO, "no pipe can be made: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC)) {
        close(in[0]);
        close(in[1]);
        return srn_fail(err, SRN_EIO, "no pipe can be made: %s", strerror(errno));
    }
    int bad = srn__regress_spawn(argv, in[0], out[1], &p->pid);
    close(in[0]);
    close(out[1]);
    p->to = in[1];
    p->from = out[0];
    if (bad) p->pid = 0;
    if (bad)
        return srn_fail(err, SRN_ENOENT, "the program %s cannot be started: %s", o->program, strerror(bad));
    if (pthread_create(&p->reader, NULL, read_lines, p))
        return srn_fail(err, SRN_ENOMEM, "cannot start a thread for what %s says", o->program);
    p->has_reader = true;
    return SRN_OK;
}

static int greet(program *p, const srn__program_opts *o, srn_err *err) {
    slot s;
    srn_buf line;
    const srn_side_request q = {.model = o->model,
                                .kv = o->kv,
                                .ledger = o->ledger,
                                .keys = o->keys,
                                .threads = o->threads,
                                .ctx = o->ctx,
                                .parallel = SRN_REGRESS_WORKERS};
    srn_buf_init(&line, 1 << 20);
    srn_side_put_open(&line, &q);
    enter(p, &s, true);
    int code = ask(p, &s, &line, SRN_SIDE_OPENED, err);
    if (!code) {
        p->ids = s.reply.ids;
        snprintf(p->kv, sizeof p->kv, "%s", s.reply.kv);
        p->ids.kv = p->kv;
        p->answerer.ids = &p->ids;
        p->answerer.n_vocab = s.reply.n_vocab;
    }
    srn_side_reply_done(&s.reply);
    return code;
}

int srn__program_open(const srn__program_opts *o, srn_answerer **ret, srn_err *err) {
    program *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    p->to = p->from = -1;
    p->patience_s = o->patience_s;
    p->answerer.answer = answer;
    p->answerer.rows = rows;
    p->answerer.check = check;
    p->answerer.cancel = cancel;
    p->answerer.close = close_program;
    snprintf(p->name, sizeof p->name, "%s", o->program);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->write, NULL);
    pthread_cond_init(&p->changed, NULL);
    int code = start(p, o, err);
    if (!code) code = greet(p, o, err);
    if (code) {
        close_program(&p->answerer);
        return code;
    }
    *ret = &p->answerer;
    return SRN_OK;
}

int srn__program_id(const char *file, char ret[65], srn_err *err) {
    char *bytes;
    size_t len;
    uint8_t digest[SRN_SHA256_BYTES];
    int code = srn_read_file(file ? file : "/proc/self/exe", MAX_PROGRAM, &bytes, &len, err);
    if (code) return code;
    srn_sha256 *h = srn_sha256_new();
    if (h) {
        srn_sha256_add(h, bytes, len);
        srn_sha256_end(h, digest);
        srn_hex(digest, sizeof digest, ret);
    }
    free(bytes);
    return h ? SRN_OK : srn_fail_nomem(err, 256);
}
