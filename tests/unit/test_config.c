/* serin.yaml and the key file: what is read, what is refused and how it is named, and which route a request
 * gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/config.h"

static const char full[] = "listen: '[::1]:9000'\n"
                           "keys: k.txt\n"
                           "tls: {cert: c.pem, key: k.pem}\n"
                           "hosts: [a.example, b.example]\n"
                           "cors: []\n"
                           "metrics_open: true\n"
                           "grace: 5s\n"
                           "default_model: small\n"
                           "models:\n"
                           "  - name: small\n"
                           "    path: small.gguf\n"
                           "    aliases: [gpt-4o, default]\n"
                           "    ctx: 4096\n"
                           "    parallel: 8\n"
                           "    kv: q8_0\n"
                           "    speculate: 4\n"
                           "  - {name: large, path: large.gguf, lazy: true}\n"
                           "limits:\n"
                           "  body: 2 MiB\n"
                           "  request_timeout: 2min\n"
                           "ledger:\n"
                           "  where: /var/lib/serin\n"
                           "  keys: /etc/serin/keys\n"
                           "  mode: required\n"
                           "  content: full\n"
                           "  queue: 500\n"
                           "  patience: 2s\n"
                           "  retention: 90d\n"
                           "  max_size: 20GiB\n"
                           "  keep_weights: true\n"
                           "routes:\n"
                           "  - name: batch\n"
                           "    match: {endpoint: /v1/completions, header: {X-Job: night}}\n"
                           "    model: large\n"
                           "    priority: -3\n"
                           "    timeout: 250ms\n"
                           "    ledger: buffered\n"
                           "    content: none\n"
                           "    risk: low\n"
                           "    require_prompt: true\n"
                           "    local_only: true\n"
                           "  - name: rest\n"
                           "canary:\n"
                           "  - name: q8-trial\n"
                           "    steps: [1%, 5%]\n"
                           "    evidence: {calls: 200}\n"
                           "  - {name: other}\n";

static srn_config parsed(const char *yaml) {
    srn_config c;
    srn_err err = {0};
    srn_config_init(&c);
    if (srn_config_parse(&c, srn_str_of(yaml), "serin.yaml", &err)) fail_msg("%s", err.text);
    return c;
}

static void every_key_is_read(void **state) {
    (void)state;
    srn_config c = parsed(full);
    assert_string_equal(c.listen, "[::1]:9000");
    assert_string_equal(c.tls_key, "k.pem");
    assert_int_equal(c.n_hosts, 2);
    assert_string_equal(c.hosts[1], "b.example");
    assert_int_equal(c.n_cors, 0);
    assert_true(c.metrics_open);
    assert_int_equal(c.grace_ms, 5000);
    assert_int_equal(c.n_models, 2);
    assert_int_equal(c.models[0].n_aliases, 2);
    assert_string_equal(c.models[0].aliases[0], "gpt-4o");
    assert_int_equal(c.models[0].ctx, 4096);
    assert_int_equal(c.models[0].speculate, 4);
    assert_string_equal(c.models[0].kv_type, "q8_0");
    assert_true(c.models[1].lazy);
    assert_int_equal(c.limits.body_bytes, 2u << 20);
    assert_int_equal(c.limits.request_timeout_ms, 120000);
    assert_int_equal(c.limits.json_depth, 64); /* not named: the default */
    assert_int_equal(c.n_routes, 2);
    assert_string_equal(c.routes[0].header, "X-Job");
    assert_int_equal(c.routes[0].priority, -3);
    assert_int_equal(c.routes[0].timeout_ms, 250);
    srn_config_done(&c);
}

static void rollouts_are_kept_as_json_with_their_lines(void **state) {
    (void)state;
    srn_config c = parsed(full);
    assert_string_equal(c.routes[0].risk, "low");
    assert_null(c.routes[1].risk);
    assert_int_equal(c.n_rollouts, 2);
    assert_string_equal(c.rollouts[0].json,
                        "{\"name\":\"q8-trial\",\"steps\":[\"1%\",\"5%\"],\"evidence\":{\"calls\":200}}");
    assert_int_equal(c.rollouts[1].line, c.rollouts[0].line + 3);
    srn_config_done(&c);
}

