"""L1: `python -m nexus.logic`, a fiber with three handles that no other has."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nexus.logic.control import Control
from nexus.logic.ledger import Ledger
from nexus.logic.normality import SAMPLES_LOCK, Normality
from nexus.logic.observer import ObserverEngine
from nexus.physics.baselines import BaselineFile
from nexus.physics.channels import MappedChannel
from nexus.physics.clock import HostClock
from nexus.physics.control import ControlLink
from nexus.physics.ledger import Ed25519Signer, FolderStore
from nexus.physics.process import EndRequest, read_whole
from nexus.physics.systable import MappedTable, ObserverPage


def _channel(text: str) -> MappedChannel:
    where, _, number = text.partition("=")
    name, source, target = where.split(":")
    return MappedChannel(name, source, target, int(number))


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nexus.logic", description=__doc__)
    for name in ("table", "control", "observer", "key"):
        parser.add_argument(f"--{name}", type=int, required=True, help="number of a descriptor")
    parser.add_argument("--baselines", type=int, required=True, help="number of a descriptor")
    parser.add_argument(
        "--watch",
        action="append",
        default=[],
        type=_channel,
        metavar="NAME:FROM:TO=NUMBER",
        help="descriptor of a channel's ring, and the fibers at its ends",
    )
    parser.add_argument("--samples", type=int, default=SAMPLES_LOCK, help="until a baseline locks")
    parser.add_argument("--ledger", required=True, help="folder of the ledger")
    return parser.parse_args()


def main() -> int:
    """Be L1 until the supervisor asks for the end."""
    words = _words()
    end = EndRequest()
    clock = HostClock()
    table = MappedTable(words.table)
    page = ObserverPage(words.observer, clock)
    page.beat()
    control = Control(ControlLink.of_descriptor(words.control))
    store = FolderStore(Path(words.ledger))
    ledger = Ledger.open(store, Ed25519Signer(read_whole(words.key)), clock)
    normality = Normality(words.watch, samples_lock=words.samples)
    baselines = BaselineFile(words.baselines)
    engine = ObserverEngine(table, page, ledger, clock, control.look, normality, baselines)
    while not end.asked:
        pause_s = engine.step()
        if not end.asked:
            table.wait(engine.newest, pause_s)
    engine.close()
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
