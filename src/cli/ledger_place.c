/* cli: where a ledger is, and where the server that writes it left word. Main thread; owns nothing. Folders
 * are known to be in use by their locks, which end with the process that has them, so that what a killed
 * server left behind leads nobody astray.
 */
#include <errno.h>
#include <unistd.h>

#include "cli/ledger.h"
#include "ledger/ledger.h"

enum { PATH_BYTES = 8192 };

int srn__ledger_place(const char **where, srn_buf *place, srn_err *err) {
    srn_buf_init(place, PATH_BYTES);
    if (*where) return SRN_OK;
    int code = srn_ledger_default_dir(place, err);
    *where = place->data;
    return code;
}

static int nobody(const char *dir, srn_err *err) {
    char lock[PATH_BYTES + 8];
    snprintf(lock, sizeof lock, "%s/lock", dir);
    if (access(lock, R_OK) && errno == EACCES)
        return srn_fail(err, SRN_EIO,
                        "%s: this user may not read it: %s; ask as the server's user, or with --server URL "
                        "--key KEY",
                        dir, strerror(errno));
    return srn_fail(err, SRN_ENOENT,
                    "no server writes the ledger in %s now; start one with `serin serve MODEL --ledger %s`, "
                    "or name one with --server URL --key KEY",
                    dir, dir);
}

int srn__ledger_served(const char *where, srn_buf *ret, srn_err *err) {
    srn_buf first;
    if (where) {
        if (!srn_buf_addz(ret, where)) return srn_fail_nomem(err, strlen(where));
        return srn_ledger_is_written(where) ? SRN_OK : nobody(where, err);
    }
    srn_buf_init(&first, PATH_BYTES);
    int code = srn_ledger_default_dir(&first, err);
    bool found = false;
    for (unsigned i = 1; !code && !found && i <= SRN_LEDGER_FOLDERS; i++) {
        srn_buf_clear(ret);
        code = srn_ledger_numbered_dir(first.data, i, ret, err);
        found = !code && srn_ledger_is_written(ret->data);
    }
    if (!code && !found) code = nobody(first.data, err);
    srn_buf_done(&first);
    return code;
}
