/* Advice on money, by hand: costs that fit on a line, fleets, the veto, the break-even; and files that say
 * too little. tests/cli/test_advise_oracle.py has every figure a second time. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "hardware/advise.h"

#define PRICES                                                                                               \
    "currency: USD\ndate: 2026-11-23\noffers:\n"                                                             \
    "  - provider: p\n    model: m\n    source: s\n    date: 2026-11-23\n    token_ratio: 1\n"
#define COSTS                                                                                                \
    "currency: USD\ndate: 2026-11-23\nelectricity: {price_per_kwh: 0.5}\n"                                   \
    "staff: {hours_per_month: 2, price_per_hour: 50}\nmachines:\n"                                           \
    "  - name: box\n    price: 2400\n    life_years: 2\n    watts_idle: 100\n"                               \
    "    joules_per_token: {prefill: 0.36, decode: 3.6}\n"
#define CAPACITY "    capacity: {prefill_tok_per_s: 1000, decode_tok_per_s: 100, parallel: 4}\n"

typedef struct setup {
    srn_advise_traffic t;
    srn_prices prices;
    srn_costs costs;
    srn_advise a;
    srn_err err;
    int code;
} setup;

static void add(setup *s, const char *route, uint32_t input, uint32_t cached, uint32_t output) {
    srn_advise_call c = {.n_input = input, .n_cached = cached, .n_output = output};
    assert_int_equal(srn_advise_traffic_route(&s->t, srn_str_of(route), &c.route, &s->err), SRN_OK);
    assert_int_equal(srn_advise_traffic_add(&s->t, &c, &s->err), SRN_OK);
}

/* A traffic of `per_month` calls a month. */
static void begin(setup *s, double per_month) {
    *s = (setup){.code = 0};
    srn_advise_traffic_init(&s->t);
    s->t.calls_per_day = per_month / SRN_MONTH_DAYS;
}

static void make(setup *s, const char *prices, const char *costs, double target) {
    if (srn_prices_parse(srn_str_of(prices), "prices.yaml", &s->prices, &s->err)) fail_msg("%s", s->err.text);
    if (costs && srn_costs_parse(srn_str_of(costs), "costs.yaml", &s->costs, &s->err))
        fail_msg("%s", s->err.text);
    const srn_advise_opts o = {
        .traffic = &s->t, .prices = &s->prices, .costs = costs ? &s->costs : NULL, .target = target};
    s->code = srn_advise_make(&o, &s->a, &s->err);
}

static void end(setup *s) {
    srn_advise_done(&s->a);
    srn_advise_traffic_done(&s->t);
    srn_prices_done(&s->prices);
    srn_costs_done(&s->costs);
}

static void expect(double got, double want) {
    if (!(fabs(got - want) <= 1e-9 * SRN_MAX(1, fabs(want)))) fail_msg("%.12g, not %.12g", got, want);
}

/* ---- the cloud ---- */

static void test_a_call_is_charged_by_its_kinds_of_tokens(void **state) {
    (void)state;
    setup s;
    begin(&s, 1e6);
    add(&s, "r", 1000, 400, 100);
    make(&s,
         PRICES "    input: 2\n    cached_read: 0.5\n    cached_write: 3\n    cache_hit: 0.5\n    "
                "cache_written: 0.25\n"
                "    output: 10\n",
         NULL, 0);
    assert_int_equal(s.code, SRN_OK);
    const srn_option *o = s.a.routes[0].cloud;
    expect(o->cloud.tokens[SRN_PRICE_CACHED_READ], 200e6); /* half of what our cache had */
    expect(o->cloud.tokens[SRN_PRICE_CACHED_WRITE], 200e6);
    expect(o->cloud.total, 600 * 2 + 200 * 0.5 + 200 * 3 + 100 * 10);
    expect(o->cost.range.low, o->cost.mid);
    assert_int_equal(s.a.routes[0].verdict, SRN_ADVISE_UNKNOWN);
    end(&s);
}

