/* The ledger that is open for writing: its life, and the door through which entries come. Any thread appends;
 * nothing here touches the store once the writer's thread runs. An entry is checked and copied, then it has a
 * place in the queue, or waits outside of it for one. Refuses bodies that are not records, and entries past
 * the caps of ledger_internal.h.
 */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "ledger/retain_internal.h"
#include "ledger/writer_internal.h"

enum { QUEUE_ENTRIES = 10000, PATIENCE_US = 30 * 1000000, ANSWER_US = 15 * 1000000, DEAD_US = 10 * 1000000 };
#define QUEUE_BYTES ((uint64_t)256 << 20)

/* ---- entries ---- */

void srn__list_push(srn__list *list, srn__item *item) {
    item->next = NULL;
    if (list->last)
        list->last->next = item;
    else
        list->first = item;
    list->last = item;
    list->n++;
    list->n_durable += item->durable;
    list->bytes += item->bytes;
}

srn__item *srn__list_pop(srn__list *list) {
    srn__item *item = list->first;
    if (!item) return NULL;
    list->first = item->next;
    if (!list->first) list->last = NULL;
    list->n--;
    list->n_durable -= item->durable;
    list->bytes -= item->bytes;
    item->next = NULL;
    return item;
}

static int check_entry(const srn_entry *e, srn_err *err) {
    if (e->content.len > SRN__CONTENT_BYTES)
        return srn_fail(err, SRN_EFORMAT, "content of %zu bytes is more than the %d that a call may have",
                        e->content.len, SRN__CONTENT_BYTES);
    if (e->content.len && e->kind != SRN_RECORD_CALL)
        return srn_fail(err, SRN_EFORMAT, "only the record of a call has content");
    const srn_ledger_doc *d = e->doc;
    if (!d) return SRN_OK;
    if (e->kind != SRN_RECORD_EVENT || !d->collection[0] || !d->key[0] || !d->version)
        return srn_fail(err, SRN_EFORMAT,
                        "a document needs an event, a collection, a key and a version from 1 on");
    if (strlen(d->collection) > 64 || strlen(d->key) > 1024 || d->body.len > SRN__BODY_BYTES)
        return srn_fail(err, SRN_EFORMAT, "the document '%.64s' is longer than a document may be", d->key);
    return SRN_OK;
}

/* Copies a text to *at and moves it on. */
static const char *place(char **at, const char *p, size_t n) {
    char *to = *at;
    if (n) memcpy(to, p, n);
    to[n] = 0;
    *at += n + 1;
    return to;
}

int srn__item_new(const srn_entry *e, srn__item **ret, srn_err *err) {
    srn_record *record = NULL;
    int code = check_entry(e, err);
    if (!code) code = srn_record_decode(e->kind, e->body, &record, err);
    if (code) return code;
    const srn_ledger_doc *d = e->doc;
    size_t bytes = sizeof(srn__item) + e->body.len + e->content.len + 2;
    if (d) bytes += strlen(d->collection) + strlen(d->key) + d->body.len + 3;
    srn__item *item = srn_calloc(1, bytes);
    if (!item) {
        srn_record_free(record);
        return srn_fail_nomem(err, bytes);
    }
    char *at = (char *)(item + 1);
    item->record = record;
    item->bytes = bytes + 2 * e->body.len; /* about what the decoded record takes */
    item->durable = e->durable;
    item->done = e->done;
    item->ctx = e->ctx;
    item->since_us = srn_now_us();
    item->row = (srn__row){.kind = e->kind, .record = record};
    item->row.body = (srn_str){place(&at, e->body.ptr, e->body.len), e->body.len};
    item->row.content = (srn_str){place(&at, e->content.ptr, e->content.len), e->content.len};
    item->row.has_content = e->content.len || d;
    if (e->content.len) code = srn__content_digest(item->row.content, item->row.content_sha);
    if (d) {
        item->doc.collection = place(&at, d->collection, strlen(d->collection));
        item->doc.key = place(&at, d->key, strlen(d->key));
        item->doc.version = d->version;
        item->doc.body = (srn_str){place(&at, d->body.ptr, d->body.len), d->body.len};
        item->row.doc = &item->doc;
        code = srn__doc_digest(&item->doc, item->row.content_sha);
    }
    if (code) {
        srn__item_free(item);
        return srn_fail_nomem(err, bytes);
    }
    *ret = item;
    return SRN_OK;
}

