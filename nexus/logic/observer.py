"""L1 as an engine: beats, writes what happened into the ledger, learns, and gives its opinion.

Theory of operation. `step` does what is due now and says for how long nothing will be. Whoever runs
it sleeps on the table's newest event for that long. With the features heartbeat and baseline off
that is for ever: L1 sleeps until something happens.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from nexus.logic.ledger import Ledger
from nexus.logic.normality import Finding, Normality
from nexus.physics.stl import encode_event
from nexus.seams.baselines import Baselines
from nexus.seams.clock import Clock
from nexus.seams.events import EventKind
from nexus.seams.supervisor import L1_SLOT, Feature, NodeState, Observer, SystemTable

__all__ = ["ObserverEngine"]

# L0 waits for a beat for four times as long.
BEAT_S = 0.4
# Between looks at the table: baselines are fed, and the features read.
LOOK_S = 1.0
# Between two times that what was learned is shown: it costs more than a look.
LOOKS_SHOWN = 5
# When the node shuts down, so that a request to end is never slept over.
END_S = 0.05
_TICKS = Feature.HEARTBEAT | Feature.BASELINE | Feature.VERDICTS


def _bits(value: float) -> int:
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits)


class ObserverEngine:
    """L1 without its loop.

    Args:
        table: of the node.
        page: its own page.
        ledger: taken over already.
        clock: the node's.
        look: tells L0 that there are verdicts.
        normality: what is learned, from the channels that are watched.
        baselines: where it is shown.
    """

    def __init__(
        self,
        table: SystemTable,
        page: Observer,
        ledger: Ledger,
        clock: Clock,
        look: Callable[[], None],
        normality: Normality,
        baselines: Baselines,
    ) -> None:
        self._table = table
        self._page = page
        self._ledger = ledger
        self._clock = clock
        self._look = look
        self._normality = normality
        self._baselines = baselines
        self._looks = 0
        self._features = Feature(0)
        self._look_ns = 0
        head = table.head()
        lives = [fiber.lives for fiber in table.fibers() if fiber.slot == L1_SLOT]
        ledger.start(head.start_ns, head.start_wall_ns, head.generation, max(lives, default=0))
        self.newest = ledger.next_id

    def record(self) -> bool:
        """Write all events that are new; whether there were any."""
        events = self._table.events(self.newest)
        for event in events.events:
            self._ledger.event(event)
        self.newest = events.newest
        if events.events:
            self._ledger.flush()
        return bool(events.events)

    def step(self) -> float | None:
        """Do what is due; for how many seconds nothing will be, None for ever."""
        self._page.beat()
        now_ns = self._clock.monotonic_ns()
        due = now_ns >= self._look_ns
        if self.record() or due:
            boot, runtime = self._table.features()
            self._features = Feature(boot | runtime)
            if self._table.head().state != NodeState.UP:
                return END_S
        if due:
            self._look_ns = now_ns + int(LOOK_S * 1e9)
            self._look_for_the_abnormal(now_ns)
        return BEAT_S if self._features & _TICKS else None

    def _look_for_the_abnormal(self, now_ns: int) -> None:
        if self._features & Feature.BASELINE:
            findings = self._normality.look(self._table.fibers(), now_ns)
            for finding in findings:
                self._tell(finding, now_ns, bool(self._features & Feature.VERDICTS))
            self._ledger.flush()
            if findings or self._looks % LOOKS_SHOWN == 0:
                self._baselines.show(self._table.head().start_ns, self._normality.learned())
            self._looks += 1

    def _tell(self, finding: Finding, now_ns: int, verdicts: bool) -> None:
        raw = encode_event(
            EventKind.ANOMALY_DETECTED,
            time_ns=now_ns,
            fiber=finding.fiber,
            entity=finding.entity,
            cause=self.newest,
            data=(_bits(finding.value), _bits(finding.mean), _bits(finding.deviation)),
        )
        self._ledger.finding(raw)
        reason = EventKind.ANOMALY_DETECTED
        self._page.issue(finding.fiber, finding.verdict, finding.confidence, reason)
        if verdicts:
            self._look()

    def close(self) -> None:
        """Write what is left, and seal."""
        self.record()
        self._ledger.seal()
