// SPDX-License-Identifier: Apache-2.0
/*
 * Asking the kernel what it really grants this process, by trying it.
 *
 * A version number promises nothing (features are compiled out, filtered by an outer sandbox or
 * denied by policy), so each probe makes the system call it asks about. Probes that would change
 * the process run in a forked child. A probe returns a value >= 0, or -errno of the call that
 * was refused. Nothing stays open, mapped, loaded or configured afterwards.
 *
 * Must not be called while another thread holds a lock that a child of fork() would need; the
 * children make system calls only, so the Python interpreter's threads are no such case.
 */
#ifndef NX_PROBE_H
#define NX_PROBE_H

/* The Landlock ABI version, see Documentation/userspace-api/landlock.rst. */
int nx_probe_landlock(void);

/* A set of actions as bits: 0 kill process, 1 trap, 2 errno, 3 user notification, 4 trace, 5 log.
 */
int nx_probe_seccomp(void);

/* 0 when a child may enter a new user namespace and map its own id there. */
int nx_probe_user_namespace(void);

/* 0 when perf counts the CPU time of this process; kernel time too if `kernel` is set. */
int nx_probe_perf_clock(int kernel);

/* 0 when perf counts retired instructions in hardware. */
int nx_probe_perf_hardware(void);

/* 0 when the kernel verifies and loads an XDP program of two instructions. */
int nx_probe_xdp(void);

/* 0 when a raw AF_PACKET socket opens. */
int nx_probe_af_packet(void);

/* 0 when a child may run under the policy (SCHED_FIFO, SCHED_DEADLINE, ... of linux/sched.h). */
int nx_probe_scheduler(int policy);

/* The bit mask of supported membarrier commands. */
int nx_probe_membarrier(void);

/* 0 when a memfd takes all four seals and refuses the write they forbid. */
int nx_probe_memfd_seals(void);

/* 0 when clone3 gives a pidfd and waitid accepts it. */
int nx_probe_pidfd(void);

/* 0 when one huge page of the default size can be mapped and touched. */
int nx_probe_huge_page(void);

/* 0 when io_uring sets up a ring of one entry. */
int nx_probe_io_uring(void);

#endif
