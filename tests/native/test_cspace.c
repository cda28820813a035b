// SPDX-License-Identifier: Apache-2.0
/* Capability spaces: attenuation, transitive revocation, no resurrection, and rot in one copy. */
#include "nx_cspace.h"
#include "nx_test.h"

#include <string.h>

#define DELEGATE 16u

static nx_node_cspace copies[3];

static nx_cspace fresh(void)
{
    nx_cspace space = {.copies = {&copies[0], &copies[1], &copies[2]}, .epoch = 41};

    memset(copies, 0xa5, sizeof copies);
    nx_cspace_sterilise(&space);
    return space;
}

static uint32_t give(nx_cspace *space, uint8_t rights, uint32_t parent, uint64_t start,
                     uint64_t end)
{
    nx_node_capability wanted = {.type = 2,
                                 .rights = rights,
                                 .parent = (uint8_t)parent,
                                 .object = 7,
                                 .start = start,
                                 .end = end};
    uint32_t index = 99;

    CHECK_EQ(nx_cspace_grant(space, &wanted, &index), NX_OK);
    return index;
}

static int try_derive(nx_cspace *space, uint32_t parent, nx_node_capability wanted)
{
    uint32_t index;

    wanted.parent = (uint8_t)(parent + 1);
    return nx_cspace_grant(space, &wanted, &index);
}

static void test_nothing_is_there_at_first(void)
{
    nx_cspace space = fresh();
    uint32_t count;

    CHECK_EQ(space.epoch, 42);
    for (uint32_t i = 0; i < NX_NODE_CSPACE + 2; i++) {
        CHECK(!nx_cspace_check(&space, i, 0, 0, 0));
        CHECK_EQ(nx_cspace_revoke(&space, i, &count), NX_ESTALE);
    }
}

static void test_nonsense_is_refused(void)
{
    nx_cspace space = fresh();
    uint32_t index;

    CHECK_EQ(nx_cspace_grant(&space, &(nx_node_capability){.type = 0}, &index), NX_EINVAL);
    CHECK_EQ(nx_cspace_grant(&space, &(nx_node_capability){.type = 7}, &index), NX_EINVAL);
    CHECK_EQ(nx_cspace_grant(&space, &(nx_node_capability){.type = 1, .parent = 65}, &index),
             NX_EINVAL);
    CHECK_EQ(
        nx_cspace_grant(&space, &(nx_node_capability){.type = 1, .start = 2, .end = 1}, &index),
        NX_EINVAL);
    CHECK_EQ(nx_cspace_grant(&space, &(nx_node_capability){.type = 1, .parent = 64}, &index),
             NX_ESTALE);
}

/* Every set of rights under every other: exactly the subsets of one that may delegate. */
static void test_rights_only_narrow(void)
{
    for (unsigned held = 0; held < 256; held++) {
        nx_cspace space = fresh();
        uint32_t parent = give(&space, (uint8_t)held, 0, 0, 100);
        for (unsigned wanted = 0; wanted < 256; wanted++) {
            nx_cspace again = space;
            nx_node_cspace saved[3];
            memcpy(saved, copies, sizeof saved);
            bool fits = (held & DELEGATE) != 0 && (wanted & ~held) == 0;
            CHECK_EQ(try_derive(&again, parent,
                                (nx_node_capability){
                                    .type = 2, .rights = (uint8_t)wanted, .object = 7, .end = 100}),
                     fits ? NX_OK : NX_EDENIED);
            memcpy(copies, saved, sizeof saved);
        }
    }
}

static void test_object_and_bounds_only_narrow(void)
{
    nx_cspace space = fresh();
    uint32_t parent = give(&space, 0xff, 0, 10, 20);
    nx_node_capability base = {.type = 2, .rights = 1, .object = 7, .start = 12, .end = 18};
    nx_node_capability other = base;

    CHECK_EQ(try_derive(&space, parent, base), NX_OK);
    other.start = 9;
    CHECK_EQ(try_derive(&space, parent, other), NX_EDENIED);
    other = base;
    other.end = 21;
    CHECK_EQ(try_derive(&space, parent, other), NX_EDENIED);
    other = base;
    other.object = 8;
    CHECK_EQ(try_derive(&space, parent, other), NX_EDENIED);
    other = base;
    other.type = 3;
    CHECK_EQ(try_derive(&space, parent, other), NX_EDENIED);
    CHECK(nx_cspace_check(&space, parent, 1, 10, 20));
    CHECK(!nx_cspace_check(&space, parent, 1, 9, 20));
    CHECK(!nx_cspace_check(&space, parent, 1, 10, 21));
}

