/* Costs to advice: all options of each route, of all routes together, and of the best division of routes
 * between machines and cloud; privacy as a veto, availability as a constraint. Pure; any thread. Refuses
 * targets that nothing reaches by their nature, files in two currencies and machines of which nothing says
 * what they can do.
 */
#include <math.h>
#include <stdlib.h>

#include "hardware/advise_internal.h"

const char *srn_option_kind_name(srn_option_kind k) {
    static const char *const names[] = {"cloud", "local", "local, cloud as fallback"};
    return names[k];
}

const char *srn_advise_verdict_name(srn_advise_verdict v) {
    static const char *const names[] = {"local", "cloud", "unknown", "none"};
    return names[v];
}

/* ---- options ---- */

static srn_option cloud_option(const srn_case *c, bool local_only) {
    srn_option o = {.kind = SRN_OPTION_CLOUD, .at = *c, .cost = srn_cloud_estimate(c), .vetoed = local_only};
    double v[SRN_ASSUME_END];
    srn__case_middle(c, v);
    srn_cloud_cost_of(c, v, &o.cloud);
    if (c->offer->has_availability) o.availability = c->offer->availability;
    o.reaches = c->target <= 0 || o.availability.low >= c->target;
    return o;
}

static srn_option local_option(const srn_case *c) {
    srn_option o = {.kind = c->fallback ? SRN_OPTION_FALLBACK : SRN_OPTION_LOCAL,
                    .at = *c,
                    .cost = srn_local_estimate(c)};
    double v[SRN_ASSUME_END];
    srn__case_middle(c, v);
    srn_local_cost_of(c, v, &o.local);
    o.reaches = o.local.reaches;
    if (!c->machine->has_availability) return o;
    double up = c->costs->site.high * srn_fleet_availability(c->machine->availability.high, o.local.needed,
                                                             o.local.needed + o.local.spares);
    if (c->fallback) up = 1 - (1 - up) * (1 - c->offer->availability.high);
    o.availability = (srn_bounds){o.local.availability, up};
    return o;
}

/* The cheapest that reaches the target, else the cheapest of which it is known how often it is up. */
static bool is_better(const srn_option *a, const srn_option *b) {
    if (!b) return true;
    bool known = a->availability.high > 0, other = b->availability.high > 0;
    if (a->reaches != b->reaches) return a->reaches;
    return a->at.target > 0 && known != other ? known : a->cost.mid < b->cost.mid;
}

static const srn_option *best_of(const srn_route_advice *r, bool cloud) {
    const srn_option *best = NULL;
    for (uint32_t i = 0; i < r->n_options; i++)
        if ((r->options[i].kind == SRN_OPTION_CLOUD) == cloud && is_better(&r->options[i], best))
            best = &r->options[i];
    return best;
}

static int find_options(const srn_advise_opts *o, srn_route_advice *r, srn_err *err) {
    const srn_costs *costs = o->costs;
    size_t most = o->prices->n + (costs ? 2 * (size_t)costs->n : 0);
    r->options = srn_calloc(most, sizeof *r->options);
    if (!r->options) return srn_fail_nomem(err, most * sizeof *r->options);
    srn_case c = {.mix = &r->mix, .target = o->target};
    for (uint32_t i = 0; i < o->prices->n; i++) {
        c.offer = &o->prices->offers[i];
        r->options[r->n_options++] = cloud_option(&c, r->mix.local_only);
    }
    r->cloud = best_of(r, true);
    bool behind = o->target > 0 && !r->mix.local_only && r->cloud->at.offer->has_availability;
    for (uint32_t i = 0; costs && i < costs->n; i++) {
        c = (srn_case){.mix = &r->mix, .machine = &costs->machines[i], .costs = costs, .target = o->target};
        r->options[r->n_options++] = local_option(&c);
        c.offer = r->cloud->at.offer;
        c.fallback = true;
        if (behind && c.machine->has_availability) r->options[r->n_options++] = local_option(&c);
    }
    r->local = best_of(r, false);
    return SRN_OK;
}

/* ---- verdicts ---- */

