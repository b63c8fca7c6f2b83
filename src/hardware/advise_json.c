/* Advice as JSON, with every figure it rests on; docs/advise.md lists the fields. Pure; any thread. */
#include <math.h>

#include "hardware/advise_internal.h"

static json_t *number(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *range_json(srn_bounds r) {
    return json_pack("[o, o]", number(r.low), number(r.high));
}

static json_t *known_range(srn_bounds r) {
    return r.high > 0 ? range_json(r) : json_null();
}

static json_t *estimate_json(srn_estimate e) {
    return json_pack("{s:o, s:o}", "mid", number(e.mid), "range", range_json(e.range));
}

static json_t *capacity_json(const srn_capacity *c) {
    if (c->source == SRN_FACT_NONE) return json_null();
    return json_pack("{s:s, s:o, s:o, s:o}", "source", srn_advise_source_name(c->source), "prefill_tok_per_s",
                     range_json(c->prefill_tok_per_s), "decode_tok_per_s", range_json(c->decode_tok_per_s),
                     "parallel", range_json(c->parallel));
}

static json_t *mix_json(const srn_mix *m) {
    json_t *tokens =
        json_pack("{s:f, s:f, s:f, s:i, s:i, s:i, s:i, s:f, s:f}", "input", m->input, "cached", m->cached,
                  "output", m->output, "prompt_p50", (int)m->prompt_p50, "prompt_p95", (int)m->prompt_p95,
                  "output_p50", (int)m->output_p50, "output_p95", (int)m->output_p95, "cached_share",
                  m->input > 0 ? m->cached / m->input : 0, "estimated_share", m->estimated);
    json_t *flight = json_pack("{s:f, s:f, s:f, s:f}", "mean", m->in_flight_mean, "p50", m->in_flight_p50,
                               "p95", m->in_flight_p95, "max", m->in_flight_max);
    return json_pack("{s:I, s:f, s:f, s:f, s:o, s:o, s:s, s:f, s:f, s:o, s:s, s:s, s:b, s:b, s:o}", "calls",
                     (json_int_t)m->n, "span_days", m->span_days, "calls_per_day",
                     m->calls_per_month / SRN_MONTH_DAYS, "calls_per_month", m->calls_per_month, "volume",
                     range_json(m->volume), "tokens", tokens, "window", m->window, "burst", m->burst,
                     "seconds", m->seconds, "in_flight",
                     m->seconds > 0 ? flight : (json_decref(flight), json_null()), "shape",
                     srn_mix_shape_name(m->shape), "pace", srn_mix_pace_name(m->pace), "local_only",
                     m->local_only, "batch", m->batch, "measured", capacity_json(&m->measured));
}

static json_t *cloud_json(const srn_cloud_cost *c) {
    static const char *const names[SRN_PRICE_END] = {"input", "cached_read", "cached_write", "output"};
    json_t *tokens = json_object(), *money = json_object();
    for (int p = 0; p < SRN_PRICE_END; p++) {
        json_object_set_new(tokens, names[p], number(c->tokens[p]));
        json_object_set_new(money, names[p], number(c->money[p]));
    }
    return json_pack("{s:o, s:o, s:f, s:f}", "tokens", tokens, "money", money, "batch_discount", c->batch,
                     "total", c->total);
}

static json_t *local_json(const srn_local_cost *l) {
    const struct {
        const char *name;
        double v;
    } all[] = {{"slots", l->slots},
               {"load", l->load},
               {"machines_by_slots", l->by_slots},
               {"machines_by_load", l->by_load},
               {"machines", l->needed},
               {"spares", l->spares},
               {"busy", l->busy},
               {"kwh_idle", l->kwh_idle},
               {"kwh_prefill", l->kwh_prefill},
               {"kwh_decode", l->kwh_decode},
               {"capital", l->capital},
               {"hosting", l->hosting},
               {"energy", l->energy},
               {"staff", l->staff},
               {"fallback", l->fallback},
               {"total", l->total}};
    json_t *o = json_object();
    for (size_t i = 0; i < SRN_LEN(all); i++) json_object_set_new(o, all[i].name, number(all[i].v));
    return o;
}

static json_t *option_json(const srn_option *o) {
    json_t *j = json_pack("{s:s, s:o, s:o, s:b, s:b}", "kind", srn_option_kind_name(o->kind), "cost",
                          estimate_json(o->cost), "availability", known_range(o->availability), "reaches",
                          o->reaches, "vetoed", o->vetoed);
    if (o->at.offer) {
        json_object_set_new(j, "provider", json_string(o->at.offer->provider));
        json_object_set_new(j, "model", json_string(o->at.offer->model));
        json_object_set_new(j, "prices_date", json_string(o->at.offer->date));
        json_object_set_new(j, "prices_source", json_string(o->at.offer->source));
    }
    if (o->kind == SRN_OPTION_CLOUD) {
        json_object_set_new(j, "parts", cloud_json(&o->cloud));
        return j;
    }
    const srn_capacity *given = &o->at.machine->capacity;
    json_object_set_new(j, "machine", json_string(o->at.machine->name));
    json_object_set_new(j, "capacity",
                        capacity_json(given->source == SRN_FACT_NONE ? &o->at.mix->measured : given));
    json_object_set_new(j, "parts", local_json(&o->local));
    return j;
}

static json_t *swing_json(const srn_swing *s) {
    return json_pack("{s:s, s:s, s:o, s:f, s:f, s:b}", "assumption", srn_assumption_name(s->assumption),
                     "unit", srn_assumption_unit(s->assumption), "range", range_json(s->range), "at_low",
                     s->at_low, "at_high", s->at_high, "flips", s->flips);
}

static json_t *index_of(const srn_route_advice *r, const srn_option *o) {
    return o ? json_integer(o - r->options) : json_null();
}

static json_t *route_json(const srn_route_advice *r) {
    json_t *options = json_array(), *swings = json_array();
    for (uint32_t i = 0; i < r->n_options; i++) json_array_append_new(options, option_json(&r->options[i]));
    for (uint32_t i = 0; i < r->n_swings; i++) json_array_append_new(swings, swing_json(&r->swings[i]));
    json_t *even = isnan(r->break_even)      ? json_null()
                   : isfinite(r->break_even) ? json_real(r->break_even)
                                             : json_string("never");
    return json_pack("{s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "route", r->route,
                     "verdict", srn_advise_verdict_name(r->verdict), "clear", r->clear, "veto", r->veto,
                     "veto_price", r->veto ? number(r->veto_price) : json_null(),
                     "break_even_calls_per_month", even, "largest_uncertainty",
                     r->n_swings ? json_string(srn_assumption_name(r->swings[0].assumption)) : json_null(),
                     "sensitivities", swings, "cloud", index_of(r, r->cloud), "local", index_of(r, r->local),
                     "options", options, "traffic", mix_json(&r->mix));
}

static json_t *split_json(const srn_advise *a) {
    json_t *local = json_array(), *cloud = json_array();
    for (uint32_t i = 0; i < a->n; i++)
        json_array_append_new(a->split.local[i] ? local : cloud, json_string(a->routes[i].route));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "local", local, "cloud", cloud, "machine",
                     a->split.machine ? json_string(a->split.machine->name) : json_null(), "cost",
                     number(a->split.cost), "all_local", number(a->split.all_local), "all_cloud",
                     number(a->split.all_cloud));
}

json_t *srn_advise_json(const srn_advise_opts *o, const srn_advise *a) {
    json_t *routes = json_array();
    for (uint32_t i = 0; i < a->n; i++) json_array_append_new(routes, route_json(&a->routes[i]));
    return json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "serin_advise", 1, "currency",
                     o->prices->currency, "prices_date", o->prices->date, "costs_date",
                     o->costs ? json_string(o->costs->date) : json_null(), "availability_target",
                     o->target > 0 ? json_real(o->target) : json_null(), "routes", routes, "total",
                     route_json(&a->total), "split", a->has_split ? split_json(a) : json_null());
}
