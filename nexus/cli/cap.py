"""`nexus cap`: the capabilities of a node's fibers."""

from __future__ import annotations

import argparse
import re

from nexus.cli.grammar import UsageError
from nexus.cli.node_client import NodeClient, connect
from nexus.cli.output import Output
from nexus.logic.control import FiberPlace
from nexus.physics import siphash24
from nexus.seams.supervisor import CapabilityWord, FiberEntry, Taken

__all__ = ["run"]

TYPES = ("null", "entity", "channel", "memory", "interrupt", "time", "entropy")
RIGHTS = ("read", "write", "execute", "map", "delegate", "revoke", "copy", "spawn")
# Under which the names of objects are hashed, docs/spec/bkdl.md.
NAME_KEY = bytes(range(16))


# A channel's end or an opened file is named by its number in the fiber, below 64, behind this.
_HANDLE, _HANDLES = "#", 64
_HANDLE_TYPES = ("channel", "memory")
_NO_END = (1 << 64) - 1
_TAKEN = {
    Taken.WORD: "",
    Taken.CHANNEL: "; the channel is closed at both ends",
    Taken.FILE: "; the life that had the file open is ended, the next begins without",
}


def _rights_text(mask: int) -> str:
    return ",".join(word for bit, word in enumerate(RIGHTS) if mask >> bit & 1) or "none"


def _rights(text: str) -> int:
    mask = 0
    for word in text.split(","):
        if word not in RIGHTS:
            raise UsageError(f"{word!r} is no right", hint=f"one of {', '.join(RIGHTS)}")
        mask |= 1 << RIGHTS.index(word)
    return mask


def _object(text: str) -> tuple[int, int]:
    kind, _, name = text.partition(":")
    if kind not in TYPES[1:] or not name:
        raise UsageError(
            f"{text!r} is no object", hint=f"TYPE:NAME, and TYPE one of {', '.join(TYPES[1:])}"
        )
    if name.startswith(_HANDLE) and kind in _HANDLE_TYPES:
        number = name.removeprefix(_HANDLE)
        if not number.isascii() or not number.isdigit() or int(number) >= _HANDLES:
            raise UsageError(f"{text!r} names no handle", hint=f"{kind}:#5, from nexus cap list")
        return TYPES.index(kind), int(number)
    return TYPES.index(kind), siphash24(NAME_KEY, name.encode())


def _object_text(word: CapabilityWord) -> str:
    if word.object < _HANDLES and TYPES[min(word.type, len(TYPES) - 1)] in _HANDLE_TYPES:
        return f"{_HANDLE}{word.object}"
    return f"{word.object:016x}"


def _bounds(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\w+):(\w+)", text)
    try:
        assert match is not None
        return int(match[1], 0), int(match[2], 0)
    except (AssertionError, ValueError):
        raise UsageError(f"{text!r} are no bounds", hint="START:END, as 0:4096") from None


def _record(fiber: FiberEntry, word: CapabilityWord) -> dict[str, object]:
    return {
        "fiber": fiber.name,
        "index": word.index,
        "type": TYPES[word.type] if word.type < len(TYPES) else str(word.type),
        "rights": _rights_text(word.rights).split(","),
        "object": _object_text(word),
        "start": word.start,
        "end": word.end,
        "parent": word.parent - 1 if word.parent else None,
        "depth": word.depth,
        "epoch": word.epoch,
        "live": word.epoch == fiber.epoch,
    }


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "-" if value in (None, _NO_END) else str(value)


def _list(node: NodeClient, name: str | None, output: Output) -> None:
    fibers = [node.find(name)] if name else node.table.fibers()
    items = [
        _record(fiber, word) for fiber in fibers for word in node.table.capabilities(fiber.slot)
    ]
    if output.json:
        output.document("capabilities", {"items": items})
        return
    if not items:
        output.line("no capabilities")
        return
    heads = ("fiber", "index", "type", "rights", "object", "start", "end", "parent", "depth")
    output.table([heads, *(tuple(_cell(item[head]) for head in heads) for item in items)])


def run(arguments: argparse.Namespace, output: Output) -> int:
    """List, grant or revoke."""
    wanted: dict[str, int] = {}
    if arguments.verb == "grant":
        kind, number = _object(arguments.object)
        start, end = _bounds(arguments.bounds)
        rights = _rights(arguments.rights)
        wanted = {"type": kind, "rights": rights, "object": number, "start": start, "end": end}
    with connect(arguments) as node:
        if arguments.verb == "list":
            _list(node, arguments.fiber, output)
            return 0
        fiber = node.find(arguments.fiber)
        place = FiberPlace.of(fiber)
        if arguments.verb == "revoke":
            count, taken = node.control.revoke(place, arguments.index)
            if output.json:
                told = {"fiber": fiber.name, "count": count, "taken": taken.name.lower()}
                output.document("revoked", told)
            else:
                output.line(f"{count} taken from {fiber.name}{_TAKEN[taken]}")
            return 0
        index = node.control.grant(place, parent=arguments.parent, **wanted)
        if output.json:
            output.document("granted", {"fiber": fiber.name, "index": index})
        else:
            output.line(f"{fiber.name} has it at {index}")
    return 0