static void test_a_prompt_above_a_tier_pays_its_prices_for_every_token(void **state) {
    (void)state;
    setup s;
    begin(&s, 2e6);
    add(&s, "r", 1000, 0, 10); /* at the border: not above it */
    add(&s, "r", 1001, 0, 10);
    make(&s, PRICES "    input: 1\n    output: 2\n    long:\n      - {above: 1000, input: 5, output: 20}\n",
         NULL, 0);
    expect(s.a.total.cloud->cost.mid, 1000 * 1 + 10 * 2 + 1001 * 5 + 10 * 20);
    end(&s);
}

static void test_the_providers_tokens_decide_the_tier(void **state) {
    (void)state;
    setup s;
    begin(&s, 1e6);
    add(&s, "r", 900, 0, 0);
    make(&s,
         "currency: USD\ndate: 2026-11-23\noffers:\n"
         "  - {provider: p, model: m, source: s, date: 2026-11-23, token_ratio: [1, 1.2], input: 1, output: "
         "1,\n"
         "     long: [{above: 1000, input: 10, output: 1}]}\n",
         NULL, 0);
    expect(s.a.total.cloud->cost.range.low, 900);
    expect(s.a.total.cloud->cost.range.high, 1080 * 10);
    end(&s);
}

static void test_a_discount_is_for_routes_that_can_wait(void **state) {
    (void)state;
    for (int batch = 0; batch < 2; batch++) {
        setup s;
        begin(&s, 1e6);
        add(&s, "r", 1000, 0, 0);
        s.t.routes[0].batch = batch;
        make(&s, PRICES "    input: 2\n    output: 1\n    batch: 50%\n", NULL, 0);
        expect(s.a.total.cloud->cost.mid, batch ? 1000 : 2000);
        end(&s);
    }
}

/* ---- machines ---- */

static void test_a_machine_costs_its_price_its_energy_and_its_people(void **state) {
    (void)state;
    setup s;
    begin(&s, 1e5);
    add(&s, "r", 1000, 500, 50);
    make(&s, PRICES "    input: 1\n    output: 1\n", COSTS CAPACITY, 0);
    const srn_local_cost *l = &s.a.routes[0].local->local;
    expect(l->capital, 100);
    expect(l->kwh_idle, 73.05);
    expect(l->kwh_prefill, 5); /* 1e5 x 500 x 0.36 J */
    expect(l->kwh_decode, 5);
    expect(l->energy, 83.05 / 2);
    expect(l->staff, 100);
    expect(l->total, 100 + 41.525 + 100);
    assert_true(l->needed == 1 && l->spares == 0);
    expect(l->busy, 1e5 / (SRN_MONTH_DAYS * 86400) * (0.5 + 0.5));
    end(&s);
}

static void test_machines_are_as_many_as_answers_at_once_and_work_ask_for(void **state) {
    (void)state;
    setup s;
    begin(&s, 10 * SRN_MONTH_DAYS * 86400); /* ten calls a second, each a second of a machine: 0.5 + 0.5 */
    add(&s, "r", 500, 0, 50);
    make(&s, PRICES "    input: 1\n    output: 1\n", COSTS CAPACITY, 0);
    const srn_local_cost *l = &s.a.routes[0].local->local;
    expect(l->load, 10);
    expect(l->by_load, 13); /* at most 80 % busy */
    expect(l->slots,
           25 + 1.645 * 5); /* a call takes 0.5 s of prefill and 50 tokens at a fourth of the rate */
    expect(l->by_slots, 9);
    expect(l->needed, 13);
    end(&s);
}

static void test_availability_of_a_fleet_is_that_of_k_of_n(void **state) {
    (void)state;
    expect(srn_fleet_availability(0.9, 1, 1), 0.9);
    expect(srn_fleet_availability(0.9, 1, 2), 0.99);
    expect(srn_fleet_availability(0.9, 2, 3), 0.972);
    expect(srn_fleet_availability(1, 5, 7), 1);
    expect(srn_fleet_availability(0, 1, 3), 0);
}

