/* Packing at every SIMD level makes the bytes of the scalar packer: all types, shapes with tails, panels
 * split at random. Nothing outside the panels is written, and no byte after the last row is read. SERIN_SEED
 * repeats a run; the seed is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/cpu_internal.h"
#if defined(__x86_64__)
#include "cpu/simd/layout.h"

#define GUARD 64

static uint64_t rng_state;

static uint64_t rng(void) {
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* `bytes` random bytes that end where memory that cannot be read begins. */
typedef struct fenced {
    uint8_t *map, *data;
    size_t map_bytes;
} fenced;

static fenced fenced_new(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size_t)srn_align_up(bytes, page);
    fenced f = {.map_bytes = room + page};
    f.map = mmap(NULL, f.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.map != MAP_FAILED);
    assert_int_equal(mprotect(f.map + room, page, PROT_NONE), 0);
    f.data = f.map + room - bytes;
    for (size_t i = 0; i < bytes; i++) f.data[i] = (uint8_t)rng();
    return f;
}

static uint8_t *guarded_new(size_t bytes) {
    uint8_t *p = malloc(bytes + 2 * GUARD);
    assert_non_null(p);
    return memset(p, 0xA5, bytes + 2 * GUARD);
}

static void check_shape(const srn_kernels *k, srn_type type, uint32_t rows, uint32_t cols) {
    uint64_t row_bytes;
    assert_true(srn_type_bytes(type, cols, &row_bytes));
    srn_packed w = {.type = type,
                    .form = srn_type_get((uint32_t)type)->form,
                    .rows = rows,
                    .cols = cols,
                    .row_bytes = (size_t)row_bytes,
                    .panel_bytes = k->panel_bytes(type, cols)};
    if (!w.panel_bytes) return;
    fenced raw = fenced_new(rows * w.row_bytes);
    uint32_t n = srn__panel_count(&w), cut = (uint32_t)(rng() % (n + 1));
    size_t bytes = n * w.panel_bytes;
    uint8_t *want = guarded_new(bytes), *got = guarded_new(bytes);
    w.raw = raw.data;
    w.panels = want + GUARD;
    srn__simd_pack(&w, 0, n);
    w.panels = got + GUARD;
    k->pack(&w, cut, n);
    k->pack(&w, 0, cut);
    for (size_t i = 0; i < bytes + 2 * GUARD; i++)
        if (want[i] != got[i])
            fail_msg("%s: %s [%u, %u]: byte %zu of panel %zu is %02x and should be %02x", k->name,
                     srn_type_get((uint32_t)type)->name, rows, cols, (i - GUARD) % w.panel_bytes,
                     (i - GUARD) / w.panel_bytes, got[i], want[i]);
    free(want);
    free(got);
    munmap(raw.map, raw.map_bytes);
}

static void test_every_level_packs_the_bytes_of_the_scalar_packer(void **state) {
    (void)state;
    for (const char *const *name = srn__kernels_available(); *name; name++) {
        srn_kernels k;
        assert_int_equal(srn__kernels_select(*name, &k, NULL), SRN_OK);
        if (strcmp(*name, "ref") == 0) continue; /* reads the file's rows */
        for (uint32_t id = 0; id < 256; id++) {
            const srn_type_info *t = srn_type_get(id);
            if (!t || t->form == SRN_FORM_NONE) continue;
            uint32_t unit = SRN_MAX(t->block_elems, t->form == SRN_FORM_FLOAT ? 1u : SRN_GROUP);
            for (uint32_t blocks = 1; blocks <= (unit == 1 ? 37 : 5); blocks++)
                for (uint32_t i = 0; i < 4; i++)
                    check_shape(&k, (srn_type)id, i == 0 ? 16 : 1 + (uint32_t)(rng() % 70), blocks * unit);
        }
    }
}

int main(void) {
    const char *seed = getenv("SERIN_SEED");
    rng_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)srn_now_us();
    printf("SERIN_SEED=0x%llx\n", (unsigned long long)rng_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_level_packs_the_bytes_of_the_scalar_packer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void) {
    return 0;
}
#endif
