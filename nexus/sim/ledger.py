"""A ledger's folder in memory, which can lose what was not synced, and a signer that is none."""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["MemoryStore", "SumSigner", "sum_verify"]


class MemoryStore:
    """Implements `nexus.seams.ledger.LedgerStore`."""

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self._safe: dict[str, int] = {}

    def crash(self, kept: int) -> None:
        """Lose power: of what was not synced, `kept` bytes of each file stay."""
        for name, data in self.files.items():
            del data[self._safe.get(name, 0) + kept :]

    def names(self) -> list[str]:
        """The files."""
        return sorted(self.files)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return len(self.files[name])

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a file."""
        return bytes(self.files[name][offset : offset + size])

    def append(self, name: str, data: bytes) -> None:
        """Write at the end."""
        self.files.setdefault(name, bytearray()).extend(data)

    def sync(self, name: str) -> None:
        """What is there stays there."""
        self._safe[name] = len(self.files[name])

    def truncate(self, name: str, size: int) -> None:
        """Cut the end off."""
        del self.files[name][size:]
        self._safe[name] = min(size, self._safe.get(name, 0))

    def remove(self, name: str) -> None:
        """Take a file away."""
        del self.files[name]
        self._safe.pop(name, None)


class SumSigner:
    """Implements `nexus.seams.ledger.Signer` with a sum that anyone can make: for tests alone."""

    def __init__(self, public: bytes = bytes(31) + b"\1") -> None:
        self.public = public

    def sign(self, data: bytes) -> bytes:
        """A sum of the data."""
        return _sum(self.public, data)


def _sum(public: bytes, data: bytes) -> bytes:
    return hashlib.sha512(public + data).digest()


def sum_verify(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `SumSigner` would sign so."""
    return hmac.compare_digest(_sum(public, data), signature)
