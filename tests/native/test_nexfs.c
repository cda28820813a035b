// SPDX-License-Identifier: Apache-2.0
/* NexFS's log against a model: random clients, with and without remounts, on each medium. */
#include "nexfs_rig.h"

static rig_memory memory;
static nx_nexfs work;

static nx_flash_sim *fresh(rig_medium medium, uint64_t seed)
{
    nx_flash_sim_model model = rig_model(medium, seed);
    nx_nexfs_format_options options = rig_options(medium);
    nx_nexfs_memory lent = rig_lend(&memory, 16, 512);
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_OK);
    CHECK_EQ(nx_nexfs_format(nx_flash_sim_medium(sim), &lent, &options, &work), NX_OK);
    return sim;
}

static void no_breach(const nx_flash_sim *sim)
{
    char line[200];

    if (nx_flash_sim_breach_of(sim)->rule != 0) {
        nx_flash_sim_explain(nx_flash_sim_breach_of(sim), line, sizeof line);
        fprintf(stderr, "%s\n", line);
    }
    CHECK_EQ(nx_flash_sim_counters_of(sim)->breaches, 0);
}

static void test_empty_volume(rig_medium medium)
{
    nx_flash_sim *sim = fresh(medium, 1);
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);
    nx_nexfs_attributes root;
    nx_nexfs_entry entry;
    nx_nexfs fs;

    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, false, &fs), NX_OK);
    CHECK_EQ(nx_nexfs_get(&fs, NX_NEXFS_ROOT, &root), NX_OK);
    CHECK_EQ(root.mode, NX_NEXFS_DIRECTORY | 0755);
    CHECK_EQ(nx_nexfs_next(&fs, NX_NEXFS_ROOT, 0, &entry), NX_EEMPTY);
    CHECK_EQ(nx_nexfs_create(&fs, NX_NEXFS_ROOT, "a", 1, NX_NEXFS_FILE, &root.inode), NX_EDENIED);
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    no_breach(sim);
    nx_flash_sim_destroy(sim);
}

static void test_random_client(rig_medium medium, uint32_t slots, uint64_t seed, uint32_t steps)
{
    static rig_state state, after;
    nx_flash_sim *sim = fresh(medium, seed);
    nx_nexfs_memory lent = rig_lend(&memory, slots, 512);
    uint32_t window = 1u << rig_options(medium).window_log2, failed = 0;
    uint64_t random = seed, sum = 0;
    nx_nexfs fs;

    memset(&state, 0, sizeof state);
    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, &fs), NX_OK);
    for (uint32_t i = 0; i < steps && failed == 0; i++) {
        rig_step step = rig_random(&state, &random, window);
        int want, got;
        after = state;
        want = rig_apply(&after, &step);
        if (want == NX_ETOOBIG) {
            continue; /* more than the model holds */
        }
        got = rig_perform(&fs, &state, &step);
        failed += got != want;
        if (got != want) {
            fprintf(stderr, "medium %d slots %u seed %llu step %u op %d: %d, not %d\n", medium,
                    slots, (unsigned long long)seed, i, step.op, got, want);
        }
        state = want == NX_OK ? after : state;
        if (i % 64 == 63) {
            sum = 0;
            failed += !rig_volume_sum(&fs, NX_NEXFS_ROOT, 0, 0, &sum);
            failed += sum != rig_state_sum(&state);
            failed += !rig_sound(&fs);
        }
        if (i % 256 == 255) {
            failed += nx_nexfs_unmount(&fs) != NX_OK;
            failed += nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, &fs) != NX_OK;
        }
        if (failed > 0) {
            fprintf(stderr, "medium %d slots %u seed %llu step %u op %d failed, broken %d\n",
                    medium, slots, (unsigned long long)seed, i, step.op, fs.broken);
        }
    }
    CHECK_EQ(failed, 0);
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    no_breach(sim);
    nx_flash_sim_destroy(sim);
}

