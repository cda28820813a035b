"""`nexus run`: a program as a confined, supervised fiber; the process becomes the supervisor."""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import shutil
from pathlib import Path

from nexus.cli.output import Output
from nexus.errors import LocalError, ManifestError
from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import Confined, FiberSpec, HostLayers, confine
from nexus.logic.pledge import DEFAULT_PROMISES, LOADER_PROMISES, parse_promises
from nexus.logic.unveil import Unveil
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import execute_plan, host_facts, seal_image

__all__ = ["run"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ELF = b"\x7fELF"
_SHEBANG_MAX = 256
_ELF_HEAD = 4096  # the header and, in every linker's layout, the program headers


class MissingProgramError(LocalError, FileNotFoundError):
    """The program to run does not exist or cannot be executed."""

    code = "NX-RUN-002"
    exit_code = 125


def _find(word: str) -> str:
    path = shutil.which(word)
    if path is None:
        raise MissingProgramError(
            f"{word} is no program that can be executed here",
            hint="give a path, or a name that is on PATH",
        )
    return posixpath.normpath(posixpath.join(str(Path.cwd()), path))


def _interpreter(path: str, words: list[str]) -> tuple[str, list[str]]:
    """What the kernel would execute: for a script, the interpreter of its first line."""
    with Path(path).open("rb") as file:
        head = file.read(_SHEBANG_MAX)
    if not head.startswith(b"#!"):
        return path, words
    line = os.fsdecode(head[2:].split(b"\n", 1)[0]).strip()
    program, _, argument = line.partition(" ")
    if not program.startswith("/"):
        raise MissingProgramError(f"{path} names the interpreter {program!r}, not a whole path")
    middle = [argument.strip()] if argument.strip() else []
    return _find(program), [program, *middle, path, *words[1:]]


def _is_dynamic(path: str) -> bool:
    """Whether an ELF image has a program interpreter, which maps libraries before main."""
    with Path(path).open("rb") as file:
        head = file.read(_ELF_HEAD)
    if not head.startswith(_ELF) or len(head) < 64:
        return False
    offset = int.from_bytes(head[32:40], "little")
    size, count = (int.from_bytes(head[i : i + 2], "little") for i in (54, 56))
    kinds = (head[offset + i * size :][:4] for i in range(count))
    return any(kind == b"\3\0\0\0" for kind in kinds)


def _start(directory: str, shown: list[str]) -> str:
    """The working directory if the fiber's tree has it: shown itself, in what is, or on the way."""
    there = f"{directory.rstrip('/')}/"
    known = any(there.startswith(f"{one}/") or one.startswith(there) for one in shown)
    return directory if known else "/"


def _limit(word: str) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z]+)=(\d+)([KMGT]?)", word)
    if match is None:
        raise ManifestError(
            f"the limit {word!r} cannot be understood", hint="write NAME=NUMBER, as memory=64M"
        )
    return match[1], int(match[2]) * _UNITS[match[3]]


def _spec(arguments: argparse.Namespace) -> tuple[FiberSpec, bool]:
    words = list(arguments.program)
    if words[:1] == ["--"]:
        words.pop(0)
    if not words:
        raise ManifestError("no program is given", hint="nexus run [OPTIONS] -- PROGRAM")
    asked = _find(words[0])
    program, words = _interpreter(asked, words)
    directory = str(Path.cwd())
    shown = [Unveil.parse(word, directory) for word in arguments.unveil]
    if not shown and not arguments.bare and directory != "/":
        shown = [Unveil(directory, "rwxc")]
    if asked != program:
        shown.append(Unveil(asked, "r"))
    promises = DEFAULT_PROMISES
    if arguments.pledge is not None:
        promises = parse_promises(arguments.pledge)
    dynamic = _is_dynamic(program)
    spec = FiberSpec(
        name=arguments.name or posixpath.basename(asked)[:63],
        program=program,
        arguments=tuple(words),
        environment=dict(os.environ),
        directory=_start(directory, [one.path for one in shown if one.rights]),
        promises=promises | (LOADER_PROMISES if dynamic else frozenset()),
        unveil=tuple(shown),
        bare=arguments.bare,
        disposition=arguments.refused,
        tier=arguments.tier,
        limits=dict(_limit(word) for word in arguments.limit),
        restart=arguments.restart,
        survivability=arguments.survivability,
        session=arguments.session,
        waived=frozenset(word.replace("-", " ") for word in arguments.waive),
    )
    return spec, bool(dynamic and arguments.pledge is not None)


def _explain(output: Output, spec: FiberSpec, confined: Confined, added: bool) -> None:
    if output.json:
        output.document(
            "policy",
            {
                "name": spec.name,
                "program": spec.program,
                "promises": sorted(spec.promises),
                "loader_promises": sorted(LOADER_PROMISES) if added else [],
                "layers": [
                    {"name": layer.name, "state": layer.state, "why": layer.why}
                    for layer in confined.layers
                ],
                "missing": list(confined.missing),
                "filter_instructions": len(confined.manifest.filter) // 8,
            },
        )
        return
    output.line(f"program   {spec.program}")
    output.line(f"promises  {' '.join(sorted(spec.promises))}")
    if added:
        output.line("          rpath and prot_exec are there for the dynamic loader")
    output.table([(layer.state, layer.name, layer.why) for layer in confined.layers])
    for path in confined.missing:
        output.line(f"missing   {path}")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Become the supervisor of the program; returns only for --explain."""
    spec, added = _spec(arguments)
    facts = host_facts()
    host = HostLayers(**facts)  # type: ignore[arg-type]
    confined = confine(spec, host, HostFiles())
    if arguments.explain:
        _explain(output, spec, confined, added)
        return 0
    for path in confined.missing:
        raise ManifestError(f"unveil of {path}: nothing is there", hint="make it first")
    image, digest = -1, None
    if arguments.seal:
        image, digest = seal_image(spec.program)
        os.set_inheritable(image, True)
    execute_plan(encode_plan(confined.manifest, image=image, digest=digest, report=None))
