// SPDX-License-Identifier: Apache-2.0
/* nx_ring_map.h, nx_owner.h, nx_wake.h: files and seals, roles, fork, death, sleep, revocation. */
#include "nx_ring_map.h"
#include "nx_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static nx_ring_map *make(uint8_t flags)
{
    nx_ring_map *map = NULL;

    NX_ASSERT(nx_ring_map_create(5000, NX_RING_SPSC, flags, &map) == NX_OK);
    return map;
}

static nx_ring_map *attach(int fd)
{
    nx_ring_map *map = NULL;

    NX_ASSERT(nx_ring_map_attach(fd, false, &map) == NX_OK);
    return map;
}

static void test_create_rounds_up_and_refuses_nonsense(void)
{
    nx_ring_map *map = make(0);

    CHECK_EQ(nx_ring_capacity(&map->ring), 8192);
    CHECK_EQ(fcntl(map->fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
             F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    CHECK(ftruncate(map->fd, 0) != 0 && errno == EPERM);
    nx_ring_map_destroy(map);
    CHECK_EQ(nx_ring_map_create(0, NX_RING_SPSC, 0, &map), NX_EINVAL);
    CHECK_EQ(nx_ring_map_create(4096, 7, 0, &map), NX_EINVAL);
    CHECK_EQ(nx_ring_map_create(4096, NX_RING_SPSC, 2, &map), NX_EINVAL);
    CHECK_EQ(nx_ring_map_create((1ull << 30) + 1, NX_RING_SPSC, 0, &map), NX_ETOOBIG);
}

/* A file like a ring, but `spoil` of its bytes are different or its seals are missing. */
static int attach_file(uint64_t bytes, uint32_t header_bytes, int seals, bool revocable)
{
    nx_ring_header header;
    nx_ring_map *map = NULL;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    memset(&header, 0, sizeof header);
    CHECK_EQ(nx_ring_format(&header, header_bytes, 4096, NX_RING_SPSC, 0), NX_OK);
    CHECK(write(fd, &header, sizeof header) == sizeof header);
    CHECK(ftruncate(fd, (off_t)bytes) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, seals) == 0);
    int code = nx_ring_map_attach(fd, revocable, &map);
    if (code == NX_OK) {
        nx_ring_map_destroy(map);
    }
    close(fd);
    return code;
}

static void test_attach_takes_nothing_but_rings(void)
{
    int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    nx_ring_map *map = NULL;
    int ends[2];

    CHECK_EQ(attach_file(8192, 4096, all, false), NX_OK);
    CHECK_EQ(attach_file(8192, 4096, F_SEAL_GROW, false), NX_EDENIED);
    CHECK_EQ(attach_file(8192, 4096, 0, true), NX_OK);
    CHECK_EQ(attach_file(12288, 4096, all, false), NX_ECORRUPT);
    CHECK_EQ(attach_file(4096, 4096, all, false), NX_ECORRUPT);
    CHECK_EQ(attach_file(100, 4096, all, false), NX_ECORRUPT);
    CHECK_EQ(nx_ring_map_attach(-1, false, &map), NX_ESYS);
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK_EQ(nx_ring_map_attach(ends[0], true, &map), NX_ECORRUPT);
    close(ends[0]);
    close(ends[1]);
    CHECK(map == NULL);
}

static void test_a_role_has_one_holder(void)
{
    nx_ring_map *one = make(0);
    nx_ring_map *two = attach(one->fd);

    CHECK_EQ(nx_ring_map_take_producer(one, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_producer(one, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_producer(two, false), NX_EBUSY);
    CHECK_EQ(nx_ring_map_take_consumer(two, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_consumer(one, false), NX_EBUSY);
    CHECK_EQ(nx_ring_put(&one->ring, "a", 1), NX_OK);
    nx_ring_map_destroy(one);
    CHECK_EQ(nx_ring_map_take_producer(two, false), NX_OK);
    CHECK_EQ(two->ring.records_in, 1);
    nx_ring_map_destroy(two);
}

static int run_child(nx_ring_map *map, int (*body)(nx_ring_map *))
{
    int status = 0;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        _exit(body(map));
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int child_is_refused(nx_ring_map *map)
{
    /* The handle came by fork: the role stayed with the parent. */
    if (nx_ring_map_take_producer(map, false) != NX_EBUSY) {
        return 1;
    }
    nx_ring_map_destroy(map);
    return 0;
}

static int child_dies_in_role(nx_ring_map *map)
{
    nx_ring_map *own = attach(map->fd);

    if (nx_ring_map_take_producer(own, false) != NX_OK ||
        nx_ring_put(&own->ring, "c", 1) != NX_OK) {
        return 1;
    }
    return 0; /* without giving back: as good as killed */
}

static void test_fork_leaves_the_role_with_the_parent(void)
{
    nx_ring_map *map = make(0);

    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(run_child(map, child_is_refused), 0);
    CHECK(map->ring.header->producer_owner == nx_owner_self());
    nx_ring_map_destroy(map);
}

static void test_the_role_of_the_dead_passes_on(void)
{
    uint64_t settled = 9;
    nx_ring_map *map = make(0);

    CHECK_EQ(run_child(map, child_dies_in_role), 0);
    CHECK(map->ring.header->producer_owner != 0);
    CHECK_EQ(nx_ring_map_repair(map, false, &settled), NX_OK);
    CHECK_EQ(settled, 1);
    CHECK(map->ring.header->producer_owner == 0);
    CHECK_EQ(run_child(map, child_dies_in_role), 0);
    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(map->ring.records_in, 2);
    CHECK_EQ(nx_ring_map_repair(map, true, &settled), NX_OK);
    CHECK_EQ(settled, 0); /* what is our own is never taken */
    nx_ring_map_destroy(map);
}

static void test_doubt_counts_as_alive(void)
{
    uint64_t self = nx_owner_self();
    uint64_t namespace_bit = 1ull << 50;
    uint64_t start_bit = 1ull << 30;

    CHECK(self >> 46 != 0 && (self >> 22 & 0xffffff) != 0);
    CHECK_EQ(nx_owner_pid(self), getpid());
    CHECK(!nx_owner_is_dead(self));
    CHECK(nx_owner_is_dead(0));
    CHECK(nx_owner_is_dead(self ^ start_bit));                  /* the pid was reused */
    CHECK(!nx_owner_is_dead(self ^ start_bit ^ namespace_bit)); /* of another namespace */
    CHECK(!nx_owner_is_dead(self & ((1ull << 22) - 1)));        /* nothing known but the pid */
    CHECK(nx_owner_is_dead(self | 0x3fffff));                   /* above pid_max */
}

static void test_force_takes_a_role_from_the_living(void)
{
    nx_ring_map *one = make(0);
    nx_ring_map *two = attach(one->fd);

    CHECK_EQ(nx_ring_map_take_consumer(one, false), NX_OK);
    one->ring.header->consumer_owner ^= 1ull << 50; /* of another pid namespace */
    uint64_t theirs = one->ring.header->consumer_owner;
    CHECK_EQ(nx_ring_map_take_consumer(two, false), NX_EBUSY);
    CHECK(one->ring.header->consumer_owner == theirs);
    CHECK_EQ(nx_ring_map_take_consumer(two, true), NX_OK);
    nx_ring_map_destroy(two);
    nx_ring_map_destroy(one);
}

static void *put_later(void *argument)
{
    nx_ring_map *map = argument;

    usleep(20000);
    NX_ASSERT(nx_ring_put(&map->ring, "w", 1) == NX_OK);
    nx_ring_map_notify(map);
    return NULL;
}

static void test_wait_ends_by_record_and_by_time(void)
{
    nx_ring_map *map = make(0);
    pthread_t thread;
    const uint8_t *got;
    uint32_t size;

    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_consumer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_wait(map, 0), NX_ETIMEOUT);
    int64_t begin = nx_ring_map_clock();
    CHECK_EQ(nx_ring_map_wait(map, 3000000), NX_ETIMEOUT);
    CHECK(nx_ring_map_clock() - begin >= 3000000);
    CHECK((map->ring.header->wake & 3) == 0);
    for (int fence = 0; fence < 2; fence++) {
        map->fence = fence != 0;
        CHECK(pthread_create(&thread, NULL, put_later, map) == 0);
        begin = nx_ring_map_clock();
        CHECK_EQ(nx_ring_map_wait(map, 10000000000ll), NX_OK);
        CHECK(nx_ring_map_clock() - begin < 5000000000ll);
        pthread_join(thread, NULL);
        CHECK_EQ(nx_ring_peek(&map->ring, &got, &size), NX_OK);
        nx_ring_release(&map->ring, size);
    }
    nx_ring_map_destroy(map);
}

static void test_armed_eventfd_is_written_once(void)
{
    nx_ring_map *map = make(0);
    struct pollfd ready = {.events = POLLIN};
    uint64_t count = 0;

    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_consumer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_arm(map), NX_OK);
    ready.fd = map->wake_fd;
    CHECK(poll(&ready, 1, 0) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(nx_ring_put(&map->ring, "e", 1), NX_OK);
        nx_ring_map_notify(map);
    }
    CHECK(poll(&ready, 1, 0) == 1);
    CHECK(read(map->wake_fd, &count, sizeof count) == sizeof count && count == 1);
    CHECK_EQ(nx_ring_map_arm(map), NX_EBUSY);
    nx_ring_map_destroy(map);
}

static void test_wake_without_eventfd_is_counted(void)
{
    nx_ring_map *one = make(0);
    nx_ring_map *two = attach(one->fd);

    CHECK_EQ(nx_ring_map_take_consumer(one, false), NX_OK);
    CHECK_EQ(nx_ring_map_arm(one), NX_OK);
    CHECK_EQ(nx_ring_map_take_producer(two, false), NX_OK);
    CHECK_EQ(nx_ring_put(&two->ring, "e", 1), NX_OK);
    nx_ring_map_notify(two);
    CHECK_EQ(two->ring.header->wakes_lost, 1);
    nx_ring_map_destroy(one);
    nx_ring_map_destroy(two);
}

static int child_touches_after_revocation(nx_ring_map *map)
{
    nx_ring_map *own = NULL;
    nx_ring_map *mine = NULL;

    if (nx_ring_map_attach(map->fd, false, &own) != NX_EDENIED ||
        nx_ring_map_attach(map->fd, true, &own) != NX_OK ||
        nx_ring_map_attach(map->fd, true, &mine) != NX_OK ||
        nx_ring_map_take_producer(own, false) != NX_OK ||
        nx_ring_put(&own->ring, "x", 1) != NX_OK) {
        return 1;
    }
    signal(SIGBUS, SIG_DFL); /* sanitizers would report and exit */
    if (nx_ring_map_revoke(mine) != NX_OK || nx_ring_map_revoke(mine) != NX_OK) {
        return 2;
    }
    nx_ring_put(&own->ring, "y", 1);
    return 3;
}

static void test_revocation_faults_whoever_touches(void)
{
    nx_ring_map *map = make(NX_RING_REVOCABLE);
    nx_ring_map *fixed = make(0);

    CHECK_EQ(run_child(map, child_touches_after_revocation), -SIGBUS);
    CHECK_EQ(nx_ring_map_revoke(map), NX_OK);
    nx_ring_map_destroy(map);
    CHECK_EQ(nx_ring_map_revoke(fixed), NX_EDENIED);
    nx_ring_map_destroy(fixed);
}

enum { ROOM_RECORDS = 5000, ROOM_BYTES = 1000 };

static void *send_all(void *argument)
{
    nx_ring_map *map = argument;
    uint64_t record[ROOM_BYTES / 8] = {0};

    NX_ASSERT(nx_ring_map_take_producer(map, false) == NX_OK);
    for (uint64_t i = 0; i < ROOM_RECORDS; i++) {
        record[0] = i;
        int code;
        while ((code = nx_ring_put(&map->ring, record, sizeof record)) == NX_EFULL) {
            code = nx_ring_map_wait_room(map, sizeof record, 60000000000ll);
            NX_ASSERT(code == NX_OK);
        }
        NX_ASSERT(code == NX_OK);
        nx_ring_map_notify(map);
    }
    return NULL;
}

/* Eight records fill the ring, so either side sleeps all the time; a lost wake costs 0.2 s. */
static void test_a_producer_that_waits_for_room_is_woken(void)
{
    nx_ring_map *consumer = make(0);
    nx_ring_map *producer = attach(consumer->fd);
    pthread_t thread;
    int64_t start = nx_ring_map_clock();

    CHECK_EQ(nx_ring_map_take_consumer(consumer, false), NX_OK);
    consumer->ring.publish_bytes = 0;
    CHECK_EQ(pthread_create(&thread, NULL, send_all, producer), 0);
    for (uint64_t i = 0; i < ROOM_RECORDS; i++) {
        const uint8_t *record;
        uint32_t size;
        int code;
        while ((code = nx_ring_peek(&consumer->ring, &record, &size)) == NX_EEMPTY) {
            NX_ASSERT(nx_ring_map_wait(consumer, 60000000000ll) == NX_OK);
        }
        NX_ASSERT(code == NX_OK && size == ROOM_BYTES && nx_load_u64(record) == i);
        nx_ring_release(&consumer->ring, size);
        nx_ring_map_notify_room(consumer);
    }
    pthread_join(thread, NULL);
    CHECK(nx_ring_map_clock() - start < 60000000000ll);
    nx_ring_map_destroy(producer);
    nx_ring_map_destroy(consumer);
}

static void test_waiting_for_room_ends(void)
{
    nx_ring_map *map = make(0);
    uint8_t record[ROOM_BYTES] = {0};

    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_wait_room(map, ROOM_BYTES, 0), NX_OK);
    while (nx_ring_put(&map->ring, record, sizeof record) == NX_OK) {
    }
    CHECK_EQ(nx_ring_map_wait_room(map, ROOM_BYTES, 1000000), NX_ETIMEOUT);
    CHECK_EQ(nx_ring_map_wait_room(map, 0, 0), NX_OK); /* something small still fits */
    CHECK_EQ(nx_ring_map_wait_room(map, map->ring.payload_max + 1u, 0), NX_ETOOBIG);
    /* A tail that cannot be: the put is to find out, not the sleeper. */
    atomic_store(&map->ring.header->tail, 1u << 20);
    CHECK_EQ(nx_ring_map_wait_room(map, ROOM_BYTES, 1000000000), NX_OK);
    CHECK_EQ(nx_ring_put(&map->ring, record, sizeof record), NX_ECORRUPT);
    nx_ring_map_destroy(map);
}

static _Atomic uint64_t word;

/* Takes the ring away while somebody sleeps on it, from nothing to one other bit to its own. */
static void *close_soon(void *unused)
{
    (void)unused;
    atomic_store(&word, 1);
    usleep(50000);
    atomic_store(&word, 1 | 1u << 5);
    return NULL;
}

/* The word wakes nobody; a sleeper looks again in time, and not before it has its bit. */
static void test_who_heeds_a_word_is_told_in_time(void)
{
    nx_ring_map *map = make(0);
    uint8_t record[ROOM_BYTES] = {0};
    pthread_t thread;

    CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    CHECK_EQ(nx_ring_map_take_consumer(map, false), NX_OK);
    CHECK(!nx_ring_map_is_closed(map));
    nx_ring_map_heed(map, &word, 1u << 5);
    for (int waits_for_room = 0; waits_for_room < 2; waits_for_room++) {
        atomic_store(&word, 0);
        CHECK(!nx_ring_map_is_closed(map));
        CHECK_EQ(pthread_create(&thread, NULL, close_soon, NULL), 0);
        int64_t start = nx_ring_map_clock();
        int code = waits_for_room != 0 ? nx_ring_map_wait_room(map, ROOM_BYTES, 60000000000ll)
                                       : nx_ring_map_wait(map, 60000000000ll);
        CHECK_EQ(code, NX_ECLOSED);
        CHECK(nx_ring_map_clock() - start < 10000000000ll); /* 0.25 s, but for other load */
        pthread_join(thread, NULL);
        CHECK(nx_ring_map_is_closed(map));
        while (nx_ring_put(&map->ring, record, sizeof record) == NX_OK) {
        }
    }
    nx_ring_map_destroy(map);
}

/* In strict mode every system call but read, write and exit is death. */
static int put_and_get_without_system_calls(nx_ring_map *map, bool reader_sleeps)
{
    if (nx_ring_map_take_producer(map, false) != NX_OK ||
        nx_ring_map_take_consumer(map, false) != NX_OK) {
        return 2;
    }
    if (reader_sleeps) {
        nx_wake_announce(&map->ring.header->wake, NX_WAKE_SLEEPING);
    }
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) {
        return 3;
    }
    for (int i = 0; i < 1000; i++) {
        const uint8_t *place;
        uint32_t size;
        if (nx_ring_put(&map->ring, "record", 6) != NX_OK) {
            syscall(SYS_exit, 4);
        }
        nx_ring_map_notify(map);
        if (nx_ring_peek(&map->ring, &place, &size) != NX_OK) {
            syscall(SYS_exit, 5);
        }
        nx_ring_release(&map->ring, size);
        nx_ring_map_notify_room(map);
    }
    syscall(SYS_exit, 0);
    return 6;
}

static int child_beside_an_awake_reader(nx_ring_map *map)
{
    return put_and_get_without_system_calls(map, false);
}

static int child_beside_a_sleeping_reader(nx_ring_map *map)
{
    return put_and_get_without_system_calls(map, true);
}

static void test_only_a_sleeping_reader_costs_a_system_call(void)
{
    nx_ring_map *map = make(0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    int awake = 3; /* a sanitizer has threads and calls of its own */
#else
    int awake = run_child(map, child_beside_an_awake_reader);
#endif

    if (awake == 3) {
        (void)child_beside_an_awake_reader;
        printf("system calls of a put not checked: no strict seccomp here\n");
    } else {
        CHECK_EQ(awake, 0);
        CHECK_EQ(run_child(map, child_beside_a_sleeping_reader), -SIGKILL);
    }
    nx_ring_map_destroy(map);
}

int main(void)
{
    test_create_rounds_up_and_refuses_nonsense();
    test_attach_takes_nothing_but_rings();
    test_a_role_has_one_holder();
    test_fork_leaves_the_role_with_the_parent();
    test_the_role_of_the_dead_passes_on();
    test_doubt_counts_as_alive();
    test_force_takes_a_role_from_the_living();
    test_wait_ends_by_record_and_by_time();
    test_armed_eventfd_is_written_once();
    test_wake_without_eventfd_is_counted();
    test_revocation_faults_whoever_touches();
    test_a_producer_that_waits_for_room_is_woken();
    test_waiting_for_room_ends();
    test_who_heeds_a_word_is_told_in_time();
    test_only_a_sleeping_reader_costs_a_system_call();
    TEST_MAIN_END();
}
