"""The form of every command: one parser class, one way to add a command, the common options."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn, TypeAlias

from nexus.errors import NexusError

__all__ = ["Commands", "Parser", "UsageError", "add_command", "add_common", "add_node"]

EXIT_USAGE = 2


class UsageError(NexusError):
    """The command line cannot be understood."""

    code = "NX-CLI-001"
    exit_code = EXIT_USAGE


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors have the common form and a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with what is wrong and how to go on."""
        hint = f"see {self.prog} --help"
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if match:
            near = difflib.get_close_matches(match[1], re.findall(r"[\w-]+", match[2]), n=1)
            message = f"{self.prog} knows no `{match[1]}`"
            hint = f"did you mean `{near[0]}`?" if near else hint
        raise UsageError(message, hint=hint)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_command(
    commands: Commands,
    name: str,
    module: str,
    summary: str,
    examples: str,
) -> Parser:
    """Add a command whose `run` is in a module of this package."""
    parser = commands.add_parser(
        name,
        help=summary.partition(". ")[0].rstrip(".") + ".",
        description=f"examples:\n{examples}\n\n{summary}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=f"nexus.cli.{module}")
    return parser


def add_common(parser: Parser) -> None:
    """Add what every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_node(parser: Parser) -> None:
    """Add the option that says which node a command is about."""
    parser.add_argument(
        "--node",
        metavar="DIR",
        help="the node's directory; without it NEXUS_NODE, or your own: ~/.local/share/nexus",
    )
    add_common(parser)
