// SPDX-License-Identifier: Apache-2.0
/* What breaks in the flash emulator: raw errors, ECC, wear, caches; and that a trace repeats it. */
#include <math.h>
#include <string.h>

#include "nx_flash_sim.h"
#include "nx_test.h"

#define BLOCK  16384u
#define PAGE   2048u
#define BLOCKS 64u

static nx_flash_sim_model nand(void)
{
    return (nx_flash_sim_model){
        .geometry = {.size = (uint64_t)BLOCKS * BLOCK,
                     .block_size = BLOCK,
                     .page_size = PAGE,
                     .oob_size = 64,
                     .programs = 1,
                     .kind = NX_FLASH_NAND,
                     .erased = 0xff},
        .seed = 11,
        .rules = NX_FLASH_RULE_ALL,
        .ecc_step = 512,
        .ecc_bits = 4,
    };
}

static nx_flash_sim *make(const nx_flash_sim_model *model)
{
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_create(model, &sim), NX_OK);
    return sim;
}

static const nx_flash_verbs *verbs_of(const nx_flash_sim *sim)
{
    return nx_flash_sim_medium(sim)->verbs;
}

static int program(nx_flash_sim *sim, uint64_t at, uint8_t byte, size_t size)
{
    static uint8_t data[BLOCK];

    memset(data, byte, size);
    return verbs_of(sim)->program(sim, at, data, size);
}

static bool is_byte(nx_flash_sim *sim, uint64_t at, uint8_t byte, size_t size)
{
    static uint8_t bytes[BLOCK];
    uint32_t flips;

    return verbs_of(sim)->read(sim, at, bytes, size, &flips) == NX_OK && bytes[0] == byte &&
           memcmp(bytes, bytes + 1, size - 1) == 0;
}

static void test_ecc_corrects_up_to_its_strength(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    uint8_t bytes[PAGE];
    uint32_t flips = 99;

    CHECK_EQ(program(sim, 0, 0x5a, PAGE), NX_OK);
    for (unsigned bit = 0; bit < 4; bit++) {
        CHECK_EQ(nx_flash_sim_flip(sim, 512 + 7 * bit, bit), NX_OK);
        CHECK_EQ(verbs_of(sim)->read(sim, 0, bytes, PAGE, &flips), NX_OK);
        CHECK_EQ(flips, bit + 1);
        CHECK(is_byte(sim, 0, 0x5a, PAGE));
    }
    CHECK_EQ(nx_flash_sim_flip(sim, 600, 0), NX_OK);
    CHECK_EQ(verbs_of(sim)->read(sim, 0, bytes, PAGE, &flips), NX_ECORRUPT);
    CHECK_EQ(bytes[600], 0x5b);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->uncorrectable, 1);
    CHECK(is_byte(sim, 1024, 0x5a, 512));
    CHECK_EQ(verbs_of(sim)->erase(sim, 0), NX_OK);
    CHECK(is_byte(sim, 0, 0xff, PAGE));
    nx_flash_sim_destroy(sim);
}

static void test_three_flips_pass_for_one(void)
{
    nx_flash_sim_model model = nand();
    uint8_t bytes[512];
    uint32_t flips;

    model.ecc_bits = 1;
    model.miscorrects = 1;
    nx_flash_sim *sim = make(&model);
    CHECK_EQ(program(sim, 0, 0, PAGE), NX_OK);
    CHECK_EQ(nx_flash_sim_flip(sim, 0, 0), NX_OK);
    CHECK_EQ(nx_flash_sim_flip(sim, 9, 0), NX_OK);
    CHECK_EQ(verbs_of(sim)->read(sim, 0, bytes, 512, &flips), NX_ECORRUPT);
    CHECK_EQ(nx_flash_sim_flip(sim, 18, 0), NX_OK);
    CHECK_EQ(verbs_of(sim)->read(sim, 0, bytes, 512, &flips), NX_OK);
    CHECK_EQ(flips, 1);
    CHECK(bytes[0] == 1 && bytes[9] == 1 && bytes[18] == 1);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->miscorrected, 1);
    nx_flash_sim_destroy(sim);
}

