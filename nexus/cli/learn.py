"""`nexus run --learn`: run a program as it is, and print the least manifest that lets it pass."""

from __future__ import annotations

import json
import os
import posixpath
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nexus.cli.output import SCHEMA, Output
from nexus.errors import FaultError, ManifestError
from nexus.logic.kdl import manifest_text
from nexus.logic.learn import Lesson, learning_filter
from nexus.logic.manifest import Program, parse_manifest
from nexus.logic.shown import Rule, Trace, learn_rules
from nexus.logic.unveil import Unveil
from nexus.physics.files import HostFiles
from nexus.physics.seccomp import audit_arch
from nexus.physics.syscalls import native_machine, syscalls
from nexus.physics.watch import Call, Usage, Watch

__all__ = ["Learnt", "learn", "make_lesson", "observe", "write_lesson"]

_Read = TypeVar("_Read")
_X32 = 0x40000000
_NEAR = 0.8  # of a limit
_LIMITS = (
    ("memory", resource.RLIMIT_AS),
    ("files", resource.RLIMIT_NOFILE),
    ("processes", resource.RLIMIT_NPROC),
    ("cpu", resource.RLIMIT_CPU),
)


class _Gone(Exception):
    """Who called was killed meanwhile: its number may be another process's by now."""


@dataclass(slots=True)
class _Caller:
    """The caller of one watched call, for `nexus.logic.observe`.

    What was read is believed when the call still waits afterwards: only then was it the caller's.
    """

    watch: Watch
    call: Call
    relative: bool = False

    def string(self, address: int) -> str | None:
        return self._believed(self.watch.string(self.call, address))

    def memory(self, address: int, size: int) -> bytes | None:
        return self._believed(self.watch.memory(self.call, address, size))

    def place(self, descriptor: int) -> str | None:
        place = self._believed(self.watch.place(self.call, descriptor))
        self.relative |= descriptor == 0xFFFFFF9C or descriptor == 0xFFFFFFFFFFFFFF9C
        return place

    def _believed(self, read: _Read) -> _Read:
        if not self.watch.waits(self.call):
            raise _Gone
        return read


@dataclass(slots=True)
class Learnt:
    """What came of a run.

    Attributes:
        lesson: what was seen.
        status: exit code of the program, negative for the signal that ended it.
        usage: the most that it used.
        relative: whether it used its working directory.
    """

    lesson: Lesson
    status: int
    usage: Usage
    relative: bool


def observe(
    watch: Watch, call: Call, lesson: Lesson, files: HostFiles, *, start: bool
) -> tuple[int, bool]:
    """Learn one call; nothing of a caller that is gone.

    Args:
        watch: whose call it is.
        call: it waits.
        lesson: takes what is learnt.
        files: the tree that the caller sees.
        start: it is the start of the program itself.

    Returns:
        The error that the call shall get, or 0; whether it used its working directory.
    """
    caller = _Caller(watch, call)
    try:
        error = lesson.observe(call.number, call.arguments, caller=caller, files=files, start=start)
    except _Gone:
        return 0, False
    return error, caller.relative


def learn(
    program: Program,
    environment: Mapping[str, str],
    *,
    drop: Callable[[str], bool] = lambda _: False,
) -> Learnt:
    """Run a program unconfined and watched, to its end.

    Args:
        program: what to execute.
        environment: whole.
        drop: names of calls that are let through unseen, which tests of the learner need.
    """
    machine = native_machine()
    lesson = Lesson(machine)
    files = HostFiles()
    numbers = syscalls(machine)
    names = {number: name for name, number in numbers.items()}
    starts = {numbers["execve"], numbers["execveat"]}
    watch = Watch(program.path, program.arguments, environment, learning_filter(machine))
    relative = False
    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, signal.SIG_IGN),  # the terminal tells the program itself
            (signal.SIGTERM, lambda *_: os.kill(watch.pid, signal.SIGTERM)),
        )
    }
    try:
        for call in watch.calls():
            if call.arch != audit_arch(machine) or call.number >= _X32:
                lesson.problem("the 32-bit entry is not learnable: a fiber would be ended there")
                watch.let(call)
                continue
            if call.number == numbers["exit_group"]:
                watch.measure(call)
                watch.let(call)
                continue
            start = call.number in starts and call.thread == watch.pid
            starts = set() if start else starts
            error, used = 0, False
            if not drop(names.get(call.number, "")):
                error, used = observe(watch, call, lesson, files, start=start)
            relative |= used
            if error:
                watch.refuse(call, error)
            else:
                watch.let(call)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = watch.result()
    return Learnt(lesson, status, watch.usage, relative)


