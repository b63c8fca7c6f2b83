/* The registry: what the ledger holds of prompts, in memory, and how it changes. Any thread reads; a change
 * waits for its commit and is seen once it is there. Servers that share a ledger take in each other's
 * changes; of two that make one at the same time the later one looks again first. Refuses changes where it
 * was opened for reading, and stored documents whose content is not that of their hash.
 */
#include "prompts/registry_internal.h"

#include <stdlib.h>
#include <time.h>

enum { TRIES = 4, MAX_BODY = 4 << 20, MAX_KEY = SRN_PROMPT_NAME_MAX + SRN_PROMPT_LABEL_MAX + 2 };

/* ---- life of what is shared ---- */

static void entry_drop(srn__entry *e) {
    if (!e || atomic_fetch_sub(&e->refs, 1) != 1) return;
    for (uint32_t i = 0; i < e->n_versions; i++) srn_prompt_free(&e->versions[i]->pub);
    free(e->versions);
    free(e->moves);
    free(e);
}

void srn__prompts_drop(srn__snapshot *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    for (size_t i = 0; i < s->n; i++) entry_drop(s->entries[i]);
    free(s->entries);
    free(s);
}

srn__snapshot *srn__prompts_hold(srn_prompts *p) {
    pthread_mutex_lock(&p->lock);
    srn__snapshot *s = p->now;
    atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&p->lock);
    return s;
}

