/* The keys of a ledger's folder: root.key, keyed hashes and signatures. Called from any thread; what changes
 * after opening (the subjects' keys) is behind a lock. Files are written whole, synced and renamed under a
 * lock on the folder, so that two processes that open a new folder at once get the same keys. Refuses keys
 * that others can read, and files that are damaged or of another ledger.
 */
#include "ledger/keys_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/ledger_internal.h"

#define ROOT       "root.key"
#define FIRST_LINE "serin ledger keys 1\n"
enum {
    HEX_CHARS = 2 * SRN__KEY_BYTES,
    LINE_CHARS = 5 + HEX_CHARS + 1, /* "hash " hex "\n" */
    SECRETS_AT = sizeof FIRST_LINE - 1,
    CHECK_AT = SECRETS_AT + 3 * LINE_CHARS,
    ROOT_CHARS = CHECK_AT + 6 + HEX_CHARS + 1
};

static int io_fail(srn_err *err, const char *dir, const char *name, const char *what) {
    int code = errno == ENOENT ? SRN_ENOENT : SRN_EIO;
    return srn_fail(err, code, "%s/%s: %s: %s", dir, name, what, strerror(errno));
}

int srn__keys_check_private(const char *dir, const char *name, int fd, srn_err *err) {
    struct stat st;
    if (fstat(fd, &st)) return io_fail(err, dir, name, "cannot be examined");
    if (!S_ISREG(st.st_mode)) return srn_fail(err, SRN_EFORMAT, "%s/%s is not a file", dir, name);
    if (st.st_mode & 077)
        return srn_fail(err, SRN_EINVAL, "%s/%s can be read by others (mode %04o); run `chmod 600 %s/%s`",
                        dir, name, (unsigned)(st.st_mode & 07777), dir, name);
    return SRN_OK;
}

