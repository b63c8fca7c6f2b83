/* The registry over a real ledger: versions and labels, what a restart finds, readers beside a writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include "prompts/prompts.h"
#include "unit/ledger_help.h"

typedef struct house {
    folder f;
    srn_ledger *ledger;
    srn_prompts *prompts;
} house;

static void open_house(house *h) {
    srn_err err = {0};
    srn_ledger_opts o = {.where = h->f.path};
    if (srn_ledger_open(&o, &h->ledger, &err)) fail_msg("%s", err.text);
    if (srn_prompts_open(h->ledger, &h->prompts, &err)) fail_msg("%s", err.text);
}

static void close_house(house *h) {
    srn_prompts_close(h->prompts);
    srn_ledger_close(h->ledger);
}

static house new_house(void) {
    house h = {.f = folder_new()};
    open_house(&h);
    return h;
}

static void remove_house(house *h) {
    close_house(h);
    folder_done(&h->f);
}

static uint32_t push(house *h, const char *name, const char *text, bool expect_new) {
    char file[300];
    srn_prompt *p = NULL;
    srn_err err = {0};
    uint32_t version = 0;
    bool is_new = false;
    snprintf(file, sizeof file, "variables: {q: string}\nmessages: [{role: user, content: '%s {{q}}'}]",
             text);
    if (srn_prompt_parse(srn_str_of(file), "p.yaml", &p, &err)) fail_msg("%s", err.text);
    json_t *source = json_pack("{s:s}", "file", "p.yaml");
    if (srn_prompts_push(h->prompts, name, p, "ann", source, &version, &is_new, &err))
        fail_msg("%s", err.text);
    assert_int_equal(is_new, expect_new);
    json_decref(source);
    srn_prompt_free(p);
    return version;
}

static void label(house *h, const char *name, const char *text, uint32_t version, bool expect_moved) {
    srn_err err = {0};
    bool moved = !expect_moved;
    if (srn_prompts_label(h->prompts, name, text, version, "bob", &moved, &err)) fail_msg("%s", err.text);
    assert_int_equal(moved, expect_moved);
}

/* The first message's text of what a reference finds, or the error's sentence. */
static void finds(house *h, const char *ref, uint32_t version, const char *by_label) {
    const srn_prompt *p = NULL;
    srn_prompt_ref r;
    srn_err err = {0};
    char got[SRN_PROMPT_LABEL_MAX + 1];
    assert_int_equal(srn_prompt_ref_parse(srn_str_of(ref), &r, &err), SRN_OK);
    if (srn_prompts_get(h->prompts, &r, &p, got, &err)) fail_msg("%s", err.text);
    assert_int_equal(p->version, version);
    assert_string_equal(got, by_label);
    srn_prompts_put(p);
}

static void lacks(house *h, const char *ref, const char *says) {
    const srn_prompt *p = NULL;
    srn_prompt_ref r;
    srn_err err = {0};
    assert_int_equal(srn_prompt_ref_parse(srn_str_of(ref), &r, &err), SRN_OK);
    assert_int_equal(srn_prompts_get(h->prompts, &r, &p, NULL, &err), SRN_ENOENT);
    if (!strstr(err.text, says)) fail_msg("'%s' lacks '%s'", err.text, says);
}

static void check_all(house *h) {
    finds(h, "a", 2, "");
    finds(h, "b/c", 2, "production");
    finds(h, "b/c@3", 3, "");
    finds(h, "b/c@production", 2, "production");
    lacks(h, "b/c@staging", "it has production");
    lacks(h, "a@3", "its versions are 1 to 2");
    lacks(h, "a@production", "it has none");
    lacks(h, "x", "there are a, b/c");
}

