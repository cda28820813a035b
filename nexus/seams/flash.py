"""A medium of erase blocks: what a file, a block device, raw flash and the emulator have in common.

docs/spec/flash.md says what a medium may do and what its client must not ask.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Flash", "FlashKind"]


class FlashKind(enum.IntEnum):
    """What a medium is; the numbers are those of MTD where it has one."""

    RAM = 1
    NOR = 3
    NAND = 4
    MLC = 8
    FILE = 64
    DEVICE = 65


class Flash(Protocol):
    """Blocks that are erased, of pages that are programmed.

    Every verb raises OutOfRangeError outside the medium, MisalignedError off a page or block, and
    MediumGoneError once the medium has no power or is gone. All sizes and places are bytes.
    """

    @property
    def kind(self) -> int:
        """One of FlashKind."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the medium."""
        ...

    @property
    def block_size(self) -> int:
        """Bytes that one erase sets."""
        ...

    @property
    def page_size(self) -> int:
        """Bytes of the unit of program."""
        ...

    @property
    def oob_size(self) -> int:
        """Bytes beside each page."""
        ...

    @property
    def programs(self) -> int:
        """How often a page may be programmed between two erases."""
        ...

    @property
    def erased(self) -> int:
        """What an erased byte reads as."""
        ...

    @property
    def flips_max(self) -> int:
        """Corrected bits in one step from which data ought to move; 0: the medium has no ECC."""
        ...

    def read(self, at: int, size: int) -> tuple[bytes, int]:
        """Bytes, and the most bits that were corrected in one ECC step.

        Raises:
            UncorrectableError: more bits were wrong than ECC corrects; it has what was read.
        """
        ...

    def program(self, at: int, data: Buffer) -> None:
        """Write whole pages inside one block, in ascending order within it.

        Raises:
            MediumError: the medium refused; the block ought to be retired.
        """
        ...

    def erase(self, at: int) -> None:
        """Set the block that begins there to `erased`.

        Raises:
            MediumError: the medium refused; the block ought to be retired.
        """
        ...

    def oob_read(self, at: int, size: int) -> bytes:
        """Bytes beside a page, from its first on.

        Raises:
            AbsentError: there are none.
        """
        ...

    def oob_write(self, at: int, data: Buffer) -> None:
        """Write beside a page, from its first byte on; only clears bits."""
        ...

    def is_bad(self, at: int) -> bool:
        """Whether the block is marked bad."""
        ...

    def mark_bad(self, at: int) -> None:
        """Mark the block as bad, for good.

        Raises:
            AbsentError: the medium has no such marks.
        """
        ...

    def sync(self) -> None:
        """Return when all that was done before is on the medium."""
        ...

    def __flash__(self) -> object:
        """The medium for other extension modules: a capsule named "nexus.flash"."""
        ...
