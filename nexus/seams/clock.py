"""The time: what an engine may ask of a clock."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Two clocks that need not agree."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as the host believes."""
        ...
