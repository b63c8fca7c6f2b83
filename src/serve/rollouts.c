/* The roll-outs of a server: what the ledger's events add up to. One lock guards the list and is never held
 * while the ledger is read or written, for every call asks; another one lets one thread at a time read.
 * Events are committed before they are in force, but for those that take the canary's share away: these are
 * in force at once, and are recorded as soon as that can be.
 */
#include "serve/rollout.h"

#include <stdlib.h>

enum { PINS = 1 << 17, MOST_ROLLOUTS = 1000 };
#define PIN_US (UINT64_C(24) * 3600 * 1000000)

typedef struct entry {
    srn__rollout *r;
    srn_rollout_state state;
    bool halted;            /* its share is gone, whatever the ledger says so far */
    json_t *owed;           /* the event of that, which could not be recorded yet; NULL: none */
    uint64_t own_us;        /* at_us of the newest event of this server that changed something */
    uint64_t labels_due_us; /* when it was promoted, if labels of its prompt may not have moved; else 0 */
} entry;

struct srn__rollouts {
    srn__rollouts_opts o;
    pthread_mutex_t reading; /* guards the reader; taken before the other lock */
    srn_reader *reader;
    uint64_t next_seq;             /* from where on events are not folded yet */
    srn_err why;                   /* of an event that could not be folded for lack of memory */
    json_t *heard;                 /* events about prompts that the registry has not taken in yet */
    char self[SRN_ULID_CHARS + 1]; /* this server, in its events */

    pthread_mutex_t lock; /* guards everything below */
    entry *entries;       /* oldest first */
    uint32_t n;
    srn__past *past; /* those that made room for others */
    bool frozen;
};

/* ---- one of them ---- */

