/* cli: `serin canary simulate`: roll-outs of a policy on made traffic that resembles the operator's: how
 * often it rolls back what is as good, how soon it catches what is worse. The code of the server and of the
 * tests. Main thread; reads the policy, and the ledger where traffic is learnt from it.
 */
#include "cli/canary.h"

#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "canary/canary.h"
#include "cli/ledger.h"
#include "config/yaml.h"
#include "ledger/ledger.h"

enum { FILE_MAX = 4 << 20, CALLS_MAX = 200000, PAGE = 1000 };

typedef struct job {
    const char *policy, *name, *traffic, *calls, *ledger, *folder, *keys;
    srn_str_list effects;
    int64_t runs, max_calls, seed;
    double share; /* percent */
    bool json;
    srn_rollout *r;
    srn_traffic t;
    srn_past_call *past;
    size_t n_past, cap_past;
} job;

/* ---- files ---- */

static int read_json(const char *path, json_t **ret, srn_err *err) {
    char *data;
    size_t len;
    srn_yaml *y = NULL;
    int code = srn_read_file(path, FILE_MAX, &data, &len, err);
    if (code) return code;
    code = srn_yaml_parse((srn_str){data, len}, path, 32, &y, err);
    if (!code) code = srn_yaml_json(y, ret, err);
    srn_yaml_free(y);
    free(data);
    return code;
}

/* A declaration by itself, or one of a serin.yaml's list. */
static int read_policy(job *j, srn_err *err) {
    json_t *o = NULL;
    int code = read_json(j->policy, &o, err);
    if (code) return code;
    const json_t *list = json_object_get(o, "canary"), *d = json_is_array(list) ? NULL : o, *e;
    size_t i;
    json_array_foreach(list, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        if (!d && (!j->name || (name && strcmp(name, j->name) == 0))) d = e;
    }
    if (!list && !json_object_get(o, "baseline") && !json_object_get(o, "kind"))
        code = srn_fail(err, SRN_ENOENT,
                        "%s: declares no roll-out: there is neither a list under canary: nor a kind and a "
                        "baseline; docs/canary.md has an example",
                        j->policy);
    else if (!d)
        code = srn_fail(err, SRN_ENOENT, "%s: declares no roll-out%s%s under canary:", j->policy,
                        j->name ? " named " : "", j->name ? j->name : "");
    else
        code = srn_rollout_parse(d, j->policy, &j->r, err);
    json_decref(o);
    return code;
}

/* ---- traffic from the ledger ---- */

/* As the record names it, else the conversation, else tenant and key. */
static uint64_t subject_of(const srn_call_row *row, const srn_stored *s) {
    json_t *o = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *who = json_string_value(json_object_get(o, "subject"));
    if (!who && row->conversation && *row->conversation) who = row->conversation;
    uint64_t h = who ? srn_hash(1, srn_str_of(who)) : 2;
    if (!who && row->tenant) h ^= srn_hash(3, srn_str_of(row->tenant));
    if (!who && row->key) h ^= srn_hash(4, srn_str_of(row->key));
    json_decref(o);
    return h;
}

static bool take_call(void *ctx, const srn_call_row *row, const srn_stored *s) {
    job *j = ctx;
    if (j->n_past == j->cap_past) {
        size_t cap = j->cap_past ? 2 * j->cap_past : 1024;
        srn_past_call *more = srn_realloc_array(j->past, cap, sizeof *more);
        if (!more) return false;
        j->past = more;
        j->cap_past = cap;
    }
    srn_past_call *c = &j->past[j->n_past++];
    bool failed = row->status >= 500;
    c->subject = subject_of(row, s);
    c->at_us = row->begun_us;
    for (unsigned m = 0; m < SRN_METRIC_END; m++) c->values[m] = NAN;
    c->values[SRN_METRIC_ERROR] = failed;
    if (failed) return true;
    c->values[SRN_METRIC_CUT] = row->finish && strcmp(row->finish, "length") == 0;
    if (row->ttft_us) c->values[SRN_METRIC_TTFT] = (double)row->ttft_us;
    if (row->itl_us) c->values[SRN_METRIC_ITL] = (double)row->itl_us;
    if (row->n_output) c->values[SRN_METRIC_LENGTH] = row->n_output;
    return true;
}

typedef struct paging {
    job *j;
    uint8_t last[16];
} paging;

