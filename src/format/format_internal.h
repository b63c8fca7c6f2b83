/* Internals of format: what one GGUF image parses to, and the hash index over names. Included by src/format
 * only.
 */
#ifndef SRN_FORMAT_INTERNAL_H
#define SRN_FORMAT_INTERNAL_H

#include "format/format.h"

#include <sys/stat.h>

/* Limits on what a file may ask for. Everything is also bounded by the bytes that the file has: no count is
 * believed that its own smallest encoding would not fit in what is left. */
#define SRN__MAX_KEYS        65536u
#define SRN__MAX_TENSORS     262144u
#define SRN__MAX_KEY_BYTES   1024u
#define SRN__MAX_NAME_BYTES  255u
#define SRN__MAX_STR_BYTES   (256u << 20)
#define SRN__MAX_ARRAY       (64u << 20)
#define SRN__MAX_ALIGNMENT   (1u << 20)
#define SRN__DEFAULT_ALIGN   32u
#define SRN__MAX_SPLIT_PARTS 1024u

/* An open-addressing table from a name to its position, keyed by a random seed so that no file can be built
 * to collide. Slots hold position + 1; 0 is empty. */
typedef struct srn__index {
    uint32_t *slots;
    uint64_t mask; /* slots - 1, a power of two less one */
    uint64_t seed;
} srn__index;

/* Room for n names; false when memory runs out. */
bool srn__index_init(srn__index *x, size_t n);
void srn__index_done(srn__index *x);

/* The name at a position, for comparing. */
typedef srn_str srn__name_at_fn(const void *table, size_t i);
/* Position of a name, or SIZE_MAX. */
size_t srn__index_find(const srn__index *x, const void *table, srn__name_at_fn *at, srn_str name);
/* Adds position i; false (and the position that already holds the name in *ret_other) on a duplicate. */
bool srn__index_add(srn__index *x, const void *table, srn__name_at_fn *at, size_t i, size_t *ret_other);

/* One parsed image. The arena owns names, metas, string arrays and tensors. */
typedef struct srn__gguf {
    srn_arena arena;
    uint32_t version;
    uint64_t alignment;
    uint64_t data_offset; /* of the first tensor, in the file */
    srn_meta *metas;
    size_t n_metas;
    srn__index meta_index;
    srn_tensor *tensors;
    size_t n_tensors;
} srn__gguf;

/* Parses an image; on failure g holds nothing. Tensors' duplicates are found by the caller, over all parts.
 */
int srn__gguf_init(srn__gguf *g, const void *data, size_t len, const char *name, srn_err *err);
void srn__gguf_done(srn__gguf *g);
const srn_meta *srn__gguf_find(const srn__gguf *g, srn_str key);

/* Always fails: says what the bytes seem to be, since they are not GGUF, and what to do. */
int srn__not_gguf(const uint8_t *p, size_t len, const char *name, srn_err *err);

/* By its seals a file of srn_out_memory is known from all others, whose bytes nobody may throw away. */
#define SRN__MEMORY_SEALS (F_SEAL_GROW | F_SEAL_SHRINK)

typedef struct srn__part {
    char *path;         /* owned; the name given to srn_gguf_parse for an image in memory */
    const uint8_t *map; /* len bytes */
    size_t len;
    int fd;         /* -1 for an image in memory, which is not unmapped */
    struct stat st; /* of fd, when it was opened */
    bool in_memory; /* made by srn_out_memory */
    srn__gguf gguf;
} srn__part;

/* What was seen of a watched model's tensors (watch.c). */
typedef struct srn__watch srn__watch;
srn__watch *srn__watch_new(void);
void srn__watch_free(srn__watch *x);
/* The next n bytes of a part, from `at` on: all of each part, in order. */
void srn__reading_add(srn_reading *r, uint32_t part, uint64_t at, const uint8_t *p, size_t n);
/* Hashes every part from its descriptor, never from the cache, and tells r (may be NULL) of the bytes;
 * digests of whole parts are entered in the cache. */
int srn__hash_all(const srn_weights *w, const srn_reading_opts *o, srn_reading *r, char ret_hex[65],
                  srn_err *err);

struct srn_weights {
    srn__part *parts;
    uint32_t n_parts;
    srn_tensor *tensors; /* of all parts; the first part's own array when there is one part */
    size_t n_tensors;
    srn__index tensor_index;
    bool owns_tensors;
    srn__watch *watch;
};

/* "u32", "array of strings", ... for sentences. */
const char *srn__meta_type_name(srn_meta_type t);
/* Bytes of a number or bool; 0 for strings and arrays. */
size_t srn__meta_elem_bytes(srn_meta_type t);

#endif
