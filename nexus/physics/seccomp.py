"""Seccomp filters: which system calls a process may make, decided by the kernel.

A filter is compiled from rules or from a mask of numbers, can be simulated, and is installed on
the calling thread for good: filters are inherited, stack, and cannot be removed. Every filter
checks the architecture first; the 32-bit entry and x32 get the `foreign` action.

Not handled: what pointers lead to (paths, structures), `SECCOMP_RET_TRACE`, and answering a
listener's notifications.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from nexus._core import seccomp as _core
from nexus.errors import AbsentError
from nexus.physics._integers import as_integer
from nexus.physics.syscalls import Machine, native_machine, syscall_numbers, syscalls

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "Action",
    "ArgumentTest",
    "SeccompCapabilities",
    "SeccompFilter",
    "SeccompRule",
    "audit_arch",
    "seccomp_capabilities",
]

_CODES = {
    "kill_process": 0x80000000,
    "kill_thread": 0x00000000,
    "trap": 0x00030000,
    "errno": 0x00050000,
    "notify": 0x7FC00000,
    "trace": 0x7FF00000,
    "log": 0x7FFC0000,
    "allow": 0x7FFF0000,
}
_NAMES = {code: name for name, code in _CODES.items()}
_FLAGS = {
    "thread_sync": 1,
    "log": 2,
    "spec_allow": 4,
    "listener": 8,
    "thread_sync_esrch": 16,
    "wait_killable": 32,
}
_ARCHS: dict[str, int] = {
    "x86_64": 0xC000003E,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
}


@dataclass(frozen=True, slots=True)
class Action:
    """What the kernel does with a call.

    Attributes:
        name: allow, log, notify, errno, trap, kill_process, kill_thread or trace.
        data: the error number of `errno`, or what `trap` hands to the SIGSYS handler.
    """

    name: str
    data: int = 0

    ALLOW: ClassVar[Action]
    LOG: ClassVar[Action]
    NOTIFY: ClassVar[Action]
    KILL_PROCESS: ClassVar[Action]

    def __post_init__(self) -> None:
        if self.name not in _CODES:
            raise ValueError(f"{self.name!r} is no action: {', '.join(_CODES)}")
        object.__setattr__(self, "data", as_integer(self.data, 0xFFFF))

    @classmethod
    def errno(cls, number: int) -> Action:
        """Refuse the call with an error number of 0 to 4095."""
        return cls("errno", number)

    @classmethod
    def trap(cls, data: int = 0) -> Action:
        """Refuse the call with a SIGSYS whose si_errno is `data`."""
        return cls("trap", data)

    @classmethod
    def from_value(cls, value: int) -> Action:
        """The action that a filter's return value stands for."""
        number = as_integer(value, 0xFFFFFFFF)
        name = _NAMES.get(number & 0xFFFF0000)
        if name is None:
            raise ValueError(f"{number:#x} is the value of no action")
        return cls(name, number & 0xFFFF)

    @property
    def value(self) -> int:
        """The kernel's number for it."""
        return _CODES[self.name] | self.data


Action.ALLOW = Action("allow")
Action.LOG = Action("log")
Action.NOTIFY = Action("notify")
Action.KILL_PROCESS = Action("kill_process")


@dataclass(frozen=True, slots=True)
class ArgumentTest:
    """A test of one argument; made by `equal`, `masked` and `between`, and inverted by `~`.

    The width matters for safety. Where the kernel takes an int, it ignores the upper half: such an
    argument must be tested with width 32, or a caller passes the test by setting a high bit.
    """

    argument: int
    op: Literal["masked", "range"]
    a: int
    b: int
    width: Literal[32, 64]
    negate: bool = False

    @classmethod
    def equal(cls, argument: int, value: int, *, width: Literal[32, 64]) -> ArgumentTest:
        """Whether argument == value."""
        return cls(argument, "masked", (1 << width) - 1, value, width)

    @classmethod
    def masked(
        cls, argument: int, mask: int, value: int, *, width: Literal[32, 64]
    ) -> ArgumentTest:
        """Whether (argument & mask) == value."""
        return cls(argument, "masked", mask, value, width)

    @classmethod
    def between(cls, argument: int, low: int, high: int, *, width: Literal[32, 64]) -> ArgumentTest:
        """Whether low <= argument <= high, unsigned."""
        return cls(argument, "range", low, high, width)

    def __invert__(self) -> ArgumentTest:
        return replace(self, negate=not self.negate)


