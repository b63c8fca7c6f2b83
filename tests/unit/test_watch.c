/* What was hashed is what runs: readings of a file and what others saw of it agree exactly when the bytes do,
 * in any order and cut anywhere; an engine is opened with the id of the bytes that it loaded, and shows later
 * that they are no longer there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "unit/gguf_image.h"

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

/* ---- sums ---- */

/* Rows of 3,000 bytes, so that a row lies across the end of the first MiB that is read at once; a tensor of
 * one long row; and a small one. */
typedef struct three {
    srn_weights *w;
    const srn_tensor *wide, *line, *small;
    char path[256];
} three;

static three open_three(void **state) {
    three t;
    image g;
    srn_buf out;
    srn_err err = {0};
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    tensor(&g, "wide", SRN_I8, 3000, 800, 1);
    tensor(&g, "line", SRN_I8, 1500000, 1, 2);
    tensor(&g, "small", SRN_I8, 32, 4, 3);
    for (size_t i = 0; i < g.data.len; i++) g.data.data[i] = (char)(uint8_t)(i * 2654435761u >> 13);
    image_write(&g, &out);
    image_done(&g);
    snprintf(t.path, sizeof t.path, "%s/model.gguf", (char *)*state);
    FILE *f = fopen(t.path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(out.data, 1, out.len, f), out.len);
    assert_int_equal(fclose(f), 0);
    srn_buf_done(&out);
    if (srn_weights_open(t.path, NULL, &t.w, &err)) fail_msg("%s", err.text);
    t.wide = srn_weights_find(t.w, "wide");
    t.line = srn_weights_find(t.w, "line");
    t.small = srn_weights_find(t.w, "small");
    assert_int_equal(srn_weights_watch(t.w, NULL), SRN_OK);
    return t;
}

static void saw(const three *t, const srn_tensor *x, uint64_t row, uint64_t n) {
    srn_weights_saw(t->w, x, row, n, (const uint8_t *)x->data + row * x->ne[0]);
}

static int reading_of(const three *t, srn_err *err) {
    srn_reading *r = NULL;
    int code = srn_reading_new(t->w, &r, err);
    if (!code) code = srn_reading_run(r, NULL, err);
    if (!code) code = srn_reading_check(r, err);
    srn_reading_free(r);
    return code;
}

static void what_was_seen_in_any_order_agrees(void **state) {
    three t = open_three(state);
    srn_err err = {0};
    for (uint64_t row = 800; row > 0; row -= 16) saw(&t, t.wide, row - 16, 16);
    saw(&t, t.line, 0, 1);
    saw(&t, t.small, 3, 1);
    saw(&t, t.small, 0, 3);
    if (reading_of(&t, &err)) fail_msg("%s", err.text);
    srn_weights_free(t.w);
}

static void what_nobody_saw_is_not_compared(void **state) {
    three t = open_three(state);
    assert_int_equal(reading_of(&t, NULL), SRN_OK);
    srn_weights_free(t.w);
}