static void test_a_second_program_of_a_step_is_caught(void)
{
    nx_flash_sim_model model = nand();
    uint8_t data[PAGE];
    uint8_t oob[64];

    model.geometry.programs = 4;
    nx_flash_sim *sim = make(&model);
    memset(data, 0xff, PAGE);
    memset(data, 0, 512);
    CHECK_EQ(verbs_of(sim)->program(sim, 0, data, PAGE), NX_OK);
    memset(data, 0xff, PAGE);
    memset(data + 512, 0, 512);
    CHECK_EQ(verbs_of(sim)->program(sim, 0, data, PAGE), NX_OK);
    CHECK_EQ(nx_flash_sim_breach_of(sim)->rule, 0);
    CHECK_EQ(verbs_of(sim)->program(sim, 0, data, PAGE), NX_EINVAL);
    CHECK_EQ(nx_flash_sim_breach_of(sim)->rule, NX_FLASH_RULE_ECC);
    CHECK_EQ(nx_flash_sim_breach_of(sim)->count, 1);
    memset(oob, 0, sizeof oob);
    CHECK_EQ(verbs_of(sim)->oob_write(sim, 0, oob, sizeof oob), NX_EINVAL);
    CHECK_EQ(nx_flash_sim_breach_last(sim)->limit, 64 - 4 * 7);
    nx_flash_sim_destroy(sim);
}

/* Mean raw errors of a step over many, against the law. */
static double mean_errors(nx_flash_sim *sim)
{
    static uint8_t bytes[BLOCK];
    uint64_t wrong = 0;
    uint32_t flips;

    for (uint32_t i = 0; i < BLOCKS; i++) {
        CHECK_EQ(verbs_of(sim)->read(sim, (uint64_t)i * BLOCK, bytes, BLOCK, &flips), NX_OK);
        for (uint32_t j = 0; j < BLOCK; j++) {
            wrong += (uint32_t)__builtin_popcount(bytes[j]);
        }
    }
    return (double)wrong / (BLOCKS * BLOCK / 512.0);
}

static void test_errors_follow_the_law(void)
{
    nx_flash_sim_model model = nand();

    model.ecc_step = 0;
    model.ecc_bits = 0;
    model.error_base = 100000000;
    model.error_wear = 50000000;
    model.error_hour = 10000000;
    nx_flash_sim *sim = make(&model);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        CHECK_EQ(nx_flash_sim_age(sim, i, 3000), NX_OK);
        CHECK_EQ(program(sim, (uint64_t)i * BLOCK, 0, BLOCK), NX_OK);
    }
    double bits = 4096e-12;
    double young = (100000000 + 50000000 * 9.0) * bits;
    CHECK(fabs(mean_errors(sim) - young) < 4 * sqrt(young / (BLOCKS * BLOCK / 512.0)));
    nx_flash_sim_advance(sim, 10ull * 3600 * 1000000000);
    double old = young + 10000000 * 10 * 4.0 * bits;
    CHECK(fabs(mean_errors(sim) - old) < 4 * sqrt(old / (BLOCKS * BLOCK / 512.0)));
    CHECK(mean_errors(sim) == mean_errors(sim));
    nx_flash_sim_destroy(sim);
}

