/* What Prometheus scrapes of roll-outs: how many there are in each phase, and of each that runs its share,
 * its step and its calls. Names of roll-outs are labels while these run, so there are few. Listener thread.
 */
#include "serve/metrics.h"
#include "serve/rollout.h"

typedef struct counts {
    uint32_t phases[SRN_PHASE_RETIRED + 1];
    srn_buf *out;
    const char *name; /* of the metric that is written */
} counts;

static void count(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    counts *n = ctx;
    (void)r;
    n->phases[s->phase]++;
}

typedef double value_fn(const srn__rollout *r, const srn_rollout_state *s);
static double share(const srn__rollout *r, const srn_rollout_state *s) {
    (void)r;
    return s->share;
}
static double step(const srn__rollout *r, const srn_rollout_state *s) {
    (void)r;
    return s->is.step + 1;
}
static double open_calls(const srn__rollout *r, const srn_rollout_state *s) {
    (void)s;
    return r->n_open;
}

static const struct {
    const char *name, *help;
    value_fn *get;
} rows[] = {
    {"serin_rollout_share", "Share of the subjects that get the canary.", share},
    {"serin_rollout_step", "Step of the declaration, from 1 on.", step},
    {"serin_rollout_open_calls", "Calls of the canary that have not ended.", open_calls},
};

static void put_running(void *ctx, srn__rollout *r, const srn_rollout_state *s) {
    counts *n = ctx;
    if (srn_rollout_is_over(s)) return;
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        if (rows[i].name != n->name) continue;
        pthread_mutex_lock(&r->lock);
        double v = rows[i].get(r, s);
        pthread_mutex_unlock(&r->lock);
        srn_buf_addf(n->out, "%s{rollout=\"%s\"} %.15g\n", n->name, r->declared->name, v);
    }
}

static void put_copies(const srn__copies_stats *s, srn_buf *out) {
    srn_buf_addf(
        out,
        "# HELP serin_rollout_copies_total Copies of calls for canaries, by what became of them: made, "
        "left out for want of room, cancelled.\n# TYPE serin_rollout_copies_total counter\n"
        "serin_rollout_copies_total{result=\"made\"} %llu\n"
        "serin_rollout_copies_total{result=\"skipped\"} %llu\n"
        "serin_rollout_copies_total{result=\"cancelled\"} %llu\n"
        "# HELP serin_rollout_copies_open Copies that wait or run.\n"
        "# TYPE serin_rollout_copies_open gauge\nserin_rollout_copies_open %u\n",
        (unsigned long long)s->n_made, (unsigned long long)s->n_skipped, (unsigned long long)s->n_cancelled,
        s->n_open);
}

void srn__metrics_rollouts(srn__rollouts *x, srn__copies *copies, srn_buf *out) {
    counts n = {.out = out};
    if (!x) return;
    srn__copies_stats s = srn__copies_get_stats(copies);
    put_copies(&s, out);
    srn__rollouts_each(x, count, &n);
    srn_buf_addz(out, "# HELP serin_rollouts Roll-outs that the ledger knows, by phase.\n"
                      "# TYPE serin_rollouts gauge\n");
    for (unsigned p = 0; p < SRN_LEN(n.phases); p++)
        srn_buf_addf(out, "serin_rollouts{phase=\"%s\"} %u\n", srn_phase_name((srn_rollout_phase)p),
                     n.phases[p]);
    srn_buf_addf(out,
                 "# HELP serin_rollouts_frozen 1 while no share grows and no label moves.\n"
                 "# TYPE serin_rollouts_frozen gauge\nserin_rollouts_frozen %d\n",
                 srn__rollouts_frozen(x));
    for (size_t i = 0; i < SRN_LEN(rows); i++) {
        n.name = rows[i].name;
        srn_buf_addf(out, "# HELP %s %s\n# TYPE %s gauge\n", rows[i].name, rows[i].help, rows[i].name);
        srn__rollouts_each(x, put_running, &n);
    }
}
