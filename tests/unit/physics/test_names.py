"""The package's names: loaded when asked for, the same for programs and for type checkers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from nexus import physics


def declared() -> dict[str, str]:
    """Where type checkers are told that each name is."""
    tree = ast.parse(Path(physics.__file__).read_text("utf-8"))
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("nexus")
        for alias in node.names
    }


def loaded(statement: str) -> set[str]:
    """Our modules that are there after a statement in a process of its own."""
    code = f"import sys\n{statement}\nprint(*[one for one in sys.modules if 'nexus' in one])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_each_name_is_where_it_is_declared() -> None:
    places = declared()
    assert sorted(places) == physics.__all__
    for name, place in places.items():
        assert getattr(physics, name) is getattr(sys.modules[place], name)


def test_a_name_that_is_a_module_too_is_the_function() -> None:
    importlib.import_module("nexus.physics.syscalls")
    assert callable(physics.syscalls)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Rung'"):
        physics.Rung  # noqa: B018
    with pytest.raises(ImportError):
        exec("from nexus.physics import Rung")


def test_dir_shows_what_is_not_loaded_yet() -> None:
    assert set(physics.__all__) <= set(dir(physics))


def test_only_what_is_asked_for_is_loaded() -> None:
    few = loaded("import nexus.physics")
    assert not [one for one in few if one.startswith("nexus._core.")]
    some = loaded("from nexus.physics import Baseline")
    assert "nexus._core.baseline" in some
    assert "nexus._core.chunker" not in some
    assert "nexus._core.chunker" in loaded("from nexus.physics import *")
