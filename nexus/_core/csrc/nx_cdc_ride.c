// SPDX-License-Identifier: Apache-2.0
/* Many chunks hashed at once while the scan goes on: one lane a chunk. */
#include "nx_cdc_ride.h"

#if defined(__x86_64__)
#include "nx_cdc_ride_avx2.h"

#define NX_B3_LANES   16
#define NX_B3_NAME(x) ride_##x##_16
#define NX_B3_TARGET  __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#define NX_B3_BYTES   0
#include "nx_cdc_ride_lanes.h"
#endif

nx_cdc_ride_kernel *nx_cdc_ride_of(nx_simd level, size_t *ret_bytes)
{
#if defined(__x86_64__)
    if (level == NX_SIMD_AVX2) {
        *ret_bytes = NX_CDC_RIDE_AVX2;
        return ride_uniform_8;
    }
    if (level == NX_SIMD_AVX512) {
        *ret_bytes = NX_CDC_RIDE;
        return ride_uniform_16;
    }
#endif
    (void)level;
    *ret_bytes = 0;
    return NULL;
}
