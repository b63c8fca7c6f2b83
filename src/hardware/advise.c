/* What a month of calls costs in the cloud, how sure that is, and which assumption moves the comparison with
 * machines of one's own most. Pure arithmetic over structs, stated in docs/advise.md; advise_fleet.c has the
 * machines' side. Any thread; refuses nothing: its inputs were checked where they were read.
 */
#include <math.h>

#include "hardware/advise_internal.h"

/* Bytes a token lie between 3 and 5 in most texts; guesses took 4. */
#define GUESS_LOW  (4.0 / 5)
#define GUESS_HIGH (4.0 / 3)

/* ---- assumptions ---- */

static const struct {
    const char *name, *unit;
    bool more_is_less; /* more of it costs less */
} assumptions[SRN_ASSUME_END] = {
    [SRN_ASSUME_VOLUME] = {"calls a month", "times those measured", false},
    [SRN_ASSUME_ESTIMATE] = {"tokens guessed from bytes", "times the guess", false},
    [SRN_ASSUME_TOKEN_RATIO] = {"the provider's tokens for one of ours", "", false},
    [SRN_ASSUME_CACHE_HIT] = {"share of cached tokens that the provider's cache has, too", "", false},
    [SRN_ASSUME_CACHE_WRITTEN] = {"share of input written to the provider's cache", "", false},
    [SRN_ASSUME_BATCH] = {"batch discount", "", true},
    [SRN_ASSUME_PURCHASE] = {"price of a machine", "", false},
    [SRN_ASSUME_RESALE] = {"resale", "of the price", true},
    [SRN_ASSUME_LIFE] = {"life of a machine", "years", true},
    [SRN_ASSUME_HOSTING] = {"hosting of a machine", "a month", false},
    [SRN_ASSUME_WATTS_IDLE] = {"idle power of a machine", "W", false},
    [SRN_ASSUME_PREFILL_JOULES] = {"energy of a token in prefill", "J", false},
    [SRN_ASSUME_DECODE_JOULES] = {"energy of a token in decode", "J", false},
    [SRN_ASSUME_KWH] = {"price of electricity", "a kWh", false},
    [SRN_ASSUME_PUE] = {"PUE", "", false},
    [SRN_ASSUME_STAFF_HOURS] = {"staff hours", "a month", false},
    [SRN_ASSUME_STAFF_PRICE] = {"price of staff", "an hour", false},
    [SRN_ASSUME_UTILISATION] = {"share of a machine's time that may be busy at the peak", "", true},
    [SRN_ASSUME_PREFILL_RATE] = {"prefill rate of a machine", "tok/s", true},
    [SRN_ASSUME_DECODE_RATE] = {"decode rate of a machine", "tok/s", true},
    [SRN_ASSUME_PARALLEL] = {"answers of a machine at once", "", true},
};

static bool is_price(int a) {
    return a >= SRN_ASSUME_TIER_PRICE && a < SRN_ASSUME_PURCHASE;
}

const char *srn_assumption_name(int a) {
    static const char *const prices[2][SRN_PRICE_END] = {
        {"input price", "price of a cached read", "price of a cached write", "output price"},
        {"long-context input price", "long-context price of a cached read",
         "long-context price of a cached write", "long-context output price"}};
    if (!is_price(a)) return assumptions[a].name;
    int at = a - (int)SRN_ASSUME_TIER_PRICE;
    return prices[at >= (int)SRN_PRICE_END][at % (int)SRN_PRICE_END];
}

const char *srn_assumption_unit(int a) {
    return is_price(a) ? "a million tokens" : assumptions[a].unit;
}

static void offer_ranges(const srn_case *c, srn_bounds *r) {
    const srn_offer *o = c->offer;
    r[SRN_ASSUME_TOKEN_RATIO] = o->token_ratio;
    r[SRN_ASSUME_CACHE_HIT] = o->cache_hit;
    r[SRN_ASSUME_CACHE_WRITTEN] = o->cache_written;
    if (o->has_batch && c->mix->batch) r[SRN_ASSUME_BATCH] = o->batch;
    for (uint32_t k = 0; k < o->n_tiers; k++)
        for (int p = 0; p < SRN_PRICE_END; p++)
            r[(int)SRN_ASSUME_TIER_PRICE + (int)k * (int)SRN_PRICE_END + p] = o->tiers[k].price[p];
}

