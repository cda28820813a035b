"""`nexus help`: the words of this system, each defined once, in the glossary of the docs."""

from __future__ import annotations

import argparse
import difflib
import re
from importlib.resources import files

from nexus.cli.output import Output
from nexus.errors import EmptyError

_ENTRY = re.compile(r"^\*\*(?P<word>[^*]+)\*\* \((?P<plain>[^)]+)\): (?P<text>.+)$", re.M)


def entries() -> dict[str, tuple[str, str]]:
    """Each word with its plain name and its meaning."""
    text = files("nexus.cli").joinpath("glossary.md").read_text(encoding="utf-8")
    return {m["word"]: (m["plain"], m["text"]) for m in _ENTRY.finditer(text)}


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Explain one word, or list all."""
    words = entries()
    if arguments.word is None:
        if arguments.json:
            listing = [{"word": w, "plain": p, "meaning": t} for w, (p, t) in words.items()]
            output.document("glossary", {"items": listing})
            return 0
        output.table([(word, plain) for word, (plain, _) in words.items()])
        return 0
    wanted = {word.lower(): word for word in words}
    word = wanted.get(arguments.word.lower())
    if word is None:
        near = difflib.get_close_matches(arguments.word.lower(), wanted, n=1)
        hint = f"did you mean `{wanted[near[0]]}`?" if near else "`nexus help` lists the words"
        raise EmptyError(f"the glossary has no word `{arguments.word}`", hint=hint)
    plain, text = words[word]
    if arguments.json:
        output.document("word", {"word": word, "plain": plain, "meaning": text})
        return 0
    output.line(f"{word} ({plain})")
    output.line()
    output.line(text)
    return 0
