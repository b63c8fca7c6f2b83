/* serve: what is in force, as one piece that calls hold. Made by whoever starts or reloads a server, adopted
 * by the listener, held by each call from its first header to its end. The last to let go frees it, on
 * whatever thread that is; nothing in it ever changes. Refuses a key file that is not one.
 */
#include <stdlib.h>

#include "serve/http_internal.h"

int srn__settings_new(const srn_config *c, srn_config *own, srn__settings **ret, srn_err *err) {
    srn__settings *s = srn_calloc(1, sizeof *s);
    if (!s) return srn_fail_nomem(err, sizeof *s);
    atomic_init(&s->refs, 1);
    s->config = c;
    int code = srn_config_identity(c, NULL, s->id, err);
    if (!code && c->keys_file) code = srn_keys_load(c->keys_file, &s->keys, err);
    if (code) {
        srn__settings_put(s);
        return code;
    }
    s->own = own;
    *ret = s;
    return SRN_OK;
}

srn__settings *srn__settings_hold(srn__settings *s) {
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void srn__settings_put(srn__settings *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    srn_keys_free(s->keys);
    if (s->on_unused) s->on_unused(s->unused_ctx, s->config);
    if (s->own) srn_config_done(s->own);
    free(s->own);
    free(s);
}
