// SPDX-License-Identifier: Apache-2.0
/*
 * A ring of byte records of any length between processes that share memory.
 *
 * Theory of operation. docs/spec/ring.md has every byte. A record begins with a commit word of
 * 8 bytes; the word is 0 until the record is complete, and the consumer looks at nothing else. One
 * cache line travels per small record: no index is shared on the hot path. The data are mapped
 * twice, back to back, so a record that runs over the end is still one piece. Before a single
 * producer publishes a record it clears the word after it, so old payload is never read as a
 * word; with many producers the consumer clears what it consumed. Free space is told by `tail`,
 * which the consumer stores only once per `publish_bytes`, and always when it finds the ring empty.
 *
 * Guarantees. A record is seen whole or not at all, also when a peer is killed at any instruction.
 * Whatever a peer writes into the shared bytes, nothing outside the mapping is touched: positions,
 * lengths and words are checked, and NX_ECORRUPT is returned. What was checked is never read twice.
 *
 * Not handled. Roles are not policed here: at most one producer (nx_ring_put, ...) and one consumer
 * at a time (nx_ring_map.h does that). Payload read in place can be changed by a hostile peer while
 * it is read: copy, then judge. Nothing here sleeps (nx_wake.h) or calls the system: this file and
 * nx_ring.c are freestanding C but for memcpy and memset.
 *
 * Sources: commit word in the record and clearing on release after the Aeron log buffer; the twice
 * mapped ring is folklore ("magic ring buffer"); stamps, lazy tail and repair are our own.
 */
#ifndef NX_RING_H
#define NX_RING_H

#include "nx_base.h"

#include <stdatomic.h>

#define NX_RING_MAGIC            0x0a0d474e4952584eull /* "NXRING\r\n" */
#define NX_RING_VERSION          1u
#define NX_RING_CAPACITY_MAX     (1ull << 30)
#define NX_RING_HEADER_BYTES_MAX (1u << 16)
#define NX_RING_SLOTS            24u
#define NX_RING_WORD             8u
#define NX_RING_STAMP_MASK       0x0fffffffu

enum { NX_RING_SPSC = 1, NX_RING_MPSC = 2 };
enum { NX_RING_REVOCABLE = 1 };
enum { NX_RING_RECORD = 1, NX_RING_PADDING = 2 };

/* One producer of a ring with many; only its owner writes, but for `owner` and `confirmed`. */
typedef struct nx_ring_slot_line {
    _Atomic uint64_t owner;
    _Atomic uint64_t intent_position;
    _Atomic uint64_t intent_bytes;
    _Atomic uint64_t intent_records;
    _Atomic uint64_t confirmed;
    _Atomic uint64_t records;
    _Atomic uint64_t drops;
    uint8_t reserved[72];
} nx_ring_slot_line;

typedef struct nx_ring_header {
    uint64_t magic;
    uint16_t version;
    uint8_t kind;
    uint8_t flags;
    uint32_t header_bytes;
    uint64_t capacity;
    uint32_t producer_slots;
    uint8_t reserved0[100];
    _Atomic uint32_t wake;
    uint8_t reserved1[124];
    _Atomic uint64_t head; /* SPSC: lower bound; MPSC: the claim word */
    _Atomic uint64_t records_in;
    _Atomic uint64_t drops;
    _Atomic uint64_t high_water;
    _Atomic uint64_t wakes_lost;
    uint8_t reserved2[88];
    _Atomic uint64_t position;
    _Atomic uint64_t records_out;
    _Atomic uint64_t losses;
    uint8_t reserved3[104];
    _Atomic uint64_t tail;
    uint8_t reserved4[120];
    _Atomic uint64_t producer_owner;
    _Atomic uint64_t consumer_owner;
    uint8_t reserved5[112];
    _Atomic uint32_t room;
    uint8_t reserved6[252];
    nx_ring_slot_line slots[NX_RING_SLOTS];
} nx_ring_header;

