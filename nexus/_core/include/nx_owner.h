// SPDX-License-Identifier: Apache-2.0
/*
 * The name of a process in 64 bits, and whether the process that had it is dead.
 *
 * Theory of operation. An owner word is pid, start time and pid namespace (docs/spec/ring.md). It
 * fits one compare and swap, so a role in shared memory is taken with its owner's name in one
 * step, and a reused pid is told from the old one by its start time.
 *
 * Guarantees. A living process is never called dead; doubt (another pid namespace, no /proc, no
 * right to look) counts as alive. A zombie is dead.
 *
 * Not handled. execve() keeps the name: what a process owned before, it still seems to own after.
 */
#ifndef NX_OWNER_H
#define NX_OWNER_H

#include "nx_base.h"

/* Counts fork() in this process, from 1. What was owned under another count is the parent's. */
extern uint32_t nx_owner_generation;

/* The owner word of this process; never 0. */
uint64_t nx_owner_self(void);

/* Whether the process that had this word certainly is no more. 0 is nobody, hence dead. */
bool nx_owner_is_dead(uint64_t owner);

NX_INLINE uint32_t nx_owner_pid(uint64_t owner)
{
    return (uint32_t)(owner & 0x3fffffu);
}

#endif
