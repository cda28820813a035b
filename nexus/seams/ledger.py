"""What a ledger is kept in, and by whom it is signed."""

from __future__ import annotations

from typing import Protocol

__all__ = ["LedgerStore", "Signer"]


class LedgerStore(Protocol):
    """A folder of files that only grow, but for a tail that a crash tore."""

    def names(self) -> list[str]:
        """The files, in order of their names."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of a file; fewer where it ends."""
        ...

    def append(self, name: str, data: bytes) -> None:
        """Write at the end of a file, which is made when missing."""
        ...

    def sync(self, name: str) -> None:
        """Return when the file's bytes will survive a loss of power."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Cut the end of a file off."""
        ...

    def remove(self, name: str) -> None:
        """Take a file away."""
        ...


class Signer(Protocol):
    """The node's key."""

    @property
    def public(self) -> bytes:
        """32 bytes."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...
