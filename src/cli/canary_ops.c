/* cli, serin canary: what an operator sees of roll-outs and does to them, through the server that runs them.
 * Main thread.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/calls.h"
#include "cli/canary.h"
#include "cli/server_client.h"
#include "config/yaml.h"

enum { MAX_DECLARATION = 1 << 20, MAX_DEPTH = 16 };

typedef struct work {
    srn__server_opts server;
    const char *by, *why;
    bool json;
    const char *operands[2];
    int n;
    srn__server at;
} work;

#define OPTIONS(w)                                                                                           \
    SRN__SERVER_OPTIONS(&(w)->server), {                                                                     \
        "json", 0, SRN_OPT_FLAG, &(w)->json, 0, 0, NULL, "print JSON"                                        \
    }
#define WHO(w)                                                                                               \
    {"why", 0, SRN_OPT_STR, &(w)->why, 0, 0, "TEXT", "the reason, for the record"}, {                        \
        "by", 0, SRN_OPT_STR, &(w)->by, 0, 0, "NAME", "who does it, for the record (your user name)"         \
    }

/* ---- shared ---- */

static int begin(const srn_cli_spec *spec, int argc, char **argv, work *w) {
    srn_err err = {0};
    int code = srn_cli_parse(spec, argc, argv, w->operands, &w->n);
    if (code >= 0) return code;
    if (srn__server_find(&w->server, &w->at, &err) == SRN_OK) return -1;
    return srn_cli_error(argv[0], &err);
}

static int end(work *w, const char *command, int code, const srn_err *err, json_t *answer) {
    json_decref(answer);
    srn__server_done(&w->at);
    return code ? srn_cli_error(command, err) : srn_cli_flush(command);
}

static int ask(work *w, const char *name, const char *more, json_t *body, json_t **ret, srn_err *err) {
    srn_buf path;
    srn_buf_init(&path, 4096);
    srn_buf_addz(&path, "/v1/rollouts");
    if (name) srn_buf_addc(&path, '/');
    if (name) srn__server_escape(&path, name);
    srn_buf_addz(&path, more);
    int code = path.failed ? srn_fail(err, SRN_EINVAL, "the name is too long")
                           : srn__server_json(&w->at, path.data, body, ret, err);
    srn_buf_done(&path);
    return code;
}

static int print_json(const json_t *o, srn_err *err) {
    char *text = json_dumps(o, JSON_INDENT(2));
    if (!text) return srn_fail_nomem(err, 0);
    puts(text);
    free(text);
    return SRN_OK;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z && *z ? z : "-";
}

static void put(const char *z) {
    srn_cli_put_text(stdout, srn_str_of(z), 300, false);
}

