// SPDX-License-Identifier: Apache-2.0
/*
 * The smallest fiber: opens the file it is given, writes one byte, and then ends (`once`) or waits
 * for ever. Linked without a library, so that its own start costs next to nothing.
 */
#include "../../nexus/_core/include/nx_sys.h"

#include <linux/fcntl.h>

__attribute__((noreturn, used)) void beat(const long *stack);

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\nmov %rsp, %rdi\nand $-16, %rsp\ncall beat\nhlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\nmov x0, sp\nbl beat\nbrk #0\n");
#else
__asm__(".globl _start\n_start:\nmv a0, sp\ncall beat\nebreak\n");
#endif

void beat(const long *stack)
{
    long file = nx_sys(__NR_openat, AT_FDCWD, stack[2], O_WRONLY, 0);

    (void)nx_sys(__NR_write, file, "x", 1);
    if (stack[0] == 2) {
        for (;;) {
            (void)nx_sys(__NR_ppoll, NULL, 0, NULL, NULL, 8);
        }
    }
    for (;;) {
        (void)nx_sys(__NR_exit_group, 0);
    }
}
