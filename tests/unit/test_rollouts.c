/* The roll-outs that a ledger knows: many of them, and what was promoted in place of what. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "canary_help.h"
#include "config/config.h"
#include "ledger_help.h"
#include "serve/rollout.h"

enum { MANY = 1100, MOST = 1000 };

typedef struct world {
    folder dir;
    srn_config config;
    srn__recorder *recorder;
    srn__rollouts *x;
} world;

static void world_init(world *w) {
    char yaml[1200];
    srn_err err = {0};
    w->dir = folder_new();
    srn_config_init(&w->config);
    snprintf(yaml, sizeof yaml,
             "models:\n  - {name: a, path: /a.gguf}\n  - {name: b, path: /b.gguf}\n"
             "routes:\n  - {name: all, risk: low}\nledger: {where: %s/ledger, mode: buffered}\n",
             w->dir.path);
    if (srn_config_parse(&w->config, srn_str_of(yaml), "serin.yaml", &err)) fail_msg("%s", err.text);
    srn__recorder_opts o = {.config = &w->config};
    if (srn__recorder_new(&o, &w->recorder, &err)) fail_msg("%s", err.text);
}

static void world_open(world *w) {
    srn__rollouts_opts o = {.recorder = w->recorder};
    srn_err err = {0};
    if (srn__rollouts_new(&o, &w->x, &err)) fail_msg("%s", err.text);
}

static void world_done(world *w) {
    srn__rollouts_free(w->x);
    srn__recorder_free(w->recorder);
    srn_config_done(&w->config);
    folder_done(&w->dir);
}

/* Appended as by another server; the last one is waited for. */
static void tell(world *w, const char *event, const char *name, json_t *more, bool last) {
    srn_err err = {0};
    json_t *o = json_pack("{s:i, s:s, s:I, s:s, s:s}", "v", 1, "event", event, "at_us", (json_int_t)1000000,
                          "by", "test", "rollout", name);
    assert_int_equal(json_object_update(o, more), 0);
    char *text = json_dumps(o, JSON_COMPACT);
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = srn_str_of(text)};
    srn_ledger *l = srn__recorder_ledger(w->recorder);
    if (last ? srn_ledger_commit(l, &e, &err) : srn_ledger_append(l, &e, &err)) fail_msg("%s", err.text);
    free(text);
    json_decref(o);
    json_decref(more);
}

static srn_rollout *rollout(const char *name, const char *from, const char *to) {
    char text[200];
    snprintf(text, sizeof text, "{'name':'%s','kind':'different','baseline':'%s','canary':'%s'}", name, from,
             to);
    return declared(text);
}

static void begin_of(world *w, const srn_rollout *d) {
    tell(w, "rollout_started", d->name,
         json_pack("{s:s, s:o}", "hash", d->hash, "declaration", srn_rollout_json(d)), false);
}

static json_t *end_of(const srn_rollout *d, bool verdict) {
    json_t *o = json_pack("{s:s}", "hash", d->hash);
    if (verdict) json_object_set_new(o, "look", json_object());
    return o;
}

static void count(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    (void)r, (void)s;
    ++*(uint32_t *)ctx;
}

