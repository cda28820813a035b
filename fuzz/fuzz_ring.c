// SPDX-License-Identifier: Apache-2.0
/* SPSC ring: a queue while everybody is honest, and memory-safe whatever a peer writes into it. */
#include "ring_memory.h"

/* Sizes of the records put; record n is filled with the byte n. Void once a peer has lied. */
static struct {
    uint32_t size[NX_PAGE_SIZE_MIN], in, out;
    bool honest;
} model;

enum { PEER_WRITES, RESUME_PRODUCER, RESUME_CONSUMER, PUT_ROWS, GET, GET_ROWS, STATS, OPS };

static void put_rows(nx_ring *ring, nx_input *in)
{
    static uint8_t rows[2 * NX_PAGE_SIZE_MIN];
    uint64_t size = eat(in, 2) % (NX_PAGE_SIZE_MIN + 16), done = 0;
    uint64_t count = size > 256 ? 1 : eat(in, 1) % 31;

    for (uint64_t i = 0; i < count; i++) {
        memset(rows + i * size, (uint8_t)(model.in + i), size);
    }
    int code = nx_ring_put_rows(ring, rows, size, count, &done);
    NX_ASSERT((code == NX_OK) == (done == count) && (code != NX_ECORRUPT || !model.honest));
    for (; done > 0; done--) {
        model.size[model.in++ % NX_ARRAY_COUNT(model.size)] = (uint32_t)size;
    }
}

static void get(nx_ring *ring, const ring_memory *memory, bool rows)
{
    static uint8_t copy[8 * NX_PAGE_SIZE_MIN];
    const uint8_t *at;
    uint32_t size;
    int code = nx_ring_peek(ring, &at, &size);

    NX_ASSERT(!model.honest || code == (model.in == model.out ? NX_EEMPTY : NX_OK));
    uint64_t sum = code == NX_OK ? ring_memory_read(memory, at, size) : 0;
    NX_ASSERT(!model.honest || code != NX_OK ||
              (size == model.size[model.out % NX_ARRAY_COUNT(model.size)] &&
               sum == (uint64_t)size * (uint8_t)model.out));
    if (code == NX_OK && rows) {
        model.out += (uint32_t)nx_ring_get_rows(ring, copy, size, 8);
    } else if (code == NX_OK) {
        nx_ring_release(ring, size);
        model.out++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    ring_memory memory = ring_memory_fresh(NX_RING_SPSC);
    nx_ring opened, role[2]; /* the newest producer and the newest consumer */
    bool has[2] = {false, false};
    nx_ring_stats stats;

    memset(&model, 0, sizeof model);
    for (model.honest = true; in.size > 0;) {
        uint64_t op = eat(&in, 1) % OPS;
        if (op == PEER_WRITES) {
            poke(&in, memory.header, RING_BYTES);
            model.honest = false;
        } else if ((op == RESUME_PRODUCER || op == RESUME_CONSUMER) &&
                   ring_memory_open(&memory, NX_RING_SPSC, &opened)) {
            int code = op == RESUME_PRODUCER ? nx_ring_resume_producer(&opened)
                                             : nx_ring_resume_consumer(&opened);
            NX_ASSERT(code == NX_OK || (code == NX_ECORRUPT && !model.honest));
            has[op - RESUME_PRODUCER] |= code == NX_OK;
            role[op - RESUME_PRODUCER] = code == NX_OK ? opened : role[op - RESUME_PRODUCER];
        } else if (op == PUT_ROWS && has[0]) {
            put_rows(&role[0], &in);
        } else if ((op == GET || op == GET_ROWS) && has[1]) {
            get(&role[1], &memory, op == GET_ROWS);
        } else if (op == STATS && (has[0] || has[1])) {
            nx_ring_read_stats(has[0] ? &role[0] : &role[1], &stats);
            NX_ASSERT(!model.honest || stats.waiting == model.in - model.out);
        }
    }
    return 0;
}
