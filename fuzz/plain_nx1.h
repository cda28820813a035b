// SPDX-License-Identifier: Apache-2.0
/* Profile nx1 straight from docs/spec/chunker.md: one place, and all of its window. */
#ifndef NX_FUZZ_PLAIN_NX1_H
#define NX_FUZZ_PLAIN_NX1_H

#include "nx_cdc.h"

static inline uint8_t nx1_t(const nx_cdc *cdc, const uint8_t *byte)
{
    return cdc->low[*byte % 16] ^ cdc->high[*byte / 16];
}

static inline uint8_t nx1_u(const nx_cdc *cdc, const uint8_t *byte)
{
    return (uint8_t)(nx1_t(cdc, byte) + 2 * nx1_t(cdc, byte - 1));
}

static inline uint8_t nx1_w(const nx_cdc *cdc, const uint8_t *byte)
{
    return (uint8_t)(nx1_u(cdc, byte) - nx1_u(cdc, byte - 2));
}

static inline uint8_t nx1_x(const nx_cdc *cdc, const uint8_t *byte)
{
    return nx1_w(cdc, byte) ^ nx1_w(cdc, byte - 4);
}

/* Whether a chunk of `length` bytes may end before `end`. */
static inline bool nx1_ends(const nx_cdc *cdc, const uint8_t *end, size_t length)
{
    uint8_t x = nx1_x(cdc, end - 1);
    uint8_t x8 = nx1_x(cdc, end - 9);
    uint8_t x16 = nx1_x(cdc, end - 17);
    uint8_t x24 = nx1_x(cdc, end - 25);
    uint8_t h = (uint8_t)(x + 2 * x16) ^ x8;
    uint8_t g = (uint8_t)(x8 + 2 * x24) ^ x16;
    uint64_t late = 0;
    uint64_t early = 0;

    for (unsigned i = 0; i < 8; i++) {
        late |= (uint64_t)end[(int)i - 8] << 8 * i;
        early |= (uint64_t)end[(int)i - 16] << 8 * i;
    }
    uint64_t mixed = (late ^ early * UINT64_C(0xc2b2ae3d27d4eb4f)) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xc2b2ae3d27d4eb4f) >> 32;
    return ((h ^ 0x5b) & cdc->mask_h) == 0 && ((g ^ 0x21) & cdc->mask_g) == 0 &&
           (mixed & (length < cdc->average ? cdc->strict : cdc->loose)) == 0;
}

static inline size_t nx1_cut(const nx_cdc *cdc, const uint8_t *chunk, size_t size)
{
    size_t limit = size < cdc->maximum ? size : cdc->maximum;

    for (size_t i = cdc->minimum; i < limit; i++) {
        if (nx1_ends(cdc, chunk + i, i)) {
            return i;
        }
    }
    return limit;
}

#endif
