/* serin advise: advice as sentences, the same for the terminal and the report. A line is "label<TAB>text".
 * Main thread.
 */
#include <math.h>

#include "cli/advise.h"

void srn__advise_money(double v, srn_buf *ret) {
    double a = fabs(v);
    srn_buf_addf(ret, a == 0 ? "%.0f" : a < 0.01 ? "%.2g" : a < 100 ? "%.2f" : "%.0f", v);
}

void srn__advise_money_range(srn_bounds v, srn_buf *ret) {
    srn__advise_money(v.low, ret);
    if (v.low == v.high) return;
    srn_buf_addz(ret, " to ");
    srn__advise_money(v.high, ret);
}

void srn__advise_count(double v, srn_buf *ret) {
    if (v < 100)
        srn_buf_addf(ret, "%.3g", v);
    else if (v < 1e6)
        srn_buf_addf(ret, "%.0f", v);
    else
        srn_buf_addf(ret, v < 1e9 ? "%.2fM" : "%.2fG", v < 1e9 ? v / 1e6 : v / 1e9);
}

void srn__advise_option_name(const srn_option *o, srn_buf *ret) {
    if (o->kind == SRN_OPTION_CLOUD)
        srn_buf_addf(ret, "%s/%s", o->at.offer->provider, o->at.offer->model);
    else
        srn_buf_addf(ret, "%.0f x %s%s", o->local.needed + o->local.spares, o->at.machine->name,
                     o->kind == SRN_OPTION_FALLBACK ? " + cloud" : "");
}

const char *srn__advise_route_name(const srn_route_advice *r) {
    return *r->route ? r->route : "(no route)";
}

static void money(const srn__advise *c, double v, srn_buf *b) {
    srn__advise_money(v, b);
    srn_buf_addf(b, " %s", c->prices.currency);
}

/* ---- what the traffic is ---- */

void srn__advise_head(const srn__advise *c, srn_buf *b) {
    const srn_mix *m = &c->a.total.mix;
    srn_buf_addf(b, "%zu calls", m->n);
    if (m->span_days > 0) srn_buf_addf(b, " in %.3g days", m->span_days);
    srn_buf_addz(b, ", ");
    srn__advise_count(m->calls_per_month, b);
    srn_buf_addf(b, " a month%s; prices of %s in %s",
                 c->calls_per_day > 0 ? " as --calls-per-day has it" : "", c->prices.date,
                 c->prices.currency);
    if (c->o.costs) srn_buf_addf(b, ", costs of %s", c->costs.date);
    if (m->span_days > 0 && m->span_days < 7 && c->calls_per_day <= 0)
        srn_buf_addz(b, ". Less than a week was watched: a month of it is a guess");
}

static void traffic_words(const srn_mix *m, srn_buf *b) {
    srn_buf_addf(b, "traffic\t%s", srn_mix_shape_name(m->shape));
    if (m->pace != SRN_MIX_PACE_UNKNOWN)
        srn_buf_addf(b, ", %s (of its %ss, the p95 is %.2g times the mean)", srn_mix_pace_name(m->pace),
                     m->window, m->burst);
    srn_buf_addf(b, ": prompts of %u tokens (p95 %u), answers of %u (p95 %u), %.0f %% of the input cached",
                 m->prompt_p50, m->prompt_p95, m->output_p50, m->output_p95,
                 m->input > 0 ? 100 * m->cached / m->input : 0);
    if (m->estimated > 0)
        srn_buf_addf(b, "; of %.0f %% of the calls the tokens are guessed from bytes", 100 * m->estimated);
    srn_buf_addc(b, '\n');
    if (m->seconds > 0)
        srn_buf_addf(
            b, "at once\t%.3g in the mean (a call takes %.3g s), %.3g for 95 %% of the calls, %.3g at most\n",
            m->in_flight_mean, m->seconds, m->in_flight_p95, m->in_flight_max);
}

/* ---- the verdict ---- */

