/* client, inside: what requests and streams set alike. */
#ifndef SRN_CLIENT_CLIENT_INTERNAL_H
#define SRN_CLIENT_CLIENT_INTERNAL_H

#include <curl/curl.h>

#include "client/client.h"

/* "unix:PATH" is a socket and any host; else the base and the path behind it. SRN_EINVAL. */
int srn__curl_address(CURL *c, const char *base, const char *path, srn_err *err);

typedef struct srn__curl_head {
    const char *accept; /* "Accept: application/json" */
    const char *bearer; /* or NULL */
    bool body;          /* there is one, in JSON */
    const char *const *headers;
    size_t n_headers;
} srn__curl_head;
/* The list, for curl_slist_free_all; one that is incomplete for lack of memory fails at the other end. */
struct curl_slist *srn__curl_headers(const srn__curl_head *h);

#endif
