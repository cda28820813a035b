"""What a volume has, as text for people and as JSON: names, entries, issues, sizes, times."""

from __future__ import annotations

import base64
import os
import re
import stat

from nexus.cli.grammar import UsageError
from nexus.seams.store import Entry, Issue

__all__ = [
    "bytes_of",
    "bytes_text",
    "entry_line",
    "entry_record",
    "issue_lines",
    "issue_record",
    "name_record",
    "name_text",
    "time_text",
]

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_SHOWN_ISSUES_MAX = 20


def name_text(name: bytes) -> str:
    """A name or path on one line of a terminal, whatever its bytes are."""
    text = name.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def name_record(key: str, name: bytes) -> dict[str, object]:
    """A name or path in JSON: as text, and in base64 besides where it is no UTF-8."""
    try:
        return {key: name.decode()}
    except UnicodeDecodeError:
        coded = base64.b64encode(name).decode()
        return {key: name.decode(errors="backslashreplace"), f"{key}_base64": coded}


def bytes_text(count: int) -> str:
    """A number of bytes, as short as it can be read."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1000 or unit == "TiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def bytes_of(text: str) -> int:
    """The number of bytes that a text says: a number and B, KiB, MiB, GiB or TiB.

    Raises:
        UsageError: it says none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,14})(B|KiB|MiB|GiB|TiB)", text)
    if found is None:
        raise UsageError(
            f"{text!r} is no size", hint="write a whole number and its unit: 8GiB, 64MiB, 512KiB"
        )
    return int(found[1]) << (10 * ("B", "KiB", "MiB", "GiB", "TiB").index(found[2]))


def time_text(seconds: int) -> str:
    """A time since 1970 in UTC; its number where the calendar does not have it."""
    from datetime import UTC, datetime  # slow to import

    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def entry_line(path: bytes, entry: Entry) -> str:
    """One line about an entry."""
    target = f" -> {name_text(entry.text or b'')}" if stat.S_ISLNK(entry.mode) else ""
    when = time_text(entry.seconds)
    return f"{stat.filemode(entry.mode)} {entry.size:>12} {when} {name_text(path)}{target}"


def entry_record(path: bytes, entry: Entry) -> dict[str, object]:
    """An entry in JSON."""
    record = {
        **name_record("path", path),
        "kind": _KINDS.get(stat.S_IFMT(entry.mode), "unknown"),
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "seconds": entry.seconds,
        "nanoseconds": entry.nanoseconds,
        "size": entry.size,
        "id": None if entry.id is None else entry.id.hex(),
    }
    if stat.S_ISLNK(entry.mode):
        record.update(name_record("target", entry.text or b""))
    return record


def issue_record(issue: Issue) -> dict[str, object]:
    """What was left out, in JSON."""
    return {
        **name_record("path", issue.path),
        "errno": issue.errno,
        "why": os.strerror(issue.errno),
    }


def issue_lines(issues: tuple[Issue, ...]) -> list[str]:
    """What was left out, for people; the first of many."""
    lines = [
        f"left out: {name_text(one.path)}: {os.strerror(one.errno)}"
        for one in issues[:_SHOWN_ISSUES_MAX]
    ]
    if len(issues) > _SHOWN_ISSUES_MAX:
        lines.append(f"left out: {len(issues) - _SHOWN_ISSUES_MAX} more, --json names all of them")
    return lines
