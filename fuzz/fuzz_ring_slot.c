// SPDX-License-Identifier: Apache-2.0
/* Slot and bulk rings: queues while everybody is honest, and memory-safe whatever a peer writes. */
#include "ring_either.h"

enum { PEER_WRITES, OPEN_PRODUCER, OPEN_CONSUMER, PUSH, POP, OPS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint32_t count = 2u << eat(&in, 1) % 5;
    bool honest = true, has[2] = {false, false};
    any_ring role[2], opened;

    stride = (const uint32_t[]){16, 64, 24}[eat(&in, 1) % 3];
    uint64_t bytes = nx_slot_bytes(count, stride);
    nx_slot_control *shared = malloc(bytes); /* exact: one byte further is a finding */
    memset(shared, 0, bytes);
    NX_ASSERT((is_bulk() ? nx_bulk_format : nx_slot_format)(shared, count, stride) == NX_OK);
    for (pushed = taken = 0; in.size > 0;) {
        uint64_t op = eat(&in, 1), many = op / OPS % 17;
        op %= OPS;
        if (op == PEER_WRITES) {
            poke(&in, shared, bytes);
            honest = false;
        } else if (op == OPEN_PRODUCER || op == OPEN_CONSUMER) {
            int code = is_bulk() ? nx_bulk_open(shared, bytes, &opened.bulk)
                                 : nx_slot_open(shared, bytes, &opened.slot);
            uint32_t found = is_bulk() ? opened.bulk.element_bytes : opened.slot.slot_bytes;
            NX_ASSERT(!honest || code == NX_OK);
            if (code == NX_OK && found == stride) { /* another one is another program's ring */
                role[op - OPEN_PRODUCER] = opened;
                has[op - OPEN_PRODUCER] = true;
            }
        } else if (op == PUSH && has[0]) {
            int64_t done = push(&role[0], many);
            pushed += is_bulk() ? (uint64_t)(done > 0 ? done : 0) : done == NX_OK;
        } else if (op == POP && has[1]) {
            int64_t done = pop(&role[1], many, honest);
            taken += is_bulk() ? (uint64_t)(done > 0 ? done : 0) : done == NX_OK;
        }
    }
    free(shared);
    return 0;
}
