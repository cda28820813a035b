"""The functions of zstd for the store in C, from the library that the package `zstandard` carries.

`zstandard` keeps a whole zstd in its module for cffi and exports it; loading that file as a plain
library gives the functions without Python between them and the store's threads.
"""

from __future__ import annotations

import functools
import os
from importlib.machinery import PathFinder  # importlib.util takes longer to import
from pathlib import Path

from nexus._core.library import find_functions
from nexus.errors import AbsentError

__all__ = ["zstd_functions"]

# In the order of nx_zstd.h.
_NAMES = (
    b"ZSTD_createCCtx",
    b"ZSTD_freeCCtx",
    b"ZSTD_createDCtx",
    b"ZSTD_freeDCtx",
    b"ZSTD_CCtx_setParameter",
    b"ZSTD_DCtx_setParameter",
    b"ZSTD_CCtx_refPrefix",
    b"ZSTD_DCtx_refPrefix",
    b"ZSTD_compress2",
    b"ZSTD_decompressDCtx",
    b"ZSTD_compressBound",
    b"ZSTD_isError",
)


@functools.cache
def zstd_functions() -> tuple[int, ...]:
    """The addresses of the functions, in the order of nx_zstd.h.

    Raises:
        AbsentError: `zstandard` is not there, or does not carry them.
    """
    spec = PathFinder.find_spec("zstandard")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for place in places for file in sorted(Path(place).glob("_cffi*.so"))]
    if not files:
        raise AbsentError(
            "no zstd: the package zstandard is missing, or was built without its cffi module",
            hint="pip install --force-reinstall zstandard",
        )
    try:
        return find_functions(os.fsencode(files[0]), _NAMES)
    except OSError as error:
        raise AbsentError(f"{files[0]}: {error}") from None
