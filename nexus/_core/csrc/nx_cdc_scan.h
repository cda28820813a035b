// SPDX-License-Identifier: Apache-2.0
/* The one loop of the chunker. */
#ifndef NX_CDC_SCAN_H
#define NX_CDC_SCAN_H

#include "nx_cdc.h"

/* h = 2 h + G[byte]. The empty statement keeps the table entry in a register, so that the chain
 * from byte to byte is one address computation (1 cycle) and not a shift and an addition. */
#define NX_CDC_ROLL(gear, hash, byte)                                                              \
    do {                                                                                           \
        uint64_t entry_ = (gear)[byte];                                                            \
        __asm__("" : "+r"(entry_));                                                                \
        (hash) = ((hash) << 1) + entry_;                                                           \
    } while (0)

#define NX_CDC_TEST(k)                                                                             \
    NX_CDC_ROLL(gear, hash, from[at + (k)]);                                                       \
    if (NX_UNLIKELY((hash & mask) == 0)) {                                                         \
        *ret_hash = hash;                                                                          \
        return at + (k);                                                                           \
    }

/* Rolls over from[0..count) on top of *ret_hash; returns the index of the byte that triggers,
 * with its hash, or `count`. Measured on Zen 3: 1.0 cycle a byte, which is one branch a byte;
 * partial sums over 2, 3 or 4 bytes shorten the chain and change nothing (1.1), branchless
 * tests of 8 bytes cost 1.4, and four streams in a vector 0.9 before what a cut wastes. */
static inline size_t nx_cdc_scan(const uint64_t gear[256], const uint8_t *from, size_t count,
                                 uint64_t mask, uint64_t *ret_hash)
{
    uint64_t hash = *ret_hash;
    size_t at = 0;

    for (; count - at >= 8; at += 8) {
        NX_CDC_TEST(0)
        NX_CDC_TEST(1)
        NX_CDC_TEST(2)
        NX_CDC_TEST(3)
        NX_CDC_TEST(4)
        NX_CDC_TEST(5)
        NX_CDC_TEST(6)
        NX_CDC_TEST(7)
    }
    for (; at < count; at++) {
        NX_CDC_TEST(0)
    }
    *ret_hash = hash;
    return count;
}

static inline size_t nx_cdc_even(size_t x)
{
    return x & ~(size_t)1;
}

/* Goes on with a search over the chunk's next bytes from[0..count), count even. True at a cut,
 * with search->at on the byte that triggers; else all are tested. */
bool nx_cdc_search_on(const nx_cdc *cdc, const uint8_t *from, size_t count, nx_cdc_search *search);

#endif
