/* canary: a new model (weights, quantisation, engine setting) or a new version of a prompt gets a share of
 * the traffic, and evidence decides whether it gets more, waits, or goes. Everything here is pure: a
 * declaration is parsed, a subject is assigned, observations add up to evidence, evidence and declaration
 * give a verdict, and events give the state of a roll-out. Clock and keys are passed in; the server
 * (src/serve/rollout.h) does what follows. docs/canary.md states the method and the events.
 *
 * An object belongs to one thread at a time; a declaration is immutable and shared freely.
 */
#ifndef SRN_CANARY_CANARY_H
#define SRN_CANARY_CANARY_H

#include <jansson.h>

#include "base/base.h"

/* ---- what is measured (metrics.c) ---- */

typedef enum srn_metric {
    SRN_METRIC_ERROR,       /* 1: the call failed, or another arm had to answer it; 0 */
    SRN_METRIC_CONSTRAINT,  /* 1: the answer was to satisfy a constraint and ended before it did */
    SRN_METRIC_CHECKS,      /* share of the prompt's checks that the answer did not pass */
    SRN_METRIC_CUT,         /* 1: finish "length" */
    SRN_METRIC_TTFT,        /* microseconds of engine time until the first token; log, clipped */
    SRN_METRIC_ITL,         /* microseconds of engine time a token; log, clipped */
    SRN_METRIC_TTFT_SLOW,   /* 1: slower than 95 % of the control's calls of late are; follows from ttft; 0 */
    SRN_METRIC_ITL_SLOW,    /* the same of itl */
    SRN_METRIC_LENGTH,      /* output tokens; log, clipped */
    SRN_METRIC_REPETITION,  /* share of the answer's 4-grams of tokens that stood in it before */
    SRN_METRIC_UNCERTAINTY, /* mean of -log p of the drawn tokens, nats */
    SRN_METRIC_FEEDBACK,    /* 1: a bad mark, 0: a good one */
    SRN_METRIC_DIVERGENCE,  /* mean Jensen-Shannon divergence of the arms a token, nats; 0 to ln 2 */
    SRN_METRIC_END
} srn_metric;
const char *srn_metric_name(srn_metric m); /* "error", ... */
bool srn_metric_of(srn_str name, srn_metric *ret);
/* What a guardrail's margin is: a difference of shares or nats, or a ratio (1.05 is "5 % more"). */
bool srn_metric_is_ratio(srn_metric m);
/* What a value counts as: a logarithm of what is a ratio, else itself; clipped. NAN: no call can have it. */
double srn_metric_score(srn_metric m, double value);

/* ---- a declaration (declare.c) ---- */

typedef enum srn_rollout_kind {
    SRN_ROLLOUT_EQUIVALENT, /* divergence is a guardrail */
    SRN_ROLLOUT_DIFFERENT   /* divergence is reported, outcomes decide */
} srn_rollout_kind;
typedef enum srn_rollout_end { /* of a roll-out that held out to its last step, or to its time's end */
                               SRN_AT_END_HOLD,
                               SRN_AT_END_PROMOTE,
                               SRN_AT_END_ROLL_BACK
} srn_rollout_end;

enum { SRN_ROLLOUT_STEPS = 16, SRN_ROLLOUT_NAME_MAX = 64 };

typedef struct srn_guardrail {
    bool set;
    double margin; /* a worsening up to here is let through: a difference, or a ratio */
} srn_guardrail;

