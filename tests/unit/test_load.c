/* Loading a CPU device: each thread packs the panels that it multiplies, progress grows to its end, a load
 * can be cancelled, and the file's pages are not held afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/device_internal.h"
#include "unit/golden_device.h"

enum { THREADS = 3, N_VOCAB = 112 };

static const srn_device_opts small = {
    .threads = THREADS, .n_kv_blocks = {2, 2}, .max_batch = 32, .n_ctx = 64};

/* ---- who touches which panel ---- */

#define MAX_TOUCHES 20000

static struct {
    pthread_mutex_t lock;
    srn_kernels real;
    struct {
        const uint8_t *panel;
        pthread_t thread;
        bool read;
    } touches[MAX_TOUCHES];
    size_t n;
} spy = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void note(const srn_packed *w, uint32_t p0, uint32_t p1, bool read) {
    pthread_mutex_lock(&spy.lock);
    for (uint32_t p = p0; p < p1 && spy.n < MAX_TOUCHES; p++) {
        spy.touches[spy.n].panel = w->panels + p * w->panel_bytes;
        spy.touches[spy.n].thread = pthread_self();
        spy.touches[spy.n++].read = read;
    }
    pthread_mutex_unlock(&spy.lock);
}
static void spy_pack(const srn_packed *w, uint32_t p0, uint32_t p1) {
    note(w, p0, p1, false);
    spy.real.pack(w, p0, p1);
}
static void spy_matmul(const srn_packed *w, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                       uint32_t n_cols, float *y, size_t y_stride, void *scratch) {
    note(w, p0, p1, true);
    spy.real.matmul(w, p0, p1, a, cols, n_cols, y, y_stride, scratch);
}

/* Packs again, with the spy's kernels, which the device has from then on. */
static void load_again(srn_cpu *c) {
    srn_pages_free(c->panels, c->panels_bytes);
    free(c->packed);
    free(c->first_packed);
    free(c->shares);
    c->panels_bytes = 0;
    spy.real = c->k;
    spy.n = 0;
    c->k.pack = spy_pack;
    c->k.matmul = spy_matmul;
    assert_int_equal(srn__cpu_load(c, NULL), SRN_OK);
}

static void compute(fixture *f) {
    static float logits[N_VOCAB];
    int32_t tokens[30];
    const uint32_t blocks[1] = {0}, wanted = SRN_LEN(tokens) - 1;
    for (size_t i = 0; i < SRN_LEN(tokens); i++) tokens[i] = (int32_t)(i * 7 % N_VOCAB);
    srn_slice slice = {.blocks = {blocks, blocks}, .n_tokens = SRN_LEN(tokens)};
    srn_batch b = {.tokens = tokens,
                   .n_tokens = SRN_LEN(tokens),
                   .slices = &slice,
                   .n_slices = 1,
                   .wanted = &wanted,
                   .n_wanted = 1,
                   .logits = logits};
    assert_int_equal(f->device->ops->forward(f->device, &b, NULL), SRN_OK);
}

static void the_thread_that_multiplies_a_panel_has_packed_it(void **state) {
    (void)state;
    for (size_t i = 0; i < SRN_LEN(goldens); i++) {
        fixture f = open_golden(goldens[i], small);
        srn_cpu *c = (srn_cpu *)f.device;
        if (c->panels_bytes == 0) skip(); /* the reference reads the file's rows */
        load_again(c);
        size_t packed = spy.n, mine = 0;
        compute(&f);
        assert_true(spy.n > packed && spy.n < MAX_TOUCHES);
        for (size_t k = packed; k < spy.n; k++) {
            size_t by = 0;
            while (by < packed && spy.touches[by].panel != spy.touches[k].panel) by++;
            assert_true(by < packed && spy.touches[k].read && !spy.touches[by].read);
            if (!pthread_equal(spy.touches[by].thread, spy.touches[k].thread))
                fail_msg("%s: a panel was packed by one thread and multiplied by another", goldens[i]);
        }
        for (size_t k = 0; k < packed; k++) mine += pthread_equal(spy.touches[k].thread, pthread_self()) != 0;
        assert_true(mine > 0 && mine < packed);
        close_golden(&f);
    }
}

/* ---- progress and cancellation ---- */

typedef struct watch {
    uint64_t done, total;
    unsigned calls;
    pthread_t thread;
} watch;

static void watch_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    watch *w = ctx;
    assert_string_equal(what, "packing weights");
    assert_true(done >= w->done && done <= total);
    assert_true(pthread_equal(w->thread, pthread_self()));
    *w = (watch){done, total, w->calls + 1, w->thread};
}

static void progress_ends_at_the_bytes_that_are_held(void **state) {
    (void)state;
    watch w = {.thread = pthread_self()};
    srn_device_opts o = small;
    o.progress = watch_progress;
    o.progress_ctx = &w;
    fixture f = open_golden("llama-gqa", o);
    assert_int_equal(w.done, w.total);
    assert_int_equal(w.total, ((srn_cpu *)f.device)->panels_bytes);
    close_golden(&f);
}

static void a_load_can_be_cancelled(void **state) {
    (void)state;
    fixture f = open_golden("llama-gqa", small);
    volatile int cancel = 1;
    srn_device_opts o = small;
    o.cancel = &cancel;
    srn_device *d = NULL;
    srn_err err = {0};
    if (((srn_cpu *)f.device)->panels_bytes == 0) skip();
    assert_int_equal(srn_cpu_device_new(f.model, &o, &d, &err), SRN_ECANCELLED);
    assert_null(d);
    assert_non_null(strstr(err.text, "interrupted"));
    cancel = 0;
    assert_int_equal(srn_cpu_device_new(f.model, &o, &d, &err), SRN_OK);
    d->ops->free(d);
    close_golden(&f);
}

/* ---- memory ---- */

/* Bytes of the mappings of a file that the process holds. */
static uint64_t resident_bytes(const char *path) {
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    char line[1024];
    bool inside = false;
    uint64_t sum = 0;
    unsigned long long kib;
    while (fgets(line, sizeof line, f)) {
        if (strchr(line, '-') && strchr(line, ':') && strstr(line, path)) inside = true;
        if (sscanf(line, "Rss: %llu kB", &kib) == 1 && inside) {
            sum += kib * 1024;
            inside = false;
        }
    }
    fclose(f);
    return sum;
}

static void the_files_pages_are_given_back(void **state) {
    (void)state;
    fixture f = open_golden("mixtral", small);
    if (((srn_cpu *)f.device)->panels_bytes == 0) skip();
    char path[4096];
    assert_non_null(realpath(srn_weights_path(f.weights), path));
    uint64_t all = srn_weights_file_bytes(f.weights), after = resident_bytes(path), first;
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < srn_weights_count(f.weights); i++) {
        const srn_tensor *t = srn_weights_at(f.weights, i);
        for (uint64_t k = 0; k < t->n_bytes; k += 512)
            sum = (uint8_t)(sum + ((const volatile uint8_t *)t->data)[k]);
    }
    first = resident_bytes(path);
    assert_true(first > all / 2); /* now they are held */
    assert_true(after < all / 2);
    close_golden(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_thread_that_multiplies_a_panel_has_packed_it),
        cmocka_unit_test(progress_ends_at_the_bytes_that_are_held),
        cmocka_unit_test(a_load_can_be_cancelled),
        cmocka_unit_test(the_files_pages_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
