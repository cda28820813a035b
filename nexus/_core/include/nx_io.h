// SPDX-License-Identifier: Apache-2.0
/*
 * One register access: a load or store of exact width, and the barriers around it.
 *
 * Each nx_io_load<bits> and nx_io_store<bits> is one instruction that the compiler can neither
 * split, merge, widen, repeat nor leave out. Plain `volatile` promises the same in practice, but
 * lets aarch64 compilers pick post-indexed forms, which leave a hypervisor no syndrome to emulate
 * the access from; the asm forms here use a base register alone.
 *
 * The caller guarantees natural alignment and a mapped address. Values are in the byte order of
 * the CPU, which is little-endian on every target; nx_io_swap<bits> serves big-endian registers.
 *
 * Order. Load and store alone ("relaxed") keep program order among accesses to one device, where
 * the mapping is uncached (x86 UC, aarch64 Device-nGnRE, riscv I/O). Against ordinary memory and
 * against write-combining mappings:
 *   nx_io_before_write  earlier stores to memory are visible before the next device write;
 *   nx_io_after_read    the device read is complete before anything later is read;
 *   nx_io_barrier_*     explicit ones, which also drain x86 write-combining buffers.
 * On x86 an uncached access is already ordered with stores to memory, so the first two only stop
 * the compiler. A doorbell behind a write-combining window needs nx_io_barrier_write before it.
 */
#ifndef NX_IO_H
#define NX_IO_H

#include "nx_base.h"

#if defined(__x86_64__)

#define NX_IO_LOAD_ASM(bits, type)                                                                 \
    __asm__ volatile(NX_IO_LOAD_##bits " %1, %0"                                                   \
                     : "=r"(value)                                                                 \
                     : "m"(*(const volatile type *)address)                                        \
                     : "memory")
#define NX_IO_STORE_ASM(bits, type)                                                                \
    __asm__ volatile(NX_IO_STORE_##bits " %1, %0"                                                  \
                     : "=m"(*(volatile type *)address)                                             \
                     : "q"(value)                                                                  \
                     : "memory")
#define NX_IO_LOAD_8          "movb"
#define NX_IO_LOAD_16         "movw"
#define NX_IO_LOAD_32         "movl"
#define NX_IO_LOAD_64         "movq"
#define NX_IO_STORE_8         "movb"
#define NX_IO_STORE_16        "movw"
#define NX_IO_STORE_32        "movl"
#define NX_IO_STORE_64        "movq"
#define NX_IO_BEFORE_WRITE()  nx_compiler_barrier()
#define NX_IO_AFTER_READ()    nx_compiler_barrier()
#define NX_IO_BARRIER_WRITE() __asm__ volatile("sfence" ::: "memory")
#define NX_IO_BARRIER_READ()  __asm__ volatile("lfence" ::: "memory")
#define NX_IO_BARRIER_FULL()  __asm__ volatile("mfence" ::: "memory")

#elif defined(__aarch64__)

#define NX_IO_LOAD_ASM(bits, type)                                                                 \
    __asm__ volatile(NX_IO_LOAD_##bits ", %1"                                                      \
                     : "=r"(value)                                                                 \
                     : "Q"(*(const volatile type *)address)                                        \
                     : "memory")
#define NX_IO_STORE_ASM(bits, type)                                                                \
    __asm__ volatile(NX_IO_STORE_##bits ", %0"                                                     \
                     : "=Q"(*(volatile type *)address)                                             \
                     : "rZ"(value)                                                                 \
                     : "memory")
