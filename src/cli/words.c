/* cli: commands that are families of words, as `serin canary start`: the list for --help, the word that was
 * meant, and the call of its function. Main thread.
 */
#include "cli/cli.h"

static int help(const srn_cli_family *f, FILE *to) {
    int width = 0;
    for (size_t i = 0; i < f->n; i++) width = SRN_MAX(width, (int)strlen(f->words[i].name));
    fprintf(to, "usage: serin %s COMMAND [ARGUMENTS]\n\n%s\n\n", f->name, f->about);
    for (size_t i = 0; i < f->n; i++)
        fprintf(to, "  %-*s  %s\n", width, f->words[i].name, f->words[i].summary);
    fprintf(to, "\n`serin %s COMMAND --help` tells more.\n\nexamples:\n%s", f->name, f->examples);
    return to == stdout ? srn_cli_flush(f->name) : 2;
}

int srn_cli_run_word(const srn_cli_family *f, int argc, char **argv) {
    char title[96];
    if (argc < 2) return help(f, stderr);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return help(f, stdout);
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(name, f->words[i].name) != 0) continue;
        snprintf(title, sizeof title, "%s %s", f->name, name);
        argv[1] = title;
        return f->words[i].run(argc - 1, argv + 1);
    }
    const char *nearest = srn_cli_nearest(name, strlen(name), &f->words[0].name, f->n, sizeof f->words[0]);
    fprintf(stderr, "serin %s: there is no command '%s'; ", f->name, name);
    if (nearest) fprintf(stderr, "did you mean '%s'? ", nearest);
    fprintf(stderr, "`serin %s --help` lists them\n", f->name);
    return 2;
}
