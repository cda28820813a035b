"""`nexus verify`: the proof of a node's ledger."""

from __future__ import annotations

import argparse
import os

from nexus.cli.keys import public_key
from nexus.cli.output import Output
from nexus.errors import LedgerError, NodeDownError
from nexus.logic.ledger import Proof, verify
from nexus.membrane.directory import NodeDirectory, find_node
from nexus.physics.ledger import FolderStore, ed25519_verify

__all__ = ["run"]


def _key(text: str | None, directory: NodeDirectory) -> bytes:
    if text is not None:
        return public_key(text)
    try:
        return directory.public_key.read_bytes()
    except OSError as error:
        raise NodeDownError(
            f"cannot read {directory.public_key}: {error.strerror}",
            hint="nexus boot makes a node; or give the key with --key",
        ) from error


def _record(proof: Proof) -> dict[str, object]:
    bad = None
    if proof.bad is not None:
        bad = dict(zip(("file", "sequence", "why"), proof.bad, strict=True))
    return {
        "files": proof.files,
        "records": proof.records,
        "events": proof.events,
        "seals": proof.seals,
        "lost": proof.lost,
        "unsigned": proof.unsigned,
        "key": proof.key.hex(),
        "bad": bad,
    }


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Prove, and say what was proved."""
    directory = find_node(arguments.node, os.environ)
    key = _key(arguments.key, directory)
    try:
        proof = verify(FolderStore(directory.ledger), key, ed25519_verify)
    except OSError as error:
        raise NodeDownError(
            f"cannot read {directory.ledger}: {error.strerror}", hint="nexus boot makes a node"
        ) from error
    if output.json:
        output.document("proof", _record(proof))
    else:
        output.line(
            f"{proof.records} records in {proof.files} files follow from each other: "
            f"{proof.events} events, {proof.seals} seals by {proof.key.hex()[:16]}"
        )
        if proof.unsigned:
            output.line(f"{proof.unsigned} records after the last seal are chained, not signed")
        if proof.lost:
            output.line(f"{proof.lost} events came faster than they could be written")
    if proof.bad is not None:
        name, sequence, why = proof.bad
        raise LedgerError(
            f"{name}: record {sequence}: {why}",
            hint="what comes from there on proves nothing; all before it holds",
        )
    return 0
