"""Collection: what neither the tree nor a snapshot needs goes, one pack a commit.

A sweep marks what is needed, then takes pack after pack: what is needed of it is written anew, the
state that does not name it is committed, and its file removed. Whatever ends it between two commits
loses nothing, and the next sweep goes on with the packs that are left. Who has the volume open for
reading keeps the files that it needs: they go at the next commit without a reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nexus.errors import CorruptError, VolumeCorruptError
from nexus.fs.volume import Volume
from nexus.physics.sweep import open_sweep
from nexus.seams.store import ContentSweep

__all__ = ["KEEP_PACK", "Plan", "Step", "Sweep"]

# A pack that is needed to this part stays: to write four fifths of it for one fifth costs more
# than it gives. Chosen, not measured.
KEEP_PACK = 0.8
# Records of packs that are gone take memory until a purge; one of eight adds 2 bytes an object.
_VOID_PART = 8


@dataclass(frozen=True)
class Step:
    """What happens to one pack.

    Attributes:
        pack: its number.
        length: bytes of it.
        live: bytes that are written anew; 0: it only goes.
    """

    pack: int
    length: int
    live: int


@dataclass(frozen=True)
class Plan:
    """What a sweep would do.

    Attributes:
        steps: in order.
        kept_dead: bytes that nothing needs, in packs that stay.
        damaged: packs that stay as they are, for they cannot be read.
    """

    steps: tuple[Step, ...]
    kept_dead: int
    damaged: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes of all packs that go."""
        return sum(step.length for step in self.steps)

    @property
    def freed(self) -> int:
        """Bytes that will be free, as far as can be said before they are written anew."""
        return self.length - sum(step.live for step in self.steps)


class Sweep:
    """A sweep of a volume; `plan`, then each of `steps`, which is a commit.

    Args:
        volume: opened for writing, or for reading where only the plan is wanted.
        level: everything that is needed gets this level of compression, if it has another.
    """

    def __init__(self, volume: Volume, *, level: int | None = None) -> None:
        self._volume = volume
        self._level = level
        self._sweep: ContentSweep = open_sweep(volume.store)
        if level is not None:
            self._sweep.set_level(level, min(level + 2, 22))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sweep.close()

    @property
    def marks(self) -> tuple[int, int, int]:
        """Objects that are needed, data that is missing, bytes of memory for the marks."""
        return self._sweep.marked()

    def plan(self, *, keep_pack: float = KEEP_PACK) -> Plan:
        """Marks what is needed, and looks at every pack that is not needed whole.

        Args:
            keep_pack: the part that has to be needed of a pack that stays, 0 to 1.

        Raises:
            VolumeCorruptError: a directory or list is lost, so that it cannot be said what is
                needed.
            DeadlineError: the store was cancelled.
        """
        if not 0 <= keep_pack <= 1:
            raise ValueError(f"{keep_pack} is no part of a pack; 0 to 1")
        try:
            for root in self._roots():
                self._sweep.mark(root)
            for _, signature in self._volume.state.signatures:
                if self._volume.store.find(signature) is not None:  # else there is nothing to keep
                    self._sweep.keep(signature)
        except CorruptError as error:
            raise VolumeCorruptError(f"{error} is damaged, so nothing may go") from error
        steps: list[Step] = []
        damaged: list[int] = []
        kept = 0
        for number, length, records, live in self._sweep.packs():
            if live == 0:
                steps.append(Step(number, length, 0))
                continue
            if live == records and self._level is None:
                continue
            try:
                needed, dead, stale = self._sweep.weigh(number)
            except CorruptError:
                damaged.append(number)
                continue
            if (dead and needed < keep_pack * (needed + dead)) or stale:
                steps.append(Step(number, length, needed))
            else:
                kept += dead
        # What only goes costs nothing and makes room for what is written anew.
        steps.sort(key=lambda step: (step.live, step.pack))
        return Plan(tuple(steps), kept, tuple(damaged))

    def _roots(self) -> list[bytes]:
        roots = {one.root for one in self._volume.snapshots}
        head = self._volume.state.head
        return sorted(roots | {head} if head is not None else roots)

    def steps(self, plan: Plan) -> Iterator[Step]:
        """Does what the plan says; each step is committed when it is given out.

        Raises:
            OSError: no room, or a file cannot be written; the commits before stay.
            DeadlineError: the store was cancelled; the commits before stay.
        """
        records = {number: count for number, _, count, _ in self._sweep.packs()}
        total, void = sum(records.values()), 0
        for step in plan.steps:
            if step.live:
                self._sweep.move(step.pack)
            self._sweep.drop(step.pack)
            void += records[step.pack]
            if void > total // _VOID_PART:
                total, void = total - void, 0
                self._sweep.purge()
            self._volume.commit()
            yield step
        if self._sweep.purge():
            self._volume.commit()