static void verdict_words(const srn__advise *c, const srn_route_advice *r, srn_buf *b) {
    double less = r->local ? r->cloud->cost.mid - r->local->cost.mid : 0;
    srn_buf_addz(b, "verdict\t");
    switch (r->verdict) {
    case SRN_ADVISE_LOCAL:
    case SRN_ADVISE_CLOUD:
        srn_buf_addf(b, "%s", srn_advise_verdict_name(r->verdict));
        if (r->veto) {
            srn_buf_addz(b, ": its calls may not leave the machine");
        } else if (r->local->reaches != r->cloud->reaches) {
            srn_buf_addz(b, ": the other does not reach the availability");
        } else {
            srn_buf_addz(b, ", by ");
            money(c, fabs(less), b);
            srn_buf_addf(b, " a month (%s)",
                         r->clear ? "clear: the ranges do not meet"
                                  : "it leans that way: the ranges overlap");
        }
        break;
    case SRN_ADVISE_UNKNOWN:
        srn_buf_addz(
            b, "unknown: --hardware costs.yaml says what machines cost; they pay if they cost less than ");
        money(c, r->cloud->cost.mid, b);
        srn_buf_addz(b, " a month");
        break;
    case SRN_ADVISE_NONE:
        srn_buf_addf(b, "none: nothing that is allowed reaches %.6g %%", 100 * c->o.target);
        break;
    }
    srn_buf_addc(b, '\n');
    if (!r->veto || !r->local) return;
    srn_buf_addz(b, "privacy\t");
    if (r->veto_price > 0) {
        srn_buf_addz(b, "the veto costs ");
        money(c, r->veto_price, b);
        srn_buf_addz(b, " a month: ");
    } else {
        srn_buf_addz(b, "the veto costs nothing: ");
    }
    srn__advise_option_name(r->cloud, b);
    srn_buf_addz(b, " would have cost ");
    srn__advise_money(r->cloud->cost.mid, b);
    srn_buf_addz(b, " (");
    srn__advise_money_range(r->cloud->cost.range, b);
    srn_buf_addz(b, ")\n");
}

/* ---- what it rests on ---- */

typedef struct part {
    const char *name;
    double money;
} part;

static part greatest(const part *p, size_t n) {
    part best = p[0];
    for (size_t i = 1; i < n; i++)
        if (p[i].money > best.money) best = p[i];
    return best;
}

/* Where most of the money goes on both sides, which is what the mix of tokens decides. */
static void why_words(const srn_route_advice *r, srn_buf *b) {
    const srn_cloud_cost *k = &r->cloud->cloud;
    const part cloud[] = {{"input", k->money[SRN_PRICE_INPUT]},
                          {"reads of its cache", k->money[SRN_PRICE_CACHED_READ]},
                          {"writes to its cache", k->money[SRN_PRICE_CACHED_WRITE]},
                          {"output", k->money[SRN_PRICE_OUTPUT]}};
    part most = greatest(cloud, SRN_LEN(cloud));
    double before_batch = k->total + k->batch;
    srn_buf_addf(b, "why\tof the cloud's cost %.0f %% is %s",
                 before_batch > 0 ? 100 * most.money / before_batch : 0, most.name);
    if (r->local) {
        const srn_local_cost *l = &r->local->local;
        const part local[] = {{"the machines", l->capital + l->hosting},
                              {"energy", l->energy},
                              {"staff", l->staff},
                              {"what the cloud answers meanwhile", l->fallback}};
        most = greatest(local, SRN_LEN(local));
        srn_buf_addf(b,
                     ", of the local one %.0f %% is %s; machines that must run compute %.2g %% of their time",
                     l->total > 0 ? 100 * most.money / l->total : 0, most.name, 100 * l->busy);
    }
    srn_buf_addc(b, '\n');
}

static void swing_words(const srn__advise *c, const srn_route_advice *r, uint32_t i, srn_buf *b) {
    const srn_swing *s = &r->swings[i];
    srn_buf_addf(b, "%s\t%s, %.4g to %.4g%s%s: ", i ? "also" : "largest uncertainty",
                 srn_assumption_name(s->assumption), s->range.low, s->range.high,
                 *srn_assumption_unit(s->assumption) ? " " : "", srn_assumption_unit(s->assumption));
    srn_buf_addz(b, r->local ? "local less cloud from " : "the cloud's cost from ");
    srn__advise_money(s->at_low, b);
    srn_buf_addz(b, " to ");
    money(c, s->at_high, b);
    srn_buf_addz(b, s->flips && !r->veto ? ", which turns the verdict\n" : "\n");
}

