/* regress: both sides answer every item, one after the other, several items at once; then both read the first
 * one's answers to see how far they are apart. The caller's thread, and workers that wait for answers.
 */
#include <pthread.h>
#include <stdlib.h>

#include "format/format.h"
#include "serve/regress.h"

enum { SHOWN_TENSORS = 100, NO_VERDICT = 255 };

typedef struct runner {
    srn_regress *g;
    srn_answerer *a[2];
    int side; /* -1: both, to be compared */
    const char *what;
    pthread_mutex_t lock;
    size_t next, n_done; /* under lock, as err */
    srn_err *err;        /* of a comparison, where one failed: no other is made */
    int code;
} runner;

static bool stopped(const srn_regress *g) {
    return g->stop && g->stop(g->ctx);
}

/* ---- answers ---- */

static void answer(const runner *r, srn_regress_item *it) {
    srn_regress_result *s = &it->sides[r->side];
    const srn_regress *g = r->g;
    const srn_replay_ask ask = {.record = it->record,
                                .request = it->request,
                                .prompt = g->sides[r->side].prompt ? &g->sides[r->side].ref : NULL,
                                .greedy = g->greedy,
                                .max_tokens = g->max_tokens};
    srn_answerer *a = r->a[r->side];
    if (it->why.code)
        s->why = it->why;
    else
        s->ran = a->answer(a, &ask, &s->answer, &s->why) == SRN_OK;
}

/* What answers take is bounded with what requests do. Under the lock. */
static int count_bytes(srn_regress *g, const srn_replay_answer *a, srn_err *err) {
    g->bytes += a->n_text + (size_t)a->n_prompt * 4 + (size_t)a->n_tokens * 8;
    if (!g->max_bytes || g->bytes <= g->max_bytes) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT,
                    "requests and answers have more than %zu MiB in all; ask for fewer items",
                    g->max_bytes >> 20);
}

/* ---- divergence ---- */

/* Of one item: an item whose text does not fit B's context has none. */
static int diverge(const runner *r, srn_regress_item *it, srn_err *err) {
    const srn_replay_answer *a = &it->sides[0].answer;
    const uint32_t n = a->n_prompt + a->n_tokens;
    if (!it->sides[0].ran || !a->n_tokens) return SRN_OK;
    int32_t *ids = srn_calloc(n, sizeof *ids);
    if (!ids) return srn_fail_nomem(err, n * sizeof *ids);
    memcpy(ids, a->prompt, a->n_prompt * sizeof *ids);
    memcpy(ids + a->n_prompt, a->tokens, a->n_tokens * sizeof *ids);
    int code = srn_answerers_diverge(r->a[0], r->a[1], ids, n, a->n_prompt, &it->divergence, err);
    it->has_divergence = !code;
    free(ids);
    return code == SRN_ECONTEXT ? SRN_OK : code;
}

/* ---- the workers ---- */

