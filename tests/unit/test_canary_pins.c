/* Conversations stay with the arm that they began with, in a table that never grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "canary/canary.h"

static srn_pins *pins(size_t n, uint64_t keep_us) {
    srn_pins *p = NULL;
    srn_err err = {0};
    if (srn_pins_new(n, keep_us, &p, &err)) fail_msg("%s", err.text);
    return p;
}

static void a_pin_holds_as_long_as_it_is_seen(void **state) {
    (void)state;
    srn_pins *p = pins(64, 100);
    srn_pin got;
    assert_false(srn_pins_get(p, 7, 1000, &got));
    srn_pins_put(p, 7, &(srn_pin){SRN_ARM_CANARY, true, 1000});
    assert_true(srn_pins_get(p, 7, 1090, &got)); /* and is kept for another while */
    assert_int_equal(got.arm, SRN_ARM_CANARY);
    assert_true(got.counted);
    assert_true(srn_pins_get(p, 7, 1180, &got));
    assert_true(srn_pins_get(p, 7, 900, &got)); /* the clock went back */
    assert_false(srn_pins_get(p, 7, 1281, &got));
    srn_pins_put(p, 0, &(srn_pin){SRN_ARM_CONTROL, false, 5}); /* 0 is a conversation as well */
    assert_true(srn_pins_get(p, 0, 5, &got));
    assert_int_equal(got.arm, SRN_ARM_CONTROL);
    srn_pins_free(p);
}

static void a_full_table_forgets_what_was_not_seen_for_longest(void **state) {
    (void)state;
    srn_pins *p = pins(8, UINT64_MAX); /* one set */
    srn_pin got;
    for (uint64_t k = 1; k <= 8; k++) srn_pins_put(p, k, &(srn_pin){SRN_ARM_BASELINE, true, 10 * k});
    assert_true(srn_pins_get(p, 1, 1000, &got)); /* seen again: 2 is the oldest now */
    srn_pins_put(p, 9, &(srn_pin){SRN_ARM_CANARY, true, 1001});
    assert_false(srn_pins_get(p, 2, 1002, &got));
    assert_true(srn_pins_get(p, 1, 1002, &got));
    assert_true(srn_pins_get(p, 9, 1002, &got));
    srn_pins_put(p, 9, &(srn_pin){SRN_ARM_CONTROL, true, 1003}); /* in its own place */
    for (uint64_t k = 3; k <= 8; k++) assert_true(srn_pins_get(p, k, 1003, &got));
    srn_pins_free(p);
}

int main(void) {
    const struct CMUnitTest all[] = {
        cmocka_unit_test(a_pin_holds_as_long_as_it_is_seen),
        cmocka_unit_test(a_full_table_forgets_what_was_not_seen_for_longest),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
