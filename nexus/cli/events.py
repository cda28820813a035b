"""Events of a node as one line for people, and as one JSON document for programs."""

from __future__ import annotations

import signal
import struct
from collections.abc import Mapping

from nexus.cli.baseline_text import metric_value
from nexus.seams.baselines import Metric
from nexus.seams.events import Event, EventKind
from nexus.seams.supervisor import Feature, VerdictCode

__all__ = ["NOTABLE", "event_line", "event_record", "features_text", "status_text"]

# What someone who looks at a node wants to be told without asking.
NOTABLE = frozenset(EventKind) - {
    EventKind.NULL,
    EventKind.CHANNEL_READ,
    EventKind.CHANNEL_WRITE,
    EventKind.CHECKPOINT_WRITE,
}

# In the order of nx_trap.h.
CAUSES = (
    "nothing", "a failure", "a page fault", "its budget", "a forbidden call", "its silence",
    "a verdict", "a failed start", "its group", "request",
)  # fmt: skip


def status_text(status: int) -> str:
    """An exit status, as a shell has it."""
    if status == 0xFFFFFFFF:
        return "-"
    if status > 128:
        try:
            return signal.Signals(status - 128).name
        except ValueError:
            pass
    return str(status)


def features_text(mask: int) -> str:
    """The features of a mask in words."""
    return " ".join(one.name.lower() for one in Feature if mask & one and one.name) or "none"


def _double(bits: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)


def _anomaly(event: Event) -> str:
    value, mean, _ = (_double(bits) for bits in event.data)
    try:
        metric = Metric(event.entity & 0xFFFFFFFF)
    except ValueError:
        return f"metric {event.entity}"
    found, normal = metric_value(metric, value), metric_value(metric, mean)
    channel = event.entity >> 32
    where = f" of channel {channel}" if channel else ""
    return f"{metric.name.lower()}{where} is {found:.4g}, where {normal:.4g} is normal"


def _detail(event: Event) -> str:
    """What the data of an event say."""
    one, two, three = event.data
    kind = event.kind
    if kind == EventKind.FIBER_SPAWN:
        return f"life {one}" + (f", from checkpoint {two}" if two else "")
    if kind == EventKind.FIBER_TERMINATE:
        return f"life {one} after {two / 1e9:.3f} s: {status_text(event.entity)}"
    if kind == EventKind.CHECKPOINT_REGION_INIT:
        return f"{event.entity} slots, {one} bytes"
    if kind == EventKind.BUDGET_STRIKE:
        return f"strike {three}: {one / 1e6:.1f} ms of CPU, {two / 1e6:.0f} ms are allowed"
    if kind == EventKind.TIER_DEMOTION:
        return f"tier {one} to {event.entity}"
    if kind == EventKind.ANOMALY_DETECTED:
        return _anomaly(event)
    if kind == EventKind.VERDICT_ISSUED:
        try:
            word = VerdictCode(event.entity).name
        except ValueError:
            word = str(event.entity)
        return f"{word} by L{one}, confidence {two / 100:.0f} %"
    if kind == EventKind.CHECKPOINT_RESTORE:
        return f"checkpoint {event.entity}"
    if kind == EventKind.FEATURE_CHANGE:
        return f"now {features_text(event.entity)}"
    if kind == EventKind.RESTART_TRAP:
        cause = CAUSES[event.entity] if event.entity < len(CAUSES) else str(event.entity)
        return f"life {one} ended by {cause}"
    if kind == EventKind.QUARANTINE:
        return f"at step {event.entity} of the trap"
    if kind == EventKind.BREAKER_OPEN:
        return f"{event.entity} restarts within {one / 1e9:.0f} s"
    if kind == EventKind.EVENTS_LOST:
        return f"{one} events from {event.entity} on"
    if kind in (EventKind.HEARTBEAT_LATE, EventKind.HEARTBEAT_LOST):
        return f"silent for {one / 1e9:.2f} s"
    return " ".join(str(number) for number in event.data if number)


def event_line(event: Event, names: Mapping[int, str], start_ns: int) -> str:
    """One line: seconds since the start, what, who, and what the data say."""
    seconds = (event.time_ns - start_ns) / 1e9
    who = names.get(event.fiber, "") if event.fiber else "node"
    return f"{seconds:10.3f}  {event.kind.title:<18}  {who:<12}  {_detail(event)}".rstrip()


def event_record(event: Event, names: Mapping[int, str]) -> dict[str, object]:
    """The fields of an event, integers as they are."""
    return {
        "id": event.id,
        "kind": int(event.kind),
        "title": event.kind.title,
        "time_ns": event.time_ns,
        "fiber": names.get(event.fiber) if event.fiber else None,
        "slot": (event.fiber & 0xFFFFFFFF) - 1 if event.fiber else None,
        "generation": event.fiber >> 32,
        "entity": event.entity,
        "cause": event.cause,
        "data": list(event.data),
    }