static void *work(void *ctx) {
    runner *r = ctx;
    pthread_mutex_lock(&r->lock);
    while (r->next < r->g->n && !r->code && !stopped(r->g)) {
        srn_regress_item *it = &r->g->items[r->next++];
        srn_err err = {0};
        pthread_mutex_unlock(&r->lock);
        int code = SRN_OK;
        if (r->side >= 0)
            answer(r, it);
        else
            code = diverge(r, it, &err);
        pthread_mutex_lock(&r->lock);
        if (!code && r->side >= 0) code = count_bytes(r->g, &it->sides[r->side].answer, &err);
        if (code && !r->code) *r->err = err, r->code = code;
        if (r->g->progress) r->g->progress(r->g->ctx, r->what, ++r->n_done, r->g->n);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* side -1: the comparison of both. */
static int run_items(srn_regress *g, srn_answerer *const a[2], int side, srn_err *err) {
    static const char *const names[] = {"comparing", "asking A", "asking B"};
    pthread_t threads[SRN_REGRESS_WORKERS];
    size_t n = 0, most = SRN_MIN(SRN_MIN((size_t)g->workers, (size_t)SRN_REGRESS_WORKERS), g->n);
    runner r = {.g = g, .a = {a[0], a[1]}, .side = side, .what = names[side + 1], .err = err};
    pthread_mutex_init(&r.lock, NULL);
    while (n < most && pthread_create(&threads[n], NULL, work, &r) == 0) n++;
    if (n == 0) work(&r);
    for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&r.lock);
    return r.code;
}

/* ---- the sides ---- */

/* Whether it makes sense to go on: nobody has ended it, and those who answer still do. */
static int check(const srn_regress *g, srn_answerer *const a[2], srn_err *err) {
    for (int k = 0; k < 2; k++)
        if (a[k] && a[k]->check) {
            int code = a[k]->check(a[k], err);
            if (code) return code;
        }
    return stopped(g) ? srn_fail(err, SRN_ECANCELLED, "it was cancelled") : SRN_OK;
}

static int open_side(const srn_regress *g, srn_answerer *a[2], int side, srn_err *err) {
    if (a[side]) return SRN_OK;
    if (g->sides[side].prompt && a[1 - side]) return a[side] = a[1 - side], SRN_OK;
    return g->open(g->ctx, side, &a[side], err);
}

static void close_side(const srn_regress *g, srn_answerer *a[2], int side) {
    srn_answerer *mine = a[side];
    a[side] = NULL;
    if (mine && a[1 - side] != mine) g->close(g->ctx, side, mine);
}

static int run_side(srn_regress *g, srn_answerer *a[2], int side, srn_err *err) {
    int code = open_side(g, a, side, err);
    if (!code) code = run_items(g, a, side, err);
    if (!code) code = check(g, a, err);
    if (code) return code;
    srn_regress_side *s = &g->sides[side];
    s->ids = *a[side]->ids;
    snprintf(s->kv, sizeof s->kv, "%s", s->ids.kv ? s->ids.kv : "");
    s->ids.kv = s->kv;
    if (side == 0 && !s->prompt) close_side(g, a, 0); /* one model at a time fits where two do not */
    return SRN_OK;
}

static const char *no_divergence(const srn_regress *g) {
    if (g->no_divergence) return "it was not asked for";
    if (g->sides[0].prompt) return "the prompts are different texts";
    if (strcmp(g->sides[0].ids.tokenizer, g->sides[1].ids.tokenizer) != 0)
        return "the models have different tokenizers";
    return NULL;
}

static int measure(srn_regress *g, srn_answerer *a[2]) {
    srn_err *err = &g->no_divergence_err;
    int code = open_side(g, a, 0, err);
    if (!code) code = open_side(g, a, 1, err);
    return code ? code : run_items(g, a, -1, err);
}

/* ---- the weights ---- */

static void note(void *ctx, const char *tensor, srn_difference what) {
    static const char *const lists[] = {"other_bytes", "other_form", "only_from", "only_to"};
    json_t *list = json_object_get(ctx, lists[what]);
    if (json_array_size(list) < SHOWN_TENSORS) json_array_append_new(list, json_string(tensor));
}

/* Whether the file is still what answered. */
static bool is_file_of(const srn_weights *w, const srn_ids *ids) {
    char id[65];
    return srn_weights_id(w, false, NULL, NULL, id, NULL) == SRN_OK && strcmp(id, ids->weights) == 0;
}

static void compare_weights(srn_regress *g) {
    const srn_regress_side *s = g->sides;
    srn_weights *w[2] = {0};
    srn_err none;
    if (!s[0].path || !s[1].path || strcmp(s[0].ids.weights, s[1].ids.weights) == 0) return;
    bool there = true;
    for (int k = 0; there && k < 2; k++)
        there = srn_weights_open(s[k].path, NULL, &w[k], &none) == SRN_OK && is_file_of(w[k], &s[k].ids);
    if (there) {
        json_t *o =
            json_pack("{s:[], s:[], s:[], s:[]}", "other_bytes", "other_form", "only_from", "only_to");
        uint64_t n = srn_weights_differ(w[0], w[1], note, o, g->stop, g->ctx);
        json_object_set_new(o, "differ", json_integer((json_int_t)n));
        json_object_set_new(
            o, "of", json_integer((json_int_t)SRN_MAX(srn_weights_count(w[0]), srn_weights_count(w[1]))));
        g->weights_differ = stopped(g) ? NULL : json_incref(o);
        json_decref(o);
    }
    for (int k = 0; k < 2; k++) srn_weights_free(w[k]);
}

/* ---- checks ---- */

static int judge_one(const srn_regress *g, const srn_checks *c, uint32_t i, srn_regress_result *side,
                     srn_err *err) {
    srn_str answer = {side->answer.text, side->answer.n_text};
    const char *const *argv = srn_check_command(c, i);
    const char *name = srn_check_name(c, i);
    if (argv && !g->program) return SRN_OK;
    int ended = argv ? g->program(argv, answer) : 0;
    /* A program that gave no verdict fails, turned round or not. */
    bool passes = ended != NO_VERDICT && srn_check_passes(c, i, answer, ended);
    json_t *o = json_pack("{s:s, s:b}", "name", name, "passes", passes);
    if (argv && o) json_object_set_new(o, "ended", json_integer(ended));
    if (json_array_append_new(side->checks, o) ||
        (!passes && json_array_append_new(side->failed, json_string(name))))
        return srn_fail_nomem(err, 256);
    side->passed = side->passed && passes;
    return SRN_OK;
}

/* Runs the checks of the item on what a side answered. */
static int judge(const srn_regress *g, const srn_regress_item *it, srn_regress_result *side, srn_err *err) {
    int code = SRN_OK;
    if (!it->n_checks || !side->ran) return SRN_OK;
    side->checks = json_array();
    side->failed = json_array();
    side->passed = true;
    for (uint32_t k = 0; k < it->n_checks; k++)
        for (uint32_t i = 0; !code && i < srn_checks_count(it->checks[k]); i++)
            code = judge_one(g, it->checks[k], i, side, err);
    return code;
}

int srn_regress_run(srn_regress *g, srn_err *err) {
    srn_answerer *a[2] = {0};
    int code = run_side(g, a, 0, err);
    if (!code) code = run_side(g, a, 1, err);
    for (size_t i = 0; !code && i < g->n; i++)
        for (int k = 0; !code && k < 2; k++) code = judge(g, &g->items[i], &g->items[i].sides[k], err);
    if (!code) {
        compare_weights(g);
        g->no_divergence_why = no_divergence(g);
        if (!g->no_divergence_why && measure(g, a)) g->no_divergence_why = g->no_divergence_err.text;
        for (size_t i = 0; g->no_divergence_why && i < g->n; i++) g->items[i].has_divergence = false;
        code = check(g, a, err);
    }
    close_side(g, a, 0);
    close_side(g, a, 1);
    return code;
}
