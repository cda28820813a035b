// SPDX-License-Identifier: Apache-2.0
/* The flash emulator: its rules have a client each that breaks them, its cuts and forks a witness.
 */
#include <string.h>

#include "nx_flash_sim.h"
#include "nx_test.h"

#define BLOCK 16384u
#define PAGE  2048u
#define SIZE  (64u * BLOCK)

static nx_flash_sim_model nand(void)
{
    return (nx_flash_sim_model){
        .geometry = {.size = SIZE,
                     .block_size = BLOCK,
                     .page_size = PAGE,
                     .oob_size = 64,
                     .programs = 1,
                     .kind = NX_FLASH_NAND,
                     .erased = 0xff},
        .seed = 7,
        .rules = NX_FLASH_RULE_ALL,
    };
}

static nx_flash_sim *make(const nx_flash_sim_model *model)
{
    nx_flash_sim *sim = NULL;

    CHECK_EQ(nx_flash_sim_create(model, &sim), NX_OK);
    return sim;
}

static int program(nx_flash_sim *sim, uint64_t at, const void *data, size_t size)
{
    return nx_flash_sim_medium(sim)->verbs->program(sim, at, data, size);
}

static int erase(nx_flash_sim *sim, uint64_t at)
{
    return nx_flash_sim_medium(sim)->verbs->erase(sim, at);
}

static int read(nx_flash_sim *sim, uint64_t at, void *ret, size_t size)
{
    uint32_t flips;

    return nx_flash_sim_medium(sim)->verbs->read(sim, at, ret, size, &flips);
}

static bool holds(nx_flash_sim *sim, uint64_t at, const void *data, size_t size)
{
    uint8_t bytes[BLOCK];

    return read(sim, at, bytes, size) == NX_OK && memcmp(bytes, data, size) == 0;
}

static bool is_byte(nx_flash_sim *sim, uint64_t at, size_t size, uint8_t byte)
{
    uint8_t bytes[BLOCK];

    memset(bytes, byte, size);
    return holds(sim, at, bytes, size);
}

static void fill(uint8_t *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)nx_test_random(&seed);
    }
}

static void test_program_then_erase(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    uint8_t data[BLOCK];

    fill(data, sizeof data, 1);
    CHECK(is_byte(sim, 0, BLOCK, 0xff));
    CHECK_EQ(program(sim, BLOCK, data, sizeof data), NX_OK);
    CHECK(holds(sim, BLOCK, data, sizeof data));
    CHECK(holds(sim, BLOCK + 1000, data + 1000, 3000));
    CHECK(is_byte(sim, 2 * BLOCK, BLOCK, 0xff));
    CHECK_EQ(erase(sim, BLOCK), NX_OK);
    CHECK(is_byte(sim, BLOCK, BLOCK, 0xff));
    CHECK_EQ(nx_flash_sim_erases_of(sim, 1), 1);
    const nx_flash_sim_counters *counters = nx_flash_sim_counters_of(sim);
    CHECK_EQ(counters->programs, BLOCK / PAGE);
    CHECK_EQ(counters->mutations, BLOCK / PAGE + 1);
    CHECK_EQ(counters->breaches, 0);
    nx_flash_sim_destroy(sim);
}

/* A client that breaks `rule` in the last of its calls; its code, and whether all is as before. */
static void check_breach(nx_flash_sim *sim, int code, int want, uint32_t rule, nx_flash_verb verb,
                         uint32_t block, uint32_t page)
{
    const nx_flash_sim_breach *breach = nx_flash_sim_breach_of(sim);
    char text[256];

    CHECK_EQ(code, want);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->breaches, 1);
    CHECK_EQ(breach->rule, rule);
    CHECK_EQ(breach->verb, verb);
    CHECK_EQ(breach->block, block);
    CHECK_EQ(breach->page, page);
    CHECK(nx_flash_sim_explain(breach, text, sizeof text) > 20);
    printf("%s\n", text);
    nx_flash_sim_destroy(sim);
}

