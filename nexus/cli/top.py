"""`nexus top`: a node in the terminal, as a client of `nexus status --json` and nothing else."""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from nexus.cli.output import Output
from nexus.errors import AbsentExtraError

__all__ = ["run"]


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the node until `q`."""
    if importlib.util.find_spec("textual") is None:
        raise AbsentExtraError(
            "nexus top needs Textual, which is not installed",
            hint="pip install 'nexus-node[tui]'; nexus status shows the same once",
        )
    app = importlib.import_module("nexus.tui.app")
    code: int = app.watch(arguments.node)
    return code