static void versions_are_numbered_and_labels_point_at_them(void **state) {
    (void)state;
    house h = new_house();
    lacks(&h, "a", "none was pushed yet");
    assert_int_equal(push(&h, "a", "one", true), 1);
    assert_int_equal(push(&h, "a", "one", false), 1);
    assert_int_equal(push(&h, "b/c", "one", true), 1);
    assert_int_equal(push(&h, "a", "two", true), 2);
    assert_int_equal(push(&h, "b/c", "two", true), 2);
    assert_int_equal(push(&h, "b/c", "one", true), 3); /* what it was once is a version of its own */
    label(&h, "b/c", "staging", 1, true);
    label(&h, "b/c", "production", 1, true);
    label(&h, "b/c", "production", 1, false);
    label(&h, "b/c", "production", 2, true);
    label(&h, "b/c", "staging", 0, true);
    check_all(&h);
    close_house(&h);
    open_house(&h); /* all of it stands in the ledger */
    check_all(&h);
    assert_int_equal(push(&h, "b/c", "one", false), 3);
    assert_int_equal(push(&h, "b/c", "four", true), 4);
    label(&h, "b/c", "staging", 4, true);
    finds(&h, "b/c@staging", 4, "staging");
    remove_house(&h);
}

static void a_change_that_cannot_be_is_refused(void **state) {
    (void)state;
    house h = new_house();
    srn_err err = {0};
    bool moved;
    push(&h, "a", "one", true);
    assert_int_equal(srn_prompts_label(h.prompts, "a", "production", 2, "bob", &moved, &err), SRN_ENOENT);
    assert_int_equal(srn_prompts_label(h.prompts, "a", "production", 0, "bob", &moved, &err), SRN_ENOENT);
    assert_int_equal(srn_prompts_label(h.prompts, "b", "production", 1, "bob", &moved, &err), SRN_ENOENT);
    assert_int_equal(srn_prompts_label(h.prompts, "a", "7", 1, "bob", &moved, &err), SRN_EINVAL);
    assert_int_equal(srn_prompts_label(h.prompts, "a", "x", 1, "a\nb", &moved, &err), SRN_EINVAL);
    remove_house(&h);
}

static void the_history_tells_who_and_when(void **state) {
    (void)state;
    house h = new_house();
    srn_err err = {0};
    push(&h, "a", "one", true);
    label(&h, "a", "production", 1, true);
    push(&h, "a", "two", true);
    label(&h, "a", "production", 2, true);
    label(&h, "a", "canary", 1, true);
    label(&h, "a", "production", 1, true);
    label(&h, "a", "canary", 0, true);
    static const struct {
        const char *event, *label;
        int from, to;
    } expected[] = {{"prompt_pushed", NULL, 0, 1},   {"label_moved", "production", 0, 1},
                    {"prompt_pushed", NULL, 0, 2},   {"label_moved", "production", 1, 2},
                    {"label_moved", "canary", 0, 1}, {"label_moved", "production", 2, 1},
                    {"label_moved", "canary", 1, 0}};
    for (int again = 0; again < 2; again++) {
        json_t *o = NULL, *list, *item;
        size_t i;
        json_int_t last = 0;
        assert_int_equal(srn_prompts_history(h.prompts, "a", &o, &err), SRN_OK);
        list = json_object_get(o, "history");
        assert_int_equal(json_array_size(list), SRN_LEN(expected));
        json_array_foreach(list, i, item) {
            const char *name = json_string_value(json_object_get(item, "event"));
            const char *l = json_string_value(json_object_get(item, "label"));
            json_int_t at = json_integer_value(json_object_get(item, "at_us"));
            assert_string_equal(name, expected[i].event);
            assert_true(at >= last && at > 1600000000000000);
            last = at;
            assert_string_equal(json_string_value(json_object_get(item, "by")), l ? "bob" : "ann");
            if (!expected[i].label) {
                assert_int_equal(json_integer_value(json_object_get(item, "version")), expected[i].to);
                continue;
            }
            assert_string_equal(l, expected[i].label);
            assert_int_equal(json_integer_value(json_object_get(item, "from")), expected[i].from);
            assert_int_equal(json_integer_value(json_object_get(item, "to")), expected[i].to);
        }
        json_decref(o);
        close_house(&h);
        open_house(&h);
    }
    remove_house(&h);
}

static bool count_events(void *ctx, const srn_stored *s) {
    json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *name = json_string_value(json_object_get(body, "event"));
    bool mine = name && (strcmp(name, "prompt_pushed") == 0 || strcmp(name, "label_moved") == 0);
    if (mine) {
        assert_non_null(json_string_value(json_object_get(body, "by")));
        assert_string_equal(json_string_value(json_object_get(body, "name")), "a");
        ++*(int *)ctx;
    }
    json_decref(body);
    return true;
}

