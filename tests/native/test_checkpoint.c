// SPDX-License-Identifier: Apache-2.0
/*
 * nx_checkpoint.h: layout, refusals, bit rot, the incremental digest, and the double-fault harness.
 *
 * The harness runs the save itself (the same source, with a hook) and takes a snapshot of the
 * slot after each of its steps and each piece of its copies. From every snapshot it recovers as a
 * restarted process would, starts a second save and cuts that one at each step too. The order "A,
 * then B" must lose an acknowledged image in it, or the harness proves nothing.
 */
#include "nx_checkpoint.h"
#include "nx_test.h"

#include <string.h>

static void step(void);
static void move(uint8_t *target, const uint8_t *source, size_t size);
static bool naive;

#define NX_CHECKPOINT_STEP()                     step()
#define NX_CHECKPOINT_MOVE(target, source, size) move(target, source, size)
#define NX_CHECKPOINT_FIRST(writer)              (naive ? 0 : 1 - (writer)->newest)
#define nx_checkpoint_verify                     stepped_verify
#define nx_checkpoint_writer_init                stepped_writer_init
#define nx_checkpoint_stage                      stepped_stage
#define nx_checkpoint_digest                     stepped_digest
#define nx_checkpoint_save                       stepped_save
#define nx_checkpoint_restore                    stepped_restore
#define nx_checkpoint_wipe                       stepped_wipe
nx_checkpoint_state stepped_verify(const nx_checkpoint_slot *, unsigned, nx_checkpoint_copy *);
void stepped_writer_init(nx_checkpoint_slot *, nx_checkpoint_writer *);
void stepped_stage(nx_checkpoint_writer *, const nx_checkpoint_content *, uint64_t);
void stepped_digest(nx_checkpoint_writer *);
int stepped_save(nx_checkpoint_writer *, const nx_checkpoint_content *, uint64_t *);
int stepped_restore(const nx_checkpoint_slot *, const nx_checkpoint_demand *, nx_checkpoint_copy *);
void stepped_wipe(nx_checkpoint_writer *);
#include "../../nexus/_core/csrc/nx_checkpoint.c"
#undef nx_checkpoint_verify
#undef nx_checkpoint_writer_init
#undef nx_checkpoint_stage
#undef nx_checkpoint_digest
#undef nx_checkpoint_save
#undef nx_checkpoint_restore
#undef nx_checkpoint_wipe

enum { PIECE = 1500, SNAPSHOTS_MAX = 120 };

static nx_checkpoint_slot live;
static nx_checkpoint_slot *recording; /* where step() puts snapshots, or NULL */
static int recorded;
static uint64_t order_seed = 1;

static void step(void)
{
    if (recording != NULL) {
        NX_ASSERT(recorded < SNAPSHOTS_MAX);
        recording[recorded++] = live;
    }
}

/* In pieces and in any order, as a copy routine may. */
static void move(uint8_t *target, const uint8_t *source, size_t size)
{
    size_t pieces = (size + PIECE - 1) / PIECE;
    size_t first = nx_test_random(&order_seed) % pieces;

    for (size_t i = 0; i < pieces; i++) {
        size_t offset = (first + i) % pieces * PIECE;
        memcpy(target + offset, source + offset, size - offset < PIECE ? size - offset : PIECE);
        step();
    }
}

static const nx_checkpoint_demand any = {.image = 7, .epoch = 3, .floor = 1};

/* Content that a restore can check: the blob repeats the sequence it was saved with. */
static void fill(uint8_t *blob, uint64_t sequence)
{
    for (size_t i = 0; i < NX_CHECKPOINT_BLOB; i += 8) {
        nx_store_u64(blob + i, sequence * 0x9e3779b97f4a7c15u + i);
    }
}

static uint64_t save_next(nx_checkpoint_writer *writer)
{
    static uint8_t blob[NX_CHECKPOINT_BLOB];
    nx_checkpoint_content content = {
        .image = 7, .epoch = 3, .blob = blob, .blob_size = sizeof blob};
    uint64_t sequence = 0;

    fill(blob, writer->sequence + 1);
    CHECK_EQ(stepped_save(writer, &content, &sequence), NX_OK);
    return sequence;
}

/* The sequence a restart of `live` finds, 0 for a cold start; -1 for wrong content. */
static int64_t found(void)
{
    static nx_checkpoint_copy copy;
    static uint8_t blob[NX_CHECKPOINT_BLOB];

    if (nx_checkpoint_restore(&live, &any, &copy) != NX_OK) {
        return 0;
    }
    fill(blob, copy.sequence);
    return memcmp(copy.blob, blob, sizeof blob) == 0 ? (int64_t)copy.sequence : -1;
}

static nx_checkpoint_slot first_cut[SNAPSHOTS_MAX], second_cut[SNAPSHOTS_MAX];