static uint64_t count_of(const json_t *o, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* ---- what there is ---- */

/* Its canary has the baseline's calls, whatever was its share. */
static bool is_promoted(const json_t *o) {
    return strcmp(text_of(o, "phase"), "promoted") == 0;
}

static void print_list(const json_t *answer) {
    static const char *const head[] = {"roll-out", "phase", "step", "share", "baseline", "canary", "since"};
    const json_t *data = json_object_get(answer, "data");
    srn__table t;
    srn__table_init(&t, head, SRN_LEN(head), 1 << 2 | 1 << 3);
    for (size_t i = 0; i < json_array_size(data); i++) {
        const json_t *o = json_array_get(data, i);
        char step[48], share[32] = "-", since[32], phase[400];
        const char *before = json_string_value(json_object_get(o, "waits_for"));
        bool promoted = is_promoted(o);
        snprintf(step, sizeof step, "%" PRIu64 "/%zu", count_of(o, "step") + 1,
                 json_array_size(json_object_get(o, "steps")));
        if (!promoted)
            snprintf(share, sizeof share, "%.4g %%", 100 * json_number_value(json_object_get(o, "share")));
        snprintf(phase, sizeof phase, "%s%s%.300s", text_of(o, "phase"),
                 promoted ? ": answers for "
                 : before ? ": waits for "
                          : "",
                 promoted ? text_of(o, "baseline")
                 : before ? before
                          : "");
        srn__calls_time(count_of(o, "started_us"), false, since);
        const char *const cells[] = {text_of(o, "name"),   phase, step, share, text_of(o, "baseline"),
                                     text_of(o, "canary"), since};
        for (size_t k = 0; k < SRN_LEN(cells); k++) srn__table_add(&t, cells[k]);
    }
    if (json_array_size(data)) srn__table_print(&t);
    srn__table_done(&t);
    fflush(stdout);
    if (json_is_true(json_object_get(answer, "frozen")))
        fprintf(stderr, "roll-outs and label moves are frozen\n");
    if (!json_array_size(data)) fprintf(stderr, "there is no roll-out; serin canary start FILE begins one\n");
}

static void add_number(srn__table *t, const json_t *v, const char *format) {
    char text[40] = "-";
    if (json_is_number(v)) snprintf(text, sizeof text, format, json_number_value(v));
    srn__table_add(t, text);
}

/* Of each metric that has a word to say: how much worse the canary is, and within what. */
static void print_look(const json_t *look) {
    static const char *const head[] = {"metric", "control", "canary",      "worse by",
                                       "from",   "to",      "let through", ""};
    const json_t *findings = json_object_get(look, "findings"), *f;
    const char *name;
    srn__table t;
    srn__table_init(&t, head, SRN_LEN(head), 0x7e);
    json_object_foreach((json_t *)(uintptr_t)findings, name, f) {
        const json_t *calls = json_object_get(f, "calls");
        char n[2][24];
        for (size_t i = 0; i < 2; i++)
            snprintf(n[i], sizeof n[i], "%" JSON_INTEGER_FORMAT,
                     json_integer_value(json_array_get(calls, i)));
        bool guarded = json_is_true(json_object_get(f, "guarded"));
        srn__table_add(&t, name);
        srn__table_add(&t, n[0]);
        srn__table_add(&t, n[1]);
        add_number(&t, json_object_get(f, "estimate"), "%.4g");
        add_number(&t, json_object_get(f, "low"), "%.4g");
        add_number(&t, json_object_get(f, "high"), "%.4g");
        add_number(&t, guarded ? json_object_get(f, "margin") : NULL, "%.4g");
        srn__table_add(&t, json_is_true(json_object_get(f, "broken"))    ? "broken"
                           : json_is_true(json_object_get(f, "cleared")) ? "cleared"
                           : !guarded                                    ? "reported"
                           : json_is_true(json_object_get(f, "enough"))  ? "open"
                                                                         : "too little to say");
    }
    srn__table_print(&t);
    srn__table_done(&t);
}

static void print_one(const json_t *o) {
    char since[32];
    const json_t *look = json_object_get(o, "look");
    srn__calls_time(count_of(o, "step_started_us"), false, since);
    put(text_of(o, "name"));
    if (is_promoted(o)) {
        printf(": promoted: answers for ");
        put(text_of(o, "baseline"));
        printf(", until serin canary retire\n");
    } else {
        printf(": %s, %.4g %% of the subjects, step %" PRIu64 " of %zu since %s, %" PRIu64
               " calls in flight\n",
               text_of(o, "phase"), 100 * json_number_value(json_object_get(o, "share")),
               count_of(o, "step") + 1, json_array_size(json_object_get(o, "steps")), since,
               count_of(o, "open"));
    }
    if (json_is_string(json_object_get(o, "waits_for"))) {
        printf("gets no calls yet: ");
        put(text_of(o, "waits_for"));
        printf(" began before it and has them, until it ends\n");
    }
    put(text_of(o, "baseline"));
    printf(" -> ");
    put(text_of(o, "canary"));
    printf("\nlast change by ");
    put(text_of(o, "by"));
    printf(": ");
    put(text_of(o, "why"));
    printf("\n");
    if (json_object_get(o, "not_comparable")) printf("divergence: %s\n", text_of(o, "not_comparable"));
    if (!json_is_object(look)) return;
    printf("verdict %s: ", text_of(look, "verdict"));
    put(text_of(look, "why"));
    printf("\n\n");
    print_look(look);
}

int srn__canary_list(int argc, char **argv) {
    work w = {.n = 0};
    const srn_opt opts[] = {OPTIONS(&w)};
    const srn_cli_spec spec = {.usage = "serin canary list [--json]",
                               .about = "Lists the roll-outs that a server knows, oldest first.",
                               .examples = "  serin canary list\n",
                               .opts = opts,
                               .n_opts = SRN_LEN(opts)};
    srn_err err = {0};
    json_t *answer = NULL;
    int code = begin(&spec, argc, argv, &w);
    if (code >= 0) return code;
    code = ask(&w, NULL, "", NULL, &answer, &err);
    if (!code && w.json)
        code = print_json(answer, &err);
    else if (!code)
        print_list(answer);
    return end(&w, argv[0], code, &err, answer);
}

int srn__canary_status(int argc, char **argv) {
    work w = {.n = 0};
    const srn_opt opts[] = {OPTIONS(&w)};
    const srn_cli_spec spec = {
        .usage = "serin canary status NAME [--json]",
        .about = "Shows how a roll-out stands: its share, and of each metric how much worse the canary is "
                 "than the "
                 "control, with the band that always holds.",
        .examples = "  serin canary status q8-trial\n  serin calls list experiment=q8-trial arm=canary\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    srn_err err = {0};
    json_t *answer = NULL;
    int code = begin(&spec, argc, argv, &w);
    if (code >= 0) return code;
    code = ask(&w, w.operands[0], "", NULL, &answer, &err);
    if (!code && w.json)
        code = print_json(answer, &err);
    else if (!code)
        print_one(answer);
    return end(&w, argv[0], code, &err, answer);
}

/* ---- history ---- */

static void print_event(const json_t *e, bool again) {
    char at[32];
    srn__calls_time(count_of(e, "at_us"), false, at);
    printf("%s  %-20s  ", at, text_of(e, "event"));
    put(text_of(e, "by"));
    printf(": ");
    put(text_of(e, "why"));
    printf("\n");
    const json_t *a = json_object_get(e, "again");
    if (!again || !a) return;
    printf("  decided again from its numbers: %s", text_of(a, "verdict"));
    printf(", %s\n\n", json_is_true(json_object_get(a, "same")) ? "the same" : "NOT what was decided then");
    print_look(json_object_get(e, "look"));
    printf("\n");
}

static int events(int argc, char **argv, const srn_cli_spec *with, work *w, const char *more) {
    const srn_opt opts[] = {OPTIONS(w)};
    srn_cli_spec spec = *with;
    spec.opts = opts;
    spec.n_opts = SRN_LEN(opts);
    spec.min_operands = spec.max_operands = 1;
    srn_err err = {0};
    json_t *answer = NULL;
    int code = begin(&spec, argc, argv, w);
    if (code >= 0) return code;
    code = ask(w, w->operands[0], more, NULL, &answer, &err);
    const json_t *data = json_object_get(answer, "data");
    if (!code && w->json) code = print_json(answer, &err);
    for (size_t i = 0; !code && !w->json && i < json_array_size(data); i++)
        print_event(json_array_get(data, i), strcmp(more, "/explain") == 0);
    if (!code && !w->json && !json_array_size(data)) fprintf(stderr, "there is none yet\n");
    return end(w, argv[0], code, &err, answer);
}

int srn__canary_history(int argc, char **argv) {
    work w = {.n = 0};
    return events(
        argc, argv,
        &(srn_cli_spec){.usage = "serin canary history NAME [--json]",
                        .about = "Lists what happened to a roll-out, oldest first, with who did it and why.",
                        .examples = "  serin canary history q8-trial\n"},
        &w, "/history");
}

int srn__canary_explain(int argc, char **argv) {
    work w = {.n = 0};
    return events(
        argc, argv,
        &(srn_cli_spec){.usage = "serin canary explain NAME [--json]",
                        .about = "Shows the decisions that evidence made, each with all of its numbers, and "
                                 "decides them again from these.",
                        .examples = "  serin canary explain q8-trial\n"},
        &w, "/explain");
}

/* ---- changes ---- */

/* Without a body the server would be asked, and not told. */
static int check_body(const json_t *body, srn_err *err) {
    return body ? SRN_OK : srn_fail(err, SRN_EUSAGE, "--why and --by need text in UTF-8");
}

/* One declaration: a mapping, or the only one of a list under `canary`. */
static int read_declaration(const char *path, json_t **ret, srn_err *err) {
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    char *data;
    size_t len;
    srn_yaml *y = NULL;
    json_t *o = NULL;
    int code = srn_read_file(path, MAX_DECLARATION, &data, &len, err);
    if (code) return code;
    code = srn_yaml_parse((srn_str){data, len}, name, MAX_DEPTH, &y, err);
    free(data);
    if (!code) code = srn_yaml_json(y, &o, err);
    srn_yaml_free(y);
    const json_t *list = json_object_get(o, "canary");
    if (!code && json_is_array(list) && json_array_size(list) != 1)
        code = srn_fail(err, SRN_EINVAL, "%s: canary: has %zu roll-outs; start takes one", name,
                        json_array_size(list));
    if (!code && !json_is_object(o)) code = srn_fail(err, SRN_EINVAL, "%s: needs a mapping: name: ...", name);
    if (!code) *ret = json_incref(json_is_array(list) ? json_array_get(list, 0) : o);
    json_decref(o);
    return code;
}

int srn__canary_start(int argc, char **argv) {
    work w = {.n = 0};
    const srn_opt opts[] = {
        OPTIONS(&w),
        {"by", 0, SRN_OPT_STR, &w.by, 0, 0, "NAME", "who does it, for the record (your user name)"}};
    const srn_cli_spec spec = {
        .usage = "serin canary start FILE [--json]",
        .about = "Begins the roll-out that a YAML file (- for standard input) declares. Its models are those "
                 "of the "
                 "server's configuration; docs/canary.md has the keys.",
        .examples = "  serin canary simulate --policy trial.yaml      # what it would do, first\n"
                    "  serin canary start trial.yaml\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    srn_err err = {0};
    json_t *answer = NULL, *declaration = NULL;
    int code = begin(&spec, argc, argv, &w);
    if (code >= 0) return code;
    code = read_declaration(w.operands[0], &declaration, &err);
    json_t *body = code ? NULL
                        : json_pack("{s:o, s:s}", "declaration", declaration, "by",
                                    srn__server_user(w.by, (char[64]){0}));
    if (!code) code = check_body(body, &err);
    if (!code) code = ask(&w, NULL, "", body, &answer, &err);
    if (!code && w.json)
        code = print_json(answer, &err);
    else if (!code)
        print_one(answer);
    return end(&w, argv[0], code, &err, answer);
}

static int act(int argc, char **argv, const char *action, const char *about) {
    work w = {.n = 0};
    char usage[128], examples[160];
    bool step = strcmp(action, "step") == 0;
    const char *word = argv[0], *space = strrchr(word, ' ');
    word = space ? space + 1 : word;
    snprintf(usage, sizeof usage, "serin canary %s NAME%s [--why TEXT] [--json]", word, step ? " STEP" : "");
    snprintf(examples, sizeof examples, "  serin canary %s q8-trial%s\n", word, step ? " 3" : "");
    const srn_opt opts[] = {OPTIONS(&w), WHO(&w)};
    const srn_cli_spec spec = {.usage = usage,
                               .about = about,
                               .examples = examples,
                               .opts = opts,
                               .n_opts = SRN_LEN(opts),
                               .min_operands = 1 + step,
                               .max_operands = 1 + step};
    srn_err err = {0};
    json_t *answer = NULL;
    int code = begin(&spec, argc, argv, &w);
    if (code >= 0) return code;
    json_t *body = json_pack("{s:s, s:s, s:s?}", "action", action, "by",
                             srn__server_user(w.by, (char[64]){0}), "why", w.why);
    char *rest = NULL;
    long n = step ? strtol(w.operands[1], &rest, 10) : 1;
    if (step && (*rest || rest == w.operands[1] || n < 1 || n > 1000))
        code = srn_fail(&err, SRN_EUSAGE, "'%.40s' is no step; the first one is 1", w.operands[1]);
    else
        code = check_body(body, &err);
    if (step) json_object_set_new(body, "step", json_integer(n - 1));
    if (code)
        json_decref(body);
    else
        code = ask(&w, w.operands[0], "", body, &answer, &err);
    if (!code && w.json)
        code = print_json(answer, &err);
    else if (!code)
        print_one(answer);
    return end(&w, argv[0], code, &err, answer);
}

int srn__canary_pause(int argc, char **argv) {
    return act(argc, argv, "pause",
               "Gives no new conversation to the canary; those that have it keep it. Evidence waits.");
}

int srn__canary_resume(int argc, char **argv) {
    return act(argc, argv, "resume", "Lets a paused roll-out go on, with the share of its step.");
}

int srn__canary_step(int argc, char **argv) {
    return act(argc, argv, "step",
               "Goes to a later step of the declaration, whatever the evidence says so far.");
}

int srn__canary_promote(int argc, char **argv) {
    return act(
        argc, argv, "promote",
        "Ends a roll-out in favour of the canary: it answers for the baseline from now on, and labels that "
        "point at the baseline's version of a prompt point at the canary's.");
}

int srn__canary_retire(int argc, char **argv) {
    return act(argc, argv, "retire",
               "Ends what a promotion does, once the configuration names the new model itself.");
}

int srn__canary_abort(int argc, char **argv) {
    return act(
        argc, argv, "abort",
        "Ends a roll-out: all new calls get the baseline, running answers finish. It may be started again.");
}

int srn__canary_rollback(int argc, char **argv) {
    return act(argc, argv, "roll_back",
               "Ends a roll-out for good: as abort does, and this declaration never runs again.");
}

static int freeze(int argc, char **argv, bool on, const char *about) {
    work w = {.n = 0};
    const srn_opt opts[] = {OPTIONS(&w), WHO(&w)};
    const srn_cli_spec spec = {
        .usage = on ? "serin canary freeze [--why TEXT]" : "serin canary thaw [--why TEXT]",
        .about = about,
        .examples = on ? "  serin canary freeze --why 'sale until Monday'\n" : "  serin canary thaw\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn_err err = {0};
    json_t *answer = NULL;
    int code = begin(&spec, argc, argv, &w);
    if (code >= 0) return code;
    json_t *body =
        json_pack("{s:b, s:s, s:s?}", "on", on, "by", srn__server_user(w.by, (char[64]){0}), "why", w.why);
    code = check_body(body, &err);
    if (!code) code = srn__server_json(&w.at, "/v1/freeze", body, &answer, &err);
    if (!code && w.json)
        code = print_json(answer, &err);
    else if (!code)
        printf("%s\n", on ? "frozen: no share grows, nothing starts, no label moves" : "roll-outs go on");
    return end(&w, argv[0], code, &err, answer);
}

int srn__canary_freeze(int argc, char **argv) {
    return freeze(argc, argv, true,
                  "Freezes all roll-outs and label moves of a server. Roll-backs, pauses and aborts are "
                  "always possible.");
}

int srn__canary_thaw(int argc, char **argv) {
    return freeze(argc, argv, false, "Lets roll-outs and label moves go on.");
}
