"""`nexus snap`: the snapshots of a volume."""

from __future__ import annotations

import argparse

from nexus.cli.entry_text import bytes_text, entry_record, name_record, name_text, time_text
from nexus.cli.long_work import explained
from nexus.cli.output import Output
from nexus.errors import VolumeBusyError
from nexus.fs import Change, Volume
from nexus.fs.live import ask_snapshot
from nexus.fs.state import Snapshot

__all__ = ["run"]

_SIGNS = {"added": "+", "removed": "-", "changed": "M"}
_NS = 1_000_000_000


def _record(snapshot: Snapshot) -> dict[str, object]:
    return {
        "name": snapshot.name,
        "number": snapshot.number,
        "time_ns": snapshot.time_ns,
        "logical_bytes": snapshot.logical,
        "root": snapshot.root.hex(),
        "parent": snapshot.parent.hex(),
    }


def _create(arguments: argparse.Namespace, output: Output) -> None:
    try:
        with Volume.open(arguments.volume, writes=True) as volume:
            snapshot = volume.take_snapshot(arguments.name)
    except VolumeBusyError:
        if not ask_snapshot(arguments.volume, arguments.name):
            raise
        with Volume.open(arguments.volume) as volume:
            snapshot = volume.snapshot(arguments.name)
    if output.json:
        output.document("snapshot", _record(snapshot))
    else:
        output.line(f"snapshot {snapshot.name}: {bytes_text(snapshot.logical)} in files")


def _list(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume) as volume:
        snapshots = volume.snapshots
    if output.json:
        output.document("snapshots", {"items": [_record(one) for one in snapshots]})
        return
    if not snapshots:
        output.line("no snapshots")
        return
    rows = [
        (one.name, time_text(one.time_ns // _NS), bytes_text(one.logical), one.root.hex()[:16])
        for one in snapshots
    ]
    output.table([("name", "taken", "in files", "tree"), *rows])


def _change(change: Change) -> dict[str, object]:
    before, after = change.before, change.after
    return {
        "kind": change.kind,
        **name_record("path", change.path),
        "before": None if before is None else entry_record(change.path, before),
        "after": None if after is None else entry_record(change.path, after),
    }


def _diff(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume) as volume:
        changes = volume.differences(arguments.old, arguments.new)
        if output.json:
            output.document("changes", {"items": [_change(one) for one in changes]})
            return
        for one in changes:
            output.line(f"{_SIGNS[one.kind]} {name_text(one.path) or '/'}")


def _restore(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume, writes=not arguments.dry_run) as volume:
        snapshot = volume.snapshot(arguments.name)
        kept = volume.state.head in {one.root for one in volume.snapshots}
        done = not arguments.dry_run and (arguments.yes or kept)
        lost = 0 if kept else volume.state.logical
        if done:
            volume.roll_back(snapshot.name)
    if output.json:
        body = {**_record(snapshot), "done": done, "kept": kept}
        output.document("restored", body)
        return
    verb = "the tree is" if done else "the tree would be"
    output.line(f"{verb} that of {snapshot.name}: {bytes_text(snapshot.logical)} in files")
    if not kept:
        verb = "was" if done else "is"
        output.line(f"the one before, {bytes_text(lost)} in files, {verb} in no snapshot")
    if not done:
        output.line("nothing was done; --yes does it")


def _delete(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume, writes=arguments.yes) as volume:
        snapshot = volume.snapshot(arguments.name)
        if arguments.yes:
            volume.forget_snapshot(snapshot.name)
    if output.json:
        output.document("forgotten", {**_record(snapshot), "done": arguments.yes})
        return
    verb = "deleted" if arguments.yes else "would delete"
    taken = time_text(snapshot.time_ns // _NS)
    output.line(f"{verb} snapshot {snapshot.name} of {taken}")
    if not arguments.yes:
        output.line("nothing was done; --yes does it")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Take, list, compare, go back to or delete."""
    verbs = {
        "create": _create,
        "list": _list,
        "diff": _diff,
        "restore": _restore,
        "delete": _delete,
    }
    with explained(arguments.volume):
        verbs[arguments.verb](arguments, output)
    return 0
