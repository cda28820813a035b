"""What L1 sees of a channel, and what others see of L1's baselines: real rings, real files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nexus.errors import CorruptError
from nexus.physics import Ring
from nexus.physics.baselines import BaselineFile, read_baselines
from nexus.physics.channels import MappedChannel
from nexus.seams.baselines import ChannelCounters, Learned, Metric


def read_only(ring: Ring) -> int:
    return os.open(f"/proc/self/fd/{ring.fd}", os.O_RDONLY)


def test_the_counters_are_those_of_the_ring() -> None:
    with Ring.create(4096) as ring:
        channel = MappedChannel("way", "a", "b", read_only(ring))
        assert channel.counters() == ChannelCounters(0, 0, 0)
        count = 0
        while ring.put(bytes(500)):
            count += 1
        ring.put(bytes(500))
        assert ring.get() is not None
        assert channel.counters() == ChannelCounters(count, 1, 2)
        stats = ring.stats()
        assert (stats.records_in, stats.records_out, stats.drops) == (count, 1, 2)
        channel.close()


def test_the_descriptor_that_l1_gets_cannot_write() -> None:
    with Ring.create(4096) as ring:
        descriptor = read_only(ring)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(descriptor, b"x", 264)
        # Open for writing it could, which is what the other way of opening is for.
        assert os.pwrite(ring.fd, bytes(1), 264) == 1
        os.close(descriptor)


def test_what_is_no_such_ring_is_refused(tmp_path: Path) -> None:
    for data in (b"", bytes(4096), b"NXRING\r\n" + bytes(5000)):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(CorruptError, match="channel way"):
            MappedChannel("way", "a", "b", os.open(tmp_path / "file", os.O_RDONLY))
    with Ring.create(4096, kind="mpsc") as ring, pytest.raises(CorruptError, match="one producer"):
        MappedChannel("way", "a", "b", read_only(ring))


LEARNED = [
    Learned(1 << 32 | 1, 2**64 - 1, Metric.SENT_S, "way", 1000, True, 4.5, 0.05, 2),
    Learned(1 << 32 | 1, 7, Metric.READS_PART, "", 3, False, 0.25, 0.125, 0),
]


def test_what_is_shown_is_read_and_a_shorter_text_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "baselines"
    file = BaselineFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    assert read_baselines(path, 5) == []
    file.show(5, LEARNED)
    assert read_baselines(path, 5) == LEARNED
    assert all(isinstance(one.metric, Metric) for one in read_baselines(path, 5))
    assert read_baselines(path, 6) == [], "of another boot"
    file.show(5, LEARNED[1:])
    assert read_baselines(path, 5) == LEARNED[1:]
    assert read_baselines(tmp_path / "absent", 5) == []


@pytest.mark.parametrize(
    "text", ["{", "[]", json.dumps({"schema": 2}), '{"schema":1,"start_ns":5,"learned":[[1]]}']
)
def test_another_text_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "baselines").write_text(text)
    with pytest.raises(CorruptError, match="does not have the form"):
        read_baselines(tmp_path / "baselines", 5)
