// SPDX-License-Identifier: Apache-2.0
/* nx_mmio.h and nx_guard.h on plain memory: checks, values, tapes, waits and lost mappings. */
#include "nx_guard.h"
#include "nx_mmio.h"
#include "nx_test.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t memory[8];

static nx_mmio plain_window(uint32_t mode)
{
    nx_mmio mmio;

    memset(memory, 0, sizeof memory);
    CHECK_EQ(nx_mmio_init(&mmio, memory, sizeof memory, mode, NULL), NX_OK);
    return mmio;
}

static void test_init_refuses_nonsense(void)
{
    nx_mmio mmio;
    nx_mmio_tape tape = {0};

    CHECK_EQ(nx_mmio_init(&mmio, memory, 0, 0, NULL), NX_EINVAL);
    CHECK_EQ(nx_mmio_init(&mmio, NULL, 64, 0, NULL), NX_EINVAL);
    CHECK_EQ(nx_mmio_init(&mmio, memory, 64, NX_MMIO_RECORDED, NULL), NX_EINVAL);
    CHECK_EQ(nx_mmio_init(&mmio, memory, 64, NX_MMIO_REPLAYED, &tape), NX_EINVAL);
    CHECK_EQ(nx_mmio_init(&mmio, NULL, 64, NX_MMIO_REPLAYED, &tape), NX_OK);
}

/* Every width at every offset, in and out of bounds: what passes is exactly what is aligned and
 * inside, and a refused access changes nothing. */
static void test_checks(void)
{
    nx_mmio mmio = plain_window(0);
    static const uint32_t widths[] = {1, 2, 4, 8};

    for (size_t w = 0; w < NX_ARRAY_COUNT(widths); w++) {
        uint32_t width = widths[w];
        for (uint64_t offset = 0; offset < sizeof memory + 9; offset++) {
            bool inside = offset + width <= sizeof memory;
            int want = !inside ? NX_ERANGE : offset % width != 0 ? NX_EALIGN : NX_OK;
            uint64_t value = 77;
            memset(memory, 0, sizeof memory);
            CHECK_EQ(nx_mmio_read(&mmio, offset, width, &value), want);
            CHECK_EQ(value, want == NX_OK ? 0 : 77);
            CHECK_EQ(nx_mmio_write(&mmio, offset, width, 0xa5), want);
            CHECK_EQ(((uint8_t *)memory)[offset % sizeof memory], want == NX_OK ? 0xa5 : 0);
        }
        CHECK_EQ(nx_mmio_write(&mmio, UINT64_MAX - width + 1, width, 1), NX_ERANGE);
    }
    CHECK_EQ(nx_mmio_write(&mmio, 0, 3, 1), NX_EINVAL);
    CHECK_EQ(nx_mmio_write(&mmio, 0, 1, 256), NX_EINVAL);
    nx_mmio_deinit(&mmio);
    uint32_t word = 5;
    CHECK_EQ(nx_mmio_read32(&mmio, 0, &word), NX_ECLOSED);
    CHECK_EQ(word, 5);
}

static void test_inline_accessors(void)
{
    nx_mmio mmio = plain_window(0);
    uint8_t byte;
    uint16_t half;
    uint32_t word;
    uint64_t dword;

    CHECK_EQ(nx_mmio_write64(&mmio, 8, 0x1122334455667788u), NX_OK);
    CHECK(nx_mmio_read8(&mmio, 8, &byte) == NX_OK && byte == 0x88);
    CHECK(nx_mmio_read16(&mmio, 10, &half) == NX_OK && half == 0x5566);
    CHECK(nx_mmio_read32(&mmio, 12, &word) == NX_OK && word == 0x11223344);
    CHECK(nx_mmio_read64(&mmio, 8, &dword) == NX_OK && dword == 0x1122334455667788u);
    CHECK_EQ(nx_mmio_write8(&mmio, 15, 0xee), NX_OK);
    CHECK_EQ(nx_mmio_write16_relaxed(&mmio, 12, 0xabcd), NX_OK);
    CHECK_EQ(memory[1], (long long)0xee22abcd55667788u);
    CHECK_EQ(nx_mmio_read32(&mmio, 2, &word), NX_EALIGN);
    CHECK_EQ(nx_mmio_write32(&mmio, 64, 0), NX_ERANGE);
    CHECK_EQ(nx_io_swap32(0x01020304), 0x04030201);
    CHECK_EQ(nx_io_swap16(0x0102), 0x0201);
    CHECK_EQ(nx_io_swap64(1), 1ll << 56);
}

static void test_readonly_refuses_writes(void)
{
    nx_mmio mmio = plain_window(NX_MMIO_READONLY);
    uint32_t word = 1;

    CHECK_EQ(nx_mmio_write32(&mmio, 0, 1), NX_EDENIED);
    CHECK_EQ(nx_mmio_update(&mmio, 0, 4, 1, 1), NX_EDENIED);
    CHECK_EQ(nx_mmio_copy_out(&mmio, 0, 4, 1, &word), NX_EDENIED);
    CHECK(nx_mmio_read32(&mmio, 0, &word) == NX_OK && word == 0);
}