static srn__snapshot *snapshot_new(size_t n) {
    srn__snapshot *s = srn_calloc(1, sizeof *s);
    srn__entry **entries = srn_calloc(n + 1, sizeof *entries);
    if (!s || !entries) {
        free(s);
        free(entries);
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->entries = entries;
    return s;
}

/* An entry with room for one more version and one more move, sharing what from (or NULL) has. */
static srn__entry *entry_new(const char *name, const srn__entry *from) {
    srn__entry *e = srn_calloc(1, sizeof *e);
    uint32_t n = from ? from->n_versions : 0;
    size_t m = from ? from->n_moves : 0;
    if (!e) return NULL;
    atomic_init(&e->refs, 1);
    snprintf(e->name, sizeof e->name, "%s", name);
    e->versions = srn_calloc((size_t)n + 1, sizeof *e->versions);
    e->moves = srn_calloc(m + 1, sizeof *e->moves);
    if (!e->versions || !e->moves) {
        entry_drop(e);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        e->versions[i] = from->versions[i];
        atomic_fetch_add(&e->versions[i]->refs, 1);
    }
    if (m) memcpy(e->moves, from->moves, m * sizeof *e->moves);
    e->n_versions = n;
    e->n_moves = m;
    return e;
}

/* Where the name stands, or would stand. */
static size_t place_of(const srn__snapshot *s, const char *name) {
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(s->entries[mid]->name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static srn__entry *entry_of(const srn__snapshot *s, const char *name) {
    size_t at = place_of(s, name);
    return at < s->n && strcmp(s->entries[at]->name, name) == 0 ? s->entries[at] : NULL;
}

/* The snapshot with e in the place of the entry of its name; takes e. NULL: no memory. */
static srn__snapshot *with_entry(const srn__snapshot *s, srn__entry *e) {
    srn__snapshot *next = snapshot_new(s->n + 1);
    size_t at = place_of(s, e->name);
    bool there = at < s->n && strcmp(s->entries[at]->name, e->name) == 0;
    if (!next) {
        entry_drop(e);
        return NULL;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (i == at) next->entries[next->n++] = e;
        if (i == at && there) continue;
        next->entries[next->n++] = s->entries[i];
        atomic_fetch_add(&s->entries[i]->refs, 1);
    }
    if (at == s->n) next->entries[next->n++] = e;
    return next;
}

static void swap(srn_prompts *p, srn__snapshot *next) {
    pthread_mutex_lock(&p->lock);
    srn__snapshot *old = p->now;
    p->now = next;
    pthread_mutex_unlock(&p->lock);
    srn__prompts_drop(old);
}

/* ---- labels ---- */

uint32_t srn__entry_label(const srn__entry *e, const char *label) {
    for (size_t i = e->n_moves; i-- > 0;)
        if (strcmp(e->moves[i].label, label) == 0) return e->moves[i].to;
    return 0;
}

void srn__entry_labels(const srn__entry *e, bool (*fn)(void *ctx, const char *label, uint32_t version),
                       void *ctx) {
    for (size_t i = 0; i < e->n_moves; i++) {
        bool last = e->moves[i].to != 0;
        for (size_t k = i + 1; k < e->n_moves && last; k++)
            last = strcmp(e->moves[i].label, e->moves[k].label) != 0;
        if (last && !fn(ctx, e->moves[i].label, e->moves[i].to)) return;
    }
}

static uint32_t count_moves(const srn__entry *e, const char *label) {
    uint32_t n = 0;
    for (size_t i = 0; i < e->n_moves; i++) n += strcmp(e->moves[i].label, label) == 0;
    return n;
}

/* ---- reading the ledger ---- */

typedef struct loader {
    srn_prompts *p;
    int code;
    srn_err *err;
} loader;

static bool damaged(loader *l, const srn_ledger_doc *d, const char *why) {
    l->code = srn_fail(l->err, SRN_EFORMAT, "the ledger's document %s '%s' %u is damaged: %s", d->collection,
                       d->key, d->version, why);
    return false;
}

/* Puts e into the snapshot that nobody else sees yet. */
static bool take_entry(loader *l, srn__entry *e) {
    srn__snapshot *s = l->p->now;
    size_t at = place_of(s, e->name);
    if (at < s->n && strcmp(s->entries[at]->name, e->name) == 0) {
        entry_drop(s->entries[at]);
        s->entries[at] = e;
        return true;
    }
    srn__entry **grown = srn_realloc_array(s->entries, s->n + 1, sizeof *grown);
    if (!grown) {
        entry_drop(e);
        l->code = srn_fail_nomem(l->err, s->n * sizeof *grown);
        return false;
    }
    memmove(grown + at + 1, grown + at, (s->n - at) * sizeof *grown);
    grown[at] = e;
    s->entries = grown;
    s->n++;
    return true;
}

/* What is kept with the document: name and number in the arena, who and when, where from. */
static int dress(srn__version *v, const char *name, uint32_t version, const char *by, uint64_t at_us,
                 json_t *source, srn_err *err) {
    v->pub.name = srn_arena_strndup(&v->arena, name, strlen(name));
    v->by = srn_arena_strndup(&v->arena, by, strlen(by));
    v->pub.version = version;
    v->at_us = at_us;
    v->source = json_is_object(source) ? json_incref(source) : NULL;
    return v->pub.name && v->by ? SRN_OK : srn_fail_nomem(err, strlen(name));
}

static bool add_version(loader *l, const srn_ledger_doc *d, const json_t *body) {
    char what[200];
    srn_prompt *p = NULL;
    srn_err why = {0};
    srn__entry *old = entry_of(l->p->now, d->key);
    const char *hash = json_string_value(json_object_get(body, "hash")),
               *by = json_string_value(json_object_get(body, "by"));
    snprintf(what, sizeof what, "%s@%u", d->key, d->version);
    if (srn_prompt_check_name(srn_str_of(d->key), &why)) return damaged(l, d, why.text);
    if (d->version != (old ? old->n_versions : 0) + 1) return damaged(l, d, "a version before it is missing");
    if (srn__prompt_stored(json_object_get(body, "document"), what, &p, &why)) return damaged(l, d, why.text);
    if (!hash || strcmp(hash, p->hash) != 0) {
        srn_prompt_free(p);
        return damaged(l, d, "its content is not that of its hash");
    }
    srn__entry *e = entry_new(d->key, old);
    uint64_t at_us = (uint64_t)json_integer_value(json_object_get(body, "at_us"));
    l->code = e ? dress(srn__version_of(p), d->key, d->version, by ? by : "", at_us,
                        json_object_get(body, "source"), l->err)
                : srn_fail_nomem(l->err, sizeof *e);
    if (l->code) {
        entry_drop(e);
        srn_prompt_free(p);
        return false;
    }
    e->versions[e->n_versions++] = srn__version_of(p);
    return take_entry(l, e);
}

static bool add_move(loader *l, const srn_ledger_doc *d, const json_t *body) {
    const char *name = json_string_value(json_object_get(body, "name")),
               *label = json_string_value(json_object_get(body, "label")),
               *by = json_string_value(json_object_get(body, "by"));
    json_int_t to = json_integer_value(json_object_get(body, "version"));
    srn__entry *old = name ? entry_of(l->p->now, name) : NULL;
    if (!old || !label || srn_prompt_check_label(srn_str_of(label), NULL) || to < 0 || to > old->n_versions)
        return damaged(l, d, "it names no prompt, label and version that are there");
    srn__entry *e = entry_new(name, old);
    if (!e) return l->code = srn_fail_nomem(l->err, sizeof *e), false;
    srn__move *m = &e->moves[e->n_moves];
    snprintf(m->label, sizeof m->label, "%s", label);
    snprintf(m->by, sizeof m->by, "%s", by ? by : "");
    m->to = (uint32_t)to;
    m->at_us = (uint64_t)json_integer_value(json_object_get(body, "at_us"));
    e->n_moves++;
    return take_entry(l, e);
}

static bool on_doc(void *ctx, const srn_ledger_doc *d, uint64_t t_us) {
    (void)t_us; /* the documents have their own, by which the event goes too */
    loader *l = ctx;
    json_error_t e;
    json_t *body = json_loadb(d->body.ptr, d->body.len, JSON_REJECT_DUPLICATES, &e);
    bool is_prompt = strcmp(d->collection, "prompt") == 0;
    bool ok = !body ? damaged(l, d, e.text) : is_prompt ? add_version(l, d, body) : add_move(l, d, body);
    json_decref(body);
    return ok;
}

static int by_time(const void *a, const void *b) {
    const srn__move *x = a, *y = b;
    return x->at_us < y->at_us ? -1 : x->at_us > y->at_us;
}

/* Documents come label by label; the moves of all labels are put into the order of their times, which never
 * are equal. */
static void order_moves(srn__entry *e) {
    if (e->n_moves) qsort(e->moves, e->n_moves, sizeof *e->moves, by_time);
    for (size_t k = 0; k < e->n_moves; k++)
        for (size_t j = 0; j < k; j++)
            if (strcmp(e->moves[j].label, e->moves[k].label) == 0) e->moves[k].from = e->moves[j].to;
}

/* where NULL: beside the ledger that is open. */
static int load(srn_prompts *p, const char *where, const char *keys_dir, srn_err *err) {
    loader l = {p, SRN_OK, err};
    srn_reader *r = NULL;
    int code = where ? srn_reader_open(where, keys_dir, &r, err) : srn_reader_open_beside(p->ledger, &r, err);
    if (!code) code = srn_reader_docs(r, "prompt", NULL, on_doc, &l, err);
    if (!code && !l.code) code = srn_reader_docs(r, "label", NULL, on_doc, &l, err);
    srn_reader_close(r);
    for (size_t i = 0; i < p->now->n && !code && !l.code; i++) order_moves(p->now->entries[i]);
    return code ? code : l.code;
}

/* ---- what others do ---- */

static srn__snapshot *snapshot_copy(const srn__snapshot *s) {
    srn__snapshot *copy = snapshot_new(s->n);
    for (; copy && copy->n < s->n; copy->n++) {
        copy->entries[copy->n] = s->entries[copy->n];
        atomic_fetch_add(&copy->entries[copy->n]->refs, 1);
    }
    return copy;
}

/* Documents that are known already say nothing new. */
static bool on_other_doc(void *ctx, const srn_ledger_doc *d, uint64_t t_us) {
    const loader *l = ctx;
    char name[MAX_KEY];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(d->key, "@"), d->key);
    const srn__entry *e = entry_of(l->p->now, name);
    bool is_prompt = strcmp(d->collection, "prompt") == 0;
    uint32_t known = !e ? 0 : is_prompt ? e->n_versions : count_moves(e, strrchr(d->key, '@') + 1);
    return d->version <= known || on_doc(ctx, d, t_us);
}

/* The versions of one prompt and the moves of one of its labels ("": none); writing is held. r NULL: a reader
 * of its own. */
static int refresh(srn_prompts *p, srn_reader *r, const char *name, const char *label, srn_err *err) {
    srn_prompts next = {.ledger = p->ledger, .now = snapshot_copy(p->now)};
    srn_reader *own = NULL;
    loader l = {&next, SRN_OK, err};
    char key[MAX_KEY];
    snprintf(key, sizeof key, "%s@%s", name, label);
    int code = next.now ? SRN_OK : srn_fail_nomem(err, sizeof *next.now);
    if (!code && !r) code = srn_reader_open_beside(p->ledger, &own, err);
    if (own) r = own;
    if (!code) code = srn_reader_docs(r, "prompt", name, on_other_doc, &l, err);
    if (!code && !l.code && *label) code = srn_reader_docs(r, "label", key, on_other_doc, &l, err);
    srn_reader_close(own);
    if (!code) code = l.code;
    srn__entry *e = code ? NULL : entry_of(next.now, name);
    bool changed = e && e != entry_of(p->now, name);
    if (changed) {
        order_moves(e);
        swap(p, next.now);
    } else {
        srn__prompts_drop(next.now);
    }
    return code;
}

/* Whether the event is one of those that the registry has: writing is held. */
static bool is_known(const srn_prompts *p, const json_t *event, const char *name, const char *label) {
    const srn__entry *e = entry_of(p->now, name);
    uint64_t at_us = (uint64_t)json_integer_value(json_object_get(event, "at_us"));
    if (!e) return false;
    if (!*label) return json_integer_value(json_object_get(event, "version")) <= (json_int_t)e->n_versions;
    for (size_t i = e->n_moves; i-- > 0;)
        if (e->moves[i].at_us == at_us && strcmp(e->moves[i].label, label) == 0) return true;
    return false;
}

int srn_prompts_follow(srn_prompts *p, srn_reader *r, const json_t *event, srn_err *err) {
    const char *what = json_string_value(json_object_get(event, "event")),
               *name = json_string_value(json_object_get(event, "name")),
               *label = json_string_value(json_object_get(event, "label"));
    bool moved = what && strcmp(what, "label_moved") == 0,
         pushed = what && strcmp(what, "prompt_pushed") == 0;
    if (!(moved || pushed) || !name || (moved && !label)) return SRN_OK;
    if (pthread_mutex_trylock(&p->writing))
        return srn_fail(err, SRN_EBUSY, "the prompts are being changed just now");
    int code =
        is_known(p, event, name, moved ? label : "") ? SRN_OK : refresh(p, r, name, moved ? label : "", err);
    pthread_mutex_unlock(&p->writing);
    return code;
}

static int new_registry(srn_ledger *l, const char *where, const char *keys_dir, srn_prompts **ret,
                        srn_err *err) {
    srn_prompts *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->writing, NULL);
    p->ledger = l;
    p->now = snapshot_new(0);
    int code = p->now ? load(p, where, keys_dir, err) : srn_fail_nomem(err, sizeof *p->now);
    if (code) {
        srn_prompts_close(p);
        return code;
    }
    *ret = p;
    return SRN_OK;
}

int srn_prompts_open(srn_ledger *l, srn_prompts **ret, srn_err *err) {
    return new_registry(l, NULL, NULL, ret, err);
}

int srn_prompts_read(const char *where, const char *keys_dir, srn_prompts **ret, srn_err *err) {
    return new_registry(NULL, where, keys_dir, ret, err);
}

void srn_prompts_close(srn_prompts *p) {
    if (!p) return;
    srn__prompts_drop(p->now);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->writing);
    free(p);
}