static void test_a_target_adds_the_machines_that_reach_it(void **state) {
    (void)state;
    const struct {
        double target;
        int spares;
        bool reaches;
    } cases[] = {{0.89, 0, true}, {0.95, 1, true}, {0.995, 2, true}, {0.9999, 0, false}};
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        setup s;
        begin(&s, 10);
        add(&s, "r", 500, 0, 50);
        make(&s, PRICES "    input: 1\n    output: 1\n",
             COSTS "    availability: 0.9\n" CAPACITY "site_availability: 99.95%\n", cases[i].target);
        const srn_option *o = s.a.routes[0].local;
        assert_int_equal((int)o->local.spares, cases[i].spares);
        assert_int_equal(o->reaches, cases[i].reaches);
        assert_int_equal(s.a.routes[0].cloud->reaches, false); /* it does not say */
        assert_int_equal(s.a.routes[0].verdict, cases[i].reaches ? SRN_ADVISE_LOCAL : SRN_ADVISE_NONE);
        end(&s);
    }
}

static void test_the_cloud_behind_machines_reaches_what_neither_does(void **state) {
    (void)state;
    setup s;
    begin(&s, 1e5);
    add(&s, "r", 1000, 0, 0);
    make(&s, PRICES "    input: 1\n    output: 1\n    availability: 0.99\n",
         COSTS "    availability: 0.95\n" CAPACITY "site_availability: 0.97\n", 0.999);
    const srn_route_advice *r = &s.a.routes[0];
    assert_int_equal(r->local->kind, SRN_OPTION_FALLBACK);
    assert_true(r->local->reaches && !r->cloud->reaches);
    assert_int_equal(r->verdict, SRN_ADVISE_LOCAL);
    double own = 0.97 * srn_fleet_availability(0.95, 1, 1 + r->local->local.spares);
    expect(r->local->availability.low, 1 - (1 - own) * 0.01);
    expect(r->local->local.fallback, (1 - own) * 100);
    end(&s);
}

/* ---- verdicts ---- */

static void test_what_must_stay_is_never_advised_away_and_the_price_of_that_is_said(void **state) {
    (void)state;
    setup s;
    begin(&s, 1000);
    add(&s, "hr", 1000, 0, 100);
    add(&s, "open", 1000, 0, 100);
    s.t.routes[0].local_only = true;
    make(&s, PRICES "    input: 1\n    output: 1\n", COSTS CAPACITY, 0);
    const srn_route_advice *hr = &s.a.routes[0];
    assert_int_equal(hr->verdict, SRN_ADVISE_LOCAL);
    assert_true(hr->veto && hr->veto_price > 100);
    expect(hr->veto_price, hr->local->cost.mid - hr->cloud->cost.mid);
    for (uint32_t i = 0; i < hr->n_options; i++)
        assert_int_equal(hr->options[i].vetoed, hr->options[i].kind == SRN_OPTION_CLOUD);
    assert_int_equal(s.a.routes[1].verdict, SRN_ADVISE_CLOUD);
    /* By itself; beside a machine that stands there anyway it is local. */
    assert_true(s.a.has_split && s.a.split.local[0] && s.a.split.local[1]);
    assert_true(isinf(s.a.split.all_cloud));
    end(&s);
}

static void test_the_split_leaves_to_machines_what_the_cloud_charges_most_for(void **state) {
    (void)state;
    setup s;
    begin(&s, 3e5);
    add(&s, "cheap", 10, 0, 1);
    add(&s, "dear", 2000, 0, 300);
    make(&s, PRICES "    input: 5\n    output: 25\n", COSTS CAPACITY, 0);
    assert_true(s.a.has_split && s.a.split.local[1]);
    assert_true(s.a.split.cost <= s.a.split.all_local && s.a.split.cost <= s.a.split.all_cloud);
    expect(s.a.split.all_cloud, s.a.routes[0].cloud->cost.mid + s.a.routes[1].cloud->cost.mid);
    expect(s.a.split.all_local, s.a.total.local->cost.mid);
    end(&s);
}

