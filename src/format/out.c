/* A file in the making: reserved, written in any order by several threads, and given its name when it is
 * whole, so that nobody ever opens half a model. Called by what makes model files. Refuses to replace a file
 * unless it may.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/format_internal.h"
#include "format/write.h"

struct srn_out {
    int fd;
    bool force, is_memory, committed;
    uint64_t bytes;
    char *path;      /* what it will be called; of memory, where this process finds it */
    char *temporary; /* NULL: nothing to remove */
};

static int fail_io(const srn_out *o, const char *what, int number, srn_err *err) {
    if (number == ENOSPC || number == EDQUOT)
        return srn_fail(err, SRN_EIO, "%s: %s for %.1f GB; free some space or write elsewhere", o->path,
                        number == EDQUOT ? "the quota has no room" : "the disk has no room",
                        (double)o->bytes / 1e9);
    return srn_fail(err, SRN_EIO, "%s: %s: %s", o->path, what, strerror(number));
}

static int reserve(srn_out *o, srn_err *err) {
    if (o->bytes == 0) return SRN_OK;
    if (o->bytes > INT64_MAX) return fail_io(o, "cannot be so large", EFBIG, err);
    if (fallocate(o->fd, 0, 0, (off_t)o->bytes) == 0) return SRN_OK;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return fail_io(o, "cannot be so large", errno, err);
    if (ftruncate(o->fd, (off_t)o->bytes)) return fail_io(o, "cannot be written", errno, err);
    return SRN_OK;
}

/* Beside the final name, so that the rename stays on one file system. */
static int open_temporary(srn_out *o, srn_err *err) {
    size_t n = strlen(o->path);
    char *name = srn_calloc(n + 16, 1);
    if (!name) return srn_fail_nomem(err, n + 16);
    snprintf(name, n + 16, "%s.part-XXXXXX", o->path);
    o->fd = mkostemp(name, O_CLOEXEC);
    if (o->fd < 0) {
        int number = errno;
        free(name);
        return fail_io(o, "cannot be written", number, err);
    }
    o->temporary = name;
    mode_t mask = umask(0);
    umask(mask);
    fchmod(o->fd, 0666 & ~mask);
    return SRN_OK;
}

int srn_out_open(const char *path, bool force, uint64_t bytes, srn_out **ret, srn_err *err) {
    struct stat st;
    if (!*path) return srn_fail(err, SRN_EINVAL, "the name of the file to write is empty");
    bool there = stat(path, &st) == 0;
    if (there && !S_ISREG(st.st_mode))
        return srn_fail(err, SRN_EINVAL, "%s: is not a regular file; give the name of a file to write", path);
    if (there && !force) return srn_fail(err, SRN_EINVAL, "%s: is there already; --force replaces it", path);
    srn_out *o = srn_calloc(1, sizeof *o);
    if (!o) return srn_fail_nomem(err, sizeof *o);
    *o = (srn_out){.fd = -1, .force = force, .bytes = bytes, .path = srn_strndup(path, strlen(path))};
    int code = o->path ? open_temporary(o, err) : srn_fail_nomem(err, strlen(path) + 1);
    if (!code) code = reserve(o, err);
    if (code) {
        srn_out_free(o);
        return code;
    }
    *ret = o;
    return SRN_OK;
}

int srn_out_memory(uint64_t bytes, srn_out **ret, srn_err *err) {
    uint64_t have = srn_memory_available();
    if (bytes > have)
        return srn_fail(
            err, SRN_ENOMEM,
            "%.1f GB of memory are needed, and %.1f GB are available; choose a smaller model or quantisation",
            (double)bytes / 1e9, (double)have / 1e9);
    return srn_out_sparse(bytes, ret, err);
}

int srn_out_sparse(uint64_t bytes, srn_out **ret, srn_err *err) {
    srn_out *o = srn_calloc(1, sizeof *o);
    if (!o) return srn_fail_nomem(err, sizeof *o);
    *o = (srn_out){.is_memory = true, .bytes = bytes, .path = srn_calloc(32, 1)};
    o->fd = memfd_create("serin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int code = o->path ? SRN_OK : srn_fail_nomem(err, 32);
    if (o->path) snprintf(o->path, 32, "/proc/self/fd/%d", o->fd);
    if (!code && (o->fd < 0 || bytes > INT64_MAX || ftruncate(o->fd, (off_t)bytes) ||
                  fcntl(o->fd, F_ADD_SEALS, SRN__MEMORY_SEALS)))
        code = srn_fail(err, SRN_ENOMEM, "%.1f GB of memory cannot be had: %s", (double)bytes / 1e9,
                        strerror(errno));
    if (code) {
        srn_out_free(o);
        return code;
    }
    *ret = o;
    return SRN_OK;
}

const char *srn_out_path(const srn_out *o) {
    return o->path;
}

int srn_out_write(srn_out *o, uint64_t offset, const void *p, size_t n, srn_err *err) {
    const char *at = p;
    while (n) {
        ssize_t k = pwrite(o->fd, at, n, (off_t)offset);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return fail_io(o, "cannot be written", k < 0 ? errno : EIO, err);
        at += k, offset += (uint64_t)k, n -= (size_t)k;
    }
    return SRN_OK;
}

int srn_out_commit(srn_out *o, srn_err *err) {
    if (o->is_memory) return SRN_OK;
    /* link fails where the name is taken; file systems without hard links take the rename */
    if (!o->force && link(o->temporary, o->path) == 0) {
        unlink(o->temporary);
    } else if (!o->force && errno == EEXIST) {
        return srn_fail(err, SRN_EINVAL, "%s: is there already; --force replaces it", o->path);
    } else if (rename(o->temporary, o->path)) {
        return fail_io(o, "cannot be given its name", errno, err);
    }
    o->committed = true;
    int fd = o->fd;
    o->fd = -1;
    if (close(fd)) return fail_io(o, "cannot be written", errno, err);
    return SRN_OK;
}

void srn_out_free(srn_out *o) {
    if (!o) return;
    if (o->fd >= 0) close(o->fd);
    if (o->temporary && !o->committed) unlink(o->temporary);
    free(o->temporary);
    free(o->path);
    free(o);
}
