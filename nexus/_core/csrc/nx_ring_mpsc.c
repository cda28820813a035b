// SPDX-License-Identifier: Apache-2.0
/* Claims of many producers, and what becomes of the claims of the dead. */
#include "nx_ring_mpsc.h"

#define SLOT_BITS 8u
#define SLOT_MASK 0xffu

uint64_t nx_mpsc_position(uint64_t claim)
{
    return claim >> SLOT_BITS << 3;
}

static uint64_t claim_word(uint64_t position, uint32_t slot)
{
    return position << (SLOT_BITS - 3) | slot;
}

static nx_ring_slot_line *own_slot(const nx_ring *ring)
{
    return &ring->header->slots[ring->slot];
}

/* Whether the claim of `slot` that ends at `end` moved the head; docs/spec/ring.md, in this order.
 */
static bool has_won(const nx_ring *ring, uint32_t slot, uint64_t end)
{
    const nx_ring_header *header = ring->header;
    /* Pairs with the release of the claim that came after: its confirmation is visible. */
    uint64_t claim = atomic_load_explicit(&header->head, memory_order_acquire);

    return claim == claim_word(end, slot) ||
           atomic_load_explicit(&header->slots[slot].confirmed, memory_order_acquire) == end;
}

bool nx_mpsc_is_settled(const nx_ring *ring, uint32_t slot)
{
    const nx_ring_header *header = ring->header;
    const nx_ring_slot_line *line = &header->slots[slot];
    uint64_t bytes = atomic_load_explicit(&line->intent_bytes, memory_order_acquire);
    uint64_t position = atomic_load_explicit(&line->intent_position, memory_order_acquire);

    if (bytes == 0 || !has_won(ring, slot, position + bytes)) {
        return true;
    }
    /* The word first: once it is consumed and cleared, the position is beyond. */
    return atomic_load_explicit(nx_ring_word_at(ring, position & ~7ull), memory_order_acquire) !=
               0 ||
           atomic_load_explicit(&header->position, memory_order_acquire) > position;
}

/* Records of a slot; a claim that was committed counts even if its producer died right then. */
static uint64_t count_records(const nx_ring *ring, uint32_t slot)
{
    const nx_ring_slot_line *line = &ring->header->slots[slot];
    uint64_t bytes = atomic_load_explicit(&line->intent_bytes, memory_order_acquire);
    uint64_t position = atomic_load_explicit(&line->intent_position, memory_order_relaxed);
    bool committed =
        bytes != 0 && has_won(ring, slot, position + bytes) && nx_mpsc_is_settled(ring, slot);

    return atomic_load_explicit(committed ? &line->intent_records : &line->records,
                                memory_order_relaxed);
}

void nx_mpsc_read_stats(const nx_ring *ring, nx_ring_stats *ret)
{
    const nx_ring_header *header = ring->header;
    nx_ring_stats stats = {0};
    uint64_t position = atomic_load_explicit(&header->position, memory_order_relaxed);

    stats.records_out = atomic_load_explicit(&header->records_out, memory_order_relaxed);
    stats.losses = atomic_load_explicit(&header->losses, memory_order_relaxed);
    stats.high_water = atomic_load_explicit(&header->high_water, memory_order_relaxed);
    stats.wakes_lost = atomic_load_explicit(&header->wakes_lost, memory_order_relaxed);
    for (uint32_t i = 0; i < NX_RING_SLOTS; i++) {
        stats.records_in += count_records(ring, i);
        stats.drops += atomic_load_explicit(&header->slots[i].drops, memory_order_relaxed);
    }
    uint64_t head = nx_mpsc_position(atomic_load_explicit(&header->head, memory_order_relaxed));
    nx_ring_finish_stats(ring, head, position, &stats);
    *ret = stats;
}

