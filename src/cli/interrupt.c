/* Ctrl-C while a command loads weights or makes an answer: the first one sets a flag, which the work reads,
 * and a second one ends the process as if nobody had caught it. Main thread; the handler may run on any.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t interrupts; /* since the outermost catch */
static struct sigaction before;          /* what release puts back */
static int depth;

static void on_interrupt(int signal_number) {
    interrupts = interrupts + 1;
    if (interrupts < 2) return;
    int saved = errno;
    if (isatty(STDOUT_FILENO) && write(STDOUT_FILENO, "\033[0m\n", 5) < 0) errno = saved;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

const volatile int *srn_cli_catch_interrupts(void) {
    if (depth++ == 0) {
        struct sigaction a = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
        sigemptyset(&a.sa_mask);
        interrupts = 0;
        sigaction(SIGINT, &a, &before);
    }
    return &interrupts;
}

void srn_cli_release_interrupts(void) {
    if (--depth == 0) sigaction(SIGINT, &before, NULL);
}
