// SPDX-License-Identifier: Apache-2.0
/* The capability table against a naive model, its corruption checks, and TMR. */
#include "nx_capability.h"
#include "nx_test.h"
#include "nx_tmr.h"

#include <string.h>

#define CAPACITY 512u
#define STEPS    20000u

typedef struct fixture {
    nx_capability_table table;
    nx_capability hot[CAPACITY];
    nx_capability_links cold[CAPACITY];
} fixture;

/* The model: every handle ever issued, its parent and whether it should live. */
typedef struct record {
    uint64_t handle;
    uint32_t parent;
    uint16_t rights;
    bool live;
} record;

static record model[STEPS];
static uint32_t model_count;

static void model_revoke(uint32_t root, bool self)
{
    bool dead[STEPS];

    /* Parents precede children, so one pass in order carries death downwards. */
    for (uint32_t i = 0; i < model_count; i++) {
        uint32_t parent = model[i].parent;
        dead[i] = i == root || (parent != UINT32_MAX && dead[parent]);
        if (dead[i] && (i != root || self)) {
            model[i].live = false;
        }
    }
}

static void check_model(const fixture *f)
{
    uint32_t live = 0;

    for (uint32_t i = 0; i < model_count; i++) {
        live += model[i].live;
        bool held = nx_capability_check(&f->table, model[i].handle, model[i].rights);
        if (held != model[i].live) {
            CHECK(held == model[i].live);
            return;
        }
    }
    CHECK_EQ(f->table.live, live);
    nx_capability_audit audit;
    nx_capability_table_audit(&f->table, &audit);
    CHECK(audit.digest == audit.expected);
    CHECK_EQ(audit.live, live);
}

static void step(fixture *f, uint64_t *seed)
{
    uint64_t dice = nx_test_random(seed);
    uint16_t rights = (uint16_t)(nx_test_random(seed) & 0xff);
    uint32_t pick = model_count ? (uint32_t)(nx_test_random(seed) % model_count) : 0;
    uint64_t handle = 0;

    if (dice % 10 < 3 || model_count == 0) {
        nx_capability what = {.rights = rights, .type = 1, .object = dice};
        if (nx_capability_mint(&f->table, what, &handle) == NX_OK) {
            model[model_count++] = (record){handle, UINT32_MAX, rights, true};
        } else {
            CHECK_EQ(f->table.live, CAPACITY);
        }
    } else if (dice % 10 < 9) {
        const record *parent = &model[pick];
        rights &= dice & 64 ? parent->rights : UINT16_MAX;
        int code = nx_capability_derive(&f->table, parent->handle, rights, &handle);
        bool allowed = (parent->rights & NX_RIGHT_DELEGATE) && !(rights & ~parent->rights);
        int want = !parent->live                       ? NX_ESTALE
                   : !allowed                          ? NX_EDENIED
                   : f->table.live == CAPACITY && code ? NX_EFULL
                                                       : NX_OK;
        CHECK_EQ(code, want);
        if (code == NX_OK) {
            model[model_count++] = (record){handle, pick, rights, true};
        }
    } else {
        uint32_t count = 0;
        bool self = dice & 128;
        int code = nx_capability_revoke(&f->table, model[pick].handle, self, &count);
        CHECK_EQ(code, model[pick].live ? NX_OK : NX_ESTALE);
        if (code == NX_OK) {
            model_revoke(pick, self);
        }
    }
}

static void test_against_model(void)
{
    static fixture f;
    uint64_t seed = 20261123;

    CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, CAPACITY), NX_OK);
    for (uint32_t i = 0; i < STEPS / 4; i++) {
        step(&f, &seed);
        if (i % 64 == 0) {
            check_model(&f);
        }
    }
    check_model(&f);
}

static void test_no_resurrection(void)
{
    static fixture f;
    uint64_t old;
    uint64_t now = 0;
    uint32_t count;

    CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, 1), NX_OK);
    CHECK_EQ(nx_capability_mint(&f.table, (nx_capability){.rights = 1}, &old), NX_OK);
    for (int i = 0; i < 1000; i++) {
        uint64_t before = i ? now : old;
        CHECK_EQ(nx_capability_revoke(&f.table, before, true, &count), NX_OK);
        CHECK_EQ(nx_capability_mint(&f.table, (nx_capability){.rights = 1}, &now), NX_OK);
        CHECK(!nx_capability_check(&f.table, before, 0) && !nx_capability_check(&f.table, old, 0));
        CHECK(nx_capability_check(&f.table, now, 1));
    }
    /* The last generation: the slot is retired, and no handle of any generation matches. */
    f.hot[0].generation = UINT32_MAX;
    CHECK_EQ(nx_capability_revoke(&f.table, (uint64_t)UINT32_MAX << 32, true, &count), NX_OK);
    CHECK_EQ(f.table.retired, 1);
    CHECK_EQ(nx_capability_mint(&f.table, (nx_capability){.rights = 1}, &now), NX_EFULL);
    CHECK(!nx_capability_check(&f.table, 0, 0));
}

static void test_hostile_handles(void)
{
    static fixture f;
    uint64_t seed = 7;

    CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, CAPACITY), NX_OK);
    for (int i = 0; i < 100000; i++) {
        CHECK(!nx_capability_check(&f.table, nx_test_random(&seed), 0));
    }
    CHECK(!nx_capability_check(&f.table, 0, 0));
    CHECK(!nx_capability_check(&f.table, UINT64_MAX, 0));
    CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, 0), NX_EINVAL);
}

