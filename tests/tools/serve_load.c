/* Load for an OpenAI-compatible server on this machine, made cheap so that it measures the server and not
 * itself: one thread, one poll loop, streamed completions. Prints one JSON line: tokens per second, time to
 * the first token, gaps between tokens. Not a test.
 *
 * usage: serve_load PORT MODEL CLIENTS REQUESTS TOKENS[-TOKENS] WORDS [BACKGROUND_WORDS [SALT]]
 *
 * Every prompt begins differently, so that no cache helps, and in every run, unless a SALT is given: runs
 * with the same one send the same. Answers have TOKENS tokens, or from the first number to the second, each
 * as its request's number says. With BACKGROUND_WORDS one further request with a prompt of so many words is
 * sent once every client has 8 tokens, and the gaps of the clients before and after that moment are reported
 * apart ("quiet" and "busy").
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CLIENTS = 256, MAX_GAPS = 1 << 20 };

typedef struct client {
    int fd; /* -1: none */
    int busy, background;
    char *request;
    size_t n_request, sent;
    /* what comes back, without the chunks' marks */
    int in_headers, status;
    char line[65536]; /* the line that is being read */
    size_t n_line;
    size_t chunk_left; /* of the current chunk; 0: its size line comes next */
    int chunked, chunk_gap;
    char size_line[32];
    double started, first, last;
    int asked;    /* tokens */
    long tokens;  /* pieces of text; a server may put several tokens into one */
    long counted; /* tokens by the server's own count, 0 where it gives none */
} client;

typedef struct list {
    double *v;
    size_t n;
} list;

static client clients[MAX_CLIENTS + 1];
static list ttft, quiet, busy;
static long total_tokens, failed;
static int port, n_tokens, most_tokens, n_words, background_words,
    background_state; /* 0: not sent, 1: runs, 2: over */
static double background_first;
static const char *model;
static unsigned salt;

/* A whole number from 0 to max, or the program ends. */
static int number(const char *text, long max) {
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < 0 || v > max) {
        fprintf(stderr, "serve_load: '%s' is no number from 0 to %ld\n", text, max);
        exit(2);
    }
    return (int)v;
}

