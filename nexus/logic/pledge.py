"""Pledge: promises compiled to a system call filter.

What is not promised is refused at the system call, in the way the disposition says: `trap` raises
SIGSYS at the call, which the restart policy sees as any other death; `deny` returns EPERM;
`kill` ends the process at once. The word `error` among the promises stands for `deny`. Promises
only narrow: filters stack, and none can be taken off.

The filter sees numbers and registers. It tests open flags, socket families, memory protection,
clone flags, ioctl and fcntl commands, and nothing behind a pointer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from nexus.errors import PledgeError
from nexus.logic.promises import ABSENT, CALLS, PROMISES, REFUSED_SOFTLY
from nexus.physics.seccomp import Action, ArgumentTest, SeccompFilter, SeccompRule
from nexus.physics.syscalls import Machine

__all__ = [
    "DEFAULT_PROMISES",
    "LOADER_PROMISES",
    "Disposition",
    "compile_pledge",
    "founding_mask",
    "parse_promises",
    "promise_mask",
    "promise_rules",
]

Disposition = Literal["deny", "trap", "kill"]

# Everything an ordinary program does, but the network, other users and the clock.
DEFAULT_PROMISES = frozenset(
    [
        "stdio",
        "rpath",
        "wpath",
        "cpath",
        "dpath",
        "fattr",
        "chown",  # without a capability it gives nothing away
        "flock",
        "tty",
        "proc",
        "exec",
        "prot_exec",
        "unix",
        "getpw",
        "sendfd",
        "recvfd",
        "ps",
        "vminfo",
        "unveil",
    ]
)
# What the dynamic loader does before the program's first instruction.
LOADER_PROMISES = frozenset({"rpath", "prot_exec"})

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
# A value that no program passes as a path; the supervisor replaces it, see docs/spec/bkdl.md.
_GATE = 0x4E58_4755_5445_4741
_AT_EMPTY_PATH = 0x1000

# open(2)
_ACCESS, _WRITE_ONLY = 3, 1
_CREATES = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
_O_TRUNC = 0o1000
_PROT_EXEC = 4
_S_IFMT, _S_IFIFO, _SET_ID_BITS = 0o170000, 0o010000, 0o6000
# clone(2): a thread, and every kind of new namespace.
_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020000 | 0x80
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM, _SOCKET_TYPE = 1, 2, 0xF

_FCNTL_STDIO = (0, 1, 2, 3, 4, 1027, 1030, 1031, 1032, 1033, 1034)
_FCNTL_LOCKS = (5, 6, 7, 36, 37, 38)
_FCNTL_OWNER = (8, 9, 10, 11, 15, 16)
# FIONREAD FIONBIO FIOCLEX FIONCLEX TCGETS TIOCGWINSZ TCGETS2
_IOCTL_STDIO = (0x541B, 0x5421, 0x5451, 0x5450, 0x5401, 0x5413, 0x802C542A)
# The attributes of a terminal, its groups, size, modem lines and packet mode, TIOCNOTTY, TIOCGSID,
# TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER, TCSETS2*. Never TIOCSTI (0x5412) and TIOCLINUX (0x541C), which
# type into someone else's terminal, TIOCCONS and TIOCSETD.
_IOCTL_TTY = (
    *range(0x5401, 0x5412), *range(0x5413, 0x541C), *range(0x5420, 0x5423), 0x5429,
    0x80045430, 0x40045431, 0x5441, 0x402C542B, 0x402C542C, 0x402C542D,
)  # fmt: skip
_IOCTL_FILES = {
    "rpath": (0xC020660B, 0x80086601, 0x801C581F),  # FS_IOC_FIEMAP GETFLAGS FSGETXATTR
    "wpath": (0x40049409, 0x4020940D),  # FICLONE FICLONERANGE
    "fattr": (0x40086602, 0x401C5820),  # FS_IOC_SETFLAGS FSSETXATTR
}
# Of the process itself: death signal, dumpable, name, seccomp, timer slack, what it has lost of
# capabilities and cannot get back, TSC; then subreaper, no_new_privs, huge pages; PR_SET/GET_MDWE,
# PR_GET_AUXV, PR_SET_VMA.
_PRCTL = (
    1, 2, 3, 4, 15, 16, *range(21, 31), *range(36, 43), 65, 66, 0x41555856, 0x53564D41,
)  # fmt: skip


def parse_promises(text: str) -> frozenset[str]:
    """Promises from words between spaces or commas.

    Raises:
        PledgeError: a word that is none.
    """
    words = frozenset(text.replace(",", " ").split())
    for word in sorted(words):
        if word in ABSENT:
            raise PledgeError(f"the promise {word!r} is not offered", hint=ABSENT[word])
        if word not in PROMISES:
            raise PledgeError(f"{word!r} is no promise", hint=f"one of {' '.join(PROMISES)}")
    return words


def promise_mask(promises: Iterable[str]) -> int:
    """The bits of a manifest."""
    return sum(1 << PROMISES.index(word) for word in promises)


def founding_mask(promises: frozenset[str]) -> int:
    """The five names of the founding text, as far as the promises reach."""
    return (
        bool(promises & {"stdio"})
        | bool(promises & {"rpath"}) << 1
        | bool(promises & {"wpath", "cpath"}) << 2
        | bool(promises & {"inet", "dns", "mcast"}) << 3
        | bool(promises & {"exec"}) << 4
    )


def _allow(names: Iterable[str], *tests: ArgumentTest) -> SeccompRule:
    return SeccompRule(tuple(names), Action.ALLOW, tests)


def _equal(argument: int, value: int) -> ArgumentTest:
    return ArgumentTest.equal(argument, value, width=32)


def _without(argument: int, bits: int) -> ArgumentTest:
    return ArgumentTest.masked(argument, bits, 0, width=32)


def _with(argument: int, bits: int) -> ArgumentTest:
    return ArgumentTest.masked(argument, bits, bits, width=32)


def _each(name: str, argument: int, values: Iterable[int]) -> list[SeccompRule]:
    """A rule for each run of values."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return [
        _allow(
            (name,),
            _equal(argument, low)
            if low == high
            else ArgumentTest.between(argument, low, high, width=32),
        )
        for low, high in runs
    ]


