/* Which arm of a roll-out a call gets: who asks, which conversation it is of, whether it takes part, and
 * where its keyed hash falls. Decided once, on the call's worker; nothing here waits but for two locks that
 * are held for microseconds.
 */
#include <stdlib.h>

#include "serve/fallback.h"
#include "serve/record_internal.h"
#include "serve/rollout.h"
#include "serve/upstream.h"

enum { MAX_TEXT = 16 << 20, WINDOW_US = 60 * 1000000 };
/* Conversations that began before the roll-out did end within so long. */
#define SETTLE_US (UINT64_C(3600) * 1000000)

typedef struct asks { /* what a roll-out is matched against */
    srn__call *call;
    const srn_config_route *route;
    const char *model; /* that it would get, as the configuration calls it */
} asks;

/* ---- who asks ---- */

static void add_json(srn_buf *b, const json_t *v) {
    char *text = v ? json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;
    if (text) srn_buf_add(b, text, strlen(text) + 1);
    free(text);
}

static bool is_users(const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "user") == 0;
}

/* What a conversation begins with, and still begins with at its later turns: all up to the first message of a
 * user, in any of the APIs' forms. */
static void add_beginning(srn_buf *b, const json_t *body) {
    static const char *const lists[] = {"messages", "input"}, *const texts[] = {"system", "instructions",
                                                                                "prompt"};
    for (size_t i = 0; i < SRN_LEN(texts); i++) add_json(b, json_object_get(body, texts[i]));
    for (size_t i = 0; i < SRN_LEN(lists); i++) {
        const json_t *list = json_object_get(body, lists[i]);
        if (json_is_string(list)) add_json(b, list);
        for (size_t k = 0; k < json_array_size(list); k++) {
            add_json(b, json_array_get(list, k));
            if (is_users(json_array_get(list, k))) break;
        }
    }
}

/* Whether the request shows answers that were given before it. */
static bool goes_on(const json_t *body) {
    const json_t *list = json_object_get(body, "messages");
    if (!list) list = json_object_get(body, "input");
    for (size_t k = 0; k < json_array_size(list); k++) {
        const char *role = json_string_value(json_object_get(json_array_get(list, k), "role"));
        if (role && strcmp(role, "assistant") == 0) return true;
    }
    return false;
}

/* Who it is that the header or the request names, or NULL. */
static const char *named(const srn__call *c) {
    const char *said = srn__call_header(c, "x-serin-subject");
    return said && *said ? said : srn__call_user(c);
}

/* The subject: the keyed hash of who is named, within the tenant, or of the tenant and how the conversation
 * begins. The same for all roll-outs, which hash it once more, each with a key of its own. */
static bool find_who(const srn__call *c, const srn_ledger_keys *keys, char ret[SRN__WHO_CHARS + 1]) {
    char hash[SRN_KEYED_HASH_CHARS + 1];
    const char *who = named(c);
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn_buf_addf(&b, "%s%c%s", who ? "subject" : "beginning", 0, c->key ? c->key->tenant : "");
    srn_buf_addc(&b, 0);
    if (who)
        srn_buf_addz(&b, who);
    else
        add_beginning(&b, c->json);
    bool whole = !b.failed;
    if (whole) {
        srn_keyed_hash(keys, "rollout subjects", (srn_str){b.data, b.len}, hash);
        snprintf(ret, SRN__WHO_CHARS + 1, "%.*s", SRN__WHO_CHARS, hash);
    }
    srn_buf_done(&b);
    return whole;
}

/* The number that stands for the subject's conversation in a roll-out. */
static bool find_talk(const srn__call *c, const srn__rollout *r, const char *who, uint64_t *ret) {
    const char *talk = srn__call_conversation(c);
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn_buf_addf(&b, "%s%c%s", talk ? "conversation" : "beginning", 0, who);
    srn_buf_addc(&b, 0);
    if (talk)
        srn_buf_addz(&b, talk);
    else if (named(c))
        add_beginning(&b, c->json);
    bool whole = !b.failed;
    if (whole) *ret = srn_assign_subject(r->key, r->declared->name, (srn_str){b.data, b.len});
    srn_buf_done(&b);
    return whole;
}

/* ---- whether it takes part ---- */

/* A prompt's version that was named by its number is what the client gets. Where the configuration has no
 * such canary the call is none of the roll-out's: on a ledger of several servers it is another one's. */
