/* What the program runs on, as far as the system says: the kernel, the processor with its microcode, the C
 * library. Any thread. What cannot be read is an empty text.
 */
#include <sys/utsname.h>
#include <unistd.h>

#include "base/base.h"

static void take_value(const char *line, char *to, size_t cap) {
    const char *value = strchr(line, ':');
    if (!value || to[0]) return;
    value += 1 + strspn(value + 1, " \t");
    snprintf(to, cap, "%.*s", (int)strcspn(value, "\n"), value);
}

/* The first processor's lines. */
static void read_cpuinfo(srn_platform *p) {
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10) == 0 || strncmp(line, "Processor", 9) == 0)
            take_value(line, p->cpu, sizeof p->cpu);
        if (strncmp(line, "microcode", 9) == 0) take_value(line, p->microcode, sizeof p->microcode);
        if (line[0] == '\n' && p->cpu[0]) break;
    }
    if (f) fclose(f);
}

void srn_platform_get(srn_platform *ret) {
    struct utsname u;
    *ret = (srn_platform){0};
    if (uname(&u) == 0) snprintf(ret->kernel, sizeof ret->kernel, "%.60s %.64s", u.sysname, u.release);
    read_cpuinfo(ret);
#ifdef _CS_GNU_LIBC_VERSION
    if (!confstr(_CS_GNU_LIBC_VERSION, ret->libc, sizeof ret->libc)) ret->libc[0] = 0;
#endif
}
