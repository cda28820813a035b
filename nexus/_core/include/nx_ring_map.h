// SPDX-License-Identifier: Apache-2.0
/*
 * A ring as a file descriptor: making, checking and mapping it, its roles, its sleepers, its dead.
 *
 * Theory of operation. The file is a memfd, sealed so that no peer can take pages away, mapped as
 * header and twice the data. A role (producer, consumer) is taken before the first use and held
 * until nx_ring_map_release: its owner word says who has it, a dead owner's role passes on, and
 * the handle resumes where that owner stopped.
 *
 * Guarantees. Two living processes, or two handles, never hold the same role of one ring (an MPSC
 * ring has NX_RING_SLOTS producer roles). A file that is not exactly a ring is refused. After
 * fork() the child holds no role; the parent keeps its own.
 *
 * Not handled. No locking: one thread at a time uses a handle in one role. A role held by a
 * process that called execve(), or that lives in another pid namespace, passes on only by force.
 * A revocable ring raises SIGBUS in whoever touches it after it was revoked.
 */
#ifndef NX_RING_MAP_H
#define NX_RING_MAP_H

#include "nx_owner.h"
#include "nx_ring.h"
#include "nx_ring_mpsc.h"
#include "nx_wake.h"

/* How long a claim must stand still before its owner is looked at. */
#define NX_RING_STALL_NS 1000000ll

typedef struct nx_ring_map {
    nx_ring ring;
    void *base;
    uint64_t mapped_bytes;
    int fd;
    int wake_fd;                  /* eventfd or -1 */
    uint32_t producer_generation; /* nx_owner_generation when the role was taken, 0: not held */
    uint32_t consumer_generation;
    bool fence; /* this process must fence before it looks at the wake word */
    uint64_t stall_position;
    int64_t stall_since_ns;         /* 0: no stall seen */
    _Atomic uint32_t record_misses; /* spins in a row that ended without what was waited for, */
    _Atomic uint32_t room_misses;   /* and waits that did not spin for that reason */
    const _Atomic uint64_t *closed; /* see nx_ring_map_heed */
    uint64_t closed_bits;
} nx_ring_map;

/*
 * Makes a ring whose data hold at least `capacity_min` bytes, rounded up to a power of two and to
 * the page size. NX_EINVAL for 0, NX_ETOOBIG above NX_RING_CAPACITY_MAX, NX_ENOMEM, NX_ESYS.
 */
int nx_ring_map_create(uint64_t capacity_min, uint8_t kind, uint8_t flags, nx_ring_map **ret);

/*
 * Opens the ring in `fd`, which stays the caller's. NX_EDENIED when the file can shrink (no
 * seals, or a revocable ring) and `revocable` is false; NX_ECORRUPT when it is not a ring.
 */
int nx_ring_map_attach(int fd, bool revocable, nx_ring_map **ret);

/*
 * Obeys a word that somebody else writes: once it has one of `bits`, nx_ring_map_is_closed says so
 * and waits end with NX_ECLOSED, within NX_WAKE_SLICE_NS. Puts and gets do not look: who uses the
 * ring asks before each. The word stays where it is as long as the ring.
 */
void nx_ring_map_heed(nx_ring_map *map, const _Atomic uint64_t *word, uint64_t bits);

NX_INLINE bool nx_ring_map_is_closed(const nx_ring_map *map)
{
    return NX_UNLIKELY(
        (atomic_load_explicit(map->closed, memory_order_relaxed) & map->closed_bits) != 0);
}

/* Gives back the roles, unmaps and closes. */
void nx_ring_map_destroy(nx_ring_map *map);

/*
 * Takes a role, or finds that this handle has it. NX_EBUSY when another living owner has it,
 * NX_EFULL when all producer slots of an MPSC ring are taken, NX_ECORRUPT. With `force` an owner
 * of an SPSC role counts as dead: the caller vouches for it.
 */
int nx_ring_map_take_producer(nx_ring_map *map, bool force);
int nx_ring_map_take_consumer(nx_ring_map *map, bool force);

/* Give back one role or both, as far as this handle holds them. */
void nx_ring_map_leave_producer(nx_ring_map *map);
void nx_ring_map_leave_consumer(nx_ring_map *map);
void nx_ring_map_release(nx_ring_map *map);

