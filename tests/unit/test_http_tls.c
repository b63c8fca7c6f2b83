/* The HTTP core over TLS, with a client of GnuTLS's own: streams, clients that leave without a word, a
 * certificate replaced while connections live, and what is refused as certificate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>

#include "http_site.h"

/* ---- certificates ---- */

typedef struct pem {
    char cert[64], key[64]; /* files */
} pem;

static void write_pem(const char *path, const gnutls_datum_t *d) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fwrite(d->data, 1, d->size, f);
    fclose(f);
}

/* A fresh key and a certificate signed by itself, into the files. */
static void make_cert(const pem *p, const char *name) {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_datum_t text;
    time_t now = time(NULL);
    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                                  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    assert_int_equal(gnutls_x509_crt_init(&crt), 0);
    gnutls_x509_crt_set_version(crt, 3);
    gnutls_x509_crt_set_serial(crt, "\x01", 1);
    gnutls_x509_crt_set_activation_time(crt, now - 3600);
    gnutls_x509_crt_set_expiration_time(crt, now + 3600);
    gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned)strlen(name));
    gnutls_x509_crt_set_key(crt, key);
    assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &text), 0);
    write_pem(p->cert, &text);
    gnutls_free(text.data);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &text), 0);
    write_pem(p->key, &text);
    gnutls_free(text.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}

static void pem_init(pem *p) {
    snprintf(p->cert, sizeof p->cert, "/tmp/serin-test-cert-XXXXXX");
    snprintf(p->key, sizeof p->key, "/tmp/serin-test-key-XXXXXX");
    close(mkstemp(p->cert));
    close(mkstemp(p->key));
}

static void pem_done(const pem *p) {
    unlink(p->cert);
    unlink(p->key);
}

/* ---- a client ---- */

typedef struct client {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t creds;
} client;

static void client_open(client *c, uint16_t port) {
    c->fd = dial(port);
    assert_true(c->fd >= 0);
    gnutls_init(&c->session, GNUTLS_CLIENT);
    gnutls_certificate_allocate_credentials(&c->creds);
    gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->creds);
    gnutls_set_default_priority(c->session);
    gnutls_transport_set_int(c->session, c->fd);
    gnutls_handshake_set_timeout(c->session, WAIT_MS);
    gnutls_record_set_timeout(c->session, WAIT_MS);
    int e;
    do e = gnutls_handshake(c->session);
    while (e < 0 && !gnutls_error_is_fatal(e));
    assert_int_equal(e, 0);
}

/* The connection ends without TLS being told, as when a process dies. */
static void client_vanish(client *c) {
    close(c->fd);
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->creds);
}

static void client_say(client *c, const char *text) {
    assert_int_equal(gnutls_record_send(c->session, text, strlen(text)), strlen(text));
}

/* Reads until the text has come. */
static void client_hear(client *c, const char *text) {
    char got[65536];
    size_t n = 0;
    for (;;) {
        ssize_t k = gnutls_record_recv(c->session, got + n, sizeof got - 1 - n);
        if (k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED) continue;
        if (k <= 0) fail_msg("%s", gnutls_strerror((int)k));
        n += (size_t)k;
        got[n] = 0;
        if (strstr(got, text)) return;
    }
}

/* The common name of the server's certificate. */
static void client_sees(client *c, const char *name) {
    unsigned n = 0;
    char cn[64];
    size_t len = sizeof cn;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(c->session, &n);
    gnutls_x509_crt_t crt;
    assert_true(list && n == 1);
    gnutls_x509_crt_init(&crt);
    assert_int_equal(gnutls_x509_crt_import(crt, list, GNUTLS_X509_FMT_DER), 0);
    assert_int_equal(gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &len), 0);
    gnutls_x509_crt_deinit(crt);
    assert_string_equal(cn, name);
}

static void tls_site(site *s, pem *p) {
    pem_init(p);
    make_cert(p, "first");
    site_init(s);
    s->config.tls_cert = p->cert;
    s->config.tls_key = p->key;
    site_start(s);
    assert_memory_equal(srn__http_address(s->http), "https://", 8);
}

static const char ask_stream[] = "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/* ---- tests ---- */

static void a_stream_over_tls_is_sent_as_it_comes(void **state) {
    (void)state;
    site s;
    pem p;
    client c;
    char text[32];
    tls_site(&s, &p);
    client_open(&c, s.port);
    client_say(&c, ask_stream);
    wait_for(&s.feed, &s.feed.started, 1);
    for (int i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "data: %d.\n\n", i);
        give(&s.feed, text, i == 49);
        client_hear(&c, text);
    }
    wait_for(&s.feed, &s.feed.freed, 1);
    assert_int_equal(s.feed.cancelled, 0);
    client_vanish(&c);
    site_stop(&s);
    pem_done(&p);
}

