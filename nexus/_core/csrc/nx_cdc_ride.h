// SPDX-License-Identifier: Apache-2.0
/*
 * A boundary search that rides on a BLAKE3 kernel: hashing keeps the vector units busy and
 * leaves issue slots free, the search needs scalar slots only. One loop with both costs less
 * than both in turn.
 *
 * Cycles per byte hashed on Zen 3 (gcc 12), on a quiet core / on one shared with other work: 8
 * leaves 0.75 / 0.95, with the search of 0.77 bytes on top 1.16 / 1.97, and that search alone
 * 0.78 / 1.1. On a shared core the ride gains little and must not lose: its loop has to stay
 * small (nx_cdc_ride_avx2.h).
 */
#ifndef NX_CDC_RIDE_H
#define NX_CDC_RIDE_H

#include "nx_blake3_kernels.h"
#include "nx_cdc.h"

/* The compiled kernel: bytes a step, 56 steps in each of the 16 blocks of a leaf. */
#define NX_CDC_RIDE_STEP 3u
#define NX_CDC_RIDE      (NX_CDC_RIDE_STEP * 56u * 16u)
/* The assembled one: 56 bytes a round. With 48 or 64 chunk + BLAKE3 takes as long. */
#define NX_CDC_RIDE_AVX2 (56u * 7u * 16u)

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
