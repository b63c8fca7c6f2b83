/* What Prometheus scrapes of the ledger: what was taken, what was committed, what was not, and how long there
 * is room. One table row a metric; called by GET /metrics on the listener thread.
 */
#include <math.h>

#include "serve/metrics.h"
#include "serve/record.h"

typedef struct all {
    srn_ledger_stats l;
    srn__recorder_stats r;
} all;

#define VALUE(name, expression)                                                                              \
    static double name(const all *a) {                                                                       \
        return (double)(expression);                                                                         \
    }
VALUE(appended, a->l.appended)
VALUE(committed, a->l.committed)
VALUE(failed, a->l.failed)
VALUE(lost, a->l.lost)
VALUE(refused, a->r.refused)
VALUE(content_lost, a->r.content_lost)
VALUE(unrecorded, a->r.unrecorded)
VALUE(commits, a->l.commits)
VALUE(commit_seconds, (double)a->l.commit_us / 1e6)
VALUE(cpu_seconds, (double)a->r.cpu_ns / 1e9)
VALUE(wait_seconds, (double)a->r.wait_us / 1e6)
VALUE(written, a->l.bytes_written)
VALUE(queued, a->l.queued)
VALUE(waiting, a->l.waiting)
VALUE(disk, a->l.disk_bytes)
VALUE(room, a->l.free_bytes)
VALUE(days, a->l.days_left)
VALUE(open_intents, a->l.open_intents)
VALUE(interrupted, a->l.interrupted)
VALUE(dropped, a->l.dropped)
VALUE(retention_failed, a->l.retention_failed)
VALUE(healthy, a->l.healthy)
#undef VALUE

static const struct {
    const char *name, *type, *help;
    double (*get)(const all *a);
} rows[] = {
    {"serin_ledger_appended_total", "counter", "Records that the ledger took.", appended},
    {"serin_ledger_committed_total", "counter", "Records that are committed.", committed},
    {"serin_ledger_failed_total", "counter", "Records that waited for a commit that failed.", failed},
    {"serin_ledger_lost_total", "counter", "Buffered records that found no room in time.", lost},
    {"serin_ledger_refused_total", "counter", "Calls that left no record, for the ledger took none.",
     refused},
    {"serin_ledger_content_lost_total", "counter", "Records whose content could not be kept.", content_lost},
    {"serin_ledger_unrecorded_total", "counter", "Records that could not even be handed over.", unrecorded},
    {"serin_ledger_commits_total", "counter", "Commits; each is of a group of records.", commits},
    {"serin_ledger_commit_seconds_total", "counter", "Time in commits.", commit_seconds},
    {"serin_ledger_wait_seconds_total", "counter",
     "Time that answers were ready and waited for their records.", wait_seconds},
    {"serin_ledger_record_cpu_seconds_total", "counter",
     "Processor time that went into records outside of the ledger's thread.", cpu_seconds},
    {"serin_ledger_written_bytes_total", "counter", "Bytes of records and content committed.", written},
    {"serin_ledger_queued", "gauge", "Records that wait to be committed.", queued},
    {"serin_ledger_waiting", "gauge", "Records that wait for room in the queue.", waiting},
    {"serin_ledger_disk_bytes", "gauge", "Size of the ledger.", disk},
    {"serin_ledger_free_bytes", "gauge", "Room on its disk.", room},
    {"serin_ledger_days_left", "gauge", "Days until it is full, at the rate of the last day.", days},
    {"serin_ledger_open_intents", "gauge", "Calls that began, and whose record is to come.", open_intents},
    {"serin_ledger_interrupted_total", "counter", "Calls whose record the last stop prevented.", interrupted},
    {"serin_ledger_dropped_total", "counter", "Records that retention has dropped.", dropped},
    {"serin_ledger_retention_failed_total", "counter", "Steps of retention that failed, and are tried again.",
     retention_failed},
    {"serin_ledger_healthy", "gauge", "1 while commits succeed.", healthy},
};

void srn__metrics_ledger(srn__recorder *r, srn_buf *out) {
    all a;
    if (!r || !srn__recorder_ledger(r)) return;
    srn_ledger_get_stats(srn__recorder_ledger(r), &a.l);
    a.r = srn__recorder_get_stats(r);
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        double v = rows[i].get(&a);
        srn_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s ", rows[i].name, rows[i].help, rows[i].name,
                     rows[i].type, rows[i].name);
        if (isinf(v))
            srn_buf_addz(out, "+Inf\n");
        else
            srn_buf_addf(out, "%.15g\n", v);
    }
}
