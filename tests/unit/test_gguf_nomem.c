/* format: every allocation fails once; each time the result is SRN_ENOMEM, and under ASan nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit/gguf_image.h"
#include "unit/nomem.h"

static srn_buf model_image(unsigned part, unsigned parts) {
    image g;
    srn_buf out;
    char name[32];
    image_init(&g);
    key_int(&g, "split.no", SRN_META_U16, part);
    key_int(&g, "split.count", SRN_META_U16, parts);
    key_array(&g, "tokenizer.ggml.tokens", SRN_META_STR, 8000); /* more than a chunk of the arena */
    for (int i = 0; i < 8000; i++) put_str(&g.keys, SRN_STR("token"));
    snprintf(name, sizeof name, "tensor.%u", part);
    tensor(&g, name, SRN_F32, 8, 1, 1);
    image_write(&g, &out);
    image_done(&g);
    assert_false(out.failed);
    return out;
}

static void parsing_survives_each_failing_allocation(void **state) {
    (void)state;
    srn_buf b = model_image(0, 1);
    size_t n = 1;
    for (;; n++) {
        srn_err err = {0};
        srn_weights *w = NULL;
        nomem_begin(n);
        int code = srn_gguf_parse(b.data, b.len, "f", &w, &err);
        bool failed = nomem_end();
        assert_int_equal(code, failed ? SRN_ENOMEM : SRN_OK);
        assert_true((w == NULL) == failed);
        if (failed) assert_non_null(strstr(err.text, "out of memory"));
        srn_weights_free(w);
        if (!failed) break;
    }
    assert_true(n > 6); /* it did fail, at several places */
    srn_buf_done(&b);
}

static void opening_and_hashing_a_split_survive_each_failing_allocation(void **state) {
    (void)state;
    char dir[] = "/tmp/serin-test-XXXXXX", paths[2][64];
    assert_non_null(mkdtemp(dir));
    setenv("SERIN_CACHE", "/dev/null", 1);
    for (unsigned i = 0; i < 2; i++) {
        srn_buf b = model_image(i, 2);
        snprintf(paths[i], sizeof paths[i], "%s/m-%05u-of-00002.gguf", dir, i + 1);
        FILE *f = fopen(paths[i], "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(b.data, 1, b.len, f), b.len);
        fclose(f);
        srn_buf_done(&b);
    }
    size_t n = 1;
    for (;; n++) {
        srn_err err = {0};
        srn_weights *w = NULL;
        char id[65];
        nomem_begin(n);
        int code = srn_weights_open(paths[0], NULL, &w, &err);
        if (!code) code = srn_weights_id(w, true, NULL, NULL, id, &err);
        bool failed = nomem_end();
        if (code != (failed ? SRN_ENOMEM : SRN_OK))
            print_message("allocation %zu: %d %s\n", n, code, err.text);
        assert_int_equal(code, failed ? SRN_ENOMEM : SRN_OK);
        srn_weights_free(w);
        if (!failed) break;
    }
    assert_true(n > 15);
    for (unsigned i = 0; i < 2; i++) unlink(paths[i]);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsing_survives_each_failing_allocation),
        cmocka_unit_test(opening_and_hashing_a_split_survive_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