static void test_at_the_break_even_both_cost_the_same(void **state) {
    (void)state;
    setup s;
    begin(&s, 1000);
    add(&s, "r", 1000, 0, 100);
    make(&s, PRICES "    input: 5\n    output: 25\n", COSTS CAPACITY, 0);
    double even = s.a.routes[0].break_even, fixed = 100 + 73.05 / 2 + 100;
    double a_call = 7500e-6 - (1000 * 0.36 + 100 * 3.6) / 3.6e6 * 0.5;
    expect(even, fixed / a_call);
    end(&s);
    begin(&s, even);
    add(&s, "r", 1000, 0, 100);
    make(&s, PRICES "    input: 5\n    output: 25\n", COSTS CAPACITY, 0);
    expect(s.a.routes[0].local->cost.mid, s.a.routes[0].cloud->cost.mid);
    end(&s);
}

static void test_there_is_no_break_even_where_a_token_costs_more_than_the_cloud_takes(void **state) {
    (void)state;
    setup s;
    begin(&s, 1000);
    add(&s, "r", 1000, 0, 100);
    make(&s, PRICES "    input: 0.0001\n    output: 0.0001\n", COSTS CAPACITY, 0);
    assert_true(isinf(s.a.routes[0].break_even));
    end(&s);
}

static void test_the_largest_uncertainty_is_the_one_that_moves_most(void **state) {
    (void)state;
    setup s;
    begin(&s, 1e6);
    add(&s, "r", 1000, 0, 100);
    make(&s, PRICES "    input: [1, 1.1]\n    output: [1, 9]\n", COSTS CAPACITY, 0);
    const srn_route_advice *r = &s.a.routes[0];
    assert_int_equal(r->n_swings, 2);
    assert_string_equal(srn_assumption_name(r->swings[0].assumption), "output price");
    expect(r->swings[0].at_low - r->swings[0].at_high, 800);
    assert_string_equal(srn_assumption_name(r->swings[1].assumption), "input price");
    end(&s);
}

/* ---- facts ---- */

static void test_facts_of_calls_with_times(void **state) {
    (void)state;
    setup s;
    begin(&s, 0);
    /* Ten calls a second apart, each of 2 s: two run at once, in the end. */
    for (uint64_t i = 0; i < 10; i++) {
        const srn_advise_call c = {.begun_us = 1000000 * (i + 1),
                                   .total_us = 2000000,
                                   .ttft_us = 600000,
                                   .queue_us = 100000,
                                   .itl_us = 10000,
                                   .n_input = 100 * (uint32_t)(i + 1),
                                   .n_cached = 50,
                                   .n_output = 101};
        uint32_t route;
        assert_int_equal(srn_advise_traffic_route(&s.t, SRN_STR("r"), &route, &s.err), SRN_OK);
        assert_int_equal(srn_advise_traffic_add(&s.t, &c, &s.err), SRN_OK);
    }
    srn_mix m;
    assert_int_equal(srn_mix_of(&s.t, NULL, &m, &s.err), SRN_OK);
    expect(m.span_days, 11.0 / 86400);
    expect(m.calls_per_month, 10 / m.span_days * SRN_MONTH_DAYS);
    expect(m.in_flight_mean, 20.0 / 11);
    expect(m.in_flight_p95, 2);
    assert_true(m.prompt_p50 == 500 && m.prompt_p95 == 1000);
    expect(m.measured.prefill_tok_per_s.low, (5500 - 500) / 5.0);
    expect(m.measured.decode_tok_per_s.low, 100);
    expect(m.measured.decode_tok_per_s.high, 200);
    assert_int_equal(m.pace, SRN_MIX_PACE_UNKNOWN); /* 11 seconds show nothing */
    srn_mix_done(&m);
    for (size_t i = 0; i < s.t.n; i++) s.t.calls[i].elsewhere = true;
    assert_int_equal(srn_mix_of(&s.t, NULL, &m, &s.err), SRN_OK);
    assert_int_equal(m.measured.source, SRN_FACT_NONE); /* another machine's times */
    srn_mix_done(&m);
    end(&s);
}

