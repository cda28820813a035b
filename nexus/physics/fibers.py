"""What a fiber asks of its process: the handles it was given, and to give up the CPU."""

from __future__ import annotations

import os
import resource
import time

from nexus._core.life import FiberHandles, parse_handles
from nexus.errors import HandlesError

__all__ = ["fiber_handles", "fiber_name", "give_up_cpu"]

_VARIABLE = b"NEXUS_FIBER"
# A timer that is over before the thread has left the CPU switches nothing, so there is a next try.
_SLEEP_S = 10e-6
_TRIES_MAX = 10


def fiber_handles() -> FiberHandles | None:
    """The handles of this process; None when it is no fiber.

    None of them passes on to a program that this one starts.

    Raises:
        HandlesError: the list is wrong, or names a descriptor that is not open.
    """
    text = os.environb.get(_VARIABLE)
    if text is None:
        return None
    handles = parse_handles(text)
    numbers = [number for number, _ in handles.channels.values()] + [*handles.files.values()]
    for number in (handles.life, handles.checkpoint, *numbers):
        if number is None:
            continue
        try:
            os.set_inheritable(number, False)
        except OSError as error:
            raise HandlesError(
                f"NEXUS_FIBER names the descriptor {number}: {error.strerror}"
            ) from error
    return handles


def fiber_name() -> str:
    """What the manifest calls this fiber; empty when whoever started it did not say."""
    return os.environ.get("NEXUS_NAME", "")


def give_up_cpu() -> None:
    """Leave the CPU, whether or not anybody waits for it, and come back soon.

    `sched_yield` goes on at once when nobody waits, and then no burst has ended. This sleeps for
    some microseconds, and looks at the kernel's count of switches.
    """
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for attempt in range(_TRIES_MAX):
        time.sleep(_SLEEP_S * 2**attempt)
        if resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw != before:
            return
