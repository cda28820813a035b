// SPDX-License-Identifier: Apache-2.0
#include "nx_simd.h"

#include <string.h>

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
    __builtin_cpu_init();
    bool sse = __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
               __builtin_cpu_supports("pclmul");
    bool avx2 = sse && __builtin_cpu_supports("avx2");

    switch (level) {
    case NX_SIMD_SCALAR:
        return true;
    case NX_SIMD_SSE41:
        return sse;
    case NX_SIMD_AVX2:
        return avx2;
    case NX_SIMD_AVX512:
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
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
