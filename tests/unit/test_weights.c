/* format: opening files, split models, and the weights id with its cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "unit/gguf_image.h"

/* ---- helpers: every test has a folder of its own, with the cache in it ---- */

static int make_folder(void **state) {
    char *dir = strdup("/tmp/serin-test-XXXXXX"), cache[128];
    if (!dir || !mkdtemp(dir)) return -1;
    snprintf(cache, sizeof cache, "%s/cache", dir);
    *state = dir;
    return setenv("SERIN_CACHE", cache, 1);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static int remove_folder(void **state) {
    int code = nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return code;
}

static void path_in(void **state, const char *name, char out[256]) {
    snprintf(out, 256, "%s/%s", (char *)*state, name);
}

static void write_file(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void write_image(image *g, const char *path) {
    srn_buf out;
    image_write(g, &out);
    image_done(g);
    write_file(path, out.data, out.len);
    srn_buf_done(&out);
}

/* Part `no` (from 0) of a split of `count`, which holds one tensor named after it. */
static void write_part(void **state, const char *stem, unsigned no, unsigned count, unsigned says_no,
                       char out[256]) {
    image g;
    char name[64];
    image_init(&g);
    if (no == 0) key_str(&g, "general.architecture", "llama");
    key_int(&g, "split.no", SRN_META_U16, says_no);
    key_int(&g, "split.count", SRN_META_U16, count);
    key_int(&g, "split.tensors.count", SRN_META_I32, 3);
    snprintf(name, sizeof name, "blk.%u.weight", no);
    tensor(&g, name, SRN_F32, 8 + no, 1, (uint8_t)(no + 1));
    snprintf(name, sizeof name, "%s-%05u-of-%05u.gguf", stem, no + 1, count);
    path_in(state, name, out);
    write_image(&g, out);
}

static void assert_open_fails(const char *path, int code, const char *word, const char *other) {
    srn_err err = {0};
    srn_weights *w = NULL;
    int got = srn_weights_open(path, NULL, &w, &err);
    if (got != code || !strstr(err.text, word) || !strstr(err.text, other))
        print_message("%d (expected %d): %s\n", got, code, err.text);
    assert_int_equal(got, code);
    assert_null(w);
    assert_non_null(strstr(err.text, word));
    assert_non_null(strstr(err.text, other));
}

static srn_weights *open_ok(const char *path) {
    srn_err err = {0};
    srn_weights *w = NULL;
    if (srn_weights_open(path, NULL, &w, &err)) print_message("%s\n", err.text);
    assert_non_null(w);
    return w;
}

static void assert_id(const srn_weights *w, bool force, const char *hex) {
    srn_err err = {0};
    char id[65] = "";
    int code = srn_weights_id(w, force, NULL, NULL, id, &err);
    if (code) print_message("%s\n", err.text);
    assert_int_equal(code, SRN_OK);
    assert_string_equal(id, hex);
}

static void sha256_hex(const void *p, size_t n, char out[65]) {
    uint8_t digest[SRN_SHA256_BYTES];
    srn_sha256 *h = srn_sha256_new();
    assert_non_null(h);
    srn_sha256_add(h, p, n);
    srn_sha256_end(h, digest);
    srn_hex(digest, sizeof digest, out);
}

static void file_sha256(const char *path, char out[65]) {
    char *data;
    size_t n;
    assert_int_equal(srn_read_file(path, 1 << 30, &data, &n, NULL), SRN_OK);
    sha256_hex(data, n, out);
    free(data);
}

static image one_tensor(uint64_t cols, uint8_t fill) {
    image g;
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    tensor(&g, "a", SRN_I8, cols, 1, fill);
    return g;
}

/* ---- comparing ---- */

static void count_difference(void *ctx, const char *name, srn_difference what) {
    (void)name, (void)what;
    ++((int *)ctx)[0];
}

static bool stop_at(void *ctx) {
    return ((int *)ctx)[1]-- == 0;
}

static void a_comparison_ends_when_it_is_asked_to(void **state) {
    static const char *const names[] = {"a", "b", "c"};
    srn_weights *w[2];
    char path[256];
    for (uint8_t k = 0; k < 2; k++) {
        image g;
        image_init(&g);
        key_str(&g, "general.architecture", "llama");
        for (size_t i = 0; i < SRN_LEN(names); i++) tensor(&g, names[i], SRN_I8, 32, 1, k);
        path_in(state, k ? "to.gguf" : "from.gguf", path);
        write_image(&g, path);
        w[k] = open_ok(path);
    }
    int all[] = {0, -1}, some[] = {0, 3},
        none[] = {0, 0}; /* asked before each tensor, and each piece of it */
    assert_int_equal(srn_weights_differ(w[0], w[1], count_difference, all, NULL, NULL), 3);
    assert_int_equal(all[0], 3);
    assert_int_equal(srn_weights_differ(w[0], w[1], count_difference, all, stop_at, all), 3);
    assert_in_range(srn_weights_differ(w[0], w[1], count_difference, some, stop_at, some), 1, 2);
    assert_int_equal(srn_weights_differ(w[0], w[1], count_difference, none, stop_at, none), 0);
    assert_int_equal(none[0], 0);
    for (size_t k = 0; k < 2; k++) srn_weights_free(w[k]);
}

/* ---- opening ---- */

static void a_file_is_mapped_and_its_pages_can_be_dropped(void **state) {
    char path[256];
    image g = one_tensor(100000, 0x5A);
    path_in(state, "model.gguf", path);
    write_image(&g, path);
    srn_weights *w = open_ok(path);
    const srn_tensor *t = srn_weights_find(w, "a");
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < t->n_bytes; i++) assert_int_equal(((const uint8_t *)t->data)[i], 0x5A);
        srn_weights_drop_pages(w, t->part, t->offset, t->offset + t->n_bytes);
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(srn_weights_file_bytes(w), st.st_size);
    assert_string_equal(srn_weights_part_path(w, 0), path);
    assert_null(srn_weights_part_path(w, 1));
    srn_weights_free(w);
    srn_weights_free(NULL);
}

static void what_is_no_model_file_is_refused(void **state) {
    char path[256];
    path_in(state, "absent.gguf", path);
    assert_open_fails(path, SRN_ENOENT, path, "No such file");
    assert_open_fails(*state, SRN_EINVAL, *state, "folder");
    assert_open_fails("/dev/null", SRN_EINVAL, "/dev/null", "regular file");
    path_in(state, "empty.gguf", path);
    write_file(path, "", 0);
    assert_open_fails(path, SRN_EFORMAT, path, "empty");
    path_in(state, "fifo", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_open_fails(path, SRN_EINVAL, path, "regular file");
    unlink(path);
}

static void a_vocabulary_opens_only_when_asked_for(void **state) {
    char path[256];
    image g;
    image_init(&g);
    key_str(&g, "tokenizer.ggml.model", "gpt2");
    path_in(state, "vocab.gguf", path);
    write_image(&g, path);
    assert_open_fails(path, SRN_EINVAL, path, "vocabulary and no tensors");
    srn_weights *w = NULL;
    srn_open_opts opts = {.vocab_only = true};
    assert_int_equal(srn_weights_open(path, &opts, &w, NULL), SRN_OK);
    assert_int_equal(srn_weights_count(w), 0);
    assert_null(srn_weights_find(w, "a"));
    srn_weights_free(w);
}

/* ---- split models ---- */

static void count_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    (void)what;
    assert_true(done <= total);
    if (done == total) ++*(int *)ctx;
}

static void the_parts_of_a_split_become_one_directory(void **state) {
    char paths[3][256];
    for (unsigned i = 0; i < 3; i++) write_part(state, "m", i, 3, i, paths[i]);
    int ended = 0;
    srn_open_opts opts = {.progress = count_progress, .progress_ctx = &ended};
    srn_weights *w = NULL;
    srn_err err = {0};
    assert_int_equal(srn_weights_open(paths[0], &opts, &w, &err), SRN_OK);
    assert_int_equal(ended, 1);
    assert_int_equal(srn_weights_parts(w), 3);
    assert_int_equal(srn_weights_count(w), 3);
    for (uint32_t i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%u.weight", i);
        const srn_tensor *t = srn_weights_find(w, name);
        assert_non_null(t);
        assert_int_equal(t->part, i);
        assert_int_equal(t->ne[0], 8 + i);
        assert_int_equal(*(const uint8_t *)t->data, i + 1);
        assert_string_equal(srn_weights_part_path(w, i), paths[i]);
        srn_weights_drop_pages(w, t->part, t->offset, t->offset + t->n_bytes);
    }
    srn_str arch;
    assert_int_equal(srn_meta_str(w, "general.architecture", &arch, NULL), SRN_OK);
    srn_weights_free(w);
}

static void a_split_that_is_not_whole_is_refused(void **state) {
    char paths[3][256], other[256];
    for (unsigned i = 0; i < 3; i++) write_part(state, "m", i, 3, i, paths[i]);
    assert_open_fails(paths[1], SRN_EINVAL, "part 2 of 3", paths[0]);
    write_part(state, "m", 2, 3, 1, paths[2]); /* the second again, under the third's name */
    assert_open_fails(paths[0], SRN_EFORMAT, paths[2], "says it is part 2 of 3");
    unlink(paths[2]);
    assert_open_fails(paths[0], SRN_ENOENT, "part 3 of 3 is missing", paths[2]);
    path_in(state, "renamed.gguf", other);
    assert_int_equal(rename(paths[0], other), 0);
    assert_open_fails(other, SRN_EFORMAT, "renamed.gguf", "-00001-of-00003.gguf");
}

static void tensors_of_a_split_are_counted_and_unique(void **state) {
    char paths[2][256];
    for (unsigned i = 0; i < 2; i++) write_part(state, "few", i, 2, i, paths[i]);
    assert_open_fails(paths[0], SRN_EFORMAT, "hold 2 tensors", "says 3");
    image g;
    image_init(&g);
    key_int(&g, "split.no", SRN_META_U16, 1);
    key_int(&g, "split.count", SRN_META_U16, 2);
    tensor(&g, "blk.0.weight", SRN_F32, 8, 1, 1);
    tensor(&g, "blk.1.weight", SRN_F32, 8, 1, 1);
    write_image(&g, paths[1]);
    assert_open_fails(paths[0], SRN_EFORMAT, paths[1], "'blk.0.weight' is there twice");
}

static void split_numbers_are_checked(void **state) {
    char path[256];
    const struct {
        srn_meta_type type;
        uint64_t no, count;
        int code;
    } wrong[] = {{SRN_META_U16, 3, 3, SRN_EFORMAT},
                 {SRN_META_U16, 0, 60000, SRN_ELIMIT},
                 {SRN_META_I32, 0xFFFFFFFF, 3, SRN_ELIMIT},
                 {SRN_META_F32, 0, 0x40000000, SRN_EFORMAT}};
    path_in(state, "x-00001-of-00003.gguf", path);
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        image g = one_tensor(4, 1);
        key_int(&g, "split.no", wrong[i].type, wrong[i].no);
        key_int(&g, "split.count", wrong[i].type, wrong[i].count);
        write_image(&g, path);
        assert_open_fails(path, wrong[i].code, path, "key 'split.");
    }
}

