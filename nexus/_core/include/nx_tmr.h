// SPDX-License-Identifier: Apache-2.0
/*
 * Triple modular redundancy: three copies of the same bytes, voted bit by bit.
 *
 * A scan only compares, which is cheap enough to repeat often; a vote repairs. Any fault in one
 * copy of a bit is outvoted by the other two; the same bit wrong in two copies is not found, which
 * is why the copies belong in different pages. (Lyons and Vanderkulk, IBM Journal 6(2), 1962.)
 *
 * No libc, no allocation; single writer.
 */
#ifndef NX_TMR_H
#define NX_TMR_H

#include "nx_base.h"
#include "nx_simd.h"

typedef struct nx_tmr_repairs {
    uint64_t bytes[3]; /* how many bytes of each copy were wrong, and are repaired */
} nx_tmr_repairs;

/* Picks the kernel of the scan for this process; scalar until called. */
void nx_tmr_select(nx_simd level);

/* Whether the three copies differ anywhere. */
bool nx_tmr_differs(const uint8_t *a, const uint8_t *b, const uint8_t *c, size_t size);

/* Sets every bit of all three copies to its majority, writing only where a copy is wrong. */
void nx_tmr_vote(uint8_t *a, uint8_t *b, uint8_t *c, size_t size, nx_tmr_repairs *ret);

#endif