/* Acknowledged images lost over every pair of cuts, after `saves` acknowledged saves. */
static int double_fault(int saves, int *ret_cases)
{
    static nx_checkpoint_writer writer;
    int lost = 0, cuts;
    uint64_t acknowledged = 0;

    memset(&live, 0, sizeof live);
    recording = NULL;
    stepped_writer_init(&live, &writer);
    for (int i = 0; i < saves; i++) {
        acknowledged = save_next(&writer);
    }
    recorded = 0;
    recording = first_cut;
    save_next(&writer);
    cuts = recorded;
    for (int i = 0; i < cuts; i++) {
        live = first_cut[i];
        recording = NULL;
        lost += found() < (int64_t)acknowledged;
        stepped_writer_init(&live, &writer);
        recorded = 0;
        recording = second_cut;
        uint64_t second = save_next(&writer);
        CHECK_EQ(found(), second);
        for (int k = 0; k < recorded; k++) {
            live = second_cut[k];
            lost += found() < (int64_t)acknowledged;
            (*ret_cases)++;
        }
        recording = NULL;
    }
    return lost;
}

static void test_double_faults(void)
{
    int cases = 0, naive_cases = 0, naive_lost = 0;

    naive = false;
    for (int saves = 0; saves < 4; saves++) {
        int lost = double_fault(saves, &cases);
        CHECK_EQ(lost, 0);
    }
    naive = true;
    for (int saves = 1; saves < 3; saves++) {
        naive_lost += double_fault(saves, &naive_cases);
    }
    naive = false;
    printf("double faults: 0 of %d lost an image; A then B: %d of %d\n", cases, naive_lost,
           naive_cases);
    CHECK(cases > 4000);
    CHECK(naive_lost > 0); /* the control: it must fail */
}

static nx_checkpoint_slot slot;
static nx_checkpoint_writer writer;
static nx_checkpoint_copy copy;
static uint8_t blob[NX_CHECKPOINT_BLOB + 1], stack[NX_CHECKPOINT_STACK + 1];
static uint8_t frame[NX_CHECKPOINT_FRAME];

static void test_save_and_restore(void)
{
    nx_checkpoint_content content = {1, 2, frame, stack, 100, blob, 5000};
    nx_checkpoint_demand demand = {1, 2, 0};
    uint64_t sequence = 0;

    memset(&slot, 0, sizeof slot);
    memset(blob, 'b', sizeof blob);
    memset(stack, 's', sizeof stack);
    memset(frame, 'f', sizeof frame);
    nx_checkpoint_writer_init(&slot, &writer);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_EEMPTY);
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    CHECK_EQ(sequence, 1);
    CHECK_EQ(nx_checkpoint_verify(&slot, 0, &copy), NX_CHECKPOINT_VALID);
    CHECK_EQ(nx_checkpoint_verify(&slot, 1, &copy), NX_CHECKPOINT_VALID);
    CHECK(memcmp(&slot.copies[0], &slot.copies[1], sizeof copy) == 0);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_OK);
    CHECK_EQ(copy.stack_size, 100);
    CHECK_EQ(copy.blob_size, 5000);
    CHECK(memcmp(copy.frame, frame, sizeof frame) == 0 && copy.blob[4999] == 'b');
    CHECK(copy.blob[5000] == 0 && copy.stack[100] == 0);
    /* What a shorter save no longer covers is wiped. */
    content = (nx_checkpoint_content){1, 2, NULL, NULL, 0, blob, 1};
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_OK);
    CHECK(copy.blob[1] == 0 && copy.stack[0] == 0 && copy.frame[0] == 0);
    /* Demands. */
    CHECK_EQ(nx_checkpoint_restore(&slot, &(nx_checkpoint_demand){1, 2, 2}, &copy), NX_OK);
    CHECK_EQ(nx_checkpoint_restore(&slot, &(nx_checkpoint_demand){1, 2, 3}, &copy), NX_EEMPTY);
    CHECK_EQ(nx_checkpoint_restore(&slot, &(nx_checkpoint_demand){9, 2, 0}, &copy), NX_EEMPTY);
    CHECK_EQ(nx_checkpoint_restore(&slot, &(nx_checkpoint_demand){1, 9, 0}, &copy), NX_EEMPTY);
}

static void test_refusals_change_nothing(void)
{
    static nx_checkpoint_slot before;
    nx_checkpoint_content content = {1, 2, NULL, stack, NX_CHECKPOINT_STACK + 1, NULL, 0};
    uint64_t sequence = 77;

    before = slot;
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_ETOOBIG);
    content = (nx_checkpoint_content){1, 2, NULL, NULL, 0, blob, NX_CHECKPOINT_BLOB + 1};
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_ETOOBIG);
    uint64_t last = writer.sequence;
    writer.sequence = UINT64_MAX;
    content.blob_size = 1;
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_ETOOBIG);
    writer.sequence = last;
    CHECK_EQ(sequence, 77);
    CHECK(memcmp(&before, &slot, sizeof slot) == 0);
}