/* Strings belong to its arena; NULL where there is none. */
typedef struct srn_rollout {
    srn_arena arena;
    char hash[65];    /* SHA-256 of its canonical JSON: what a verdict is latched to */
    const char *name; /* letters, digits, . _ - */
    srn_rollout_kind kind;
    const char *baseline; /* names of models of the configuration */
    const char *canary;   /* the same one where only the prompt differs */
    const char *prompt;   /* registered prompt whose versions differ, or NULL */
    uint32_t baseline_version, canary_version;
    const char *const *routes; /* named ones, whatever their risk; none: every route of low risk */
    uint32_t n_routes;
    const char *const *opt_out; /* tenants that never see the canary */
    uint32_t n_opt_out;
    double steps[SRN_ROLLOUT_STEPS]; /* shares, ascending, in (0, 1]; the first may be 0: copies alone */
    uint32_t n_steps;
    double max_share; /* of calls, over the last minutes; above it new subjects get the baseline; 0: as
                         srn_rollout_cap says */
    double shadow;    /* share of the other calls that the canary gets a copy of; 0: none */
    uint32_t min_subjects, min_calls;  /* of each arm, before a step may end */
    uint64_t min_time_us, max_time_us; /* of a step; of the whole */
    bool clear_every_step; /* every step ends only with all guardrails cleared, not the last alone */
    double alpha;          /* chance, at most, over the whole roll-out and all metrics, that what is no worse
                              than its margins is rolled back */
    srn_guardrail guards[SRN_METRIC_END];
    double judge_share; /* of step tokens, for divergence: 0.05 */
    srn_rollout_end at_end, on_timeout;
    const char *webhook; /* URL for alerts, or NULL */
} srn_rollout;
/* From JSON (serin.yaml's section as JSON is the same): docs/canary.md. Defaults are filled in. SRN_EINVAL
 * names the key. */
int srn_rollout_parse(const json_t *o, const char *what, srn_rollout **ret, srn_err *err);
/* Whether it can begin as it is declared; what has begun goes on with any cap. SRN_EINVAL: a step's share is
 * above max_share, and would never be given out. */
int srn_rollout_may_begin(const srn_rollout *r, srn_err *err);
void srn_rollout_free(srn_rollout *r);
json_t *srn_rollout_json(const srn_rollout *r); /* whole, canonical; NULL: no memory */
/* The cap on the canary's share of calls at a step: as declared, else one and a half times the step's share.
 */
double srn_rollout_cap(const srn_rollout *r, uint32_t step);

/* ---- assignment (assign.c) ---- */

typedef enum srn_arm {
    SRN_ARM_NONE,     /* not part of the experiment */
    SRN_ARM_BASELINE, /* part of it, neither of the others */
    SRN_ARM_CONTROL,  /* the slice of the baseline that the canary is compared with */
    SRN_ARM_CANARY
} srn_arm;
const char *srn_arm_name(srn_arm a); /* "baseline", "control", "canary"; NULL for NONE */

typedef enum srn_why {                   /* an arm's reason, in records and headers */
                       SRN_WHY_HASH,     /* the subject's place */
                       SRN_WHY_PINNED,   /* the conversation began so */
                       SRN_WHY_CAP,      /* the canary has its share: outside the evidence */
                       SRN_WHY_OPT_OUT,  /* the tenant does not take part */
                       SRN_WHY_RISK,     /* the route is not eligible */
                       SRN_WHY_PAUSED,   /* no shares are given out */
                       SRN_WHY_FALLBACK, /* the arm that was due failed */
                       SRN_WHY_SHADOW,
                       SRN_WHY_ROLLED_BACK /* its canary had sent nothing when the share was taken away */
} srn_why;
const char *srn_why_name(srn_why w);

/* A subject's place in [0, 1) for one roll-out: the top 53 bits of keyed BLAKE2b-256 of "serin canary 1",
 * name of the roll-out and subject. The same on every server with the same key. */
double srn_assign_place(const uint8_t key[32], const char *rollout, srn_str subject);
/* The number that stands for the subject in observations: other bits of the same hash, below 2^63. */
uint64_t srn_assign_subject(const uint8_t key[32], const char *rollout, srn_str subject);
/* Below the share: the canary. Its control is as large and grows from the other end, so that nobody is moved
 * between the two while the share grows to a half: [1 - share, 1), from a half on what the canary leaves. */
