/* Writing model files: what the head of a GGUF file holds is what a reader finds, files appear whole or not
 * at all, and a model in memory gives its pages back.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "format/write.h"

static const uint64_t two_by_64[4] = {64, 2, 1, 1};

static void add_keys(srn_gguf_head *h) {
    srn_gguf_put_str(h, "general.architecture", SRN_STR("llama"));
    srn_gguf_put_u32(h, "a.number", 4000000000u);
    srn_gguf_put_f32(h, "a.float", 0.25f);
    srn_gguf_put_bool(h, "a.flag", true);
    srn_gguf_put_array(h, "some.texts", SRN_META_STR, 2);
    srn_gguf_elem_str(h, SRN_STR("one"));
    srn_gguf_elem_str(h, SRN_STR(""));
    srn_gguf_put_array(h, "some.numbers", SRN_META_I32, 2);
    srn_gguf_elem_i32(h, -5);
    srn_gguf_elem_i32(h, 7);
}

static void a_reader_finds_what_was_written(void **state) {
    (void)state;
    srn_gguf_head h;
    srn_buf head;
    srn_err err = {0};
    uint64_t bytes = 0;
    srn_gguf_head_init(&h);
    add_keys(&h);
    assert_int_equal(srn_gguf_add_tensor(&h, "first", SRN_Q4_0, two_by_64, 2, &bytes), 0);
    assert_int_equal(bytes, 72);
    assert_int_equal(srn_gguf_add_tensor(&h, "second", SRN_F32, (uint64_t[]){3}, 1, &bytes), 96);
    assert_int_equal(h.data_bytes, 128);
    assert_int_equal(srn_gguf_head_finish(&h, &head, &err), SRN_OK);
    assert_int_equal(head.len % SRN_GGUF_ALIGNMENT, 0);
    size_t first_data = head.len;
    for (uint64_t i = 0; i < h.data_bytes; i++) srn_buf_addc(&head, (char)i);

    srn_weights *w;
    assert_int_equal(srn_gguf_parse(head.data, head.len, "image", &w, &err), SRN_OK);
    uint64_t u;
    double f;
    bool b;
    const srn_str *texts;
    size_t n;
    assert_true(srn_meta_u64(w, "a.number", &u, &err) == SRN_OK && u == 4000000000u);
    assert_true(srn_meta_f64(w, "a.float", &f, &err) == SRN_OK && f == 0.25);
    assert_true(srn_meta_bool(w, "a.flag", &b, &err) == SRN_OK && b);
    assert_true(srn_meta_strs(w, "some.texts", &texts, &n, &err) == SRN_OK && n == 2);
    assert_true(srn_str_eqz(texts[0], "one") && srn_str_eqz(texts[1], ""));
    const srn_meta *numbers = srn_meta_find(w, "some.numbers");
    assert_true(numbers && srn_meta_elem_i64(numbers, 0) == -5 && srn_meta_elem_i64(numbers, 1) == 7);
    const srn_tensor *t = srn_weights_find(w, "second");
    assert_true(t && t->type == SRN_F32 && t->n_bytes == 12 && t->ne[0] == 3);
    assert_int_equal(t->offset, first_data + 96);
    assert_int_equal(*(const uint8_t *)t->data, 96);
    srn_weights_free(w);
    srn_buf_done(&head);
    srn_gguf_head_done(&h);
}

static void a_tensor_that_cannot_be_is_named(void **state) {
    (void)state;
    static const struct {
        srn_type type;
        uint64_t ne[2];
    } wrong[] = {
        {SRN_Q4_K, {128, 2}}, {SRN_Q8_K, {256, 1}}, {SRN_F32, {0, 1}}, {SRN_F32, {UINT64_MAX / 4, 9}}};
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        srn_gguf_head h;
        srn_buf head;
        srn_err err = {0};
        srn_gguf_head_init(&h);
        srn_gguf_add_tensor(&h, "odd", wrong[i].type, wrong[i].ne, 2, NULL);
        assert_int_equal(srn_gguf_head_finish(&h, &head, &err), SRN_EINVAL);
        assert_non_null(strstr(err.text, "'odd'"));
        srn_gguf_head_done(&h);
    }
}

/* ---- files ---- */

typedef struct place {
    char dir[64], path[96];
} place;