static void test_neighbours_are_disturbed(void)
{
    nx_flash_sim_model model = nand();
    uint8_t bytes[PAGE];
    uint32_t flips;

    model.error_read = 10000000;
    nx_flash_sim *sim = make(&model);
    CHECK_EQ(program(sim, 0, 0, BLOCK), NX_OK);
    CHECK(is_byte(sim, 3 * PAGE, 0, PAGE));
    for (int i = 0; i < 300; i++) {
        (void)verbs_of(sim)->read(sim, 2 * PAGE, bytes, PAGE, &flips);
    }
    CHECK(verbs_of(sim)->read(sim, 3 * PAGE, bytes, PAGE, &flips) != NX_OK);
    CHECK(verbs_of(sim)->read(sim, 1 * PAGE, bytes, PAGE, &flips) != NX_OK);
    CHECK_EQ(verbs_of(sim)->read(sim, 5 * PAGE, bytes, PAGE, &flips), NX_OK);
    nx_flash_sim_destroy(sim);

    model.error_read = 0;
    model.error_program = 3000000000u;
    sim = make(&model);
    CHECK_EQ(program(sim, 0, 0, PAGE), NX_OK);
    CHECK(is_byte(sim, 0, 0, PAGE));
    CHECK_EQ(program(sim, PAGE, 0, PAGE), NX_OK);
    CHECK(verbs_of(sim)->read(sim, 0, bytes, PAGE, &flips) != NX_OK);
    nx_flash_sim_destroy(sim);
}

static void test_blocks_wear_out_by_a_log_normal(void)
{
    nx_flash_sim_model model = nand();
    uint32_t below = 0;
    uint32_t within = 0;

    model.geometry.size = (uint64_t)1000 * BLOCK;
    model.endurance = 1000;
    model.endurance_sigma = 300;
    model.worn = NX_FLASH_FAIL_ERASE;
    nx_flash_sim *sim = make(&model);
    for (uint32_t i = 0; i < 1000; i++) {
        nx_flash_sim *probe;
        CHECK_EQ(nx_flash_sim_fork(sim, &probe), NX_OK);
        CHECK_EQ(nx_flash_sim_age(probe, i, 1000), NX_OK);
        below += verbs_of(probe)->erase(probe, (uint64_t)i * BLOCK) == NX_EMEDIUM;
        nx_flash_sim_destroy(probe);
        CHECK_EQ(nx_flash_sim_fork(sim, &probe), NX_OK);
        CHECK_EQ(nx_flash_sim_age(probe, i, 741), NX_OK); /* exp(-0.3) */
        within += verbs_of(probe)->erase(probe, (uint64_t)i * BLOCK) == NX_OK;
        nx_flash_sim_destroy(probe);
    }
    CHECK(below > 450 && below < 550);
    CHECK(within > 800 && within < 880);
    nx_flash_sim_destroy(sim);
}

static void test_each_way_to_fail(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    uint8_t bytes[PAGE];
    uint32_t flips;

    for (uint32_t i = 1; i <= NX_FLASH_FAIL_LAST; i++) {
        CHECK_EQ(program(sim, (uint64_t)i * BLOCK, 0x33, PAGE), NX_OK);
        CHECK_EQ(nx_flash_sim_fail(sim, i, (nx_flash_fail)i), NX_OK);
    }
    CHECK_EQ(program(sim, 1 * BLOCK + PAGE, 0, PAGE), NX_EMEDIUM);
    CHECK(!is_byte(sim, 1 * BLOCK + PAGE, 0xff, PAGE));
    CHECK_EQ(verbs_of(sim)->erase(sim, 2 * BLOCK), NX_EMEDIUM);
    CHECK(!is_byte(sim, 2 * BLOCK, 0xff, PAGE));
    CHECK_EQ(verbs_of(sim)->read(sim, 3 * BLOCK, bytes, PAGE, &flips), NX_ECORRUPT);
    CHECK_EQ(program(sim, 4 * BLOCK + PAGE, 0, PAGE), NX_OK);
    CHECK(is_byte(sim, 4 * BLOCK + PAGE, 0xff, PAGE));
    CHECK_EQ(verbs_of(sim)->erase(sim, 5 * BLOCK), NX_OK);
    CHECK(is_byte(sim, 5 * BLOCK, 0x33, PAGE));
    CHECK_EQ(program(sim, 6 * BLOCK + PAGE, 0, PAGE), NX_EMEDIUM);
    CHECK_EQ(verbs_of(sim)->erase(sim, 6 * BLOCK), NX_EMEDIUM);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->refused, 4);
    CHECK_EQ(nx_flash_sim_fail(sim, 1, (nx_flash_fail)7), NX_EINVAL);
    CHECK_EQ(nx_flash_sim_fail(sim, BLOCKS, NX_FLASH_FAIL_READ), NX_ERANGE);
    nx_flash_sim_destroy(sim);
}

