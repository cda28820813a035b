"""A channel, as a fiber sees its end of it: bytes, or records of one type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Literal, NamedTuple, NoReturn, TypeVar

from nexus.errors import DeadlineError, NoHandleError
from nexus.fiber.record import Layout
from nexus.physics import Ring

__all__ = ["Channel", "RecordChannel"]

T = TypeVar("T")
R = TypeVar("R", bound=NamedTuple)


class Channel(Generic[T]):
    """One end of a channel; iterating a reading end takes records for ever.

    A record is consumed when `recv` returns: one that was taken and not worked on is gone with the
    life. What must not be lost belongs into the checkpoint, or is asked for again.

    Attributes:
        name: the channel's name.
        way: "read" or "write": which end this is, its owner decided.
        ring: what is underneath, with batches, records in place, and counters.
    """

    def __init__(self, name: str, way: Literal["read", "write"], ring: Ring) -> None:
        self.name = name
        self.way: Literal["read", "write"] = way
        self.ring = ring

    def send(self, data: T, timeout: float | None = None) -> None:
        """Append a record, asleep while there is no room for it.

        Raises:
            DeadlineError: there was no room within `timeout` seconds.
            TooLargeError: there never will be.
            RecordError: it is not what this channel carries.
            NoHandleError: this is the reading end.
            RevokedError: this end or the other was taken; also while asleep.
        """
        if self.way != "write":
            self._wrong_end("write")
        if not self.ring.send(self._pack(data), timeout):
            raise DeadlineError(f"no room in the channel {self.name!r} for {timeout} s")

    def try_send(self, data: T) -> bool:
        """Append a record; False when there is no room for it. Raises as `send`."""
        if self.way != "write":
            self._wrong_end("write")
        return self.ring.put(self._pack(data))

    def recv(self, timeout: float | None = None) -> T:
        """Take the next record, asleep until there is one.

        Raises:
            DeadlineError: none came within `timeout` seconds.
            PeerRecordError: what came is not what this channel carries; it is consumed.
            NoHandleError: this is the writing end.
            RevokedError: as `send`.
        """
        if self.way != "read":
            self._wrong_end("read")
        data = self.ring.recv(timeout)
        if data is None:
            raise DeadlineError(f"no record in the channel {self.name!r} for {timeout} s")
        return self._unpack(data)

    def try_recv(self) -> T | None:
        """Take the next record; None when there is none. Raises as `recv`."""
        if self.way != "read":
            self._wrong_end("read")
        data = self.ring.get()
        return None if data is None else self._unpack(data)

    def __iter__(self) -> Iterator[T]:
        while True:
            yield self.recv()

    def _wrong_end(self, verb: str) -> NoReturn:
        raise NoHandleError(f"this fiber may not {verb} the channel {self.name!r}, only {self.way}")

    def _pack(self, data: T, /) -> bytes:
        return data  # type: ignore[return-value]

    def _unpack(self, data: bytes, /) -> T:
        return data  # type: ignore[return-value]


class RecordChannel(Channel[R]):
    """A channel of records of one type."""

    def __init__(self, end: Channel[bytes], kind: type[R]) -> None:
        super().__init__(end.name, end.way, end.ring)
        layout = Layout(kind)
        self._pack = layout.pack  # type: ignore[method-assign]
        self._unpack = layout.unpack  # type: ignore[method-assign]
