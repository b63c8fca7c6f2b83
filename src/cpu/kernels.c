/* The ladder of kernel tables: reference first, then each level that the CPU and the operating system can
 * run, up to the caller's limit. Called when a device is opened; any thread. It refuses levels that this
 * machine cannot run; it never reads the environment.
 */
#include "cpu/cpu_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { LEVEL_REF, LEVEL_AVX2, LEVEL_AVX512, LEVEL_AVX512VNNI, N_LEVELS };

static const struct {
    const char *name;
    void (*fill)(srn_kernels *k);
} levels[N_LEVELS] = {
    [LEVEL_REF] = {"ref", srn__kernels_ref},
#if defined(__x86_64__)
    [LEVEL_AVX2] = {"avx2", srn__kernels_avx2},
    [LEVEL_AVX512] = {"avx512", srn__kernels_avx512},
    [LEVEL_AVX512VNNI] = {"avx512vnni", srn__kernels_avx512vnni},
#endif
};

/* The names of the levels up to each level. */
static const char *const names_up_to[N_LEVELS][N_LEVELS + 1] = {
    {"ref"},
    {"ref", "avx2"},
    {"ref", "avx2", "avx512"},
    {"ref", "avx2", "avx512", "avx512vnni"},
};

#if defined(__x86_64__)
/* Register states that the operating system saves (XCR0): SSE and AVX; opmask and the upper ZMM parts. */
#define XCR0_AVX    0x06u
#define XCR0_AVX512 0xe6u

static uint32_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* The highest level that CPU and operating system support. Every level includes those below it. */
static int best_level(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return LEVEL_REF;
    uint32_t need1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if ((c & need1) != need1) return LEVEL_REF;
    uint32_t xcr0 = read_xcr0();
    if ((xcr0 & XCR0_AVX) != XCR0_AVX || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return LEVEL_REF;
    if (!(b & bit_AVX2)) return LEVEL_REF;
    uint32_t need512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((b & need512) != need512 || (xcr0 & XCR0_AVX512) != XCR0_AVX512) return LEVEL_AVX2;
    return c & bit_AVX512VNNI ? LEVEL_AVX512VNNI : LEVEL_AVX512;
}
#else
static int best_level(void) {
    return LEVEL_REF;
}
#endif

int srn__kernels_select(const char *limit, srn_kernels *ret, srn_err *err) {
    int best = best_level(), last = best;
    if (limit) {
        for (last = 0; last < N_LEVELS && strcmp(names_up_to[N_LEVELS - 1][last], limit) != 0;) last++;
        if (last == N_LEVELS)
            return srn_fail(err, SRN_EINVAL, "unknown CPU level \"%s\": use ref, avx2, avx512 or avx512vnni",
                            limit);
        if (last > best)
            return srn_fail(err, SRN_EUNSUP, "this CPU cannot run the level \"%s\": its best is \"%s\"",
                            limit, names_up_to[best][best]);
    }
    srn_kernels k = {0};
    for (int i = 0; i <= last; i++)
        if (levels[i].fill) levels[i].fill(&k);
    *ret = k;
    return 0;
}

const char *const *srn__kernels_available(void) {
    return names_up_to[best_level()];
}
