"""The host's clocks."""

from __future__ import annotations

import time

__all__ = ["HostClock"]


class HostClock:
    """CLOCK_MONOTONIC and CLOCK_REALTIME; implements `nexus.seams.clock.Clock`."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of the clock that the node's events carry."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()
