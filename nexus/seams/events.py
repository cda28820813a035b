"""What a node tells: the numbers of events, and one event as a value; docs/spec/stl.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Event", "EventKind"]


class EventKind(IntEnum):
    """Numbers of events; never reused."""

    NULL = 0
    SYSTEM_BOOT = 1
    SYSTEM_SHUTDOWN = 2
    FIBER_SPAWN = 3
    FIBER_TERMINATE = 4
    CAPABILITY_GRANT = 10
    CAPABILITY_REVOKE = 11
    CAPABILITY_DELEGATE = 12
    CHANNEL_OPEN = 20
    CHANNEL_CLOSE = 21
    CHANNEL_READ = 22
    CHANNEL_WRITE = 23
    MEMORY_ALLOCATE = 30
    MEMORY_FREE = 31
    MEMORY_MAP = 32
    NETWORK_PACKET_RX = 40
    NETWORK_PACKET_TX = 41
    ACCESS_DENIED = 50
    POLICY_VIOLATION = 51
    BUDGET_STRIKE = 60
    TIER_DEMOTION = 61
    ANOMALY_DETECTED = 62
    VERDICT_ISSUED = 63
    CHECKPOINT_WRITE = 64
    CHECKPOINT_REGION_INIT = 65
    CHECKPOINT_RESTORE = 66
    CHECKPOINT_CORRUPT = 67
    FEATURE_CHANGE = 68
    VOTE_REPAIR = 69
    HEARTBEAT_LATE = 70
    HEARTBEAT_LOST = 71
    RESTART_TRAP = 72
    BREAKER_OPEN = 73
    QUARANTINE = 74
    ENVIRONMENT_FAULT = 75
    CAPABILITY_CORRUPT = 76
    IMAGE_CORRUPT = 77
    PHOENIX = 78
    EVENTS_LOST = 79

    @property
    def title(self) -> str:
        """The name that docs/spec/stl.md gives it, as FiberSpawn."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        id: its number in the stream, counted from 1.
        kind: what happened.
        time_ns: monotonic clock of the node.
        fiber: who did it: slot + 1 in the low, generation in the high 32 bits; 0: the supervisor.
        entity: what it was done to.
        cause: id of the event that led to it; 0: none.
        data: three numbers by kind.
        raw: its 64 bytes.
    """

    id: int
    kind: EventKind
    time_ns: int
    fiber: int
    entity: int
    cause: int
    data: tuple[int, int, int]
    raw: bytes = b""