static void test_a_route_whose_calls_have_no_times_has_a_volume(void **state) {
    (void)state;
    setup s;
    begin(&s, 0);
    for (uint64_t i = 0; i < 40; i++) { /* over ten days; of route b nobody noted when */
        srn_advise_call c = {.begun_us = i % 4 ? (i + 1) * 21600 * 1000000 : 0, .n_input = 10};
        assert_int_equal(
            srn_advise_traffic_route(&s.t, i % 4 ? SRN_STR("a") : SRN_STR("b"), &c.route, &s.err), SRN_OK);
        assert_int_equal(srn_advise_traffic_add(&s.t, &c, &s.err), SRN_OK);
    }
    srn_mix m;
    assert_string_equal(s.t.routes[0].name, "b");
    assert_int_equal(srn_mix_of(&s.t, (const bool[]){true, false}, &m, &s.err), SRN_OK);
    expect(m.calls_per_month, 10 / m.span_days * SRN_MONTH_DAYS);
    expect(m.volume.high, 1 + 1.96 / sqrt(10));
    srn_mix_done(&m);
    end(&s);
}

static void test_bursts_are_told_from_a_steady_stream(void **state) {
    (void)state;
    for (int bursty = 0; bursty < 2; bursty++) {
        setup s;
        begin(&s, 0);
        for (uint64_t i = 0; i < 6000;
             i++) { /* 100 minutes: one a second, or all of ten minutes in one of them */
            uint64_t second = bursty ? i / 600 * 600 + i % 600 / 10 : i;
            const srn_advise_call c = {.begun_us = (second + 1) * 1000000, .total_us = 1000, .n_input = 1};
            uint32_t route;
            assert_int_equal(srn_advise_traffic_route(&s.t, SRN_STR(""), &route, &s.err), SRN_OK);
            assert_int_equal(srn_advise_traffic_add(&s.t, &c, &s.err), SRN_OK);
        }
        srn_mix m;
        assert_int_equal(srn_mix_of(&s.t, NULL, &m, &s.err), SRN_OK);
        assert_string_equal(m.window, "minute");
        assert_int_equal(m.pace, bursty ? SRN_MIX_BURSTY : SRN_MIX_STEADY);
        srn_mix_done(&m);
        end(&s);
    }
}

/* ---- refusals ---- */

static void refuse_prices(const char *text, const char *want) {
    srn_prices p;
    srn_err err = {0};
    assert_int_equal(srn_prices_parse(srn_str_of(text), "prices.yaml", &p, &err), SRN_EFORMAT);
    if (!strstr(err.text, want)) fail_msg("'%s' does not have '%s'", err.text, want);
}

static void test_prices_that_say_too_little_are_refused_with_their_line(void **state) {
    (void)state;
    refuse_prices("", "prices.yaml:1: the file: currency is missing");
    refuse_prices(PRICES "    input: 1\n", "prices.yaml:4: offers[0]: output is missing");
    refuse_prices(PRICES "    input: 1\n    output: [3, 2]\n",
                  "prices.yaml:10: offers[0].output: must be from 0 to 1000000, the smaller one first");
    refuse_prices(PRICES "    input: -1\n    output: 2\n", "prices.yaml:9: offers[0].input");
    refuse_prices(PRICES "    input: cheap\n    output: 2\n",
                  "prices.yaml:9: offers[0].input: needs a number");
    refuse_prices(PRICES "    input: 1\n    outptu: 2\n",
                  "prices.yaml:10: offers[0].outptu: there is no such key");
    refuse_prices(PRICES "    input: 1\n    output: 2\n    long:\n      - {above: 10, input: 1}\n",
                  "prices.yaml:12: offers[0].long[0]: output is missing");
    refuse_prices(PRICES "    input: 1\n    output: 2\n    long:\n      - {above: 10, input: 1, output: 1}\n "
                         "     - {above: 10, input: 1, output: 1}\n",
                  "prices.yaml:13: offers[0].long[1]: above: must be more");
    refuse_prices("currency: USD\ndate: soon\noffers: []\n", "prices.yaml:2: date: needs a date");
    refuse_prices("currency: USD\ndate: 2026-01-01\noffers: []\n", "prices.yaml:3: offers: needs a list");
}

