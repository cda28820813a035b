// SPDX-License-Identifier: Apache-2.0
/* Loops over rows of equal size; see nx_ring_rows.h. */
#include "nx_ring_rows.h"

static int put_batch(nx_ring *ring, const uint8_t *rows, uint64_t size, uint64_t count,
                     uint64_t *ret)
{
    nx_ring_batch batch;
    uint8_t *place;
    int code = NX_OK;

    nx_ring_batch_begin(ring, &batch);
    while (batch.count < count) {
        code = nx_ring_batch_add(ring, &batch, size, &place);
        if (code != NX_OK) {
            break;
        }
        __builtin_memcpy(place, rows + (batch.count - 1) * size, size);
    }
    nx_ring_batch_commit(ring, &batch);
    *ret = batch.count;
    return code;
}

static int put_claim(nx_ring *ring, const uint8_t *rows, uint64_t size, uint64_t count)
{
    uint64_t step = nx_ring_occupied(size);
    uint64_t start;
    int code = nx_mpsc_claim(ring, count * step, count, &start);

    if (code != NX_OK) {
        return code;
    }
    for (uint64_t i = 0; i < count; i++) {
        __builtin_memcpy(nx_mpsc_place(ring, start + i * step), rows + i * size, size);
        if (i != 0) {
            nx_mpsc_note(ring, start + i * step, size);
        }
    }
    nx_mpsc_commit(ring, start, step, size);
    return NX_OK;
}

int nx_ring_put_rows(nx_ring *ring, const uint8_t *rows, uint64_t size, uint64_t count,
                     uint64_t *ret)
{
    uint64_t done = 0;
    int code = NX_OK;

    if (size > ring->payload_max) {
        code = NX_ETOOBIG;
    } else if (ring->kind == NX_RING_SPSC) {
        code = put_batch(ring, rows, size, count, &done);
    } else if (count != 0) {
        /* More rows than words in the ring can never fit together. */
        code = count > ring->mask / NX_RING_WORD ? NX_ETOOBIG : put_claim(ring, rows, size, count);
        if (code == NX_OK) {
            done = count;
        } else if (code == NX_EFULL || code == NX_ETOOBIG) {
            for (code = NX_OK; done < count; done++) {
                code = nx_mpsc_put(ring, rows + done * size, size);
                if (code != NX_OK) {
                    break;
                }
            }
        }
    }
    *ret = done;
    return code;
}

uint64_t nx_ring_get_rows(nx_ring *ring, uint8_t *rows, uint64_t size, uint64_t count)
{
    const uint8_t *place;
    uint32_t length;
    uint64_t done = 0;

    while (done < count && nx_ring_peek(ring, &place, &length) == NX_OK && length == size) {
        __builtin_memcpy(rows + done * size, place, size);
        nx_ring_skip(ring, length);
        done++;
    }
    nx_ring_settle(ring);
    return done;
}
