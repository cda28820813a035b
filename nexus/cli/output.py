"""What commands print: a document for people or for programs on stdout, all else on stderr."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Mapping, Sequence

SCHEMA = 1

# Colour repeats what the word beside it says and never carries a meaning of its own.
_COLOURS = {
    "ok": "32",
    "limited": "33",
    "absent": "31",
    "failed": "31",
    "error": "31",
    "hint": "36",
}


def _encode(kind: str, body: Mapping[str, object]) -> str:
    import json  # slow to import

    return json.dumps({"schema": SCHEMA, "type": kind, **body}, ensure_ascii=True)


class Output:
    """One command's way of speaking.

    Attributes:
        json: whether a program reads the output.
    """

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and not json

    def document(self, kind: str, body: Mapping[str, object]) -> None:
        """Print one JSON document with its schema number; only for `--json`."""
        print(_encode(kind, body))

    def aside(self, kind: str, body: Mapping[str, object]) -> None:
        """Print a document on stderr, where stdout is a program's own.

        Raises:
            OSError: nobody reads it, or there is no room.
        """
        # Past the buffer, which would keep what could not be written, and fail again at the end.
        line = memoryview((_encode(kind, body) + "\n").encode())
        while line:
            try:
                line = line[os.write(2, line) :]
            except BlockingIOError:
                select.select([], [2], [])

    def line(self, text: str = "") -> None:
        """Print one line of the result for people."""
        print(text)

    def flush(self) -> None:
        """Let a reader at the other end of a pipe see what was printed."""
        sys.stdout.flush()

    def progress(self, text: str) -> None:
        """Show what is being done, on a terminal only, overwritten by the next."""
        if sys.stderr.isatty() and not self.json and "NEXUS_NO_PROGRESS" not in os.environ:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def paint(self, word: str) -> str:
        """The word in its colour, where colours are wanted."""
        if not self._colour or word not in _COLOURS:
            return word
        return f"\x1b[{_COLOURS[word]}m{word}\x1b[0m"

    def table(self, rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
        """Print rows as columns, numbers in the columns `right` flush right."""
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [
                cell.rjust(width) if i in right else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            words = "  ".join(cells).rstrip()
            first = row[0]
            print(self.paint(first) + words[len(first) :] if not right else words)

    def error(self, code: str, message: str, hint: str | None) -> None:
        """Say on stderr what went wrong and what to do about it."""
        if self.json:
            body = {"code": code, "message": message, "hint": hint}
            print(_encode("error", body), file=sys.stderr)
            return
        print(f"error[{code}]: {message}", file=sys.stderr)
        if hint:
            print(f"\nhint: {hint}", file=sys.stderr)