/* ---- finding ---- */

const srn__entry *srn__prompts_find(const srn__snapshot *s, const char *name, srn_err *err) {
    const srn__entry *e = entry_of(s, name);
    char list[300] = "";
    int n = 0;
    if (e) return e;
    for (size_t i = 0; i < s->n && n < 150; i++)
        n += snprintf(list + n, sizeof list - (size_t)n, "%s%.120s", i ? ", " : "", s->entries[i]->name);
    srn_fail(err, SRN_ENOENT, "there is no prompt '%.130s'; %s%s", name,
             s->n ? "there are " : "none was pushed yet", list);
    return NULL;
}

typedef struct names {
    char text[200];
    int n;
} names;

static bool add_name(void *ctx, const char *label, uint32_t version) {
    names *l = ctx;
    (void)version;
    l->n += snprintf(l->text + l->n, sizeof l->text - (size_t)l->n, "%s%s", l->n ? ", " : "", label);
    return l->n < 120;
}

const srn__version *srn__prompts_which(const srn__entry *e, const srn_prompt_ref *ref,
                                       char ret_label[SRN_PROMPT_LABEL_MAX + 1], srn_err *err) {
    const char *label = ref->label[0] ? ref->label : "production";
    uint32_t v = ref->version ? ref->version : srn__entry_label(e, label);
    if (ref->version > e->n_versions) {
        srn_fail(err, SRN_ENOENT, "'%s' has no version %u; its versions are 1 to %u", e->name, ref->version,
                 e->n_versions);
        return NULL;
    }
    if (!v && ref->label[0]) {
        names l = {"", 0};
        srn__entry_labels(e, add_name, &l);
        srn_fail(err, SRN_ENOENT, "'%s' has no label '%s'; it has %s", e->name, ref->label,
                 l.n ? l.text : "none");
        return NULL;
    }
    if (ret_label) snprintf(ret_label, SRN_PROMPT_LABEL_MAX + 1, "%s", v && !ref->version ? label : "");
    return e->versions[(v ? v : e->n_versions) - 1];
}

