"""What a program that runs as a fiber imports: `run`, and the `Context` that it hands over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from nexus.errors import NoFiberError
from nexus.fiber.channel import Channel
from nexus.fiber.context import Context
from nexus.fiber.record import F32, F64, I8, I16, I32, I64, U8, U16, U32, U64
from nexus.physics import fiber_handles

__all__ = [
    "F32",
    "F64",
    "I8",
    "I16",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
    "Channel",
    "Context",
    "run",
]

_EXIT_MAX = 255


def run(function: Callable[[Context], int | None]) -> NoReturn:
    """Be a fiber: attach what the supervisor gave, wait for the life to begin, call the function.

    The waiting is what makes a standby: everything that the module does before is done ahead.

    Args:
        function: takes the context; returns the exit code, None for 0.

    Raises:
        NoFiberError: this process is no fiber.
        HandlesError: what it was given is not what NEXUS_FIBER says.
        SystemExit: with what the function returned.
    """
    handles = fiber_handles()
    if handles is None:
        raise NoFiberError(
            "this process is no fiber: NEXUS_FIBER is not set",
            hint="start the program through Nexus, as a fiber of a node",
        )
    code = function(Context(handles))
    if code is None:
        code = 0
    if type(code) is not int or not 0 <= code <= _EXIT_MAX:
        raise TypeError(f"a fiber returns None or an exit code of 0 to {_EXIT_MAX}, not {code!r}")
    raise SystemExit(code)
