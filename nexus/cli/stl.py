"""`nexus stl watch`: the events of a node, as they happen."""

from __future__ import annotations

import argparse
import time

from nexus.cli.events import event_line, event_record
from nexus.cli.grammar import UsageError
from nexus.cli.node_client import connect
from nexus.cli.output import Output
from nexus.seams.events import EventKind
from nexus.seams.supervisor import NodeState

__all__ = ["run"]

# A supervisor that was killed tells nobody; so often the table is looked at without a wake.
LOOK_S = 1.0


def _kind(word: str | None) -> EventKind | None:
    if word is None:
        return None
    for kind in EventKind:
        if word.lower() == kind.title.lower():
            return kind
    titles = ", ".join(kind.title for kind in EventKind)
    raise UsageError(f"{word!r} is no kind of event", hint=f"one of {titles}")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Follow until Ctrl-C, the time given, or the end of the node."""
    kind = _kind(arguments.kind)
    until = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    with connect(arguments) as node:
        only = None if arguments.fiber is None else node.find(arguments.fiber).slot + 1
        head = node.table.head()
        newest = head.newest if arguments.since is None else arguments.since
        while True:
            over = node.table.head().state == NodeState.OVER
            events = node.table.events(newest)
            newest = events.newest
            names = {fiber.id: fiber.name for fiber in node.table.fibers()}
            if events.lost:
                lost = EventKind.EVENTS_LOST.title
                if output.json:
                    output.document("lost", {"title": lost, "count": events.lost})
                else:
                    output.line(f"{'':10}  {lost:<18}  {events.lost} were overwritten")
            for event in events.events:
                if kind not in (None, event.kind) or only not in (None, event.fiber & 0xFFFFFFFF):
                    continue
                if output.json:
                    output.document("event", event_record(event, names))
                else:
                    output.line(event_line(event, names, head.start_ns))
            output.flush()
            left = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if over or left <= 0:
                return 0
            node.table.wait(newest, left)