/* Whether `index` is `root` or was derived from it. */
static bool is_under(const int *parent_of, int index, int root)
{
    while (index >= 0 && index != root) {
        index = parent_of[index];
    }
    return index == root;
}

static void revoke_one(nx_cspace *space, const int *parent_of, bool *alive, uint32_t pick)
{
    uint32_t want = 0, count = 0;

    CHECK_EQ(nx_cspace_revoke(space, pick, &count), alive[pick] ? NX_OK : NX_ESTALE);
    bool was = alive[pick];
    for (int i = 0; was && i < (int)NX_NODE_CSPACE; i++) {
        if (alive[i] && is_under(parent_of, i, (int)pick)) {
            alive[i] = false;
            want++;
        }
    }
    CHECK_EQ(count, want);
    for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
        CHECK_EQ(nx_cspace_check(space, i, 0, 0, 1), alive[i]);
    }
}

/* How often `index` was derived; -1 is no parent. */
static unsigned depth_of(const int *parent_of, int index)
{
    unsigned depth = 0;

    for (; index >= 0 && parent_of[index] >= 0; index = parent_of[index]) {
        depth++;
    }
    return depth;
}

/* Random trees beside a plain model: who is alive, whose child it is, and how far from a root. */
static void test_revocation_takes_the_tree_and_nothing_else(void)
{
    uint64_t random = 5;
    unsigned deepest = 0, decayed = 0;

    for (int round = 0; round < 100; round++) {
        nx_cspace space = fresh();
        int parent_of[NX_NODE_CSPACE];
        uint8_t rights_of[NX_NODE_CSPACE] = {0};
        bool alive[NX_NODE_CSPACE] = {false};
        for (int step = 0; step < 300; step++) {
            uint32_t pick = (uint32_t)(nx_test_random(&random) % NX_NODE_CSPACE);
            uint64_t what = nx_test_random(&random) % 6;
            bool child = what > 1;
            uint8_t rights = nx_test_random(&random) % 2 == 0 ? 0xff : 0xff & ~DELEGATE;
            nx_node_capability wanted = {.type = 2,
                                         .rights = rights,
                                         .parent = (uint8_t)(child ? pick + 1 : 0),
                                         .object = 7,
                                         .end = 9};
            uint32_t index = 0;
            if (what == 0) {
                revoke_one(&space, parent_of, alive, pick);
                continue;
            }
            int result = nx_cspace_grant(&space, &wanted, &index);
            unsigned depth = child && alive[pick] ? depth_of(parent_of, (int)pick) + 1 : 0;
            bool may = !child || ((rights_of[pick] & DELEGATE) != 0 &&
                                  (depth < NX_CSPACE_DEPTH || (rights & DELEGATE) == 0));
            if (child && !alive[pick]) {
                CHECK_EQ(result, NX_ESTALE);
            } else if (!may) {
                CHECK_EQ(result, NX_EDENIED);
                decayed += (rights_of[pick] & DELEGATE) != 0;
            } else if (result == NX_OK) {
                CHECK(!alive[index]);
                alive[index] = true;
                parent_of[index] = child ? (int)pick : -1;
                rights_of[index] = rights;
                CHECK_EQ(copies[0].slots[index].depth, depth);
                CHECK_EQ(nx_cspace_check(&space, index, DELEGATE, 0, 1), (rights & DELEGATE) != 0);
                deepest = depth > deepest ? depth : deepest;
            } else {
                CHECK_EQ(result, NX_EFULL);
            }
        }
    }
    CHECK_EQ(deepest, NX_CSPACE_DEPTH);
    CHECK(decayed > 0); /* the canary: the law was met, not only kept by chance */
}

