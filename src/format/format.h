/* format: model files become an immutable directory of named tensors and metadata over mmap.
 * Bytes are checked once, here; after srn_weights_open nobody re-checks sizes, offsets or UTF-8 of names.
 * A srn_weights may be read by any number of threads; it lives until srn_weights_free.
 */
#ifndef SRN_FORMAT_FORMAT_H
#define SRN_FORMAT_FORMAT_H

#include "base/base.h"
#include "quant/quant.h"

#define SRN_MAX_DIMS 4

typedef struct srn_tensor {
    const char *name; /* NUL-terminated, valid UTF-8, unique in the directory */
    srn_type type;
    uint32_t n_dims;
    uint64_t ne[SRN_MAX_DIMS]; /* GGUF order: ne[0] is the contiguous one (columns); unused ones are 1 */
    const void *data;          /* in the mapping; NULL when the file was opened for metadata only */
    uint64_t n_bytes;
    uint64_t offset; /* in its file */
    uint32_t part;   /* which file of a split model, from 0 */
} srn_tensor;

typedef struct srn_weights srn_weights;

typedef struct srn_open_opts {
    srn_progress_fn *progress; /* may be NULL */
    void *progress_ctx;
    bool vocab_only; /* accept a file without tensors */
} srn_open_opts;

/* Opens a GGUF file (v2, v3; for a split model its first part, the others are found beside it). opts may be
 * NULL. Errors: SRN_ENOENT, SRN_EIO, SRN_EFORMAT, SRN_EUNSUP, SRN_ELIMIT with file, key or tensor, and
 * offset. */
int srn_weights_open(const char *path, const srn_open_opts *opts, srn_weights **ret, srn_err *err);
void srn_weights_free(srn_weights *w);

/* Parses one GGUF image in memory (not owned, must outlive the result): the pure function under
 * srn_weights_open and the fuzz target's entry. name is used in messages. */
int srn_gguf_parse(const void *data, size_t len, const char *name, srn_weights **ret, srn_err *err);

/* Whether a file that begins with these n bytes can be GGUF; SRN_EFORMAT says what it seems to be instead. */
int srn_gguf_check_head(const uint8_t *p, size_t n, const char *name, srn_err *err);

const char *srn_weights_path(const srn_weights *w);
size_t srn_weights_count(const srn_weights *w);
const srn_tensor *srn_weights_at(const srn_weights *w, size_t i);
const srn_tensor *srn_weights_find(const srn_weights *w, const char *name); /* NULL if there is none */
uint32_t srn_weights_parts(const srn_weights *w);
const char *srn_weights_part_path(const srn_weights *w, uint32_t part);
uint64_t srn_weights_file_bytes(const srn_weights *w); /* sum over the parts */
/* Of these, what takes memory that only srn_weights_forget gives back: a model of srn_out_memory. */
uint64_t srn_weights_memory_bytes(const srn_weights *w);
uint32_t srn_weights_version(const srn_weights *w);

/* Takes the pages that hold bytes [begin, end) of a part's file out of the process, which stay in the
 * system's cache and readable: who reads them again fetches them from there. Any thread, beside readers. */
void srn_weights_drop_pages(const srn_weights *w, uint32_t part, uint64_t begin, uint64_t end);
/* Says that nobody will read bytes [begin, end) of a part again. A model that lies in memory only
 * (srn_out_memory) gives back the whole pages in it, which read as zeros afterwards; a file stays as it is.
 */
void srn_weights_forget(const srn_weights *w, uint32_t part, uint64_t begin, uint64_t end);
/* As srn_weights_drop_pages, for everything but the metadata. */
void srn_weights_drop_tensors(const srn_weights *w);

/* ---- metadata ---- */
typedef enum srn_meta_type { /* GGUF's own ids */
                             SRN_META_U8,
                             SRN_META_I8,
                             SRN_META_U16,
                             SRN_META_I16,
                             SRN_META_U32,
                             SRN_META_I32,
                             SRN_META_F32,
                             SRN_META_BOOL,
                             SRN_META_STR,
                             SRN_META_ARR,
                             SRN_META_U64,
                             SRN_META_I64,
                             SRN_META_F64
} srn_meta_type;

typedef struct srn_meta {
    srn_str key;
    srn_meta_type type;
    srn_meta_type elem; /* of an array */
    uint64_t count;     /* of an array; 1 otherwise */
    union {
        uint64_t u;
        int64_t i;
        double f;
        bool b;
        srn_str s;           /* may hold any bytes; points into the mapping */
        const void *raw;     /* array of numbers: little-endian, unaligned, count elements of type elem */
        const srn_str *strs; /* array of strings */
    } v;
} srn_meta;

size_t srn_meta_count(const srn_weights *w);
const srn_meta *srn_meta_at(const srn_weights *w, size_t i);
const srn_meta *srn_meta_find(const srn_weights *w, const char *key);

/* Typed look-ups. 0 and the value; SRN_ENOENT (err untouched) when the key is absent; SRN_EFORMAT with a
 * sentence when it has another type or does not fit. Integers of any width and sign convert when they fit. */
int srn_meta_u64(const srn_weights *w, const char *key, uint64_t *ret, srn_err *err);
int srn_meta_i64(const srn_weights *w, const char *key, int64_t *ret, srn_err *err);
int srn_meta_f64(const srn_weights *w, const char *key, double *ret, srn_err *err); /* integers convert too */
int srn_meta_bool(const srn_weights *w, const char *key, bool *ret, srn_err *err);
int srn_meta_str(const srn_weights *w, const char *key, srn_str *ret, srn_err *err);
/* An array of strings: *ret points into the directory. */
int srn_meta_strs(const srn_weights *w, const char *key, const srn_str **ret, size_t *ret_n, srn_err *err);
/* Element i of an array of numbers, converted; the caller has checked i < count. */
double srn_meta_elem_f64(const srn_meta *m, size_t i);
int64_t srn_meta_elem_i64(const srn_meta *m, size_t i);