static void test_update_and_blocks(void)
{
    nx_mmio mmio = plain_window(0);
    uint8_t raw[17];

    memory[0] = 0xffff0000ffff0000u;
    CHECK_EQ(nx_mmio_update(&mmio, 0, 4, 0xff00, 0x1200), NX_OK);
    CHECK_EQ(memory[0], (long long)0xffff0000ffff1200u);
    CHECK_EQ(nx_mmio_update(&mmio, 0, 4, 0xff, 0x100), NX_EINVAL);
    CHECK_EQ(nx_mmio_update(&mmio, 0, 2, 0x10000, 0), NX_EINVAL);
    CHECK_EQ(memory[0], (long long)0xffff0000ffff1200u);

    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] = (uint8_t)(i + 1);
    }
    CHECK_EQ(nx_mmio_copy_out(&mmio, 16, 2, 8, raw + 1), NX_OK); /* unaligned source */
    CHECK(memcmp((uint8_t *)memory + 16, raw + 1, 16) == 0);
    memset(raw, 0, sizeof raw);
    CHECK_EQ(nx_mmio_copy_in(&mmio, 16, 8, 2, raw), NX_OK);
    CHECK_EQ(raw[0], 2);
    CHECK_EQ(raw[15], 17);
    CHECK_EQ(nx_mmio_write_fifo(&mmio, 32, 4, 3, raw), NX_OK);
    CHECK_EQ(memory[4], 0x0d0c0b0a);
    CHECK_EQ(nx_mmio_read_fifo(&mmio, 32, 4, 2, raw), NX_OK);
    CHECK(memcmp(raw, raw + 4, 4) == 0);
    CHECK_EQ(nx_mmio_copy_in(&mmio, 0, 4, 17, raw), NX_ERANGE);
    CHECK_EQ(nx_mmio_copy_in(&mmio, 0, 8, UINT64_MAX / 4, raw), NX_ERANGE);
    CHECK_EQ(nx_mmio_copy_in(&mmio, 0, 4, 0, raw), NX_OK);
}

static void test_record_then_replay(void)
{
    nx_mmio_access items[6];
    nx_mmio_tape tape = {.items = items, .capacity = NX_ARRAY_COUNT(items)};
    nx_mmio mmio;
    uint32_t word = 0;
    uint64_t pair[2] = {5, 6};

    memset(memory, 0, sizeof memory);
    CHECK_EQ(nx_mmio_init(&mmio, memory, sizeof memory, NX_MMIO_RECORDED, &tape), NX_OK);
    CHECK_EQ(nx_mmio_write32(&mmio, 4, 9), NX_OK);
    CHECK_EQ(nx_mmio_update(&mmio, 4, 4, 6, 6), NX_OK);
    CHECK_EQ(nx_mmio_copy_out(&mmio, 8, 8, 2, pair), NX_OK);
    CHECK_EQ(tape.count, 5);
    CHECK(items[1].op == NX_MMIO_OP_READ && items[1].value == 9 && items[1].width == 4);
    CHECK(items[2].op == NX_MMIO_OP_WRITE && items[2].value == 15 && items[2].offset == 4);
    CHECK(items[4].offset == 16 && items[4].value == 6 && items[4].width == 8);
    CHECK_EQ(nx_mmio_read32(&mmio, 64, &word), NX_ERANGE); /* no access, no entry */
    CHECK_EQ(tape.count, 5);
    nx_mmio_wait wait = {
        .offset = 0, .width = 4, .deadline_ns = UINT64_MAX, .spins_max = 3, .mask = 1, .want = 1};
    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_ETIMEOUT);
    nx_mmio_poll_end(&mmio, &wait);
    CHECK(items[5].op == NX_MMIO_OP_POLL && wait.spins == 3);
    CHECK_EQ(nx_mmio_read32(&mmio, 0, &word), NX_OK);
    CHECK(tape.count == 6 && tape.lost == 1);

    CHECK_EQ(nx_mmio_init(&mmio, NULL, sizeof memory, NX_MMIO_REPLAYED, &tape), NX_OK);
    CHECK_EQ(nx_mmio_write32(&mmio, 4, 8), NX_ECORRUPT);
    CHECK_EQ(nx_mmio_write16(&mmio, 4, 9), NX_ECORRUPT);
    CHECK_EQ(nx_mmio_read32(&mmio, 4, &word), NX_ECORRUPT);
    CHECK_EQ(nx_mmio_write32(&mmio, 4, 9), NX_OK);
    CHECK_EQ(nx_mmio_update(&mmio, 4, 4, 6, 6), NX_OK);
    CHECK_EQ(nx_mmio_copy_out(&mmio, 8, 8, 2, pair), NX_OK);
    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_ETIMEOUT);
    CHECK_EQ(nx_mmio_read32(&mmio, 0, &word), NX_EEMPTY);
}

