"""What L1 learns of real fibers: who changes after the lock is found, who keeps steady is not."""

from __future__ import annotations

import time

import pytest

from nexus.logic.ledger import RecordType
from nexus.logic.ledger import _raw_records as raw_records
from nexus.membrane.assembly import WATCHED_MAX
from nexus.physics.baselines import read_baselines
from nexus.physics.ledger import FolderStore
from nexus.seams.baselines import Learned, Metric
from nexus.seams.supervisor import L1_SLOT, FiberFlag

pytestmark = pytest.mark.slow

SAMPLES = 15
STEADY_S = 5
PROGRAMS = {
    # Fifty records a second; once there is a file, four hundred.
    "talker": """
        import os, sys
        from nexus.fiber import run
        def talker(context):
            way = context.channel("way")
            for _ in context.periodic(0.02):
                for _ in range(8 if os.path.exists(sys.argv[1]) else 1):
                    way.try_send(b"record")
        run(talker)
    """,
    "taker": """
        from nexus.fiber import run
        def taker(context):
            for record in context.channel("way"):
                pass
        run(taker)
    """,
    # Ten calls a cycle, nine of which read; once there is a file, one.
    "mixer": """
        import os, sys
        from nexus.fiber import run
        def mixer(context):
            data = context.open("data")
            for _ in context.periodic(0.02):
                reads = 1 if os.path.exists(sys.argv[1]) else 9
                for call in range(10):
                    if call < reads:
                        os.pread(data.fileno(), 8, 0)
                    else:
                        os.pwrite(data.fileno(), b"12345678", 0)
        run(mixer)
    """,
}


def test_a_change_of_traffic_or_mix_is_found_and_steadiness_is_not(live) -> None:
    live.programs(PROGRAMS)
    change, data = live.folder / "change", live.folder / "data"
    data.write_bytes(bytes(8))
    opening = f'open "data" "{data}" write=#true'
    live.describe('survivability "hardened"\n')
    live.fiber("talker", "talker", words=(str(change),))
    live.fiber("taker", "taker")
    live.fiber("mixer", "mixer", opening, words=(str(change),))
    live.fiber("steady", "mixer", opening, words=(str(live.folder / "never"),))
    live.channel("talker", "taker")
    live.boot("--samples", str(SAMPLES))
    start_ns = live.running.table.head().start_ns
    counted = bool(live.entry("mixer").flags & FiberFlag.COUNTED)

    def learned() -> dict[tuple[str, Metric], Learned]:
        names = {one.id: one.name for one in live.running.table.fibers()}
        shown = read_baselines(live.directory.baselines, start_ns)
        return {(names[one.fiber], one.metric): one for one in shown}

    if not counted:
        pytest.skip("the mix of calls is not checked: no CONFIG_TASK_IO_ACCOUNTING")
    expected = {
        *((one, Metric.CALLS_S) for one in ("talker", "taker", "mixer", "steady")),
        *((one, Metric.READS_PART) for one in ("mixer", "steady")),
        *(("talker", one) for one in (Metric.SENT_S, Metric.DROPPED_S)),
        *(("taker", one) for one in (Metric.TAKEN_S, Metric.DROPPED_S)),
    }

    def all_locked() -> bool:
        # Who hardly reads may have read while it started: that baseline does not lock, and finds
        # nothing.
        shown = learned()
        return all(key in shown and shown[key].locked for key in expected)

    live.until(all_locked, "all baselines lock")
    time.sleep(STEADY_S)
    assert {key for key, one in learned().items() if one.findings} == set()
    assert learned()["mixer", Metric.READS_PART].mean == pytest.approx(0.9, abs=0.02)

    change.touch()
    wanted = {
        ("talker", Metric.SENT_S), ("taker", Metric.TAKEN_S), ("mixer", Metric.READS_PART),
    }  # fmt: skip

    def found() -> set[tuple[str, Metric]]:
        return {key for key, one in learned().items() if one.findings}

    live.until(lambda: found() >= wanted, "the changes are found")
    time.sleep(STEADY_S)
    assert found() == wanted
    live.end()
    store = FolderStore(live.directory.ledger)
    types = [
        int.from_bytes(raw[8:12], "little")
        for name in store.names()
        for raw in raw_records(store, name)
    ]
    assert types.count(RecordType.FINDING) == len(wanted)


def test_channels_for_which_l1_has_no_handle_are_named(live) -> None:
    names = [f"f{number}" for number in range(16)]
    for name in names:
        live.describe(f'fiber "{name}" {{ program "/bin/sleep" "1000"; }}\n')
    for number in range(64):
        source, target = names[number % 16], names[(number + 1 + number // 16) % 16]
        live.describe(f'channel "c{number}" from="{source}" to="{target}"\n')
    live.describe('survivability "hardened"\n')
    live.boot("--samples", "2")
    assert list(live.running.unwatched) == [f"c{number}" for number in range(WATCHED_MAX, 64)]
    start_ns = live.running.table.head().start_ns

    def watched() -> set[str]:
        return {one.channel for one in read_baselines(live.directory.baselines, start_ns)}

    live.until(watched, "L1 shows what it learns")
    assert watched() - {""} == {f"c{number}" for number in range(WATCHED_MAX)}
    (observer,) = [one for one in live.running.table.fibers() if one.slot == L1_SLOT]
    assert observer.lives == 1
