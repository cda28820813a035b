from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex, final

from typing_extensions import Buffer

MASK_BYTES: int

_Test = tuple[int, str, int, int, int, bool]

@final
class Program:
    def __init__(self, code: Buffer) -> None: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    @property
    def instructions(self) -> list[tuple[int, int, int, int]]: ...
    def run(
        self,
        number: SupportsIndex,
        arguments: Iterable[SupportsIndex],
        arch: SupportsIndex,
        instruction_pointer: SupportsIndex = 0,
    ) -> int: ...
    def install(self, flags: SupportsIndex, no_new_privs: bool) -> int | None: ...

def compile_mask(
    mask: Buffer,
    *,
    allow: SupportsIndex,
    default: SupportsIndex,
    foreign: SupportsIndex,
    arch: SupportsIndex,
    clone3: SupportsIndex | None = None,
    shape: Literal["auto", "tree", "words"] = "auto",
) -> Program: ...
def compile_rules(
    rules: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex, Sequence[_Test]]],
    *,
    default: SupportsIndex,
    foreign: SupportsIndex,
    arch: SupportsIndex,
    clone3: SupportsIndex | None = None,
) -> Program: ...
def action_available(action: SupportsIndex) -> bool: ...
def flag_available(flag: SupportsIndex) -> bool: ...
def notify_sizes() -> tuple[int, int, int] | None: ...
def take_listener(pid: SupportsIndex, descriptor: SupportsIndex) -> int: ...