/* Changes bit 0 of a byte of the file and gives it its old times back. */
static void flip_bit(const char *path, off_t at) {
    struct stat st = {0};
    uint8_t byte = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void one_bit_that_changed_since_is_found(void **state) {
    three t = open_three(state);
    saw(&t, t.wide, 0, 800);
    saw(&t, t.line, 0, 1);
    saw(&t, t.small, 0, 4);
    const srn_tensor *all[] = {t.wide, t.line, t.small};
    for (size_t i = 0; i < SRN_LEN(all); i++) {
        srn_err err = {0};
        uint64_t place = all[i]->offset + (i == 0 ? UINT64_C(3000) * 349 + 1700 : all[i]->n_bytes - 1);
        assert_int_equal(reading_of(&t, &err), SRN_OK);
        flip_bit(t.path, (off_t)place);
        assert_int_equal(reading_of(&t, &err), SRN_EIO);
        assert_non_null(strstr(err.text, all[i]->name));
        flip_bit(t.path, (off_t)place);
    }
    srn_weights_free(t.w);
}

static void rows_that_changed_places_are_found(void **state) {
    three t = open_three(state);
    saw(&t, t.wide, 0, 798);
    srn_weights_saw(t.w, t.wide, 798, 1, (const uint8_t *)t.wide->data + 799 * 3000);
    srn_weights_saw(t.w, t.wide, 799, 1, (const uint8_t *)t.wide->data + 798 * 3000);
    assert_int_equal(reading_of(&t, NULL), SRN_EIO);
    srn_weights_free(t.w);
}

static void a_row_left_out_is_found(void **state) {
    three t = open_three(state);
    saw(&t, t.small, 0, 3);
    assert_int_equal(reading_of(&t, NULL), SRN_EIO);
    srn_weights_free(t.w);
}

static bool stop_at_once(void *ctx) {
    (void)ctx;
    return true;
}

static void a_reading_can_be_stopped(void **state) {
    three t = open_three(state);
    srn_reading *r = NULL;
    srn_reading_opts o = {.stop = stop_at_once};
    assert_int_equal(srn_reading_new(t.w, &r, NULL), SRN_OK);
    assert_int_equal(srn_reading_run(r, &o, NULL), SRN_ECANCELLED);
    assert_int_equal(srn_reading_run(r, NULL, NULL), SRN_OK);
    srn_reading_free(r);
    srn_weights_free(t.w);
}

static void *see_some(void *ctx) {
    const three *t = ctx;
    for (uint64_t row = 0; row < 400; row++) saw(t, t->wide, row, 1);
    return NULL;
}

static void several_threads_may_see_at_once(void **state) {
    three t = open_three(state);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, see_some, &t), 0);
    for (uint64_t row = 400; row < 800; row++) saw(&t, t.wide, row, 1);
    pthread_join(other, NULL);
    assert_int_equal(reading_of(&t, NULL), SRN_OK);
    srn_weights_free(t.w);
}

/* ---- engines ---- */

static const char *const models[] = {"gemma3", "llama-gqa", "mixtral", "phi3", "qwen3moe"};

