"""`nexus fs gc`: gives back the room of what neither the tree nor a snapshot needs."""

from __future__ import annotations

import argparse
import time

from nexus.cli.entry_text import bytes_text
from nexus.cli.grammar import UsageError
from nexus.cli.long_work import explained, watched
from nexus.cli.output import Output
from nexus.fs import Volume
from nexus.fs.sweep import Plan, Sweep
from nexus.seams.store import ContentStore

__all__ = ["run"]

EXIT_PARTIAL = 3
PAUSE_S = 0.1


class _Work:
    """A sweep in a thread, and how far it is for whoever looks."""

    def __init__(self, volume: Volume, arguments: argparse.Namespace) -> None:
        self._volume = volume
        self._arguments = arguments
        self._all = self._done = 0
        self.needed = self.missing = 0

    def shown(self, doing: str, _: ContentStore) -> str:
        if not self._all:
            return f"{doing}: looking what is needed"
        return f"{doing}: {bytes_text(self._done)} of {bytes_text(self._all)} in packs"

    def __call__(self) -> Plan:
        limit = self._arguments.limit
        with Sweep(self._volume) as sweep:
            plan = sweep.plan(keep_pack=self._arguments.keep_pack)
            self.needed, self.missing, _ = sweep.marks
            if self._arguments.dry_run:
                return plan
            self._all = plan.length
            for step in sweep.steps(plan):
                self._done += step.length
                if limit and step.live:
                    self._pause(step.length / limit)
            return plan

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._volume.store.cancelled():
            time.sleep(min(PAUSE_S, seconds))


def _text(plan: Plan, before: int, after: int, output: Output, *, done: bool) -> None:
    if done:
        output.line(
            f"{len(plan.steps)} packs went: {bytes_text(before)} stored before, "
            f"{bytes_text(after)} now"
        )
    else:
        output.line(f"{len(plan.steps)} packs would go: {bytes_text(plan.freed)} would be free")
    if plan.kept_dead:
        output.line(f"{bytes_text(plan.kept_dead)} that nothing needs stay in packs that are kept")
    for number in plan.damaged:
        output.line(f"damaged: pack {number} stays as it is; nexus fs check tells more")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Mark, move, drop, pack by pack."""
    if not 0 <= arguments.keep_pack <= 1:
        raise UsageError(f"{arguments.keep_pack} is no part of a pack", hint="0 to 1")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("nothing can be done at no rate", hint="--limit takes bytes a second")
    done = not arguments.dry_run
    with explained(arguments.volume), Volume.open(arguments.volume, writes=done) as volume:
        work = _Work(volume, arguments)
        before = volume.stored
        plan = watched(
            work, volume.store, output, "collecting", quiet=arguments.quiet, shown=work.shown
        )
        after = volume.stored
        waiting = volume.waiting if done else 0
    code = EXIT_PARTIAL if plan.damaged else 0
    if output.json:
        body = {
            "volume": arguments.volume,
            "done": done,
            "needed": work.needed,
            "missing": work.missing,
            "packs": len(plan.steps),
            "freed_bytes": before - after if done else plan.freed,
            "stored_bytes": after,
            "kept_dead_bytes": plan.kept_dead,
            "waiting_packs": waiting,
            "damaged_packs": list(plan.damaged),
        }
        output.document("collected", body)
        return code
    _text(plan, before, after, output, done=done)
    if waiting:
        output.line(f"{waiting} packs wait for a reader: the next command that writes removes them")
    return code
