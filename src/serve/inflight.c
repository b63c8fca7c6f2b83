/* How many calls of a canary are in flight, in a mapped file of the ledger's folder: a process that is killed
 * leaves the number behind, and the next one knows that it died with them. Survives the process, not the
 * machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "serve/rollout.h"

struct srn__inflight {
    atomic_uint *n;
};

static bool path_of(const char *dir, const char *hash, char *ret, size_t cap) {
    return (size_t)snprintf(ret, cap, "%s/rollout-%.16s.inflight", dir, hash) < cap;
}

int srn__inflight_open(const char *dir, const char *hash, struct srn__inflight **ret, uint32_t *ret_left,
                       srn_err *err) {
    char path[4200];
    if (!path_of(dir, hash, path, sizeof path))
        return srn_fail(err, SRN_ELIMIT, "%s: the path is too long", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(atomic_uint)) != 0) {
        int code = srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return code;
    }
    void *p = mmap(NULL, sizeof(atomic_uint), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) return srn_fail(err, SRN_EIO, "%s: cannot be mapped: %s", path, strerror(errno));
    struct srn__inflight *f = srn_calloc(1, sizeof *f);
    if (!f) {
        munmap(p, sizeof(atomic_uint));
        return srn_fail_nomem(err, sizeof *f);
    }
    f->n = p;
    *ret_left = atomic_exchange(f->n, 0);
    *ret = f;
    return SRN_OK;
}

void srn__inflight_close(struct srn__inflight *f) {
    if (!f) return;
    munmap(f->n, sizeof(atomic_uint));
    free(f);
}

void srn__inflight_forget(const char *dir, const char *hash) {
    char path[4200];
    if (path_of(dir, hash, path, sizeof path)) unlink(path);
}

void srn__inflight_add(srn__rollout *r, int32_t by) {
    r->n_open += (uint32_t)by;
    if (r->inflight) atomic_store(r->inflight->n, r->n_open);
}