NX_STATIC_ASSERT(sizeof(nx_ring_slot_line) == 128, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_slot_line, confirmed) == 32, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_slot_line, drops) == 48, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, header_bytes) == 12, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, capacity) == 16, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, producer_slots) == 24, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, wake) == 128, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, head) == 256, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, wakes_lost) == 288, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, position) == 384, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, losses) == 400, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, tail) == 512, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, producer_owner) == 640, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, consumer_owner) == 648, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, room) == 768, "docs/spec/ring.md");
NX_STATIC_ASSERT(offsetof(nx_ring_header, slots) == 1024, "docs/spec/ring.md");
NX_STATIC_ASSERT(sizeof(nx_ring_header) == 4096, "docs/spec/ring.md");

/*
 * One side's view of a ring, in its own memory. The producer part and the consumer part lie on
 * lines of their own, so that two threads may share a handle, one in each role.
 */
typedef struct nx_ring {
    nx_ring_header *header;
    uint8_t *data; /* 2 * capacity bytes of addresses */
    uint64_t mask; /* capacity - 1 */
    uint32_t payload_max;
    uint8_t kind;
    uint8_t flags;

    NX_ALIGNED(128) uint64_t head; /* SPSC: where the next record begins */
    uint64_t tail_seen;            /* the newest `tail` that was checked */
    uint64_t records_in;
    uint64_t high_water_next; /* look closer when use exceeds this */
    uint64_t drops;
    uint32_t slot; /* MPSC: the own producer slot */

    NX_ALIGNED(128) uint64_t position;
    uint64_t published;
    uint64_t publish_bytes; /* store `tail` when it lags by more; 0: always */
    uint64_t records_out;
} nx_ring;

/* Some records that will appear at once; see nx_ring_batch_add. */
typedef struct nx_ring_batch {
    uint64_t at;
    uint64_t first_word;
    uint64_t count;
} nx_ring_batch;

typedef struct nx_ring_stats {
    uint64_t records_in;
    uint64_t records_out;
    uint64_t waiting;       /* records committed and not consumed */
    uint64_t waiting_bytes; /* the bytes they occupy, claims included */
    uint64_t drops;
    uint64_t losses;
    uint64_t high_water;
    uint64_t wakes_lost;
} nx_ring_stats;

/*
 * Writes the header of an empty ring into zeroed memory. `capacity` is a power of two of at most
 * NX_RING_CAPACITY_MAX; anything else is NX_EINVAL, a larger one NX_ETOOBIG.
 */
int nx_ring_format(nx_ring_header *header, uint32_t header_bytes, uint64_t capacity, uint8_t kind,
                   uint8_t flags);

/*
 * Checks a header that came from outside; `file_bytes` is the true size of the file. Returns
 * NX_ECORRUPT unless it describes exactly that file. `ret` gets geometry; pointers come by
 * nx_ring_bind. Copy the first 64 bytes of the file before, so that they cannot change.
 */
int nx_ring_check_header(const uint8_t identity[64], uint64_t file_bytes, nx_ring *ret);

/* Gives a checked handle its memory: the header, and 2 * capacity bytes of doubly mapped data. */
void nx_ring_bind(nx_ring *ring, nx_ring_header *header, uint8_t *data);

/* Takes up the producer's role of an SPSC ring where the last producer left it, killed or not. */
int nx_ring_resume_producer(nx_ring *ring);

/* Takes up the consumer's role where the last consumer left it, killed or not. */
int nx_ring_resume_consumer(nx_ring *ring);

/* Reads the shared counters of an SPSC ring; they are hints, each true for itself. */
void nx_ring_read_stats(const nx_ring *ring, nx_ring_stats *ret);

/* What follows from the counters; shared with nx_mpsc_read_stats. */
void nx_ring_finish_stats(const nx_ring *ring, uint64_t head, uint64_t position,
                          nx_ring_stats *ret);

/* Slow paths of the inline functions below; nobody else calls them. */
int nx_ring_make_room(nx_ring *ring, uint64_t end);
void nx_ring_raise_high_water(nx_ring *ring, uint64_t end);
int nx_ring_peek_odd(nx_ring *ring, const uint8_t **ret, uint32_t *ret_size);
void nx_ring_publish(nx_ring *ring);

NX_INLINE uint64_t nx_ring_capacity(const nx_ring *ring)
{
    return ring->mask + 1;
}

NX_INLINE _Atomic uint64_t *nx_ring_word_at(const nx_ring *ring, uint64_t position)
{
    return (_Atomic uint64_t *)(void *)(ring->data + (position & ring->mask));
}

