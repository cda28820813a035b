"""What L1 learns about a node's fibers, and what it takes from channels for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

__all__ = ["Baselines", "ChannelCounters", "Learned", "Metric", "WatchedChannel"]


class Metric(IntEnum):
    """What is measured of a fiber; `_S` is a second, and numbers are never reused."""

    BURST_NS = 0
    BURSTS_S = 1
    SAVES_S = 2
    CALLS_S = 3
    READS_PART = 4
    SENT_S = 5
    TAKEN_S = 6
    DROPPED_S = 7

    @property
    def is_logarithm(self) -> bool:
        """Whether it is learned as log(1 + x): all but a part of 1."""
        return self != Metric.READS_PART


@dataclass(frozen=True, slots=True)
class ChannelCounters:
    """Records of a channel since its ring was made.

    Attributes:
        sent: by the fiber that writes.
        taken: by the fiber that reads.
        dropped: refused, because there was no room.
    """

    sent: int
    taken: int
    dropped: int


class WatchedChannel(Protocol):
    """A channel from outside; the attributes are those of the node's description."""

    name: str
    source: str
    target: str

    def counters(self) -> ChannelCounters:
        """What the ring counts now. Its fibers write it: any number may stand there."""
        ...


@dataclass(frozen=True, slots=True)
class Learned:
    """One baseline of a fiber, in the units it is learned in.

    Attributes:
        fiber: how events name it.
        image: what it was learned of.
        metric: what is measured.
        channel: name, or empty.
        samples: so far, until it locks.
        locked: whether it does not learn any more.
        mean: of the samples.
        deviation: of the samples, but not below the least that counts.
        findings: how often it was left.
    """

    fiber: int
    image: int
    metric: Metric
    channel: str
    samples: int
    locked: bool
    mean: float
    deviation: float
    findings: int


class Baselines(Protocol):
    """Where L1 shows what it has learned."""

    def show(self, start_ns: int, learned: Sequence[Learned]) -> None:
        """Replace what was shown.

        Args:
            start_ns: of the node, as its table has it.
            learned: everything.
        """
        ...
