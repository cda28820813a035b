"""Blocking send and recv: who sleeps is woken, in time, from another process, and both ways."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nexus.errors import TooLargeError
from nexus.physics import Ring


@pytest.fixture(params=["spsc", "mpsc"])
def ring(request):
    with Ring.create(4096, kind=request.param) as made:
        yield made


def fill(ring):
    count = 0
    while ring.put(b"x" * 248):
        count += 1
    return count


def in_child(work):
    """Run `work` in a child process; its exit code must be 0."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def reap(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_recv_takes_what_is_there(ring):
    ring.put(b"one")
    assert ring.recv() == b"one"
    assert ring.recv(0) is None
    assert ring.recv(timeout=0.01) is None


def test_send_into_a_full_ring_gives_up_in_time(ring):
    sent = fill(ring)
    drops = ring.stats().drops
    start = time.monotonic()
    assert not ring.send(b"x" * 248, 0.05)
    assert time.monotonic() - start >= 0.05
    assert ring.stats().drops == drops + 1
    assert ring.stats().records_in == sent


def test_send_that_waited_is_no_drop(ring):
    fill(ring)
    drops = ring.stats().drops
    reader = threading.Timer(0.02, ring.get)
    reader.start()
    assert ring.send(b"y" * 248, 30)
    reader.join()
    assert ring.stats().drops == drops


def test_send_of_too_much_is_refused_at_once(ring):
    with pytest.raises(TooLargeError):
        ring.send(bytes(ring.record_max + 1))
    with pytest.raises(TypeError):
        ring.send(None)


def test_closing_is_refused_while_a_thread_waits_for_room(ring):
    fill(ring)
    begun = threading.Event()

    def wait():
        begun.set()
        ring.send(b"z" * 248, 0.3)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    refused = 0
    while thread.is_alive() and not refused:
        try:
            ring.close()
        except BufferError:
            refused += 1
            break
    thread.join()
    assert refused


@pytest.mark.slow
def test_everything_sent_arrives_through_a_ring_that_is_mostly_full(ring):
    """A lost wake of either side would cost 0.2 s each time."""
    count = 20_000

    def produce():
        with Ring.attach(ring.fd) as end:
            for number in range(count):
                assert end.send(number.to_bytes(8, "little") * 30, 60)

    start = time.monotonic()
    pid = in_child(produce)
    for number in range(count):
        assert ring.recv(60) == number.to_bytes(8, "little") * 30
    reap(pid)
    assert time.monotonic() - start < 30


def asleep(pid):
    while "futex" not in Path(f"/proc/{pid}/wchan").read_text():
        time.sleep(0.001)


@pytest.mark.slow
def test_a_sleeping_reader_is_woken_by_a_put_at_once(ring):
    def consume():
        with Ring.attach(ring.fd) as end:
            assert end.recv(60) == b"wake"

    pid = in_child(consume)
    asleep(pid)
    ring.put(b"wake")
    reap(pid)


@pytest.mark.slow
def test_a_sleeping_sender_is_woken_by_a_get_at_once():
    """Not by the slice of 0.2 s: fifty rounds would take ten seconds."""
    ring = Ring.create(4096)
    replies = Ring.create(4096)

    def produce():
        with Ring.attach(ring.fd) as end, Ring.attach(replies.fd) as back:
            while end.put(b"x" * 248):
                pass
            for _ in range(50):
                back.put(b"full")
                assert end.send(b"x" * 248, 60)

    pid = in_child(produce)
    spent = 0.0
    for _ in range(50):
        assert replies.recv(60) == b"full"
        asleep(pid)
        start = time.monotonic()
        ring.get()
        while len(ring) * 256 + 256 + 8 <= 4096 and time.monotonic() - start < 1:
            time.sleep(0)
        spent += time.monotonic() - start
    reap(pid)
    assert spent < 5


def test_ctrl_c_ends_both_waits(ring):
    for wait in (ring.recv, lambda: (fill(ring), ring.send(b"x" * 248))):
        helper = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            wait()
        helper.join()
