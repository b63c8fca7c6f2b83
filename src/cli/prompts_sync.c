/* cli, serin prompts sync: a folder of prompt files, often a git checkout, becomes versions of the registry.
 * All files are read before anything is stored, so that one that is wrong stores none. Main thread. Refuses
 * two files of one name, and folders without prompt files.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/prompts.h"

enum { MOST_FILES = 10000, MOST_DEPTH = 16 };

typedef struct file {
    char *path, *name; /* name: of the prompt */
    srn_prompt *prompt;
    const char *state; /* "new", "changed", "same" */
    uint32_t version;
    bool moved; /* its label */
} file;

typedef struct sync {
    srn__prompts_opts o;
    const char *dir, *label;
    bool dry_run;
    file *files;
    size_t n, cap;
    json_t *gone; /* names that only the registry has */
    srn__git git;
} sync;

static void sync_done(sync *s) {
    for (size_t i = 0; i < s->n; i++) {
        free(s->files[i].path);
        free(s->files[i].name);
        srn_prompt_free(s->files[i].prompt);
    }
    free(s->files);
    json_decref(s->gone);
}

/* ---- the files ---- */

/* The length of the path without the ending of a prompt file, 0 if it has none. */
static size_t stem(const char *path) {
    static const char *const endings[] = {".yaml", ".yml", ".json"};
    size_t n = strlen(path);
    for (size_t i = 0; i < SRN_LEN(endings); i++) {
        size_t k = strlen(endings[i]);
        if (n > k && strcmp(path + n - k, endings[i]) == 0) return n - k;
    }
    return 0;
}

static int add_file(sync *s, const char *path, srn_err *err) {
    size_t from = strlen(s->dir) + 1, n = stem(path);
    if (s->n == MOST_FILES)
        return srn_fail(err, SRN_ELIMIT, "%s: more than %d prompt files", s->dir, MOST_FILES);
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        file *grown = srn_realloc_array(s->files, cap, sizeof *grown);
        if (!grown) return srn_fail_nomem(err, cap * sizeof *grown);
        s->files = grown;
        s->cap = cap;
    }
    file f = {.path = srn_strndup(path, strlen(path)), .name = srn_strndup(path + from, n - from)};
    s->files[s->n++] = f;
    if (!f.path || !f.name) return srn_fail_nomem(err, n);
    int code = srn_prompt_check_name(srn_str_of(f.name), err);
    return code ? srn_fail_prefix(err, code, "%s", path) : SRN_OK;
}

static int walk(sync *s, const char *dir, int depth, srn_err *err);

static int visit(sync *s, const char *dir, const char *name, int depth, srn_err *err) {
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return srn_fail(err, SRN_ELIMIT, "%s: the path of '%.80s' is too long", dir, name);
    if (name[0] == '.') return SRN_OK; /* .git and its like */
    if (lstat(path, &st)) return srn_fail(err, SRN_EIO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return walk(s, path, depth + 1, err);
    if (S_ISLNK(st.st_mode) && stat(path, &st)) return SRN_OK; /* a link to a file is that file */
    if (!S_ISREG(st.st_mode) || !stem(path)) return SRN_OK;
    return add_file(s, path, err);
}

static int walk(sync *s, const char *dir, int depth, srn_err *err) {
    struct dirent **list = NULL;
    if (depth > MOST_DEPTH)
        return srn_fail(err, SRN_ELIMIT, "%s: more than %d folders deep", dir, MOST_DEPTH);
    int n = scandir(dir, &list, NULL, alphasort), code = SRN_OK;
    if (n < 0) return srn_fail(err, errno == ENOENT ? SRN_ENOENT : SRN_EIO, "%s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (!code) code = visit(s, dir, list[i]->d_name, depth, err);
        free(list[i]);
    }
    free(list);
    return code;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const file *)a)->name, ((const file *)b)->name);
}

