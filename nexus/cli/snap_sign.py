"""`nexus snap sign` and `verify`: who says that a snapshot is what it is."""

from __future__ import annotations

import argparse

from nexus.cli.keys import public_key, secret_seed
from nexus.cli.long_work import explained
from nexus.cli.output import Output
from nexus.fs import Volume
from nexus.fs.signature import sign_snapshot, signed_by
from nexus.fs.state import Snapshot
from nexus.physics.ledger import Ed25519Signer

__all__ = ["run"]

EXIT_UNSIGNED = 1


def _record(snapshot: Snapshot, public: bytes) -> dict[str, object]:
    return {
        "name": snapshot.name,
        "number": snapshot.number,
        "root": snapshot.root.hex(),
        "key": public.hex(),
    }


def _sign(arguments: argparse.Namespace, output: Output) -> int:
    signer = Ed25519Signer(secret_seed(arguments.key))
    with Volume.open(arguments.volume, writes=True) as volume:
        snapshot = sign_snapshot(volume, arguments.name, signer)
    if output.json:
        output.document("signed", _record(snapshot, signer.public))
        return 0
    output.line(f"snapshot {snapshot.name} is signed by {signer.public.hex()}")
    return 0


def _verify(arguments: argparse.Namespace, output: Output) -> int:
    public = public_key(arguments.key)
    with Volume.open(arguments.volume) as volume:
        snapshot = volume.snapshot(arguments.name)
        right = signed_by(volume, snapshot.name, public)
    if output.json:
        output.document("signature", {**_record(snapshot, public), "signed": right})
    elif right:
        output.line(f"snapshot {snapshot.name} is signed by this key, tree {snapshot.root.hex()}")
    else:
        output.line(f"snapshot {snapshot.name} is not signed by this key")
    return 0 if right else EXIT_UNSIGNED


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Sign a snapshot, or say whether it is signed."""
    with explained(arguments.volume):
        return (_sign if arguments.verb == "sign" else _verify)(arguments, output)
