"""Times between two places of a program, by the kernel's uprobes: no line of the program helps."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Spans", "spans"]

GROUP = f"nexus_bench_{os.getpid()}"  # a run that was killed leaves its own and hinders nobody
CAPACITY_KB = 1024


def _told(*command: str | Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _offset(program: Path, symbol: str) -> int:
    """Where a function begins in the file, as uprobes want it."""
    found = [line.split()[0] for line in _told("nm", program) if line.split()[-1] == symbol]
    if not found:
        raise LookupError(f"{program} has no symbol {symbol}: it is stripped")
    place = int(found[0], 16)
    for fields in (line.split() for line in _told("readelf", "-lW", program)):
        if fields[:1] == ["LOAD"]:
            offset, address, size = (int(fields[i], 16) for i in (1, 2, 4))
            if address <= place < address + size:
                return place - address + offset
    raise LookupError(f"{symbol} is in no segment of {program}")


def _add(events: Path, line: str) -> None:
    """Write without a seek, which the file does not know, and without taking the others away."""
    descriptor = os.open(events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


class Spans:
    """The begin and end probes that have fired; an instance of the kernel's trace of its own."""

    def __init__(self, instance: Path) -> None:
        self._instance = instance

    def nanoseconds(self) -> list[float]:
        """Each time from a begin to the next end of the one thread that there is, and forgets them.

        Not the first time that it comes by an end, for which the kernel makes room in its memory.
        """
        began = None
        met = False
        found = []
        for line in (self._instance / "trace").read_text().splitlines():
            if line.startswith("#"):
                continue
            stamp, name = line.split(": ")[0].split()[-1], line.split(": ")[1]
            time_ns = round(float(stamp) * 1e9) if "." in stamp else int(stamp)
            if name == "begin":
                began = time_ns
            elif name == "end":
                if began is not None and met:
                    found.append(float(time_ns - began))
                began = None
                met = True
        (self._instance / "trace").write_text("")
        return found


@contextmanager
def spans(program: Path, begin: str, end: str) -> Iterator[Spans | str]:
    """Probes at the entry of one function and the return of another; or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tracefs", "tracefs", folder], capture_output=True, check=False
        )
        events = Path(folder, "uprobe_events")
        if mounted.returncode != 0 or not events.exists():
            if mounted.returncode == 0:
                subprocess.run(["umount", folder], check=True)
            yield "tracefs with uprobes takes root and CONFIG_UPROBE_EVENTS"
            return
        instance = Path(folder, "instances", GROUP)
        try:
            for kind, name, symbol in (("p", "begin", begin), ("r", "end", end)):
                _add(events, f"{kind}:{GROUP}/{name} {program}:{_offset(program, symbol):#x}\n")
            instance.mkdir()
            (instance / "trace_clock").write_text("mono")
            (instance / "buffer_size_kb").write_text(str(CAPACITY_KB))
            (instance / "events" / GROUP / "enable").write_text("1")
            yield Spans(instance)
        finally:
            with suppress(OSError):
                (instance / "events" / GROUP / "enable").write_text("0")
            with suppress(OSError):
                instance.rmdir()
            for name in ("begin", "end"):
                with suppress(OSError):
                    _add(events, f"-:{GROUP}/{name}\n")
            subprocess.run(["umount", folder], check=True)
