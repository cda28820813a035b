"""`nexus beb show`: what the supervisor wrote into its error buffer, also after its death."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict

from nexus.cli.output import Output
from nexus.errors import NodeDownError
from nexus.membrane.directory import find_node
from nexus.physics.beb import BEBRecord, read_error_buffer
from nexus.seams.events import EventKind

__all__ = ["run"]


def _title(record: BEBRecord) -> str:
    try:
        return EventKind(record.kind).title
    except ValueError:
        return str(record.kind)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the records; 1 when some are damaged."""
    path = find_node(arguments.node, os.environ).beb
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NodeDownError(
            f"cannot read {path}: {error.strerror}", hint="nexus boot makes a node"
        ) from error
    buffer = read_error_buffer(data)
    records = buffer.records[-arguments.last :] if arguments.last else buffer.records
    if output.json:
        items = [{**asdict(record), "title": _title(record)} for record in records]
        output.document(
            "beb",
            {"generation": buffer.generation, "damaged": buffer.damaged, "items": items},
        )
        return 1 if buffer.damaged else 0
    heads = ("sequence", "generation", "seconds", "kind", "code", "slot", "data")
    rows = [
        (
            str(record.sequence),
            str(record.generation),
            f"{record.time_ns / 1e9:.3f}",
            _title(record),
            str(record.code),
            str((record.fiber & 0xFFFFFFFF) - 1) if record.fiber else "-",
            " ".join(str(number) for number in record.data),
        )
        for record in records
    ]
    output.table([heads, *rows])
    output.line(
        f"{len(buffer.records)} records, {buffer.damaged} damaged, generation {buffer.generation}"
    )
    return 1 if buffer.damaged else 0
