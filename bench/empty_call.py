"""The least that a call from Python costs: a Cython function that does nothing."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

SOURCE = """
# cython: language_level=3
def one(a, /):
    return None


def two(a, b, /):
    return None
"""


def empty_call(arguments: int = 1) -> Callable[..., None]:
    """A compiled function of one or two arguments that returns None."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "empty_call.pyx"
        source.write_text(SOURCE)
        subprocess.run([sys.executable, "-m", "cython", "-3", source], check=True)
        library = source.with_suffix(".so")
        command = ["cc", "-O2", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
        subprocess.run([*command, source.with_suffix(".c"), "-o", library], check=True)
        spec = spec_from_file_location("empty_call", library)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return {1: module.one, 2: module.two}[arguments]