def _open_rules(promises: frozenset[str]) -> list[SeccompRule]:
    """Reading takes rpath, writing and cutting off wpath, making a file cpath besides."""
    mask, value = (0 if "cpath" in promises else _CREATES), 0
    if not promises & {"rpath", "wpath"}:
        return []
    if "wpath" not in promises:
        mask |= _ACCESS | _O_TRUNC
    elif "rpath" not in promises:
        mask, value = mask | _ACCESS, _WRITE_ONLY
    rules = [
        _allow((name,), ArgumentTest.masked(flags, mask, value, width=32))
        for name, flags in (("open", 1), ("openat", 2))
    ]
    if {"cpath", "wpath"} <= promises:
        rules.append(_allow(("creat",)))
    return rules


def _memory_rules(promises: frozenset[str]) -> list[SeccompRule]:
    names = ("mmap", "mprotect", "pkey_mprotect")
    if "prot_exec" in promises:
        return [_allow(names)]
    return [_allow(names, _without(2, _PROT_EXEC))]


def _process_rules(promises: frozenset[str]) -> list[SeccompRule]:
    # The flags are the first argument on all three machines.
    rules = [
        _allow(("personality",), _equal(0, 0xFFFFFFFF)),
        # A further filter on all threads, as nexus.logic.narrow installs it.
        _allow(("seccomp",), _equal(0, 1), _equal(1, 1)),
    ]
    if "proc" in promises:
        rules.append(_allow(("clone",), _without(0, _CLONE_NEW)))
        rules.append(_allow(("prlimit64",)))
    else:
        rules.append(_allow(("clone",), _with(0, _CLONE_THREAD), _without(0, _CLONE_NEW)))
        rules.append(_allow(("prlimit64",), ArgumentTest.equal(2, 0, width=64)))
    return rules + _each("prctl", 0, _PRCTL)