static void test_order_is_held(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    uint8_t data[PAGE] = {0};

    CHECK_EQ(program(sim, 3 * BLOCK + 2 * PAGE, data, PAGE), NX_OK);
    CHECK_EQ(program(sim, 3 * BLOCK + 4 * PAGE, data, PAGE), NX_OK);
    int code = program(sim, 3 * BLOCK + 3 * PAGE, data, PAGE);
    CHECK(is_byte(sim, 3 * BLOCK + 3 * PAGE, PAGE, 0xff));
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_ORDER, NX_FLASH_PROGRAM, 3, 3);
}

static void test_second_program_is_caught(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    uint8_t data[PAGE] = {0};

    CHECK_EQ(program(sim, PAGE, data, PAGE), NX_OK);
    int code = program(sim, PAGE, data, PAGE);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_PROGRAMS, NX_FLASH_PROGRAM, 0, 1);

    model.geometry.programs = 2;
    sim = make(&model);
    CHECK_EQ(program(sim, PAGE, data, PAGE), NX_OK);
    CHECK_EQ(program(sim, PAGE, data, PAGE), NX_OK);
    code = program(sim, PAGE, data, PAGE);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_PROGRAMS, NX_FLASH_PROGRAM, 0, 1);
}

static void test_setting_a_bit_is_caught(void)
{
    nx_flash_sim_model model = nand();
    uint8_t data[PAGE];

    model.geometry.programs = 2;
    nx_flash_sim *sim = make(&model);
    memset(data, 0x0f, sizeof data);
    CHECK_EQ(program(sim, 0, data, PAGE), NX_OK);
    data[1999] = 0x1f;
    int code = program(sim, 0, data, PAGE);
    CHECK_EQ(nx_flash_sim_breach_of(sim)->count, 1999);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_CLEAR, NX_FLASH_PROGRAM, 0, 0);
}

static void test_cells_can_only_clear_without_the_rule(void)
{
    nx_flash_sim_model model = nand();
    uint8_t first[PAGE];
    uint8_t second[PAGE];

    model.rules = 0;
    nx_flash_sim *sim = make(&model);
    fill(first, PAGE, 2);
    fill(second, PAGE, 3);
    CHECK_EQ(program(sim, 0, first, PAGE), NX_OK);
    CHECK_EQ(program(sim, 0, second, PAGE), NX_OK);
    for (size_t i = 0; i < PAGE; i++) {
        first[i] &= second[i];
    }
    CHECK(holds(sim, 0, first, PAGE));
    nx_flash_sim_destroy(sim);
}

static void test_places_and_sizes_are_held(void)
{
    nx_flash_sim_model model = nand();
    uint8_t data[2 * PAGE] = {0};
    nx_flash_sim *sim = make(&model);

    int code = program(sim, 512, data, PAGE);
    check_breach(sim, code, NX_EALIGN, NX_FLASH_RULE_ALIGN, NX_FLASH_PROGRAM, 0, 0);
    sim = make(&model);
    code = program(sim, PAGE, data, 100);
    check_breach(sim, code, NX_EALIGN, NX_FLASH_RULE_ALIGN, NX_FLASH_PROGRAM, 0, 1);
    sim = make(&model);
    code = program(sim, 2 * BLOCK - PAGE, data, 2 * PAGE);
    check_breach(sim, code, NX_ERANGE, NX_FLASH_RULE_RANGE, NX_FLASH_PROGRAM, 1, BLOCK / PAGE - 1);
    sim = make(&model);
    code = read(sim, SIZE - 10, data, 11);
    check_breach(sim, code, NX_ERANGE, NX_FLASH_RULE_RANGE, NX_FLASH_READ, SIZE / BLOCK - 1,
                 BLOCK / PAGE - 1);
    sim = make(&model);
    code = erase(sim, PAGE);
    check_breach(sim, code, NX_EALIGN, NX_FLASH_RULE_ALIGN, NX_FLASH_ERASE, 0, 1);
}

