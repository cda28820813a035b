"""A file tree to look at: what a policy must know about paths before it can show or hide them."""

from __future__ import annotations

from typing import Literal, Protocol

__all__ = ["FileKind", "FileTree"]

FileKind = Literal["file", "directory", "link", "other"]


class FileTree(Protocol):
    """Read-only questions about absolute paths; no answer follows the last link."""

    def kind(self, path: str) -> FileKind | None:
        """What is at the path; None when nothing is, or it cannot be seen."""
        ...

    def link(self, path: str) -> str:
        """The text of a symbolic link."""
        ...
