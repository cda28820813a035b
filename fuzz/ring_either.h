// SPDX-License-Identifier: Apache-2.0
/* A slot ring or a bulk ring, whose n-th element begins with the number n. */
#ifndef NX_FUZZ_RING_EITHER_H
#define NX_FUZZ_RING_EITHER_H

#include "fuzz.h"
#include "nx_ring_bulk.h"

typedef union any_ring {
    nx_slot_ring slot;
    nx_bulk_ring bulk;
} any_ring;

static uint32_t stride;        /* bytes of an element; 24 means a bulk ring */
static uint64_t pushed, taken; /* the n-th element begins with the number n */

static inline bool is_bulk(void)
{
    return stride == 24;
}

static inline int64_t push(any_ring *ring, uint64_t count)
{
    uint64_t elements[16 * 3] = {0};

    if (!is_bulk()) {
        uint64_t payload[7] = {pushed};
        return nx_slot_push(&ring->slot, payload, stride == 16 ? 8 : 56);
    }
    for (uint64_t i = 0; i < count; i++) {
        elements[3 * i] = pushed + i;
    }
    return nx_bulk_push(&ring->bulk, elements, count, stride);
}

static inline int64_t pop(any_ring *ring, uint64_t count, bool honest)
{
    uint64_t elements[16 * 3];

    if (!is_bulk()) {
        int code = nx_slot_pop(&ring->slot, elements, stride == 16 ? 8 : 56);
        NX_ASSERT(!honest || (code == NX_OK ? elements[0] == taken : pushed == taken));
        return code;
    }
    int64_t got = nx_bulk_pop(&ring->bulk, elements, count, stride);
    for (int64_t i = 0; i < got && honest; i++) {
        NX_ASSERT(elements[3 * i] == taken + (uint64_t)i);
    }
    NX_ASSERT(!honest || got == (int64_t)(pushed - taken < count ? pushed - taken : count));
    return got;
}

#endif
