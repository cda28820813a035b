"""Watched programs: each system call that a filter does not allow is told here before it happens.

The kernel holds the calling thread until it is answered (`SECCOMP_RET_USER_NOTIF`), so what a call
points to can be read while it waits. The filter is inherited: threads, children and executed
programs are watched without being followed. The watcher is the parent of what has lost its parent,
so that it may read the memory of every process of the tree where only ancestors may (Yama).

Not handled: what another thread writes over an argument after it was read, and set-user-id
programs, which run without their privilege.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nexus._core import seccomp as _core
from nexus.errors import AbsentError, StartError
from nexus.physics.seccomp import SeccompFilter, seccomp_capabilities

__all__ = ["Call", "Usage", "Watch"]

_NOTICE = struct.Struct("<QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("<QqiI")  # struct seccomp_notif_resp
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102  # SECCOMP_IOCTL_NOTIF_*
_CONTINUE = 1
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_AT_FDCWD = 0xFFFFFF9C
_PAGE = 4096
STRING_MAX = 4096  # PATH_MAX: the kernel takes no longer path
_EXIT_FAILED = 125


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that waits.

    Attributes:
        identity: of the notification.
        thread: who calls.
        number: as the entry takes it.
        arch: AUDIT_ARCH value of the entry.
        arguments: six, of 64 bits.
    """

    identity: int
    thread: int
    number: int
    arch: int
    arguments: tuple[int, ...]


@dataclass(slots=True)
class Usage:
    """The most that any process of the tree was seen to use.

    Attributes:
        memory: bytes of address space, of processes that ended by themselves.
        files: descriptors that were open when a process ended.
        processes: alive at once, when a process ended.
        seconds: of processor time, all together.
    """

    memory: int = 0
    files: int = 0
    processes: int = 0
    seconds: float = 0.0