static void those_that_ended_make_room_and_none_of_them_is_revived(void **state) {
    (void)state;
    world w = {0};
    char name[40];
    srn_err err = {0};
    srn_rollout_state s;
    srn__rollout *r = NULL;
    uint32_t n = 0;
    world_init(&w);
    for (int i = 0; i < MANY; i++) { /* number 0 is promoted, 1 rolled back, the others are aborted */
        snprintf(name, sizeof name, "number-%d", i);
        srn_rollout *d = rollout(name, "a", "b");
        begin_of(&w, d);
        tell(&w,
             i == 0   ? "rollout_promoted"
             : i == 1 ? "rollout_rolled_back"
                      : "rollout_aborted",
             name, end_of(d, i < 2), i + 1 == MANY);
        srn_rollout_free(d);
    }
    world_open(&w);
    srn__rollouts_each(w.x, count, &n);
    assert_int_equal(n, MOST);
    assert_int_equal(srn__rollouts_get(w.x, "number-0", &r, &s, &err), SRN_OK);
    assert_int_equal(s.phase, SRN_PHASE_PROMOTED);
    srn__rollout_put(r);
    assert_int_equal(srn__rollouts_get(w.x, "number-1", &r, &s, &err), SRN_ENOENT);
    assert_int_equal(srn__rollouts_get(w.x, "number-1099", &r, &s, &err), SRN_OK);
    srn__rollout_put(r);
    for (int i = 1; i < 3; i++) { /* what a verdict ended is not revived, what was aborted may begin again */
        snprintf(name, sizeof name, "number-%d", i);
        srn_rollout *d = rollout(name, "a", "b");
        json_t *o = srn_rollout_json(d);
        assert_int_equal(srn__rollouts_begin(w.x, &w.config, "test", o, &err), i == 1 ? SRN_EINVAL : SRN_OK);
        if (i == 1) assert_non_null(strstr(err.text, "ended for good"));
        json_decref(o);
        srn_rollout_free(d);
    }
    assert_int_equal(srn__rollouts_get(w.x, "number-2", &r, &s, &err), SRN_OK);
    srn__rollout_put(r);
    world_done(&w);
}

static bool replaces(void *ctx, const srn_rollout *d) {
    return strcmp(d->baseline, *(const char **)ctx) == 0;
}

/* Begun in one order, promoted in another, and back again. */
static void promotions_are_followed_in_their_order_and_each_once(void **state) {
    (void)state;
    world w = {0};
    srn_rollout *there = rollout("there", "a", "b"), *back = rollout("back", "b", "a");
    const char *now = "a";
    char path[80] = "a";
    uint64_t seq = 0;
    srn__rollout *r;
    world_init(&w);
    begin_of(&w, back);
    begin_of(&w, there);
    tell(&w, "rollout_promoted", "there", end_of(there, true), false);
    tell(&w, "rollout_promoted", "back", end_of(back, true), true);
    world_open(&w);
    while ((r = srn__rollouts_promoted(w.x, replaces, &now, &seq)) != NULL) {
        now = r->declared == NULL ? "" : strcmp(r->declared->canary, "a") == 0 ? "a" : "b";
        snprintf(path + strlen(path), sizeof path - strlen(path), " %s", now);
        srn__rollout_put(r);
    }
    assert_string_equal(path, "a b a");
    srn_rollout_free(there);
    srn_rollout_free(back);
    world_done(&w);
}

/* As a newer Serin may write it. */
static void a_declaration_that_is_not_understood_keeps_no_server_from_starting(void **state) {
    (void)state;
    world w = {0};
    srn_err err = {0};
    uint32_t n = 0;
    srn_rollout *known = rollout("known", "a", "b"), *other = rollout("other", "a", "b");
    json_t *strange = srn_rollout_json(other);
    json_object_set_new(strange, "phase_of_the_moon", json_string("new"));
    world_init(&w);
    begin_of(&w, known);
    tell(&w, "rollout_started", "other", json_pack("{s:s, s:O}", "hash", other->hash, "declaration", strange),
         true);
    world_open(&w);
    srn__rollouts_each(w.x, count, &n);
    assert_int_equal(n, 1);
    tell(&w, "rollout_started", "more", json_pack("{s:s, s:o}", "hash", other->hash, "declaration", strange),
         true);
    if (srn__rollouts_catch_up(w.x, &err)) fail_msg("%s", err.text);
    srn_rollout_free(known);
    srn_rollout_free(other);
    world_done(&w);
}

typedef struct stuck { /* somebody who reads the ledger, and has not ended */
    world w;
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool reads, ends;
} stuck;

