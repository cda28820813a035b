"""The host's file tree as policies see it."""

from __future__ import annotations

import os
import stat

from nexus.seams.files import FileKind

__all__ = ["HostFiles"]


class HostFiles:
    """The file tree of this process; implements `nexus.seams.files.FileTree`."""

    def kind(self, path: str) -> FileKind | None:
        """What is at the path; None when nothing is, or it cannot be seen."""
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return None
        if stat.S_ISLNK(mode):
            return "link"
        if stat.S_ISDIR(mode):
            return "directory"
        return "file" if stat.S_ISREG(mode) else "other"

    def link(self, path: str) -> str:
        """The text of a symbolic link.

        Raises:
            OSError: there is none.
        """
        return os.readlink(path)  # noqa: PTH115 - Path would normalise the text
