"""What is normal for each fiber of a node, learned and then locked; who leaves it is found.

Theory of operation. Two looks at the table give rates: CPU time a burst, bursts a second, saves a
second, reads and writes a second and the part of reads among them; two looks at a channel's ring
give records and drops a second, for the fiber that writes and for the one that reads. Each is taken
as log(1 + x), since such numbers spread over decades, but a part of 1 as it is; and fed to a
baseline of its own, which locks after 1,000 samples. A locked baseline is left when three samples
in a row deviate by more than three sigma; that is one finding, and the next of that metric comes
only after it was back to normal. Another image has another normal: what was learned of the old one
is dropped.

Not handled: what a fiber asks of the kernel otherwise than by reading and writing, as waits and
sockets; and what an earlier life of L1 had learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nexus.physics import Baseline
from nexus.seams.baselines import ChannelCounters, Learned, Metric, WatchedChannel
from nexus.seams.supervisor import FiberEntry, FiberFlag, FiberState, VerdictCode

__all__ = ["SAMPLES_LOCK", "Finding", "Normality"]

SAMPLES_LOCK = 1000
SIGMA = 3.0
REPETITIONS = 3
# A range that never varied would take the smallest jitter for an anomaly.
DEVIATION_MIN = 0.05
# Which baseline: what it measures, and the channel's number from 1, or 0.
_Key = tuple[Metric, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fiber has left what is normal for it.

    Attributes:
        fiber: how verdicts name it.
        metric: what was measured.
        channel: 1 + its number among the node's watched channels, or 0.
        value: the last sample, in the units of the baseline; mean and deviation likewise.
        mean: of the baseline.
        deviation: of the baseline.
        verdict: what L1 asks for.
        confidence: hundredths of a percent.
    """

    fiber: int
    metric: Metric
    channel: int
    value: float
    mean: float
    deviation: float
    verdict: VerdictCode
    confidence: int

    @property
    def entity(self) -> int:
        """What the event is about: the metric, and the channel in the high half."""
        return self.metric | self.channel << 32


