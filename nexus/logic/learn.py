"""Learning: the smallest manifest under which a program passes, from what it was seen to do.

`Lesson.observe` takes one system call before it happens. Which promises open it is asked of the
filters that `nexus.logic.pledge` compiles, not of a second list: a call that `stdio` opens is never
seen here, and for another the smallest sets of promises whose filter lets it pass are found by
simulation. `Lesson.promises` is the smallest set that has one of them for every call. Paths become
the rules of unveil by `nexus.logic.shown`.

Not handled: what the program would do on another day; calls that no promise opens, which become
problems and are named with the manifest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from itertools import combinations

from nexus.logic.observe import Caller, Touch, touches
from nexus.logic.pledge import LOADER_PROMISES, compile_pledge, promise_rules
from nexus.logic.promises import PROMISES, REFUSED_SOFTLY
from nexus.physics.seccomp import Action, SeccompFilter, SeccompRule
from nexus.physics.syscalls import Machine, syscall_name, syscalls
from nexus.seams.files import FileTree

__all__ = ["Lesson", "learning_filter", "needs"]

_ENOSYS = 38
# Of two promises that serve alike, the earlier: the last three cannot be held to what they mean.
_RANK = ("sendfd", "recvfd", "route", "unix", "inet", "getpw", "dns", "mcast")
_FREE = frozenset(PROMISES) - {"error"}
_SOFT = tuple(name for name in REFUSED_SOFTLY if not name.startswith("io_uring"))
_RING = tuple(name for name in REFUSED_SOFTLY if name.startswith("io_uring"))
_UNIX_WORDS = frozenset({frozenset({"unix"}), frozenset({"getpw"})})
# Every lookup of a user asks here first, and does without where nothing is.
_NAME_CACHE = ("/run/nscd/socket", "/var/run/nscd/socket")
_SOCKETS = ("socket", "connect")


def learning_filter(machine: Machine) -> bytes:
    """A filter that tells of everything but what `stdio` opens anyway.

    What softly refused calls get is what they get under a pledge, so that the program takes the
    same turns. The end of a process is told, to see what it has used by then.
    """
    rules = [
        SeccompRule(("exit_group",), Action.NOTIFY),
        SeccompRule(_SOFT, Action.errno(_ENOSYS)),
        *(
            rule
            for rule in promise_rules(frozenset({"stdio"}))
            if rule.action == Action.ALLOW and rule.syscalls != ("execveat",)
        ),
    ]
    return bytes(
        SeccompFilter.compile(
            rules, default=Action.NOTIFY, foreign=Action.NOTIFY, machine=machine, skip_absent=True
        )
    )


@functools.cache
def _pledged(promises: frozenset[str], machine: Machine) -> SeccompFilter:
    code, _ = compile_pledge(promises, "trap", machine)
    return SeccompFilter.from_bytes(code, machine=machine)


def _opens(words: frozenset[str], number: int, arguments: tuple[int, ...], on: Machine) -> bool:
    return _pledged(words | {"stdio"}, on).simulate(number, arguments) == Action.ALLOW


@functools.cache
def _tested(machine: Machine) -> dict[int, frozenset[int]]:
    """Which arguments the rules of any promise look at, by number of the call."""
    found: dict[int, frozenset[int]] = {}
    numbers = syscalls(machine)
    for word in PROMISES:
        for rule in (*promise_rules(frozenset({"stdio", word})), *promise_rules(_FREE - {word})):
            looked = frozenset(test.argument for test in rule.tests)
            for name in rule.syscalls:
                if looked and name in numbers:
                    number = numbers[str(name)]
                    found[number] = found.get(number, frozenset()) | looked
    return found


def needs(
    number: int, arguments: tuple[int, ...], machine: Machine
) -> frozenset[frozenset[str]]:  # fmt: skip
    """The smallest sets of promises besides stdio that open a call; none where nothing does."""
    looked = _tested(machine).get(number, frozenset())
    plain = tuple(value if i in looked else 0 for i, value in enumerate(arguments))
    return _needs(number, plain, machine)


@functools.lru_cache(maxsize=4096)
def _needs(
    number: int, arguments: tuple[int, ...], machine: Machine
) -> frozenset[frozenset[str]]:  # fmt: skip
    """The same for arguments that are 0 where no rule looks.

    Promises close nothing, so the words without which all others fail are in every set; what is
    missing besides them is looked for among single words.
    """
    if not _opens(_FREE, number, arguments, machine):
        return frozenset()
    core = frozenset(w for w in _FREE if not _opens(_FREE - {w}, number, arguments, machine))
    if _opens(core, number, arguments, machine):
        return frozenset({core})
    return frozenset(
        core | {word} for word in _FREE if _opens(core | {word}, number, arguments, machine)
    )


@dataclass(slots=True)
class Lesson:
    """What was seen of one program.

    Attributes:
        machine: whose numbers the calls have.
        calls: the sets of `needs`, each with the name of one call that takes it.
        touched: rights by path; none for a path that was only asked about.
        directories: which of them are directories.
        moved: paths whose entry was made, removed or renamed.
        used: paths as they were named, where links led on, to where they led.
        executed: the programs that were started, in their order.
        problems: what no manifest can give, each once.
    """

    machine: Machine
    calls: dict[frozenset[frozenset[str]], str] = field(default_factory=dict)
    touched: dict[str, set[str]] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    used: dict[str, str] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _name_cache: bool = False

    def observe(
        self,
        number: int,
        arguments: tuple[int, ...],
        *,
        caller: Caller,
        files: FileTree,
        start: bool = False,
    ) -> int:
        """Learn from a call before it happens; returns the error that it shall get, or 0.

        Args:
            number: of the call.
            arguments: six.
            caller: reads what they point to.
            files: the tree that the caller sees.
            start: it is the start of the program itself, which takes no promise.
        """
        name = syscall_name(number, self.machine) or f"call {number}"
        if name in _RING:
            self.problem("io_uring is not learnable: it bypasses filters, and gets ENOSYS")
            return _ENOSYS
        found = touches(name, arguments, caller, files)
        if found is None:
            self.problem(f"{name}: the memory of a process cannot be read, its paths are missing")
        for touch in found or ():
            self._touch(touch, name)
        if start:
            return 0
        sets = needs(number, arguments, self.machine)
        if name in _SOCKETS and self._is_name_cache(name, arguments, sets, caller, files):
            return 0
        if sets:
            self.calls.setdefault(sets, name)
        elif name != "socket":  # a family that is not promised is as one that is not there
            self.problem(f"{name} is refused whatever is promised")
        return 0

    def problem(self, text: str) -> None:
        """Note what no manifest can give."""
        if text not in self.problems:
            self.problems.append(text)

    def _is_name_cache(
        self,
        name: str,
        arguments: tuple[int, ...],
        sets: frozenset[frozenset[str]],
        caller: Caller,
        files: FileTree,
    ) -> bool:
        """Whether a call does nothing but ask whether the cache of names is there; it is not."""
        if name == "socket":
            if sets == _UNIX_WORDS:
                self._name_cache = True
            return sets == _UNIX_WORDS
        address = caller.memory(arguments[1], min(arguments[2] & 0xFFFFFFFF, 110)) or b""
        path = address[2:].split(b"\0", 1)[0].decode("utf-8", "replace")
        return path in _NAME_CACHE and files.kind(path) is None

    def _touch(self, touch: Touch, name: str) -> None:
        self.touched.setdefault(touch.path, set()).update(touch.rights)
        if touch.directory:
            self.directories.add(touch.path)
        if touch.moves:
            self.moved.add(touch.path)
        if touch.used != touch.path:
            self.used[touch.used] = touch.path
        if name in ("execve", "execveat") and touch.path not in self.executed:
            self.executed.append(touch.path)

    def promises(self, *, dynamic: bool) -> frozenset[str]:
        """The smallest set that opens every call.

        Args:
            dynamic: the program has a loader, whose promises it gets anyway.
        """
        clauses = set(self.calls)
        hard = frozenset({"stdio"}) | (LOADER_PROMISES if dynamic else frozenset())
        for clause in clauses:
            if len(clause) == 1:
                hard |= next(iter(clause))
        if self._name_cache and any(_UNIX_WORDS & clause for clause in clauses):
            clauses.add(_UNIX_WORDS)  # some socket is used for more than asking
        free = [c for c in clauses if not any(one <= hard for one in c)]
        words = {w for clause in free for one in clause for w in one if w not in hard}
        order = sorted(words, key=lambda w: (w not in _RANK, _RANK.index(w) if w in _RANK else w))
        chosen = next(
            hard.union(extra)
            for size in range(len(order) + 1)
            for extra in combinations(order, size)
            if all(any(one <= hard.union(extra) for one in clause) for clause in free)
        )
        return chosen - LOADER_PROMISES if dynamic else chosen
