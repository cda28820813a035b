"""The supervisor of a node as others see it: requests, answers, the table, the observer's page.

docs/spec/node.md has the bytes. The verbs over `Supervisor` are in `nexus.logic.control`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Protocol

from nexus.seams.events import Event

__all__ = [
    "ANY_SLOT",
    "FIBERS_MAX",
    "L1_SLOT",
    "NEVER_ENDED",
    "SURVIVABILITY",
    "Answer",
    "CapabilityWord",
    "Events",
    "Feature",
    "FiberEntry",
    "FiberFlag",
    "FiberState",
    "Head",
    "NodeState",
    "Observer",
    "Operation",
    "Request",
    "Supervisor",
    "SystemTable",
    "Taken",
    "VerdictCode",
]

ANY_SLOT = 0xFFFFFFFF
NEVER_ENDED = 0xFFFFFFFF
FIBERS_MAX = 16
L1_SLOT = 16


class Operation(IntEnum):
    """Numbers of requests."""

    HELLO = 1
    START = 2
    BEGIN = 3
    STOP = 4
    SIGNAL = 5
    RESTART = 6
    FORGET = 7
    WAIT = 8
    FEATURE = 9
    GRANT = 10
    REVOKE = 11
    LOOK = 12
    SHUTDOWN = 13
    GUARD = 14


class FiberState(IntEnum):
    """What a slot of the table is doing."""

    FREE = 0
    ALIVE = 1
    PAUSE = 2
    OVER = 3
    HELD = 4
    QUARANTINED = 5
    STARTING = 6


class NodeState(IntEnum):
    """What the node is doing."""

    NONE = 0
    UP = 1
    SHUTTING_DOWN = 2
    OVER = 3
    MOVED = 4


class Feature(IntFlag):
    """Bits of the feature mask."""

    RESTART_TRAP = 1
    BREAKER = 2
    BEB = 4
    HEARTBEAT = 8
    BASELINE = 16
    AUDIT = 32
    CORRELATOR = 64
    VERDICTS = 128


SURVIVABILITY = {"sovereign": 0b111, "hardened": 0b11111, "radiation": 0b11111111}


class FiberFlag(IntFlag):
    """Flags of a fiber's entry."""

    L1 = 1
    BUDGET = 2
    CHECKPOINTS = 4
    STANDBY = 8
    WARM = 16
    COUNTED = 32


class Taken(IntEnum):
    """What REVOKE took beside the capability's words."""

    WORD = 0
    CHANNEL = 1
    FILE = 2


class VerdictCode(IntEnum):
    """What an observer asks for; docs/spec/verdict.md."""

    OBSERVE = 1
    THROTTLE = 2
    DEMOTE = 3
    RESTART = 4
    QUARANTINE = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request; its ticket is given by `Supervisor.post`.

    Attributes:
        operation: what is asked for.
        flags: of the operation.
        slot: of the fiber.
        generation: of the slot; 0: whichever is there.
        words: up to six numbers.
        descriptors: what goes along; they stay the caller's.
    """

    operation: Operation
    flags: int = 0
    slot: int = ANY_SLOT
    generation: int = 0
    words: tuple[int, ...] = ()
    descriptors: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        slot: of the fiber.
        generation: of the slot.
        result: 0, or a negative errno.
        words: words 1 to 5.
        descriptor: what came along, the receiver's to close, or None.
    """

    slot: int
    generation: int
    result: int
    words: tuple[int, ...]
    descriptor: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the table; the attributes are the fields of docs/spec/node.md."""

    pid: int
    generation: int
    start_ns: int
    start_wall_ns: int
    state: NodeState
    phoenix: int
    wakes: int
    newest: int
    repairs: int
    audits: int
    beat_ns: int


@dataclass(frozen=True, slots=True)
class FiberEntry:
    """A slot that is or was in use; the attributes are the fields of docs/spec/node.md."""

    slot: int
    generation: int
    state: FiberState
    lives: int
    pid: int
    status: int
    tier: int
    tier_declared: int
    begin_ns: int
    end_ns: int
    strikes: int
    demotions: int
    restarts: int
    breaker: int
    epoch: int
    cause: int
    pledge: int
    promises: int
    budget_ns: int
    cpu_ns: int
    bursts: int
    overruns: int
    checkpoint: int
    image: int
    last_event: int
    flags: FiberFlag
    company: int
    strategy: int
    reads: int
    writes: int
    counted_ns: int
    name: str

    @property
    def id(self) -> int:
        """How events and verdicts name it."""
        return self.slot + 1 | self.generation << 32


@dataclass(frozen=True, slots=True)
class CapabilityWord:
    """A capability; `index` is its place in the capability space, `depth` its derivations."""

    index: int
    type: int
    rights: int
    parent: int
    depth: int
    epoch: int
    object: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Events:
    """What happened after some event.

    Attributes:
        events: in order.
        lost: how many between were overwritten, or came over damaged.
        newest: id of the newest event of the node; what to ask after next time.
    """

    events: tuple[Event, ...]
    lost: int
    newest: int


class SystemTable(Protocol):
    """The table of a node, for reading."""

    def head(self) -> Head:
        """The head."""
        ...

    def features(self) -> tuple[int, int]:
        """The boot and the runtime mask, as the majority of the copies has them."""
        ...

    def fibers(self) -> list[FiberEntry]:
        """All slots that are not free, L1 included."""
        ...

    def capabilities(self, slot: int) -> list[CapabilityWord]:
        """The capabilities of a slot, as the majority of the copies has them."""
        ...

    def events(self, after: int) -> Events:
        """All events after one."""
        ...

    def wait(self, after: int, timeout_s: float | None) -> bool:
        """Sleep until there is an event after one; False when the time or a signal came first."""
        ...

    def close(self) -> None:
        """Let the table go."""
        ...


class Supervisor(Protocol):
    """A connection to the supervisor."""

    def post(self, request: Request) -> int:
        """Send a request; the ticket by which to collect its answer."""
        ...

    def collect(self, ticket: int, timeout_s: float | None) -> Answer:
        """The answer to a request, in any order.

        Raises:
            DeadlineError: none came in time; it may be collected later.
            NodeDownError: the supervisor is gone.
        """
        ...

    def open_table(self, descriptor: int) -> SystemTable:
        """The table that came with the answer to HELLO; takes the descriptor over."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Observer(Protocol):
    """The page that L1 alone writes."""

    def beat(self) -> None:
        """Count one beat."""
        ...

    def issue(self, fiber: int, code: VerdictCode, confidence: int, reason: int) -> int:
        """Write a verdict; its sequence."""
        ...
