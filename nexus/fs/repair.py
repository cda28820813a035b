"""Repair: a volume that is damaged where it must not be is opened, looked at, and made usable.

Nothing is written before `repair`, and that writes an index and a state: packs stay as they are. A
state that is damaged is taken from its copy; packs that are gone or cut are named as they are; the
index is made anew from the packs. What the trees need and the packs do not have stays lost, and
named by a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexus.errors import (
    CorruptError,
    EmptyError,
    NoVolumeError,
    VolumeBusyError,
    VolumeCorruptError,
)
from nexus.fs.check import Lost
from nexus.fs.settings import store_settings
from nexus.fs.state import State, decode_state
from nexus.fs.volume import Volume
from nexus.physics.clock import HostClock
from nexus.physics.store import open_store, pack_size, read_copy, read_settings
from nexus.physics.sweep import remake_index
from nexus.seams.store import ContentStore

__all__ = ["Fault", "Patient", "open_patient"]

_TRIES = 8
UNINDEXED = "it is not in the index"


@dataclass(frozen=True)
class Fault:
    """Something of a volume that cannot be read, other than content.

    Attributes:
        part: "state", "pack" or "segment".
        number: of the pack or segment; 0 of the state.
        why: what is wrong.
        act: what a repair does about it.
    """

    part: str
    number: int
    why: str
    act: str


def _state(path: Path) -> tuple[State, list[Fault]]:
    try:
        return decode_state(read_settings(path)), []
    except (VolumeCorruptError, NoVolumeError) as error:
        copy = read_copy(path)
        if copy is None:
            raise
        state = decode_state(copy)  # with both damaged nothing can be said
        why = str(error) if isinstance(error, VolumeCorruptError) else "it is not there"
        return state, [Fault("state", 0, why, f"take its copy, of commit {state.generation}")]


def _add_packs(path: Path, store: ContentStore, state: State) -> list[Fault]:
    faults = []
    for number, length, _ in state.packs:
        try:
            store.add_pack(number, length)
        except CorruptError:
            size = pack_size(path, number)
            if size:
                store.add_pack(number, min(size, length))
                why = f"it has {size} bytes of {length}"
                faults.append(Fault("pack", number, why, "keep what it has"))
            else:
                act = "name it no more; if it can be had again, put it back before"
                faults.append(Fault("pack", number, "it is not there", act))
    return faults


def _add_segments(store: ContentStore, state: State) -> list[Fault]:
    faults = []
    for number in state.segments:
        try:
            store.add_segment(number)
        except (CorruptError, EmptyError, OSError):
            act = "make the index anew from the packs"
            faults.append(Fault("segment", number, "it is damaged or not there", act))
    return faults


class Patient:
    """A volume that was opened in spite of its faults.

    Attributes:
        volume: as far as it can be read.
        faults: what is wrong besides content.
    """

    def __init__(self, volume: Volume, faults: tuple[Fault, ...]) -> None:
        self.volume = volume
        self.faults = faults

    @property
    def unnamed(self) -> int:
        """Files of packs and segments that nothing names; a repair removes them."""
        store, state = self.volume.store, self.volume.state
        packs = {number for number, _, _ in state.packs}
        return len(set(store.files(True)) - packs) + len(
            set(store.files(False)) - set(state.segments)
        )

    def needs_index(self, lost: tuple[Lost, ...], objects: int) -> bool:
        """Whether the index has to be made anew.

        Args:
            lost: what a check found.
            objects: that it found in the packs: what is in no index may be among them.
        """
        records = sum(count for _, count in self.volume.store.segments())
        unindexed = records != objects and any(one.why == UNINDEXED for one in lost)
        return unindexed or any(one.part == "segment" for one in self.faults)

    def repair(self, *, index: bool) -> None:
        """Does what is to be done, and commits it.

        Args:
            index: make it anew.

        Raises:
            OSError: it cannot be written; the volume is as it was.
            DeadlineError: the store was cancelled; the volume is as it was.
        """
        self.volume.tidy()
        if index:
            remake_index(self.volume.store)
        self.volume.commit()


def open_patient(path: str | Path, *, writes: bool) -> Patient:
    """Opens a volume whatever its faults are; who uses it closes its volume.

    Raises:
        NoVolumeError: nothing there is a volume.
        VolumeCorruptError: its state is damaged, and there is no copy of it that is whole.
        VolumeBusyError: with `writes`, another process writes to it; or it changes too fast.
    """
    place = Path(path)
    for _ in range(_TRIES):
        state, faults = _state(place)
        store = open_store(place, store_settings(state), writes=writes)
        try:
            if _state(place)[0] == state:
                faults += _add_packs(place, store, state)
                faults += _add_segments(store, state)
                return Patient(Volume(place, store, state, HostClock()), tuple(faults))
        except BaseException:  # whatever it is, the lock must not stay
            store.close()
            raise
        store.close()  # it was committed in between
    raise VolumeBusyError(f"{place}: it changes faster than it can be opened")
