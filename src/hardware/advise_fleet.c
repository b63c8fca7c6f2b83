/* What a month of calls costs on machines of one's own: how many there must be for the answers that run at
 * once, for the time that tokens take and for the availability asked of them; capital, energy, staff; and
 * from which volume on that is less than the cloud. Pure arithmetic, stated in docs/advise.md; any thread.
 */
#include <math.h>

#include "hardware/advise_internal.h"

#define POISSON_P95 1.645 /* standard deviations */
#define ROUNDING    1e-9  /* of a number of machines, before it is rounded up */
#define JOULES_KWH  3.6e6

enum { MOST_TRIED = 1024, BISECTIONS = 60 }; /* machines, in search of the break-even */

double srn_fleet_availability(double one, double needed, double n) {
    double down = 1 - one, term = pow(one, n), sum = term;
    for (double j = 1; j <= n - needed; j++) {
        if (one <= 0) return needed <= 0;
        term *= (n - j + 1) / j * down / one;
        sum += term;
    }
    return SRN_MIN(sum, 1);
}

/* Of machines at this site, and with the cloud behind them; both at the low end of what is known. */
static double with_site(const srn_case *c, double machines) {
    double own = c->costs->site.low * machines;
    return c->fallback ? 1 - (1 - own) * (1 - c->offer->availability.low) : own;
}

static double availability(const srn_case *c, double needed, double spares) {
    const srn_owned *m = c->machine;
    return m->has_availability
               ? with_site(c, srn_fleet_availability(m->availability.low, needed, needed + spares))
               : 0;
}

void srn__fleet_of(const srn_case *c, const double v[SRN_ASSUME_END], double needed, srn_local_cost *ret) {
    double spares = c->costs->spare;
    ret->needed = needed;
    ret->availability = availability(c, needed, spares);
    /* No number of machines is more available than their site. */
    if (c->target > 0 && c->machine->has_availability && with_site(c, 1) > c->target) {
        double more = spares, reached = ret->availability;
        while (reached < c->target && more < SRN_ADVISE_MOST_SPARES)
            reached = availability(c, needed, ++more);
        if (reached >= c->target) spares = more, ret->availability = reached;
    }
    double all = needed + spares;
    ret->spares = spares;
    ret->reaches = c->target <= 0 || (c->machine->has_availability && ret->availability >= c->target);
    ret->capital = all * v[SRN_ASSUME_PURCHASE] * (1 - v[SRN_ASSUME_RESALE]) / (12 * v[SRN_ASSUME_LIFE]);
    ret->hosting = all * v[SRN_ASSUME_HOSTING];
    ret->kwh_idle = all * v[SRN_ASSUME_WATTS_IDLE] * SRN__MONTH_S / JOULES_KWH;
    ret->staff = v[SRN_ASSUME_STAFF_HOURS] * v[SRN_ASSUME_STAFF_PRICE];
}

double srn__machine_seconds(const srn_case *c, const double v[SRN_ASSUME_END]) {
    const srn_mix *m = c->mix;
    return v[SRN_ASSUME_ESTIMATE] *
           ((m->input - m->cached) / v[SRN_ASSUME_PREFILL_RATE] + m->output / v[SRN_ASSUME_DECODE_RATE]);
}

/* Of independent calls that are `mean` at once, 95 of 100 find no more. */
static double poisson_p95(double mean) {
    return mean + POISSON_P95 * sqrt(mean);
}

/* Answers at once that 95 of 100 calls find, themselves included, at `volume` times the calls a month. Where
 * they were counted, more and longer calls add to the count what they would add among independent ones, and
 * at least their share of what was found. */
static double slots_of(const srn_case *c, const double *v, double volume) {
    const srn_mix *m = c->mix;
    double seconds =
        v[SRN_ASSUME_ESTIMATE] * ((m->input - m->cached) / v[SRN_ASSUME_PREFILL_RATE] +
                                  m->output * v[SRN_ASSUME_PARALLEL] / v[SRN_ASSUME_DECODE_RATE]);
    if (m->seconds <= 0) return SRN_MAX(1, poisson_p95(m->calls_per_month * volume / SRN__MONTH_S * seconds));
    double s = m->more * volume * (c->machine->capacity.source == SRN_FACT_NONE ? 1 : seconds / m->seconds);
    double share = 1 + (m->in_flight_p95 - 1) * s, at_once = m->in_flight_mean;
    return SRN_MAX(1, SRN_MAX(share, m->in_flight_p95 + poisson_p95(at_once * s) - poisson_p95(at_once)));
}