static void the_ledger_is_read(void **state) {
    (void)state;
    srn_config c = parsed(full);
    assert_string_equal(c.ledger.where, "/var/lib/serin");
    assert_string_equal(c.ledger.keys, "/etc/serin/keys");
    assert_string_equal(c.ledger.mode, "required");
    assert_string_equal(c.ledger.content, "full");
    assert_int_equal(c.ledger.queue, 500);
    assert_int_equal(c.ledger.patience_ms, 2000);
    assert_int_equal(c.ledger.retention_ms, 90ull * 86400000);
    assert_int_equal(c.ledger.max_bytes, 20ull << 30);
    assert_true(c.ledger.keep_weights);
    assert_string_equal(c.routes[0].ledger, "buffered");
    assert_string_equal(c.routes[0].content, "none");
    assert_true(c.routes[0].require_prompt && c.routes[0].local_only);
    assert_false(c.routes[1].require_prompt || c.routes[1].local_only);
    assert_null(c.routes[1].ledger);
    srn_config_done(&c);
    c = parsed("ledger: off\n"); /* the folder alone */
    assert_string_equal(c.ledger.where, "off");
    assert_string_equal(c.ledger.mode, "buffered");
    assert_string_equal(c.ledger.content, "hash");
    assert_int_equal(c.ledger.queue, 10000);
    srn_config_done(&c);
}

static void an_empty_file_is_the_defaults(void **state) {
    (void)state;
    static const char *const empty[] = {"", "# nothing\n", "{}", "---\n"};
    for (size_t i = 0; i < SRN_LEN(empty); i++) {
        srn_config c = parsed(empty[i]);
        assert_string_equal(c.listen, "127.0.0.1:8080");
        assert_int_equal(c.limits.body_bytes, 8u << 20);
        srn_config_done(&c);
    }
}

static void what_is_wrong_is_named_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"listen: a\nlisten: b\n", "serin.yaml:2:1: the key 'listen' stands here for the second time"},
        {"models:\n  - name: a\n    pth: x\n", "serin.yaml:3:10: models.pth: there is no such key"},
        {"limits:\n  body: 9 YiB\n", "serin.yaml:2:9: body: needs bytes"},
        {"limits: {body: 1}\n", "serin.yaml:1:16: body: must be from 1024"},
        {"limits: {queue: -1}\n", "queue: needs a whole number"},
        {"limits: {queue: 99999999999999999999999}\n", "queue: needs a whole number"},
        {"grace: 5\n", "grace: needs a time"},
        {"ledger: {dir: x}\n", "ledger.dir: there is no such key; known are: where, folder, keys"},
        {"ledger: {retention: 3s}\n", "retention: must be from 3600000"},
        {"ledger: [x]\n", "ledger: needs a mapping"},
        {"metrics_open: yes\n", "needs true or false"},
        {"hosts: a\n", "needs a list of texts"},
        {"listen: [a]\n", "needs one value, not a list"},
        {"a: &x 1\nb: *x\n", "anchors and aliases are not allowed"},
        {"hosts: [&x a, *x]\n", "anchors and aliases are not allowed"},
        {"listen: !!str a\n", "tags are not allowed"},
        {"listen: a\n---\nlisten: b\n", "a second document"},
        {"[1]\n", "a configuration is a mapping"},
        {"? [a]\n: b\n", "a key must be a name"},
        {"listen: \"\x01\"\n", "serin.yaml"},
        {"listen: 'a\n", "serin.yaml:"},
        {"nope: 1\n", "known are: listen, keys"},
        {"models: [{path: a.gguf}]\n", "name is missing"},
        {"models: [{name: a}]\n", "path is missing"},
        {"routes: [{model: a}]\n", "name is missing"},
        {"routes: [{name: a, match: {header: x}}]\n", "needs one header and its value"},
        {"routes: [{name: a, match: {nope: x}}]\n", "routes.match.nope"},
        {"routes: [{name: a, priority: high}]\n", "priority: needs a whole number"},
        {"hosts: [[[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]]]\n", "serin.yaml:1"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_config c;
        srn_err err = {0};
        srn_config_init(&c);
        if (!srn_config_parse(&c, srn_str_of(cases[i].yaml), "serin.yaml", &err))
            fail_msg("accepted: %s", cases[i].yaml);
        if (!strstr(err.text, cases[i].message)) fail_msg("%s\nsays: %s", cases[i].yaml, err.text);
        srn_config_done(&c);
    }
}

