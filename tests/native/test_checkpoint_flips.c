// SPDX-License-Identifier: Apache-2.0
/*
 * Every single bit of both copies of a checkpoint slot, flipped: never a wrong restore.
 *
 * Alone, a copy with a flipped bit must not be restored at all; beside a sound copy, the sound one
 * must come back. The sweep of one flips all 660,608 bits where the hash is fast (AVX2, no
 * sanitizer, about 8 s); elsewhere all bits of digest, header and frame and every 97th of the rest.
 * A flip that the digest does not cover must be found by the same sweep, or it proves nothing.
 */
#include "nx_checkpoint.h"
#include "nx_simd.h"
#include "nx_test.h"

#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

enum { HEAD_BITS = 8 * 328, ALL_BITS = 8 * 41288 };

static nx_checkpoint_slot slot;
static nx_checkpoint_copy sound, found;
static const nx_checkpoint_demand demand = {.image = 7, .epoch = 3, .floor = 2};

static void fill_slot(void)
{
    static nx_checkpoint_writer writer;
    static uint8_t blob[NX_CHECKPOINT_BLOB - 5], stack[NX_CHECKPOINT_STACK - 3];
    uint8_t frame[NX_CHECKPOINT_FRAME];
    uint64_t state = 5, sequence = 0;
    nx_checkpoint_content content = {.image = 7,
                                     .epoch = 3,
                                     .frame = frame,
                                     .stack = stack,
                                     .stack_size = sizeof stack,
                                     .blob = blob,
                                     .blob_size = sizeof blob};

    for (size_t i = 0; i < sizeof blob; i++) {
        blob[i] = (uint8_t)nx_test_random(&state);
        stack[i % sizeof stack] = (uint8_t)(blob[i] + 1);
        frame[i % sizeof frame] = (uint8_t)(blob[i] + 2);
    }
    nx_checkpoint_writer_init(&slot, &writer);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(nx_checkpoint_save(&writer, &content, &sequence), NX_OK);
    }
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &sound), NX_OK);
    CHECK_EQ(sound.sequence, 3);
}

static void flip(unsigned copy, size_t bit)
{
    ((uint8_t *)&slot.copies[copy])[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static bool is_sound(void)
{
    return nx_checkpoint_restore(&slot, &demand, &found) == NX_OK &&
           memcmp(&found, &sound, sizeof sound) == 0;
}

/* Flips each bit from `bit` on of one copy, the other being empty; returns restores that came. */
static uint64_t sweep_alone(unsigned copy, size_t stride, uint64_t *ret_flips)
{
    uint64_t restored = 0;

    slot.copies[1 - copy].sequence = 0;
    for (size_t bit = 0; bit < ALL_BITS; bit += bit < HEAD_BITS ? 1 : stride) {
        flip(copy, bit);
        restored += nx_checkpoint_restore(&slot, &demand, &found) == NX_OK;
        flip(copy, bit);
        ++*ret_flips;
    }
    slot.copies[1 - copy].sequence = sound.sequence;
    return restored;
}

static void test_a_flipped_copy_is_never_restored(size_t stride)
{
    uint64_t flips = 0;

    for (unsigned copy = 0; copy < 2; copy++) {
        CHECK_EQ(sweep_alone(copy, stride, &flips), 0);
        CHECK(is_sound());
    }
    printf("%llu of %d bits flipped\n", (unsigned long long)flips, 2 * ALL_BITS);
    CHECK(stride != 1 || flips == 2 * ALL_BITS);
}

static void test_beside_a_sound_copy_the_sound_one_comes_back(void)
{
    int wrong = 0;

    for (unsigned copy = 0; copy < 2; copy++) {
        for (size_t bit = 0; bit < ALL_BITS; bit += bit < HEAD_BITS ? 1 : 997) {
            flip(copy, bit);
            wrong += !is_sound();
            flip(copy, bit);
        }
    }
    CHECK_EQ(wrong, 0);
}

static void test_the_same_bit_in_both_copies_is_a_cold_start(void)
{
    int restored = 0;

    for (size_t bit = 0; bit < ALL_BITS; bit += bit < HEAD_BITS ? 1 : 997) {
        flip(0, bit);
        flip(1, bit);
        restored += nx_checkpoint_restore(&slot, &demand, &found) == NX_OK;
        flip(0, bit);
        flip(1, bit);
    }
    CHECK_EQ(restored, 0);
}

/* The control: a copy whose digest is made after the flip has nothing that gives it away. */
static void test_a_flip_under_the_digest_is_not_seen(void)
{
    nx_blake3_mode mode;

    slot.copies[1].sequence = 0;
    flip(0, ALL_BITS - 800);
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, &slot.copies[0].sequence, NX_CHECKPOINT_BODY, slot.copies[0].digest,
                     NX_BLAKE3_OUT);
    CHECK_EQ(nx_checkpoint_restore(&slot, &demand, &found), NX_OK);
    CHECK(memcmp(&found, &sound, sizeof sound) != 0);
}

/* Both copies as they once were, with right digests; only the floor tells. */
static void test_a_replayed_slot_is_refused_by_the_floor(void)
{
    nx_checkpoint_demand newer = demand;

    CHECK(is_sound());
    newer.floor = sound.sequence;
    CHECK_EQ(nx_checkpoint_restore(&slot, &newer, &found), NX_OK);
    newer.floor = sound.sequence + 1;
    CHECK_EQ(nx_checkpoint_restore(&slot, &newer, &found), NX_EEMPTY);
}

int main(void)
{
    nx_simd level = nx_simd_detect();
    bool full = !SANITIZED && (level == NX_SIMD_AVX2 || level == NX_SIMD_AVX512);

    nx_blake3_select(level);
    fill_slot();
    test_a_flipped_copy_is_never_restored(full ? 1 : 97);
    test_beside_a_sound_copy_the_sound_one_comes_back();
    test_the_same_bit_in_both_copies_is_a_cold_start();
    test_a_replayed_slot_is_refused_by_the_floor();
    test_a_flip_under_the_digest_is_not_seen();
    TEST_MAIN_END();
}
