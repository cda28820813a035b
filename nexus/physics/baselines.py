"""What L1 shows of its baselines, as a file: one JSON text, written over and over by L1 alone.

A reader that meets a text half written reads again; what is of another boot of the node, it says.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from nexus.errors import CorruptError
from nexus.seams.baselines import Learned, Metric

__all__ = ["BaselineFile", "read_baselines"]

_SCHEMA = 1
_TRIES_MAX = 20
_PAUSE_S = 0.005


class BaselineFile:
    """Implements `nexus.seams.baselines.Baselines`.

    Args:
        descriptor: of the file, open for writing; taken over.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def show(self, start_ns: int, learned: Sequence[Learned]) -> None:
        """Replace what was shown."""
        rows = [astuple(one) for one in learned]
        text = json.dumps({"schema": _SCHEMA, "start_ns": start_ns, "learned": rows}).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


def read_baselines(path: Path, start_ns: int) -> list[Learned]:
    """What L1 shows; nothing when it has shown nothing since the node's start.

    Args:
        path: of the file.
        start_ns: of the node, as its table has it.

    Raises:
        CorruptError: this is no such file.
    """
    for _ in range(_TRIES_MAX):
        try:
            text = path.read_bytes()
            if not text:
                return []
            found = json.loads(text)
            if found["schema"] != _SCHEMA:
                break
            if found["start_ns"] != start_ns:
                return []
            return [_learned(row) for row in found["learned"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError):
            time.sleep(_PAUSE_S)
    raise CorruptError(f"{path} does not have the form that L1 writes")


def _learned(row: list[object]) -> Learned:
    one = Learned(*row)  # type: ignore[arg-type]
    return Learned(one.fiber, one.image, Metric(one.metric), *row[3:])  # type: ignore[arg-type]
