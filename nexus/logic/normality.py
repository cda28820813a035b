"""What is normal for each fiber of a node, learned and then locked; who leaves it is found.

Theory of operation. Twice a look at the table gives rates: CPU time a burst, bursts a second, saves
a second. Each is taken as log(1 + x), since such numbers spread over decades, and fed to a baseline
of its own, which locks after 1,000 samples. A locked baseline is left when three samples in a row
deviate by more than three sigma; that is one finding, and the next of that metric comes only after
it was back to normal. Another image has another normal: what was learned of the old one is dropped.

Not handled: what the table does not show, as the traffic of a channel or the mix of system calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nexus.physics import Baseline
from nexus.seams.supervisor import FiberEntry, FiberFlag, FiberState, VerdictCode

__all__ = ["METRICS", "Finding", "Normality"]

SAMPLES_LOCK = 1000
SIGMA = 3.0
REPETITIONS = 3
METRICS = ("burst_ns", "bursts_s", "saves_s")
# A range that never varied would take the smallest jitter for an anomaly.
DEVIATION_MIN = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """A fiber has left what is normal for it.

    Attributes:
        fiber: how verdicts name it.
        metric: index into `METRICS`.
        value: the last sample, as log(1 + x); mean and deviation likewise.
        mean: of the baseline.
        deviation: of the baseline.
        verdict: what L1 asks for.
        confidence: hundredths of a percent.
    """

    fiber: int
    metric: int
    value: float
    mean: float
    deviation: float
    verdict: VerdictCode
    confidence: int


class _Metric:
    """One baseline, and how often in a row it was left."""

    def __init__(self) -> None:
        self.baseline = Baseline(1, lock_after=SAMPLES_LOCK, sigma=SIGMA)
        self.row = 0

    def sample(self, value: float) -> tuple[float, float] | None:
        """Learn or check a value; mean and deviation when it is a finding."""
        deviates = bool(self.baseline.update((value,)))
        mean = self.baseline.mean[0]
        deviation = max(math.sqrt(self.baseline.variance[0]), DEVIATION_MIN)
        deviates = deviates and abs(value - mean) > SIGMA * deviation
        self.row = self.row + 1 if deviates else 0
        return (mean, deviation) if self.row == REPETITIONS else None


class _Fiber:
    """What was seen of one fiber."""

    def __init__(self, entry: FiberEntry) -> None:
        self.identity = (entry.id, entry.image)
        self.metrics = [_Metric() for _ in METRICS]
        self.last: tuple[FiberEntry, int] | None = None

    def rates(self, entry: FiberEntry, now_ns: int) -> Iterator[tuple[int, float]]:
        """The metrics that two looks give, by index."""
        before, self.last = self.last, (entry, now_ns)
        if before is None or before[0].lives != entry.lives or now_ns <= before[1]:
            return
        seconds = (now_ns - before[1]) / 1e9
        bursts = entry.bursts - before[0].bursts
        if entry.flags & FiberFlag.BUDGET and bursts >= 0:
            if bursts > 0 and entry.cpu_ns >= before[0].cpu_ns:
                yield 0, (entry.cpu_ns - before[0].cpu_ns) / bursts
            yield 1, bursts / seconds
        saves = entry.checkpoint - before[0].checkpoint
        if entry.flags & FiberFlag.CHECKPOINTS and saves >= 0:
            yield 2, saves / seconds


class Normality:
    """The baselines of all fibers of a node."""

    def __init__(self) -> None:
        self._fibers: dict[int, _Fiber] = {}

    def look(self, entries: list[FiberEntry], now_ns: int) -> list[Finding]:
        """Take a look at the table; what was found."""
        found: list[Finding] = []
        for entry in entries:
            if entry.flags & FiberFlag.L1 or entry.state != FiberState.ALIVE:
                continue
            fiber = self._fibers.get(entry.slot)
            if fiber is None or fiber.identity != (entry.id, entry.image):
                fiber = self._fibers[entry.slot] = _Fiber(entry)
            for metric, rate in fiber.rates(entry, now_ns):
                value = math.log1p(rate)
                normal = fiber.metrics[metric].sample(value)
                if normal is not None:
                    found.append(_judge(entry.id, metric, value, *normal))
        return found

    def locked(self, slot: int) -> tuple[bool, ...]:
        """Which baselines of a slot are locked."""
        fiber = self._fibers.get(slot)
        return () if fiber is None else tuple(one.baseline.locked for one in fiber.metrics)


def _judge(fiber: int, metric: int, value: float, mean: float, deviation: float) -> Finding:
    """Longer bursts than normal take time from others: demote. All else is only looked at."""
    longer = metric == 0 and value > mean
    distance = abs(value - mean) / deviation
    confidence = min(10_000, int(10_000 * (1 - SIGMA / (2 * distance))))
    verdict = VerdictCode.DEMOTE if longer else VerdictCode.OBSERVE
    return Finding(fiber, metric, value, mean, deviation, verdict, confidence)
