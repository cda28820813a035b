"""Fibers of the tests: a manifest from the policy, run by the supervisor as any user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nexus.errors import AbsentError
from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import Confined, FiberSpec, HostLayers, confine
from nexus.logic.control import FiberPlace
from nexus.logic.node import parse_node
from nexus.logic.pledge import DEFAULT_PROMISES, LOADER_PROMISES
from nexus.membrane.boot import RunningNode, boot
from nexus.membrane.directory import NodeDirectory
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path
from nexus.seams.supervisor import FiberEntry, Taken

HERE = Path(__file__).resolve().parent
NOBODY = 65534


@dataclass(frozen=True)
class Runner:
    """Starts fibers as one user.

    Attributes:
        user: the user and group id.
        folder: a directory of that user, which everyone may enter.
    """

    user: int
    folder: Path

    def identity(self) -> dict[str, object]:
        """For subprocess: become the user, when this is another."""
        if self.user == os.geteuid():
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}

    def confined(self, program: str, *words: str, **changes: object) -> Confined:
        """The policy of a fiber; `promises`, `unveil`, `waived` and so on as in FiberSpec."""
        spec = FiberSpec(
            name="test",
            program=program,
            arguments=(Path(program).name, *words),
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            directory="/",
            promises=DEFAULT_PROMISES,
            disposition="deny",
        )
        return confine(replace(spec, **changes), HostLayers(**host_facts()), HostFiles())

    def popen(self, confined: Confined, **options: object) -> subprocess.Popen[bytes]:
        """The supervisor of a fiber, with pipes for its output."""
        descriptor = seal_plan(encode_plan(confined.manifest, image=-1, digest=None))
        try:
            return subprocess.Popen(
                [supervisor_path(), "run", str(descriptor)],
                pass_fds=[descriptor],
                cwd="/",
                env={},
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
                **self.identity(),
            )
        finally:
            os.close(descriptor)

    def run(self, program: str, *words: str, stdin: bytes = b"", **changes: object):
        """Run a fiber to its end; its exit status and output."""
        process = self.popen(self.confined(program, *words, **changes), stdin=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin, timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"the fiber did not end: {out!r} {err!r}") from None
        return subprocess.CompletedProcess([program, *words], process.returncode, out, err)

    def shell(self, script: str, **changes: object):
        """Run a script of the shell, whose loader needs two promises."""
        promises = changes.pop("promises", DEFAULT_PROMISES) | LOADER_PROMISES
        return self.run("/bin/sh", "-c", script, promises=promises, **changes)


def users() -> list[int]:
    return [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


@pytest.fixture(scope="module", params=users(), ids=lambda user: f"uid{user}")
def fibers(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Where fibers run: as root and as nobody, or as the ordinary user that the tests have."""
    try:
        path = supervisor_path()
    except AbsentError as error:
        pytest.skip(f"confinement not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"confinement not checked, this host lacks layers: {facts}")
    # Not of pytest's own, where no other user may go, nor below /tmp, which fibers have anew.
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        os.chown(folder, request.param, request.param)
        runner = Runner(request.param, Path(folder))
        check = subprocess.run([path], capture_output=True, check=False, **runner.identity())
        if check.returncode != 125:
            pytest.skip(f"confinement not checked as {request.param}: it cannot reach {path}")
        yield runner


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a program of this folder, static and at fixed addresses."""

    def build(name: str, folder: Path) -> Path:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("confinement not probed: no C compiler; apt-get install gcc libc6-dev")
        program = folder / name
        subprocess.run(
            [compiler, "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie",
             HERE / f"{name}.c", "-o", program],
            check=True,
        )  # fmt: skip
        return program

    return build


LIVE_WAIT_S = 30.0
LIVE_FIBER = """
fiber "{name}" {{
    module {program}
    pledge "stdio" "rpath"
    unveil "{folder}" "r"
    environment {{ PYTHONPATH "{folder}"; }}
    restart "{restart}"
    {more}
}}
"""


class LiveNode:
    """A node in this process's hands.

    Attributes:
        folder: of programs and of the node's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = NodeDirectory(folder / "node")
        self._text = ""
        self._running: RunningNode | None = None

    def programs(self, programs: dict[str, str]) -> None:
        """Write modules; each line is indented by eight."""
        for name, text in programs.items():
            lines = text.splitlines()
            (self.folder / f"{name}.py").write_text("\n".join(line[8:] for line in lines))

    @property
    def running(self) -> RunningNode:
        assert self._running is not None
        return self._running

    def fiber(
        self,
        name: str,
        program: str,
        *more: str,
        words: Sequence[str] = (),
        restart: str = "always",
    ) -> None:
        """Describe a fiber: a module and its words."""
        call = " ".join(f'"{word}"' for word in (program, *words))
        self._text += LIVE_FIBER.format(
            name=name, program=call, folder=self.folder, more="\n".join(more), restart=restart
        )

    def channel(self, source: str, target: str) -> None:
        self._text += f'channel "way" from="{source}" to="{target}" slots=16 size=64\n'

    def describe(self, text: str) -> None:
        """Add to the description."""
        self._text += text

    def boot(self, *learning: str) -> None:
        self.directory.prepare()
        lock = self.directory.take()
        try:
            node = parse_node(self._text, str(self.directory.path))
            self._running = boot(self.directory, node, lock, learning=learning)
        finally:
            os.close(lock)

    def end(self) -> None:
        if self._running is not None:
            status = self._running.shutdown()
            self._running.table.close()
            self._running = None
            assert status == 0

    def log(self, name: str) -> list[str]:
        path = self.directory.log(name)
        return path.read_text().splitlines() if path.exists() else []

    def entry(self, name: str) -> FiberEntry:
        (found,) = [one for one in self.running.table.fibers() if one.name == name]
        return found

    def place(self, name: str) -> FiberPlace:
        return self.running.fibers[name]

    def index(self, name: str, kind: int) -> int:
        """Of the fiber's capability of a type."""
        words = self.running.table.capabilities(self.place(name).slot)
        (found,) = [one.index for one in words if one.type == kind]
        return found

    def revoke(self, name: str, kind: int) -> Taken:
        return self.running.control.revoke(self.place(name), self.index(name, kind))[1]

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + LIVE_WAIT_S
        while not condition():
            logs = {path.name: path.read_text()[-500:] for path in self.folder.glob("node/log/*")}
            assert time.monotonic() < end, f"{what}: {logs}"
            time.sleep(0.02)

    def until_said(self, name: str, words: str, after: int = 0) -> str:
        """The first line of a fiber's log behind some that begins so."""

        def found() -> list[str]:
            return [line for line in self.log(name)[after:] if line.startswith(words)]

        self.until(found, f"{name} says {words!r}")
        return found()[0]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveNode]:
    """A node of Python fibers, in the test's own hands."""
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"live nodes not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"live nodes not checked, this host lacks layers: {facts}")
    made = LiveNode(tmp_path)
    try:
        yield made
    finally:
        made.end()
