"""Events of the truth ledger as bytes: docs/spec/stl.md."""

from __future__ import annotations

import struct

from nexus._core.hash import crc32c
from nexus.errors import CorruptError
from nexus.seams.events import Event, EventKind

__all__ = ["EVENT_BYTES", "decode_event", "encode_event"]

EVENT_BYTES = 64
_EVENT = struct.Struct("<HH7QI")


def encode_event(
    kind: EventKind,
    *,
    time_ns: int,
    fiber: int,
    entity: int,
    cause: int,
    data: tuple[int, int, int],
) -> bytes:
    """The 64 bytes of an event."""
    head = _EVENT.pack(kind, 0, time_ns, fiber, entity, cause, *data, 0)[:-4]
    return head + crc32c(head).to_bytes(4, "little")


def decode_event(raw: bytes, id: int) -> Event:
    """The event that 64 bytes hold.

    Raises:
        CorruptError: the check is wrong, the kind unknown or a reserved field in use.
    """
    if len(raw) != EVENT_BYTES:
        raise CorruptError(f"event {id} has {len(raw)} bytes, not {EVENT_BYTES}")
    kind, reserved, time_ns, fiber, entity, cause, one, two, three, check = _EVENT.unpack(raw)
    if check != crc32c(raw[:-4]):
        raise CorruptError(f"event {id} has the check {check:#010x}, its bytes another")
    try:
        known = EventKind(kind)
    except ValueError:
        raise CorruptError(f"event {id} has the kind {kind}, which is none") from None
    if reserved:
        raise CorruptError(f"event {id} uses a reserved field")
    return Event(id, known, time_ns, fiber, entity, cause, (one, two, three), bytes(raw))
