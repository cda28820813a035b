"""What Nexus uses of ckdl, which carries no types."""

from collections.abc import Mapping, Sequence

Value = str | int | float | bool | None

class Node:
    @property
    def name(self) -> str: ...
    @property
    def args(self) -> Sequence[Value]: ...
    @property
    def properties(self) -> Mapping[str, Value]: ...
    @property
    def children(self) -> Sequence[Node]: ...

class Document:
    @property
    def nodes(self) -> Sequence[Node]: ...

def parse(text: str, *, version: int) -> Document: ...