static void what_does_not_fit_together_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *message;
    } cases[] = {
        {"", "there is no model to serve"},
        {"models: [{name: a, path: x}, {name: a, path: y}]", "'a' is used more than once"},
        {"models: [{name: a, path: x, aliases: [b]}, {name: b, path: y}]", "'b' is used more than once"},
        {"models: [{name: a, path: x, kv: q3}]", "kv: 'q3' is not known"},
        {"models: [{name: a, path: x}]\ndefault_model: b", "there is no model 'b'"},
        {"models: [{name: a, path: x}]\nroutes: [{name: r, model: b}]", "there is no model 'b'"},
        {"models: [{name: a, path: x}]\nroutes: [{name: r}, {name: r}]", "'r' is used twice"},
        {"models:\n  - {name: a, path: x}\n  - {name: a, path: y}", "serin.yaml:3:12: models: the name 'a'"},
        {"models:\n  - {name: a, path: x}\nroutes:\n  - name: r\n    model: b",
         "serin.yaml:5:12: routes: 'r'"},
        {"models: [{name: a, path: x}]\ntls:\n  cert: c.pem", "serin.yaml:3:9: tls: cert and key"},
        {"models: [{name: a, path: x}]\nledger: {mode: strict}", "2:16: ledger: mode: 'strict' is not known"},
        {"models: [{name: a, path: x}]\nledger: {content: all}", "ledger: content: 'all' is not known"},
        {"models: [{name: a, path: x}]\nroutes: [{name: r, risk: tiny}]", "risk: 'tiny' is not known"},
        {"models: [{name: a, path: x}]\nledger: {where: 'off', mode: required}", "there is no ledger"},
        {"models: [{name: a, path: x}]\nroutes: [{name: r, ledger: 'off'}]", "routes: 'r': ledger: 'off' is"},
        {"models: [{name: a, path: x}]\nroutes: [{name: r, content: some}]",
         "routes: 'r': content: 'some' is"},
        {"models: [{name: a, path: x}]\nledger: off\nroutes: [{name: r, ledger: required}]",
         "routes: 'r': ledger: required, and there is no ledger"},
        {"models: [{name: a, path: x}]\nkeys: /none", "serin.yaml:2:7: keys: the file /none"},
        {"listen: 0.0.0.0:80\nmodels: [{name: a, path: x}]", "serin.yaml:1:9: listen: 0.0.0.0:80 can be"},
        {"listen: localhost.example:80\nmodels: [{name: a, path: x}]", "can be reached from other machines"},
        {"models: [{name: a, path: x}]\ntls: {cert: c}", "cert and key belong together; key is missing"},
        {"models: [{name: a, path: x}]\nkeys: /nowhere/keys", "cannot be read"},
        {"models: [{name: a, path: x}]\nlisten: 0.0.0.0:80", "there are no API keys"},
        {"listen: 8080\nmodels: [{name: a, path: x}]", "serin.yaml:1:9: listen: '8080': write HOST:PORT"},
        {"models: [{name: a, path: x}]\nlisten: ':8080'", "write HOST:PORT"},
        {"models: [{name: a, path: x}]\nlisten: '127.0.0.1:'", "write HOST:PORT"},
        {"models: [{name: a, path: x}]\nlisten: 127.0.0.1:65536", "a port is at most 65535"},
        {"models: [{name: a, path: x}]\nlisten: 127.0.0.1:4294967376", "a port is at most 65535"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_config c = parsed(cases[i].yaml);
        srn_err err = {0};
        if (!srn_config_check(&c, &err)) fail_msg("accepted: %s", cases[i].yaml);
        if (!strstr(err.text, cases[i].message)) fail_msg("%s\nsays: %s", cases[i].yaml, err.text);
        srn_config_done(&c);
    }
    static const char *const good[] = {"", "allow_open: true\nlisten: 0.0.0.0:80", "listen: '[::1]:0'",
                                       "listen: 127.0.0.1:65535", "listen: unix:/run/s"};
    for (size_t i = 0; i < SRN_LEN(good); i++) {
        char yaml[300];
        snprintf(yaml, sizeof yaml, "models: [{name: a, path: x, aliases: [b]}]\ndefault_model: b\n%s",
                 good[i]);
        srn_config c = parsed(yaml);
        srn_err err = {0};
        if (srn_config_check(&c, &err)) fail_msg("%s", err.text);
        srn_config_done(&c);
    }
}

