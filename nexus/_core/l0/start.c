// SPDX-License-Identifier: Apache-2.0
/* What stands in for a C library: the first instruction, the end of a run; nx_memory.c has the
 * rest. */
#include "nx_l0.h"

#include <string.h>

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n"
        "xor %ebp, %ebp\n"
        "mov %rsp, %rdi\n"
        "and $-16, %rsp\n"
        "call nx_l0_start\n"
        "hlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n"
        "mov x29, #0\n"
        "mov x0, sp\n"
        "bl nx_l0_start\n"
        "brk #0\n");
#elif defined(__riscv)
__asm__(".globl _start\n_start:\n"
        ".option push\n.option norelax\n"
        "la gp, __global_pointer$\n"
        ".option pop\n"
        "mv a0, sp\n"
        "andi sp, sp, -16\n"
        "call nx_l0_start\n"
        "ebreak\n");
#endif

__attribute__((noreturn, used)) void nx_l0_start(const long *stack);

void nx_l0_start(const long *stack)
{
    int count = (int)stack[0];
    const char *const *words = (const char *const *)(stack + 1);

    nx_l0_exit(nx_l0_main(count, words));
}

void nx_l0_exit(int status)
{
    for (;;) {
        nx_sys(__NR_exit_group, status);
    }
}

void nx_l0_say(const char *const *parts, size_t count)
{
    struct {
        const char *base;
        size_t size;
    } vector[16];
    size_t used = 0;

    for (size_t i = 0; i < count && used < NX_ARRAY_COUNT(vector); i++) {
        vector[used].base = parts[i];
        vector[used++].size = strlen(parts[i]);
    }
    /* One call, so that lines of several processes do not mix. */
    (void)nx_sys(__NR_writev, 2, vector, used);
}

void nx_l0_join(char *ret, const char *const *parts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(parts[i]);
        memcpy(ret, parts[i], size);
        ret += size;
    }
    *ret = '\0';
}

const char *nx_l0_decimal(nx_l0_digits *ret, uint64_t number)
{
    size_t at = sizeof ret->text;

    ret->text[--at] = '\0';
    do {
        ret->text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return &ret->text[at];
}

void nx_panic(const char *condition, const char *file, int line)
{
    nx_l0_digits digits;

    NX_L0_SAY("nexus-l0: assertion failed: ", condition, " at ", file, ":",
              nx_l0_decimal(&digits, (uint64_t)line), "\n");
    nx_l0_exit(NX_L0_EXIT_FAILED);
}
