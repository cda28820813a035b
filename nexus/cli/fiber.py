"""`nexus fiber`: the fibers of a node, looked at and told what to do."""

from __future__ import annotations

import argparse
import os

from nexus.cli.baseline_text import baseline_records, tell_baselines
from nexus.cli.fiber_text import (
    FIBER_HEADS,
    fiber_record,
    fiber_row,
    per_process_lines,
    policy_rows,
    state_word,
)
from nexus.cli.node_client import NodeClient, connect
from nexus.cli.output import Output
from nexus.errors import UnknownFiberError
from nexus.logic.control import FiberPlace
from nexus.seams.supervisor import FiberEntry

__all__ = ["run"]

_TAIL_BYTES = 1 << 16


def _list(node: NodeClient, output: Output) -> None:
    fibers = node.table.fibers()
    if output.json:
        output.document("fibers", {"items": [fiber_record(fiber) for fiber in fibers]})
        return
    output.table([FIBER_HEADS, *(fiber_row(fiber) for fiber in fibers)])


def _tail(node: NodeClient, fiber: FiberEntry, lines: int) -> list[str]:
    try:
        descriptor = os.open(node.directory.log(fiber.name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text.splitlines()[-lines:] if lines > 0 else []


def _show(node: NodeClient, fiber: FiberEntry, lines: int, output: Output) -> None:
    record = fiber_record(fiber)
    tail = _tail(node, fiber, lines)
    policy = node.directory.read_policy(fiber.name)
    learned = baseline_records(node.table, node.directory.baselines, fiber)
    if output.json:
        told = {"policy": policy, "baselines": learned, "log": tail}
        output.document("fiber", {**record, **told})
        return
    rows = [
        (name.replace("_", " "), " ".join(value) if isinstance(value, list) else str(value))
        for name, value in record.items()
    ]
    output.table([*rows, *policy_rows(policy)])
    tell_baselines(node.table, fiber, learned, output)
    if tail:
        output.line()
        output.line(f"last of {node.directory.log(fiber.name)}:")
    for line in tail:
        output.line(f"  {line}")


def _act(node: NodeClient, fiber: FiberEntry, arguments: argparse.Namespace) -> None:
    place = FiberPlace.of(fiber)
    if arguments.verb == "restart":
        node.control.restart(place)
    else:
        node.control.stop(place, at_once=arguments.now)
        node.control.wait(place)


def _start(node: NodeClient, name: str, output: Output) -> FiberEntry:
    """Begin a life of a fiber that the node has, or start one that only node.kdl has."""
    try:
        fiber = node.find(name)
    except UnknownFiberError as unknown:
        from nexus.membrane.boot import read_description, start_late

        described = read_description(node.directory.node_file, node.directory)
        found = [one for one in described.fibers if one.name == name]
        if not found:
            raise unknown
        pid = node.table.head().pid
        per_process = start_late(node.directory, described, found[0], node.control, pid=pid)
        for line in per_process_lines(per_process) if not output.json else ():
            output.line(line)
        return node.find(name)
    node.control.begin(FiberPlace.of(fiber))
    return fiber


def run(arguments: argparse.Namespace, output: Output) -> int:
    """List, show, or act and say what came of it."""
    with connect(arguments) as node:
        if arguments.verb == "list":
            _list(node, output)
            return 0
        if arguments.verb == "start":
            fiber = _start(node, arguments.fiber, output)
        else:
            fiber = node.find(arguments.fiber)
        if arguments.verb == "show":
            _show(node, fiber, arguments.lines, output)
            return 0
        if arguments.verb != "start":
            _act(node, fiber, arguments)
        (after,) = [one for one in node.table.fibers() if one.slot == fiber.slot]
        if output.json:
            document = fiber_record(after)
            document |= {"policy": None, "baselines": [], "log": []}
            output.document("fiber", document)
        else:
            output.line(f"{after.name} is {state_word(after)}, life {after.lives}")
    return 0