static const char *night(void *ctx, const char *name) {
    (void)ctx;
    return strcmp(name, "X-Job") == 0 ? "night" : NULL;
}

static void the_first_route_that_matches_is_taken(void **state) {
    (void)state;
    srn_config c = parsed(full);
    srn_route_query q = {.endpoint = "/v1/completions", .header = night};
    assert_string_equal(srn_config_route_of(&c, &q)->name, "batch");
    q.header = NULL;
    assert_string_equal(srn_config_route_of(&c, &q)->name, "rest");
    q = (srn_route_query){.endpoint = "/v1/chat/completions", .header = night};
    assert_string_equal(srn_config_route_of(&c, &q)->name, "rest");
    srn_config_done(&c);
    c = parsed("models: [{name: a, path: x}]\nroutes: [{name: r, match: {key: k, alias: m, prompt: p}}]");
    q = (srn_route_query){.endpoint = "/", .key = "k", .alias = "m"};
    assert_null(srn_config_route_of(&c, &q));
    q.prompt = "p";
    assert_non_null(srn_config_route_of(&c, &q));
    srn_config_done(&c);
}

/* ---- keys ---- */

static const char key_file[] =
    "# who may\n"
    "alice sk-0123456789abcdef admin priority=-5\n"
    "\n"
    "bob\tsk-fedcba9876543210 tenant=team # comment\r\n"
    "carol sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 "
    "tenant=team";

static void a_secret_finds_its_key(void **state) {
    (void)state;
    srn_keys *k;
    srn_err err = {0};
    if (srn_keys_parse(srn_str_of(key_file), "keys", &k, &err)) fail_msg("%s", err.text);
    const srn_key *alice = srn_keys_find(k, SRN_STR("sk-0123456789abcdef")),
                  *bob = srn_keys_find(k, SRN_STR("sk-fedcba9876543210")),
                  *carol = srn_keys_find(k, SRN_STR("test"));
    assert_non_null(alice);
    assert_true(alice->admin);
    assert_int_equal(alice->priority, -5);
    assert_string_equal(bob->tenant, "team");
    assert_false(bob->admin);
    assert_string_equal(carol->name, "carol");
    assert_true(bob->tenant_id == carol->tenant_id && alice->tenant_id != bob->tenant_id && alice->tenant_id);
    assert_null(srn_keys_find(k, SRN_STR("sk-0123456789abcdee")));
    assert_null(srn_keys_find(k, SRN_STR("sk-0123456789abcde")));
    assert_null(srn_keys_find(k, SRN_STR("")));
    srn_keys_free(k);
}

static void a_wrong_key_file_is_refused_without_showing_secrets(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "there is no key in it"},
        {"# only this\n", "there is no key in it"},
        {"alice\n", "keys:1: the key is missing"},
        {"alice secret\n", "keys:1: the key is shorter than 16"},
        {"a sk-0123456789abcdef\na sk-0123456789abcdeX\n", "keys:2: this name was used before"},
        {"a sk-0123456789abcdef\nb sk-0123456789abcdef\n", "keys:2: this key was used before"},
        {"a/b sk-0123456789abcdef\n", "a name has letters"},
        {"a sha256:12\n", "64 hexadecimal digits"},
        {"a sk-0123456789abcdef adm\n", "only admin, priority=N and tenant=NAME"},
        {"a sk-0123456789abcdef priority=x\n", "priority: a number"},
        {"a sk-0123456789abcdef tenant=a/b\n", "tenant: letters"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_keys *k;
        srn_err err = {0};
        if (!srn_keys_parse(srn_str_of(cases[i].text), "keys", &k, &err))
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(err.text, cases[i].message)) fail_msg("%s\nsays: %s", cases[i].text, err.text);
        assert_null(strstr(err.text, "0123456789"));
    }
}