static bool fits(void *ctx, const srn_rollout *d) {
    const asks *a = ctx;
    const srn__call_prompt *p = &a->call->facts.prompt;
    bool prompt =
        !d->prompt || (strcmp(p->name, d->prompt) == 0 && p->label[0] && p->version == d->baseline_version);
    return prompt && strcmp(d->baseline, a->model) == 0 && srn__rollout_takes(d, a->route) &&
           !srn__rollout_missing(d, srn__call_config(a->call)) &&
           srn__model_may(a->call, a->route, d->canary); /* a call that must stay here takes no part */
}

static bool opted_out(const srn_rollout *d, const srn__call *c) {
    for (uint32_t i = 0; i < d->n_opt_out && c->key; i++)
        if (strcmp(d->opt_out[i], c->key->tenant) == 0) return true;
    return false;
}

/* ---- which arm; the roll-out's lock is held ---- */

/* Counts the call, and says whether one more of the canary is within the cap of the last minutes. */
static bool under_cap(srn__rollout *r, uint32_t step, uint64_t now_us) {
    if (now_us - r->window_us > WINDOW_US) { /* an old minute weighs nine tenths of the next one */
        double n = SRN_MIN((double)(now_us - r->window_us) / WINDOW_US, 100.0);
        for (; n >= 1; n--) r->n_calls *= 0.9, r->n_canary *= 0.9;
        r->window_us = now_us;
    }
    r->n_calls++;
    return r->n_canary < 1 + srn_rollout_cap(r->declared, step) * (r->n_calls - 1);
}

static srn_pin decide(srn__rollout *r, const srn_rollout_state *s, const srn__call *c, double place,
                      bool room, srn_why *ret_why) {
    srn_pin pin = {.arm = SRN_ARM_BASELINE};
    bool copies = !(r->declared->steps[0] > 0); /* at first it had nothing else */
    uint64_t since_us = copies && s->is.step == 1 ? s->is.step_started_us : s->is.started_us;
    bool settled = since_us + SETTLE_US < srn_unix_us();
    *ret_why = SRN_WHY_HASH;
    if (opted_out(r->declared, c))
        *ret_why = SRN_WHY_OPT_OUT;
    else if (s->phase == SRN_PHASE_PAUSED || (s->share <= 0 && s->shadow <= 0))
        *ret_why = SRN_WHY_PAUSED;
    else if (s->share > 0 && !settled && goes_on(c->json))
        *ret_why = SRN_WHY_PINNED; /* it began before the roll-out did */
    else
        pin.arm = srn_assign_arm(place, s->share);
    pin.counted = *ret_why == SRN_WHY_HASH;
    if (pin.arm == SRN_ARM_BASELINE || room) return pin;
    *ret_why = SRN_WHY_CAP; /* of the control, too, new ones are no evidence then: the two stay alike */
    if (pin.arm == SRN_ARM_CANARY) pin.arm = SRN_ARM_BASELINE;
    pin.counted = false;
    return pin;
}

static void open_call(srn__rollout *r, srn__assigned *a, uint64_t now_us) {
    a->begun_us = now_us;
    a->prev = r->last;
    *(r->last ? &r->last->next : &r->first) = a;
    r->last = a;
    srn__inflight_add(r, 1);
}

/* Copies stand in no list: that they wait for everybody else does not make the canary dead. */
static void close_call(srn__rollout *r, srn__assigned *a) {
    srn__inflight_add(r, -1);
    if (srn__assigned_is_copy(a)) return;
    *(a->next ? &a->next->prev : &r->last) = a->prev;
    *(a->prev ? &a->prev->next : &r->first) = a->next;
}

/* Of an arm's cache namespace. */
static uint64_t salt_of(const srn__rollout *r, srn_arm arm) {
    char space[SRN_ROLLOUT_NAME_MAX + 32];
    snprintf(space, sizeof space, "%s/%s", r->declared->name, srn_arm_name(arm));
    return srn_hash(0x61726d73, srn_str_of(space)) | 1;
}

/* Whether a copy of it is made. Where copies are all that the canary gets they are compared with the calls
 * that they are copies of, which are their control, and answered as anybody's. */
static void copy(srn__assigned *a, const srn_rollout_state *s, srn__call *c, double place) {
    bool due = s->phase == SRN_PHASE_RUNNING && a->counted && a->arm != SRN_ARM_CANARY &&
               srn_assign_copied(place, s->share, s->shadow);
    a->copied = due && srn__copies_reserve(srn__call_copies(c), c);
    if (a->copied && !(s->share > 0)) a->arm = SRN_ARM_CONTROL;
}

