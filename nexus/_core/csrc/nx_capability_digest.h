// SPDX-License-Identifier: Apache-2.0
/* The share of each entry in the digest of a capability table; inside nx_capability*.c only. */
#ifndef NX_CAPABILITY_DIGEST_H
#define NX_CAPABILITY_DIGEST_H

#include "nx_capability.h"

/* Odd constants of no structure (the golden ratio, primes of xxHash) that tell positions apart. */
#define KEY_A    0x9e3779b185ebca87u
#define KEY_B    0xc2b2ae3d27d4eb4fu
#define POSITION 0x9e3779b97f4a7c15u

/*
 * The share of one entry in the digest: the product of its two words, keyed and told apart by
 * position, modulo 2^64 - 1. Flipping bit k of one word changes the product by 2^k times the other,
 * which is 0 only when that other keyed word is 0 or 2^64 - 1; 2^k has an inverse.
 */
NX_INLINE uint64_t entry_digest(uint64_t position, uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ KEY_A) * (b ^ (KEY_B + position * POSITION));
    uint64_t low = (uint64_t)product;
    uint64_t sum = low + (uint64_t)(product >> 64);

    return sum + (sum < low);
}

static inline uint64_t digest_at(const nx_capability_table *table, uint32_t index)
{
    return entry_digest(index, nx_capability_word(table, index), table->hot[index].object);
}

#endif
