/* A CPU device on one of the tiny models of tests/golden, for tests below the engine. Include after cmocka.h.
 */
#ifndef SRN_TESTS_UNIT_GOLDEN_DEVICE_H
#define SRN_TESTS_UNIT_GOLDEN_DEVICE_H

#include "cpu/cpu.h"

static const char *const goldens[] = {"gemma3", "llama-gqa", "mixtral", "phi3", "qwen3moe"};

typedef struct fixture {
    srn_weights *weights;
    srn_model *model;
    srn_device *device;
    srn_device_opts opts;
} fixture;

static inline fixture open_golden(const char *name, srn_device_opts opts) {
    fixture f = {.opts = opts};
    srn_err err = {0};
    srn_open_opts open = {0};
    char path[512];
    snprintf(path, sizeof path, SRN_TEST_DIR "/golden/%s.gguf", name);
    if (srn_weights_open(path, &open, &f.weights, &err) || srn_model_new(f.weights, 0, &f.model, &err) ||
        srn_cpu_device_new(f.model, &opts, &f.device, &err))
        fail_msg("%s", err.text);
    return f;
}

static inline void close_golden(fixture *f) {
    f->device->ops->free(f->device);
    srn_model_free(f->model);
    srn_weights_free(f->weights);
}

#endif