@dataclass(frozen=True, slots=True)
class SeccompRule:
    """What some calls get when all tests hold; without tests, always.

    Attributes:
        syscalls: names or numbers.
        action: what they get.
        tests: all must hold.
    """

    syscalls: tuple[str | int, ...]
    action: Action
    tests: tuple[ArgumentTest, ...] = ()


class SeccompFilter:
    """A compiled filter; see `compile` and `from_mask`."""

    def __init__(self, program: _core.Program, machine: Machine) -> None:
        self._program = program
        self.machine: Machine = machine

    @classmethod
    def compile(
        cls,
        rules: Iterable[SeccompRule],
        *,
        default: Action,
        foreign: Action = Action.KILL_PROCESS,
        machine: Machine | None = None,
        clone3_refused: bool = True,
        skip_absent: bool = False,
    ) -> SeccompFilter:
        """The filter of rules: the first rule that holds decides, else the default.

        Args:
            rules: in order of priority.
            default: for calls that no rule decides.
            foreign: for other architectures, the 32-bit entry and x32.
            machine: None is that of this process.
            clone3_refused: clone3 always gets ENOSYS, as its flags are in memory where no filter
                looks; libraries then call clone.
            skip_absent: leave out names that another machine has and this one has not.

        Raises:
            ValueError: an unknown name, or a test or action that cannot be.
            TooLargeError: more than 1024 rules of one range each, or 4096 instructions.
        """
        chosen = native_machine() if machine is None else machine
        plain = []
        for rule in rules:
            tests = [(t.argument, t.op, t.a, t.b, t.width, t.negate) for t in rule.tests]
            numbers = syscall_numbers(rule.syscalls, chosen, skip_absent=skip_absent)
            for first, last in _ranges(numbers):
                plain.append((first, last, rule.action.value, tests))
        program = _core.compile_rules(
            plain,
            default=default.value,
            foreign=foreign.value,
            arch=audit_arch(chosen),
            clone3=syscalls(chosen)["clone3"] if clone3_refused else None,
        )
        return cls(program, chosen)

    @classmethod
    def from_mask(
        cls,
        mask: Buffer,
        *,
        default: Action,
        allow: Action = Action.ALLOW,
        foreign: Action = Action.KILL_PROCESS,
        machine: Machine | None = None,
        clone3_refused: bool = True,
        shape: Literal["auto", "tree", "words"] = "auto",
    ) -> SeccompFilter:
        """The filter of a mask of 64 bytes: bit n % 8 of byte n // 8 allows number n.

        It has at most 160 instructions. The shape `tree` compares ranges, which the kernel can
        evaluate once and cache; `words` tests bits and is never longer than 63, but runs at every
        call. `auto` is the tree where it fits 160.
        """
        chosen = native_machine() if machine is None else machine
        program = _core.compile_mask(
            mask,
            allow=allow.value,
            default=default.value,
            foreign=foreign.value,
            arch=audit_arch(chosen),
            clone3=syscalls(chosen)["clone3"] if clone3_refused else None,
            shape=shape,
        )
        return cls(program, chosen)

    @classmethod
    def from_bytes(cls, code: Buffer, *, machine: Machine | None = None) -> SeccompFilter:
        """A filter from its bytecode (struct sock_filter), as `bytes(filter)` gives it.

        Raises:
            ValueError: the kernel would refuse the program.
        """
        chosen = native_machine() if machine is None else machine
        audit_arch(chosen)
        return cls(_core.Program(code), chosen)

    @property
    def instructions(self) -> list[tuple[int, int, int, int]]:
        """The program as (code, jt, jf, k)."""
        return self._program.instructions

    def __len__(self) -> int:
        return len(self._program)

    def __bytes__(self) -> bytes:
        return bytes(self._program)

    def simulate(
        self,
        syscall: str | int,
        arguments: Iterable[int] = (),
        *,
        arch: int | None = None,
    ) -> Action:
        """What the filter decides for a call, by running its program.

        Args:
            syscall: name or number.
            arguments: up to six unsigned 64-bit values; the rest are 0.
            arch: AUDIT_ARCH value of the call; None is the filter's own.
        """
        (number,) = syscall_numbers([syscall], self.machine)
        entry = audit_arch(self.machine) if arch is None else arch
        value = self._program.run(number, arguments, entry)
        return Action.from_value(value)

    def install(
        self,
        *,
        no_new_privs: bool,
        thread_sync: bool = False,
        log: bool = False,
        spec_allow: bool = False,
        listener: bool = False,
        wait_killable: bool = False,
    ) -> int | None:
        """Put the filter on the calling thread. This cannot be undone.

        Args:
            no_new_privs: set PR_SET_NO_NEW_PRIVS first, for good. False needs CAP_SYS_ADMIN or
                that it is set already.
            thread_sync: on all threads of the process, or on none.
            log: the kernel logs every action but allow.
            spec_allow: do not switch speculation mitigations on.
            listener: return a descriptor that receives what gets the action `notify`.
            wait_killable: with a listener, only fatal signals interrupt a waiting call.

        Returns:
            The listener's descriptor, which the caller closes, or None.

        Raises:
            OSError: the kernel refuses: EACCES without the right, EINVAL for an unknown flag,
                ESRCH when a thread has another filter, EBUSY when there is a listener already.
        """
        chosen = {
            "thread_sync": thread_sync,
            "log": log,
            "spec_allow": spec_allow,
            "listener": listener,
            # With both, the result could be a descriptor or a thread: this makes it an error.
            "thread_sync_esrch": thread_sync and listener,
            "wait_killable": wait_killable,
        }
        flags = sum(_FLAGS[name] for name, wanted in chosen.items() if wanted)
        return self._program.install(flags, no_new_privs)

    def __repr__(self) -> str:
        return f"<SeccompFilter for {self.machine}, {len(self)} instructions>"


