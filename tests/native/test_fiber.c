// SPDX-License-Identifier: Apache-2.0
/* nx_fiber.h: the list of handles, hostile lists, and sleeping on a life page. */
#include "nx_fiber.h"
#include "nx_test.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int parse(const char *text, nx_fiber_handles *ret)
{
    size_t at = 0;

    return nx_fiber_parse(text, strlen(text), ret, &at);
}

static void test_every_kind_is_found(void)
{
    nx_fiber_handles found;
    const char *text = "life=3 checkpoint=4 read:in=5 write:out.a-b_9=63 open:in=10";

    CHECK_EQ(parse(text, &found), NX_OK);
    CHECK_EQ(found.life, 3);
    CHECK_EQ(found.checkpoint, 4);
    CHECK_EQ(found.count, 3);
    CHECK_EQ(found.handles[0].kind, NX_FIBER_READ);
    CHECK_EQ(found.handles[0].descriptor, 5);
    CHECK_EQ(found.handles[1].kind, NX_FIBER_WRITE);
    CHECK(found.handles[1].name_size == 9 && memcmp(found.handles[1].name, "out.a-b_9", 9) == 0);
    CHECK_EQ(found.handles[2].kind, NX_FIBER_OPEN);
    CHECK_EQ(parse("", &found), NX_OK);
    CHECK_EQ(found.count, 0);
    CHECK_EQ(found.life, -1);
    CHECK_EQ(found.checkpoint, -1);
}

static void test_wrong_lists_are_refused(void)
{
    static const char *const wrong[] = {
        " ",
        "life=3 ",
        " life=3",
        "life=3  checkpoint=4",
        "life",
        "life=",
        "life=2",
        "life=64",
        "life=03",
        "life=3x",
        "life=-3",
        "life=+3",
        "life=100",
        "life:a=3",
        "life=3 life=4",
        "life=3 checkpoint=3",
        "read=3",
        "read:=3",
        "read:a",
        "read:a=",
        "read:a b=3",
        "read:a=b=3",
        "read:\xc3\xa9=3",
        "read:a=3 write:a=4",
        "Life=3",
        "open:a=3 open:a=4",
        "read:a=3 read:a=4",
        "reads:a=3",
        "life=3\n",
        "life=3\tread:a=4",
        "read:a/b=3",
        "checkpoint=5 checkpoint=6",
    };
    nx_fiber_handles found = {.count = 77};

    for (size_t i = 0; i < NX_ARRAY_COUNT(wrong); i++) {
        if (parse(wrong[i], &found) != NX_EINVAL) {
            fprintf(stderr, "accepted: '%s'\n", wrong[i]);
            CHECK(false);
        }
        CHECK_EQ(found.count, 77);
    }
}

static void test_limits(void)
{
    static char text[NX_FIBER_TEXT_MAX + 2];
    nx_fiber_handles found;
    size_t at = 0, size = 0;
    char name[NX_FIBER_NAME_MAX + 2];

    memset(name, 'n', sizeof name);
    name[NX_FIBER_NAME_MAX + 1] = 0;
    snprintf(text, sizeof text, "read:%s=3", name);
    CHECK_EQ(parse(text, &found), NX_EINVAL);
    name[NX_FIBER_NAME_MAX] = 0;
    snprintf(text, sizeof text, "read:%s=3", name);
    CHECK_EQ(parse(text, &found), NX_OK);
    CHECK_EQ(found.handles[0].name_size, NX_FIBER_NAME_MAX);
    for (int i = 3; i <= 63; i++) {
        size += (size_t)snprintf(text + size, sizeof text - size, "%swrite:%.60s%02d=%d",
                                 i == 3 ? "" : " ", name, i, i);
    }
    CHECK_EQ(parse(text, &found), NX_OK);
    CHECK_EQ(found.count, NX_FIBER_HANDLES);
    /* No byte behind the size counts. */
    CHECK_EQ(nx_fiber_parse("life=33", 6, &found, &at), NX_OK);
    CHECK_EQ(found.life, 3);
    memset(text, 'a', sizeof text);
    CHECK_EQ(nx_fiber_parse(text, NX_FIBER_TEXT_MAX + 1, &found, &at), NX_ETOOBIG);
    CHECK_EQ(nx_fiber_parse(text, NX_FIBER_TEXT_MAX, &found, &at), NX_EINVAL);
    CHECK_EQ(nx_fiber_parse("life=3 read:a=9 x", 17, &found, &at), NX_EINVAL);
    CHECK_EQ(at, 16);
}

