"""`nexus fs`: volumes, and what is in them."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from nexus.cli.entry_text import (
    bytes_of,
    bytes_text,
    entry_line,
    entry_record,
    issue_lines,
    issue_record,
    name_record,
    name_text,
)
from nexus.cli.grammar import UsageError
from nexus.cli.long_work import explained, watched
from nexus.cli.output import Output
from nexus.fs import Report, Volume
from nexus.fs.volume import CLASSES
from nexus.seams.store import Entry

__all__ = ["run"]

EXIT_PARTIAL = 3
_STDIN = 0
NAMES = {number: name for name, number in CLASSES.items()}


def _facts(volume: Volume) -> dict[str, object]:
    state, store = volume.state, volume.store
    chunks = sum(records for _, records in store.segments())
    packs = sum(length for _, length in store.packs())
    health = store.health()
    return {
        "volume": os.fspath(volume.path),
        "id": state.volume.hex(),
        "generation": state.generation,
        "level": volume.level,
        "chunker": volume.chunker,
        "logical_bytes": state.logical,
        "stored_bytes": packs,
        "chunks": chunks,
        "packs": len(state.packs),
        "snapshots": len(state.snapshots),
        "form": "directory" if health is None else "log",
        "class": None if health is None else NAMES[health["class"]],
        "medium": health,
    }


def _medium_rows(health: dict[str, int]) -> list[tuple[str, str]]:
    return [
        ("class", NAMES[health["class"]]),
        ("medium", f"{bytes_text(health['bytes'])}, {bytes_text(health['bytes_free'])} free"),
        ("wear", f"{health['erases_min']} to {health['erases_max']} erases of a block"),
        ("bad blocks", f"{health['blocks_bad']} of {health['blocks']}"),
        ("corrected", f"{health['corrected']} reads since it was opened"),
    ]


def _show(volume: Volume, output: Output) -> None:
    facts = _facts(volume)
    if output.json:
        output.document("volume", facts)
        return
    state = volume.state
    stored = sum(length for _, length in volume.store.packs())
    health = volume.store.health()
    output.table(
        [
            ("volume", name_text(os.fsencode(volume.path))),
            ("id", state.volume.hex()),
            ("tree", f"{bytes_text(state.logical)} in files"),
            ("stored", f"{bytes_text(stored)} for it and all snapshots"),
            ("chunks", str(facts["chunks"])),
            ("snapshots", str(len(state.snapshots))),
            ("level", str(volume.level)),
            ("chunker", volume.chunker),
            ("commits", str(state.generation)),
            *([] if health is None else _medium_rows(health)),
        ]
    )


def _told(report: Report, output: Output) -> int:
    for line in issue_lines(report.issues):
        print(line, file=sys.stderr)
    return EXIT_PARTIAL if report.issues else 0


def _import(arguments: argparse.Namespace, output: Output) -> int:
    source, path = arguments.source, arguments.path
    if path is None and source == "-":
        raise UsageError("standard input has no name", hint="say where it goes: --as PATH")
    if path is None:
        path = Path(source).name
        if path in ("", ".."):
            path = Path(source).resolve().name
        if not path:
            raise UsageError(f"{source} has no name", hint="say where it goes: --as PATH")
    with Volume.open(arguments.volume, writes=True) as volume:

        def work() -> Report:
            report = volume.take_in(_STDIN if source == "-" else source, os.fsencode(path))
            volume.commit()
            return report

        report = watched(work, volume.store, output, "importing", quiet=arguments.quiet)
    if output.json:
        body = {
            "volume": arguments.volume,
            **name_record("path", os.fsencode(path)),
            "files": report.files,
            "bytes": report.bytes,
            "new_bytes": report.new_bytes,
            "stored_bytes": report.stored_bytes,
            "issues": [issue_record(one) for one in report.issues],
        }
        output.document("imported", body)
        return EXIT_PARTIAL if report.issues else 0
    output.line(
        f"{report.files} files, {bytes_text(report.bytes)}: {bytes_text(report.new_bytes)} new, "
        f"{bytes_text(report.stored_bytes)} stored"
    )
    return _told(report, output)


def _export(arguments: argparse.Namespace, output: Output) -> int:
    with Volume.open(arguments.volume) as volume:

        def work() -> Report:
            path = os.fsencode(arguments.path)
            return volume.put_out(path, arguments.target, snapshot=arguments.snapshot)

        report = watched(work, volume.store, output, "exporting", quiet=arguments.quiet)
    if output.json:
        body = {
            "volume": arguments.volume,
            **name_record("path", os.fsencode(arguments.path)),
            **name_record("target", os.fsencode(arguments.target)),
            "snapshot": arguments.snapshot,
            "files": report.files,
            "bytes": report.bytes,
            "issues": [issue_record(one) for one in report.issues],
        }
        output.document("exported", body)
        return EXIT_PARTIAL if report.issues else 0
    output.line(f"{report.files} files, {bytes_text(report.bytes)}")
    return _told(report, output)


def _entries(volume: Volume, arguments: argparse.Namespace) -> Iterator[tuple[bytes, Entry]]:
    path, snapshot = os.fsencode(arguments.path), arguments.snapshot
    if not stat.S_ISDIR(volume.find(path, snapshot=snapshot).mode):
        yield path, volume.find(path, snapshot=snapshot)
    elif arguments.recursive:
        for below, entry in volume.walk(path, snapshot=snapshot):
            if below:
                yield below, entry
    else:
        for entry in volume.entries(path, snapshot=snapshot):
            yield entry.name, entry


def _list(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume) as volume:
        entries = _entries(volume, arguments)
        if output.json:
            items = [entry_record(path, entry) for path, entry in entries]
            output.document("entries", {"items": items})
            return
        for path, entry in entries:
            output.line(entry_line(path, entry))


def _cat(arguments: argparse.Namespace, output: Output) -> None:
    path = os.fsencode(arguments.path)
    with Volume.open(arguments.volume) as volume:
        pieces = volume.read(path, snapshot=arguments.snapshot)
        if output.json:
            import base64  # seldom needed

            coded = base64.b64encode(b"".join(pieces)).decode()
            output.document("content", {**name_record("path", path), "base64": coded})
            return
        sys.stdout.flush()
        for piece in pieces:
            sys.stdout.buffer.write(piece)


def _delete_path(arguments: argparse.Namespace, output: Output) -> None:
    path = os.fsencode(arguments.path)
    with Volume.open(arguments.volume, writes=arguments.yes) as volume:
        files = bytes_ = 0
        for _, entry in volume.walk(path):
            if stat.S_ISREG(entry.mode):
                files, bytes_ = files + 1, bytes_ + entry.size
        if arguments.yes:
            volume.take_away(path)
    if output.json:
        body = {"volume": arguments.volume, **name_record("path", path), "done": arguments.yes}
        output.document("deleted", {**body, "files": files, "bytes": bytes_})
        return
    verb = "deleted" if arguments.yes else "would delete"
    output.line(f"{verb} {name_text(path)}: {files} files, {bytes_text(bytes_)}")
    if not arguments.yes:
        output.line("nothing was done; --yes does it")


def _delete_all(arguments: argparse.Namespace, output: Output) -> None:
    with Volume.open(arguments.volume, writes=arguments.yes) as volume:
        facts = _facts(volume)
        if arguments.yes:
            volume.erase()
    if output.json:
        body = {"volume": arguments.volume, "path": "/", "done": arguments.yes}
        output.document("deleted", {**body, "files": None, "bytes": facts["logical_bytes"]})
        return
    verb = "deleted" if arguments.yes else "would delete"
    output.line(
        f"{verb} the volume {arguments.volume}: {bytes_text(volume.state.logical)} in files, "
        f"{facts['snapshots']} snapshots"
    )
    if not arguments.yes:
        output.line("nothing was done; --yes does it")


def _delete(arguments: argparse.Namespace, output: Output) -> None:
    if arguments.all == (arguments.path is not None):
        raise UsageError("what is to be deleted?", hint="give a PATH, or --all for the volume")
    (_delete_all if arguments.all else _delete_path)(arguments, output)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Make, fill, look at or empty a volume."""
    with explained(arguments.volume):
        match arguments.verb:
            case "import":
                return _import(arguments, output)
            case "export":
                return _export(arguments, output)
            case "create":
                size = None if arguments.size is None else bytes_of(arguments.size)
                with Volume.create(
                    arguments.volume,
                    level=arguments.level,
                    size=size,
                    storage_class=arguments.storage_class,
                    chunker=arguments.chunker,
                    keyed=arguments.keyed,
                ) as volume:
                    _show(volume, output)
            case "show":
                with Volume.open(arguments.volume) as volume:
                    _show(volume, output)
            case "list":
                _list(arguments, output)
            case "cat":
                _cat(arguments, output)
            case _:
                _delete(arguments, output)
    return 0
