"""From what a fiber may do to what the kernel is told: the manifest, and a record of the layers.

`confine` takes a specification and what the host offers, and lays every promise on the layers
that can hold it. A layer that the host lacks ends the start unless the specification waives it by
name; the record says of each layer whether it is enforced, not needed, or waived, and what the
gap means. Nothing here touches the host.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from nexus.errors import ManifestError, UnenforceableError
from nexus.logic.bkdl import Landlock, Limit, Manifest, Mount, Policy
from nexus.logic.pledge import Disposition, compile_pledge, founding_mask, promise_mask
from nexus.logic.unveil import (
    SECRET_PATHS,
    SYSTEM_PATHS,
    Shown,
    Unveil,
    landlock_files,
    landlock_rules,
    mounts,
    show,
)
from nexus.seams.files import FileTree

__all__ = [
    "LAYERS",
    "TIERS",
    "Confined",
    "FiberSpec",
    "HeldLimit",
    "HostLayers",
    "Layer",
    "confine",
    "held_limits",
    "policy_record",
    "shown_anyway",
]

# CLONE_NEW* of linux/sched.h.
_MOUNT, _UTS, _IPC, _USER, _PID, _NETWORK = 1 << 17, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30

TIERS = {"void": 0, "gravity": 1, "matter": 2, "photon": 3}
_BUDGETS_MS = (0, 50, 10, 2)  # by the number of the tier
_RESTARTS = {"never": 0, "on-failure": 1, "always": 2}
_DISPOSITIONS = {"deny": 0, "trap": 1, "kill": 2}
_SURVIVABILITY = {"sovereign": 0b111, "hardened": 0b11111, "radiation": 0b11111111}

# RLIMIT_* of asm-generic/resource.h.
_LIMITS = {"cpu": 0, "file": 1, "stack": 3, "core": 4, "processes": 6, "files": 7, "memory": 9}
EACH, TOGETHER = "each process for itself", "all its processes together"
_TCP_RIGHTS = 0b11
_SCOPES = 0b11

LAYERS = {
    "user namespace": "there are no other namespaces for an ordinary user",
    "pid namespace": "the fiber sees and may signal all processes of its user, and what it starts "
    "in the background can outlive a killed supervisor",
    "ipc namespace": "System V memory and message queues of the host are within reach",
    "mount namespace": "hidden paths are there: open, exec, unlink and truncate are refused, but "
    "stat, chdir and readlink see them, chmod, chown, utimens and setxattr change what its user "
    "owns, and their sockets take connections where the promises include unix",
    "network namespace": "only the system call filter keeps the fiber from the network",
    "landlock files": "only the mounts keep the fiber from other files, and where it may "
    "write or create it may do both",
    "landlock network": "only the network namespace and the filter keep it from TCP",
    "landlock scopes": "abstract sockets and signals of the host are within reach where "
    "the network and pid namespaces are waived",
    "system call filter": "a pledge cannot be held at all",
}


@dataclass(frozen=True, slots=True)
class HostLayers:
    """What the host offers this process.

    Attributes:
        landlock: ABI version, 0 for none.
        namespaces: whether a user namespace can be made.
        filter: whether seccomp filters can be installed.
        machine: the name of the processor architecture.
    """

    landlock: int
    namespaces: bool
    filter: bool
    machine: str


@dataclass(frozen=True, slots=True)
class FiberSpec:
    """What someone wants to run, in the words of a manifest.

    Attributes:
        name: for messages and status.
        program: absolute path, links resolved by the caller's shell as usual.
        arguments: the first is the program's name.
        environment: whole, as NAME to value.
        directory: where the fiber starts; must be shown.
        promises: what it may do, see `nexus.logic.pledge`.
        unveil: what it sees.
        bare: show nothing but `unveil`: no system folders, devices, /proc, /tmp.
        disposition: what a refused system call gets: deny, trap or kill.
        tier: photon, matter, gravity or void, with the budget of that tier; None holds the fiber to
            no budget and leaves its scheduling alone.
        limits: of cpu (seconds), file, stack, core, memory (bytes), processes, files (numbers).
        restart: never, on-failure or always.
        intensity: restarts admitted within `period_ms`.
        period_ms: see there.
        delay_ms: before the first restart; doubles within a period.
        survivability: sovereign, hardened or radiation.
        grace_ms: from a request to stop to SIGKILL.
        session: give it a session of its own, away from the terminal.
        waived: layers that may be missing.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    promises: frozenset[str]
    unveil: tuple[Unveil, ...] = ()
    bare: bool = False
    disposition: Disposition = "trap"
    tier: str | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    restart: str = "never"
    intensity: int = 5
    period_ms: int = 10_000
    delay_ms: int = 0
    survivability: str = "sovereign"
    grace_ms: int = 2000
    session: bool = False
    waived: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the effective policy.

    Attributes:
        name: one of `LAYERS`.
        state: enforced, unneeded, or waived.
        why: what the state comes from, and what a gap costs.
    """

    name: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Confined:
    """The outcome.

    Attributes:
        manifest: for the supervisor.
        layers: the effective policy.
        missing: unveiled paths that do not exist.
    """

    manifest: Manifest
    layers: tuple[Layer, ...]
    missing: tuple[str, ...]


def _choose(table: Mapping[str, int], word: str, what: str) -> int:
    if word not in table:
        raise ManifestError(f"{word!r} is no {what}", hint=f"one of {', '.join(table)}")
    return table[word]


def _layers(spec: FiberSpec, host: HostLayers) -> tuple[Layer, ...]:
    """The state of each layer; the first that is neither there nor waived ends it."""
    networked = bool(spec.promises & {"inet", "dns", "mcast"})
    inner = spaces = None if host.namespaces else "user namespaces are not allowed here"
    if "user namespace" in spec.waived:
        inner = "it lies in the user namespace, which is waived"
    gaps = {
        "user namespace": spaces,
        "pid namespace": inner,
        "ipc namespace": inner,
        "mount namespace": inner,
        "network namespace": inner,
        "landlock files": None if host.landlock >= 1 else "this kernel has no Landlock",
        "landlock network": None if host.landlock >= 4 else _abi(host, 4),
        "landlock scopes": None if host.landlock >= 6 else _abi(host, 6),
        "system call filter": None if host.filter else "this kernel takes no seccomp filter",
    }
    unknown = spec.waived - gaps.keys()
    if unknown:
        raise ManifestError(
            f"{min(unknown)!r} is no layer",
            hint=f"one of {', '.join(name.replace(' ', '-') for name in gaps)}",
        )
    found = []
    for name, gap in gaps.items():
        if networked and name in ("network namespace", "landlock network"):
            found.append(Layer(name, "unneeded", "the promises include the network"))
        elif name in spec.waived:
            found.append(Layer(name, "waived", LAYERS[name]))
        elif gap is None:
            found.append(Layer(name, "enforced", "by the kernel"))
        else:
            raise UnenforceableError(
                f"the layer {name!r} cannot be had: {gap}; without it {LAYERS[name]}",
                hint=f"accept that with --waive {name.replace(' ', '-')}, or see nexus doctor",
            )
    return tuple(found)


def _abi(host: HostLayers, needed: int) -> str:
    return f"this kernel's Landlock is version {host.landlock}, it takes {needed}"


def _namespaces(enforced: frozenset[str]) -> int:
    if "user namespace" not in enforced:
        return 0
    value = _USER | _UTS
    for name, bit in (
        ("pid namespace", _PID),
        ("ipc namespace", _IPC),
        ("mount namespace", _MOUNT),
        ("network namespace", _NETWORK),
    ):
        value |= bit if name in enforced else 0
    return value


def shown_anyway(program: str) -> tuple[Unveil, ...]:
    """What a fiber sees that is not bare: the system's folders and the program's own."""
    folder = posixpath.dirname(program)
    home = posixpath.dirname(folder) if posixpath.basename(folder) in ("bin", "sbin") else folder
    return tuple(Unveil(path, "rx") for path in (*SYSTEM_PATHS, home) if path != "/")


def _rules(spec: FiberSpec, *, hiding: bool) -> tuple[Unveil, ...]:
    """What is shown anyway, and what was asked for.

    Where mounts can hide, the password hashes in the system's folders are: root could read them.
    """
    if spec.bare:
        return spec.unveil
    asked = {rule.path for rule in spec.unveil}
    own = [rule for rule in shown_anyway(spec.program) if rule.path not in asked]
    secret = [path for path in SECRET_PATHS if hiding and path not in asked]
    return (*own, *(Unveil(path, "") for path in secret), *spec.unveil)


def _limits(spec: FiberSpec) -> tuple[Limit, ...]:
    found = []
    for name, value in spec.limits.items():
        resource = _choose(_LIMITS, name, "limit")
        if not 0 <= value < 1 << 63:
            raise ManifestError(f"the limit {name} is {value}, which no kernel takes")
        found.append(Limit(resource, value, value))
    return tuple(found)


def _policy(spec: FiberSpec, namespaces: int, gate: int) -> Policy:
    tier = _choose(TIERS, spec.tier or "matter", "tier")
    return Policy(
        pledge=founding_mask(spec.promises) | tier << 62,
        promises=promise_mask(spec.promises),
        budget_ns=_BUDGETS_MS[tier] * 1_000_000 if spec.tier else 0,
        namespaces=namespaces,
        flags=(2 if spec.session else 0) | (32 if "stdio" in spec.promises else 0),
        restart=_choose(_RESTARTS, spec.restart, "restart policy"),
        intensity=spec.intensity,
        period_ms=spec.period_ms,
        delay_ms=spec.delay_ms,
        disposition=_choose(_DISPOSITIONS, spec.disposition, "disposition"),
        tier=tier,
        survivability=_choose(_SURVIVABILITY, spec.survivability, "survivability"),
        gate=gate,
        grace_ms=spec.grace_ms,
    )


def _landlock(
    spec: FiberSpec, host: HostLayers, enforced: frozenset[str], shown: Shown
) -> Landlock | None:
    wanted = {"landlock files", "landlock network", "landlock scopes"} & enforced
    if not wanted:
        return None
    rules = []
    if "landlock files" in enforced:
        rules = landlock_rules(
            shown,
            abi=host.landlock,
            system=not spec.bare,
            hidden="mount namespace" in enforced,
        )
    return Landlock(
        files=landlock_files(host.landlock) if "landlock files" in enforced else 0,
        network=_TCP_RIGHTS if "landlock network" in enforced else 0,
        scopes=_SCOPES if "landlock scopes" in enforced else 0,
        rules=tuple(rules),
    )


def _mounts(spec: FiberSpec, enforced: frozenset[str], shown: Shown) -> tuple[Mount, ...]:
    if "mount namespace" not in enforced:
        return ()
    return mounts(shown, system=not spec.bare, own_proc="pid namespace" in enforced)


def confine(spec: FiberSpec, host: HostLayers, files: FileTree) -> Confined:
    """Lay a specification on the layers of a host.

    Raises:
        ManifestError: the specification contradicts itself.
        UnenforceableError: a layer is missing and not waived.
    """
    layers = _layers(spec, host)
    enforced = frozenset(layer.name for layer in layers if layer.state == "enforced")
    shown = show(_rules(spec, hiding="mount namespace" in enforced), files)
    explicit = {rule.path for rule in spec.unveil}
    missing = tuple(path for path in shown.missing if path in explicit)
    program, gate = b"", 0xFFFFFFFF
    if "system call filter" in enforced:
        program, gate = compile_pledge(spec.promises, spec.disposition, host.machine)
    manifest = Manifest(
        name=spec.name,
        program=spec.program,
        arguments=spec.arguments,
        environment=tuple(f"{name}={value}" for name, value in spec.environment.items()),
        directory=spec.directory,
        policy=_policy(spec, _namespaces(enforced), gate),
        filter=program,
        landlock=_landlock(spec, host, enforced, shown),
        mounts=_mounts(spec, enforced, shown),
        limits=_limits(spec),
    )
    return Confined(manifest, layers, missing)


@dataclass(frozen=True, slots=True)
class HeldLimit:
    """One limit of the effective policy.

    Attributes:
        name: as in a manifest.
        value: of it.
        by: cgroup, besides the rlimit, or rlimit alone.
        of: whom it holds.
    """

    name: str
    value: int
    by: str
    of: str


def held_limits(spec: FiberSpec, grouped: frozenset[str] = frozenset()) -> tuple[HeldLimit, ...]:
    """What holds the limits of a fiber.

    Args:
        spec: of the fiber.
        grouped: the limits that its cgroup holds.
    """
    found = []
    for name, value in spec.limits.items():
        by = "cgroup" if name in grouped else "rlimit"
        alone = "all processes of its user, root's not" if name == "processes" else EACH
        found.append(HeldLimit(name, value, by, TOGETHER if name in grouped else alone))
    return tuple(found)


def policy_record(
    spec: FiberSpec, confined: Confined, grouped: frozenset[str] = frozenset()
) -> dict[str, object]:
    """The effective policy for programs, as docs/reference/json/policy.schema.json has it."""
    return {
        "name": spec.name,
        "program": spec.program,
        "promises": sorted(spec.promises),
        "unveil": [{"path": rule.path, "rights": rule.rights} for rule in spec.unveil],
        "layers": [
            {"name": layer.name, "state": layer.state, "why": layer.why}
            for layer in confined.layers
        ],
        "limits": [asdict(limit) for limit in held_limits(spec, grouped)],
        "missing": list(confined.missing),
        "filter_instructions": len(confined.manifest.filter) // 8,
    }
