/* What a declared roll-out needs of a configuration: its models, and routes by which calls come to it. Pure;
 * called by who checks a configuration before anything is loaded, by the list of the roll-outs, and for each
 * call; any thread.
 */
#include "serve/rollout.h"

static bool has_model(const srn_config *c, const char *name) {
    for (uint32_t i = 0; i < c->n_models; i++)
        if (strcmp(c->models[i].name, name) == 0) return true;
    return false;
}

const char *srn__rollout_missing(const srn_rollout *d, const srn_config *c) {
    return !has_model(c, d->baseline) ? d->baseline : !has_model(c, d->canary) ? d->canary : NULL;
}

static void add_name(srn_buf *b, const char *name) {
    srn_buf_addf(b, "%s%s", b->len ? ", " : "", name);
}

static int no_model(const srn_rollout *d, const srn_config *c, const char *name, srn_err *err) {
    srn_buf known;
    srn_buf_init(&known, 400);
    for (uint32_t i = 0; i < c->n_models; i++) add_name(&known, c->models[i].name);
    srn_fail(err, SRN_EINVAL, "%s: %s: the configuration has no model '%s'; known are: %s", d->name,
             strcmp(name, d->baseline) == 0 ? "baseline" : "canary", name, known.len ? known.data : "none");
    srn_buf_done(&known);
    return SRN_EINVAL;
}

static int no_route(const srn_rollout *d, const srn_config *c, const char *name, srn_err *err) {
    srn_buf known;
    srn_buf_init(&known, 400);
    for (uint32_t i = 0; i < c->n_routes; i++) add_name(&known, c->routes[i].name);
    srn_fail(err, SRN_EINVAL,
             "%s: routes: the configuration has no route '%s'; known are: %s; \"*\" stands for every call",
             d->name, name, known.len ? known.data : "none");
    srn_buf_done(&known);
    return SRN_EINVAL;
}

/* Those that it names. */
static int check_routes(const srn_rollout *d, const srn_config *c, srn_err *err) {
    for (uint32_t i = 0; i < d->n_routes; i++) {
        bool known = strcmp(d->routes[i], "*") == 0;
        for (uint32_t k = 0; k < c->n_routes && !known; k++)
            known = strcmp(d->routes[i], c->routes[k].name) == 0;
        if (!known) return no_route(d, c, d->routes[i], err);
    }
    return SRN_OK;
}

bool srn__rollout_takes(const srn_rollout *d, const srn_config_route *route) {
    if (!d->n_routes) return route && route->risk && strcmp(route->risk, "low") == 0;
    for (uint32_t i = 0; i < d->n_routes; i++)
        if (strcmp(d->routes[i], "*") == 0 || (route && strcmp(d->routes[i], route->name) == 0)) return true;
    return false;
}

int srn__rollout_routes(const srn_rollout *d, const srn_config *c, srn_err *err) {
    if (d->n_routes) return check_routes(d, c, err);
    for (uint32_t k = 0; k < c->n_routes; k++)
        if (srn__rollout_takes(d, &c->routes[k])) return SRN_OK;
    return srn_fail(err, SRN_EINVAL,
                    "%s: no route has 'risk: low', and none is named: give one that risk in serin.yaml, or "
                    "name them (routes: [...], \"*\" for every call)",
                    d->name);
}

/* Nothing can be asked of another server's weights: what needs that is refused at the start. */
static int check_upstreams(const srn_config *c, const srn_rollout *d, srn_err *err) {
    const srn_config_model *arms[] = {srn_config_model_of(c, d->baseline), srn_config_model_of(c, d->canary)};
    const char *other = arms[0]->upstream ? d->baseline : arms[1]->upstream ? d->canary : NULL;
    if (!other) return SRN_OK;
    if (d->shadow > 0)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: shadow: the model '%s' is computed by another server, and copies of calls stay here; "
            "leave it out",
            d->name, other);
    if (d->guards[SRN_METRIC_DIVERGENCE].set)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: the model '%s' is computed by another server, so its divergence is not known: write "
            "guardrails: {divergence: off}, or kind: different",
            d->name, other);
    if (d->guards[SRN_METRIC_UNCERTAINTY].set)
        return srn_fail(
            err, SRN_EINVAL,
            "%s: guardrails.uncertainty: the model '%s' is computed by another server, so it is not "
            "known; leave it out",
            d->name, other);
    return SRN_OK;
}

int srn__rollout_fits(const srn_rollout *d, const srn_config *c, srn_err *err) {
    const char *missing = srn__rollout_missing(d, c);
    if (missing) return no_model(d, c, missing, err);
    int code = check_upstreams(c, d, err);
    return code ? code : check_routes(d, c, err);
}

/* Routes that both take; calls of no route come to those of every call. */
static bool share_a_route(const srn_rollout *a, const srn_rollout *b, const srn_config *c) {
    for (uint32_t k = 0; k < c->n_routes; k++)
        if (srn__rollout_takes(a, &c->routes[k]) && srn__rollout_takes(b, &c->routes[k])) return true;
    return srn__rollout_takes(a, NULL) && srn__rollout_takes(b, NULL);
}

bool srn__rollout_waits(const srn_rollout *d, const srn_rollout *before, const srn_config *c) {
    bool prompt = !before->prompt || (d->prompt && strcmp(before->prompt, d->prompt) == 0 &&
                                      before->baseline_version == d->baseline_version);
    return prompt && strcmp(before->baseline, d->baseline) == 0 && !srn__rollout_missing(before, c) &&
           share_a_route(d, before, c);
}
