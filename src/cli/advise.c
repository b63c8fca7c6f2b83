/* cli: `serin advise`: from measured calls and the user's prices, local or cloud, for each route. Main
 * thread. Refuses files that say too little, with file and line, names that the files do not have, and
 * availabilities that nothing reaches.
 */
#include "cli/advise.h"

#include <stdlib.h>

#include "cli/ledger.h"

#define COMMAND "advise"
enum { MAX_YAML = 4 << 20 };

/* ---- files ---- */

typedef int parse_fn(srn_str text, const char *file, void *ret, srn_err *err);

static int parse_prices(srn_str text, const char *file, void *ret, srn_err *err) {
    return srn_prices_parse(text, file, ret, err);
}

static int parse_costs(srn_str text, const char *file, void *ret, srn_err *err) {
    return srn_costs_parse(text, file, ret, err);
}

static int read_yaml(const char *file, parse_fn *parse, void *ret, srn_err *err) {
    char *text;
    size_t len;
    int code = srn_read_file(file, MAX_YAML, &text, &len, err);
    if (code) return code;
    code = parse((srn_str){text, len}, file, ret, err);
    free(text);
    return code;
}

/* ---- names ---- */

static bool is_listed(const srn_str_list *l, const char *name) {
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->items[i], name) == 0) return true;
    return false;
}

static void offer_name(const srn_offer *o, char ret[200]) {
    snprintf(ret, 200, "%s/%s", o->provider, o->model);
}

/* Only those offers that --cloud names: PROVIDER, or PROVIDER/MODEL. */
static int keep_offers(srn__advise *c, srn_err *err) {
    uint32_t n = 0;
    for (size_t k = 0; k < c->clouds.n; k++) {
        bool found = false;
        for (uint32_t i = 0; i < c->prices.n; i++) {
            char name[200];
            offer_name(&c->prices.offers[i], name);
            found = found || !strcmp(c->clouds.items[k], name) ||
                    !strcmp(c->clouds.items[k], c->prices.offers[i].provider);
        }
        if (!found)
            return srn_fail(err, SRN_ENOENT,
                            "%s: has no offer '%.100s'; --cloud is PROVIDER or PROVIDER/MODEL",
                            c->prices_file, c->clouds.items[k]);
    }
    for (uint32_t i = 0; c->clouds.n && i < c->prices.n; i++) {
        char name[200];
        offer_name(&c->prices.offers[i], name);
        if (is_listed(&c->clouds, name) || is_listed(&c->clouds, c->prices.offers[i].provider))
            c->prices.offers[n++] = c->prices.offers[i];
    }
    if (c->clouds.n) c->prices.n = n;
    return SRN_OK;
}

static int keep_machines(srn__advise *c, srn_err *err) {
    uint32_t n = 0;
    for (size_t k = 0; k < c->machines.n; k++) {
        bool found = false;
        for (uint32_t i = 0; i < c->costs.n; i++)
            found = found || strcmp(c->machines.items[k], c->costs.machines[i].name) == 0;
        if (!found)
            return srn_fail(err, SRN_ENOENT, "%s: has no machine '%.100s'",
                            c->costs_file ? c->costs_file : "--hardware", c->machines.items[k]);
    }
    for (uint32_t i = 0; c->machines.n && i < c->costs.n; i++)
        if (is_listed(&c->machines, c->costs.machines[i].name)) c->costs.machines[n++] = c->costs.machines[i];
    if (c->machines.n) c->costs.n = n;
    return SRN_OK;
}

/* The index of a route of the traffic; "-" is the one without a name. */
static int find_route(const srn__advise *c, const char *option, srn_str name, uint32_t *ret, srn_err *err) {
    srn_buf known;
    for (uint32_t i = 0; i < c->traffic.n_routes; i++)
        if (srn_str_eqz(name, *c->traffic.routes[i].name ? c->traffic.routes[i].name : "-"))
            return *ret = i, SRN_OK;
    srn_buf_init(&known, 500);
    for (uint32_t i = 0; i < c->traffic.n_routes; i++)
        srn_buf_addf(&known, "%s%s", i ? ", " : "",
                     *c->traffic.routes[i].name ? c->traffic.routes[i].name : "-");
    int code = srn_fail(err, SRN_EINVAL, "%s: no call is of a route '%.*s'; there are: %s", option,
                        (int)SRN_MIN(name.len, (size_t)80), name.ptr, known.data ? known.data : "");
    srn_buf_done(&known);
    return code;
}

