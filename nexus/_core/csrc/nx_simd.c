// SPDX-License-Identifier: Apache-2.0
#include "nx_simd.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

#define SSE    (bit_SSE4_1 | bit_SSE4_2 | bit_PCLMUL)
#define AVX512 (bit_AVX512F | bit_AVX512VL | bit_AVX512BW | bit_AVX512DQ)

/* Register files that a kernel keeps for processes, in XCR0. */
#define KEEPS_256 0x6u  /* XMM, YMM */
#define KEEPS_512 0xe6u /* and masks, ZMM, ZMM above 15 */
#endif

static const char *const NAMES[] = {"scalar", "sse41", "avx2", "avx512", "neon"};

const char *nx_simd_name(nx_simd level)
{
    return (size_t)level < NX_ARRAY_COUNT(NAMES) ? NAMES[level] : "?";
}

static bool is_built(nx_simd level)
{
#if defined(__x86_64__)
    return level <= NX_SIMD_AVX512;
#elif defined(__aarch64__)
    return level == NX_SIMD_SCALAR || level == NX_SIMD_NEON;
#else
    return level == NX_SIMD_SCALAR;
#endif
}

static bool cpu_has(nx_simd level)
{
#if defined(__x86_64__)
    /* Not __builtin_cpu_supports, which is 4 KB of a static program. */
    unsigned highest, basic, extended = 0, kept = 0, unused;

    __cpuid(0, highest, unused, unused, unused);
    __cpuid(1, unused, unused, basic, unused);
    if (highest >= 7) {
        __cpuid_count(7, 0, unused, extended, unused, unused);
    }
    if ((basic & bit_OSXSAVE) != 0) {
        __asm__("xgetbv" : "=a"(kept), "=d"(unused) : "c"(0));
    }
    bool sse = (basic & SSE) == SSE;
    bool avx2 = sse && (kept & KEEPS_256) == KEEPS_256 && (extended & bit_AVX2) != 0;

    switch (level) {
    case NX_SIMD_SCALAR:
        return true;
    case NX_SIMD_SSE41:
        return sse;
    case NX_SIMD_AVX2:
        return avx2;
    case NX_SIMD_AVX512:
        return avx2 && (kept & KEEPS_512) == KEEPS_512 && (extended & AVX512) == AVX512;
    case NX_SIMD_NEON:
        return false;
    }
    return false;
#else
    return is_built(level); /* NEON is part of the aarch64 baseline */
#endif
}

nx_simd nx_simd_detect(void)
{
    for (int level = NX_SIMD_NEON; level > NX_SIMD_SCALAR; level--) {
        if (is_built((nx_simd)level) && cpu_has((nx_simd)level)) {
            return (nx_simd)level;
        }
    }
    return NX_SIMD_SCALAR;
}

nx_simd_verdict nx_simd_demand(const char *name, nx_simd *ret)
{
    if (name == NULL) {
        *ret = nx_simd_detect();
        return NX_SIMD_GRANTED;
    }
    for (int level = 0; level < (int)NX_ARRAY_COUNT(NAMES); level++) {
        if (strcmp(name, NAMES[level]) != 0) {
            continue;
        }
        if (!is_built((nx_simd)level)) {
            return NX_SIMD_NOT_BUILT;
        }
        if (!cpu_has((nx_simd)level)) {
            return NX_SIMD_NOT_IN_CPU;
        }
        *ret = (nx_simd)level;
        return NX_SIMD_GRANTED;
    }
    return NX_SIMD_UNKNOWN_NAME;
}
