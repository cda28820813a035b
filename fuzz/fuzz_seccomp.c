// SPDX-License-Identifier: Apache-2.0
/* Seccomp filters: a compiled policy decides every number and argument as its rules read. */
#include "plain_seccomp.h"

static nx_cbpf_insn program[NX_CBPF_COUNT_MAX];
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint64_t how = eat(&in, 2);
    bool masked = how & 1;
    uint32_t count = 0, index = 0, shape = (uint32_t)(how >> 1 & 3),
             capacity = how & 8 ? NX_CBPF_COUNT_MAX : (uint32_t)eat(&in, 2) % 512;
    nx_seccomp_policy policy = {rules,
                                tests,
                                masked ? 0 : (uint32_t)eat(&in, 1) % 64,
                                (uint32_t)eat(&in, 1) % 32,
                                actions[eat(&in, 1) % 6],
                                actions[eat(&in, 1) % 6],
                                (const uint32_t[]){NX_SECCOMP_ARCH_X86_64, NX_SECCOMP_ARCH_AARCH64,
                                                   NX_SECCOMP_ARCH_RISCV64, 1}[how >> 4 & 3],
                                how & 64    ? 435
                                : how & 128 ? (uint32_t)eat(&in, 2) % 520
                                            : NX_SECCOMP_NO_NUMBER};

    read_policy(&in, &policy);
    for (size_t i = 0; i < sizeof mask; i++) {
        mask[i] = (uint8_t)eat(&in, 1);
    }
    int code = masked ? nx_seccomp_compile_mask(&policy, mask, SECCOMP_RET_ALLOW, shape, program,
                                                capacity, &count)
                      : nx_seccomp_compile(&policy, program, capacity, &count);
    if (code != NX_OK) {
        return 0;
    }
    NX_ASSERT(count <= capacity &&
              nx_cbpf_check(program, count, NX_SECCOMP_DATA_SIZE, &index) == NX_OK);
    nx_seccomp_data call = {.arch = policy.arch};
    for (uint32_t number = 0; number < 1100; number++) {
        nx_input around = {data + (size == 0 ? 0 : number % size),
                           size == 0 ? 0 : size - number % size};
        call.number = number < 1090 ? number : (number - 1091) << 28;
        call.arch = number == 1099 ? 1 : policy.arch;
        for (unsigned i = 0; i < 6; i++) {
            call.arguments[i] = value_near(&around);
        }
        NX_ASSERT(nx_cbpf_run(program, count, &call, sizeof call) ==
                  meaning(&policy, masked, &call));
    }
    return 0;
}