static void test_bad_blocks_are_left_alone(void)
{
    nx_flash_sim_model model = nand();
    uint8_t data[PAGE] = {0};
    bool bad = true;
    uint32_t found = 0;

    model.factory_bad = 20;
    model.geometry.size = 400 * BLOCK;
    nx_flash_sim *sim = make(&model);
    const nx_flash_verbs *verbs = nx_flash_sim_medium(sim)->verbs;
    uint64_t last = 0;
    for (uint32_t i = 0; i < 400; i++) {
        CHECK_EQ(verbs->is_bad(sim, (uint64_t)i * BLOCK, &bad), NX_OK);
        CHECK(i != 0 || !bad);
        found += bad;
        last = bad ? i : last;
    }
    CHECK_EQ(found, 8);
    CHECK_EQ(verbs->mark_bad(sim, 0), NX_OK);
    CHECK(verbs->is_bad(sim, 0, &bad) == NX_OK && bad);
    int code = program(sim, 0, data, PAGE);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_BAD, NX_FLASH_PROGRAM, 0, 0);
    sim = make(&model);
    code = erase(sim, last * BLOCK);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_BAD, NX_FLASH_ERASE, (uint32_t)last, 0);
}

static void cut_at(nx_flash_sim *sim, uint64_t later, nx_flash_cut mode)
{
    nx_flash_sim_plan plan = {
        .mutation = nx_flash_sim_counters_of(sim)->mutations + later,
        .mode = (uint8_t)mode,
        .weak_bits = 40,
        .unstable_reads = 30,
    };

    nx_flash_sim_plan_cut(sim, &plan);
}

static void test_no_verb_works_without_power(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sim = make(&model);
    const nx_flash_verbs *verbs = nx_flash_sim_medium(sim)->verbs;
    uint8_t data[BLOCK] = {0};
    bool bad;

    cut_at(sim, 3, NX_FLASH_CUT_BEFORE);
    CHECK_EQ(program(sim, 0, data, BLOCK), NX_EFAULT);
    CHECK(!nx_flash_sim_powered(sim));
    CHECK_EQ(program(sim, BLOCK, data, PAGE), NX_EFAULT);
    CHECK_EQ(erase(sim, 0), NX_EFAULT);
    CHECK_EQ(read(sim, 0, data, 1), NX_EFAULT);
    CHECK_EQ(verbs->oob_read(sim, 0, data, 1), NX_EFAULT);
    CHECK_EQ(verbs->oob_write(sim, 0, data, 1), NX_EFAULT);
    CHECK_EQ(verbs->is_bad(sim, 0, &bad), NX_EFAULT);
    CHECK_EQ(verbs->mark_bad(sim, 0), NX_EFAULT);
    CHECK_EQ(verbs->sync(sim), NX_EFAULT);
    nx_flash_sim_power_on(sim);
    CHECK(is_byte(sim, 0, 2 * PAGE, 0));
    CHECK(is_byte(sim, 2 * PAGE, BLOCK - 2 * PAGE, 0xff));
    CHECK_EQ(nx_flash_sim_counters_of(sim)->cuts, 1);
    CHECK_EQ(nx_flash_sim_counters_of(sim)->breaches, 0);
    nx_flash_sim_destroy(sim);
}

static uint32_t zeros(nx_flash_sim *sim, uint64_t at, size_t size)
{
    uint8_t bytes[BLOCK];
    uint32_t count = 0;

    CHECK_EQ(read(sim, at, bytes, size), NX_OK);
    for (size_t i = 0; i < size; i++) {
        count += (uint32_t)__builtin_popcount((uint8_t)~bytes[i]);
    }
    return count;
}

/* A page of zeros that was cut: how many bits got there. */
static nx_flash_sim *cut_page(nx_flash_cut mode, uint32_t *ret_zeros)
{
    nx_flash_sim_model model = nand();
    uint8_t data[PAGE] = {0};
    nx_flash_sim *sim = make(&model);

    cut_at(sim, 1, mode);
    CHECK_EQ(program(sim, 0, data, PAGE), NX_EFAULT);
    nx_flash_sim_power_on(sim);
    *ret_zeros = zeros(sim, 0, PAGE);
    return sim;
}