/* From the law alone: whatever is asked for, four words are the longest chain there is. */
static void test_the_right_to_delegate_decays_with_depth(void)
{
    nx_cspace space = fresh();
    uint32_t index = give(&space, 0xff, 0, 0, 9);

    for (unsigned depth = 1; depth < NX_CSPACE_DEPTH; depth++) {
        index = give(&space, 0xff, index + 1, 0, 9);
    }
    CHECK_EQ(try_derive(&space, index,
                        (nx_node_capability){.type = 2, .rights = 0xff, .object = 7, .end = 9}),
             NX_EDENIED);
    index = give(&space, 0xff & ~DELEGATE, index + 1, 0, 9);
    CHECK_EQ(copies[0].slots[index].depth, NX_CSPACE_DEPTH);
    CHECK_EQ(try_derive(&space, index,
                        (nx_node_capability){.type = 2, .rights = 1, .object = 7, .end = 9}),
             NX_EDENIED);
    /* A depth that somebody asks for is not taken. */
    nx_node_capability root = {.type = 2, .rights = 0xff, .object = 7, .end = 9, .depth = 200};
    CHECK_EQ(nx_cspace_grant(&space, &root, &index), NX_OK);
    CHECK_EQ(copies[0].slots[index].depth, 0);
}

static void test_a_new_epoch_takes_all(void)
{
    nx_cspace space = fresh();
    uint32_t index = give(&space, 0xff, 0, 0, 1);

    CHECK(nx_cspace_check(&space, index, 1, 0, 1));
    space.epoch++; /* as if only the number had been stored */
    CHECK(!nx_cspace_check(&space, index, 1, 0, 1));
    CHECK_EQ(try_derive(&space, index, (nx_node_capability){.type = 2, .object = 7, .end = 1}),
             NX_ESTALE);
}

static void test_it_is_full_at_64(void)
{
    nx_cspace space = fresh();
    uint32_t index;

    for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
        CHECK_EQ(give(&space, 1, 0, 0, 1), i);
    }
    CHECK_EQ(nx_cspace_grant(&space, &(nx_node_capability){.type = 1}, &index), NX_EFULL);
}

/* Any bit of one copy: the answer is as if nothing had happened. In two copies it is not. */
static void test_rot_in_one_copy_is_outvoted(void)
{
    nx_cspace space = fresh();
    uint32_t index = give(&space, 0x15, 0, 10, 20);
    unsigned changed = 0;

    for (unsigned bit = 0; bit < sizeof(nx_node_capability) * 8; bit++) {
        for (unsigned copy = 0; copy < 3; copy++) {
            ((uint8_t *)&copies[copy].slots[index])[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK(nx_cspace_check(&space, index, 0x15, 10, 20));
            CHECK(!nx_cspace_check(&space, index, 0x17, 10, 20));
            ((uint8_t *)&copies[copy].slots[index])[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (unsigned copy = 0; copy < 2; copy++) {
            ((uint8_t *)&copies[copy].slots[index])[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        changed += !nx_cspace_check(&space, index, 0x15, 10, 20) ||
                   nx_cspace_check(&space, index, 0x17, 10, 20) ||
                   nx_cspace_check(&space, index, 0x15, 9, 20) ||
                   nx_cspace_check(&space, index, 0x15, 10, 21);
        for (unsigned copy = 0; copy < 2; copy++) {
            ((uint8_t *)&copies[copy].slots[index])[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    CHECK(changed > 30); /* the canary: the test sees what no vote holds back */
}

int main(void)
{
    test_nothing_is_there_at_first();
    test_nonsense_is_refused();
    test_rights_only_narrow();
    test_object_and_bounds_only_narrow();
    test_revocation_takes_the_tree_and_nothing_else();
    test_the_right_to_delegate_decays_with_depth();
    test_a_new_epoch_takes_all();
    test_it_is_full_at_64();
    test_rot_in_one_copy_is_outvoted();
    TEST_MAIN_END();
}
