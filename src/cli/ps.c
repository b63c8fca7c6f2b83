/* cli: `serin ps`, `serin cancel`, `serin drain`, `serin reload`: what an operator does with a running server
 * when something is wrong: sees what it does, ends a call, takes it out of service and back, gives it another
 * configuration. Main thread.
 */
#include "cli/calls.h"
#include "cli/server_client.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define POLL_US 250000
#define LOAD_MS (30 * 60000) /* new models are loaded before the answer comes */

/* Parses, finds the server. -1 to go on, or the exit code. */
static int begin(const srn_cli_spec *spec, int argc, char **argv, const srn__server_opts *o,
                 const char **operands, int *ret_n, srn__server *ret) {
    srn_err err = {0};
    int code = srn_cli_parse(spec, argc, argv, operands, ret_n);
    if (code >= 0) return code;
    if (srn__server_find(o, ret, &err) == SRN_OK) return -1;
    return srn_cli_error(argv[0], &err);
}

static int print_json(json_t *j, srn_err *err) {
    char *text = json_dumps(j, JSON_INDENT(2));
    if (!text) return srn_fail_nomem(err, 0);
    printf("%s\n", text);
    free(text);
    return SRN_OK;
}

/* ---- ps ---- */

static const char *text_of(const json_t *j, const char *name) {
    const char *s = json_string_value(json_object_get(j, name));
    return s ? s : "-";
}

static void add_number(srn__table *t, const json_t *j, const char *name) {
    char text[32];
    snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(j, name)));
    srn__table_add(t, text);
}

static void print_calls(const json_t *answer) {
    static const char *const head[] = {"call", "state", "age", "model", "endpoint", "key", "in", "out"};
    srn__table t;
    size_t i;
    json_t *c, *data = json_object_get(answer, "data");
    srn__table_init(&t, head, SRN_LEN(head), 1 << 2 | 1 << 6 | 1 << 7);
    json_array_foreach(data, i, c) {
        char age[24];
        srn__calls_span((uint64_t)json_integer_value(json_object_get(c, "age_us")), age);
        srn__table_add(&t, text_of(c, "id"));
        srn__table_add(&t, text_of(c, "state"));
        srn__table_add(&t, age);
        srn__table_add(&t, text_of(c, "model"));
        srn__table_add(&t, text_of(c, "endpoint"));
        srn__table_add(&t, text_of(c, "key"));
        add_number(&t, json_object_get(c, "tokens"), "input");
        add_number(&t, json_object_get(c, "tokens"), "output");
    }
    if (json_array_size(data)) srn__table_print(&t);
    srn__table_done(&t);
    fflush(stdout);
    bool draining = json_is_true(json_object_get(answer, "draining"));
    if (draining) fprintf(stderr, "the server is draining: new work is refused\n");
    if (!json_array_size(data)) fprintf(stderr, "nothing runs\n");
}

