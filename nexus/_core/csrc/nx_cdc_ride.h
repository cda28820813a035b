// SPDX-License-Identifier: Apache-2.0
/*
 * A boundary search that rides on a BLAKE3 kernel: hashing keeps the vector units busy and
 * leaves about half of the issue slots free, the search needs scalar slots only. One loop with
 * both costs little more than the hashing alone.
 */
#ifndef NX_CDC_RIDE_H
#define NX_CDC_RIDE_H

#include "nx_blake3_kernels.h"
#include "nx_cdc.h"

/* Bytes a step; 56 steps in each of the 16 blocks of a leaf. With 3 the loop still fits half of
 * the cache of decoded instructions, which is what a core shared by two threads leaves. Per 8
 * leaves on Zen 3 (gcc 12, 6,380 cycles without a ride) the search of 2,688 / 3,584 / 4,480 bytes
 * costs 300 / 940 / 4,100 cycles more; alone it costs 1 cycle a byte. */
#define NX_CDC_RIDE_STEP 3u
#define NX_CDC_RIDE      (NX_CDC_RIDE_STEP * 56u * 16u)
#define NX_CDC_RIDE_AVX2 (56u * 7u * 16u) /* 56 bytes a round */

typedef struct {
    const uint64_t *gear;
    const uint8_t *from; /* as many bytes are read as nx_cdc_ride_of tells */
    uint64_t hash;
    uint64_t mask;
    const uint8_t *hit; /* the first byte that triggers, or NULL */
} nx_cdc_ride;

/* Hashes a uniform batch and searches; `hash` is that of the hit, or of the last byte. */
typedef void nx_cdc_ride_kernel(const nx_blake3_batch *batch, const nx_blake3_mode *mode,
                                uint8_t *ret, nx_cdc_ride *ride);

/* The kernel and the bytes it searches; NULL where no wide kernel is, or riding does not pay. */
nx_cdc_ride_kernel *nx_cdc_ride_of(nx_simd level, size_t *ret_bytes);

#endif
