/* serin serve: the server as a command. Flags are laid over serin.yaml, then everything is checked before a
 * model is loaded. The main thread starts the server and waits for its end; a second one takes the signals:
 * SIGHUP reads the configuration again, SIGTERM and SIGINT stop with grace, a second one ends the grace.
 */
#include "cli/serve.h"

#include <errno.h>
#include <jansson.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef struct serve {
    srn__serve_flags flags;
    srn_config config;
    sigset_t signals;
    pthread_t watcher;
    pthread_mutex_t lock; /* guards server, stopping */
    srn_server *server;   /* NULL: not yet, or no more */
    bool stopping;
    sem_t stop; /* posted by the first signal that says so */
} serve;

/* ---- the log ---- */

/* One write for each line, so that lines of several threads never mix. */
static void log_line(void *ctx, const char *line) {
    (void)ctx;
    struct iovec v[2] = {{(void *)(uintptr_t)line, strlen(line)}, {(void *)(uintptr_t) "\n", 1}};
    (void)!writev(STDERR_FILENO, v, 2);
}

/* ---- signals ---- */

/* As if nobody had caught it. */
static void die_of(int sig) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, sig);
    sigaction(sig, &plain, NULL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(sig);
}

/* The first says stop, the second hurry, the third is not waited for. */
static void on_stop_signal(serve *s, int sig, int *n_seen) {
    pthread_mutex_lock(&s->lock);
    bool loaded = s->server != NULL;
    s->stopping = true;
    ++*n_seen;
    if (loaded && *n_seen == 2) srn_server_hurry(s->server);
    pthread_mutex_unlock(&s->lock);
    if (!loaded || *n_seen > 2) die_of(sig);
    if (*n_seen == 1) sem_post(&s->stop);
}

static void on_reload_signal(serve *s) {
    pthread_mutex_lock(&s->lock);
    if (s->server && !s->stopping) {
        srn__notify_reloading();
        srn_server_reload(s->server); /* reloaded tells of its end */
    }
    pthread_mutex_unlock(&s->lock);
}

static void ping_watchdog(serve *s) {
    pthread_mutex_lock(&s->lock);
    if (s->server && srn_server_alive(s->server)) srn__notify("WATCHDOG=1");
    pthread_mutex_unlock(&s->lock);
}

static void *watch_signals(void *p) {
    serve *s = p;
    int n_stop = 0;
    uint64_t ping_us = srn__notify_watchdog_us() / 2;
    struct timespec wait = {(time_t)(ping_us / 1000000), (long)(ping_us % 1000000) * 1000};
    for (;;) {
        int sig = ping_us ? sigtimedwait(&s->signals, NULL, &wait) : sigwaitinfo(&s->signals, NULL);
        if (sig < 0 && errno == EAGAIN) ping_watchdog(s);
        if (sig == SIGUSR1) return NULL; /* main has ended the server */
        if (sig == SIGHUP) on_reload_signal(s);
        if (sig == SIGTERM || sig == SIGINT) on_stop_signal(s, sig, &n_stop);
    }
}

/* Before any other thread is there, so that all of them leave signals alone. */
static int take_signals(serve *s, srn_err *err) {
    sigemptyset(&s->signals);
    const int which[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < SRN_LEN(which); i++) sigaddset(&s->signals, which[i]);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    /* A limit on the size of files is an error of the write, and no end of the server. */
    sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    int e = pthread_create(&s->watcher, NULL, watch_signals, s);
    return e ? srn_fail(err, SRN_ENOMEM, "cannot start a thread: %s", strerror(e)) : SRN_OK;
}

/* ---- the configuration ---- */

static int configure(void *ctx, srn_config **ret, srn_err *err) {
    const serve *s = ctx;
    srn_config *c = srn_calloc(1, sizeof *c);
    if (!c) return srn_fail_nomem(err, sizeof *c);
    srn_config_init(c);
    int code = srn__serve_configure(&s->flags, c, err);
    if (code) {
        srn_config_done(c);
        free(c);
        return code;
    }
    *ret = c;
    return SRN_OK;
}

static void reloaded(void *ctx) {
    (void)ctx;
    srn__notify("READY=1");
}

/* ---- the run ---- */

/* A connection is a descriptor; the usual soft limit of 1,024 is no decision of the operator's. */
static void raise_descriptors(void) {
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

static int print_ready(const serve *s) {
    const srn_config *c = &s->config;
    if (s->flags.json) {
        json_t *models = json_array();
        for (uint32_t i = 0; i < c->n_models; i++)
            json_array_append_new(models, json_string(c->models[i].name));
        json_t *v = json_pack("{s:s, s:o, s:i}", "address", srn_server_address(s->server), "models", models,
                              "pid", (int)getpid());
        char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
        if (text) puts(text);
        free(text);
        json_decref(v);
    } else {
        printf("listening on %s\n", srn_server_address(s->server));
    }
    return srn_cli_flush("serve");
}

static int run(serve *s, srn_err *err) {
    srn_server_opts o = {.config = &s->config,
                         .log = log_line,
                         .progress = srn_cli_progress,
                         .configure = configure,
                         .reloaded = reloaded,
                         .configure_ctx = s};
    srn_server *server = NULL;
    raise_descriptors();
    int code = srn_server_start(&o, &server, err);
    if (code) return code;
    pthread_mutex_lock(&s->lock);
    s->server = server;
    pthread_mutex_unlock(&s->lock);
    int printed = print_ready(s);
    if (printed == 0) {
        srn__notify("READY=1");
        while (sem_wait(&s->stop) != 0 && errno == EINTR) continue;
    }
    srn__notify("STOPPING=1");
    srn_server_drain(server, srn_server_grace_ms(server));
    pthread_mutex_lock(&s->lock);
    s->server = NULL;
    pthread_mutex_unlock(&s->lock);
    srn_server_stop(server, 0);
    return printed ? SRN_EIO : SRN_OK;
}

static int check_only(const serve *s) {
    const srn_config *c = &s->config;
    if (s->flags.json) {
        printf("{\"ok\":true}\n");
    } else {
        printf("%s: good; listens on %s, %s, serves", c->file, c->listen,
               c->tls_cert ? "with TLS" : "without TLS");
        for (uint32_t i = 0; i < c->n_models; i++) printf("%s %s", i ? "," : "", c->models[i].name);
        printf("\n");
    }
    return srn_cli_flush("serve");
}

int srn__cmd_serve(int argc, char **argv) {
    serve s = {0};
    srn_err err = {0};
    pthread_mutex_init(&s.lock, NULL);
    sem_init(&s.stop, 0, 0);
    srn_config_init(&s.config);
    int code = srn__serve_parse(argc, argv, &s.flags, &s.config, &err), result = code;
    if (code == SRN__SERVE_GO) {
        result = 0;
        code = s.flags.check_config ? srn_server_check_fresh(&s.config, &err)
                                    : srn_server_check(&s.config, &err);
        if (!code && !s.flags.check_config) code = take_signals(&s, &err);
        bool watched = !code && !s.flags.check_config;
        if (!code && s.flags.check_config)
            result = check_only(&s);
        else if (!code)
            code = run(&s, &err);
        if (watched) {
            pthread_kill(s.watcher, SIGUSR1);
            pthread_join(s.watcher, NULL);
        }
        if (code && err.code)
            result = srn_cli_error("serve", &err);
        else if (code)
            result = 1; /* said already */
    }
    srn__serve_flags_done(&s.flags);
    srn_config_done(&s.config);
    sem_destroy(&s.stop);
    pthread_mutex_destroy(&s.lock);
    return result;
}