static void machine_ranges(const srn_case *c, srn_bounds *r) {
    const srn_owned *m = c->machine;
    const srn_capacity *can = m->capacity.source == SRN_FACT_NONE ? &c->mix->measured : &m->capacity;
    r[SRN_ASSUME_PURCHASE] = m->price;
    r[SRN_ASSUME_RESALE] = m->resale;
    r[SRN_ASSUME_LIFE] = m->life_years;
    r[SRN_ASSUME_HOSTING] = m->hosting;
    r[SRN_ASSUME_WATTS_IDLE] = m->watts_idle;
    r[SRN_ASSUME_PREFILL_JOULES] = m->prefill_joules;
    r[SRN_ASSUME_DECODE_JOULES] = m->decode_joules;
    r[SRN_ASSUME_KWH] = c->costs->kwh;
    r[SRN_ASSUME_PUE] = c->costs->pue;
    r[SRN_ASSUME_STAFF_HOURS] = c->costs->staff_hours;
    r[SRN_ASSUME_STAFF_PRICE] = c->costs->staff_price;
    r[SRN_ASSUME_UTILISATION] = c->costs->utilisation;
    r[SRN_ASSUME_PREFILL_RATE] = can->prefill_tok_per_s;
    r[SRN_ASSUME_DECODE_RATE] = can->decode_tok_per_s;
    r[SRN_ASSUME_PARALLEL] = can->parallel;
}

void srn_case_ranges(const srn_case *c, srn_bounds ret[SRN_ASSUME_END]) {
    double guessed = c->mix->estimated;
    memset(ret, 0, SRN_ASSUME_END * sizeof *ret);
    ret[SRN_ASSUME_VOLUME] = c->mix->volume;
    ret[SRN_ASSUME_ESTIMATE] = (srn_bounds){1 - guessed * (1 - GUESS_LOW), 1 + guessed * (GUESS_HIGH - 1)};
    if (c->offer) offer_ranges(c, ret);
    if (c->machine) machine_ranges(c, ret);
}

void srn__case_middle(const srn_case *c, double v[SRN_ASSUME_END]) {
    srn_bounds r[SRN_ASSUME_END];
    srn_case_ranges(c, r);
    for (int a = 0; a < SRN_ASSUME_END; a++) v[a] = srn_bounds_mid(r[a]);
    v[SRN_ASSUME_VOLUME] = v[SRN_ASSUME_ESTIMATE] = 1;
}

/* ---- the cloud ---- */

