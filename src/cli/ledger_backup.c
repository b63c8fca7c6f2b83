/* serin ledger backup, restore and forget. Main thread. A backup is taken beside a running server; a restore
 * writes, and is refused where a server does; forgetting goes through that server.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/ledger.h"
#include "cli/server_client.h"
#include "ledger/ledger.h"

enum { ABOUT_PATH = 4096 };

static void put_path(const char *path) {
    srn_cli_put_text(stdout, srn_str_of(path), ABOUT_PATH, false);
}

/* ---- backup ---- */

typedef struct backup_options {
    const char *where, *keys, *to;
    bool json, no_verify;
} backup_options;

/* The copy itself is read, not what it was made from. */
static int verify_copy(const backup_options *o, srn_verify_result *ret, srn_err *err) {
    srn_reader *r = NULL;
    srn_verify_opts how = {.progress = srn_cli_progress};
    int code = srn_reader_open(o->to, o->keys, &r, err);
    if (!code) code = srn_reader_verify(r, &how, ret, err);
    srn_reader_close(r);
    if (!code && !ret->ok)
        code = srn_fail(err, SRN_EFORMAT, "%s: the copy is broken: %.400s", o->to, ret->what);
    return code;
}

static int print_backup(const backup_options *o, const srn_backup_info *b) {
    if (o->json)
        return srn__ledger_print("ledger backup",
                                 json_pack("{ss ss ss sI sI ss sI sb}", "ledger", o->where, "backup", o->to,
                                           "instance", b->instance, "epoch", (json_int_t)b->epoch, "seq",
                                           (json_int_t)b->seq, "hash", b->hash, "bytes", (json_int_t)b->bytes,
                                           "verified", !o->no_verify));
    put_path(o->to);
    printf(": up to record %" PRIu64 " of epoch %" PRIu64 ", %.1f MB%s\n", b->seq, b->epoch,
           (double)b->bytes / 1e6, o->no_verify ? "" : ", verified");
    printf("the keys are not part of it: keep a copy of ");
    put_path(o->where);
    printf("/keys elsewhere\n");
    return srn_cli_flush("ledger backup");
}

int srn__cmd_ledger_backup(int argc, char **argv) {
    backup_options o = {0};
    const srn_opt opts[] = {
        {"ledger", 0, SRN_OPT_STR, &o.where, 0, 0, "DIR", "the ledger (default: that of this user)"},
        {"keys", 0, SRN_OPT_STR, &o.keys, 0, 0, "DIR", "keys to verify the copy's signatures with"},
        {"no-verify", 0, SRN_OPT_FLAG, &o.no_verify, 0, 0, NULL, "do not read the copy's chain afterwards"},
        {"json", 0, SRN_OPT_FLAG, &o.json, 0, 0, NULL, "print JSON"},
    };
    const srn_cli_spec spec = {
        .usage = "serin ledger backup TO [OPTIONS]",
        .about = "Copies the ledger into the folder TO, while a server writes it, and verifies the copy. "
                 "Commands\n"
                 "read it there with --ledger TO. Keys are not part of it.",
        .examples = "  serin ledger backup /media/safe/ledger-$(date +%F)\n"
                    "  serin ledger backup /tmp/copy --ledger /var/lib/serin --json | jq .seq\n"
                    "  serin ledger verify --ledger /media/safe/ledger-2026-11-23\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1,
    };
    srn_buf place;
    srn_err err = {0};
    srn_backup_info info;
    srn_verify_result v = {0};
    int n, code = srn_cli_parse(&spec, argc, argv, &o.to, &n);
    if (code >= 0) return code;
    code = srn__ledger_place(&o.where, NULL, &place, &err);
    if (!code) code = srn_ledger_backup(o.where, o.to, srn_cli_progress, NULL, &info, &err);
    if (!code && !o.no_verify) code = verify_copy(&o, &v, &err);
    code = code ? srn_cli_error("ledger backup", &err) : print_backup(&o, &info);
    srn_buf_done(&place);
    return code;
}

/* ---- restore ---- */

static int print_restored(const srn_restore_opts *o, const srn_backup_info *b, bool json) {
    if (json)
        return srn__ledger_print("ledger restore",
                                 json_pack("{ss ss sI s{ss sI sI ss}}", "ledger", o->where, "from", o->from,
                                           "epoch", (json_int_t)b->epoch + 1, "parent", "instance",
                                           b->instance, "epoch", (json_int_t)b->epoch, "seq",
                                           (json_int_t)b->seq, "hash", b->hash));
    put_path(o->where);
    printf(": restored up to record %" PRIu64 "; epoch %" PRIu64 " begins\n", b->seq, b->epoch + 1);
    return srn_cli_flush("ledger restore");
}