int srn__cmd_ps(int argc, char **argv) {
    srn__server_opts o = {0};
    bool json = false;
    const srn_opt opts[] = {SRN__SERVER_OPTIONS(&o),
                            {"json", 0, SRN_OPT_FLAG, &json, 0, 0, NULL, "print JSON"}};
    const srn_cli_spec spec = {
        .usage = "serin ps [--server URL --key KEY] [--json]",
        .about = "Lists the calls that a server is answering or has in its queue, oldest first.",
        .examples = "  serin ps\n  serin ps --server http://gpu1:8080 --key \"$ADMIN_KEY\"\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn__server server;
    srn_err err = {0};
    json_t *answer = NULL;
    int n, code = begin(&spec, argc, argv, &o, NULL, &n, &server);
    if (code >= 0) return code;
    code = srn__server_json(&server, "/v1/ps", NULL, &answer, &err);
    if (!code && json)
        code = print_json(answer, &err);
    else if (!code)
        print_calls(answer);
    json_decref(answer);
    srn__server_done(&server);
    return code ? srn_cli_error("ps", &err) : srn_cli_flush("ps");
}

/* ---- cancel ---- */

int srn__cmd_cancel(int argc, char **argv) {
    enum { MOST = 64 };
    srn__server_opts o = {0};
    const char *calls[MOST];
    const srn_opt opts[] = {SRN__SERVER_OPTIONS(&o)};
    const srn_cli_spec spec = {
        .usage = "serin cancel CALL... [--server URL --key KEY]",
        .about = "Ends calls that run or wait, within one step of the engine; `serin ps` lists them.",
        .examples = "  serin cancel 01JDA6Z4N8M0Q5V3X7C2B9K1RT\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = MOST};
    srn__server server;
    srn_err err = {0};
    int n, bad = 0, code = begin(&spec, argc, argv, &o, calls, &n, &server);
    if (code >= 0) return code;
    for (int i = 0; i < n; i++) {
        json_t *answer = NULL;
        srn_buf path;
        srn_buf_init(&path, 4096);
        srn_buf_addz(&path, "/v1/calls/");
        srn__server_escape(&path, calls[i]);
        srn_buf_addz(&path, "/cancel");
        code = path.failed ? srn_fail(&err, SRN_EINVAL, "that is no id of a call")
                           : srn__server_json(&server, path.data, json_object(), &answer, &err);
        if (code)
            bad = srn_cli_error("cancel", &err);
        else
            printf("%s is being cancelled\n", text_of(answer, "id"));
        json_decref(answer);
        srn_buf_done(&path);
    }
    srn__server_done(&server);
    code = srn_cli_flush("cancel");
    return bad ? bad : code;
}

/* ---- drain ---- */

/* Until nothing runs any more, or Ctrl-C. */
static int wait_idle(const srn__server *s, srn_err *err) {
    const volatile int *stop = srn_cli_catch_interrupts();
    const struct timespec pause = {0, POLL_US * 1000};
    size_t n = 1, told = 0;
    int code = SRN_OK;
    while (!code && n && !*stop) {
        json_t *answer = NULL;
        code = srn__server_json(s, "/v1/ps", NULL, &answer, err);
        n = json_array_size(json_object_get(answer, "data"));
        json_decref(answer);
        if (code || !n) break;
        if (n != told) fprintf(stderr, n == 1 ? "%zu call still runs\n" : "%zu calls still run\n", n);
        told = n;
        nanosleep(&pause, NULL);
    }
    if (!code && n) code = srn_fail(err, SRN_ECANCELLED, "not waiting any more; the server goes on draining");
    srn_cli_release_interrupts();
    return code;
}

int srn__cmd_drain(int argc, char **argv) {
    srn__server_opts o = {0};
    bool off = false, wait = false;
    const srn_opt opts[] = {SRN__SERVER_OPTIONS(&o),
                            {"off", 0, SRN_OPT_FLAG, &off, 0, 0, NULL, "take new work again"},
                            {"wait", 'w', SRN_OPT_FLAG, &wait, 0, 0, NULL, "until nothing runs any more"}};
    const srn_cli_spec spec = {
        .usage = "serin drain [--wait] [--off]",
        .about = "Takes a server out of service: new work is refused with 503 and /health/ready says so,\n"
                 "while what runs goes on to its end. The server stays up; --off puts it back.",
        .examples = "  serin drain --wait && systemctl restart serin\n  serin drain --off\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn__server server;
    srn_err err = {0};
    json_t *answer = NULL;
    int n, code = begin(&spec, argc, argv, &o, NULL, &n, &server);
    if (code >= 0) return code;
    code = srn__server_json(&server, "/v1/drain", json_pack("{s:b}", "on", !off), &answer, &err);
    if (!code) printf("%s\n", off ? "the server takes new work" : "the server takes no new work");
    fflush(stdout);
    if (!code && wait && !off) code = wait_idle(&server, &err);
    json_decref(answer);
    srn__server_done(&server);
    return code ? srn_cli_error("drain", &err) : srn_cli_flush("drain");
}

/* ---- reload ---- */

static void print_names(FILE *f, const char *what, const json_t *names) {
    size_t i;
    json_t *name;
    if (!json_array_size(names)) return;
    fprintf(f, "%s:", what);
    json_array_foreach((json_t *)(uintptr_t)names, i, name)
        fprintf(f, "%s %s", i ? "," : "", json_string_value(name));
    fprintf(f, "\n");
}

static void print_reload(const json_t *answer) {
    const json_t *changed = json_object_get(answer, "changed");
    printf("configuration %.12s is in force\n", text_of(answer, "config"));
    print_names(stdout, "changed", changed);
    if (!json_array_size(changed)) printf("nothing changed\n");
    fflush(stdout);
    print_names(stderr, "needs a restart, and stays as it was", json_object_get(answer, "needs_restart"));
    print_names(stderr, "not begun yet", json_object_get(answer, "waits"));
}

int srn__cmd_reload(int argc, char **argv) {
    srn__server_opts o = {0};
    bool json = false;
    const srn_opt opts[] = {SRN__SERVER_OPTIONS(&o),
                            {"json", 0, SRN_OPT_FLAG, &json, 0, 0, NULL, "print JSON"}};
    const srn_cli_spec spec = {
        .usage = "serin reload [--server URL --key KEY] [--json]",
        .about = "Has a server read its configuration, keys and certificate again. What is wrong changes\n"
                 "nothing; calls that run keep the configuration that they began with. Says what changed,\n"
                 "and what needs a restart.",
        .examples = "  serin serve --config serin.yaml --check-config && serin reload\n"
                    "  serin reload --server http://gpu1:8080 --key \"$ADMIN_KEY\" --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    srn__server server;
    srn_err err = {0};
    json_t *answer = NULL;
    int n, code = begin(&spec, argc, argv, &o, NULL, &n, &server);
    if (code >= 0) return code;
    server.timeout_ms = LOAD_MS;
    code = srn__server_json(&server, "/v1/reload", json_object(), &answer, &err);
    if (!code && json)
        code = print_json(answer, &err);
    else if (!code)
        print_reload(answer);
    json_decref(answer);
    srn__server_done(&server);
    return code ? srn_cli_error("reload", &err) : srn_cli_flush("reload");
}