/* Bytes that a record with `size` bytes of payload occupies. */
NX_INLINE uint64_t nx_ring_occupied(uint64_t size)
{
    return NX_RING_WORD + nx_align_up(size, NX_RING_WORD);
}

NX_INLINE uint64_t nx_ring_word(uint32_t kind, uint64_t stamp, uint64_t size)
{
    return ((uint64_t)kind << 60) | ((stamp & NX_RING_STAMP_MASK) << 32) | size;
}

/* The stamp that the record at the consumer's position must carry. */
NX_INLINE uint64_t nx_ring_expected_stamp(const nx_ring *ring)
{
    return ring->kind == NX_RING_MPSC ? ring->position >> 3 : ring->records_out;
}

/*
 * The place for `size` bytes of payload at the head of an SPSC ring. Nothing is promised to the
 * consumer until nx_ring_commit. Returns NX_EFULL, NX_ETOOBIG when no ring of this capacity could
 * hold it, NX_ECORRUPT when the consumer's tail is impossible.
 */
NX_INLINE int nx_ring_reserve(nx_ring *ring, uint64_t size, uint8_t **ret)
{
    if (NX_UNLIKELY(size > ring->payload_max)) {
        return NX_ETOOBIG;
    }
    uint64_t end = ring->head + nx_ring_occupied(size);
    if (NX_UNLIKELY(end + NX_RING_WORD - ring->tail_seen > nx_ring_capacity(ring))) {
        int code = nx_ring_make_room(ring, end);
        if (code != NX_OK) {
            return code;
        }
    }
    *ret = ring->data + (ring->head & ring->mask) + NX_RING_WORD;
    return NX_OK;
}

/* Moves the shared head and the counters past records that the consumer can already see. */
NX_INLINE void nx_ring_advance(nx_ring *ring, uint64_t end, uint64_t count)
{
    ring->head = end;
    ring->records_in += count;
    /* Release, so that no reader sees a head whose record it cannot see. In this order, because
     * nx_ring_resume_producer trusts `records_in` when it finds no record at `head`. */
    atomic_store_explicit(&ring->header->records_in, ring->records_in, memory_order_release);
    atomic_store_explicit(&ring->header->head, end, memory_order_release);
    if (NX_UNLIKELY(end - ring->tail_seen > ring->high_water_next)) {
        nx_ring_raise_high_water(ring, end);
    }
}

/* Publishes what nx_ring_reserve gave out; `size` may be less than was reserved. */
NX_INLINE void nx_ring_commit(nx_ring *ring, uint64_t size)
{
    uint64_t end = ring->head + nx_ring_occupied(size);

    atomic_store_explicit(nx_ring_word_at(ring, end), 0, memory_order_relaxed);
    /* Pairs with the acquire in nx_ring_peek. */
    atomic_store_explicit(nx_ring_word_at(ring, ring->head),
                          nx_ring_word(NX_RING_RECORD, ring->records_in, size),
                          memory_order_release);
    nx_ring_advance(ring, end, 1);
}

/* Appends one record to an SPSC ring: NX_OK, NX_EFULL, NX_ETOOBIG or NX_ECORRUPT. */
NX_INLINE int nx_ring_put(nx_ring *ring, const void *payload, uint64_t size)
{
    uint8_t *place;
    int code = nx_ring_reserve(ring, size, &place);

    if (NX_UNLIKELY(code != NX_OK)) {
        return code;
    }
    __builtin_memcpy(place, payload, size);
    nx_ring_commit(ring, size);
    return NX_OK;
}

/* Counts records that were refused for want of room. */
NX_INLINE void nx_ring_count_drops(nx_ring *ring, uint64_t count)
{
    ring->drops += count;
    atomic_store_explicit(&ring->header->drops, ring->drops, memory_order_relaxed);
}

NX_INLINE void nx_ring_batch_begin(const nx_ring *ring, nx_ring_batch *batch)
{
    batch->at = ring->head;
    batch->first_word = 0;
    batch->count = 0;
}

/*
 * The place for the next record of a batch; codes as nx_ring_reserve. A batch that is dropped
 * without nx_ring_batch_commit leaves no trace.
 */
