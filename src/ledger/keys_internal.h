/* ledger, inside: the keys of a folder. Three secrets in root.key (for hashes, for signatures, to wrap with)
 * and one key for each subject in subjects.keys, wrapped by its tenant's key, which the wrapping secret
 * wraps.
 */
#ifndef SRN_LEDGER_KEYS_INTERNAL_H
#define SRN_LEDGER_KEYS_INTERNAL_H

#include <pthread.h>

#include "ledger/ledger.h"

enum {
    SRN__KEY_BYTES = 32,
    SRN__KEY_ID_BYTES = 16,
    SRN__SIGNATURE_BYTES = 64,
    SRN__PUBLIC_BYTES = 32,
    SRN__SLOT_BYTES = 128, /* of one entry of subjects.keys; divides a disk's sector */
    SRN__PLAIN_BYTES = 256 << 20
};

/* In locked memory. */
typedef struct srn__secrets {
    uint8_t hash[SRN__KEY_BYTES];
    uint8_t seed[SRN__KEY_BYTES]; /* of the signing key */
    uint8_t wrap[SRN__KEY_BYTES];
    uint8_t mac[SRN__KEY_BYTES]; /* from wrap: of entries in subjects.keys */
    uint8_t sign[64];            /* from seed, as libsodium keeps it */
} srn__secrets;

/* What an entry of subjects.keys is known by; the wrapped keys stay on disk. */
typedef struct srn__known {
    uint8_t owner[SRN__KEY_ID_BYTES]; /* keyed hash of tenant and subject; zero once destroyed */
    uint8_t id[SRN__KEY_ID_BYTES];    /* random, named in what is sealed under it */
    uint8_t kind;
} srn__known;

typedef struct srn__slot_table { /* open addressing: index of an entry + 1, 0 where there is none */
    uint32_t *at;
    size_t cap, n;
} srn__slot_table;

typedef struct srn__subjects {
    const srn__secrets *secrets;
    const char *dir; /* NULL: in memory */
    int dir_fd, fd;  /* fd -1: no file yet */
    bool writable;
    uint32_t n; /* entries, dead ones and markers included */
    size_t cap;
    srn__known *known;
    uint8_t (*slots)[SRN__SLOT_BYTES]; /* in memory only */
    srn__slot_table by_owner, by_id;
} srn__subjects;

struct srn_ledger_keys {
    srn__secrets *secrets;
    char id[SRN_KEY_ID_CHARS + 1];
    uint8_t public[SRN__PUBLIC_BYTES];
    char *dir;
    int dir_fd;
    pthread_mutex_t lock; /* guards subjects */
    srn__subjects subjects;
};

/* ---- keys.c ---- */

/* Keys that are there already, to read with: makes nothing, and seals only for subjects that have a key.
 * SRN_ENOENT: there are none in dir. */
int srn__keys_read(const char *dir, srn_ledger_keys **ret, srn_err *err);
/* Ed25519 over n bytes. Any thread. */
void srn__keys_sign(const srn_ledger_keys *k, const void *p, size_t n, uint8_t ret[SRN__SIGNATURE_BYTES]);
/* The public key that belongs to those signatures; lives as long as k. */
const uint8_t *srn__keys_public(const srn_ledger_keys *k);
bool srn__keys_signed(const uint8_t public_key[SRN__PUBLIC_BYTES], const void *p, size_t n,
                      const uint8_t signature[SRN__SIGNATURE_BYTES]);
/* Writes name in the folder as a whole or not at all, for its owner only, and syncs file and folder. */
int srn__keys_put_file(const char *dir, int dir_fd, const char *name, const void *p, size_t n, srn_err *err);
/* Fails unless only the owner can read and write what fd is. */
int srn__keys_check_private(const char *dir, const char *name, int fd, srn_err *err);

/* ---- subjects.c; the caller holds the keys' lock ---- */

int srn__subjects_open(srn__subjects *t, srn_err *err); /* after its first fields were set */
void srn__subjects_close(srn__subjects *t);
/* The key of a subject, made where make is set and there is none. */
int srn__subjects_key(srn__subjects *t, const char *tenant, const char *subject, bool make,
                      uint8_t ret_id[SRN__KEY_ID_BYTES], uint8_t ret_key[SRN__KEY_BYTES], srn_err *err);
/* SRN_ENOENT: destroyed, or never here; the sentence says which. */
int srn__subjects_key_of_id(srn__subjects *t, const uint8_t id[SRN__KEY_ID_BYTES],
                            uint8_t ret_key[SRN__KEY_BYTES], srn_err *err);
int srn__subjects_forget(srn__subjects *t, const char *tenant, const char *subject, srn_err *err);

#endif