/* A copy, old enough that its digest is cached. */
static void copy_model(void **state, const char *name, char out[256]) {
    char from[512], *data;
    size_t len;
    srn_err err = {0};
    snprintf(from, sizeof from, SRN_TEST_DIR "/golden/%s.gguf", name);
    snprintf(out, 256, "%s/%s.gguf", (char *)*state, name);
    if (srn_read_file(from, 64 << 20, &data, &len, &err)) fail_msg("%s", err.text);
    FILE *f = fopen(out, "wb");
    assert_true(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
    free(data);
}

/* Enters a digest for the file as it is now. */
static void plant(const char *path, const char *hex) {
    char dir[256], name[80], entry[512];
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(srn_cache_path("", dir, sizeof dir));
    mkdir(dir, 0700);
    assert_true(srn_cache_path("digests", dir, sizeof dir));
    mkdir(dir, 0700);
    snprintf(name, sizeof name, "digests/%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    assert_true(srn_cache_path(name, entry, sizeof entry));
    FILE *f = fopen(entry, "wb");
    assert_non_null(f);
    fprintf(f, "serin-digest 1 %lld %lld.%09ld %lld.%09ld sha256 %s\n", (long long)st.st_size,
            (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
            st.st_ctim.tv_nsec, hex);
    assert_int_equal(fclose(f), 0);
    chmod(entry, 0600);
}

static srn_engine *open_identified(const char *path, const char *cpu, char id[65], bool *verified) {
    srn_engine *e = NULL;
    srn_err err = {0};
    srn_engine_opts o = {.threads = 3, .n_ctx = 64, .cpu = cpu};
    if (srn_engine_open_identified(path, &o, id, verified, &e, &err)) fail_msg("%s", err.text);
    return e;
}

static void sha256_of(const char *path, char hex[65]) {
    srn_weights *w = NULL;
    assert_int_equal(srn_weights_open(path, NULL, &w, NULL), SRN_OK);
    assert_int_equal(srn_weights_id(w, true, NULL, NULL, hex, NULL), SRN_OK);
    srn_weights_free(w);
}

static void an_engine_knows_the_id_of_what_it_loaded(void **state) {
    static const char *const levels[] = {"ref", NULL};
    for (size_t i = 0; i < SRN_LEN(models); i++) {
        char path[256], id[65], wanted[65];
        copy_model(state, models[i], path);
        sha256_of(path, wanted);
        for (size_t k = 0; k < SRN_LEN(levels); k++) {
            bool verified = false;
            srn_err err = {0};
            srn_engine *e = open_identified(path, levels[k], id, &verified);
            assert_true(verified);
            assert_string_equal(id, wanted);
            if (srn_engine_verify(e, id, NULL, &err)) fail_msg("%s", err.text);
            srn_engine_close(e);
        }
    }
}

static void a_cached_digest_is_believed_first_and_proven_later(void **state) {
    char path[256], real[65], id[65];
    bool verified = true;
    srn_err err = {0};
    copy_model(state, "llama-gqa", path);
    sha256_of(path, real);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    flip_bit(path, st.st_size - 1);
    plant(path, real);
    srn_engine *e = open_identified(path, NULL, id, &verified);
    assert_false(verified);
    assert_string_equal(id, real);
    assert_int_equal(srn_engine_verify(e, id, NULL, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, real));
    srn_engine_close(e);
}

/* The file is put right again after it was loaded wrong: its id is now the one that is claimed, and what was
 * packed is still wrong. */
static void what_was_loaded_is_compared_and_not_only_what_is_there(void **state) {
    char path[256], real[65], id[65];
    bool verified = true;
    srn_err err = {0};
    copy_model(state, "llama-gqa", path);
    sha256_of(path, real);
    srn_weights *w = NULL;
    assert_int_equal(srn_weights_open(path, NULL, &w, NULL), SRN_OK);
    off_t place = (off_t)srn_weights_find(w, "blk.0.attn_q.weight")->offset + 5;
    srn_weights_free(w);
    flip_bit(path, place);
    plant(path, real);
    srn_engine *e = open_identified(path, NULL, id, &verified);
    flip_bit(path, place);
    if (strstr(srn_engine_get_info(e).device, "ref")) skip(); /* it reads the rows where they are mapped */
    assert_int_equal(srn_engine_verify(e, id, NULL, &err), SRN_EIO);
    assert_non_null(strstr(err.text, "blk.0.attn_q.weight"));
    srn_engine_close(e);
}

static int refuse(void *ctx, srn_engine *e, srn_err *err) {
    (void)ctx, (void)e;
    return srn_fail(err, SRN_EINVAL, "not today");
}

static void a_load_that_fails_ends_its_hashing(void **state) {
    char path[256], id[65];
    bool verified;
    volatile int cancel = 1;
    srn_engine *e = NULL;
    srn_engine_opts no = {.before_load = refuse}, cancelled = {.cancel = &cancel, .threads = 3};
    copy_model(state, "llama-gqa", path);
    assert_int_equal(srn_engine_open_identified(path, &no, id, &verified, &e, NULL), SRN_EINVAL);
    assert_int_equal(srn_engine_open_identified(path, &cancelled, id, &verified, &e, NULL), SRN_ECANCELLED);
    assert_int_equal(srn_engine_open_identified("/nowhere.gguf", NULL, id, &verified, &e, NULL), SRN_ENOENT);
    assert_null(e);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_was_seen_in_any_order_agrees),
        IN_FOLDER(what_nobody_saw_is_not_compared),
        IN_FOLDER(one_bit_that_changed_since_is_found),
        IN_FOLDER(rows_that_changed_places_are_found),
        IN_FOLDER(a_row_left_out_is_found),
        IN_FOLDER(a_reading_can_be_stopped),
        IN_FOLDER(several_threads_may_see_at_once),
        IN_FOLDER(an_engine_knows_the_id_of_what_it_loaded),
        IN_FOLDER(a_cached_digest_is_believed_first_and_proven_later),
        IN_FOLDER(what_was_loaded_is_compared_and_not_only_what_is_there),
        IN_FOLDER(a_load_that_fails_ends_its_hashing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
