"""Rows of the bad-input suite for what a fiber is told; see entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from entry import Entry, nothing

from nexus.errors import HandlesError
from nexus.physics import LifePage, Ring, parse_handles

FD = 203


@contextmanager
def page_fd() -> Iterator[int]:
    """A life page's memory under a number known beforehand."""
    made = os.memfd_create("life")
    os.ftruncate(made, 64)
    os.dup2(made, FD)
    try:
        yield FD
    finally:
        os.close(FD)
        os.close(made)


def heeding(life: int, number: int) -> None:
    with Ring.create(4096) as made:
        made.heed(life, number, "a ring")


@contextmanager
def page() -> Iterator[LifePage]:
    with page_fd() as number, LifePage.attach(number) as made:
        yield made


FIBERS = [
    Entry("LifePage.attach", "fd", "integer", page_fd, lambda _, v: LifePage.attach(v).close(), FD,
          special=((2**31 - 1, OSError),)),
    Entry("Ring.heed", "life", "integer", page_fd, lambda _, v: heeding(v, 5), FD,
          special=((2**31 - 1, OSError),)),
    Entry("Ring.heed", "number", "integer", page_fd, lambda f, v: heeding(f, v), 5,
          special=((64, OverflowError),)),
    Entry("LifePage.wait", "timeout", "number", page,
          lambda p, v: p.wait("ever" if v is None else v), 0.0, lambda p: p.closed or p.life,
          ((-1.0, ValueError),), lambda p: p.close()),
    Entry("parse_handles", "text", "buffer", nothing, lambda _, v: parse_handles(v), b"life=3",
          special=((b"life=2", HandlesError), (bytes(8193), HandlesError))),
]  # fmt: skip
