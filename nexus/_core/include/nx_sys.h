// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's entry points without a C library, on x86-64, aarch64 and riscv64.
 *
 * A call returns what the kernel returns: a value from -4095 to -1 is a negated errno. It sets no
 * errno variable, so these calls are safe in a child that shares its parent's memory.
 */
#ifndef NX_SYS_H
#define NX_SYS_H

#include "nx_base.h"

#include <asm/unistd.h>

#if __STDC_HOSTED__
#include <errno.h>
#endif

#if defined(__x86_64__)
NX_INLINE long nx_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
NX_INLINE long nx_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#elif defined(__riscv)
NX_INLINE long nx_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;

    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}
#else
#error "no system call entry for this machine"
#endif

/* Any number of arguments up to six, each an integer or a pointer. */
#define NX_SYS_ARG(x)       ((long)(x))
#define NX_SYS1(n, a)       nx_syscall6(n, NX_SYS_ARG(a), 0, 0, 0, 0, 0)
#define NX_SYS2(n, a, b)    nx_syscall6(n, NX_SYS_ARG(a), NX_SYS_ARG(b), 0, 0, 0, 0)
#define NX_SYS3(n, a, b, c) nx_syscall6(n, NX_SYS_ARG(a), NX_SYS_ARG(b), NX_SYS_ARG(c), 0, 0, 0)
#define NX_SYS4(n, a, b, c, d)                                                                     \
    nx_syscall6(n, NX_SYS_ARG(a), NX_SYS_ARG(b), NX_SYS_ARG(c), NX_SYS_ARG(d), 0, 0)
#define NX_SYS5(n, a, b, c, d, e)                                                                  \
    nx_syscall6(n, NX_SYS_ARG(a), NX_SYS_ARG(b), NX_SYS_ARG(c), NX_SYS_ARG(d), NX_SYS_ARG(e), 0)
#define NX_SYS6(n, a, b, c, d, e, f)                                                               \
    nx_syscall6(n, NX_SYS_ARG(a), NX_SYS_ARG(b), NX_SYS_ARG(c), NX_SYS_ARG(d), NX_SYS_ARG(e),      \
                NX_SYS_ARG(f))
#define NX_SYS_PICK(_1, _2, _3, _4, _5, _6, name, ...) name
#define nx_sys(number, ...)                                                                        \
    NX_SYS_PICK(__VA_ARGS__, NX_SYS6, NX_SYS5, NX_SYS4, NX_SYS3, NX_SYS2, NX_SYS1, unused)         \
    (number, __VA_ARGS__)
#define nx_sys0(number) nx_syscall6(number, 0, 0, 0, 0, 0, 0)

NX_INLINE bool nx_sys_is_error(long result)
{
    return result < 0 && result >= -4095;
}

/* The code of a refused call; the reason goes where a C library has it, if there is one. */
NX_INLINE int nx_sys_failed(long result)
{
#if __STDC_HOSTED__
    errno = (int)-result;
#else
    (void)result;
#endif
    return NX_ESYS;
}

#endif
