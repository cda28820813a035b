// SPDX-License-Identifier: Apache-2.0
/* A ring from a file descriptor that a hostile peer made: attach, roles, healing, repair, sleep. */
#include "ring_file.h"

enum { PEER_WRITES, PRODUCER, CONSUMER, PUT, GET, HEAL, REPAIR, STATS, ARM, WAIT, LEAVE, DIE, OPS };

static void put_or_get(nx_ring_map *map, bool put, uint64_t size)
{
    static const uint8_t payload[NX_PAGE_SIZE_MIN];
    const nx_ring *ring = &map->ring;
    const uint8_t *at;
    uint32_t length;

    if (put && map->producer_generation != 0) {
        (void)(ring->kind == NX_RING_MPSC ? nx_mpsc_put(&map->ring, payload, size)
                                          : nx_ring_put(&map->ring, payload, size));
        nx_ring_map_notify(map);
    } else if (!put && map->consumer_generation != 0 &&
               nx_ring_peek(&map->ring, &at, &length) == NX_OK) {
        NX_ASSERT(at >= ring->data && at + length <= ring->data + 2 * nx_ring_capacity(ring));
        free(exact_copy(at, length));
        nx_ring_release(&map->ring, length);
    }
}

static void work(nx_ring_map *map, uint64_t op, uint64_t pick)
{
    uint64_t count, position;
    nx_ring_stats stats;

    if (op == PRODUCER) {
        (void)nx_ring_map_take_producer(map, pick & 1);
    } else if (op == CONSUMER) {
        (void)nx_ring_map_take_consumer(map, pick & 1);
    } else if (op == PUT || op == GET) {
        put_or_get(map, op == PUT, pick % NX_PAGE_SIZE_MIN);
    } else if (op == HEAL && map->consumer_generation != 0) {
        (void)nx_ring_map_heal(map, (int)(pick % 4));
    } else if (op == REPAIR) {
        (void)nx_ring_map_repair(map, pick & 1, &count);
    } else if (op == STATS) {
        nx_ring_map_read_stats(map, &stats);
    } else if (op == ARM && map->consumer_generation != 0) {
        (void)nx_ring_map_arm(map);
    } else if (op == WAIT && map->consumer_generation != 0) {
        (void)nx_ring_map_wait(map, pick == 99 ? 40000 : (int64_t)(pick % 64));
    } else if (op == DIE && map->ring.kind == NX_RING_MPSC && map->producer_generation != 0) {
        (void)nx_mpsc_claim(&map->ring, 8 + pick % 512 * 8, 1, &position); /* and never commits */
        nx_ring_map_leave_producer(map);
    } else if (op == LEAVE) {
        nx_ring_map_release(map);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint8_t *shared;
    nx_ring_map *map = NULL;
    int fd = hostile_file(&in, &shared);

    if (nx_ring_map_attach(fd, false, &map) == NX_OK) {
        while (in.size > 0) {
            uint64_t op = eat(&in, 1) % OPS;
            if (op == PEER_WRITES) {
                poke(&in, shared, file_bytes);
            } else {
                work(map, op, eat(&in, 2));
            }
        }
        nx_ring_map_destroy(map);
    }
    munmap(shared, file_bytes);
    close(fd);
    return 0;
}
