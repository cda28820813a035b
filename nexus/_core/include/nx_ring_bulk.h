// SPDX-License-Identifier: Apache-2.0
/*
 * The ring with the highest throughput: equal elements without headers, pushed and popped in bulk.
 *
 * Theory of operation. Two shared indices, each written by one side and cached by the other, so an
 * index line travels once per batch or less. Elements are copied with at most two memcpy calls.
 *
 * Guarantees. A batch appears with one store, in order; an element is seen whole or not at all,
 * also when a peer is killed. A popped batch is consumed when `tail` is stored, after the copy.
 * Impossible indices are NX_ECORRUPT; no access falls outside the elements.
 *
 * Not handled. As nx_ring_slot.h, whose control block it shares. Native code only.
 *
 * Source: cached indices after FastForward's successors, MCRingBuffer (Lee et al., 2010).
 */
#ifndef NX_RING_BULK_H
#define NX_RING_BULK_H

#include "nx_ring_slot.h"

#define NX_BULK_ELEMENT_MAX 4096u

typedef struct nx_bulk_ring {
    nx_slot_control *control;
    uint8_t *elements;
    uint64_t mask;
    uint32_t element_bytes;
    NX_ALIGNED(128) uint64_t head;
    uint64_t tail_seen;
    NX_ALIGNED(128) uint64_t tail;
    uint64_t head_seen;
} nx_bulk_ring;

/* Writes the control block into zeroed memory; elements of 8 to NX_BULK_ELEMENT_MAX bytes. */
NX_INLINE int nx_bulk_format(nx_slot_control *control, uint32_t count, uint32_t element_bytes)
{
    if (!nx_is_power_of_two(count) || count < 2 || count > NX_SLOT_COUNT_MAX || element_bytes < 8 ||
        element_bytes > NX_BULK_ELEMENT_MAX) {
        return NX_EINVAL;
    }
    control->magic = NX_BULK_MAGIC;
    control->count = count;
    control->element_bytes = element_bytes;
    return NX_OK;
}

/* Opens a ring in `bytes` bytes of shared memory, for either role: NX_OK or NX_ECORRUPT. */
NX_INLINE int nx_bulk_open(nx_slot_control *control, uint64_t bytes, nx_bulk_ring *ret)
{
    uint32_t count = *(volatile uint32_t *)&control->count;
    uint32_t element_bytes = *(volatile uint32_t *)&control->element_bytes;
    uint64_t tail = atomic_load_explicit(&control->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&control->head, memory_order_acquire);

    if (control->magic != NX_BULK_MAGIC || !nx_is_power_of_two(count) || count < 2 ||
        count > NX_SLOT_COUNT_MAX || element_bytes < 8 || element_bytes > NX_BULK_ELEMENT_MAX ||
        bytes != nx_slot_bytes(count, element_bytes) || head - tail > count) {
        return NX_ECORRUPT;
    }
    *ret = (nx_bulk_ring){
        .control = control,
        .elements = (uint8_t *)control + NX_SLOT_CONTROL_BYTES,
        .mask = count - 1,
        .element_bytes = element_bytes,
        .head = head,
        .tail_seen = tail,
        .tail = tail,
        .head_seen = head,
    };
    return NX_OK;
}

/*
 * Pushes up to `count` elements of `element_bytes` bytes, the ring's own size, best a constant.
 * Returns how many were taken, or NX_ECORRUPT.
 */
NX_INLINE int64_t nx_bulk_push(nx_bulk_ring *ring, const void *elements, uint64_t count,
                               uint32_t element_bytes)
{
    uint64_t capacity = ring->mask + 1;
    uint64_t room = capacity - (ring->head - ring->tail_seen);

    if (room < count) {
        /* Pairs with the release in nx_bulk_pop. */
        ring->tail_seen = atomic_load_explicit(&ring->control->tail, memory_order_acquire);
        if (ring->head - ring->tail_seen > capacity) {
            ring->tail_seen = ring->head - capacity;
            return NX_ECORRUPT;
        }
        room = capacity - (ring->head - ring->tail_seen);
        count = room < count ? room : count;
    }
    uint64_t at = ring->head & ring->mask;
    uint64_t first = capacity - at < count ? capacity - at : count;
    __builtin_memcpy(ring->elements + at * element_bytes, elements, first * element_bytes);
    if (NX_UNLIKELY(first < count)) {
        __builtin_memcpy(ring->elements, (const uint8_t *)elements + first * element_bytes,
                         (count - first) * element_bytes);
    }
    ring->head += count;
    atomic_store_explicit(&ring->control->head, ring->head, memory_order_release);
    return (int64_t)count;
}

/* Pops up to `count` elements; returns how many, or NX_ECORRUPT. */
NX_INLINE int64_t nx_bulk_pop(nx_bulk_ring *ring, void *ret, uint64_t count, uint32_t element_bytes)
{
    uint64_t capacity = ring->mask + 1;
    uint64_t waiting = ring->head_seen - ring->tail;

    if (waiting < count) {
        /* Pairs with the release in nx_bulk_push. */
        ring->head_seen = atomic_load_explicit(&ring->control->head, memory_order_acquire);
        waiting = ring->head_seen - ring->tail;
        if (waiting > capacity) {
            ring->head_seen = ring->tail;
            return NX_ECORRUPT;
        }
        count = waiting < count ? waiting : count;
    }
    uint64_t at = ring->tail & ring->mask;
    uint64_t first = capacity - at < count ? capacity - at : count;
    __builtin_memcpy(ret, ring->elements + at * element_bytes, first * element_bytes);
    if (NX_UNLIKELY(first < count)) {
        __builtin_memcpy((uint8_t *)ret + first * element_bytes, ring->elements,
                         (count - first) * element_bytes);
    }
    ring->tail += count;
    atomic_store_explicit(&ring->control->tail, ring->tail, memory_order_release);
    return (int64_t)count;
}

#endif