static void a_client_that_vanishes_cancels_its_stream(void **state) {
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        site s;
        pem p;
        client c;
        tls_site(&s, &p);
        client_open(&c, s.port);
        client_say(&c, streamed ? ask_stream
                                : "POST /once HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
        wait_for(&s.feed, &s.feed.started, 1);
        if (streamed) {
            give(&s.feed, "data: a\n\n", false);
            client_hear(&c, "data: a\n\n");
        }
        client_vanish(&c);
        wait_for(&s.feed, &s.feed.cancelled, 1);
        wait_for(&s.feed, &s.feed.freed, 1);
        site_stop(&s);
        pem_done(&p);
    }
}

static void a_new_certificate_is_shown_to_new_clients(void **state) {
    (void)state;
    site s;
    pem p;
    client old, fresh;
    srn_err err;
    tls_site(&s, &p);
    client_open(&old, s.port);
    client_sees(&old, "first");
    for (int i = 0; i < 3; i++) { /* several in the life of one connection */
        make_cert(&p, "second");
        assert_int_equal(site_reload(&s, &err), 0);
    }
    /* The listener takes it up before it serves what comes after the reload. */
    client_say(&old, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_hear(&old, "world");
    client_open(&fresh, s.port);
    client_sees(&fresh, "second");
    client_say(&fresh, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client_hear(&fresh, "world");
    write_pem(p.cert, &(gnutls_datum_t){(unsigned char *)"nonsense", 8});
    assert_int_equal(site_reload(&s, &err), SRN_EFORMAT);
    client_vanish(&fresh);
    client_open(&fresh, s.port);
    client_sees(&fresh, "second");
    client_vanish(&fresh);
    client_vanish(&old);
    site_stop(&s);
    pem_done(&p);
}

/* Whoever connects and does not shake hands is cut off like any other. */
static void a_silent_client_costs_one_connection_until_the_deadline(void **state) {
    (void)state;
    site s;
    pem p;
    pem_init(&p);
    make_cert(&p, "first");
    site_init(&s);
    s.config.tls_cert = p.cert;
    s.config.tls_key = p.key;
    s.config.limits.header_timeout_ms = 100;
    site_start(&s);
    int fd = dial(s.port);
    assert_true(hears_end(fd));
    close(fd);
    site_stop(&s);
    pem_done(&p);
}

static void a_stop_ends_streams_over_tls_properly(void **state) {
    (void)state;
    site s;
    pem p;
    client c;
    tls_site(&s, &p);
    client_open(&c, s.port);
    client_say(&c, ask_stream);
    wait_for(&s.feed, &s.feed.started, 1);
    srn__http_stop(s.http, 10);
    client_hear(&c, "data: {\"error\":{}}\n\n\r\n0\r\n\r\n");
    client_vanish(&c);
    site_stop(&s);
    pem_done(&p);
}

static void a_key_of_another_certificate_is_refused(void **state) {
    (void)state;
    pem a, b;
    srn_err err = {0};
    srn__cert *c = NULL;
    pem_init(&a);
    pem_init(&b);
    make_cert(&a, "a");
    make_cert(&b, "b");
    assert_int_equal(srn__cert_load(a.cert, b.key, &c, &err), SRN_EFORMAT);
    assert_int_equal(srn__cert_load(a.key, a.key, &c, &err), SRN_EFORMAT);
    assert_int_equal(srn__cert_load(a.cert, a.cert, &c, &err), SRN_EFORMAT);
    assert_int_equal(srn__cert_load("/nonexistent", a.key, &c, &err), SRN_ENOENT);
    assert_int_equal(srn__cert_load(a.cert, a.key, &c, &err), 0);
    srn__cert_free(c);
    pem_done(&a);
    pem_done(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_over_tls_is_sent_as_it_comes),
        cmocka_unit_test(a_client_that_vanishes_cancels_its_stream),
        cmocka_unit_test(a_new_certificate_is_shown_to_new_clients),
        cmocka_unit_test(a_silent_client_costs_one_connection_until_the_deadline),
        cmocka_unit_test(a_stop_ends_streams_over_tls_properly),
        cmocka_unit_test(a_key_of_another_certificate_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