static void refuse_costs(const char *text, const char *want) {
    srn_costs c;
    srn_err err = {0};
    assert_int_equal(srn_costs_parse(srn_str_of(text), "costs.yaml", &c, &err), SRN_EFORMAT);
    if (!strstr(err.text, want)) fail_msg("'%s' does not have '%s'", err.text, want);
}

static void test_costs_that_say_too_little_are_refused_with_their_line(void **state) {
    (void)state;
    refuse_costs("currency: USD\n", "is missing");
    refuse_costs(COSTS "    capacity: {prefill_tok_per_s: 1, parallel: 1}\n",
                 "costs.yaml:11: machines[0].capacity: decode_tok_per_s is missing");
    refuse_costs(COSTS "    availability: 120%\n",
                 "costs.yaml:11: machines[0].availability: must be from 0.5 to 1");
    refuse_costs(COSTS "    availability: 0.9\n    repair: {mtbf_hours: 1000, mttr_hours: 1}\n", "give one");
    refuse_costs(COSTS "spare: 1.5\n", "costs.yaml:11: spare: needs a whole number");
    refuse_costs(COSTS "staff: {}\n", "second time");
}

static void test_impossible_targets_and_two_currencies_are_refused(void **state) {
    (void)state;
    setup s;
    begin(&s, 1);
    add(&s, "", 1, 0, 1);
    make(&s, PRICES "    input: 1\n    output: 1\n", NULL, 1);
    assert_int_equal(s.code, SRN_EINVAL);
    end(&s);
    begin(&s, 1);
    add(&s, "", 1, 0, 1);
    make(&s, PRICES "    input: 1\n    output: 1\n",
         "currency: EUR\ndate: 2026-11-23\nelectricity: {price_per_kwh: 1}\nstaff: {hours_per_month: 1, "
         "price_per_hour: 1}\n"
         "machines:\n  - {name: a, price: 1, life_years: 1, watts_idle: 1, joules_per_token: {prefill: 1, "
         "decode: 1}}\n",
         0);
    assert_int_equal(s.code, SRN_EFORMAT);
    assert_non_null(strstr(s.err.text, "one currency"));
    end(&s);
}

static void test_a_machine_that_nothing_is_known_of_is_refused(void **state) {
    (void)state;
    setup s;
    begin(&s, 1);
    add(&s, "", 1, 0, 1);
    make(&s, PRICES "    input: 1\n    output: 1\n", COSTS, 0);
    assert_int_equal(s.code, SRN_EFORMAT);
    assert_non_null(strstr(s.err.text, "'box' (line 6 of the costs) has no capacity"));
    end(&s);
}

/* ---- lines ---- */

static int lines(const char *text, srn_advise_traffic *t, srn_err *err) {
    srn_advise_traffic_init(t);
    return srn_advise_traffic_lines(t, srn_str_of(text), "calls.jsonl", err);
}

static void test_lines_of_every_form_are_read(void **state) {
    (void)state;
    srn_advise_traffic t;
    srn_err err = {0};
    const char *text =
        "{\"tokens\": {\"input\": 10, \"cached\": 4, \"output\": 3}, \"us\": {\"ttft\": 5, \"total\": 9}, "
        "\"begun_us\": 77, \"route\": \"a\"}\n"
        "\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"12345678\"}]}], "
        "\"max_tokens\": 7}\r\n"
        "{\"prompt\": \"12345\", \"output\": \"123\", \"local_only\": true, \"route\": \"b\"}\n"
        "{\"usage\": {\"prompt_tokens\": 20, \"completion_tokens\": 2, \"prompt_tokens_details\": "
        "{\"cached_tokens\": 30}}, \"created\": 9}\n"
        "{\"status\": 503, \"tokens\": {\"input\": 10, \"output\": 0}, \"route\": \"c\"}";
    if (lines(text, &t, &err)) fail_msg("%s", err.text);
    assert_true(t.n == 4 && t.n_routes == 3); /* a, none, b */
    assert_true(t.calls[0].n_cached == 4 && t.calls[0].begun_us == 77 && !t.calls[0].estimated);
    assert_true(t.calls[1].n_input == 2 && t.calls[1].n_output == 7 && t.calls[1].estimated);
    assert_true(t.calls[2].n_input == 2 && t.calls[2].n_output == 1 && t.routes[2].local_only);
    assert_true(t.calls[3].n_cached == 20 && t.calls[3].begun_us == 9000000); /* no more than the input */
    srn_advise_traffic_done(&t);
}

