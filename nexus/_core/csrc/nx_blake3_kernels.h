// SPDX-License-Identifier: Apache-2.0
/* Between nx_blake3.c (the tree) and nx_blake3_simd.c (the kernels). */
#ifndef NX_BLAKE3_KERNELS_H
#define NX_BLAKE3_KERNELS_H

#include "nx_blake3.h"

/* Hashes every lane of the batch. `uniform` promises size 1,024 and flags_end 0 in all. */
typedef void nx_blake3_leaves_kernel(const nx_blake3_batch *batch, const nx_blake3_mode *mode,
                                     bool uniform, uint8_t *ret);
/* Joins 2 * lanes adjacent chaining values into `lanes`; ret may be cvs. */
typedef void nx_blake3_parents_kernel(const uint8_t *cvs, const nx_blake3_mode *mode, uint8_t *ret);
/* One block into one chaining value. */
typedef void nx_blake3_compress_kernel(uint32_t cv[8], const uint8_t *block, uint32_t size,
                                       uint64_t counter, uint32_t flags);

/* Kernels of falling width; width 0 ends the list. */
typedef struct {
    unsigned lanes;
    nx_blake3_leaves_kernel *leaves;
    nx_blake3_parents_kernel *parents;
} nx_blake3_wide;

typedef struct {
    nx_blake3_compress_kernel *compress;
    nx_blake3_wide wide[4];
} nx_blake3_kernels;

/* The initial value, also that of SHA-256: square roots of the first primes. */
static const uint32_t nx_blake3_iv[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

/* All 16 words of a compression, for extended output. */
void nx_blake3_compress_full(const uint32_t cv[8], const uint8_t *block, uint32_t size,
                             uint64_t counter, uint32_t flags, uint32_t ret[16]);

nx_blake3_compress_kernel nx_blake3_compress_scalar;
const nx_blake3_kernels *nx_blake3_kernels_of(nx_simd level);

#endif
