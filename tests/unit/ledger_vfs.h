/* A layer between SQLite and the files of a ledger, for tests: it can fail what SQLite asks for (a full disk,
 * a bad one, syncs that fail), and it notes every write, truncation and sync of one folder's database and
 * log, so that the disk as it would be after a power cut at any of them can be made afterwards. Bytes go to
 * the real files all the while. It registers itself as the default, so the library knows nothing of it. One
 * at a time in a process.
 */
#ifndef SRN_TEST_LEDGER_VFS_H
#define SRN_TEST_LEDGER_VFS_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "base/base.h"

enum { VFS_DB, VFS_WAL, VFS_N_FILES, VFS_SECTOR = 512 };
typedef enum vfs_op_kind { VFS_WRITE, VFS_TRUNCATE, VFS_SYNC, VFS_DELETE } vfs_op_kind;

typedef struct vfs_op {
    vfs_op_kind kind;
    int file;
    int64_t at, n; /* of a truncation n is the new size */
    uint8_t *bytes;
} vfs_op;

static struct {
    pthread_mutex_t lock; /* guards the others */
    char under[128];      /* the folder whose operations are noted, "" for none */
    vfs_op *ops;
    size_t n_ops, cap;
    bool full, broken;   /* writes fail: no room; an error */
    uint64_t reads;      /* of the database */
    uint32_t fail_syncs; /* the next so many fail */
    sqlite3_vfs *real, vfs;
    sqlite3_io_methods methods;
} vfs = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef struct vfs_handle {
    sqlite3_file base;
    int file; /* VFS_N_FILES: not noted */
} vfs_handle;

static inline sqlite3_file *vfs_below(sqlite3_file *f) {
    return (sqlite3_file *)(void *)((char *)f + sizeof(vfs_handle));
}

static inline int vfs_which(const char *name) {
    size_t n = strlen(vfs.under);
    if (!name || !n || strncmp(name, vfs.under, n) != 0) return VFS_N_FILES;
    if (strcmp(name + n, "/ledger.db") == 0) return VFS_DB;
    return strcmp(name + n, "/ledger.db-wal") == 0 ? VFS_WAL : VFS_N_FILES;
}

static inline void vfs_note(vfs_op op, const void *bytes) {
    if (op.file == VFS_N_FILES) return;
    pthread_mutex_lock(&vfs.lock);
    if (vfs.n_ops == vfs.cap) {
        vfs.cap = vfs.cap ? 2 * vfs.cap : 1024;
        vfs.ops = realloc(vfs.ops, vfs.cap * sizeof *vfs.ops);
    }
    if (bytes) op.bytes = malloc((size_t)op.n), memcpy(op.bytes, bytes, (size_t)op.n);
    vfs.ops[vfs.n_ops++] = op;
    pthread_mutex_unlock(&vfs.lock);
}

static inline size_t vfs_now(void) {
    pthread_mutex_lock(&vfs.lock);
    size_t n = vfs.n_ops;
    pthread_mutex_unlock(&vfs.lock);
    return n;
}

/* ---- what SQLite calls ---- */