srn_arm srn_assign_arm(double place, double share);
/* Whether the canary gets a copy of what the baseline answers there: [share, share + shadow * (1 - share)),
 * so that who gets copies first is who gets the canary itself next. */
bool srn_assign_copied(double place, double share, double shadow);

/* How a conversation began (pins.c). */
typedef struct srn_pin {
    srn_arm arm;
    bool counted;
    uint64_t at_us; /* last seen */
} srn_pin;
typedef struct srn_pins srn_pins; /* one thread at a time */
/* Room for n conversations, each kept as long as it is seen once in keep_us. */
int srn_pins_new(size_t n, uint64_t keep_us, srn_pins **ret, srn_err *err);
void srn_pins_free(srn_pins *p); /* NULL is fine */
bool srn_pins_get(srn_pins *p, uint64_t conversation, uint64_t now_us, srn_pin *ret);
void srn_pins_put(srn_pins *p, uint64_t conversation, const srn_pin *pin);

/* ---- evidence (evidence.c) ---- */

typedef struct srn_observation {
    uint64_t subject; /* keyed */
    uint64_t at_us;   /* when the call was admitted */
    srn_arm arm;      /* CONTROL, CANARY, or BASELINE: of it all but the latencies is compared as well */
    uint32_t step;
    bool shadow;                   /* a copy, whose answer nobody saw */
    uint64_t call;                 /* a number that stands for it, of feedback; else not looked at */
    double values[SRN_METRIC_END]; /* as srn_metric says; NAN: this call has none */
} srn_observation;
/* What a subject was like before the roll-out began, on the baseline: lowers the noise of everything. Means
 * of the scores (srn_metric_score), over n calls. */
typedef struct srn_history {
    uint64_t subject;
    uint32_t n[SRN_METRIC_END];
    double mean[SRN_METRIC_END];
} srn_history;

typedef struct srn_evidence srn_evidence;
int srn_evidence_new(const srn_rollout *r, srn_evidence **ret, srn_err *err);
void srn_evidence_free(srn_evidence *e);
/* Before the first observation. */
int srn_evidence_history(srn_evidence *e, const srn_history *h, size_t n, srn_err *err);
/* Copies are added beside the calls they are copies of, as if another subject had made them: whoever is in
 * both arms so is no exposure, nor part of the split. Of a step of copies alone the control are the calls
 * that were copied, and the rest of the baseline is left out. In any order of time, but in one order for all
 * who are to agree: that of the ledger. SRN_ENOMEM; a value out of its range, or a step that is none, is
 * SRN_EINVAL and changes nothing. Each step's evidence begins anew; what comes late, of a step before the
 * newest, is dropped. */
int srn_evidence_add(srn_evidence *e, const srn_observation *o, srn_err *err);
/* What is known of a call only later, of which nothing but m is looked at: DIVERGENCE, for judging takes
 * longer than the call, and FEEDBACK, of which a call's last mark counts in place of those before. Late, as
 * any other, is what belongs to a step before the newest. */
int srn_evidence_later(srn_evidence *e, srn_metric m, const srn_observation *o, srn_err *err);
/* A subject was served by the arm without being counted: BASELINE, one whose place is the canary's (cap, or a
 * conversation that began before); CONTROL or CANARY, one that has moved (pinned). Several exposures. */
void srn_evidence_expose(srn_evidence *e, uint64_t subject, srn_arm arm);

/* ---- a look (verdict.c): pure of evidence, declaration and time ---- */

