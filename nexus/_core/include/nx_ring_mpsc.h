// SPDX-License-Identifier: Apache-2.0
/*
 * Many producers on the ring of nx_ring.h: claim, write, commit, and repair of dead claims.
 *
 * Theory of operation. A producer claims bytes by moving the claim word, which names the head and
 * the slot that moved it. Before that it notes in its own slot what it is about to claim, and
 * confirms in the slot of its predecessor that the predecessor's claim won. So for every position
 * it is known at any instant who claimed it and how much, although no step writes two words at
 * once. The consumer, which is the same as for one producer, needs that only when it waits at an
 * empty word with the head beyond: nx_mpsc_find_stall names the owner, the caller finds out
 * whether the owner is dead, and nx_mpsc_pad turns the claim of a dead one into padding.
 *
 * Guarantees. As nx_ring.h. Producers never wait for each other; a claim is retried only when
 * another producer made progress. A claim of a producer that lives is never taken away.
 *
 * Not handled. A producer that is stopped, not dead, between claim and commit holds up the consumer
 * (not the other producers, until the ring is full). A consumer killed inside nx_mpsc_pad can leave
 * the counters one claim off.
 *
 * Source: our own; compare-and-swap of a shared tail as in the Aeron log buffer, confirmation of
 * the predecessor in the manner of the helping step of Michael and Scott (1996).
 */
#ifndef NX_RING_MPSC_H
#define NX_RING_MPSC_H

#include "nx_ring.h"

/* A claim at the consumer's position that was not committed yet. */
typedef struct nx_mpsc_stall {
    uint64_t position;
    uint64_t bytes;
    uint64_t owner;
    uint32_t slot;
} nx_mpsc_stall;

/* Where the next claim will begin, from the claim word. */
uint64_t nx_mpsc_position(uint64_t claim);

/* Whether a slot may be taken over once its owner is known to be dead, or gave it back. */
bool nx_mpsc_is_settled(const nx_ring *ring, uint32_t slot);

/* Takes up a slot whose owner word the caller has made its own. */
void nx_mpsc_join(nx_ring *ring, uint32_t slot);

/*
 * Claims `bytes` bytes for `count` records (nx_ring_occupied of each, summed). The claim must be
 * committed or aborted before the next one through the same handle.
 * Returns NX_OK, NX_EFULL, NX_ETOOBIG or NX_ECORRUPT.
 */
int nx_mpsc_claim(nx_ring *ring, uint64_t bytes, uint64_t count, uint64_t *ret_position);

/* Commits a claim of one record, of which `size` bytes of payload are used. */
void nx_mpsc_commit(nx_ring *ring, uint64_t position, uint64_t bytes, uint64_t size);

/* Gives a claim up: it becomes padding. */
void nx_mpsc_abort(nx_ring *ring, uint64_t position, uint64_t bytes);

/* Claims, copies and commits one record; codes as nx_mpsc_claim. */
int nx_mpsc_put(nx_ring *ring, const void *payload, uint64_t size);

/* Counts records that were refused for want of room. */
void nx_mpsc_count_drops(nx_ring *ring, uint64_t count);

/*
 * Whether the consumer waits for a claim that was not committed: NX_OK and who holds it, NX_EEMPTY
 * when it does not wait, NX_ECORRUPT when nobody can have claimed it.
 */
int nx_mpsc_find_stall(const nx_ring *ring, nx_mpsc_stall *ret);

/*
 * Replaces the claim of a dead owner by padding. Only for the consumer, only when the owner in
 * `stall` is dead. NX_EBUSY when the claim was committed meanwhile.
 */
int nx_mpsc_pad(nx_ring *ring, const nx_mpsc_stall *stall);

/* Reads the shared counters of an MPSC ring, those of claims just committed included. */
void nx_mpsc_read_stats(const nx_ring *ring, nx_ring_stats *ret);

NX_INLINE uint64_t nx_mpsc_word(uint32_t kind, uint64_t position, uint64_t size)
{
    return nx_ring_word(kind, position >> 3, size);
}

NX_INLINE uint8_t *nx_mpsc_place(const nx_ring *ring, uint64_t position)
{
    return ring->data + (position & ring->mask) + NX_RING_WORD;
}

/* Writes the word of a record inside a claim of several; the first one goes last. */
NX_INLINE void nx_mpsc_note(nx_ring *ring, uint64_t position, uint64_t size)
{
    atomic_store_explicit(nx_ring_word_at(ring, position),
                          nx_mpsc_word(NX_RING_RECORD, position, size), memory_order_relaxed);
}

#endif
