/* API keys: a file of names and secrets as an immutable set of digests. The secrets themselves are not kept.
 * Parsing is pure; errors name file and line, never a secret.
 */
#include <sodium.h>
#include <stdlib.h>

#include "config/config.h"

#define MAX_FILE_BYTES (1u << 20)
#define MAX_KEYS       4096
#define MIN_SECRET     16

typedef struct slot {
    srn_key key;
    uint8_t digest[SRN_SHA256_BYTES];
} slot;

struct srn_keys {
    slot *slots;
    size_t n;
    srn_arena arena;
};

/* Without allocation, which could fail and leave a digest that is none. */
static void digest_of(srn_str secret, uint8_t ret[SRN_SHA256_BYTES]) {
    crypto_hash_sha256(ret, (const unsigned char *)(secret.len ? secret.ptr : ""), secret.len);
}

void srn_keys_free(srn_keys *k) {
    if (!k) return;
    if (k->slots) sodium_memzero(k->slots, k->n * sizeof *k->slots);
    free(k->slots);
    srn_arena_done(&k->arena);
    free(k);
}

bool srn_keys_has_name(const srn_keys *k, const char *name) {
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->slots[i].key.name, name) == 0) return true;
    return false;
}

const srn_key *srn_keys_find(const srn_keys *k, srn_str secret) {
    uint8_t digest[SRN_SHA256_BYTES];
    const srn_key *found = NULL;
    digest_of(secret, digest);
    for (size_t i = 0; i < k->n; i++)
        if (sodium_memcmp(digest, k->slots[i].digest, sizeof digest) == 0) found = &k->slots[i].key;
    return secret.len ? found : NULL;
}

static const slot *slot_of(const srn_keys *k, const char *name) {
    for (size_t i = 0; k && i < k->n; i++)
        if (strcmp(k->slots[i].key.name, name) == 0) return &k->slots[i];
    return NULL;
}

static bool same_slot(const slot *a, const slot *b) {
    return sodium_memcmp(a->digest, b->digest, sizeof a->digest) == 0 &&
           strcmp(a->key.tenant, b->key.tenant) == 0 && a->key.admin == b->key.admin &&
           a->key.priority == b->key.priority;
}

void srn_keys_changes(const srn_keys *from, const srn_keys *to, srn_config_change_fn *fn, void *ctx) {
    char text[128];
    for (size_t i = 0; from && i < from->n; i++) {
        const slot *now = slot_of(to, from->slots[i].key.name);
        if (now && same_slot(&from->slots[i], now)) continue;
        snprintf(text, sizeof text, "keys.%s (%s)", from->slots[i].key.name, now ? "changed" : "removed");
        fn(ctx, text);
    }
    for (size_t i = 0; to && i < to->n; i++) {
        if (slot_of(from, to->slots[i].key.name)) continue;
        snprintf(text, sizeof text, "keys.%s (added)", to->slots[i].key.name);
        fn(ctx, text);
    }
}

/* ---- parsing ---- */

typedef struct parser {
    srn_keys *keys;
    const char *name;
    uint32_t line;
    srn_err *err;
} parser;

static int fail_line(const parser *p, int code, const char *what) {
    return srn_fail(p->err, code, "%s:%u: %s", p->name, p->line, what);
}

static srn_str word(srn_str *rest) {
    size_t i = 0, n;
    while (i < rest->len && (rest->ptr[i] == ' ' || rest->ptr[i] == '\t' || rest->ptr[i] == '\r')) i++;
    for (n = i; n < rest->len && !strchr(" \t\r", rest->ptr[n]);) n++;
    srn_str w = {rest->ptr + i, n - i};
    rest->ptr += n;
    rest->len -= n;
    return w;
}

static bool is_name(srn_str s) {
    if (s.len < 1 || s.len > 63) return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              strchr("._-", c)) ||
            !c)
            return false;
    }
    return true;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int read_secret(const parser *p, srn_str s, uint8_t ret[SRN_SHA256_BYTES]) {
    const srn_str prefix = SRN_STR("sha256:");
    if (s.len >= prefix.len && memcmp(s.ptr, prefix.ptr, prefix.len) == 0) {
        if (s.len != prefix.len + 2 * SRN_SHA256_BYTES)
            return fail_line(p, SRN_EFORMAT, "sha256: needs 64 hexadecimal digits");
        for (size_t i = 0; i < SRN_SHA256_BYTES; i++) {
            int a = hex_digit(s.ptr[prefix.len + 2 * i]), b = hex_digit(s.ptr[prefix.len + 2 * i + 1]);
            if (a < 0 || b < 0) return fail_line(p, SRN_EFORMAT, "sha256: needs 64 hexadecimal digits");
            ret[i] = (uint8_t)(a * 16 + b);
        }
        return SRN_OK;
    }
    if (s.len < MIN_SECRET)
        return fail_line(p, SRN_EFORMAT,
                         "the key is shorter than 16 characters and could be guessed; make one with: openssl "
                         "rand -hex 24");
    digest_of(s, ret);
    return SRN_OK;
}

