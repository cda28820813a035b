"""A channel's ring, looked at from outside: its counters, mapped for reading alone."""

from __future__ import annotations

import mmap
import os
import struct

from nexus._core import words
from nexus.errors import CorruptError
from nexus.seams.baselines import ChannelCounters

__all__ = ["MappedChannel"]

# docs/spec/ring.md
_HEADER_BYTES = 4096
_IDENTITY = struct.Struct("<8sHB")
_MAGIC = b"NXRING\r\n"
_VERSION, _ONE_PRODUCER = 1, 1
_RECORDS_IN, _DROPS, _RECORDS_OUT = 264, 272, 392


class MappedChannel:
    """Implements `nexus.seams.baselines.WatchedChannel`.

    Args:
        name: of the channel.
        source: the fiber that writes.
        target: the fiber that reads.
        descriptor: of the ring's memfd; taken over. It need not be open for writing.

    Raises:
        CorruptError: it is no ring of version 1 with one producer.
    """

    def __init__(self, name: str, source: str, target: str, descriptor: int) -> None:
        self.name = name
        self.source = source
        self.target = target
        try:
            if os.fstat(descriptor).st_size < _HEADER_BYTES:
                raise CorruptError(f"channel {name}: a ring has at least {_HEADER_BYTES} bytes")
            self._memory = mmap.mmap(descriptor, _HEADER_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(descriptor)
        if _IDENTITY.unpack_from(self._memory) != (_MAGIC, _VERSION, _ONE_PRODUCER):
            self._memory.close()
            raise CorruptError(f"channel {name}: this is no ring of version 1 with one producer")

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    def counters(self) -> ChannelCounters:
        """What the ring counts now."""
        return ChannelCounters(
            words.load(self._memory, _RECORDS_IN),
            words.load(self._memory, _RECORDS_OUT),
            words.load(self._memory, _DROPS),
        )
