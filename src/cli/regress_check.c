/* serin regress: checks that are programs. They run without a shell: the answer is a file without a name that
 * the program has as standard input, so that nobody waits for a pipe, and a program that takes longer than
 * its time is killed with its group. Main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/regress.h"

enum { PROGRAM_MS = 10000, PEEK_MS = 500, NOT_RUN = SRN__REGRESS_NO_VERDICT };

extern char **environ;

/* A file in memory that begins with the text; -1: there is none. */
static int file_of(srn_str text) {
    int fd = memfd_create("answer", MFD_CLOEXEC);
    for (size_t at = 0; fd >= 0 && at < text.len;) {
        ssize_t n = write(fd, text.ptr + at, text.len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            close(fd);
            return -1;
        }
        at += (size_t)n;
    }
    if (fd >= 0) lseek(fd, 0, SEEK_SET);
    return fd;
}

int srn__regress_spawn(const char *const *argv, int in, int out, pid_t *ret) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t defaults;
    if (posix_spawn_file_actions_init(&actions)) return ENOMEM;
    if (posix_spawnattr_init(&attr)) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, 1);
    for (int fd = 1; out < 0 && fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
    /* The arguments of a program are not changed by spawning it. */
    int bad = posix_spawnp(ret, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return bad;
}

/* Waits for the end of a process, which stays to be reaped, or of its time; without a signal handler. */
static bool ends_in_time(pid_t pid, uint32_t ms) {
    uint64_t until = srn_now_us() + ms * 1000ull;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0), n;
    if (fd < 0) { /* an old kernel: it is waited for however long it takes */
        siginfo_t info;
        while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
        }
        return true;
    }
    do {
        uint64_t now = srn_now_us();
        struct pollfd p = {fd, POLLIN, 0};
        n = poll(&p, 1, now < until ? (int)((until - now) / 1000) : 0);
    } while (n < 0 && errno == EINTR);
    close(fd);
    return n > 0;
}

int srn__regress_peek(pid_t pid) {
    siginfo_t info = {0};
    if (!ends_in_time(pid, PEEK_MS) || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG) ||
        !info.si_pid)
        return -1;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int srn__regress_reap(pid_t pid) {
    int status = 0;
    bool late = !ends_in_time(pid, PROGRAM_MS);
    kill(-pid, SIGKILL); /* itself, or what it may have left behind; its id is not free before it is reaped */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (late) return NOT_RUN;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int srn__regress_ask_program(const char *const *argv, srn_str answer) {
    pid_t pid;
    int in = file_of(answer);
    if (in < 0) return NOT_RUN;
    int bad = srn__regress_spawn(argv, in, -1, &pid);
    close(in);
    return bad ? NOT_RUN : srn__regress_reap(pid);
}
