"""`python -m nexus.cli` is the `nexus` command."""

from nexus.cli import command

command()