static bool take_paged(void *ctx, const srn_call_row *row, const srn_stored *s) {
    paging *p = ctx;
    memcpy(p->last, row->id, sizeof p->last);
    return take_call(p->j, row, s);
}

static int learn(job *j, srn_err *err) {
    srn_buf place;
    srn_reader *reader = NULL;
    srn_filter *filter = NULL;
    paging p = {.j = j};
    const char *where = j->ledger;
    int code = srn_filter_parse(srn_str_of(j->calls), srn_unix_us(), &filter, err);
    if (code) return code;
    code = srn__ledger_place(&where, j->folder, &place, err);
    if (!code) code = srn_reader_open_in(where, j->folder, j->keys, &reader, err);
    for (bool more = true; !code && more;) {
        size_t before = j->n_past;
        code = srn_reader_calls(reader, filter, before ? p.last : NULL, PAGE, take_paged, &p, err);
        more = j->n_past - before == PAGE && j->n_past < CALLS_MAX;
    }
    srn_reader_close(reader);
    srn_filter_free(filter);
    srn_buf_done(&place);
    return code ? code : srn_traffic_of(j->past, j->n_past, &j->t, err);
}

static int read_traffic(job *j, srn_err *err) {
    json_t *o = NULL;
    srn_traffic_default(&j->t);
    if (j->calls && j->traffic)
        return srn_fail(err, SRN_EUSAGE, "--traffic and --calls both say what the traffic is; give one");
    if (j->calls) return learn(j, err);
    if (!j->traffic) return SRN_OK;
    int code = read_json(j->traffic, &o, err);
    if (!code) code = srn_traffic_parse(o, j->traffic, &j->t, err);
    json_decref(o);
    return code;
}

/* ---- what comes out ---- */

static json_t *number(double v) {
    return isnan(v) ? json_null() : json_real(v);
}

static json_t *result_json(const char *effect, const srn_simulation *s) {
    double n = s->n_runs;
    json_t *by = json_object();
    for (unsigned m = 0; m < SRN_METRIC_END; m++)
        if (s->by_metric[m])
            json_object_set_new(by, srn_metric_name((srn_metric)m), json_integer(s->by_metric[m]));
    return json_pack("{s:o, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:s}", "effect",
                     effect ? json_string(effect) : json_null(), "rolled_back", s->n_rolled_back / n,
                     "promoted", s->n_promoted / n, "held", s->n_held / n, "calls_median",
                     number(s->calls_median), "calls_p95", number(s->calls_p95), "promoted_median",
                     number(s->promoted_median), "promoted_p95", number(s->promoted_p95), "by_metric", by,
                     "held_why", s->held_why);
}

static void put_result(const char *effect, const srn_simulation *s) {
    double n = s->n_runs;
    printf("%s: rolled back %.1f %%, ended well %.1f %%, undecided %.1f %%\n", effect ? effect : "as good",
           100 * s->n_rolled_back / n, 100 * s->n_promoted / n, 100 * s->n_held / n);
    if (s->n_rolled_back)
        printf("  until the roll-back: %.0f calls (median), %.0f (95 %% of them)\n", s->calls_median,
               s->calls_p95);
    if (s->n_promoted)
        printf("  until the end of the last step: %.0f calls (median), %.0f (95 %% of them)\n",
               s->promoted_median, s->promoted_p95);
    if (s->n_held) printf("  undecided at the end, for one: %s\n", s->held_why);
}

static int simulate_one(const job *j, const char *effect, json_t *results, srn_err *err) {
    srn_effect e;
    srn_simulation s;
    int code = effect ? srn_effect_parse(effect, &e, err) : SRN_OK;
    if (code) return code;
    srn_simulate_opts o = {.traffic = &j->t,
                           .effects = &e,
                           .n_effects = effect != NULL,
                           .n_runs = (uint32_t)j->runs,
                           .max_calls = (uint64_t)j->max_calls,
                           .seed = (uint64_t)j->seed,
                           .share = j->share / 100,
                           .progress = srn_cli_progress};
    code = srn_simulate(j->r, &o, &s, err);
    if (code) return code;
    if (j->json)
        json_array_append_new(results, result_json(effect, &s));
    else
        put_result(effect, &s);
    return SRN_OK;
}

