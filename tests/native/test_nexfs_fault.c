// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log on a medium that fails: blocks that refuse to program or to erase, bits that flip,
 * what cannot be read, superblocks that are gone. And what must be refused.
 */
#include "nexfs_rig.h"

static rig_memory memory;

static nx_flash_sim *fresh(const nx_flash_sim_model *model, const nx_nexfs_format_options *options,
                           nx_nexfs *ret)
{
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_create(model, &sim), NX_OK);
    CHECK_EQ(nx_nexfs_format(nx_flash_sim_medium(sim), &lent, options, ret), NX_OK);
    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, ret), NX_OK);
    return sim;
}

static int remount(nx_flash_sim *sim, bool writable, nx_nexfs *ret)
{
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);

    return nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, writable, ret);
}

/* Blocks begin to refuse while a client works: it must not notice. */
static void test_failing_blocks_are_retired(rig_medium medium, uint64_t seed)
{
    static rig_state state, after;
    nx_flash_sim_model model = rig_model(medium, seed);
    nx_nexfs_format_options options = rig_options(medium);
    uint32_t blocks = (uint32_t)(model.geometry.size / model.geometry.block_size), broken = 0;
    uint32_t window = 1u << options.window_log2, failed = 0;
    uint64_t random = seed, sum = 0;
    nx_nexfs_usage usage;
    nx_nexfs fs;
    nx_flash_sim *sim = fresh(&model, &options, &fs);

    memset(&state, 0, sizeof state);
    for (uint32_t i = 0; i < 3000 && failed == 0; i++) {
        rig_step step = rig_random(&state, &random, window);
        int want, got;
        if (i % 300 == 299 && broken < (medium == RIG_TINY ? 2 : 6)) {
            static const nx_flash_fail fails[] = {NX_FLASH_FAIL_PROGRAM, NX_FLASH_FAIL_ERASE,
                                                  NX_FLASH_FAIL_PROGRAM_ERASE};
            uint32_t block = broken % 2 == 0                                   ? fs.log_block
                             : broken % 4 == 1 && fs.state.data_block < blocks ? fs.state.data_block
                                                                               : fs.log_next;
            CHECK_EQ(nx_flash_sim_fail(sim, block, fails[seed % 3]), NX_OK);
            broken++;
        }
        after = state;
        want = rig_apply(&after, &step);
        if (want == NX_ETOOBIG) {
            continue;
        }
        got = rig_perform(&fs, &state, &step);
        failed += got != want;
        state = want == NX_OK ? after : state;
        if (i % 500 == 250) {
            failed += nx_nexfs_unmount(&fs) != NX_OK;
            failed += remount(sim, true, &fs) != NX_OK;
            failed += !rig_sound(&fs);
        }
        if (failed > 0) {
            fprintf(stderr, "medium %d seed %llu step %u op %d: %d, not %d; broken %d\n", medium,
                    (unsigned long long)seed, i, step.op, got, want, fs.broken);
        }
    }
    CHECK_EQ(failed, 0);
    CHECK(rig_volume_sum(&fs, NX_NEXFS_ROOT, 0, 0, &sum) && sum == rig_state_sum(&state));
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    CHECK_EQ(remount(sim, false, &fs), NX_OK);
    CHECK(rig_sound(&fs));
    nx_nexfs_usage_get(&fs, &usage);
    CHECK(usage.blocks_bad > 0 ||
          seed % 3 == 1); /* one that only refuses to erase is found later */
    CHECK_EQ(nx_flash_sim_counters_of(sim)->breaches, 0);
    nx_flash_sim_destroy(sim);
}

static uint64_t file_make(nx_nexfs *fs, const char *name, uint32_t size, uint64_t seed)
{
    static uint8_t bytes[RIG_BYTES];
    uint64_t inode = 0;

    rig_fill(bytes, size, seed);
    CHECK_EQ(nx_nexfs_create(fs, NX_NEXFS_ROOT, name, strlen(name), NX_NEXFS_FILE | 0600, &inode),
             NX_OK);
    CHECK_EQ(nx_nexfs_write(fs, inode, 0, bytes, size), NX_OK);
    return inode;
}

