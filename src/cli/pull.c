/* serin pull: fetches a model file into the cache folder (or where --to says). Finds the file in a hub's
 * repository by its name or by a quantisation's, takes all parts of a split model, resumes what was cut,
 * checks that it is GGUF, and its SHA-256. Main thread. Refuses to replace a file that is there with another
 * one unless --force is given.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "client/client.h"
#include "format/format.h"

#define HUB       "https://huggingface.co"
#define MAX_LIST  (16u << 20)
#define MAX_PARTS 512

static volatile int interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

typedef struct pull {
    const char *what, *to, *sha256, *revision;
    bool json, force;
    char dir[4096];
    char repo[200]; /* "org/name", or "" for a URL */
    char **files;   /* of the repository, or URLs */
    size_t n_files;
    const char *hub, *token;
} pull;

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- which files ---- */

static int add_file(pull *p, const char *name, size_t n, srn_err *err) {
    char **grown = srn_realloc_array(p->files, p->n_files + 1, sizeof *grown);
    if (!grown) return srn_fail_nomem(err, sizeof *grown);
    p->files = grown;
    p->files[p->n_files] = srn_strndup(name, n);
    if (!p->files[p->n_files]) return srn_fail_nomem(err, n);
    p->n_files++;
    return SRN_OK;
}

static bool ends_in(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0;
}

/* Whether `wanted` stands in the file's name between marks: Q4_K_M in x-Q4_K_M.gguf, not in x-IQ4_K_M.gguf.
 */
static bool has_word(const char *file, const char *wanted) {
    const char *name = base_name(file);
    size_t k = strlen(wanted);
    for (const char *at = name; *at; at++) {
        bool begins = at == name || strchr("-._", at[-1]);
        if (begins && strncasecmp(at, wanted, k) == 0 && strchr("-.", at[k])) return true;
    }
    return false;
}

/* The place of "-00001-of-00003.gguf" in a name, or NULL. */
static const char *part_mark(const char *file) {
    const char *of = strstr(file, "-of-");
    return of && of - file >= 6 && of[-6] == '-' && strspn(of - 5, "0123456789") == 5 ? of - 6 : NULL;
}

static bool same_model(const char *a, const char *b) {
    const char *ma = part_mark(a), *mb = part_mark(b);
    return ma && mb && ma - a == mb - b && strncmp(a, b, (size_t)(ma - a)) == 0;
}

static int no_such_file(const pull *p, const json_t *list, const char *wanted, size_t found, srn_err *err) {
    srn_buf names;
    size_t i;
    json_t *one;
    srn_buf_init(&names, 700);
    json_array_foreach(list, i, one) {
        const char *name = json_string_value(json_object_get(one, "rfilename"));
        if (name && ends_in(name, ".gguf") && (found < 2 || has_word(name, wanted)))
            srn_buf_addf(&names, "%s%s", names.len ? ", " : "", name);
    }
    int code = found > 1   ? srn_fail(err, SRN_EINVAL, "'%s' could be any of %s; write more of the name",
                                      wanted, names.data)
               : names.len ? srn_fail(err, SRN_ENOENT, "%s has no file '%s'; its GGUF files are: %s", p->repo,
                                      wanted, names.data)
                           : srn_fail(err, SRN_ENOENT, "%s has no GGUF files", p->repo);
    srn_buf_done(&names);
    return code;
}

/* Adds the files of the list that are the wanted one: by its whole name, else by a word in it; all of its
 * parts. */
static int choose_files(pull *p, const json_t *list, const char *wanted, srn_err *err) {
    const char *first = NULL;
    size_t found = 0, i;
    json_t *one;
    for (int exact = 1; exact >= 0 && !found; exact--) json_array_foreach(list, i, one) {
            const char *name = json_string_value(json_object_get(one, "rfilename"));
            bool fits = name && ends_in(name, ".gguf") &&
                        (exact ? strcmp(name, wanted) == 0 || strcmp(base_name(name), wanted) == 0
                               : has_word(name, wanted));
            if (!fits || (first && same_model(first, name))) continue;
            first = name;
            found++;
        }
    if (found != 1) return no_such_file(p, list, wanted, found, err);
    int code = part_mark(first) ? SRN_OK : add_file(p, first, strlen(first), err);
    if (part_mark(first)) json_array_foreach(list, i, one) {
            const char *name = json_string_value(json_object_get(one, "rfilename"));
            if (!code && name && same_model(first, name)) code = add_file(p, name, strlen(name), err);
        }
    if (!code && p->n_files > MAX_PARTS)
        code = srn_fail(err, SRN_ELIMIT, "%s has %zu parts, at most %d are taken", wanted, p->n_files,
                        MAX_PARTS);
    return code;
}

