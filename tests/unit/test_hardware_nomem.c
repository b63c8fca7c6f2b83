/* A machine read, advised on and drawn while each allocation in turn fails: an error each time, and nothing
 * that was lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hardware_help.h"
#include "nomem.h"

static int work(const char *text) {
    srn_err err = {0};
    srn_hw_machine *m;
    srn_hw_advices a;
    srn_hw_draw_opts o = {.all = true};
    int code = srn_hw_machine_parse(srn_str_of(text), "m.json", &m, &err);
    if (code) return code;
    code = srn_hw_advise(m, &a, &err);
    if (!code) {
        srn_buf out;
        srn_buf_init(&out, 1 << 20);
        code = srn_hw_draw(m, &a, &o, &out, &err);
        if (!code) code = srn_hw_draw_svg(m, &a, &out, &err);
        srn_buf_done(&out);
        srn_hw_advices_done(&a);
    }
    srn_hw_machine_free(m);
    assert_true(!code || err.text[0]);
    return code;
}

static void no_allocation_that_fails_is_overlooked(void **state) {
    (void)state;
    char path[512], *text;
    size_t len, n = 0;
    srn_err err = {0};
    snprintf(path, sizeof path, SRN_TEST_DIR "/data/machines/two-on-one-root.json");
    assert_int_equal(srn_read_file(path, 1 << 20, &text, &len, &err), SRN_OK);
    for (bool reached = true; reached;) {
        nomem_begin(++n);
        int code = work(text);
        reached = nomem_end();
        assert_int_equal(code, reached ? SRN_ENOMEM : SRN_OK);
    }
    assert_true(n > 5);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_allocation_that_fails_is_overlooked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
