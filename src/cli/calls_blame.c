/* cli: `serin calls blame`: since which call, and with which recorded change, a metric moved. Reads calls and
 * events, numbers what they are about, and leaves the judgement to srn_blame. Main thread; only reads.
 * Refuses metrics that it does not know and histories that are too short to tell anything.
 */
#include "cli/calls.h"
#include "ledger/blame.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_CALLS = 500000, MAX_NAMES = 1 << 16, FREQUENT = 50, DETAIL = 200 };

/* ---- metrics ---- */

typedef enum unit { SPAN, COUNT, RATE, SCORE } unit;

typedef struct metric {
    const char *name, *about;
    unit unit;
    bool (*of)(const srn_call_row *r, double *ret_value, double *ret_size); /* false: it has none */
} metric;

static bool answered(const srn_call_row *r) {
    return r->status < 400 && !*r->error;
}
static double computed(const srn_call_row *r) {
    return (double)(r->n_input - SRN_MIN(r->n_cached, r->n_input));
}
static bool time_of(const srn_call_row *r, uint64_t us, double size, double *ret_value, double *ret_size) {
    *ret_value = (double)us;
    *ret_size = size;
    return us > 0 && answered(r);
}
static bool itl(const srn_call_row *r, double *v, double *size) {
    return time_of(r, r->itl_us, r->n_input, v, size);
}
static bool itl_max(const srn_call_row *r, double *v, double *size) {
    return time_of(r, r->itl_max_us, r->n_input, v, size);
}
static bool ttft(const srn_call_row *r, double *v, double *size) {
    return time_of(r, r->ttft_us, computed(r), v, size);
}
static bool total(const srn_call_row *r, double *v, double *size) {
    return time_of(r, r->total_us, computed(r), v, size);
}
static bool queue(const srn_call_row *r, double *v, double *size) {
    *v = (double)r->queue_us;
    *size = 0;
    return answered(r);
}
static bool input(const srn_call_row *r, double *v, double *size) {
    *v = r->n_input;
    *size = 0;
    return answered(r);
}
static bool output(const srn_call_row *r, double *v, double *size) {
    *v = r->n_output;
    *size = r->n_input;
    return answered(r);
}
static bool error(const srn_call_row *r, double *v, double *size) {
    *v = r->status >= 400 || *r->error;
    *size = 0;
    return true;
}
static bool length(const srn_call_row *r, double *v, double *size) {
    *v = strcmp(r->finish, "length") == 0;
    *size = 0;
    return answered(r) && *r->finish;
}
static bool score(const srn_call_row *r, double *v, double *size) {
    *v = 0; /* comes with the feedback */
    *size = r->n_input;
    return true;
}

static const metric metrics[] = {
    {"ttft", "time to the first token", SPAN, ttft},
    {"itl", "mean gap between tokens", SPAN, itl},
    {"itl_max", "longest gap between tokens", SPAN, itl_max},
    {"total", "time of the whole call", SPAN, total},
    {"queue", "time in the queue", SPAN, queue},
    {"input", "tokens of the prompt", COUNT, input},
    {"output", "tokens of the answer", COUNT, output},
    {"error", "share of calls with an error", RATE, error},
    {"length", "share of answers cut off by max_tokens", RATE, length},
    {"score", "score of the feedback", SCORE, score},
};

static const metric *metric_of(const char *name) {
    for (size_t i = 0; i < SRN_LEN(metrics); i++)
        if (strcmp(metrics[i].name, name) == 0) return &metrics[i];
    return NULL;
}

/* ---- names as numbers, from 1 on ---- */

typedef struct names {
    srn_arena arena;
    uint32_t slots[2 * MAX_NAMES]; /* 0: empty */
    const char *text[MAX_NAMES + 1];
    uint32_t count[MAX_NAMES + 1]; /* how often it was asked for */
    uint32_t n;
    uint64_t seed;
} names;