/* ORG/REPO:FILE, where FILE may be a word of its name. */
static int find_in_hub(pull *p, srn_err *err) {
    const char *colon = strchr(p->what, ':'), *slash = strchr(p->what, '/');
    size_t n = colon ? (size_t)(colon - p->what) : 0;
    if (!colon || !slash || slash > colon || !colon[1] || n >= sizeof p->repo ||
        memchr(slash + 1, '/', n - (size_t)(slash + 1 - p->what)))
        return srn_fail(err, SRN_EUSAGE,
                        "'%s' is neither a URL nor ORG/REPO:FILE; for example: serin pull "
                        "bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M",
                        p->what);
    snprintf(p->repo, sizeof p->repo, "%.*s", (int)n, p->what);
    char url[1024], *text;
    size_t len;
    snprintf(url, sizeof url, "%s/api/models/%s/revision/%s", p->hub, p->repo, p->revision);
    int code = srn_http_get(url, p->token, MAX_LIST, &interrupted, &text, &len, err);
    if (code) return code;
    json_t *answer = json_loadb(text, len, 0, NULL), *list = json_object_get(answer, "siblings");
    free(text);
    code = json_is_array(list) ? choose_files(p, list, colon + 1, err)
                               : srn_fail(err, SRN_EFORMAT, "%s: the hub's answer has no list of files", url);
    json_decref(answer);
    return code;
}

/* ---- fetching ---- */

static int make_folder(const char *dir, srn_err *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        if (mkdir(path, 0777) && errno != EEXIST)
            return srn_fail(err, SRN_EIO, "the folder %s cannot be made: %s", path, strerror(errno));
        if (!(*p = c)) return SRN_OK;
    }
}

/* The file's name at the end of a URL, without its query. */
static int name_of_url(const char *url, char *ret, size_t cap, srn_err *err) {
    size_t n = strcspn(url, "?#");
    const char *start = url + n;
    while (start > url && start[-1] != '/') start--;
    size_t len = (size_t)(url + n - start);
    if (len == 0 || len >= cap || start[0] == '.' || memchr(start, '%', len))
        return srn_fail(err, SRN_EINVAL, "%s does not end in a file's name; say where it goes with --to FILE",
                        url);
    memcpy(ret, start, len);
    ret[len] = 0;
    return SRN_OK;
}

static int destination(const pull *p, const char *file, char *ret, size_t cap, srn_err *err) {
    char name[512];
    struct stat st;
    bool to_file = p->to && !(stat(p->to, &st) == 0 && S_ISDIR(st.st_mode));
    if (to_file && p->n_files > 1)
        return srn_fail(err, SRN_EUSAGE, "the model has %zu parts; --to must name a folder", p->n_files);
    int code = to_file ? SRN_OK : p->repo[0] ? SRN_OK : name_of_url(file, name, sizeof name, err);
    if (code) return code;
    if (p->repo[0]) snprintf(name, sizeof name, "%s", base_name(file));
    int n =
        to_file ? snprintf(ret, cap, "%s", p->to) : snprintf(ret, cap, "%s/%s", p->to ? p->to : p->dir, name);
    if (n < 0 || (size_t)n >= cap) return srn_fail(err, SRN_EINVAL, "the path is longer than %zu bytes", cap);
    return SRN_OK;
}

/* A file that is there already is taken as it is if its digest is the expected one, or nothing is expected.
 */
static int already_there(const pull *p, const char *path, bool *ret, srn_err *err) {
    *ret = false;
    if (p->force || access(path, F_OK)) return SRN_OK;
    *ret = true;
    if (!p->sha256) return SRN_OK;
    char id[65];
    srn_weights *w;
    int code = srn_weights_open(path, NULL, &w, err);
    if (code) return code;
    code = srn_weights_id(w, false, srn_cli_progress, NULL, id, err);
    srn_weights_free(w);
    if (!code && strcasecmp(id, p->sha256) != 0)
        code = srn_fail(err, SRN_EINVAL, "%s is there, with another SHA-256 (%s); --force replaces it", path,
                        id);
    return code;
}

static int report(const pull *p, const char *path, const srn_download *d, bool kept, srn_err *err) {
    if (!p->json) {
        if (kept)
            printf("%s is there already (--force fetches it again)\n", path);
        else
            printf("%s  %.1f MB, SHA-256 %s%s\n", path, (double)d->bytes / 1e6, d->sha256,
                   d->verified ? " as expected" : "");
        return SRN_OK;
    }
    json_t *o = json_pack("{s:s, s:b}", "path", path, "kept", kept);
    if (o && !kept) {
        json_object_set_new(o, "bytes", json_integer((json_int_t)d->bytes));
        json_object_set_new(o, "resumed_from", json_integer((json_int_t)d->resumed_from));
        json_object_set_new(o, "sha256", json_string(d->sha256));
        json_object_set_new(o, "verified", json_boolean(d->verified));
    }
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text) return srn_fail_nomem(err, 0);
    puts(text);
    free(text);
    return SRN_OK;
}

