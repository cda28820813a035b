"""`nexus completion`: the scripts that shells load; generated from the parser, then shipped.

`tests/unit/cli/test_completion.py` regenerates them and compares, so they cannot go stale.
"""

from __future__ import annotations

import argparse
from importlib.resources import files

from nexus.cli.output import Output


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Print the script of one shell."""
    script = files("nexus.cli").joinpath("completions", f"nexus.{arguments.shell}").read_text()
    if arguments.json:
        output.document("completion", {"shell": arguments.shell, "script": script})
    else:
        output.line(script.rstrip("\n"))
    return 0
