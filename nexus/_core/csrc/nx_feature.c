// SPDX-License-Identifier: Apache-2.0
#include "nx_feature.h"

#include "nx_tmr.h"

/* tests/native/test_feature.c stops a change between its stores. */
#ifndef NX_FEATURE_STORE
#define NX_FEATURE_STORE(target, value) (*(volatile uint64_t *)(target) = (value))
#endif

static void store(const nx_feature *feature, uint64_t word)
{
    for (unsigned i = 0; i < 3; i++) {
        NX_FEATURE_STORE(feature->copies[i], word);
    }
}

void nx_feature_init(const nx_feature *feature, uint8_t boot)
{
    store(feature, boot);
}

nx_feature_state nx_feature_read(const nx_feature *feature)
{
    nx_tmr_repairs repairs;
    unsigned repaired = 0;

    nx_tmr_vote((uint8_t *)feature->copies[0], (uint8_t *)feature->copies[1],
                (uint8_t *)feature->copies[2], sizeof(uint64_t), &repairs);
    for (unsigned i = 0; i < 3; i++) {
        repaired |= (unsigned)(repairs.bytes[i] != 0) << i;
    }
    uint64_t word = *feature->copies[0];
    return (nx_feature_state){
        .boot = (uint8_t)word,
        .runtime = (uint8_t)(word >> 8),
        .effective = (uint8_t)(word | word >> 8),
        .repaired = (uint8_t)repaired,
    };
}

nx_feature_state nx_feature_set(const nx_feature *feature, uint8_t runtime)
{
    nx_feature_state state = nx_feature_read(feature);

    store(feature, (uint64_t)runtime << 8 | state.boot);
    state.runtime = runtime;
    state.effective = state.boot | runtime;
    return state;
}
