"""L1 on a simulated node: beats, ledger, baselines, verdicts."""

from __future__ import annotations

import pytest

from nexus.logic.ledger import Ledger, RecordType, verify
from nexus.logic.ledger import _raw_records as raw_records
from nexus.logic.normality import REPETITIONS, SAMPLES_LOCK, Normality
from nexus.logic.observer import BEAT_S, END_S, LOOK_S, ObserverEngine
from nexus.physics.stl import encode_event
from nexus.seams.events import EventKind
from nexus.seams.supervisor import Feature, FiberEntry, FiberFlag, FiberState, VerdictCode
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
        self.engine = self.observer()

    def observer(self) -> ObserverEngine:
        ledger = Ledger.open(self.store, SumSigner(), self.clock)
        return ObserverEngine(self.node, self.page, ledger, self.clock, self.look)

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


def feed(normality: Normality, count: int, **steps: int):
    """Looks at a fiber whose counters grow by so much each; what was found."""
    found = []
    for _ in range(count):
        feed.totals = {name: feed.totals.get(name, 0) + step for name, step in steps.items()}
        feed.now_ns += 250_000_000
        found += normality.look([fiber(**feed.totals)], feed.now_ns)
    return found


@pytest.fixture
def learned() -> Normality:
    feed.totals, feed.now_ns = {}, 0
    normality = Normality()
    usual = {"bursts": 10, "cpu_ns": 10_000_000, "checkpoint": 5}
    assert feed(normality, SAMPLES_LOCK + 1, **usual) == []
    assert normality.locked(0) == (True, True, True)
    return normality


def test_a_thousand_samples_lock_and_the_usual_is_no_finding(learned: Normality) -> None:
    assert feed(learned, 100, bursts=10, cpu_ns=10_000_000, checkpoint=5) == []


def test_longer_bursts_three_times_in_a_row_are_one_finding(learned: Normality) -> None:
    long = {"bursts": 10, "cpu_ns": 90_000_000, "checkpoint": 5}
    assert feed(learned, REPETITIONS - 1, **long) == []
    (finding,) = feed(learned, 10, **long)
    assert (finding.metric, finding.verdict) == (0, VerdictCode.DEMOTE)
    assert 5000 < finding.confidence <= 10_000
    assert feed(learned, 10, **long) == [], "told once"
    feed(learned, 1, bursts=10, cpu_ns=10_000_000, checkpoint=5)
    assert len(feed(learned, 10, **long)) == 1, "and again after it was normal"


def test_two_in_a_row_are_no_finding(learned: Normality) -> None:
    for _ in range(20):
        assert feed(learned, 2, bursts=10, cpu_ns=90_000_000, checkpoint=5) == []
        assert feed(learned, 1, bursts=10, cpu_ns=10_000_000, checkpoint=5) == []


def test_a_fiber_that_saves_no_more_is_looked_at(learned: Normality) -> None:
    (finding,) = feed(learned, 5, bursts=10, cpu_ns=10_000_000, checkpoint=0)
    assert (finding.metric, finding.verdict) == (2, VerdictCode.OBSERVE)


def test_another_image_has_another_normal(learned: Normality) -> None:
    learned.look([fiber(image=8)], feed.now_ns)
    assert learned.locked(0) == (False, False, False)


def test_another_life_is_no_jump_of_its_counters(learned: Normality) -> None:
    assert learned.look([fiber(lives=2)], feed.now_ns + 250_000_000) == []
    assert learned.locked(0) == (True, True, True)


def test_a_finding_is_written_issued_and_l0_is_told_to_look(monkeypatch) -> None:
    rig = Rig(0b11111111)
    monkeypatch.setattr(rig.node, "fibers", lambda: [fiber(**feed.totals)])
    feed.totals = {}
    for i in range(SAMPLES_LOCK + 10):
        cpu_ns = 10_000_000 if i <= SAMPLES_LOCK else 90_000_000
        grown = {"bursts": 10, "cpu_ns": cpu_ns}
        feed.totals = {name: feed.totals.get(name, 0) + step for name, step in grown.items()}
        rig.clock.advance(int(LOOK_S * 1e9))
        rig.engine.step()
    assert [issued[1] for issued in rig.page.issued] == [VerdictCode.DEMOTE]
    assert rig.looks == 1
    assert RecordType.FINDING in rig.types()
    rig.engine.close()
    assert verify(rig.store, None, sum_verify).bad is None