/* 0: there is no room for one more; then all such are one. */
static uint32_t number_of(names *x, const char *kind, const char *name) {
    char text[400];
    snprintf(text, sizeof text, "%s%.380s", kind, name);
    uint64_t at = srn_hash(x->seed, srn_str_of(text));
    for (;; at++) {
        uint32_t *slot = &x->slots[at % SRN_LEN(x->slots)];
        if (!*slot) {
            const char *copy = x->n < MAX_NAMES ? srn_arena_strndup(&x->arena, text, strlen(text)) : NULL;
            if (!copy) return 0;
            x->text[++x->n] = copy;
            *slot = x->n;
        }
        if (strcmp(x->text[*slot], text) == 0) return x->count[*slot]++, *slot;
    }
}

/* ---- what is read ---- */

typedef struct change {
    uint64_t seq;
    char event[32], by[64], detail[DETAIL];
} change;

typedef struct blaming {
    srn__calls *c;
    const metric *metric;
    names *names;
    srn_blame_call *calls; /* newest first, then turned round */
    uint8_t (*ids)[16];
    uint32_t n, cap;
    srn_blame_event *events;
    change *changes;
    uint32_t n_events, cap_events;
    json_t *last; /* what a model or the configuration was when it was last told of */
    bool failed;
} blaming;

static bool take_call(void *ctx, const srn_call_row *r, const srn_stored *s) {
    blaming *b = ctx;
    double value, size;
    char kind[200];
    (void)s;
    if (!b->metric->of(r, &value, &size)) return true;
    if (b->n == b->cap) {
        uint32_t cap = b->cap ? 2 * b->cap : 4096;
        srn_blame_call *calls = srn_realloc_array(b->calls, cap, sizeof *calls);
        if (calls) b->calls = calls;
        uint8_t(*ids)[16] = calls ? srn_realloc_array(b->ids, cap, sizeof *ids) : NULL;
        if (!ids) return b->failed = true, false;
        b->ids = ids;
        b->cap = cap;
    }
    snprintf(kind, sizeof kind, "%.180s %d", r->endpoint, r->streamed);
    const char *prompt = *r->prompt ? r->prompt : r->prompt_hash;
    b->calls[b->n] = (srn_blame_call){.t_us = r->begun_us,
                                      .model = number_of(b->names, "model:", r->model),
                                      .prompt = number_of(b->names, *r->prompt ? "name:" : "hash:", prompt),
                                      .kind = number_of(b->names, "kind:", kind),
                                      .size = size,
                                      .value = value};
    memcpy(b->ids[b->n++], r->id, 16);
    return true;
}

/* Texts that are not registered and rare are one prompt. */
static void join_rare(blaming *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t p = b->calls[i].prompt;
        bool hash = p && strncmp(b->names->text[p], "hash:", 5) == 0;
        if (hash && b->names->count[p] < FREQUENT) b->calls[i].prompt = 0;
    }
}

static void swap_calls(blaming *b, uint32_t i, uint32_t k) {
    srn_blame_call c = b->calls[i];
    uint8_t id[16];
    memcpy(id, b->ids[i], 16);
    b->calls[i] = b->calls[k];
    memcpy(b->ids[i], b->ids[k], 16);
    b->calls[k] = c;
    memcpy(b->ids[k], id, 16);
}

/* Ascending by time. Calls come nearly sorted, by their ids, so few move far. */
static void turn_round(blaming *b) {
    for (uint32_t i = 0; i < b->n / 2; i++) swap_calls(b, i, b->n - 1 - i);
    for (uint32_t i = 1; i < b->n; i++)
        for (uint32_t k = i; k > 0 && b->calls[k - 1].t_us > b->calls[k].t_us; k--) swap_calls(b, k - 1, k);
}

/* ---- feedback ---- */

typedef struct opinion {
    uint8_t id[16];
    uint64_t seq;
    double score;
} opinion;

typedef struct opinions {
    opinion *of;
    size_t n, cap;
    bool failed;
} opinions;

