/* cli, serin prompts sync: which commit a folder's files are checked out from. Reads .git as it lies on the
 * disk (a folder, or in worktrees a file that points to one; loose and packed references) and never runs git.
 * What is odd is left out: it is a remark in the record, not a proof.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "cli/prompts.h"

enum { MAX_SMALL = 64 << 10, MAX_PACKED = 64 << 20 };

static bool exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

/* The first line of a file, without the line break, into ret. */
static bool first_line(const char *path, char *ret, size_t cap) {
    char *data;
    size_t len;
    if (!exists(path) || srn_read_file(path, MAX_SMALL, &data, &len, NULL)) return false;
    size_t n = strcspn(data, "\r\n");
    bool fits = n < cap;
    if (fits) memcpy(ret, data, n), ret[n] = 0;
    free(data);
    return fits;
}

static bool is_commit(const char *text) {
    size_t n = strspn(text, "0123456789abcdef");
    return (n == 40 || n == 64) && !text[n];
}

/* "ref" in packed-refs: lines "COMMIT NAME". */
static bool find_packed(const char *path, const char *ref, char ret[65]) {
    char *data;
    size_t len, n = strlen(ref);
    bool found = false;
    if (!exists(path) || srn_read_file(path, MAX_PACKED, &data, &len, NULL)) return false;
    for (char *line = data; line && *line && !found;
         line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        size_t hex = strspn(line, "0123456789abcdef");
        if ((hex != 40 && hex != 64) || line[hex] != ' ') continue;
        if (strncmp(line + hex + 1, ref, n) != 0 || !strchr("\r\n", line[hex + 1 + n])) continue;
        memcpy(ret, line, hex);
        ret[hex] = 0;
        found = true;
    }
    free(data);
    return found;
}

/* dir/name, or name where it is absolute. */
static bool join(char ret[4096], const char *dir, const char *name) {
    int n = name[0] == '/' ? snprintf(ret, 4096, "%s", name) : snprintf(ret, 4096, "%s/%s", dir, name);
    return n > 0 && n < 4096;
}

/* The commit that HEAD of the git folder names, itself or through a branch. */
static void read_head(const char *git, srn__git *ret) {
    char path[4096], common[4096], line[1024], shared[1024];
    if (!join(path, git, "HEAD") || !first_line(path, line, sizeof line)) return;
    if (is_commit(line)) {
        snprintf(ret->commit, sizeof ret->commit, "%.64s", line);
        return;
    }
    if (strncmp(line, "ref: ", 5) != 0 || strstr(line, "..")) return;
    const char *ref = line + 5;
    if (strncmp(ref, "refs/heads/", 11) == 0) snprintf(ret->branch, sizeof ret->branch, "%.250s", ref + 11);
    snprintf(common, sizeof common, "%s", git);
    if (join(path, git, "commondir") && first_line(path, shared, sizeof shared) && !join(common, git, shared))
        return;
    char commit[1024] = "";
    if (join(path, git, ref) && first_line(path, commit, sizeof commit) && is_commit(commit))
        snprintf(ret->commit, sizeof ret->commit, "%.64s", commit);
    else if (join(path, common, ref) && first_line(path, commit, sizeof commit) && is_commit(commit))
        snprintf(ret->commit, sizeof ret->commit, "%.64s", commit);
    else if (join(path, common, "packed-refs"))
        find_packed(path, ref, ret->commit);
}

void srn__git_of(const char *dir, srn__git *ret) {
    char at[4096], path[4096], line[1100];
    struct stat st;
    *ret = (srn__git){.root = ""};
    char *real = realpath(dir, NULL);
    if (!real) return;
    int n = snprintf(at, sizeof at, "%s", real);
    free(real);
    if (n <= 0 || (size_t)n >= sizeof at) return;
    for (;;) {
        if (!join(path, at, ".git")) return;
        if (stat(path, &st) == 0) break;
        char *slash = strrchr(at, '/');
        if (!slash || slash == at) return;
        *slash = 0;
    }
    snprintf(ret->root, sizeof ret->root, "%s", at);
    if (S_ISDIR(st.st_mode)) {
        read_head(path, ret);
    } else if (first_line(path, line, sizeof line) && strncmp(line, "gitdir: ", 8) == 0) {
        char git[4096];
        if (join(git, at, line + 8)) read_head(git, ret);
    }
}