static int read_files(sync *s, srn_err *err) {
    int code = walk(s, s->dir, 0, err);
    if (!code && !s->n)
        code = srn_fail(err, SRN_ENOENT, "%s: there are no prompt files (NAME.yaml, NAME.yml, NAME.json)",
                        s->dir);
    if (s->n) qsort(s->files, s->n, sizeof *s->files, by_name);
    for (size_t i = 1; !code && i < s->n; i++)
        if (strcmp(s->files[i].name, s->files[i - 1].name) == 0)
            code = srn_fail(err, SRN_EINVAL, "%s and %s are both '%s'; remove one", s->files[i - 1].path,
                            s->files[i].path, s->files[i].name);
    for (size_t i = 0; !code && i < s->n; i++) {
        char *data = NULL;
        size_t len = 0;
        code = srn_read_file(s->files[i].path, SRN_PROMPT_FILE_MAX, &data, &len, err);
        if (!code) code = srn_prompt_parse((srn_str){data, len}, s->files[i].path, &s->files[i].prompt, err);
        free(data);
    }
    return code;
}

/* ---- what is to be done ---- */

static bool has_file(const sync *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->files[i].name, name) == 0) return true;
    return false;
}

static json_t *entry_of(const json_t *list, const char *name) {
    json_t *e;
    size_t i;
    json_array_foreach(list, i, e) {
        if (strcmp(json_string_value(json_object_get(e, "name")), name) == 0) return e;
    }
    return NULL;
}

/* A ledger that is not there yet has none of the prompts. */
static int compare(sync *s, srn_err *err) {
    srn_prompts *p = NULL;
    json_t *o = NULL, *e;
    size_t k;
    int code = srn__prompts_open_read(&s->o, &p, err);
    if (code == SRN_ENOENT) code = SRN_OK;
    if (!code && p) code = srn_prompts_json(p, NULL, &o, err);
    json_t *list = json_object_get(o, "data");
    for (size_t i = 0; !code && i < s->n; i++) {
        file *f = &s->files[i];
        e = entry_of(list, f->name);
        const char *hash = json_string_value(json_object_get(e, "hash"));
        uint32_t latest = (uint32_t)json_integer_value(json_object_get(e, "latest"));
        bool same = hash && strcmp(hash, f->prompt->hash) == 0;
        f->state = !e ? "new" : same ? "same" : "changed";
        f->version = same ? latest : latest + 1;
        const json_t *at = s->label ? json_object_get(json_object_get(e, "labels"), s->label) : NULL;
        f->moved = s->label && (uint32_t)json_integer_value(at) != f->version;
    }
    s->gone = json_array();
    json_array_foreach(list, k, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        if (!has_file(s, name)) json_array_append_new(s->gone, json_string(name));
    }
    json_decref(o);
    srn_prompts_close(p);
    return code;
}

/* Where the file stands in its git checkout, or else in the folder. */
static json_t *source_of(const sync *s, const file *f) {
    char *real = s->git.root[0] ? realpath(f->path, NULL) : NULL;
    size_t n = strlen(s->git.root);
    bool inside = real && strncmp(real, s->git.root, n) == 0 && real[n] == '/';
    json_t *o = json_pack("{s:s}", "file", inside ? real + n + 1 : f->path + strlen(s->dir) + 1);
    if (o && inside && s->git.commit[0]) json_object_set_new(o, "commit", json_string(s->git.commit));
    if (o && inside && s->git.branch[0]) json_object_set_new(o, "branch", json_string(s->git.branch));
    free(real);
    return o;
}

static int store(sync *s, srn_err *err) {
    srn__prompts_writer *w = NULL;
    int code = srn__prompts_writer_open(&s->o, &w, err);
    for (size_t i = 0; !code && i < s->n; i++) {
        file *f = &s->files[i];
        bool is_new = false, known = strcmp(f->state, "new") != 0;
        if (strcmp(f->state, "same") != 0) {
            json_t *source = source_of(s, f);
            code = srn__prompts_writer_push(w, f->name, f->prompt, source, &f->version, &is_new, err);
            json_decref(source);
            f->state = !is_new ? "same" : known ? "changed" : "new"; /* others may have been faster */
        }
        if (!code && s->label)
            code = srn__prompts_writer_label(w, f->name, s->label, f->version, &f->moved, err);
        if (code) srn_fail_prefix(err, code, "%s", f->path);
    }
    srn__prompts_writer_close(w);
    return code;
}

