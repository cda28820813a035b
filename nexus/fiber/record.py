"""Typed records of a channel: a NamedTuple of fixed-width numbers, and how it lies in bytes.

The fields follow each other in the order of the class, little-endian, without padding. The widths
are part of the annotations, so the type that a type checker sees is the format on the wire:

    class Sample(NamedTuple):
        time_ns: U64
        celsius: F64

`int`, `float` and `bool` alone stand for 64 bits signed, 64 bits and one byte.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

from nexus.errors import PeerRecordError, RecordError

__all__ = ["F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "Layout"]

I8 = Annotated[int, "b"]
I16 = Annotated[int, "h"]
I32 = Annotated[int, "i"]
I64 = Annotated[int, "q"]
U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
F32 = Annotated[float, "f"]
F64 = Annotated[float, "d"]

_ALONE = {int: "q", float: "d", bool: "?"}
_NUMBERS = (I8, I16, I32, I64, U8, U16, U32, U64, F32, F64)
_WIDTHS: dict[object, str] = {get_args(one): get_args(one)[1] for one in _NUMBERS}

R = TypeVar("R", bound=NamedTuple)


def _width(kind: type[Any], name: str, hint: object) -> str:
    if isinstance(hint, type) and hint in _ALONE:
        return _ALONE[hint]
    width = _WIDTHS.get(get_args(hint))
    if width is None:
        raise RecordError(
            f"{kind.__name__}.{name} is {hint}, which has no fixed width",
            hint="annotate it as U64, I32, F64, ... of nexus.fiber, or int, float, bool",
        )
    return width


class Layout(Generic[R]):
    """The bytes of one record type.

    Attributes:
        kind: the NamedTuple class.
        format: of the `struct` module.
        size: bytes of a record.
    """

    def __init__(self, kind: type[R]) -> None:
        fields = getattr(kind, "_fields", None)
        if not isinstance(kind, type) or not issubclass(kind, tuple) or not fields:
            raise RecordError(
                f"{kind!r} is no record type", hint="write class Sample(NamedTuple): ..."
            )
        hints = get_type_hints(kind, include_extras=True)
        self.kind = kind
        self.format = "<" + "".join(_width(kind, name, hints.get(name)) for name in fields)
        self._struct = struct.Struct(self.format)
        self.size = self._struct.size

    def pack(self, record: R, /) -> bytes:
        """The bytes of a record.

        Raises:
            RecordError: it is of another type, or a number does not fit into its field.
        """
        if type(record) is not self.kind:
            raise RecordError(f"a {self.kind.__name__} is sent here, not {record!r}")
        try:
            return self._struct.pack(*record)
        except (struct.error, OverflowError) as error:
            raise RecordError(f"{record!r}: {error}") from None

    def unpack(self, data: bytes, /) -> R:
        """The record in some bytes.

        Raises:
            PeerRecordError: there are more or fewer bytes than a record has.
        """
        if len(data) != self.size:
            raise PeerRecordError(
                f"a record of {len(data)} bytes came; {self.kind.__name__} has {self.size}"
            )
        return self.kind._make(self._struct.unpack(data))
