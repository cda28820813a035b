// SPDX-License-Identifier: Apache-2.0
/* Manifests: the golden ones, each rule broken once, every truncation and every flipped bit. */
#include "bkdl_walk.h"
#include "golden_bkdl.h"
#include "nx_test.h"

typedef int (*parser)(const uint8_t *bytes, size_t size);

static volatile uint64_t seen;

static int parse_manifest(const uint8_t *bytes, size_t size)
{
    nx_bkdl manifest;
    int result = nx_bkdl_parse(bytes, size, &manifest);

    if (result == NX_OK) {
        seen += walk_manifest(&manifest);
    }
    return result;
}

static int parse_plan(const uint8_t *bytes, size_t size)
{
    nx_plan plan;
    int result = nx_plan_parse(bytes, size, &plan);

    if (result == NX_OK) {
        seen += walk_manifest(&plan.manifest) + plan.image->digest[31];
    }
    return result;
}

/* Parses a copy of exact size, so that a read one byte further is a finding of asan. */
static int parse_copy(parser parse, const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);

    memcpy(copy, bytes, size);
    int result = parse(copy, size);
    free(copy);
    return result;
}

static void test_golden_fields(void)
{
    nx_bkdl manifest;
    static NX_ALIGNED(8) uint8_t bytes[sizeof golden_manifest];

    memcpy(bytes, golden_manifest, sizeof bytes);
    CHECK_EQ(nx_bkdl_parse(bytes, sizeof bytes, &manifest), NX_OK);
    const nx_bkdl_section *of = manifest.sections;
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&manifest);
    CHECK_EQ(manifest.descriptor_count, 1);
    CHECK_EQ(manifest.descriptors[0], 2);
    CHECK_EQ(manifest.entry, 0x401000);
    CHECK(strcmp((const char *)of[NX_BKDL_NAME].data, "probe-\xc3\xa9") == 0);
    CHECK(strcmp(nx_bkdl_string(&of[NX_BKDL_ARGUMENTS], 1), "") == 0);
    CHECK(strcmp(nx_bkdl_string(&of[NX_BKDL_ARGUMENTS], 2), "--all") == 0);
    CHECK(strcmp(nx_bkdl_string(&of[NX_BKDL_STRINGS], 6), "/dev/null") == 0);
    CHECK_EQ(of[NX_BKDL_ENVIRONMENT].count, 2);
    CHECK_EQ(of[NX_BKDL_FILTER].count, 4);
    CHECK_EQ(of[NX_BKDL_LANDLOCK].count, 3);
    CHECK_EQ(of[NX_BKDL_MOUNTS].count, 5);
    CHECK_EQ(of[NX_BKDL_LIMITS].count, 1);
    CHECK_EQ(policy->pledge, (1ull << 63) | 19);
    CHECK_EQ(policy->namespaces, 0x6c020000);
    CHECK_EQ(policy->restart, NX_RESTART_ON_FAILURE);
    CHECK_EQ(policy->period_ms, 10000);
    CHECK_EQ(policy->gate, 1);
    CHECK_EQ(policy->grace_ms, 2000);
}

static void test_golden_plan(void)
{
    nx_plan plan;
    static NX_ALIGNED(8) uint8_t bytes[sizeof golden_plan];

    memcpy(bytes, golden_plan, sizeof bytes);
    CHECK_EQ(nx_plan_parse(bytes, sizeof bytes, &plan), NX_OK);
    CHECK_EQ(plan.image->descriptor, 5);
    CHECK_EQ(plan.image->digest[31], 31);
    CHECK_EQ(plan.handle_count, 2);
    CHECK(plan.handles[0].what == 1 && plan.handles[1].number == 4);
}

/* Every start of a sound form is refused, and read no further than it goes. */
static void test_truncation(parser parse, const uint8_t *bytes, size_t size)
{
    for (size_t cut = 0; cut < size; cut++) {
        CHECK(parse_copy(parse, bytes, cut) != NX_OK);
    }
}