static bool overlap(srn_bounds a, srn_bounds b) {
    return a.low <= b.high && b.low <= a.high;
}

static void decide(srn_route_advice *r) {
    const srn_option *cloud = r->cloud, *local = r->local;
    r->break_even = NAN;
    r->veto = r->mix.local_only;
    r->veto_price = local ? local->cost.mid - cloud->cost.mid : NAN;
    if (r->veto)
        r->verdict = !local || local->reaches ? SRN_ADVISE_LOCAL : SRN_ADVISE_NONE;
    else if (!local)
        r->verdict = SRN_ADVISE_UNKNOWN;
    else if (!local->reaches && !cloud->reaches)
        r->verdict = SRN_ADVISE_NONE;
    else if (local->reaches != cloud->reaches)
        r->verdict = local->reaches ? SRN_ADVISE_LOCAL : SRN_ADVISE_CLOUD;
    else
        r->verdict = local->cost.mid < cloud->cost.mid ? SRN_ADVISE_LOCAL : SRN_ADVISE_CLOUD;
    r->clear =
        r->veto ||
        (local && (local->reaches != cloud->reaches || !overlap(local->cost.range, cloud->cost.range)));
    srn_case c = cloud->at;
    if (local) {
        c = local->at;
        c.offer = cloud->at.offer;
        r->break_even = srn_case_break_even(&c);
    }
    r->n_swings = srn_case_swings(&c, r->swings, SRN_ADVISE_SWINGS);
}

/* A machine without a capacity of its own is the one that answered. */
static int check_capacity(const srn_advise_opts *o, const srn_mix *m, srn_err *err) {
    for (uint32_t i = 0; o->costs && i < o->costs->n; i++) {
        const srn_owned *k = &o->costs->machines[i];
        if (k->capacity.source == SRN_FACT_NONE && m->measured.source == SRN_FACT_NONE)
            return srn_fail(err, SRN_EFORMAT,
                            "the machine '%.63s' (line %u of the costs) has no capacity, and these calls "
                            "have no times to "
                            "measure one by; give capacity: {prefill_tok_per_s, decode_tok_per_s, parallel}",
                            k->name, k->line);
    }
    return SRN_OK;
}

/* All routes are answered by one machine: what it did at once for all of them it can do for each. */
static void share_capacity(srn_mix *m, const srn_capacity *all) {
    if (m->measured.source == SRN_FACT_NONE && all) m->measured = *all;
    if (all) m->measured.parallel = all->parallel;
}

static int advise_on(const srn_advise_opts *o, const char *name, const bool *of, srn_route_advice *r,
                     const srn_capacity *all, srn_err *err) {
    int code = srn_mix_of(o->traffic, of, &r->mix, err);
    if (code) return code;
    r->route = name;
    share_capacity(&r->mix, all);
    code = check_capacity(o, &r->mix, err);
    if (!code) code = find_options(o, r, err);
    if (!code) decide(r);
    return code;
}

/* ---- the split ---- */

/* The cheapest fleet for those routes; 0 and no machine where there are none. */
static int fleet_cost(const srn_advise_opts *o, const bool *of, const srn_capacity *measured, double *ret,
                      const srn_owned **ret_machine, srn_err *err) {
    srn_mix m;
    bool any = false;
    *ret = 0;
    *ret_machine = NULL;
    for (uint32_t i = 0; i < o->traffic->n_routes; i++) any = any || of[i];
    if (!any) return SRN_OK;
    int code = srn_mix_of(o->traffic, of, &m, err);
    if (code) return code;
    share_capacity(&m, measured);
    bool reached = false;
    for (uint32_t i = 0; i < o->costs->n; i++) {
        srn_case c = {.mix = &m, .machine = &o->costs->machines[i], .costs = o->costs, .target = o->target};
        double v[SRN_ASSUME_END];
        srn_local_cost cost;
        srn__case_middle(&c, v);
        srn_local_cost_of(&c, v, &cost);
        bool better = !*ret_machine || (cost.reaches != reached ? cost.reaches : cost.total < *ret);
        if (!better) continue;
        *ret = cost.total;
        *ret_machine = c.machine;
        reached = cost.reaches;
    }
    srn_mix_done(&m);
    return SRN_OK;
}

