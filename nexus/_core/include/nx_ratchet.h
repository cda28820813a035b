// SPDX-License-Identifier: Apache-2.0
/*
 * The ratchet: a fiber that overruns its budget three times falls one tier, and is never killed.
 *
 * A tier is a time budget and a priority. Its number lies in bits 63:62 of the pledge mask, where
 * all ones, the default mask, mean the fastest tier. Narrowing two masks keeps the promises both
 * have and the lower tier: a plain AND of the tiers 2 and 1 would give 0.
 *
 *     tier     number  budget    a burst longer than that is
 *     photon   3       2 ms      a strike; the third makes it matter
 *     matter   2       10 ms     a strike; the third makes it gravity
 *     gravity  1       50 ms     a strike; the third makes it void
 *     void     0       none      never an overrun: nothing below it, and no killing
 *
 * A burst is the CPU time since the fiber last yielded, or since its last strike: one that never
 * yields is struck once a budget. One look at the clock gives at most one strike, however late it
 * comes, because a late look is the observer's fault. Strikes do not decay; a demotion begins a
 * new count; the tier comes back only with a new life, by nx_ratchet_init from the manifest.
 *
 * Times are CPU times of the fiber, from the caller. No libc, no allocation; single owner.
 */
#ifndef NX_RATCHET_H
#define NX_RATCHET_H

#include "nx_base.h"

#define NX_TIER_VOID    0u
#define NX_TIER_GRAVITY 1u
#define NX_TIER_MATTER  2u
#define NX_TIER_PHOTON  3u
#define NX_TIER_SHIFT   62u
#define NX_TIER_MASK    ((uint64_t)3 << NX_TIER_SHIFT)

#define NX_RATCHET_STRIKES 3u
#define NX_BUDGET_NONE     UINT64_MAX

typedef enum {
    NX_RATCHET_NONE = 0,
    NX_RATCHET_STRIKE = 1,
    NX_RATCHET_DEMOTE = 2, /* a strike too: the third */
} nx_ratchet_result;

typedef struct nx_ratchet {
    uint64_t from_ns;   /* CPU time at which the burst began */
    uint64_t budget_ns; /* of the tier */
    uint32_t tier;
    uint32_t strikes; /* in this tier, 0 to 2 */
} nx_ratchet;

/* The budget of a tier, NX_BUDGET_NONE for void; of the two low bits of anything else. */
uint64_t nx_tier_budget_ns(uint32_t tier);

NX_INLINE uint32_t nx_tier_of(uint64_t pledge)
{
    return (uint32_t)(pledge >> NX_TIER_SHIFT);
}

/* What a fiber with the mask `held` has after it pledged `asked`: never more of anything. */
NX_INLINE uint64_t nx_tier_narrow(uint64_t held, uint64_t asked)
{
    uint64_t lower = (held < asked ? held : asked) & NX_TIER_MASK;

    return (held & asked & ~NX_TIER_MASK) | lower;
}

/* A new life in the tier of the manifest's pledge mask, at the fiber's CPU time `cpu_ns`. */
void nx_ratchet_init(nx_ratchet *ratchet, uint64_t pledge, uint64_t cpu_ns);

/* The fiber yielded: it blocked, slept or said so. */
NX_INLINE void nx_ratchet_yield(nx_ratchet *ratchet, uint64_t cpu_ns)
{
    ratchet->from_ns = cpu_ns;
}

/* Looks at the fiber's CPU time; more than the budget since the burst began is a strike. */
nx_ratchet_result nx_ratchet_step(nx_ratchet *ratchet, uint64_t cpu_ns);

/* CPU time that the running burst may still use; NX_BUDGET_NONE: arm no timer. */
uint64_t nx_ratchet_left_ns(const nx_ratchet *ratchet, uint64_t cpu_ns);

#endif