static void test_torn_pages(void)
{
    uint32_t count;
    uint8_t data[PAGE] = {0};

    nx_flash_sim *sim = cut_page(NX_FLASH_CUT_BEFORE, &count);
    CHECK_EQ(count, 0);
    CHECK_EQ(program(sim, 0, data, PAGE), NX_OK);
    nx_flash_sim_destroy(sim);
    nx_flash_sim_destroy(cut_page(NX_FLASH_CUT_AFTER, &count));
    CHECK_EQ(count, 8 * PAGE);
    nx_flash_sim_destroy(cut_page(NX_FLASH_CUT_PREFIX, &count));
    CHECK(count < 8 * PAGE && count % 8 == 0);
    nx_flash_sim_destroy(cut_page(NX_FLASH_CUT_SUBSET, &count));
    CHECK(count > 0 && count < 8 * PAGE);

    /* What reads as erased was programmed all the same. */
    sim = cut_page(NX_FLASH_CUT_OOB, &count);
    CHECK_EQ(count, 0);
    int code = program(sim, 0, data, PAGE);
    check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_PROGRAMS, NX_FLASH_PROGRAM, 0, 0);
}

static void test_weak_bits_vary_then_settle(void)
{
    uint32_t count;
    uint32_t different = 0;
    nx_flash_sim *sim = cut_page(NX_FLASH_CUT_WEAK, &count);

    CHECK(count < 8 * PAGE && count >= 8 * PAGE - 40);
    for (int i = 0; i < 29; i++) {
        different += zeros(sim, 0, PAGE) != count;
    }
    CHECK(different > 5);
    count = zeros(sim, 0, PAGE);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(zeros(sim, 0, PAGE), count);
    }
    nx_flash_sim_destroy(sim);
}

static void test_half_erased_block_is_erased_again(void)
{
    static const nx_flash_cut modes[] = {NX_FLASH_CUT_PREFIX, NX_FLASH_CUT_SUBSET,
                                         NX_FLASH_CUT_WEAK, NX_FLASH_CUT_OOB};
    nx_flash_sim_model model = nand();
    uint8_t data[BLOCK] = {0};

    for (size_t i = 0; i < NX_ARRAY_COUNT(modes); i++) {
        nx_flash_sim *sim = make(&model);
        CHECK_EQ(program(sim, BLOCK, data, BLOCK), NX_OK);
        cut_at(sim, 1, modes[i]);
        CHECK_EQ(erase(sim, BLOCK), NX_EFAULT);
        nx_flash_sim_power_on(sim);
        uint32_t count = zeros(sim, BLOCK, BLOCK);
        CHECK(modes[i] == NX_FLASH_CUT_WEAK ? count <= 40 : count > 0 && count < 8 * BLOCK);
        nx_flash_sim *honest;
        CHECK_EQ(nx_flash_sim_fork(sim, &honest), NX_OK);
        CHECK_EQ(erase(honest, BLOCK), NX_OK);
        CHECK(is_byte(honest, BLOCK, BLOCK, 0xff));
        CHECK_EQ(program(honest, BLOCK, data, BLOCK), NX_OK);
        CHECK_EQ(nx_flash_sim_counters_of(honest)->breaches, 0);
        nx_flash_sim_destroy(honest);
        int code = program(sim, BLOCK, data, PAGE);
        check_breach(sim, code, NX_EINVAL, NX_FLASH_RULE_ERASED, NX_FLASH_PROGRAM, 1, 0);
    }
}

