/* Stands before the C library in a process under test (LD_PRELOAD) and writes each address that a socket is
 * connected or sent to, a line each, to the file that WATCH_SOCKETS names. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const struct sockaddr *to) {
    char text[INET6_ADDRSTRLEN + 32] = "unix", line[sizeof text + 8];
    const char *file = getenv("WATCH_SOCKETS");
    if (!to || !file) return;
    if (to->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)to)->sin_addr, text, sizeof text);
    if (to->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, text, sizeof text);
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int n = snprintf(line, sizeof line, "%s\n", text);
    if (fd < 0 || write(fd, line, (size_t)n) != n) abort();
    close(fd);
}

int connect(int fd, const struct sockaddr *to, socklen_t n) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    note(to);
    return real(fd, to, n);
}

ssize_t sendto(int fd, const void *p, size_t size, int flags, const struct sockaddr *to, socklen_t n) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
        dlsym(RTLD_NEXT, "sendto");
    note(to);
    return real(fd, p, size, flags, to, n);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    note(m->msg_name);
    return real(fd, m, flags);
}
