// SPDX-License-Identifier: Apache-2.0
/*
 * SipHash (Aumasson, Bernstein 2012): a keyed short-input pseudorandom function.
 * 2-4 where an adversary chooses the input and learns results; 1-3 for hash tables,
 * where results stay inside. Running time depends on the length alone.
 */
#ifndef NX_SIPHASH_H
#define NX_SIPHASH_H

#include "nx_base.h"

#define NX_SIPHASH_KEY 16u

uint64_t nx_siphash_24(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size);
uint64_t nx_siphash_13(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size);
void nx_siphash_24_128(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size,
                       uint8_t ret[16]);

#endif