static void test_rot_and_replay(uint64_t *seed)
{
    nx_checkpoint_content content = {1, 2, NULL, NULL, 0, blob, NX_CHECKPOINT_BLOB};
    nx_checkpoint_demand demand = {1, 2, 0};
    static nx_checkpoint_slot good, old;
    uint64_t sequence;

    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    old = good = slot;
    for (int round = 0; round < 200; round++) {
        unsigned index = (unsigned)(round % 2);
        size_t bit = nx_test_random(seed) % (8 * NX_CHECKPOINT_COPY);
        slot = good;
        ((uint8_t *)&slot.copies[index])[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(nx_checkpoint_verify(&slot, index, &copy) != NX_CHECKPOINT_VALID);
        CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_OK);
        CHECK_EQ(copy.sequence, sequence);
        slot.copies[1 - index].digest[3] ^= 1;
        CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_EEMPTY);
    }
    slot = good;
    blob[0] ^= 1;
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    slot = old; /* replayed: right digests, old sequence */
    demand.floor = sequence;
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_EEMPTY);
}

static void test_incremental_digest(uint64_t *seed)
{
    nx_checkpoint_content content = {1, 2, frame, stack, 0, blob, 0};
    nx_blake3_mode mode;
    uint8_t want[32];

    nx_blake3_mode_hash(&mode);
    nx_checkpoint_writer_init(&slot, &writer);
    for (int round = 0; round < 400; round++) {
        for (uint64_t edits = nx_test_random(seed) % 20; edits > 0; edits--) {
            blob[nx_test_random(seed) % NX_CHECKPOINT_BLOB] ^= 1;
            stack[nx_test_random(seed) % NX_CHECKPOINT_STACK] ^= 1;
        }
        content.stack_size = nx_test_random(seed) % 3 == 0 ? nx_test_random(seed) % 8193 : 8192;
        content.blob_size = nx_test_random(seed) % 3 == 0 ? nx_test_random(seed) % 32769 : 32768;
        nx_checkpoint_stage(&writer, &content, (uint64_t)round + 1);
        nx_checkpoint_digest(&writer);
        nx_blake3_digest(&mode, &writer.mirror.sequence, NX_CHECKPOINT_BODY, want, 32);
        CHECK(memcmp(writer.mirror.digest, want, 32) == 0);
    }
}

static void test_wipe(void)
{
    static nx_checkpoint_slot zeros;
    nx_checkpoint_content content = {1, 2, NULL, NULL, 0, blob, 10};
    nx_checkpoint_demand demand = {1, 2, 0};
    uint64_t before = 0, after = 0;

    nx_checkpoint_writer_init(&slot, &writer);
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &before), NX_OK);
    nx_checkpoint_wipe(&writer);
    CHECK(memcmp(&slot, &zeros, sizeof slot) == 0);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_EEMPTY);
    CHECK_EQ(nx_checkpoint_save(&writer, &content, &after), NX_OK);
    CHECK_EQ(after, before + 1);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &copy), NX_OK);
}

NX_NOINLINE void bench_checkpoint_save(const nx_checkpoint_content *content);
NX_NOINLINE void bench_checkpoint_save(const nx_checkpoint_content *content)
{
    uint64_t sequence;

    nx_checkpoint_save(&writer, content, &sequence);
}

int main(int argc, char **argv)
{
    bool bench = argc > 1 && strcmp(argv[1], "bench") == 0;
    uint64_t seed = argc > 1 && !bench ? strtoull(argv[1], NULL, 0) : 1;
    nx_simd level;

    if (nx_simd_demand(getenv("NEXUS_SIMD"), &level) != NX_SIMD_GRANTED) {
        fprintf(stderr, "NEXUS_SIMD cannot be granted\n");
        return 2;
    }
    nx_blake3_select(level);
    if (bench) {
        nx_checkpoint_content content = {1, 2, frame, stack, 8192, blob, NX_CHECKPOINT_BLOB};
        uint64_t sequence;
        nx_checkpoint_writer_init(&slot, &writer);
        nx_checkpoint_save(&writer, &content, &sequence);
        blob[20000] ^= 1; /* one dirty KiB and the one with the header */
        bench_checkpoint_save(&content);
        return 0;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    order_seed = seed;
    test_double_faults();
    test_save_and_restore();
    test_refusals_change_nothing();
    test_rot_and_replay(&seed);
    for (int i = 0; i <= NX_SIMD_NEON; i++) {
        if (nx_simd_demand(nx_simd_name((nx_simd)i), &level) == NX_SIMD_GRANTED) {
            nx_blake3_select(level);
            test_incremental_digest(&seed);
        }
    }
    test_wipe();
    TEST_MAIN_END();
}
