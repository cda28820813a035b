"""The `nexus` command: a client of the layers below, each noun loaded when it is called."""

from __future__ import annotations


def main() -> int:
    """Run the command line and return its exit code."""
    return 0
