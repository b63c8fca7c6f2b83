/* serve: work in the background. Each piece that was taken is run once, in the order of coming; the queue is
 * bounded, and a cancellation reaches what runs and what waits. Threads: pthread_create is the runner's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "serve/background.h"

enum { N = 3 };

typedef struct piece {
    srn__task task;
    struct site *site;
    bool cancelled;
    int runs, drops;
} piece;

typedef struct site {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open; /* pieces wait for it, or for their cancellation */
    int running, order[16], n_order;
    piece pieces[8];
} site;

static void run(srn__task *t) {
    piece *p = (piece *)t;
    site *s = p->site;
    pthread_mutex_lock(&s->lock);
    s->running++;
    p->runs++;
    s->order[s->n_order++] = (int)(p - s->pieces);
    pthread_cond_broadcast(&s->changed);
    while (!s->open && !p->cancelled) pthread_cond_wait(&s->changed, &s->lock);
    s->running--;
    pthread_mutex_unlock(&s->lock);
}

static void cancel(srn__task *t) {
    piece *p = (piece *)t;
    pthread_mutex_lock(&p->site->lock);
    p->cancelled = true;
    pthread_cond_broadcast(&p->site->changed);
    pthread_mutex_unlock(&p->site->lock);
}

static void drop(srn__task *t) {
    piece *p = (piece *)t;
    pthread_mutex_lock(&p->site->lock);
    p->drops++;
    pthread_cond_broadcast(&p->site->changed);
    pthread_mutex_unlock(&p->site->lock);
}

static site *begin(srn__runner **ret) {
    static site s;
    srn_err err = {0};
    s = (site){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    for (int i = 0; i < 8; i++)
        s.pieces[i] = (piece){.task = {.run = run, .cancel = cancel, .drop = drop}, .site = &s};
    assert_int_equal(srn__runner_new("test", N, ret, &err), SRN_OK);
    return &s;
}

static void wait_for(site *s, const int *value, int n) {
    pthread_mutex_lock(&s->lock);
    while (*value < n) pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void the_queue_is_bounded_and_in_order(void **state) {
    (void)state;
    srn__runner *r;
    srn_err err = {0};
    site *s = begin(&r);
    assert_int_equal(srn__runner_push(r, &s->pieces[0].task, &err), SRN_OK);
    wait_for(s, &s->running, 1);
    for (int i = 1; i <= N; i++) assert_int_equal(srn__runner_push(r, &s->pieces[i].task, &err), SRN_OK);
    assert_int_equal(srn__runner_push(r, &s->pieces[4].task, &err), SRN_EBUSY);
    pthread_mutex_lock(&s->lock);
    s->open = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    wait_for(s, &s->pieces[N].drops, 1);
    for (int i = 0; i <= N; i++) assert_int_equal(s->order[i], i);
    assert_int_equal(srn__runner_push(r, &s->pieces[4].task, &err), SRN_OK);
    srn__runner_free(r); /* what was taken is run all the same */
    for (int i = 0; i <= 4; i++) assert_true(s->pieces[i].runs == 1 && s->pieces[i].drops == 1);
    assert_int_equal(s->pieces[5].runs, 0);
}

static void an_end_reaches_what_runs_and_what_waits(void **state) {
    (void)state;
    srn__runner *r;
    srn_err err = {0};
    site *s = begin(&r);
    for (int i = 0; i < N; i++) assert_int_equal(srn__runner_push(r, &s->pieces[i].task, &err), SRN_OK);
    wait_for(s, &s->running, 1);
    srn__runner_cancel(r);
    for (int i = 0; i < N; i++) wait_for(s, &s->pieces[i].drops, 1);
    assert_int_equal(srn__runner_push(r, &s->pieces[3].task, &err), SRN_OK); /* a drain may end */
    srn__runner_end(r);
    assert_int_equal(srn__runner_push(r, &s->pieces[4].task, &err), SRN_ECANCELLED);
    srn__runner_free(r);
    for (int i = 0; i <= N; i++)
        assert_true(s->pieces[i].cancelled && s->pieces[i].runs == 1 && s->pieces[i].drops == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_queue_is_bounded_and_in_order),
        cmocka_unit_test(an_end_reaches_what_runs_and_what_waits),
    };
    return cmocka_run_group_tests_name("work in the background", tests, NULL, NULL);
}
