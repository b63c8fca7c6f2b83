/* What commands need to talk to a server: where it is, who asks, and JSON there and back. By --server and
 * --key, or by server.json in a ledger's folder, which the server that writes that ledger leaves there for
 * its owner. Main thread.
 */
#ifndef SRN_CLI_SERVER_CLIENT_H
#define SRN_CLI_SERVER_CLIENT_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/ledger.h"

typedef struct srn__server_opts {
    const char *server; /* --server URL, or NULL: the one of the ledger's folder */
    const char *key;    /* --key KEY, or NULL: $SERIN_KEY, or the folder's token */
    const char *ledger; /* --ledger, or NULL: the default one */
    const char *folder; /* --ledger-folder, or NULL */
} srn__server_opts;
/* The rows that such commands have in their options. */
#define SRN__SERVER_OPTIONS(o)                                                                               \
    {"server", 0, SRN_OPT_STR, &(o)->server, 0, 0, "URL", "the server (that of the ledger's folder)"},       \
        {"key", 0, SRN_OPT_STR, &(o)->key, 0, 0, "KEY", "an admin key of it ($SERIN_KEY)"},                  \
        SRN__LEDGER_FOLDER(&(o)->folder), {                                                                  \
        "ledger", 0, SRN_OPT_STR, &(o)->ledger, 0, 0, "DIR|URL", "the ledger that it writes"                 \
    }

typedef struct srn__server {
    char *base, *token;  /* token: NULL where there is none */
    bool local;          /* by server.json */
    uint32_t timeout_ms; /* of one request; 0: a minute */
} srn__server;
/* SRN_ENOENT: no server writes that ledger; the sentence says what to do. */
int srn__server_find(const srn__server_opts *o, srn__server *ret, srn_err *err);
void srn__server_done(srn__server *s);
/* One request; body NULL: GET, else POST, and the reference is taken. The answer's JSON goes to *ret. An
 * answer that is an error becomes its sentence: SRN_ENOENT (404), SRN_EINVAL (400), SRN_EUSAGE (401, 403: the
 * key), SRN_EBUSY (409, 429, 503), SRN_EIO. */
int srn__server_json(const srn__server *s, const char *path, json_t *body, json_t **ret, srn_err *err);
/* Who does it, for the record: what was said, $USER, or the name of the user whose rights the process has. */
const char *srn__server_user(const char *said, char ret[64]);
/* Appends text as part of a query: what is not a letter, digit, - . _ or ~ as %XX. */
void srn__server_escape(srn_buf *b, const char *text);

#endif