static bool file_is(nx_nexfs *fs, uint64_t inode, uint32_t size, uint64_t seed)
{
    static uint8_t bytes[RIG_BYTES], found[RIG_BYTES];
    size_t count;

    rig_fill(bytes, size, seed);
    return nx_nexfs_read(fs, inode, 0, found, RIG_BYTES, &count) == NX_OK && count == size &&
           memcmp(bytes, found, size) == 0;
}

static void test_damage_names_the_inode_and_spares_the_rest(uint8_t checksum)
{
    nx_flash_sim_model model = rig_model(RIG_NAND, 5);
    nx_nexfs_format_options options = rig_options(RIG_NAND);
    uint8_t bytes[100];
    uint32_t found = 0;
    nx_nexfs_attributes a;
    nx_nexfs_extent extent;
    nx_nexfs fs;
    nx_flash_sim *sim = fresh(&model, &options, &fs);
    uint64_t hurt, whole;
    size_t size;

    CHECK_EQ(nx_nexfs_get(&fs, NX_NEXFS_ROOT, &a), NX_OK);
    a.checksum = checksum; /* files take it from their directory */
    CHECK_EQ(nx_nexfs_set(&fs, NX_NEXFS_ROOT, &a), NX_OK);
    hurt = file_make(&fs, "hurt", 2000, 1);
    whole = file_make(&fs, "whole", 2000, 2);
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    CHECK_EQ(nx_nexfs_map(&fs, hurt, 0, &extent), NX_OK);
    CHECK(extent.mapped && extent.checksum == checksum && extent.stored == 2000);
    CHECK_EQ(nx_flash_sim_flip(sim, extent.address + 1999, 0), NX_OK);
    CHECK_EQ(nx_nexfs_read(&fs, hurt, 0, bytes, 100, &size), NX_ECORRUPT);
    CHECK_EQ(fs.fault_inode, hurt);
    CHECK_EQ(fs.fault_address, extent.address);
    CHECK(file_is(&fs, whole, 2000, 2));
    CHECK_EQ(nx_nexfs_check(&fs, true, rig_report, &found), NX_OK);
    CHECK_EQ(found, 1);
    CHECK_EQ(nx_nexfs_unlink(&fs, NX_NEXFS_ROOT, "hurt", 4, false), NX_OK);
    CHECK(rig_sound(&fs));
    nx_flash_sim_destroy(sim);
}

/* Bits that ECC corrects, as many as the medium allows: the block is emptied. */
static void test_worn_data_move(void)
{
    nx_flash_sim_model model = rig_model(RIG_NAND, 6);
    nx_nexfs_format_options options = rig_options(RIG_NAND);
    nx_nexfs_extent before, after;
    nx_nexfs fs;
    nx_flash_sim *sim;
    uint64_t inode, other;

    model.ecc_step = 512;
    model.ecc_bits = 4;
    model.geometry.flips_max = 3;
    sim = fresh(&model, &options, &fs);
    inode = file_make(&fs, "worn", 2000, 1);
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    CHECK_EQ(remount(sim, true, &fs), NX_OK);
    CHECK_EQ(nx_nexfs_map(&fs, inode, 0, &before), NX_OK);
    for (unsigned bit = 0; bit < 3; bit++) {
        CHECK_EQ(nx_flash_sim_flip(sim, before.address + 7, bit), NX_OK);
    }
    CHECK(file_is(&fs, inode, 2000, 1));
    for (uint32_t i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%u", i);
        other = file_make(&fs, name, 20, i);
    }
    (void)other;
    CHECK_EQ(nx_nexfs_map(&fs, inode, 0, &after), NX_OK);
    CHECK(after.address != before.address);
    CHECK(file_is(&fs, inode, 2000, 1));
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    CHECK(rig_sound(&fs));
    nx_flash_sim_destroy(sim);
}

