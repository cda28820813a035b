// SPDX-License-Identifier: Apache-2.0
#include "nx_verdict.h"

bool nx_verdict_is_valid(const nx_verdict *verdict, unsigned producer)
{
    return verdict->fiber != 0 && verdict->sequence != 0 && verdict->code >= NX_VERDICT_OBSERVE &&
           verdict->code <= NX_VERDICT_QUARANTINE && verdict->producer == producer &&
           verdict->confidence <= NX_VERDICT_SURE && verdict->reserved == 0;
}

bool nx_verdict_take(nx_verdict *newest, const nx_verdict *record, unsigned producer)
{
    if (record->fiber != newest->fiber || record->sequence <= newest->sequence ||
        !nx_verdict_is_valid(record, producer)) {
        return false;
    }
    *newest = *record;
    return true;
}

static bool counts(const nx_verdict *verdict, unsigned producer, uint64_t fiber,
                   const nx_verdict_rule *rule, uint64_t now_ns)
{
    return verdict != NULL && verdict->fiber == fiber && nx_verdict_is_valid(verdict, producer) &&
           now_ns >= verdict->time_ns && now_ns - verdict->time_ns <= rule->window_ns;
}

nx_verdict_action nx_verdict_arbitrate(uint64_t fiber, const nx_verdict *l0, const nx_verdict *l1,
                                       const nx_verdict_rule *rule, uint64_t now_ns)
{
    bool first = counts(l0, NX_PRODUCER_L0, fiber, rule, now_ns);
    bool second =
        counts(l1, NX_PRODUCER_L1, fiber, rule, now_ns) && l1->confidence >= rule->confidence_min;

    if (first) {
        return (nx_verdict_action){
            .code = l0->code,
            .producer = NX_PRODUCER_L0,
            .decided = true,
            .overruled = second && l1->code != l0->code,
        };
    }
    if (second) {
        return (nx_verdict_action){l1->code, NX_PRODUCER_L1, true, false};
    }
    return (nx_verdict_action){.code = NX_VERDICT_OBSERVE};
}
