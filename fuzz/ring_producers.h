// SPDX-License-Identifier: Apache-2.0
/* Three producers of an MPSC ring, each with at most one claim in flight. */
#ifndef NX_FUZZ_RING_PRODUCERS_H
#define NX_FUZZ_RING_PRODUCERS_H

#include "ring_memory.h"

enum { PEER_WRITES, JOIN, RESUME_CONSUMER, CLAIM, FINISH, PUT_ROWS, GET, HEAL, STATS, OPS };

static struct {
    nx_ring ring;
    uint64_t position, bytes; /* of the claim in flight; 0 bytes is none */
    bool joined;
} producer[3], *self;
static uint64_t committed, got; /* records */

/* A claim is committed whole or in part, or given up. */
static inline void produce(uint64_t op, nx_input *in)
{
    static const uint8_t rows[255 * 31];
    uint64_t bytes = 8 + eat(in, 2) % (NX_PAGE_SIZE_MIN + 8) / 8 * 8, done = 0;

    if (op == CLAIM && self->bytes == 0) {
        int code = nx_mpsc_claim(&self->ring, bytes, 1, &self->position);
        self->bytes = code == NX_OK ? bytes : 0;
    } else if (op == PUT_ROWS && self->bytes == 0) {
        (void)nx_ring_put_rows(&self->ring, rows, bytes % 256, bytes / 256 % 32, &done);
        committed += done;
    } else if (op == FINISH && self->bytes != 0) {
        uint64_t used = bytes <= self->bytes ? bytes - NX_RING_WORD : 0;
        memset(nx_mpsc_place(&self->ring, self->position), 7, used);
        if (used % 3 == 2) {
            nx_mpsc_abort(&self->ring, self->position, self->bytes);
        } else {
            nx_mpsc_commit(&self->ring, self->position, self->bytes, used);
            committed++;
        }
        self->bytes = 0;
    }
}

#endif