static int make_place(void **state) {
    place *p = calloc(1, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/test_write-XXXXXX");
    if (!mkdtemp(p->dir)) return -1;
    snprintf(p->path, sizeof p->path, "%s/model.gguf", p->dir);
    *state = p;
    return 0;
}

/* The folder must hold nothing but the file by now. */
static int leave_place(void **state) {
    place *p = *state;
    unlink(p->path);
    int failed = rmdir(p->dir);
    free(p);
    return failed;
}

static bool holds(const char *path, const char *text, size_t n) {
    char *data;
    size_t len;
    srn_err err;
    if (srn_read_file(path, 1 << 20, &data, &len, &err)) return false;
    bool same = len == n && memcmp(data, text, n) == 0;
    free(data);
    return same;
}

static void a_file_has_its_name_when_it_is_whole(void **state) {
    const place *p = *state;
    srn_out *o;
    srn_err err = {0};
    assert_int_equal(srn_out_open(p->path, false, 6, &o, &err), SRN_OK);
    assert_int_equal(srn_out_write(o, 3, "def", 3, &err), SRN_OK);
    assert_int_equal(access(p->path, F_OK), -1);
    assert_int_equal(srn_out_write(o, 0, "abc", 3, &err), SRN_OK);
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    srn_out_free(o);
    assert_true(holds(p->path, "abcdef", 6));
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void an_unfinished_file_leaves_nothing(void **state) {
    const place *p = *state;
    srn_out *o;
    srn_err err = {0};
    assert_int_equal(srn_out_open(p->path, false, 6, &o, &err), SRN_OK);
    assert_int_equal(srn_out_write(o, 0, "abc", 3, &err), SRN_OK);
    srn_out_free(o); /* leave_place finds what is left */
    assert_int_equal(access(p->path, F_OK), -1);
}

static void a_file_is_replaced_only_by_force(void **state) {
    const place *p = *state;
    srn_out *o, *late;
    srn_err err = {0};
    assert_int_equal(srn_out_open(p->path, false, 1, &late, &err), SRN_OK); /* nothing is there yet */
    assert_int_equal(srn_out_open(p->path, false, 1, &o, &err), SRN_OK);
    srn_out_write(o, 0, "1", 1, &err);
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    srn_out_free(o);
    assert_int_equal(srn_out_commit(late, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "--force"));
    srn_out_free(late);
    assert_int_equal(srn_out_open(p->path, false, 1, &o, &err), SRN_EINVAL);
    assert_true(holds(p->path, "1", 1));
    assert_int_equal(srn_out_open(p->path, true, 1, &o, &err), SRN_OK);
    srn_out_write(o, 0, "2", 1, &err);
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    srn_out_free(o);
    assert_true(holds(p->path, "2", 1));
    assert_int_equal(srn_out_open(p->dir, true, 1, &o, &err), SRN_EINVAL); /* a folder */
}

static void what_does_not_fit_is_said_at_once(void **state) {
    const place *p = *state;
    srn_out *o;
    srn_err err = {0};
    assert_int_equal(srn_out_open(p->path, false, (uint64_t)1 << 61, &o, &err), SRN_EIO);
    assert_non_null(strstr(err.text, p->path));
    assert_int_equal(srn_out_open("/no/such/folder/x", false, 1, &o, &err), SRN_EIO);
}

/* ---- threads ---- */

typedef struct writer {
    srn_out *o;
    uint8_t id;
} writer;

static void *write_every_fourth(void *arg) {
    const writer *w = arg;
    uint8_t block[512];
    srn_err err;
    memset(block, w->id, sizeof block);
    for (uint64_t i = w->id; i < 256; i += 4)
        if (srn_out_write(w->o, i * sizeof block, block, sizeof block, &err)) return arg;
    return NULL;
}

static void several_threads_write_one_file(void **state) {
    const place *p = *state;
    srn_out *o;
    srn_err err = {0};
    pthread_t threads[4];
    writer writers[4];
    assert_int_equal(srn_out_open(p->path, false, 256 * 512, &o, &err), SRN_OK);
    for (uint8_t i = 0; i < 4; i++) {
        writers[i] = (writer){o, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_every_fourth, &writers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    srn_out_free(o);
    char *data;
    size_t len;
    assert_int_equal(srn_read_file(p->path, 1 << 20, &data, &len, &err), SRN_OK);
    assert_int_equal(len, 256 * 512);
    for (size_t i = 0; i < len; i++) assert_int_equal(data[i], i / 512 % 4);
    free(data);
}

/* ---- memory ---- */

#define MODEL_BYTES ((uint64_t)1 << 20)

/* One F32 tensor of a megabyte, all ones. */
static void write_model(srn_out *(*make)(uint64_t bytes, const void *ctx), const void *ctx, srn_out **ret) {
    srn_gguf_head h;
    srn_buf head;
    srn_err err = {0};
    srn_gguf_head_init(&h);
    srn_gguf_add_tensor(&h, "ones", SRN_F32, (uint64_t[]){MODEL_BYTES / 4}, 1, NULL);
    assert_int_equal(srn_gguf_head_finish(&h, &head, &err), SRN_OK);
    srn_out *o = make(head.len + h.data_bytes, ctx);
    assert_int_equal(srn_out_write(o, 0, head.data, head.len, &err), SRN_OK);
    float one[256];
    for (size_t i = 0; i < SRN_LEN(one); i++) one[i] = 1;
    for (uint64_t at = 0; at < MODEL_BYTES; at += sizeof one)
        assert_int_equal(srn_out_write(o, head.len + at, one, sizeof one, &err), SRN_OK);
    srn_buf_done(&head);
    srn_gguf_head_done(&h);
    *ret = o;
}

static srn_out *in_memory(uint64_t bytes, const void *ctx) {
    (void)ctx;
    srn_out *o;
    srn_err err;
    return srn_out_memory(bytes, &o, &err) ? NULL : o;
}

static srn_out *in_file(uint64_t bytes, const void *path) {
    srn_out *o;
    srn_err err;
    return srn_out_open(path, false, bytes, &o, &err) ? NULL : o;
}

static void memory_gives_back_what_is_forgotten(void **state) {
    (void)state;
    srn_out *o;
    srn_weights *w;
    srn_err err = {0};
    write_model(in_memory, NULL, &o);
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    char path[64];
    snprintf(path, sizeof path, "%s", srn_out_path(o));
    assert_int_equal(srn_weights_open(path, NULL, &w, &err), SRN_OK);
    const srn_tensor *t = srn_weights_at(w, 0);
    struct stat before, after;
    assert_true(srn_weights_memory_bytes(w) == srn_weights_file_bytes(w));
    assert_int_equal(stat(path, &before), 0);
    srn_weights_forget(w, 0, t->offset + 1000, t->offset + MODEL_BYTES / 2);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_blocks - after.st_blocks >= (int64_t)(MODEL_BYTES / 2 - 3 * 65536) / 512);
    const float *ones = t->data;
    assert_true(ones[0] == 1 && ones[999 / 4] == 1); /* before the range */
    assert_true(ones[MODEL_BYTES / 4 / 4] == 0);     /* in it */
    assert_true(ones[MODEL_BYTES / 2 / 4] == 1);     /* after it */
    srn_out_free(o);                                 /* what is open stays so */
    assert_true(ones[MODEL_BYTES / 4 - 1] == 1);
    srn_weights_free(w);
}

static void a_file_without_a_name_is_refused(void **state) {
    (void)state;
    srn_err err = {0};
    srn_out *o = NULL;
    assert_int_equal(srn_out_open("", false, 100, &o, &err), SRN_EINVAL);
    assert_non_null(strstr(err.text, "empty"));
}

static void more_memory_than_there_is_is_refused_before_any_is_taken(void **state) {
    (void)state;
    srn_err err = {0};
    srn_out *o = NULL;
    static const uint64_t sizes[] = {(uint64_t)1 << 50, UINT64_MAX};
    for (size_t i = 0; i < SRN_LEN(sizes); i++) {
        assert_int_equal(srn_out_memory(sizes[i], &o, &err), SRN_ENOMEM);
        assert_non_null(strstr(err.text, "GB are available"));
        assert_null(o);
    }
}

static void a_file_forgets_nothing(void **state) {
    const place *p = *state;
    srn_out *o;
    srn_weights *w;
    srn_err err = {0};
    write_model(in_file, p->path, &o);
    assert_int_equal(srn_out_commit(o, &err), SRN_OK);
    srn_out_free(o);
    assert_int_equal(srn_weights_open(p->path, NULL, &w, &err), SRN_OK);
    const srn_tensor *t = srn_weights_at(w, 0);
    assert_true(srn_weights_memory_bytes(w) == 0);
    srn_weights_forget(w, 0, t->offset, t->offset + t->n_bytes);
    const float *ones = t->data;
    for (size_t i = 0; i < MODEL_BYTES / 4; i++) assert_true(ones[i] == 1);
    srn_weights_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_finds_what_was_written),
        cmocka_unit_test(a_tensor_that_cannot_be_is_named),
        cmocka_unit_test_setup_teardown(a_file_has_its_name_when_it_is_whole, make_place, leave_place),
        cmocka_unit_test_setup_teardown(an_unfinished_file_leaves_nothing, make_place, leave_place),
        cmocka_unit_test_setup_teardown(a_file_is_replaced_only_by_force, make_place, leave_place),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_said_at_once, make_place, leave_place),
        cmocka_unit_test_setup_teardown(several_threads_write_one_file, make_place, leave_place),
        cmocka_unit_test(memory_gives_back_what_is_forgotten),
        cmocka_unit_test(a_file_without_a_name_is_refused),
        cmocka_unit_test(more_memory_than_there_is_is_refused_before_any_is_taken),
        cmocka_unit_test_setup_teardown(a_file_forgets_nothing, make_place, leave_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