static void every_change_is_an_event_of_the_chain(void **state) {
    (void)state;
    house h = new_house();
    srn_err err = {0};
    srn_reader *r = NULL;
    int n = 0;
    push(&h, "a", "one", true);
    push(&h, "a", "one", false);
    label(&h, "a", "x", 1, true);
    label(&h, "a", "x", 1, false);
    label(&h, "a", "x", 0, true);
    assert_int_equal(srn_reader_open(h.f.path, NULL, &r, &err), SRN_OK);
    assert_int_equal(srn_reader_records(r, SRN_RECORD_EVENT, 0, count_events, &n, &err), SRN_OK);
    srn_reader_close(r);
    assert_int_equal(n, 3);
    remove_house(&h);
}

static void others_may_read_and_not_write(void **state) {
    (void)state;
    house h = new_house();
    srn_err err = {0};
    bool moved;
    push(&h, "a", "one", true);
    house guest = {.ledger = NULL};
    assert_int_equal(srn_prompts_read(h.f.path, NULL, &guest.prompts, &err), SRN_OK);
    finds(&guest, "a", 1, "");
    assert_int_equal(srn_prompts_label(guest.prompts, "a", "x", 1, "bob", &moved, &err), SRN_EUNSUP);
    srn_prompts_close(guest.prompts);
    remove_house(&h);
}

static void a_document_that_was_changed_is_refused(void **state) {
    (void)state;
    house h = new_house();
    srn_err err = {0};
    push(&h, "a", "one", true);
    srn_ledger_doc doc = {
        "prompt", "a", 2,
        SRN_STR("{\"v\":1,\"name\":\"a\",\"version\":2,\"hash\":\"00\",\"by\":\"x\",\"at_us\":1,"
                "\"document\":{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}}")};
    srn_entry e = {.kind = SRN_RECORD_EVENT,
                   .body = SRN_STR("{\"v\":1,\"event\":\"prompt_pushed\",\"at_us\":1,\"by\":\"x\"}"),
                   .doc = &doc,
                   .durable = true};
    if (srn_ledger_commit(h.ledger, &e, &err)) fail_msg("%s", err.text);
    srn_prompts_close(h.prompts);
    h.prompts = NULL;
    assert_int_equal(srn_prompts_open(h.ledger, &h.prompts, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, "'a' 2 is damaged"));
    remove_house(&h);
}

enum { ROUNDS = 60 };

/* Whatever is found is whole and never older than what was seen before. */
static void *read_along(void *ctx) {
    house *h = ctx;
    srn_prompt_ref r = {.name = "a"};
    uint32_t last = 0;
    while (last < ROUNDS) {
        const srn_prompt *p = NULL;
        json_t *messages = NULL, *v = json_pack("{s:s}", "q", "x"), *list = NULL;
        char param[96];
        if (srn_prompts_get(h->prompts, &r, &p, NULL, NULL)) abort();
        if (p->version < last || srn_prompt_fill(p, v, &messages, param, NULL)) abort();
        last = p->version;
        srn_prompts_put(p);
        if (srn_prompts_json(h->prompts, NULL, &list, NULL)) abort();
        json_decref(list);
        json_decref(messages);
        json_decref(v);
    }
    return NULL;
}

static void readers_go_on_while_versions_come(void **state) {
    (void)state;
    house h = new_house();
    pthread_t readers[3];
    char text[32];
    push(&h, "a", "0", true);
    for (size_t i = 0; i < SRN_LEN(readers); i++) pthread_create(&readers[i], NULL, read_along, &h);
    for (int i = 1; i < ROUNDS; i++) {
        snprintf(text, sizeof text, "%d", i);
        push(&h, "a", text, true);
        label(&h, "a", "other", (uint32_t)i, true);
    }
    for (size_t i = 0; i < SRN_LEN(readers); i++) pthread_join(readers[i], NULL);
    remove_house(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_numbered_and_labels_point_at_them),
        cmocka_unit_test(a_change_that_cannot_be_is_refused),
        cmocka_unit_test(the_history_tells_who_and_when),
        cmocka_unit_test(every_change_is_an_event_of_the_chain),
        cmocka_unit_test(others_may_read_and_not_write),
        cmocka_unit_test(a_document_that_was_changed_is_refused),
        cmocka_unit_test(readers_go_on_while_versions_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
