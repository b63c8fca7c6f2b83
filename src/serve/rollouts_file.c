/* The roll-outs that the configuration declares, at a start and at each reload: what is new begins, another
 * declaration of a name takes the place of the one before, and what is declared no more ends. A roll-out that
 * somebody began by hand is none of the file's, and stays. Called by who starts or reloads the server, one
 * thread at a time; what others do meanwhile is theirs.
 *
 * On a ledger that several servers share, a server ends only what it could have begun itself: a roll-out
 * whose models its own configuration does not have is another one's.
 */
#include <stdlib.h>

#include "serve/rollout.h"

/* A declaration of the file. */
typedef struct declared {
    srn_rollout *d;
    json_t *json;
    uint32_t line;
    bool known, begins; /* it ran before; it is to begin, now or after a freeze */
} declared;

typedef struct file {
    declared *list;
    uint32_t n;
} file;

/* A roll-out that has not ended. */
typedef struct running {
    srn__rollout *r; /* with a hold */
    bool of_file;
    bool stays;    /* the file says the same */
    bool replaced; /* the file has another one of its name, which is to begin */
    bool renewed;  /* the file has another one of its name */
} running;

typedef struct plan {
    file f;
    running *list;
    uint32_t n;
    bool no_memory;
} plan;

/* ---- what is, and what is to be ---- */

static void file_done(file *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        srn_rollout_free(f->list[i].d);
        json_decref(f->list[i].json);
    }
    free(f->list);
}

static int file_read(const srn_config *c, file *ret, srn_err *err) {
    ret->list = srn_calloc((size_t)c->n_rollouts + 1, sizeof *ret->list);
    if (!ret->list) return srn_fail_nomem(err, ((size_t)c->n_rollouts + 1) * sizeof *ret->list);
    for (; ret->n < c->n_rollouts; ret->n++) {
        const srn_config_rollout *o = &c->rollouts[ret->n];
        declared *k = &ret->list[ret->n];
        k->line = o->line;
        k->json = json_loads(o->json, 0, NULL);
        int code =
            k->json ? srn_rollout_parse(k->json, "canary", &k->d, err) : srn_fail_nomem(err, strlen(o->json));
        if (code) return ret->n++, srn_fail_prefix(err, code, "%s:%u", c->file, o->line);
        k->begins = true;
    }
    return SRN_OK;
}

static bool is_same(const srn__rollout *r, const srn_rollout *d) {
    return strcmp(r->own, d->hash) == 0 || strcmp(r->declared->hash, d->hash) == 0;
}

/* What ran before does not begin again, unless it was the file that ended it. Under the roll-outs' lock; the
 * newest comes last. */
static void weigh(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    plan *p = ctx;
    running now = {.r = r, .of_file = r->of_file};
    for (uint32_t i = 0; i < p->f.n; i++) {
        declared *k = &p->f.list[i];
        bool same = is_same(r, k->d);
        now.stays = now.stays || same;
        now.renewed = now.renewed || (!same && strcmp(r->declared->name, k->d->name) == 0);
        if (!same) continue;
        k->known = true;
        k->begins = s->phase == SRN_PHASE_ABORTED && strcmp(s->by, SRN__BY_FILE) == 0;
    }
    if (srn_rollout_is_over(s)) return;
    running *grown = srn_realloc_array(p->list, p->n + 1, sizeof *grown);
    if (!grown) {
        p->no_memory = true;
        return;
    }
    p->list = grown;
    p->list[p->n++] = now;
    atomic_fetch_add(&r->refs, 1);
}

static void plan_done(plan *p) {
    for (uint32_t i = 0; i < p->n; i++) srn__rollout_put(p->list[i].r);
    free(p->list);
    file_done(&p->f);
}

static int plan_new(srn__rollouts *x, const srn_config *c, plan *ret, srn_err *err) {
    int code = file_read(c, &ret->f, err);
    if (!code) code = srn__rollouts_catch_up(x, err);
    if (code) return code;
    srn__rollouts_each(x, weigh, ret);
    if (ret->no_memory) return srn_fail_nomem(err, sizeof(running));
    for (uint32_t k = 0; k < ret->f.n; k++) {
        declared *d = &ret->f.list[k];
        if (!d->known && srn__rollouts_ended(x, d->d->hash)) d->known = true, d->begins = false;
    }
    for (uint32_t i = 0; i < ret->n; i++)
        for (uint32_t k = 0; k < ret->f.n; k++) {
            const declared *d = &ret->f.list[k];
            if (d->begins && strcmp(ret->list[i].r->declared->name, d->d->name) == 0)
                ret->list[i].replaced = true;
        }
    return SRN_OK;
}

/* The file began it, and does not say so any more. */
static bool is_dropped(const running *u, const srn_config *before, const srn_config *c) {
    const srn_rollout *d = u->r->declared;
    bool ours = !srn__rollout_missing(d, c) || (before && !srn__rollout_missing(d, before));
    return u->of_file && !u->stays && !u->replaced && ours;
}

/* ---- before it is in force ---- */