/* ---- options ---- */

static int read_privacy(srn__advise *c, srn_err *err) {
    const char *p = c->privacy, *only = "local-only";
    size_t n = strlen(only);
    if (!p) return SRN_OK;
    if (strncmp(p, only, n) != 0 || (p[n] && p[n] != '='))
        return srn_fail(err, SRN_EUSAGE, "--privacy is local-only, or local-only=ROUTE,ROUTE, not '%.60s'",
                        p);
    for (uint32_t i = 0; !p[n] && i < c->traffic.n_routes; i++) c->traffic.routes[i].local_only = true;
    for (p += n; *p;) {
        size_t len = strcspn(++p, ",");
        uint32_t i;
        int code = find_route(c, "--privacy", (srn_str){p, len}, &i, err);
        if (code) return code;
        c->traffic.routes[i].local_only = true;
        p += len;
    }
    return SRN_OK;
}

static int read_batch(srn__advise *c, srn_err *err) {
    for (size_t k = 0; k < c->batch.n; k++) {
        uint32_t i;
        int code = find_route(c, "--batch", srn_str_of(c->batch.items[k]), &i, err);
        if (code) return code;
        c->traffic.routes[i].batch = true;
    }
    return SRN_OK;
}

/* "99.9%", "99.9" and "0.999" are the same. */
static int read_availability(srn__advise *c, srn_err *err) {
    char *end;
    if (!c->availability) return SRN_OK;
    double v = strtod(c->availability, &end);
    bool percent = *end == '%';
    if (end == c->availability || (*end && !percent) || (percent && end[1]) || !(v > 0))
        return srn_fail(err, SRN_EUSAGE, "--availability is a share like 99.9%%, not '%.40s'",
                        c->availability);
    c->o.target = percent || v > 1 ? v / 100 : v;
    return SRN_OK;
}

static int check_options(const srn__advise *c, srn_err *err) {
    if (!c->calls == !c->prompts)
        return srn_fail(
            err, SRN_EUSAGE,
            "%s; `serin advise --calls since=30d --prices prices.yaml` asks of the ledger's last 30 days",
            c->calls ? "--calls and --prompts both say what the traffic is: give one"
                     : "nothing says what the traffic is: give --calls FILTER or --prompts FILE");
    if (!c->prices_file)
        return srn_fail(err, SRN_EUSAGE,
                        "--prices FILE is missing; prices.example.yaml in share/serin is one to begin with");
    if (c->from && c->prompts)
        return srn_fail(err, SRN_EUSAGE, "--from is of the ledger's calls; leave it out with --prompts");
    return SRN_OK;
}

/* ---- the command ---- */

static int advise(srn__advise *c, srn_err *err) {
    int code = check_options(c, err);
    if (!code) code = read_availability(c, err);
    if (!code) code = read_yaml(c->prices_file, parse_prices, &c->prices, err);
    if (!code && c->costs_file) code = read_yaml(c->costs_file, parse_costs, &c->costs, err);
    if (!code) code = keep_offers(c, err);
    if (!code) code = keep_machines(c, err);
    if (!code) code = c->calls ? srn__advise_read_ledger(c, err) : srn__advise_read_prompts(c, err);
    if (!code) code = read_privacy(c, err);
    if (!code) code = read_batch(c, err);
    if (code) return code;
    c->traffic.calls_per_day = c->calls_per_day;
    c->o.traffic = &c->traffic;
    c->o.prices = &c->prices;
    c->o.costs = c->costs_file ? &c->costs : NULL;
    code = srn_advise_make(&c->o, &c->a, err);
    if (!code && c->report) code = srn__advise_write_html(c, err);
    return code;
}

static int show(const srn__advise *c) {
    if (!c->json) {
        srn__advise_print(c);
        return srn_cli_flush(COMMAND);
    }
    return srn__ledger_print(COMMAND, srn_advise_json(&c->o, &c->a));
}