@dataclass(frozen=True, slots=True)
class SeccompCapabilities:
    """What the running kernel offers, as it says itself.

    Attributes:
        available: whether there are filters at all.
        actions: by name.
        flags: of `SeccompFilter.install`, by name.
        notify_sizes: bytes of (seccomp_notif, seccomp_notif_resp, seccomp_data), or None.
    """

    available: bool
    actions: Mapping[str, bool]
    flags: Mapping[str, bool]
    notify_sizes: tuple[int, int, int] | None


def seccomp_capabilities() -> SeccompCapabilities:
    """Ask the kernel; nothing is installed."""
    try:
        actions = {name: _core.action_available(code) for name, code in _CODES.items()}
    except AbsentError:
        nothing = dict.fromkeys(_CODES, False)
        return SeccompCapabilities(False, nothing, dict.fromkeys(_FLAGS, False), None)
    # wait_killable means something only with a listener, and is an error without.
    with_it = {"wait_killable": _FLAGS["listener"]}
    flags = {name: _core.flag_available(bit | with_it.get(name, 0)) for name, bit in _FLAGS.items()}
    return SeccompCapabilities(True, actions, flags, _core.notify_sizes())


def audit_arch(machine: str) -> int:
    """The AUDIT_ARCH value of a machine, by which filters and notices name an entry."""
    if machine not in _ARCHS:
        raise ValueError(f"{machine!r} is no known machine: {', '.join(_ARCHS)}")
    return _ARCHS[machine]


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of consecutive numbers, ascending."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number <= runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
