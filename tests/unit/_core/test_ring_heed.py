"""A ring that heeds a life page: what its supervisor revokes, it neither puts nor gets any more."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.errors import DeniedError, RevokedError
from nexus.physics import Ring

NUMBER = 5


class Page:
    """A life page that the test writes."""

    def __init__(self, name: str = "life") -> None:
        self.fd = os.memfd_create(name)
        os.ftruncate(self.fd, 64)

    def revoke(self, mask: int) -> None:
        os.pwrite(self.fd, struct.pack("<Q", mask), 40)


@pytest.fixture
def page():
    made = Page()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(page):
    with Ring.create(4096) as made:
        made.put(b"before")
        made.heed(page.fd, NUMBER, "the channel 'way'")
        yield made


OPERATIONS: dict[str, Callable[[Ring], object]] = {
    "put": lambda ring: ring.put(b"x"),
    "put a buffer": lambda ring: ring.put(bytearray(1)),
    "send": lambda ring: ring.send(b"x", 1),
    "put_many": lambda ring: ring.put_many([b"x"]),
    "put_array": lambda ring: ring.put_array(b"xx", 1),
    "reserve": lambda ring: ring.reserve(1),
    "get": lambda ring: ring.get(),
    "recv": lambda ring: ring.recv(1),
    "get_many": lambda ring: ring.get_many(1),
    "get_into": lambda ring: ring.get_into(bytearray(6), 6),
    "read": lambda ring: ring.read(),
    "wait": lambda ring: ring.wait(1),
    "arm": lambda ring: ring.arm(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_refused_from_then_on(ring, page, name) -> None:
    call = OPERATIONS[name]
    page.revoke(~(1 << NUMBER) & 0xFFFFFFFFFFFFFFFF)
    done = call(ring)  # other bits are other handles
    if name in ("reserve", "read"):
        done.cancel()
    page.revoke(1 << NUMBER)
    before = ring.stats()
    for _ in range(3):
        with pytest.raises(RevokedError, match="the channel 'way' was revoked") as refused:
            call(ring)
    assert (refused.value.code, refused.value.exit_code) == ("NX-CAP-003", 20)
    assert isinstance(refused.value, DeniedError)
    assert refused.value.hint is not None
    assert ring.stats() == before
    page.revoke(0)
    again = call(ring)
    if name in ("reserve", "read") and again is not None:
        again.cancel()


@pytest.mark.parametrize("full", [False, True])
def test_who_sleeps_is_told(page, full) -> None:
    with Ring.create(4096) as ring:
        ring.heed(page.fd, NUMBER, "it")
        while full and ring.put(bytes(1000)):
            pass
        threading.Timer(0.05, page.revoke, [1 << NUMBER]).start()
        began = time.monotonic()
        with pytest.raises(RevokedError):
            ring.send(bytes(1000), 60) if full else ring.recv(60)
        assert time.monotonic() - began < 30


def test_a_ring_heeds_one_page_and_nothing_but_a_page(ring, page) -> None:
    with pytest.raises(ValueError, match="already"):
        ring.heed(page.fd, NUMBER, "it")
    with Ring.create(4096) as other:
        with pytest.raises(ValueError, match="64 bytes"):
            other.heed(other.fd, NUMBER, "it")
        with pytest.raises(TypeError):
            other.heed(page.fd, NUMBER, b"it")
        with pytest.raises(OverflowError):
            other.heed(page.fd, 64, "it")
        assert other.put(b"as before")


def test_the_page_outlives_its_descriptor_and_not_the_ring() -> None:
    page = Page("alone")
    ring = Ring.create(4096)
    ring.heed(page.fd, 63, "it")
    os.close(page.fd)
    assert ring.put(b"x")
    ring.close()
    assert Path("/proc/self/maps").read_text().count("memfd:alone") == 1
    del ring
    assert "memfd:alone" not in Path("/proc/self/maps").read_text()
