"""The form of every command: one parser class, one way to add a command, the common options."""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

from nexus.errors import NexusError

__all__ = [
    "Commands",
    "Parser",
    "UsageError",
    "add_command",
    "add_common",
    "add_node",
    "add_noun",
]

EXIT_USAGE = 2


class UsageError(NexusError):
    """The command line cannot be understood."""

    code = "NX-CLI-001"
    exit_code = EXIT_USAGE


def _columns() -> int:
    # As shutil.get_terminal_size, whose module loads every kind of compression.
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - 2, **options})


class Unbuilt:
    """Stands for the parser of a command that was not asked for: it takes options and keeps none.

    Building the whole grammar takes longer than many a command runs.
    """

    def _take(self, *_: object, **__: object) -> Unbuilt:
        return self

    add_argument = add_argument_group = add_mutually_exclusive_group = _take
    add_parser = add_subparsers = set_defaults = _take


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors have the common form and a suggestion.

    Args:
        words: the command line that will be parsed, for which only what it names is built; None
            builds the whole grammar.
        options: of argparse.ArgumentParser.
    """

    def __init__(self, *, words: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **options})
        self._words = words

    def add_subparsers(self, **options: Any) -> Any:
        """As argparse's."""
        made: Any = self._of_command  # called as a class is
        return super().add_subparsers(parser_class=made, **options)

    def _of_command(self, *, prog: str, **options: Any) -> Parser | Unbuilt:
        if self._words is None:
            return Parser(prog=prog, **options)
        below = itertools.dropwhile(lambda word: word.startswith("-"), self._words)
        if next(below, None) != prog.rpartition(" ")[2]:
            return Unbuilt()
        return Parser(prog=prog, words=list(below), **options)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with what is wrong and how to go on."""
        import difflib  # seldom needed, and slow to import

        hint = f"see {self.prog} --help"
        match = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if match:
            near = difflib.get_close_matches(match[1], re.findall(r"[\w-]+", match[2]), n=1)
            message = f"{self.prog} knows no `{match[1]}`"
            hint = f"did you mean `{near[0]}`?" if near else hint
        raise UsageError(message, hint=hint)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_noun(commands: Commands, name: str, summary: str) -> Commands:
    """Add a noun, whose verbs are added to what this returns."""
    noun = commands.add_parser(name, help=summary, description=summary)
    verbs: Commands = noun.add_subparsers(metavar="VERB", dest="verb", required=True)
    return verbs


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
