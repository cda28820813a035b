"""What the commands about a running node share: reaching it, and finding a fiber by its name."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nexus.errors import UnknownFiberError
from nexus.logic.control import Control
from nexus.membrane.directory import NodeDirectory, find_node
from nexus.physics.control import connect_node
from nexus.seams.supervisor import FiberEntry, SystemTable

__all__ = ["NodeClient", "connect"]


@dataclass(frozen=True, slots=True)
class NodeClient:
    """A running node.

    Attributes:
        directory: where it is.
        control: the verbs of its supervisor.
        table: its table.
    """

    directory: NodeDirectory
    control: Control
    table: SystemTable

    def find(self, name: str) -> FiberEntry:
        """The fiber of this name, or the only one whose name begins with it.

        Raises:
            UnknownFiberError: there is none, or more than one.
        """
        fibers = self.table.fibers()
        exact = [fiber for fiber in fibers if fiber.name == name]
        found = exact or [fiber for fiber in fibers if fiber.name.startswith(name)]
        if len(found) != 1:
            names = ", ".join(fiber.name for fiber in found or fibers) or "none"
            what = "is no fiber of this node" if not found else "begins several names"
            raise UnknownFiberError(f"{name!r} {what}", hint=f"one of {names}")
        return found[0]


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[NodeClient]:
    """Reach the node that a command is about.

    Raises:
        NodeDownError: it is not up.
    """
    directory = find_node(arguments.node, os.environ)
    control = Control(connect_node(directory.control))
    try:
        table = control.hello()
        try:
            yield NodeClient(directory, control, table)
        finally:
            table.close()
    finally:
        control.close()
