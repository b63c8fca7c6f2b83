/* The folder of a ledger: where it is by default, how it is made, and the lock that lets one process write
 * it. Owns nothing but the file descriptor that it hands out; called by srn_ledger_open. Files are readable
 * by their owner only. Refuses a folder that another process writes, naming it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger/ledger_internal.h"

int srn__folder_path(const char *dir, const char *name, char *ret, size_t cap, srn_err *err) {
    int n = snprintf(ret, cap, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= cap)
        return srn_fail(err, SRN_ELIMIT, "%s: the path is too long for a ledger", dir);
    return SRN_OK;
}

/* A new name outlives a power cut only once its folder is synced. */
int srn__folder_sync(const char *dir, srn_err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && (!fsync(fd) || errno == EINVAL); /* EINVAL: this file system needs none */
    int code = done ? SRN_OK : srn_fail(err, SRN_EIO, "%s: %s", dir, strerror(errno));
    if (fd >= 0) close(fd);
    return code;
}

int srn__folder_sync_above(const char *dir, srn_err *err) {
    char above[4096];
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    while (n && dir[n - 1] != '/') n--;
    while (n > 1 && dir[n - 1] == '/') n--;
    if (n >= sizeof above) return srn_fail(err, SRN_ELIMIT, "%s: the path is too long for a ledger", dir);
    memcpy(above, dir, n);
    above[n] = 0;
    return srn__folder_sync(n ? above : ".", err);
}

int srn__folder_make(const char *dir, srn_err *err) {
    char path[4096];
    size_t n = strlen(dir);
    if (!n || n >= sizeof path) return srn_fail(err, SRN_EINVAL, "'%.64s' is no path for a ledger", dir);
    memcpy(path, dir, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        char was = path[i];
        path[i] = 0;
        bool made = !mkdir(path, 0700);
        if (!made && errno != EEXIST)
            return srn_fail(err, SRN_EIO, "%s: the folder could not be made: %s", path, strerror(errno));
        int code = made ? srn__folder_sync_above(path, err) : SRN_OK;
        if (code) return code;
        path[i] = was;
    }
    struct stat st;
    if (stat(dir, &st)) return srn_fail(err, SRN_EIO, "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return srn_fail(err, SRN_EINVAL, "%s: is not a folder; give another place", dir);
    return SRN_OK;
}

/* Who has the lock, from what it wrote there; for a sentence, so that anything odd is left out. */
static void read_writer(int fd, srn__writer_is *ret) {
    char text[1024];
    ssize_t n = pread(fd, text, sizeof text, 0);
    json_t *j = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    const char *address = json_string_value(json_object_get(j, "address"));
    *ret = (srn__writer_is){.pid = (int64_t)json_integer_value(json_object_get(j, "pid")),
                            .max_bytes = (uint64_t)json_integer_value(json_object_get(j, "max_bytes"))};
    snprintf(ret->address, sizeof ret->address, "%s", address ? address : "");
    json_decref(j);
}

bool srn__folder_writer(const char *dir, srn__writer_is *ret) {
    char path[4096];
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *ret = (srn__writer_is){0};
    if (srn__folder_path(dir, "lock", path, sizeof path, NULL)) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool held = !fcntl(fd, F_OFD_GETLK, &whole) && whole.l_type != F_UNLCK;
    read_writer(fd, ret);
    close(fd);
    return held;
}

static int held_by(const char *dir, int fd, srn_err *err) {
    srn__writer_is w;
    read_writer(fd, &w);
    return srn_fail(
        err, SRN_EBUSY,
        "%s: another process writes this ledger (process %lld%s%s); stop it, or give another folder "
        "with --ledger",
        dir, (long long)w.pid, w.address[0] ? " at " : "", w.address);
}

int srn__folder_lock(const char *dir, int *ret_fd, srn_err *err) {
    char path[4096];
    int code = srn__folder_path(dir, "lock", path, sizeof path, err);
    if (code) return code;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole)) {
        code = errno == EAGAIN || errno == EACCES ? held_by(dir, fd, err)
                                                  : srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
        close(fd);
        return code;
    }
    srn__writer_is before; /* a command that writes leaves the server's limit */
    read_writer(fd, &before);
    code = srn__folder_sign(fd, NULL, before.max_bytes, err);
    if (code)
        close(fd);
    else
        *ret_fd = fd;
    return code;
}

int srn__folder_sign(int fd, const char *address, uint64_t max_bytes, srn_err *err) {
    json_t *j =
        json_pack("{sIsnsI}", "pid", (json_int_t)getpid(), "address", "max_bytes", (json_int_t)max_bytes);
    if (j && address) json_object_set_new(j, "address", json_string(address));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    size_t n = text ? strlen(text) : 0;
    int code = SRN_OK;
    if (!text)
        code = srn_fail_nomem(err, 0);
    else if (ftruncate(fd, 0) || pwrite(fd, text, n, 0) != (ssize_t)n)
        code = srn_fail(err, SRN_EIO, "the lock of the ledger could not be written: %s", strerror(errno));
    free(text);
    json_decref(j);
    return code;
}

int srn_ledger_default_dir(srn_buf *ret, srn_err *err) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    srn_buf_clear(ret);
    bool ok;
    if (state && state[0] == '/')
        ok = srn_buf_addf(ret, "%s/serin/ledger", state);
    else if (home && home[0])
        ok = srn_buf_addf(ret, "%s/.local/state/serin/ledger", home);
    else
        return srn_fail(err, SRN_ENOENT,
                        "neither XDG_STATE_HOME nor HOME is set; say where with --ledger DIR");
    return ok ? SRN_OK : srn_fail_nomem(err, ret->len);
}

int srn_ledger_numbered_dir(const char *dir, unsigned i, srn_buf *ret, srn_err *err) {
    bool ok = i < 2 ? srn_buf_addz(ret, dir) : srn_buf_addf(ret, "%s-%u", dir, i);
    return ok ? SRN_OK : srn_fail_nomem(err, strlen(dir));
}

bool srn_ledger_is_written(const char *dir) {
    srn__writer_is w;
    return srn__folder_writer(dir, &w);
}
