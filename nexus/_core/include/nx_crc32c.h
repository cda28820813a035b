// SPDX-License-Identifier: Apache-2.0
/*
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4), with the
 * usual inversion before and after. Finds accidents, never an adversary.
 *
 * Guarantees: same value on every level and for any split:
 * nx_crc32c(nx_crc32c(0, a), b) is the value of a followed by b.
 */
#ifndef NX_CRC32C_H
#define NX_CRC32C_H

#include "nx_base.h"
#include "nx_simd.h"

/* Chooses the kernel; slicing by eight until called. */
void nx_crc32c_select(nx_simd level);

/* The CRC of what `value` covers followed by `size` bytes at `data`; start with 0. */
uint32_t nx_crc32c(uint32_t value, const void *data, size_t size);

#endif
