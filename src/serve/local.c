/* What lets the commands of this machine talk to the server: server.json in the ledger's folder, readable by
 * its owner only, with the address, the process, the ledger without its password, and a token that is good as
 * an admin's key while the server runs. Written when the server listens, removed when it stops; main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/openai_internal.h"
#include "serve/record_internal.h"

void srn__local_token(char ret[SRN__TOKEN_CHARS + 1]) {
    uint8_t bytes[SRN__TOKEN_CHARS / 2];
    randombytes_buf(bytes, sizeof bytes);
    srn_hex(bytes, sizeof bytes, ret);
    sodium_memzero(bytes, sizeof bytes);
}

bool srn__local_is(const char *token, srn_str secret) {
    return token && secret.len == SRN__TOKEN_CHARS && sodium_memcmp(token, secret.ptr, secret.len) == 0;
}

static int write_file(const char *path, const char *text, srn_err *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0) return srn_fail(err, SRN_EIO, "%s cannot be made: %s", path, strerror(errno));
    int bad = srn_write_all(fd, text, strlen(text)) ? errno : 0;
    if (close(fd) != 0 && !bad) bad = errno;
    if (!bad) return SRN_OK;
    unlink(path);
    return srn_fail(err, SRN_EIO, "%s cannot be written: %s", path, strerror(bad));
}

int srn__local_publish(srn__recorder *r, const char *address, const char *token, srn_err *err) {
    char path[4200], next[4210];
    snprintf(path, sizeof path, "%s/server.json", srn_ledger_folder(r->ledger));
    snprintf(next, sizeof next, "%s.new", path);
    json_t *v = json_pack("{s:s, s:i, s:s, s:o}", "address", address, "pid", (int)getpid(), "token", token,
                          "ledger", srn__text_json(srn_str_of(srn_ledger_name(r->ledger))));
    char *text = v ? json_dumps(v, JSON_COMPACT) : NULL;
    json_decref(v);
    if (!text) return srn_fail_nomem(err, 256);
    unlink(next); /* of a server that died between the two steps */
    int code = write_file(next, text, err);
    sodium_memzero(text, strlen(text));
    free(text);
    if (!code && rename(next, path) != 0)
        code = srn_fail(err, SRN_EIO, "%s cannot be put in its place: %s", path, strerror(errno));
    return code;
}

void srn__local_withdraw(srn__recorder *r) {
    char path[4200];
    snprintf(path, sizeof path, "%s/server.json", srn_ledger_folder(r->ledger));
    unlink(path);
}
