"""BKDL, the binary manifest that the supervisor reads: values, encoding, decoding.

The format is docs/spec/bkdl.md. `encode` and `decode` are inverses; `decode` refuses whatever the
supervisor would refuse. Names of files are kept as `str` with surrogate escapes, so that any path
that Linux has goes through.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexus.errors import ManifestError

__all__ = [
    "HANDLE_CHECKPOINT",
    "HANDLE_CONTROL",
    "HANDLE_LIFE",
    "HANDLE_OBSERVER",
    "HANDLE_SYSTABLE",
    "NONE",
    "PLAN_HANDLES",
    "PLAN_IMAGE",
    "PLAN_MANIFEST",
    "Descriptor",
    "Landlock",
    "LandlockRule",
    "Limit",
    "Manifest",
    "Mount",
    "Policy",
    "decode",
    "encode",
    "encode_plan",
]

MAGIC = 0x4E585553
VERSION = 1
NONE = 0xFFFFFFFF
HANDLE_LIFE, HANDLE_CHECKPOINT, HANDLE_SYSTABLE, HANDLE_CONTROL, HANDLE_OBSERVER = (
    NONE - kind for kind in range(5)
)
SIZE_MAX = 1 << 20
DESCRIPTORS_MAX = 64
STRINGS_MAX = 4096
FILTER_MAX = 4096
NAME_MAX = 63

_HEADER = struct.Struct("<IHH64s32sHIQ")
_DESCRIPTOR = struct.Struct("<BBHQ")
_SECTION = struct.Struct("<HHI")
_POLICY = struct.Struct("<5Q14I")
_MOUNT = struct.Struct("<HHIIIII")
_LANDLOCK = struct.Struct("<QQQ")
_RULE = struct.Struct("<QIIQ")
_LIMIT = struct.Struct("<IIQQ")
_IMAGE = struct.Struct("<iI32s")
_HANDLE = struct.Struct("<II")

_SIGNED, _SECTIONS = 1, 2
_PLEDGE_BITS = 0x1F | 3 << 62
_POLICY_FLAGS = 0x3F
_NAMESPACES = 0x7E020000  # CLONE_NEW* of linux/sched.h
_ABSENT = (0, memoryview(b""))
(
    _NAME,
    _PROGRAM,
    _ARGUMENTS,
    _ENVIRONMENT,
    _DIRECTORY,
    _POLICY_TYPE,
    _FILTER,
    _LANDLOCK_TYPE,
    _MOUNTS,
    _STRINGS,
    _LIMITS,
) = range(1, 12)
PLAN_MANIFEST, PLAN_IMAGE, PLAN_HANDLES = 256, 257, 258


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An initial capability: type 0 to 6, rights as bits, SipHash of the resource's name."""

    type: int
    rights: int
    resource: int


@dataclass(frozen=True, slots=True)
class Policy:
    """The fixed part; every field as docs/spec/bkdl.md names it."""

    pledge: int = 0
    promises: int = 0
    budget_ns: int = 0
    namespaces: int = 0
    flags: int = 0
    restart: int = 0
    intensity: int = 0
    period_ms: int = 0
    delay_ms: int = 0
    disposition: int = 0
    tier: int = 2
    survivability: int = 7
    user: int = 0
    group: int = 0
    gate: int = NONE
    grace_ms: int = 2000
    strategy: int = 0
    company: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """One step in the building of the fiber's file tree."""

    kind: int
    target: str
    source: str | None = None
    attributes: int = 0
    mode: int = 0
    optional: bool = False
    life: bool = False

    BIND, BIND_ALONE, TMPFS, PROC, DIRECTORY, SYMLINK, FILE, DEVPTS, MQUEUE = range(1, 10)


@dataclass(frozen=True, slots=True)
class LandlockRule:
    """Rights below a path, or on a TCP port."""

    access: int
    target: str | int


