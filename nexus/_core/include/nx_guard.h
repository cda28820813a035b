// SPDX-License-Identifier: Apache-2.0
/*
 * A guard that turns SIGBUS from one memory range into a result code.
 *
 * A mapping of a device or file raises SIGBUS when what is behind it has gone: a PCI device that
 * was unplugged, a file that was truncated. nx_guard_run calls a function and comes back with
 * NX_EFAULT when that happens inside the range; the process goes on.
 *
 * Theory: nx_guard_acquire installs one process-wide SIGBUS handler; nx_guard_run points a
 * thread-local variable at a jump buffer for the time of the call. The handler jumps only when the
 * fault address lies in the range of the thread that faulted; every other SIGBUS goes to the
 * handler that was installed before, or to the default action, with the fault still in place.
 * The handler gives the signal mask of before back itself, so that the guard needs no system call
 * where nothing faults. From Python a guarded read costs about twice a plain one.
 *
 * The handler and the variable are one per shared object that this file is linked into. A window
 * that crosses to another shared object must carry the runner of the one that acquired.
 *
 * Not handled: a handler installed by somebody else after nx_guard_acquire that does not chain;
 * SIGSEGV, which means a wrong address and not a lost device; a machine check without address.
 * The guarded function must own nothing that a jump out of it would leak.
 */
#ifndef NX_GUARD_H
#define NX_GUARD_H

#include "nx_base.h"

typedef void (*nx_guard_body)(void *context);
typedef int (*nx_guard_runner)(nx_guard_body body, void *context, const volatile void *start,
                               uint64_t size);

/* Installs the handler for the first caller and counts the others. NX_OK or NX_ESYS. */
int nx_guard_acquire(void);

/* Gives one nx_guard_acquire back; the last one restores the handler of before, if ours is still
 * the one installed. */
void nx_guard_release(void);

/* Runs body(context). NX_OK, or NX_EFAULT when it was cut off by a SIGBUS at an address in
 * [start, start + size). Needs an nx_guard_acquire that was not given back. Does not nest. */
int nx_guard_run(nx_guard_body body, void *context, const volatile void *start, uint64_t size);

#endif