/* Format version 1: the same steps give the same bytes, and this hash of them. */
static void test_golden_image(void)
{
    static uint8_t image[4u << 20];
    nx_flash_sim *sim = fresh(RIG_NOR, 1);
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);
    uint64_t inode, directory;
    uint32_t flips;
    nx_nexfs fs;

    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, &fs), NX_OK);
    fs.now_ns = 1234567890;
    CHECK_EQ(nx_nexfs_create(&fs, 1, "dir", 3, NX_NEXFS_DIRECTORY | 0750, &directory), NX_OK);
    CHECK_EQ(nx_nexfs_create(&fs, directory, "file", 4, NX_NEXFS_FILE | 0640, &inode), NX_OK);
    memset(image, 0x5a, 3000);
    CHECK_EQ(nx_nexfs_write(&fs, inode, 0, image, 3000), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.a", 6, "value", 5), NX_OK);
    CHECK_EQ(nx_nexfs_create(&fs, 1, "link", 4, NX_NEXFS_SYMLINK | 0777, &inode), NX_OK);
    CHECK_EQ(nx_nexfs_write(&fs, inode, 0, "dir/file", 8), NX_OK);
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    CHECK_EQ(nx_flash_sim_medium(sim)->verbs->read(sim, 0, image, sizeof image, &flips), NX_OK);
    CHECK_EQ(nx_xxh3_64(image, sizeof image, 0), 0x8a10082a77014847u);
    nx_flash_sim_destroy(sim);
}

static void test_attributes_links_and_walks(void)
{
    nx_flash_sim *sim = fresh(RIG_NAND, 1);
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);
    uint64_t inode, directory, found;
    nx_nexfs_attributes a;
    nx_nexfs_entry entry;
    char value[300];
    size_t size;
    nx_nexfs fs;

    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, &fs), NX_OK);
    CHECK_EQ(nx_nexfs_create(&fs, 77, "x", 1, NX_NEXFS_FILE, &inode), NX_EEMPTY); /* no directory */
    CHECK_EQ(nx_nexfs_create(&fs, 1, "..", 2, NX_NEXFS_FILE, &inode), NX_EINVAL);
    CHECK_EQ(nx_nexfs_create(&fs, 1, "d", 1, NX_NEXFS_DIRECTORY | 0755, &directory), NX_OK);
    CHECK_EQ(nx_nexfs_create(&fs, directory, "f", 1, NX_NEXFS_FILE | 0644, &inode), NX_OK);
    CHECK_EQ(nx_nexfs_create(&fs, inode, "x", 1, NX_NEXFS_FILE, &found), NX_EINVAL);
    CHECK_EQ(nx_nexfs_walk(&fs, "/d//f", &found), NX_OK);
    CHECK_EQ(found, inode);
    CHECK_EQ(nx_nexfs_rename(&fs, 1, "d", 1, directory, "e", 1), NX_EINVAL);
    CHECK_EQ(nx_nexfs_link(&fs, inode, 1, "g", 1), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.a", 6, "one", 3), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.a", 6, "three", 5), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.b", 6, value, 300), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.c", 6, value, 320), NX_ETOOBIG);
    CHECK_EQ(nx_nexfs_attribute_get(&fs, inode, "user.a", 6, value, 300, &size), NX_OK);
    CHECK(size == 5 && memcmp(value, "three", 5) == 0);
    CHECK_EQ(nx_nexfs_attribute_set(&fs, inode, "user.b", 6, NULL, SIZE_MAX), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_next(&fs, inode, 0, &entry), NX_OK);
    CHECK_EQ(nx_nexfs_attribute_next(&fs, inode, entry.cookie, &entry), NX_EEMPTY);
    CHECK_EQ(nx_nexfs_unlink(&fs, 1, "d", 1, false), NX_EBUSY);
    CHECK_EQ(nx_nexfs_unlink(&fs, directory, "f", 1, true), NX_OK);
    CHECK_EQ(nx_nexfs_unlink(&fs, 1, "g", 1, true), NX_OK); /* kept, as an open file would be */
    CHECK_EQ(nx_nexfs_get(&fs, inode, &a), NX_OK);
    CHECK_EQ(a.links, 0);
    CHECK_EQ(nx_nexfs_write(&fs, inode, 1ull << 40, "x", 1), NX_OK); /* far out, little stored */
    CHECK_EQ(nx_nexfs_read(&fs, inode, (1ull << 40) - 2, value, 9, &size), NX_OK);
    CHECK(size == 3 && memcmp(value, "\0\0x", 3) == 0);
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, &fs), NX_OK);
    CHECK_EQ(nx_nexfs_get(&fs, inode, &a), NX_EEMPTY); /* and gone with the mount */
    CHECK_EQ(nx_nexfs_unlink(&fs, 1, "d", 1, false), NX_OK);
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    CHECK(rig_sound(&fs));
    no_breach(sim);
    nx_flash_sim_destroy(sim);
}

int main(void)
{
    test_golden_image();
    test_attributes_links_and_walks();
    for (rig_medium medium = 0; medium < RIG_MEDIA; medium++) {
        test_empty_volume(medium);
        for (uint64_t seed = 1; seed <= 4; seed++) {
            test_random_client(medium, 8, seed, 3000);
            test_random_client(medium, 64, 100 + seed, 3000);
        }
    }
    TEST_MAIN_END();
}