@dataclass(frozen=True, slots=True)
class Landlock:
    """What Landlock takes charge of, and what it lets through."""

    files: int
    network: int
    scopes: int
    rules: tuple[LandlockRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A resource limit of prlimit(2)."""

    resource: int
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A fiber as the supervisor sees it."""

    name: str
    program: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()
    directory: str | None = None
    policy: Policy = field(default_factory=Policy)
    filter: bytes = b""
    landlock: Landlock | None = None
    mounts: tuple[Mount, ...] = ()
    limits: tuple[Limit, ...] = ()
    capabilities: tuple[Descriptor, ...] = ()
    entry: int = 0


def _raw(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _text(value: str, what: str) -> bytes:
    raw = _raw(value)
    if b"\0" in raw:
        raise ManifestError(f"{what} {value!r} contains a zero byte")
    return raw + b"\0"


def _section(kind: int, count: int, payload: bytes) -> bytes:
    if count > 0xFFFF:
        raise ManifestError(f"section {kind} has {count} elements, the most is 65535")
    return _SECTION.pack(kind, count, len(payload)) + payload + bytes(-len(payload) % 8)


def _strings(kind: int, values: Sequence[str], what: str) -> bytes:
    if len(values) > STRINGS_MAX:
        raise ManifestError(f"{len(values)} {what}s are given, the most is {STRINGS_MAX}")
    return _section(kind, len(values), b"".join(_text(value, what) for value in values))


class _Table:
    """The strings that sections refer to, each once."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def add(self, value: str | None) -> int:
        return NONE if value is None else self.index.setdefault(value, len(self.index))


def _policy_bytes(policy: Policy) -> bytes:
    return _POLICY.pack(*(getattr(policy, name) for name in Policy.__slots__), 0)


def _rule_sections(manifest: Manifest, table: _Table) -> bytes:
    out = b""
    if manifest.landlock is not None:
        landlock = manifest.landlock
        rules = b"".join(
            _RULE.pack(rule.access, 0, table.add(rule.target), 0)
            if isinstance(rule.target, str)
            else _RULE.pack(rule.access, 1, rule.target, 0)
            for rule in landlock.rules
        )
        head = _LANDLOCK.pack(landlock.files, landlock.network, landlock.scopes)
        out += _section(_LANDLOCK_TYPE, len(landlock.rules), head + rules)
    if manifest.mounts:
        mounts = b"".join(
            _MOUNT.pack(
                one.kind,
                0,
                one.attributes,
                table.add(one.source),
                table.add(one.target),
                one.mode,
                one.optional | one.life << 1,
            )
            for one in manifest.mounts
        )
        out += _section(_MOUNTS, len(manifest.mounts), mounts)
    return out


def encode(manifest: Manifest) -> bytes:
    """The bytes of an unsigned manifest.

    Raises:
        ManifestError: a value that the format cannot hold.
    """
    try:
        whole = _pack(manifest)
    except struct.error as error:
        raise ManifestError(f"a number of the manifest is out of range: {error}") from None
    if decode(whole) != manifest:
        raise ManifestError("the manifest has a value that the format cannot hold")
    return whole


def _pack(manifest: Manifest) -> bytes:
    if len(manifest.capabilities) > DESCRIPTORS_MAX:
        raise ManifestError(
            f"{len(manifest.capabilities)} capabilities are given, the most is {DESCRIPTORS_MAX}"
        )
    table = _Table()
    out = _section(_NAME, 1, _text(manifest.name, "name"))
    out += _section(_PROGRAM, 1, _text(manifest.program, "program"))
    out += _strings(_ARGUMENTS, manifest.arguments, "argument")
    out += _strings(_ENVIRONMENT, manifest.environment, "variable")
    if manifest.directory is not None:
        out += _section(_DIRECTORY, 1, _text(manifest.directory, "directory"))
    out += _section(_POLICY_TYPE, 1, _policy_bytes(manifest.policy))
    if manifest.filter:
        out += _section(_FILTER, len(manifest.filter) // 8, manifest.filter)
    out += _rule_sections(manifest, table)
    if table.index:
        out += _strings(_STRINGS, list(table.index), "string")
    if manifest.limits:
        limits = (_LIMIT.pack(one.resource, 0, one.soft, one.hard) for one in manifest.limits)
        out += _section(_LIMITS, len(manifest.limits), b"".join(limits))
    descriptors = b"".join(
        _DESCRIPTOR.pack(one.type, one.rights, 0, one.resource) for one in manifest.capabilities
    )
    head = _HEADER.pack(
        MAGIC, VERSION, _SECTIONS, b"", b"", len(manifest.capabilities), len(out), manifest.entry
    )
    head += descriptors
    return head + bytes(-len(head) % 8) + out


def _split(data: memoryview, first: int, last: int) -> dict[int, tuple[int, memoryview]]:
    found: dict[int, tuple[int, memoryview]] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _SECTION.size:
            raise ManifestError("a section is cut off")
        kind, count, size = _SECTION.unpack_from(data, at)
        at += _SECTION.size
        end = at + size + -size % 8
        if not first <= kind <= last or kind in found or end > len(data):
            raise ManifestError(f"section {kind} at byte {at - _SECTION.size} is not allowed there")
        if any(data[at + size : end]):
            raise ManifestError(f"section {kind} is not padded with zeros")
        found[kind] = count, data[at : at + size]
        at = end
    return found


def _unstrings(section: tuple[int, memoryview] | None, what: str) -> tuple[str, ...]:
    if section is None:
        return ()
    count, payload = section
    raw = bytes(payload)
    parts = raw.split(b"\0")
    if parts.pop() != b"" or len(parts) != count or count > STRINGS_MAX:
        raise ManifestError(f"the {what}s are not {count} whole strings")
    return tuple(part.decode("utf-8", "surrogateescape") for part in parts)


def _unstring(section: tuple[int, memoryview] | None, what: str) -> str:
    values = _unstrings(section, what)
    if len(values) != 1:
        raise ManifestError(f"the manifest must have one {what}")
    return values[0]


def _elements(
    section: tuple[int, memoryview] | None, form: struct.Struct, skip: int = 0
) -> Iterable[tuple[int, ...]]:
    if section is None:
        return []
    count, payload = section
    if len(payload) != skip + count * form.size:
        raise ManifestError(f"a section of {len(payload)} bytes does not hold {count} elements")
    return form.iter_unpack(payload[skip:])


def _pick(strings: tuple[str, ...], index: int) -> str | None:
    if index == NONE:
        return None
    if index >= len(strings):
        raise ManifestError(f"string {index} is referred to, there are {len(strings)}")
    return strings[index]


def _unpolicy(section: tuple[int, memoryview] | None, instructions: int) -> Policy:
    if section is None or len(section[1]) != _POLICY.size:
        raise ManifestError("the manifest must have one policy of 96 bytes")
    values = _POLICY.unpack(section[1])
    policy = Policy(*values[:18])
    if (
        section[0] != 1
        or any(values[18:])
        or policy.restart > 2
        or policy.disposition > 2
        or policy.tier > 3
        or policy.strategy > 2
        or policy.survivability > 0xFF
        or policy.pledge & ~_PLEDGE_BITS
        or policy.pledge >> 62 != policy.tier
        or policy.namespaces & ~_NAMESPACES
        or policy.flags & ~_POLICY_FLAGS
        or (policy.gate != NONE and policy.gate + 2 >= instructions)
    ):
        raise ManifestError("a field of the policy has no meaning")
    return policy


def _unlandlock(
    section: tuple[int, memoryview] | None, strings: tuple[str, ...]
) -> Landlock | None:
    if section is None:
        return None
    if len(section[1]) < _LANDLOCK.size:
        raise ManifestError("the Landlock section is cut off")
    rules = []
    for access, kind, target, zero in _elements(section, _RULE, _LANDLOCK.size):
        path = _pick(strings, target) if kind == 0 else None
        if zero or kind > 1 or (kind == 0 and path is None) or (kind == 1 and target > 0xFFFF):
            raise ManifestError("a Landlock rule has no meaning")
        rules.append(LandlockRule(access, target if path is None else path))
    files, network, scopes = _LANDLOCK.unpack_from(section[1])
    return Landlock(files, network, scopes, tuple(rules))


def _unmounts(section: tuple[int, memoryview] | None, strings: tuple[str, ...]) -> Iterable[Mount]:
    for kind, zero, attributes, source, target, mode, flags in _elements(section, _MOUNT):
        place, origin = _pick(strings, target), _pick(strings, source)
        sourced = kind in (Mount.BIND, Mount.BIND_ALONE, Mount.SYMLINK, Mount.FILE)
        if zero or flags > 3 or not 1 <= kind <= Mount.MQUEUE or place is None:
            raise ManifestError("a mount has no meaning")
        if flags & 2 and kind != Mount.TMPFS:
            raise ManifestError(f"the mount at {place} cannot be empty at each start")
        if sourced != (origin is not None):
            raise ManifestError(f"a mount at {place} has a wrong source")
        yield Mount(kind, place, origin, attributes, mode, bool(flags & 1), bool(flags & 2))


def _unwords(found: dict[int, tuple[int, memoryview]]) -> dict[str, Any]:
    """The fields of a manifest that are strings."""
    name = _unstring(found.get(_NAME), "name")
    program = _unstring(found.get(_PROGRAM), "program")
    directory = _unstring(found[_DIRECTORY], "directory") if _DIRECTORY in found else None
    arguments = _unstrings(found.get(_ARGUMENTS), "argument")
    environment = _unstrings(found.get(_ENVIRONMENT), "variable")
    if not 1 <= len(_raw(name)) <= NAME_MAX:
        raise ManifestError(f"a name has 1 to {NAME_MAX} bytes, not {name!r}")
    if not program.startswith("/") or not (directory is None or directory.startswith("/")):
        raise ManifestError(f"of {program!r} and {directory!r} one is no absolute path")
    if not arguments:
        raise ManifestError("a program has at least one argument, its name")
    if not all("=" in variable for variable in environment):
        raise ManifestError("a variable is not of the form NAME=value")
    return {
        "name": name,
        "program": program,
        "arguments": arguments,
        "environment": environment,
        "directory": directory,
    }


def _unlimits(section: tuple[int, memoryview] | None) -> Iterable[Limit]:
    for resource, zero, soft, hard in _elements(section, _LIMIT):
        if zero:
            raise ManifestError("a limit has no meaning")
        yield Limit(resource, soft, hard)


def _unheader(data: bytes) -> tuple[int, tuple[Descriptor, ...], memoryview]:
    """The entry point, the capabilities and the section area."""
    if not _HEADER.size <= len(data) <= SIZE_MAX:
        raise ManifestError(f"a manifest has {_HEADER.size} to {SIZE_MAX} bytes, not {len(data)}")
    magic, version, flags, signature, key, count, size, entry = _HEADER.unpack_from(data)
    end = _HEADER.size + count * _DESCRIPTOR.size
    start = end + -end % 8
    if magic != MAGIC or version != VERSION or flags & ~3 or count > DESCRIPTORS_MAX:
        raise ManifestError("these bytes are no manifest of version 1")
    if start + size != len(data) or size % 8 or bool(size) != bool(flags & _SECTIONS):
        raise ManifestError("the sizes in the header do not add up")
    if any(data[end:start]) or (not flags & _SIGNED and any(signature + key)):
        raise ManifestError("bytes that must be zero are not")
    capabilities = []
    for i in range(count):
        kind, rights, zero, name = _DESCRIPTOR.unpack_from(data, _HEADER.size + i * 12)
        if kind > 6 or zero:
            raise ManifestError(f"capability {i} has no meaning")
        capabilities.append(Descriptor(kind, rights, name))
    return entry, tuple(capabilities), memoryview(data)[start:]


def decode(data: bytes) -> Manifest:
    """The manifest that bytes hold; the signature is not looked at.

    Raises:
        ManifestError: what the specification does not allow.
    """
    entry, capabilities, area = _unheader(data)
    found = _split(area, _NAME, _LIMITS)
    strings = _unstrings(found.get(_STRINGS), "string")
    count, program = found.get(_FILTER, _ABSENT)
    if len(program) != count * 8 or count > FILTER_MAX or (count == 0 and _FILTER in found):
        raise ManifestError(f"the filter is not 1 to {FILTER_MAX} whole instructions")
    return Manifest(
        **_unwords(found),
        policy=_unpolicy(found.get(_POLICY_TYPE), count),
        filter=bytes(program),
        landlock=_unlandlock(found.get(_LANDLOCK_TYPE), strings),
        mounts=tuple(_unmounts(found.get(_MOUNTS), strings)),
        limits=tuple(_unlimits(found.get(_LIMITS))),
        capabilities=capabilities,
        entry=entry,
    )


def encode_plan(
    manifest: Manifest,
    *,
    image: int,
    digest: bytes | None,
    handles: Sequence[tuple[int, int]] = (),
) -> bytes:
    """What the supervisor is started with.

    Args:
        manifest: the fiber.
        image: descriptor of the program.
        digest: BLAKE3 of the image, checked before every start; None checks nothing.
        handles: what the fiber gets beside 0 to 2, each with its number, in the order of numbers:
            an index, or one of `HANDLE_LIFE` and so on; see docs/spec/node.md.
    """
    out = _section(PLAN_MANIFEST, 1, encode(manifest))
    packed = _IMAGE.pack(image, digest is not None, digest or bytes(32))
    out += _section(PLAN_IMAGE, 1, packed)
    if handles:
        packed = b"".join(_HANDLE.pack(what, number) for what, number in handles)
        out += _section(PLAN_HANDLES, len(handles), packed)
    return out
