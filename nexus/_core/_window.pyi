from collections.abc import Iterable
from os import PathLike
from types import TracebackType
from typing import NamedTuple, Self, SupportsIndex

from typing_extensions import Buffer, disjoint_base

class Access(NamedTuple):
    op: str
    offset: int
    width: int
    value: int

@disjoint_base
class Window:
    name: str
    def __init__(
        self,
        path: str | bytes | PathLike[str] | PathLike[bytes],
        offset: SupportsIndex,
        size: SupportsIndex,
        *,
        writable: bool = True,
        sync: bool = True,
        guard: bool = False,
        trace: SupportsIndex = 0,
    ) -> None: ...
    @classmethod
    def attach(
        cls,
        fd: SupportsIndex,
        offset: SupportsIndex,
        size: SupportsIndex,
        *,
        writable: bool = True,
        guard: bool = False,
        trace: SupportsIndex = 0,
        name: object = None,
    ) -> Self: ...
    @classmethod
    def uio(
        cls,
        number: SupportsIndex,
        map: SupportsIndex = 0,
        *,
        writable: bool = True,
        guard: bool = False,
        trace: SupportsIndex = 0,
        sysfs: str = "/sys",
        dev: str = "/dev",
    ) -> Self: ...
    @classmethod
    def pci(
        cls,
        address: str,
        bar: SupportsIndex,
        *,
        offset: SupportsIndex = 0,
        size: SupportsIndex | None = None,
        writable: bool = True,
        combining: bool = False,
        guard: bool = False,
        trace: SupportsIndex = 0,
        sysfs: str = "/sys",
    ) -> Self: ...
    @classmethod
    def dry_run(
        cls, size: SupportsIndex, *, initial: Buffer = b"", trace: SupportsIndex = 65536
    ) -> Self: ...
    @classmethod
    def replay(cls, accesses: Iterable[Access], size: SupportsIndex) -> Self: ...
    @property
    def size(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    @property
    def trace_lost(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    def trace(self) -> list[Access]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