static void *set_ready(void *argument)
{
    (void)argument;
    nx_io_store32(&memory[2], 0x80u);
    return NULL;
}

static void test_poll(void)
{
    nx_mmio mmio = plain_window(0);
    nx_mmio_wait wait = {.offset = 16,
                         .width = 4,
                         .mask = 0x80,
                         .want = 0x80,
                         .deadline_ns = 0,
                         .spins_max = UINT64_MAX};

    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_ETIMEOUT);
    CHECK(wait.spins >= 2); /* once more after the deadline */
    wait.deadline_ns = nx_mmio_now_ns() + 1000000;
    wait.interval_ns = 100000;
    wait.spins = 0;
    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_ETIMEOUT);
    CHECK(nx_mmio_now_ns() >= wait.deadline_ns);
    CHECK(wait.spins <= 12);
    wait.want = 0x100;
    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_EINVAL);

    pthread_t thread;
    wait = (nx_mmio_wait){.offset = 16,
                          .width = 4,
                          .mask = 0x80,
                          .want = 0x80,
                          .deadline_ns = UINT64_MAX,
                          .spins_max = UINT64_MAX};
    CHECK_EQ(pthread_create(&thread, NULL, set_ready, NULL), 0);
    CHECK_EQ(nx_mmio_poll(&mmio, &wait), NX_OK);
    CHECK_EQ(wait.value, 0x80);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static volatile sig_atomic_t foreign_signals;

static void on_foreign(int signal_number)
{
    (void)signal_number;
    foreign_signals++;
}

static void test_guard(void)
{
    long page = sysconf(_SC_PAGESIZE);
    int fd = memfd_create("guarded", MFD_CLOEXEC);
    struct sigaction foreign = {.sa_handler = on_foreign}, now;
    nx_mmio mmio;
    uint32_t word = 1;

    CHECK(fd >= 0 && ftruncate(fd, page) == 0);
    void *map = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    CHECK_EQ(sigaction(SIGBUS, &foreign, NULL), 0);
    CHECK_EQ(nx_guard_acquire(), NX_OK);
    CHECK_EQ(nx_guard_acquire(), NX_OK);
    CHECK_EQ(nx_mmio_init(&mmio, map, (uint64_t)page, NX_MMIO_GUARDED, NULL), NX_OK);
    CHECK_EQ(nx_mmio_write32(&mmio, 4, 3), NX_OK);
    CHECK_EQ(ftruncate(fd, 0), 0);
    for (int i = 0; i < 3; i++) { /* the signal must not stay blocked */
        CHECK_EQ(nx_mmio_read32(&mmio, 4, &word), NX_EFAULT);
        CHECK_EQ(nx_mmio_update(&mmio, 4, 4, 1, 1), NX_EFAULT);
    }
    CHECK_EQ(word, 1);
    CHECK_EQ(raise(SIGBUS), 0);
    CHECK_EQ(foreign_signals, 1);
    CHECK_EQ(ftruncate(fd, page), 0);
    CHECK(nx_mmio_read32(&mmio, 4, &word) == NX_OK && word == 0);
    nx_guard_release();
    CHECK_EQ(sigaction(SIGBUS, NULL, &now), 0);
    CHECK(now.sa_handler != on_foreign);
    nx_guard_release();
    CHECK_EQ(sigaction(SIGBUS, NULL, &now), 0);
    CHECK(now.sa_handler == on_foreign);
    CHECK(munmap(map, (size_t)page) == 0 && close(fd) == 0);
}

/* A SIGBUS that is not ours still ends the process as if there were no guard. */
static void test_guard_leaves_other_faults(void)
{
    pid_t child = fork();

    if (child == 0) {
        struct sigaction plain = {.sa_handler = SIG_DFL};
        int fd = memfd_create("other", MFD_CLOEXEC);
        (void)sigaction(SIGBUS, &plain, NULL);
        volatile uint8_t *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        _exit(nx_guard_acquire() == NX_OK ? map[0] : 99);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

NX_NOINLINE static uint32_t bench_mmio_read32(nx_mmio *mmio)
{
    uint32_t sum = 0, value = 0;

    for (uint64_t i = 0; i < 1024; i++) {
        (void)nx_mmio_read32(mmio, (i & 15) * 4, &value);
        sum += value;
    }
    return sum;
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "bench") == 0) {
        nx_mmio mmio = plain_window(0);
        return (int)bench_mmio_read32(&mmio);
    }
    test_init_refuses_nonsense();
    test_checks();
    test_inline_accessors();
    test_readonly_refuses_writes();
    test_update_and_blocks();
    test_record_then_replay();
    test_poll();
    test_guard();
    test_guard_leaves_other_faults();
    TEST_MAIN_END();
}