void nx_mpsc_join(nx_ring *ring, uint32_t slot)
{
    nx_ring_slot_line *line = &ring->header->slots[slot];

    ring->slot = slot;
    ring->records_in = count_records(ring, slot);
    atomic_store_explicit(&line->records, ring->records_in, memory_order_release);
    atomic_store_explicit(&line->intent_bytes, 0, memory_order_release);
    ring->drops = atomic_load_explicit(&line->drops, memory_order_relaxed);
    ring->tail_seen = atomic_load_explicit(&ring->header->tail, memory_order_acquire);
    ring->high_water_next = atomic_load_explicit(&ring->header->high_water, memory_order_relaxed) +
                            nx_ring_capacity(ring) / 64;
}

/* Raises `confirmed` of a slot to `end`; it never falls, so a late helper does no harm. */
static void confirm(nx_ring *ring, uint32_t slot, uint64_t end)
{
    _Atomic uint64_t *confirmed = &ring->header->slots[slot].confirmed;
    uint64_t seen = atomic_load_explicit(confirmed, memory_order_relaxed);

    while (seen < end && !atomic_compare_exchange_weak_explicit(
                             confirmed, &seen, end, memory_order_release, memory_order_relaxed)) {
    }
}

/* NX_OK, or NX_EBUSY when the claim word moved and everything must be looked at again. */
static int find_room(nx_ring *ring, uint64_t claim, uint64_t end)
{
    int code = nx_ring_make_room(ring, end);

    if (code != NX_OK && atomic_load_explicit(&ring->header->head, memory_order_acquire) != claim) {
        return NX_EBUSY;
    }
    return code;
}

