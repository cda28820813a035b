// SPDX-License-Identifier: Apache-2.0
/* Many chunks hashed at once while the scan goes on: one lane a chunk. */
#include "nx_cdc_ride.h"

#if defined(__x86_64__)
#define NX_B3_LANES   8
#define NX_B3_NAME(x) ride_##x##_8
#define NX_B3_TARGET  __attribute__((target("avx2" NX_B3_TUNE)))
#define NX_B3_BYTES   1
#include "nx_cdc_ride_lanes.h"

#define NX_B3_LANES   16
#define NX_B3_NAME(x) ride_##x##_16
#define NX_B3_TARGET  __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq" NX_B3_TUNE)))
#define NX_B3_BYTES   0
#include "nx_cdc_ride_lanes.h"
#endif

nx_cdc_ride_kernel *nx_cdc_ride_of(nx_simd level)
{
#if defined(__x86_64__)
    if (level == NX_SIMD_AVX2) {
        return ride_uniform_8;
    }
    if (level == NX_SIMD_AVX512) {
        return ride_uniform_16;
    }
#endif
    (void)level;
    return NULL;
}
