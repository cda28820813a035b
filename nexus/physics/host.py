"""What this host offers: each facility probed by use, what its absence costs, how to get it.

A finding is `ok` (all that Nexus can use), `limited` (a part of it, or only a weaker form) or
`absent`. Nothing is inferred from a kernel version: see nx_probe.h for how each is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nexus._core import probe
from nexus.physics.cgroups import CONTROLLERS, REMEDY, find_cgroup, obstacle

State = Literal["ok", "limited", "absent"]

SCHED_FIFO, SCHED_BATCH, SCHED_IDLE, SCHED_DEADLINE = 1, 3, 5, 6
LANDLOCK_ABI_WANTED = 6
SECCOMP_ACTIONS = ("kill", "trap", "errno", "notify", "trace", "log")
MEMBARRIER_GLOBAL_EXPEDITED = 1 << 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One facility of the host.

    Attributes:
        name: the facility, a stable word for programs.
        state: `ok`, `limited` or `absent`.
        detail: what was seen.
        cost: what Nexus cannot do without it; empty when ok.
        remedy: how to get it; empty when ok.
    """

    name: str
    state: State
    detail: str
    cost: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Facility:
    name: str
    cost: str
    remedy: str
    look: Callable[[], tuple[State, str]]


def _refused(code: int) -> str:
    name = errno.errorcode.get(-code, str(-code))
    return f"refused: {name}, {os.strerror(-code)}"


def _call(function: Callable[[], int], granted: str) -> Callable[[], tuple[State, str]]:
    """A facility that one probe decides."""

    def look() -> tuple[State, str]:
        code = function()
        return ("ok", granted) if code >= 0 else ("absent", _refused(code))

    return look


def _landlock() -> tuple[State, str]:
    abi = probe.landlock()
    if abi < 0:
        return "absent", _refused(abi)
    state: State = "ok" if abi >= LANDLOCK_ABI_WANTED else "limited"
    return state, f"ABI {abi}" + ("" if state == "ok" else f", {LANDLOCK_ABI_WANTED} is wanted")


def _seccomp() -> tuple[State, str]:
    bits = probe.seccomp()
    if bits < 0:
        return "absent", _refused(bits)
    names = [name for i, name in enumerate(SECCOMP_ACTIONS) if bits >> i & 1]
    return ("ok" if len(names) == len(SECCOMP_ACTIONS) else "limited"), " ".join(names)


def _cgroup() -> tuple[State, str]:
    group = find_cgroup()
    gap = obstacle(group, os.getpid())
    if gap:
        return ("absent" if group is None else "limited"), gap
    return "ok", f"{group} can hand on {' and '.join(sorted(CONTROLLERS.values()))}"


def _perf() -> tuple[State, str]:
    whole = probe.perf_clock(kernel=True)
    user = probe.perf_clock(kernel=False)
    hardware = "with" if probe.perf_hardware() >= 0 else "without"
    if whole >= 0:
        return "ok", f"task clock with kernel time, {hardware} hardware counters"
    if user >= 0:
        return "limited", f"task clock of user time only, {hardware} hardware counters"
    return "absent", _refused(user)


def _schedulers() -> tuple[State, str]:
    wanted = {
        "FIFO": SCHED_FIFO,
        "DEADLINE": SCHED_DEADLINE,
        "BATCH": SCHED_BATCH,
        "IDLE": SCHED_IDLE,
    }
    granted = [name for name, policy in wanted.items() if probe.scheduler(policy) >= 0]
    state: State = "ok" if len(granted) == len(wanted) else "limited" if granted else "absent"
    denied = [name for name in wanted if name not in granted]
    return state, " ".join(granted) + (f"; denied: {' '.join(denied)}" if denied else "")


def _huge_pages() -> tuple[State, str]:
    if probe.huge_page() >= 0:
        return "ok", "a huge page was mapped and touched"
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if setting.exists() and "[never]" not in setting.read_text():
        return "limited", f"none reserved; transparent: {setting.read_text().strip()}"
    return "absent", "none reserved, transparent huge pages off"


def _membarrier() -> tuple[State, str]:
    mask = probe.membarrier()
    if mask < 0:
        return "absent", _refused(mask)
    state: State = "ok" if mask & MEMBARRIER_GLOBAL_EXPEDITED else "limited"
    return state, f"commands {mask:#x}"


def _device(path: str) -> Callable[[], tuple[State, str]]:
    """A device node: there and open to us, there but closed, or not there."""

    def look() -> tuple[State, str]:
        if not Path(path).exists():
            return "absent", f"{path} does not exist"
        # Asking for access leaves the device alone: opening a watchdog would start it.
        if os.access(path, os.R_OK | os.W_OK):
            return "ok", f"{path} is ours to open"
        return "limited", f"{path} exists, but not for this user"

    return look


