"""What a fiber can do: its checkpoint, its channels, its files, its time.

Theory of operation. The supervisor hands a fiber numbered descriptors and says in NEXUS_FIBER which
is what. A life begins when the life page says so; before that the program may have been started
ahead, as a standby. The page also says which checkpoint of an earlier life may be restored: its
lowest sequence and its epoch. Whatever does not fit both, or another image, is not restored.

Not handled: a fiber has one thread that talks to a channel at a time, as a ring demands.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar, overload

from nexus.errors import CorruptError, HandlesError, NoHandleError, RevokedError
from nexus.fiber.channel import Channel, RecordChannel
from nexus.physics import CheckpointSlot, LifePage, Ring, fiber_name, give_up_cpu

if TYPE_CHECKING:
    from nexus.physics import FiberHandles

__all__ = ["Context"]

R = TypeVar("R", bound=NamedTuple)


class Context:
    """Made by `nexus.fiber.run`, once a life.

    Attributes:
        name: what the manifest calls this fiber; empty when nobody said.
        life: number of this life, from 1.
        restored: the blob of the checkpoint that this life goes on from; None: a cold start.
    """

    name: str
    life: int
    restored: bytes | None

    def __init__(self, handles: FiberHandles) -> None:
        """Attach what was given, and sleep until the life begins.

        Raises:
            HandlesError: a descriptor is not what NEXUS_FIBER says.
        """
        self.name = fiber_name()
        self.life = 1
        self.restored = None
        self._files = handles.files
        self._ends: dict[str, Channel[bytes]] = {}
        self._slot: CheckpointSlot | None = None
        self._image = self._epoch = 0
        for name, (number, way) in handles.channels.items():
            self._ends[name] = Channel(name, way, _attach_ring(name, number))
            if handles.life is not None:
                self._ends[name].ring.heed(handles.life, number, f"the channel {name!r}")
        page = None if handles.life is None else _attach_page(handles.life)
        self._page = page
        if page is not None:
            page.wait()
            self.life = page.life
            self._image, self._epoch = page.image, page.own_epoch
        if self.life > 1:
            # The supervisor has ended the last life, which in its own pid namespace nobody else
            # can tell from a living one.
            for name, (_, way) in handles.channels.items():
                self._ends[name].ring.succeed("consumer" if way == "read" else "producer")
        if handles.checkpoint is not None:
            # Not before: until then the last life may be at work on it.
            self._slot = _attach_slot(handles.checkpoint)
            if page is not None and page.floor != 0:
                found = self._slot.restore(image=page.image, epoch=page.epoch, floor=page.floor)
                self.restored = None if found is None else found.blob

    def checkpoint(self, blob: bytes) -> int:
        """Save what the next life needs to go on from here.

        Args:
            blob: at most 32,768 bytes.

        Returns:
            The number of the save. It is safe when this returns.

        Raises:
            TooLargeError: the blob is larger; the last checkpoint stays.
            NoHandleError: this fiber has no checkpoint slot.
        """
        if self._slot is None:
            raise NoHandleError("this fiber has no checkpoint slot")
        return self._slot.save(blob, image=self._image, epoch=self._epoch)

    @overload
    def channel(self, name: str) -> Channel[bytes]: ...
    @overload
    def channel(self, name: str, record: type[R]) -> Channel[R]: ...

    def channel(self, name: str, record: type[R] | None = None) -> Channel[bytes] | Channel[R]:
        """This fiber's end of a channel.

        Args:
            name: the channel's name.
            record: a NamedTuple of fixed-width numbers; without it, records are bytes.

        Raises:
            NoHandleError: this fiber was given no such channel.
            RecordError: the record type has a field without a fixed width.
        """
        end = self._ends.get(name)
        if end is None:
            known = ", ".join(sorted(self._ends)) or "none"
            raise NoHandleError(f"no channel {name!r}; there is: {known}")
        return end if record is None else RecordChannel(end, record)

    def open(self, name: str) -> io.FileIO:
        """What the fiber's owner opened for it, as a binary file.

        Without a buffer: what was written before a kill is written. Each call gives a descriptor
        of its own; the position in the file is common to all.

        Raises:
            NoHandleError: nothing was opened under this name.
            RevokedError: its owner has taken it back.
        """
        number = self._files.get(name)
        if number is None:
            known = ", ".join(sorted(self._files)) or "none"
            raise NoHandleError(f"nothing is opened as {name!r}; there is: {known}")
        if self._page is not None and self._page.revoked >> number & 1:
            raise RevokedError(f"what is opened as {name!r} was revoked")
        own = os.dup(number)
        return io.FileIO(own, _mode(own))

    def yield_(self) -> None:
        """Give the CPU up, so that a burst of the time budget ends; comes back soon."""
        give_up_cpu()

    def sleep_until(self, when: float) -> None:
        """Sleep until a time of `time.monotonic()`; not at all when it has passed."""
        while (left := when - time.monotonic()) > 0:
            time.sleep(left)

    def periodic(self, seconds: float) -> Iterator[int]:
        """Begin a cycle every so many seconds, the first at once, without drift.

        Yields the number of the cycle. A cycle that took longer than its time is followed at once
        by the one whose turn it is, on the old phase: the number jumps over those that were missed.

        Raises:
            ValueError: the period is not above 0.
        """
        if not seconds > 0:
            raise ValueError(f"a period is above 0, not {seconds!r}")
        return self._cycles(seconds)

    def _cycles(self, seconds: float) -> Iterator[int]:
        start = time.monotonic()
        number = 0
        while True:
            self.sleep_until(start + number * seconds)
            yield number
            number = max(number + 1, int((time.monotonic() - start) / seconds))


def _mode(descriptor: int) -> str:
    import fcntl

    access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    return {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "rb+"}[access]


def _attach_ring(name: str, number: int) -> Ring:
    try:
        # Its owner can take a channel away; that ends the fiber, and is meant to.
        return Ring.attach(number, revocable=True)
    except (CorruptError, OSError) as error:
        raise HandlesError(f"descriptor {number} is not the channel {name!r}: {error}") from error


def _attach_page(number: int) -> LifePage:
    try:
        return LifePage.attach(number)
    except (ValueError, OSError) as error:
        raise HandlesError(f"descriptor {number} is no life page: {error}") from error


def _attach_slot(number: int) -> CheckpointSlot:
    try:
        return CheckpointSlot.attach(number)
    except (ValueError, OSError) as error:
        raise HandlesError(f"descriptor {number} is no checkpoint slot: {error}") from error
