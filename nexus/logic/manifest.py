"""Manifests: what a fiber is and may do, as people write it in KDL 2, and as commands say it.

Both come to a `Draft`, in which everything may be left out. `merge` lays one draft over another
(the command line over the manifest), and `complete` turns a draft into the `FiberSpec` that
`nexus.logic.confine` lays on the layers of the host. The words of a manifest are those of the
options of `nexus run`; docs/reference/manifest.md lists them.

Not handled: properties and nodes that are not known end the reading, rather than being ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace

import ckdl

from nexus.errors import ManifestError
from nexus.logic.confine import FiberSpec
from nexus.logic.narrow import NO_EXEC_PROMISES
from nexus.logic.pledge import DEFAULT_PROMISES, LOADER_PROMISES, Disposition, parse_promises
from nexus.logic.unveil import Unveil

__all__ = [
    "Draft",
    "NodeReader",
    "Program",
    "complete",
    "merge",
    "parse_amount",
    "parse_document",
    "parse_limit",
    "parse_manifest",
    "read_fiber",
]

TEXT_MAX = 1 << 20
NAME_MAX = 63
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DISPOSITIONS: Mapping[str, Disposition] = {"deny": "deny", "trap": "trap", "kill": "kill"}


@dataclass(frozen=True, slots=True)
class Draft:
    """What was said about a fiber; None and empty are what was not said.

    The attributes mean what those of `nexus.logic.confine.FiberSpec` mean.
    """

    name: str | None = None
    program: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    directory: str | None = None
    promises: frozenset[str] | None = None
    unveil: tuple[Unveil, ...] = ()
    bare: bool | None = None
    disposition: str | None = None
    tier: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    restart: str | None = None
    intensity: int | None = None
    period_ms: int | None = None
    delay_ms: int | None = None
    survivability: str | None = None
    grace_ms: int | None = None
    session: bool | None = None
    seal: bool | None = None
    waived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Program:
    """What executing a word comes to on the host.

    Attributes:
        path: the image that the kernel executes: the program, or a script's interpreter.
        arguments: all words, with those that a script's first line adds.
        script: the script's path, which must be shown too, or None.
        dynamic: whether a loader maps libraries before main.
    """

    path: str
    arguments: tuple[str, ...]
    script: str | None
    dynamic: bool


def parse_amount(text: str, units: Mapping[str, int], what: str) -> int:
    """A number with a unit, as 64M or 10s.

    Raises:
        ManifestError: it is none.
    """
    match = re.fullmatch(r"(\d{1,18})([A-Za-z]*)", text)
    if match is None or match[2] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise ManifestError(f"{text!r} is no {what}", hint=f"write a number and one of {known}")
    return int(match[1]) * units[match[2]]


def parse_limit(text: str) -> tuple[str, int]:
    """A limit of the form NAME=NUMBER, as memory=64M."""
    name, equals, amount = text.partition("=")
    if not equals:
        raise ManifestError(
            f"the limit {text!r} has no value", hint="write NAME=NUMBER, as memory=64M"
        )
    return name, parse_amount(amount, _SIZES, f"value of the limit {name}")


class NodeReader:
    """One node of a fiber's block, taken apart with errors that name it."""

    def __init__(self, node: ckdl.Node, fiber: str) -> None:
        self.node = node
        self.where = f"{node.name} of fiber {fiber}"

    def wrong(self, why: str, hint: str | None = None) -> ManifestError:
        """The error that says where."""
        return ManifestError(f"{self.where}: {why}", hint=hint)

    def shape(self, *properties: str, children: bool = False) -> None:
        """Refuse other properties than these, and a block where none belongs."""
        unknown = set(self.node.properties) - set(properties)
        if unknown:
            raise self.wrong(f"{min(unknown)!r} is not known here")
        if self.node.children and not children:
            raise self.wrong("it takes no block")

    def strings(self, least: int, most: int = 1 << 16) -> list[str]:
        """Its values, all strings."""
        words = [word for word in self.node.args if isinstance(word, str)]
        if len(words) != len(self.node.args):
            raise self.wrong("its values are strings")
        if not least <= len(words) <= most:
            raise self.wrong(f"it takes {least} to {most} values, not {len(words)}")
        return words

    def string(self) -> str:
        """Its one value."""
        return self.strings(1, 1)[0]

    def flag(self) -> bool:
        """Its truth value; the bare node is true."""
        words = self.node.args or [True]
        if len(words) != 1 or not isinstance(words[0], bool):
            raise self.wrong("it takes #true or #false")
        return words[0]

    def number(self, name: str) -> int | None:
        """A property that is a number."""
        value = self.node.properties.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
            raise self.wrong(f"{name} is a number from 0 to 2^32 - 1")
        return value

    def time(self, name: str) -> int | None:
        """A property that is a time, in milliseconds."""
        value = self.node.properties.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(f'{name} is a time, as "10s"')
        return parse_amount(value, _TIMES, f"time of {self.where}")


