/* What a server does about roll-outs that it finds in the ledger: labels that a promotion has left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "serve/rollout.h"
#include "unit/ledger_help.h"

typedef struct house {
    folder f;
    srn_config config;
    srn__recorder *recorder;
    srn_prompts *prompts;
    srn__rollouts *rollouts;
} house;

/* As a server starts. */
static void open_house(house *h) {
    srn_err err = {0};
    h->config.ledger.where = h->f.path;
    srn__recorder_opts ro = {.config = &h->config};
    if (srn__recorder_new(&ro, &h->recorder, &err)) fail_msg("%s", err.text);
    if (srn_prompts_open(srn__recorder_ledger(h->recorder), &h->prompts, &err)) fail_msg("%s", err.text);
    srn__rollouts_opts xo = {.prompts = h->prompts, .recorder = h->recorder};
    if (srn__rollouts_new(&xo, &h->rollouts, &err)) fail_msg("%s", err.text);
}

static void close_house(house *h) {
    srn__rollouts_free(h->rollouts);
    srn_prompts_close(h->prompts);
    srn__recorder_free(h->recorder);
}

static void again(house *h) {
    close_house(h);
    open_house(h);
}

static void event(house *h, json_t *fields) {
    srn_err err = {0};
    json_object_set_new(fields, "v", json_integer(1));
    json_object_set_new(fields, "at_us", json_integer((json_int_t)srn_unix_us()));
    char *text = json_dumps(fields, JSON_COMPACT);
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = srn_str_of(text), .durable = true};
    if (srn_ledger_commit(srn__recorder_ledger(h->recorder), &e, &err)) fail_msg("%s", err.text);
    free(text);
    json_decref(fields);
}

static void push(house *h, const char *text) {
    srn_prompt *p = NULL;
    srn_err err = {0};
    uint32_t version;
    bool is_new;
    if (srn_prompt_parse(srn_str_of(text), "p.yaml", &p, &err) ||
        srn_prompts_push(h->prompts, "p", p, "ann", NULL, &version, &is_new, &err))
        fail_msg("%s", err.text);
    srn_prompt_free(p);
}

static void label(house *h, const char *name, uint32_t version) {
    srn_err err = {0};
    bool moved;
    if (srn_prompts_label(h->prompts, "p", name, version, "ann", &moved, &err)) fail_msg("%s", err.text);
    assert_true(moved);
}

static uint32_t labelled(house *h, const char *name) {
    json_t *o;
    assert_int_equal(srn_prompts_json(h->prompts, "p", &o, NULL), SRN_OK);
    uint32_t version = (uint32_t)json_integer_value(json_object_get(json_object_get(o, "labels"), name));
    json_decref(o);
    return version;
}

static size_t n_moves(house *h) {
    json_t *o;
    assert_int_equal(srn_prompts_history(h->prompts, "p", &o, NULL), SRN_OK);
    size_t n = json_array_size(json_object_get(o, "history"));
    json_decref(o);
    return n;
}

static void settle(house *h) {
    srn_err err = {0};
    if (srn__rollouts_settle(h->rollouts, &err)) fail_msg("%s", err.text);
}

/* The events of a roll-out of that prompt's version 2. */
static void promote(house *h, const char *name, const char *prompt) {
    srn_rollout *d = NULL;
    srn_err err = {0};
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:[s], s:{s:s, s:i, s:i}}", "name", name, "kind", "different",
                          "baseline", "small", "canary", "small", "steps", "50%", "prompt", "id", prompt,
                          "baseline", 1, "canary", 2);
    if (srn_rollout_parse(o, "test", &d, &err)) fail_msg("%s", err.text);
    event(h, json_pack("{s:s, s:s, s:s, s:s, s:o}", "event", "rollout_started", "by", "ann", "rollout", name,
                       "hash", d->hash, "declaration", srn_rollout_json(d)));
    event(h, json_pack("{s:s, s:s, s:s, s:s}", "event", "rollout_promoted", "by", "ann", "rollout", name,
                       "hash", d->hash));
    json_decref(o);
    srn_rollout_free(d);
}

/* Two versions, labels at the first, and a ledger that a crash has left right behind the promotion. */
static house crashed_house(void) {
    house h = {.f = folder_new()};
    srn_config_init(&h.config);
    open_house(&h);
    push(&h, "messages: [{role: system, content: Be brief.}]");
    push(&h, "messages: [{role: system, content: Be very brief.}]");
    label(&h, "production", 1);
    label(&h, "staging", 1);
    label(&h, "older", 2);
    promote(&h, "trial", "p");
    return h;
}