static void assign(srn__assigned *a, const srn_rollout_state *s, srn__call *c, double place) {
    srn__rollout *r = a->of;
    uint64_t now = srn_unix_us();
    srn_pin pin;
    pthread_mutex_lock(&r->lock);
    if (r->closed) { /* since the state was read */
        pthread_mutex_unlock(&r->lock);
        a->arm = SRN_ARM_BASELINE;
        a->why = SRN_WHY_PAUSED;
        return;
    }
    bool room = under_cap(r, s->is.step, now);
    if (s->share > 0 && srn_pins_get(r->pins, a->conversation, now, &pin))
        a->why = SRN_WHY_PINNED;
    else
        pin = decide(r, s, c, place, room, &a->why);
    pin.at_us = now;
    if (s->share > 0) srn_pins_put(r->pins, a->conversation, &pin);
    a->arm = pin.arm;
    if (pin.arm == SRN_ARM_CANARY) r->n_canary++, open_call(r, a, now);
    pthread_mutex_unlock(&r->lock);
    a->counted = pin.counted;
    a->step = s->is.step;
    if (a->arm != SRN_ARM_BASELINE) a->salt = salt_of(r, a->arm);
    copy(a, s, c, place);
}

bool srn__assign_copy(srn__call *to, const srn__assigned *a) {
    srn__assigned *n = srn_arena_alloc(&to->arena, sizeof *n);
    if (!n) return false;
    *n = (srn__assigned){.of = a->of,
                         .arm = SRN_ARM_CANARY,
                         .why = SRN_WHY_SHADOW,
                         .step = a->step,
                         .counted = a->counted,
                         .subject = a->subject,
                         .conversation = a->conversation,
                         .salt = salt_of(a->of, SRN_ARM_CANARY),
                         .begun_us = srn_unix_us()};
    atomic_fetch_add(&a->of->refs, 1);
    pthread_mutex_lock(&a->of->lock);
    srn__inflight_add(a->of, 1);
    pthread_mutex_unlock(&a->of->lock);
    to->assigned = n;
    return true;
}

/* Of a prompt it is the labels that were moved: another model as well is for those whom they lead there. */
static bool replaces(void *ctx, const srn_rollout *d) {
    const asks *a = ctx;
    const srn__call_prompt *p = &a->call->facts.prompt;
    bool prompt = !d->prompt || (strcmp(p->name, d->prompt) == 0 && p->version == d->canary_version);
    return prompt && strcmp(d->baseline, a->model) == 0 && strcmp(d->canary, a->model) != 0 &&
           srn__rollout_takes(d, a->route) && srn__model_may(a->call, a->route, d->canary);
}

/* The model that was promoted in place of the one asked for, and what was promoted later in place of that, in
 * the order in which it was: each once, so that A by B and later B by A is A again. One that the
 * configuration has no longer replaces nothing. */
static void follow(srn__rollouts *x, asks *of, char name[128], srn__assigned *a) {
    uint64_t seq = 0;
    srn__rollout *r;
    while ((r = srn__rollouts_promoted(x, replaces, of, &seq)) != NULL) {
        if (srn__models_name(srn__call_models(of->call), srn__call_config(of->call), r->declared->canary,
                             name))
            snprintf(a->model, sizeof a->model, "%s", name);
        srn__rollout_put(r);
    }
}

const srn__assigned *srn__assign(srn__call *c, const char *asked) {
    srn__rollouts *x = srn__call_rollouts(c);
    srn_rollout_state s;
    char name[128];
    if (c->assigned) return c->assigned;
    if (!x || !c->route || !(c->route->flags & SRN__ROUTE_MODEL)) return NULL;
    c->assigned = srn_arena_alloc(&c->arena, sizeof *c->assigned);
    if (!c->assigned) return NULL;
    *c->assigned = (srn__assigned){.call = c};
    const srn_config_route *route = srn__call_route(c, c->route->path, asked);
    asks of = {c, route, name};
    if (!srn__models_name(srn__call_models(c), srn__call_config(c),
                          route && route->model ? route->model : asked, name))
        return c->assigned;
    snprintf(c->assigned->shown, sizeof c->assigned->shown, "%s", name);
    follow(x, &of, name, c->assigned);
    srn__assigned *a = c->assigned;
    if (!(c->route->flags & SRN__ROUTE_ANSWERS) ||
        !find_who(c, srn__recorder_keys(srn__call_recorder(c)), a->who))
        return a;
    srn__rollout *r = srn__rollouts_pick(x, fits, &of, &s);
    if (r && find_talk(c, r, a->who, &a->conversation)) {
        srn_str who = srn_str_of(a->who);
        a->of = r;
        a->wall = srn__upstream_of(c, r->declared->baseline) || srn__upstream_of(c, r->declared->canary);
        a->subject = srn_assign_subject(r->key, r->declared->name, who);
        assign(a, &s, c, srn_assign_place(r->key, r->declared->name, who));
    } else {
        srn__rollout_put(r);
    }
    return a;
}

