// SPDX-License-Identifier: Apache-2.0
/*
 * The ring with the shortest way from one core to another: equal slots, one producer, one consumer.
 *
 * Theory of operation. Each slot begins with a sequence word, element number plus one, on the same
 * cache line as its payload (8 bytes in slots of 16, 56 bytes in slots of 64): exactly one line
 * travels per element. A sequence word of an earlier round is simply not the expected one, so
 * nothing needs clearing. The tail is stored every eighth of the ring and when it is found empty.
 *
 * Guarantees. An element is seen whole or not at all, also when a peer is killed. Peers that write
 * garbage cause NX_ECORRUPT or garbage elements, never an access outside the `count` slots.
 *
 * Not handled. Roles, sleeping and mapping: see nx_ring_map.h and nx_wake.h. Native code only.
 *
 * Source: slot sequence words after Vyukov's bounded queue (2010), reduced to one producer.
 */
#ifndef NX_RING_SLOT_H
#define NX_RING_SLOT_H

#include "nx_base.h"

#include <stdatomic.h>

#define NX_SLOT_MAGIC         0x0a0d544f4c53584eull /* "NXSLOT\r\n" */
#define NX_BULK_MAGIC         0x0a0d4b4c5542584eull /* "NXBULK\r\n" */
#define NX_SLOT_COUNT_MAX     (1u << 24)
#define NX_SLOT_CONTROL_BYTES 512u

/* Shared control block of slot rings and bulk rings; docs/spec/ring.md. */
typedef struct nx_slot_control {
    uint64_t magic;
    uint32_t count;
    uint32_t element_bytes;
    uint8_t reserved0[112];
    _Atomic uint64_t head;
    uint8_t reserved1[120];
    _Atomic uint64_t position;
    uint8_t reserved2[120];
    _Atomic uint64_t tail;
    uint8_t reserved3[120];
} nx_slot_control;

NX_STATIC_ASSERT(offsetof(nx_slot_control, head) == 128, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_slot_control, position) == 256, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_slot_control, tail) == 384, "docs/spec/ring.md");
NX_STATIC_ASSERT(sizeof(nx_slot_control) == NX_SLOT_CONTROL_BYTES, "docs/spec/ring.md");

/* One side's view, in its own memory; producer and consumer parts on lines of their own. */
typedef struct nx_slot_ring {
    nx_slot_control *control;
    uint8_t *slots;
    uint64_t mask;
    uint32_t slot_bytes;
    NX_ALIGNED(128) uint64_t head;
    uint64_t tail_seen;
    NX_ALIGNED(128) uint64_t position;
    uint64_t published;
} nx_slot_ring;

/* Bytes of memory for a ring of `count` elements. */
NX_INLINE uint64_t nx_slot_bytes(uint32_t count, uint32_t element_bytes)
{
    return NX_SLOT_CONTROL_BYTES + (uint64_t)count * element_bytes;
}

/* Writes the control block into zeroed memory; `slot_bytes` is 16 or 64. */
NX_INLINE int nx_slot_format(nx_slot_control *control, uint32_t count, uint32_t slot_bytes)
{
    if (!nx_is_power_of_two(count) || count < 2 || count > NX_SLOT_COUNT_MAX ||
        (slot_bytes != 16 && slot_bytes != 64)) {
        return NX_EINVAL;
    }
    control->magic = NX_SLOT_MAGIC;
    control->count = count;
    control->element_bytes = slot_bytes;
    return NX_OK;
}

/* The slots that a payload of this size goes into; a constant where the size is one. */
NX_INLINE uint32_t nx_slot_stride(uint32_t payload_bytes)
{
    return payload_bytes <= 8 ? 16 : 64;
}

/* The stride is an argument, not the field, so that no multiplication waits for a load. */
NX_INLINE _Atomic uint64_t *nx_slot_sequence(const nx_slot_ring *ring, uint64_t number,
                                             uint32_t slot_bytes)
{
    return (_Atomic uint64_t *)(void *)(ring->slots + (number & ring->mask) * slot_bytes);
}

/*
 * Opens a ring in `bytes` bytes of shared memory, for either role, where the last owner of the
 * role stopped: NX_ECORRUPT unless the control block describes exactly that.
 */
