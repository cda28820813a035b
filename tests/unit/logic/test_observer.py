"""L1 on a simulated node: beats, ledger, baselines, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest

from nexus.logic.ledger import Ledger, RecordType, verify
from nexus.logic.ledger import _raw_records as raw_records
from nexus.logic.normality import (
    DEVIATION_MIN,
    REPETITIONS,
    SAMPLES_LOCK,
    Finding,
    Normality,
)
from nexus.logic.observer import BEAT_S, END_S, LOOK_S, LOOKS_SHOWN, ObserverEngine
from nexus.physics.stl import encode_event
from nexus.seams.baselines import Learned, Metric
from nexus.seams.events import EventKind
from nexus.seams.supervisor import Feature, FiberEntry, FiberFlag, FiberState, VerdictCode
from nexus.sim.channels import SetChannel
from nexus.sim.clock import SetClock
from nexus.sim.ledger import MemoryStore, SumSigner, sum_verify
from nexus.sim.supervisor import SimSupervisor


class Page:
    """An observer's page that remembers."""

    def __init__(self) -> None:
        self.beats = 0
        self.issued: list[tuple[int, VerdictCode, int, int]] = []

    def beat(self) -> None:
        self.beats += 1

    def issue(self, fiber: int, code: VerdictCode, confidence: int, reason: int) -> int:
        self.issued.append((fiber, code, confidence, reason))
        return len(self.issued)


def fiber(**fields: object) -> FiberEntry:
    values = dict.fromkeys(FiberEntry.__slots__, 0)
    values |= {"generation": 1, "state": FiberState.ALIVE, "lives": 1, "name": "busy"}
    values |= {"flags": FiberFlag.BUDGET | FiberFlag.CHECKPOINTS, "image": 7}
    return FiberEntry(**{**values, **fields})


class Rig:
    """A simulated node and an L1 on it."""

    def __init__(self, mask: int) -> None:
        self.clock = SetClock()
        self.node = SimSupervisor(self.clock, boot_mask=mask)
        self.store = MemoryStore()
        self.page = Page()
        self.looks = 0
        self.shown: tuple[int, list[Learned]] | None = None
        self.engine = self.observer()

    def observer(self) -> ObserverEngine:
        ledger = Ledger.open(self.store, SumSigner(), self.clock)
        return ObserverEngine(
            self.node, self.page, ledger, self.clock, self.look, Normality(), self
        )

    def show(self, start_ns: int, learned: Sequence[Learned]) -> None:
        self.shown = (start_ns, list(learned))

    def look(self) -> None:
        self.looks += 1

    def types(self) -> list[int]:
        (name,) = self.store.names()
        return [int.from_bytes(raw[8:12], "little") for raw in raw_records(self.store, name)]


