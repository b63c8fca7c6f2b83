/* hardware, advice on money: what measured calls would cost in the cloud and on machines of one's own, as
 * ranges, and what follows from that for each route. Facts come from calls (traffic.c, traffic_lines.c) and
 * from two files of the user (prices.c); all that is computed from them (advise.c, advise_fleet.c,
 * advise_route.c) is pure arithmetic. docs/advise.md states every formula; a Python oracle repeats them in
 * the tests.
 *
 * Money is in the files' currency and for a month of 30.4375 days. Objects are filled by one thread and then
 * immutable.
 */
#ifndef SRN_HARDWARE_ADVISE_H
#define SRN_HARDWARE_ADVISE_H

#include <jansson.h>

#include "base/base.h"

#define SRN_MONTH_DAYS 30.4375 /* 365.25 / 12 */

/* What is known of a number: at least low, at most high. */
typedef struct srn_bounds {
    double low, high;
} srn_bounds;
static inline double srn_bounds_mid(srn_bounds r) {
    return (r.low + r.high) / 2;
}

/* ---- traffic (traffic.c, traffic_lines.c) ---- */

enum { SRN_ADVISE_MOST_CALLS = 2000000, SRN_ADVISE_MOST_ROUTES = 64 };

typedef struct srn_advise_call {
    uint64_t begun_us;                            /* Unix time; 0: not known */
    uint64_t total_us, ttft_us, queue_us, itl_us; /* 0: not known */
    uint32_t n_input, n_cached, n_output;         /* tokens; cached ones are part of the input */
    uint32_t route;                               /* index */
    bool estimated;                               /* the tokens were not counted, but guessed from bytes */
    bool elsewhere; /* another server answered: its times show nothing of this machine */
} srn_advise_call;

typedef struct srn_advise_traffic {
    srn_arena arena;
    struct {
        const char *name; /* "": calls of no route */
        bool local_only;  /* nothing of it may leave the machine */
        bool batch;       /* its answers may take a day: the provider's discount applies */
    } routes[SRN_ADVISE_MOST_ROUTES];
    uint32_t n_routes;
    srn_advise_call *calls;
    size_t n, cap;
    uint64_t from_us, until_us; /* of the observation; 0: from the first begin, to the last end */
    double calls_per_day;       /* in place of what was measured; 0: as measured */
    uint32_t parallel;          /* answers at once that the server is configured for; 0: not known */
} srn_advise_traffic;
void srn_advise_traffic_init(srn_advise_traffic *t);
void srn_advise_traffic_done(srn_advise_traffic *t);
/* The index of a route, which is added where it is new; names longer than 127 bytes are cut. SRN_ELIMIT. */
int srn_advise_traffic_route(srn_advise_traffic *t, srn_str name, uint32_t *ret, srn_err *err);
/* Copies the call; more cached tokens than input become as many. SRN_ELIMIT. */
int srn_advise_traffic_add(srn_advise_traffic *t, const srn_advise_call *c, srn_err *err);
/* A call a line: what `serin calls export` writes, {"messages": [...]} or {"prompt": "..."}; docs/advise.md.
 * SRN_EFORMAT names file and line; a file without any is one, too. */
int srn_advise_traffic_lines(srn_advise_traffic *t, srn_str text, const char *file, srn_err *err);

typedef enum srn_advise_source {
    SRN_FACT_NONE,
    SRN_FACT_MEASURED,
    SRN_FACT_GIVEN,
    SRN_FACT_PREDICTED
} srn_advise_source;
const char *srn_advise_source_name(srn_advise_source s); /* "measured", ... */
/* What one machine can do with the model, all sequences together: as the ledger's calls show it, as
 * costs.yaml gives it, or as a plan predicts it. */
typedef struct srn_capacity {
    srn_advise_source source;
    srn_bounds prefill_tok_per_s, decode_tok_per_s, parallel; /* parallel: answers at once */
} srn_capacity;