int srn_prompts_get(srn_prompts *p, const srn_prompt_ref *ref, const srn_prompt **ret,
                    char ret_label[SRN_PROMPT_LABEL_MAX + 1], srn_err *err) {
    srn_err own = {0};
    srn__snapshot *s = srn__prompts_hold(p);
    const srn__entry *e = srn__prompts_find(s, ref->name, &own);
    const srn__version *v = e ? srn__prompts_which(e, ref, ret_label, &own) : NULL;
    if (v) {
        atomic_fetch_add(&srn__version_of(&v->pub)->refs, 1);
        *ret = &v->pub;
    }
    srn__prompts_drop(s);
    if (!v && err) *err = own;
    return v ? SRN_OK : own.code;
}

/* ---- changing ---- */

/* The event and the document that it brings about, both from JSON; takes them. */
static int commit(srn_prompts *p, json_t *event, const char *collection, const char *key, uint32_t version,
                  json_t *doc, srn_err *err) {
    srn_buf e, d;
    srn_buf_init(&e, MAX_BODY);
    srn_buf_init(&d, MAX_BODY);
    if (event) srn__prompt_put(&e, event);
    if (doc) srn__prompt_put(&d, doc);
    int code = !event || !doc || e.failed || d.failed ? srn_fail_nomem(err, MAX_BODY) : SRN_OK;
    if (!code) {
        srn_ledger_doc document = {collection, key, version, {d.data, d.len}};
        srn_entry entry = {
            .kind = SRN_RECORD_EVENT, .body = {e.data, e.len}, .doc = &document, .durable = true};
        code = srn_ledger_commit(p->ledger, &entry, err);
    }
    srn_buf_done(&e);
    srn_buf_done(&d);
    json_decref(event);
    json_decref(doc);
    return code;
}