/* What is not known is NAN, or null in JSON. */
typedef struct srn_finding { /* of one metric: the worsening, canary against control */
    /* [control, canary]; missing: calls without a value, of feedback subjects that have given none */
    uint64_t n_subjects[2], n_calls[2], n_missing[2];
    uint64_t missing_run[2];  /* calls since the newest that had a value */
    double weight[2];         /* effective number of calls */
    double mean[2], variance; /* of the scores; of their difference */
    double freedom;           /* effective degrees of freedom of the variance */
    double estimate;          /* of the worsening, as difference or ratio */
    double low,
        high;      /* always valid: low at alpha, high at SRN_CLEAR_ALPHA (length: both at half of alpha) */
    double evalue; /* divergence: of the bets against a mean within the margin; else 1 */
    double alpha, margin;
    bool guarded, enough; /* a guardrail; enough subjects for a word on it */
    bool broken;          /* low is beyond the margin, or the bets are */
    bool cleared;         /* high is within it */
} srn_finding;
#define SRN_CLEAR_ALPHA 0.05 /* chance that a guardrail at its margin is called cleared, ever */

typedef enum srn_verdict {
    SRN_VERDICT_HOLD,
    SRN_VERDICT_STEP, /* the step has done its work; of the last step: the roll-out has, at_end says what then
                       */
    SRN_VERDICT_ROLL_BACK
} srn_verdict;
const char *srn_verdict_name(srn_verdict v); /* "hold", "step", "roll_back" */

typedef struct srn_look {
    srn_verdict verdict;
    uint32_t step;     /* that was looked at */
    uint32_t compared; /* the step whose arms were compared: this, or the one before where all is canary */
    uint64_t at_us;
    srn_metric metric;                  /* that decided, or SRN_METRIC_END */
    double srm_p;                       /* always-valid p of the split of subjects being as declared */
    uint64_t n_exposed;                 /* subjects that saw both arms */
    uint64_t n_subjects[2], n_calls[2]; /* of the step, [control, canary] */
    uint64_t newest_us, observed_us;    /* newest admission; the step's time with calls in it */
    uint64_t since_canary;              /* answers of the control since the newest of the canary */
    char why[256];                      /* a sentence */
    srn_finding findings[SRN_METRIC_END];
} srn_look;
typedef struct srn_step_is { /* where the roll-out stands */
    uint32_t step;
    uint64_t started_us, step_started_us, last_canary_us; /* 0: the canary has answered nothing yet */
    uint32_t n_open;         /* calls of the canary that were admitted and have not ended */
    uint64_t oldest_open_us; /* when the oldest of them was admitted; 0: there is none */
} srn_step_is;
void srn_look_at(const srn_rollout *r, const srn_evidence *e, const srn_step_is *is, uint64_t now_us,
                 srn_look *ret);
/* All numbers that decided, and back again; the verdict of what was read back is recomputed by
 * srn_look_again, which is how a decision is explained years later. */
json_t *srn_look_json(const srn_look *l);
int srn_look_parse(const json_t *o, srn_look *ret, srn_err *err);
void srn_look_again(const srn_rollout *r, const srn_step_is *is, srn_look *l);

/* ---- the state of a roll-out (state.c): what its events add up to ---- */

typedef enum srn_rollout_phase {
    SRN_PHASE_RUNNING,
    SRN_PHASE_PAUSED,   /* assignments stay, new subjects get the baseline; after a crash the share is 0 */
    SRN_PHASE_PROMOTED, /* the canary answers for the baseline, until it is retired */
    SRN_PHASE_ROLLED_BACK,
    SRN_PHASE_ABORTED,
    SRN_PHASE_RETIRED /* was promoted, and the configuration says so itself now */
} srn_rollout_phase;
const char *srn_phase_name(srn_rollout_phase p); /* "running", ... */
typedef struct srn_rollout_state {
    srn_rollout_phase phase;
    srn_step_is is;
    double share;           /* now: 0 after a crash, and of everything that ended */
    double shadow;          /* likewise, of the other calls that are copied */
    bool latched;           /* ended by a verdict: this declaration never runs again */
    uint64_t crashed_us;    /* the newest unclean end with a call of the canary in flight; 0: none */
    char by[128], why[256]; /* of the last change */
} srn_rollout_state;
bool srn_rollout_is_over(const srn_rollout_state *s); /* promoted, rolled back or aborted */
/* Whether a crash at this time is the second one within ten minutes: it is followed by rollout_rolled_back.
 */