void srn_local_cost_of(const srn_case *c, const double v[SRN_ASSUME_END], srn_local_cost *ret) {
    const srn_mix *m = c->mix;
    double calls = m->calls_per_month * v[SRN_ASSUME_VOLUME], per_s = calls / SRN__MONTH_S;
    double tokens = calls * v[SRN_ASSUME_ESTIMATE];
    *ret = (srn_local_cost){.slots = slots_of(c, v, v[SRN_ASSUME_VOLUME])};
    double mean_load = per_s * srn__machine_seconds(c, v);
    ret->load = mean_load * m->burst;
    ret->by_slots = ceil(ret->slots / v[SRN_ASSUME_PARALLEL] - ROUNDING);
    ret->by_load = ceil(ret->load / v[SRN_ASSUME_UTILISATION] - ROUNDING);
    srn__fleet_of(c, v, SRN_MAX(1, SRN_MAX(ret->by_slots, ret->by_load)), ret);
    ret->busy = mean_load / ret->needed;
    ret->kwh_prefill = tokens * (m->input - m->cached) * v[SRN_ASSUME_PREFILL_JOULES] / JOULES_KWH;
    ret->kwh_decode = tokens * m->output * v[SRN_ASSUME_DECODE_JOULES] / JOULES_KWH;
    ret->energy =
        (ret->kwh_idle + ret->kwh_prefill + ret->kwh_decode) * v[SRN_ASSUME_PUE] * v[SRN_ASSUME_KWH];
    if (c->fallback) {
        srn_cloud_cost cloud;
        srn_cloud_cost_of(c, v, &cloud);
        double own = c->costs->site.low * srn_fleet_availability(c->machine->availability.low, ret->needed,
                                                                 ret->needed + ret->spares);
        ret->fallback = (1 - own) * cloud.total;
    }
    ret->total = ret->capital + ret->hosting + ret->energy + ret->staff + ret->fallback;
}

/* The most volume, as a factor, that n machines carry. */
static double volume_of(const srn_case *c, const double *v, double load, double n) {
    double low = 0, high = n * v[SRN_ASSUME_UTILISATION] / load;
    double most = n * v[SRN_ASSUME_PARALLEL] * (1 + ROUNDING);
    if (slots_of(c, v, high) <= most) return high;
    for (int i = 0; i < BISECTIONS; i++) {
        double mid = (low + high) / 2;
        if (slots_of(c, v, mid) <= most)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* The cost of n machines rises with the volume from what they cost idle, up to the volume at which n + 1 are
 * needed; the cloud's rises from nothing. The first crossing counts. */
double srn_case_break_even(const srn_case *c) {
    double v[SRN_ASSUME_END], before = 0;
    srn_local_cost now;
    srn_cloud_cost cloud;
    srn__case_middle(c, v);
    srn_local_cost_of(c, v, &now);
    srn_cloud_cost_of(c, v, &cloud);
    double rate = v[SRN_ASSUME_PUE] * v[SRN_ASSUME_KWH], tokens = (now.kwh_prefill + now.kwh_decode) * rate;
    if (cloud.total <= tokens || now.load <= 0) return INFINITY;
    for (double n = 1; n <= MOST_TRIED; n++) {
        srn_local_cost fleet = {.needed = n};
        srn__fleet_of(c, v, n, &fleet);
        double own = 1;
        if (c->fallback)
            own = c->costs->site.low *
                  srn_fleet_availability(c->machine->availability.low, n, n + fleet.spares);
        double fixed = fleet.capital + fleet.hosting + fleet.kwh_idle * rate + fleet.staff;
        double saved = cloud.total * own - tokens, end = volume_of(c, v, now.load, n);
        double at = SRN_MAX(saved > 0 ? fixed / saved : INFINITY, before);
        if (at <= end) return at * c->mix->calls_per_month;
        before = end;
    }
    return INFINITY;
}
