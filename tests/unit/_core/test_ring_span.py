"""Spans: records in place, and the refusals that keep them safe."""

import contextlib
import copy
import gc
import os
import pickle

import numpy as np
import pytest

from nexus import errors
from nexus.physics import Ring, Span

# Python 3.12 warns of forks beside threads; these children touch nothing that threads hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(params=("spsc", "mpsc"))
def ring(request):
    with Ring.create(4096, kind=request.param) as made:
        yield made


def test_read_shows_and_release_consumes(ring):
    ring.put_many([b"one", b"two"])
    span = ring.read()
    assert bytes(span) == b"one"
    assert (len(span), span.closed, repr(span)) == (3, False, "<Span shown 3 bytes>")
    assert len(ring) == 2
    span.release()
    assert span.closed
    assert len(ring) == 1
    with ring.read() as other:
        assert memoryview(other).tobytes() == b"two"
    assert ring.read() is None


def test_cancelled_read_leaves_the_record(ring):
    ring.put(b"again")
    ring.read().cancel()
    assert ring.get() == b"again"


def test_a_raising_block_leaves_the_record(ring):
    ring.put(b"again")
    with pytest.raises(KeyError), ring.read():
        raise KeyError
    assert ring.get() == b"again"


def test_a_dropped_span_leaves_the_record_and_the_ring_usable(ring):
    ring.put(b"again")
    ring.read()
    gc.collect()
    assert ring.get() == b"again"
    ring.reserve(8)
    gc.collect()
    assert ring.put(b"x")
    assert ring.get() == b"x"


def test_a_shown_record_is_read_only(ring):
    ring.put(b"one")
    with ring.read() as span:
        with memoryview(span) as view:
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
        with pytest.raises((BufferError, ValueError, TypeError)):
            np.frombuffer(span, np.uint8)[0] = 1


def test_reserve_writes_in_place(ring):
    with ring.reserve(300) as span:
        assert ring.stats().records_in == 0
        memoryview(span)[:] = bytes(range(150)) * 2
    assert ring.get() == bytes(range(150)) * 2


@pytest.mark.parametrize("used", [0, 1, 8, 9, 99, 100])
def test_a_reserved_span_can_be_committed_in_part(ring, used):
    for _ in range(100):
        span = ring.reserve(100)
        memoryview(span)[:] = bytes(range(100))
        span.release(used)
        ring.put(b"next")
        assert ring.get_many(9) == [bytes(range(100))[:used], b"next"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [(101, OverflowError), (-1, OverflowError), (1.0, TypeError), (True, TypeError)],
)
def test_bad_lengths_leave_the_span_open(ring, bad, error):
    span = ring.reserve(100)
    with pytest.raises(error):
        span.release(bad)
    assert not span.closed
    span.release(0)
    shown = ring.read()
    with pytest.raises(TypeError, match="released whole"):
        shown.release(0)
    shown.release()


def test_a_cancelled_reservation_was_never_there(ring):
    ring.reserve(100).cancel()
    with contextlib.suppress(KeyError), ring.reserve(50) as span:
        memoryview(span)[:] = b"x" * 50
        raise KeyError
    assert span.closed
    ring.put(b"real")
    assert ring.get_many(9) == [b"real"]
    assert ring.stats().records_in == 1


def test_reserve_in_a_full_ring_is_refused_and_counted(ring):
    ring.put(bytes(4000))
    assert ring.reserve(100) is None
    assert ring.stats().drops == 1
    with pytest.raises(errors.TooLargeError):
        ring.reserve(4081)


def test_release_is_refused_while_exported(ring):
    ring.put(b"one")
    for span in (ring.read(), ring.reserve(8)):
        views = [memoryview(span), memoryview(span)]
        for end in (span.release, span.cancel):
            with pytest.raises(BufferError, match="2 buffers"):
                end()
        views[0].release()
        with pytest.raises(BufferError), span:
            pass
        views[1].release()
        span.release()


def test_use_after_release_is_refused(ring):
    ring.put(b"one")
    for span in (ring.read(), ring.reserve(8)):
        span.release()
        for use in (span.release, span.cancel, span.__enter__, lambda s=span: memoryview(s)):
            with pytest.raises(errors.ClosedError):
                use()
    span = ring.read()
    with span:
        span.release()  # leaving the block then does nothing
    assert span.closed


def test_one_span_of_each_kind_at_a_time(ring):
    ring.put_many([b"one", b"two"])
    shown, reserved = ring.read(), ring.reserve(8)
    for use in (ring.get, ring.read, lambda: ring.get_many(1), lambda: ring.wait(0)):
        with pytest.raises(BufferError, match="shown Span"):
            use()
    for use in (lambda: ring.put(b""), lambda: ring.reserve(1), lambda: ring.put_many([b""])):
        with pytest.raises(BufferError, match="reserved Span"):
            use()
    for use in (ring.close, ring.repair, ring.revoke):
        with pytest.raises(BufferError, match="while a Span"):
            use()
    shown.release()
    assert ring.get() == b"two"
    reserved.release()
    assert ring.put(b"three")


def test_the_span_keeps_the_ring_alive():
    span = Ring.create(4096).reserve(64)
    gc.collect()
    memoryview(span)[:] = bytes(64)
    span.release()


def test_the_span_of_a_parent_ends_quietly_in_the_child(ring):
    span = ring.reserve(8)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            span.release()
            ring.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(ring) == 0
    memoryview(span)[:] = b"parent's"
    span.release()
    assert ring.get() == b"parent's"


def test_spans_are_made_by_rings_alone(ring):
    with pytest.raises(TypeError, match=r"Ring\.read"):
        Span()
    with ring.reserve(1) as span:
        for copying in (copy.copy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be pickled"):
                copying(span)
    blank = Span.__new__(Span)
    assert blank.closed
    with pytest.raises(errors.ClosedError):
        memoryview(blank)
