/* Opening model files: maps every part of a model, parses each and joins the tables of tensors. Called by
 * commands and the engine on any thread; the result is immutable. Owns the mappings and one descriptor per
 * part (identity.c hashes through it). A file that somebody else shortens while it is mapped kills the reader
 * with SIGBUS, as for every mapped file.
 *
 * Refuses folders and devices, a later part of a split model in place of the first, parts that are missing or
 * belong to another split, and a file without tensors unless the caller asked for a vocabulary.
 */
#include "format/format_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- one part ---- */

static void part_done(srn__part *p) {
    srn__gguf_done(&p->gguf);
    if (p->fd >= 0) {
        if (p->map && p->len) munmap((void *)p->map, p->len);
        close(p->fd);
    }
    free(p->path);
    *p = (srn__part){.fd = -1};
}

/* A model in memory is opened for writing, which giving pages back needs. */
static void part_know_memory(srn__part *p) {
    if (fcntl(p->fd, F_GET_SEALS) != SRN__MEMORY_SEALS) return;
    int fd = open(p->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == p->st.st_dev && st.st_ino == p->st.st_ino) {
        close(p->fd);
        p->fd = fd;
        p->in_memory = true;
    } else if (fd >= 0) {
        close(fd);
    }
}

static int part_map(srn__part *p, srn_err *err) {
    p->fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo without a writer must not block */
    if (p->fd < 0 || fstat(p->fd, &p->st))
        return srn_fail(err, errno == ENOENT || errno == ENOTDIR ? SRN_ENOENT : SRN_EIO, "%s: %s", p->path,
                        strerror(errno));
    if (S_ISDIR(p->st.st_mode))
        return srn_fail(err, SRN_EINVAL, "%s: is a folder; give the path of a .gguf file in it", p->path);
    if (!S_ISREG(p->st.st_mode))
        return srn_fail(err, SRN_EINVAL,
                        "%s: is not a regular file, which mapping needs; save it to a file first", p->path);
    if ((uint64_t)p->st.st_size > SIZE_MAX / 2)
        return srn_fail(err, SRN_ELIMIT, "%s: too large to map on this machine", p->path);
    p->len = (size_t)p->st.st_size;
    part_know_memory(p);
    if (p->len == 0) return SRN_OK; /* the parser says so */
    void *map = mmap(NULL, p->len, PROT_READ, MAP_SHARED, p->fd, 0);
    if (map == MAP_FAILED)
        return srn_fail(err, SRN_EIO, "%s: cannot be mapped: %s", p->path, strerror(errno));
    p->map = map;
    return SRN_OK;
}

/* Takes path. On failure p holds nothing. */
static int part_open(srn__part *p, char *path, srn_err *err) {
    *p = (srn__part){.path = path, .fd = -1};
    int code = part_map(p, err);
    if (!code) code = srn__gguf_init(&p->gguf, p->map, p->len, p->path, err);
    if (code) part_done(p);
    return code;
}

static int part_u64(const srn__part *p, srn_str key, uint64_t max, uint64_t *ret, srn_err *err) {
    const srn_meta *m = srn__gguf_find(&p->gguf, key);
    if (!m) return SRN_OK;
    bool integer = srn__meta_elem_bytes(m->type) > 0 && m->type != SRN_META_F32 && m->type != SRN_META_F64 &&
                   m->type != SRN_META_BOOL;
    if (!integer || m->v.u > max)
        return srn_fail(err, integer ? SRN_ELIMIT : SRN_EFORMAT,
                        "%s: key '%.*s' must be an integer of at most %" PRIu64, p->path, (int)key.len,
                        key.ptr, max);
    *ret = m->v.u;
    return SRN_OK;
}

/* ---- splits: NAME-00001-of-00003.gguf, keys split.no (from 0), split.count, split.tensors.count ---- */

/* The path with its number replaced by that of part `no`; NULL when the name is not of that form or memory
 * runs out (*ret_form tells which). */
static char *split_path(const char *path, uint64_t no, uint64_t count, bool *ret_form) {
    char tail[40];
    size_t len = strlen(path);
    size_t n = (size_t)snprintf(tail, sizeof tail, "-of-%05" PRIu64 ".gguf", count);
    *ret_form = false;
    if (len < n + 6 || strcmp(path + len - n, tail) || path[len - n - 6] != '-') return NULL;
    for (size_t i = len - n - 5; i < len - n; i++)
        if (path[i] < '0' || path[i] > '9') return NULL;
    *ret_form = true;
    char *out = srn_strndup(path, len), digits[24];
    if (!out) return NULL;
    snprintf(digits, sizeof digits, "%05" PRIu64, no + 1);
    memcpy(out + len - n - 5, digits, 5);
    return out;
}

typedef struct split {
    uint64_t no, count, tensors; /* tensors: over all parts, UINT64_MAX when not stated */
} split;

