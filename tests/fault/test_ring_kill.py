"""Python producers and consumers killed at random moments; the native harness kills thousands more.

The canary is `multiprocessing.Queue`: a consumer killed inside its `get` takes the lock with it.
"""

import multiprocessing
import os
import queue
import random
import signal
import time
import zlib

import pytest

from nexus.physics import Ring

# Python 3.12 warns of forks beside threads; these children touch nothing that threads hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PATIENCE = 1.0


def record_of(number):
    body = number.to_bytes(8, "little") + random.Random(number).randbytes(number % 700)
    return body + zlib.crc32(body).to_bytes(4, "little")


def number_of(record):
    """The record's number; fails when any byte of it is not what was put."""
    body, seal = record[:-4], record[-4:]
    assert zlib.crc32(body) == int.from_bytes(seal, "little"), "a torn record"
    return int.from_bytes(body[:8], "little")


def start(body):
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            os._exit(1)
    return child


def end(child):
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the child failed by itself"


def produce(fd):
    ring = Ring.attach(fd)
    ring.reserve(8).cancel()  # takes the role, so that the count is true
    number = ring.stats().records_in
    while True:
        if ring.put(record_of(number)):
            number += 1


def consume(fd):
    ring = Ring.attach(fd)
    assert ring.get_many(0) == []
    while True:
        expected = ring.stats().records_out
        record = ring.get()
        assert record is None or number_of(record) == expected


@pytest.fixture
def dice():
    seed = int(os.environ.get("NEXUS_SEED", random.SystemRandom().getrandbits(32)))
    print(f"to repeat: NEXUS_SEED={seed}")
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [100])
def test_consumer_survives_killed_producers(dice, kills):
    with Ring.create(1 << 14) as ring:
        expected = 0
        for _ in range(kills):
            child = start(lambda: produce(ring.fd))
            until = time.monotonic() + PATIENCE
            assert ring.wait(PATIENCE), "the survivor waited too long"
            until = time.monotonic() + dice.random() * 0.002
            while time.monotonic() < until:
                if (record := ring.get()) is not None:
                    assert number_of(record) == expected
                    expected += 1
            end(child)
            for record in ring.get_many(10**6):
                assert number_of(record) == expected
                expected += 1
        assert ring.put(b"")  # the last producer's role, and its count
        assert ring.stats().records_in == expected + 1


@pytest.mark.slow
@pytest.mark.parametrize("kills", [100])
def test_producer_survives_killed_consumers(dice, kills):
    with Ring.create(1 << 14) as ring:
        number = 0
        for _ in range(kills):
            before = ring.stats().records_out
            child = start(lambda: consume(ring.fd))
            begin = time.monotonic()
            until = begin + PATIENCE + 1
            while time.monotonic() < until:
                if ring.put(record_of(number)):
                    number += 1
                if until > begin + PATIENCE and ring.stats().records_out > before:
                    until = time.monotonic() + dice.random() * 0.002
            assert ring.stats().records_out > before, "nothing was consumed"
            end(child)
        rest = [number_of(record) for record in ring.get_many(10**6)]
        assert rest == list(range(number - len(rest), number))
        assert ring.stats().records_out == number


@pytest.mark.slow
def test_canary_a_queue_with_a_lock_does_not_survive():
    context = multiprocessing.get_context("fork")
    shared = context.Queue()
    victim = context.Process(target=shared.get, daemon=True)
    victim.start()
    while shared._rlock.acquire(block=False):  # until the victim sleeps inside get
        shared._rlock.release()
        time.sleep(0.001)
    victim.kill()
    victim.join()
    shared.put(b"x")
    with pytest.raises(queue.Empty):
        shared.get(timeout=0.5)
    shared.cancel_join_thread()
