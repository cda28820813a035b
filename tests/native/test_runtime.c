// SPDX-License-Identifier: Apache-2.0
/*
 * The runtime of native fibers: lives are forks of this program, so addresses are the same in all.
 *
 * The kill campaign lets a life count in locals and checkpoint without pause, kills it at a random
 * moment, and begins the next one from what is in the slot, as a supervisor would. What a life
 * finds must be at least what an earlier one had acknowledged. The order "copy A, then copy B" must
 * lose some in the same campaign, or it proves nothing. Three lives of four kill themselves between
 * two pieces of a copy, the fourth is killed from outside at any instruction. TEST_SEED repeats a
 * run, but for the moments of the latter.
 */
#include "nexus_fiber.h"
#include "nexus_switch.h"
#include "nx_test.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static bool broken;
static void move_in_pieces(uint8_t *target, const uint8_t *source, size_t size);

#define NX_CHECKPOINT_STEP()                     (void)0
#define NX_CHECKPOINT_MOVE(target, source, size) move_in_pieces(target, source, size)
#define NX_CHECKPOINT_FIRST(writer)              (broken ? 0 : 1 - (writer)->newest)
#include "../../nexus/_core/csrc/nx_checkpoint.c"

/* A save moves 44 pieces: 21 of each body, and its digest. */
enum { KILLS = 300, IMAGE = 77, EPOCH = 3, PIECE = 2048, PIECES = 44 };

typedef struct {
    _Atomic uint64_t begun;        /* number of the life */
    _Atomic uint64_t acknowledged; /* the highest count that a checkpoint promised to keep */
    _Atomic uint64_t lost;
    _Atomic uint64_t wrong; /* locals that contradict each other */
    _Atomic uint64_t goes_on;
} notes_page;

static notes_page *notes;
static nx_checkpoint_slot *slot;
static int slot_fd, life_fd;
static uint64_t pieces_left; /* until this life kills itself; 0: it does not */

static void spin(int64_t ns)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < ns);
}

static void move_in_pieces(uint8_t *target, const uint8_t *source, size_t size)
{
    for (size_t at = 0; at < size; at += PIECE) {
        memcpy(target + at, source + at, size - at < PIECE ? size - at : PIECE);
        if (pieces_left > 0 && --pieces_left == 0) {
            kill(getpid(), SIGKILL);
        }
    }
}

/* What a supervisor does before a life: names the newest checkpoint in a page of its own. */
static void prepare(uint32_t number, uint64_t floor)
{
    nx_fiber_life page = {
        .life = number, .epoch = EPOCH, .own_epoch = EPOCH, .image = IMAGE, .floor = floor};

    if (life_fd > 0) {
        close(life_fd);
    }
    life_fd = memfd_create("life", 0);
    NX_ASSERT(write(life_fd, &page, sizeof page) == sizeof page);
}

static uint64_t newest(void)
{
    static nx_checkpoint_writer writer;

    nx_checkpoint_writer_init(slot, &writer);
    return writer.sequence;
}

static int begin(void)
{
    char text[64];
    char *environment[] = {"OTHER=1", text, NULL};

    snprintf(text, sizeof text, "NEXUS_FIBER=life=%d checkpoint=%d", life_fd, slot_fd);
    return nx_fiber_begin(environment);
}