static bool take_opinion(void *ctx, const srn_stored *s) {
    opinions *o = ctx;
    json_t *j = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *id = json_string_value(json_object_get(j, "id"));
    json_t *value = json_object_get(j, "score");
    opinion one = {.seq = s->seq, .score = json_number_value(value)};
    if (id && json_is_number(value) && srn_ulid_parse(srn_str_of(id), one.id)) {
        if (o->n == o->cap) {
            size_t cap = o->cap ? 2 * o->cap : 1024;
            opinion *grown = srn_realloc_array(o->of, cap, sizeof *grown);
            o->failed = !grown;
            if (grown) o->of = grown, o->cap = cap;
        }
        if (!o->failed) o->of[o->n++] = one;
    }
    json_decref(j);
    return !o->failed;
}

static int by_id(const void *a, const void *b) {
    const opinion *x = a, *y = b;
    int c = memcmp(x->id, y->id, 16);
    return c ? c : (x->seq > y->seq) - (x->seq < y->seq);
}

/* Leaves the calls that have a score, with the latest one. */
static int join_scores(blaming *b, srn_err *err) {
    opinions o = {0};
    int code = srn_reader_records(b->c->reader, SRN_RECORD_FEEDBACK, 0, take_opinion, &o, err);
    if (!code && o.failed) code = srn_fail_nomem(err, o.cap * sizeof *o.of);
    if (o.n) qsort(o.of, o.n, sizeof *o.of, by_id);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->n && !code; i++) {
        size_t low = 0, high = o.n; /* the last one of this id */
        while (low < high) {
            size_t mid = (low + high) / 2;
            if (memcmp(o.of[mid].id, b->ids[i], 16) <= 0)
                low = mid + 1;
            else
                high = mid;
        }
        if (!low || memcmp(o.of[low - 1].id, b->ids[i], 16) != 0) continue;
        b->calls[kept] = b->calls[i];
        b->calls[kept].value = o.of[low - 1].score;
        memmove(b->ids[kept++], b->ids[i], 16);
    }
    b->n = kept;
    free(o.of);
    return code;
}

/* ---- changes ---- */

static const char *text_of(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

/* Whether a thing is something else than when it was last told of. */
static bool is_news(blaming *b, const char *thing, const char *state) {
    const char *before = json_string_value(json_object_get(b->last, thing));
    bool news = !before || strcmp(before, state) != 0;
    json_object_set_new(b->last, thing, json_string(state));
    return news;
}

static bool model_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    static const char *const keys[] = {"weights", "tokenizer", "template", "engine", "kv"};
    const char *model = text_of(j, "model");
    char thing[300], state[700];
    size_t n = 0;
    for (size_t i = 0; i < SRN_LEN(keys); i++)
        n += (size_t)snprintf(state + n, sizeof state - n, "%.100s ", text_of(j, keys[i]));
    snprintf(thing, sizeof thing, "model %.200s", model);
    snprintf(detail, DETAIL, "%.60s: weights %.12s, %.60s, %.50s", model, text_of(j, "weights"),
             text_of(j, "quantisation"), text_of(j, "engine"));
    e->model = number_of(b->names, "model:", model);
    e->order = 1;
    return is_news(b, thing, state);
}

static bool label_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    snprintf(detail, DETAIL, "%.80s@%.40s: version %lld to %lld", text_of(j, "name"), text_of(j, "label"),
             (long long)json_integer_value(json_object_get(j, "from")),
             (long long)json_integer_value(json_object_get(j, "to")));
    e->prompt = number_of(b->names, "name:", text_of(j, "name"));
    return true;
}

/* The names of an array with commas between them. */
static void join_names(const json_t *list, char *ret, size_t cap) {
    size_t i, at = 0;
    json_t *name;
    ret[0] = 0;
    json_array_foreach((json_t *)(uintptr_t)list, i, name) {
        if (at < cap)
            at += (size_t)snprintf(ret + at, cap - at, "%s%.60s", i ? ", " : "", json_string_value(name));
    }
}

/* What a reload changed, for the event of the configuration that comes behind it; no change by itself. */
static bool note_reload(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    char thing[80];
    (void)e;
    snprintf(thing, sizeof thing, "reload %.64s", text_of(j, "to"));
    join_names(json_object_get(j, "changed"), detail, DETAIL);
    json_object_set_new(b->last, thing, json_string(detail));
    return false;
}

