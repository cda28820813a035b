"""A running guest: booted from the host's own files, given commands, and never left behind.

Its QEMU is killed when the thread that booted it dies; it powers itself off when the host
closes the port, and at the latest when its lifetime is over. It emulates the CPU, which makes
Python ten to twenty times slower: nothing in a guest measures time.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.guest.kernel import Kernel, Unavailable, cached, compiled_init, initial_root, prepare
from tests.guest.profiles import BASE_MODULES, Profile

QEMU = "qemu-system-x86_64"
LIFETIME_S = 240
BOOT_S = 60
CONSOLE_LINES = 60  # a panic with its trace
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
HEAD = struct.Struct("<II")


class GuestDied(Exception):
    """The guest ended, or stopped answering, without the answer to a command."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended; the status is 128 + N after signal N."""

    status: int
    stdout: bytes
    stderr: bytes


def missing(profile: Profile) -> str | None:
    """Why no guest can be booted here, or None; what is asked first is named first."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"guests are x86-64 Linux, emulated on one; this is {platform.machine()}"
    if shutil.which(QEMU) is None:
        return f"{QEMU} is missing: apt-get install qemu-system-x86"
    if cached() is None and shutil.which("apt-get") is None:
        return "no guest kernel is cached, and there is no apt-get to fetch one with"
    if shutil.which("gcc") is None:
        return "gcc is missing, which compiles the guest's init: apt-get install gcc libc6-dev"
    fields = Path("/proc/meminfo").read_text().split()
    free_mib = int(fields[fields.index("MemAvailable:") + 1]) >> 10
    if free_mib < profile.memory_mib:
        return f"a guest needs {profile.memory_mib} MiB of memory, {free_mib} are available"
    return None


def accelerator() -> str:
    """The `-accel` of QEMU: emulation, unless KVM is asked for and is the real one.

    /dev/kvm alone says little: with other back ends than Intel's and AMD's own a stock kernel
    does not boot, or takes minutes.
    """
    wanted = os.environ.get("NEXUS_GUEST_ACCEL", "tcg")
    if wanted == "tcg":
        return "tcg,thread=multi"
    modules = [Path("/sys/module", name) for name in ("kvm_intel", "kvm_amd")]
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK) and any(m.exists() for m in modules)
    if wanted != "kvm" or not usable:
        raise Unavailable(f"NEXUS_GUEST_ACCEL={wanted} cannot be had here; unset it, or say tcg")
    return "kvm"


def qemu(
    kernel: Kernel, profile: Profile, *, folder: Path, port: int, lifetime_s: int
) -> list[str | Path]:
    """The command line of a guest whose control port is the open socket `port`."""
    parameters = "console=ttyS0 quiet loglevel=1 panic=-1 random.trust_cpu=1 mitigations=off"
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", QEMU),
        *("-accel", accelerator(), "-cpu", "max", "-M", "q35", "-m", str(profile.memory_mib)),
        *("-display", "none", "-no-reboot", "-nodefaults", "-no-user-config"),
        *("-kernel", kernel.vmlinux, "-initrd", folder / "initial-root"),
        *("-append", f"{parameters} nexus.guest=1 lifetime={lifetime_s}"),
        *("-chardev", f"file,id=console,path={folder / 'console'}", "-serial", "chardev:console"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *("-device", "virtio-serial-pci", "-chardev", f"socket,id=port,fd={port}"),
        *("-device", "virtserialport,chardev=port"),
        *("-qmp", f"unix:{folder / 'monitor'},server=on,wait=off"),
        *profile.devices,
    ]


class Guest:
    """A booted guest of a profile; a context manager.

    Args:
        profile: what it is made of.
        lifetime_s: after so many seconds it powers itself off.

    Raises:
        Unavailable: this machine cannot have one; the text says why.
        GuestDied: it did not come up.
    """

    def __init__(self, profile: Profile, *, lifetime_s: int = LIFETIME_S) -> None:
        reason = missing(profile)
        if reason is not None:
            raise Unavailable(reason)
        # Whether there is a newer one is asked by `prepare` alone: it takes a second.
        kernel = cached() or prepare()
        root = initial_root(kernel, [*BASE_MODULES, *profile.modules])
        self.folder = Path(tempfile.mkdtemp(prefix="nexus-guest-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.port, theirs = socket.socketpair()
        try:
            with (self.folder / "qemu").open("wb") as said, theirs:
                (self.folder / "initial-root").write_bytes(root)
                port = theirs.fileno()
                words = qemu(kernel, profile, folder=self.folder, port=port, lifetime_s=lifetime_s)
                self.process = subprocess.Popen(
                    [str(word) for word in words],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    pass_fds=[port],
                )
            self._frame(time.monotonic() + BOOT_S, "the boot")
        except BaseException:  # also an interrupt: nothing may be left behind
            self.close()
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the guest; what it wrote is lost."""
        self.port.close()
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stream(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
        timeout_s: float = LIFETIME_S,
    ) -> Iterator[tuple[str, bytes]]:
        """Run a command; yields ("o", output) and ("e", errors), and ("x", status) at the end.

        Raises:
            GuestDied: there is no answer, as the guest is gone or the time is over.
        """
        variables = [f"{k}={v}" for k, v in (ENVIRONMENT | dict(environment or {})).items()]
        strings = "\0".join([folder, *variables, "", *command, ""]).encode()
        deadline = time.monotonic() + timeout_s
        try:
            self.port.sendall(struct.pack("<I", len(strings)) + strings)
        except OSError:
            raise GuestDied(self._obituary(command[0])) from None
        kind = ""
        while kind != "x":
            kind, data = self._frame(deadline, command[0])
            yield kind, data

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        folder: str = "/",
        timeout_s: float = LIFETIME_S,
    ) -> Done:
        """Run a command to its end, and give what it said; raises as `stream` does."""
        parts: dict[str, bytes] = {"o": b"", "e": b"", "x": b""}
        for kind, data in self.stream(
            command, environment=environment, folder=folder, timeout_s=timeout_s
        ):
            parts[kind] += data
        return Done(status(parts["x"]), parts["o"], parts["e"])

    def _frame(self, deadline: float, what: str) -> tuple[str, bytes]:
        kind, size = HEAD.unpack(self._receive(HEAD.size, deadline, what))
        return chr(kind), self._receive(size, deadline, what)

    def _receive(self, size: int, deadline: float, what: str) -> bytes:
        data = bytearray()
        while len(data) < size:
            self.port.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                part = self.port.recv(size - len(data))
            except TimeoutError:
                raise GuestDied(self._obituary(what, "it does not answer")) from None
            except ConnectionError:
                part = b""
            if not part:
                raise GuestDied(self._obituary(what))
            data += part
        return bytes(data)

    def _kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _obituary(self, what: str, how: str = "its QEMU ended") -> str:
        self._kill()
        said = [
            line
            for name in ("qemu", "console")
            if (self.folder / name).exists()
            for line in (self.folder / name).read_text(errors="replace").splitlines()
        ]
        tail = "\n".join(f"  {line}" for line in said[-CONSOLE_LINES:]) or "  (it said nothing)"
        return f"guest died during {what}: {how}. The last lines of its console:\n{tail}"


def status(data: bytes) -> int:
    """The exit status in the last frame of a command."""
    (number,) = struct.unpack("<I", data)
    return number


def ready() -> Path:
    """Fill the cache; returns where the kernel is."""
    compiled_init()
    return prepare().folder