/* The token opens the hub; another server that a URL names must not learn it. */
static const char *token_for(const pull *p, const char *url) {
    size_t n = strlen(p->hub);
    while (n && p->hub[n - 1] == '/') n--;
    return strncmp(url, p->hub, n) == 0 && url[n] == '/' ? p->token : NULL;
}

static int check_head(void *url, const uint8_t *p, size_t n, srn_err *err) {
    int code = srn_gguf_check_head(p, n, url, err);
    return code ? srn_fail_prefix(err, code, "nothing was kept") : SRN_OK;
}

static int fetch_one(const pull *p, const char *file, srn_err *err) {
    char path[4096], url[2048];
    srn_download d = {0};
    bool kept;
    if (p->repo[0])
        snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", p->hub, p->repo, p->revision, file);
    else
        snprintf(url, sizeof url, "%s", file);
    int code = destination(p, file, path, sizeof path, err);
    if (!code) code = already_there(p, path, &kept, err);
    if (!code && !kept) {
        srn_download_opts o = {.url = url,
                               .path = path,
                               .sha256 = p->sha256,
                               .bearer = token_for(p, url),
                               .no_resume = p->force,
                               .head = check_head,
                               .head_ctx = url,
                               .progress = srn_cli_progress,
                               .cancel = &interrupted};
        const char *wait = getenv("SERIN_PULL_RETRY_MS"); /* for tests */
        if (wait) o.retry_ms = (uint32_t)strtoul(wait, NULL, 10);
        code = srn_download_file(&o, &d, err);
    }
    return code ? code : report(p, path, &d, kept, err);
}

static int pull_all(pull *p, srn_err *err) {
    int code = SRN_OK;
    if (!p->to) {
        if (!srn_cache_path("models", p->dir, sizeof p->dir))
            return srn_fail(err, SRN_EINVAL, "there is no home folder for the cache; say where with --to");
        code = make_folder(p->dir, err);
    }
    if (!code)
        code = strstr(p->what, "://") ? add_file(p, p->what, strlen(p->what), err) : find_in_hub(p, err);
    if (!code && p->sha256 && p->n_files > 1)
        code = srn_fail(err, SRN_EUSAGE, "--sha256 is for one file, and the model has %zu parts", p->n_files);
    for (size_t i = 0; i < p->n_files && !code; i++) code = fetch_one(p, p->files[i], err);
    return code;
}

int srn__cmd_pull(int argc, char **argv) {
    pull p = {.revision = "main"};
    const srn_opt opts[] = {
        {"to", 'o', SRN_OPT_STR, &p.to, 0, 0, "PATH", "file or folder (default: the cache folder)"},
        {"sha256", 0, SRN_OPT_STR, &p.sha256, 0, 0, "HEX",
         "what the file must be (default: what the hub says)"},
        {"revision", 0, SRN_OPT_STR, &p.revision, 0, 0, "NAME",
         "branch, tag or commit of the repository (main)"},
        {"force", 'f', SRN_OPT_FLAG, &p.force, 0, 0, NULL, "fetch anew what is there already"},
        {"json", 0, SRN_OPT_FLAG, &p.json, 0, 0, NULL, "print one JSON object a file"},
    };
    const srn_cli_spec spec = {
        .usage = "serin pull ORG/REPO:FILE|URL [--to PATH] [--sha256 HEX] [--json]",
        .about =
            "Downloads a GGUF model. FILE is a file of the hub's repository or a word of its name, such as "
            "a\n"
            "quantisation; all parts of a split model are taken. An interrupted download goes on where it "
            "was\n"
            "cut; the file appears under its name once it is whole and its SHA-256 was checked.\n"
            "Environment: HF_TOKEN (private repositories), SERIN_HUB (another hub's address), SERIN_CACHE.",
        .examples = "  serin pull bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M\n"
                    "  serin pull https://example.com/models/tiny.gguf --to ./tiny.gguf\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    int n, code = srn_cli_parse(&spec, argc, argv, &p.what, &n);
    if (code >= 0) return code;
    srn_err err = {0};
    p.hub = getenv("SERIN_HUB") ? getenv("SERIN_HUB") : HUB;
    p.token = getenv("HF_TOKEN");
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    code = pull_all(&p, &err);
    for (size_t i = 0; i < p.n_files; i++) free(p.files[i]);
    free(p.files);
    return code ? srn_cli_error("pull", &err) : srn_cli_flush("pull");
}