static inline int vfs_close(sqlite3_file *f) {
    return vfs_below(f)->pMethods ? vfs_below(f)->pMethods->xClose(vfs_below(f)) : SQLITE_OK;
}
static inline int vfs_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    pthread_mutex_lock(&vfs.lock);
    vfs.reads += ((vfs_handle *)(void *)f)->file == VFS_DB;
    pthread_mutex_unlock(&vfs.lock);
    return vfs_below(f)->pMethods->xRead(vfs_below(f), p, n, at);
}
static inline int vfs_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    int file = ((vfs_handle *)(void *)f)->file;
    pthread_mutex_lock(&vfs.lock);
    int fault = file == VFS_N_FILES ? SQLITE_OK
                : vfs.full          ? SQLITE_FULL
                : vfs.broken        ? SQLITE_IOERR_WRITE
                                    : SQLITE_OK;
    pthread_mutex_unlock(&vfs.lock);
    if (fault) return fault;
    vfs_note((vfs_op){VFS_WRITE, file, at, n, NULL}, p);
    return vfs_below(f)->pMethods->xWrite(vfs_below(f), p, n, at);
}
static inline int vfs_truncate(sqlite3_file *f, sqlite3_int64 n) {
    vfs_note((vfs_op){VFS_TRUNCATE, ((vfs_handle *)(void *)f)->file, 0, n, NULL}, NULL);
    return vfs_below(f)->pMethods->xTruncate(vfs_below(f), n);
}
static inline int vfs_sync(sqlite3_file *f, int flags) {
    int file = ((vfs_handle *)(void *)f)->file;
    pthread_mutex_lock(&vfs.lock);
    bool fails = file != VFS_N_FILES && vfs.fail_syncs > 0;
    vfs.fail_syncs -= fails;
    pthread_mutex_unlock(&vfs.lock);
    if (fails) return SQLITE_IOERR_FSYNC;
    vfs_note((vfs_op){VFS_SYNC, file, 0, 0, NULL}, NULL);
    return file == VFS_N_FILES ? vfs_below(f)->pMethods->xSync(vfs_below(f), flags) : SQLITE_OK;
}
static inline int vfs_size(sqlite3_file *f, sqlite3_int64 *n) {
    return vfs_below(f)->pMethods->xFileSize(vfs_below(f), n);
}
static inline int vfs_lock_file(sqlite3_file *f, int level) {
    return vfs_below(f)->pMethods->xLock(vfs_below(f), level);
}
static inline int vfs_unlock_file(sqlite3_file *f, int level) {
    return vfs_below(f)->pMethods->xUnlock(vfs_below(f), level);
}
static inline int vfs_is_reserved(sqlite3_file *f, int *ret) {
    return vfs_below(f)->pMethods->xCheckReservedLock(vfs_below(f), ret);
}
static inline int vfs_control(sqlite3_file *f, int op, void *arg) {
    return vfs_below(f)->pMethods->xFileControl(vfs_below(f), op, arg);
}
static inline int vfs_sector(sqlite3_file *f) {
    return vfs_below(f)->pMethods->xSectorSize(vfs_below(f));
}
/* A disk that promises nothing. */
static inline int vfs_traits(sqlite3_file *f) {
    (void)f;
    return 0;
}
static inline int vfs_shm_map(sqlite3_file *f, int page, int bytes, int grow, void volatile **ret) {
    return vfs_below(f)->pMethods->xShmMap(vfs_below(f), page, bytes, grow, ret);
}
static inline int vfs_shm_lock(sqlite3_file *f, int at, int n, int flags) {
    return vfs_below(f)->pMethods->xShmLock(vfs_below(f), at, n, flags);
}
static inline void vfs_shm_barrier(sqlite3_file *f) {
    vfs_below(f)->pMethods->xShmBarrier(vfs_below(f));
}
static inline int vfs_shm_unmap(sqlite3_file *f, int remove) {
    return vfs_below(f)->pMethods->xShmUnmap(vfs_below(f), remove);
}

static inline int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags) {
    vfs_handle *h = (vfs_handle *)(void *)f;
    (void)v;
    int rc = vfs.real->xOpen(vfs.real, name, vfs_below(f), flags, ret_flags);
    h->base.pMethods = vfs_below(f)->pMethods ? &vfs.methods : NULL;
    h->file = vfs_which(name);
    return rc;
}
static inline int vfs_delete(sqlite3_vfs *v, const char *name, int sync) {
    (void)v;
    vfs_note((vfs_op){VFS_DELETE, vfs_which(name), 0, 0, NULL}, NULL);
    return vfs.real->xDelete(vfs.real, name, sync);
}

/* ---- for tests ---- */

