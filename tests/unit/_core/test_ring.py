"""Rings of records: order, refusal, batches, roles, life, counters, waiting."""

import asyncio
import copy
import faulthandler
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

from nexus import errors
from nexus.physics import Ring, RingStats

# Python 3.12 warns of forks beside threads; these children touch nothing that threads hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

KINDS = ("spsc", "mpsc")


@pytest.fixture(params=KINDS)
def ring(request):
    with Ring.create(4096, kind=request.param) as made:
        yield made


def run_in_child(body):
    """Fork, run body, and return what it returned as exit status; 99 when it raised."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = body()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_records_come_out_whole_and_in_order(ring):
    records = [b"", b"a", bytes(range(256)), b"x" * 63, b"y" * 64, b"z" * 1000]
    assert [ring.put(record) for record in records] == [True] * len(records)
    assert [ring.get() for _ in records] == records
    assert ring.get() is None


@pytest.mark.parametrize("convert", [bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)])
def test_any_contiguous_buffer_can_be_put(ring, convert):
    assert ring.put(convert(b"12345678"))
    assert ring.get() == b"12345678"


def test_put_into_full_ring_is_refused_and_counted(ring):
    assert ring.put(bytes(ring.record_max))
    assert not ring.put(b"")
    assert ring.stats().drops == 1
    assert ring.get() == bytes(ring.record_max)
    assert ring.put(b"")


def test_room_is_free_again_after_each_get(ring):
    record = bytes(56)
    count = 0
    while ring.put(record):
        count += 1
    assert count == 4096 // 64 - 1  # 8 bytes stay free, so the 64th record does not fit
    for _ in range(200):
        assert ring.get() == record
        assert ring.put(record)
        assert not ring.put(record)


def test_record_that_never_fits_is_an_error(ring):
    with pytest.raises(errors.TooLargeError, match="4081 bytes; this ring takes at most 4080"):
        ring.put(bytes(4081))
    with pytest.raises(errors.TooLargeError):
        ring.put_many([b"good", bytes(4081)])
    with pytest.raises(errors.TooLargeError):
        ring.put_array(bytes(2 * 4081), 4081)
    assert ring.get() is None
    assert ring.stats().drops == 0


def test_put_many_takes_what_fits_and_counts_the_rest(ring):
    records = [bytes([i]) * 56 for i in range(100)]
    assert ring.put_many(records) == 63
    assert ring.stats().drops == 37
    assert ring.get_many(1000) == records[:63]
    assert ring.put_many([]) == 0
    assert ring.put_many(iter([b"1", bytearray(b"2"), memoryview(b"3")])) == 3
    assert ring.put_many((b"4",)) == 1
    assert ring.get_many(2) == [b"1", b"2"]
    assert ring.get_many(0) == []
    assert ring.get_many(9) == [b"3", b"4"]
    assert ring.get_many(9) == []


@pytest.mark.parametrize("bad", [None, 1, "text", [b"a", 1], [b"a", "b"], b"bytes"])
def test_put_many_with_a_bad_record_puts_none(ring, bad):
    with pytest.raises(TypeError):
        ring.put_many(bad)
    assert ring.stats().records_in == 0


class Nested:
    """A sequence whose iteration uses the ring itself."""

    def __init__(self, ring):
        self.ring = ring

    def __iter__(self):
        self.ring.put(b"inner")
        yield b"outer"


def test_put_many_is_not_confused_by_puts_while_it_collects(ring):
    assert ring.put_many(Nested(ring)) == 1
    assert ring.get_many(9) == [b"inner", b"outer"]


def test_arrays_travel_by_rows(ring):
    rows = np.arange(60 * 7, dtype=np.uint64).reshape(60, 7)
    assert ring.put_array(rows) == 60
    assert len(ring) == 60
    assert ring.get() == rows[0].tobytes()
    taken = np.zeros((80, 7), np.uint64)
    assert ring.get_into(taken) == 59
    assert (taken[:59] == rows[1:]).all()
    assert not taken[59:].any()
    assert ring.get_into(taken) == 0


def test_put_array_takes_what_fits(ring):
    rows = np.arange(100 * 56, dtype=np.uint8).reshape(100, 56)
    assert ring.put_array(rows) == 63
    assert ring.stats().drops == 37
    assert ring.put_array(np.zeros((0, 56), np.uint8)) == 0
    assert ring.get_many(99) == [row.tobytes() for row in rows[:63]]


def test_flat_buffers_travel_by_record_size(ring):
    assert ring.put_array(b"aabbcc", 2) == 3
    assert ring.put_array(b"ddd", record_size=3) == 1
    taken = bytearray(8)
    assert ring.get_into(taken, 2) == 3  # and not the record of three bytes
    assert taken == b"aabbcc\0\0"
    with pytest.raises(ValueError, match="the next record has 3 bytes, not 2"):
        ring.get_into(taken, 2)
    assert ring.get() == b"ddd"


@pytest.mark.parametrize(
    ("rows", "size", "error"),
    [
        (b"abcd", None, ValueError),
        (b"abcd", 0, ValueError),
        (b"abcd", 3, ValueError),
        (b"abcd", 1.0, TypeError),
        (b"abcd", True, TypeError),
        (b"abcd", -1, OverflowError),
        (b"abcd", 2**64, OverflowError),
        (np.zeros((4, 0), np.uint8), None, ValueError),
    ],
)
def test_bad_row_sizes_are_refused(ring, rows, size, error):
    with pytest.raises(error):
        ring.put_array(rows, size)
    with pytest.raises(error):
        ring.get_into(bytearray(rows) if isinstance(rows, bytes) else rows, size)
    assert ring.stats().records_in == 0


def test_the_ring_reaches_another_process(ring):
    def child():
        with Ring.attach(ring.fd) as mine:
            assert mine.kind == ring.kind
            return 0 if mine.put(b"from the child") else 1

    assert run_in_child(child) == 0
    assert ring.get() == b"from the child"


def test_only_one_handle_holds_a_role():
    with Ring.create(4096) as one, Ring.attach(one.fd) as two:
        assert one.put(b"1")
        with pytest.raises(BufferError, match=rf"process {os.getpid()} is the producer"):
            two.put(b"2")
        assert two.get() == b"1"
        with pytest.raises(BufferError, match="is the consumer"):
            one.get()
        one.close()
        assert two.put(b"3")
        assert two.get() == b"3"


def test_many_producers_share_an_mpsc_ring_up_to_its_slots():
    with Ring.create(1 << 16, kind="mpsc") as ring:
        handles = [Ring.attach(ring.fd) for _ in range(25)]
        for i, handle in enumerate(handles[:24]):
            assert handle.put(bytes([i]))
        with pytest.raises(errors.FullError):
            handles[24].put(b"no")
        handles[3].close()
        assert handles[24].put(b"yes")
        assert ring.get_many(99) == [bytes([i]) for i in range(24)] + [b"yes"]


def test_a_fork_leaves_the_role_with_the_parent(ring):
    assert ring.put(b"parent")
    if ring.kind == "mpsc":
        assert run_in_child(lambda: 0 if ring.put(b"child") else 1) == 0
        assert ring.get_many(9) == [b"parent", b"child"]
        return

    def child():
        try:
            ring.put(b"child")
        except BufferError:
            ring.close()
            return 0
        return 1

    assert run_in_child(child) == 0
    assert ring.put(b"still mine")
    assert ring.get_many(9) == [b"parent", b"still mine"]


def test_the_role_of_a_dead_process_passes_on(ring):
    def child():
        mine = Ring.attach(ring.fd)
        mine.put(b"last words")
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(child) == -signal.SIGKILL
    assert ring.put(b"heir")
    assert ring.get_many(9) == [b"last words", b"heir"]


def test_repair_frees_what_the_dead_hold():
    with Ring.create(4096) as ring:

        def child():
            mine = Ring.attach(ring.fd)
            mine.put(b"x")
            mine.get()
            os._exit(7)

        assert run_in_child(child) == 7
        assert ring.repair() == 2
        assert ring.repair() == 0


def test_repair_replaces_the_claim_of_the_dead():
    with Ring.create(4096, kind="mpsc") as ring:

        def child():
            mine = Ring.attach(ring.fd)
            mine.put(b"whole")
            held = mine.reserve(100)
            assert held is not None
            os.kill(os.getpid(), signal.SIGKILL)

        assert run_in_child(child) == -signal.SIGKILL
        assert ring.put(b"after")
        assert ring.get() == b"whole"
        assert ring.repair() == 1
        assert ring.get() == b"after"
        assert ring.stats().losses == 1
        assert len(ring) == 0


def test_waiting_steps_over_the_claim_of_the_dead():
    with Ring.create(4096, kind="mpsc") as ring:

        def child():
            held = Ring.attach(ring.fd).reserve(100)
            assert held is not None
            os.kill(os.getpid(), signal.SIGKILL)

        assert run_in_child(child) == -signal.SIGKILL
        assert ring.put(b"after")
        assert ring.wait(5)
        assert ring.get() == b"after"


def test_stats_count_everything(ring):
    ring.put_many([bytes(56)] * 5)
    ring.get_many(2)
    now = ring.stats()
    assert isinstance(now, RingStats)
    assert now == RingStats(5, 2, 3, 3 * 64, 0, 0, now.high_water, 0)
    assert 3 * 64 <= now.high_water <= 5 * 64
    assert len(ring) == 3


def test_attach_refuses_what_is_no_ring(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file:
        with pytest.raises(errors.DeniedError):
            Ring.attach(file.fileno())
        with pytest.raises(errors.CorruptError):
            Ring.attach(file.fileno(), revocable=True)
    with pytest.raises(OSError, match="file descriptor"):
        Ring.attach(2**31 - 1)


def test_corrupt_bytes_raise_and_are_stepped_over_by_nobody():
    with Ring.create(4096) as ring:
        ring.put(b"good")
        os.pwrite(ring.fd, b"\xff" * 8, 4096 + 16)  # where the next record's word is
        assert ring.get() == b"good"
        for _ in range(2):
            with pytest.raises(errors.CorruptError):
                ring.get()
            with pytest.raises(errors.CorruptError):
                ring.get_many(4)
            with pytest.raises(errors.CorruptError):
                ring.wait(1)


def test_an_impossible_tail_is_corruption():
    with Ring.create(4096) as ring:
        assert ring.put(bytes(4000))
        os.pwrite(ring.fd, (1 << 40).to_bytes(8, "little"), 512)
        with pytest.raises(errors.CorruptError):
            ring.put(bytes(4000))


def test_revocation_takes_the_memory_from_peers():
    with Ring.create(4096, revocable=True) as ring:
        assert ring.revocable
        with pytest.raises(errors.DeniedError):
            Ring.attach(ring.fd)

        def child():
            theirs = Ring.attach(ring.fd, revocable=True)
            theirs.put(b"x")
            faulthandler.disable()
            Ring.attach(ring.fd, revocable=True).revoke()
            theirs.put(b"y")
            return 0

        assert run_in_child(child) == -signal.SIGBUS
    with Ring.create(4096) as ring, pytest.raises(errors.DeniedError):
        ring.revoke()


def test_a_closed_ring_refuses_everything(ring):
    assert not ring.closed
    ring.close()
    ring.close()
    assert ring.closed
    assert repr(ring) == "<Ring closed>"
    for use in (
        lambda: ring.put(b""), lambda: ring.get(), lambda: ring.put_many([b""]),
        lambda: ring.get_many(1), lambda: ring.put_array(b"a", 1),
        lambda: ring.get_into(bytearray(1), 1), lambda: ring.read(), lambda: ring.reserve(1),
        lambda: ring.wait(0), lambda: ring.arm(), lambda: ring.wait_fd, lambda: ring.repair(),
        lambda: ring.stats(), lambda: ring.revoke(), lambda: len(ring), lambda: ring.fd,
        lambda: ring.capacity, lambda: ring.record_max, lambda: ring.kind,
        lambda: ring.revocable, lambda: ring.__enter__(),
    ):  # fmt: skip
        with pytest.raises(errors.ClosedError):
            use()


def test_construction_and_copying_go_through_the_descriptor(ring):
    with pytest.raises(TypeError, match=r"Ring\.create"):
        Ring()
    for copying in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="passed to another process by its fd"):
            copying(ring)
    assert Ring.__new__(Ring).closed


def test_properties_and_repr_tell_the_shape():
    with Ring.create(5000) as ring:
        assert (ring.capacity, ring.record_max, ring.kind) == (8192, 8176, "spsc")
        assert repr(ring) == f"<Ring spsc fd={ring.fd} capacity=8192 waiting=0>"
        assert os.fstat(ring.fd).st_size == 4096 + 8192


@pytest.mark.parametrize("kind", ["SPSC", "", "mpmc"])
def test_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match="kind"):
        Ring.create(4096, kind=kind)


def test_flags_must_be_bools():
    with Ring.create(4096) as ring:
        for use in (
            lambda: Ring.create(4096, revocable=1), lambda: Ring.create(4096, kind=None),
            lambda: Ring.attach(ring.fd, revocable="no"), lambda: ring.repair(force=1),
        ):  # fmt: skip
            with pytest.raises(TypeError):
                use()


def test_wait_ends_with_the_time_or_the_record(ring):
    assert not ring.wait(0)
    assert not ring.wait(0.001)
    ring.put(b"x")
    assert ring.wait(0)
    assert ring.wait()
    assert ring.wait(1)


@pytest.mark.parametrize("bad", [True, "1", b"1", [1]])
def test_wait_takes_only_times(ring, bad):
    with pytest.raises(TypeError):
        ring.wait(bad)
    for value in (-1, -0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time"):
            ring.wait(value)


def test_a_sleeper_is_woken_and_its_ring_stays_open(ring):
    woken = []
    sleeper = threading.Thread(target=lambda: woken.append(ring.wait(20)))
    ring.wait(0)
    sleeper.start()
    while os.pread(ring.fd, 1, 128)[0] & 1 == 0:
        pass  # until it has announced that it sleeps
    with pytest.raises(BufferError, match="while a thread waits"):
        ring.close()
    begin = time.monotonic()
    ring.put(b"x")
    sleeper.join()
    assert woken == [True]
    assert time.monotonic() - begin < 10


def test_a_signal_interrupts_the_wait(ring):
    class Alarm(Exception):
        pass

    def ring_the_bell(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring_the_bell)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(Alarm):
            ring.wait(30)
    finally:
        signal.signal(signal.SIGALRM, before)
    ring.close()


def test_an_event_loop_is_woken_through_the_eventfd(ring):
    async def consume():
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(ring.wait_fd, ready.set)
        assert ring.arm()
        with Ring.attach(ring.fd, wait_fd=ring.wait_fd) as producer:
            producer.put(b"x")
            await asyncio.wait_for(ready.wait(), 20)
        loop.remove_reader(ring.wait_fd)
        assert not ring.arm()
        return ring.get()

    assert asyncio.run(consume()) == b"x"


def test_a_producer_without_the_eventfd_counts_the_lost_wake(ring):
    assert ring.arm()
    with Ring.attach(ring.fd) as producer:
        producer.put(b"x")
    assert ring.stats().wakes_lost == 1


def test_wait_fd_must_be_an_eventfd(ring, tmp_path):
    with (tmp_path / "file").open("wb") as file, pytest.raises(ValueError, match="wait_fd"):
        Ring.attach(ring.fd, wait_fd=file.fileno())
    for bad in (True, 1.0, "1"):
        with pytest.raises(TypeError):
            Ring.attach(ring.fd, wait_fd=bad)


def test_a_role_is_taken_from_a_dead_life_and_the_peer_keeps_its_own() -> None:
    with Ring.create(4096) as producer:
        producer.put(b"one")
        with Ring.attach(producer.fd) as first, Ring.attach(producer.fd) as second:
            assert first.get() == b"one"
            with pytest.raises(BufferError):
                second.get()
            producer.put(b"two")
            second.succeed("consumer")
            assert second.get() == b"two"
            assert producer.put(b"three"), "the producer's role was not touched"
            assert second.get() == b"three"
            with pytest.raises(ValueError, match="a role is"):
                second.succeed("owner")
