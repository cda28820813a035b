"""The row of the bad-input tables: one parameter of one public call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One parameter of one call.

    Attributes:
        name: the call, as in `Class.method`.
        parameter: which argument is spoiled.
        kind: `integer`, `field` (an integer or a label), `number`, `buffer`, `writable` (a
            buffer) or `doubles` (a buffer of).
        make: makes the object under test, closed again when the test ends.
        call: calls with a value for the parameter and good ones for the others.
        good: a right value.
        state: what must not change.
        special: values that are wrong for this call alone, with what they raise.
        close: closes the object, where it can be closed.
    """

    name: str
    parameter: str
    kind: str
    make: Callable[[], AbstractContextManager[Any]]
    call: Callable[[Any, Any], object]
    good: Any
    state: Callable[[Any], Any] = lambda target: None
    special: tuple[tuple[Any, type[Exception]], ...] = ()
    close: Callable[[Any], object] | None = None


def nothing() -> AbstractContextManager[Any]:
    """For calls that need no object."""
    return nullcontext(None)
