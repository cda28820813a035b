// SPDX-License-Identifier: Apache-2.0
/*
 * The registers of a frame, and the three jumps between stacks, in assembly; for nexus_fiber.c.
 *
 * A frame is 34 words of 64 bits. Words 0 to 3 have the same meaning on every machine; what follows
 * are the registers that a call preserves, in the order in which the code below stores them.
 */
#ifndef NEXUS_SWITCH_H
#define NEXUS_SWITCH_H

#include "nx_base.h"

enum {
    NX_FRAME_PC = 0,       /* where the call returns to */
    NX_FRAME_SP = 1,       /* the stack pointer after it has returned */
    NX_FRAME_MACHINE = 2,  /* the ELF number of the machine: whose registers these are */
    NX_FRAME_FUNCTION = 3, /* what runs: address of the function */
    NX_FRAME_WORDS = 34,
};

extern uint64_t nexus_frame[NX_FRAME_WORDS]; /* of the running checkpoint */
extern uint64_t nexus_home[NX_FRAME_WORDS];  /* of the caller of nx_fiber_run, in this life */

/* Stores the caller's registers in nexus_home, and calls function(argument) on the stack `top`. */
int nexus_enter(int (*function)(void *), void *argument, uint64_t top);

/* Stores the caller's registers in nexus_home, and returns 1 out of the call that `frame` is of. */
int nexus_resume(const uint64_t *frame);

/* Called by nx_fiber_checkpoint, in whose place it returns. */
int nexus_save(const void *blob, size_t size);

#if defined(__x86_64__)
#define NX_FRAME_MACHINE_HERE 62u
#elif defined(__aarch64__)
#define NX_FRAME_MACHINE_HERE 183u
#elif defined(__riscv) && __riscv_xlen == 64
#define NX_FRAME_MACHINE_HERE 243u
#else
#error "no registers are known for this machine"
#endif

#endif