/* ---- the report ---- */

static int report_json(sync *s, srn_err *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) {
        const file *f = &s->files[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:s, s:b}", "name", f->name, "file",
                                              f->path, "state", f->state, "version", (json_int_t)f->version,
                                              "hash", f->prompt->hash, "moved", f->moved));
    }
    json_t *o =
        json_pack("{s:b, s:o, s:O, s:s?, s:s?, s:s?}", "dry_run", s->dry_run, "prompts", list,
                  "only_in_registry", s->gone, "label", s->label, "commit",
                  s->git.commit[0] ? s->git.commit : NULL, "branch", s->git.branch[0] ? s->git.branch : NULL);
    return srn__prompts_print(o, err);
}

static int report(sync *s, srn_err *err) {
    size_t n_new = 0, n_changed = 0, n_moved = 0, i;
    json_t *name;
    if (s->o.json) return report_json(s, err);
    for (i = 0; i < s->n; i++) {
        const file *f = &s->files[i];
        bool same = strcmp(f->state, "same") == 0;
        n_new += strcmp(f->state, "new") == 0;
        n_changed += strcmp(f->state, "changed") == 0;
        n_moved += f->moved;
        if (!same || f->moved)
            printf("%-8s %s@%u%s%s%s\n", same ? "" : f->state, f->name, f->version, f->moved ? "  (" : "",
                   f->moved ? s->label : "", f->moved ? ")" : "");
    }
    json_array_foreach(s->gone, i, name)
        printf("%-8s %s  (only in the registry; it stays)\n", "-", json_string_value(name));
    printf("%s%zu new, %zu changed, %zu as they were", s->dry_run ? "would be: " : "", n_new, n_changed,
           s->n - n_new - n_changed);
    if (s->label) printf(", label %s moved for %zu", s->label, n_moved);
    putchar('\n');
    return SRN_OK;
}

int srn__prompts_sync(int argc, char **argv) {
    sync s = {.n = 0};
    const char *dir = NULL;
    char clean[4096];
    int n_operands = 0;
    srn_err err = {0};
    const srn_opt opts[] = {
        {"label", 0, SRN_OPT_STR, &s.label, 0, 0, "NAME", "point this label at the version of each file"},
        {"dry-run", 'n', SRN_OPT_FLAG, &s.dry_run, 0, 0, NULL, "say what would change, and change nothing"},
        SRN__PROMPTS_BY(&s.o),
        SRN__PROMPTS_OPTS(&s.o),
    };
    const srn_cli_spec spec = {
        .usage = "serin prompts sync DIR [--label NAME] [--dry-run]",
        .about =
            "Makes a version of each prompt file in a folder (NAME.yaml, .yml or .json; folders in it give\n"
            "names like support/answer) whose content is new. In a git checkout the commit that is checked\n"
            "out is noted with the version. Nothing is stored if one of the files is wrong.",
        .examples = "  serin prompts sync prompts/ --dry-run\n"
                    "  serin prompts sync prompts/ --label production --by ci\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1,
    };
    int code = srn_cli_parse(&spec, argc, argv, &dir, &n_operands);
    if (code >= 0) return code;
    int n = snprintf(clean, sizeof clean, "%s", dir);
    while (n > 1 && (size_t)n < sizeof clean && clean[n - 1] == '/') clean[--n] = 0;
    s.dir = clean;
    code = s.label ? srn_prompt_check_label(srn_str_of(s.label), &err) : SRN_OK;
    if (!code) code = read_files(&s, &err);
    if (!code) srn__git_of(s.dir, &s.git);
    if (!code) code = compare(&s, &err);
    if (!code && !s.dry_run) code = store(&s, &err);
    if (!code) code = report(&s, &err);
    sync_done(&s);
    return code ? srn_cli_error("prompts sync", &err) : srn_cli_flush("prompts sync");
}
