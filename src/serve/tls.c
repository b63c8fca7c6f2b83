/* serve: the certificate and its key, loaded for libmicrohttpd's GnuTLS, and replaced while connections live.
 * GnuTLS keeps pointers into a certificate for as long as a session that it was given to lives, so a replaced
 * one is kept until every connection of its time is gone. Loading: any thread; the rest: the listener.
 */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "serve/http_internal.h"

enum { MAX_CHAIN = 16, MAX_PEM_BYTES = 1 << 20 };

struct srn__cert {
    gnutls_pcert_st chain[MAX_CHAIN];
    unsigned n_chain;
    gnutls_privkey_t key;
    uint64_t since;  /* retired: connections with a smaller id may use it */
    srn__cert *next; /* of the retired */
};

static int load_chain(srn__cert *c, const char *file, srn_err *err) {
    char *pem = NULL;
    size_t n = 0;
    int code = srn_read_file(file, MAX_PEM_BYTES, &pem, &n, err);
    if (code) return srn_fail_prefix(err, code, "TLS certificate");
    unsigned count = MAX_CHAIN;
    gnutls_datum_t d = {(unsigned char *)pem, (unsigned)n};
    int e = gnutls_pcert_list_import_x509_raw(c->chain, &count, &d, GNUTLS_X509_FMT_PEM, 0);
    free(pem);
    if (e < 0)
        return srn_fail(err, SRN_EFORMAT,
                        "TLS certificate %s: %s; it must hold one to %d certificates in PEM", file,
                        gnutls_strerror(e), MAX_CHAIN);
    c->n_chain = count;
    return 0;
}

static int load_key(srn__cert *c, const char *file, srn_err *err) {
    char *pem = NULL;
    size_t n = 0;
    int code = srn_read_file(file, MAX_PEM_BYTES, &pem, &n, err);
    if (code) return srn_fail_prefix(err, code, "TLS key");
    gnutls_datum_t d = {(unsigned char *)pem, (unsigned)n};
    int e = gnutls_privkey_init(&c->key);
    if (e >= 0) e = gnutls_privkey_import_x509_raw(c->key, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_memset(pem, 0, n);
    free(pem);
    if (e < 0)
        return srn_fail(err, SRN_EFORMAT,
                        "TLS key %s: %s; it must hold a private key in PEM without a password", file,
                        gnutls_strerror(e));
    return 0;
}

/* A key of another certificate would fail every handshake; better here. */
static int check_pair(srn__cert *c, const char *cert_file, const char *key_file, srn_err *err) {
    gnutls_pubkey_t pub = NULL;
    unsigned char a[64], b[64];
    size_t n_a = sizeof a, n_b = sizeof b;
    int e = gnutls_pubkey_init(&pub);
    if (e >= 0) e = gnutls_pubkey_import_privkey(pub, c->key, 0, 0);
    if (e >= 0) e = gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, a, &n_a);
    if (e >= 0) e = gnutls_pubkey_get_key_id(c->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, b, &n_b);
    if (pub) gnutls_pubkey_deinit(pub);
    if (e < 0) return srn_fail(err, SRN_EFORMAT, "TLS key %s: %s", key_file, gnutls_strerror(e));
    if (n_a != n_b || memcmp(a, b, n_a) != 0)
        return srn_fail(err, SRN_EFORMAT,
                        "TLS key %s is not that of the first certificate in %s; the server's own comes first",
                        key_file, cert_file);
    return 0;
}

int srn__cert_load(const char *cert_file, const char *key_file, srn__cert **ret, srn_err *err) {
    srn__cert *c = srn_calloc(1, sizeof *c);
    if (!c) return srn_fail_nomem(err, sizeof *c);
    int code = load_chain(c, cert_file, err);
    if (!code) code = load_key(c, key_file, err);
    if (!code) code = check_pair(c, cert_file, key_file, err);
    if (code) return srn__cert_free(c), code;
    *ret = c;
    return 0;
}

void srn__cert_free(srn__cert *c) {
    if (!c) return;
    for (unsigned i = 0; i < c->n_chain; i++) gnutls_pcert_deinit(&c->chain[i]);
    if (c->key) gnutls_privkey_deinit(c->key);
    free(c);
}

void srn__tls_replace(srn__tls *t, srn__cert *next, uint64_t next_conn) {
    if (t->current) {
        t->current->since = next_conn;
        t->current->next = t->retired;
        t->retired = t->current;
    }
    t->current = next;
}

void srn__tls_sweep(srn__tls *t, uint64_t oldest_conn) {
    for (srn__cert **p = &t->retired; *p;) {
        srn__cert *c = *p;
        if (c->since > oldest_conn) {
            p = &c->next;
        } else {
            *p = c->next;
            srn__cert_free(c);
        }
    }
}

void srn__tls_done(srn__tls *t) {
    srn__tls_sweep(t, UINT64_MAX);
    srn__cert_free(t->current);
    *t = (srn__tls){0};
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **ret_chain,
                    unsigned *ret_n, gnutls_privkey_t *ret_key) {
    (void)authorities, (void)n_authorities, (void)algorithms, (void)n_algorithms;
    srn__tls *t = gnutls_session_get_ptr(session);
    if (!t || !t->current) return -1;
    *ret_chain = t->current->chain;
    *ret_n = t->current->n_chain;
    *ret_key = t->current->key;
    return 0;
}

void *srn__tls_callback(void) {
    gnutls_certificate_retrieve_function2 *f = retrieve;
    void *p;
    memcpy(&p, &f, sizeof p); /* ISO C knows no cast from functions to objects */
    return p;
}

void srn__tls_attach(struct MHD_Connection *con, srn__tls *t) {
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(con, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (i && i->tls_session) gnutls_session_set_ptr(i->tls_session, t);
}
