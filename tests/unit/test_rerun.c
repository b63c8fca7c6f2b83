/* Calls whose handler runs again (srn__call_rerun), with the HTTP core alone: of which nothing was sent yet,
 * which wait, whose handler is at work, whose client leaves; and many at once, under the thread sanitizer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "http_site.h"

/* The call of the feed, with a hold. */
static srn__call *call_of(site *s) {
    pthread_mutex_lock(&s->feed.lock);
    srn__call *c = s->feed.call;
    srn__call_hold(c);
    pthread_mutex_unlock(&s->feed.lock);
    return c;
}

static bool rerun(site *s) {
    srn__call *c = call_of(s);
    bool may = srn__call_rerun(c, "a test");
    srn__call_drop(c);
    return may;
}

static unsigned renewed; /* calls of on_rerun; of the test that runs, under its feed's lock */
static void on_rerun(void *ctx, srn__call *c, const char *why) {
    feed *f = ctx;
    assert_string_equal(why, "a test");
    srn__call_set_header(c, "x-again", "1");
    pthread_mutex_lock(&f->lock);
    renewed++;
    pthread_mutex_unlock(&f->lock);
}

static void begin(site *s) {
    site_init(s);
    s->feed.ends_when_cancelled = false;
    s->opts.on_rerun = on_rerun;
    renewed = 0;
    site_start(s);
}

/* What was pulled of the first run and not sent must not be in the second one's reply. */
static void a_call_of_which_nothing_was_sent_runs_again(void **state) {
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        site s;
        char v[256];
        begin(&s);
        int fd = open_stream(&s, streamed ? "/stream" : "/once");
        if (!streamed) {
            give(&s.feed, "{\"first\":", false);
            wait_for(&s.feed, &s.feed.pulled, 1);
        }
        assert_true(rerun(&s));
        wait_for(&s.feed, &s.feed.started, 2);
        assert_int_equal(s.feed.freed, 1);
        assert_true(s.feed.cancelled >= 1);
        give(&s.feed, streamed ? "data: b\n\n" : "{}", true);
        heard r = hear(fd, false);
        assert_string_equal(header(&r, "x-again", v), "1");
        assert_int_equal(renewed, 1);
        check(r, 200, streamed ? "data: b\n\n" : "{}");
        close(fd);
        wait_for(&s.feed, &s.feed.freed, 2);
        wait_for(&s.feed, &s.feed.ended, 1);
        site_stop(&s);
        assert_int_equal(s.feed.ended, 1); /* one exchange, however many runs */
    }
}

static void a_stream_that_has_begun_goes_on(void **state) {
    (void)state;
    site s;
    heard r;
    begin(&s);
    int fd = open_stream(&s, "/stream");
    give(&s.feed, "data: a\n\n", false);
    assert_true(hear_head(fd, &r));
    assert_true(hear_chunk(fd, &r));
    assert_false(rerun(&s));
    give(&s.feed, "data: b\n\n", true);
    while (hear_chunk(fd, &r)) continue;
    assert_string_equal(r.body.data, "data: a\n\ndata: b\n\n");
    assert_int_equal(s.feed.started, 1);
    heard_done(&r);
    close(fd);
    site_stop(&s);
}

static void a_handler_that_waits_runs_again_at_once(void **state) {
    (void)state;
    site s;
    begin(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.n_waiting, 1);
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    srn__call *c = s.feed.waiting[0];
    pthread_mutex_unlock(&s.feed.lock);
    while (!srn__call_rerun(c, "a test")) sched_yield();
    check(hear(fd, false), 200, "came");
    srn__call_again(c); /* what it waited for: too late */
    srn__call_drop(c);
    assert_int_equal(s.feed.again, 1);
    close(fd);
    site_stop(&s);
}

static void find_live(void *ctx, srn__call *c) {
    srn__call_hold(c);
    *(srn__call **)ctx = c;
}

static void the_reply_of_a_handler_at_work_goes_nowhere(void **state) {
    (void)state;
    site s;
    char v[256];
    begin(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.blocked, 1);
    srn__call *c = NULL;
    srn__http_each_live(s.http, find_live, &c);
    assert_true(srn__call_rerun(c, "a test"));
    assert_true(srn__call_rerun(c, "a test")); /* once */
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    pthread_cond_broadcast(&s.feed.changed);
    pthread_mutex_unlock(&s.feed.lock);
    heard r = hear(fd, false);
    assert_string_equal(header(&r, "x-again", v), "1");
    check(r, 200, "free");
    assert_int_equal(s.feed.blocked, 2);
    wait_for(&s.feed, &s.feed.ended, 1);
    assert_false(srn__call_rerun(c, "a test")); /* it is over */
    srn__call_drop(c);
    close(fd);
    site_stop(&s);
}

