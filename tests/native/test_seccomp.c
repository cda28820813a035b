// SPDX-License-Identifier: Apache-2.0
/* nx_cbpf.h and nx_seccomp.h: programs against the plain meaning of their rules, and the kernel. */
#include "nx_seccomp.h"
#include "nx_test.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALLOW  SECCOMP_RET_ALLOW
#define DENY   (SECCOMP_RET_ERRNO | EPERM)
#define KILL   SECCOMP_RET_KILL_PROCESS
#define CLONE3 435u

static nx_cbpf_insn program[NX_CBPF_COUNT_MAX];
static uint64_t seed = 20240607;

static nx_seccomp_policy plain_policy(void)
{
    return (nx_seccomp_policy){.default_action = DENY,
                               .foreign_action = KILL,
                               .arch = NX_SECCOMP_ARCH_X86_64,
                               .clone3 = CLONE3};
}

static uint32_t decide(uint32_t count, uint32_t number, uint32_t arch, const uint64_t *arguments)
{
    nx_seccomp_data data = {.number = number, .arch = arch};

    if (arguments != NULL) {
        memcpy(data.arguments, arguments, sizeof data.arguments);
    }
    return nx_cbpf_run(program, count, &data, sizeof data);
}

static void check_mask(const uint8_t *mask, uint32_t shape, uint32_t count_max)
{
    nx_seccomp_policy policy = plain_policy();
    uint32_t count = 0, index = 0, wrong = 0;

    CHECK_EQ(
        nx_seccomp_compile_mask(&policy, mask, ALLOW, shape, program, NX_CBPF_COUNT_MAX, &count),
        NX_OK);
    CHECK(count <= count_max);
    CHECK_EQ(nx_cbpf_check(program, count, sizeof(nx_seccomp_data), &index), NX_OK);
    for (uint32_t number = 0; number < 1100; number++) {
        bool set = number < 512 && (mask[number / 8] >> (number % 8) & 1) != 0;
        uint32_t want = number == CLONE3 ? SECCOMP_RET_ERRNO | ENOSYS : set ? ALLOW : DENY;
        wrong += decide(count, number, NX_SECCOMP_ARCH_X86_64, NULL) != want;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(decide(count, 0, 0x40000003, NULL), KILL);
    CHECK_EQ(decide(count, 0x40000000, NX_SECCOMP_ARCH_X86_64, NULL), KILL);
    CHECK_EQ(decide(count, UINT32_MAX, NX_SECCOMP_ARCH_X86_64, NULL), KILL);
    CHECK_EQ(decide(count, 0x3fffffff, NX_SECCOMP_ARCH_X86_64, NULL), DENY);
}

static void test_masks(void)
{
    uint8_t mask[64];

    for (int kind = 0; kind < 40; kind++) {
        for (size_t i = 0; i < sizeof mask; i++) {
            uint64_t word = nx_test_random(&seed);
            mask[i] = (uint8_t)(kind == 0   ? 0
                                : kind == 1 ? 0xff
                                : kind == 2 ? 0x55
                                : kind < 20 ? word
                                            : word & word >> 8 & word >> 16);
        }
        check_mask(mask, NX_SECCOMP_SHAPE_AUTO, 160);
        check_mask(mask, NX_SECCOMP_SHAPE_WORDS, 63);
        check_mask(mask, NX_SECCOMP_SHAPE_TREE, 1100);
    }
}

static bool test_holds(const nx_seccomp_test *test, const uint64_t *arguments)
{
    uint64_t value = arguments[test->argument];

    if (test->width == 32) {
        value = (uint32_t)value;
    }
    bool result = test->op == NX_SECCOMP_MASKED ? (value & test->a) == test->b
                                                : test->a <= value && value <= test->b;
    return result != test->negate;
}

static uint32_t plain_meaning(const nx_seccomp_policy *policy, uint32_t number,
                              const uint64_t *arguments)
{
    if (number == policy->clone3) {
        return SECCOMP_RET_ERRNO | ENOSYS;
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const nx_seccomp_rule *rule = &policy->rules[i];
        bool all = rule->first <= number && number <= rule->last;
        for (uint32_t t = 0; all && t < rule->test_count; t++) {
            all = test_holds(&policy->tests[rule->test_first + t], arguments);
        }
        if (all) {
            return rule->action;
        }
    }
    return policy->default_action;
}

/* Values around each other and around 2^32, so that all outcomes of a test occur. */
static uint64_t close_value(uint64_t full)
{
    uint64_t pick = nx_test_random(&seed);
    uint64_t base = pick & 1 ? 0x100000000u : pick & 2 ? 0xffffffff00000000u : 0;

    return (base + (pick >> 8 & 7) - 3) & full;
}

static void random_rules(nx_seccomp_rule *rules, uint32_t rule_count, nx_seccomp_test *tests,
                         uint32_t test_count)
{
    static const uint32_t actions[] = {ALLOW, DENY, KILL, SECCOMP_RET_TRAP, SECCOMP_RET_LOG};

    for (uint32_t i = 0; i < test_count; i++) {
        uint64_t pick = nx_test_random(&seed);
        uint64_t full = pick & 1 ? UINT64_MAX : UINT32_MAX;
        nx_seccomp_test *test = &tests[i];
        *test = (nx_seccomp_test){.argument = (uint8_t)(pick >> 8 & 1),
                                  .op = pick >> 16 & 1,
                                  .width = pick & 1 ? 64 : 32,
                                  .negate = (pick >> 24 & 3) == 0,
                                  .a = close_value(full),
                                  .b = close_value(full)};
        if (test->op == NX_SECCOMP_MASKED) {
            test->b &= test->a;
        } else if (test->a > test->b) {
            uint64_t swapped = test->a;
            test->a = test->b;
            test->b = swapped;
        }
    }
    for (uint32_t i = 0; i < rule_count; i++) {
        uint64_t pick = nx_test_random(&seed);
        uint32_t first = (uint32_t)(pick % 600), length = (uint32_t)(pick >> 16 & 3);
        uint32_t used = (uint32_t)(pick >> 32 & 3);
        rules[i] = (nx_seccomp_rule){
            .first = first,
            .last = first + (length == 3 ? 20 : length),
            .action = actions[(pick >> 24) % NX_ARRAY_COUNT(actions)],
            .test_first = (uint32_t)((pick >> 40) % (test_count - 3)),
            .test_count = used,
        };
    }
}

static void test_random_rules(void)
{
    static nx_seccomp_rule rules[NX_SECCOMP_RULES_MAX];
    nx_seccomp_test tests[32];
    static const uint32_t archs[] = {NX_SECCOMP_ARCH_X86_64, NX_SECCOMP_ARCH_AARCH64,
                                     NX_SECCOMP_ARCH_RISCV64};

    for (int round = 0; round < 60; round++) {
        nx_seccomp_policy policy = plain_policy();
        uint32_t count = 0, index = 0, wrong = 0;
        policy.rules = rules;
        policy.tests = tests;
        policy.rule_count = (uint32_t)round;
        policy.test_count = NX_ARRAY_COUNT(tests);
        policy.arch = archs[round % 3];
        policy.clone3 = round & 1 ? CLONE3 : NX_SECCOMP_NO_NUMBER;
        random_rules(rules, policy.rule_count, tests, policy.test_count);
        CHECK_EQ(nx_seccomp_compile(&policy, program, NX_CBPF_COUNT_MAX, &count), NX_OK);
        CHECK_EQ(nx_cbpf_check(program, count, sizeof(nx_seccomp_data), &index), NX_OK);
        for (uint32_t number = 0; number < 640; number++) {
            for (int i = 0; i < 8; i++) {
                uint64_t arguments[6] = {close_value(UINT64_MAX), close_value(UINT64_MAX)};
                wrong += decide(count, number, policy.arch, arguments) !=
                         plain_meaning(&policy, number, arguments);
            }
        }
        CHECK_EQ(wrong, 0);
        CHECK_EQ(decide(count, 0, archs[(round + 1) % 3], NULL), KILL);
    }
}

/* Every second number allowed among a thousand: far more than one jump can span. */
static void test_far_jumps(void)
{
    static nx_seccomp_rule rules[NX_SECCOMP_RULES_MAX];
    nx_seccomp_test test = {
        .argument = 0, .op = NX_SECCOMP_RANGE, .width = 64, .a = 5, .b = 1ull << 40};
    nx_seccomp_policy policy = plain_policy();
    uint32_t count = 0, index = 0, wrong = 0;

    for (uint32_t i = 0; i < 300; i++) {
        rules[i] =
            (nx_seccomp_rule){.first = 3 * i, .last = 3 * i, .action = ALLOW, .test_count = i & 1};
    }
    policy.rules = rules;
    policy.tests = &test;
    policy.rule_count = 300;
    policy.test_count = 1;
    CHECK_EQ(nx_seccomp_compile(&policy, program, NX_CBPF_COUNT_MAX, &count), NX_OK);
    CHECK(count > 1000);
    CHECK_EQ(nx_cbpf_check(program, count, sizeof(nx_seccomp_data), &index), NX_OK);
    for (uint32_t number = 0; number < 1000; number++) {
        uint64_t arguments[6] = {number & 8 ? 5 : 4};
        wrong += decide(count, number, policy.arch, arguments) !=
                 plain_meaning(&policy, number, arguments);
    }
    CHECK_EQ(wrong, 0);
    count = 7;
    CHECK_EQ(nx_seccomp_compile(&policy, program, 1000, &count), NX_ETOOBIG);
    CHECK_EQ(nx_seccomp_compile(&policy, program, 0, &count), NX_ETOOBIG);
    CHECK_EQ(count, 7);
}

static void test_nonsense_is_refused(void)
{
    nx_seccomp_rule rule = {.first = 1, .last = 1, .action = ALLOW, .test_count = 1};
    nx_seccomp_test test = {.argument = 0, .op = NX_SECCOMP_MASKED, .width = 32, .a = 1, .b = 1};
    nx_seccomp_policy good = plain_policy(), bad;
    uint32_t count = 0;

    good.rules = &rule;
    good.tests = &test;
    good.rule_count = good.test_count = 1;
    CHECK_EQ(nx_seccomp_compile(&good, program, NX_CBPF_COUNT_MAX, &count), NX_OK);
#define REFUSED(change, undo)                                                                      \
    do {                                                                                           \
        bad = good;                                                                                \
        change;                                                                                    \
        CHECK_EQ(nx_seccomp_compile(&bad, program, NX_CBPF_COUNT_MAX, &count), NX_EINVAL);         \
        undo;                                                                                      \
    } while (0)
    REFUSED(bad.arch = 3, (void)0);
    REFUSED(bad.default_action = 0x12345678, (void)0);
    REFUSED(bad.foreign_action = ALLOW | 1, (void)0);
    REFUSED(bad.clone3 = 512, (void)0);
    REFUSED(rule.last = 0, rule.last = 1);
    REFUSED(rule.last = 0x40000000, rule.last = 1);
    REFUSED(rule.action = SECCOMP_RET_ERRNO | 4096, rule.action = ALLOW);
    REFUSED(rule.test_first = 1, rule.test_first = 0);
    REFUSED(rule.test_count = 2, rule.test_count = 1);
    REFUSED(test.argument = 6, test.argument = 0);
    REFUSED(test.width = 16, test.width = 32);
    REFUSED(test.op = 2, test.op = NX_SECCOMP_MASKED);
    REFUSED(test.b = 2, test.b = 1);
    REFUSED(test.a = test.b = 1ull << 32, test.a = test.b = 1);
    bad = good;
    bad.rule_count = NX_SECCOMP_RULES_MAX + 1;
    CHECK_EQ(nx_seccomp_compile(&bad, program, NX_CBPF_COUNT_MAX, &count), NX_ETOOBIG);
}

static void check_refused(const nx_cbpf_insn *insns, uint32_t count, uint32_t want)
{
    uint32_t index = 999;

    CHECK_EQ(nx_cbpf_check(insns, count, 64, &index), NX_EINVAL);
    CHECK_EQ(index, want);
}

static void test_checker(void)
{
    const nx_cbpf_insn ret = {.code = NX_CBPF_RET_K, .k = ALLOW};
    nx_cbpf_insn p[3] = {ret, ret, ret};
    uint32_t index = 0;

    CHECK_EQ(nx_cbpf_check(p, 3, 64, &index), NX_OK);
    check_refused(p, 0, 0);
    static const nx_cbpf_insn bad[] = {
        {.code = NX_CBPF_JA, .k = 2},
        {.code = NX_CBPF_JEQ_K, .jt = 2},
        {.code = NX_CBPF_JEQ_K, .jf = 2},
        {.code = NX_CBPF_LD_ABS, .k = 64},
        {.code = NX_CBPF_LD_ABS, .k = 2},
        {.code = 0x28 /* half-word load */},
        {.code = 0x34 /* division by constant 0 */},
        {.code = 0x64 /* shift by constant */, .k = 32},
        {.code = 0x02 /* store to scratch */, .k = 16},
        {.code = 0x60 /* load of scratch never written */, .k = 0},
        {.code = 0xffff},
    };
    for (size_t i = 0; i < NX_ARRAY_COUNT(bad); i++) {
        p[0] = bad[i];
        check_refused(p, 3, 0);
    }
    p[0] = ret;
    p[2] = (nx_cbpf_insn){.code = NX_CBPF_TAX};
    check_refused(p, 3, 3);

    const nx_cbpf_insn scratch[] = {
        {.code = NX_CBPF_LD_IMM, .k = 5}, {.code = 0x02, .k = 3},
        {.code = NX_CBPF_LD_IMM, .k = 9}, {.code = NX_CBPF_TAX},
        {.code = 0x60, .k = 3},           {.code = 0x0c /* A += X */},
        {.code = 0x16 /* return A */},
    };
    CHECK_EQ(nx_cbpf_check(scratch, NX_ARRAY_COUNT(scratch), 64, &index), NX_OK);
    CHECK_EQ(nx_cbpf_run(scratch, NX_ARRAY_COUNT(scratch), p, 0), 14);
}

/* The kernel takes the program and does what the interpreter says. */
static void test_kernel_agrees(void)
{
    pid_t child = fork();

    if (child == 0) {
        nx_seccomp_policy policy = plain_policy();
        nx_seccomp_rule rule = {
            .first = SYS_getppid, .last = SYS_getppid, .action = SECCOMP_RET_ERRNO | 77};
        uint32_t count = 0;
        int fd = 0;
        policy.default_action = ALLOW;
        policy.rules = &rule;
        policy.rule_count = 1;
#if defined(__aarch64__)
        policy.arch = NX_SECCOMP_ARCH_AARCH64;
#elif defined(__riscv)
        policy.arch = NX_SECCOMP_ARCH_RISCV64;
#endif
        if (nx_seccomp_compile(&policy, program, NX_CBPF_COUNT_MAX, &count) != NX_OK ||
            nx_seccomp_no_new_privs() != NX_OK ||
            nx_seccomp_install(program, count, 0, &fd) != NX_OK) {
            _exit(99);
        }
        bool denied = syscall(SYS_getppid) == -1 && errno == 77;
        bool refused = syscall(CLONE3, NULL, 0) == -1 && errno == ENOSYS;
        _exit(denied && refused && fd == -1 && getpid() > 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) {
        printf("kernel agreement not checked: filters cannot be installed here\n");
        return;
    }
    CHECK_EQ(status, 0);
}

static void test_probes(void)
{
    bool allow = false, wrong = true;
    uint16_t sizes[3] = {0};

    if (nx_seccomp_action_available(ALLOW, &allow) != NX_OK) {
        printf("probes not checked: no seccomp here\n");
        return;
    }
    CHECK(allow);
    CHECK(nx_seccomp_action_available(0x12340000, &wrong) == NX_OK && !wrong);
    CHECK(nx_seccomp_flag_available(SECCOMP_FILTER_FLAG_TSYNC, &allow) == NX_OK && allow);
    CHECK(nx_seccomp_flag_available(1u << 30, &wrong) == NX_OK && !wrong);
    CHECK_EQ(nx_seccomp_notify_sizes(sizes), NX_OK);
    CHECK_EQ(sizes[2], sizeof(nx_seccomp_data));
}

NX_NOINLINE static uint32_t bench_seccomp_mask(const uint8_t *mask)
{
    nx_seccomp_policy policy = plain_policy();
    uint32_t count = 0;

    (void)nx_seccomp_compile_mask(&policy, mask, ALLOW, NX_SECCOMP_SHAPE_AUTO, program,
                                  NX_CBPF_COUNT_MAX, &count);
    return count;
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "bench") == 0) {
        uint8_t mask[64];
        for (size_t i = 0; i < sizeof mask; i++) {
            uint64_t word = nx_test_random(&seed);
            mask[i] = (uint8_t)(word & word >> 8 & word >> 16);
        }
        return bench_seccomp_mask(mask) > 0 ? 0 : 1;
    }
    test_masks();
    test_random_rules();
    test_far_jumps();
    test_nonsense_is_refused();
    test_checker();
    test_kernel_agrees();
    test_probes();
    TEST_MAIN_END();
}
