// SPDX-License-Identifier: Apache-2.0
/* For a native fiber without a C library: the first instruction, and the end. It defines main. */
#include "nx_sys.h"

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n"
        "xor %ebp, %ebp\n"
        "mov %rsp, %rdi\n"
        "and $-16, %rsp\n"
        "call nexus_start\n"
        "hlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n"
        "mov x29, #0\n"
        "mov x0, sp\n"
        "bl nexus_start\n"
        "brk #0\n");
#elif defined(__riscv)
__asm__(".globl _start\n_start:\n"
        ".option push\n.option norelax\n"
        "la gp, __global_pointer$\n"
        ".option pop\n"
        "mv a0, sp\n"
        "andi sp, sp, -16\n"
        "call nexus_start\n"
        "ebreak\n");
#endif

int main(int count, char **words, char **environment);
__attribute__((noreturn, used)) void nexus_start(long *stack);

void nexus_start(long *stack)
{
    int count = (int)stack[0];
    char **words = (char **)(stack + 1);
    int status = main(count, words, words + count + 1);

    for (;;) {
        (void)nx_sys(__NR_exit_group, status);
    }
}
