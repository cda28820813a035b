"""What a process is asked by signals, and what it was given to read."""

from __future__ import annotations

import os
import signal

__all__ = ["EndRequest", "read_whole"]

_READ_MAX = 1 << 20


class EndRequest:
    """Notes that SIGTERM came; SIGINT of a terminal is left to whoever started the node.

    Attributes:
        asked: whether it came.
    """

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _note(self, *_: object) -> None:
        self.asked = True


def read_whole(descriptor: int) -> bytes:
    """A small file from its beginning, wherever an earlier life's reading has left it."""
    return os.pread(descriptor, _READ_MAX, 0)