/* ---- what was decided ---- */

const srn__assigned *srn__assigned_of(const srn__call *c) {
    return c->assigned;
}

static bool gets_canary(const srn__assigned *a) {
    return a && a->of && a->arm == SRN_ARM_CANARY && !a->fell_back;
}

const char *srn__assigned_model(const srn__assigned *a, const char *model) {
    if (gets_canary(a)) return a->of->declared->canary;
    return a && a->model[0] ? a->model : model;
}

const char *srn__assigned_shown(const srn__call *c, const char *model) {
    const srn__assigned *a = c->assigned;
    return a && a->shown[0] && !srn__call_fell_back(c) ? a->shown : model;
}

uint32_t srn__assigned_version(const srn__assigned *a, const char *prompt, uint32_t version) {
    if (!gets_canary(a) || !a->of->declared->prompt || strcmp(a->of->declared->prompt, prompt) != 0)
        return version;
    return version == a->of->declared->baseline_version ? a->of->declared->canary_version : version;
}

void srn__assign_checks(srn__call *c, const srn_prompt *p) {
    srn_err err = {0}; /* they were looked at when the version was stored */
    if (!p || !p->checks || !srn__assigned_measured(c->assigned) || c->assigned->checks) return;
    srn_checks_new(p->checks, "checks", &c->assigned->checks, &err);
}

uint64_t srn__assigned_salt(const srn__assigned *a, uint64_t own) {
    if (!a || !a->salt) return own;
    return srn_hash(a->salt, (srn_str){(const char *)&own, sizeof own}) | 1;
}

bool srn__assigned_measured(const srn__assigned *a) {
    return a && a->of && a->counted && !a->fell_back;
}

bool srn__assigned_is_copy(const srn__assigned *a) {
    return a && a->why == SRN_WHY_SHADOW;
}

uint64_t srn__assigned_tenant(const srn__assigned *a, const srn_key *key) {
    uint64_t id = key ? key->tenant_id : 0;
    return srn__assigned_is_copy(a) ? srn_hash(0x636f7079, (srn_str){(const char *)&id, sizeof id}) | 1 : id;
}

uint32_t srn__assigned_slice(const srn__assigned *a) {
    return srn__assigned_measured(a) && a->salt && !srn__assigned_is_copy(a) ? (uint32_t)a->arm : 0;
}

bool srn__assigned_canary(const srn__call *c) {
    return gets_canary(c->assigned);
}

/* The canary has no part in the call any more. */
static void leave_canary(srn__assigned *a) {
    if (!gets_canary(a)) return;
    pthread_mutex_lock(&a->of->lock);
    close_call(a->of, a);
    pthread_mutex_unlock(&a->of->lock);
}

void srn__assign_fall_back(srn__call *c) {
    srn__assigned *a = c->assigned;
    if (!a || !a->of || a->fell_back) return;
    leave_canary(a);
    a->fell_back = true;
    if (!srn__assigned_is_copy(a)) a->why = SRN_WHY_FALLBACK;
}

void srn__assign_rolled_back(srn__call *c) {
    srn__assigned *a = c->assigned;
    if (!gets_canary(a)) return;
    leave_canary(a);
    a->arm = SRN_ARM_BASELINE;
    a->why = SRN_WHY_ROLLED_BACK;
    a->counted = false;
    a->salt = 0;
}

uint32_t srn__assign_recall(srn__rollout *r, uint32_t *ret_running) {
    uint32_t n = 0, running = 0;
    pthread_mutex_lock(&r->lock);
    r->closed = true;
    for (srn__assigned *a = r->first; a; a = a->next)
        *(srn__call_rerun(a->call, "rolled_back") ? &n : &running) += 1;
    pthread_mutex_unlock(&r->lock);
    if (ret_running) *ret_running = running;
    return n;
}

void srn__assign_reopen(srn__rollout *r) {
    pthread_mutex_lock(&r->lock);
    r->closed = false;
    pthread_mutex_unlock(&r->lock);
}

void srn__assign_done(srn__call *c) {
    srn__assigned *a = c->assigned;
    c->assigned = NULL;
    if (a) srn_checks_free(a->checks);
    if (a && a->copied) srn__copies_release(srn__call_copies(c), c);
    if (!a || !a->of) return;
    leave_canary(a);
    srn__rollout_put(a->of);
}