static void remove_house(house *h) {
    close_house(h);
    srn_config_done(&h->config);
    folder_done(&h->f);
}

static void a_start_moves_the_labels_that_a_promotion_has_left_behind_once(void **state) {
    (void)state;
    house h = crashed_house();
    again(&h);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 2);
    assert_int_equal(labelled(&h, "staging"), 2);
    size_t n = n_moves(&h);
    settle(&h);
    again(&h);
    settle(&h);
    assert_int_equal(n_moves(&h), n);
    remove_house(&h);
}

/* The promotion is another server's, which has died right behind it. */
static void a_server_that_runs_moves_the_labels_that_another_left_behind(void **state) {
    (void)state;
    house h = crashed_house();
    srn_err err = {0};
    if (srn__rollouts_catch_up(h.rollouts, &err)) fail_msg("%s", err.text);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 2);
    assert_int_equal(labelled(&h, "staging"), 2);
    size_t n = n_moves(&h);
    settle(&h);
    assert_int_equal(n_moves(&h), n);
    remove_house(&h);
}

static void a_prompt_that_cannot_be_had_keeps_no_other_from_its_labels(void **state) {
    (void)state;
    house h = {.f = folder_new()};
    srn_err err = {0};
    srn_config_init(&h.config);
    open_house(&h);
    push(&h, "messages: [{role: system, content: Be brief.}]");
    push(&h, "messages: [{role: system, content: Be very brief.}]");
    label(&h, "production", 1);
    promote(&h, "of-nothing", "q");
    promote(&h, "trial", "p");
    assert_int_equal(srn__rollouts_settle(h.rollouts, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "of-nothing is promoted, but for a label"));
    assert_int_equal(labelled(&h, "production"), 2);
    remove_house(&h);
}

/* However late who moves it has looked. */
static void a_label_is_moved_only_from_where_it_was_known_to_be(void **state) {
    (void)state;
    house h = crashed_house();
    srn_err err = {0};
    bool moved = true;
    uint64_t before_us = srn_unix_us() + 1000000;
    label(&h, "staging", 2);
    assert_int_equal(
        srn_prompts_relabel(h.prompts, "p", "staging", 1, before_us, 1, "roll-out", &moved, &err), SRN_OK);
    assert_false(moved);
    assert_int_equal(srn_prompts_relabel(h.prompts, "p", "staging", 2, 1, 1, "roll-out", &moved, &err),
                     SRN_OK);
    assert_false(moved);
    assert_int_equal(
        srn_prompts_relabel(h.prompts, "p", "staging", 2, before_us, 1, "roll-out", &moved, &err), SRN_OK);
    assert_true(moved);
    assert_int_equal(labelled(&h, "staging"), 1);
    remove_house(&h);
}

static void a_label_that_somebody_has_moved_since_stays(void **state) {
    (void)state;
    house h = crashed_house();
    label(&h, "staging", 2);
    label(&h, "staging", 1);
    again(&h);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 2);
    assert_int_equal(labelled(&h, "staging"), 1);
    label(&h, "production", 1); /* and from then on */
    again(&h);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 1);
    remove_house(&h);
}

static void frozen_no_label_moves_until_the_thaw(void **state) {
    (void)state;
    house h = crashed_house();
    srn_err err = {0};
    if (srn__rollouts_freeze(h.rollouts, "ann", true, NULL, &err)) fail_msg("%s", err.text);
    again(&h);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 1);
    if (srn__rollouts_freeze(h.rollouts, "ann", false, NULL, &err)) fail_msg("%s", err.text);
    settle(&h);
    assert_int_equal(labelled(&h, "production"), 2);
    remove_house(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_moves_the_labels_that_a_promotion_has_left_behind_once),
        cmocka_unit_test(a_server_that_runs_moves_the_labels_that_another_left_behind),
        cmocka_unit_test(a_prompt_that_cannot_be_had_keeps_no_other_from_its_labels),
        cmocka_unit_test(a_label_is_moved_only_from_where_it_was_known_to_be),
        cmocka_unit_test(a_label_that_somebody_has_moved_since_stays),
        cmocka_unit_test(frozen_no_label_moves_until_the_thaw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
