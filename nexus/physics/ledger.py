"""A ledger's folder on disk, and Ed25519 as PyNaCl has it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nacl.bindings import crypto_sign as nacl_sign
from nacl.bindings import crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

__all__ = ["Ed25519Signer", "FolderStore", "ed25519_verify"]

_NAME = re.compile(r"chain-\d{8}\.nxl")
_SEED_BYTES = 32


class FolderStore:
    """Files of one folder; implements `nexus.seams.ledger.LedgerStore`.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[str, int] | None = None

    def close(self) -> None:
        """Close the file that is written."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def names(self) -> list[str]:
        """The files."""
        return sorted(one.name for one in self._folder.iterdir() if _NAME.fullmatch(one.name))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self._folder / name).stat().st_size

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a file."""
        with (self._folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _writer(self, name: str) -> int:
        if self._open is not None and self._open[0] == name:
            return self._open[1]
        self.close()
        path = self._folder / name
        new = not path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        self._open = name, descriptor
        if new:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return descriptor

    def append(self, name: str, data: bytes) -> None:
        """Write at the end of a file."""
        descriptor = self._writer(name)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, name: str) -> None:
        """Have the file's bytes written to the disk."""
        os.fdatasync(self._writer(name))

    def truncate(self, name: str, size: int) -> None:
        """Cut the end of a file off."""
        descriptor = self._writer(name)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)

    def remove(self, name: str) -> None:
        """Take a file away."""
        self.close()
        (self._folder / name).unlink()


class Ed25519Signer:
    """Signs with a secret seed; implements `nexus.seams.ledger.Signer`.

    Args:
        seed: 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _SEED_BYTES:
            raise ValueError(f"a seed has {_SEED_BYTES} bytes, not {len(seed)}")
        self.public, self._secret = crypto_sign_seed_keypair(seed)

    def sign(self, data: bytes) -> bytes:
        """The signature."""
        return nacl_sign(data, self._secret)[:crypto_sign_BYTES]


def ed25519_verify(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether a signature of data is that of a key."""
    try:
        crypto_sign_open(signature + data, public)
    except (BadSignatureError, ValueError):
        return False
    return True
