"""From the description of a node to what its supervisor is given: plans, rings, descriptors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nexus.errors import ManifestError, NodeError, UnenforceableError
from nexus.logic.bkdl import (
    HANDLE_CONTROL,
    HANDLE_OBSERVER,
    HANDLE_SYSTABLE,
    encode_plan,
)
from nexus.logic.confine import FiberSpec, HostLayers, confine, policy_record
from nexus.logic.manifest import Draft, Program, complete
from nexus.logic.node import (
    Handles,
    NodeDescription,
    NodeFiber,
    check_restart,
    fiber_handles,
    fiber_policy,
)
from nexus.logic.unveil import Unveil
from nexus.membrane.directory import NodeDirectory
from nexus.physics import Ring
from nexus.physics.cgroups import NodeCgroups
from nexus.physics.files import HostFiles
from nexus.physics.programs import find_program, interpreter_of, is_dynamic, python_runtime
from nexus.physics.supervisor import host_facts, seal_image, seal_plan

__all__ = ["OBSERVER_PROMISES", "Assembly", "Start", "find_image"]

# None by which a call sends descriptors, so that L1 can ask for no START of its own.
OBSERVER_PROMISES = frozenset({"stdio", "rpath", "wpath", "cpath"})

# What every fiber finds in its environment unless its description has one of its own.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
SLOT_BYTES = 82_576  # docs/spec/checkpoint.md
_PLAN_FIRST = 4  # START begins with plan, stdin, stdout, stderr
_L1 = "L1"
# A plan has at most 60 handles, and L1 has five without channels: docs/spec/node.md.
WATCHED_MAX = 55


def find_image(words: Sequence[str], directory: str) -> Program:
    """What executing words comes to on this host.

    Raises:
        AbsentProgramError: there is no such program.
    """
    word, *rest = words
    path = find_program(word, directory)
    interpreter = interpreter_of(path)
    if interpreter is None:
        return Program(path, tuple(words), None, is_dynamic(path))
    program, argument = interpreter
    middle = (program,) if argument is None else (program, argument)
    return Program(program, (*middle, path, *rest), path, is_dynamic(program))


@dataclass(frozen=True, slots=True)
class Start:
    """What a fiber's START takes.

    Attributes:
        descriptors: plan, stdin, stdout, stderr, and what the plan names by index.
        durable: the file of its checkpoints.
        cgroup: the directory of its cgroup.
    """

    descriptors: Sequence[int]
    durable: int | None = None
    cgroup: int | None = None


class Assembly:
    """What a node's fibers are made of; a context manager, which closes what it opened.

    Args:
        directory: where the node is.
        node: what it consists of.
        cgroups: where fibers with such limits have their cgroups.

    Attributes:
        waived: the layers that were waived, and what goes without each; L1 is among them.
        per_process: fibers whose limits hold for each process alone, and why.
    """

    def __init__(
        self, directory: NodeDirectory, node: NodeDescription, cgroups: NodeCgroups
    ) -> None:
        self._directory = directory
        self._node = node
        self._cgroups = cgroups
        self._host = HostLayers(**host_facts())
        self._files = HostFiles()
        self._python = python_runtime()
        self._open: list[int] = []
        self.waived: dict[str, list[str]] = {}
        self.per_process: dict[str, str] = {}
        self._null = self._keep(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self._rings = {one.name: Ring.create(one.capacity) for one in node.channels}

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        for ring in self._rings.values():
            ring.close()
        for descriptor in self._open:
            os.close(descriptor)

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def fiber(self, fiber: NodeFiber) -> Start:
        """What a fiber's START takes.

        Raises:
            NexusError: what it says cannot be done on this host.
        """
        check_restart(fiber)
        extra: list[int] = []
        places: dict[str, int] = {}
        for channel in self._node.channels:
            if fiber.name in (channel.source, channel.target):
                places[f"channel {channel.name}"] = _PLAN_FIRST + len(extra)
                extra.append(self._rings[channel.name].fd)
        for opening in fiber.openings:
            places[f"open {opening.name}"] = _PLAN_FIRST + len(extra)
            flags = (os.O_RDWR if opening.writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOCTTY
            try:
                extra.append(self._keep(os.open(opening.path, flags)))
            except OSError as error:
                raise NodeError(
                    f"fiber {fiber.name} cannot be given {opening.path}: {error.strerror}"
                ) from error
        handles = fiber_handles(fiber, self._node.channels, places)
        variables = {"NEXUS_FIBER": handles.variable, "NEXUS_NAME": fiber.name}
        start = self._start(fiber, handles, variables if handles.variable else {}, extra)
        return replace(start, durable=self._checkpoints(fiber.name)) if fiber.durable else start

    def _checkpoints(self, fiber: str) -> int:
        """The file of a durable fiber's checkpoints; one that is not as long as a slot is new."""
        path = self._directory.checkpoints(fiber)
        try:
            descriptor = self._keep(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if os.fstat(descriptor).st_size != SLOT_BYTES:
                os.ftruncate(descriptor, 0)
                os.posix_fallocate(descriptor, 0, SLOT_BYTES)
        except OSError as error:
            raise NodeError(
                f"fiber {fiber} cannot keep its checkpoints in {path}: {error.strerror}"
            ) from error
        return descriptor

    def observer(self, words: Sequence[str]) -> Start:
        """What the START of L1 takes: a fiber like any other, with three handles more.

        Args:
            words: those of `python -m nexus.logic` but for the numbers of its handles.
        """
        draft = Draft(
            name=_L1,
            promises=OBSERVER_PROMISES,
            unveil=(Unveil(str(self._directory.ledger), "rwc"),),
            restart="always",
            intensity=5,
            period_ms=10_000,
            survivability=self._node.survivability,  # the floor of the node's feature mask
        )
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        own = [
            self._keep(os.open(self._directory.key, os.O_RDONLY | os.O_CLOEXEC)),
            self._keep(os.open(self._directory.baselines, flags, 0o600)),
        ]
        watched = self._node.channels[:WATCHED_MAX]
        # Opened anew, for reading alone: L1 can change nothing of what it watches.
        own += [
            self._keep(os.open(f"/proc/self/fd/{ring.fd}", os.O_RDONLY | os.O_CLOEXEC))
            for ring in (self._rings[one.name] for one in watched)
        ]
        special = ((HANDLE_SYSTABLE, 3), (HANDLE_CONTROL, 4), (HANDLE_OBSERVER, 5))
        table = (*special, *((_PLAN_FIRST + i, 6 + i) for i in range(len(own))))
        numbers = ("--table", "3", "--control", "4", "--observer", "5", "--key", "6")
        watches = [
            f"--watch={one.name}:{one.source}:{one.target}={number}"
            for number, one in enumerate(watched, 8)
        ]
        module = ("nexus.logic", *numbers, "--baselines", "7", *watches, *words)
        try:
            return self._start(NodeFiber(draft, module), Handles(table, "", ()), {}, own)
        except UnenforceableError as error:
            raise UnenforceableError(f"the observer L1: {error}", hint=error.hint) from error

    @property
    def unwatched(self) -> list[str]:
        """The channels of whose traffic L1 learns nothing, for want of handles."""
        return [one.name for one in self._node.channels[WATCHED_MAX:]]

    def _program(self, fiber: NodeFiber) -> tuple[Draft, Program]:
        draft = replace(fiber.draft, waived=fiber.draft.waived | self._node.waived)
        if not fiber.module:
            return draft, find_image(draft.program, draft.directory or str(self._directory.path))
        python = self._python
        words = (python.path, "-P", "-m", *fiber.module)
        shown = [Unveil(folder, "rx") for folder in python.folders]
        if python.checkout and "mount namespace" in draft.waived:
            shown.append(Unveil(python.checkout, "r"))
        draft = replace(draft, unveil=(*draft.unveil, *shown))
        return draft, Program(python.path, words, None, is_dynamic(python.path))

    def _spec(self, fiber: NodeFiber, variables: Mapping[str, str]) -> FiberSpec:
        draft, program = self._program(fiber)
        environment = dict(_ENVIRONMENT if draft.environment is None else draft.environment)
        for name, value in self._python.environment.items() if fiber.module else ():
            # A fiber's own modules are found beside this package.
            joined = name == "PYTHONPATH" and name in environment
            environment[name] = f"{environment[name]}:{value}" if joined else value
        draft = replace(
            draft,
            environment={**environment, **variables},
            session=True,
        )
        return complete(draft, program, environment={}, directory="/")

    def _start(
        self,
        fiber: NodeFiber,
        handles: Handles,
        variables: Mapping[str, str],
        extra: list[int],
    ) -> Start:
        spec = self._spec(fiber, variables)
        confined = confine(spec, self._host, self._files)
        cgroup = self._cgroups.make(fiber.name, spec.limits)
        if cgroup.descriptor is not None:
            self._keep(cgroup.descriptor)
        if cgroup.gap:
            self.per_process[fiber.name] = cgroup.gap
        self._directory.write_policy(fiber.name, policy_record(spec, confined, cgroup.held))
        for layer in confined.layers:
            if layer.state == "waived":
                self.waived.setdefault(layer.name, []).append(fiber.name)
        for path in confined.missing:
            raise ManifestError(
                f"fiber {fiber.name}: unveil of {path}: nothing is there", hint="make it first"
            )
        manifest = replace(
            confined.manifest,
            policy=fiber_policy(fiber, confined.manifest.policy),
            capabilities=handles.capabilities,
        )
        image, digest = -1, None
        if fiber.draft.seal:
            sealed, digest = seal_image(spec.program)
            image = _PLAN_FIRST + len(extra)
            extra = [*extra, self._keep(sealed)]
        plan = encode_plan(manifest, image=image, digest=digest, handles=handles.table)
        log = self._keep(self._directory.open_log(fiber.name))
        first = (self._keep(seal_plan(plan)), self._null, log, log)
        return Start((*first, *extra), cgroup=cgroup.descriptor)