static void uncertainty_words(const srn__advise *c, const srn_route_advice *r, srn_buf *b) {
    for (uint32_t i = 0; i < r->n_swings; i++) swing_words(c, r, i, b);
    if (!r->n_swings)
        srn_buf_addz(b, "largest uncertainty\tnone that is known: no figure was given as a range, though "
                        "prices and volumes have one\n");
    if (isnan(r->break_even)) return;
    srn_buf_addz(b, "break-even\t");
    if (!isfinite(r->break_even)) {
        srn_buf_addz(b, "never: at no volume of this mix do machines cost less than the cloud\n");
        return;
    }
    srn_buf_addz(b, "from ");
    srn__advise_count(r->break_even, b);
    srn_buf_addz(b, " calls a month of this mix on, machines cost no more than the cloud; there are ");
    srn__advise_count(r->mix.calls_per_month, b);
    srn_buf_addc(b, '\n');
}

static void availability_words(const srn__advise *c, const srn_option *o, srn_buf *b) {
    if (!o || c->o.target <= 0) return;
    srn_buf_addz(b, "availability\t");
    srn__advise_option_name(o, b);
    if (o->availability.high > 0)
        srn_buf_addf(b, ": %.6g %% to %.6g %%", 100 * o->availability.low, 100 * o->availability.high);
    else
        srn_buf_addz(b, ": the file does not say");
    srn_buf_addf(b, ", %s the %.6g %% asked for", o->reaches ? "which reaches" : "which DOES NOT reach",
                 100 * c->o.target);
    if (o->kind != SRN_OPTION_CLOUD && o->local.spares > 0)
        srn_buf_addf(b, ", with %.0f spare beside the %.0f that must run", o->local.spares, o->local.needed);
    if (o->kind == SRN_OPTION_LOCAL && !o->reaches && o->at.costs->site.low <= c->o.target)
        srn_buf_addf(b, "; no number of machines does, for their site is up %.6g %% itself",
                     100 * o->at.costs->site.low);
    srn_buf_addc(b, '\n');
}

/* ---- formulas with their numbers ---- */

static void explain_cloud(const srn__advise *c, const srn_route_advice *r, srn_buf *b) {
    static const char *const names[SRN_PRICE_END] = {"input", "cached reads", "cached writes", "output"};
    const srn_option *o = r->cloud;
    for (int p = 0; p < SRN_PRICE_END; p++) {
        if (o->cloud.tokens[p] <= 0) continue;
        srn_buf_addf(b, "cloud, %s\t%.4g million of the provider's tokens x %.4g a million = ", names[p],
                     o->cloud.tokens[p] / 1e6, o->cloud.money[p] / o->cloud.tokens[p] * 1e6);
        money(c, o->cloud.money[p], b);
        srn_buf_addc(b, '\n');
    }
    if (o->cloud.batch > 0) {
        srn_buf_addz(b, "cloud, batch\tless the discount: ");
        money(c, -o->cloud.batch, b);
        srn_buf_addc(b, '\n');
    }
    srn_buf_addz(b, "cloud, in all\t");
    money(c, o->cloud.total, b);
    srn_buf_addf(b, " a month, by %s/%s: prices of %s, %s\n", o->at.offer->provider, o->at.offer->model,
                 o->at.offer->date, o->at.offer->source);
}

static void explain_fleet(const srn_option *o, const srn_bounds *r, srn_buf *b) {
    const srn_local_cost *l = &o->local;
    const srn_capacity *can =
        o->at.machine->capacity.source == SRN_FACT_NONE ? &o->at.mix->measured : &o->at.machine->capacity;
    srn_buf_addf(b,
                 "local, machines\t%.4g answers at once (p95) / %.4g of a machine = %.0f, and %.4g machines' "
                 "work at the peak / %.3g that may "
                 "be busy = %.0f; the greater one, %.0f, and %.0f spare\n",
                 l->slots, srn_bounds_mid(r[SRN_ASSUME_PARALLEL]), l->by_slots, l->load,
                 srn_bounds_mid(r[SRN_ASSUME_UTILISATION]), l->by_load, l->needed, l->spares);
    srn_buf_addf(b,
                 "local, capacity\t%s: prefill %.4g tok/s, decode %.4g tok/s in all; the machines compute "
                 "%.3g %% of their time\n",
                 srn_advise_source_name(can->source), srn_bounds_mid(can->prefill_tok_per_s),
                 srn_bounds_mid(can->decode_tok_per_s), 100 * l->busy);
}