/* m: the models are those that it will have; NULL: they are not there yet. */
static int check_new(const srn__rollouts *x, srn__models *m, const plan *p, const srn_config *c,
                     srn_err *err) {
    int code = SRN_OK;
    for (uint32_t i = 0; i < p->f.n && !code; i++) {
        if (!p->f.list[i].begins) continue;
        code = srn__rollouts_check(x, c, p->f.list[i].d, err);
        if (!code && m) code = srn__rollout_comparable(m, p->f.list[i].d, err);
        if (code) srn_fail_prefix(err, code, "%s:%u", c->file, p->f.list[i].line);
    }
    return code;
}

/* One that goes on needs the models that it has had here. */
static int check_running(const running *u, const srn_config *now, const srn_config *next, srn_err *err) {
    const srn_rollout *d = u->r->declared;
    const char *missing = srn__rollout_missing(d, next);
    bool ends = u->replaced || (u->of_file && !u->stays);
    if (!missing || ends || srn__rollout_missing(d, now)) return SRN_OK;
    return srn_fail(err, SRN_EINVAL,
                    "the roll-out '%s' runs with the model '%s', which the new configuration has no longer; "
                    "serin canary abort %s ends it first",
                    d->name, missing, d->name);
}

int srn__rollouts_may(srn__rollouts *x, const srn_config *now, const srn_config *next, srn_err *err) {
    plan p = {0};
    if (!x && next->n_rollouts)
        return srn_fail(err, SRN_EINVAL,
                        "%s:%u: canary: a roll-out needs the ledger, and this server was started without one",
                        next->file, next->rollouts[0].line);
    if (!x) return SRN_OK;
    int code = plan_new(x, next, &p, err);
    if (!code) code = check_new(x, NULL, &p, next, err);
    for (uint32_t i = 0; i < p.n && !code; i++) code = check_running(&p.list[i], now, next, err);
    plan_done(&p);
    return code;
}

/* ---- in force ---- */

static void say(const srn__rollouts *x, const char *event, const char *name, const char *what) {
    char text[900];
    snprintf(text, sizeof text, "%.80s: %.800s", name, what);
    srn__rollouts_log(x, event, text);
}

/* One that has ended meanwhile is as good as aborted. */
static int abort_it(srn__rollouts *x, const char *name, const char *why, srn_err *err) {
    int code =
        srn__rollouts_act(x, SRN__BY_FILE, name, "rollout_aborted", json_pack("{s:s}", "why", why), err);
    if (!code) say(x, "rollout_aborted", name, why);
    return code == SRN_EINVAL || code == SRN_EEXIST ? SRN_OK : code;
}

static int drop(srn__rollouts *x, const running *u, srn_err *err) {
    return abort_it(x, u->r->declared->name,
                    u->renewed ? "the file declares another one of this name"
                               : "the configuration has it no longer",
                    err);
}

static void say_waits(const srn__rollouts *x, const char *name, json_t *waits) {
    char text[200];
    snprintf(text, sizeof text, "%s waits: roll-outs are frozen; serin canary thaw begins it", name);
    srn__rollouts_log(x, "rollout_waits", text);
    if (waits) json_array_append_new(waits, json_string(text));
}

/* It runs, and no call of this server can come to it, or another one has them. */
static void say_idle(srn__rollouts *x, const srn_config *c, const srn_rollout *d) {
    const char *missing = srn__rollout_missing(d, c);
    char text[300], before[SRN_ROLLOUT_NAME_MAX + 1];
    srn_err err = {0};
    if (missing) {
        snprintf(text, sizeof text, "gets no calls here, for the configuration has no model '%.60s'",
                 missing);
        say(x, "rollout_idle", d->name, text);
    } else if (srn__rollout_routes(d, c, &err)) {
        srn__rollouts_log(x, "rollout_idle", err.text);
    } else if (srn__rollouts_waits_for(x, c, d->hash, before)) {
        snprintf(text, sizeof text, "waits for '%s', which began before it and has these calls until it ends",
                 before);
        say(x, "rollout_waits", d->name, text);
    }
}

/* Another server with this file may have been faster, or have frozen all. */
static int begin(srn__rollouts *x, const srn_config *c, const declared *k, srn_err *err) {
    int code = srn__rollouts_begin(x, c, SRN__BY_FILE, k->json, err);
    if (code == SRN_EEXIST || code == SRN_EBUSY) return SRN_OK;
    if (code) return srn_fail_prefix(err, code, "%s:%u", c->file, k->line);
    say_idle(x, c, k->d);
    return SRN_OK;
}

int srn__rollouts_declared(srn__rollouts *x, srn__models *m, const srn_config *before, const srn_config *c,
                           json_t *waits, srn_err *err) {
    plan p = {0};
    int code = plan_new(x, c, &p, err);
    if (!code) code = check_new(x, m, &p, c, err);
    bool frozen = srn__rollouts_frozen(x);
    for (uint32_t i = 0; i < p.n && !code; i++) {
        const running *u = &p.list[i];
        if (is_dropped(u, before, c))
            code = drop(x, u, err);
        else if (u->replaced && !frozen)
            code = abort_it(x, u->r->declared->name, "the file declares another one of this name", err);
        else
            say_idle(x, c, u->r->declared);
    }
    for (uint32_t i = 0; i < p.f.n && !code; i++) {
        const declared *k = &p.f.list[i];
        if (!k->begins) continue;
        if (frozen)
            say_waits(x, k->d->name, waits);
        else
            code = begin(x, c, k, err);
    }
    plan_done(&p);
    return code;
}