NX_INLINE int nx_ring_batch_add(nx_ring *ring, nx_ring_batch *batch, uint64_t size, uint8_t **ret)
{
    if (NX_UNLIKELY(size > ring->payload_max)) {
        return NX_ETOOBIG;
    }
    uint64_t end = batch->at + nx_ring_occupied(size);
    if (NX_UNLIKELY(end + NX_RING_WORD - ring->tail_seen > nx_ring_capacity(ring))) {
        int code = nx_ring_make_room(ring, end);
        if (code != NX_OK) {
            return code;
        }
    }
    uint64_t word = nx_ring_word(NX_RING_RECORD, ring->records_in + batch->count, size);
    if (batch->count == 0) {
        batch->first_word = word;
    } else {
        /* Unreachable for the consumer until the first word of the batch is stored. */
        atomic_store_explicit(nx_ring_word_at(ring, batch->at), word, memory_order_relaxed);
    }
    *ret = ring->data + (batch->at & ring->mask) + NX_RING_WORD;
    batch->at = end;
    batch->count++;
    return NX_OK;
}

/* Publishes the whole batch with one store. */
NX_INLINE void nx_ring_batch_commit(nx_ring *ring, const nx_ring_batch *batch)
{
    if (batch->count == 0) {
        return;
    }
    atomic_store_explicit(nx_ring_word_at(ring, batch->at), 0, memory_order_relaxed);
    /* Pairs with the acquire in nx_ring_peek. */
    atomic_store_explicit(nx_ring_word_at(ring, ring->head), batch->first_word,
                          memory_order_release);
    nx_ring_advance(ring, batch->at, batch->count);
}

/* Whether a record, or something odd, waits at the consumer's position. */
NX_INLINE bool nx_ring_has_record(const nx_ring *ring)
{
    return atomic_load_explicit(nx_ring_word_at(ring, ring->position), memory_order_acquire) != 0;
}

/*
 * Shows the oldest record in place without consuming it: NX_OK, NX_EEMPTY or NX_ECORRUPT. The
 * `ret_size` bytes lie inside the mapping whatever the peer wrote.
 */
NX_INLINE int nx_ring_peek(nx_ring *ring, const uint8_t **ret, uint32_t *ret_size)
{
    /* Pairs with the release in nx_ring_commit, nx_ring_batch_commit and nx_mpsc_commit. */
    uint64_t word =
        atomic_load_explicit(nx_ring_word_at(ring, ring->position), memory_order_acquire);
    uint32_t size = (uint32_t)word;
    uint64_t expected = nx_ring_word(NX_RING_RECORD, nx_ring_expected_stamp(ring), size);

    /* The second test implies size <= payload_max, and keeps the whole step within one ring. */
    if (NX_UNLIKELY(word != expected || ring->position + nx_ring_occupied(size) - ring->published >
                                            ring->mask + 1 - NX_RING_WORD)) {
        return nx_ring_peek_odd(ring, ret, ret_size);
    }
    *ret = ring->data + (ring->position & ring->mask) + NX_RING_WORD;
    *ret_size = size;
    return NX_OK;
}

/* Steps over the record that nx_ring_peek showed, in the handle alone; nx_ring_settle follows. */
NX_INLINE void nx_ring_skip(nx_ring *ring, uint32_t size)
{
    ring->position += nx_ring_occupied(size);
    ring->records_out++;
}

/* Makes all steps final: records before the handle's position are consumed, for good. */
NX_INLINE void nx_ring_settle(nx_ring *ring)
{
    /* Release, so that the payload was read before. In this order, because
     * nx_ring_resume_consumer trusts `records_out` when no record waits. */
    atomic_store_explicit(&ring->header->records_out, ring->records_out, memory_order_release);
    atomic_store_explicit(&ring->header->position, ring->position, memory_order_release);
    if (ring->position - ring->published <= ring->publish_bytes) {
        return;
    }
    if (ring->kind == NX_RING_MPSC) {
        nx_ring_publish(ring);
    } else {
        /* Pairs with the acquire in nx_ring_make_room. */
        atomic_store_explicit(&ring->header->tail, ring->position, memory_order_release);
        ring->published = ring->position;
    }
}

/* Consumes the record that nx_ring_peek showed; `size` is what it said. */
NX_INLINE void nx_ring_release(nx_ring *ring, uint32_t size)
{
    nx_ring_skip(ring, size);
    nx_ring_settle(ring);
}

#endif