/* Some flips make another sound form, which must then be readable as a whole. */
static unsigned test_flips(parser parse, const uint8_t *bytes, size_t size)
{
    unsigned accepted = 0;

    for (size_t bit = 0; bit < size * 8; bit++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        accepted += parse(copy, size) == NX_OK;
        free(copy);
    }
    return accepted;
}

/* Bytes of the sound form's head, bytes of the edit, bytes of the sound form's tail. */
static size_t apply(const golden_edit *edit, const uint8_t *bytes, size_t size, uint8_t *ret)
{
    size_t middle = strlen(edit->middle) / 2;

    memcpy(ret, bytes, edit->head);
    for (size_t i = 0; i < middle; i++) {
        char digits[3] = {edit->middle[2 * i], edit->middle[2 * i + 1], 0};
        ret[edit->head + i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    memcpy(ret + edit->head + middle, bytes + size - edit->tail, edit->tail);
    return edit->head + middle + edit->tail;
}

static void test_rules(parser parse, const uint8_t *bytes, size_t size, const golden_edit *edits,
                       size_t count)
{
    static uint8_t made[8192];

    for (size_t i = 0; i < count; i++) {
        size_t changed = apply(&edits[i], bytes, size, made);
        if (parse_copy(parse, made, changed) == NX_OK) {
            fprintf(stderr, "accepted: %s\n", edits[i].rule);
            CHECK(false);
        }
    }
    CHECK(count > 10);
}

static void test_limits(void)
{
    static NX_ALIGNED(8) uint8_t bytes[NX_BKDL_SIZE_MAX + 8];
    nx_bkdl manifest = {.entry = 77};

    memcpy(bytes + 1, golden_manifest, sizeof golden_manifest);
    CHECK_EQ(nx_bkdl_parse(bytes + 1, sizeof golden_manifest, &manifest), NX_EALIGN);
    CHECK_EQ(nx_bkdl_parse(bytes, NX_BKDL_SIZE_MAX + 8, &manifest), NX_ETOOBIG);
    memcpy(bytes, golden_manifest, sizeof golden_manifest);
    bytes[104] = NX_BKDL_DESCRIPTORS_MAX + 1;
    CHECK_EQ(nx_bkdl_parse(bytes, sizeof golden_manifest, &manifest), NX_ETOOBIG);
    CHECK_EQ(manifest.entry, 77); /* untouched on failure */
}

/* Random damage of one to eight bytes, for what a single bit does not reach. */
static void test_damage(void)
{
    static uint8_t made[sizeof golden_manifest];
    uint64_t seed = 23;

    for (int round = 0; round < 20000; round++) {
        memcpy(made, golden_manifest, sizeof made);
        for (uint64_t i = 0; i <= nx_test_random(&seed) % 8; i++) {
            made[nx_test_random(&seed) % sizeof made] = (uint8_t)nx_test_random(&seed);
        }
        (void)parse_copy(parse_manifest, made, sizeof made);
    }
}

int main(void)
{
    test_golden_fields();
    test_golden_plan();
    test_truncation(parse_manifest, golden_manifest, sizeof golden_manifest);
    test_truncation(parse_plan, golden_plan,
                    sizeof golden_plan - 24); /* the handles may be absent */
    test_rules(parse_manifest, golden_manifest, sizeof golden_manifest, golden_refused_manifests,
               NX_ARRAY_COUNT(golden_refused_manifests));
    test_rules(parse_plan, golden_plan, sizeof golden_plan, golden_refused_plans,
               NX_ARRAY_COUNT(golden_refused_plans));
    unsigned manifests = test_flips(parse_manifest, golden_manifest, sizeof golden_manifest);
    unsigned plans = test_flips(parse_plan, golden_plan, sizeof golden_plan);
    /* Numbers and letters may change; were all or none accepted, the test would see nothing. */
    CHECK(manifests > 500 && manifests < sizeof golden_manifest * 8 / 2);
    CHECK(plans > manifests && plans < sizeof golden_plan * 8 * 3 / 4);
    printf("%u flips of %zu make another manifest, %u of %zu another plan\n", manifests,
           sizeof golden_manifest * 8, plans, sizeof golden_plan * 8);
    test_limits();
    test_damage();
    TEST_MAIN_END();
}