static int check_writable(const srn_prompts *p, const char *by, srn_err *err) {
    if (!p->ledger) return srn_fail(err, SRN_EUNSUP, "the registry was opened for reading");
    for (size_t i = 0, k, n = strlen(by); i < n; i += k) {
        k = srn_utf8_len(by + i, n - i);
        if (!k || (unsigned char)by[i] < 32 || n > 120)
            return srn_fail(err, SRN_EINVAL,
                            "who does it ('by') needs a text of up to 120 bytes without line breaks");
    }
    return SRN_OK;
}

/* The new version n of the draft; e gets it. */
static int push(srn_prompts *p, const char *name, srn__entry *e, const srn_prompt *draft, const char *by,
                const json_t *source, srn_err *err) {
    srn_prompt *v = NULL;
    uint32_t n = e->n_versions + 1;
    uint64_t at_us = srn_unix_us();
    json_t *from = source ? json_deep_copy(source) : NULL, *document = srn__version_of(draft)->doc;
    int code = srn__prompt_stored(document, name, &v, err);
    if (!code) code = dress(srn__version_of(v), name, n, by, at_us, from, err);
    if (!code)
        code = commit(p,
                      json_pack("{s:i, s:s, s:I, s:s, s:s, s:I, s:s, s:O?}", "v", 1, "event", "prompt_pushed",
                                "at_us", (json_int_t)at_us, "by", by, "name", name, "version", (json_int_t)n,
                                "hash", v->hash, "source", from),
                      "prompt", name, n,
                      json_pack("{s:i, s:s, s:I, s:s, s:s, s:I, s:O?, s:O}", "v", 1, "name", name, "version",
                                (json_int_t)n, "hash", v->hash, "by", by, "at_us", (json_int_t)at_us,
                                "source", from, "document", document),
                      err);
    json_decref(from);
    if (code)
        srn_prompt_free(v);
    else
        e->versions[e->n_versions++] = srn__version_of(v);
    return code;
}