static bool config_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    char thing[80];
    snprintf(thing, sizeof thing, "reload %.64s", text_of(j, "id"));
    const char *changed = json_string_value(json_object_get(b->last, thing));
    snprintf(detail, DETAIL, "configuration %.12s%s%.120s", text_of(j, "id"), changed ? ": " : "",
             changed ? changed : "");
    e->order = 2;
    return is_news(b, "config", text_of(j, "id"));
}

static bool start_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    (void)b;
    snprintf(detail, DETAIL, "the server was started, version %.40s", text_of(j, "version"));
    e->order = 9; /* something else that came with it is likelier */
    return true;
}

static bool mismatch_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    snprintf(detail, DETAIL, "%.60s: %.120s", text_of(j, "model"), text_of(j, "what"));
    e->model = number_of(b->names, "model:", text_of(j, "model"));
    return true;
}

/* The first one says only what there was. */
static bool driver_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    const json_t *before = json_object_get(j, "before"), *now = json_object_get(j, "now");
    size_t i, at = 0;
    json_t *name;
    (void)b;
    e->order = 3;
    json_array_foreach(json_object_get(j, "changed"), i, name) {
        const char *key = json_string_value(name);
        if (key && at < DETAIL)
            at += (size_t)snprintf(detail + at, DETAIL - at, "%s%.20s %.60s to %.60s", i ? "; " : "", key,
                                   text_of(before, key), text_of(now, key));
    }
    return json_is_object(before);
}

static bool other_change(blaming *b, const json_t *j, srn_blame_event *e, char *detail) {
    (void)b, (void)j;
    detail[0] = 0;
    e->order = 3;
    return true;
}

/* The events that can move a metric. What only was loaded again as it was is none. */
static const struct {
    const char *event;
    bool (*make)(blaming *b, const json_t *j, srn_blame_event *e, char *detail);
} kinds[] = {
    {"model_loaded", model_change}, {"label_moved", label_change},
    {"config", config_change},      {"start", start_change},
    {"binary", other_change},       {"driver", driver_change},
    {"restored", other_change},     {"digest_mismatch", mismatch_change},
    {"reload", note_reload},
};

static bool add_change(blaming *b, const srn_blame_event *e, const change *c) {
    if (b->n_events == b->cap_events) {
        uint32_t cap = b->cap_events ? 2 * b->cap_events : 64;
        srn_blame_event *events = srn_realloc_array(b->events, cap, sizeof *events);
        if (events) b->events = events;
        change *changes = events ? srn_realloc_array(b->changes, cap, sizeof *changes) : NULL;
        if (!changes) return b->failed = true, false;
        b->changes = changes;
        b->cap_events = cap;
    }
    b->events[b->n_events] = *e;
    b->changes[b->n_events++] = *c;
    return true;
}

/* Those outside of the time of the calls are read for what they say of later ones. */
static bool take_event(void *ctx, const srn_stored *s) {
    blaming *b = ctx;
    json_t *j = json_loadb(s->body.ptr, s->body.len, 0, NULL);
    const char *name = text_of(j, "event");
    json_int_t at = json_integer_value(json_object_get(j, "at_us"));
    srn_blame_event e = {.t_us = at > 0 ? (uint64_t)at : s->t_us};
    change c = {.seq = s->seq};
    bool goes_on = true;
    for (size_t i = 0; i < SRN_LEN(kinds); i++) {
        if (strcmp(kinds[i].event, name) != 0) continue;
        bool news = kinds[i].make(b, j, &e, c.detail);
        snprintf(c.event, sizeof c.event, "%s", name);
        snprintf(c.by, sizeof c.by, "%.60s", text_of(j, "by"));
        if (news && e.t_us > b->calls[0].t_us && e.t_us <= b->calls[b->n - 1].t_us)
            goes_on = add_change(b, &e, &c);
    }
    json_decref(j);
    return goes_on;
}

