"""What a node consists of, as people write it in KDL 2: fibers, their groups, their channels.

    survivability "hardened"

    group "telemetry" strategy="rest-for-one" {
        fiber "pulse" { module "nexus.membrane.fibers.pulse" }
        fiber "digest" { module "nexus.membrane.fibers.digest"; checkpoint; standby }
    }
    channel "telemetry" from="pulse" to="digest" slots=256 size=128

A fiber has the nodes that docs/reference/manifest.md lists, and those of `FIBER_NODES`. From it
comes what the supervisor is told: which handles the fiber gets under which numbers, and the
variable by which the fiber finds them. docs/reference/node.md lists the words.

Not handled: a channel with more than one writer; channels between nodes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ckdl

from nexus.errors import ManifestError, NodeError
from nexus.logic.bkdl import HANDLE_CHECKPOINT, HANDLE_LIFE, Descriptor, Policy
from nexus.logic.guard import GUARD_NODES, Guard, read_guard
from nexus.logic.manifest import Draft, NodeReader, parse_document, read_fiber
from nexus.seams.supervisor import FIBERS_MAX, SURVIVABILITY

__all__ = [
    "Channel",
    "Handles",
    "NodeDescription",
    "NodeFiber",
    "Opening",
    "fiber_handles",
    "fiber_policy",
    "parse_node",
]

FIBER_NODES = frozenset({"module", "standby", "held", "checkpoint", "open"})
CHANNELS_MAX = 64
SLOTS_DEFAULT, SLOTS_MAX = 256, 1 << 20
SIZE_DEFAULT, SIZE_MAX = 256, 1 << 16
CHANNEL_BYTES_MAX = 1 << 30
_RECORD_WORD = 8  # each record of a ring has one, and is rounded up to it
_STRATEGIES = {"one-for-one": 0, "one-for-all": 1, "rest-for-one": 2}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_FIRST_HANDLE, _LAST_HANDLE = 3, 63
_STANDBY = 16
# Types and rights of capabilities; a handle's number is the object, docs/spec/node.md.
_CHANNEL, _MEMORY = 2, 3
_READ, _WRITE, _MAP = 1, 2, 8


@dataclass(frozen=True, slots=True)
class Channel:
    """A typed way from one fiber to another.

    Attributes:
        name: how both ends know it.
        source: the fiber that writes.
        target: the fiber that reads.
        slots: how many records of `size` bytes fit.
        size: of the largest record.
    """

    name: str
    source: str
    target: str
    slots: int
    size: int

    @property
    def capacity(self) -> int:
        """Bytes of the ring."""
        return self.slots * (self.size + -self.size % _RECORD_WORD + _RECORD_WORD)


@dataclass(frozen=True, slots=True)
class Opening:
    """A file or device that is opened for a fiber, which need not see it."""

    name: str
    path: str
    writable: bool


@dataclass(frozen=True, slots=True)
class NodeFiber:
    """A fiber of a node.

    Attributes:
        draft: what a manifest can say.
        module: a Python module to run with its words, in place of a program.
        standby: whether its next life waits ready.
        held: whether its first life waits for `nexus fiber start`.
        checkpoint: whether it has a checkpoint slot.
        durable: whether its checkpoints are kept over a boot of the node.
        openings: what is opened for it.
        company: number of its group, 0 for none.
        strategy: of its group.
    """

    draft: Draft
    module: tuple[str, ...] = ()
    standby: bool = False
    held: bool = False
    checkpoint: bool = False
    durable: bool = False
    openings: tuple[Opening, ...] = ()
    company: int = 0
    strategy: int = 0

    @property
    def name(self) -> str:
        """What it is called."""
        assert self.draft.name is not None, "read_fiber takes no fiber without a name"
        return self.draft.name


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """A whole node.

    Attributes:
        survivability: sovereign, hardened or radiation.
        fibers: in the order of their start.
        channels: between them.
        guard: how far Phoenix may go, and a watchdog; None: nothing was asked for.
        waived: layers that may be missing, for every fiber and for L1.
    """

    survivability: str
    fibers: tuple[NodeFiber, ...]
    channels: tuple[Channel, ...]
    guard: Guard | None = None
    waived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Handles:
    """What a fiber gets beside its standard descriptors.

    Attributes:
        table: for the plan: what, and the number that the fiber has it as.
        variable: NEXUS_FIBER, or empty when it gets nothing.
        capabilities: one for each end of a channel and each opened file.
    """

    table: tuple[tuple[int, int], ...]
    variable: str
    capabilities: tuple[Descriptor, ...]


def _wrong(message: str, hint: str | None = None) -> NodeError:
    return NodeError(message, hint=hint)


def _checked_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(
            f"{name!r} is no name of a {what}",
            hint="1 to 32 of letters, digits, _ . -, not beginning with . or -",
        )
    return name


def _openings(readers: Sequence[NodeReader], directory: str) -> Iterator[Opening]:
    for reader in readers:
        reader.shape("write")
        name, path = reader.strings(2, 2)
        writable = reader.node.properties.get("write", False)
        if not isinstance(writable, bool):
            raise reader.wrong("write is #true or #false")
        yield Opening(_checked_name(name, "handle"), posixpath.join(directory, path), writable)


def _read_fiber(node: ckdl.Node, directory: str) -> NodeFiber:
    draft = read_fiber(node, FIBER_NODES)
    fiber = NodeFiber(draft)
    _checked_name(fiber.name, "fiber")
    found: dict[str, list[NodeReader]] = {name: [] for name in FIBER_NODES}
    for child in node.children:
        if child.name in found:
            found[child.name].append(NodeReader(child, fiber.name))
    for name, readers in found.items():
        if len(readers) > 1 and name != "open":
            raise _wrong(f"fiber {fiber.name} has two nodes {name!r}")
    for reader in found["standby"]:
        reader.shape()
        fiber = replace(fiber, standby=reader.flag())
    for reader in found["held"]:
        reader.shape()
        fiber = replace(fiber, held=reader.flag())
    for reader in found["checkpoint"]:
        reader.shape()
        durable = reader.node.args == ["durable"]
        fiber = replace(fiber, checkpoint=durable or reader.flag(), durable=durable)
    for reader in found["module"]:
        reader.shape()
        fiber = replace(fiber, module=tuple(reader.strings(1)))
    if bool(fiber.module) == bool(draft.program):
        raise _wrong(
            f"fiber {fiber.name} takes one of program and module",
            hint='program "/usr/bin/sleep" "10", or module "package.module"',
        )
    openings = tuple(_openings(found["open"], directory))
    _once([opening.name for opening in openings], f"openings of fiber {fiber.name}")
    return replace(fiber, openings=openings)


def _group(node: ckdl.Node, company: int, directory: str) -> tuple[str, list[NodeFiber]]:
    unknown = set(node.properties) - {"strategy"}
    if len(node.args) != 1 or unknown:
        raise _wrong(
            "a group takes its name, a strategy and a block of fibers",
            hint='group "name" strategy="one-for-all" { fiber "a" { ... } }',
        )
    name = _checked_name(node.args[0], "group")
    strategy = node.properties.get("strategy", "one-for-one")
    if strategy not in _STRATEGIES:
        raise _wrong(
            f"group {name}: {strategy!r} is no strategy", hint=f"one of {', '.join(_STRATEGIES)}"
        )
    fibers = []
    for child in node.children:
        if child.name != "fiber":
            raise _wrong(f"group {name} has the node {child.name!r}", hint="it takes fibers alone")
        fiber = _read_fiber(child, directory)
        fibers.append(replace(fiber, company=company, strategy=_STRATEGIES[str(strategy)]))
    return name, fibers


def _count(node: ckdl.Node, name: str, default: int, most: int) -> int:
    value = node.properties.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _wrong(f"channel {node.args[0]}: {name} is a number from 1 to {most}, not {value!r}")
    return value


def _channel(node: ckdl.Node, names: Sequence[str]) -> Channel:
    unknown = set(node.properties) - {"from", "to", "slots", "size"}
    if len(node.args) != 1 or unknown or node.children:
        raise _wrong(
            "a channel takes its name, from and to, and slots and size",
            hint='channel "telemetry" from="pulse" to="digest" slots=256 size=128',
        )
    name = _checked_name(node.args[0], "channel")
    ends = [str(node.properties.get(way, "")) for way in ("from", "to")]
    for way, end in zip(("from", "to"), ends, strict=True):
        if end not in names:
            raise _wrong(
                f"channel {name}: {way} is {end!r}, which is no fiber of this node",
                hint=f"one of {', '.join(names) or 'none'}",
            )
    if ends[0] == ends[1]:
        raise _wrong(f"channel {name} leads from {ends[0]} to itself")
    slots = _count(node, "slots", SLOTS_DEFAULT, SLOTS_MAX)
    size = _count(node, "size", SIZE_DEFAULT, SIZE_MAX)
    channel = Channel(name, ends[0], ends[1], slots, size)
    if channel.capacity > CHANNEL_BYTES_MAX:
        raise _wrong(
            f"channel {name} has {channel.capacity} bytes, the most is {CHANNEL_BYTES_MAX}",
            hint="fewer slots, or smaller ones",
        )
    return channel


def _once(names: Sequence[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise _wrong(f"two {what} have the name {name!r}")


def _survivability(node: ckdl.Node) -> str:
    if len(node.args) != 1 or node.properties or node.children:
        raise _wrong("survivability takes one word", hint=f"one of {', '.join(SURVIVABILITY)}")
    word = str(node.args[0])
    if word not in SURVIVABILITY:
        raise _wrong(f"{word!r} is no survivability", hint=f"one of {', '.join(SURVIVABILITY)}")
    return word


def parse_node(text: str, directory: str) -> NodeDescription:
    """The node of a KDL 2 text.

    Args:
        text: the text.
        directory: where relative paths of `open` and `watchdog` start.

    Raises:
        NodeError: it says what a node cannot be.
        ManifestError: one of its fibers says what a manifest cannot say.
    """
    level: list[str] = []
    fibers: list[NodeFiber] = []
    groups: list[str] = []
    ways: list[ckdl.Node] = []
    guards: list[ckdl.Node] = []
    waived: set[str] = set()
    for node in parse_document(text, "node"):
        if node.name == "survivability":
            level.append(_survivability(node))
        elif node.name == "fiber":
            fibers.append(_read_fiber(node, directory))
        elif node.name == "group":
            name, members = _group(node, len(groups) + 1, directory)
            groups.append(name)
            fibers += members
        elif node.name == "channel":
            ways.append(node)
        elif node.name in GUARD_NODES:
            guards.append(node)
        elif node.name == "waive":
            reader = NodeReader(node, "of the node")
            reader.shape()
            waived |= {word.replace("-", " ") for word in reader.strings(1)}
        else:
            raise _wrong(
                f"the node {node.name!r} is not known",
                hint="one of survivability, fiber, group, channel, waive, phoenix, watchdog",
            )
    if len(level) > 1:
        raise _wrong("survivability is said twice")
    if len(fibers) > FIBERS_MAX:
        raise _wrong(f"{len(fibers)} fibers are given, a node has at most {FIBERS_MAX}")
    if len(ways) > CHANNELS_MAX:
        raise _wrong(f"{len(ways)} channels are given, a node has at most {CHANNELS_MAX}")
    names = [fiber.name for fiber in fibers]
    channels = tuple(_channel(node, names) for node in ways)
    _once(names, "fibers")
    _once(groups, "groups")
    _once([channel.name for channel in channels], "channels")
    return NodeDescription(
        level[0] if level else "sovereign",
        tuple(fibers),
        channels,
        read_guard(guards, directory),
        frozenset(waived),
    )


def fiber_handles(
    fiber: NodeFiber, channels: Sequence[Channel], places: Mapping[str, int]
) -> Handles:
    """The handles of a fiber: its life page and checkpoint, its ends of channels, its openings.

    Args:
        fiber: whose.
        channels: all of the node.
        places: the index among the descriptors of START, by `channel NAME` and `open NAME`.

    Raises:
        NodeError: there are more than a fiber can have.
    """
    given: list[tuple[str, int]] = []
    rights: list[tuple[int, int]] = []
    for channel in channels:
        if fiber.name in (channel.source, channel.target):
            way = "write" if fiber.name == channel.source else "read"
            given.append((f"{way}:{channel.name}", places[f"channel {channel.name}"]))
            rights.append((_CHANNEL, _MAP | (_WRITE if way == "write" else _READ)))
    for one in fiber.openings:
        given.append((f"open:{one.name}", places[f"open {one.name}"]))
        rights.append((_MEMORY, _READ | _WRITE if one.writable else _READ))
    first: list[tuple[str, int]] = []
    if given or fiber.module or fiber.checkpoint or fiber.standby:
        first.append(("life", HANDLE_LIFE))
    if fiber.checkpoint:
        first.append(("checkpoint", HANDLE_CHECKPOINT))
    every = first + given
    if len(every) > _LAST_HANDLE - _FIRST_HANDLE:
        raise _wrong(f"fiber {fiber.name} has {len(every)} handles, the most is 60")
    numbered = list(enumerate(every, _FIRST_HANDLE))
    return Handles(
        tuple((what, number) for number, (_, what) in numbered),
        " ".join(f"{kind}={number}" for number, (kind, _) in numbered),
        tuple(
            Descriptor(kind, mask, number)
            for (number, _), (kind, mask) in zip(numbered[len(first) :], rights, strict=True)
        ),
    )


def fiber_policy(fiber: NodeFiber, policy: Policy) -> Policy:
    """A fiber's policy with what only a node can say."""
    flags = policy.flags | (_STANDBY if fiber.standby else 0)
    return replace(policy, flags=flags, strategy=fiber.strategy, company=fiber.company)


def check_restart(fiber: NodeFiber) -> None:
    """Refuse what would never be used.

    Raises:
        ManifestError: a standby of a fiber that is never restarted.
    """
    if fiber.standby and (fiber.draft.restart or "never") == "never":
        raise ManifestError(
            f"fiber {fiber.name} has a standby and is never restarted",
            hint='restart "always", or "on-failure"',
        )
