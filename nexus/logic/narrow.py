"""Pledge for a program that narrows itself while it runs, as pledge(2) does.

`pledge` puts the filter of the promises on all threads of the process. Filters stack and are
inherited: what was given up stays so for the process, its children and what they execute. A later
call may promise less, never more; asking for more is an error that is logged, or, once `error` was
promised, is answered by what both have.

Not handled: promises for programs that are executed later (`execpromises`), which no filter can
hold, see docs/adr/0009. What a manifest has already taken away is unknown here, and stays away.
"""

from __future__ import annotations

import errno
import logging
from typing import Final

from nexus.errors import DeniedError, PledgeError
from nexus.logic.pledge import Disposition, compile_pledge, parse_promises
from nexus.physics.seccomp import SeccompFilter
from nexus.physics.syscalls import native_machine

__all__ = ["NO_EXEC_PROMISES", "held", "pledge"]

NO_EXEC_PROMISES: Final = (
    "what is executed has the promises of its parent: run what needs less as a fiber of its own"
)
_log = logging.getLogger("nexus.pledge")
_held: frozenset[str] | None = None


def held() -> frozenset[str] | None:
    """What this process has promised by `pledge`; None before the first call."""
    return _held


def pledge(
    promises: str, execpromises: str | None = None, *, refused: Disposition = "trap"
) -> frozenset[str]:
    """Give up everything but what is promised, for good; returns what is held from now on.

    Args:
        promises: words between spaces or commas.
        execpromises: None; anything else is refused.
        refused: what a call beyond them gets, where `error` is not among them.

    Raises:
        PledgeError: a word that is no promise, or `execpromises`.
        DeniedError: it asks for more than is held (EPERM); nothing changes.
        OSError: the kernel refuses, as where a thread has another filter (ESRCH).
    """
    global _held
    if execpromises is not None:
        raise PledgeError("execpromises cannot be held", hint=NO_EXEC_PROMISES)
    asked = parse_promises(promises)
    if _held is not None and asked - _held - {"error"}:
        more = " ".join(sorted(asked - _held - {"error"}))
        if "error" not in _held:
            _log.warning("pledge: %s is not held any more", more)
            raise DeniedError(errno.EPERM, f"pledge: {more} was given up and cannot be had back")
        asked &= _held
    if _held is not None and "error" in _held:
        asked |= {"error"}
    if asked != _held:
        code, _ = compile_pledge(asked, refused, native_machine())
        SeccompFilter.from_bytes(code).install(no_new_privs=True, thread_sync=True)
        _held = asked
    return asked