static int gather(blaming *b, srn_err *err) {
    int code = srn_reader_calls(b->c->reader, b->c->filter, NULL, MAX_CALLS, take_call, b, err);
    if (!code && b->metric->unit == SCORE) code = join_scores(b, err);
    if (!code && !b->failed && b->n) {
        turn_round(b);
        join_rare(b);
        code = srn_reader_records(b->c->reader, SRN_RECORD_EVENT, 0, take_event, b, err);
    }
    return code ? code : b->failed ? srn_fail_nomem(err, (size_t)b->cap * sizeof *b->calls) : SRN_OK;
}

/* ---- what is printed ---- */

static void value_text(const metric *m, double v, char ret[32]) {
    if (m->unit == SPAN)
        srn__calls_span((uint64_t)SRN_MAX(v, 0.0), ret);
    else if (m->unit == RATE)
        snprintf(ret, 32, "%.2f%%", 100 * v);
    else
        snprintf(ret, 32, "%.4g", v);
}

static void change_text(const metric *m, double v, char ret[32]) {
    snprintf(ret, 32, "%+.1f%s", 100 * v, m->unit == RATE ? " points" : "%");
}

static void print_finding(const blaming *b, const srn_blame_finding *f, bool first_of_step) {
    const change *c = &b->changes[f->event];
    char at[32], id[SRN_ULID_CHARS + 1], before[32], after[32], by[32], low[32], high[32];
    srn__calls_time(b->events[f->event].t_us, false, at);
    srn_ulid_format(b->ids[f->first], id);
    value_text(b->metric, f->before, before);
    value_text(b->metric, f->after, after);
    change_text(b->metric, f->change, by);
    change_text(b->metric, f->low, low);
    change_text(b->metric, f->high, high);
    printf("%s%s  %s", first_of_step ? "" : "  or ", at, c->event);
    if (c->detail[0]) printf("  "), srn_cli_put_text(stdout, srn_str_of(c->detail), DETAIL, false);
    if (c->by[0]) printf("  by "), srn_cli_put_text(stdout, srn_str_of(c->by), sizeof c->by, false);
    printf("\n    %s %s -> %s, %s (%s to %s) with the same traffic, since call %s\n    ", b->metric->name,
           before, after, by, low, high, id);
    printf("%" PRIu32 " call%s before, %" PRIu32
           " after; by chance: %s%.2g; %.0f%% of the candidates' likelihood\n",
           f->n_before, f->n_before == 1 ? "" : "s", f->n_after, f->p <= 0.0005 ? "at most " : "", f->p,
           100 * f->share);
}

static void print_text(const blaming *b, const srn_blame_result *r) {
    char id[SRN_ULID_CHARS + 1], at[32];
    for (uint32_t i = 0; i < r->n_findings; i++)
        print_finding(b, &r->findings[i], i == 0 || r->findings[i].step != r->findings[i - 1].step);
    if (r->n_findings) return;
    if (!r->moved) {
        printf("%s did not move: nothing to blame among %" PRIu32 " change%s and %" PRIu32 " call%s (%" PRIu32
               " could be compared)\n",
               b->metric->name, b->n_events, b->n_events == 1 ? "" : "s", b->n, b->n == 1 ? "" : "s",
               r->n_compared);
        return;
    }
    srn_ulid_format(b->ids[r->first], id);
    srn__calls_time(b->calls[r->first].t_us, false, at);
    printf("%s moved at about %s, call %s, and none of %" PRIu32 " recorded changes explains it\n",
           b->metric->name, at, id, b->n_events);
}

static json_t *finding_json(const blaming *b, const srn_blame_finding *f) {
    const change *c = &b->changes[f->event];
    char id[SRN_ULID_CHARS + 1];
    srn_ulid_format(b->ids[f->first], id);
    return json_pack("{s:s, s:I, s:s, s:s, s:I, s:s, s:i, s:f, s:f, s:f, s:[f,f], s:f, s:f, s:I, s:I}",
                     "event", c->event, "seq", (json_int_t)c->seq, "detail", c->detail, "by", c->by, "at_us",
                     (json_int_t)b->events[f->event].t_us, "first_call", id, "step", (int)f->step, "before",
                     f->before, "after", f->after, "change", f->change, "interval", f->low, f->high, "p",
                     f->p, "share", f->share, "calls_before", (json_int_t)f->n_before, "calls_after",
                     (json_int_t)f->n_after);
}

