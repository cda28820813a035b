"""Keys as commands are given them: a secret one is a file, a public one is its digits."""

from __future__ import annotations

import os
import re
import stat

from nexus.cli.grammar import UsageError

__all__ = ["public_key", "secret_seed"]

_BYTES = 32


def public_key(text: str) -> bytes:
    """The 32 bytes of a public key.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UsageError("a public key is 64 hexadecimal digits")
    return bytes.fromhex(text)


def secret_seed(path: str) -> bytes:
    """The 32 bytes of a secret key's file, which only its owner may read.

    Raises:
        UsageError: it is none, or others may read it.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size != _BYTES:
            raise UsageError(
                f"{path} is no secret key: a file of {_BYTES} bytes",
                hint=f"(umask 077; head -c {_BYTES} /dev/urandom > {path}) makes one",
            )
        if about.st_mode & 0o077:
            raise UsageError(f"{path} may be read by others", hint=f"chmod 600 {path}")
        return os.pread(descriptor, _BYTES, 0)
    finally:
        os.close(descriptor)