def _file_rules(promises: frozenset[str]) -> list[SeccompRule]:
    # What is asked of a descriptor comes as an empty path.
    rules = [
        _allow(("newfstatat",), _with(3, _AT_EMPTY_PATH)),
        _allow(("statx",), _with(2, _AT_EMPTY_PATH)),
    ]
    controls: list[int] = [*_IOCTL_STDIO]
    for word, values in (*_IOCTL_FILES.items(), ("tty", _IOCTL_TTY)):
        controls += values if word in promises else ()
    commands: list[int] = [*_FCNTL_STDIO]
    for word, values in (("flock", _FCNTL_LOCKS), ("proc", _FCNTL_OWNER)):
        commands += values if word in promises else ()
    rules += _each("ioctl", 1, controls) + _each("fcntl", 1, commands)
    for word, kind in (("audio", 0x4100), ("video", 0x5600)):
        if word in promises:
            rules.append(_allow(("ioctl",), ArgumentTest.masked(1, 0xFF00, kind, width=32)))
    if "fattr" in promises:
        rules.append(_allow(("chmod", "fchmod"), _without(1, _SET_ID_BITS)))
        rules.append(_allow(("fchmodat", "fchmodat2"), _without(2, _SET_ID_BITS)))
    if "dpath" in promises:
        for name, mode in (("mknod", 1), ("mknodat", 2)):
            test = ArgumentTest.masked(mode, _S_IFMT, _S_IFIFO, width=32)
            rules.append(_allow((name,), test))
    return rules


def _socket_rules(promises: frozenset[str]) -> list[SeccompRule]:
    rules = [
        _allow(("socketpair",), _equal(0, _AF_UNIX)),
        _allow(("sendto",), ArgumentTest.equal(4, 0, width=64)),
    ]
    if promises & {"unix", "getpw"}:
        rules.append(_allow(("socket",), _equal(0, _AF_UNIX)))
    if promises & {"inet", "dns", "mcast"}:
        rules += [
            _allow(
                ("socket",),
                _equal(0, family),
                ArgumentTest.masked(1, _SOCKET_TYPE, kind, width=32),
            )
            for family in (_AF_INET, _AF_INET6)
            for kind in (_STREAM, _DATAGRAM)
        ]
    if promises & {"route", "inet", "dns"}:
        # getaddrinfo asks the kernel for the addresses of this host (NETLINK_ROUTE is 0).
        rules.append(_allow(("socket",), _equal(0, _AF_NETLINK), _equal(2, 0)))
        rules.append(_allow(("bind",)))
    # Libraries try families to see what there is; they get what a kernel without them says.
    rules.append(SeccompRule(("socket",), Action.errno(_EAFNOSUPPORT)))
    return rules


def promise_rules(promises: frozenset[str]) -> list[SeccompRule]:
    """The rules of promises: the first that holds decides, and what none decides is refused."""
    plain = sorted({name for word in promises for name in CALLS.get(word, "").split()})
    rules = [SeccompRule(REFUSED_SOFTLY, Action.errno(_ENOSYS))]
    if "exec" not in promises:
        gate = ArgumentTest.equal(1, _GATE, width=64)
        rules.append(_allow(("execveat",), gate))
    if "stdio" in promises:
        rules += _memory_rules(promises) + _process_rules(promises) + _file_rules(promises)
        rules += _socket_rules(promises)
    else:
        rules.append(_allow(("exit", "exit_group", "rt_sigreturn")))
    rules += _open_rules(promises)
    rules.append(_allow(plain))
    return rules


def compile_pledge(
    promises: frozenset[str], disposition: Disposition, machine: str
) -> tuple[bytes, int]:
    """The filter of promises, and where its exec gate is.

    Args:
        promises: as `parse_promises` gives them.
        disposition: what a refused call gets.
        machine: x86_64, aarch64 or riscv64.

    Returns:
        Instructions, and the index of the gate's first comparison, or 2^32 - 1 where the fiber may
        execute anyway.
    """
    if "error" in promises:
        disposition = "deny"
    refused = {
        "deny": Action.errno(_EPERM),
        "trap": Action.trap(),
        "kill": Action.KILL_PROCESS,
    }[disposition]
    compiled = SeccompFilter.compile(
        promise_rules(promises),
        default=refused,
        machine=_machine(machine),
        skip_absent=True,
    )
    return bytes(compiled), _gate_index(compiled)


def _machine(name: str) -> Machine:
    if name not in ("x86_64", "aarch64", "riscv64"):
        raise PledgeError(f"there is no system call table of {name}")
    return name  # type: ignore[return-value]


def _gate_index(compiled: SeccompFilter) -> int:
    high, low = _GATE >> 32, _GATE & 0xFFFFFFFF
    constants = [k for _, _, _, k in compiled.instructions]
    if high not in constants:
        return 0xFFFFFFFF
    index = constants.index(high)
    if constants.count(high) != 1 or constants[index + 2] != low:
        raise AssertionError("the exec gate is not where it is expected")
    return index