/* ---- the id of a configuration ---- */

static void id_of(const char *yaml, char id[65], srn_buf *json) {
    srn_config c = parsed(yaml);
    srn_err err = {0};
    if (srn_config_identity(&c, json, id, &err)) fail_msg("%s", err.text);
    srn_config_done(&c);
}

static void the_id_follows_every_setting_and_not_its_spelling(void **state) {
    (void)state;
    static const char *const others[] = {
        "models: [{name: a, path: b.gguf}]",
        "models: [{name: a, path: a.gguf, ctx: 512}]",
        "models: [{name: a, path: a.gguf, aliases: [x]}]",
        "models: [{name: a, path: a.gguf}]\nlimits: {tools: 7}",
        "models: [{name: a, path: a.gguf}]\nroutes: [{name: r, priority: 2}]",
        "models: [{name: a, path: a.gguf}]\nroutes: [{name: r, match: {header: {X-Team: blue}}}]",
        "models: [{name: a, path: a.gguf}]\ngrace: 5s",
        "models: [{name: a, path: a.gguf}]\nhosts: [h.example]"};
    char id[65], again[65], seen[SRN_LEN(others)][65];
    id_of("models: [{name: a, path: a.gguf}]\ngrace: 30s\n", id, NULL);
    id_of("# the same\nmodels:\n  - path: a.gguf\n    name: 'a'\n", again, NULL);
    assert_string_equal(id, again);
    for (size_t i = 0; i < SRN_LEN(others); i++) {
        id_of(others[i], seen[i], NULL);
        assert_string_not_equal(seen[i], id);
        for (size_t k = 0; k < i; k++) assert_string_not_equal(seen[i], seen[k]);
    }
}

static void the_text_of_a_configuration_has_no_secrets(void **state) {
    (void)state;
    srn_config c = parsed("models: [{name: a, path: a.gguf}]\n"
                          "routes: [{name: r, match: {header: {Authorization: Bearer sesame}}}]");
    c.ledger.where = "postgresql://serin:sesame@db.example:5432/calls?password=sesame&sslmode=require";
    srn_buf json;
    char id[65];
    srn_buf_init(&json, 65536);
    assert_int_equal(srn_config_identity(&c, &json, id, NULL), SRN_OK);
    assert_null(strstr(json.data, "sesame"));
    assert_non_null(strstr(json.data, "postgresql://serin@db.example:5432/calls?sslmode=require"));
    c.ledger.where = "postgresql://db.example/calls";
    srn_buf_clear(&json);
    assert_int_equal(srn_config_identity(&c, &json, id, NULL), SRN_OK);
    assert_non_null(strstr(json.data, "\"where\":\"postgresql://db.example/calls\""));
    srn_buf_done(&json);
    srn_config_done(&c);
}

/* ---- from one configuration to the next ---- */

static void add_key(void *ctx, const char *key) {
    srn_buf_addf(ctx, "%s\n", key);
}

static void assert_changes(const char *from, const char *to, const char *want) {
    srn_config a = parsed(from), b = parsed(to);
    srn_buf keys;
    srn_buf_init(&keys, 1 << 16);
    srn_buf_addz(&keys, "");
    assert_int_equal(srn_config_changes(&a, &b, add_key, &keys, NULL), SRN_OK);
    assert_string_equal(keys.data, want);
    srn_buf_done(&keys);
    srn_config_done(&a);
    srn_config_done(&b);
}