static int read_split(const srn__part *p, split *ret, srn_err *err) {
    split s = {0, 1, UINT64_MAX};
    int code = part_u64(p, SRN_STR("split.count"), SRN__MAX_SPLIT_PARTS, &s.count, err);
    if (!code) code = part_u64(p, SRN_STR("split.no"), SRN__MAX_SPLIT_PARTS, &s.no, err);
    if (!code) code = part_u64(p, SRN_STR("split.tensors.count"), SRN__MAX_TENSORS, &s.tensors, err);
    if (code) return code;
    if (s.count == 0) s.count = 1;
    if (s.no >= s.count)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: key 'split.no' says %" PRIu64 " but there are %" PRIu64 " parts", p->path, s.no,
                        s.count);
    *ret = s;
    return SRN_OK;
}

static int part_path(const srn__part *first, uint64_t no, uint64_t count, char **ret, srn_err *err) {
    bool form;
    char *path = split_path(first->path, no, count, &form);
    if (!form)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: is part of a model split in %" PRIu64 ", but its name does not end in "
                        "-00001-of-%05" PRIu64 ".gguf; give the parts their names back",
                        first->path, count, count);
    if (!path) return srn_fail_nomem(err, strlen(first->path) + 1);
    *ret = path;
    return SRN_OK;
}

static int fail_later_part(const srn__part *p, const split *s, srn_err *err) {
    char *path = NULL;
    int code = part_path(p, 0, s->count, &path, err);
    if (code) return code;
    code = srn_fail(err, SRN_EINVAL,
                    "%s: is part %" PRIu64 " of %" PRIu64 " of a split model; give its first part, %s",
                    p->path, s->no + 1, s->count, path);
    free(path);
    return code;
}

static int open_later_part(srn_weights *w, uint32_t no, const split *s, srn_err *err) {
    char *path = NULL;
    int code = part_path(&w->parts[0], no, s->count, &path, err);
    if (code) return code;
    code = part_open(&w->parts[no], path, err);
    if (code == SRN_ENOENT)
        return srn_fail_prefix(err, code, "part %u of %" PRIu64 " is missing; download it beside the first",
                               no + 1, s->count);
    if (code) return code;
    w->n_parts = no + 1;
    split own;
    code = read_split(&w->parts[no], &own, err);
    if (code) return code;
    if (own.no != no || own.count != s->count)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: says it is part %" PRIu64 " of %" PRIu64 ", but part %u of %" PRIu64
                        " belongs there; download it again",
                        w->parts[no].path, own.no + 1, own.count, no + 1, s->count);
    return SRN_OK;
}

static int open_later_parts(srn_weights *w, const srn_open_opts *opts, srn_err *err) {
    split s;
    int code = read_split(&w->parts[0], &s, err);
    if (code || s.count == 1) return code;
    if (s.no) return fail_later_part(&w->parts[0], &s, err);
    srn__part *parts = srn_realloc_array(w->parts, (size_t)s.count, sizeof *parts);
    if (!parts) return srn_fail_nomem(err, (size_t)s.count * sizeof *parts);
    w->parts = parts;
    size_t tensors = parts[0].gguf.n_tensors;
    for (uint32_t i = 1; i < s.count; i++) {
        if (opts->progress) opts->progress(opts->progress_ctx, "opening", i, s.count);
        code = open_later_part(w, i, &s, err);
        if (code) return code;
        tensors += w->parts[i].gguf.n_tensors;
    }
    if (opts->progress) opts->progress(opts->progress_ctx, "opening", s.count, s.count);
    if (s.tensors != UINT64_MAX && s.tensors != tensors)
        return srn_fail(err, SRN_EFORMAT,
                        "%s: the parts hold %zu tensors but key 'split.tensors.count' says %" PRIu64
                        "; download the parts again",
                        w->parts[0].path, tensors, s.tensors);
    return SRN_OK;
}

/* ---- the directory ---- */

static srn_str tensor_name_at(const void *table, size_t i) {
    return srn_str_of(((const srn_tensor *)table)[i].name);
}

static int join_tensors(srn_weights *w, srn_err *err) {
    for (uint32_t i = 0; i < w->n_parts; i++) w->n_tensors += w->parts[i].gguf.n_tensors;
    if (w->n_tensors > SRN__MAX_TENSORS)
        return srn_fail(err, SRN_ELIMIT, "%s: %zu tensors are over the limit of %u", w->parts[0].path,
                        w->n_tensors, SRN__MAX_TENSORS);
    w->tensors = w->parts[0].gguf.tensors;
    if (w->n_parts > 1) {
        w->tensors = srn_calloc(w->n_tensors, sizeof *w->tensors);
        if (!w->tensors) return srn_fail_nomem(err, w->n_tensors * sizeof *w->tensors);
        w->owns_tensors = true;
    }
    if (!srn__index_init(&w->tensor_index, w->n_tensors)) return srn_fail_nomem(err, w->n_tensors * 8);
    size_t at = 0;
    for (uint32_t i = 0; i < w->n_parts; i++)
        for (size_t k = 0; k < w->parts[i].gguf.n_tensors; k++, at++) {
            size_t other;
            if (w->owns_tensors) w->tensors[at] = w->parts[i].gguf.tensors[k];
            w->tensors[at].part = i;
            if (!srn__index_add(&w->tensor_index, w->tensors, tensor_name_at, at, &other))
                return srn_fail(
                    err, SRN_EFORMAT, "%s: tensor '%s' is there twice, at bytes %" PRIu64 " and %" PRIu64,
                    w->parts[i].path, w->tensors[at].name, w->tensors[other].offset, w->tensors[at].offset);
        }
    return SRN_OK;
}

