"""What travels from `pulse` to `digest`."""

from __future__ import annotations

from typing import NamedTuple

from nexus.fiber import F64, U64

__all__ = ["Sample"]


class Sample(NamedTuple):
    """The machine at one moment.

    Attributes:
        time_ns: monotonic clock.
        busy: part of all CPU time since the last sample that was not idle, 0 to 1.
        load: runnable tasks, the kernel's average of one minute.
        free: part of the memory that is available, 0 to 1.
        celsius: the hottest zone; NaN where the host shows none.
    """

    time_ns: U64
    busy: F64
    load: F64
    free: F64
    celsius: F64