static void what_differs_is_named_as_in_the_file(void **state) {
    (void)state;
    assert_changes(full, full, "");
    assert_changes("grace: 5s\nkeys: a\ntls: {cert: a, key: b}\n",
                   "grace: 6s\nkeys: b\ntls: {cert: c, key: b}\n", "keys\ntls.cert\ngrace\n");
    assert_changes("limits: {header_timeout: 5s, body: 1MiB}\nledger: {max_size: 1GiB}\n",
                   "limits: {body: 2MiB}\n", "limits.body\nlimits.header_timeout\nledger.max_size\n");
    assert_changes("hosts: [a]\n", "hosts: [a, b]\n", "hosts\n");
    assert_changes("models: [{name: a, path: a, ctx: 512}, {name: b, path: b}, {name: c, path: c}]\n",
                   "models: [{name: c, path: c}, {name: d, path: d}, {name: a, path: a}]\n",
                   "models.b (removed)\nmodels.d (added)\nmodels.a.ctx\nmodels (order)\n");
    assert_changes("routes: [{name: r, match: {key: k}}]\n", "routes: [{name: r, match: {alias: a}}]\n",
                   "routes.r.match.key\nroutes.r.match.alias\n");
}

static void changed_secrets_are_named_and_not_shown(void **state) {
    (void)state;
    assert_changes("telemetry: {endpoint: 'http://u:one@c:4318', headers: {authorization: one}}\n",
                   "telemetry: {endpoint: 'http://u:one@c:4318', headers: {authorization: two}}\n",
                   "telemetry.headers (changed)\n");
    assert_changes("telemetry: {endpoint: 'http://u:one@c:4318'}\n",
                   "telemetry: {endpoint: 'http://u:two@c:4318'}\n", "telemetry.endpoint (changed)\n");
    assert_changes("telemetry: {endpoint: 'http://c:4318', headers: {a: one}}\n",
                   "telemetry: {endpoint: 'http://c:4318', headers: {b: two}}\n", "telemetry.headers\n");
    assert_changes("ledger: {where: 'postgresql://u:one@h/d'}\n",
                   "ledger: {where: 'postgresql://u:two@h/d'}\n", "ledger.where (changed)\n");
    assert_changes("ledger: {where: 'postgresql://u:one@h/d'}\n",
                   "ledger: {where: 'postgresql://v:two@h/d'}\n", "ledger.where\n");
    srn_config a = parsed("telemetry: {endpoint: 'http://c:4318', headers: {a: one}}\n"),
               b = parsed("telemetry: {endpoint: 'http://c:4318', headers: {a: two}}\n");
    srn_buf keys;
    srn_buf_init(&keys, 1 << 16);
    assert_int_equal(srn_config_keep(&b, &a, NULL), SRN_OK); /* it needs a restart */
    assert_int_equal(srn_config_changes(&a, &b, add_key, &keys, NULL), SRN_OK);
    assert_int_equal(keys.len, 0);
    srn_config_done(&a);
    srn_config_done(&b);
}

static void what_is_read_at_the_start_alone_is_kept(void **state) {
    (void)state;
    static const char running[] =
        "listen: 127.0.0.1:1\nlimits: {queue: 5, stops: 2}\ntls: {cert: c, key: k}\n"
        "ledger: {where: /w, content: hash}\ncanary: []\n";
    srn_config a = parsed(running);
    srn_config b = parsed("listen: 127.0.0.1:2\nlimits: {queue: 6, stops: 3, connections: 4}\n"
                          "ledger: {where: /v, content: full}\n");
    assert_int_equal(srn_config_keep(&b, &a, NULL), SRN_OK);
    assert_string_equal(b.listen, "127.0.0.1:1");
    assert_string_equal(b.ledger.where, "/w");
    assert_string_equal(b.ledger.content, "full");
    assert_string_equal(b.tls_cert, "c"); /* TLS is or is not */
    assert_ptr_not_equal(b.tls_cert, a.tls_cert);
    assert_int_equal(b.limits.queue, 5);
    assert_int_equal(b.limits.connections, a.limits.connections);
    assert_int_equal(b.limits.stops, 3);
    srn_config_done(&b);
    b = parsed("tls: {cert: other, key: k}\n");
    assert_int_equal(srn_config_keep(&b, &a, NULL), SRN_OK);
    assert_string_equal(b.tls_cert, "other");
    srn_config_done(&b);
    srn_config_done(&a);
}

