/* What Prometheus scrapes of judging: how much of the steps it takes, what it gets done, and whether it
 * starves. One table row a metric; called by GET /metrics on the listener thread.
 */
#include "engine/judge.h"
#include "serve/metrics.h"

#define VALUE(name, expression)                                                                              \
    static double name(const srn_judge_stats *s) {                                                           \
        return (double)(expression);                                                                         \
    }
VALUE(queued, s->n_queued)
VALUE(done, s->n_done)
VALUE(failed, s->n_failed)
VALUE(refused, s->n_refused)
VALUE(compared, s->n_compared)
VALUE(computed, s->tokens)
VALUE(busy, s->busy_tokens)
VALUE(production, s->production_tokens)
VALUE(cached, s->cached_tokens)
VALUE(starved, s->n_starved)
VALUE(preempted, s->n_preempted)
VALUE(step_seconds, (double)s->step_us / 1e6)
VALUE(compare_seconds, (double)s->compare_us / 1e6)
#undef VALUE

static const struct {
    const char *name, *type, *help;
    double (*get)(const srn_judge_stats *s);
} rows[] = {
    {"serin_judge_queued", "gauge", "Answers that wait to be judged, or are being judged.", queued},
    {"serin_judge_done_total", "counter", "Answers that were judged.", done},
    {"serin_judge_failed_total", "counter", "Answers whose judging ended early.", failed},
    {"serin_judge_refused_total", "counter", "Answers that found the queue full.", refused},
    {"serin_judge_compared_total", "counter", "Tokens of answers at which two models were compared.",
     compared},
    {"serin_judge_tokens_total", "counter", "Tokens computed for judging.", computed},
    {"serin_judge_busy_tokens_total", "counter", "Of these, while requests had work.", busy},
    {"serin_judge_production_tokens_total", "counter", "Tokens computed for requests meanwhile.", production},
    {"serin_judge_cached_tokens_total", "counter", "Tokens to be judged that the caches held.", cached},
    {"serin_judge_starved_total", "counter", "Turns of judging in which requests wanted the cache.", starved},
    {"serin_judge_preemptions_total", "counter", "Times that judging gave its cache back.", preempted},
    {"serin_judge_step_seconds_total", "counter", "Time in forward passes for judging.", step_seconds},
    {"serin_judge_compare_seconds_total", "counter", "Time in comparing.", compare_seconds},
};

void srn__metrics_judge(srn_scheduler *s, srn_buf *out) {
    srn_judge_stats st;
    srn_scheduler_judge_stats(s, &st);
    for (size_t i = 0; i < SRN_LEN(rows); i++)
        srn_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", rows[i].name, rows[i].help, rows[i].name,
                     rows[i].type, rows[i].name, rows[i].get(&st));
}