/* Runs `function` as the next life; its result is the exit status, or 100 - code. */
static int live(uint32_t number, uint64_t floor, int (*function)(void *))
{
    int status = 0, result = 99;

    prepare(number, floor);
    fflush(NULL);
    pid_t pid = fork();
    NX_ASSERT(pid >= 0);
    if (pid == 0) {
        int code = begin();
        if (code == NX_OK) {
            code = nx_fiber_run(function, NULL, &result);
        }
        _exit(code == NX_OK ? result : 100 - code);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void empty_slot(void)
{
    static nx_checkpoint_writer writer;

    nx_checkpoint_writer_init(slot, &writer);
    nx_checkpoint_wipe(&writer);
}

/* Locals in every kind of place: registers, floating-point registers, the stack, a pointer. */
static NX_NOINLINE int deep(int level, double weight, const int *above)
{
    int own[8];

    for (int i = 0; i < 8; i++) {
        own[i] = level * 100 + i;
    }
    double half = weight / 2;
    int code = level == 0 ? nx_fiber_checkpoint("blob", 4) : deep(level - 1, half, own);
    int sum = 0;
    for (int i = 0; i < 8; i++) {
        sum += own[i] - level * 100 - i;
    }
    size_t size = 0;
    const void *blob = nx_fiber_restored(&size);
    bool same = half * 2 == weight && (above == NULL || above[7] == (level + 1) * 100 + 7);
    bool told = code == NX_FIBER_RESTORED ? size == 4 && memcmp(blob, "blob", 4) == 0 : size == 0;
    return sum != 0 ? 50 : !same ? 51 : !told ? 52 : code;
}

static int deep_function(void *argument)
{
    (void)argument;
    int code = deep(4, 3.0, NULL);
    /* 10: cold, 11: out of the middle. */
    return code == 0 || code == 1 ? 10 + code : code < 0 ? 90 : code;
}

static int other_function(void *argument)
{
    (void)argument;
    return 33;
}

static int greedy_function(void *argument)
{
    uint8_t much[9000];
    static uint8_t blob[NX_CHECKPOINT_BLOB + 1];

    (void)argument;
    memset(much, 1, sizeof much);
    __asm__ volatile("" : : "r"(much) : "memory"); /* all of it is in use */
    if (nx_fiber_checkpoint(blob, NX_CHECKPOINT_BLOB + 1) != NX_ETOOBIG) {
        return 60;
    }
    return nx_fiber_checkpoint(blob, 1) == NX_ETOOBIG && much[8999] == 1 ? 61 : 62;
}

static int overflowing_function(void *argument)
{
    volatile uint8_t much[NX_FIBER_STACK_SIZE];

    (void)argument;
    __asm__ volatile("" : : "r"(much) : "memory");
    for (size_t i = sizeof much; i > 0; i -= 512) {
        much[i - 512] = 1;
    }
    return 63;
}

static void test_a_life_goes_on_in_the_middle(void)
{
    empty_slot();
    CHECK_EQ(live(1, 0, deep_function), 10);
    uint64_t saved = newest();
    CHECK(saved > 0);
    CHECK_EQ(live(2, saved, deep_function), 11);
    CHECK_EQ(live(3, saved, deep_function), 11);
    CHECK_EQ(live(4, 0, deep_function), 10);         /* told to start cold */
    CHECK_EQ(live(5, saved + 2, deep_function), 10); /* replayed: older than the floor */
}

static void test_what_does_not_fit_is_refused(void)
{
    empty_slot();
    CHECK_EQ(live(1, 0, deep_function), 10);
    uint64_t saved = newest();
    CHECK_EQ(live(2, saved, other_function), 100 - NX_ESTALE);
    CHECK_EQ(live(3, 0, greedy_function), 61);
    CHECK_EQ(newest(), saved);
    CHECK_EQ(live(4, 0, overflowing_function), -SIGSEGV);
    CHECK_EQ(live(5, saved, deep_function), 11);
}

/* A checkpoint with a right digest and a frame that the runtime must not jump to. */
static int live_from(uint64_t machine, uint64_t sp, size_t stack_size)
{
    static nx_checkpoint_writer writer;
    static uint8_t stack[NX_CHECKPOINT_STACK];
    uint64_t frame[NX_FRAME_WORDS] = {
        1,
        sp,
        machine,
        (uint64_t)(uintptr_t)deep_function,
    };
    nx_checkpoint_content content = {.image = IMAGE,
                                     .epoch = EPOCH,
                                     .frame = (uint8_t *)frame,
                                     .stack = stack,
                                     .stack_size = stack_size,
                                     .blob = (const uint8_t *)"blob",
                                     .blob_size = 4};
    uint64_t sequence = 0;

    nx_checkpoint_writer_init(slot, &writer);
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    return live(9, sequence, deep_function);
}

static void test_hostile_frames_are_refused(void)
{
    uint64_t top = NX_FIBER_STACK_BASE + NX_FIBER_STACK_SIZE;
    uint64_t here = NX_FRAME_MACHINE_HERE;

    CHECK_EQ(live_from(here + 1, top - 512, 512), 100 - NX_ECORRUPT);
    CHECK_EQ(live_from(here, top - 512, 528), 100 - NX_ECORRUPT);
    CHECK_EQ(live_from(here, top + 512, 512), 100 - NX_ECORRUPT);
    CHECK_EQ(live_from(here, top - 520, 520), 100 - NX_ECORRUPT);
    CHECK_EQ(live_from(here, 4096, 0), 100 - NX_ECORRUPT);
    CHECK_EQ(live_from(here, UINT64_MAX - 15, 0), 100 - NX_ECORRUPT);
    /* No frame at all, as a Python fiber saves: the function begins, and has the blob. */
    CHECK_EQ(live_from(0, 0, 0), 52);
}

static void test_calls_in_a_wrong_order_are_refused(void)
{
    char *none[] = {"NEXUS_FIBERS=life=3", NULL};
    char *wrong[] = {"NEXUS_FIBER=life=3 ", NULL};
    char *closed[] = {"NEXUS_FIBER=life=63", NULL};
    int status = 0;

    CHECK_EQ(nx_fiber_begin(none), NX_EABSENT);
    CHECK_EQ(nx_fiber_begin(wrong), NX_EINVAL);
    CHECK_EQ(nx_fiber_begin(closed), NX_EINVAL);
    CHECK_EQ(nx_fiber_checkpoint(NULL, 0), NX_EINVAL);
    prepare(1, 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int result = 0;
        bool fine = begin() == NX_OK && begin() == NX_EBUSY && nx_fiber_life_number() == 1;
        fine &= nx_fiber_run(other_function, NULL, &result) == NX_OK && result == 33;
        fine &= nx_fiber_run(other_function, NULL, &result) == NX_EBUSY;
        fine &= nx_fiber_descriptor(NX_FIBER_READ, NULL) == NX_EABSENT;
        _exit(fine ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    CHECK_EQ(status, 0);
}

/* Counts for ever; `twin` and `powers` must agree with `count` at all times. */
static int count_function(void *argument)
{
    uint64_t count = 0, twin = 0;
    uint64_t powers[32] = {0};
    uint64_t *place = &powers[3];
    double real = 0;

    (void)argument;
    if (notes->acknowledged != 0) {
        notes->lost++; /* a cold start, though something was promised */
        count = twin = notes->acknowledged;
        real = (double)count;
    }
    while (notes->begun != 0) {
        count++;
        twin++;
        real += 1;
        for (unsigned i = 0; i < 32; i++) {
            powers[i] = count * (i + 1);
        }
        int code = nx_fiber_checkpoint(&count, sizeof count);
        size_t size;
        const uint64_t *blob = nx_fiber_restored(&size);
        if (code < 0 || twin != count || real != (double)count || *place != 4 * count ||
            powers[31] != 32 * count ||
            (code == NX_FIBER_RESTORED && (size != 8 || *blob != count))) {
            notes->wrong++;
        }
        if (code == NX_FIBER_RESTORED) {
            notes->goes_on++;
            notes->lost += count < notes->acknowledged;
        } else {
            notes->acknowledged = count;
        }
    }
    return 0;
}

static uint64_t campaign(uint64_t seed, int kills)
{
    memset(notes, 0, sizeof *notes);
    empty_slot();
    for (int i = 1; i <= kills; i++) {
        bool outside = i % 4 == 0;
        prepare((uint32_t)i, newest());
        pieces_left = outside ? 0 : 1 + nx_test_random(&seed) % (PIECES + PIECES / 2);
        fflush(NULL);
        notes->begun = 0;
        pid_t pid = fork();
        NX_ASSERT(pid >= 0);
        if (pid == 0) {
            int result;
            int code = begin();
            notes->begun = (uint64_t)i;
            if (code == NX_OK) {
                code = nx_fiber_run(count_function, NULL, &result);
            }
            notes->wrong++; /* it does not return */
            _exit(1);
        }
        while (outside && notes->begun != (uint64_t)i) {
            sched_yield();
        }
        if (outside) {
            spin((int64_t)(nx_test_random(&seed) % 200000));
            kill(pid, SIGKILL);
        }
        waitpid(pid, NULL, 0);
    }
    return notes->lost;
}

static void test_kills_lose_nothing_that_was_acknowledged(uint64_t seed)
{
    broken = false;
    CHECK_EQ(campaign(seed, KILLS), 0);
    CHECK_EQ(notes->wrong, 0);
    CHECK(notes->goes_on > KILLS / 2);
    printf("%d kills, %llu lives went on, count %llu\n", KILLS, (unsigned long long)notes->goes_on,
           (unsigned long long)notes->acknowledged);
    broken = true;
    uint64_t lost = campaign(seed, KILLS);
    CHECK(lost > 0);
    printf("the order A, then B: %llu lost\n", (unsigned long long)lost);
}

int main(void)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);

    printf("TEST_SEED=%llu\n", (unsigned long long)seed);
    notes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NX_ASSERT(notes != MAP_FAILED);
    NX_ASSERT(nx_checkpoint_slot_create(&slot_fd) == NX_OK);
    NX_ASSERT(nx_checkpoint_slot_map(slot_fd, &slot) == NX_OK);
    test_a_life_goes_on_in_the_middle();
    test_what_does_not_fit_is_refused();
    test_hostile_frames_are_refused();
    test_calls_in_a_wrong_order_are_refused();
    test_kills_lose_nothing_that_was_acknowledged(seed);
    TEST_MAIN_END();
}