static void test_lines_that_say_no_length_are_refused_with_their_number(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "calls.jsonl: line 1: there is no call in it"},
        {"\n \n", "calls.jsonl: line 3: there is no call in it"},
        {"{\"prompt\": \"a\", \"max_tokens\": 1}\nnonsense\n", "calls.jsonl: line 2, column"},
        {"[1]", "line 1: it is no JSON object"},
        {"{\"prompt\": \"a\"}", "nothing says how long its answer is"},
        {"{\"prompt\": \"\", \"max_tokens\": 1}", "its prompt is empty"},
        {"{\"model\": \"a\"}", "it is no call"},
        {"{\"tokens\": {\"input\": -1}}", "input: needs a whole number"},
        {"{\"tokens\": 7}", "tokens: needs"},
        {"{\"usage\": {\"prompt_tokens\": 1}}", "usage: needs prompt_tokens and completion_tokens"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_advise_traffic t;
        srn_err err = {0};
        assert_int_equal(lines(cases[i].text, &t, &err), SRN_EFORMAT);
        if (!strstr(err.text, cases[i].want)) fail_msg("'%s' does not have '%s'", err.text, cases[i].want);
        srn_advise_traffic_done(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_is_charged_by_its_kinds_of_tokens),
        cmocka_unit_test(test_a_prompt_above_a_tier_pays_its_prices_for_every_token),
        cmocka_unit_test(test_the_providers_tokens_decide_the_tier),
        cmocka_unit_test(test_a_discount_is_for_routes_that_can_wait),
        cmocka_unit_test(test_a_machine_costs_its_price_its_energy_and_its_people),
        cmocka_unit_test(test_machines_are_as_many_as_answers_at_once_and_work_ask_for),
        cmocka_unit_test(test_availability_of_a_fleet_is_that_of_k_of_n),
        cmocka_unit_test(test_a_target_adds_the_machines_that_reach_it),
        cmocka_unit_test(test_the_cloud_behind_machines_reaches_what_neither_does),
        cmocka_unit_test(test_what_must_stay_is_never_advised_away_and_the_price_of_that_is_said),
        cmocka_unit_test(test_the_split_leaves_to_machines_what_the_cloud_charges_most_for),
        cmocka_unit_test(test_at_the_break_even_both_cost_the_same),
        cmocka_unit_test(test_there_is_no_break_even_where_a_token_costs_more_than_the_cloud_takes),
        cmocka_unit_test(test_the_largest_uncertainty_is_the_one_that_moves_most),
        cmocka_unit_test(test_facts_of_calls_with_times),
        cmocka_unit_test(test_a_route_whose_calls_have_no_times_has_a_volume),
        cmocka_unit_test(test_bursts_are_told_from_a_steady_stream),
        cmocka_unit_test(test_prices_that_say_too_little_are_refused_with_their_line),
        cmocka_unit_test(test_costs_that_say_too_little_are_refused_with_their_line),
        cmocka_unit_test(test_impossible_targets_and_two_currencies_are_refused),
        cmocka_unit_test(test_a_machine_that_nothing_is_known_of_is_refused),
        cmocka_unit_test(test_lines_of_every_form_are_read),
        cmocka_unit_test(test_lines_that_say_no_length_are_refused_with_their_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