void srn__rollout_put(srn__rollout *r) {
    if (!r || atomic_fetch_sub(&r->refs, 1) != 1) return;
    srn_rollout_free(r->declared);
    srn_pins_free(r->pins);
    srn__inflight_close(r->inflight);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static void key_of(const srn_ledger_keys *keys, const char *name, uint8_t ret[32]) {
    char hex[SRN_KEYED_HASH_CHARS + 1];
    srn_keyed_hash(keys, "rollout places", srn_str_of(name), hex);
    for (size_t i = 0; i < 32; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        ret[i] = (uint8_t)strtoul(two, NULL, 16);
    }
}

/* Takes the declaration. */
static int rollout_new(const srn__rollouts *x, srn_rollout *declared, srn__rollout **ret, srn_err *err) {
    srn__rollout *r = srn_calloc(1, sizeof *r);
    if (!r) {
        srn_rollout_free(declared);
        return srn_fail_nomem(err, sizeof *r);
    }
    r->declared = declared;
    atomic_init(&r->refs, 1);
    pthread_mutex_init(&r->lock, NULL);
    key_of(srn__recorder_keys(x->o.recorder), declared->name, r->key);
    int code = srn_pins_new(PINS, PIN_US, &r->pins, err);
    if (code)
        srn__rollout_put(r);
    else
        *ret = r;
    return code;
}

static entry *find_hash(srn__rollouts *x, const char *hash) {
    for (uint32_t i = 0; i < x->n; i++)
        if (hash && strcmp(x->entries[i].r->declared->hash, hash) == 0) return &x->entries[i];
    return NULL;
}

/* The one of this declaration, whatever its hash was when it began. */
static entry *find_same(srn__rollouts *x, const srn_rollout *d) {
    for (uint32_t i = x->n; i-- > 0;)
        if (strcmp(x->entries[i].r->own, d->hash) == 0) return &x->entries[i];
    return find_hash(x, d->hash);
}

static entry *find_name(srn__rollouts *x, const char *name) { /* the newest */
    for (uint32_t i = x->n; i-- > 0;)
        if (strcmp(x->entries[i].r->declared->name, name) == 0) return &x->entries[i];
    return NULL;
}

/* What an event is about: the newest of the name, but what is retired is the newest that was promoted, for
 * another declaration may have begun since. */
static entry *find_meant(srn__rollouts *x, const char *name, const char *event) {
    for (uint32_t i = x->n; strcmp(event, "rollout_retired") == 0 && i-- > 0;) {
        entry *e = &x->entries[i];
        if (strcmp(e->r->declared->name, name) == 0 && e->state.phase == SRN_PHASE_PROMOTED) return e;
    }
    return find_name(x, name);
}

static entry *find_running(srn__rollouts *x, const char *name) {
    entry *e = find_name(x, name);
    return e && !srn_rollout_is_over(&e->state) ? e : NULL;
}

/* Events after which the canary gets no more calls. */
static bool ends_share(const char *event) {
    return strcmp(event, "rollout_rolled_back") == 0 || strcmp(event, "rollout_aborted") == 0 ||
           strcmp(event, "rollout_crashed") == 0;
}

/* ---- folding; the lock is held ---- */

/* The oldest one that has ended makes room, unless it answers for the baseline. */
static bool make_room(srn__rollouts *x) {
    for (uint32_t i = 0; i < x->n; i++) {
        const entry *e = &x->entries[i];
        if (!srn_rollout_is_over(&e->state) || e->state.phase == SRN_PHASE_PROMOTED) continue;
        if (!srn__past_add(&x->past, e->r->declared->hash, e->r->own, e->state.latched)) return false;
        srn__rollout_put(e->r);
        json_decref(e->owed);
        memmove(&x->entries[i], &x->entries[i + 1], (--x->n - i) * sizeof *x->entries);
        return true;
    }
    return false;
}

/* An entry for a declaration that is new; one that begins again becomes the newest. */
static int add_entry(srn__rollouts *x, const json_t *declaration, const char *hash, entry **ret,
                     srn_err *err) {
    entry *e = find_hash(x, hash);
    if (e) {
        entry moved = *e;
        size_t i = (size_t)(e - x->entries);
        memmove(e, e + 1, (x->n - i - 1) * sizeof *e);
        x->entries[x->n - 1] = moved;
        *ret = &x->entries[x->n - 1];
        return SRN_OK;
    }
    bool latched;
    if (srn__past_knows(x->past, hash, &latched) && latched)
        return srn_fail(err, SRN_EINVAL, "it has ended by a verdict");
    if (x->n == MOST_ROLLOUTS && !make_room(x))
        return srn_fail(err, SRN_ELIMIT, "the ledger knows %d roll-outs that run or were promoted",
                        MOST_ROLLOUTS);
    entry *grown = srn_realloc_array(x->entries, x->n + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    x->entries = grown;
    srn_rollout *declared = NULL;
    srn__rollout *r = NULL;
    char own[65];
    int code = hash && strlen(hash) == 64
                   ? srn_rollout_parse(declaration, "rollout_started", &declared, err)
                   : srn_fail(err, SRN_EINVAL, "rollout_started: the declaration has no hash");
    if (code) return code;
    memcpy(own, declared->hash, sizeof own);
    memcpy(declared->hash, hash, sizeof declared->hash);
    code = rollout_new(x, declared, &r, err);
    if (code) return code;
    memcpy(r->own, own, sizeof own);
    x->entries[x->n] = (entry){.r = r};
    *ret = &x->entries[x->n++];
    return SRN_OK;
}

/* Whether the canary gets calls from this event on. */
static void fold_share(entry *e, const char *event, bool starts) {
    bool ends = ends_share(event);
    if (ends) srn__assign_recall(e->r, NULL);
    if (starts || strcmp(event, "rollout_resumed") == 0) srn__assign_reopen(e->r);
    if (!starts && !ends && !srn_rollout_is_over(&e->state)) return;
    e->halted = false; /* the ledger has caught up */
    json_decref(e->owed);
    e->owed = NULL;
}

/* What does not fit the state was overtaken by an event of another server, and changes nothing. */
static int fold(srn__rollouts *x, const json_t *body, uint64_t seq, srn_err *err) {
    const char *event = json_string_value(json_object_get(body, "event"));
    const char *hash = json_string_value(json_object_get(body, "hash"));
    uint64_t at_us = (uint64_t)json_integer_value(json_object_get(body, "at_us"));
    srn_err late = {0};
    entry *e = NULL;
    if (strcmp(event, "rollouts_frozen") == 0 || strcmp(event, "rollouts_thawed") == 0) {
        x->frozen = strcmp(event, "rollouts_frozen") == 0;
        return SRN_OK;
    }
    if (strcmp(event, "rollout_judged") == 0) return SRN_OK;
    if (strcmp(event, "rollout_started") == 0) {
        const char *name = json_string_value(json_object_get(body, "rollout"));
        const entry *runs = name ? find_running(x, name) : NULL;
        if (runs && hash && strcmp(runs->r->declared->hash, hash) != 0) return SRN_OK; /* it came first */
        int code = add_entry(x, json_object_get(body, "declaration"), hash, &e, &late);
        if (code == SRN_ENOMEM) *err = late;
        if (code) return code == SRN_ENOMEM ? code : SRN_OK;
    }
    if (!e) e = find_hash(x, hash);
    if (!e || srn_rollout_apply(e->r->declared, &e->state, event, body, at_us, &late)) return SRN_OK;
    bool starts = strcmp(event, "rollout_started") == 0;
    fold_share(e, event, starts);
    const char *by = json_string_value(json_object_get(body, "by"));
    if (starts) e->r->began_seq = seq, e->r->of_file = by && strcmp(by, SRN__BY_FILE) == 0;
    if (starts) e->labels_due_us = 0;
    if (strcmp(event, "rollout_promoted") == 0) e->labels_due_us = at_us; /* its server may have died */
    if (e->state.phase == SRN_PHASE_PROMOTED) e->r->promoted_seq = seq;
    const char *server = json_string_value(json_object_get(body, "server"));
    if (server && strcmp(server, x->self) == 0) e->own_us = at_us;
    return SRN_OK;
}

/* What another server did to a prompt is seen here too. */
static bool is_of_prompts(srn_str body) {
    static const char pushed[] = "\"event\":\"prompt_pushed\"", moved[] = "\"event\":\"label_moved\"";
    return memmem(body.ptr, body.len, pushed, sizeof pushed - 1) ||
           memmem(body.ptr, body.len, moved, sizeof moved - 1);
}

/* reading is held. What cannot be taken in just now is tried again at the next turn. */
static void follow_prompts(srn__rollouts *x) {
    srn_err err = {0};
    while (json_array_size(x->heard)) {
        int code = srn_prompts_follow(x->o.prompts, x->reader, json_array_get(x->heard, 0), &err);
        if (code == SRN_EBUSY || code == SRN_EIO || code == SRN_ENOMEM) return;
        if (code && x->o.log) x->o.log(x->o.log_ctx, "prompts_damaged", err.text);
        json_array_remove(x->heard, 0);
    }
}

/* reading is held, the lock is not. */
static bool fold_one(void *ctx, const srn_stored *s) {
    srn__rollouts *x = ctx;
    static const char mark[] = "\"event\":\"rollout";
    int code = SRN_OK;
    if (s->seq < x->next_seq) return true;
    if (memmem(s->body.ptr, s->body.len, mark, sizeof mark - 1)) {
        json_t *body = json_loadb(s->body.ptr, s->body.len, 0, NULL);
        const char *event = json_string_value(json_object_get(body, "event"));
        pthread_mutex_lock(&x->lock);
        if (event && strncmp(event, "rollout", 7) == 0) code = fold(x, body, s->seq, &x->why);
        pthread_mutex_unlock(&x->lock);
        json_decref(body);
    }
    if (code) return false;
    if (x->o.prompts && is_of_prompts(s->body))
        json_array_append_new(x->heard, json_loadb(s->body.ptr, s->body.len, 0, NULL));
    x->next_seq = s->seq + 1;
    return true;
}

static int catch_up(srn__rollouts *x, srn_err *err) {
    x->why = (srn_err){0};
    int code = srn_reader_records(x->reader, SRN_RECORD_EVENT, x->next_seq, fold_one, x, err);
    if (!code) follow_prompts(x);
    if (!code && x->why.code) {
        *err = x->why;
        code = x->why.code;
    }
    return code;
}

int srn__rollouts_catch_up(srn__rollouts *x, srn_err *err) {
    pthread_mutex_lock(&x->reading);
    int code = catch_up(x, err);
    pthread_mutex_unlock(&x->reading);
    return code;
}

int srn__rollouts_new(const srn__rollouts_opts *o, srn__rollouts **ret, srn_err *err) {
    const srn_ledger *l = srn__recorder_ledger(o->recorder);
    srn__rollouts *x = srn_calloc(1, sizeof *x);
    if (!x) return srn_fail_nomem(err, sizeof *x);
    x->o = *o;
    pthread_mutex_init(&x->lock, NULL);
    pthread_mutex_init(&x->reading, NULL);
    srn_ulid_new(x->self);
    x->heard = json_array();
    int code = x->heard ? srn_reader_open_beside(l, &x->reader, err) : srn_fail_nomem(err, sizeof *x);
    if (!code) code = srn__rollouts_catch_up(x, err);
    if (code)
        srn__rollouts_free(x);
    else
        *ret = x;
    return code;
}

void srn__rollouts_log(const srn__rollouts *x, const char *event, const char *detail) {
    if (x->o.log) x->o.log(x->o.log_ctx, event, detail);
}

void srn__rollouts_free(srn__rollouts *x) {
    if (!x) return;
    for (uint32_t i = 0; i < x->n; i++) {
        srn__rollout_put(x->entries[i].r);
        json_decref(x->entries[i].owed);
    }
    free(x->entries);
    srn__past_free(x->past);
    srn_reader_close(x->reader);
    json_decref(x->heard);
    pthread_mutex_destroy(&x->lock);
    pthread_mutex_destroy(&x->reading);
    free(x);
}

/* ---- events ---- */

/* Takes the fields; NULL: no memory. */
static json_t *body_of(const srn__rollouts *x, const char *by, const char *event, json_t *fields) {
    json_t *body = json_pack("{s:i, s:s, s:I, s:s, s:s}", "v", 1, "event", event, "at_us",
                             (json_int_t)srn_unix_us(), "by", by, "server", x->self);
    bool whole = body && fields && json_object_update_missing(body, fields) == 0;
    json_decref(fields);
    if (whole) return body;
    json_decref(body);
    return NULL;
}

/* Commits an event and takes it. No lock is held: this waits for the disk. */
static int commit(srn__rollouts *x, json_t *body, srn_err *err) {
    srn_ledger *l = srn__recorder_ledger(x->o.recorder);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    srn_entry e = {.kind = SRN_RECORD_EVENT, .body = srn_str_of(text ? text : ""), .durable = true};
    int code = text ? srn_ledger_commit(l, &e, err) : srn_fail_nomem(err, 4096);
    if (!code) code = srn__rollouts_catch_up(x, err);
    free(text);
    json_decref(body);
    return code;
}

/* The same for an event of a roll-out. SRN_EEXIST: another server's came first, and this one changed nothing.
 */
static int commit_first(srn__rollouts *x, const char *hash, json_t *body, srn_err *err) {
    uint64_t at_us = (uint64_t)json_integer_value(json_object_get(body, "at_us"));
    const char *event = json_string_value(json_object_get(body, "event"));
    bool starts = event && strcmp(event, "rollout_started") == 0;
    int code = commit(x, body, err);
    if (code) return code;
    pthread_mutex_lock(&x->lock);
    const entry *e = find_hash(x, hash);
    if (e ? e->own_us < at_us : starts) /* one that has ended may have made room */
        code = srn_fail(err, SRN_EEXIST, "another server was faster: %s is %s now",
                        e ? e->r->declared->name : "a roll-out of this name",
                        e ? srn_phase_name(e->state.phase) : "running");
    pthread_mutex_unlock(&x->lock);
    return code;
}

/* What is in force and could not be recorded; a roll-back gives way to nothing else. Takes the event. */
static void owe(srn__rollouts *x, const char *hash, json_t *body) {
    pthread_mutex_lock(&x->lock);
    entry *e = find_hash(x, hash);
    const char *had = e ? json_string_value(json_object_get(e->owed, "event")) : NULL;
    if (e && e->halted && !(had && strcmp(had, "rollout_rolled_back") == 0)) {
        json_t *before = e->owed;
        e->owed = body;
        body = before;
    }
    pthread_mutex_unlock(&x->lock);
    json_decref(body);
}

int srn__rollouts_check(const srn__rollouts *x, const srn_config *c, const srn_rollout *d, srn_err *err) {
    int wrong = srn__rollout_fits(d, c, err);
    if (wrong) return wrong;
    if (d->prompt)
        for (int i = 0; i < 2; i++) {
            srn_prompt_ref ref = {.version = i ? d->canary_version : d->baseline_version};
            const srn_prompt *p = NULL;
            snprintf(ref.name, sizeof ref.name, "%s", d->prompt);
            int code = srn_prompts_get(x->o.prompts, &ref, &p, NULL, err);
            srn_prompts_put(p);
            if (code) return srn_fail_prefix(err, SRN_EINVAL, "%s: prompt", d->name);
        }
    return srn__rollout_routes(d, c, err);
}

bool srn__rollouts_ended(srn__rollouts *x, const char *hash) {
    pthread_mutex_lock(&x->lock);
    bool ended = srn__past_knows(x->past, hash, NULL);
    pthread_mutex_unlock(&x->lock);
    return ended;
}

/* The oldest of the first n that has calls of d. The lock is held. */
static const srn_rollout *find_before(const srn__rollouts *x, uint32_t n, const srn_config *c,
                                      const srn_rollout *d) {
    for (uint32_t i = 0; i < n; i++) {
        const entry *e = &x->entries[i];
        if (!srn_rollout_is_over(&e->state) && !e->halted && srn__rollout_waits(d, e->r->declared, c))
            return e->r->declared;
    }
    return NULL;
}

bool srn__rollouts_waits_for(srn__rollouts *x, const srn_config *c, const char *hash,
                             char ret[SRN_ROLLOUT_NAME_MAX + 1]) {
    pthread_mutex_lock(&x->lock);
    const entry *e = find_hash(x, hash);
    bool runs = e && !srn_rollout_is_over(&e->state);
    const srn_rollout *before = runs ? find_before(x, (uint32_t)(e - x->entries), c, e->r->declared) : NULL;
    if (before) snprintf(ret, SRN_ROLLOUT_NAME_MAX + 1, "%s", before->name);
    pthread_mutex_unlock(&x->lock);
    return before != NULL;
}

/* Somebody who begins one looks at it next: where it would only wait, that is said. The lock is held. */
static int check_before(const srn__rollouts *x, const srn_config *c, const char *by, const srn_rollout *d,
                        srn_err *err) {
    const srn_rollout *before = strcmp(by, SRN__BY_FILE) == 0 ? NULL : find_before(x, x->n, c, d);
    if (!before) return SRN_OK;
    return srn_fail(
        err, SRN_EEXIST,
        "%s: the roll-out '%s' has these calls: wait until it ends, or abort it (serin canary abort "
        "%s)",
        d->name, before->name, before->name);
}

int srn__rollouts_begin(srn__rollouts *x, const srn_config *c, const char *by, const json_t *declaration,
                        srn_err *err) {
    srn_rollout *d = NULL;
    srn_rollout_state s = {0};
    bool latched;
    int code = srn_rollout_parse(declaration, "roll-out", &d, err);
    if (!code) code = srn_rollout_may_begin(d, err);
    if (!code) code = srn__rollouts_check(x, c, d, err);
    if (!code) code = srn__rollouts_catch_up(x, err);
    json_t *whole = code ? NULL : srn_rollout_json(d);
    json_t *fields =
        whole ? json_pack("{s:s, s:s, s:o}", "rollout", d->name, "hash", d->hash, "declaration", whole)
              : NULL;
    if (!code && !fields) code = srn_fail_nomem(err, 4096);
    pthread_mutex_lock(&x->lock);
    if (!code && x->frozen)
        code = srn_fail(err, SRN_EBUSY, "roll-outs are frozen; serin canary thaw lets them go on");
    if (!code && find_running(x, d->name))
        code = srn_fail(err, SRN_EEXIST, "a roll-out '%s' runs already; serin canary abort %s ends it",
                        d->name, d->name);
    if (!code) code = check_before(x, c, by, d, err);
    const entry *before = code ? NULL : find_same(x, d);
    if (before) s = before->state;
    if (!code && !before && srn__past_knows(x->past, d->hash, &latched) && latched)
        code = srn_fail(err, SRN_EINVAL,
                        "%s: this declaration has ended for good and never runs again; change it", d->name);
    if (!code) code = srn_rollout_apply(d, &s, "rollout_started", fields, srn_unix_us(), err);
    pthread_mutex_unlock(&x->lock);
    if (!code)
        code = commit_first(x, d->hash, body_of(x, by, "rollout_started", fields), err);
    else
        json_decref(fields);
    srn_rollout_free(d);
    return code;
}

static bool grows_share(const char *event) {
    return strcmp(event, "rollout_step") == 0 || strcmp(event, "rollout_promoted") == 0 ||
           strcmp(event, "rollout_resumed") == 0;
}

static int unknown(srn__rollouts *x, const char *name, srn_err *err) {
    srn_buf list;
    srn_buf_init(&list, 400);
    for (uint32_t i = 0; i < x->n; i++)
        srn_buf_addf(&list, "%s%s", i ? ", " : "", x->entries[i].r->declared->name);
    int code = srn_fail(err, SRN_ENOENT, "there is no roll-out '%.80s'; known are: %s", name,
                        list.len ? list.data : "none");
    srn_buf_done(&list);
    return code;
}

/* The lock is held. */
static int check_growth(const srn__rollouts *x, const entry *e, const char *event, srn_err *err) {
    if (!grows_share(event)) return SRN_OK;
    if (x->frozen) return srn_fail(err, SRN_EBUSY, "roll-outs are frozen; serin canary thaw lets them go on");
    if (e->halted)
        return srn_fail(err, SRN_EBUSY, "%s: has lost its share, which the ledger does not say yet",
                        e->r->declared->name);
    return SRN_OK;
}

/* Labels that are due since a promotion; while roll-outs are frozen none moves. No lock is held. */
static int move_labels(srn__rollouts *x, const srn__rollout *r, srn_err *err) {
    pthread_mutex_lock(&x->lock);
    entry *e = find_hash(x, r->declared->hash);
    bool now = e && e->state.phase == SRN_PHASE_PROMOTED && r->declared->prompt && !x->frozen;
    uint64_t due = now ? e->labels_due_us : 0;
    pthread_mutex_unlock(&x->lock);
    if (!due) return SRN_OK;
    int code = srn__rollout_labels(x->o.prompts, r->declared, due, err);
    if (code) return srn_fail_prefix(err, SRN_EIO, "%s is promoted, but for a label", r->declared->name);
    pthread_mutex_lock(&x->lock);
    e = find_hash(x, r->declared->hash);
    if (e && e->labels_due_us == due) e->labels_due_us = 0;
    pthread_mutex_unlock(&x->lock);
    return SRN_OK;
}

/* The canary's share is gone from here on; what becomes of its calls is added to the event. The lock is held.
 */
static void halt(entry *e, json_t *event) {
    uint32_t running = 0, rerun = srn__assign_recall(e->r, &running);
    e->halted = true;
    json_object_set_new(event, "rerun", json_integer(rerun));
    json_object_set_new(event, "running", json_integer(running));
}

/* Before the ledger is asked what others have done, for it may be long in answering, or not answer at all. */
static bool halt_at_once(srn__rollouts *x, const char *name, const char *event, json_t *fields) {
    pthread_mutex_lock(&x->lock);
    entry *e = find_meant(x, name, event);
    bool runs = e && !srn_rollout_is_over(&e->state);
    if (runs) halt(e, fields);
    pthread_mutex_unlock(&x->lock);
    return runs;
}

int srn__rollouts_act(srn__rollouts *x, const char *by, const char *name, const char *event, json_t *fields,
                      srn_err *err) {
    json_t *all = fields ? fields : json_object();
    srn_err late = {0};
    bool ends = ends_share(event), halted = ends && halt_at_once(x, name, event, all);
    srn__rollouts_catch_up(x, &late);
    pthread_mutex_lock(&x->lock);
    entry *e = find_meant(x, name, event);
    int code = !all ? srn_fail_nomem(err, 64) : !e ? unknown(x, name, err) : SRN_OK;
    if (!code) code = check_growth(x, e, event, err);
    if (!code && (json_object_set_new(all, "rollout", json_string(name)) ||
                  json_object_set_new(all, "hash", json_string(e->r->declared->hash))))
        code = srn_fail_nomem(err, 64);
    srn_rollout_state s = code ? (srn_rollout_state){0} : e->state;
    if (!code) code = srn_rollout_apply(e->r->declared, &s, event, all, srn_unix_us(), err);
    if (!code && ends && !(halted && e->halted)) halt(e, all);
    srn__rollout *r = code ? NULL : e->r;
    if (r) atomic_fetch_add(&r->refs, 1);
    pthread_mutex_unlock(&x->lock);
    json_t *body = code ? NULL : body_of(x, by, event, all);
    if (code)
        json_decref(all);
    else
        code = commit_first(x, r->declared->hash, json_incref(body), err);
    if (code && code != SRN_EEXIST && r && ends) owe(x, r->declared->hash, json_incref(body));
    if (!code && strcmp(event, "rollout_promoted") == 0) code = move_labels(x, r, err);
    json_decref(body);
    srn__rollout_put(r);
    return code;
}

/* The n-th one, with a hold, and the event that it owes; false: there are no more. */
static bool debt_of(srn__rollouts *x, uint32_t i, srn__rollout **ret, json_t **ret_owed) {
    pthread_mutex_lock(&x->lock);
    bool there = i < x->n;
    *ret = there ? x->entries[i].r : NULL;
    *ret_owed = there ? json_incref(x->entries[i].owed) : NULL;
    if (there) atomic_fetch_add(&(*ret)->refs, 1);
    pthread_mutex_unlock(&x->lock);
    return there;
}

int srn__rollouts_settle(srn__rollouts *x, srn_err *err) {
    srn__rollout *r;
    json_t *body;
    srn_err why = {0};
    int left = SRN_OK, code = srn__rollouts_catch_up(x, err); /* what is owed may be there already */
    for (uint32_t i = 0; !code && debt_of(x, i, &r, &body); i++) {
        if (body) code = commit(x, body, err);
        srn_err one = {0};
        int moved = code ? SRN_OK : move_labels(x, r, &one); /* where one cannot be moved the others can */
        if (moved && !left) left = moved, why = one;
        srn__rollout_put(r);
    }
    if (!code && left) *err = why;
    return code ? code : left;
}

int srn__rollouts_freeze(srn__rollouts *x, const char *by, bool on, const char *why, srn_err *err) {
    return commit(x,
                  body_of(x, by, on ? "rollouts_frozen" : "rollouts_thawed",
                          why ? json_pack("{s:s}", "why", why) : json_object()),
                  err);
}

bool srn__rollouts_frozen(srn__rollouts *x) {
    pthread_mutex_lock(&x->lock);
    bool frozen = x->frozen;
    pthread_mutex_unlock(&x->lock);
    return frozen;
}

/* ---- who asks ---- */

/* As it stands now, whether or not it is recorded yet. */
static srn_rollout_state state_of(const entry *e) {
    srn_rollout_state s = e->state;
    if (e->halted) s.share = s.shadow = 0;
    return s;
}

void srn__rollouts_each(srn__rollouts *x, void (*fn)(void *ctx, srn__rollout *r, const srn_rollout_state *s),
                        void *ctx) {
    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->n; i++) {
        srn_rollout_state s = state_of(&x->entries[i]);
        fn(ctx, x->entries[i].r, &s);
    }
    pthread_mutex_unlock(&x->lock);
}

srn__rollout *srn__rollouts_pick(srn__rollouts *x, bool (*fits)(void *ctx, const srn_rollout *r), void *ctx,
                                 srn_rollout_state *ret_state) {
    srn__rollout *found = NULL;
    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->n && !found; i++) {
        const entry *e = &x->entries[i];
        if (srn_rollout_is_over(&e->state) || e->halted || !fits(ctx, e->r->declared)) continue;
        found = e->r;
        atomic_fetch_add(&found->refs, 1);
        *ret_state = state_of(e);
    }
    pthread_mutex_unlock(&x->lock);
    return found;
}

srn__rollout *srn__rollouts_promoted(srn__rollouts *x, bool (*fits)(void *ctx, const srn_rollout *r),
                                     void *ctx, uint64_t *seq) {
    srn__rollout *found = NULL;
    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->n; i++) {
        const entry *e = &x->entries[i];
        if (e->state.phase != SRN_PHASE_PROMOTED || e->r->promoted_seq <= *seq) continue;
        if (found && e->r->promoted_seq > found->promoted_seq) continue;
        if (fits(ctx, e->r->declared)) found = e->r;
    }
    if (found) {
        atomic_fetch_add(&found->refs, 1);
        *seq = found->promoted_seq;
    }
    pthread_mutex_unlock(&x->lock);
    return found;
}

int srn__rollouts_get(srn__rollouts *x, const char *name, srn__rollout **ret, srn_rollout_state *ret_state,
                      srn_err *err) {
    pthread_mutex_lock(&x->lock);
    entry *e = find_name(x, name);
    int code = e ? SRN_OK : unknown(x, name, err);
    if (e) {
        atomic_fetch_add(&e->r->refs, 1);
        *ret = e->r;
        *ret_state = state_of(e);
    }
    pthread_mutex_unlock(&x->lock);
    return code;
}
