// SPDX-License-Identifier: Apache-2.0
/*
 * XXH64 and XXH3-64, written from the public description of the algorithms
 * (Y. Collet, xxHash specification 0.2.0). Not cryptographic: fast checks against
 * accident, never against an adversary.
 *
 * Guarantees: same value on every SIMD level and for any alignment; no allocation.
 * Not handled: streaming, custom secrets, the 128-bit variant.
 */
#ifndef NX_XXHASH_H
#define NX_XXHASH_H

#include "nx_base.h"
#include "nx_simd.h"

#define NX_XXH3_SHORT 240u

/* Chooses the accumulation kernel of inputs above 240 bytes; scalar until called. */
void nx_xxh3_select(nx_simd level);

uint64_t nx_xxh3_64(const void *data, size_t size, uint64_t seed);
/* The same for at most NX_XXH3_SHORT bytes: takes little stack. */
uint64_t nx_xxh3_64_short(const void *data, size_t size, uint64_t seed);
uint64_t nx_xxh64(const void *data, size_t size, uint64_t seed);

#endif