/* ---- identity ---- */

static void the_id_of_one_file_is_its_sha256(void **state) {
    char path[256], hex[65], wanted[65];
    image g = one_tensor(3000000, 7); /* more than one chunk of reading */
    path_in(state, "model.gguf", path);
    write_image(&g, path);
    file_sha256(path, wanted);
    srn_weights *w = open_ok(path);
    int ended = 0;
    assert_int_equal(srn_weights_id(w, true, count_progress, &ended, hex, NULL), SRN_OK);
    assert_string_equal(hex, wanted);
    assert_int_equal(ended, 1);
    srn_weights_free(w);
}

static void the_id_of_a_split_is_over_its_sorted_digests(void **state) {
    char paths[3][256], digests[3][65], text[200] = "", wanted[65];
    for (unsigned i = 0; i < 3; i++) {
        write_part(state, "m", i, 3, i, paths[i]);
        file_sha256(paths[i], digests[i]);
    }
    qsort(digests, 3, 65, (int (*)(const void *, const void *))strcmp);
    int n = snprintf(text, sizeof text, "%s\n%s\n%s\n", digests[0], digests[1], digests[2]);
    sha256_hex(text, (size_t)n, wanted);
    srn_weights *w = open_ok(paths[0]);
    assert_id(w, false, wanted);
    srn_weights_free(w);
}