static nx_fiber_life *writable;
static const nx_fiber_life *readable;

static int make_page(size_t size)
{
    int fd = memfd_create("life", MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Not before the other one sleeps: tries until the kernel says that it woke somebody. */
static void wake_a_sleeper(void)
{
    do {
        usleep(1000);
    } while (syscall(SYS_futex, &writable->life, FUTEX_WAKE, INT_MAX, NULL, NULL, 0) == 0);
}

static void *begin_life(void *unused)
{
    wake_a_sleeper();
    wake_a_sleeper(); /* so it went back to sleep after the first wake */
    writable->floor = 12;
    atomic_store_explicit(&writable->life, 4, memory_order_release);
    syscall(SYS_futex, &writable->life, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return unused;
}

static void test_a_sleeper_wakes_with_its_life(void)
{
    pthread_t thread;
    int woken = 0, code;

    CHECK_EQ(nx_fiber_life_wait(readable, now_ns()), NX_ETIMEOUT);
    CHECK_EQ(nx_fiber_life_wait(readable, now_ns() + 1000000), NX_ETIMEOUT);
    CHECK_EQ(pthread_create(&thread, NULL, begin_life, NULL), 0);
    while ((code = nx_fiber_life_wait(readable, INT64_MAX)) == NX_EEMPTY) {
        woken++;
    }
    CHECK_EQ(code, NX_OK);
    CHECK(woken >= 1); /* it slept, and a wake without a life did not end the wait */
    CHECK_EQ(readable->life, 4);
    CHECK_EQ(readable->floor, 12);
    CHECK_EQ(nx_fiber_life_wait(readable, 0), NX_OK);
    pthread_join(thread, NULL);
}

static void on_signal(int number)
{
    (void)number;
}

static void test_a_signal_interrupts_without_an_error(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerspec soon = {.it_value = {.tv_nsec = 2000000},
                              .it_interval = {.tv_nsec = 2000000}};
    timer_t timer;

    atomic_store(&writable->life, 0);
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
    CHECK_EQ(timer_settime(timer, 0, &soon, NULL), 0);
    CHECK_EQ(nx_fiber_life_wait(readable, INT64_MAX), NX_EEMPTY);
    timer_delete(timer);
}

static void test_other_files_are_refused(void)
{
    const nx_fiber_life *page = NULL;
    int small = make_page(63), large = make_page(4096), pipes[2];

    CHECK_EQ(nx_fiber_life_map(small, &page), NX_EINVAL);
    CHECK_EQ(nx_fiber_life_map(large, &page), NX_EINVAL);
    CHECK_EQ(nx_fiber_life_map(-1, &page), NX_ESYS);
    CHECK_EQ(errno, EBADF);
    CHECK_EQ(pipe(pipes), 0);
    CHECK_EQ(nx_fiber_life_map(pipes[0], &page), NX_ESYS);
    CHECK_EQ(errno, ESPIPE);
    CHECK(page == NULL);
}

/* Parses a list of five handles; instruction budget. */
NX_NOINLINE static unsigned bench_fiber_parse(const char *text, size_t size)
{
    nx_fiber_handles found;
    size_t at;
    unsigned count = 0;

    for (int i = 0; i < 100; i++) {
        count += nx_fiber_parse(text, size, &found, &at) == NX_OK ? found.count : 0;
    }
    return count;
}

int main(int argc, char **argv)
{
    static const char list[] = "life=3 checkpoint=4 read:numbers=5 write:totals=6 open:device=7";
    int fd = make_page(NX_FIBER_LIFE);

    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        CHECK_EQ(bench_fiber_parse(list, sizeof list - 1), 300);
        TEST_MAIN_END();
    }
    writable = mmap(NULL, NX_FIBER_LIFE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(writable != MAP_FAILED);
    CHECK_EQ(nx_fiber_life_map(fd, &readable), NX_OK);
    test_every_kind_is_found();
    test_wrong_lists_are_refused();
    test_limits();
    test_a_sleeper_wakes_with_its_life();
    test_a_signal_interrupts_without_an_error();
    test_other_files_are_refused();
    nx_fiber_life_unmap(readable);
    TEST_MAIN_END();
}