typedef enum srn_mix_shape {
    SRN_MIX_LONG_GENERATION,
    SRN_MIX_LONG_READING,
    SRN_MIX_CLASSIFICATION,
    SRN_MIX_GENERATION,
    SRN_MIX_CHAT
} srn_mix_shape;
typedef enum srn_mix_pace { SRN_MIX_PACE_UNKNOWN, SRN_MIX_STEADY, SRN_MIX_BURSTY } srn_mix_pace;
const char *srn_mix_shape_name(srn_mix_shape s); /* "long-context generation", ... */
const char *srn_mix_pace_name(srn_mix_pace p);

/* The facts of some routes' calls. Quantiles are by nearest rank. */
typedef struct srn_mix {
    size_t n;         /* calls that the facts are of */
    double span_days; /* of the observation; 0: no times */
    double calls_per_month;
    srn_bounds volume;            /* factor of it: the error of having watched for so long only */
    double input, cached, output; /* tokens of a call, mean */
    uint32_t prompt_p50, prompt_p95, output_p50, output_p95;
    const char *window;    /* of the counts below: "minute", "hour" or "day"; "": no times */
    double burst;          /* p95 of the calls in a window over their mean; at least 1 */
    double seconds;        /* that a call takes, mean; 0: not known */
    double in_flight_mean; /* by Little's law: calls per second times seconds, as it was observed */
    double more;           /* calls_per_month over those that were observed */
    double in_flight_p50, in_flight_p95,
        in_flight_max; /* as calls find them when they begin, with themselves */
    double estimated;  /* share of the calls whose tokens were guessed */
    srn_mix_shape shape;
    srn_mix_pace pace;
    bool local_only, batch; /* all of its routes */
    srn_capacity measured;  /* what the machine that answered did; NONE where there are no times */
    uint32_t *prompts;      /* [n] ascending */
    double *sums;           /* [n + 1, 3] input, cached and output tokens of the first i prompts */
} srn_mix;
/* Of the routes with a true in `of` (NULL: all). SRN_EFORMAT: there is no call, or nothing says how many
 * there are a month. */
int srn_mix_of(const srn_advise_traffic *t, const bool *of, srn_mix *ret, srn_err *err);
void srn_mix_done(srn_mix *m);

/* ---- the user's files (prices.c) ---- */

enum { SRN_ADVISE_MOST_TIERS = 4, SRN_ADVISE_MOST_OFFERS = 64 };
typedef enum srn_price {
    SRN_PRICE_INPUT,
    SRN_PRICE_CACHED_READ,
    SRN_PRICE_CACHED_WRITE,
    SRN_PRICE_OUTPUT,
    SRN_PRICE_END
} srn_price;

typedef struct srn_offer { /* a model of a provider */
    const char *provider, *model, *source, *date;
    uint32_t line;
    srn_bounds token_ratio;   /* the provider's tokens for one of ours */
    srn_bounds cache_hit;     /* share of the tokens that our cache had which the provider's has, too */
    srn_bounds cache_written; /* share of the other input tokens that is written to its cache */
    srn_bounds batch;         /* share that is taken off */
    srn_bounds availability;  /* 0 to 1 */
    bool has_batch, has_availability;
    uint32_t n_tiers; /* at least one */
    struct {
        double above; /* prompts of more of the provider's tokens than that; ascending, the first 0 */
        srn_bounds price[SRN_PRICE_END]; /* a million tokens */
    } tiers[SRN_ADVISE_MOST_TIERS];
} srn_offer;

typedef struct srn_prices {
    srn_arena arena;
    const char *currency, *date;
    srn_offer *offers;
    uint32_t n;
} srn_prices;
/* prices.yaml. SRN_EFORMAT names file and line: unknown keys, missing ones, values out of range. */
int srn_prices_parse(srn_str text, const char *file, srn_prices *ret, srn_err *err);
void srn_prices_done(srn_prices *p);

typedef struct srn_owned { /* a kind of machine that one has or could buy */
    const char *name, *source, *date;
    uint32_t line;
    srn_bounds price, resale, life_years, hosting;        /* resale: share of the price; hosting: a month */
    srn_bounds watts_idle, prefill_joules, decode_joules; /* joules: a token, above idle */
    srn_bounds availability;                              /* given, or MTBF / (MTBF + MTTR) */
    bool has_availability;
    srn_capacity capacity; /* NONE: as the ledger's calls show it */
} srn_owned;