static void the_id_of_an_image_in_memory_is_its_sha256(void **state) {
    (void)state;
    image g = one_tensor(10, 1);
    void *bytes;
    srn_weights *w = NULL;
    char wanted[65];
    assert_int_equal(image_parse(&g, &bytes, &w, NULL), SRN_OK);
    image_done(&g);
    sha256_hex(bytes, srn_weights_file_bytes(w), wanted);
    assert_id(w, false, wanted);
    srn_weights_free(w);
    free(bytes);
}

/* The one entry of the cache; fails when there is none. */
static void entry_of(const char *model, char out[512]) {
    struct stat st;
    char name[80];
    assert_int_equal(stat(model, &st), 0);
    snprintf(name, sizeof name, "digests/%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    assert_true(srn_cache_path(name, out, 512));
}

/* Writes an entry for the model as it is now, with a digest that no hashing would give. */
static void plant_entry(const char *model, const char *hex) {
    char path[512], dir[512], line[300];
    struct stat st;
    assert_int_equal(stat(model, &st), 0);
    entry_of(model, path);
    assert_true(srn_cache_path("", dir, sizeof dir));
    mkdir(dir, 0700);
    assert_true(srn_cache_path("digests", dir, sizeof dir));
    mkdir(dir, 0700);
    int n = snprintf(line, sizeof line, "serin-digest 1 %lld %lld.%09ld %lld.%09ld sha256 %s\n",
                     (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                     (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, hex);
    write_file(path, line, (size_t)n);
}

static const char planted[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static void a_cached_digest_counts_until_the_file_changes(void **state) {
    char path[256], real[65], entry[512];
    image g = one_tensor(10, 1);
    path_in(state, "model.gguf", path);
    write_image(&g, path);
    file_sha256(path, real);
    plant_entry(path, planted);
    srn_weights *w = open_ok(path);
    assert_id(w, false, planted);
    assert_id(w, true, real);
    srn_weights_free(w);

    struct timeval old[2] = {{1000000000, 0}, {1000000000, 0}};
    assert_int_equal(utimes(path, old), 0); /* the same bytes with another mtime */
    w = open_ok(path);
    assert_id(w, false, real);
    srn_weights_free(w);

    plant_entry(path, "not a digest");
    w = open_ok(path);
    assert_id(w, false, real);
    srn_weights_free(w);
    entry_of(path, entry);
    unlink(entry);
    w = open_ok(path);
    assert_id(w, false, real);
    assert_int_equal(access(entry, F_OK), -1); /* changed just now: could change again unnoticed */
    srn_weights_free(w);
}

static void a_cache_that_cannot_be_written_is_no_error(void **state) {
    char path[256], real[65];
    image g = one_tensor(10, 1);
    path_in(state, "model.gguf", path);
    write_image(&g, path);
    file_sha256(path, real);
    setenv("SERIN_CACHE", "/dev/null/cache", 1);
    srn_weights *w = open_ok(path);
    assert_id(w, false, real);
    srn_weights_free(w);
}

static void a_file_changed_after_it_was_opened_has_no_id(void **state) {
    char path[256], hex[65] = "untouched";
    image g = one_tensor(10, 1);
    path_in(state, "model.gguf", path);
    write_image(&g, path);
    srn_weights *w = open_ok(path);
    FILE *f = fopen(path, "ab");
    assert_non_null(f);
    fputc('x', f);
    fclose(f);
    srn_err err = {0};
    assert_int_equal(srn_weights_id(w, true, NULL, NULL, hex, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "was changed after it was opened"));
    assert_string_equal(hex, "untouched");
    srn_weights_free(w);
}

static void the_cache_folder_follows_the_environment(void **state) {
    (void)state;
    char path[256];
    setenv("SERIN_CACHE", "/a", 1);
    assert_true(srn_cache_path("models", path, sizeof path));
    assert_string_equal(path, "/a/models");
    unsetenv("SERIN_CACHE");
    setenv("XDG_CACHE_HOME", "/b", 1);
    assert_true(srn_cache_path("models", path, sizeof path));
    assert_string_equal(path, "/b/serin/models");
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/c", 1);
    assert_true(srn_cache_path("models", path, sizeof path));
    assert_string_equal(path, "/c/.cache/serin/models");
    assert_false(srn_cache_path("models", path, 10));
    unsetenv("HOME");
    assert_false(srn_cache_path("models", path, sizeof path));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_comparison_ends_when_it_is_asked_to),
        IN_FOLDER(a_file_is_mapped_and_its_pages_can_be_dropped),
        IN_FOLDER(what_is_no_model_file_is_refused),
        IN_FOLDER(a_vocabulary_opens_only_when_asked_for),
        IN_FOLDER(the_parts_of_a_split_become_one_directory),
        IN_FOLDER(a_split_that_is_not_whole_is_refused),
        IN_FOLDER(tensors_of_a_split_are_counted_and_unique),
        IN_FOLDER(split_numbers_are_checked),
        IN_FOLDER(the_id_of_one_file_is_its_sha256),
        IN_FOLDER(the_id_of_a_split_is_over_its_sorted_digests),
        IN_FOLDER(the_id_of_an_image_in_memory_is_its_sha256),
        IN_FOLDER(a_cached_digest_counts_until_the_file_changes),
        IN_FOLDER(a_cache_that_cannot_be_written_is_no_error),
        IN_FOLDER(a_file_changed_after_it_was_opened_has_no_id),
        IN_FOLDER(the_cache_folder_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