static nx_flash_sim_plan plan_of(const nx_flash_sim *sim, nx_flash_cut mode)
{
    return (nx_flash_sim_plan){
        .mutation = nx_flash_sim_counters_of(sim)->mutations + 1,
        .mode = (uint8_t)mode,
        .weak_bits = 8,
        .unstable_reads = 20,
    };
}

static void test_ecc_tells_a_torn_page(void)
{
    static const nx_flash_cut modes[] = {NX_FLASH_CUT_PREFIX, NX_FLASH_CUT_SUBSET,
                                         NX_FLASH_CUT_OOB};
    nx_flash_sim_model model = nand();
    uint8_t bytes[PAGE];
    uint32_t flips;

    for (size_t i = 0; i < NX_ARRAY_COUNT(modes); i++) {
        nx_flash_sim *sim = make(&model);
        nx_flash_sim_plan plan = plan_of(sim, modes[i]);
        nx_flash_sim_plan_cut(sim, &plan);
        CHECK_EQ(program(sim, 0, 0, PAGE), NX_EFAULT);
        nx_flash_sim_power_on(sim);
        CHECK_EQ(verbs_of(sim)->read(sim, 0, bytes, PAGE, &flips), NX_ECORRUPT);
        nx_flash_sim_destroy(sim);
    }
}

static void test_a_cut_spoils_the_paired_page(void)
{
    nx_flash_sim_model model = nand();
    uint8_t bytes[PAGE];
    uint32_t flips;

    model.geometry.kind = NX_FLASH_MLC;
    model.pairs = 1;
    for (uint32_t later = 2; later < 8; later++) {
        uint32_t spoilt = later == 2 ? 0 : later == 7 ? 5 : later - 3;
        bool shares = later % 2 == 0 || later == 7;
        nx_flash_sim *sim = make(&model);
        CHECK_EQ(program(sim, 0, 0x0f, later * PAGE), NX_OK);
        nx_flash_sim_plan plan = plan_of(sim, NX_FLASH_CUT_SUBSET);
        nx_flash_sim_plan_cut(sim, &plan);
        CHECK_EQ(program(sim, later * PAGE, 0, PAGE), NX_EFAULT);
        nx_flash_sim_power_on(sim);
        for (uint32_t page = 0; page < later; page++) {
            int code = verbs_of(sim)->read(sim, page * PAGE, bytes, PAGE, &flips);
            CHECK_EQ(code, shares && page == spoilt ? NX_ECORRUPT : NX_OK);
        }
        nx_flash_sim_destroy(sim);
    }
}

