"""Manifests as text: KDL 2 that `nexus.logic.manifest` reads back to the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nexus.errors import ManifestError
from nexus.logic.manifest import NAME_MAX
from nexus.logic.promises import PROMISES
from nexus.logic.shown import Rule

__all__ = ["manifest_text", "quoted"]

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(text: str) -> str:
    """A string of KDL 2.

    Raises:
        ManifestError: it is not Unicode, which KDL cannot say.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ManifestError(
            f"{text!r} is not UTF-8, which a manifest cannot say", hint="rename the file"
        ) from None
    # KDL takes no control or direction character as itself.
    odd = {c for c in text if not c.isprintable() and c not in _ESCAPES}
    table = {ord(c): f"\\u{{{ord(c):x}}}" for c in odd} | {ord(c): e for c, e in _ESCAPES.items()}
    return f'"{text.translate(table)}"'


def _shortened(name: str) -> str:
    return name.encode("utf-8", "replace")[:NAME_MAX].decode("utf-8", "ignore") or "fiber"


def manifest_text(
    *,
    name: str,
    program: Sequence[str],
    directory: str,
    promises: Iterable[str],
    rules: Iterable[Rule],
    remarks: Iterable[str],
) -> str:
    """The text of a manifest of one fiber, with a comment line for each remark."""
    chosen = frozenset(promises)
    # A remark may quote anything, and a line of a comment ends at what KDL calls a new line.
    lines = [f"// {quoted(remark)[1:-1]}" for remark in remarks]
    lines.append(f"fiber {quoted(_shortened(name))} {{")
    lines.append(f"    program {' '.join(quoted(word) for word in program)}")
    lines.append(f"    directory {quoted(directory)}")
    words = " ".join(quoted(word) for word in PROMISES if word in chosen)
    lines.append(f"    pledge {words}")
    for rule in rules:
        remark = f"  // {rule.remark}" if rule.remark else ""
        lines.append(f'    unveil {quoted(rule.unveil.path)} "{rule.unveil.rights}"{remark}')
    lines.append("}")
    return "\n".join(lines) + "\n"
