"""Signatures of snapshots: Ed25519, detached, docs/spec/nexfs-store.md.

Who verifies has the public key from elsewhere. A signature holds the snapshot's name and record,
and by the record's root every byte of its tree; that all of it is there is what a check says.
"""

from __future__ import annotations

from nexus.errors import CorruptError, EmptyError, VolumeCorruptError
from nexus.fs.state import SIGNABLE, Snapshot
from nexus.fs.volume import Volume
from nexus.physics.ledger import ed25519_verify
from nexus.seams.ledger import Signer

__all__ = ["SIGNATURES_MAX", "sign_snapshot", "signed_by"]

# Of one snapshot: every one is read by who verifies.
SIGNATURES_MAX = 64
_HEADER = b"NXSG\x01\x00\x01\x00"
_KEY = 32
_SIZE = len(_HEADER) + _KEY + 64


def _message(volume: bytes, snapshot: Snapshot, public: bytes) -> bytes:
    return b"".join((_HEADER, public, volume, snapshot.record(), snapshot.name.encode()))


def sign_snapshot(volume: Volume, name: str, signer: Signer) -> Snapshot:
    """Signs a snapshot; with a key that has signed it already nothing changes.

    Raises:
        NoVolumeError: there is none of this name.
        ValueError: it was taken before there were signatures, or has as many as it may.
    """
    snapshot = volume.snapshot(name)
    if not snapshot.flags & SIGNABLE:
        raise ValueError(f"{name} was taken before there were signatures; take a new snapshot")
    public = signer.public
    data = _HEADER + public + signer.sign(_message(volume.state.volume, snapshot, public))
    had = sum(number == snapshot.number for number, _ in volume.state.signatures)
    if had >= SIGNATURES_MAX and not signed_by(volume, name, public):
        raise ValueError(f"{name} has {had} signatures; more than {SIGNATURES_MAX} are not kept")
    volume.add_signature(snapshot, data)
    return snapshot


def signed_by(volume: Volume, name: str, public: bytes) -> bool:
    """Whether the owner of this key signed this snapshot of this volume.

    Raises:
        NoVolumeError: there is none of this name.
        VolumeCorruptError: no signature of the key is right, and one of somebody is lost.
    """
    snapshot = volume.snapshot(name)
    message = _message(volume.state.volume, snapshot, public)
    lost = False
    for number, identity in volume.state.signatures:
        if number != snapshot.number:
            continue
        try:
            data = volume.store.get(identity)
        except (CorruptError, EmptyError):
            lost = True
            continue
        whose = len(data) == _SIZE and data[:-64] == message[: len(_HEADER) + _KEY]
        if whose and ed25519_verify(public, message, data[-64:]):
            return True
    if lost:
        raise VolumeCorruptError(f"a signature of {name} is lost; it may be the one that is wanted")
    return False