bool srn_rollout_crash_ends(const srn_rollout_state *s, uint64_t at_us);
/* One event of the chain ("rollout_started", "rollout_step", "rollout_paused", "rollout_resumed",
 * "rollout_crashed", "rollout_promoted", "rollout_rolled_back", "rollout_aborted", "rollout_retired") at its
 * time, applied to a state that began zeroed. Fields read: hash, step, why, by, look. Those that do not fit
 * the state change nothing: SRN_EINVAL says why. A roll-back latches, a promotion does where a look decided
 * it; what is not latched may be started again, and begins anew. */
int srn_rollout_apply(const srn_rollout *r, srn_rollout_state *s, const char *event, const json_t *fields,
                      uint64_t at_us, srn_err *err);

/* ---- simulation (simulate.c) ---- */

typedef struct srn_traffic { /* of the operator's own calls, or made */
    uint32_t n_subjects;
    double zipf;  /* exponent of their activity */
    double icc;   /* correlation of calls of one subject, up to 0.5 */
    double drift; /* daily swing of every metric, in its standard deviations; of a share: of its rate */
    double calls_per_day;         /* of everybody */
    double history_calls;         /* that everybody made before; 0: nothing is known of the subjects */
    double newcomers;             /* share of subjects without history */
    double stale;                 /* correlation of a subject's level with what it was before */
    double rate[SRN_METRIC_END];  /* of a share its mean; of a ratio the median; else the mean */
    double sd[SRN_METRIC_END];    /* of the logarithm, or of the value */
    double known[SRN_METRIC_END]; /* share of calls that have it (divergence: that are judged) */
} srn_traffic;
void srn_traffic_default(srn_traffic *t);
/* From JSON: its fields by name, the metrics' as {"itl": {"rate", "sd", "known"}}; what is absent has its
 * default. SRN_EINVAL names the key. */
int srn_traffic_parse(const json_t *o, const char *what, srn_traffic *ret, srn_err *err);
typedef struct srn_past_call { /* NAN: not known */
    uint64_t subject, at_us;
    double values[SRN_METRIC_END];
} srn_past_call;
/* From calls that were answered, of which error, cut, ttft, itl and length are read; sorts them. SRN_EINVAL:
 * too few. */
int srn_traffic_of(srn_past_call *calls, size_t n, srn_traffic *ret, srn_err *err);
typedef struct srn_effect {
    srn_metric metric;
    double by;       /* 0.15 of a ratio: 15 % more; else the difference */
    bool by_subject; /* of a share: some subjects have all of it, as the correlation says; else any call */
} srn_effect;
/* "itl=+15%", "error=+5%" (points), "uncertainty=0.3". */
int srn_effect_parse(const char *text, srn_effect *ret, srn_err *err);
typedef struct srn_simulation {
    uint32_t n_runs, n_rolled_back, n_promoted, n_held; /* promoted: the last step did its work */
    uint32_t by_metric[SRN_METRIC_END];                 /* which one rolled back */
    double calls_median, calls_p95;       /* until the roll-back, of those that were; NAN: none */
    double promoted_median, promoted_p95; /* until the promotion */
    char held_why[256];                   /* of the first that was undecided to its end */
} srn_simulation;
typedef struct srn_simulate_opts {
    const srn_traffic *traffic;
    const srn_effect *effects;
    uint32_t n_effects, n_runs;
    uint64_t max_calls; /* of one run, both arms and everybody else */
    uint64_t seed;
    double share; /* one step of this share instead of the declared ones; 0: as declared */
    srn_progress_fn *progress;
    void *progress_ctx;
} srn_simulate_opts;
int srn_simulate(const srn_rollout *r, const srn_simulate_opts *o, srn_simulation *ret, srn_err *err);

#endif