static void read_until_told(void *ctx, const char *event, const char *detail) {
    stuck *s = ctx;
    (void)detail;
    assert_string_equal(event, "prompts_damaged");
    pthread_mutex_lock(&s->lock);
    s->reads = true;
    pthread_cond_broadcast(&s->news);
    while (!s->ends) pthread_cond_wait(&s->news, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void *catch_up(void *p) {
    srn_err err = {0};
    stuck *s = p;
    if (srn__rollouts_catch_up(s->w.x, &err)) fail_msg("%s", err.text);
    return NULL;
}

static void *roll_back(void *p) {
    srn_err err = {0};
    stuck *s = p;
    if (srn__rollouts_act(s->w.x, "test", "trial", "rollout_rolled_back", NULL, &err))
        fail_msg("%s", err.text);
    return NULL;
}

static srn_rollout_state state_of(world *w, const char *name) {
    srn_err err = {0};
    srn_rollout_state s;
    srn__rollout *r;
    if (srn__rollouts_get(w->x, name, &r, &s, &err)) fail_msg("%s", err.text);
    srn__rollout_put(r);
    return s;
}

/* An event about a prompt that is not as it should be: the log is told while the ledger is read. */
static void damage_a_label(world *w) {
    srn_err err = {0};
    srn_ledger_doc d = {"label", "p@production", 1, srn_str_of("{}")};
    srn_entry e = {.kind = SRN_RECORD_EVENT,
                   .body = srn_str_of("{\"v\":1,\"event\":\"label_moved\",\"at_us\":1,\"by\":\"test\","
                                      "\"name\":\"p\",\"label\":\"production\"}"),
                   .doc = &d,
                   .durable = true};
    if (srn_ledger_commit(srn__recorder_ledger(w->recorder), &e, &err)) fail_msg("%s", err.text);
}

static void a_roll_back_takes_the_share_however_long_the_ledger_is_read(void **state) {
    (void)state;
    stuck s = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    srn_err err = {0};
    srn_prompts *prompts;
    pthread_t reads, acts;
    srn_rollout *d = rollout("trial", "a", "b");
    world_init(&s.w);
    if (srn_prompts_open(srn__recorder_ledger(s.w.recorder), &prompts, &err)) fail_msg("%s", err.text);
    begin_of(&s.w, d);
    srn__rollouts_opts o = {
        .prompts = prompts, .recorder = s.w.recorder, .log = read_until_told, .log_ctx = &s};
    tell(&s.w, "rollout_paused", "trial", json_pack("{s:s}", "hash", "of another one"), true);
    if (srn__rollouts_new(&o, &s.w.x, &err)) fail_msg("%s", err.text);
    assert_true(state_of(&s.w, "trial").share > 0);
    damage_a_label(&s.w);
    assert_int_equal(pthread_create(&reads, NULL, catch_up, &s), 0);
    pthread_mutex_lock(&s.lock);
    while (!s.reads) pthread_cond_wait(&s.news, &s.lock);
    pthread_mutex_unlock(&s.lock);
    assert_int_equal(pthread_create(&acts, NULL, roll_back, &s), 0);
    uint64_t until_us = srn_now_us() + 60 * 1000000;
    while (state_of(&s.w, "trial").share > 0)
        if (srn_now_us() > until_us) fail_msg("the canary keeps its share");
    pthread_mutex_lock(&s.lock);
    s.ends = true;
    pthread_cond_broadcast(&s.news);
    pthread_mutex_unlock(&s.lock);
    pthread_join(reads, NULL);
    pthread_join(acts, NULL);
    assert_int_equal(state_of(&s.w, "trial").phase, SRN_PHASE_ROLLED_BACK);
    srn_rollout_free(d);
    srn__rollouts_free(s.w.x);
    s.w.x = NULL;
    srn_prompts_close(prompts);
    world_done(&s.w);
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(those_that_ended_make_room_and_none_of_them_is_revived),
        cmocka_unit_test(promotions_are_followed_in_their_order_and_each_once),
        cmocka_unit_test(a_declaration_that_is_not_understood_keeps_no_server_from_starting),
        cmocka_unit_test(a_roll_back_takes_the_share_however_long_the_ledger_is_read),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