enum {
    NX_HEAL_NOW = 1,   /* however young the stall is */
    NX_HEAL_FORCE = 2, /* the caller vouches that the claim's owner is dead */
};

/*
 * The consumer's part of repair on an MPSC ring: NX_OK when it replaced a dead producer's claim,
 * NX_EEMPTY when nothing stalls, NX_EBUSY while the owner lives or the stall is younger than
 * NX_RING_STALL_NS, NX_ECORRUPT.
 */
int nx_ring_map_heal(nx_ring_map *map, int flags);

/*
 * Settles what dead peers left: roles become free, claims of the dead become padding as far as no
 * living consumer is there to do it. `force` counts every other owner as dead. NX_OK and how
 * many roles and claims were settled, or NX_ECORRUPT.
 */
int nx_ring_map_repair(nx_ring_map *map, bool force, uint64_t *ret_count);

/* Takes away all pages of a revocable ring; the handle is unmapped first and unusable after. */
int nx_ring_map_revoke(nx_ring_map *map);

/*
 * Sleeps until a record waits: NX_OK, NX_ETIMEOUT, NX_EBUSY when a dead producer's
 * claim is in the way and nx_ring_map_heal should be called, NX_ECLOSED, or NX_ESYS with errno
 * EINTR after a signal. It spins NX_RING_SPIN_NS first, as long as that pays: after NX_RING_SPINS
 * in a row without a record only each NX_RING_SPINS-th wait does, until one pays again. So a peer
 * on the same CPU, and a slow one, are waited for asleep. Touches nothing that another thread of
 * this process must not see touched.
 */
#define NX_RING_SPIN_NS 30000ll
#define NX_RING_SPINS   8u
int nx_ring_map_wait(nx_ring_map *map, int64_t timeout_ns);

/*
 * Sleeps until a record of `size` bytes fits, for a producer whose put found no room: NX_OK when a
 * put is worth another try, NX_ETIMEOUT, NX_ETOOBIG when it never will fit, NX_ECLOSED, or NX_ESYS
 * with errno EINTR. It spins first and touches nothing, as nx_ring_map_wait.
 * A consumer that does not know of this tells nobody; then it looks again every NX_WAKE_SLICE_NS.
 */
int nx_ring_map_wait_room(nx_ring_map *map, uint64_t size, int64_t timeout_ns);

/* Makes the eventfd if there is none; -1 and errno on failure. */
int nx_ring_map_wake_fd(nx_ring_map *map);

/*
 * Takes over a copy of the consumer's eventfd, so that this producer can write it; for a handle
 * without one. NX_EINVAL when it is none, NX_ESYS.
 */
int nx_ring_map_adopt_wake_fd(nx_ring_map *map, int fd);

/*
 * Empties the eventfd and asks producers to write it for the next record. NX_OK, or NX_EBUSY when
 * a record waits already and nobody was asked.
 */
int nx_ring_map_arm(nx_ring_map *map);

/* Nanoseconds of CLOCK_MONOTONIC. */
int64_t nx_ring_map_clock(void);

/* Reads the counters of either kind. */
void nx_ring_map_read_stats(const nx_ring_map *map, nx_ring_stats *ret);

/* Wakes the slow way; nx_ring_map_notify decides whether. */
void nx_ring_map_signal(nx_ring_map *map);

void nx_ring_map_signal_room(nx_ring_map *map);

/* To be called after each commit, or once after several. */
NX_INLINE void nx_ring_map_notify(nx_ring_map *map)
{
    if (NX_UNLIKELY(nx_wake_is_wanted(&map->ring.header->wake, map->fence))) {
        nx_ring_map_signal(map);
    }
}

/*
 * To be called after each release that stored the tail, or once after several. A consumer with
 * publish_bytes above 0 calls nx_ring_publish before it sleeps: else both sides may.
 */
NX_INLINE void nx_ring_map_notify_room(nx_ring_map *map)
{
    if (NX_UNLIKELY(nx_wake_is_wanted(&map->ring.header->room, map->fence))) {
        nx_ring_map_signal_room(map);
    }
}

#endif
