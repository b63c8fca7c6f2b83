/* Streams against a server of a few lines: pieces as they come, a reader that is behind, silence, cancels, a
 * number of connections, and the end of everything while things run. With pthread_create, so that it runs
 * under the thread sanitizer. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/client.h"

/* ---- the other end: each connection gets a thread, which answers by the path ---- */

typedef struct site {
    int fd;
    char url[64];
    pthread_t thread;
    int n_open, most_open, n_threads; /* guarded by the lock */
    atomic_size_t sent;
    pthread_mutex_t lock;
    pthread_cond_t word; /* n_open has changed, or `go` has */
    bool go;             /* what waits for a word goes on */
} site;
typedef struct conn {
    site *s;
    int fd;
} conn;

static bool put(conn *c, const char *p, size_t n) {
    while (n) {
        ssize_t k = send(c->fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return false;
        p += k, n -= (size_t)k;
        atomic_fetch_add(&c->s->sent, (size_t)k);
    }
    return true;
}

static bool chunk(conn *c, const char *text) {
    char b[256];
    int n = snprintf(b, sizeof b, "%zx\r\n%s\r\n", strlen(text), text);
    return put(c, b, (size_t)n);
}

/* Until the other end goes. */
static void wait_gone(conn *c) {
    char b[1];
    recv(c->fd, b, 1, 0);
}

/* One of those that are busy, until the word. */
static void wait_word(site *s) {
    pthread_mutex_lock(&s->lock);
    s->n_open++;
    s->most_open = SRN_MAX(s->most_open, s->n_open);
    pthread_cond_broadcast(&s->word);
    while (!s->go) pthread_cond_wait(&s->word, &s->lock);
    s->n_open--;
    pthread_mutex_unlock(&s->lock);
}

static void answer(conn *c, const char *path) {
    static const char head[] = "HTTP/1.1 200 OK\r\nX-Said:  a word \r\nTransfer-Encoding: chunked\r\n\r\n";
    if (strncmp(path, "/pieces", 7) == 0) {
        put(c, head, sizeof head - 1);
        if (chunk(c, "one ") && chunk(c, "two ") && chunk(c, "three")) put(c, "0\r\n\r\n", 5);
    } else if (strncmp(path, "/much", 5) == 0) {
        char *big = malloc(1 << 20);
        memset(big, 'x', 1 << 20);
        put(c, "HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n", 45);
        for (int i = 0; i < 32 && put(c, big, 1 << 20); i++) continue;
        free(big);
    } else if (strncmp(path, "/busy", 5) == 0) {
        wait_word(c->s);
        put(c, "HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno", 56);
    } else if (strncmp(path, "/cut", 4) == 0) {
        put(c, head, sizeof head - 1);
        chunk(c, "one ");
        shutdown(c->fd, SHUT_RDWR);
    } else {
        put(c, head, strncmp(path, "/silent", 7) == 0 ? 0 : sizeof head - 1);
        wait_gone(c);
    }
}

static void *serve_one(void *p) {
    conn c = *(conn *)p;
    char b[4096];
    size_t n = 0;
    free(p);
    while (n < sizeof b - 1) {
        ssize_t k = recv(c.fd, b + n, sizeof b - 1 - n, 0);
        if (k <= 0) break;
        n += (size_t)k;
        b[n] = 0;
        char *end = strstr(b, "\r\n\r\n");
        if (!end) continue;
        answer(&c, strchr(b, ' ') + 1);
        n = 0;
    }
    close(c.fd);
    pthread_mutex_lock(&c.s->lock);
    c.s->n_threads--;
    pthread_cond_broadcast(&c.s->word);
    pthread_mutex_unlock(&c.s->lock);
    return NULL;
}

static void *listen_all(void *p) {
    site *s = p;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        pthread_t t;
        conn *c = malloc(sizeof *c);
        *c = (conn){s, fd};
        pthread_mutex_lock(&s->lock);
        s->n_threads++;
        pthread_mutex_unlock(&s->lock);
        pthread_create(&t, NULL, serve_one, c);
        pthread_detach(t);
    }
    return NULL;
}

static site *site_new(void) {
    site *s = calloc(1, sizeof *s);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->word, NULL);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    getsockname(s->fd, (struct sockaddr *)&a, &n);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", ntohs(a.sin_port));
    pthread_create(&s->thread, NULL, listen_all, s);
    return s;
}