/* Before a change: what others have done to the prompt, where others can; again where one was faster. */
static int look_again(srn_prompts *p, int tried, const char *name, const char *label, srn_err *err) {
    bool shared = srn_ledger_is_postgres(srn_ledger_where(p->ledger));
    return shared || tried ? refresh(p, NULL, name, label, err) : SRN_OK;
}

/* Everything is made before it is committed, so that what is committed is seen. SRN_EEXIST: another server
 * has pushed a version of that number. */
static int push_once(srn_prompts *p, const char *name, const srn_prompt *draft, const char *by,
                     const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err) {
    const srn__entry *old = entry_of(p->now, name);
    const srn__version *newest = old ? old->versions[old->n_versions - 1] : NULL;
    bool same = newest && strcmp(newest->pub.hash, draft->hash) == 0;
    uint32_t version = old ? old->n_versions : 0;
    if (!same) {
        srn__entry *e = entry_new(name, old);
        srn__snapshot *next = e ? with_entry(p->now, e) : NULL;
        int code = next ? push(p, name, e, draft, by, source, err) : srn_fail_nomem(err, sizeof *e);
        version++;
        if (code) {
            srn__prompts_drop(next);
            return code;
        }
        swap(p, next);
    }
    *ret_version = version;
    *ret_new = !same;
    return SRN_OK;
}

int srn_prompts_push(srn_prompts *p, const char *name, const srn_prompt *draft, const char *by,
                     const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err) {
    int code = check_writable(p, by, err);
    if (!code) code = srn_prompt_check_name(srn_str_of(name), err);
    if (code) return code;
    pthread_mutex_lock(&p->writing);
    code = SRN_EEXIST;
    for (int i = 0; code == SRN_EEXIST && i < TRIES; i++) {
        code = look_again(p, i, name, "", err);
        if (!code) code = push_once(p, name, draft, by, source, ret_version, ret_new, err);
    }
    pthread_mutex_unlock(&p->writing);
    return code;
}