def _numbered(folder: str, prefix: str, device: str | None) -> Callable[[], tuple[State, str]]:
    """Devices listed in sysfs, with their nodes in /dev where there are such."""

    def look() -> tuple[State, str]:
        place = Path(folder)
        names = sorted(p.name for p in place.glob(f"{prefix}[0-9]*")) if place.is_dir() else []
        if not names:
            return "absent", f"{folder} lists none"
        if device is not None:
            closed = [n for n in names if not os.access(f"{device}{n}", os.R_OK | os.W_OK)]
            if closed:
                return "limited", f"{' '.join(names)}; closed to this user: {' '.join(closed)}"
        return "ok", " ".join(names)

    return look


def _clock() -> tuple[State, str]:
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    name = source.read_text().strip() if source.exists() else "unknown"
    fast = name in ("tsc", "arch_sys_counter", "riscv_clocksource", "kvm-clock")
    return ("ok" if fast else "limited"), name


def _io_accounting() -> tuple[State, str]:
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError as error:
        return "absent", _refused(-(error.errno or 0))
    counted = {"syscr", "syscw"} <= {line.partition(":")[0] for line in lines}
    return ("ok", "reads and writes are counted") if counted else ("absent", "no such counts")


_ROOT = "run as root, or grant the capability"
_FACILITIES = [
    _Facility("landlock", "no file rules without root", "Linux 6.12 with CONFIG_SECURITY_LANDLOCK "
              "and `landlock` in the lsm= list", _landlock),
    _Facility("seccomp", "no pledge: forbidden calls cannot be refused",
              "a kernel with CONFIG_SECCOMP_FILTER", _seccomp),
    _Facility("user-namespaces", "unveil cannot hide paths from ordinary users' fibers",
              "sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces>0, "
              "or an AppArmor profile that allows userns", _call(probe.user_namespace, "granted")),
    _Facility("cgroups", "no memory and process limits on whole fibers, only per process",
              f"mount cgroup2 with memory and pids; {REMEDY}", _cgroup),
    _Facility("perf", "time budgets fall back to tick-bound CPU timers",
              "sysctl kernel.perf_event_paranoid=1 or CAP_PERFMON", _perf),
    _Facility("io-accounting", "L1 learns nothing of a fiber's reads and writes",
              "a kernel with CONFIG_TASK_IO_ACCOUNTING", _io_accounting),
    _Facility("schedulers", "Photon fibers run without real-time priority",
              f"{_ROOT} CAP_SYS_NICE; or set RLIMIT_RTPRIO", _schedulers),
    _Facility("pidfd", "children are watched by number, which can be reused", "Linux 5.4",
              _call(probe.pidfd, "clone3 and waitid agree")),
    _Facility("memfd-seals", "images and rings cannot be made immutable", "Linux 5.1",
              _call(probe.memfd_seals, "all four seals hold")),
    _Facility("membarrier", "ring producers pay a full fence per message",
              "a kernel with CONFIG_MEMBARRIER", _membarrier),
    _Facility("huge-pages", "large tables miss the TLB more often",
              "sysctl vm.nr_hugepages=64", _huge_pages),
    _Facility("io-uring", "file and FUSE batches use ordinary calls",
              "sysctl kernel.io_uring_disabled=0", _call(probe.io_uring, "granted")),
    _Facility("af-packet", "no frames on plain Ethernet, only inside UDP",
              f"{_ROOT} CAP_NET_RAW", _call(probe.af_packet, "a raw socket opened")),
    _Facility("xdp", "strangers' frames are dropped after the kernel allocated for them",
              f"{_ROOT} CAP_BPF and CAP_NET_ADMIN, kernel with CONFIG_BPF_SYSCALL",
              _call(probe.xdp, "a program was verified and loaded")),
    _Facility("fuse", "NexFS volumes cannot be mounted", "a kernel with CONFIG_FUSE_FS",
              _device("/dev/fuse")),
    _Facility("kvm", "guest tests run emulated, which is much slower",
              "a kernel with CONFIG_KVM, and membership of the kvm group", _device("/dev/kvm")),
    _Facility("dev-mem", "physical registers are out of reach except through UIO or PCI",
              "a kernel with CONFIG_DEVMEM, and root", _device("/dev/mem")),
    _Facility("uio", "no user-space drivers with interrupts",
              "a kernel with CONFIG_UIO and a UIO driver bound to the device",
              _numbered("/sys/class/uio", "uio", "/dev/")),
    _Facility("mtd", "no raw flash; volumes live in files or block devices",
              "a kernel with CONFIG_MTD", _numbered("/sys/class/mtd", "mtd", None)),
    _Facility("watchdog", "a hang of the whole host is not recovered",
              "a watchdog driver, or softdog", _device("/dev/watchdog")),
    _Facility("edac", "memory errors are not seen, so they cannot be correlated",
              "ECC memory and its CONFIG_EDAC driver",
              _numbered("/sys/devices/system/edac/mc", "mc", None)),
    _Facility("clocksource", "reading the time enters the kernel",
              "boot with clocksource=tsc where the CPU has an invariant one", _clock),
]  # fmt: skip


def findings() -> Iterator[Finding]:
    """Probe the host, one facility at a time; takes a few milliseconds in all."""
    for facility in _FACILITIES:
        state, detail = facility.look()
        if state == "ok":
            yield Finding(facility.name, state, detail)
        else:
            yield Finding(facility.name, state, detail, facility.cost, facility.remedy)