static int print_json(const blaming *b, const srn_blame_result *r, srn_err *err) {
    char id[SRN_ULID_CHARS + 1];
    json_t *list = json_array(), *since = json_null();
    for (uint32_t i = 0; i < r->n_findings; i++)
        json_array_append_new(list, finding_json(b, &r->findings[i]));
    if (r->moved) {
        srn_ulid_format(b->ids[r->first], id);
        since = json_pack("{s:s, s:I}", "call", id, "at_us", (json_int_t)b->calls[r->first].t_us);
    }
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:f, s:o, s:o}", "object", "blame", "metric",
                          b->metric->name, "calls", (json_int_t)b->n, "compared", (json_int_t)r->n_compared,
                          "recorded_changes", (json_int_t)b->n_events, "moved", r->moved, "p", r->p, "since",
                          since, "changes", list);
    int failed = !o || json_dumpf(o, stdout, JSON_INDENT(2)) || putchar('\n') == EOF;
    json_decref(o);
    return failed ? srn_fail_nomem(err, 4096) : SRN_OK;
}

/* ---- the command ---- */

/* Takes the metric's name out of the arguments; NULL: none is named. */
static const metric *take_metric(int *argc, char **argv) {
    for (int i = 1; i < *argc; i++) {
        const metric *m = metric_of(argv[i]);
        if (!m) continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof *argv);
        --*argc;
        return m;
    }
    return NULL;
}

static int run(blaming *b, srn_err *err) {
    srn_blame_result r;
    srn_blame_opts o = {.rate = b->metric->unit == RATE};
    b->names = srn_calloc(1, sizeof *b->names);
    b->last = json_object();
    if (!b->names || !b->last) return srn_fail_nomem(err, sizeof *b->names);
    srn_arena_init(&b->names->arena, 64u << 20);
    b->names->seed = srn_hash_seed();
    int code = gather(b, err);
    if (!code) code = srn_blame(&o, b->calls, b->n, b->events, b->n_events, &r, err);
    if (code) return code;
    if (b->c->json) return print_json(b, &r, err);
    print_text(b, &r);
    return SRN_OK;
}

static void blaming_done(blaming *b) {
    if (b->names) srn_arena_done(&b->names->arena);
    free(b->names);
    free(b->calls);
    free(b->ids);
    free(b->events);
    free(b->changes);
    json_decref(b->last);
}

static int fail_metric(const char *command) {
    fprintf(stderr, "serin %s: name a metric:\n", command);
    for (size_t i = 0; i < SRN_LEN(metrics); i++)
        fprintf(stderr, "  %-8s %s\n", metrics[i].name, metrics[i].about);
    fprintf(stderr, "as in: serin calls blame itl --since 14d\n");
    return 2;
}

int srn__calls_blame(int argc, char **argv) {
    srn__calls c = {.command = "calls blame"};
    const srn__calls_spec spec = {
        .usage = "serin calls blame METRIC [FILTER...] [--since WHEN]",
        .about =
            "Says since which call, and with which recorded change (a model, a label, the configuration, a\n"
            "restart), a metric moved: ttft, itl, itl_max, total, queue, input, output, error, length or\n"
            "score. Calls are compared with others of their model, prompt, endpoint and size, so that other\n"
            "traffic moves nothing; where chance explains it, nothing is accused. docs/blame.md has the\n"
            "method.",
        .examples = "  serin calls blame itl --since 14d\n"
                    "  serin calls blame error --model small --json\n"
                    "  serin calls blame score --prompt support\n",
        .filtered = true};
    const metric *m = take_metric(&argc, argv);
    bool help = false;
    for (int i = 1; i < argc; i++)
        help = help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (!m && !help) return fail_metric(c.command);
    int code = srn__calls_begin(&c, &spec, argc, argv);
    if (code >= 0) return code;
    srn_err err = {0};
    blaming b = {.c = &c, .metric = m};
    code = run(&b, &err);
    blaming_done(&b);
    srn__calls_end(&c);
    return code ? srn_cli_error(c.command, &err) : srn_cli_flush(c.command);
}