def _near(usage: Usage) -> list[str]:
    """The limits of this process that the program came near."""
    used = {
        "memory": usage.memory,
        "files": usage.files,
        "processes": usage.processes,
        "cpu": usage.seconds,
    }
    found = []
    for name, number in _LIMITS:
        soft, _ = resource.getrlimit(number)
        if soft != resource.RLIM_INFINITY and used[name] >= soft * _NEAR:
            found.append(f"it came near the limit {name}: {used[name]:.0f} of {soft}")
    return found


def _rules(learnt: Learnt, program: Program, directory: str) -> list[Rule]:
    lesson = learnt.lesson
    files = HostFiles()
    trace = Trace(lesson.touched, lesson.directories, lesson.moved, lesson.used)
    home = str(Path.home())
    rules = learn_rules(trace, program=program.path, files=files, home=home)
    if directory != "/" and not any(
        _below(rule.unveil.path, directory) or _below(directory, rule.unveil.path)
        for rule in rules
        if rule.unveil.rights
    ):
        # The folder is there, and nothing in it; without a rule it would be shown as a whole.
        rules = [rule for rule in rules if rule.unveil.path != directory]
        rules.append(Rule(Unveil(directory, ""), "where it starts; nothing there is used"))
    return rules


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def make_lesson(
    learnt: Learnt, program: Program, words: tuple[str, ...], name: str | None, directory: str
) -> tuple[str, dict[str, object]]:
    """The manifest as text, and as the body of a document."""
    lesson = learnt.lesson
    start = directory if learnt.relative or directory in lesson.touched else "/"
    first = words[0]
    if "/" in first and not first.startswith("/"):
        start = directory
    rules = _rules(learnt, program, start)
    promises = lesson.promises(dynamic=program.dynamic)
    usage = learnt.usage
    remarks = [f"not learnable: {problem}" for problem in lesson.problems]
    remarks += _near(usage)
    if program.dynamic:
        remarks.append("rpath and prot_exec are there besides: its loader needs them")
    if lesson.executed[1:]:
        remarks.append(f"it executes {' '.join(lesson.executed[1:])}")
    remarks.append(
        f"it used at most: memory {-(-usage.memory >> 20)}M, files {usage.files}, "
        f"processes {usage.processes}, cpu {usage.seconds:.2f} s"
    )
    chosen = name or posixpath.basename(program.path)
    text = manifest_text(
        name=chosen,
        program=words,
        directory=start,
        promises=promises,
        rules=rules,
        remarks=remarks,
    )
    parse_manifest(text)
    return text, {
        "manifest": text,
        "status": learnt.status if learnt.status >= 0 else 128 - learnt.status,
        "promises": sorted(promises),
        "unveil": [
            {"path": r.unveil.path, "rights": r.unveil.rights, "remark": r.remark} for r in rules
        ],
        "executed": lesson.executed,
        "problems": lesson.problems,
        "used": {
            "memory": usage.memory,
            "files": usage.files,
            "processes": usage.processes,
            "cpu": usage.seconds,
        },
    }


def write_lesson(
    program: Program,
    words: tuple[str, ...],
    *,
    environment: Mapping[str, str],
    name: str | None,
    output: Output,
    target: str | None,
) -> int:
    """Learn a program, write its manifest to a file or stderr, and return the exit code.

    The program's stdout stays its own.
    """
    directory = str(Path.cwd())
    if target is not None:
        try:
            Path(target).open("a", encoding="utf-8").close()  # before the run: it may be long
        except OSError as error:
            raise ManifestError(
                f"cannot write {target}: {error.strerror}", hint="give another file with --output"
            ) from None
    learnt = learn(program, environment)
    text, body = make_lesson(learnt, program, words, name, directory)
    if output.json:
        text = json.dumps({"schema": SCHEMA, "type": "lesson", **body}) + "\n"
    if target is None:
        sys.stderr.write(text)
        sys.stderr.flush()
    else:
        try:
            Path(target).write_text(text, "utf-8")
        except OSError as error:
            sys.stderr.write(text)  # the run may have been long: what was learnt is not lost
            raise FaultError(
                f"cannot write {target}: {error.strerror}", hint="the manifest is above instead"
            ) from None
    return learnt.status if learnt.status >= 0 else 128 - learnt.status