static int simulate_all(const job *j, srn_err *err) {
    json_t *results = json_array();
    srn_effect e;
    int code = SRN_OK;
    for (size_t i = 0; i < j->effects.n && !code; i++) code = srn_effect_parse(j->effects.items[i], &e, err);
    if (!code && !j->json)
        printf("%s: %lld roll-outs of at most %lld calls; %u subjects, correlation %.2g, activity Zipf %.2g, "
               "%.0f calls a day\n",
               j->r->name, (long long)j->runs, (long long)j->max_calls, j->t.n_subjects, j->t.icc, j->t.zipf,
               j->t.calls_per_day);
    if (!code) code = simulate_one(j, NULL, results, err);
    for (size_t i = 0; i < j->effects.n && !code; i++)
        code = simulate_one(j, j->effects.items[i], results, err);
    if (!code && j->json) {
        json_t *o =
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:{s:I, s:f, s:f, s:f}, s:O}", "policy", j->r->name, "hash",
                      j->r->hash, "runs", (json_int_t)j->runs, "max_calls", (json_int_t)j->max_calls, "seed",
                      (json_int_t)j->seed, "traffic", "subjects", (json_int_t)j->t.n_subjects, "zipf",
                      j->t.zipf, "icc", j->t.icc, "calls_per_day", j->t.calls_per_day, "results", results);
        if (!o || srn__ledger_print("canary simulate", o)) code = srn_fail(err, SRN_EIO, "cannot print");
    }
    json_decref(results);
    return code;
}

int srn__canary_simulate(int argc, char **argv) {
    job j = {.runs = 200, .max_calls = 10000, .seed = 1};
    const srn_opt opts[] = {
        {"policy", 0, SRN_OPT_STR, &j.policy, 0, 0, "FILE", "a declaration, or a serin.yaml with canary:"},
        {"name", 0, SRN_OPT_STR, &j.name, 0, 0, "NAME", "which roll-out of a serin.yaml (the first)"},
        {"traffic", 0, SRN_OPT_STR, &j.traffic, 0, 0, "FILE", "what the traffic is like (docs/canary.md)"},
        {"calls", 0, SRN_OPT_STR, &j.calls, 0, 0, "FILTER", "learn it from these calls of the ledger"},
        {"ledger", 0, SRN_OPT_STR, &j.ledger, 0, 0, "DIR", "the ledger ($XDG_STATE_HOME/serin/ledger)"},
        SRN__LEDGER_FOLDER(&j.folder),
        {"keys", 0, SRN_OPT_STR, &j.keys, 0, 0, "DIR", "its keys (keys in the ledger's folder)"},
        {"effect", 'e', SRN_OPT_LIST, &j.effects, 0, 0, "METRIC=+15%",
         "also with this change; may be repeated"},
        {"runs", 'n', SRN_OPT_INT, &j.runs, 1, 100000, "N", "roll-outs of each (200)"},
        {"max-calls", 0, SRN_OPT_INT, &j.max_calls, 1, 100000000, "N", "calls of everybody in each (10000)"},
        {"share", 0, SRN_OPT_FLOAT, &j.share, 0, 100, "PERCENT",
         "one step of this share, not those declared"},
        {"seed", 0, SRN_OPT_INT, &j.seed, 0, 1e15, "N", "of the made traffic (1)"},
        {"json", 0, SRN_OPT_FLAG, &j.json, 0, 0, NULL, "print JSON"},
    };
    const srn_cli_spec spec = {
        .usage =
            "serin canary simulate --policy FILE [--traffic FILE | --calls FILTER] [--effect METRIC=+15%]...",
        .about =
            "Runs the roll-out many times on made traffic: how often the policy rolls back a canary that\n"
            "is as good as the baseline, and how often and how soon it catches one that is worse.",
        .examples =
            "  serin canary simulate --policy serin.yaml --calls since=7d --effect itl=+15%\n"
            "  serin canary simulate --policy trial.yaml --share 50 --effect error=+5% --runs 1000 --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn_err err = {0};
    int n, code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code < 0) {
        code = j.policy ? SRN_OK
                        : srn_fail(&err, SRN_EUSAGE,
                                   "--policy FILE says which roll-out; docs/canary.md shows one");
        if (!code) code = read_policy(&j, &err);
        if (!code) code = read_traffic(&j, &err);
        if (!code) code = simulate_all(&j, &err);
        code = code ? srn_cli_error("canary simulate", &err) : srn_cli_flush("canary simulate");
    }
    srn_str_list_done(&j.effects);
    srn_rollout_free(j.r);
    free(j.past);
    return code;
}