/* ---- where models are ---- */

/* Resolves what a person calls a model: a path that exists, or the name of a model in the cache folder
 * ($SERIN_CACHE, or $XDG_CACHE_HOME/serin, or ~/.cache/serin; then models/NAME or models/NAME.gguf,
 * case-insensitively, and a unique prefix). The error lists what the cache holds. path: at least 4096 bytes.
 */
int srn_weights_locate(const char *model, char *ret_path, size_t cap, srn_err *err);

/* ---- what a file holds (facts.c) ---- */

/* Tensors of one type. */
typedef struct srn_type_share {
    srn_type type;
    uint64_t tensors, weights, bytes;
} srn_type_share;
/* The types that there are, by their share of the weights, descending; returns how many. */
size_t srn_weights_types(const srn_weights *w, srn_type_share ret[SRN_TYPE_END]);

enum { SRN_QUANTISATION_CHARS = 256 };
/* Stated from the tensors, whatever the file calls itself: "Q4_K (53 %), Q5_0 (31 %), F32". "": none. */
void srn_weights_quantisation(const srn_weights *w, char ret[SRN_QUANTISATION_CHARS]);

/* SHA-256, as hex, of everything in the file that decides which tokens a text becomes: its keys
 * "tokenizer.*" but the chat templates, and the architecture. "": the file holds no tokenizer. */
int srn_tokenizer_id(const srn_weights *w, char ret_hex[65], srn_err *err);
/* SHA-256, as hex, of the chat template's text; of all of them with their names where there are several. "":
 * there is none. */
int srn_chat_template_id(const srn_weights *w, char ret_hex[65], srn_err *err);

/* How a tensor of two models differs. */
typedef enum srn_difference {
    SRN_OTHER_BYTES,
    SRN_OTHER_FORM, /* its type or shape */
    SRN_ONLY_FIRST, /* the other model has none of that name */
    SRN_ONLY_SECOND
} srn_difference;
/* Calls fn for each tensor that differs, in the order of the first model and then of the second; returns how
 * many there are. Reads both files whole, 16 MiB at a time; before each piece stop(stop_ctx) is asked (NULL:
 * nobody is) whether to leave it at that, with what was found so far. */
uint64_t srn_weights_differ(const srn_weights *a, const srn_weights *b,
                            void (*fn)(void *ctx, const char *tensor, srn_difference what), void *ctx,
                            bool (*stop)(void *ctx), void *stop_ctx);

/* ---- identity ---- */
/* A path in the user's cache folder: $SERIN_CACHE/NAME, else $XDG_CACHE_HOME/serin/NAME, else
 * ~/.cache/serin/NAME; nothing is made. False when there is no home or the path is longer than cap. */
bool srn_cache_path(const char *name, char *ret, size_t cap);

/* SHA-256 of the file's bytes as 64 hex digits: for one file what sha256sum prints; for a split model the
 * SHA-256 of the sorted list of the parts' digests, each as hex and a newline. Cached by device, inode, size,
 * mtime and ctime in srn_cache_path("digests"), in files that the user alone can write; force skips the
 * look-up. progress may be NULL. */
int srn_weights_id(const srn_weights *w, bool force, srn_progress_fn *progress, void *ctx, char ret_hex[65],
                   srn_err *err);

/* The same from the cache alone; false where it does not have it. */
bool srn_weights_known_id(const srn_weights *w, char ret_hex[65]);
/* Whether the files are still what was opened, as far as their sizes and times tell; SRN_EIO names the one
 * that was changed. Any thread. */
int srn_weights_unchanged(const srn_weights *w, srn_err *err);

/* ---- that what was hashed is what runs (watch.c) ---- */

/* From now on those who read tensors into a form of their own tell by srn_weights_saw what they read: before
 * they begin, once. Errors: SRN_ENOMEM, SRN_EIO. */
int srn_weights_watch(const srn_weights *w, srn_err *err);
bool srn_weights_watched(const srn_weights *w);
/* Rows [row0, row0 + n_rows) of a tensor were read, and these were their bytes. Each row once; any thread. */
void srn_weights_saw(const srn_weights *w, const srn_tensor *t, uint64_t row0, uint64_t n_rows,
                     const void *rows);

/* All bytes of a model's files, read once more: their SHA-256, and of a watched model a digest of each
 * tensor, to be compared with what was seen. A reading may run beside those who see. */
typedef struct srn_reading srn_reading;
typedef struct srn_reading_opts {
    srn_progress_fn *progress; /* of the thread that runs it; may be NULL */
    void *progress_ctx;
    bool (*stop)(void *ctx); /* asked now and then; true ends it with SRN_ECANCELLED. May be NULL */
    void *stop_ctx;
} srn_reading_opts;
int srn_reading_new(const srn_weights *w, srn_reading **ret, srn_err *err);
void srn_reading_free(srn_reading *r);
/* Enters the digests in the cache. Errors: SRN_EIO (also a file that was changed), SRN_ECANCELLED,
 * SRN_ENOMEM.
 */
int srn_reading_run(srn_reading *r, const srn_reading_opts *o, srn_err *err);
/* The weights id, after a run. */
const char *srn_reading_id(const srn_reading *r);
/* After the run and after all was seen: SRN_EIO names a tensor that was seen with other bytes. */
int srn_reading_check(const srn_reading *r, srn_err *err);

#endif