static int move(srn_prompts *p, srn__entry *e, const char *label, uint32_t from, uint32_t to, const char *by,
                srn_err *err) {
    char key[MAX_KEY];
    uint64_t at_us = srn_unix_us();
    srn__move *m = &e->moves[e->n_moves];
    if (e->n_moves) at_us = SRN_MAX(at_us, e->moves[e->n_moves - 1].at_us + 1); /* clocks may go back */
    snprintf(key, sizeof key, "%s@%s", e->name, label);
    snprintf(m->label, sizeof m->label, "%s", label);
    snprintf(m->by, sizeof m->by, "%s", by);
    m->from = from;
    m->to = to;
    m->at_us = at_us;
    int code = commit(p,
                      json_pack("{s:i, s:s, s:I, s:s, s:s, s:s, s:I, s:I}", "v", 1, "event", "label_moved",
                                "at_us", (json_int_t)at_us, "by", by, "name", e->name, "label", label, "from",
                                (json_int_t)from, "to", (json_int_t)to),
                      "label", key, count_moves(e, label) + 1,
                      json_pack("{s:i, s:s, s:s, s:I, s:s, s:I}", "v", 1, "name", e->name, "label", label,
                                "version", (json_int_t)to, "by", by, "at_us", (json_int_t)at_us),
                      err);
    if (!code) e->n_moves++;
    return code;
}

typedef struct only { /* a label that is moved no more than once */
    uint32_t from;
    uint64_t since_us;
} only;

/* Whether it is as its mover knows it; o NULL: that does not matter. */
static bool is_as_known(const srn__entry *e, const char *label, const only *o) {
    if (!o) return true;
    for (size_t i = e->n_moves; i-- > 0;)
        if (strcmp(e->moves[i].label, label) == 0)
            return e->moves[i].to == o->from && e->moves[i].at_us < o->since_us;
    return false;
}

static int move_label(srn_prompts *p, const srn__entry *old, const char *label, const only *o,
                      uint32_t version, const char *by, bool *ret_moved, srn_err *err) {
    uint32_t from = srn__entry_label(old, label);
    if (version > old->n_versions)
        return srn_fail(err, SRN_ENOENT, "'%s' has no version %u; its versions are 1 to %u", old->name,
                        version, old->n_versions);
    if (!version && !from) return srn_fail(err, SRN_ENOENT, "'%s' has no label '%s'", old->name, label);
    *ret_moved = from != version && is_as_known(old, label, o);
    if (!*ret_moved) return SRN_OK;
    srn__entry *e = entry_new(old->name, old);
    srn__snapshot *next = e ? with_entry(p->now, e) : NULL;
    int code = next ? move(p, e, label, from, version, by, err) : srn_fail_nomem(err, sizeof *e);
    if (code)
        srn__prompts_drop(next);
    else
        swap(p, next);
    return code;
}

static int label_if(srn_prompts *p, const char *name, const char *label, const only *o, uint32_t version,
                    const char *by, bool *ret_moved, srn_err *err) {
    int code = check_writable(p, by, err);
    if (!code) code = srn_prompt_check_label(srn_str_of(label), err);
    if (code) return code;
    pthread_mutex_lock(&p->writing);
    code = SRN_EEXIST;
    for (int i = 0; code == SRN_EEXIST && i < TRIES; i++) {
        code = look_again(p, i, name, label, err);
        const srn__entry *old = code ? NULL : srn__prompts_find(p->now, name, err);
        if (!code) code = old ? move_label(p, old, label, o, version, by, ret_moved, err) : SRN_ENOENT;
    }
    pthread_mutex_unlock(&p->writing);
    return code;
}

int srn_prompts_label(srn_prompts *p, const char *name, const char *label, uint32_t version, const char *by,
                      bool *ret_moved, srn_err *err) {
    return label_if(p, name, label, NULL, version, by, ret_moved, err);
}

int srn_prompts_relabel(srn_prompts *p, const char *name, const char *label, uint32_t from, uint64_t since_us,
                        uint32_t version, const char *by, bool *ret_moved, srn_err *err) {
    return label_if(p, name, label, &(only){from, since_us}, version, by, ret_moved, err);
}
