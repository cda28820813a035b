// SPDX-License-Identifier: Apache-2.0
/* Who produces and who consumes, what the dead leave behind, and sleeping; see nx_ring_map.h. */
#include "nx_ring_map.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* A claim that stands still is looked at so often: its owner may die without a wake. */
#define STALL_SLICE_NS 10000000ll

/* Puts our word where nobody's or a dead owner's stands. */
static int take(_Atomic uint64_t *owner, bool force)
{
    uint64_t seen = atomic_load_explicit(owner, memory_order_acquire);

    if (seen != 0 && !force && !nx_owner_is_dead(seen)) {
        return NX_EBUSY;
    }
    /* Acquire: what the last owner wrote before it gave the role back is visible. */
    return atomic_compare_exchange_strong_explicit(owner, &seen, nx_owner_self(),
                                                   memory_order_acq_rel, memory_order_relaxed)
               ? NX_OK
               : NX_EBUSY;
}

static void give_back(_Atomic uint64_t *owner)
{
    uint64_t self = nx_owner_self();

    /* Not a plain store: who took the role by force keeps it. */
    atomic_compare_exchange_strong_explicit(owner, &self, 0, memory_order_release,
                                            memory_order_relaxed);
}

static int take_slot(nx_ring_map *map)
{
    nx_ring_slot_line *slots = map->ring.header->slots;

    for (uint32_t i = 0; i < NX_RING_SLOTS; i++) {
        uint64_t seen = atomic_load_explicit(&slots[i].owner, memory_order_acquire);
        /* A claim in flight goes with its slot until the consumer has settled it. */
        if (nx_owner_is_dead(seen) && nx_mpsc_is_settled(&map->ring, i) &&
            atomic_compare_exchange_strong_explicit(&slots[i].owner, &seen, nx_owner_self(),
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            nx_mpsc_join(&map->ring, i);
            return NX_OK;
        }
    }
    return NX_EFULL;
}

int nx_ring_map_take_producer(nx_ring_map *map, bool force)
{
    nx_ring_header *header = map->ring.header;
    int code;

    if (map->producer_generation == nx_owner_generation) {
        return NX_OK;
    }
    map->fence = !nx_wake_register();
    if (map->ring.kind == NX_RING_MPSC) {
        code = take_slot(map);
    } else {
        code = take(&header->producer_owner, force);
        if (code == NX_OK) {
            code = nx_ring_resume_producer(&map->ring);
            if (code != NX_OK) {
                give_back(&header->producer_owner);
            }
        }
    }
    if (code == NX_OK) {
        map->producer_generation = nx_owner_generation;
    }
    return code;
}

int nx_ring_map_take_consumer(nx_ring_map *map, bool force)
{
    nx_ring_header *header = map->ring.header;

    if (map->consumer_generation == nx_owner_generation) {
        return NX_OK;
    }
    /* A consumer wakes producers, too: those that sleep until there is room. */
    map->fence = !nx_wake_register();
    int code = take(&header->consumer_owner, force);
    if (code != NX_OK) {
        return code;
    }
    code = nx_ring_resume_consumer(&map->ring);
    if (code != NX_OK) {
        give_back(&header->consumer_owner);
        return code;
    }
    map->stall_since_ns = 0;
    map->consumer_generation = nx_owner_generation;
    return NX_OK;
}

void nx_ring_map_leave_producer(nx_ring_map *map)
{
    nx_ring_header *header = map->ring.header;

    if (map->producer_generation == nx_owner_generation) {
        give_back(map->ring.kind == NX_RING_MPSC ? &header->slots[map->ring.slot].owner
                                                 : &header->producer_owner);
    }
    map->producer_generation = 0;
}

void nx_ring_map_leave_consumer(nx_ring_map *map)
{
    if (map->consumer_generation == nx_owner_generation) {
        nx_ring_publish(&map->ring);
        nx_ring_map_notify_room(map);
        give_back(&map->ring.header->consumer_owner);
    }
    map->consumer_generation = 0;
}

void nx_ring_map_release(nx_ring_map *map)
{
    nx_ring_map_leave_producer(map);
    nx_ring_map_leave_consumer(map);
}

int64_t nx_ring_map_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int nx_ring_map_heal(nx_ring_map *map, int flags)
{
    nx_mpsc_stall stall;

    if (map->ring.kind != NX_RING_MPSC) {
        return NX_EEMPTY;
    }
    int code = nx_mpsc_find_stall(&map->ring, &stall);
    if (code != NX_OK) {
        map->stall_since_ns = 0;
        return code;
    }
    int64_t now = nx_ring_map_clock();
    if (map->stall_since_ns == 0 || map->stall_position != stall.position) {
        map->stall_position = stall.position;
        map->stall_since_ns = now;
    }
    if (flags == 0 && now - map->stall_since_ns < NX_RING_STALL_NS) {
        return NX_EBUSY;
    }
    if ((flags & NX_HEAL_FORCE) == 0 && !nx_owner_is_dead(stall.owner)) {
        /* Look again after another while, not at each call. */
        map->stall_since_ns = now;
        return NX_EBUSY;
    }
    map->stall_since_ns = 0;
    return nx_mpsc_pad(&map->ring, &stall);
}

/* Whether a role is held by somebody who is dead, or is to count as dead. */
static bool is_left(const _Atomic uint64_t *owner, bool force)
{
    uint64_t seen = atomic_load_explicit(owner, memory_order_acquire);

    return seen != 0 && (force || nx_owner_is_dead(seen));
}

static int heal_all(nx_ring_map *map, bool force, uint64_t *count)
{
    for (;;) {
        int code = nx_ring_map_heal(map, force ? NX_HEAL_FORCE : NX_HEAL_NOW);
        if (code != NX_OK) {
            return code == NX_ECORRUPT ? code : NX_OK;
        }
        /* Steps over the padding, or shows what else is there. */
        const uint8_t *got;
        uint32_t size;
        (*count)++;
        code = nx_ring_peek(&map->ring, &got, &size);
        if (code != NX_EEMPTY) {
            return code;
        }
    }
}

int nx_ring_map_repair(nx_ring_map *map, bool force, uint64_t *ret_count)
{
    nx_ring_header *header = map->ring.header;
    bool consumes = map->consumer_generation == nx_owner_generation;
    uint64_t count = 0;
    int code = NX_OK;

    if (map->producer_generation != nx_owner_generation &&
        is_left(&header->producer_owner, force)) {
        code = nx_ring_map_take_producer(map, force);
        nx_ring_map_leave_producer(map);
        count += code == NX_OK;
    }
    if (code != NX_OK && code != NX_EBUSY) {
        return code;
    }
    bool taken =
        !consumes && (map->ring.kind == NX_RING_MPSC || is_left(&header->consumer_owner, force));
    if (taken) {
        bool left = is_left(&header->consumer_owner, force);
        code = nx_ring_map_take_consumer(map, force);
        taken = code == NX_OK;
        count += taken && left;
    }
    if (code == NX_OK && (consumes || taken)) {
        code = heal_all(map, force, &count);
    }
    if (taken) {
        nx_ring_map_leave_consumer(map);
    }
    if (code == NX_OK || code == NX_EBUSY) {
        *ret_count = count;
        return NX_OK;
    }
    return code;
}

void nx_ring_map_signal(nx_ring_map *map)
{
    if (nx_wake_signal(&map->ring.header->wake, map->wake_fd) != NX_OK) {
        atomic_fetch_add_explicit(&map->ring.header->wakes_lost, 1, memory_order_relaxed);
    }
}

/*
 * NX_OK when a record waits, NX_EBUSY when a dead producer's claim is in the way, else NX_EEMPTY.
 * `ret_stalled` tells that a living one's is: its commit will be followed by a wake.
 */
static int look(const nx_ring_map *map, bool *ret_stalled)
{
    nx_mpsc_stall stall;

    *ret_stalled = false;
    if (nx_ring_has_record(&map->ring)) {
        return NX_OK;
    }
    if (map->ring.kind == NX_RING_MPSC && nx_mpsc_find_stall(&map->ring, &stall) == NX_OK) {
        *ret_stalled = true;
        return nx_owner_is_dead(stall.owner) ? NX_EBUSY : NX_EEMPTY;
    }
    return NX_EEMPTY;
}

/* Whether a put is worth a try: a record fits, or the shared positions look impossible. */
static bool has_room(const nx_ring *ring, uint64_t size)
{
    uint64_t tail = atomic_load_explicit(&ring->header->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->header->head, memory_order_acquire);

    if (ring->kind == NX_RING_MPSC) {
        head = nx_mpsc_position(head);
    }
    uint64_t used = head - tail + nx_ring_occupied(size) + NX_RING_WORD;
    return head - tail > nx_ring_capacity(ring) || used <= nx_ring_capacity(ring);
}

/* Whether a wait should spin first; counts those that do not. */
static bool may_spin(_Atomic uint32_t *misses)
{
    uint32_t seen = atomic_load_explicit(misses, memory_order_relaxed);

    if (seen < NX_RING_SPINS || seen % NX_RING_SPINS == 0) {
        return true;
    }
    atomic_store_explicit(misses, seen + 1, memory_order_relaxed);
    return false;
}

static void note_spin(_Atomic uint32_t *misses, bool paid)
{
    uint32_t seen = atomic_load_explicit(misses, memory_order_relaxed);

    atomic_store_explicit(misses, paid ? 0 : seen + 1, memory_order_relaxed);
}

/* Spins while there is no record, or no room for one of `size` bytes; whether that came. */
static bool spin(const nx_ring_map *map, const uint64_t *size, int64_t until_ns)
{
    do {
        for (int i = 0; i < 64; i++) {
            if (size == NULL ? nx_ring_has_record(&map->ring) : has_room(&map->ring, *size)) {
                return true;
            }
            nx_cpu_relax();
        }
    } while (nx_ring_map_clock() < until_ns);
    return false;
}

/* The first part of a wait: a look, and a spin if that pays. */
static bool find_soon(nx_ring_map *map, const uint64_t *size, int64_t start, int64_t timeout_ns)
{
    _Atomic uint32_t *misses = size == NULL ? &map->record_misses : &map->room_misses;
    int64_t budget = timeout_ns < NX_RING_SPIN_NS ? timeout_ns : NX_RING_SPIN_NS;

    if (!may_spin(misses)) {
        return false;
    }
    bool found = spin(map, size, start + budget);
    if (found || budget == NX_RING_SPIN_NS) {
        note_spin(misses, found);
    }
    return found;
}

int nx_ring_map_wait(nx_ring_map *map, int64_t timeout_ns)
{
    _Atomic uint32_t *wake = &map->ring.header->wake;
    int64_t start = nx_ring_map_clock();

    if (nx_ring_has_record(&map->ring) || find_soon(map, NULL, start, timeout_ns)) {
        return NX_OK;
    }
    for (;;) {
        bool stalled;
        int64_t left = start + timeout_ns - nx_ring_map_clock();
        if (left <= 0) {
            return nx_ring_has_record(&map->ring) ? NX_OK : NX_ETIMEOUT;
        }
        nx_wake_announce(wake, NX_WAKE_SLEEPING);
        int code = nx_ring_map_is_closed(map) ? NX_ECLOSED : look(map, &stalled);
        if (code != NX_EEMPTY) {
            nx_wake_withdraw(wake, NX_WAKE_SLEEPING);
            return code;
        }
        code = nx_wake_sleep(wake, stalled && left > STALL_SLICE_NS ? STALL_SLICE_NS : left);
        int saved = errno;
        nx_wake_withdraw(wake, NX_WAKE_SLEEPING);
        if (code == NX_ESYS) {
            errno = saved;
            return code;
        }
    }
}

void nx_ring_map_signal_room(nx_ring_map *map)
{
    (void)nx_wake_signal(&map->ring.header->room, -1);
}

int nx_ring_map_wait_room(nx_ring_map *map, uint64_t size, int64_t timeout_ns)
{
    _Atomic uint32_t *room = &map->ring.header->room;
    int64_t start = nx_ring_map_clock();

    if (size > map->ring.payload_max) {
        return NX_ETOOBIG;
    }
    if (has_room(&map->ring, size) || find_soon(map, &size, start, timeout_ns)) {
        return NX_OK;
    }
    for (;;) {
        int64_t left = start + timeout_ns - nx_ring_map_clock();
        if (left <= 0) {
            return NX_ETIMEOUT;
        }
        nx_wake_announce(room, NX_WAKE_SLEEPING);
        if (has_room(&map->ring, size)) {
            /* The announcement stays: another producer may sleep on it, too. */
            return NX_OK;
        }
        if (nx_ring_map_is_closed(map)) {
            return NX_ECLOSED;
        }
        if (nx_wake_sleep(room, left) == NX_ESYS) {
            return NX_ESYS;
        }
    }
}

int nx_ring_map_wake_fd(nx_ring_map *map)
{
    if (map->wake_fd < 0) {
        map->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return map->wake_fd;
}

int nx_ring_map_arm(nx_ring_map *map)
{
    uint64_t count;
    bool stalled;

    if (nx_ring_map_wake_fd(map) < 0) {
        return NX_ESYS;
    }
    /* EAGAIN says that nobody has written it; that is as good. */
    ssize_t drained = read(map->wake_fd, &count, sizeof count);
    (void)drained;
    nx_wake_announce(&map->ring.header->wake, NX_WAKE_ARMED);
    if (look(map, &stalled) == NX_EEMPTY) {
        return NX_OK;
    }
    nx_wake_withdraw(&map->ring.header->wake, NX_WAKE_ARMED);
    return NX_EBUSY;
}
