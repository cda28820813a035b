"""NexFS: content-addressed storage. `Volume` is a volume's tree and its snapshots."""

from __future__ import annotations

from nexus.fs.differences import Change
from nexus.fs.volume import Report, Volume

__all__ = ["Change", "Report", "Volume"]