NX_INLINE int nx_slot_open(nx_slot_control *control, uint64_t bytes, nx_slot_ring *ret)
{
    uint32_t count = *(volatile uint32_t *)&control->count;
    uint32_t slot_bytes = *(volatile uint32_t *)&control->element_bytes;
    uint64_t head = atomic_load_explicit(&control->head, memory_order_acquire);
    uint64_t position = atomic_load_explicit(&control->position, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&control->tail, memory_order_acquire);

    if (control->magic != NX_SLOT_MAGIC || !nx_is_power_of_two(count) || count < 2 ||
        count > NX_SLOT_COUNT_MAX || (slot_bytes != 16 && slot_bytes != 64) ||
        bytes != nx_slot_bytes(count, slot_bytes) || position - tail > count) {
        return NX_ECORRUPT;
    }
    nx_slot_ring ring = {
        .control = control,
        .slots = (uint8_t *)control + NX_SLOT_CONTROL_BYTES,
        .mask = count - 1,
        .slot_bytes = slot_bytes,
        .tail_seen = tail,
        .position = position,
        .published = tail,
    };
    /* The shared head is stored after the element, so a killed producer may have left it behind,
     * even behind the tail; what was pushed since then is still in its slots. */
    for (uint32_t i = 0; i < count; i++) {
        if (atomic_load_explicit(nx_slot_sequence(&ring, head, slot_bytes), memory_order_acquire) !=
            head + 1) {
            break;
        }
        head++;
    }
    if (head - tail > count || head - position > count) {
        return NX_ECORRUPT;
    }
    ring.head = head;
    *ret = ring;
    return NX_OK;
}

/* Looks at the consumer's tail anew. */
NX_INLINE int nx_slot_make_room(nx_slot_ring *ring)
{
    /* Pairs with the release in nx_slot_publish. */
    uint64_t tail = atomic_load_explicit(&ring->control->tail, memory_order_acquire);

    if (ring->head - tail > ring->mask + 1) {
        return NX_ECORRUPT;
    }
    ring->tail_seen = tail;
    return ring->head - tail <= ring->mask ? NX_OK : NX_EFULL;
}

/*
 * Pushes one payload of `payload_bytes`, a constant: 8 in slots of 16, up to 56 in slots of 64.
 * NX_OK, NX_EFULL or NX_ECORRUPT.
 */
NX_INLINE int nx_slot_push(nx_slot_ring *ring, const void *payload, uint32_t payload_bytes)
{
    NX_ASSERT(ring->slot_bytes == nx_slot_stride(payload_bytes) && payload_bytes <= 56);
    if (NX_UNLIKELY(ring->head - ring->tail_seen > ring->mask)) {
        int code = nx_slot_make_room(ring);
        if (code != NX_OK) {
            return code;
        }
    }
    _Atomic uint64_t *sequence = nx_slot_sequence(ring, ring->head, nx_slot_stride(payload_bytes));
    __builtin_memcpy((uint8_t *)(void *)sequence + 8, payload, payload_bytes);
    ring->head++;
    /* Pairs with the acquire in nx_slot_pop. */
    atomic_store_explicit(sequence, ring->head, memory_order_release);
    atomic_store_explicit(&ring->control->head, ring->head, memory_order_release);
    return NX_OK;
}

NX_INLINE void nx_slot_publish(nx_slot_ring *ring)
{
    atomic_store_explicit(&ring->control->tail, ring->position, memory_order_release);
    ring->published = ring->position;
}

/* Pops one payload: NX_OK or NX_EEMPTY. */
NX_INLINE int nx_slot_pop(nx_slot_ring *ring, void *ret, uint32_t payload_bytes)
{
    NX_ASSERT(ring->slot_bytes == nx_slot_stride(payload_bytes) && payload_bytes <= 56);
    _Atomic uint64_t *sequence =
        nx_slot_sequence(ring, ring->position, nx_slot_stride(payload_bytes));

    if (atomic_load_explicit(sequence, memory_order_acquire) != ring->position + 1) {
        if (ring->published != ring->position) {
            nx_slot_publish(ring);
        }
        return NX_EEMPTY;
    }
    __builtin_memcpy(ret, (const uint8_t *)(void *)sequence + 8, payload_bytes);
    ring->position++;
    atomic_store_explicit(&ring->control->position, ring->position, memory_order_release);
    if (ring->position - ring->published > ring->mask / 8) {
        nx_slot_publish(ring);
    }
    return NX_OK;
}

#endif
