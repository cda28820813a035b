"""Rows of the bad-input suite for seccomp filters and syscall numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from entry import Entry, nothing

from nexus.physics import (
    Action,
    ArgumentTest,
    SeccompFilter,
    SeccompRule,
    syscall_mask,
    syscall_name,
)

DENY = Action.errno(1)


def filtered() -> AbstractContextManager[Any]:
    return nullcontext(SeccompFilter.compile([], default=DENY))


def compiled(*tests: ArgumentTest) -> SeccompFilter:
    return SeccompFilter.compile([SeccompRule((1,), Action.ALLOW, tests)], default=DENY)


FILTERS = [
    Entry("Action.errno", "number", "integer", nothing, lambda _, v: Action.errno(v), 13,
          special=((1 << 16, OverflowError),)),
    Entry("Action.from_value", "value", "integer", nothing,
          lambda _, v: Action.from_value(v), 0x7FFF0000, special=((0x12340000, ValueError),)),
    Entry("ArgumentTest.equal", "argument", "integer", nothing,
          lambda _, v: compiled(ArgumentTest.equal(v, 1, width=64)), 2, special=((6, ValueError),)),
    Entry("ArgumentTest.equal", "value", "integer", nothing,
          lambda _, v: compiled(ArgumentTest.equal(0, v, width=64)), 2),
    Entry("ArgumentTest.masked", "mask", "integer", nothing,
          lambda _, v: compiled(ArgumentTest.masked(0, v, 0, width=64)), 2),
    Entry("ArgumentTest.between", "low", "integer", nothing,
          lambda _, v: compiled(ArgumentTest.between(0, v, 2**64 - 1, width=64)), 2),
    Entry("ArgumentTest.between", "high", "integer", nothing,
          lambda _, v: compiled(ArgumentTest.between(0, 0, v, width=64)), 2),
    Entry("SeccompFilter.from_mask", "mask", "buffer", nothing,
          lambda _, v: SeccompFilter.from_mask(v, default=DENY), bytes(64),
          special=((bytes(63), ValueError), (bytes(65), ValueError))),
    Entry("SeccompFilter.from_bytes", "code", "buffer", nothing,
          lambda _, v: SeccompFilter.from_bytes(v), b"\x06" + bytes(7),
          special=((bytes(8), ValueError), (b"", ValueError))),
    Entry("SeccompFilter.simulate", "arguments[0]", "integer", filtered,
          lambda f, v: f.simulate("read", (v,)), 5, bytes),
    Entry("SeccompFilter.simulate", "arch", "integer", filtered,
          lambda f, v: f.simulate("read", arch="" if v is None else v), 5, bytes,
          ((1 << 32, OverflowError),)),
    Entry("syscall_name", "number", "integer", nothing, lambda _, v: syscall_name(v), 1,
          special=((1 << 32, OverflowError),)),
    Entry("syscall_mask", "names[0]", "field", nothing, lambda _, v: syscall_mask([v]), 1,
          special=((512, ValueError), ("opne", ValueError))),
]  # fmt: skip