void srn__item_free(srn__item *item) {
    if (!item) return;
    srn_record_free(item->record);
    free(item);
}

static void enqueue(srn_ledger *l, srn__item *item) {
    void (*done)(void *ctx, int code, const srn_err *why) = item->durable ? NULL : item->done;
    void *ctx = item->ctx;
    pthread_mutex_lock(&l->lock);
    bool placed = srn__writer_has_room(l, item);
    if (placed && done) item->done = NULL; /* it is told here */
    srn__list_push(placed ? &l->queue : &l->outside, item);
    l->stats.appended++;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
    if (placed && done) done(ctx, SRN_OK, NULL);
}

int srn__ledger_append_own(srn_ledger *l, const srn_entry *e, srn_err *err) {
    srn__item *item = NULL;
    int code = srn__item_new(e, &item, err);
    if (!code) enqueue(l, item);
    return code;
}

int srn_ledger_append(srn_ledger *l, const srn_entry *e, srn_err *err) {
    if (e->kind == SRN_RECORD_CHECKPOINT || e->kind == SRN_RECORD_TOMBSTONE)
        return srn_fail(err, SRN_EFORMAT, "checkpoints and tombstones are the ledger's own");
    return srn__ledger_append_own(l, e, err);
}

typedef struct waiter {
    pthread_mutex_t lock; /* guards the others */
    pthread_cond_t done;
    bool is_done;
    int code;
    srn_err why;
} waiter;

static void wake(void *ctx, int code, const srn_err *why) {
    waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->is_done = true;
    w->code = code;
    if (why) w->why = *why;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
}

static void waiter_init(waiter *w) {
    *w = (waiter){.code = SRN_OK};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->done, NULL);
}

/* Waits until the entry is done, unless it was not even taken. */
static int waiter_end(waiter *w, int code, srn_err *err) {
    if (!code) {
        pthread_mutex_lock(&w->lock);
        while (!w->is_done) pthread_cond_wait(&w->done, &w->lock);
        pthread_mutex_unlock(&w->lock);
        code = w->code;
        if (code && err) *err = w->why;
    }
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    return code;
}

int srn_ledger_commit(srn_ledger *l, const srn_entry *e, srn_err *err) {
    waiter w;
    srn_entry entry = *e;
    entry.durable = true;
    entry.done = wake;
    entry.ctx = &w;
    waiter_init(&w);
    return waiter_end(&w, srn_ledger_append(l, &entry, err), err);
}

int srn_ledger_checkpoint(srn_ledger *l, srn_buf *ret, srn_err *err) {
    waiter w;
    waiter_init(&w);
    srn__item *item = srn_calloc(1, sizeof *item);
    if (item) {
        *item = (srn__item){.bytes = sizeof *item, .durable = true, .done = wake, .ctx = &w};
        item->row.kind = SRN_RECORD_CHECKPOINT;
        item->since_us = srn_now_us();
        enqueue(l, item);
    }
    int code = waiter_end(&w, item ? SRN_OK : srn_fail_nomem(err, sizeof *item), err);
    if (code) return code;
    srn_buf_clear(ret);
    pthread_mutex_lock(&l->lock);
    bool ok = srn_buf_add(ret, l->checkpoint.data, l->checkpoint.len);
    pthread_mutex_unlock(&l->lock);
    if (!ok) return srn_fail_nomem(err, 0);
    return ret->len ? SRN_OK
                    : srn_fail(err, SRN_ENOENT, "%s: the ledger has no records to sign yet", l->at.name);
}

