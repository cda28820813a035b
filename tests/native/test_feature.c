// SPDX-License-Identifier: Apache-2.0
/* The feature mask: levels, the floor, every single and double fault, and a writer that dies. */
#include "nx_feature.h"
#include "nx_test.h"

static int stores_left = -1; /* what a dead writer would have stored after these is lost; -1: all */

static void store_while_alive(uint64_t *target, uint64_t value)
{
    if (stores_left == 0) {
        return;
    }
    stores_left -= stores_left > 0;
    *(volatile uint64_t *)target = value;
}

#define NX_FEATURE_STORE(target, value) store_while_alive(target, value)
#define nx_feature_init                 mortal_init
#define nx_feature_read                 mortal_read
#define nx_feature_set                  mortal_set
void mortal_init(const nx_feature *, uint8_t);
nx_feature_state mortal_read(const nx_feature *);
nx_feature_state mortal_set(const nx_feature *, uint8_t);
#include "../../nexus/_core/csrc/nx_feature.c"
#undef nx_feature_init
#undef nx_feature_read
#undef nx_feature_set

static uint64_t words[3];
static const nx_feature feature = {{&words[0], &words[1], &words[2]}};

static void test_levels_are_strict_supersets(void)
{
    CHECK((NX_FEATURE_SOVEREIGN & ~NX_FEATURE_HARDENED) == 0);
    CHECK((NX_FEATURE_HARDENED & ~NX_FEATURE_RADIATION) == 0);
    CHECK(NX_FEATURE_SOVEREIGN < NX_FEATURE_HARDENED && NX_FEATURE_HARDENED < NX_FEATURE_RADIATION);
    CHECK_EQ(NX_FEATURE_SOVEREIGN, NX_FEATURE_TRAP | NX_FEATURE_BREAKER | NX_FEATURE_BEB);
    CHECK_EQ(NX_FEATURE_HARDENED,
             NX_FEATURE_SOVEREIGN | NX_FEATURE_HEARTBEAT | NX_FEATURE_BASELINE);
    CHECK_EQ(NX_FEATURE_RADIATION,
             NX_FEATURE_HARDENED | NX_FEATURE_AUDIT | NX_FEATURE_CORRELATOR | NX_FEATURE_VERDICTS);
}

static void test_the_boot_mask_is_the_floor(void)
{
    for (unsigned boot = 0; boot < 256; boot++) {
        nx_feature_init(&feature, (uint8_t)boot);
        CHECK_EQ(nx_feature_read(&feature).effective, boot);
        for (unsigned runtime = 0; runtime < 256; runtime += 5) {
            nx_feature_state set = nx_feature_set(&feature, (uint8_t)runtime);
            nx_feature_state read = nx_feature_read(&feature);
            CHECK_EQ(set.effective, boot | runtime);
            CHECK_EQ(read.effective, boot | runtime);
            CHECK_EQ(read.boot, boot);
            CHECK_EQ(read.runtime, runtime);
            CHECK_EQ(read.repaired, 0);
        }
    }
    CHECK(nx_feature_on(NX_FEATURE_SOVEREIGN, NX_FEATURE_BEB));
    CHECK(!nx_feature_on(NX_FEATURE_SOVEREIGN, NX_FEATURE_HEARTBEAT));
}

static void test_one_bad_copy_is_outvoted_and_repaired(void)
{
    uint64_t seed = 3;

    for (unsigned copy = 0; copy < 3; copy++) {
        for (unsigned i = 0; i < 1000; i++) {
            nx_feature_init(&feature, NX_FEATURE_SOVEREIGN);
            nx_feature_set(&feature, NX_FEATURE_VERDICTS);
            uint64_t right = words[0];
            words[copy] ^= i < 64 ? (uint64_t)1 << i : nx_test_random(&seed) | 1;
            nx_feature_state state = nx_feature_read(&feature);
            CHECK_EQ(state.effective, NX_FEATURE_SOVEREIGN | NX_FEATURE_VERDICTS);
            CHECK_EQ(state.repaired, 1 << copy);
            CHECK(words[0] == right && words[1] == right && words[2] == right);
            CHECK_EQ(nx_feature_read(&feature).repaired, 0);
        }
    }
    /* Different bits in two copies are outvoted too; a change repairs before it writes. */
    nx_feature_init(&feature, NX_FEATURE_HARDENED);
    words[0] ^= 1;
    words[2] ^= 0x10;
    nx_feature_state state = nx_feature_set(&feature, 0x80);
    CHECK_EQ(state.effective, NX_FEATURE_HARDENED | 0x80);
    CHECK_EQ(state.repaired, 5);
    /* The canary: the same bit in two copies wins, so this test does see wrong masks. */
    words[0] ^= 1;
    words[1] ^= 1;
    CHECK_EQ(nx_feature_read(&feature).boot, NX_FEATURE_HARDENED ^ 1);
    CHECK_EQ(nx_feature_read(&feature).repaired, 0);
}

static void test_a_writer_that_dies_leaves_the_old_mask_or_the_new(void)
{
    for (int stores = 0; stores <= 3; stores++) {
        stores_left = -1;
        mortal_init(&feature, NX_FEATURE_SOVEREIGN);
        stores_left = stores;
        (void)mortal_set(&feature, 0xf0);
        uint8_t got = nx_feature_read(&feature).effective;
        CHECK_EQ(got, stores < 2 ? NX_FEATURE_SOVEREIGN : NX_FEATURE_SOVEREIGN | 0xf0);
    }
    stores_left = -1;
}

int main(void)
{
    test_levels_are_strict_supersets();
    test_the_boot_mask_is_the_floor();
    test_one_bad_copy_is_outvoted_and_repaired();
    test_a_writer_that_dies_leaves_the_old_mask_or_the_new();
    TEST_MAIN_END();
}
