"""A channel whose counters a test sets."""

from __future__ import annotations

from dataclasses import dataclass

from nexus.seams.baselines import ChannelCounters

__all__ = ["SetChannel"]


@dataclass(slots=True)
class SetChannel:
    """Implements `nexus.seams.baselines.WatchedChannel`; the fields are to be set."""

    name: str
    source: str
    target: str
    sent: int = 0
    taken: int = 0
    dropped: int = 0

    def counters(self) -> ChannelCounters:
        """What was set."""
        return ChannelCounters(self.sent, self.taken, self.dropped)
