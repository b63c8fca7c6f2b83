/* For tests of the ledger in PostgreSQL: a real server, made in a folder that goes away with it, on a port of
 * 127.0.0.1 that the system picks, with a password; run as nobody where the tests run as root, which the
 * server refuses. It ends with the program that started it. */
#ifndef SRN_TEST_POSTGRES_HELP_H
#define SRN_TEST_POSTGRES_HELP_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <libpq-fe.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "ledger_help.h"

#define PG_PASSWORD "sesame-41"
enum { PG_NOBODY = 65534 };

typedef struct pg_server {
    char dir[64], bin[256];
    int port, log;
    pid_t pid; /* 0: it does not run */
    int databases;
} pg_server;

/* The newest server that is installed; false: there is none. */
static inline bool pg_find(char *ret, size_t cap) {
    glob_t found;
    bool there = !glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) && found.gl_pathc;
    if (there) snprintf(ret, cap, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    if (there) *strrchr(ret, '/') = 0;
    return there;
}

/* Runs a program of the server's as somebody who is not root; its output goes into *ret_log. */
static inline pid_t pg_spawn(const pg_server *s, char *const argv[], int *ret_log) {
    char path[300];
    int ends[2];
    snprintf(path, sizeof path, "%s/%s", s->bin, argv[0]);
    if (pipe2(ends, O_CLOEXEC)) fail_msg("no pipe");
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        if (!geteuid() && (setgid(PG_NOBODY) || setuid(PG_NOBODY))) _exit(126);
        prctl(PR_SET_PDEATHSIG, SIGQUIT);
        if (getppid() != parent || chdir("/")) _exit(126);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        setenv("LC_ALL", "C", 1);
        execv(path, argv);
        _exit(127);
    }
    close(ends[1]);
    *ret_log = ends[0];
    return pid;
}

static inline int pg_free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) || getsockname(fd, (struct sockaddr *)&a, &n))
        fail_msg("no port");
    close(fd);
    return ntohs(a.sin_port);
}

static inline void pg_wait(pg_server *s) {
    if (s->pid > 0) waitpid(s->pid, NULL, 0);
    if (s->log >= 0) close(s->log);
    s->pid = 0;
    s->log = -1;
}

/* Waits until it says that it is ready; false: what a crash left of the server before is still going. */
static inline bool pg_is_ready(pg_server *s) {
    char text[8192];
    size_t n = 0;
    for (;;) {
        ssize_t got = read(s->log, text + n, sizeof text - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        n += got > 0 ? (size_t)got : 0;
        text[n] = 0;
        if (strstr(text, "ready to accept connections")) return true;
        if (got <= 0 && strstr(text, "still in use")) return pg_wait(s), false;
        if (got <= 0) fail_msg("PostgreSQL did not start: %s", text);
        if (n > sizeof text / 2) n = 0;
    }
}

static inline void pg_start(pg_server *s) {
    char data[96], port[16], sockets[128];
    snprintf(data, sizeof data, "%s/data", s->dir);
    snprintf(port, sizeof port, "port=%d", s->port);
    snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", s->dir);
    char *const argv[] = {"postgres",
                          "-D",
                          data,
                          "-c",
                          port,
                          "-c",
                          sockets,
                          "-c",
                          "listen_addresses=127.0.0.1",
                          "-c",
                          "shared_buffers=16MB",
                          "-c",
                          "log_min_messages=log",
                          "-c",
                          "log_checkpoints=off",
                          "-c",
                          "max_connections=30",
                          NULL};
    do {
        s->pid = pg_spawn(s, argv, &s->log);
    } while (!pg_is_ready(s));
}

/* SIGINT: connections are cut, and what is committed is written. */
static inline void pg_stop(pg_server *s, int signal) {
    if (s->pid > 0) kill(s->pid, signal);
    pg_wait(s);
}

/* Every process of the server at once, as when its machine stops. */
static inline void pg_crash(pg_server *s) {
    char path[64], text[512];
    DIR *proc = opendir("/proc");
    kill(s->pid, SIGSTOP); /* so that nobody is born meanwhile */
    for (const struct dirent *e; proc && (e = readdir(proc));) {
        int pid = (int)strtol(e->d_name, NULL, 10), of = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "re") : NULL;
        const char *end = f && fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
        if (f) fclose(f);
        if (end && sscanf(end, ") %*c %d", &of) == 1 && of == s->pid) kill(pid, SIGKILL);
    }
    if (proc) closedir(proc);
    kill(s->pid, SIGKILL);
    pg_wait(s);
}

/* false: PostgreSQL is not installed here. */
static inline bool pg_new(pg_server *s) {
    char data[96], file[96], text[8192];
    *s = (pg_server){.log = -1};
    if (!pg_find(s->bin, sizeof s->bin)) return false;
    folder f = folder_new();
    snprintf(s->dir, sizeof s->dir, "%s", f.path);
    snprintf(data, sizeof data, "%s/data", s->dir);
    snprintf(file, sizeof file, "%s/password", s->dir);
    FILE *p = fopen(file, "we");
    if (!p || fputs(PG_PASSWORD "\n", p) < 0 || fclose(p)) fail_msg("no file for the password");
    if (!geteuid() && (chown(s->dir, PG_NOBODY, PG_NOBODY) || chown(file, PG_NOBODY, PG_NOBODY)))
        fail_msg("the folder cannot be given to nobody");
    char *const argv[] = {"initdb",        "-D", data,   "-U",         "serin",     "--pwfile", file, "-A",
                          "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    pid_t pid = pg_spawn(s, argv, &s->log);
    size_t n = 0;
    for (ssize_t got; (got = read(s->log, text + n, sizeof text - 1 - n)) > 0;) n += (size_t)got;
    int status = -1;
    waitpid(pid, &status, 0);
    close(s->log);
    s->log = -1;
    if (status) fail_msg("initdb: %.*s", (int)n, text);
    s->port = pg_free_port();
    pg_start(s);
    return true;
}

static inline void pg_done(pg_server *s) {
    folder f;
    if (s->pid) pg_stop(s, SIGINT);
    snprintf(f.path, sizeof f.path, "%s", s->dir);
    if (s->dir[0]) folder_done(&f);
}

static inline void pg_url(const pg_server *s, const char *database, char *ret, size_t cap) {
    snprintf(ret, cap, "postgresql://serin:%s@127.0.0.1:%d/%s", PG_PASSWORD, s->port, database);
}

/* Runs statements in a database; the first value of the last answer, or "". */
static inline const char *pg_sql(const char *url, const char *text) {
    static char value[256];
    PGconn *c = PQconnectdb(url);
    if (PQstatus(c) != CONNECTION_OK) fail_msg("%s", PQerrorMessage(c));
    PGresult *r = PQexec(c, text);
    ExecStatusType st = PQresultStatus(r);
    if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK) fail_msg("%s: %s", text, PQerrorMessage(c));
    snprintf(value, sizeof value, "%s", PQntuples(r) ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
    PQfinish(c);
    return value;
}

/* A database of its own for a test: its name, and its URL. */
static inline void pg_database(pg_server *s, char *ret_url, size_t cap) {
    char url[256], name[32], text[64];
    snprintf(name, sizeof name, "ledger%d", ++s->databases);
    pg_url(s, "postgres", url, sizeof url);
    snprintf(text, sizeof text, "CREATE DATABASE %s", name);
    pg_sql(url, text);
    pg_url(s, name, ret_url, cap);
}

#endif
