/* What the ledger signs: checkpoints (the chain up to here) and tombstones (what was dropped), as JSON bodies
 * of records, and the file in which checkpoints are collected to be kept elsewhere. Pure but for that file;
 * any thread. docs/ledger.md states the bytes under a signature. Refuses bodies whose signature is not that
 * of the key that they name; whether that key is the right one is the caller's question.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ledger/keys_internal.h"
#include "ledger/ledger_internal.h"

enum { SIGNED_BYTES = 256, FILE_BYTES = 1 << 30 };

/* ---- the bytes under a signature ---- */

typedef struct bytes {
    uint8_t at[SIGNED_BYTES];
    size_t n;
} bytes;

static void add(bytes *b, const void *p, size_t n) {
    memcpy(b->at + b->n, p, n);
    b->n += n;
}

static void add_u64(bytes *b, uint64_t v) {
    for (int i = 0; i < 8; i++) b->at[b->n++] = (uint8_t)(v >> (8 * i));
}

static bytes checkpoint_bytes(const srn__checkpoint *c) {
    bytes b = {0};
    add(&b, "serin checkpoint 1", 18);
    add(&b, c->instance, sizeof c->instance);
    add_u64(&b, c->epoch);
    add_u64(&b, c->seq);
    add_u64(&b, c->at_us);
    add(&b, c->hash, sizeof c->hash);
    return b;
}

static bytes tombstone_bytes(const srn__tombstone *t) {
    bytes b = {0};
    add(&b, "serin tombstone 1", 17);
    add(&b, t->instance, sizeof t->instance);
    add_u64(&b, t->epoch);
    add_u64(&b, t->from);
    add_u64(&b, t->to);
    add_u64(&b, t->to_us);
    add_u64(&b, t->at_us);
    add(&b, t->before, sizeof t->before);
    add(&b, t->after, sizeof t->after);
    add_u64(&b, t->n_kept);
    add(&b, t->kept, sizeof t->kept);
    return b;
}

/* ---- fields ---- */

static void put_hex(json_t *j, const char *name, const uint8_t *p, size_t n) {
    char text[2 * SRN__SIGNATURE_BYTES + 1];
    srn_hex(p, n, text);
    json_object_set_new(j, name, json_string(text));
}