int srn__cmd_ledger_restore(int argc, char **argv) {
    srn_restore_opts o = {.progress = srn_cli_progress};
    bool json = false;
    const srn_opt opts[] = {
        {"ledger", 0, SRN_OPT_STR, &o.where, 0, 0, "DIR", "where to (default: this user's ledger)"},
        SRN__LEDGER_FOLDER(&o.folder),
        {"keys", 0, SRN_OPT_STR, &o.keys_dir, 0, 0, "DIR", "its keys (default: keys in that folder)"},
        {"new-keys", 0, SRN_OPT_FLAG, &o.new_keys, 0, 0, NULL,
         "go on with new keys where the old ones are gone: encrypted content stays unreadable"},
        {"json", 0, SRN_OPT_FLAG, &json, 0, 0, NULL, "print JSON"},
    };
    const srn_cli_spec spec = {
        .usage = "serin ledger restore FROM [OPTIONS]",
        .about = "Makes a ledger from a backup, in a folder that holds none. It goes on in a new epoch, "
                 "whose first\n"
                 "record names the backup's last one. Copy the keys to DIR/keys first: backups hold none.",
        .examples = "  cp -a /media/keys /var/lib/serin/keys\n"
                    "  serin ledger restore /media/safe/ledger-2026-11-23 --ledger /var/lib/serin\n"
                    "  serin ledger restore /media/safe/ledger-2026-11-23 --ledger /tmp/look --new-keys\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1,
    };
    srn_buf place;
    srn_err err = {0};
    srn_backup_info parent;
    int n, code = srn_cli_parse(&spec, argc, argv, &o.from, &n);
    if (code >= 0) return code;
    code = srn__ledger_place(&o.where, NULL, &place, &err);
    if (!code) code = srn_ledger_restore(&o, &parent, &err);
    code = code ? srn_cli_error("ledger restore", &err) : print_restored(&o, &parent, json);
    srn_buf_done(&place);
    return code;
}

/* ---- forget ---- */

static int forget_there(const char *where, const char *folder, const char *tenant, const char *subject,
                        srn_err *err) {
    const srn__server_opts o = {.ledger = where, .folder = folder};
    srn__server server;
    json_t *answer = NULL;
    int code = srn__server_find(&o, &server, err);
    if (code) return code;
    code = srn__server_json(&server, "/v1/ledger/forget",
                            json_pack("{s:s, s:s}", "tenant", tenant, "subject", subject), &answer, err);
    json_decref(answer);
    srn__server_done(&server);
    return code;
}

/* Through the server that writes the ledger, where one does. */
static int forget(const char *where, const char *folder, const char *keys, const char *tenant,
                  const char *subject, srn_err *err) {
    srn_reader *r = NULL;
    srn_ledger *l = NULL;
    int code = srn_reader_open_in(where, folder, keys, &r, err); /* makes no ledger where there is none */
    srn_reader_close(r);
    if (!code)
        code =
            srn_ledger_open(&(srn_ledger_opts){.where = where, .folder = folder, .keys_dir = keys}, &l, err);
    if (code == SRN_EBUSY) return forget_there(where, folder, tenant, subject, err);
    if (!code) code = srn_ledger_forget_subject(l, "serin ledger forget", tenant, subject, err);
    srn_ledger_close(l);
    return code;
}

int srn__cmd_ledger_forget(int argc, char **argv) {
    const char *where = NULL, *folder = NULL, *keys = NULL, *tenant = "", *subject = NULL;
    const srn_opt opts[] = {
        {"subject", 0, SRN_OPT_STR, &subject, 0, 0, "WHO",
         "the user as requests name him, or a record's `subject`"},
        {"tenant", 0, SRN_OPT_STR, &tenant, 0, 0, "NAME", "the tenant of the API key (default: none)"},
        {"ledger", 0, SRN_OPT_STR, &where, 0, 0, "DIR|URL", "the ledger (default: that of this user)"},
        SRN__LEDGER_FOLDER(&folder),
        {"keys", 0, SRN_OPT_STR, &keys, 0, 0, "DIR", "its keys (default: keys in the folder)"},
    };
    const srn_cli_spec spec = {
        .usage = "serin ledger forget --subject WHO [--tenant NAME] [OPTIONS]",
        .about = "Destroys the key of a person's encrypted content, for good: what was recorded of these "
                 "calls can\n"
                 "no longer be read, in backups neither, and the chain stays verifiable.",
        .examples = "  serin ledger forget --tenant acme --subject ann@example.org\n"
                    "  serin ledger forget --tenant acme --subject $(serin calls show ID --json | jq -r "
                    ".record.subject)\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
    };
    srn_buf place;
    srn_err err = {0};
    int n, code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code >= 0) return code;
    code = srn__ledger_place(&where, folder, &place, &err);
    if (!code && !subject) code = srn_fail(&err, SRN_EINVAL, "--subject says whom to forget");
    if (!code) code = forget(where, folder, keys, tenant, subject, &err);
    if (code) {
        code = srn_cli_error("ledger forget", &err);
    } else {
        printf("forgotten: the key is destroyed; a copy of the keys kept elsewhere still holds it\n");
        code = srn_cli_flush("ledger forget");
    }
    srn_buf_done(&place);
    return code;
}
