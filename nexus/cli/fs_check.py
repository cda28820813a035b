"""`nexus fs check`: whether a volume is whole, and what is lost if not."""

from __future__ import annotations

import argparse

from nexus.cli.entry_text import bytes_text, name_record, name_text
from nexus.cli.long_work import explained, watched
from nexus.cli.output import Output
from nexus.fs.check import Lost, check_packs, check_trees
from nexus.fs.repair import Patient, open_patient

__all__ = ["run"]

EXIT_DAMAGED = 1


def _lost_record(lost: Lost) -> dict[str, object]:
    needed = [{"snapshot": name, **name_record("path", path)} for name, path in lost.needed_by]
    return {"id": lost.id.hex(), "kind": lost.kind, "why": lost.why, "needed_by": needed}


def _lost_lines(lost: Lost) -> list[str]:
    by: dict[bytes, list[str]] = {}
    for name, path in lost.needed_by:
        by.setdefault(path, []).append("the tree" if name is None else f"snapshot {name}")
    return [
        f"lost: {name_text(path) or '/'} in {', '.join(names)}: {lost.kind} "
        f"{lost.id.hex()[:16]}: {lost.why}"
        for path, names in by.items()
    ]


def _fault_lines(patient: Patient) -> list[str]:
    return [
        f"damaged: {one.part if one.part == 'state' else f'{one.part} {one.number}'}: {one.why}"
        for one in patient.faults
    ]


def _acts(patient: Patient, *, index: bool, unnamed: int) -> list[str]:
    """What a repair does, in words."""
    acts = [
        f"{one.part} {one.number}: {one.act}" if one.number else f"{one.part}: {one.act}"
        for one in patient.faults
    ]
    if index and not any(one.part == "segment" for one in patient.faults):
        acts.append("make the index anew from the packs: it does not lead to all they have")
    if unnamed:
        acts.append(f"remove {unnamed} files that nothing names")
    return acts


def _repaired(patient: Patient, output: Output, *, index: bool) -> tuple[Lost, ...]:
    store = patient.volume.store
    watched(lambda: patient.repair(index=index), store, output, "repairing", quiet=True)
    return check_trees(patient.volume, decode=True)[1]


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Read all of it, say what is wrong, and repair what can be."""
    full, wanted = arguments.full, arguments.repair
    with explained(arguments.volume):
        patient = open_patient(arguments.volume, writes=wanted)
        volume = patient.volume
        try:
            found = watched(
                lambda: check_packs(volume, full=full),
                volume.store,
                output,
                "checking",
                quiet=arguments.quiet,
                shown=lambda doing, store: (
                    f"{doing}: {bytes_text(store.counters()['file_bytes'])} "
                    f"of {bytes_text(volume.stored)}"
                ),
            )
            needed, lost = check_trees(volume, decode=bool(found.damage))
            index = patient.needs_index(lost, found.objects)
            # Without the lock somebody may be writing them.
            unnamed = patient.unnamed if wanted else 0
            acts = _acts(patient, index=index, unnamed=unnamed)
            done = wanted and bool(acts)
            if done:
                lost = _repaired(patient, output, index=index)
        finally:
            volume.close()
    whole = not found.damage and not lost and (done or not patient.faults)
    if output.json:
        body = {
            "volume": arguments.volume,
            "full": full,
            "blocks": found.blocks,
            "objects": found.objects,
            "bytes": found.bytes,
            "needed": needed,
            "faults": [
                {"part": one.part, "number": one.number, "why": one.why} for one in patient.faults
            ],
            "repairs": acts,
            "repaired": done,
            "damage": [
                {"pack": one.pack, "offset": one.offset, "why": one.why} for one in found.damage
            ],
            "lost": [_lost_record(one) for one in lost],
        }
        output.document("check", body)
        return 0 if whole else EXIT_DAMAGED
    for line in _fault_lines(patient):
        output.line(line)
    for one in found.damage:
        output.line(f"damaged: pack {one.pack} at {one.offset}: {one.why}")
    for act in acts:
        output.line(f"{'repaired' if done else 'a repair would'}: {act}")
    for each in lost:
        for line in _lost_lines(each):
            output.line(line)
    output.line(
        f"{found.blocks} blocks, {found.objects} objects, {bytes_text(found.bytes)}: "
        f"{len(found.damage)} damaged; {needed} needed, {len(lost)} of them lost"
    )
    if acts and not done:
        output.line("nothing was done; --repair does it")
    return 0 if whole else EXIT_DAMAGED
