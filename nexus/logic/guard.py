"""What follows when nothing less helps: how often Phoenix may come, and a hardware watchdog.

    phoenix limit=3 period="60s" then="reset"
    watchdog "/dev/watchdog" timeout="10s"

docs/spec/node.md has what the supervisor does with it. Nothing of this is there unless a node's
description asks for it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace

import ckdl

from nexus.errors import NodeError
from nexus.logic.manifest import NodeReader

__all__ = ["GUARD_NODES", "THEN", "Guard", "read_guard"]

GUARD_NODES = ("phoenix", "watchdog")
THEN = ("stay", "reset", "reboot")  # by their numbers
LIMIT_MAX = 64
TIMEOUT_MIN_S, TIMEOUT_MAX_S = 2, 65_535  # the supervisor pets it every 0.4 s
_S = 1000


@dataclass(frozen=True, slots=True)
class Guard:
    """The last measures of a node.

    Attributes:
        limit: how many Phoenix are admitted in a period.
        period_ms: that period.
        then: what follows the next one: stay, reset or reboot.
        watchdog: path of the device, or None.
        timeout_s: after which it resets the machine unless it is petted.
    """

    limit: int = 3
    period_ms: int = 60_000
    then: str = "stay"
    watchdog: str | None = None
    timeout_s: int = 10

    @property
    def words(self) -> tuple[int, int, int, int]:
        """The request GUARD."""
        timeout_s = self.timeout_s if self.watchdog is not None else 0
        return self.limit, self.period_ms, THEN.index(self.then), timeout_s


def _reader(node: ckdl.Node) -> NodeReader:
    reader = NodeReader(node, "")
    reader.where = node.name
    return reader


def _phoenix(reader: NodeReader, guard: Guard) -> Guard:
    reader.shape("limit", "period", "then")
    reader.strings(0, 0)
    limit, period_ms = reader.number("limit"), reader.time("period")
    then = reader.node.properties.get("then", guard.then)
    guard = replace(
        guard,
        limit=guard.limit if limit is None else limit,
        period_ms=guard.period_ms if period_ms is None else period_ms,
        then=str(then),
    )
    if not 1 <= guard.limit <= LIMIT_MAX:
        raise reader.wrong(f"limit is a number from 1 to {LIMIT_MAX}, not {guard.limit}")
    if not 1 <= guard.period_ms < 1 << 32:
        raise reader.wrong("period is a time from 1ms to 49 days")
    if guard.then not in THEN:
        raise reader.wrong(f"then is {guard.then!r}", hint=f"one of {', '.join(THEN)}")
    return guard


def _watchdog(reader: NodeReader, guard: Guard, directory: str) -> Guard:
    reader.shape("timeout")
    time_ms = reader.time("timeout")
    timeout_ms = guard.timeout_s * _S if time_ms is None else time_ms
    if timeout_ms % _S or not TIMEOUT_MIN_S <= timeout_ms // _S <= TIMEOUT_MAX_S:
        raise reader.wrong(f"timeout is {TIMEOUT_MIN_S} to {TIMEOUT_MAX_S} whole seconds")
    path = posixpath.join(directory, reader.string())
    return replace(guard, watchdog=path, timeout_s=timeout_ms // _S)


def read_guard(nodes: Sequence[ckdl.Node], directory: str) -> Guard | None:
    """What nodes of `GUARD_NODES` say together; None when there are none.

    Raises:
        LocalError: they say what cannot be.
    """
    guard = Guard()
    for index, node in enumerate(nodes):
        if node.name in [one.name for one in nodes[:index]]:
            raise NodeError(f"{node.name} is said twice")
        reader = _reader(node)
        if node.name == "phoenix":
            guard = _phoenix(reader, guard)
        else:
            guard = _watchdog(reader, guard, directory)
    if guard.then == "reset" and guard.watchdog is None:
        raise NodeError(
            'phoenix: then="reset" leaves the reset to a watchdog, and there is none',
            hint='watchdog "/dev/watchdog" timeout="10s"',
        )
    return guard if nodes else None
