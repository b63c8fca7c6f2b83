/* The ladder of kernel tables: reference first, then each level that the CPU and the operating system can
 * run, up to the caller's limit. Called when a device is opened; any thread. It refuses levels that this
 * machine cannot run; it never reads the environment.
 */
#include "cpu/cpu_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

enum { N_LEVELS = 4 };

/* What a level has over the one below it; NULL where it is the same. */
typedef struct level {
    const char *name;
    void (*matmul)(srn_kernels *k);
    void (*vector)(srn_kernels *k);
    void (*attention)(srn_kernels *k);
} level;

#if defined(__x86_64__)
enum { LEVEL_REF, LEVEL_AVX2, LEVEL_AVX512, LEVEL_AVX512VNNI };
static const level levels[N_LEVELS] = {
    {"ref", srn__kernels_ref_matmul, srn__kernels_ref_vector, srn__kernels_ref_attention},
    {"avx2", srn__kernels_avx2_matmul, srn__kernels_avx2_vector, srn__kernels_avx2_attention},
    {"avx512", srn__kernels_avx512_matmul, srn__kernels_avx512_vector, srn__kernels_avx512_attention},
    {"avx512vnni", srn__kernels_avx512vnni_matmul, NULL, NULL},
};
#elif defined(__aarch64__)
enum { LEVEL_REF, LEVEL_NEON, LEVEL_DOTPROD, LEVEL_I8MM };
static const level levels[N_LEVELS] = {
    {"ref", srn__kernels_ref_matmul, srn__kernels_ref_vector, srn__kernels_ref_attention},
    {"neon", srn__kernels_neon_matmul, srn__kernels_neon_vector, srn__kernels_neon_attention},
    {"dotprod", srn__kernels_dotprod_matmul, NULL, NULL},
    {"i8mm", srn__kernels_i8mm_matmul, NULL, NULL},
};
#else
enum { LEVEL_REF };
static const level levels[N_LEVELS] = {
    {"ref", srn__kernels_ref_matmul, srn__kernels_ref_vector, srn__kernels_ref_attention},
};
#endif

/* The names of the levels up to each level, and those of all architectures. */
#if defined(__aarch64__)
static const char *const names_up_to[N_LEVELS][N_LEVELS + 1] = {
    {"ref"},
    {"ref", "neon"},
    {"ref", "neon", "dotprod"},
    {"ref", "neon", "dotprod", "i8mm"},
};
#else
static const char *const names_up_to[N_LEVELS][N_LEVELS + 1] = {
    {"ref"},
    {"ref", "avx2"},
    {"ref", "avx2", "avx512"},
    {"ref", "avx2", "avx512", "avx512vnni"},
};
#endif
static const char *const all_names[] = {"ref", "avx2", "avx512", "avx512vnni", "neon", "dotprod", "i8mm"};

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
#elif defined(__aarch64__)
/* Bits of the kernel's interface, which headers may not have. */
#define HAS_ASIMDDP 0x100000u /* of AT_HWCAP */
#define HAS_I8MM    0x2000u   /* of AT_HWCAP2 */

static int best_level(void) {
    if (!(getauxval(AT_HWCAP) & HAS_ASIMDDP)) return LEVEL_NEON;
    return getauxval(AT_HWCAP2) & HAS_I8MM ? LEVEL_I8MM : LEVEL_DOTPROD;
}
#else
static int best_level(void) {
    return LEVEL_REF;
}
#endif

static bool is_level(const char *name) {
    for (size_t i = 0; i < SRN_LEN(all_names); i++)
        if (strcmp(all_names[i], name) == 0) return true;
    return false;
}

int srn__kernels_select(const char *limit, srn_kernels *ret, srn_err *err) {
    int best = best_level(), last = best;
    if (limit) {
        if (!is_level(limit))
            return srn_fail(
                err, SRN_EINVAL,
                "unknown CPU level \"%s\": use ref, avx2, avx512 or avx512vnni, or on arm64 neon, "
                "dotprod or i8mm",
                limit);
        for (last = 0; last <= best && strcmp(levels[last].name, limit) != 0;) last++;
        if (last > best)
            return srn_fail(err, SRN_EUNSUP, "this CPU cannot run the level \"%s\": its best is \"%s\"",
                            limit, levels[best].name);
    }
    srn_kernels k = {0};
    for (int i = 0; i <= last; i++) {
        k.name = levels[i].name;
        levels[i].matmul(&k);
        if (levels[i].vector) levels[i].vector(&k);
        if (levels[i].attention) levels[i].attention(&k);
    }
    *ret = k;
    return 0;
}

const char *const *srn__kernels_available(void) {
    return names_up_to[best_level()];
}

const char *srn_cpu_level(const char *limit) {
    srn_kernels k;
    return srn__kernels_select(limit, &k, NULL) ? NULL : k.name;
}