/* What the cloud charges for a second of a machine's work: routes with the most come to the machines first.
 */
static double worth(const srn_route_advice *r) {
    double v[SRN_ASSUME_END];
    srn__case_middle(&r->local->at, v);
    return r->cloud->cost.mid / (r->mix.calls_per_month * srn__machine_seconds(&r->local->at, v));
}

/* Privacy, or the target, which only machines reach. */
static bool must_be_local(const srn_route_advice *r) {
    return r->mix.local_only || (!r->cloud->reaches && r->local->reaches);
}

static void order_routes(const srn_advise *a, uint32_t *order) {
    double w[SRN_ADVISE_MOST_ROUTES];
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t at = i;
        w[i] = must_be_local(&a->routes[i]) ? INFINITY : worth(&a->routes[i]);
        while (at > 0 && w[order[at - 1]] < w[i]) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}

static int find_split(const srn_advise_opts *o, srn_advise *a, srn_err *err) {
    uint32_t order[SRN_ADVISE_MOST_ROUTES] = {0}, forced = 0;
    bool of[SRN_ADVISE_MOST_ROUTES] = {false};
    order_routes(a, order);
    for (uint32_t i = 0; i < a->n; i++) forced += must_be_local(&a->routes[i]);
    a->split = (srn_split){.cost = INFINITY, .all_cloud = INFINITY};
    for (uint32_t k = 0; k <= a->n; k++) {
        const srn_owned *machine;
        double cost;
        if (k) of[order[k - 1]] = true;
        if (k < forced) continue;
        int code = fleet_cost(o, of, &a->total.mix.measured, &cost, &machine, err);
        if (code) return code;
        for (uint32_t i = 0; i < a->n; i++) cost += of[i] ? 0 : a->routes[i].cloud->cost.mid;
        if (k == 0) a->split.all_cloud = cost;
        if (k == a->n) a->split.all_local = cost;
        if (cost >= a->split.cost) continue;
        a->split.cost = cost;
        a->split.machine = machine;
        memcpy(a->split.local, of, sizeof of);
    }
    a->has_split = true;
    return SRN_OK;
}

/* ---- all of it ---- */

static int advise_all(const srn_advise_opts *o, srn_advise *a, srn_err *err) {
    const srn_advise_traffic *t = o->traffic;
    int code = advise_on(o, "all", NULL, &a->total, NULL, err);
    if (code) return code;
    a->routes = srn_calloc(t->n_routes, sizeof *a->routes);
    if (!a->routes) return srn_fail_nomem(err, t->n_routes * sizeof *a->routes);
    for (uint32_t i = 0; !code && i < t->n_routes; i++) {
        bool of[SRN_ADVISE_MOST_ROUTES] = {false};
        of[i] = true;
        code = advise_on(o, t->routes[i].name, of, &a->routes[i], &a->total.mix.measured, err);
        a->n++;
    }
    return !code && o->costs && a->n > 1 ? find_split(o, a, err) : code;
}

int srn_advise_make(const srn_advise_opts *o, srn_advise *ret, srn_err *err) {
    *ret = (srn_advise){.n = 0};
    if (!(o->target >= 0) || o->target >= 1)
        return srn_fail(err, SRN_EINVAL,
                        "an availability of %.10g %% cannot be reached: everything is down at some time; ask "
                        "for less than 100 %%",
                        100 * o->target);
    if (o->costs && strcmp(o->costs->currency, o->prices->currency) != 0)
        return srn_fail(err, SRN_EFORMAT, "prices are in %s and costs in %s; write both in one currency",
                        o->prices->currency, o->costs->currency);
    int code = advise_all(o, ret, err);
    if (code) srn_advise_done(ret);
    return code;
}

static void route_done(srn_route_advice *r) {
    srn_mix_done(&r->mix);
    free(r->options);
}

void srn_advise_done(srn_advise *a) {
    for (uint32_t i = 0; i < a->n; i++) route_done(&a->routes[i]);
    route_done(&a->total);
    free(a->routes);
    *a = (srn_advise){.n = 0};
}