def _environment(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape(children=True)
    reader.strings(0, 0)
    found: dict[str, str] = {}
    for child in reader.node.children:
        if len(child.args) != 1 or not isinstance(child.args[0], str) or child.properties:
            raise reader.wrong(f"the variable {child.name} takes one string")
        found[child.name] = child.args[0]
    return replace(draft, environment=found)


def _limit(reader: NodeReader, draft: Draft) -> Draft:
    reader.strings(0, 0)
    limits = dict(draft.limits)
    for name, value in reader.node.properties.items():
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise reader.wrong(f'{name} is a number, or a string as "64M"')
        limits[name] = parse_amount(str(value), _SIZES, f"value of the limit {name}")
    return replace(draft, limits=limits)


def _unveil(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape()
    path, *rights = reader.strings(1, 2)
    rule = Unveil(path, rights[0] if rights else "r")
    return replace(draft, unveil=(*draft.unveil, rule))


def _pledge(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape()
    return replace(draft, promises=parse_promises(" ".join(reader.strings(0))))


def _exec_pledge(reader: NodeReader, draft: Draft) -> Draft:
    raise reader.wrong("no filter can wait for an exec", hint=NO_EXEC_PROMISES)


def _restart(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape("intensity", "period", "delay")
    return replace(
        draft,
        restart=reader.string(),
        intensity=reader.number("intensity"),
        period_ms=reader.time("period"),
        delay_ms=reader.time("delay"),
    )


def _grace(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape()
    return replace(draft, grace_ms=parse_amount(reader.string(), _TIMES, "time"))


def _waive(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape()
    words = (word.replace("-", " ") for word in reader.strings(1))
    return replace(draft, waived=draft.waived | frozenset(words))


def _program(reader: NodeReader, draft: Draft) -> Draft:
    reader.shape()
    return replace(draft, program=tuple(reader.strings(1)))


def _word(name: str) -> Callable[[NodeReader, Draft], Draft]:
    def read(reader: NodeReader, draft: Draft) -> Draft:
        reader.shape()
        return replace(draft, **{name: reader.string()})  # type: ignore[arg-type]

    return read


def _switch(name: str) -> Callable[[NodeReader, Draft], Draft]:
    def read(reader: NodeReader, draft: Draft) -> Draft:
        reader.shape()
        return replace(draft, **{name: reader.flag()})  # type: ignore[arg-type]

    return read


_NODES: Mapping[str, Callable[[NodeReader, Draft], Draft]] = {
    "program": _program,
    "environment": _environment,
    "directory": _word("directory"),
    "pledge": _pledge,
    "exec-promises": _exec_pledge,
    "unveil": _unveil,
    "bare": _switch("bare"),
    "refused": _word("disposition"),
    "tier": _word("tier"),
    "limit": _limit,
    "restart": _restart,
    "survivability": _word("survivability"),
    "grace": _grace,
    "session": _switch("session"),
    "seal": _switch("seal"),
    "waive": _waive,
}
_REPEATED = {"unveil", "limit", "waive"}


def read_fiber(node: ckdl.Node, beside: Set[str] = frozenset()) -> Draft:
    """One fiber of a document.

    Args:
        node: the node `fiber`.
        beside: nodes of its block that the caller reads itself.
    """
    if len(node.args) != 1 or not isinstance(node.args[0], str) or node.properties:
        raise ManifestError("a fiber takes its name and a block", hint='fiber "name" { ... }')
    name = node.args[0]
    if not 1 <= len(name.encode("utf-8", "surrogateescape")) <= NAME_MAX:
        raise ManifestError(f"the name {name!r} has not 1 to {NAME_MAX} bytes")
    draft = Draft(name=name)
    seen: set[str] = set()
    for child in node.children:
        if child.name in beside:
            continue
        if child.name not in _NODES:
            raise ManifestError(
                f"fiber {name} has the node {child.name!r}, which is not known",
                hint=f"one of {', '.join([*_NODES, *sorted(beside)])}",
            )
        if child.name in seen and child.name not in _REPEATED:
            raise ManifestError(f"fiber {name} has two nodes {child.name!r}")
        seen.add(child.name)
        draft = _NODES[child.name](NodeReader(child, name), draft)
    return draft


def parse_document(text: str, what: str) -> Sequence[ckdl.Node]:
    """The nodes of a KDL 2 text.

    Raises:
        ManifestError: it is none.
    """
    if len(text) > TEXT_MAX:
        raise ManifestError(f"the {what} has {len(text)} characters, the most is {TEXT_MAX}")
    try:
        return ckdl.parse(text, version=2).nodes
    except ValueError as error:
        raise ManifestError(f"the {what} is not KDL 2: {error}") from None


def parse_manifest(text: str) -> list[Draft]:
    """The fibers of a KDL 2 document, in its order.

    Raises:
        ManifestError: the text is not KDL, or says what a manifest cannot say.
    """
    drafts = []
    for node in parse_document(text, "manifest"):
        if node.name != "fiber":
            raise ManifestError(f"the node {node.name!r} is not known", hint="fiber is")
        drafts.append(read_fiber(node))
    names = [draft.name for draft in drafts]
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"two fibers have the name {name!r}")
    return drafts


def merge(below: Draft, above: Draft) -> Draft:
    """What `above` says, and what `below` says where it says nothing; limits one by one."""
    chosen = {
        one.name: getattr(above, one.name)
        for one in fields(Draft)
        if getattr(above, one.name) not in (None, (), frozenset(), {})
    }
    chosen["limits"] = {**below.limits, **above.limits}
    chosen["waived"] = below.waived | above.waived
    return replace(below, **chosen)


def complete(
    draft: Draft, program: Program, *, environment: Mapping[str, str], directory: str
) -> FiberSpec:
    """The specification of a draft, with the defaults for what it leaves out.

    Args:
        draft: what was said.
        program: what its first word comes to.
        environment: for a draft without one.
        directory: where relative paths start, and what is shown when nothing else is.

    Raises:
        ManifestError: the draft contradicts itself.
    """
    shown: Sequence[Unveil] = draft.unveil
    start = draft.directory or directory
    if not shown and not draft.bare and start != "/":
        shown = (Unveil(start, "rwxc"),)
    if program.script is not None:
        shown = (*shown, Unveil(program.script, "r"))
    # The fiber's tree has it when it is shown, in what is shown, or on the way to that.
    there = f"{start.rstrip('/')}/"
    visible = any(
        rule.rights and (there.startswith(f"{rule.path}/") or rule.path.startswith(there))
        for rule in shown
    )
    promises = DEFAULT_PROMISES if draft.promises is None else draft.promises
    disposition = draft.disposition or "trap"
    if disposition not in _DISPOSITIONS:
        raise ManifestError(
            f"{disposition!r} is nothing that a refused call can get",
            hint=f"one of {', '.join(_DISPOSITIONS)}",
        )
    spec = FiberSpec(
        name=draft.name or program.path.rpartition("/")[2][:NAME_MAX],
        program=program.path,
        arguments=program.arguments,
        environment=environment if draft.environment is None else draft.environment,
        directory=start if visible or draft.directory else "/",
        promises=promises | (LOADER_PROMISES if program.dynamic else frozenset()),
        unveil=tuple(shown),
        bare=bool(draft.bare),
        disposition=_DISPOSITIONS[disposition],
        limits=draft.limits,
        session=bool(draft.session),
        waived=draft.waived,
    )
    said = {
        name: getattr(draft, name)
        for name in (
            "tier",
            "restart",
            "intensity",
            "period_ms",
            "delay_ms",
            "survivability",
            "grace_ms",
        )
        if getattr(draft, name) is not None
    }
    return replace(spec, **said)
