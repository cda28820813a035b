// SPDX-License-Identifier: Apache-2.0
#include "nx_trap.h"

#include "nx_feature.h"

/* What the caller sees as STERILISE is three states that lead to different ends. */
enum {
    CONFINE = NX_TRAP_RESTORE + 1, /* sterilise, then quarantine */
    RETIRE,                        /* sterilise, then down */
    STATES,
};

/* Where each state leads, by failure and success. */
static const uint8_t NEXT[STATES][2] = {
    [NX_TRAP_QUARANTINED] = {NX_TRAP_QUARANTINED, NX_TRAP_QUARANTINED},
    [NX_TRAP_DOWN] = {NX_TRAP_DOWN, NX_TRAP_DOWN},
    [NX_TRAP_WARM] = {NX_TRAP_WARM, NX_TRAP_WARM},
    [NX_TRAP_COLD] = {NX_TRAP_COLD, NX_TRAP_COLD},
    [NX_TRAP_LOG] = {NX_TRAP_BREAKER, NX_TRAP_BREAKER},
    [NX_TRAP_BREAKER] = {CONFINE, NX_TRAP_STERILISE},
    [NX_TRAP_STERILISE] = {NX_TRAP_QUARANTINED, NX_TRAP_VERIFY},
    [NX_TRAP_VERIFY] = {NX_TRAP_VERIFY, NX_TRAP_REGRANT},
    [NX_TRAP_REGRANT] = {CONFINE, NX_TRAP_RESTORE},
    [NX_TRAP_RESTORE] = {NX_TRAP_COLD, NX_TRAP_WARM},
    [CONFINE] = {NX_TRAP_QUARANTINED, NX_TRAP_QUARANTINED},
    [RETIRE] = {NX_TRAP_QUARANTINED, NX_TRAP_DOWN},
};

/* Leaves out what the mask has off, and names the step. */
static nx_trap_step enter(nx_trap *trap, unsigned state)
{
    if (state == NX_TRAP_LOG && !nx_feature_on(trap->mask, NX_FEATURE_BEB)) {
        state = NX_TRAP_BREAKER;
    }
    if (state == NX_TRAP_BREAKER && !nx_feature_on(trap->mask, NX_FEATURE_TRAP)) {
        state = RETIRE;
    } else if (state == NX_TRAP_BREAKER && !nx_feature_on(trap->mask, NX_FEATURE_BREAKER)) {
        state = NX_TRAP_STERILISE;
    }
    trap->state = (uint8_t)state;
    return state > NX_TRAP_RESTORE ? NX_TRAP_STERILISE : (nx_trap_step)state;
}

void nx_trap_init(nx_trap *trap)
{
    *trap = (nx_trap){.state = NX_TRAP_COLD};
}

nx_trap_step nx_trap_catch(nx_trap *trap, uint16_t cause, uint8_t features)
{
    trap->mask = features;
    trap->cause = cause;
    trap->steps = 0;
    if (trap->state == NX_TRAP_QUARANTINED || trap->state >= STATES) {
        return enter(trap, NX_TRAP_QUARANTINED);
    }
    return enter(trap, NX_TRAP_LOG);
}

nx_trap_step nx_trap_next(nx_trap *trap, bool succeeded)
{
    unsigned state = trap->state < STATES ? trap->state : NX_TRAP_QUARANTINED;

    trap->steps = (uint16_t)(trap->steps + (state >= NX_TRAP_LOG));
    if (state == NX_TRAP_VERIFY) {
        trap->image_failures = (uint8_t)(succeeded ? 0 : trap->image_failures + 1);
        if (trap->image_failures >= NX_TRAP_IMAGE_TRIES) {
            return enter(trap, NX_TRAP_QUARANTINED);
        }
    }
    return enter(trap, NEXT[state][succeeded]);
}