typedef struct srn_costs {
    srn_arena arena;
    const char *currency, *date;
    srn_owned *machines;
    uint32_t n;
    srn_bounds kwh, pue, staff_hours, staff_price; /* hours a month */
    srn_bounds utilisation; /* share of a machine's time that may be busy at the peak */
    srn_bounds site;        /* availability of power and network, which all machines share */
    uint32_t spare;         /* machines beyond those that are needed */
} srn_costs;
/* costs.yaml, likewise. */
int srn_costs_parse(srn_str text, const char *file, srn_costs *ret, srn_err *err);
void srn_costs_done(srn_costs *c);

/* ---- arithmetic (advise.c, advise_fleet.c) ---- */

/* Everything that may be a range, so that one can be moved while the others stay. */
typedef enum srn_assumption {
    SRN_ASSUME_VOLUME,   /* factor of the calls a month */
    SRN_ASSUME_ESTIMATE, /* factor of tokens that were guessed */
    SRN_ASSUME_TOKEN_RATIO,
    SRN_ASSUME_CACHE_HIT,
    SRN_ASSUME_CACHE_WRITTEN,
    SRN_ASSUME_BATCH,
    SRN_ASSUME_TIER_PRICE, /* and SRN_ADVISE_MOST_TIERS x SRN_PRICE_END of them */
    SRN_ASSUME_PURCHASE = SRN_ASSUME_TIER_PRICE + (int)SRN_ADVISE_MOST_TIERS * (int)SRN_PRICE_END,
    SRN_ASSUME_RESALE,
    SRN_ASSUME_LIFE,
    SRN_ASSUME_HOSTING,
    SRN_ASSUME_WATTS_IDLE,
    SRN_ASSUME_PREFILL_JOULES,
    SRN_ASSUME_DECODE_JOULES,
    SRN_ASSUME_KWH,
    SRN_ASSUME_PUE,
    SRN_ASSUME_STAFF_HOURS,
    SRN_ASSUME_STAFF_PRICE,
    SRN_ASSUME_UTILISATION,
    SRN_ASSUME_PREFILL_RATE,
    SRN_ASSUME_DECODE_RATE,
    SRN_ASSUME_PARALLEL,
    SRN_ASSUME_END
} srn_assumption;
/* "price of a machine", "long-context output price", ...; of a price tier > 0 is long-context. */
const char *srn_assumption_name(int a);
const char *srn_assumption_unit(int a); /* "a kWh", "hours a month", "" */

/* One comparison: what is run where. offer and machine may be NULL: that side is not computed. */
typedef struct srn_case {
    const srn_mix *mix;
    const srn_offer *offer;
    const srn_owned *machine;
    const srn_costs *costs;
    double target; /* availability that must be reached, 0 to below 1; 0: none */
    bool fallback; /* offer has an availability, and what the machines cannot answer while they are down goes
                      to the offer */
} srn_case;
/* The range of each assumption; what does not apply is 0 to 0. */
void srn_case_ranges(const srn_case *c, srn_bounds ret[SRN_ASSUME_END]);

typedef struct srn_cloud_cost {         /* a month */
    double tokens[SRN_PRICE_END];       /* of the provider, by what they are charged as */
    double money[SRN_PRICE_END], batch; /* batch: what the discount takes off; at least 0 */
    double total;
} srn_cloud_cost;
/* v: a value of each assumption. */
void srn_cloud_cost_of(const srn_case *c, const double v[SRN_ASSUME_END], srn_cloud_cost *ret);

enum { SRN_ADVISE_MOST_SPARES = 64 };
typedef struct srn_local_cost { /* a month */
    double slots, load; /* answers at once (p95); machines that prefill and decode keep busy at the peak */
    double by_slots, by_load; /* machines that each of the two asks for */
    double needed, spares;    /* machines; needed: the greater one, at least 1 */
    double busy;              /* share of their time that the needed ones compute, mean */
    double kwh_idle, kwh_prefill, kwh_decode;
    double capital, hosting, energy, staff;
    double fallback; /* what the cloud answers meanwhile */
    double total;
    double availability; /* at its low end, with the fallback; 0: not known */
    bool reaches;        /* the target, or there is none */
} srn_local_cost;
void srn_local_cost_of(const srn_case *c, const double v[SRN_ASSUME_END], srn_local_cost *ret);