int srn_ledger_event(srn_ledger *l, const char *name, const char *by, srn_str fields, srn_err *err) {
    json_error_t why;
    json_t *body =
        json_pack("{sisssIss}", "v", 1, "event", name, "at_us", (json_int_t)srn_unix_us(), "by", by);
    json_t *more =
        fields.len ? json_loadb(fields.ptr, fields.len, JSON_REJECT_DUPLICATES, &why) : json_object();
    char *text = NULL;
    int code = SRN_OK;
    if (!body || !more)
        code = !body ? srn_fail(err, SRN_EFORMAT, "an event's name and author must be UTF-8")
                     : srn_fail(err, SRN_EFORMAT, "the fields of an event: %s", why.text);
    else if (!json_is_object(more) || json_object_update_missing(body, more))
        code = srn_fail(err, SRN_EFORMAT, "the fields of an event must be a JSON object");
    else if (!(text = json_dumps(body, JSON_COMPACT)))
        code = srn_fail_nomem(err, fields.len);
    if (!code) {
        srn_entry e = {.kind = SRN_RECORD_EVENT, .body = srn_str_of(text), .durable = true};
        code = srn_ledger_append(l, &e, err);
    }
    free(text);
    json_decref(body);
    json_decref(more);
    return code;
}

/* ---- what can be asked ---- */

bool srn_ledger_ready(srn_ledger *l, srn_err *ret_why) {
    pthread_mutex_lock(&l->lock);
    bool failing = l->failing, full = l->outside.n || l->queue.n >= l->o.queue;
    if (failing && ret_why) *ret_why = l->trouble;
    if (failing) srn_fail_prefix(ret_why, SRN_EIO, "the ledger cannot be written");
    if (full && !failing)
        srn_fail(ret_why, SRN_EBUSY, "%u records wait to be written to the ledger: it falls behind",
                 l->queue.n + l->outside.n);
    pthread_mutex_unlock(&l->lock);
    return !failing && !full;
}

void srn_ledger_get_stats(srn_ledger *l, srn_ledger_stats *ret) {
    pthread_mutex_lock(&l->lock);
    *ret = l->stats;
    ret->queued = l->queue.n;
    ret->waiting = l->outside.n;
    ret->healthy = !l->failing;
    pthread_mutex_unlock(&l->lock);
}

/* The lock is held. */
static int sign_folder(srn_ledger *l, srn_err *err) {
    return srn__folder_sign(l->lock_fd, l->address, atomic_load(&l->max_bytes), err);
}

int srn_ledger_announce(srn_ledger *l, const char *address, srn_err *err) {
    if (l->lock_fd < 0) return SRN_OK;
    pthread_mutex_lock(&l->lock);
    snprintf(l->address, sizeof l->address, "%s", address);
    int code = sign_folder(l, err);
    pthread_mutex_unlock(&l->lock);
    return code;
}

void srn_ledger_retain(srn_ledger *l, uint64_t retention_us, uint64_t max_bytes) {
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->retention_us, retention_us);
    atomic_store(&l->max_bytes, max_bytes);
    if (l->address[0]) sign_folder(l, NULL); /* else the announcement will tell */
    pthread_mutex_unlock(&l->lock);
}

const char *srn_ledger_where(const srn_ledger *l) {
    return l->at.where;
}

const char *srn_ledger_name(const srn_ledger *l) {
    return l->at.name;
}

const char *srn_ledger_folder(const srn_ledger *l) {
    return l->at.folder;
}

srn_ledger_keys *srn_ledger_get_keys(const srn_ledger *l) {
    return l->keys;
}

/* ---- life ---- */

static int open_keys(srn_ledger *l, srn_err *err) {
    char path[4096];
    int code = l->o.keys_dir ? SRN_OK : srn__folder_path(l->at.folder, "keys", path, sizeof path, err);
    return code ? code : srn_ledger_keys_open(l->o.keys_dir ? l->o.keys_dir : path, &l->keys, err);
}

