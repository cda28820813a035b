"""L1: `python -m nexus.logic`, started by the supervisor as a fiber with three handles more."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nexus.logic.control import Control
from nexus.logic.ledger import Ledger
from nexus.logic.observer import ObserverEngine
from nexus.physics.clock import HostClock
from nexus.physics.control import ControlLink
from nexus.physics.ledger import Ed25519Signer, FolderStore
from nexus.physics.process import EndRequest, read_whole
from nexus.physics.systable import MappedTable, ObserverPage


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nexus.logic", description=__doc__)
    for name in ("table", "control", "observer", "key"):
        parser.add_argument(f"--{name}", type=int, required=True, help="number of a descriptor")
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
    engine = ObserverEngine(table, page, ledger, clock, control.look)
    while not end.asked:
        pause_s = engine.step()
        if not end.asked:
            table.wait(engine.newest, pause_s)
    engine.close()
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
