// SPDX-License-Identifier: Apache-2.0
/*
 * Verdicts: what an observer wants done with a fiber, and the rule by which L0 wins.
 * docs/spec/verdict.md is the authority for the 32 bytes and for the rule.
 *
 * Theory of operation. The two observers do not trust each other, so each writes into a ring of
 * its own, and a record is believed to come from the ring's owner alone. The supervisor keeps the
 * newest record of each about each fiber; an action is a pure function of these two, of the
 * time and of the window after which an opinion is forgotten. L1 recommends: it is heard where
 * L0 is silent, and L0's OBSERVE is a veto.
 *
 * No libc, no allocation, no state.
 */
#ifndef NX_VERDICT_H
#define NX_VERDICT_H

#include "nx_base.h"

#define NX_VERDICT_SURE 10000u /* confidence of 100 % */

typedef enum {
    NX_VERDICT_OBSERVE = 1,
    NX_VERDICT_THROTTLE = 2,
    NX_VERDICT_DEMOTE = 3,
    NX_VERDICT_RESTART = 4,
    NX_VERDICT_QUARANTINE = 5,
} nx_verdict_code;

enum { NX_PRODUCER_L0 = 0, NX_PRODUCER_L1 = 1 };

typedef struct nx_verdict {
    uint64_t fiber;
    uint64_t sequence;
    uint64_t time_ns;
    uint8_t code;
    uint8_t producer;
    uint16_t confidence;
    uint16_t reason;
    uint16_t reserved;
} nx_verdict;

NX_STATIC_ASSERT(sizeof(nx_verdict) == 32, "docs/spec/verdict.md");
NX_STATIC_ASSERT(offsetof(nx_verdict, code) == 24, "docs/spec/verdict.md");
NX_STATIC_ASSERT(offsetof(nx_verdict, reason) == 28, "docs/spec/verdict.md");

typedef struct nx_verdict_rule {
    uint64_t window_ns;
    uint16_t confidence_min; /* of L1 */
} nx_verdict_rule;

typedef struct nx_verdict_action {
    uint8_t code;     /* an nx_verdict_code */
    uint8_t producer; /* who decided; L0 when nobody spoke */
    bool decided;     /* somebody spoke */
    bool overruled;   /* L1 wanted something else */
} nx_verdict_action;

/* Whether a record out of the ring of `producer` is one that it may write. */
bool nx_verdict_is_valid(const nx_verdict *verdict, unsigned producer);

/* Takes a record out of the ring of `producer` for the newest one about `newest->fiber`: true when
 * it is valid, about this fiber and newer. A slot that is all 0 but for `fiber` holds nothing. */
bool nx_verdict_take(nx_verdict *newest, const nx_verdict *record, unsigned producer);

/* The action for `fiber`. Either verdict may be NULL or hold nothing; L1's is NULL while the
 * verdict ring is off. */
nx_verdict_action nx_verdict_arbitrate(uint64_t fiber, const nx_verdict *l0, const nx_verdict *l1,
                                       const nx_verdict_rule *rule, uint64_t now_ns);

#endif