/* The newest checkpoint, in the file too: a crash may have come between its commit and its line. */
static int load_checkpoint(srn_ledger *l, srn_err *err) {
    srn__source *s = NULL;
    srn__row row;
    srn__checkpoint *kept = NULL, newest;
    size_t n = 0;
    int code = srn__source_open(&l->at, &s, err);
    if (code) return code;
    code = s->ops->newest(s, SRN_RECORD_CHECKPOINT, &row, &l->checkpoint, err);
    s->ops->close(s);
    if (code) return code == SRN_ENOENT ? SRN_OK : code;
    code = srn__checkpoint_parse(row.body, &newest, err);
    if (!code) code = srn__checkpoints_read(l->at.folder, &kept, &n, err);
    if (!code && (!n || kept[n - 1].seq < newest.seq))
        code = srn__checkpoints_append(l->at.folder, row.body, err);
    free(kept);
    return code;
}

static int open_store(srn_ledger *l, srn_err *err) {
    int code = srn__home_init(&l->at, l->o.where, l->o.folder, err);
    /* What is no ledger is refused before anything is put beside it. */
    if (!code && !srn_ledger_is_postgres(l->at.where)) code = srn__sqlite_look(l->at.where, err);
    if (!code) code = srn__folder_make(l->at.folder, err);
    if (!code) code = srn__folder_lock(l->at.folder, &l->lock_fd, err);
    if (!code) code = open_keys(l, err);
    if (!code) {
        const srn__sharing sharing = {.answer_us = SRN_MIN(l->o.patience_us, (uint64_t)ANSWER_US),
                                      .dead_us = l->o.dead_us,
                                      .key = srn_hash_key_id(l->keys)};
        code = srn_ledger_is_postgres(l->at.where) ? srn__postgres_open(&l->at, &sharing, &l->store, err)
                                                   : srn__sqlite_open(l->at.where, &l->store, err);
    }
    if (!code) code = l->store->ops->tail(l->store, &l->tail, err);
    if (!code) code = srn__verify_end(&l->at, l->keys, &l->tail.signed_seq, err);
    if (!code) code = load_checkpoint(l, err);
    if (!code) code = srn__retain_open(l, err);
    return code;
}

static void done_with(srn_ledger *l) {
    srn__retain_close(l);
    if (l->store) l->store->ops->close(l->store);
    srn_ledger_keys_close(l->keys);
    if (l->lock_fd >= 0) close(l->lock_fd);
    srn_buf_done(&l->made);
    srn_buf_done(&l->checkpoint);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    srn__home_done(&l->at);
    free(l);
}

int srn_ledger_open(const srn_ledger_opts *o, srn_ledger **ret, srn_err *err) {
    srn_ledger *l = srn_calloc(1, sizeof *l);
    if (!l) return srn_fail_nomem(err, sizeof *l);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&l->lock, NULL);
    srn_buf_init(&l->made, SRN__BODY_BYTES);
    srn_buf_init(&l->checkpoint, SRN__BODY_BYTES);
    l->lock_fd = -1;
    l->o = *o;
    srn_ledger_retain(l, o->retention_us, o->max_bytes);
    if (!l->o.queue) l->o.queue = QUEUE_ENTRIES;
    if (!l->o.queue_bytes) l->o.queue_bytes = QUEUE_BYTES;
    if (!l->o.patience_us) l->o.patience_us = PATIENCE_US;
    if (!l->o.dead_us) l->o.dead_us = DEAD_US;
    l->stats.days_left = INFINITY;
    int code = open_store(l, err);
    if (!code) code = srn__group_interrupt(l, &l->stats.interrupted, err);
    if (!code) {
        l->has_thread = !pthread_create(&l->thread, NULL, srn__writer_main, l);
        if (!l->has_thread) code = srn_fail(err, SRN_ENOMEM, "a thread for the ledger could not be started");
    }
    if (code)
        done_with(l);
    else
        *ret = l;
    return code;
}

void srn_ledger_close(srn_ledger *l) {
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->ending = true;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
    if (l->has_thread) pthread_join(l->thread, NULL);
    done_with(l);
}
