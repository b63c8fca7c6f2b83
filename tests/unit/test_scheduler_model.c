/* The scheduler on a real model: a load of mixed requests gives each what it gets alone. Skipped where the
 * model is not there (tools/get-model), and under the sanitizers, which see the same code on the tiny models.
 * Threads: pthread_create is the scheduler's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/sched_load.h"

static void a_real_model_gives_each_what_it_gets_alone(void **state) {
    (void)state;
    char path[4096];
    const char *models = getenv("SERIN_MODELS"), *home = getenv("HOME");
    snprintf(path, sizeof path, "%s%s/SmolLM2-135M-Instruct.Q4_1.gguf",
             models ? models
             : home ? home
                    : "",
             models ? "" : "/.cache/serin/models");
    srn_engine *e;
    srn_err err = {0};
    srn_engine_opts eo = {.threads = 2, .n_ctx = 512, .max_seqs = 8, .cache_tokens = 1536};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#endif
    if (srn_engine_open(path, &eo, &e, &err)) skip();
    run_load_on(e, &(load_case){.model = "smollm2",
                                .n_jobs = 16,
                                .max_seqs = 8,
                                .speculate = 4,
                                .most_prompt = 250,
                                .most_out = 40,
                                .cancels = true,
                                .seed = 11});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_model_gives_each_what_it_gets_alone),
    };
    return cmocka_run_group_tests_name("scheduler, a real model", tests, NULL, NULL);
}
