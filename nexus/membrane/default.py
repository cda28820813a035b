"""The node of someone who has described none: three fibers that are worth looking at."""

from __future__ import annotations

from pathlib import Path

__all__ = ["default_node"]

_THERMAL = "/sys/devices/virtual/thermal"
_NODE = """\
// What this node consists of; docs/guides/node.md says what can stand here.
survivability "hardened"

group "telemetry" strategy="one-for-one" {
    // Reads the machine's own load, memory and temperature ten times a second.
    fiber "pulse" {
        module "nexus.membrane.fibers.pulse"
        pledge "stdio" "rpath"
__THERMAL__        restart "always"
        standby
    }
    // Summarises them, and saves what it knows: a restart goes on from there.
    fiber "digest" {
        module "nexus.membrane.fibers.digest"
        pledge "stdio" "rpath"
        restart "always"
        checkpoint
        standby
    }
}

// Crashes about every half minute, and is there again: how often, it knows from its checkpoint.
fiber "lazarus" {
    module "nexus.membrane.fibers.lazarus"
    pledge "stdio" "rpath"
    restart "always" intensity=10 period="60s"
    checkpoint
    standby
}

channel "telemetry" from="pulse" to="digest" slots=256 size=64
"""


def default_node() -> str:
    """The text; temperatures are shown where this host has them."""
    shown = f'        unveil "{_THERMAL}" "r"\n' if Path(_THERMAL).is_dir() else ""
    return _NODE.replace("__THERMAL__", shown)