@pytest.fixture(autouse=True)
def events_have_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated node tells values; the ledger keeps bytes."""
    import nexus.sim.supervisor as sim
    from nexus.seams.events import Event

    def with_bytes(id, kind, time_ns, who, entity, cause, data) -> Event:
        raw = encode_event(kind, time_ns=time_ns, fiber=who, entity=entity, cause=cause, data=data)
        return Event(id, kind, time_ns, who, entity, cause, data, raw)

    monkeypatch.setattr(sim, "Event", with_bytes)


def test_without_features_it_sleeps_until_something_happens() -> None:
    rig = Rig(0b111)
    assert rig.engine.step() is None
    assert rig.types() == [RecordType.START, RecordType.EVENT]
    rig.node.tell(EventKind.SYSTEM_SHUTDOWN)
    assert rig.engine.step() is None
    rig.engine.close()
    assert rig.types()[-1] == RecordType.SEAL
    assert verify(rig.store, None, sum_verify).bad is None


@pytest.mark.parametrize("feature", [Feature.HEARTBEAT, Feature.BASELINE, Feature.VERDICTS])
def test_with_a_feature_that_needs_it_it_beats(feature: Feature) -> None:
    rig = Rig(0b111 | feature)
    before = rig.page.beats
    assert rig.engine.step() == BEAT_S
    assert rig.page.beats == before + 1


def test_a_node_that_shuts_down_is_never_slept_over() -> None:
    rig = Rig(0b111)
    rig.node._shutdown()
    assert rig.engine.step() == END_S


def test_a_new_life_of_l1_goes_on_where_the_last_one_was_killed() -> None:
    rig = Rig(0b111)
    rig.engine.step()
    for _ in range(2000):
        rig.node.tell(EventKind.FIBER_SPAWN)
    rig.engine = rig.observer()
    rig.engine.step()
    rig.engine.close()
    found = verify(rig.store, None, sum_verify)
    assert found.bad is None
    assert (found.events, found.lost) == (1 + 1023, 2001 - 1024)


LOOK_NS = 250_000_000
USUAL = {"bursts": 10, "cpu_ns": 10_000_000, "checkpoint": 5, "reads": 90, "writes": 10}
FLAGS = FiberFlag.BUDGET | FiberFlag.CHECKPOINTS | FiberFlag.COUNTED
OF_FIBER = [Metric.BURST_NS, Metric.BURSTS_S, Metric.SAVES_S, Metric.CALLS_S, Metric.READS_PART]


class World:
    """Two fibers and a channel between them, looked at by L1: `busy` sends, `other` takes."""

    def __init__(self, samples: int = SAMPLES_LOCK) -> None:
        self.way = SetChannel("way", "busy", "other")
        self.normality = Normality([self.way], samples_lock=samples)
        self.totals: dict[str, int] = {}
        self.now_ns = 1_000_000_000
        self.fields: dict[str, object] = {"flags": FLAGS}

    def look(self, *, sent: int = 100, taken: int = 100, dropped: int = 0, **steps: int):
        """One look at counters that grew by so much; what was found."""
        for name, step in {**USUAL, **steps}.items():
            self.totals[name] = self.totals.get(name, 0) + step
        self.way.sent += sent
        self.way.taken += taken
        self.way.dropped += dropped
        self.now_ns += LOOK_NS
        busy = fiber(**self.totals, counted_ns=self.now_ns, **self.fields)
        other = fiber(slot=1, name="other", flags=FiberFlag(0))
        return self.normality.look([busy, other], self.now_ns)

    def feed(self, count: int, **steps: int) -> list[Finding]:
        return [finding for _ in range(count) for finding in self.look(**steps)]

    def learned(self, slot: int = 0) -> dict[tuple[Metric, str], Learned]:
        found = self.normality.learned()
        return {(one.metric, one.channel): one for one in found if one.fiber & 0xFFFF == slot + 1}


@pytest.fixture
def world() -> World:
    """One that has learned what is usual."""
    made = World()
    assert made.feed(SAMPLES_LOCK) == []
    assert not any(one.locked for one in made.normality.learned()), "one sample takes two looks"
    assert made.feed(1) == []
    assert all(one.locked for one in made.normality.learned())
    return made


def test_each_end_of_a_channel_and_each_count_of_a_fiber_has_a_baseline(world: World) -> None:
    of_way = [(Metric.SENT_S, "way"), (Metric.DROPPED_S, "way")]
    assert list(world.learned(0)) == [(metric, "") for metric in OF_FIBER] + of_way
    assert list(world.learned(1)) == [(Metric.TAKEN_S, "way"), (Metric.DROPPED_S, "way")]
    assert {one.samples for one in world.normality.learned()} == {SAMPLES_LOCK}
    assert world.learned()[Metric.READS_PART, ""].mean == pytest.approx(0.9)
    assert math.expm1(world.learned()[Metric.CALLS_S, ""].mean) == pytest.approx(400)
    assert math.expm1(world.learned()[Metric.SENT_S, "way"].mean) == pytest.approx(400)


def test_a_thousand_samples_lock_and_the_usual_is_no_finding(world: World) -> None:
    assert world.feed(100) == []


def test_what_varies_a_little_is_no_finding() -> None:
    world, random = World(), Random(7)

    def steady(count: int) -> list[Finding]:
        return [
            finding
            for _ in range(count)
            for finding in world.look(
                sent=random.randint(90, 110), taken=random.randint(90, 110),
                reads=random.randint(80, 100), writes=random.randint(5, 15),
                cpu_ns=random.randint(8_000_000, 12_000_000),
            )
        ]  # fmt: skip

    assert steady(2 * SAMPLES_LOCK) == []
    assert world.feed(3, sent=1000) != [], "the canary: the same baselines do find"


@pytest.mark.parametrize(
    ("change", "fiber", "metric", "channel"),
    [
        ({"cpu_ns": 90_000_000}, 0, Metric.BURST_NS, 0),
        ({"cpu_ns": 10_000, "bursts": 10}, 0, Metric.BURST_NS, 0),
        ({"cpu_ns": 40_000_000, "bursts": 40}, 0, Metric.BURSTS_S, 0),
        ({"checkpoint": 0}, 0, Metric.SAVES_S, 0),
        ({"reads": 900, "writes": 100}, 0, Metric.CALLS_S, 0),
        ({"reads": 0, "writes": 0}, 0, Metric.CALLS_S, 0),
        ({"reads": 10, "writes": 90}, 0, Metric.READS_PART, 0),
        ({"sent": 1000}, 0, Metric.SENT_S, 1),
        ({"sent": 0}, 0, Metric.SENT_S, 1),
        ({"taken": 0}, 1, Metric.TAKEN_S, 1),
    ],
)
def test_a_change_after_the_lock_gives_exactly_its_finding(
    world: World, change: dict[str, int], fiber: int, metric: Metric, channel: int
) -> None:
    assert world.feed(REPETITIONS - 1, **change) == []
    (finding,) = world.feed(10, **change)
    assert (finding.fiber & 0xFFFF) - 1 == fiber
    assert (finding.metric, finding.channel) == (metric, channel)
    assert finding.entity == metric | channel << 32
    longer = metric == Metric.BURST_NS and finding.value > finding.mean
    assert finding.verdict == (VerdictCode.DEMOTE if longer else VerdictCode.OBSERVE)
    assert 5000 < finding.confidence <= 10_000
    assert world.feed(10, **change) == [], "told once"
    assert world.feed(1) == []
    assert len(world.feed(10, **change)) == 1, "and again after it was normal"
    assert sum(one.findings for one in world.normality.learned()) == 2


def test_drops_are_found_at_both_ends(world: World) -> None:
    found = world.feed(10, dropped=50)
    assert [(one.fiber & 0xFFFF, one.metric) for one in found] == [
        (1, Metric.DROPPED_S),
        (2, Metric.DROPPED_S),
    ]


def test_two_in_a_row_are_no_finding(world: World) -> None:
    for _ in range(20):
        assert world.feed(2, cpu_ns=90_000_000, sent=0) == []
        assert world.feed(1) == []


def test_another_image_has_another_normal(world: World) -> None:
    world.fields["image"] = 8
    assert world.feed(20, sent=1000, reads=900) == []
    assert not any(one.locked for one in world.learned(0).values())
    assert all(one.locked for one in world.learned(1).values()), "the other fiber's is the old one"


def test_another_life_is_no_jump_of_its_counters(world: World) -> None:
    world.fields["lives"] = 2
    world.totals = {}
    assert world.feed(20) == []
    assert {one.samples for one in world.normality.learned()} == {SAMPLES_LOCK}


def test_the_supervisors_tick_is_not_heard_in_the_calls() -> None:
    """It counts every 0.4 s, and a look is every second: two or three ticks lie between."""
    world = World(20)
    counted_ns, reads = 1, 0
    for look in range(200):
        while counted_ns + 400_000_000 <= world.now_ns + 1_000_000_000:
            counted_ns += 400_000_000
            reads += 40
        world.now_ns += 1_000_000_000
        busy = fiber(flags=FiberFlag.COUNTED, reads=reads, counted_ns=counted_ns)
        assert world.normality.look([busy], world.now_ns) == [], look
    learned = world.learned()[Metric.CALLS_S, ""]
    assert math.expm1(learned.mean) == pytest.approx(100)
    assert learned.deviation == DEVIATION_MIN


def test_what_is_not_counted_has_no_baseline() -> None:
    world = World(20)
    world.fields["flags"] = FiberFlag(0)
    world.feed(50)
    assert list(world.learned(0)) == [(Metric.SENT_S, "way"), (Metric.DROPPED_S, "way")]


def test_counters_that_a_fiber_forged_break_nothing(world: World) -> None:
    world.way.sent, world.way.taken, world.way.dropped = 2**64 - 1, 0, 2**63
    assert isinstance(world.feed(1), list)
    world.way.sent = 0
    assert isinstance(world.feed(5), list)
    assert {one.samples for one in world.normality.learned()} == {SAMPLES_LOCK}


def test_what_was_learned_is_shown(monkeypatch) -> None:
    rig = Rig(0b111 | Feature.BASELINE)
    monkeypatch.setattr(rig.node, "fibers", lambda: [fiber(bursts=rig.clock.monotonic_ns())])
    for _ in range(LOOKS_SHOWN + 1):
        rig.clock.advance(int(LOOK_S * 1e9))
        rig.engine.step()
    assert rig.shown is not None
    start_ns, learned = rig.shown
    assert start_ns == rig.node.head().start_ns
    assert {one.samples for one in learned} == {LOOKS_SHOWN}


def test_a_finding_is_written_issued_and_l0_is_told_to_look(monkeypatch) -> None:
    rig = Rig(0b11111111)
    totals: dict[str, int] = {}
    monkeypatch.setattr(rig.node, "fibers", lambda: [fiber(**totals)])
    for i in range(SAMPLES_LOCK + 10):
        cpu_ns = 10_000_000 if i <= SAMPLES_LOCK else 90_000_000
        grown = {"bursts": 10, "cpu_ns": cpu_ns}
        totals = {name: totals.get(name, 0) + step for name, step in grown.items()}
        rig.clock.advance(int(LOOK_S * 1e9))
        rig.engine.step()
    assert [issued[1] for issued in rig.page.issued] == [VerdictCode.DEMOTE]
    assert rig.looks == 1
    assert RecordType.FINDING in rig.types()
    rig.engine.close()
    assert verify(rig.store, None, sum_verify).bad is None
