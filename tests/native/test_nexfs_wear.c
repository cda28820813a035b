// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log by the numbers: what one small file costs on NAND, and how evenly blocks wear when a
 * few files are written all the time beside many that never are.
 */
#include "nexfs_rig.h"

#define FILES 300u

static rig_memory memory;

static nx_flash_sim *fresh(const nx_flash_geometry *geometry, uint8_t window_log2, nx_nexfs *ret)
{
    nx_flash_sim_model model = {.geometry = *geometry, .seed = 3, .rules = NX_FLASH_RULE_ALL};
    nx_nexfs_format_options options = rig_options(RIG_NAND);
    nx_nexfs_memory lent = rig_lend(&memory, 8, 512);
    nx_flash_sim *sim = NULL;

    options.window_log2 = window_log2;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_OK);
    CHECK_EQ(nx_nexfs_format(nx_flash_sim_medium(sim), &lent, &options, ret), NX_OK);
    CHECK_EQ(nx_nexfs_mount(nx_flash_sim_medium(sim), &lent, true, ret), NX_OK);
    return sim;
}

/* Creates files of 256 bytes in one directory, each durable before the next. */
static void test_small_files_are_one_program_each(void)
{
    const nx_flash_geometry nand = {.size = 256u * (128u << 10),
                                    .block_size = 128u << 10,
                                    .page_size = 2048,
                                    .oob_size = 64,
                                    .programs = 1,
                                    .kind = NX_FLASH_NAND,
                                    .erased = 0xff};
    static nx_nexfs fs;
    nx_flash_sim *sim = fresh(&nand, 11, &fs);
    nx_flash_sim_counters before = *nx_flash_sim_counters_of(sim), now, last;
    uint64_t reads[FILES], pages[8] = {0}, worst = 0, directory;
    uint8_t data[256];

    CHECK_EQ(nx_nexfs_create(&fs, 1, "d", 1, NX_NEXFS_DIRECTORY | 0755, &directory), NX_OK);
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    before = last = *nx_flash_sim_counters_of(sim);
    for (uint32_t i = 0; i < FILES; i++) {
        char name[16];
        uint64_t inode, used;
        size_t size = (size_t)snprintf(name, sizeof name, "file%03u", i);
        rig_fill(data, sizeof data, 3 * i + 1);
        fs.now_ns++;
        CHECK_EQ(nx_nexfs_create(&fs, directory, name, size, NX_NEXFS_FILE | 0644, &inode), NX_OK);
        CHECK_EQ(nx_nexfs_write(&fs, inode, 0, data, sizeof data), NX_OK);
        CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
        now = *nx_flash_sim_counters_of(sim);
        reads[i] = now.read_bytes - last.read_bytes;
        worst = reads[i] > worst ? reads[i] : worst;
        used = now.programs - last.programs;
        pages[used < 7 ? used : 7]++;
        last = now;
    }
    for (uint32_t i = 1; i < FILES; i++) { /* sorted, for the median */
        for (uint32_t j = i; j > 0 && reads[j - 1] > reads[j]; j--) {
            uint64_t swap = reads[j];
            reads[j] = reads[j - 1];
            reads[j - 1] = swap;
        }
    }
    printf("%u files of 256 bytes: %.2f bytes programmed for each, %llu pages once, %llu twice, "
           "%llu more; read at most %llu, median %llu; %llu erases\n",
           FILES, (double)(now.program_bytes - before.program_bytes) / FILES / 256,
           (unsigned long long)pages[1], (unsigned long long)pages[2],
           (unsigned long long)(FILES - pages[1] - pages[2]), (unsigned long long)worst,
           (unsigned long long)reads[FILES / 2], (unsigned long long)(now.erases - before.erases));
    CHECK(worst <= 1u << 20);
    CHECK_EQ(now.breaches, 0);
    CHECK(rig_sound(&fs));
    nx_flash_sim_destroy(sim);
}

/* 300 files that stay, and one that is written all the time. */
static void test_blocks_wear_evenly(const char *what, const nx_flash_geometry *geometry,
                                    uint8_t window_log2, uint32_t rounds)
{
    static nx_nexfs fs;
    nx_flash_sim *sim = fresh(geometry, window_log2, &fs);
    nx_flash_sim_counters start, end;
    nx_nexfs_usage usage;
    uint64_t inode;
    uint8_t data[4096];
    double mean;

    for (uint32_t i = 0; i < FILES; i++) {
        char name[16];
        size_t size = (size_t)snprintf(name, sizeof name, "file%03u", i);
        rig_fill(data, sizeof data, 3 * i + 1);
        CHECK_EQ(nx_nexfs_create(&fs, 1, name, size, NX_NEXFS_FILE | 0644, &inode), NX_OK);
        CHECK_EQ(nx_nexfs_write(&fs, inode, 0, data, sizeof data), NX_OK);
    }
    CHECK_EQ(nx_nexfs_create(&fs, 1, "hot", 3, NX_NEXFS_FILE | 0644, &inode), NX_OK);
    CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    start = *nx_flash_sim_counters_of(sim);
    for (uint32_t i = 0; i < rounds && nx_test_failures == 0; i++) {
        rig_fill(data, sizeof data, 3 * i + 2);
        CHECK_EQ(nx_nexfs_write(&fs, inode, 0, data, sizeof data), NX_OK);
        CHECK_EQ(nx_nexfs_sync(&fs), NX_OK);
    }
    end = *nx_flash_sim_counters_of(sim);
    CHECK_EQ(nx_nexfs_wear(&fs, &usage), NX_OK);
    mean = (double)usage.erases / (usage.blocks - usage.blocks_bad);
    printf("%s: %u rewrites of 4,096 bytes: erases of a block %u to %u, mean %.1f, "
           "max %.2f of it; %.2f bytes programmed for each; %u blocks free, log %u\n",
           what, rounds, usage.erases_min, usage.erases_max, mean, usage.erases_max / mean,
           (double)(end.program_bytes - start.program_bytes) / rounds / 4096, usage.blocks_free,
           usage.log_blocks);
    CHECK(usage.erases_max <= 1.5 * mean);
    CHECK_EQ(end.breaches, 0);
    CHECK(rig_sound(&fs));
    nx_flash_sim_destroy(sim);
}

int main(void)
{
    const nx_flash_geometry nor = {.size = 4u << 20,
                                   .block_size = 4096,
                                   .page_size = 256,
                                   .programs = 1,
                                   .kind = NX_FLASH_NOR,
                                   .erased = 0xff};
    const nx_flash_geometry nand = {.size = 64u * (64u << 10),
                                    .block_size = 64u << 10,
                                    .page_size = 2048,
                                    .oob_size = 64,
                                    .programs = 1,
                                    .kind = NX_FLASH_NAND,
                                    .erased = 0xff};

    test_small_files_are_one_program_each();
    test_blocks_wear_evenly("NOR 4 KiB", &nor, 11, 20000);
    test_blocks_wear_evenly("NAND 64 KiB", &nand, 11, 20000);
    TEST_MAIN_END();
}