static void test_forks_do_not_see_each_other(void)
{
    nx_flash_sim_model model = nand();
    nx_flash_sim *sims[8];
    static uint8_t mirror[8][SIZE];
    uint8_t due[8][SIZE / BLOCK] = {{0}};
    uint8_t data[PAGE];
    uint64_t seed = 5;

    sims[0] = make(&model);
    memset(mirror[0], 0xff, SIZE);
    for (unsigned i = 1; i < 8; i++) {
        sims[i] = NULL;
    }
    for (unsigned round = 0; round < 3000; round++) {
        unsigned which = (unsigned)(nx_test_random(&seed) % 8);
        uint32_t block = (uint32_t)(nx_test_random(&seed) % (SIZE / BLOCK));
        unsigned from = (unsigned)(nx_test_random(&seed) % 8);
        if (sims[which] == NULL || nx_test_random(&seed) % 16 == 0) {
            if (sims[from] == NULL || from == which) {
                continue;
            }
            nx_flash_sim_destroy(sims[which]);
            CHECK_EQ(nx_flash_sim_fork(sims[from], &sims[which]), NX_OK);
            memcpy(mirror[which], mirror[from], SIZE);
            memcpy(due[which], due[from], sizeof due[0]);
        } else if (due[which][block] == BLOCK / PAGE) {
            CHECK_EQ(erase(sims[which], (uint64_t)block * BLOCK), NX_OK);
            memset(mirror[which] + (size_t)block * BLOCK, 0xff, BLOCK);
            due[which][block] = 0;
        } else {
            uint64_t at = (uint64_t)block * BLOCK + (uint64_t)due[which][block]++ * PAGE;
            fill(data, PAGE, round);
            CHECK_EQ(program(sims[which], at, data, PAGE), NX_OK);
            memcpy(mirror[which] + at, data, PAGE);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        for (uint32_t at = 0; sims[i] != NULL && at < SIZE; at += BLOCK) {
            CHECK(holds(sims[i], at, mirror[i] + at, BLOCK));
        }
        nx_flash_sim_destroy(sims[i]);
    }
}

static void test_contradicting_models_are_refused(void)
{
    nx_flash_sim *sim = NULL;
    nx_flash_sim_model model = nand();

    model.geometry.page_size = 3000;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_EINVAL);
    model = nand();
    model.factory_bad = 21;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_EINVAL);
    model = nand();
    model.geometry.page_size = 1;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_EINVAL);
    model = nand();
    model.ecc_bits = 4;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_EINVAL);
    model = nand();
    model.rules = NX_FLASH_RULE_ALL + 1;
    CHECK_EQ(nx_flash_sim_create(&model, &sim), NX_EINVAL);
    CHECK(sim == NULL);
}

/* What one step of a power-cut rig costs besides its client: on 4 MiB in blocks of 4 KiB. */
#define CYCLES 200u

NX_NOINLINE static uint64_t bench_flash_cycles(const nx_flash_sim *whole, const uint8_t *data)
{
    uint64_t cuts = 0;

    for (unsigned i = 0; i < CYCLES; i++) {
        nx_flash_sim *sim = NULL;
        uint8_t bytes[256];
        NX_ASSERT(nx_flash_sim_fork(whole, &sim) == NX_OK);
        cut_at(sim, 4, NX_FLASH_CUT_SUBSET);
        NX_ASSERT(program(sim, 3 << 20, data, 1024) == NX_EFAULT);
        nx_flash_sim_power_on(sim);
        NX_ASSERT(read(sim, (3 << 20) + 768, bytes, sizeof bytes) == NX_OK);
        cuts += nx_flash_sim_counters_of(sim)->cuts;
        nx_flash_sim_destroy(sim);
    }
    return cuts;
}

static int bench(void)
{
    nx_flash_sim_model model = {
        .geometry = {.size = 4 << 20,
                     .block_size = 4096,
                     .page_size = 256,
                     .programs = UINT16_MAX,
                     .kind = NX_FLASH_NOR,
                     .erased = 0xff},
        .rules = NX_FLASH_RULE_ALL & ~(uint32_t)NX_FLASH_RULE_ORDER,
    };
    nx_flash_sim *sim = make(&model);
    uint8_t data[4096] = {0};

    for (uint32_t at = 0; at < 3 << 20; at += sizeof data) {
        CHECK_EQ(program(sim, at, data, sizeof data), NX_OK);
    }
    CHECK_EQ(bench_flash_cycles(sim, data), CYCLES);
    nx_flash_sim_destroy(sim);
    TEST_MAIN_END();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        return bench();
    }
    test_program_then_erase();
    test_order_is_held();
    test_second_program_is_caught();
    test_setting_a_bit_is_caught();
    test_cells_can_only_clear_without_the_rule();
    test_places_and_sizes_are_held();
    test_bad_blocks_are_left_alone();
    test_no_verb_works_without_power();
    test_torn_pages();
    test_weak_bits_vary_then_settle();
    test_half_erased_block_is_erased_again();
    test_forks_do_not_see_each_other();
    test_contradicting_models_are_refused();
    TEST_MAIN_END();
}