static void test_audit_finds_every_flipped_bit(void)
{
    static fixture f;
    nx_capability_audit audit;
    uint64_t handle;

    CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, 64), NX_OK);
    for (uint32_t i = 0; i < 40; i++) {
        nx_capability what = {.rights = 0x1f, .type = 2, .domain = (uint8_t)i, .object = i * 77};
        CHECK_EQ(nx_capability_mint(&f.table, what, &handle), NX_OK);
    }
    for (uint32_t bit = 0; bit < 64 * sizeof(nx_capability) * 8; bit++) {
        uint8_t *byte = (uint8_t *)f.hot + bit / 8;
        *byte ^= (uint8_t)(1u << bit % 8);
        nx_capability_table_audit(&f.table, &audit);
        CHECK(audit.digest != audit.expected);
        *byte ^= (uint8_t)(1u << bit % 8);
    }
    nx_capability_table_audit(&f.table, &audit);
    CHECK(audit.digest == audit.expected);
}

static void test_corrupt_links_end(void)
{
    static fixture f;
    uint64_t handles[4];
    uint32_t count;

    for (int fault = 0; fault < 3; fault++) {
        CHECK_EQ(nx_capability_table_init(&f.table, f.hot, f.cold, 8), NX_OK);
        CHECK_EQ(nx_capability_mint(&f.table, (nx_capability){.rights = 0x10}, &handles[0]), NX_OK);
        for (int i = 1; i < 4; i++) {
            CHECK_EQ(nx_capability_derive(&f.table, handles[0], 0x10, &handles[i]), NX_OK);
        }
        uint32_t child = (uint32_t)handles[3];
        if (fault == 0) {
            f.cold[child].child = child;
        } else if (fault == 1) {
            f.cold[child].next = 1u << 30;
        } else {
            f.cold[child].next = 7;
        }
        CHECK_EQ(nx_capability_revoke(&f.table, handles[0], false, &count), NX_ECORRUPT);
    }
}

static void test_tmr(void)
{
    static uint8_t copies[3][1000];
    static uint8_t truth[1000];
    uint64_t seed = 3;
    nx_tmr_repairs repairs;

    for (size_t size = 0; size <= sizeof truth; size += 37) {
        for (size_t i = 0; i < size; i++) {
            truth[i] = (uint8_t)nx_test_random(&seed);
        }
        for (int c = 0; c < 3; c++) {
            memcpy(copies[c], truth, size);
        }
        CHECK(!nx_tmr_differs(copies[0], copies[1], copies[2], size));
        uint64_t want[3] = {0};
        for (size_t i = 0; i < size; i += 1 + nx_test_random(&seed) % 60) {
            unsigned c = (unsigned)(nx_test_random(&seed) % 3);
            copies[c][i] ^= (uint8_t)(1u << nx_test_random(&seed) % 8);
            want[c]++;
            CHECK(nx_tmr_differs(copies[0], copies[1], copies[2], size));
        }
        nx_tmr_vote(copies[0], copies[1], copies[2], size, &repairs);
        for (int c = 0; c < 3; c++) {
            CHECK(memcmp(copies[c], truth, size) == 0);
            CHECK_EQ(repairs.bytes[c], want[c]);
        }
    }
}

/* Fixed work for the instruction budgets. */
#define BENCH_COUNT 4096u
static nx_capability bench_hot[BENCH_COUNT];
static nx_capability_links bench_cold[BENCH_COUNT];
static uint64_t bench_handles[BENCH_COUNT];
static uint8_t bench_verdicts[BENCH_COUNT];

NX_NOINLINE static size_t bench_capability_check(const nx_capability_table *table)
{
    return nx_capability_check_many(table, bench_handles, BENCH_COUNT, 1, bench_verdicts);
}

NX_NOINLINE static uint32_t bench_capability_revoke(nx_capability_table *table)
{
    uint32_t count = 0;
    int code = nx_capability_revoke(table, bench_handles[0], true, &count);

    return code == NX_OK ? count : 0;
}

NX_NOINLINE static uint64_t bench_capability_audit(const nx_capability_table *table)
{
    nx_capability_audit audit;

    nx_capability_table_audit(table, &audit);
    return audit.digest;
}

NX_NOINLINE static uint64_t bench_tmr_vote(void)
{
    nx_tmr_repairs repairs;

    nx_tmr_vote((uint8_t *)bench_handles, (uint8_t *)bench_handles, (uint8_t *)bench_handles,
                sizeof bench_handles, &repairs);
    return repairs.bytes[0];
}

static int bench(void)
{
    nx_capability_table table;

    CHECK_EQ(nx_capability_table_init(&table, bench_hot, bench_cold, BENCH_COUNT), NX_OK);
    CHECK_EQ(nx_capability_mint(&table, (nx_capability){.rights = 0x11}, bench_handles), NX_OK);
    for (uint32_t i = 1; i < BENCH_COUNT; i++) {
        CHECK_EQ(nx_capability_derive(&table, bench_handles[i / 2], 0x11, &bench_handles[i]),
                 NX_OK);
    }
    CHECK_EQ(bench_capability_check(&table), BENCH_COUNT);
    CHECK(bench_capability_audit(&table) == table.digest);
    CHECK_EQ(bench_tmr_vote(), 0);
    CHECK_EQ(bench_capability_revoke(&table), BENCH_COUNT);
    TEST_MAIN_END();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        return bench();
    }
    test_against_model();
    test_no_resurrection();
    test_hostile_handles();
    test_audit_finds_every_flipped_bit();
    test_corrupt_links_end();
    test_tmr();
    nx_tmr_select(nx_simd_detect());
    test_tmr();
    TEST_MAIN_END();
}
