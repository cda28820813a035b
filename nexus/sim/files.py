"""A file tree made of a dictionary, for policies under test."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.seams.files import FileKind

__all__ = ["DictFiles"]


class DictFiles:
    """Paths with their kinds; a link is written as `-> text`. Parents exist by themselves.

    Args:
        entries: path to "file", "directory", "other" or "-> text".
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = {"/": "directory"}
        for path in entries:
            parts = path.strip("/").split("/")
            for i in range(1, len(parts)):
                self._entries.setdefault("/" + "/".join(parts[:i]), "directory")
        self._entries.update(entries)

    def kind(self, path: str) -> FileKind | None:
        """What is at the path; None when nothing is."""
        entry = self._entries.get(path)
        if entry is None:
            return None
        if entry.startswith("-> "):
            return "link"
        if entry == "directory":
            return "directory"
        return "file" if entry == "file" else "other"

    def link(self, path: str) -> str:
        """The text of a symbolic link.

        Raises:
            OSError: there is none.
        """
        entry = self._entries.get(path, "")
        if not entry.startswith("-> "):
            raise OSError(22, "no symbolic link", path)
        return entry.removeprefix("-> ")