int srn__keys_put_file(const char *dir, int dir_fd, const char *name, const void *p, size_t n, srn_err *err) {
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    if (unlinkat(dir_fd, fresh, 0) && errno != ENOENT) return io_fail(err, dir, fresh, "cannot be removed");
    int fd = openat(dir_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return io_fail(err, dir, fresh, "cannot be made");
    int bad = fchmod(fd, 0600) || srn_write_all(fd, p, n) || fsync(fd);
    int why = errno;
    if (close(fd) && !bad) bad = 1, why = errno;
    if (!bad && renameat(dir_fd, fresh, dir_fd, name)) bad = 1, why = errno;
    if (!bad && fsync(dir_fd)) bad = 1, why = errno;
    errno = why;
    return bad ? io_fail(err, dir, name, "cannot be written") : SRN_OK;
}

/* ---- root.key: a line of text each, so that it can be kept where secrets are kept ---- */

static void check_of(const char text[ROOT_CHARS + 1], char ret[HEX_CHARS + 1]) {
    uint8_t sum[SRN__KEY_BYTES];
    crypto_generichash(sum, sizeof sum, (const uint8_t *)text, CHECK_AT, NULL, 0);
    sodium_bin2hex(ret, HEX_CHARS + 1, sum, sizeof sum);
}

static void render(const srn__secrets *s, char ret[ROOT_CHARS + 1]) {
    char hash[HEX_CHARS + 1], seed[HEX_CHARS + 1], wrap[HEX_CHARS + 1], check[HEX_CHARS + 1];
    sodium_bin2hex(hash, sizeof hash, s->hash, sizeof s->hash);
    sodium_bin2hex(seed, sizeof seed, s->seed, sizeof s->seed);
    sodium_bin2hex(wrap, sizeof wrap, s->wrap, sizeof s->wrap);
    snprintf(ret, ROOT_CHARS + 1, FIRST_LINE "hash %s\nsign %s\nwrap %s\n", hash, seed, wrap);
    check_of(ret, check);
    snprintf(ret + CHECK_AT, ROOT_CHARS + 1 - CHECK_AT, "check %s\n", check);
    sodium_memzero(hash, sizeof hash);
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(wrap, sizeof wrap);
}

/* What stands where the secrets stand is read, rendered again and compared, so that nothing else passes. */
static bool parse(const char text[ROOT_CHARS + 1], srn__secrets *s) {
    uint8_t *into[3] = {s->hash, s->seed, s->wrap};
    for (size_t i = 0; i < 3; i++) {
        size_t n = 0;
        const char *hex = text + SECRETS_AT + i * LINE_CHARS + 5;
        if (sodium_hex2bin(into[i], SRN__KEY_BYTES, hex, HEX_CHARS, NULL, &n, NULL) || n != SRN__KEY_BYTES)
            return false;
    }
    char again[ROOT_CHARS + 1];
    render(s, again);
    bool same = sodium_memcmp(again, text, ROOT_CHARS) == 0;
    sodium_memzero(again, sizeof again);
    return same;
}

static int read_root(const srn_ledger_keys *k, int fd, srn_err *err) {
    char text[ROOT_CHARS + 2]; /* one more than it has */
    size_t n = 0;
    while (n < sizeof text) {
        ssize_t r = read(fd, text + n, sizeof text - n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return io_fail(err, k->dir, ROOT, "cannot be read");
        if (r == 0) break;
        n += (size_t)r;
    }
    int code = SRN_OK;
    size_t words = sizeof FIRST_LINE - 3; /* without the number */
    if (n < words || memcmp(text, FIRST_LINE, words) != 0)
        code = srn_fail(
            err, SRN_EFORMAT,
            "%s/" ROOT " does not hold the keys of a ledger; restore it from where its copy is kept", k->dir);
    else if (n > SECRETS_AT && memcmp(text, FIRST_LINE, SECRETS_AT) != 0)
        code = srn_fail(err, SRN_EUNSUP, "%s/" ROOT " was written by a newer Serin", k->dir);
    else if (n != ROOT_CHARS || !parse(text, k->secrets))
        code = srn_fail(err, SRN_EFORMAT, "%s/" ROOT " is damaged; restore it from where its copy is kept",
                        k->dir);
    sodium_memzero(text, sizeof text);
    return code;
}

static void draw_secrets(srn__secrets *s) {
    randombytes_buf(s->hash, sizeof s->hash);
    randombytes_buf(s->seed, sizeof s->seed);
    randombytes_buf(s->wrap, sizeof s->wrap);
}

static int make_root(const srn_ledger_keys *k, srn_err *err) {
    if (faccessat(k->dir_fd, "subjects.keys", F_OK, 0) == 0)
        return srn_fail(err, SRN_EFORMAT,
                        "%s/" ROOT
                        " is missing, without which subjects.keys beside it cannot be read; restore it "
                        "from where its copy is kept, or move subjects.keys away to begin with new keys",
                        k->dir);
    char text[ROOT_CHARS + 1];
    draw_secrets(k->secrets);
    render(k->secrets, text);
    int code = srn__keys_put_file(k->dir, k->dir_fd, ROOT, text, ROOT_CHARS, err);
    sodium_memzero(text, sizeof text);
    return code;
}

/* The folder's lock is held. */
static int load_root(const srn_ledger_keys *k, bool make, srn_err *err) {
    int fd = openat(k->dir_fd, ROOT, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT && make) return make_root(k, err);
    if (fd < 0) return io_fail(err, k->dir, ROOT, "cannot be opened");
    int code = srn__keys_check_private(k->dir, ROOT, fd, err);
    if (!code) code = read_root(k, fd, err);
    close(fd);
    return code;
}

/* ---- opening ---- */

static void derive(srn_ledger_keys *k) {
    srn__secrets *s = k->secrets;
    static const uint8_t mac_name[] = "serin subjects.keys", id_name[] = "serin hash key id";
    uint8_t id[SRN_KEY_ID_CHARS / 2 + 8]; /* BLAKE2b gives 16 bytes at least */
    crypto_generichash(s->mac, sizeof s->mac, mac_name, sizeof mac_name, s->wrap, sizeof s->wrap);
    crypto_generichash(id, sizeof id, id_name, sizeof id_name, s->hash, sizeof s->hash);
    sodium_bin2hex(k->id, sizeof k->id, id, SRN_KEY_ID_CHARS / 2);
    crypto_sign_seed_keypair(k->public, s->sign, s->seed);
}

static int open_dir(srn_ledger_keys *k, bool make, srn_err *err) {
    if (make && mkdir(k->dir, 0700) == 0) {
        int code = srn__folder_sync_above(k->dir, err);
        if (code) return code;
    } else if (make && errno != EEXIST) {
        return srn_fail(err, SRN_EIO, "the folder of keys %s cannot be made: %s", k->dir, strerror(errno));
    }
    k->dir_fd = open(k->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (k->dir_fd < 0 || fstat(k->dir_fd, &st))
        return srn_fail(err, errno == ENOENT ? SRN_ENOENT : SRN_EIO,
                        "the folder of keys %s cannot be opened: %s", k->dir, strerror(errno));
    if (st.st_mode & 022)
        return srn_fail(err, SRN_EINVAL, "others can write into the folder of keys %s; run `chmod 700 %s`",
                        k->dir, k->dir);
    return SRN_OK;
}

static int open_folder(srn_ledger_keys *k, bool make, srn_err *err) {
    int code = open_dir(k, make, err);
    if (code) return code;
    while (flock(k->dir_fd, LOCK_EX))
        if (errno != EINTR) return io_fail(err, k->dir, ".", "cannot be locked");
    code = load_root(k, make, err);
    flock(k->dir_fd, LOCK_UN);
    return code;
}

static int open_keys(const char *dir, bool make, srn_ledger_keys **ret, srn_err *err) {
    if (sodium_init() < 0) return srn_fail(err, SRN_EIO, "libsodium finds no source of random numbers");
    srn_ledger_keys *k = srn_calloc(1, sizeof *k);
    if (!k) return srn_fail_nomem(err, sizeof *k);
    k->dir_fd = k->subjects.fd = -1;
    pthread_mutex_init(&k->lock, NULL);
    k->secrets = sodium_malloc(sizeof *k->secrets);
    k->dir = dir ? srn_strndup(dir, strlen(dir)) : NULL;
    int code = SRN_OK;
    if (!k->secrets || (dir && !k->dir)) code = srn_fail_nomem(err, sizeof *k->secrets);
    if (!code && dir) code = open_folder(k, make, err);
    if (!code && !dir) draw_secrets(k->secrets);
    if (!code) {
        derive(k);
        k->subjects.secrets = k->secrets;
        k->subjects.dir = k->dir;
        k->subjects.dir_fd = k->dir_fd;
        k->subjects.writable = make;
        code = srn__subjects_open(&k->subjects, err);
    }
    if (code) return srn_ledger_keys_close(k), code;
    *ret = k;
    return SRN_OK;
}

int srn_ledger_keys_open(const char *dir, srn_ledger_keys **ret, srn_err *err) {
    return open_keys(dir, true, ret, err);
}

int srn__keys_read(const char *dir, srn_ledger_keys **ret, srn_err *err) {
    return open_keys(dir, false, ret, err);
}

void srn_ledger_keys_close(srn_ledger_keys *k) {
    if (!k) return;
    srn__subjects_close(&k->subjects);
    sodium_free(k->secrets); /* clears it */
    if (k->dir_fd >= 0) close(k->dir_fd);
    pthread_mutex_destroy(&k->lock);
    free(k->dir);
    free(k);
}

/* ---- hashes and signatures ---- */

bool srn_is_keyed_hash(const char *text) {
    return strspn(text, "0123456789abcdef") == SRN_KEYED_HASH_CHARS && !text[SRN_KEYED_HASH_CHARS];
}

/* Over the domain's length, the domain and the text, so that no text of one domain is one of another. */
void srn_keyed_hash(const srn_ledger_keys *k, const char *domain, srn_str text,
                    char ret[SRN_KEYED_HASH_CHARS + 1]) {
    crypto_generichash_state h;
    uint8_t sum[SRN_KEYED_HASH_CHARS / 2];
    uint64_t n = strlen(domain);
    uint8_t length[8];
    for (size_t i = 0; i < sizeof length; i++) length[i] = (uint8_t)(n >> 8 * i);
    crypto_generichash_init(&h, k->secrets->hash, sizeof k->secrets->hash, sizeof sum);
    crypto_generichash_update(&h, length, sizeof length);
    crypto_generichash_update(&h, (const uint8_t *)domain, n);
    if (text.len) crypto_generichash_update(&h, (const uint8_t *)text.ptr, text.len);
    crypto_generichash_final(&h, sum, sizeof sum);
    sodium_bin2hex(ret, SRN_KEYED_HASH_CHARS + 1, sum, sizeof sum);
    sodium_memzero(&h, sizeof h);
}

const char *srn_hash_key_id(const srn_ledger_keys *k) {
    return k->id;
}

void srn__keys_sign(const srn_ledger_keys *k, const void *p, size_t n, uint8_t ret[SRN__SIGNATURE_BYTES]) {
    crypto_sign_detached(ret, NULL, p, n, k->secrets->sign);
}

const uint8_t *srn__keys_public(const srn_ledger_keys *k) {
    return k->public;
}

bool srn__keys_signed(const uint8_t public_key[SRN__PUBLIC_BYTES], const void *p, size_t n,
                      const uint8_t signature[SRN__SIGNATURE_BYTES]) {
    return crypto_sign_verify_detached(signature, p, n, public_key) == 0;
}
