/* What a person calls a model to a path: a file that exists, or a model in the cache folder by name, by
 * name without case, or by an unambiguous beginning. Refuses with the list of what the cache holds.
 */
#include "format/format.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#define GGUF_SUFFIX ".gguf"

static bool is_model(const char *file) {
    size_t n = strlen(file), suffix = strlen(GGUF_SUFFIX);
    return file[0] != '.' && n > suffix && strcasecmp(file + n - suffix, GGUF_SUFFIX) == 0;
}

/* A later part of a split model stands for nothing by itself. */
static bool is_later_part(const char *file) {
    const char *of = strstr(file, "-of-");
    return of && of - file >= 6 && of[-6] == '-' && strncmp(of - 5, "00001", 5) != 0 &&
           strspn(of - 5, "0123456789") == 5;
}

/* How well a file name answers to a model name: 0 not, 1 a beginning, 2 without case, 3 exactly. */
static int match(const char *file, const char *model) {
    size_t stem = strlen(file) - strlen(GGUF_SUFFIX), n = strlen(model);
    if (strcmp(file, model) == 0 || (n == stem && memcmp(file, model, n) == 0)) return 3;
    if (strcasecmp(file, model) == 0 || (n == stem && strncasecmp(file, model, n) == 0)) return 2;
    return n && strncasecmp(file, model, n) == 0 ? 1 : 0;
}

typedef struct choice {
    int rank, ties;   /* the best match so far and how many share it */
    char file[256];   /* one of them */
    srn_buf matching; /* names that match, for "is it A or B?" */
    srn_buf all;      /* names of all models, sorted by the folder */
} choice;

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcasecmp((*a)->d_name, (*b)->d_name);
}

static int only_models(const struct dirent *e) {
    return is_model(e->d_name) && !is_later_part(e->d_name);
}

static void consider(choice *c, const char *file, const char *model) {
    srn_buf_addf(&c->all, "%s%s", c->all.len ? ", " : "", file);
    int rank = match(file, model);
    if (rank == 0 || rank < c->rank) return;
    if (rank > c->rank) {
        c->rank = rank;
        c->ties = 0;
        srn_buf_clear(&c->matching);
    }
    c->ties++;
    snprintf(c->file, sizeof c->file, "%s", file);
    srn_buf_addf(&c->matching, "%s%s", c->matching.len ? ", " : "", file);
}

static int choose(const choice *c, const char *dir, const char *model, char *ret_path, size_t cap,
                  srn_err *err) {
    if (c->ties > 1)
        return srn_fail(err, SRN_ENOENT,
                        "'%s' could be any of these models in %s: %s; write more of the name", model, dir,
                        c->matching.data);
    if (c->ties == 1) {
        int n = snprintf(ret_path, cap, "%s/%s", dir, c->file);
        if (n > 0 && (size_t)n < cap) return SRN_OK;
        return srn_fail(err, SRN_ELIMIT, "the path of model '%s' is longer than %zu bytes", model, cap);
    }
    if (!c->all.len)
        return srn_fail(
            err, SRN_ENOENT,
            "there is no file '%s', and no model is in the cache %s; give the path of a .gguf file, put one "
            "there with `serin pull ORG/REPO:FILE`, or fetch a small one with ./demo or tools/get-model in "
            "Serin's folder",
            model, dir[0] ? dir : "(no home folder)");
    return srn_fail(err, SRN_ENOENT,
                    "there is no file '%s' and no such model in the cache %s, which holds: %s; "
                    "`serin pull ORG/REPO:FILE` fetches others",
                    model, dir, c->all.data);
}

int srn_weights_locate(const char *model, char *ret_path, size_t cap, srn_err *err) {
    struct stat st;
    if (model[0] && stat(model, &st) == 0) {
        int n = snprintf(ret_path, cap, "%s", model);
        if (n >= 0 && (size_t)n < cap) return SRN_OK;
        return srn_fail(err, SRN_ELIMIT, "the path is longer than %zu bytes: %s", cap, model);
    }
    if (errno != ENOENT && errno != ENOTDIR && model[0])
        return srn_fail(err, errno == ENAMETOOLONG ? SRN_EINVAL : SRN_EIO, "%s: %s", model, strerror(errno));
    char dir[4096];
    if (!srn_cache_path("models", dir, sizeof dir)) dir[0] = 0;
    choice c = {0};
    srn_buf_init(&c.matching, 2000);
    srn_buf_init(&c.all, 2000);
    struct dirent **entries = NULL;
    int n = dir[0] ? scandir(dir, &entries, only_models, by_name) : 0;
    for (int i = 0; i < n; i++) {
        consider(&c, entries[i]->d_name, model);
        free(entries[i]);
    }
    free((void *)entries);
    int code = choose(&c, dir, model, ret_path, cap, err);
    srn_buf_done(&c.matching);
    srn_buf_done(&c.all);
    return code;
}
