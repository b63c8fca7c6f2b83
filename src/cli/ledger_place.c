/* cli: where a ledger is, and where the server that writes it left word. Main thread; owns nothing. Folders
 * are known to be in use by their locks, which end with the process that has them, so that what a killed
 * server left behind leads nobody astray.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/ledger.h"
#include "ledger/ledger.h"

enum { PATH_BYTES = 8192 };

/* Of a server that keeps its ledger in PostgreSQL: the address without the password, as server.json has it.
 */
static int address_of(const char *folder, srn_buf *ret, srn_err *err) {
    char path[PATH_BYTES + 16], *text = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/server.json", folder);
    int code = srn_read_file(path, 1 << 16, &text, &n, err);
    if (code) return code;
    json_t *j = json_loadb(text, n, 0, NULL);
    const char *url = json_string_value(json_object_get(j, "ledger"));
    free(text);
    srn_buf_clear(ret);
    if (!url || !srn_ledger_is_postgres(url) || !srn_buf_addz(ret, url))
        code = srn_fail(err, SRN_EFORMAT, "%s is not what a server writes; restart the server", path);
    json_decref(j);
    return code;
}

/* The folder of this machine that belongs to a ledger in PostgreSQL. */
static int database_folder(const char *folder, srn_buf *ret, srn_err *err) {
    return srn_ledger_local_dir("postgresql://", folder, ret, err);
}

int srn__ledger_place(const char **where, const char *said, srn_buf *place, srn_err *err) {
    srn_buf folder;
    srn_buf_init(place, PATH_BYTES);
    if (*where) return SRN_OK;
    int code = srn_ledger_default_dir(place, err);
    srn_buf_init(&folder, PATH_BYTES);
    if (!code) code = database_folder(said, &folder, err);
    if (!code && said && !srn_ledger_is_written(said))
        code = srn_fail(err, SRN_ENOENT, "no server runs with %s now; say --ledger URL", said);
    if (!code && (said || !srn_ledger_is_written(place->data)) && srn_ledger_is_written(folder.data))
        code = address_of(folder.data, place, err);
    srn_buf_done(&folder);
    *where = place->data;
    return code;
}

int srn__ledger_name(const char *where, srn_buf *ret, srn_err *err) {
    srn_buf_init(ret, PATH_BYTES);
    srn_hide_password(where, ret);
    return ret->failed || !ret->data ? srn_fail_nomem(err, strlen(where)) : SRN_OK;
}

static int nobody(const char *dir, const char *where, srn_err *err) {
    char lock[PATH_BYTES + 8];
    snprintf(lock, sizeof lock, "%s/lock", dir);
    if (access(lock, R_OK) && errno == EACCES)
        return srn_fail(err, SRN_EIO,
                        "%s: this user may not read it: %s; ask as the server's user, or with --server URL "
                        "--key KEY",
                        dir, strerror(errno));
    if (where && srn_ledger_is_postgres(where))
        return srn_fail(
            err, SRN_ENOENT,
            "no server of this machine writes a ledger in PostgreSQL now (its folder would be %s); "
            "name the server with --server URL --key KEY",
            dir);
    return srn_fail(err, SRN_ENOENT,
                    "no server writes the ledger in %s now; start one with `serin serve MODEL --ledger %s`, "
                    "or name one with --server URL --key KEY",
                    dir, dir);
}

int srn__ledger_served(const char *where, const char *folder, srn_buf *ret, srn_err *err) {
    srn_buf first;
    if (where || folder) {
        int code = srn_ledger_local_dir(where ? where : "postgresql://", folder, ret, err);
        if (code) return code;
        return srn_ledger_is_written(ret->data) ? SRN_OK
                                                : nobody(ret->data, where ? where : "postgresql://", err);
    }
    srn_buf_init(&first, PATH_BYTES);
    int code = srn_ledger_default_dir(&first, err);
    bool found = false;
    for (unsigned i = 1; !code && !found && i <= SRN_LEDGER_FOLDERS; i++) {
        srn_buf_clear(ret);
        code = srn_ledger_numbered_dir(first.data, i, ret, err);
        found = !code && srn_ledger_is_written(ret->data);
    }
    if (!code && !found) code = database_folder(NULL, ret, err);
    if (!code && !found && !srn_ledger_is_written(ret->data)) code = nobody(first.data, NULL, err);
    srn_buf_done(&first);
    return code;
}