/* Then whoever asks is told so: a source that cannot go on must say it, for no other run does. */
static void a_rerun_that_comes_too_late_is_none(void **state) {
    (void)state;
    site s;
    begin(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.blocked, 1);
    srn__call *c = NULL;
    srn__http_each_live(s.http, find_live, &c);
    assert_true(srn__call_rerun(c, "a test"));
    assert_true(srn__call_reruns(c));
    srn__call_fix(c);
    assert_false(srn__call_reruns(c));
    assert_false(srn__call_rerun(c, "a test"));
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    pthread_cond_broadcast(&s.feed.changed);
    pthread_mutex_unlock(&s.feed.lock);
    check(hear(fd, false), 200, "free");
    assert_int_equal(s.feed.blocked, 1);
    assert_int_equal(renewed, 0);
    srn__call_drop(c);
    close(fd);
    site_stop(&s);
}

static void who_left_or_is_cancelled_is_not_served_again(void **state) {
    (void)state;
    site s;
    begin(&s);
    int fd = open_stream(&s, "/once");
    srn__call *c = call_of(&s);
    close(fd);
    wait_for(&s.feed, &s.feed.ended, 1);
    assert_false(srn__call_rerun(c, "a test"));
    srn__call_drop(c);
    assert_int_equal(s.feed.started, 1);
    site_stop(&s);
    begin(&s);
    fd = open_stream(&s, "/once");
    c = NULL;
    srn__http_each_live(s.http, find_live, &c);
    assert_true(srn__http_cancel(s.http, srn__call_id(c)));
    assert_false(srn__call_rerun(c, "a test"));
    srn__call_drop(c);
    give(&s.feed, "{}", true);
    check(hear(fd, false), 200, "{}");
    assert_int_equal(s.feed.started, 1);
    site_stop(&s);
    close(fd);
}

/* ---- many ---- */

enum { CLIENTS = 8, CALLS = 12, EACH = 3 };

typedef struct client {
    site *s;
    pthread_t thread;
    unsigned wrong;
} client;

/* Each answer is whole and its own, however often its handler has run. */
static void *ask_many(void *p) {
    client *x = p;
    for (int i = 0; i < CALLS; i++) {
        heard r = post(x->s, i % 2 ? "/own?once=1" : "/own", "", "{}");
        if (r.status != 200 || r.body.len != 1000 * strlen("data: 0123456789\n\n")) x->wrong++;
        heard_done(&r);
    }
    return NULL;
}

typedef struct reruns {
    unsigned n, asked;
    struct {
        char id[40];
        unsigned n;
    } calls[CLIENTS * CALLS];
} reruns;

/* So often that it comes in every state of the call, and not so often that nothing is ever answered. */
static void rerun_each(void *ctx, srn__call *c) {
    reruns *x = ctx;
    unsigned i = 0;
    while (i < x->n && strcmp(x->calls[i].id, srn__call_id(c)) != 0) i++;
    assert_true(i < CLIENTS * CALLS);
    if (i == x->n) snprintf(x->calls[x->n++].id, sizeof x->calls[i].id, "%s", srn__call_id(c));
    if (x->calls[i].n < EACH && srn__call_rerun(c, "a test")) x->calls[i].n++, x->asked++;
}

static bool all_ended(site *s) {
    pthread_mutex_lock(&s->feed.lock);
    bool all = s->feed.ended == CLIENTS * CALLS;
    pthread_mutex_unlock(&s->feed.lock);
    return all;
}

static void many_calls_that_run_again_are_answered_once_each(void **state) {
    (void)state;
    site s;
    client all[CLIENTS];
    reruns *x = calloc(1, sizeof *x);
    begin(&s);
    for (int i = 0; i < CLIENTS; i++) {
        all[i] = (client){.s = &s};
        assert_int_equal(pthread_create(&all[i].thread, NULL, ask_many, &all[i]), 0);
    }
    while (!all_ended(&s)) {
        srn__http_each_live(s.http, rerun_each, x);
        sched_yield();
    }
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(all[i].thread, NULL);
        assert_int_equal(all[i].wrong, 0);
    }
    site_stop(&s);
    assert_int_equal(s.feed.ended, CLIENTS * CALLS);
    assert_true(renewed > 0 && renewed <= x->asked);
    print_message("of %u calls %u runs were asked for again, %u came\n", x->n, x->asked, renewed);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_of_which_nothing_was_sent_runs_again),
        cmocka_unit_test(a_stream_that_has_begun_goes_on),
        cmocka_unit_test(a_handler_that_waits_runs_again_at_once),
        cmocka_unit_test(the_reply_of_a_handler_at_work_goes_nowhere),
        cmocka_unit_test(a_rerun_that_comes_too_late_is_none),
        cmocka_unit_test(who_left_or_is_cancelled_is_not_served_again),
        cmocka_unit_test(many_calls_that_run_again_are_answered_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