/* Both fixed superblocks unreadable: a replica and the log's headers are enough. */
static void test_replicas_stand_in(void)
{
    nx_flash_sim_model model = rig_model(RIG_NOR, 7);
    nx_nexfs_format_options options = rig_options(RIG_NOR);
    nx_nexfs fs;
    nx_flash_sim *sim;
    uint64_t inode;

    options.replicas = 10;
    sim = fresh(&model, &options, &fs);
    CHECK_EQ(fs.super.replica_count, 10);
    inode = file_make(&fs, "kept", 2000, 1);
    for (uint32_t i = 0; i < 50; i++) { /* the log goes on, the replicas do not know */
        CHECK_EQ(nx_nexfs_write(&fs, inode, 10, "x", 1), NX_OK);
        CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    }
    CHECK_EQ(nx_nexfs_unmount(&fs), NX_OK);
    CHECK_EQ(nx_flash_sim_fail(sim, 0, NX_FLASH_FAIL_READ), NX_OK);
    CHECK_EQ(nx_flash_sim_fail(sim, 1, NX_FLASH_FAIL_READ), NX_OK);
    CHECK_EQ(nx_flash_sim_fail(sim, (uint32_t)fs.super.replicas[0], NX_FLASH_FAIL_READ), NX_OK);
    CHECK_EQ(remount(sim, false, &fs), NX_OK);
    CHECK_EQ(fs.state.commit, 51);
    CHECK(rig_sound(&fs));
    for (uint32_t i = 1; i < 10; i++) {
        CHECK_EQ(nx_flash_sim_fail(sim, (uint32_t)fs.super.replicas[i], NX_FLASH_FAIL_READ), NX_OK);
    }
    CHECK_EQ(remount(sim, false, &fs), NX_EABSENT); /* the canary: nothing is left to begin with */
    nx_flash_sim_destroy(sim);
}

/* A full volume says so, still deletes, and has room again then. */
static void test_full_volume_deletes(rig_medium medium)
{
    nx_flash_sim_model model = rig_model(medium, 8);
    nx_nexfs_format_options options = rig_options(medium);
    static uint8_t bytes[RIG_BYTES];
    uint64_t count = 0, inode = 0, again = 0;
    int code = NX_OK;
    nx_nexfs fs;
    nx_flash_sim *sim = fresh(&model, &options, &fs);

    rig_fill(bytes, sizeof bytes, 1);
    for (uint32_t round = 0; round < 2; round++) {
        for (count = 0; code == NX_OK; count++) {
            char name[16];
            size_t size = (size_t)snprintf(name, sizeof name, "f%llu", (unsigned long long)count);
            code = nx_nexfs_create(&fs, NX_NEXFS_ROOT, name, size, NX_NEXFS_FILE, &inode);
            code = code != NX_OK ? code : nx_nexfs_write(&fs, inode, 0, bytes, 5000);
        }
        CHECK_EQ(code, NX_EFULL);
        CHECK_EQ(fs.broken, NX_OK);
        CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
        CHECK(rig_sound(&fs));
        again = round == 0 ? count : again;
        for (uint64_t i = 0; i < count; i++) {
            char name[16];
            size_t size = (size_t)snprintf(name, sizeof name, "f%llu", (unsigned long long)i);
            code = nx_nexfs_unlink(&fs, NX_NEXFS_ROOT, name, size, false);
            CHECK(code == NX_OK || (i + 1 == count && code == NX_EEMPTY));
        }
        CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
        CHECK(rig_sound(&fs));
        code = NX_OK;
    }
    CHECK(count + count / 8 + 2 >= again); /* as much again, but for rounding */
    printf("medium %d: %llu files of 5,000 bytes, %llu the second time, of %llu bytes\n", medium,
           (unsigned long long)again, (unsigned long long)count,
           (unsigned long long)model.geometry.size);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->breaches, 0);
    nx_flash_sim_destroy(sim);
}

int main(void)
{
    for (rig_medium medium = 0; medium < RIG_MEDIA; medium++) {
        for (uint64_t seed = 1; seed <= 6; seed++) {
            test_failing_blocks_are_retired(medium, seed);
        }
        test_full_volume_deletes(medium);
    }
    for (uint8_t checksum = NX_NEXFS_XXH3; checksum <= NX_NEXFS_BLAKE3_256; checksum++) {
        test_damage_names_the_inode_and_spares_the_rest(checksum);
    }
    test_worn_data_move();
    test_replicas_stand_in();
    TEST_MAIN_END();
}
