// SPDX-License-Identifier: Apache-2.0
/* A seccomp policy made from an input, and what it means read rule by rule. */
#ifndef NX_FUZZ_PLAIN_SECCOMP_H
#define NX_FUZZ_PLAIN_SECCOMP_H

#include "fuzz.h"
#include "nx_seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>

static nx_seccomp_rule rules[64];
static nx_seccomp_test tests[32];
static uint8_t mask[NX_SECCOMP_MASK_BITS / 8];
static const uint32_t actions[] = {SECCOMP_RET_ALLOW,        SECCOMP_RET_LOG,
                                   SECCOMP_RET_TRAP | 7,     SECCOMP_RET_ERRNO | EPERM,
                                   SECCOMP_RET_KILL_PROCESS, 1};

static inline uint32_t meaning(const nx_seccomp_policy *policy, bool masked,
                               const nx_seccomp_data *call)
{
    if (call->arch != policy->arch ||
        (policy->arch == NX_SECCOMP_ARCH_X86_64 && call->number >= 1u << 30)) {
        return policy->foreign_action;
    }
    if (call->number == policy->clone3) {
        return SECCOMP_RET_ERRNO | ENOSYS;
    }
    if (masked && call->number < NX_SECCOMP_MASK_BITS &&
        mask[call->number / 8] >> call->number % 8 & 1) {
        return SECCOMP_RET_ALLOW;
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        bool all = rules[i].first <= call->number && call->number <= rules[i].last;
        for (uint32_t t = rules[i].test_first; all && t < rules[i].test_first + rules[i].test_count;
             t++) {
            uint64_t value = call->arguments[tests[t].argument] << (64 - tests[t].width) >>
                             (64 - tests[t].width);
            bool held = tests[t].op == NX_SECCOMP_MASKED
                            ? (value & tests[t].a) == tests[t].b
                            : tests[t].a <= value && value <= tests[t].b;
            all = held != tests[t].negate;
        }
        if (all) {
            return rules[i].action;
        }
    }
    return policy->default_action;
}

/* Values around 0, 2^32 and 2^64, where the halves of a comparison meet. */
static inline uint64_t value_near(nx_input *in)
{
    uint64_t byte = eat(in, 1);

    return (const uint64_t[]){0, 1ull << 32, UINT64_MAX, 0xffffffff00000000u}[byte >> 6] +
           (byte & 63) % 7 - 3;
}

static inline void read_policy(nx_input *in, nx_seccomp_policy *policy)
{
    for (uint32_t t = 0; t < policy->test_count; t++) {
        uint64_t how = eat(in, 1);
        tests[t] = (nx_seccomp_test){value_near(in), value_near(in),     (uint8_t)(how % 7),
                                     how >> 3 & 1,   how & 16 ? 32 : 64, how & 32};
        tests[t].a &= how & 64 ? UINT64_MAX : UINT32_MAX;
        tests[t].b &= tests[t].op == NX_SECCOMP_MASKED && how & 128 ? tests[t].a : UINT32_MAX;
    }
    for (uint32_t r = 0; r < policy->rule_count; r++) {
        uint32_t first = (uint32_t)eat(in, 2) % 1024, span = (uint32_t)eat(in, 1);
        uint64_t how = eat(in, 2);
        rules[r] =
            (nx_seccomp_rule){first, first + (span > 240 ? 1u << 29 : span % 16), actions[how % 6],
                              (uint32_t)(how >> 3 & 31), (uint32_t)(how >> 8 & 3)};
    }
}

#endif