static void explain_local(const srn__advise *c, const srn_route_advice *route, srn_buf *b) {
    const srn_option *o = route->local;
    const srn_local_cost *l = &o->local;
    srn_bounds r[SRN_ASSUME_END];
    srn_case_ranges(&o->at, r);
    double n = l->needed + l->spares;
    explain_fleet(o, r, b);
    srn_buf_addf(b, "local, capital\t%.0f machines x %.6g x (1 - %.3g resale) / %.3g years / 12 = ", n,
                 srn_bounds_mid(r[SRN_ASSUME_PURCHASE]), srn_bounds_mid(r[SRN_ASSUME_RESALE]),
                 srn_bounds_mid(r[SRN_ASSUME_LIFE]));
    money(c, l->capital, b);
    srn_buf_addf(
        b, "\nlocal, energy\t(%.4g kWh idle + %.4g in prefill + %.4g in decode) x PUE %.3g x %.4g a kWh = ",
        l->kwh_idle, l->kwh_prefill, l->kwh_decode, srn_bounds_mid(r[SRN_ASSUME_PUE]),
        srn_bounds_mid(r[SRN_ASSUME_KWH]));
    money(c, l->energy, b);
    srn_buf_addf(b, "\nlocal, staff\t%.3g hours x %.4g = ", srn_bounds_mid(r[SRN_ASSUME_STAFF_HOURS]),
                 srn_bounds_mid(r[SRN_ASSUME_STAFF_PRICE]));
    money(c, l->staff, b);
    if (l->hosting > 0) {
        srn_buf_addf(b, "\nlocal, hosting\t%.0f machines x %.4g = ", n,
                     srn_bounds_mid(r[SRN_ASSUME_HOSTING]));
        money(c, l->hosting, b);
    }
    if (o->kind == SRN_OPTION_FALLBACK) {
        srn_buf_addf(b, "\nlocal, fallback\twhat %s/%s answers while too few machines run = ",
                     o->at.offer->provider, o->at.offer->model);
        money(c, l->fallback, b);
    }
    srn_buf_addz(b, "\nlocal, in all\t");
    money(c, l->total, b);
    srn_buf_addz(b, " a month\n");
}

/* ---- all of it ---- */

void srn__advise_words(const srn__advise *c, const srn_route_advice *r, bool explain, srn_buf *b) {
    verdict_words(c, r, b);
    traffic_words(&r->mix, b);
    why_words(r, b);
    uncertainty_words(c, r, b);
    availability_words(c, r->cloud, b);
    availability_words(c, r->local, b);
    if (!explain) return;
    explain_cloud(c, r, b);
    if (r->local) explain_local(c, r, b);
}

void srn__advise_split_words(const srn__advise *c, srn_buf *b) {
    const srn_split *s = &c->a.split;
    for (int local = 1; local >= 0; local--) {
        bool any = false;
        for (uint32_t i = 0; i < c->a.n; i++) {
            if (s->local[i] != (bool)local) continue;
            srn_buf_addf(b, "%s%s",
                         any     ? ", "
                         : local ? "best split\tlocal: "
                                 : "; cloud: ",
                         srn__advise_route_name(&c->a.routes[i]));
            any = true;
        }
        if (!any) srn_buf_addz(b, local ? "best split\tlocal: none" : "; cloud: none");
    }
    srn_buf_addz(b, "; ");
    money(c, s->cost, b);
    srn_buf_addz(b, " a month, against ");
    srn__advise_money(s->all_local, b);
    srn_buf_addz(b, " with all of them local");
    if (isfinite(s->all_cloud)) {
        srn_buf_addz(b, " and ");
        srn__advise_money(s->all_cloud, b);
        srn_buf_addz(b, " with all in the cloud");
    } else {
        srn_buf_addz(b, "; privacy or the availability forbids all in the cloud");
    }
    srn_buf_addc(b, '\n');
}
