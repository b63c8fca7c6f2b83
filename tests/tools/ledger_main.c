/* ledger_tool: makes ledgers of invented calls, for tests and for measuring what asking them costs.
 *
 *   ledger_tool fill DIR --calls N --days D [--last-day M] [--until UNIX_SECONDS] [--seed S]
 *
 * N calls spread over D days, M of them in the last one; then the roll-ups, as the writer would. What is
 * drawn depends on the arguments alone. Prints the number of records.
 */
#include <errno.h>
#include <sys/stat.h>

#include "../unit/ledger_fill.h"
#include "ledger/query_internal.h"

#define DAY_US UINT64_C(86400000000)

typedef struct args {
    const char *dir;
    uint64_t calls, days, last_day, until, seed;
} args;

static int roll_up(fill *f, srn_err *err) {
    uint32_t n = 1;
    bool unknown;
    int code = SRN_OK;
    while (!code && n) {
        code = f->store->ops->begin(f->store, err);
        if (!code) code = srn__rollup_advance(f->store->db, 1024, &n, err);
        if (!code) code = f->store->ops->commit(f->store, &unknown, err);
        f->store->ops->idle(f->store);
    }
    return code;
}

static int run(const args *a, srn_err *err) {
    fill f = {0};
    uint64_t end = a->until * 1000000, last = end - DAY_US;
    if (mkdir(a->dir, 0700) && errno != EEXIST)
        return srn_fail(err, SRN_EIO, "%s: %s", a->dir, strerror(errno));
    int code = fill_open(&f, a->dir, a->seed, err);
    if (!code && a->calls > a->last_day)
        code = fill_calls(&f, a->calls - a->last_day, end - a->days * DAY_US, last, err);
    if (!code) code = fill_calls(&f, a->last_day, last, end, err);
    if (!code) code = roll_up(&f, err);
    if (!code) printf("%" PRIu64 "\n", f.tail.seq);
    fill_close(&f);
    return code;
}

int main(int argc, char **argv) {
    args a = {.calls = 1000, .days = 2, .last_day = UINT64_MAX, .until = 1795340000, .seed = 1};
    const struct {
        const char *name;
        uint64_t *dest;
    } options[] = {{"--calls", &a.calls},
                   {"--days", &a.days},
                   {"--last-day", &a.last_day},
                   {"--until", &a.until},
                   {"--seed", &a.seed}};
    for (int i = 3; i + 1 < argc; i += 2)
        for (size_t k = 0; k < SRN_LEN(options); k++)
            if (strcmp(argv[i], options[k].name) == 0) *options[k].dest = strtoull(argv[i + 1], NULL, 10);
    if (argc < 3 || strcmp(argv[1], "fill") != 0 || argc % 2 == 0) {
        fprintf(stderr, "usage: ledger_tool fill DIR [--calls N] [--days D] [--last-day M] [--until SECONDS] "
                        "[--seed S]\n");
        return 2;
    }
    if (a.last_day == UINT64_MAX) a.last_day = a.calls / 2;
    srn_err err = {0};
    a.dir = argv[2];
    if (run(&a, &err) == SRN_OK) return 0;
    fprintf(stderr, "ledger_tool: %s\n", err.text);
    return 1;
}
