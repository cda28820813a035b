"""Fibers of the tests: a manifest from the policy, run by the supervisor as any user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nexus.errors import AbsentError
from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import Confined, FiberSpec, HostLayers, confine
from nexus.logic.pledge import DEFAULT_PROMISES, LOADER_PROMISES
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path

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