class Watch:
    """One program and all that it starts.

    Args:
        program: absolute path of the image.
        words: its arguments, the first its name.
        environment: whole.
        code: the filter; what it answers with `notify` is told here.

    Raises:
        AbsentError: this kernel notifies nobody.
        StartError: the program cannot be executed.
    """

    def __init__(
        self, program: str, words: Sequence[str], environment: Mapping[str, str], code: bytes
    ) -> None:
        offered = seccomp_capabilities()
        if not offered.actions["notify"]:
            raise AbsentError("this kernel has no seccomp notification", hint="Linux 5.5 has it")
        filter_ = SeccompFilter.from_bytes(code)
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
        told, tell = os.pipe()
        go, gone = os.pipe()
        self.usage = Usage()
        self._program = program
        self._status = 0
        self._failed = 0
        self._notice = bytearray(_NOTICE.size)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(gone)
            _become(filter_, program, words, environment, tell, go)
        os.close(tell)
        os.close(go)
        with os.fdopen(told, "rb") as stream:
            head = stream.readline()
            if not head.startswith(b"listener "):
                os.waitpid(self.pid, 0)
                raise StartError(errno.EACCES, f"the filter was refused: {head.decode()}")
            self._listener = _core.take_listener(self.pid, int(head.split()[1]))
            os.close(gone)
            self._problem = os.dup(stream.fileno())
        self._ended = os.pidfd_open(self.pid)

    def calls(self) -> Iterator[Call]:
        """Each call of the tree, until the program has ended; then whatever it left is ended.

        Every call must be answered with `let` or `refuse` before the next is taken.
        """
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if ready.get(self._listener, 0) & select.POLLIN:
                call = self._receive()
                if call is not None:
                    yield call
            elif self._ended in ready:
                break
            else:  # nobody is left whom the filter holds, but the end was not told yet
                poll.unregister(self._listener)
        self._finish()

    def _receive(self) -> Call | None:
        self._notice[:] = bytes(_NOTICE.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, self._notice)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # who called was killed meanwhile
                return None
            raise
        identity, thread, _, number, arch, _, *arguments = _NOTICE.unpack(self._notice)
        return Call(identity, thread, number & 0xFFFFFFFF, arch, tuple(arguments))

    def _answer(self, call: Call, error: int, flags: int) -> None:
        with suppress(FileNotFoundError):  # who called was killed meanwhile
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(call.identity, 0, -error, flags))

    def let(self, call: Call) -> None:
        """The kernel does what was called."""
        self._answer(call, 0, _CONTINUE)

    def refuse(self, call: Call, error: int) -> None:
        """The call returns an error."""
        self._answer(call, error, 0)

    def waits(self, call: Call) -> bool:
        """Whether the call still waits; what was read of its process before is of that process."""
        try:
            fcntl.ioctl(self._listener, _VALID, struct.pack("<Q", call.identity))
        except FileNotFoundError:
            return False
        return True

    def memory(self, call: Call, address: int, size: int) -> bytes | None:
        """Bytes of the caller's memory, fewer where it ends; None where it may not be read."""
        try:
            descriptor = os.open(f"/proc/{call.thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        data = b""
        try:
            # Page by page: the one after the last may not be there, and then the read fails.
            while len(data) < size:
                here = address + len(data)
                part = os.pread(descriptor, min(size - len(data), _PAGE - here % _PAGE), here)
                data += part
                if not part:
                    break
        except (OSError, OverflowError):
            pass
        finally:
            os.close(descriptor)
        return data

    def string(self, call: Call, address: int) -> str | None:
        """The path at an address; None where the memory may not be read; empty for none."""
        size = min(_PAGE - address % _PAGE, STRING_MAX)
        data = self.memory(call, address, size)
        if data is not None and b"\0" not in data and len(data) == size:
            data = self.memory(call, address, STRING_MAX)
        return None if data is None else os.fsdecode(data.split(b"\0", 1)[0])

    def place(self, call: Call, descriptor: int) -> str | None:
        """The path behind a descriptor, or of the working directory; None where there is none."""
        name = "cwd" if descriptor & 0xFFFFFFFF == _AT_FDCWD else f"fd/{descriptor & 0x7FFFFFFF}"
        try:
            path = os.readlink(f"/proc/{call.thread}/{name}")  # noqa: PTH115 - the text itself
        except OSError:
            return None
        return path if path.startswith("/") and not path.endswith(" (deleted)") else None

    def measure(self, call: Call) -> None:
        """Note what a process that is about to end has used."""
        memory = files = 0
        with suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{call.thread}/status").read_text("utf-8", "replace").splitlines()
            peak = next(line for line in lines if line.startswith("VmPeak:"))
            memory = int(peak.split()[1]) << 10
        with suppress(OSError):
            files = sum(1 for _ in Path(f"/proc/{call.thread}/fd").iterdir())
        if self.waits(call):  # or it was another process that was looked at
            self.usage.memory = max(self.usage.memory, memory)
            self.usage.files = max(self.usage.files, files)
        self.usage.processes = max(self.usage.processes, len(_tree(os.getpid())))

    def result(self) -> int:
        """The exit code, negative for the signal that ended it; to be asked after `calls`.

        Raises:
            StartError: the program was not executed.
        """
        if self._failed:
            why = os.strerror(self._failed)
            raise StartError(self._failed, f"cannot execute {self._program}: {why}")
        return self._status

    def _finish(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._status = os.waitstatus_to_exitcode(status)
        os.close(self._listener)
        os.close(self._ended)
        self._failed = int(os.read(self._problem, 16) or b"0")
        os.close(self._problem)
        # What is left has nobody who answers its calls; `nexus run` ends it just so.
        while left := _tree(os.getpid()):
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)
        times = os.times()
        self.usage.seconds = times.children_user + times.children_system


def _tree(root: int) -> list[int]:
    """The processes below one that are still alive."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        for entry in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                children = [int(word) for word in entry.read_text("ascii").split()]
                found += children
                waiting += children
    return found


def _become(
    filter_: SeccompFilter,
    program: str,
    words: Sequence[str],
    environment: Mapping[str, str],
    tell: int,
    go: int,
) -> None:
    """The child: wait until the watcher has the listener, then execute the program."""
    try:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        killable = seccomp_capabilities().flags["wait_killable"]
        listener = filter_.install(no_new_privs=True, listener=True, wait_killable=killable)
        os.write(tell, b"listener %d\n" % (listener or 0))
        os.read(go, 1)
        os.execve(program, list(words), dict(environment))  # noqa: S606 - that is the point
    except OSError as error:
        os.write(tell, b"%d\n" % (error.errno or errno.EIO))
    finally:
        os._exit(_EXIT_FAILED)