static inline void vfs_forget(void) {
    for (size_t i = 0; i < vfs.n_ops; i++) free(vfs.ops[i].bytes);
    free(vfs.ops);
    vfs.ops = NULL;
    vfs.n_ops = vfs.cap = 0;
}

/* From here on every connection of this process goes through here. */
static inline void vfs_install(const char *under) {
    snprintf(vfs.under, sizeof vfs.under, "%s", under);
    if (!vfs.real) {
        vfs.real = sqlite3_vfs_find(NULL);
        vfs.vfs = *vfs.real;
        vfs.vfs.szOsFile += (int)sizeof(vfs_handle);
        vfs.vfs.zName = "serin-test";
        vfs.vfs.pNext = NULL;
        vfs.vfs.xOpen = vfs_open;
        vfs.vfs.xDelete = vfs_delete;
        vfs.methods = (sqlite3_io_methods){
            2,          vfs_close,     vfs_read,        vfs_write,       vfs_truncate,  vfs_sync,
            vfs_size,   vfs_lock_file, vfs_unlock_file, vfs_is_reserved, vfs_control,   vfs_sector,
            vfs_traits, vfs_shm_map,   vfs_shm_lock,    vfs_shm_barrier, vfs_shm_unmap, NULL,
            NULL};
        sqlite3_vfs_register(&vfs.vfs, 1);
    }
    vfs_forget();
}

static inline void vfs_fail(bool full, bool broken, uint32_t syncs) {
    pthread_mutex_lock(&vfs.lock);
    vfs.full = full;
    vfs.broken = broken;
    vfs.fail_syncs = syncs;
    pthread_mutex_unlock(&vfs.lock);
}

typedef struct vfs_image { /* a file as the disk has it */
    bool there;
    uint8_t *bytes;
    int64_t n, cap;
} vfs_image;

static inline void vfs_grow(vfs_image *m, int64_t n) {
    if (n > m->cap) {
        m->cap = 2 * n;
        m->bytes = realloc(m->bytes, (size_t)m->cap);
    }
    if (n > m->n) memset(m->bytes + m->n, 0, (size_t)(n - m->n));
    m->n = n;
}

static inline uint64_t vfs_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Of an operation that was not synced any part may have come through: by sectors, in any order. chance: of
 * 256, that a sector did. */
static inline void vfs_apply(vfs_image *m, const vfs_op *op, bool synced, uint32_t chance, uint64_t *state) {
    if (op->kind == VFS_SYNC) return;
    if (op->kind == VFS_DELETE) { /* SQLite syncs the folder where it matters */
        m->there = false;
        m->n = 0;
        return;
    }
    m->there = true;
    if (op->kind == VFS_TRUNCATE) {
        if (synced || vfs_random(state) % 256 < chance) vfs_grow(m, op->n);
        return;
    }
    for (int64_t at = op->at; at < op->at + op->n;) {
        int64_t end = SRN_MIN((at / VFS_SECTOR + 1) * VFS_SECTOR, op->at + op->n);
        if (synced || vfs_random(state) % 256 < chance) {
            if (end > m->n) vfs_grow(m, end);
            memcpy(m->bytes + at, op->bytes + (at - op->at), (size_t)(end - at));
        }
        at = end;
    }
}

/* The files as the disk has them when the power fails after n operations. */
static inline void vfs_cut(size_t n, uint32_t chance, uint64_t seed, vfs_image ret[VFS_N_FILES]) {
    size_t synced[VFS_N_FILES] = {0};
    for (size_t i = 0; i < n; i++)
        if (vfs.ops[i].kind == VFS_SYNC || vfs.ops[i].kind == VFS_DELETE) synced[vfs.ops[i].file] = i;
    for (int f = 0; f < VFS_N_FILES; f++) ret[f].there = false, ret[f].n = 0;
    for (size_t i = 0; i < n; i++)
        vfs_apply(&ret[vfs.ops[i].file], &vfs.ops[i], i <= synced[vfs.ops[i].file], chance, &seed);
}

#endif
