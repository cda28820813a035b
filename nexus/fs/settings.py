"""The settings in a volume's state, and what they are for a store."""

from __future__ import annotations

from nexus.errors import VolumeCorruptError
from nexus.fs.state import State
from nexus.physics.store import StoreSettings

__all__ = ["CHUNKERS", "pack_bytes", "store_settings", "zigzag"]

CHUNKERS = {"fastcdc2020": 1, "nx1": 2}


def zigzag(value: int) -> int:
    """A signed setting as the state has it."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)


def pack_bytes(size: int) -> int:
    """When a pack on a medium of this size is closed, docs/spec/nexfs-store.md."""
    return 1 << (min(max(size // 64, 256 << 10), 64 << 20).bit_length() - 1)


def store_settings(state: State) -> StoreSettings:
    """What the store of a volume is opened with.

    Raises:
        VolumeCorruptError: a setting has a value that is not known.
    """
    given = state.settings
    if given.get("profile", 1) not in CHUNKERS.values():
        raise VolumeCorruptError(
            f"a chunker of profile {given['profile']} is not known here",
            hint="a newer nexus made the volume",
        )
    return StoreSettings(
        state.volume,
        level=_unzigzag(given.get("level", zigzag(3))),
        depth=given.get("depth", 3),
        block_raw=given.get("block_raw", 256 << 10),
        pack_bytes=given.get("pack_bytes", 64 << 20),
        profile=given.get("profile", 1),
        seed=given.get("seed", 0),
        next_pack=state.next_pack,
        next_segment=state.next_segment,
    )
