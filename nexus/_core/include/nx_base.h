// SPDX-License-Identifier: Apache-2.0
/*
 * The ground every C kernel stands on: result codes, always-on assertions,
 * cache geometry, checked arithmetic and unaligned little-endian access.
 *
 * Conventions of the whole directory (CONTRIBUTING.md has the reasons):
 *   - a function that can fail returns NX_OK (0) or a negative NX_E* code and
 *     touches its outputs, which come last and are named `ret`, only on success;
 *   - NX_ASSERT states a bug of the caller inside the library and stays on in
 *     release builds; it is never used for bad input from outside;
 *   - nothing here needs more than a freestanding compiler, except nx_panic.
 */
#ifndef NX_BASE_H
#define NX_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Result codes. A number is never reused for another meaning. */
enum {
    NX_OK = 0,
    NX_EINVAL = -1,    /* a value that is never right */
    NX_ERANGE = -2,    /* offset, index or length outside the object */
    NX_EALIGN = -3,    /* address not a multiple of the access width */
    NX_ENOMEM = -4,    /* the system gave no memory */
    NX_ECLOSED = -5,   /* the object was closed or revoked */
    NX_EFULL = -6,     /* expected outcome: no room */
    NX_EEMPTY = -7,    /* expected outcome: nothing there */
    NX_EBUSY = -8,     /* in use: exported, reserved or owned by another */
    NX_ESTALE = -9,    /* a handle of an earlier generation */
    NX_EDENIED = -10,  /* the right is not held */
    NX_ECORRUPT = -11, /* stored or shared bytes contradict themselves */
    NX_ETOOBIG = -12,  /* larger than a fixed limit of the format */
    NX_EABSENT = -13,  /* this kernel or CPU does not have the facility */
    NX_ETIMEOUT = -14, /* the bound on time or tries was reached */
    NX_ESYS = -15,     /* a system call failed; errno says why */
    NX_EFAULT = -16,   /* the device or file behind a mapping is gone */
    NX_EMEDIUM = -17,  /* the medium refused to program or to erase */
};

#define NX_CACHE_LINE    64u
#define NX_PAGE_SIZE_MIN 4096u

#define NX_LIKELY(x)   __builtin_expect(!!(x), 1)
#define NX_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NX_INLINE      static inline __attribute__((always_inline))
/* Keeps a function, and its name, as they stand: instruction budgets count by symbol. */
#if defined(__GNUC__) && !defined(__clang__)
#define NX_NOINLINE __attribute__((noinline, noclone))
#else
#define NX_NOINLINE __attribute__((noinline))
#endif
#define NX_ALIGNED(n)     __attribute__((aligned(n)))
#define NX_ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Nexus targets little-endian x86-64, aarch64 and riscv64"
#endif

#ifdef __cplusplus
#define NX_STATIC_ASSERT static_assert
#else
#define NX_STATIC_ASSERT _Static_assert
#endif

/* Prints the broken condition to stderr and aborts; async-signal-safe. */
__attribute__((noreturn, cold)) void nx_panic(const char *condition, const char *file, int line);

#define NX_ASSERT(condition)                                                                       \
    do {                                                                                           \
        if (NX_UNLIKELY(!(condition))) {                                                           \
            nx_panic(#condition, __FILE__, __LINE__);                                              \
        }                                                                                          \
    } while (0)

/* A compiler barrier: orders ordinary stores against a signal or SIGKILL of
 * this very thread, for which retired program order is all that counts. */
NX_INLINE void nx_compiler_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Tells a spinning core to let its sibling or its power budget breathe. */
NX_INLINE void nx_cpu_relax(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

NX_INLINE bool nx_is_power_of_two(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

NX_INLINE uint64_t nx_align_up(uint64_t x, uint64_t power_of_two)
{
    return (x + power_of_two - 1) & ~(power_of_two - 1);
}

NX_INLINE uint32_t nx_load_u32(const void *p)
{
    uint32_t x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

NX_INLINE uint64_t nx_load_u64(const void *p)
{
    uint64_t x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}

NX_INLINE void nx_store_u32(void *p, uint32_t x)
{
    __builtin_memcpy(p, &x, sizeof x);
}

NX_INLINE void nx_store_u64(void *p, uint64_t x)
{
    __builtin_memcpy(p, &x, sizeof x);
}

NX_INLINE uint64_t nx_rotl64(uint64_t x, unsigned n)
{
    return (x << (n & 63)) | (x >> ((64 - n) & 63));
}

NX_INLINE uint32_t nx_rotr32(uint32_t x, unsigned n)
{
    return (x >> (n & 31)) | (x << ((32 - n) & 31));
}

#endif