static void test_a_cache_loses_what_was_not_synced(void)
{
    nx_flash_sim_model model = nand();
    unsigned gaps = 0;

    model.cache = 16;
    for (unsigned keeps = 0; keeps <= NX_FLASH_CACHE_SUBSET; keeps++) {
        model.cache_keeps = (uint8_t)keeps;
        nx_flash_sim *sim = make(&model);
        CHECK_EQ(program(sim, 0, 1, PAGE), NX_OK);
        CHECK_EQ(verbs_of(sim)->sync(sim), NX_OK);
        for (uint32_t page = 1; page < 8; page++) {
            CHECK_EQ(program(sim, page * PAGE, 2, PAGE), NX_OK);
        }
        CHECK(is_byte(sim, PAGE, 2, 7 * PAGE));
        CHECK_EQ(nx_flash_sim_power_off(sim), NX_OK);
        nx_flash_sim_power_on(sim);
        CHECK(is_byte(sim, 0, 1, PAGE));
        unsigned kept = 0;
        for (uint32_t page = 1; page < 8; page++) {
            bool here = is_byte(sim, page * PAGE, 2, PAGE);
            CHECK(here || is_byte(sim, page * PAGE, 0xff, PAGE));
            gaps += keeps == NX_FLASH_CACHE_SUBSET && here && kept != page - 1;
            CHECK(keeps != NX_FLASH_CACHE_PREFIX || !here || kept == page - 1);
            kept += here;
        }
        CHECK(keeps != NX_FLASH_CACHE_LOSE || kept == 0);
        nx_flash_sim_destroy(sim);
    }
    CHECK(gaps > 0);
}

static void test_time_energy_and_spans(void)
{
    nx_flash_sim_model model = nand();

    model.read_ns = 25000;
    model.program_ns = 200000;
    model.erase_ns = 1500000;
    model.byte_ps = 25500;
    model.read_nj = 3;
    model.program_nj = 20;
    model.erase_nj = 100;
    nx_flash_sim *sim = make(&model);
    const nx_flash_sim_counters *counters = nx_flash_sim_counters_of(sim);
    nx_flash_sim_mark(sim);
    CHECK_EQ(program(sim, 0, 0, PAGE), NX_OK);
    CHECK_EQ(verbs_of(sim)->erase(sim, BLOCK), NX_OK);
    CHECK(is_byte(sim, PAGE - 10, 0, 10));
    CHECK_EQ(counters->energy_nj, 123);
    CHECK_EQ(counters->time_ns, 200000 + 2048 * 25.5 + 1500000 + 25000 + 255);
    nx_flash_sim_advance(sim, 1000000000);
    nx_flash_sim_mark(sim);
    CHECK_EQ(counters->span_read_bytes_max, 10);
    CHECK_EQ(counters->span_time_ns_max, 200000 + 2048 * 25.5 + 1500000 + 25000 + 255);
    CHECK(is_byte(sim, BLOCK, 0xff, 3 * PAGE));
    nx_flash_sim_mark(sim);
    CHECK_EQ(counters->span_read_bytes_max, 3 * PAGE);
    nx_flash_sim_destroy(sim);
}

static void test_nor_programs_bytes(void)
{
    nx_flash_sim_model model = {
        .geometry = {.size = 1 << 20,
                     .block_size = 4096,
                     .page_size = 1,
                     .programs = UINT16_MAX,
                     .kind = NX_FLASH_NOR,
                     .erased = 0xff},
        .rules = NX_FLASH_RULE_CLEAR | NX_FLASH_RULE_ERASED,
    };
    nx_flash_sim *sim = make(&model);
    bool bad = true;

    CHECK_EQ(program(sim, 4099, 0xf0, 3), NX_OK);
    CHECK_EQ(program(sim, 4100, 0x50, 1), NX_OK);
    CHECK(is_byte(sim, 4100, 0x50, 1) && is_byte(sim, 4101, 0xf0, 1));
    CHECK_EQ(program(sim, 4100, 0x51, 1), NX_EINVAL);
    CHECK(verbs_of(sim)->is_bad(sim, 0, &bad) == NX_OK && !bad);
    CHECK_EQ(verbs_of(sim)->mark_bad(sim, 0), NX_EABSENT);
    nx_flash_sim_destroy(sim);
}

