"""Writes bkdl.json and ../native/golden_bkdl.h: manifests made by hand from docs/spec/bkdl.md.

Nothing of the package is used; run it from this directory. A refused form is kept as an edit of
the sound one: so many bytes of its head, other bytes, so many bytes of its tail.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

NONE = 0xFFFFFFFF
NAME, PROGRAM, ARGUMENTS, ENVIRONMENT, DIRECTORY, POLICY = range(1, 7)
FILTER, LANDLOCK, MOUNTS, STRINGS, LIMITS = range(7, 12)

Sections = dict[int, tuple[int, bytes]]


def text(*values: str) -> tuple[int, bytes]:
    """A section of strings."""
    return len(values), b"".join(value.encode() + b"\0" for value in values)


def policy(**changes: int) -> tuple[int, bytes]:
    """A policy of tier 2 with its gate at instruction 1 of 4."""
    fields = {
        "pledge": 0b10011 | 2 << 62, "promises": 0x401, "budget": 5_000_000,
        "namespaces": 0x6C020000, "flags": 0b0010, "restart": 1, "intensity": 5, "period": 10_000,
        "delay": 10, "disposition": 1, "tier": 2, "survivability": 7, "user": 0, "group": 0,
        "gate": 1, "grace": 2000, "strategy": 2, "company": 3, "zero": 0,
    }  # fmt: skip
    return 1, struct.pack("<5Q14I", *(fields | changes).values())


def mount(
    kind: int, target: int, source: int = NONE, attributes: int = 0, mode: int = 0, flags: int = 0,
    zero: int = 0,
) -> bytes:  # fmt: skip
    """A mount operation."""
    return struct.pack("<HHIIIII", kind, zero, attributes, source, target, mode, flags)


def landlock(*rules: tuple[int, int, int, int]) -> tuple[int, bytes]:
    """A Landlock section of (access, kind, target, zero)."""
    head = struct.pack("<QQQ", 0xFFFF, 3, 3)
    return len(rules), head + b"".join(struct.pack("<QIIQ", *rule) for rule in rules)


def instructions(count: int) -> tuple[int, bytes]:
    """A filter that allows all, `count` instructions long."""
    return count, struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000) * count


def sound() -> Sections:
    """The sections of the sound manifest."""
    steps = [
        mount(1, 0, 0, 15), mount(3, 2, attributes=2, mode=0o755), mount(4, 3, attributes=14),
        mount(6, 5, 4), mount(1, 6, 6, 10, flags=1),
    ]  # fmt: skip
    return {
        NAME: text("probe-é"),
        PROGRAM: text("/usr/bin/probe"),
        ARGUMENTS: text("probe", "", "--all"),
        ENVIRONMENT: text("A=1", "EMPTY="),
        DIRECTORY: text("/srv"),
        POLICY: policy(),
        FILTER: instructions(4),
        LANDLOCK: landlock((5, 0, 0, 0), (0xFFFF, 0, 1, 0), (2, 1, 443, 0)),
        MOUNTS: (len(steps), b"".join(steps)),
        STRINGS: text("/usr", "/srv", "/dev", "/proc", "usr/bin", "/bin", "/dev/null"),
        LIMITS: (1, struct.pack("<IIQQ", 7, 0, 64, 128)),
    }


def area(sections: list[tuple[int, tuple[int, bytes]]]) -> bytes:
    """Sections one after another."""
    out = b""
    for kind, (count, payload) in sections:
        out += struct.pack("<HHI", kind, count, len(payload)) + payload + bytes(-len(payload) % 8)
    return out


def manifest(body: bytes, **changes: int) -> bytes:
    """A header, one capability and the section area."""
    fields = {
        "magic": 0x4E585553, "version": 1, "flags": 2, "signature": 0, "key": 0, "count": 1,
        "size": len(body), "entry": 0x401000, "kind": 2, "rights": 3, "zero": 0, "padding": 0,
    } | changes  # fmt: skip
    head = struct.pack("<IHH", *(fields[name] for name in ("magic", "version", "flags")))
    head += bytes([fields["signature"]]) + bytes(63) + bytes(31) + bytes([fields["key"]])
    head += struct.pack("<HIQ", fields["count"], fields["size"], fields["entry"])
    head += struct.pack(
        "<BBHQ", fields["kind"], fields["rights"], fields["zero"], 0x0123456789ABCDEF
    )
    return head + bytes(-len(head) % 8 - 1) + bytes([fields["padding"]]) + body


def with_section(kind: int, value: tuple[int, bytes] | None) -> bytes:
    """The sound manifest with one section replaced, or without it."""
    sections = sound()
    if value is None:
        del sections[kind]
    else:
        sections[kind] = value
    return manifest(area(list(sections.items())))


def with_policy(**changes: int) -> bytes:
    """The sound manifest with another policy."""
    return with_section(POLICY, policy(**changes))


def with_mount(*args: int, **changes: int) -> bytes:
    """The sound manifest with one mount."""
    return with_section(MOUNTS, (1, mount(*args, **changes)))


def with_raw(kind: int, change: Callable[[int, bytes], tuple[int, bytes]]) -> bytes:
    """The sound manifest with one section changed."""
    return with_section(kind, change(*sound()[kind]))


def refused_headers(body: bytes) -> dict[str, bytes]:
    """Each rule of the header broken once."""
    whole = manifest(body)
    names = {"magic": 0x4E585554, "version": 2, "flags": 2 | 4, "kind": 7, "zero": 1}
    found = {f"header: {name}": manifest(body, **{name: value}) for name, value in names.items()}
    return found | {
        "header: version's high byte": manifest(body, version=257),
        "header: sections without their flag": manifest(body, flags=0),
        "header: the flag without sections": manifest(b""),
        "header: a signature that is not declared": manifest(body, signature=1),
        "header: a key that is not declared": manifest(body, key=1),
        "header: padding": manifest(body, padding=1),
        "header: more capabilities than there are bytes": manifest(body, count=65),
        "header: size too small": manifest(body, size=len(body) - 8),
        "header: size too large": manifest(body, size=len(body) + 8),
        "header: size no multiple of 8": manifest(body + bytes(4)),
        "header: nothing behind it": whole[:118],
        "header: cut off": whole[:117],
    }


def refused_sections() -> dict[str, bytes]:
    """Each rule of the section area broken once."""
    every = list(sound().items())
    found = {
        "sections: one twice": manifest(area([*every, every[0]])),
        "sections: type 0": manifest(area([(0, (0, b"")), *every])),
        "sections: type 12": manifest(area([*every, (12, (0, b""))])),
        "sections: a plan's type": manifest(area([*every, (256, (0, b""))])),
        "sections: padding": manifest(_dirty(every)),
        "sections: longer than the area": manifest(_long(every)),
    }
    for kind, name in ((NAME, "name"), (PROGRAM, "program"), (ARGUMENTS, "arguments")):
        found[f"{name}: missing"] = with_section(kind, None)
        found[f"{name}: none"] = with_section(kind, (0, b""))
    found["policy: missing"] = with_section(POLICY, None)
    found["strings: missing"] = with_section(STRINGS, None)
    return found


def _dirty(every: list[tuple[int, tuple[int, bytes]]]) -> bytes:
    whole = bytearray(area(every))
    payload = every[0][1][1]
    whole[8 + len(payload)] = 1
    return bytes(whole)


def _long(every: list[tuple[int, tuple[int, bytes]]]) -> bytes:
    whole = area(every)
    return whole[:-32] + struct.pack("<HHI", LIMITS, 1, 25) + whole[-24:]


def refused_strings() -> dict[str, bytes]:
    """Each rule of strings broken once."""
    return {
        "name: 0 bytes": with_section(NAME, text("")),
        "name: 64 bytes": with_section(NAME, text("n" * 64)),
        "name: two": with_section(NAME, text("a", "b")),
        "name: count 2 of 1": with_section(NAME, (2, b"a\0")),
        "name: no end": with_section(NAME, (1, b"ab")),
        "program: relative": with_section(PROGRAM, text("usr/bin/probe")),
        "program: empty": with_section(PROGRAM, text("")),
        "arguments: count": with_raw(ARGUMENTS, lambda count, data: (count + 1, data)),
        "arguments: no end": with_raw(ARGUMENTS, lambda count, data: (count, data + b"x")),
        "environment: no equals sign": with_section(ENVIRONMENT, text("A=1", "B")),
        "environment: empty string": with_section(ENVIRONMENT, text("A=1", "")),
        "directory: relative": with_section(DIRECTORY, text("srv")),
        "directory: two": with_section(DIRECTORY, text("/a", "/b")),
    }


def refused_policies() -> dict[str, bytes]:
    """Each rule of the policy broken once."""
    values = {
        "pledge": 1 << 5 | 2 << 62, "namespaces": 0x6C020100, "flags": 64, "restart": 3,
        "disposition": 3, "tier": 4, "survivability": 256, "gate": 2, "strategy": 3,
        "zero": 1 << 31,
    }  # fmt: skip
    found = {f"policy: {name}": with_policy(**{name: value}) for name, value in values.items()}
    return found | {
        "policy: tier differs from pledge": with_policy(tier=1),
        "policy: count": with_raw(POLICY, lambda _, data: (2, data)),
        "policy: short": with_raw(POLICY, lambda count, data: (count, data[:-8])),
        "policy: long": with_raw(POLICY, lambda count, data: (count, data + bytes(8))),
        "policy: a gate without a filter": with_section(FILTER, None),
    }


def refused_arrays() -> dict[str, bytes]:
    """Each rule of filter, Landlock, mounts and limits broken once."""
    return {
        "filter: none": with_section(FILTER, (0, b"")),
        "filter: count": with_raw(FILTER, lambda count, data: (count + 1, data)),
        "filter: half an instruction": with_raw(FILTER, lambda count, data: (count, data[:-4])),
        "landlock: kind": with_section(LANDLOCK, landlock((1, 2, 0, 0))),
        "landlock: zero": with_section(LANDLOCK, landlock((1, 0, 0, 1))),
        "landlock: no such string": with_section(LANDLOCK, landlock((1, 0, 7, 0))),
        "landlock: absent string": with_section(LANDLOCK, landlock((1, 0, NONE, 0))),
        "landlock: no such port": with_section(LANDLOCK, landlock((1, 1, 65536, 0))),
        "landlock: count": with_raw(LANDLOCK, lambda count, data: (count - 1, data)),
        "landlock: short": with_section(LANDLOCK, (0, bytes(16))),
        "mounts: kind 0": with_mount(0, 0),
        "mounts: kind 10": with_mount(10, 0),
        "mounts: zero": with_mount(1, 0, 0, zero=1),
        "mounts: flags": with_mount(1, 0, 0, flags=2),
        "mounts: no target": with_mount(3, NONE),
        "mounts: no such target": with_mount(3, 7),
        "mounts: a bind without source": with_mount(1, 0),
        "mounts: a link without text": with_mount(6, 0),
        "mounts: a file without text": with_mount(7, 0),
        "mounts: no such source": with_mount(2, 0, 7),
        "mounts: a tmpfs with source": with_mount(3, 0, 0),
        "mounts: count": with_raw(MOUNTS, lambda count, data: (count + 1, data)),
        "limits: zero": with_section(LIMITS, (1, struct.pack("<IIQQ", 7, 1, 64, 64))),
        "limits: count": with_raw(LIMITS, lambda count, data: (count + 1, data)),
        "limits: short": with_raw(LIMITS, lambda count, data: (count, data[:-8])),
    }


def image(descriptor: int = 5, flags: int = 1) -> tuple[int, bytes]:
    """The image of a plan."""
    return 1, struct.pack("<iI32s", descriptor, flags, bytes(range(32)))


def handles(*pairs: tuple[int, int]) -> tuple[int, bytes]:
    """The handles of a plan."""
    return len(pairs), b"".join(struct.pack("<II", *pair) for pair in pairs)


def refused_plans(whole: bytes) -> dict[str, bytes]:
    """Each rule of plans broken once."""
    base = {256: (1, whole), 257: image(), 258: handles((1, 3), (NONE, 4))}

    def plan(kind: int, value: tuple[int, bytes] | None) -> bytes:
        parts = base | ({} if value is None else {kind: value})
        return area([(k, v) for k, v in parts.items() if k != kind or value is not None])

    return {
        "plan: no manifest": plan(256, None),
        "plan: no image": plan(257, None),
        "plan: a broken manifest": plan(256, (1, whole[:-8])),
        "plan: count of manifests": plan(256, (2, whole)),
        "plan: count of images": plan(257, (2, image()[1])),
        "plan: image too short": plan(257, (1, image()[1][:-8])),
        "plan: image flags": plan(257, image(flags=2)),
        "plan: image descriptor": plan(257, image(descriptor=-2)),
        "plan: count of handles": plan(258, (3, handles((1, 3), (NONE, 4))[1])),
        "plan: 61 handles": plan(258, handles(*((1, 3 + i) for i in range(61)))),
        "plan: handle of no index": plan(258, handles((64, 3))),
        "plan: handle of no kind": plan(258, handles((NONE - 5, 3))),
        "plan: handle over a standard one": plan(258, handles((1, 2))),
        "plan: handle above the last": plan(258, handles((1, 64))),
        "plan: a number twice": plan(258, handles((1, 3), (2, 3))),
        "plan: type of a manifest": plan(10, (0, b"")),
        "plan: type 259": plan(259, (0, b"")),
    }


def edit(base: bytes, other: bytes) -> tuple[int, bytes, int]:
    """The other as (bytes of the base's head, bytes, bytes of the base's tail)."""
    shorter = min(len(base), len(other))
    head = next((i for i in range(shorter) if base[i] != other[i]), shorter)
    rest = shorter - head
    tail = next((i for i in range(rest) if base[-1 - i] != other[-1 - i]), rest)
    return head, other[head : len(other) - tail], tail


def words(data: bytes) -> str:
    """C initialisers in lines."""
    lines = (data[i : i + 16] for i in range(0, len(data), 16))
    return ",\n    ".join(", ".join(f"0x{byte:02x}" for byte in line) for line in lines)


def header(sections: dict[str, bytes], edits: dict[str, list[tuple[str, int, bytes, int]]]) -> str:
    """The C form."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "/* Written by tests/golden/make_bkdl.py from docs/spec/bkdl.md; do not edit. */",
        "// clang-format off",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        "typedef struct golden_edit {",
        "    const char *rule;",
        "    size_t head;",
        "    const char *middle; /* hexadecimal */",
        "    size_t tail;",
        "} golden_edit;",
    ]
    for name, data in sections.items():
        lines += ["", f"static const uint8_t golden_{name}[] = {{\n    {words(data)}}};"]
    for name, rows in edits.items():
        lines += ["", f"static const golden_edit golden_{name}[] = {{"]
        for rule, head, middle, tail in rows:
            lines += [f'    {{"{rule}", {head},', f'     "{middle.hex()}", {tail}}},']
        lines.append("};")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    body = area(list(sound().items()))
    whole = manifest(body)
    plan = area([(256, (1, whole)), (257, image()), (258, handles((1, 3), (NONE, 4)))])
    broken = refused_headers(body) | refused_sections() | refused_strings() | refused_policies()
    broken |= refused_arrays()
    sections = {"manifest": whole, "plan": plan}
    edits = {
        "refused_manifests": [(rule, *edit(whole, data)) for rule, data in broken.items()],
        "refused_plans": [(rule, *edit(plan, data)) for rule, data in refused_plans(whole).items()],
    }
    Path("../native/golden_bkdl.h").write_text(header(sections, edits))
    document = {name: data.hex() for name, data in sections.items()} | {
        name: [[rule, head, middle.hex(), tail] for rule, head, middle, tail in rows]
        for name, rows in edits.items()
    }
    Path("bkdl.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