/* How many of the prompts have at most `most` of the provider's tokens. */
static size_t prompts_up_to(const srn_mix *m, double scale, double most) {
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (scale * m->prompts[mid] <= most)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void srn_cloud_cost_of(const srn_case *c, const double v[SRN_ASSUME_END], srn_cloud_cost *ret) {
    const srn_mix *m = c->mix;
    const srn_offer *o = c->offer;
    double scale = v[SRN_ASSUME_TOKEN_RATIO] * v[SRN_ASSUME_ESTIMATE];
    double weight = m->calls_per_month * v[SRN_ASSUME_VOLUME] / (double)m->n * scale;
    *ret = (srn_cloud_cost){.total = 0};
    for (uint32_t k = 0; k < o->n_tiers; k++) {
        const double *price = v + (int)SRN_ASSUME_TIER_PRICE + (int)k * (int)SRN_PRICE_END;
        size_t first = k ? prompts_up_to(m, scale, o->tiers[k].above) : 0;
        size_t end = k + 1 < o->n_tiers ? prompts_up_to(m, scale, o->tiers[k + 1].above) : m->n;
        const double *from = m->sums + 3 * first, *to = m->sums + 3 * end;
        double read = weight * (to[1] - from[1]) * v[SRN_ASSUME_CACHE_HIT];
        double fresh = weight * (to[0] - from[0]) - read, written = fresh * v[SRN_ASSUME_CACHE_WRITTEN];
        const double tokens[SRN_PRICE_END] = {[SRN_PRICE_INPUT] = fresh - written,
                                              [SRN_PRICE_CACHED_READ] = read,
                                              [SRN_PRICE_CACHED_WRITE] = written,
                                              [SRN_PRICE_OUTPUT] = weight * (to[2] - from[2])};
        for (int p = 0; p < SRN_PRICE_END; p++) {
            ret->tokens[p] += tokens[p];
            ret->money[p] += tokens[p] / 1e6 * (price[p] < 0 ? price[SRN_PRICE_INPUT] : price[p]);
        }
    }
    for (int p = 0; p < SRN_PRICE_END; p++) ret->total += ret->money[p];
    ret->batch = ret->total * v[SRN_ASSUME_BATCH];
    ret->total -= ret->batch;
}

/* ---- ranges ---- */

static double cost_of(const srn_case *c, bool cloud, const double *v) {
    if (cloud) {
        srn_cloud_cost cost;
        srn_cloud_cost_of(c, v, &cost);
        return cost.total;
    }
    srn_local_cost cost;
    srn_local_cost_of(c, v, &cost);
    return cost.total;
}

/* All assumptions at the end that costs least (or most). Whether the provider's cache saves money depends on
 * its prices: of its two assumptions every pair of ends is tried. */
static double extreme(const srn_case *c, bool cloud, bool most) {
    srn_bounds r[SRN_ASSUME_END];
    double v[SRN_ASSUME_END], best = most ? -INFINITY : INFINITY;
    srn_case_ranges(c, r);
    for (int a = 0; a < SRN_ASSUME_END; a++)
        v[a] = (!is_price(a) && assumptions[a].more_is_less) != most ? r[a].high : r[a].low;
    v[SRN_ASSUME_VOLUME] = 1;
    for (int pair = 0; pair < 4; pair++) {
        v[SRN_ASSUME_CACHE_HIT] = pair & 1 ? r[SRN_ASSUME_CACHE_HIT].high : r[SRN_ASSUME_CACHE_HIT].low;
        v[SRN_ASSUME_CACHE_WRITTEN] =
            pair & 2 ? r[SRN_ASSUME_CACHE_WRITTEN].high : r[SRN_ASSUME_CACHE_WRITTEN].low;
        double cost = cost_of(c, cloud, v);
        best = most ? SRN_MAX(best, cost) : SRN_MIN(best, cost);
    }
    return best;
}

static srn_estimate estimate(const srn_case *c, bool cloud) {
    double v[SRN_ASSUME_END];
    srn__case_middle(c, v);
    return (srn_estimate){cost_of(c, cloud, v), {extreme(c, cloud, false), extreme(c, cloud, true)}};
}

srn_estimate srn_cloud_estimate(const srn_case *c) {
    return estimate(c, true);
}

srn_estimate srn_local_estimate(const srn_case *c) {
    return estimate(c, false);
}

/* ---- what moves the result ---- */

static double difference(const srn_case *c, const double *v) {
    double d = c->machine ? cost_of(c, false, v) : 0;
    if (!c->offer) return d;
    double cloud = cost_of(c, true, v);
    return c->machine ? d - cloud : cloud;
}

uint32_t srn_case_swings(const srn_case *c, srn_swing *ret, uint32_t most) {
    srn_bounds r[SRN_ASSUME_END];
    double v[SRN_ASSUME_END];
    uint32_t n = 0;
    srn_case_ranges(c, r);
    srn__case_middle(c, v);
    for (int a = 0; a < SRN_ASSUME_END; a++) {
        if (r[a].low == r[a].high) continue;
        double was = v[a];
        srn_swing s = {.assumption = a, .range = r[a]};
        v[a] = r[a].low;
        s.at_low = difference(c, v);
        v[a] = r[a].high;
        s.at_high = difference(c, v);
        v[a] = was;
        s.flips = (s.at_low < 0) != (s.at_high < 0);
        double moves = fabs(s.at_high - s.at_low);
        if (moves == 0) continue;
        uint32_t at = n < most ? n++ : most;
        while (at > 0 && fabs(ret[at - 1].at_high - ret[at - 1].at_low) < moves) {
            if (at < most) ret[at] = ret[at - 1];
            at--;
        }
        if (at < most) ret[at] = s;
    }
    return n;
}
