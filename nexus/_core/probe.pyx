"""What the kernel grants this process, asked by trying; see include/nx_probe.h.

Every function returns a value of at least 0, or the negative errno of the refused call.
"""

from nexus._core._args cimport as_bounded

cdef extern from "nx_probe.h":
    int nx_probe_landlock()
    int nx_probe_seccomp()
    int nx_probe_user_namespace()
    int nx_probe_perf_clock(int kernel)
    int nx_probe_perf_hardware()
    int nx_probe_xdp()
    int nx_probe_af_packet()
    int nx_probe_scheduler(int policy)
    int nx_probe_membarrier()
    int nx_probe_memfd_seals()
    int nx_probe_pidfd()
    int nx_probe_huge_page()
    int nx_probe_io_uring()


def landlock() -> int:
    """The Landlock ABI version."""
    return nx_probe_landlock()


def seccomp() -> int:
    """The seccomp actions as bits: kill process, trap, errno, notify, trace, log."""
    return nx_probe_seccomp()


def user_namespace() -> int:
    """0 when a child can enter a user namespace and map its own id."""
    return nx_probe_user_namespace()


def perf_clock(*, bint kernel) -> int:
    """0 when perf counts this process's CPU time, with kernel time if `kernel`."""
    return nx_probe_perf_clock(kernel)


def perf_hardware() -> int:
    """0 when perf counts retired instructions in hardware."""
    return nx_probe_perf_hardware()


def xdp() -> int:
    """0 when the kernel loads an XDP program."""
    return nx_probe_xdp()


def af_packet() -> int:
    """0 when a raw packet socket opens."""
    return nx_probe_af_packet()


def scheduler(policy: object) -> int:
    """0 when a child may run under the scheduling policy of that number."""
    return nx_probe_scheduler(<int>as_bounded(policy, 7))


def membarrier() -> int:
    """The supported membarrier commands as bits."""
    return nx_probe_membarrier()


def memfd_seals() -> int:
    """0 when a memfd takes all seals and holds them."""
    return nx_probe_memfd_seals()


def pidfd() -> int:
    """0 when clone3 hands out a pidfd that waitid accepts."""
    return nx_probe_pidfd()


def huge_page() -> int:
    """0 when a huge page can be mapped and touched."""
    return nx_probe_huge_page()


def io_uring() -> int:
    """0 when io_uring can be set up."""
    return nx_probe_io_uring()
