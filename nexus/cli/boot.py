"""`nexus boot`: a node in the foreground, until it is told to end."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nexus.cli.events import NOTABLE, event_line, event_record
from nexus.cli.fiber_text import per_process_lines
from nexus.cli.output import Output
from nexus.errors import StartError
from nexus.logic.confine import LAYERS
from nexus.membrane.boot import RunningNode, boot, read_description
from nexus.membrane.directory import NodeDirectory, find_node

__all__ = ["run"]

# The table wakes us for every event; a supervisor that was killed tells none.
LOOK_S = 1.0


class _Ended(Exception):
    """Somebody asked for the end."""


def _loaded_ms() -> float:
    """Time since this process began: the interpreter, and all imports; by 10 ms clock ticks."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - began) * 1e3


@contextmanager
def _signals() -> Iterator[None]:
    def end(*_: object) -> None:
        # The second one must not interrupt the shutdown that the first one asked for.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    # So that a supervisor's end interrupts the sleep on its table.
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Teller:
    """Prints what happens on a node, each event once."""

    def __init__(self, node: RunningNode, output: Output, *, quiet: bool) -> None:
        self._node = node
        self._output = output
        self._quiet = quiet
        self._newest = 0

    def tell(self) -> None:
        """Print what is new."""
        table, output = self._node.table, self._output
        events = table.events(self._newest)
        self._newest = events.newest
        if self._quiet:
            return
        names = {fiber.id: fiber.name for fiber in table.fibers()}
        start_ns = table.head().start_ns
        for event in events.events:
            if output.json:
                output.document("event", event_record(event, names))
            elif event.kind in NOTABLE:
                output.line(event_line(event, names, start_ns))
        if events.lost and not output.json:
            output.line(f"{events.lost} events came faster than they could be shown")
        output.flush()

    def follow(self, until: float | None) -> None:
        """Print until the time is over, or the supervisor."""
        while self._node.status() is None:
            self.tell()
            left = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if left <= 0:
                return
            self._node.table.wait(self._newest, left)


def _up(
    directory: NodeDirectory, node: RunningNode, output: Output, own_ms: float, load_ms: float
) -> None:
    if output.json:
        output.document(
            "boot",
            {
                "node": str(directory.path),
                "pid": node.pid,
                "up_ms": round(own_ms, 3),
                "imports_ms": round(load_ms, 3),
                "fibers": sorted(node.fibers),
                "waived": [
                    {"layer": name, "fibers": fibers} for name, fibers in node.waived.items()
                ],
                "per_process": [
                    {"fiber": name, "why": why} for name, why in node.per_process.items()
                ],
                "unwatched": list(node.unwatched),
            },
        )
    else:
        output.line(f"node up in {own_ms:.0f} ms (imports {load_ms:.0f} ms): {directory.path}")
        own = find_node(None, os.environ).path == directory.path
        where = "" if own else f", each with --node {directory.path}"
        for name, fibers in node.waived.items():
            output.line(f"without the {name}, as asked, for {', '.join(fibers)}: {LAYERS[name]}")
        for line in per_process_lines(node.per_process):
            output.line(line)
        if node.unwatched:
            names = ", ".join(node.unwatched)
            output.line(f"without a baseline of its traffic, for want of handles: {names}")
        output.line(f"look at it with: nexus status, nexus stl watch, nexus fiber show NAME{where}")
    output.flush()


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Boot, stay, shut down."""
    load_ms = _loaded_ms()
    start = time.perf_counter()
    directory = find_node(arguments.node, os.environ)
    made = directory.prepare()
    lock = directory.take()
    source = Path(arguments.description) if arguments.description else directory.node_file
    description = read_description(source, directory)
    waived = {word.replace("-", " ") for word in arguments.waive}
    description = replace(description, waived=description.waived | waived)
    with _signals():
        try:
            node = boot(directory, description, lock)
        except _Ended:
            return 0
        finally:
            os.close(lock)
        own_ms = (time.perf_counter() - start) * 1e3
        return _hold(arguments, output, directory, node, (made, own_ms, load_ms))


def _hold(
    arguments: argparse.Namespace,
    output: Output,
    directory: NodeDirectory,
    node: RunningNode,
    facts: tuple[list[str], float, float],
) -> int:
    made, own_ms, load_ms = facts
    teller = _Teller(node, output, quiet=arguments.quiet)
    try:
        if made and not output.json:
            output.line(f"made {', '.join(made)} in {directory.path}")
        _up(directory, node, output, own_ms, load_ms)
        until = None if arguments.seconds is None else time.monotonic() + arguments.seconds
        teller.follow(until)
    except _Ended:
        pass
    except BaseException:  # whatever it was, nothing may be left running
        node.kill()
        raise
    asked = node.status() is None
    status = node.shutdown()
    teller.tell()
    node.table.close()
    directory.control.unlink(missing_ok=True)
    if not asked and status != 0:
        raise StartError(
            0, f"the supervisor ended by itself, status {status}", hint="see nexus beb show"
        )
    if not output.json:
        output.line("node down")
    return 0
