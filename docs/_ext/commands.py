"""A Sphinx directive that writes the commands' reference from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docutils import nodes
from docutils.parsers.rst import Directive

from nexus.cli import make_parser


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers that do something, in the order of the help."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for sub in group.choices.values():
            yield from commands(sub)


class Commands(Directive):
    """`{commands}`: one section a command with its help text."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for parser in commands(make_parser()):
            section = nodes.section(ids=[nodes.make_id(parser.prog)])
            section += nodes.title(text=parser.prog)
            text = parser.format_help()
            section += nodes.literal_block(text, text)
            sections.append(section)
        return sections


def setup(app) -> dict[str, object]:
    """Register the directive."""
    app.add_directive("commands", Commands)
    return {"version": "1", "parallel_read_safe": True}