static srn_weights *weights_new(void) {
    srn_weights *w = srn_calloc(1, sizeof *w);
    if (w) w->parts = srn_calloc(1, sizeof *w->parts);
    if (w && w->parts) w->watch = srn__watch_new();
    if (w && w->watch) return w;
    if (w) free(w->parts);
    free(w);
    return NULL;
}

void srn_weights_free(srn_weights *w) {
    if (!w) return;
    for (uint32_t i = 0; i < w->n_parts; i++) part_done(&w->parts[i]);
    srn__index_done(&w->tensor_index);
    srn__watch_free(w->watch);
    if (w->owns_tensors) free(w->tensors);
    free(w->parts);
    free(w);
}

static int open_into(srn_weights *w, const char *path, const srn_open_opts *opts, srn_err *err) {
    char *copy = srn_strndup(path, strlen(path));
    if (!copy) return srn_fail_nomem(err, strlen(path) + 1);
    int code = part_open(&w->parts[0], copy, err);
    if (code) return code;
    w->n_parts = 1;
    code = open_later_parts(w, opts, err);
    if (!code) code = join_tensors(w, err);
    if (!code && w->n_tensors == 0 && !opts->vocab_only)
        code = srn_fail(
            err, SRN_EINVAL,
            "%s: holds a vocabulary and no tensors; it works with `serin info`, `serin tokenize` and "
            "`serin detokenize` only",
            path);
    return code;
}

int srn_weights_open(const char *path, const srn_open_opts *opts, srn_weights **ret, srn_err *err) {
    static const srn_open_opts none;
    srn_weights *w = weights_new();
    if (!w) return srn_fail_nomem(err, sizeof *w);
    int code = open_into(w, path, opts ? opts : &none, err);
    if (code) {
        srn_weights_free(w);
        return code;
    }
    *ret = w;
    return SRN_OK;
}

int srn_gguf_parse(const void *data, size_t len, const char *name, srn_weights **ret, srn_err *err) {
    srn_weights *w = weights_new();
    if (!w) return srn_fail_nomem(err, sizeof *w);
    srn__part *p = &w->parts[0];
    *p = (srn__part){.path = srn_strndup(name, strlen(name)), .map = data, .len = len, .fd = -1};
    w->n_parts = 1;
    int code =
        p->path ? srn__gguf_init(&p->gguf, data, len, name, err) : srn_fail_nomem(err, strlen(name) + 1);
    if (!code) code = join_tensors(w, err);
    if (code) {
        srn_weights_free(w);
        return code;
    }
    *ret = w;
    return SRN_OK;
}

const char *srn_weights_path(const srn_weights *w) {
    return w->parts[0].path;
}

size_t srn_weights_count(const srn_weights *w) {
    return w->n_tensors;
}

const srn_tensor *srn_weights_at(const srn_weights *w, size_t i) {
    return i < w->n_tensors ? &w->tensors[i] : NULL;
}

const srn_tensor *srn_weights_find(const srn_weights *w, const char *name) {
    size_t i = srn__index_find(&w->tensor_index, w->tensors, tensor_name_at, srn_str_of(name));
    return i == SIZE_MAX ? NULL : &w->tensors[i];
}

uint32_t srn_weights_parts(const srn_weights *w) {
    return w->n_parts;
}

const char *srn_weights_part_path(const srn_weights *w, uint32_t part) {
    return part < w->n_parts ? w->parts[part].path : NULL;
}

uint64_t srn_weights_file_bytes(const srn_weights *w) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n_parts; i++) sum += w->parts[i].len;
    return sum;
}

uint64_t srn_weights_memory_bytes(const srn_weights *w) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < w->n_parts; i++) sum += w->parts[i].in_memory ? w->parts[i].len : 0;
    return sum;
}

uint32_t srn_weights_version(const srn_weights *w) {
    return w->parts[0].gguf.version;
}

void srn_weights_drop_pages(const srn_weights *w, uint32_t part, uint64_t begin, uint64_t end) {
    const srn__part *p = &w->parts[part];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    begin &= ~(page - 1);
    end = SRN_MIN(end, (uint64_t)p->len);
    if (p->fd >= 0 && begin < end) madvise((void *)(p->map + begin), (size_t)(end - begin), MADV_DONTNEED);
}

void srn_weights_forget(const srn_weights *w, uint32_t part, uint64_t begin, uint64_t end) {
    const srn__part *p = &w->parts[part];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    begin = srn_align_up(begin, page);
    end &= ~(page - 1);
    if (p->in_memory && begin < end)
        fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin, (off_t)(end - begin));
}

void srn_weights_drop_tensors(const srn_weights *w) {
    for (uint32_t i = 0; i < w->n_parts; i++)
        srn_weights_drop_pages(w, i, w->parts[i].gguf.data_offset, w->parts[i].len);
}
