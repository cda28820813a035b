// SPDX-License-Identifier: Apache-2.0
#include "nx_ratchet.h"

uint64_t nx_tier_budget_ns(uint32_t tier)
{
    /* In a word of milliseconds, so that there is no table to relocate or to rot. */
    const uint32_t budgets_ms = 2u << 24 | 10u << 16 | 50u << 8;
    uint64_t budget_ms = budgets_ms >> 8 * (tier & 3) & 0xff;

    return budget_ms == 0 ? NX_BUDGET_NONE : budget_ms * 1000000;
}

static void enter_tier(nx_ratchet *ratchet, uint32_t tier, uint64_t cpu_ns)
{
    *ratchet =
        (nx_ratchet){.from_ns = cpu_ns, .budget_ns = nx_tier_budget_ns(tier), .tier = tier & 3};
}

void nx_ratchet_init(nx_ratchet *ratchet, uint64_t pledge, uint64_t cpu_ns)
{
    enter_tier(ratchet, nx_tier_of(pledge), cpu_ns);
}

/* A clock that went back belongs to another life: nothing was used yet. */
static uint64_t used_ns(const nx_ratchet *ratchet, uint64_t cpu_ns)
{
    return cpu_ns > ratchet->from_ns ? cpu_ns - ratchet->from_ns : 0;
}

nx_ratchet_result nx_ratchet_step(nx_ratchet *ratchet, uint64_t cpu_ns)
{
    /* Nothing exceeds NX_BUDGET_NONE, so void needs no case of its own. */
    if (NX_LIKELY(used_ns(ratchet, cpu_ns) <= ratchet->budget_ns)) {
        return NX_RATCHET_NONE;
    }
    ratchet->from_ns = cpu_ns;
    if (++ratchet->strikes < NX_RATCHET_STRIKES) {
        return NX_RATCHET_STRIKE;
    }
    enter_tier(ratchet, ratchet->tier - 1, cpu_ns);
    return NX_RATCHET_DEMOTE;
}

uint64_t nx_ratchet_left_ns(const nx_ratchet *ratchet, uint64_t cpu_ns)
{
    uint64_t used = used_ns(ratchet, cpu_ns);

    if (ratchet->budget_ns == NX_BUDGET_NONE) {
        return NX_BUDGET_NONE;
    }
    return used < ratchet->budget_ns ? ratchet->budget_ns - used : 0;
}
