/* Alerts to webhooks that are away, broken, or never answer. The test is the webhook: it takes connections
 * one by one, and answers or not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/alerts.h"
#include "unit/http_client.h"

typedef struct hook {
    int listener;
    char url[64];
    srn__alerts *alerts;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t said;
    srn_buf log;
} hook;

static void on_log(void *ctx, const char *event, const char *detail) {
    hook *h = ctx;
    pthread_mutex_lock(&h->lock);
    srn_buf_addf(&h->log, "%s: %s\n", event, detail);
    pthread_cond_broadcast(&h->said);
    pthread_mutex_unlock(&h->lock);
}

static void wait_log(hook *h, const char *text) {
    pthread_mutex_lock(&h->lock);
    while (!h->log.len || !strstr(h->log.data, text)) pthread_cond_wait(&h->said, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

static hook *hook_new(void) {
    hook *h = srn_calloc(1, sizeof *h);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    srn_err err = {0};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->said, NULL);
    srn_buf_init(&h->log, 1 << 20);
    h->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (h->listener < 0 || bind(h->listener, (struct sockaddr *)&at, n) || listen(h->listener, 128) ||
        getsockname(h->listener, (struct sockaddr *)&at, &n))
        fail_msg("no socket for the webhook");
    snprintf(h->url, sizeof h->url, "http://127.0.0.1:%u/hook?x=1", ntohs(at.sin_port));
    const srn__alerts_opts o = {.log = on_log, .log_ctx = h, .first_wait_ms = 1};
    if (srn__alerts_new(&o, &h->alerts, &err)) fail_msg("%s", err.text);
    return h;
}

static void hook_done(hook *h) {
    srn__alerts_free(h->alerts);
    close(h->listener);
    srn_buf_done(&h->log);
    pthread_cond_destroy(&h->said);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static void send_one(hook *h, int n) {
    json_t *body = json_pack("{s:i}", "n", n);
    srn__alerts_send(h->alerts, h->url, "trial", body);
    json_decref(body);
}

/* A connection whose whole request is there, with that number in its body. */
static int take(hook *h, int n) {
    char expected[32], head[2048], body[16];
    size_t len = 0;
    int fd = accept(h->listener, NULL, NULL);
    assert_true(fd >= 0);
    while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
        assert_true(len + 1 < sizeof head);
        assert_true(get_byte(fd, &head[len++]));
    }
    head[len] = 0;
    assert_memory_equal(head, "POST /hook?x=1 ", 15);
    int size = snprintf(expected, sizeof expected, "{\"n\":%d}", n);
    for (int i = 0; i < size; i++) assert_true(get_byte(fd, &body[i]));
    assert_memory_equal(body, expected, (size_t)size);
    return fd;
}

static void answer(int fd, const char *status) {
    char text[128];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
    assert_true(say(fd, text));
    close(fd);
}

static void what_a_broken_webhook_did_not_take_comes_again(void **state) {
    (void)state;
    hook *h = hook_new();
    send_one(h, 1);
    close(take(h, 1)); /* without an answer */
    answer(take(h, 1), "503 Busy");
    answer(take(h, 1), "204 Good");
    send_one(h, 2); /* and the first one does not come a fourth time */
    answer(take(h, 2), "204 Good");
    wait_log(h, "; it is tried again"); /* the first time, and no other */
    srn__alerts_free(h->alerts);
    h->alerts = NULL;
    assert_null(strstr(h->log.data, "503"));
    hook_done(h);
}

static void what_a_webhook_refuses_is_not_tried_again(void **state) {
    (void)state;
    hook *h = hook_new();
    send_one(h, 1);
    answer(take(h, 1), "404 Nothing");
    wait_log(h, "webhook_failed: trial: the webhook answered with 404; the alert is lost");
    send_one(h, 2);
    answer(take(h, 2), "204 Good");
    hook_done(h);
}

static void after_a_few_tries_an_alert_is_lost(void **state) {
    (void)state;
    hook *h = hook_new();
    send_one(h, 1);
    for (int i = 0; i < SRN__ALERTS_TRIES; i++) answer(take(h, 1), "500 Broken");
    wait_log(h, "500; the alert is lost");
    uint32_t n = 0;
    for (const char *p = h->log.data; (p = strstr(p, "webhook_failed")) != NULL; p++) n++;
    assert_int_equal(n, 2); /* the first try and the last */
    hook_done(h);
}

static void a_webhook_that_never_answers_holds_up_nobody_and_few_alerts_wait_for_it(void **state) {
    (void)state;
    hook *h = hook_new();
    send_one(h, 0);
    int fd = take(h, 0); /* it has it, and says nothing */
    for (int i = 1; i < SRN__ALERTS_MOST; i++) send_one(h, i);
    pthread_mutex_lock(&h->lock);
    assert_int_equal(h->log.len, 0);
    pthread_mutex_unlock(&h->lock);
    send_one(h, SRN__ALERTS_MOST);
    wait_log(h, "an alert is lost, for too many wait");
    srn__alerts_free(h->alerts); /* and it ends, though nothing was answered */
    h->alerts = NULL;
    size_t n = 0;
    for (const char *p = h->log.data; (p = strstr(p, "is lost")) != NULL; p++) n++;
    assert_int_equal(n, SRN__ALERTS_MOST + 1);
    close(fd);
    hook_done(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_broken_webhook_did_not_take_comes_again),
        cmocka_unit_test(what_a_webhook_refuses_is_not_tried_again),
        cmocka_unit_test(after_a_few_tries_an_alert_is_lost),
        cmocka_unit_test(a_webhook_that_never_answers_holds_up_nobody_and_few_alerts_wait_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
