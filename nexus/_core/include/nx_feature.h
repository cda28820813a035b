// SPDX-License-Identifier: Apache-2.0
/*
 * The feature mask: which mechanisms of fault detection and recovery are on, in three copies.
 *
 * The boot mask is the floor; the runtime mask adds to it. What is on is `boot | runtime`, so that
 * nothing that changes at run time can take away what the manifest demanded. Each survivability
 * level is a strict superset of the one below:
 *
 *     bit  feature                  sovereign 0x07  hardened 0x1f  radiation 0xff
 *     0    restart trap             on              on             on
 *     1    circuit breaker          on              on             on
 *     2    error buffer (BEB)       on              on             on
 *     3    heartbeat of L1                          on             on
 *     4    baseline learning                        on             on
 *     5    capability table audit                                  on
 *     6    panic correlator                                        on
 *     7    verdict ring                                            on
 *
 * Triple redundancy of other state has no bit: it is on when all eight are. The mask itself always
 * has three copies, one word each: boot in bits 0-7, runtime in bits 8-15, the others 0. Every
 * read and every change first votes bit by bit and repairs the loser. The writer may die between
 * any two of the three stores: the vote gives the old mask or the new one. Put the copies in
 * different pages, or at least cache lines.
 *
 * A check on a hot path tests one bit of a mask that the caller cached (nx_feature_on).
 * No libc, no allocation; single writer.
 */
#ifndef NX_FEATURE_H
#define NX_FEATURE_H

#include "nx_base.h"

enum {
    NX_FEATURE_TRAP = 1 << 0,
    NX_FEATURE_BREAKER = 1 << 1,
    NX_FEATURE_BEB = 1 << 2,
    NX_FEATURE_HEARTBEAT = 1 << 3,
    NX_FEATURE_BASELINE = 1 << 4,
    NX_FEATURE_AUDIT = 1 << 5,
    NX_FEATURE_CORRELATOR = 1 << 6,
    NX_FEATURE_VERDICTS = 1 << 7,
};

/* Survivability levels, by the mask each of them means. */
#define NX_FEATURE_SOVEREIGN 0x07u
#define NX_FEATURE_HARDENED  0x1fu
#define NX_FEATURE_RADIATION 0xffu

typedef struct nx_feature {
    uint64_t *copies[3];
} nx_feature;

typedef struct nx_feature_state {
    uint8_t boot;
    uint8_t runtime;
    uint8_t effective;
    uint8_t repaired; /* bit i: copy i was wrong, and is right now */
} nx_feature_state;

/* Writes the three copies: the boot mask, and nothing added to it. */
void nx_feature_init(const nx_feature *feature, uint8_t boot);

/* Votes, repairs and reads. */
nx_feature_state nx_feature_read(const nx_feature *feature);

/* Votes, repairs, and makes `runtime` what is added to the boot mask; the state after it. */
nx_feature_state nx_feature_set(const nx_feature *feature, uint8_t runtime);

NX_INLINE bool nx_feature_on(uint8_t effective, uint8_t feature)
{
    return (effective & feature) != 0;
}

#endif
