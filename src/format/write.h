/* format, the writing side: the head of a GGUF file (keys and the table of tensors) built in memory, and a
 * file that appears under its name only when it is whole. Used by everything that makes model files. An
 * object belongs to one thread, but srn_out_write may be called by several at once.
 */
#ifndef SRN_FORMAT_WRITE_H
#define SRN_FORMAT_WRITE_H

#include "format/format.h"

/* ---- the head ---- */

#define SRN_GGUF_ALIGNMENT 32u

/* Failures are kept until srn_gguf_head_finish, so that adding needs no checks. */
typedef struct srn_gguf_head {
    srn_buf keys, tensors;
    uint64_t n_keys, n_tensors;
    uint64_t data_bytes; /* of all tensors so far, each padded to the alignment */
    const char *wrong;   /* the first tensor whose size cannot be, or NULL */
} srn_gguf_head;

void srn_gguf_head_init(srn_gguf_head *h);
void srn_gguf_head_done(srn_gguf_head *h);
void srn_gguf_put_u32(srn_gguf_head *h, const char *key, uint32_t v);
void srn_gguf_put_f32(srn_gguf_head *h, const char *key, float v);
void srn_gguf_put_bool(srn_gguf_head *h, const char *key, bool v);
void srn_gguf_put_str(srn_gguf_head *h, const char *key, srn_str v);
/* The head of an array of count elements; exactly so many srn_gguf_elem_* of its type must follow. */
void srn_gguf_put_array(srn_gguf_head *h, const char *key, srn_meta_type elem, uint64_t count);
void srn_gguf_elem_str(srn_gguf_head *h, srn_str v);
void srn_gguf_elem_i32(srn_gguf_head *h, int32_t v);
/* Adds a tensor, whose rows must be whole blocks of its type; name must live until the head is finished.
 * Returns the offset of its data from the start of all data, and in *ret_bytes (may be NULL) its size. */
uint64_t srn_gguf_add_tensor(srn_gguf_head *h, const char *name, srn_type type, const uint64_t *ne,
                             uint32_t n_dims, uint64_t *ret_bytes);
/* The bytes before the data, a multiple of the alignment: the first tensor's offset in the file is ret->len.
 * ret is initialised here and the caller's to srn_buf_done. SRN_EINVAL, SRN_ENOMEM. */
int srn_gguf_head_finish(const srn_gguf_head *h, srn_buf *ret, srn_err *err);

/* ---- the file ---- */

typedef struct srn_out srn_out;

/* A file of `bytes` bytes, written under a temporary name beside path; what is not written stays zero. Its
 * space is reserved at once where the file system can, so that a full disk shows before any work.
 * SRN_EINVAL (path exists, unless force; a folder), SRN_EIO, SRN_ENOMEM. */
int srn_out_open(const char *path, bool force, uint64_t bytes, srn_out **ret, srn_err *err);
/* The same in memory, without a name: srn_out_path gives one that this process may open, until srn_out_free.
 * Pages are taken as they are written, so more than there is now is refused here: SRN_ENOMEM. */
int srn_out_memory(uint64_t bytes, srn_out **ret, srn_err *err);
/* The same where only a beginning will be written: what is not takes no memory, so no size is refused. */
int srn_out_sparse(uint64_t bytes, srn_out **ret, srn_err *err);
const char *srn_out_path(const srn_out *o);
/* Any thread. SRN_EIO names the file, and a full disk as such. */
int srn_out_write(srn_out *o, uint64_t offset, const void *p, size_t n, srn_err *err);
/* Gives the file its name; when a file of that name has appeared meanwhile, it is kept and this fails unless
 * force was given. In memory it does nothing. */
int srn_out_commit(srn_out *o, srn_err *err);
/* Also removes the temporary file when srn_out_commit was not called or failed. o may be NULL. */
void srn_out_free(srn_out *o);

#endif