static int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool get_hex(const json_t *j, const char *name, uint8_t *ret, size_t n) {
    const char *text = json_string_value(json_object_get(j, name));
    if (!text || strlen(text) != 2 * n) return false;
    for (size_t i = 0; i < n; i++) {
        int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool get_number(const json_t *j, const char *name, uint64_t *ret) {
    const json_t *v = json_object_get(j, name);
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

/* Signs the bytes and writes the body. Takes j. */
static int seal(const srn_ledger_keys *k, json_t *j, const bytes *b, srn_buf *ret, srn_err *err) {
    uint8_t sig[SRN__SIGNATURE_BYTES];
    srn__keys_sign(k, b->at, b->n, sig);
    if (j) put_hex(j, "key", srn__keys_public(k), SRN__PUBLIC_BYTES);
    if (j) put_hex(j, "sig", sig, sizeof sig);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    srn_buf_clear(ret);
    bool ok = text && srn_buf_addz(ret, text);
    free(text);
    return ok ? SRN_OK : srn_fail_nomem(err, 0);
}

static json_t *load(srn_str body) {
    json_t *j = json_loadb(body.len ? body.ptr : "", body.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_integer_value(json_object_get(j, "v")) == 1) return j;
    json_decref(j);
    return NULL;
}

/* ---- checkpoints ---- */

int srn__checkpoint_make(const srn_ledger_keys *k, const srn__checkpoint *c, srn_buf *ret, srn_err *err) {
    json_t *j = json_pack("{sisIsIsI}", "v", 1, "epoch", (json_int_t)c->epoch, "seq", (json_int_t)c->seq,
                          "at_us", (json_int_t)c->at_us);
    if (j) put_hex(j, "instance", c->instance, sizeof c->instance);
    if (j) put_hex(j, "hash", c->hash, sizeof c->hash);
    bytes b = checkpoint_bytes(c);
    return seal(k, j, &b, ret, err);
}

int srn__checkpoint_parse(srn_str body, srn__checkpoint *ret, srn_err *err) {
    srn__checkpoint c;
    uint8_t sig[SRN__SIGNATURE_BYTES];
    json_t *j = load(body);
    bool ok = j && get_number(j, "epoch", &c.epoch) && get_number(j, "seq", &c.seq) &&
              get_number(j, "at_us", &c.at_us) && get_hex(j, "instance", c.instance, sizeof c.instance) &&
              get_hex(j, "hash", c.hash, sizeof c.hash) && get_hex(j, "key", c.key, sizeof c.key) &&
              get_hex(j, "sig", sig, sizeof sig);
    json_decref(j);
    if (!ok) return srn_fail(err, SRN_EFORMAT, "this is no checkpoint of a ledger");
    bytes b = checkpoint_bytes(&c);
    if (!srn__keys_signed(c.key, b.at, b.n, sig))
        return srn_fail(err, SRN_EFORMAT, "the signature of the checkpoint at record %llu does not hold",
                        (unsigned long long)c.seq);
    *ret = c;
    return SRN_OK;
}

/* ---- tombstones ---- */

int srn__tombstone_make(const srn_ledger_keys *k, const srn__tombstone *t, const json_t *more, srn_buf *ret,
                        srn_err *err) {
    json_t *j = json_pack("{sisIsIsIsIsIsI}", "v", 1, "epoch", (json_int_t)t->epoch, "n_kept",
                          (json_int_t)t->n_kept, "to_us", (json_int_t)t->to_us, "from", (json_int_t)t->from,
                          "to", (json_int_t)t->to, "at_us", (json_int_t)t->at_us);
    if (j) put_hex(j, "instance", t->instance, sizeof t->instance);
    if (j) put_hex(j, "before", t->before, sizeof t->before);
    if (j) put_hex(j, "after", t->after, sizeof t->after);
    if (j) put_hex(j, "kept", t->kept, sizeof t->kept);
    if (j && more) json_object_update_missing(j, (json_t *)(uintptr_t)more);
    bytes b = tombstone_bytes(t);
    return seal(k, j, &b, ret, err);
}

int srn__tombstone_parse(srn_str body, srn__tombstone *ret, srn_err *err) {
    srn__tombstone t;
    uint8_t sig[SRN__SIGNATURE_BYTES];
    json_t *j = load(body);
    bool ok =
        j && get_number(j, "epoch", &t.epoch) && get_number(j, "from", &t.from) &&
        get_number(j, "to", &t.to) && get_number(j, "at_us", &t.at_us) && get_number(j, "to_us", &t.to_us) &&
        get_number(j, "n_kept", &t.n_kept) && t.from && t.from <= t.to &&
        get_hex(j, "kept", t.kept, sizeof t.kept) && get_hex(j, "instance", t.instance, sizeof t.instance) &&
        get_hex(j, "before", t.before, sizeof t.before) && get_hex(j, "after", t.after, sizeof t.after) &&
        get_hex(j, "key", t.key, sizeof t.key) && get_hex(j, "sig", sig, sizeof sig);
    json_decref(j);
    if (!ok) return srn_fail(err, SRN_EFORMAT, "this is no tombstone of a ledger");
    bytes b = tombstone_bytes(&t);
    if (!srn__keys_signed(t.key, b.at, b.n, sig))
        return srn_fail(err, SRN_EFORMAT,
                        "the signature of the tombstone of records %llu to %llu does not hold",
                        (unsigned long long)t.from, (unsigned long long)t.to);
    *ret = t;
    return SRN_OK;
}

/* ---- checkpoints.jsonl ---- */

int srn__checkpoints_append(const char *dir, srn_str line, srn_err *err) {
    char path[4096];
    srn_buf text;
    int code = srn__folder_path(dir, "checkpoints.jsonl", path, sizeof path, err);
    if (code) return code;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    /* A line that a crash cut off is left as it is, and ends here. */
    char last = '\n';
    off_t end = lseek(fd, 0, SEEK_END);
    if (end > 0 && pread(fd, &last, 1, end - 1) != 1) last = '\n';
    srn_buf_init(&text, SRN__BODY_BYTES);
    if (last != '\n') srn_buf_addc(&text, '\n');
    srn_buf_add(&text, line.ptr, line.len);
    srn_buf_addc(&text, '\n');
    if (text.failed)
        code = srn_fail_nomem(err, line.len);
    else if (srn_write_all(fd, text.data, text.len) || fsync(fd))
        code = srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    srn_buf_done(&text);
    close(fd);
    return code;
}

static int by_place(const void *a, const void *b) {
    const srn__checkpoint *x = a, *y = b;
    if (x->seq != y->seq) return x->seq < y->seq ? -1 : 1;
    return x->epoch == y->epoch ? 0 : x->epoch < y->epoch ? -1 : 1;
}

static int read_lines(const char *data, size_t n, srn__checkpoint **ret, size_t *ret_n, srn_err *err) {
    srn__checkpoint *all = NULL;
    size_t n_all = 0, cap = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(data + at, '\n', n - at);
        size_t len = end ? (size_t)(end - data) - at : n - at;
        srn__checkpoint c;
        if (!srn__checkpoint_parse((srn_str){data + at, len}, &c, NULL)) {
            if (n_all == cap) {
                cap = cap ? 2 * cap : 64;
                srn__checkpoint *p = srn_realloc_array(all, cap, sizeof *all);
                if (!p) return free(all), srn_fail_nomem(err, cap * sizeof *all);
                all = p;
            }
            all[n_all++] = c;
        }
        at += len + 1;
    }
    if (n_all) qsort(all, n_all, sizeof *all, by_place);
    *ret = all;
    *ret_n = n_all;
    return SRN_OK;
}

int srn__checkpoints_read(const char *dir, srn__checkpoint **ret, size_t *ret_n, srn_err *err) {
    char path[4096], *data = NULL;
    size_t n = 0;
    int code = srn__folder_path(dir, "checkpoints.jsonl", path, sizeof path, err);
    if (code) return code;
    srn_err why;
    code = srn_read_file(path, FILE_BYTES, &data, &n, &why);
    if (code == SRN_ENOENT) return *ret = NULL, *ret_n = 0, SRN_OK;
    if (code) return srn_fail(err, code, "%s", why.text);
    code = read_lines(data, n, ret, ret_n, err);
    free(data);
    return code;
}
