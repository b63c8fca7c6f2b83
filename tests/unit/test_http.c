/* The HTTP core with handlers of its own: no model, no scheduler. Bodies and their caps, methods and routes,
 * keys, hosts and origins, slow clients, clients that leave, streams, and the stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>

#include "http_site.h"

/* ---- requests and replies ---- */

static void replies_carry_an_id_and_connections_stay(void **state) {
    (void)state;
    site s;
    char id[256], other[256];
    site_init(&s);
    site_start(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /hello?name=a%20b HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    heard r = hear(fd, false);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body.data, "{\"hello\":\"a b\"}");
    assert_non_null(header(&r, "x-serin-call", id));
    assert_int_equal(strlen(id), 26);
    assert_string_equal(header(&r, "Content-Type", other), "application/json");
    assert_string_equal(header(&r, "x-serin-model", other), "m");
    heard_done(&r);
    assert_true(say(fd, "GET /id/org/name HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    r = hear(fd, false);
    assert_string_equal(r.body.data, "org/name");
    assert_non_null(header(&r, "x-serin-call", other));
    assert_string_not_equal(id, other);
    heard_done(&r);
    close(fd);
    check(ask(&s, "GET /id/hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, "world");
    wait_for(&s.feed, &s.feed.ended, 3);
    assert_string_equal(s.feed.last_model, "m");
    site_stop(&s);
}

static void wrong_paths_and_methods_are_told_in_the_dialect(void **state) {
    (void)state;
    site s;
    char v[256];
    site_init(&s);
    site_start(&s);
    check(ask(&s, "GET /hello HTTP/1.1\r\n\r\n"), 400, NULL); /* only HTTP/1.0 may leave the host out */
    check(ask(&s, "GET /hello HTTP/1.0\r\n\r\n"), 200, "world");
    check(ask(&s, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404,
          "{\"error\":{\"message\":\"there is no GET /nowhere "
          "here\",\"type\":\"not_found_error\",\"param\":null,"
          "\"code\":\"unknown_url\"}}");
    check(ask(&s, "GET /id/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404,
          "here; ask without the slash at the end\"");
    check(ask(&s, "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"), 404,
          "there is no POST /api/chat here; this is not Ollama's API; ask POST /v1/chat/completions");
    check(ask(&s, "GET /models/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404,
          "the client's base URL must end with /v1");
    check(ask(&s, "GET /v1/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404,
          "leave it out of its base URL");
    check(ask(&s, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404, "GET /v1/models lists the models");
    check(ask(&s, "GET /v1/messages/x HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404,
          "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\"");
    heard r = ask(&s, "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_string_equal(header(&r, "Allow", v), "POST, OPTIONS");
    check(r, 405, "\"code\":\"method_not_allowed\"");
    r = ask(&s, "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_string_equal(header(&r, "Allow", v), "GET, HEAD, OPTIONS");
    check(r, 204, NULL);
    r = ask(&s, "HEAD /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "Content-Length", v), "17");
    heard_done(&r);
    check(ask(&s, "GET /invalid HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400,
          "\"message\":\"top_p: ? must be a number\",\"type\":\"invalid_request_error\",\"param\":\"top_p\"");
    r = ask(&s, "GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_string_equal(header(&r, "Retry-After", v), "1");
    check(r, 429, "the queue is full");
    check(ask(&s, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"), 500, "internal_error");
    site_stop(&s);
}

static void bodies_come_whole_or_not_at_all(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.config.limits.body_bytes = 1000;
    site_start(&s);
    check(post(&s, "/echo", "Content-Type: text/odd\r\n", "{\"a\":[1,\"\xc3\xa9\"]}"), 200,
          "{\"a\":[1,\"\xc3\xa9\"]}");
    check(post(&s, "/echo", "", "{\"a\":1,\n\"b\":}"), 400, "line 2, column 5 (offset 12)");
    check(post(&s, "/echo", "", "[1]"), 400, "must be a JSON object");
    check(post(&s, "/echo", "", ""), 400, "the body is empty");
    check(post(&s, "/v1/messages", "", "{"), 400,
          "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\"");
    check(ask(&s, "POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"),
          200, "{\"length\":11}");
    /* Announced as too large: refused though not one byte of it comes. */
    check(ask(&s, "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"), 413,
          "more than 1000 bytes");
    /* Chunked, and found to be too large on the way; the refusal waits for its end. */
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    srn_buf_addz(&b, "POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 101; i++) srn_buf_addz(&b, "a\r\n0123456789\r\n");
    srn_buf_addz(&b, "0\r\n\r\n");
    check(ask(&s, b.data), 413, "body_too_large");
    srn_buf_done(&b);
    site_stop(&s);
}

static void refused_body(srn_str body, uint32_t depth, const char *why) {
    srn_err err = {0};
    json_t *v = NULL;
    assert_int_not_equal(srn__json_parse(body, depth, &v, &err), 0);
    if (!strstr(err.text, why)) print_error("%s\n", err.text);
    assert_non_null(strstr(err.text, why));
}

static void bodies_are_checked_before_they_are_parsed(void **state) {
    (void)state;
    srn_err err = {0};
    json_t *v = NULL;
    refused_body(SRN_STR("{\"a\":\"\\u0000\"}"), 8, "a NUL character (\\u0000) at line 1");
    refused_body(SRN_STR("{\"a\":\"\0\"}"), 8, "a NUL byte at line 1, column 7 (offset 6)");
    refused_body(SRN_STR("{\n\"a\": \"\xc3(\"}"), 8, "not UTF-8 at line 2, column 7 (offset 8)");
    refused_body(SRN_STR("{\"a\":1,\"a\":2}"), 8, "duplicate");
    refused_body(SRN_STR("[[[[0]]]]"), 3,
                 "more than 3 arrays or objects inside each other at line 1, column 4");
    refused_body(SRN_STR("{\"a\":[1}"), 8, "offset");
    refused_body(SRN_STR("{\"a\":1}]"), 8, "closes nothing");
    refused_body(SRN_STR("{\"a\":\"\\\""), 8, "inside a string");
    assert_int_equal(srn__json_parse(SRN_STR("{\"[[[[\":\"]\\\"{{{{\"}"), 1, &v, &err),
                     0); /* brackets in strings */
    json_decref(v);
    srn_buf many;
    srn_buf_init(&many, 1 << 20);
    srn_buf_addc(&many, '[');
    for (int i = 0; i < SRN__JSON_MAX_CONTAINERS; i++) srn_buf_addz(&many, i ? ",[]" : "[]");
    srn_buf_addc(&many, ']');
    refused_body((srn_str){many.data, many.len}, 8, "more than 100000 arrays and objects");
    srn_buf_done(&many);
}

/* The refusal must not be lost in a reset while the client still sends. */
static void who_sends_too_much_hears_why(void **state) {
    (void)state;
    enum { MOST = 1000, BODY = 20 << 20 };
    site s;
    site_init(&s);
    s.config.limits.body_bytes = MOST;
    site_start(&s);
    char *body = calloc(1, BODY), head[128];
    int fd = dial(s.port);
    snprintf(head, sizeof head, "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
             BODY);
    assert_true(say(fd, head));
    assert_true(say_n(fd, body, BODY));
    check(hear(fd, false), 413, "body_too_large");
    assert_true(hears_end(fd));
    close(fd);
    free(body);
    site_stop(&s);
}

static void a_body_is_asked_for_only_where_it_is_wanted(void **state) {
    (void)state;
    site s;
    site_init(&s);
    site_start(&s);
    int fd = dial(s.port);
    assert_true(say(
        fd, "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
    heard r;
    assert_true(hear_head(fd, &r));
    assert_int_equal(r.status, 100);
    heard_done(&r);
    assert_true(say(fd, "1234"));
    check(hear(fd, false), 200, "{\"length\":4}");
    close(fd);
    check(
        ask(&s,
            "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"),
        404, "unknown_url");
    /* A refused body that comes all the same is read over, and the connection stays. */
    fd = dial(s.port);
    assert_true(say(fd, "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n1234"));
    check(hear(fd, false), 404, NULL);
    assert_true(say(fd, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    check(hear(fd, false), 200, "world");
    close(fd);
    site_stop(&s);
}

static void headers_have_a_cap(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.config.limits.header_bytes = 2000;
    site_start(&s);
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    srn_buf_addz(&b, "GET /hello HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 200; i++) srn_buf_addf(&b, "x-%d: 0123456789\r\n", i);
    srn_buf_addz(&b, "\r\n");
    check(ask(&s, b.data), 431, "at most 2000 are read");
    srn_buf_done(&b);
    site_stop(&s);
}

/* ---- who may ask ---- */

static void keys_open_every_route_but_health(void **state) {
    (void)state;
    site s;
    site_init(&s);
    write_keys(&s, "alice secret-of-alice-0123456789\nroot secret-of-root-0123456789 admin\n");
    site_start(&s);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 401, "missing_api_key");
    check(ask(&s, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"), 401, NULL);
    check(ask(&s, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
                  "secret-of-alice-012345678\r\n\r\n"),
          401, "invalid_api_key");
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\nAuthorization: bearer  "
                  "secret-of-alice-0123456789\r\n\r\n"),
          200, NULL);
    wait_for(&s.feed, &s.feed.ended, 5);
    assert_string_equal(s.feed.last_key, "alice");
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\nx-api-key: secret-of-alice-0123456789\r\n\r\n"),
          200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\napi-key: secret-of-alice-0123456789\r\n\r\n"),
          200, NULL);
    check(post(&s, "/admin", "x-api-key: secret-of-alice-0123456789\r\n", "{}"), 403, "admin");
    check(post(&s, "/admin", "x-api-key: secret-of-root-0123456789\r\n", "{}"), 200, NULL);
    /* A body goes with the refusal; it must not stay in the connection's way. */
    check(post(&s, "/echo", "", "{\"a\":1}"), 401, NULL);
    site_stop(&s);
}

static void reloaded_keys_replace_the_old_ones_unless_they_are_broken(void **state) {
    (void)state;
    site s;
    srn_err err;
    const char *old =
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nx-api-key: secret-of-alice-0123456789\r\n\r\n";
    const char *fresh =
        "GET /hello HTTP/1.1\r\nHost: localhost\r\nx-api-key: secret-of-bob-0123456789012\r\n\r\n";
    site_init(&s);
    write_keys(&s, "alice secret-of-alice-0123456789\n");
    site_start(&s);
    check(ask(&s, old), 200, NULL);
    write_keys(&s, "bob secret-of-bob-0123456789012\n");
    assert_int_equal(site_reload(&s, &err), 0);
    check(ask(&s, fresh), 200, NULL);
    check(ask(&s, old), 401, NULL);
    write_keys(&s, "carol\n");
    assert_int_not_equal(site_reload(&s, &err), 0);
    check(ask(&s, fresh), 200, NULL);
    site_stop(&s);
}

static void only_its_own_names_are_answered(void **state) {
    (void)state;
    site s;
    site_init(&s);
    site_start(&s);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403, "host_not_allowed");
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: 10.0.0.1:80\r\n\r\n"), 403, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: LocalHost:1234\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.0\r\n\r\n"), 200, NULL);
    site_stop(&s);
    const char *const hosts[] = {"models.example"};
    site_init(&s);
    s.config.hosts = hosts;
    s.config.n_hosts = 1;
    site_start(&s);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: models.example:443\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 403, NULL);
    site_stop(&s);
}

static void a_handler_that_waits_runs_again_and_holds_no_worker(void **state) {
    (void)state;
    enum { N = 9 };
    site s;
    site_init(&s);
    site_start(&s);
    int fd[N];
    for (int i = 0; i < N; i++) {
        fd[i] = dial(s.port);
        assert_true(say(fd[i], "GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    }
    wait_for(&s.feed, &s.feed.n_waiting, N); /* there are four workers */
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, NULL);
    close(fd[0]); /* one leaves */
    wait_for(&s.feed, &s.feed.ended, 2);
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    pthread_mutex_unlock(&s.feed.lock);
    for (int i = 0; i < N; i++) {
        srn__call_again(s.feed.waiting[i]);
        srn__call_again(s.feed.waiting[i]); /* which means nothing any more */
        srn__call_drop(s.feed.waiting[i]);
    }
    for (int i = 1; i < N; i++) {
        heard r = hear(fd[i], false);
        check(r, 200, "came");
        close(fd[i]);
    }
    assert_int_equal(s.feed.again, N - 1);
    s.feed.release = false;
    check(ask(&s, "GET /wait?now=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, "came");
    site_stop(&s);
}

static void ask_by_name(site *s, const char *name, int status) {
    char text[400];
    snprintf(text, sizeof text,
             "GET /hello HTTP/1.1\r\nHost: %s\r\nx-api-key: secret-of-alice-0123456789\r\n\r\n", name);
    check(ask(s, text), status, status == 403 ? "host_not_allowed" : NULL);
}

/* "0.0.0.0" and "::" as allowed hosts, and as the address to listen on. */
static void any_address_is_a_name_of_the_machine(void **state) {
    (void)state;
    const char *const any[][1] = {{"0.0.0.0"}, {"::"}, {"[::]"}};
    char machine[256] = "", local[256];
    assert_int_equal(gethostname(machine, sizeof machine - 1), 0);
    snprintf(local, sizeof local, "%.*s.local:8080", (int)SRN_MIN(strcspn(machine, "."), (size_t)200),
             machine);
    for (int i = 0; i < 2 * (int)SRN_LEN(any) + 2; i++) {
        bool keys = i % 2, listens = i / 2 == (int)SRN_LEN(any);
        site s;
        site_init(&s);
        s.config.listen = listens ? "0.0.0.0:0" : s.config.listen;
        s.config.allow_open = true;
        if (!listens) s.config.hosts = any[i / 2], s.config.n_hosts = 1;
        if (keys) write_keys(&s, "alice secret-of-alice-0123456789\n");
        site_start(&s);
        ask_by_name(&s, "192.168.7.9:8080", 200);
        ask_by_name(&s, "[fe80::1]:8080", 200);
        ask_by_name(&s, "localhost", 200);
        if (strncasecmp(machine, "localhost", 9) != 0)
            ask_by_name(&s, machine,
                        keys ? 200 : 403); /* strangers' pages could be loaded from such a name */
        ask_by_name(&s, local, keys ? 200 : 403);
        ask_by_name(&s, "evil.example", 403);
        site_stop(&s);
    }
}

static void pages_may_ask_only_where_their_origin_is_configured(void **state) {
    (void)state;
    site s;
    char v[256];
    const char *preflight =
        "OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n"
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a\r\n\r\n";
    const char *from_page = "GET /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\n\r\n";
    site_init(&s);
    site_start(&s);
    check(ask(&s, preflight), 403, "origin_not_allowed");
    check(ask(&s, from_page), 403, "origin_not_allowed");
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://localhost:80\r\n\r\n"), 200,
          NULL);
    site_stop(&s);
    const char *const origins[] = {"https://app.example"};
    site_init(&s);
    s.config.cors = origins;
    s.config.n_cors = 1;
    site_start(&s);
    heard r = ask(&s, preflight);
    assert_string_equal(header(&r, "Access-Control-Allow-Origin", v), "https://app.example");
    assert_string_equal(header(&r, "Access-Control-Allow-Headers", v), "x-a");
    check(r, 204, NULL);
    r = ask(&s, from_page);
    assert_string_equal(header(&r, "Access-Control-Allow-Origin", v), "https://app.example");
    assert_string_equal(header(&r, "Vary", v), "Origin");
    check(r, 200, NULL);
    site_stop(&s);
}

static void the_world_is_not_served_without_keys(void **state) {
    (void)state;
    site s;
    srn_err err = {0};
    site_init(&s);
    s.config.listen = "0.0.0.0:0";
    assert_int_equal(srn__http_new(&s.opts, &s.http, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "--allow-open"));
    s.config.allow_open = true;
    site_start(&s);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n\r\n"), 200, NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 403, NULL);
    srn__http *second = NULL;
    srn_config again = s.config;
    char address[32];
    snprintf(address, sizeof address, "0.0.0.0:%u", s.port);
    again.listen = address;
    srn__http_opts o = s.opts;
    o.config = &again;
    assert_int_equal(srn__http_new(&o, &second, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "another program has it"));
    again.listen = "nonsense";
    assert_int_equal(srn__http_new(&o, &second, &err), SRN_EINVAL);
    site_stop(&s);
}

/* ---- replies that come as they are computed ---- */

/* A stream whose client has had its first event; its headers do not come before. */
static int open_begun(site *s, heard *ret) {
    int fd = open_stream(s, "/stream");
    give(&s->feed, "data: 0\n\n", false);
    assert_true(hear_head(fd, ret));
    assert_true(hear_chunk(fd, ret));
    return fd;
}

static void a_stream_is_sent_as_it_comes(void **state) {
    (void)state;
    site s;
    char v[256];
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_begun(&s, &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(header(&r, "Content-Type", v), "text/event-stream");
    assert_string_equal(header(&r, "Cache-Control", v), "no-cache");
    assert_string_equal(header(&r, "X-Accel-Buffering", v), "no");
    for (int i = 0; i < 100; i++) {
        give(&s.feed, "data: a\n\n", false);
        assert_true(hear_chunk(fd, &r)); /* it must not wait for the next */
    }
    give(&s.feed, "data: [DONE]\n\n", true);
    while (hear_chunk(fd, &r)) continue;
    assert_true(r.ended);
    assert_int_equal(r.body.len, 101 * 9 + 14);
    heard_done(&r);
    wait_for(&s.feed, &s.feed.freed, 1);
    assert_int_equal(s.feed.cancelled, 0);
    /* The connection serves the next request. */
    assert_true(say(fd, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    check(hear(fd, false), 200, NULL);
    close(fd);
    site_stop(&s);
}

static void what_is_woken_in_a_burst_is_sent_at_its_end(void **state) {
    (void)state;
    site s;
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_begun(&s, &r);
    for (int i = 0; i < 20; i++) {
        srn__http_burst(s.http, true);
        give(&s.feed, "data: a\n\n", false);
        srn__http_burst(s.http, false);
        assert_true(hear_chunk(fd, &r));
    }
    heard_done(&r);
    close(fd);
    site_stop(&s);
}

static void an_old_client_gets_a_stream_that_ends_with_the_connection(void **state) {
    (void)state;
    site s;
    site_init(&s);
    site_start(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "POST /stream HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"));
    wait_for(&s.feed, &s.feed.started, 1);
    give(&s.feed, "data: a\n\n", false);
    give(&s.feed, "data: b\n\n", true);
    heard r = hear(fd, false);
    assert_true(r.closed);
    assert_string_equal(r.body.data, "data: a\n\ndata: b\n\n");
    heard_done(&r);
    close(fd);
    site_stop(&s);
}

static void a_reply_that_is_not_streamed_comes_with_its_status(void **state) {
    (void)state;
    site s;
    char v[256];
    site_init(&s);
    s.feed.status = 504;
    site_start(&s);
    int fd = open_stream(&s, "/once");
    give(&s.feed, "{\"a\":", false);
    give(&s.feed, "1}", true);
    heard r = hear(fd, false);
    assert_string_equal(header(&r, "Content-Length", v), "7");
    assert_null(header(&r, "Retry-After", v));
    check(r, 504, "{\"a\":1}");
    wait_for(&s.feed, &s.feed.freed, 1);
    pthread_mutex_lock(&s.feed.lock);
    s.feed.status = 429;
    s.feed.done = false;
    pthread_mutex_unlock(&s.feed.lock);
    assert_true(say(fd, "POST /once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"));
    wait_for(&s.feed, &s.feed.started, 2);
    give(&s.feed, "{}", true);
    r = hear(fd, false);
    assert_string_equal(header(&r, "Retry-After", v), "1");
    check(r, 429, "{}");
    close(fd);
    wait_for(&s.feed, &s.feed.freed, 2);
    site_stop(&s);
}

/* A client that does not read gets what it missed when it does: more than the network holds, and then what
 * came while the connection was stuck. */
static void a_slow_reader_misses_nothing(void **state) {
    (void)state;
    enum { MUCH = 24 << 20 };
    site s;
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_stream(&s, "/stream");
    char *all = malloc(MUCH * 2 + 1);
    memset(all, 'x', MUCH);
    all[MUCH] = 0;
    give(&s.feed, all, false);
    wait_for(&s.feed, &s.feed.pulled, 1);
    give(&s.feed, "y", true);
    assert_true(hear_head(fd, &r));
    size_t xs = 0, ys = 0, n = 0; /* the chunks' frames hold neither */
    while (n < 5 || memcmp(all + n - 5, "0\r\n\r\n", 5) != 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        ssize_t k = recv(fd, all + n, 65536, 0);
        assert_true(k > 0);
        for (ssize_t i = 0; i < k; i++) xs += all[n + (size_t)i] == 'x', ys += all[n + (size_t)i] == 'y';
        n += (size_t)k;
    }
    assert_int_equal(xs, MUCH);
    assert_int_equal(ys, 1);
    free(all);
    heard_done(&r);
    close(fd);
    wait_for(&s.feed, &s.feed.freed, 1);
    site_stop(&s);
}

/* ---- clients that leave, and clients that are slow ---- */

static void a_client_that_leaves_a_stream_cancels_it(void **state) {
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        site s;
        site_init(&s);
        s.feed.ends_when_cancelled = false;
        site_start(&s);
        heard r = {0};
        int fd = streamed ? open_begun(&s, &r) : open_stream(&s, "/once");
        heard_done(&r);
        close(fd);
        wait_for(&s.feed, &s.feed.cancelled, 1);
        wait_for(&s.feed, &s.feed.freed, 1);
        wait_for(&s.feed, &s.feed.ended, 1);
        assert_false(s.feed.last_complete);
        site_stop(&s);
    }
}

static void a_client_that_leaves_the_queue_is_not_served(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.opts.n_workers = 1;
    site_start(&s);
    int blocker = dial(s.port), fd = dial(s.port);
    assert_true(say(blocker, "GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.blocked, 1);
    assert_true(say(fd, "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"));
    close(fd);
    wait_for(&s.feed, &s.feed.ended, 1); /* its exchange ended while the worker was held up */
    fd = dial(s.port);                   /* leaves in the middle of its body */
    assert_true(say(fd, "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{"));
    close(fd);
    wait_for(&s.feed, &s.feed.ended, 2);
    /* Health does not wait for a worker. */
    check(ask(&s, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, NULL);
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    pthread_cond_broadcast(&s.feed.changed);
    pthread_mutex_unlock(&s.feed.lock);
    check(hear(blocker, false), 200, "free");
    close(blocker);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, NULL);
    assert_int_equal(s.feed.started, 0);
    site_stop(&s);
}

static void what_a_handler_still_writes_is_not_read(void **state) {
    (void)state;
    site s;
    site_init(&s);
    site_start(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.blocked, 1);
    close(fd);
    wait_for(&s.feed, &s.feed.ended, 1);
    pthread_mutex_lock(&s.feed.lock);
    assert_string_equal(s.feed.last_model, "");
    s.feed.release = true;
    pthread_cond_broadcast(&s.feed.changed);
    pthread_mutex_unlock(&s.feed.lock);
    site_stop(&s);
}

static void a_full_queue_says_when_to_come_again_and_has_room_for_who_was_there(void **state) {
    (void)state;
    site s;
    char v[256];
    site_init(&s);
    s.opts.n_workers = 1;
    s.opts.queue = 1;
    site_start(&s);
    int blocker = dial(s.port), waiting = dial(s.port), before = dial(s.port);
    assert_true(say(before, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.n_waiting, 1);
    assert_true(say(blocker, "GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    wait_for(&s.feed, &s.feed.blocked, 1);
    assert_true(say(waiting, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    /* Which of the two is first is the kernel's to say: one waits, the other is refused. */
    int third = dial(s.port);
    assert_true(say(third, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    struct pollfd p[2] = {{.fd = waiting, .events = POLLIN}, {.fd = third, .events = POLLIN}};
    assert_int_equal(poll(p, 2, WAIT_MS), 1);
    heard r = hear(p[0].revents ? waiting : third, false);
    assert_non_null(header(&r, "Retry-After", v));
    check(r, 503, "overloaded");
    pthread_mutex_lock(&s.feed.lock);
    s.feed.release = true;
    srn__call_again(s.feed.waiting[0]);
    srn__call_drop(s.feed.waiting[0]);
    pthread_cond_broadcast(&s.feed.changed);
    pthread_mutex_unlock(&s.feed.lock);
    check(hear(p[0].revents ? third : waiting, false), 200, NULL);
    check(hear(before, false), 200, "came");
    close(before);
    close(blocker);
    close(waiting);
    close(third);
    site_stop(&s);
}

/* Sends a byte every few milliseconds until the server has had enough. */
static heard drip(const site *s, const char *first, const char *more) {
    int fd = dial(s->port);
    assert_true(say(fd, first));
    for (size_t i = 0;; i = (i + 1) % strlen(more)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 5) != 0) break;
        if (!say_n(fd, more + i, 1)) break;
    }
    heard r = hear(fd, false);
    close(fd);
    return r;
}

static void who_drips_bytes_is_cut_off_at_the_deadline(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.config.limits.header_timeout_ms = 100;
    s.config.limits.body_timeout_ms = 150;
    s.config.limits.idle_timeout_ms = 20000;
    site_start(&s);
    heard r = drip(&s, "GET /hel", "lo");
    assert_int_equal(r.status, 0); /* not even a request line */
    heard_done(&r);
    check(drip(&s, "GET /hello HTTP/1.1\r\n", "x: y\r\n"), 408, "took too long");
    check(drip(&s, "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", "x"), 408,
          NULL);
    int fd = dial(s.port); /* silence counts the same */
    assert_true(hears_end(fd));
    close(fd);
    /* A call that is under way has no such deadline. */
    fd = open_stream(&s, "/once");
    heard_done(&r);
    r = drip(&s, "GET /hel", "lo");
    heard_done(&r);
    r = drip(&s, "GET /hel", "lo");
    heard_done(&r);
    give(&s.feed, "{}", true);
    check(hear(fd, false), 200, "{}");
    close(fd);
    site_stop(&s);
}

static void an_idle_connection_is_closed_after_its_time(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.config.limits.idle_timeout_ms = 100;
    site_start(&s);
    int fd = dial(s.port);
    assert_true(say(fd, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    check(hear(fd, false), 200, NULL);
    assert_true(hears_end(fd));
    close(fd);
    site_stop(&s);
}

/* Says a part of a request, or several, reads some of the reply or none, and leaves by a close or a reset. */
static void misbehave(uint16_t port, unsigned *seed) {
    static const char *const says[] = {
        "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /own HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        "POST /own?once=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}GET /hello "
        "HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\nabc",
        "POST /length HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "HEAD /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "NONSENSE\r\n\r\n",
        "GET /%00%ff/../x?a&b=&=c&%zz HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "POST /nowhere HTTP/1.0\r\nContent-Length: 5\r\n\r\nabcde",
    };
    char sink[4096];
    const char *text = says[(unsigned)rand_r(seed) % SRN_LEN(says)];
    size_t n = strlen(text), first = (size_t)rand_r(seed) % (n + 1);
    int fd = dial(port);
    if (fd < 0) return;
    say_n(fd, text, first);
    if (rand_r(seed) % 4) say_n(fd, text + first, n - first);
    if (rand_r(seed) % 2) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 20) > 0) (void)!recv(fd, sink, 1 + (size_t)rand_r(seed) % sizeof sink, 0);
    }
    if (rand_r(seed) % 3 == 0) { /* a reset in place of an orderly end */
        struct linger l = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    }
    close(fd);
}

typedef struct rascal {
    uint16_t port;
    unsigned seed;
} rascal;
static void *misbehave_often(void *p) {
    rascal *r = p;
    for (int i = 0; i < 250; i++) misbehave(r->port, &r->seed);
    return NULL;
}

static void clients_of_every_kind_do_no_harm(void **state) {
    (void)state;
    enum { N = 4 };
    site s;
    pthread_t t[N];
    rascal r[N];
    unsigned seed = (unsigned)srn_hash_seed();
    print_message("seed %u\n", seed);
    site_init(&s);
    site_start(&s);
    for (unsigned i = 0; i < N; i++) {
        r[i] = (rascal){s.port, seed + i};
        assert_int_equal(pthread_create(&t[i], NULL, misbehave_often, &r[i]), 0);
    }
    for (int i = 0; i < 50; i++)
        check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, "world");
    for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
    check(ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, "world");
    srn__http_stop(s.http, 60000); /* all of them ended by themselves */
    assert_int_equal(s.http->n_calls, 0);
    assert_int_equal(srn__http_connections(s.http), 0);
    site_stop(&s);
}

/* ---- the stop ---- */

static void *stop_it(void *p) {
    site *s = p;
    srn__http_stop(s->http, 60000);
    return NULL;
}

static void a_drained_server_refuses_and_finishes(void **state) {
    (void)state;
    site s;
    char v[256];
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_begun(&s, &r), idle = dial(s.port);
    assert_true(say(idle, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    check(hear(idle, false), 200, NULL);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, stop_it, &s), 0);
    for (;;) { /* until the stop has begun */
        heard h = ask(&s, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
        int status = h.status;
        if (status == 503) assert_non_null(header(&h, "Retry-After", v));
        heard_done(&h);
        if (status == 503) break;
        assert_int_equal(status, 200);
    }
    check(ask(&s, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200, NULL);
    give(&s.feed, "data: last\n\n", true);
    while (hear_chunk(fd, &r)) continue;
    assert_true(r.ended);
    assert_string_equal(r.body.data, "data: 0\n\ndata: last\n\n");
    heard_done(&r);
    pthread_join(t, NULL);
    assert_int_equal(s.feed.cancelled, 0);
    assert_true(hears_end(idle));
    close(fd);
    close(idle);
    site_stop(&s);
}

static void a_stream_at_the_end_of_the_grace_time_is_ended_properly(void **state) {
    (void)state;
    site s;
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_begun(&s, &r);
    srn__http_stop(s.http, 10);
    while (hear_chunk(fd, &r)) continue;
    assert_true(r.ended);
    assert_string_equal(r.body.data, "data: 0\n\ndata: {\"error\":{}}\n\n");
    heard_done(&r);
    close(fd);
    assert_int_equal(s.feed.freed, 1);
    site_stop(&s);
}

static void a_hurry_ends_the_grace_time(void **state) {
    (void)state;
    site s;
    heard r;
    site_init(&s);
    site_start(&s);
    int fd = open_begun(&s, &r);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, stop_it, &s), 0);
    srn__http_hurry(s.http);
    pthread_join(t, NULL);
    while (hear_chunk(fd, &r)) continue;
    assert_true(r.ended);
    heard_done(&r);
    close(fd);
    site_stop(&s);
}

static void the_stop_does_not_wait_for_what_never_ends(void **state) {
    (void)state;
    site s;
    site_init(&s);
    s.feed.ends_when_cancelled = false;
    s.opts.last_words_ms = 10;
    site_start(&s);
    int fd = open_stream(&s, "/stream"), half = dial(s.port);
    assert_true(say(half, "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n1"));
    srn__http_stop(s.http, 10);
    assert_true(s.feed.cancelled >= 1);
    assert_int_equal(s.feed.freed, 1);
    close(fd);
    close(half);
    site_stop(&s);
}

static void each_request_is_a_line_of_the_log_without_its_content(void **state) {
    (void)state;
    site s;
    site_init(&s);
    site_start(&s);
    check(post(&s, "/echo", "", "{\"secret\":1}"), 200, NULL);
    wait_for(&s.feed, &s.feed.ended, 1);
    check(ask(&s, "GET /hel\"lo%0a HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404, NULL);
    wait_for(&s.feed, &s.feed.ended, 2);
    srn__http_stop(s.http, 0);
    assert_null(strstr(s.feed.log.data, "secret"));
    unsigned lines = 0;
    for (char *p = s.feed.log.data, *end; *p; p = end + 1, lines++) {
        end = strchr(p, '\n');
        json_t *v = json_loadb(p, (size_t)(end - p), JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(v);
        assert_int_equal(json_integer_value(json_object_get(v, "status")), lines ? 404 : 200);
        if (lines == 0) assert_string_equal(json_string_value(json_object_get(v, "route")), "/echo");
        if (lines == 1) assert_string_equal(json_string_value(json_object_get(v, "path")), "/hel\"lo\n");
        json_decref(v);
    }
    assert_int_equal(lines, 2);
    site_stop(&s);
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_carry_an_id_and_connections_stay),
        cmocka_unit_test(wrong_paths_and_methods_are_told_in_the_dialect),
        cmocka_unit_test(bodies_come_whole_or_not_at_all),
        cmocka_unit_test(bodies_are_checked_before_they_are_parsed),
        cmocka_unit_test(who_sends_too_much_hears_why),
        cmocka_unit_test(a_body_is_asked_for_only_where_it_is_wanted),
        cmocka_unit_test(headers_have_a_cap),
        cmocka_unit_test(keys_open_every_route_but_health),
        cmocka_unit_test(reloaded_keys_replace_the_old_ones_unless_they_are_broken),
        cmocka_unit_test(only_its_own_names_are_answered),
        cmocka_unit_test(any_address_is_a_name_of_the_machine),
        cmocka_unit_test(a_handler_that_waits_runs_again_and_holds_no_worker),
        cmocka_unit_test(pages_may_ask_only_where_their_origin_is_configured),
        cmocka_unit_test(the_world_is_not_served_without_keys),
        cmocka_unit_test(a_stream_is_sent_as_it_comes),
        cmocka_unit_test(what_is_woken_in_a_burst_is_sent_at_its_end),
        cmocka_unit_test(an_old_client_gets_a_stream_that_ends_with_the_connection),
        cmocka_unit_test(a_reply_that_is_not_streamed_comes_with_its_status),
        cmocka_unit_test(a_slow_reader_misses_nothing),
        cmocka_unit_test(a_client_that_leaves_a_stream_cancels_it),
        cmocka_unit_test(a_client_that_leaves_the_queue_is_not_served),
        cmocka_unit_test(what_a_handler_still_writes_is_not_read),
        cmocka_unit_test(a_full_queue_says_when_to_come_again_and_has_room_for_who_was_there),
        cmocka_unit_test(who_drips_bytes_is_cut_off_at_the_deadline),
        cmocka_unit_test(an_idle_connection_is_closed_after_its_time),
        cmocka_unit_test(clients_of_every_kind_do_no_harm),
        cmocka_unit_test(a_drained_server_refuses_and_finishes),
        cmocka_unit_test(a_stream_at_the_end_of_the_grace_time_is_ended_properly),
        cmocka_unit_test(a_hurry_ends_the_grace_time),
        cmocka_unit_test(the_stop_does_not_wait_for_what_never_ends),
        cmocka_unit_test(each_request_is_a_line_of_the_log_without_its_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