#define NX_IO_LOAD_8          "ldrb %w0"
#define NX_IO_LOAD_16         "ldrh %w0"
#define NX_IO_LOAD_32         "ldr %w0"
#define NX_IO_LOAD_64         "ldr %0"
#define NX_IO_STORE_8         "strb %w1"
#define NX_IO_STORE_16        "strh %w1"
#define NX_IO_STORE_32        "str %w1"
#define NX_IO_STORE_64        "str %x1"
#define NX_IO_BEFORE_WRITE()  __asm__ volatile("dmb oshst" ::: "memory")
#define NX_IO_AFTER_READ()    __asm__ volatile("dmb oshld" ::: "memory")
#define NX_IO_BARRIER_WRITE() __asm__ volatile("dmb oshst" ::: "memory")
#define NX_IO_BARRIER_READ()  __asm__ volatile("dmb oshld" ::: "memory")
#define NX_IO_BARRIER_FULL()  __asm__ volatile("dmb osh" ::: "memory")

#elif defined(__riscv) && __riscv_xlen == 64

#define NX_IO_LOAD_ASM(bits, type)                                                                 \
    __asm__ volatile(NX_IO_LOAD_##bits " %0, %1"                                                   \
                     : "=r"(value)                                                                 \
                     : "A"(*(const volatile type *)address)                                        \
                     : "memory")
#define NX_IO_STORE_ASM(bits, type)                                                                \
    __asm__ volatile(NX_IO_STORE_##bits " %z1, %0"                                                 \
                     : "=A"(*(volatile type *)address)                                             \
                     : "rJ"(value)                                                                 \
                     : "memory")
#define NX_IO_LOAD_8          "lbu"
#define NX_IO_LOAD_16         "lhu"
#define NX_IO_LOAD_32         "lw"
#define NX_IO_LOAD_64         "ld"
#define NX_IO_STORE_8         "sb"
#define NX_IO_STORE_16        "sh"
#define NX_IO_STORE_32        "sw"
#define NX_IO_STORE_64        "sd"
#define NX_IO_BEFORE_WRITE()  __asm__ volatile("fence iorw, ow" ::: "memory")
#define NX_IO_AFTER_READ()    __asm__ volatile("fence ir, iorw" ::: "memory")
#define NX_IO_BARRIER_WRITE() __asm__ volatile("fence ow, ow" ::: "memory")
#define NX_IO_BARRIER_READ()  __asm__ volatile("fence ir, ir" ::: "memory")
#define NX_IO_BARRIER_FULL()  __asm__ volatile("fence iorw, iorw" ::: "memory")

#else
#error "nx_io.h knows x86-64, aarch64 and riscv64"
#endif

/* Defines nx_io_load<bits>(address) and nx_io_store<bits>(address, value). */
#define NX_IO_ACCESSORS(bits, type)                                                                \
    NX_INLINE type nx_io_load##bits(const volatile void *address)                                  \
    {                                                                                              \
        type value;                                                                                \
        NX_IO_LOAD_ASM(bits, type);                                                                \
        return value;                                                                              \
    }                                                                                              \
    NX_INLINE void nx_io_store##bits(volatile void *address, type value)                           \
    {                                                                                              \
        NX_IO_STORE_ASM(bits, type);                                                               \
    }

NX_IO_ACCESSORS(8, uint8_t)
NX_IO_ACCESSORS(16, uint16_t)
NX_IO_ACCESSORS(32, uint32_t)
NX_IO_ACCESSORS(64, uint64_t)

NX_INLINE void nx_io_before_write(void)
{
    NX_IO_BEFORE_WRITE();
}

NX_INLINE void nx_io_after_read(void)
{
    NX_IO_AFTER_READ();
}

NX_INLINE void nx_io_barrier_write(void)
{
    NX_IO_BARRIER_WRITE();
}

NX_INLINE void nx_io_barrier_read(void)
{
    NX_IO_BARRIER_READ();
}

NX_INLINE void nx_io_barrier_full(void)
{
    NX_IO_BARRIER_FULL();
}

NX_INLINE uint16_t nx_io_swap16(uint16_t value)
{
    return __builtin_bswap16(value);
}

NX_INLINE uint32_t nx_io_swap32(uint32_t value)
{
    return __builtin_bswap32(value);
}

NX_INLINE uint64_t nx_io_swap64(uint64_t value)
{
    return __builtin_bswap64(value);
}

#endif
