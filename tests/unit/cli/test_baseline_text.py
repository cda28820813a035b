"""What `nexus fiber show` says of baselines: those there are, and why others are not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.cli.baseline_text import baseline_records, metric_value, tell_baselines
from nexus.cli.events import event_line
from nexus.cli.output import Output
from nexus.physics.baselines import BaselineFile
from nexus.seams.baselines import Learned, Metric
from nexus.seams.events import Event, EventKind
from nexus.seams.supervisor import Feature, FiberEntry, FiberFlag, FiberState
from nexus.sim.clock import SetClock
from nexus.sim.supervisor import SimSupervisor


@pytest.fixture
def table() -> SimSupervisor:
    return SimSupervisor(SetClock(), boot_mask=7 | Feature.BASELINE)


def fiber(**fields: object) -> FiberEntry:
    values = dict.fromkeys(FiberEntry.__slots__, 0)
    values |= {"generation": 1, "state": FiberState.ALIVE, "image": 9, "name": "busy"}
    return FiberEntry(**{**values, "flags": FiberFlag.COUNTED, **fields})


def told(table, entry, records, capsys) -> str:
    tell_baselines(table, entry, records, Output(json=False))
    return capsys.readouterr().out


def test_values_are_told_in_the_units_of_their_names(table, tmp_path: Path, capsys) -> None:
    path = tmp_path / "baselines"
    of = (fiber().id, 9)
    learned = [
        Learned(*of, Metric.CALLS_S, "", 1000, True, 4.61512, 0.1, 1),
        Learned(*of, Metric.READS_PART, "", 3, False, 0.9, 0.05, 0),
        Learned(of[0], 8, Metric.SENT_S, "of an earlier image", 1000, True, 1, 1, 0),
    ]
    BaselineFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)).show(table.head().start_ns, learned)
    calls, part = baseline_records(table, path, fiber())
    assert calls["mean"] == pytest.approx(100, rel=0.01)
    assert (calls["low"], calls["high"]) == (pytest.approx(73.8, 0.01), pytest.approx(135.3, 0.01))
    assert (part["low"], part["high"]) == (pytest.approx(0.75), pytest.approx(1.05))
    text = told(table, fiber(), [calls, part], capsys)
    assert "calls_s" in text
    assert "1000 locked" in text
    assert "3 so far" in text
    assert "not counted" not in text
    assert metric_value(Metric.DROPPED_S, -0.15) == 0.0


def test_a_kernel_that_does_not_count_is_said(table, capsys) -> None:
    text = told(table, fiber(flags=FiberFlag(0)), [], capsys)
    assert "not counted here" in text
    assert "io-accounting" in text
    over = replace(fiber(flags=FiberFlag(0)), state=FiberState.OVER)
    assert "not counted" not in told(table, over, [], capsys)


def test_without_the_feature_there_are_none_and_that_is_said(capsys) -> None:
    text = told(SimSupervisor(SetClock()), fiber(), [], capsys)
    assert "the feature is off" in text


def test_a_finding_is_told_with_its_metric_and_channel() -> None:
    bits = (0x4013_5D4E_EBB0_5D83, 0x4002_6BB1_BBB5_5516, 0x3FA9_9999_9999_999A)
    event = Event(1, EventKind.ANOMALY_DETECTED, 0, 1, Metric.SENT_S | 2 << 32, 0, bits, b"")
    line = event_line(event, {1: "busy"}, 0)
    assert "sent_s of channel 2 is" in line
    assert "is normal" in line
    unknown = replace(event, entity=99)
    assert "metric 99" in event_line(unknown, {1: "busy"}, 0)