static int read_option(const parser *p, srn_str w, srn_key *k, srn_str *tenant) {
    const srn_str priority = SRN_STR("priority="), tenant_is = SRN_STR("tenant=");
    if (srn_str_eqz(w, "admin")) return k->admin = true, SRN_OK;
    if (w.len > tenant_is.len && memcmp(w.ptr, tenant_is.ptr, tenant_is.len) == 0) {
        *tenant = (srn_str){w.ptr + tenant_is.len, w.len - tenant_is.len};
        return is_name(*tenant) ? SRN_OK
                                : fail_line(p, SRN_EFORMAT, "tenant: letters, digits and . _ - only");
    }
    if (w.len > priority.len && w.len < priority.len + 8 && memcmp(w.ptr, priority.ptr, priority.len) == 0) {
        char digits[16] = "", *end;
        memcpy(digits, w.ptr + priority.len, w.len - priority.len);
        long v = strtol(digits, &end, 10);
        if (*end || v < -1000 || v > 1000)
            return fail_line(p, SRN_EFORMAT, "priority: a number from -1000 to 1000");
        return k->priority = (int32_t)v, SRN_OK;
    }
    return fail_line(p, SRN_EFORMAT, "after name and key only admin, priority=N and tenant=NAME may follow");
}

static int check_unique(const parser *p, const slot *s) {
    for (size_t i = 0; i < p->keys->n; i++) {
        if (strcmp(p->keys->slots[i].key.name, s->key.name) == 0)
            return fail_line(p, SRN_EFORMAT, "this name was used before");
        if (memcmp(p->keys->slots[i].digest, s->digest, sizeof s->digest) == 0)
            return fail_line(p, SRN_EFORMAT, "this key was used before, under another name");
    }
    return SRN_OK;
}

static int read_line(const parser *p, srn_str line) {
    srn_str name = word(&line), secret = word(&line), tenant = name;
    slot s = {0};
    if (!name.len || name.ptr[0] == '#') return SRN_OK;
    if (!is_name(name))
        return fail_line(p, SRN_EFORMAT, "a name has letters, digits and . _ - only, at most 63");
    if (!secret.len)
        return fail_line(p, SRN_EFORMAT, "the key is missing: NAME KEY [admin] [priority=N] [tenant=NAME]");
    int code = read_secret(p, secret, s.digest);
    for (srn_str w = word(&line); !code && w.len && w.ptr[0] != '#'; w = word(&line))
        code = read_option(p, w, &s.key, &tenant);
    if (code) return code;
    s.key.name = srn_arena_strndup(&p->keys->arena, name.ptr, name.len);
    s.key.tenant = srn_arena_strndup(&p->keys->arena, tenant.ptr, tenant.len);
    if (!s.key.name || !s.key.tenant) return srn_fail_nomem(p->err, name.len);
    code = check_unique(p, &s);
    if (code) return code;
    if (p->keys->n == MAX_KEYS) return fail_line(p, SRN_ELIMIT, "more than 4096 keys");
    s.key.tenant_id =
        srn_hash(0x73657269, tenant) | 1; /* the same after a reload; the cache's own key is random */
    p->keys->slots[p->keys->n++] = s;
    return SRN_OK;
}

int srn_keys_parse(srn_str text, const char *name, srn_keys **ret, srn_err *err) {
    srn_keys *k = srn_calloc(1, sizeof *k);
    if (!k) return srn_fail_nomem(err, sizeof *k);
    srn_arena_init(&k->arena, 2 * MAX_FILE_BYTES);
    size_t lines = 1;
    for (size_t i = 0; i < text.len; i++) lines += text.ptr[i] == '\n';
    k->slots = srn_calloc(SRN_MIN(lines, (size_t)MAX_KEYS), sizeof *k->slots);
    parser p = {.keys = k, .name = name, .err = err};
    int code = k->slots ? SRN_OK : srn_fail_nomem(err, lines * sizeof *k->slots);
    while (!code && text.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t n = end ? (size_t)(end - text.ptr) : text.len;
        p.line++;
        code = read_line(&p, (srn_str){text.ptr, n});
        n += end != NULL;
        text.ptr += n;
        text.len -= n;
    }
    if (!code && !k->n)
        code = srn_fail(err, SRN_EFORMAT,
                        "%s: there is no key in it; a line is: NAME KEY [admin] [priority=N] [tenant=NAME]",
                        name);
    if (code) {
        srn_keys_free(k);
        return code;
    }
    *ret = k;
    return SRN_OK;
}

int srn_keys_load(const char *path, srn_keys **ret, srn_err *err) {
    char *data;
    size_t len;
    int code = srn_read_file(path, MAX_FILE_BYTES, &data, &len, err);
    if (code) return code;
    code = srn_keys_parse((srn_str){data, len}, path, ret, err);
    sodium_memzero(data, len);
    free(data);
    return code;
}
