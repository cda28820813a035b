// SPDX-License-Identifier: Apache-2.0
#include "nx_correlator.h"

void nx_correlator_init(nx_correlator *correlator, uint32_t fibers, uint64_t window_ns)
{
    uint32_t most = fibers < NX_CORRELATOR_FIBERS_MAX ? fibers : NX_CORRELATOR_FIBERS_MAX;

    *correlator = (nx_correlator){.window_ns = window_ns, .fibers = most > 2 ? most : 2};
}

/* Puts the fiber in front, in the place of its former entry or of the oldest. */
static void remember(nx_correlator *correlator, uint64_t fiber, uint64_t now_ns)
{
    uint32_t at = 0;

    while (at < correlator->known && correlator->newest[at].fiber != fiber) {
        at++;
    }
    if (at == correlator->known) {
        if (at < correlator->fibers) {
            correlator->known++;
        } else {
            at--;
        }
    }
    for (; at > 0; at--) {
        correlator->newest[at] = correlator->newest[at - 1];
    }
    correlator->newest[0].fiber = fiber;
    correlator->newest[0].time_ns = now_ns;
}

nx_correlator_result nx_correlator_panic(nx_correlator *correlator, uint64_t fiber, uint64_t now_ns)
{
    remember(correlator, fiber, now_ns);
    /* The list is in order of time: the last one within the window means that all are. */
    uint32_t last = correlator->fibers - 1;
    bool together = correlator->known == correlator->fibers &&
                    now_ns - correlator->newest[last].time_ns <= correlator->window_ns;
    bool continues = together && correlator->ongoing != 0;

    correlator->ongoing = together;
    return continues  ? NX_CORRELATOR_CONTINUES
           : together ? NX_CORRELATOR_ONSET
                      : NX_CORRELATOR_ISOLATED;
}
