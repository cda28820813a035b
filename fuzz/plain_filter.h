// SPDX-License-Identifier: Apache-2.0
/* Cell ids in frames, and membership by looking through a list. */
#ifndef NX_FUZZ_PLAIN_FILTER_H
#define NX_FUZZ_PLAIN_FILTER_H

#include "fuzz.h"
#include "nx_filter.h"

#define IDS    256u
#define STRIDE 24u

/* Ids of few bits, so that they repeat, collide and are zero; in frames of STRIDE bytes. */
static inline size_t read_ids(nx_input *in, uint8_t *frames)
{
    size_t count = eat(in, 1) % IDS;

    for (size_t i = 0; i < count; i++) {
        nx_store_u64(frames + i * STRIDE, eat(in, 1) % 64);
        nx_store_u64(frames + i * STRIDE + 8, in->size % 7 == 0 ? eat(in, 1) << 56 : 0);
    }
    return count;
}

static inline bool in_list(const uint8_t *frames, size_t count, const uint8_t *id)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(frames + i * STRIDE, id, NX_CELL_ID_SIZE) == 0) {
            return true;
        }
    }
    return false;
}

#endif