int nx_mpsc_claim(nx_ring *ring, uint64_t bytes, uint64_t count, uint64_t *ret_position)
{
    nx_ring_slot_line *own = own_slot(ring);
    _Atomic uint64_t *head = &ring->header->head;
    uint64_t claim = atomic_load_explicit(head, memory_order_acquire);

    if (bytes > nx_ring_capacity(ring) - NX_RING_WORD) {
        return NX_ETOOBIG;
    }
    atomic_store_explicit(&own->intent_bytes, 0, memory_order_release);
    atomic_store_explicit(&own->intent_records, ring->records_in + count, memory_order_release);
    for (;;) {
        uint64_t position = nx_mpsc_position(claim);
        uint32_t before = claim & SLOT_MASK;
        uint64_t end = position + bytes;

        if (before >= NX_RING_SLOTS) {
            return NX_ECORRUPT;
        }
        ring->head = position;
        if (end + NX_RING_WORD - ring->tail_seen > nx_ring_capacity(ring)) {
            int code = find_room(ring, claim, end);
            if (code == NX_EBUSY) {
                claim = atomic_load_explicit(head, memory_order_acquire);
                continue;
            }
            if (code != NX_OK) {
                atomic_store_explicit(&own->intent_bytes, 0, memory_order_release);
                return code;
            }
        }
        atomic_store_explicit(&own->intent_position, position, memory_order_release);
        atomic_store_explicit(&own->intent_bytes, bytes, memory_order_release);
        if (position != 0 && before != ring->slot) {
            confirm(ring, before, position);
        }
        /* Release: who sees this claim sees the intent and the confirmation. */
        if (atomic_compare_exchange_weak_explicit(head, &claim, claim_word(end, ring->slot),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            if (end - ring->tail_seen > ring->high_water_next) {
                nx_ring_raise_high_water(ring, end);
            }
            *ret_position = position;
            return NX_OK;
        }
    }
}

static void store_padding(nx_ring *ring, uint64_t position, uint64_t bytes)
{
    atomic_store_explicit(nx_ring_word_at(ring, position),
                          nx_mpsc_word(NX_RING_PADDING, position, bytes - NX_RING_WORD),
                          memory_order_release);
}

void nx_mpsc_commit(nx_ring *ring, uint64_t position, uint64_t bytes, uint64_t size)
{
    nx_ring_slot_line *own = own_slot(ring);
    uint64_t used = nx_ring_occupied(size);

    if (used < bytes) {
        store_padding(ring, position + used, bytes - used);
    }
    /* Pairs with the acquire in nx_ring_peek. */
    atomic_store_explicit(nx_ring_word_at(ring, position),
                          nx_mpsc_word(NX_RING_RECORD, position, size), memory_order_release);
    ring->records_in = atomic_load_explicit(&own->intent_records, memory_order_relaxed);
    atomic_store_explicit(&own->records, ring->records_in, memory_order_relaxed);
}

void nx_mpsc_abort(nx_ring *ring, uint64_t position, uint64_t bytes)
{
    nx_ring_slot_line *own = own_slot(ring);

    atomic_store_explicit(&own->intent_records, ring->records_in, memory_order_release);
    store_padding(ring, position, bytes);
    atomic_store_explicit(&own->intent_bytes, 0, memory_order_release);
}

int nx_mpsc_put(nx_ring *ring, const void *payload, uint64_t size)
{
    if (size > ring->payload_max) {
        return NX_ETOOBIG;
    }
    uint64_t position;
    uint64_t bytes = nx_ring_occupied(size);
    int code = nx_mpsc_claim(ring, bytes, 1, &position);

    if (code == NX_OK) {
        __builtin_memcpy(nx_mpsc_place(ring, position), payload, size);
        nx_mpsc_commit(ring, position, bytes, size);
    }
    return code;
}

void nx_mpsc_count_drops(nx_ring *ring, uint64_t count)
{
    ring->drops += count;
    atomic_store_explicit(&own_slot(ring)->drops, ring->drops, memory_order_relaxed);
}

int nx_mpsc_find_stall(const nx_ring *ring, nx_mpsc_stall *ret)
{
    const nx_ring_header *header = ring->header;
    uint64_t position = ring->position;
    uint64_t head = nx_mpsc_position(atomic_load_explicit(&header->head, memory_order_acquire));
    nx_mpsc_stall found = {.position = position, .slot = NX_RING_SLOTS};

    if (nx_ring_has_record(ring) || head == position) {
        return NX_EEMPTY;
    }
    for (uint32_t i = 0; i < NX_RING_SLOTS && found.slot == NX_RING_SLOTS; i++) {
        const nx_ring_slot_line *line = &header->slots[i];
        uint64_t bytes = atomic_load_explicit(&line->intent_bytes, memory_order_acquire);
        if (atomic_load_explicit(&line->intent_position, memory_order_acquire) == position &&
            bytes >= NX_RING_WORD && (bytes & 7) == 0 &&
            position + bytes - ring->published <= nx_ring_capacity(ring) - NX_RING_WORD &&
            has_won(ring, i, position + bytes)) {
            found.bytes = bytes;
            found.owner = atomic_load_explicit(&line->owner, memory_order_acquire);
            found.slot = i;
        }
    }
    /* Still 0 after the look means: at the time of the look the winner was not done. */
    if (nx_ring_has_record(ring)) {
        return NX_EEMPTY;
    }
    if (found.slot == NX_RING_SLOTS) {
        return NX_ECORRUPT;
    }
    *ret = found;
    return NX_OK;
}

int nx_mpsc_pad(nx_ring *ring, const nx_mpsc_stall *stall)
{
    nx_ring_slot_line *line = &ring->header->slots[stall->slot];
    uint64_t owner = stall->owner;

    if (nx_ring_has_record(ring) || ring->position != stall->position ||
        atomic_load_explicit(&line->owner, memory_order_acquire) != owner ||
        atomic_load_explicit(&line->intent_position, memory_order_acquire) != stall->position) {
        return NX_EBUSY;
    }
    store_padding(ring, stall->position, stall->bytes);
    atomic_store_explicit(&ring->header->losses,
                          atomic_load_explicit(&ring->header->losses, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&line->intent_bytes, 0, memory_order_release);
    /* A slot without an owner word is free already: the claim was left by a release in mid-claim.
     */
    atomic_compare_exchange_strong_explicit(&line->owner, &owner, 0, memory_order_release,
                                            memory_order_relaxed);
    return NX_OK;
}