/* Availability of n machines of which `needed` must run: the chance that at most n - needed are down. */
double srn_fleet_availability(double one, double needed, double n);

/* total of the cloud's or of the machines' cost with every assumption in the middle of its range, and with
 * all of them at the end that costs least and most; volume is held at what was measured. */
typedef struct srn_estimate {
    double mid;
    srn_bounds range;
} srn_estimate;
srn_estimate srn_cloud_estimate(const srn_case *c);
srn_estimate srn_local_estimate(const srn_case *c);

/* How much an assumption moves local minus cloud (of a case with one side: that side) between its ends. */
typedef struct srn_swing {
    int assumption;
    srn_bounds range;
    double at_low, at_high;
    bool flips; /* the sign changes between them */
} srn_swing;
/* The greatest ones, at most `most`, greatest first; those that move nothing are left out. Returns how many.
 */
uint32_t srn_case_swings(const srn_case *c, srn_swing *ret, uint32_t most);

/* The least calls a month of this mix at which the machines cost no more than the cloud, all assumptions in
 * the middle; INFINITY: never. */
double srn_case_break_even(const srn_case *c);

/* ---- advice (advise_route.c) ---- */

typedef enum srn_option_kind { SRN_OPTION_CLOUD, SRN_OPTION_LOCAL, SRN_OPTION_FALLBACK } srn_option_kind;
const char *srn_option_kind_name(srn_option_kind k); /* "cloud", "local", "local, cloud as fallback" */
typedef struct srn_option {
    srn_option_kind kind;
    srn_case at;
    srn_estimate cost;
    srn_bounds availability; /* 0 to 0: not known */
    bool reaches, vetoed;
    srn_cloud_cost cloud; /* in the middle */
    srn_local_cost local;
} srn_option;

typedef enum srn_advise_verdict {
    SRN_ADVISE_LOCAL,
    SRN_ADVISE_CLOUD,
    SRN_ADVISE_UNKNOWN /* one side is missing */,
    SRN_ADVISE_NONE /* nothing reaches the target */
} srn_advise_verdict;
const char *srn_advise_verdict_name(srn_advise_verdict v);

enum { SRN_ADVISE_SWINGS = 3 };
typedef struct srn_route_advice {
    const char *route;
    srn_mix mix;
    srn_option *options;
    uint32_t n_options;
    const srn_option *cloud,
        *local; /* the cheapest of each that reach the target, or the cheapest; may be NULL */
    srn_advise_verdict verdict;
    bool clear;        /* the ranges of the two do not overlap */
    bool veto;         /* privacy decided */
    double veto_price; /* what that costs a month; below 0: it costs nothing */
    srn_swing swings[SRN_ADVISE_SWINGS];
    uint32_t n_swings;
    double break_even; /* calls a month; INFINITY: never; NAN: a side is missing */
} srn_route_advice;

/* Which routes to answer where, best of the splits in order of what the cloud charges for a second of a
 * machine. */
typedef struct srn_split {
    bool local[SRN_ADVISE_MOST_ROUTES];
    double cost, all_local, all_cloud; /* mid; all_cloud: INFINITY where privacy or the target forbids it */
    const srn_owned *machine;          /* of the local part; NULL: there is none */
} srn_split;

typedef struct srn_advise {
    srn_route_advice *routes;
    uint32_t n;
    srn_route_advice total; /* all routes together */
    bool has_split;
    srn_split split;
} srn_advise;
typedef struct srn_advise_opts {
    const srn_advise_traffic *traffic;
    const srn_prices *prices;
    const srn_costs *costs; /* NULL: only the cloud is computed */
    double target;
} srn_advise_opts;
/* What o points to must outlive it. SRN_EINVAL: the target is impossible. SRN_EFORMAT: a machine has no
 * capacity and the calls do not show one. */
int srn_advise_make(const srn_advise_opts *o, srn_advise *ret, srn_err *err);
void srn_advise_done(srn_advise *a);
/* docs/advise.md has its fields; NULL: no memory. */
json_t *srn_advise_json(const srn_advise_opts *o, const srn_advise *a);

#endif
