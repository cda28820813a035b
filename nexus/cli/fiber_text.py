"""A fiber's entry of the table, as a row for people and as a record for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nexus.cli.events import status_text
from nexus.physics.cgroups import REMEDY
from nexus.seams.supervisor import FiberEntry, FiberFlag

__all__ = [
    "FIBER_HEADS",
    "fiber_record",
    "fiber_row",
    "per_process_lines",
    "policy_rows",
    "state_word",
    "tier_word",
]

FIBER_HEADS = ("fiber", "state", "lives", "restarts", "tier", "strikes", "last", "saved", "pid")
_TIERS = ("void", "gravity", "matter", "photon")
_BREAKER = ("closed", "open", "half open")
_STRATEGIES = ("one-for-one", "one-for-all", "rest-for-one")


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else str(number)


def tier_word(number: int) -> str:
    """The name of a tier."""
    return _word(_TIERS, number)


def state_word(fiber: FiberEntry) -> str:
    """The state of a fiber in a word."""
    return fiber.state.name.lower()


def fiber_row(fiber: FiberEntry) -> tuple[str, ...]:
    """The columns of `FIBER_HEADS`."""
    budgeted = bool(fiber.flags & FiberFlag.BUDGET)
    return (
        fiber.name,
        state_word(fiber),
        str(fiber.lives),
        str(fiber.restarts),
        tier_word(fiber.tier) if budgeted else "-",
        str(fiber.strikes) if budgeted else "-",
        status_text(fiber.status),
        str(fiber.checkpoint) if fiber.flags & FiberFlag.CHECKPOINTS else "-",
        str(fiber.pid or "-"),
    )


def fiber_record(fiber: FiberEntry) -> dict[str, object]:
    """All fields, numbers as they are and words where there are some."""
    flags = [one.name.lower() for one in FiberFlag if fiber.flags & one and one.name]
    words = {
        "state": state_word(fiber),
        "tier": tier_word(fiber.tier),
        "tier_declared": tier_word(fiber.tier_declared),
        "breaker": _word(_BREAKER, fiber.breaker),
        "strategy": _word(_STRATEGIES, fiber.strategy),
        "flags": flags,
        "status": None if fiber.status == 0xFFFFFFFF else fiber.status,
        "image": f"{fiber.image:016x}",
    }
    return {**asdict(fiber), **words}


def policy_rows(policy: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The effective policy of a fiber's start, in a few rows; none where no record was kept."""
    if policy is None:
        return []
    states: dict[str, list[str]] = {}
    for layer in policy["layers"]:
        states.setdefault(layer["state"], []).append(layer["name"])
    shown = [f"{rule['path']} {rule['rights'] or 'hidden'}" for rule in policy["unveil"]]
    return [
        ("program", policy["program"]),
        ("pledged", " ".join(policy["promises"])),
        ("shown", ", ".join(shown) or "nothing of its own"),
        *(
            ("limited", f"{one['name']} {one['value']} by {one['by']}, {one['of']}")
            for one in policy.get("limits", ())  # absent in a record of an older version
        ),
        *((state, ", ".join(names)) for state, names in states.items()),
    ]


def per_process_lines(per_process: Mapping[str, str]) -> list[str]:
    """What is told of limits of memory and processes that no cgroup holds, and how it could."""
    reasons: dict[str, list[str]] = {}
    for name, why in per_process.items():
        reasons.setdefault(why, []).append(name)
    lines = [
        f"without a cgroup for all limits of {', '.join(names)}, so each process for itself: {why}"
        for why, names in reasons.items()
    ]
    return [*lines, f"to have one, {REMEDY}"] if lines else []
