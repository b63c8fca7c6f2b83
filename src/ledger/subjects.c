/* The keys of subjects: subjects.keys, a file of entries of 128 bytes that grows at its end. The caller holds
 * the keys' lock; between processes there is a lock on the folder, held while anything is appended, and what
 * others appended is read before each use. Refuses entries that were not made with these keys.
 *
 * Entry: [0] kind, [1] version, [4,8) the tenant's entry (of a subject) or the entry destroyed (of a marker),
 * [8,24) owner, a keyed hash of tenant and subject, [24,40) id, [40,64) nonce, [64,112) the key under
 * XChaCha20-Poly1305 with what stands before the nonce, [112,128) keyed hash of index and entry. Numbers are
 * little-endian. The first entry is the header.
 *
 * An entry that was not synced whole can only be the last; it is written over. Entries never cross a sector,
 * so that an overwritten one is the old or the new one. To destroy a key a marker is appended and synced,
 * then the key's entry is overwritten and synced; where a crash comes between, the next process that opens
 * the folder to write finishes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/keys_internal.h"

#define FILE_NAME "subjects.keys"
#define MAGIC     "serin subjects 1"
enum { HEADER = 1, TENANT = 2, SUBJECT = 3, DEAD = 4, MARKER = 5 };
enum {
    VERSION = 1,
    LINK_AT = 4,
    OWNER_AT = 8,
    ID_AT = 24,
    NONCE_AT = 40,
    KEY_AT = 64,
    MAC_AT = 112,
    MAC_BYTES = 16,
    MAX_SLOTS = 1 << 26,
    READ_SLOTS = 512, /* at a time */
    NONE = 0
};
_Static_assert(KEY_AT - NONCE_AT == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce");
_Static_assert(MAC_AT - KEY_AT == SRN__KEY_BYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES, "wrapped key");

static int io_fail(srn_err *err, const srn__subjects *t, const char *what) {
    return srn_fail(err, SRN_EIO, "%s/" FILE_NAME " %s: %s", t->dir, what, strerror(errno));
}

static int damaged(srn_err *err, const srn__subjects *t, uint64_t slot) {
    return srn_fail(err, SRN_EFORMAT,
                    "%s/" FILE_NAME
                    " is damaged at offset %llu, or belongs to another ledger; restore it from "
                    "where its copy is kept",
                    t->dir ? t->dir : "memory", (unsigned long long)slot * SRN__SLOT_BYTES);
}

static void put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- one entry ---- */

static void mac_of(const srn__subjects *t, uint32_t index, const uint8_t *slot, uint8_t ret[MAC_BYTES]) {
    uint8_t text[4 + MAC_AT];
    put_u32(text, index);
    memcpy(text + 4, slot, MAC_AT);
    crypto_generichash(ret, MAC_BYTES, text, sizeof text, t->secrets->mac, sizeof t->secrets->mac);
}

static void seal_slot(const srn__subjects *t, uint32_t index, uint8_t *slot) {
    mac_of(t, index, slot, slot + MAC_AT);
}

static bool slot_is_whole(const srn__subjects *t, uint32_t index, const uint8_t *slot) {
    uint8_t mac[MAC_BYTES];
    mac_of(t, index, slot, mac);
    return sodium_memcmp(mac, slot + MAC_AT, MAC_BYTES) == 0 && slot[1] == VERSION;
}

static int read_slot(const srn__subjects *t, uint32_t i, uint8_t ret[SRN__SLOT_BYTES], srn_err *err) {
    if (i >= t->n) return damaged(err, t, i);
    if (t->slots) {
        memcpy(ret, t->slots[i], SRN__SLOT_BYTES);
        return SRN_OK;
    }
    ssize_t n = pread(t->fd, ret, SRN__SLOT_BYTES, (off_t)i * SRN__SLOT_BYTES);
    if (n < 0) return io_fail(err, t, "cannot be read");
    return n == SRN__SLOT_BYTES && slot_is_whole(t, i, ret) ? SRN_OK : damaged(err, t, i);
}

static int write_slot(srn__subjects *t, uint32_t i, const uint8_t slot[SRN__SLOT_BYTES], srn_err *err) {
    if (t->slots) {
        memcpy(t->slots[i], slot, SRN__SLOT_BYTES);
        return SRN_OK;
    }
    ssize_t n = pwrite(t->fd, slot, SRN__SLOT_BYTES, (off_t)i * SRN__SLOT_BYTES);
    if (n >= 0 && n < SRN__SLOT_BYTES) errno = ENOSPC;
    if (n == SRN__SLOT_BYTES && fdatasync(t->fd) == 0) return SRN_OK;
    int code = io_fail(err, t, "cannot be written");
    if (i == t->n && ftruncate(t->fd, (off_t)i * SRN__SLOT_BYTES)) return code; /* nobody saw it: the lock */
    return code;
}

/* ---- what is known in memory ---- */

static const uint8_t *name_of(const srn__subjects *t, bool owner, uint32_t i) {
    return owner ? t->known[i].owner : t->known[i].id;
}

static uint32_t find(const srn__subjects *t, bool owner, const uint8_t name[SRN__KEY_ID_BYTES]) {
    const srn__slot_table *table = owner ? &t->by_owner : &t->by_id;
    uint64_t h;
    if (!table->cap) return NONE;
    memcpy(&h, name, sizeof h);
    for (size_t at = h & (table->cap - 1); table->at[at]; at = (at + 1) & (table->cap - 1))
        if (memcmp(name_of(t, owner, table->at[at] - 1), name, SRN__KEY_ID_BYTES) == 0)
            return table->at[at] - 1;
    return NONE; /* the header's index */
}

static void insert(srn__subjects *t, bool owner, uint32_t i) {
    srn__slot_table *table = owner ? &t->by_owner : &t->by_id;
    uint64_t h;
    memcpy(&h, name_of(t, owner, i), sizeof h);
    size_t at = h & (table->cap - 1);
    while (table->at[at]) at = (at + 1) & (table->cap - 1);
    table->at[at] = i + 1;
    table->n++;
}

static bool belongs(const srn__subjects *t, bool owner, uint32_t i) {
    uint8_t kind = t->known[i].kind;
    return kind == SUBJECT || kind == (owner ? TENANT : DEAD);
}

static void enter(srn__subjects *t, uint32_t i) {
    if (belongs(t, true, i)) insert(t, true, i);
    if (belongs(t, false, i)) insert(t, false, i);
}

static int grow_table(srn__subjects *t, bool owner, srn_err *err) {
    srn__slot_table *table = owner ? &t->by_owner : &t->by_id;
    if ((table->n + 1) * 2 <= table->cap) return SRN_OK;
    size_t cap = table->cap ? table->cap * 2 : 64;
    uint32_t *fresh = srn_calloc(cap, sizeof *fresh);
    if (!fresh) return srn_fail_nomem(err, cap * sizeof *fresh);
    free(table->at);
    *table = (srn__slot_table){fresh, cap, 0};
    for (uint32_t i = 0; i < t->n; i++)
        if (belongs(t, owner, i)) insert(t, owner, i);
    return SRN_OK;
}

/* Room for one more, so that nothing can fail once it is on disk. */
static int reserve(srn__subjects *t, srn_err *err) {
    if (t->n >= MAX_SLOTS)
        return srn_fail(err, SRN_ELIMIT, "%s/" FILE_NAME " holds as many keys as it may",
                        t->dir ? t->dir : "memory");
    if (t->n + 1 > t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        srn__known *known = srn_realloc_array(t->known, cap, sizeof *known);
        if (!known) return srn_fail_nomem(err, cap * sizeof *known);
        t->known = known;
        if (!t->dir) {
            uint8_t(*slots)[SRN__SLOT_BYTES] = srn_realloc_array(t->slots, cap, sizeof *slots);
            if (!slots) return srn_fail_nomem(err, cap * sizeof *slots);
            t->slots = slots;
        }
        t->cap = cap;
    }
    int code = grow_table(t, true, err);
    return code ? code : grow_table(t, false, err);
}

/* The dead entry in place of entry i: its id stays, to say that it was destroyed. */
static void dead_slot(const srn__subjects *t, uint32_t i, uint8_t ret[SRN__SLOT_BYTES]) {
    memset(ret, 0, SRN__SLOT_BYTES);
    ret[0] = DEAD;
    ret[1] = VERSION;
    memcpy(ret + ID_AT, t->known[i].id, SRN__KEY_ID_BYTES);
    seal_slot(t, i, ret);
}

/* Overwrites a subject's key, on disk too where that is still to be done and t may write. */
static int bury(srn__subjects *t, uint32_t i, srn_err *err) {
    uint8_t now[SRN__SLOT_BYTES], dead[SRN__SLOT_BYTES];
    int code = read_slot(t, i, now, err);
    if (code) return code;
    dead_slot(t, i, dead);
    if (now[0] == SUBJECT && t->writable) code = write_slot(t, i, dead, err);
    sodium_memzero(now, sizeof now);
    if (code) return code;
    t->known[i].kind = DEAD;
    memset(t->known[i].owner, 0, sizeof t->known[i].owner);
    return SRN_OK;
}

/* ---- the file ---- */

/* Takes an entry that stands at index t->n. */
static int take_slot(srn__subjects *t, const uint8_t slot[SRN__SLOT_BYTES], srn_err *err) {
    int code = reserve(t, err);
    if (code) return code;
    uint32_t i = t->n, link = get_u32(slot + LINK_AT);
    uint8_t kind = slot[0];
    if (i == 0 ? kind != HEADER || memcmp(slot + KEY_AT, MAGIC, sizeof MAGIC) != 0
               : kind < TENANT || kind > MARKER)
        return damaged(err, t, i);
    if (kind == SUBJECT && (link >= i || t->known[link].kind != TENANT)) return damaged(err, t, i);
    if (kind == MARKER && (link >= i || (t->known[link].kind != SUBJECT && t->known[link].kind != DEAD)))
        return damaged(err, t, i);
    srn__known *k = &t->known[i];
    k->kind = kind;
    memcpy(k->owner, slot + OWNER_AT, sizeof k->owner);
    memcpy(k->id, slot + ID_AT, sizeof k->id);
    t->n++;
    enter(t, i);
    return kind == MARKER && t->known[link].kind == SUBJECT ? bury(t, link, err) : SRN_OK;
}

/* Takes what stands in the file from t->n on. The folder's lock is held. */
static int take_rest(srn__subjects *t, uint64_t bytes, srn_err *err) {
    uint8_t slots[READ_SLOTS][SRN__SLOT_BYTES];
    uint64_t end = bytes / SRN__SLOT_BYTES;
    int code = SRN_OK;
    while (!code && t->n < end) {
        uint32_t first = t->n;
        uint64_t want = SRN_MIN(end - first, (uint64_t)READ_SLOTS);
        ssize_t n = pread(t->fd, slots, want * SRN__SLOT_BYTES, (off_t)first * SRN__SLOT_BYTES);
        if (n < 0) return io_fail(err, t, "cannot be read");
        if ((size_t)n < SRN__SLOT_BYTES) break;
        for (size_t i = 0; !code && i < (size_t)n / SRN__SLOT_BYTES; i++) {
            bool last = first + i + 1 == end;
            if (slot_is_whole(t, (uint32_t)(first + i), slots[i]))
                code = take_slot(t, slots[i], err);
            else if (!last || first + i == 0)
                return damaged(err, t, first + i);
            else
                return SRN_OK; /* never synced */
        }
    }
    return code;
}

static int open_file(srn__subjects *t, srn_err *err) {
    t->fd = openat(t->dir_fd, FILE_NAME, (t->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (t->fd < 0 && errno == ENOENT) return SRN_OK;
    if (t->fd < 0) return io_fail(err, t, "cannot be opened");
    return srn__keys_check_private(t->dir, FILE_NAME, t->fd, err);
}

static int lock_folder(const srn__subjects *t, int how, srn_err *err) {
    if (!t->dir) return SRN_OK;
    while (flock(t->dir_fd, how))
        if (errno != EINTR) return io_fail(err, t, "cannot be locked");
    return SRN_OK;
}

static void unlock_folder(const srn__subjects *t) {
    if (t->dir) flock(t->dir_fd, LOCK_UN);
}

/* What other processes appended since. */
static int refresh_locked(srn__subjects *t, srn_err *err) {
    struct stat st;
    if (!t->dir) return SRN_OK;
    int code = t->fd < 0 ? open_file(t, err) : SRN_OK;
    if (code || t->fd < 0) return code;
    if (fstat(t->fd, &st)) return io_fail(err, t, "cannot be examined");
    if (st.st_size == 0 && t->n == 0) return damaged(err, t, 0);
    return take_rest(t, (uint64_t)st.st_size, err);
}

static int refresh(srn__subjects *t, srn_err *err) {
    struct stat st;
    if (!t->dir) return SRN_OK;
    if (t->fd < 0 && faccessat(t->dir_fd, FILE_NAME, F_OK, 0)) return SRN_OK;
    if (t->fd >= 0 && fstat(t->fd, &st) == 0 && (uint64_t)st.st_size == (uint64_t)t->n * SRN__SLOT_BYTES)
        return SRN_OK;
    int code = lock_folder(t, t->writable ? LOCK_EX : LOCK_SH, err);
    if (code) return code;
    code = refresh_locked(t, err);
    unlock_folder(t);
    return code;
}

int srn__subjects_open(srn__subjects *t, srn_err *err) {
    t->fd = -1;
    return refresh(t, err);
}

void srn__subjects_close(srn__subjects *t) {
    if (t->fd >= 0) close(t->fd);
    if (t->slots) sodium_memzero(t->slots, t->n * sizeof *t->slots);
    free(t->slots);
    free(t->known);
    free(t->by_owner.at);
    free(t->by_id.at);
}

/* ---- keys ---- */

/* NULL counts as "". The tenant's length stands before it, so that no two pairs are one text. */
static void owner_of(const srn__subjects *t, uint8_t kind, const char *tenant, const char *subject,
                     uint8_t ret[SRN__KEY_ID_BYTES]) {
    crypto_generichash_state h;
    uint8_t head[9] = {kind};
    uint64_t n = strlen(tenant);
    for (size_t i = 0; i < 8; i++) head[1 + i] = (uint8_t)(n >> 8 * i);
    crypto_generichash_init(&h, t->secrets->mac, sizeof t->secrets->mac, SRN__KEY_ID_BYTES);
    crypto_generichash_update(&h, head, sizeof head);
    crypto_generichash_update(&h, (const uint8_t *)tenant, n);
    if (kind == SUBJECT) crypto_generichash_update(&h, (const uint8_t *)subject, strlen(subject));
    crypto_generichash_final(&h, ret, SRN__KEY_ID_BYTES);
    sodium_memzero(&h, sizeof h);
}

static int unwrap(const srn__subjects *t, uint32_t i, const uint8_t *slot, const uint8_t *under,
                  uint8_t ret[SRN__KEY_BYTES], srn_err *err) {
    unsigned long long n = 0;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(ret, &n, NULL, slot + KEY_AT, MAC_AT - KEY_AT, slot,
                                                   NONCE_AT, slot + NONCE_AT, under))
        return damaged(err, t, i);
    return SRN_OK;
}

/* The key in entry i. SRN_ENOENT: it is destroyed. */
static int key_at(const srn__subjects *t, uint32_t i, uint8_t ret[SRN__KEY_BYTES], srn_err *err) {
    uint8_t slot[SRN__SLOT_BYTES], tenant[SRN__SLOT_BYTES], tenant_key[SRN__KEY_BYTES];
    int code = read_slot(t, i, slot, err);
    if (code) return code;
    if (slot[0] == DEAD || t->known[i].kind == DEAD)
        return srn_fail(err, SRN_ENOENT, "the key of this content's subject was destroyed: it was forgotten");
    if (slot[0] == TENANT) return unwrap(t, i, slot, t->secrets->wrap, ret, err);
    uint32_t link = get_u32(slot + LINK_AT);
    if (slot[0] != SUBJECT || link >= t->n || t->known[link].kind != TENANT) return damaged(err, t, i);
    code = read_slot(t, link, tenant, err);
    if (!code) code = unwrap(t, link, tenant, t->secrets->wrap, tenant_key, err);
    if (!code) code = unwrap(t, i, slot, tenant_key, ret, err);
    sodium_memzero(tenant_key, sizeof tenant_key);
    return code;
}

/* Appends an entry. The folder's lock is held, and what others appended is known. */
static int append(srn__subjects *t, uint8_t slot[SRN__SLOT_BYTES], srn_err *err) {
    int code = reserve(t, err);
    if (code) return code;
    slot[1] = VERSION;
    seal_slot(t, t->n, slot);
    code = write_slot(t, t->n, slot, err);
    return code ? code : take_slot(t, slot, err);
}

/* A fresh key under another one. */
static int add_key(srn__subjects *t, uint8_t kind, uint32_t link, const uint8_t owner[SRN__KEY_ID_BYTES],
                   const uint8_t under[SRN__KEY_BYTES], srn_err *err) {
    uint8_t slot[SRN__SLOT_BYTES] = {kind, VERSION}, key[SRN__KEY_BYTES];
    unsigned long long n = 0;
    put_u32(slot + LINK_AT, link);
    memcpy(slot + OWNER_AT, owner, SRN__KEY_ID_BYTES);
    randombytes_buf(slot + ID_AT, SRN__KEY_ID_BYTES);
    randombytes_buf(slot + NONCE_AT, KEY_AT - NONCE_AT);
    randombytes_buf(key, sizeof key);
    crypto_aead_xchacha20poly1305_ietf_encrypt(slot + KEY_AT, &n, key, sizeof key, slot, NONCE_AT, NULL,
                                               slot + NONCE_AT, under);
    sodium_memzero(key, sizeof key);
    return append(t, slot, err);
}

static int make_file(srn__subjects *t, srn_err *err) {
    uint8_t slot[SRN__SLOT_BYTES] = {HEADER, VERSION};
    memcpy(slot + KEY_AT, MAGIC, sizeof MAGIC);
    if (t->n) return SRN_OK;
    if (!t->dir) return append(t, slot, err);
    seal_slot(t, 0, slot);
    int code = srn__keys_put_file(t->dir, t->dir_fd, FILE_NAME, slot, sizeof slot, err);
    return code ? code : refresh_locked(t, err);
}

static int make_key(srn__subjects *t, const char *tenant, const uint8_t owner[SRN__KEY_ID_BYTES],
                    uint32_t *ret_slot, srn_err *err) {
    uint8_t tenant_owner[SRN__KEY_ID_BYTES], key[SRN__KEY_BYTES];
    int code = refresh_locked(t, err);
    if (code || (*ret_slot = find(t, true, owner)) != NONE) return code; /* made by another process */
    code = make_file(t, err);
    if (code) return code;
    owner_of(t, TENANT, tenant, "", tenant_owner);
    uint32_t at = find(t, true, tenant_owner);
    if (at == NONE) {
        code = add_key(t, TENANT, 0, tenant_owner, t->secrets->wrap, err);
        if (code) return code;
        at = t->n - 1;
    }
    code = key_at(t, at, key, err);
    if (!code) code = add_key(t, SUBJECT, at, owner, key, err);
    sodium_memzero(key, sizeof key);
    *ret_slot = t->n - 1;
    return code;
}

int srn__subjects_key(srn__subjects *t, const char *tenant, const char *subject, bool make,
                      uint8_t ret_id[SRN__KEY_ID_BYTES], uint8_t ret_key[SRN__KEY_BYTES], srn_err *err) {
    uint8_t owner[SRN__KEY_ID_BYTES];
    int code = refresh(t, err);
    if (code) return code;
    owner_of(t, SUBJECT, tenant, subject, owner);
    uint32_t i = find(t, true, owner);
    code = i == NONE ? SRN_ENOENT : key_at(t, i, ret_key, err); /* destroyed by another process: make anew */
    if (code == SRN_ENOENT && (!make || !t->writable))
        return srn_fail(err, SRN_ENOENT, "this subject of tenant '%s' has no key", tenant);
    if (code == SRN_ENOENT) {
        code = lock_folder(t, LOCK_EX, err);
        if (code) return code;
        code = make_key(t, tenant, owner, &i, err);
        unlock_folder(t);
        if (!code) code = key_at(t, i, ret_key, err);
    }
    if (!code) memcpy(ret_id, t->known[i].id, SRN__KEY_ID_BYTES);
    return code;
}

int srn__subjects_key_of_id(srn__subjects *t, const uint8_t id[SRN__KEY_ID_BYTES],
                            uint8_t ret_key[SRN__KEY_BYTES], srn_err *err) {
    int code = refresh(t, err);
    if (code) return code;
    uint32_t i = find(t, false, id);
    if (i == NONE)
        return srn_fail(err, SRN_ENOENT, "the key of this content's subject is not among the keys in %s",
                        t->dir ? t->dir : "memory");
    return key_at(t, i, ret_key, err);
}

static int destroy(srn__subjects *t, const uint8_t owner[SRN__KEY_ID_BYTES], srn_err *err) {
    uint8_t marker[SRN__SLOT_BYTES] = {MARKER, VERSION};
    int code = refresh_locked(t, err);
    if (code) return code;
    uint32_t i = find(t, true, owner);
    if (i == NONE) return SRN_ENOENT;
    put_u32(marker + LINK_AT, i);
    memcpy(marker + ID_AT, t->known[i].id, SRN__KEY_ID_BYTES);
    return append(t, marker, err); /* which buries the key */
}

int srn__subjects_forget(srn__subjects *t, const char *tenant, const char *subject, srn_err *err) {
    uint8_t owner[SRN__KEY_ID_BYTES];
    owner_of(t, SUBJECT, tenant, subject, owner);
    int code = lock_folder(t, LOCK_EX, err);
    if (code) return code;
    code = destroy(t, owner, err);
    unlock_folder(t);
    if (code == SRN_ENOENT)
        return srn_fail(err, SRN_ENOENT, "tenant '%s' has no key of this subject: nothing was sealed for it",
                        tenant);
    return code;
}
