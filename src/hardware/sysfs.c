/* Files that the kernel shows below a root ("" but in tests). Any thread. They are small; what is longer than
 * the caller's room is cut.
 */
#include "hardware/discover_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { MOST_PATH = 1024 };

long srn__sysfs_read(const char *root, const char *path, void *ret, size_t cap) {
    char full[MOST_PATH], *to = ret;
    size_t n = 0;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full) return -ENAMETOOLONG;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -errno;
    for (;;) {
        ssize_t got = n + 1 < cap ? read(fd, to + n, cap - 1 - n) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            long code = -errno;
            close(fd);
            return code;
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    close(fd);
    to[n] = 0;
    return (long)n;
}

long srn__sysfs_text(const char *root, const char *path, char *ret, size_t cap) {
    long n = srn__sysfs_read(root, path, ret, cap);
    if (n < 0) ret[0] = 0;
    if (n > 0 && ret[n - 1] == '\n') ret[--n] = 0;
    return n;
}

const char *srn__sysfs_why(long error) {
    switch (error) {
    case -EACCES:
    case -EPERM:
        return "needs root";
    case -ENOENT:
        return "the system does not have it";
    default:
        return "the system does not let it be read";
    }
}

void srn__sysfs_link(const char *root, const char *path, char *ret, size_t cap) {
    char full[MOST_PATH], target[MOST_PATH];
    ret[0] = 0;
    if ((size_t)snprintf(full, sizeof full, "%s%s", root, path) >= sizeof full) return;
    ssize_t n = readlink(full, target, sizeof target - 1);
    if (n <= 0) return;
    target[n] = 0;
    const char *slash = strrchr(target, '/');
    snprintf(ret, cap, "%.*s", (int)(cap - 1), slash ? slash + 1 : target);
}
