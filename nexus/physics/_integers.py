"""How Python code of this package reads an integer: the rule of `nexus/_core/_args.pxd`.

An int or anything with `__index__`, never a bool and never a float.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

__all__ = ["as_integer"]


def as_integer(value: SupportsIndex, maximum: int) -> int:
    """The integer that a value stands for, from 0 to `maximum`.

    Raises:
        TypeError: it stands for none.
        OverflowError: it is negative or too large.
    """
    if isinstance(value, bool):
        raise TypeError("an integer is required, not bool")
    number = operator.index(value)
    if not 0 <= number <= maximum:
        raise OverflowError(f"{number} is not from 0 to {maximum}")
    return number
