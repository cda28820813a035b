// SPDX-License-Identifier: Apache-2.0
/* MPSC ring: what producers commit comes out, dead claims as padding; and any bytes of a peer. */
#include "ring_producers.h"

static void consume(nx_ring *ring, const ring_memory *memory, bool heal, bool honest)
{
    const uint8_t *at;
    uint32_t size;
    nx_mpsc_stall stall;
    int code = nx_ring_peek(ring, &at, &size);

    NX_ASSERT(!honest || code == NX_OK || code == NX_EEMPTY);
    if (code == NX_OK) {
        (void)ring_memory_read(memory, at, size);
        nx_ring_release(ring, size);
        got++;
    } else if (heal && nx_mpsc_find_stall(ring, &stall) == NX_OK) {
        NX_ASSERT(stall.slot < (honest ? NX_ARRAY_COUNT(producer) : NX_RING_SLOTS));
        if (stall.slot < NX_ARRAY_COUNT(producer)) {
            producer[stall.slot].joined = false; /* it died: its handle is not used again */
        }
        NX_ASSERT(nx_mpsc_pad(ring, &stall) == NX_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    ring_memory memory = ring_memory_fresh(NX_RING_MPSC);
    nx_ring consumer, opened;
    nx_ring_stats stats;
    bool consumes = false, honest = true;

    memset(producer, 0, sizeof producer);
    for (committed = got = 0; in.size > 0;) {
        uint64_t op = eat(&in, 1), slot = op / OPS % NX_ARRAY_COUNT(producer);
        op %= OPS;
        self = &producer[slot];
        bool opens = (op == JOIN || op == RESUME_CONSUMER) &&
                     ring_memory_open(&memory, NX_RING_MPSC, &opened);
        if (op == PEER_WRITES) {
            poke(&in, memory.header, RING_BYTES);
            honest = false;
        } else if (op == JOIN && opens && !self->joined &&
                   nx_mpsc_is_settled(&opened, (uint32_t)slot)) {
            nx_mpsc_join(&opened, (uint32_t)slot);
            memset(self, 0, sizeof *self);
            self->ring = opened;
            self->joined = true;
        } else if (op == RESUME_CONSUMER && opens && nx_ring_resume_consumer(&opened) == NX_OK) {
            consumer = opened;
            consumes = true;
        } else if (op >= CLAIM && op <= PUT_ROWS && self->joined) {
            produce(op, &in);
        } else if ((op == GET || op == HEAL) && consumes) {
            consume(&consumer, &memory, op == HEAL, honest);
        } else if (op == STATS && consumes) {
            nx_mpsc_read_stats(&consumer, &stats);
            NX_ASSERT(!honest || (stats.records_in == committed && stats.records_out == got));
        }
    }
    return 0;
}