static void site_free(site *s) {
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    pthread_mutex_lock(&s->lock);
    while (s->n_threads) pthread_cond_wait(&s->word, &s->lock);
    pthread_mutex_unlock(&s->lock);
    free(s);
}

/* ---- this end ---- */

typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint32_t n_news, n_ends;
} waiter;

static void on_news(void *ctx, srn_stream *t) {
    waiter *w = ctx;
    srn_stream_status s;
    srn_stream_get(t, &s);
    pthread_mutex_lock(&w->lock);
    w->n_news++;
    w->n_ends += s.done;
    pthread_cond_broadcast(&w->news);
    pthread_mutex_unlock(&w->lock);
}

static waiter *waiter_new(void) {
    waiter *w = calloc(1, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->news, NULL);
    return w;
}

static uint32_t news_of(waiter *w) {
    pthread_mutex_lock(&w->lock);
    uint32_t n = w->n_news;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void wait_news(waiter *w, uint32_t seen) {
    pthread_mutex_lock(&w->lock);
    while (w->n_news <= seen && !w->n_ends) pthread_cond_wait(&w->news, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void wait_end(waiter *w, uint32_t n) {
    pthread_mutex_lock(&w->lock);
    while (w->n_ends < n) pthread_cond_wait(&w->news, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static srn_stream *ask(srn_streams *s, const site *at, const char *path, waiter *w, uint32_t timeout_ms,
                       uint32_t connections) {
    srn_stream *t = NULL;
    srn_err err = {0};
    srn_stream_to to = {.base = at->url,
                        .path = path,
                        .body = SRN_STR("{}"),
                        .max_unread = 65536,
                        .timeout_ms = timeout_ms,
                        .connections = connections,
                        .notify = on_news,
                        .ctx = w};
    assert_int_equal(srn_stream_begin(s, &to, &t, &err), 0);
    return t;
}

typedef struct bench {
    site *at;
    srn_streams *s;
    waiter *w;
} bench;

static int set_up(void **state) {
    bench *b = calloc(1, sizeof *b);
    srn_err err = {0};
    b->at = site_new();
    b->w = waiter_new();
    *state = b;
    return srn_streams_new(&b->s, &err);
}

static int tear_down(void **state) {
    bench *b = *state;
    srn_streams_free(b->s);
    site_free(b->at);
    free(b->w);
    free(b);
    return 0;
}

static void pieces_come_with_their_times(void **state) {
    bench *b = *state;
    srn_stream *t = ask(b->s, b->at, "/pieces", b->w, 10000, 4);
    srn_buf text, marks;
    srn_stream_status is;
    char word[32];
    srn_buf_init(&text, 1 << 20);
    srn_buf_init(&marks, 1 << 20);
    wait_end(b->w, 1);
    srn_stream_read(t, &text, &marks, &is);
    assert_true(is.done && !is.err.code && is.status == 200);
    assert_string_equal(text.data, "one two three");
    const srn_stream_mark *m = (const srn_stream_mark *)(const void *)marks.data;
    size_t n = marks.len / sizeof *m;
    assert_true(n >= 1 && m[n - 1].end == text.len && m[0].at_us > 0);
    assert_true(srn_stream_header(t, "x-said", word, sizeof word));
    assert_string_equal(word, "a word");
    assert_false(srn_stream_header(t, "x-sai", word, sizeof word));
    assert_int_equal(b->w->n_ends, 1);
    srn_buf_done(&text);
    srn_buf_done(&marks);
    srn_stream_release(t);
}

static void a_reader_that_is_behind_holds_the_other_end_back(void **state) {
    bench *b = *state;
    srn_stream *t = ask(b->s, b->at, "/much", b->w, 2000, 4);
    srn_stream_status is = {0};
    srn_buf text;
    size_t all = 0;
    srn_buf_init(&text, 1 << 20);
    while (!is.done) {
        uint32_t seen = news_of(b->w);
        srn_buf_clear(&text);
        srn_stream_read(t, &text, NULL, &is);
        all += text.len;
        assert_true(text.len <= 65536 + 16384 && !text.failed);
        if (!text.len && !is.done) wait_news(b->w, seen);
    }
    assert_int_equal(is.err.code, 0);
    assert_int_equal(all, 32u << 20);
    srn_buf_done(&text);
    srn_stream_release(t);
}

static void one_that_nobody_reads_waits_and_can_be_cancelled(void **state) {
    bench *b = *state;
    srn_stream *t = ask(b->s, b->at, "/much", b->w, 200, 4);
    srn_stream_status is;
    wait_news(b->w, 0);
    waiter *others = waiter_new();
    for (uint32_t i = 0; i < 2; i++) { /* longer than silence may last: it is this end that is behind */
        srn_stream *silent = ask(b->s, b->at, "/silent", others, 200, 4);
        wait_end(others, i + 1);
        srn_stream_release(silent);
    }
    free(others);
    srn_stream_get(t, &is);
    assert_true(!is.done && is.unread);
    assert_true(atomic_load(&b->at->sent) < 32u << 20);
    srn_stream_cancel(t);
    wait_end(b->w, 1);
    srn_stream_get(t, &is);
    assert_int_equal(is.err.code, SRN_ECANCELLED);
    srn_stream_release(t);
}

static void silence_and_cuts_are_told(void **state) {
    bench *b = *state;
    static const struct {
        const char *path;
        int code, status;
    } all[] = {{"/silent", SRN_ETIMEOUT, 0}, {"/then-silent", SRN_ETIMEOUT, 200}, {"/cut", SRN_EIO, 200}};
    for (uint32_t i = 0; i < SRN_LEN(all); i++) {
        srn_stream *t = ask(b->s, b->at, all[i].path, b->w, 150, 4);
        srn_stream_status is;
        wait_end(b->w, i + 1);
        srn_stream_get(t, &is);
        assert_int_equal(is.err.code, all[i].code);
        assert_int_equal(is.status, all[i].status);
        srn_stream_release(t);
    }
}

static void more_calls_than_connections_wait(void **state) {
    bench *b = *state;
    enum { N = 9, AT_ONCE = 3 };
    srn_stream *t[N];
    for (size_t i = 0; i < N; i++) t[i] = ask(b->s, b->at, "/busy", b->w, 60000, AT_ONCE);
    pthread_mutex_lock(&b->at->lock);
    while (b->at->n_open < AT_ONCE) pthread_cond_wait(&b->at->word, &b->at->lock);
    b->at->go = true;
    pthread_cond_broadcast(&b->at->word);
    pthread_mutex_unlock(&b->at->lock);
    wait_end(b->w, N);
    for (size_t i = 0; i < N; i++) {
        srn_stream_status is;
        srn_stream_get(t[i], &is);
        assert_true(is.status == 429 && is.retry_after_s == 7 && !is.err.code);
        srn_stream_release(t[i]);
    }
    pthread_mutex_lock(&b->at->lock);
    assert_int_equal(b->at->most_open, AT_ONCE);
    pthread_mutex_unlock(&b->at->lock);
}

static void the_end_of_all_is_told_to_each(void **state) {
    bench *b = *state;
    enum { N = 6 };
    srn_stream *t[N];
    srn_err err = {0};
    for (size_t i = 0; i < N; i++) t[i] = ask(b->s, b->at, i % 2 ? "/silent" : "/much", b->w, 60000, 4);
    wait_news(b->w, 0);
    srn_streams_stop(b->s);
    assert_int_equal(b->w->n_ends, N);
    srn_stream_to to = {
        .base = b->at->url, .path = "/", .max_unread = 1, .timeout_ms = 1000, .connections = 1};
    assert_int_equal(srn_stream_begin(b->s, &to, &(srn_stream *){NULL}, &err), SRN_ECANCELLED);
    for (size_t i = 0; i < N; i++) srn_stream_release(t[i]);
}

static void nobody_is_at_home(void **state) {
    bench *b = *state;
    site away = {.url = "http://127.0.0.1:9"};
    srn_stream *t = ask(b->s, &away, "/", b->w, 2000, 4);
    srn_stream_status is;
    wait_end(b->w, 1);
    srn_stream_get(t, &is);
    assert_int_equal(is.err.code, SRN_EIO);
    srn_stream_release(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_come_with_their_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_that_is_behind_holds_the_other_end_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_nobody_reads_waits_and_can_be_cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_and_cuts_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_calls_than_connections_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_all_is_told_to_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_is_at_home, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
