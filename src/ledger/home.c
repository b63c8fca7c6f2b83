/* Where a ledger is: the records in a folder or a PostgreSQL database, and the folder of this machine that
 * belongs to it. What is shown of the place is never the password of a URL. Used by ledgers and readers, each
 * with a place of its own.
 */
#include <stdlib.h>

#include "ledger/ledger_internal.h"

bool srn_ledger_is_postgres(const char *where) {
    return strncmp(where, "postgresql://", 13) == 0 || strncmp(where, "postgres://", 11) == 0;
}

int srn_ledger_local_dir(const char *where, const char *folder, srn_buf *ret, srn_err *err) {
    srn_buf_clear(ret);
    bool ok = true, on_server = srn_ledger_is_postgres(where);
    if (on_server && !folder) {
        int code = srn_ledger_default_dir(ret, err);
        if (code) return code;
        ok = srn_buf_addz(ret, "-postgresql");
    } else {
        ok = srn_buf_addz(ret, on_server ? folder : where);
    }
    return ok ? SRN_OK : srn_fail_nomem(err, ret->len);
}

int srn__home_init(srn__home *p, const char *where, const char *folder, srn_err *err) {
    srn_buf dir, name;
    *p = (srn__home){.where = srn_strndup(where, strlen(where))};
    srn_buf_init(&dir, 8192);
    srn_buf_init(&name, 8192);
    int code = srn_ledger_local_dir(where, folder, &dir, err);
    srn_hide_password(where, &name);
    if (!code) {
        p->folder = srn_strndup(dir.data, dir.len);
        p->name = name.failed ? NULL : srn_strndup(name.data ? name.data : "", name.len);
        if (!p->where || !p->folder || !p->name) code = srn_fail_nomem(err, strlen(where));
    }
    srn_buf_done(&dir);
    srn_buf_done(&name);
    if (code) srn__home_done(p);
    return code;
}

void srn__home_done(srn__home *p) {
    free(p->where);
    free(p->name);
    free(p->folder);
    *p = (srn__home){0};
}
