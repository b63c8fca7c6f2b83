/* Every allocation of a stream fails once: it is refused or says that it failed, and what it gave out before
 * stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "engine/stream.h"
#include "unit/nomem.h"
#include "unit/vocab_image.h"

enum { N = 600 };

/* Whether all N tokens went in; the text so far is always a beginning of "abcabc...". */
static bool answer(const srn_vocab *v) {
    const srn_str stops[] = {SRN_STR("cc"), SRN_STR("abcab!")};
    srn_stream *s = NULL;
    srn_err err = {0};
    int code = srn_stream_new(v, false, stops, 2, false, &s, &err);
    if (code) {
        assert_int_equal(code, SRN_ENOMEM);
        assert_null(s);
        return false;
    }
    for (int i = 0; i < N; i++) assert_int_equal(srn_stream_add(s, 5), -1); /* "abc" */
    srn_stream_end(s);
    srn_str text = srn_stream_text(s);
    for (size_t i = 0; i < text.len; i++) assert_int_equal(text.ptr[i], "abc"[i % 3]);
    bool failed = srn_stream_failed(s);
    assert_true(failed || (text.len == 3 * N && srn_stream_n_tokens(s) == N));
    srn_stream_free(s);
    return !failed;
}

static void a_stream_without_memory_says_so(void **state) {
    (void)state;
    image g;
    loaded l;
    srn_err err = {0};
    bpe_image(&g);
    if (load_image(&g, &l, &err)) fail_msg("%s", err.text);
    size_t n = 1;
    for (;; n++) {
        nomem_begin(n);
        bool all = answer(l.v);
        if (!nomem_end()) {
            assert_true(all);
            break;
        }
    }
    assert_true(n > 8);
    loaded_done(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_stream_without_memory_says_so)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
