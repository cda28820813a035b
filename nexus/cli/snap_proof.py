"""`nexus snap prove` and `verify-proof`: what a tree has at a path, for who has only its id."""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path

from nexus.cli.entry_text import entry_line, entry_record, name_record, name_text
from nexus.cli.grammar import UsageError
from nexus.cli.long_work import explained
from nexus.cli.output import Output
from nexus.errors import VolumeExistsError
from nexus.fs import Volume
from nexus.fs.proof import PROOF_MAX, Statement, check_proof, make_proof, matches

__all__ = ["run"]

EXIT_DIFFERENT = 1


def _write_new(path: str, data: bytes) -> None:
    try:
        with Path(path).open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise VolumeExistsError(f"{path} is there already", hint="choose another name") from None


def _prove(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.output is None and not output.json and sys.stdout.isatty():
        raise UsageError("a proof is no text", hint="write it to a file: -o FILE")
    path = os.fsencode(arguments.path)
    with explained(arguments.volume), Volume.open(arguments.volume) as volume:
        root = volume.snapshot(arguments.name).root
        proof = make_proof(volume, root, path, whole=arguments.whole)
        if arguments.output is not None:
            _write_new(arguments.output, proof)
    absent = check_proof(proof, root).entry is None
    if output.json:
        body = {
            "snapshot": arguments.name,
            "root": root.hex(),
            **name_record("path", path),
            "absent": absent,
            "bytes": len(proof),
            "base64": None if arguments.output else base64.b64encode(proof).decode(),
        }
        output.document("proved", body)
    elif arguments.output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(proof)
    else:
        what = "is not there" if absent else "is there"
        output.line(f"{name_text(path)} {what} in tree {root.hex()}: {len(proof)} bytes prove it")
    return 0


def _compared(statement: Statement, path: str | None) -> bool | None:
    if path is None:
        return None
    if statement.pieces is None:
        hint = "nexus snap prove with --whole makes one of a file"
        raise UsageError("the proof has not the ids of a file's pieces", hint=hint)
    with Path(path).open("rb") as file:
        return matches(statement, file.read)


def _verify(arguments: argparse.Namespace, output: Output) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", arguments.root):
        raise UsageError("a root is 64 hexadecimal digits", hint="snap list --json shows it")
    with explained(arguments.file):
        with Path(arguments.file).open("rb") as file:
            data = file.read(PROOF_MAX + 1)
        statement = check_proof(data, bytes.fromhex(arguments.root))
        same = _compared(statement, arguments.local)
    path, entry = statement.path, statement.entry
    if output.json:
        body = {
            "root": statement.root.hex(),
            **name_record("path", path),
            "absent": entry is None,
            "entry": None if entry is None else entry_record(path, entry),
            "same": same,
        }
        output.document("statement", body)
    else:
        shown = name_text(path) or "/"
        output.line(f"{shown} is not there" if entry is None else entry_line(path, entry))
        if entry is not None and entry.id is not None:
            output.line(f"its content is {entry.id.hex()}")
        if same is not None:
            output.line(f"{arguments.local} is {'it' if same else 'something else'}")
    return EXIT_DIFFERENT if same is False else 0


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Make a proof, or check one."""
    return (_prove if arguments.verb == "prove" else _verify)(arguments, output)