/* "N", or "N-M" */
static void read_tokens(char *text) {
    char *dash = strchr(text, '-');
    if (dash) *dash = 0;
    n_tokens = number(text, 1 << 20);
    most_tokens = dash ? number(dash + 1, 1 << 20) : n_tokens;
    if (most_tokens < n_tokens) exit(2);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(list *l, double v) {
    if (!l->v) l->v = calloc(MAX_GAPS, sizeof *l->v);
    if (l->v && l->n < MAX_GAPS) l->v[l->n++] = v;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(list *l, double p) {
    if (!l->n) return 0;
    qsort(l->v, l->n, sizeof *l->v, by_value);
    size_t i = (size_t)(p * (double)l->n);
    return l->v[i < l->n ? i : l->n - 1];
}

static const char *const words[] = {"time",    "year",  "people",  "way",     "day",    "man",   "thing",
                                    "woman",   "life",  "child",   "world",   "school", "state", "family",
                                    "student", "group", "country", "problem", "hand",   "part",  "place",
                                    "case",    "week",  "company", "system",  "program"};

static unsigned next_random(unsigned *seed) {
    return *seed = *seed * 1664525u + 1013904223u, *seed >> 8;
}

static void make_request(client *c, unsigned number, int n) {
    size_t cap = (size_t)n * 10 + 2048, at = 0;
    char *body = malloc(cap);
    unsigned seed = number * 2654435761u + 1;
    c->request = malloc(cap + 512);
    c->asked =
        c->background ? 1 : n_tokens + (int)(next_random(&seed) % (unsigned)(most_tokens - n_tokens + 1));
    if (!body || !c->request) exit(1);
    at += (size_t)snprintf(body, cap, "{\"model\":\"%s\",\"prompt\":\"%u %u", model, salt, number);
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(body + at, cap - at, " %s",
                               words[next_random(&seed) % (sizeof words / sizeof *words)]);
    at += (size_t)snprintf(body + at, cap - at,
                           "\",\"max_tokens\":%d,\"stream\":true,\"temperature\":0,\"ignore_eos\":true,"
                           "\"cache_prompt\":false,\"stream_options\":{\"include_usage\":true}}",
                           c->asked);
    c->n_request = (size_t)snprintf(
        c->request, cap + 512,
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json"
        "\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        port, at, body);
    free(body);
}

static void start(client *c, unsigned number, int n) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int background = c->background, one = 1;
    memset(c, 0, sizeof *c);
    c->background = background;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    make_request(c, number, n);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a)) {
        perror("serve_load: connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->busy = c->in_headers = 1;
    c->started = now();
}

static void token(client *c) {
    double t = now();
    c->tokens++;
    if (c->background) {
        background_first = t - c->started;
        return;
    }
    if (c->tokens == 1) {
        add(&ttft, t - c->started);
        c->first = t;
    } else {
        if (background_state < 2) add(background_state == 1 ? &busy : &quiet, t - c->last);
    }
    c->last = t;
}

/* The chunk that has no choices has the usage. */
static void usage(client *c) {
    const char *key = "\"completion_tokens\":", *at = strstr(c->line, key);
    if (at) c->counted = strtol(at + strlen(key), NULL, 10);
}

static void end_line(client *c) {
    c->line[c->n_line] = 0;
    if (c->in_headers) {
        if (c->status == 0) c->status = (int)strtol(c->line + (c->n_line > 9 ? 9 : 0), NULL, 10);
        if (strncasecmp(c->line, "Transfer-Encoding: chunked", 26) == 0) c->chunked = 1;
        if (c->n_line == 0) c->in_headers = 0;
    } else if (strncmp(c->line, "data: {", 7) == 0 && strstr(c->line, "\"text\":") &&
               !strstr(c->line, "\"choices\":[]")) {
        token(c);
    } else if (strncmp(c->line, "data: {", 7) == 0) {
        usage(c);
    }
    c->n_line = 0;
}

/* A byte of the answer behind the chunks' marks. */
static void take(client *c, char b) {
    if (b == '\n')
        end_line(c);
    else if (b != '\r' && c->n_line + 1 < sizeof c->line)
        c->line[c->n_line++] = b;
}

static void feed(client *c, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (c->in_headers || !c->chunked) {
            take(c, p[i]);
        } else if (c->chunk_left) {
            take(c, p[i]);
            if (--c->chunk_left == 0) c->chunk_gap = 2; /* CR LF */
        } else if (c->chunk_gap) {
            c->chunk_gap--;
        } else if (p[i] == '\n') {
            c->chunk_left = strtoul(c->size_line, NULL, 16);
            memset(c->size_line, 0, sizeof c->size_line);
        } else if (strlen(c->size_line) + 1 < sizeof c->size_line) {
            c->size_line[strlen(c->size_line)] = p[i];
        }
    }
}

static void finish(client *c) {
    close(c->fd);
    free(c->request);
    long tokens = c->counted ? c->counted : c->tokens;
    failed += c->status != 200 || tokens < (c->background ? 1 : c->asked * 9 / 10);
    if (!c->background) total_tokens += tokens;
    c->fd = -1;
    c->busy = 0;
    if (c->background) background_state = 2;
}

static void work(client *c, short events) {
    char buf[65536];
    if ((events & POLLOUT) && c->sent < c->n_request) {
        ssize_t n = send(c->fd, c->request + c->sent, c->n_request - c->sent, MSG_NOSIGNAL);
        if (n > 0) c->sent += (size_t)n;
    }
    if (!(events & (POLLIN | POLLHUP | POLLERR))) return;
    ssize_t n = recv(c->fd, buf, sizeof buf, 0);
    if (n > 0)
        feed(c, buf, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        finish(c);
}

static int all_decode(int n_clients) {
    for (int i = 0; i < n_clients; i++)
        if (!clients[i].busy || clients[i].tokens < 8) return 0;
    return 1;
}

static double run(int n_clients, int n_requests) {
    struct pollfd fds[MAX_CLIENTS + 1];
    int started = 0, over = 0;
    double begin = now();
    for (int i = 0; i <= n_clients; i++) clients[i].fd = -1;
    clients[n_clients].background = 1;
    while (over < n_requests || (background_words && background_state < 2)) {
        int was_busy[MAX_CLIENTS + 1];
        for (int i = 0; i < n_clients; i++)
            if (!clients[i].busy && started < n_requests) start(&clients[i], (unsigned)started++, n_words);
        if (background_words && background_state == 0 && all_decode(n_clients)) {
            background_state = 1;
            start(&clients[n_clients], 1u << 20, background_words);
        }
        for (int i = 0; i <= n_clients; i++) {
            client *c = &clients[i];
            was_busy[i] = c->busy;
            fds[i] = (struct pollfd){.fd = c->busy ? c->fd : -1,
                                     .events = (short)(POLLIN | (c->sent < c->n_request ? POLLOUT : 0))};
        }
        if (over >= n_requests && background_state != 1) break;
        poll(fds, (nfds_t)n_clients + 1, 1000);
        for (int i = 0; i <= n_clients; i++) {
            if (fds[i].fd >= 0 && fds[i].revents) work(&clients[i], fds[i].revents);
            if (i < n_clients && was_busy[i] && !clients[i].busy) over++;
        }
    }
    return now() - begin;
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr,
                "usage: serve_load PORT MODEL CLIENTS REQUESTS TOKENS[-TOKENS] WORDS [BACKGROUND_WORDS "
                "[SALT]]\n");
        return 2;
    }
    port = number(argv[1], 65535);
    model = argv[2];
    int n_clients = number(argv[3], MAX_CLIENTS), n_requests = number(argv[4], 1 << 20);
    read_tokens(argv[5]);
    n_words = number(argv[6], 1 << 16);
    background_words = argc > 7 ? number(argv[7], 1 << 16) : 0;
    salt = argc > 8 ? (unsigned)number(argv[8], 1 << 30)
                    : (unsigned)time(NULL) * 2654435761u ^ (unsigned)getpid();
    if (n_clients < 1) return 2;
    double seconds = run(n_clients, n_requests);
    printf("{\"clients\":%d,\"requests\":%d,\"failed\":%ld,\"seconds\":%.3f,\"tok_per_s\":%.2f,\"ttft_p50_"
           "ms\":%.2f,"
           "\"ttft_p95_ms\":%.2f,",
           n_clients, n_requests, failed, seconds, (double)total_tokens / seconds, quantile(&ttft, .5) * 1e3,
           quantile(&ttft, .95) * 1e3);
    printf("\"gap_p50_ms\":%.3f,\"gap_p95_ms\":%.3f,\"gap_p99_ms\":%.3f,\"gap_max_ms\":%.3f",
           quantile(&quiet, .5) * 1e3, quantile(&quiet, .95) * 1e3, quantile(&quiet, .99) * 1e3,
           quantile(&quiet, 1) * 1e3);
    if (background_words)
        printf(
            ",\"busy_gap_p50_ms\":%.3f,\"busy_gap_p99_ms\":%.3f,\"busy_gap_max_ms\":%.3f,\"busy_gaps\":%zu,"
            "\"background_ttft_ms\":%.1f",
            quantile(&busy, .5) * 1e3, quantile(&busy, .99) * 1e3, quantile(&busy, 1) * 1e3, busy.n,
            background_first * 1e3);
    printf("}\n");
    return failed != 0;
}