class _Metric:
    """One baseline, and how often in a row it was left."""

    def __init__(self, samples_lock: int) -> None:
        self.baseline = Baseline(1, lock_after=samples_lock, sigma=SIGMA)
        self.row = 0
        self.findings = 0

    @property
    def deviation(self) -> float:
        return max(math.sqrt(self.baseline.variance[0]), DEVIATION_MIN)

    def sample(self, value: float) -> bool:
        """Learn or check a value; whether it is a finding."""
        deviates = bool(self.baseline.update((value,)))
        deviates = deviates and abs(value - self.baseline.mean[0]) > SIGMA * self.deviation
        self.row = self.row + 1 if deviates else 0
        self.findings += self.row == REPETITIONS
        return self.row == REPETITIONS


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a fiber at one time."""

    entry: FiberEntry
    channels: Sequence[ChannelCounters]
    time_ns: int


class _Fiber:
    """What is known of one fiber.

    Args:
        entry: of the table.
        ends: numbers of the channels that it writes, and of those that it reads.
    """

    def __init__(self, entry: FiberEntry, ends: tuple[list[int], list[int]]) -> None:
        self.identity = (entry.id, entry.image)
        self.metrics: dict[_Key, _Metric] = {}
        self._writes, self._reads = ends
        self._last: _Look | None = None

    def samples(self, now: _Look) -> Iterator[tuple[_Key, float]]:
        """What two looks give, as the baselines have it."""
        before, self._last = self._last, now
        if before is None or before.entry.lives != now.entry.lives or now.time_ns <= before.time_ns:
            return
        rates = [*_rates(before.entry, now.entry, (now.time_ns - before.time_ns) / 1e9)]
        for number in self._writes + self._reads:
            rates += self._of_channel(before, now, number)
        for (metric, channel), rate in rates:
            # A counter that went back is no rate: of a channel, its fibers can write any.
            if rate >= 0:
                yield (metric, channel), math.log1p(rate) if metric.is_logarithm else rate

    def _of_channel(self, before: _Look, now: _Look, number: int) -> Iterator[tuple[_Key, float]]:
        seconds = (now.time_ns - before.time_ns) / 1e9
        old, new = before.channels[number - 1], now.channels[number - 1]
        if number in self._writes:
            yield (Metric.SENT_S, number), (new.sent - old.sent) / seconds
        else:
            yield (Metric.TAKEN_S, number), (new.taken - old.taken) / seconds
        yield (Metric.DROPPED_S, number), (new.dropped - old.dropped) / seconds


def _rates(old: FiberEntry, new: FiberEntry, seconds: float) -> Iterator[tuple[_Key, float]]:
    """The rates that two entries of the table give."""
    if new.flags & FiberFlag.BUDGET:
        bursts = new.bursts - old.bursts
        if bursts > 0:
            yield (Metric.BURST_NS, 0), (new.cpu_ns - old.cpu_ns) / bursts
        yield (Metric.BURSTS_S, 0), bursts / seconds
    if new.flags & FiberFlag.CHECKPOINTS:
        yield (Metric.SAVES_S, 0), (new.checkpoint - old.checkpoint) / seconds
    # The supervisor looks at its own times, which the entry has: else its tick would be heard here.
    if new.flags & FiberFlag.COUNTED and new.counted_ns > old.counted_ns > 0:
        reads, writes = new.reads - old.reads, new.writes - old.writes
        yield (Metric.CALLS_S, 0), (reads + writes) / ((new.counted_ns - old.counted_ns) / 1e9)
        if reads + writes > 0:
            yield (Metric.READS_PART, 0), reads / (reads + writes)


class Normality:
    """The baselines of all fibers of a node.

    Args:
        channels: those that are watched.
        samples_lock: how many samples a baseline learns from.
    """

    def __init__(
        self, channels: Sequence[WatchedChannel] = (), *, samples_lock: int = SAMPLES_LOCK
    ) -> None:
        self._channels = channels
        self._samples_lock = samples_lock
        self._fibers: dict[int, _Fiber] = {}

    def look(self, entries: list[FiberEntry], now_ns: int) -> list[Finding]:
        """Take a look at table and channels; what was found."""
        found: list[Finding] = []
        counters = [channel.counters() for channel in self._channels]
        for entry in entries:
            if entry.flags & FiberFlag.L1 or entry.state != FiberState.ALIVE:
                continue
            fiber = self._fibers.get(entry.slot)
            if fiber is None or fiber.identity != (entry.id, entry.image):
                fiber = self._fibers[entry.slot] = _Fiber(entry, self._ends(entry.name))
            for key, value in fiber.samples(_Look(entry, counters, now_ns)):
                metric = fiber.metrics.setdefault(key, _Metric(self._samples_lock))
                if metric.sample(value):
                    found.append(_judge(entry.id, key, value, metric))
        return found

    def _ends(self, name: str) -> tuple[list[int], list[int]]:
        numbered = list(enumerate(self._channels, 1))
        writes = [number for number, one in numbered if one.source == name]
        return writes, [number for number, one in numbered if one.target == name]

    def learned(self) -> list[Learned]:
        """All baselines there are."""
        return [
            Learned(
                *fiber.identity,
                metric,
                self._channels[channel - 1].name if channel else "",
                one.baseline.samples,
                one.baseline.locked,
                one.baseline.mean[0],
                one.deviation,
                one.findings,
            )
            for fiber in self._fibers.values()
            for (metric, channel), one in sorted(fiber.metrics.items())
        ]


def _judge(fiber: int, key: _Key, value: float, metric: _Metric) -> Finding:
    """Longer bursts than normal take time from others: demote. All else is only looked at."""
    mean, deviation = metric.baseline.mean[0], metric.deviation
    longer = key[0] == Metric.BURST_NS and value > mean
    distance = abs(value - mean) / deviation
    confidence = min(10_000, int(10_000 * (1 - SIGMA / (2 * distance))))
    verdict = VerdictCode.DEMOTE if longer else VerdictCode.OBSERVE
    return Finding(fiber, *key, value, mean, deviation, verdict, confidence)