/* A run that meets cuts, refusals, breaches and errors, by a seed. */
static void run(nx_flash_sim *sim, uint64_t seed)
{
    uint8_t bytes[PAGE];
    uint32_t flips;
    bool bad;

    for (unsigned i = 0; i < 400; i++) {
        uint64_t draw = nx_test_random(&seed);
        uint64_t block = draw % BLOCKS * BLOCK;
        uint64_t page = block + (draw >> 8) % (BLOCK / PAGE) * PAGE;
        switch ((draw >> 16) % 16) {
        case 0:
            (void)verbs_of(sim)->erase(sim, block);
            break;
        case 1:
            (void)verbs_of(sim)->is_bad(sim, block, &bad);
            break;
        case 2:
            (void)verbs_of(sim)->sync(sim);
            break;
        case 3: {
            nx_flash_sim_plan plan = plan_of(sim, NX_FLASH_CUT_ANY);
            nx_flash_sim_plan_cut(sim, &plan);
            break;
        }
        case 4:
            nx_flash_sim_power_on(sim);
            break;
        case 5:
            nx_flash_sim_advance(sim, draw % 3600000000000u);
            break;
        case 6:
            CHECK_EQ(nx_flash_sim_age(sim, (uint32_t)(block / BLOCK), 2500), NX_OK);
            break;
        case 7:
            (void)verbs_of(sim)->oob_read(sim, page, bytes, 64);
            break;
        case 8:
            (void)verbs_of(sim)->mark_bad(sim, block);
            break;
        case 9:
        case 10:
        case 11:
            (void)verbs_of(sim)->read(sim, page, bytes, PAGE, &flips);
            break;
        default:
            (void)program(sim, page, (uint8_t)draw, PAGE);
        }
    }
}

static void test_a_trace_repeats_a_run(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim_model read_back;
    uint64_t record = 0;
    size_t size = 0;

    model.error_base = 1000000;
    model.error_wear = 100000000;
    model.endurance = 2500;
    model.endurance_sigma = 200;
    for (unsigned round = 0; round < 20; round++) {
        model.cache = (uint16_t)(round % 2 * 8);
        model.cache_keeps = (uint8_t)(round % 3);
        nx_flash_sim *sim = make(&model);
        nx_flash_sim *twin;
        CHECK_EQ(nx_flash_sim_trace(sim, true), NX_OK);
        run(sim, round);
        CHECK_EQ(nx_flash_sim_fork(sim, &twin), NX_OK);
        const uint8_t *trace = nx_flash_sim_trace_of(twin, &size);
        CHECK_EQ(nx_flash_sim_trace_model(trace, size, &read_back), NX_OK);
        nx_flash_sim *again = make(&read_back);
        CHECK_EQ(nx_flash_sim_replay(again, trace, size, &record), NX_OK);
        CHECK_EQ(memcmp(nx_flash_sim_counters_of(again), nx_flash_sim_counters_of(sim),
                        sizeof(nx_flash_sim_counters)),
                 0);
        nx_flash_sim_destroy(again);

        /* The canary: of another die the replay finds the first thing that differs. */
        read_back.seed++;
        again = make(&read_back);
        CHECK_EQ(nx_flash_sim_replay(again, trace, size, &record), NX_ESTALE);
        CHECK(record > 0);
        nx_flash_sim_destroy(again);
        again = make(&model);
        CHECK_EQ(nx_flash_sim_replay(again, trace, size - 1, &record), NX_ECORRUPT);
        nx_flash_sim_destroy(again);
        nx_flash_sim_destroy(twin);
        nx_flash_sim_destroy(sim);
    }
}

int main(void)
{
    test_ecc_corrects_up_to_its_strength();
    test_three_flips_pass_for_one();
    test_a_second_program_of_a_step_is_caught();
    test_errors_follow_the_law();
    test_neighbours_are_disturbed();
    test_blocks_wear_out_by_a_log_normal();
    test_each_way_to_fail();
    test_ecc_tells_a_torn_page();
    test_a_cut_spoils_the_paired_page();
    test_a_cache_loses_what_was_not_synced();
    test_time_energy_and_spans();
    test_nor_programs_bytes();
    test_a_trace_repeats_a_run();
    TEST_MAIN_END();
}
