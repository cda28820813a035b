"""A clock that goes only when it is told to."""

from __future__ import annotations

__all__ = ["SetClock"]


class SetClock:
    """Both clocks of a simulated node.

    Args:
        wall_ns: what the wall clock shows at the start.
    """

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = 1_000_000_000
        self._offset_ns = wall_ns - self._now_ns

    def advance(self, ns: int) -> None:
        """Let time pass."""
        assert ns >= 0, "a monotonic clock never goes back"
        self._now_ns += ns

    def monotonic_ns(self) -> int:
        """Nanoseconds since the start, and one second."""
        return self._now_ns

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return self._now_ns + self._offset_ns