/* A section that is new must be decided on: it is in srn_config_keep, or a server takes it while it runs. */
static void every_section_is_kept_or_taken(void **state) {
    (void)state;
    static const char *const taken[] = {"keys_file", "tls_cert", "tls_key",       "allow_open",   "hosts",
                                        "cors",      "grace_ms", "default_model", "metrics_open", "models",
                                        "routes",    "limits",   "ledger",        "canary"},
                             *const kept[] = {"listen"};
    srn_config c = parsed(full);
    srn_buf json;
    char id[65], key[80];
    size_t n = 0;
    srn_buf_init(&json, 65536);
    assert_int_equal(srn_config_identity(&c, &json, id, NULL), SRN_OK);
    int depth = 0;
    for (const char *p = json.data; *p; p++) {
        bool is_key = depth == 1 && *p == '"' && (p[-1] == '{' || p[-1] == ',');
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        if (!is_key) continue;
        snprintf(key, sizeof key, "%.*s", (int)strcspn(p + 1, "\""), p + 1);
        bool known = false;
        for (size_t i = 0; i < SRN_LEN(taken); i++) known = known || strcmp(taken[i], key) == 0;
        for (size_t i = 0; i < SRN_LEN(kept); i++) known = known || strcmp(kept[i], key) == 0;
        if (!known) fail_msg("'%s': can a server that runs take it from a reload?", key);
        n++;
    }
    assert_int_equal(n, SRN_LEN(taken) + SRN_LEN(kept));
    srn_buf_done(&json);
    srn_config_done(&c);
}

static void changed_keys_are_named_without_their_secrets(void **state) {
    (void)state;
    srn_keys *a = NULL, *b = NULL;
    srn_buf names;
    srn_buf_init(&names, 4096);
    assert_int_equal(srn_keys_parse(SRN_STR("old old-secret-0123456789\nsame same-secret-0123456\n"
                                            "boss boss-secret-0123456 admin\nkey key-secret-01234567\n"),
                                    "a", &a, NULL),
                     0);
    assert_int_equal(srn_keys_parse(SRN_STR("same same-secret-0123456\nboss boss-secret-0123456\n"
                                            "key other-secret-0123456\nnew new-secret-01234567\n"),
                                    "b", &b, NULL),
                     0);
    srn_keys_changes(a, b, add_key, &names);
    assert_string_equal(names.data,
                        "keys.old (removed)\nkeys.boss (changed)\nkeys.key (changed)\nkeys.new (added)\n");
    srn_buf_clear(&names);
    srn_keys_changes(NULL, NULL, add_key, &names);
    srn_keys_changes(a, a, add_key, &names);
    assert_int_equal(names.len, 0);
    srn_buf_done(&names);
    srn_keys_free(a);
    srn_keys_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(rollouts_are_kept_as_json_with_their_lines),
        cmocka_unit_test(the_ledger_is_read),
        cmocka_unit_test(an_empty_file_is_the_defaults),
        cmocka_unit_test(what_is_wrong_is_named_with_its_place),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(the_first_route_that_matches_is_taken),
        cmocka_unit_test(a_secret_finds_its_key),
        cmocka_unit_test(a_wrong_key_file_is_refused_without_showing_secrets),
        cmocka_unit_test(the_id_follows_every_setting_and_not_its_spelling),
        cmocka_unit_test(the_text_of_a_configuration_has_no_secrets),
        cmocka_unit_test(what_differs_is_named_as_in_the_file),
        cmocka_unit_test(changed_secrets_are_named_and_not_shown),
        cmocka_unit_test(what_is_read_at_the_start_alone_is_kept),
        cmocka_unit_test(every_section_is_kept_or_taken),
        cmocka_unit_test(changed_keys_are_named_without_their_secrets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