int srn__cmd_advise(int argc, char **argv) {
    srn__advise c = {.calls_per_day = 0};
    const srn_opt opts[] = {
        {"calls", 0, SRN_OPT_STR, &c.calls, 0, 0, "FILTER", "recorded calls that a filter finds: since=30d"},
        {"prompts", 0, SRN_OPT_STR, &c.prompts, 0, 0, "FILE", "a call a line (JSONL; - for standard input)"},
        {"prices", 0, SRN_OPT_STR, &c.prices_file, 0, 0, "FILE", "what the cloud charges (YAML)"},
        {"hardware", 0, SRN_OPT_STR, &c.costs_file, 0, 0, "FILE", "what machines of your own cost (YAML)"},
        {"privacy", 0, SRN_OPT_STR, &c.privacy, 0, 0, "local-only[=ROUTES]",
         "nothing of these leaves the machine"},
        {"availability", 0, SRN_OPT_STR, &c.availability, 0, 0, "SHARE", "what must be reached: 99.9%"},
        {"from", 0, SRN_OPT_STR, &c.from, 0, 0, "DATE..[DATE]", "of the ledger's calls only these"},
        {"calls-per-day", 0, SRN_OPT_FLOAT, &c.calls_per_day, 1e-6, 1e9, "N",
         "of this mix, in place of what was measured"},
        {"batch", 0, SRN_OPT_LIST, &c.batch, 0, 0, "ROUTE", "its answers may take a day (- without a route)"},
        {"cloud", 0, SRN_OPT_LIST, &c.clouds, 0, 0, "PROVIDER[/MODEL]", "of the prices only this"},
        {"machine", 0, SRN_OPT_LIST, &c.machines, 0, 0, "NAME", "of the machines only this"},
        {"explain", 0, SRN_OPT_FLAG, &c.explain, 0, 0, NULL, "each formula in words, with its numbers"},
        {"json", 0, SRN_OPT_FLAG, &c.json, 0, 0, NULL, "print JSON"},
        {"report", 0, SRN_OPT_STR, &c.report, 0, 0, "FILE", "also write a report (HTML)"},
        {"ledger", 0, SRN_OPT_STR, &c.ledger, 0, 0, "DIR|URL", "the ledger (the default folder)"},
        SRN__LEDGER_FOLDER(&c.folder),
        {"keys", 0, SRN_OPT_STR, &c.keys, 0, 0, "DIR", "its keys (keys in the ledger's folder)"},
    };
    const srn_cli_spec spec = {
        .usage = "serin advise --calls FILTER | --prompts FILE --prices FILE [--hardware FILE] [OPTIONS]",
        .about = "Says for each route of your traffic whether machines of your own or the cloud cost less: "
                 "both as\n"
                 "ranges, the assumptions that move the result most, and the volume at which it turns. What "
                 "may not\n"
                 "leave the machine is never advised to the cloud. docs/advise.md states the arithmetic.",
        .examples =
            "  serin advise --calls since=30d --prices prices.yaml --hardware costs.yaml\n"
            "  serin advise --calls route=support --prices prices.yaml --hardware costs.yaml --explain\n"
            "  serin advise --prompts calls.jsonl --calls-per-day 5000 --prices prices.yaml\n"
            "  serin advise --calls since=7d --prices prices.yaml --hardware costs.yaml --privacy "
            "local-only=hr \\\n"
            "      --availability 99.9% --report advice.html\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn_err err = {0};
    int n_operands = 0, code = srn_cli_parse(&spec, argc, argv, NULL, &n_operands);
    if (code < 0) {
        srn_advise_traffic_init(&c.traffic);
        int failed = advise(&c, &err);
        code = failed ? srn_cli_error(COMMAND, &err) : show(&c);
        srn_advise_done(&c.a);
        srn_advise_traffic_done(&c.traffic);
        srn_prices_done(&c.prices);
        srn_costs_done(&c.costs);
    }
    srn_str_list_done(&c.batch);
    srn_str_list_done(&c.clouds);
    srn_str_list_done(&c.machines);
    return code;
}
