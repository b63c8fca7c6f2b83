/* Fuzz target: prices, costs and lines of calls, separated by zero bytes. What is accepted must give advice
 * whose costs are ranges around their middle and never below zero. */
#include <math.h>
#include <stdlib.h>

#include "hardware/advise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

static void check_route(const srn_route_advice *r) {
    check(r->n_options > 0 && r->cloud && r->verdict <= SRN_ADVISE_NONE);
    check(!(r->veto && r->verdict == SRN_ADVISE_CLOUD));
    for (uint32_t i = 0; i < r->n_options; i++) {
        const srn_estimate *e = &r->options[i].cost;
        check(e->range.low <= e->range.high && e->mid >= 0 && isfinite(e->range.high));
    }
    for (uint32_t i = 1; i < r->n_swings; i++)
        check(fabs(r->swings[i].at_high - r->swings[i].at_low) <=
              fabs(r->swings[i - 1].at_high - r->swings[i - 1].at_low));
}

static void advise(const srn_advise_opts *o) {
    srn_advise a;
    srn_err err = {0};
    int code = srn_advise_make(o, &a, &err);
    check(!code == !err.text[0]);
    if (code) return;
    for (uint32_t i = 0; i < a.n; i++) check_route(&a.routes[i]);
    check_route(&a.total);
    json_t *j = srn_advise_json(o, &a);
    check(j != NULL);
    json_decref(j);
    srn_advise_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data, *end = text + size;
    srn_str parts[3] = {{"", 0}, {"", 0}, {"", 0}};
    srn_prices prices;
    srn_costs costs;
    srn_advise_traffic t;
    srn_err err = {0};
    if (size > 1u << 16) return 0;
    for (size_t i = 0; i < 3 && text < end; i++) {
        const char *zero = i < 2 ? memchr(text, 0, (size_t)(end - text)) : NULL;
        parts[i] = (srn_str){text, (size_t)((zero ? zero : end) - text)};
        text += parts[i].len + 1;
    }
    srn_advise_traffic_init(&t);
    int bad[3] = {srn_prices_parse(parts[0], "prices", &prices, &err),
                  srn_costs_parse(parts[1], "costs", &costs, &err),
                  srn_advise_traffic_lines(&t, parts[2], "lines", &err)};
    t.calls_per_day = size % 2 ? 1000 : 0;
    if (!bad[0] && !bad[2])
        advise(&(srn_advise_opts){.traffic = &t,
                                  .prices = &prices,
                                  .costs = bad[1] ? NULL : &costs,
                                  .target = size % 3 ? 0.999 : 0});
    srn_advise_traffic_done(&t);
    srn_prices_done(&prices);
    srn_costs_done(&costs);
    return 0;
}
