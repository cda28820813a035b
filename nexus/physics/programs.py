"""What executing a word comes to: search on PATH, script interpreters, dynamic loaders."""

from __future__ import annotations

import os
import posixpath
import shutil
import site
import sys
from dataclasses import dataclass
from pathlib import Path

from nexus.errors import AbsentProgramError

__all__ = ["PythonRuntime", "find_program", "interpreter_of", "is_dynamic", "python_runtime"]

_SHEBANG_MAX = 256  # BINPRM_BUF_SIZE of linux/binfmts.h
_ELF_HEAD = 4096  # the header and, in every linker's layout, the program headers
_PT_INTERP = (3).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class PythonRuntime:
    """What a fiber needs to run a module as this process would.

    Attributes:
        path: the interpreter.
        folders: what it must see, for reading and executing.
        environment: variables that it must have.
        checkout: the folder that it must list when Nexus is not installed; "" when it is. Where
            mounts hide, that folder has nothing in it but the package.
    """

    path: str
    folders: tuple[str, ...]
    environment: dict[str, str]
    checkout: str


def python_runtime() -> PythonRuntime:
    """The interpreter of this process, with the packages of its environment and Nexus itself."""
    import nexus

    package = Path(nexus.__file__).resolve().parent
    wanted = [sys.prefix, sys.base_prefix]
    user = site.getusersitepackages()
    if user in sys.path:
        wanted.append(user)
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    checkout = ""
    if not any(package.is_relative_to(folder) for folder in wanted):
        wanted.append(str(package))
        checkout = environment["PYTHONPATH"] = str(package.parent)
    folders = tuple(dict.fromkeys(folder for folder in wanted if folder not in ("/", "/usr")))
    return PythonRuntime(sys.executable, folders, environment, checkout)


def find_program(word: str, directory: str) -> str:
    """The absolute path that a shell would execute for a word.

    Raises:
        AbsentProgramError: there is none.
    """
    path = shutil.which(posixpath.join(directory, word) if "/" in word else word)
    if path is None:
        raise AbsentProgramError(
            f"{word} is no program that can be executed here",
            hint="give a path, or a name that is on PATH",
        )
    return posixpath.normpath(posixpath.join(directory, path))


def _head(path: str, size: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError:
        # Executable but not readable: a plain program, as far as anyone can tell.
        return b""


def interpreter_of(path: str) -> tuple[str, str | None] | None:
    """The interpreter and its one argument that a script's first line names; None for no script.

    Raises:
        AbsentProgramError: the line names none that could be executed.
    """
    head = _head(path, _SHEBANG_MAX)
    if not head.startswith(b"#!"):
        return None
    program, _, argument = os.fsdecode(head[2:].split(b"\n", 1)[0]).strip().partition(" ")
    if not program.startswith("/") or not os.access(program, os.X_OK):
        raise AbsentProgramError(f"{path} names the interpreter {program!r}, which is none")
    return program, argument.strip() or None


def is_dynamic(path: str) -> bool:
    """Whether an ELF image has a loader, which maps libraries before the program's main."""
    head = _head(path, _ELF_HEAD)
    if not head.startswith(b"\x7fELF") or len(head) < 64:
        return False
    offset = int.from_bytes(head[32:40], "little")
    size, count = (int.from_bytes(head[i : i + 2], "little") for i in (54, 56))
    kinds = (head[offset + i * size :][:4] for i in range(count))
    return any(kind == _PT_INTERP for kind in kinds)
