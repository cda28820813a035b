"""Every package that Nexus needs, ships or builds with is under a permissive licence."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|BSD|0BSD|ISC|Apache|PSF|Python Software Foundation|PSF-2.0|MPL|Mozilla"
    r"|Unlicense|CC0|Public Domain|Zlib|zlib|HPND|CNRI)\b",
    re.I,
)
COPYLEFT = re.compile(r"\b[AL]?GPL|GNU (?:Lesser|Affero)? ?General Public|CeCILL|EUPL|SSPL", re.I)


def licence_of(dist: Distribution) -> str:
    meta = dist.metadata
    parts = [meta.get("License-Expression") or "", (meta.get("License") or "")[:200]]
    parts += [c for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    return " | ".join(part for part in parts if part)


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return match[0]


def closure(names: set[str]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    queue = sorted(names)
    while queue:
        name = queue.pop()
        key = name.lower().replace("_", "-").replace(".", "-")
        if key in found:
            continue
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue
        found[key] = dist
        queue += [name_of(r) for r in dist.requires or [] if "extra ==" not in r]
    return found


def judge(name: str, text: str) -> str | None:
    """What is wrong with a licence, or None; of alternatives ("A OR B") we take the best."""
    if any(PERMISSIVE.search(one) and not COPYLEFT.search(one) for one in text.split(" OR ")):
        return None
    if COPYLEFT.search(text):
        return f"{name}: copyleft: {text[:120]}"
    return f"{name}: no permissive licence stated: {text[:120]!r}"


@pytest.mark.slow
def test_all_dependencies_are_permissive(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    wanted += project["dependency-groups"]["dev"]
    found = closure({name_of(requirement) for requirement in wanted})
    assert len(found) > 20, "the environment is not the one ./dev setup makes"
    wrong = [w for name, dist in sorted(found.items()) if (w := judge(name, licence_of(dist)))]
    assert not wrong, "\n".join(wrong)


BAD = [
    "GPL-3.0-only",
    "License :: OSI Approved :: GNU Lesser General Public",
    "MIT AND LGPL-2.1-or-later",
    "GPL-2.0-only OR LGPL-2.1-only",
    "",
]


@pytest.mark.parametrize("text", BAD)
def test_the_judge_can_fail(text: str) -> None:
    assert judge("example", text) is not None


def test_the_licence_file_is_apache(root: Path) -> None:
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


def test_the_judge_takes_a_permissive_alternative() -> None:
    assert judge("example", "Apache-2.0 OR LGPL-2.1-or-later") is None
