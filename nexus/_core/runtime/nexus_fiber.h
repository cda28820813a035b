// SPDX-License-Identifier: Apache-2.0
/*
 * A native program as a fiber: goes on in the middle of a function after it was killed.
 *
 * Theory of operation. nx_fiber_run calls a function on a stack of its own, at an address that is
 * the same in every life. nx_fiber_checkpoint saves what the function's registers and its part of
 * that stack hold, with a blob of the caller's, into the fiber's checkpoint slot. In a life that
 * goes on from a checkpoint, nx_fiber_run does not call the function: it puts the stack back and
 * returns out of that nx_fiber_checkpoint, with NX_FIBER_RESTORED.
 *
 * What comes back: the locals of the function and of its callers up to nx_fiber_run; pointers among
 * them to that stack, to code, and to what has a fixed address in the program. What does not:
 * globals, the heap, mappings, open files beyond those the fiber was given, signal handlers,
 * arguments and environment, thread-local variables. What of these must survive goes into the blob,
 * which nx_fiber_restored gives back before and after.
 *
 * Conditions. The program is linked static and at a fixed address (-static -no-pie -fno-pie), so
 * that the same image means the same addresses; the image's digest, which the supervisor put into
 * the life page, decides whether a checkpoint is this program's. The function and what it calls are
 * compiled without what a process keeps a random secret for: -fno-stack-protector, on x86-64
 * -fcf-protection=none, on aarch64 -mbranch-protection=none. One thread.
 *
 * Guarantees: those of the checkpoint slot (docs/spec/checkpoint.md): what nx_fiber_checkpoint
 * acknowledged is not lost by any number of kills, and nothing else is ever restored. A checkpoint
 * that is refused changes nothing.
 *
 * Neither libc nor compiler library is needed, but where SIMD is looked for (x86-64: libgcc or
 * compiler-rt). nexus_start.c has _start and the memory functions for programs without a libc.
 */
#ifndef NEXUS_FIBER_H
#define NEXUS_FIBER_H

#include "nx_base.h"
#include "nx_checkpoint.h"
#include "nx_fiber.h"

/* 64 KiB of stack, of which a checkpoint saves at most 8 KiB: what is in use when it is made. The
 * address is free under 38 bits of address space (riscv64 sv39), too. */
#define NX_FIBER_STACK_BASE 0x1e58000000ul
#define NX_FIBER_STACK_SIZE 0x10000ul

enum { NX_FIBER_SAVED = 0, NX_FIBER_RESTORED = 1 };

/*
 * Reads NEXUS_FIBER, sleeps until the life begins, and finds the checkpoint it goes on from. Call
 * it once, after everything that may be done ahead: here a standby waits.
 *
 * NX_EABSENT: the process is no fiber. NX_EINVAL, NX_ETOOBIG: NEXUS_FIBER is wrong, or a
 * descriptor is not what it says. NX_EBUSY: called twice. NX_ESYS: a system call was refused.
 */
int nx_fiber_begin(char *const *environment);

/* Number of this life from 1, and how the handle of that kind and name is numbered: a descriptor,
 * or NX_EABSENT. `name` NULL: any name. */
uint32_t nx_fiber_life_number(void);
int nx_fiber_descriptor(nx_fiber_kind kind, const char *name);

/* The blob of the checkpoint that this life goes on from; NULL and size 0 after a cold start. */
const void *nx_fiber_restored(size_t *ret_size);

/*
 * Calls the function on the fiber's stack, or goes on inside of it, and returns what it returns
 * when it does. Once a process. When it did not come to that, *ret is untouched and the result is
 * NX_EBUSY: called twice; NX_ESTALE: the checkpoint was made under another function, or by a
 * program at other addresses; NX_ECORRUPT: its frame is not one of this machine; NX_ESYS: the
 * stack's address is taken. `argument` is for a cold start alone: it lies in the last life.
 */
int nx_fiber_run(int (*function)(void *), void *argument, int *ret);

/*
 * Saves. NX_FIBER_SAVED: acknowledged. NX_FIBER_RESTORED: this is a later life, which goes on here.
 * NX_ETOOBIG: more than 32,768 bytes of blob or 8,192 of stack; NX_EABSENT: the fiber has no
 * slot; NX_EINVAL: not called below nx_fiber_run; then the last checkpoint stays.
 */
int nx_fiber_checkpoint(const void *blob, size_t size);

/* Sequence of the last checkpoint that was saved or gone on from; 0: none. */
uint64_t nx_fiber_sequence(void);

#endif
