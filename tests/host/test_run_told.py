"""`nexus run --json`: the program as without it, and on stderr one document a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

import nexus
from tests.host.runs import (
    RUN,
    SH,
    WAIT_S,
    alive,
    at_terminal,
    needs_layers,
    result_of,
    state,
    wait_until,
)

NOBODY = 65534
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "json"
TELL = [*RUN, "--json"]

pytestmark = needs_layers


@dataclass
class Told:
    """What a run printed: the documents, and the lines of its stderr that are none."""

    documents: list[dict[str, object]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, object]]:
        return [one for one in self.documents if one["type"] == kind]

    def titles(self) -> list[object]:
        return [one["title"] for one in self.of("event")]


def told(text: str) -> Told:
    """Each document checked against the schema of its type."""
    found = Told()
    for line in text.splitlines():
        if not line.startswith('{"schema"'):
            found.others.append(line)
            continue
        document = json.loads(line)
        schema = (SCHEMAS / f"{document['type']}.schema.json").read_text()
        jsonschema.validate(document, json.loads(schema))
        found.documents.append(document)
    return found


@dataclass
class Caller:
    """One user who runs programs in a folder of theirs; what still runs at the end is killed."""

    user: int
    folder: Path
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def options(self) -> dict[str, object]:
        code = str(Path(nexus.__file__).resolve().parent.parent)
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": code, "LC_ALL": "C.UTF-8"}
        own = {"user": self.user, "group": self.user, "extra_groups": []}
        return {"env": environment, "cwd": self.folder} | (own if self.user != os.geteuid() else {})

    def start(self, *words: str, **more: object) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options = {**self.options(), **pipes, "text": True, **more}
        self.children.append(subprocess.Popen([*TELL, *words], **options))
        return self.children[-1]

    def run(self, *words: str, input: str = "") -> tuple[int, str, Told]:
        return self.end(self.start(*words), input)

    def end(self, child: subprocess.Popen[str], input: str = "") -> tuple[int, str, Told]:
        out, err = child.communicate(input, timeout=WAIT_S)
        return child.returncode, out, told(err)

    def exists(self, name: str) -> bool:
        return wait_until((self.folder / name).exists)

    def at_terminal(self, *words: str) -> AbstractContextManager[tuple[int, int]]:
        environment = self.options()["env"]
        return at_terminal([*TELL, *words], self.folder, user=self.user, environment=environment)


@pytest.fixture(params=[0, NOBODY] if os.geteuid() == 0 else [os.geteuid()], ids="uid{}".format)
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    user = request.param
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as top:
        os.chown(top, user, user)
        one = Caller(user, Path(top))
        look = [sys.executable, "-c", "import encodings"]
        if subprocess.run(look, capture_output=True, check=False, **one.options()).returncode:
            pytest.skip(f"not checked as user {user}: it cannot run {sys.executable}")
        yield one
        for child in one.children:
            child.kill()
            child.communicate()


def test_the_documents_come_in_order_and_the_streams_are_the_programs(caller: Caller) -> None:
    code, out, found = caller.run("--", SH, "-c", "cat; echo aside >&2; exit 3", input="through")
    assert (code, out, found.others) == (3, "through", ["aside"])
    first, *middle, last = found.documents
    assert {one["type"] for one in middle} == {"event"}
    assert found.titles()[-3:] == ["FiberSpawn", "FiberTerminate", "SystemShutdown"]
    assert (first["type"], first["pid"]) == ("run", found.of("event")[2]["data"][2])
    assert last == {
        "schema": 1,
        "type": "over",
        "name": "sh",
        "status": 3,
        "lives": 1,
        "restarts": 0,
        "why": "policy",
    }


def test_the_policy_is_that_of_explain(caller: Caller) -> None:
    words = ("--pledge", "stdio,rpath", "--", "true")
    _, _, found = caller.run(*words)
    _, out, _ = caller.run("--explain", *words)
    explained = told(out).of("policy")[0]
    shown = found.of("run")[0]
    assert {name: shown[name] for name in explained} == {**explained, "type": "run"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_death_by_signal_is_128_and_its_number(caller: Caller, number: signal.Signals) -> None:
    code, _, found = caller.run("--", SH, "-c", f"kill -{int(number)} $$")
    assert code == found.of("over")[0]["status"] == 128 + number


def test_a_sealed_image_runs(caller: Caller) -> None:
    assert caller.run("--seal", "--", "/bin/true")[0] == 0


def test_restarts_are_told_and_why_they_end(caller: Caller) -> None:
    manifest = caller.folder / "fiber.kdl"
    manifest.write_text(
        f'fiber "again" {{\n  program "{SH}" "-c" "echo life; exit 3"\n'
        '  restart "on-failure" intensity=2 period="60s"\n}\n'
    )
    code, out, found = caller.run("--manifest", str(manifest))
    assert (code, out.split()) == (3, ["life"] * 3)
    over = found.of("over")[0]
    assert (over["lives"], over["restarts"]) == (3, 2)
    assert over["why"] in ("breaker", "quarantined")
    assert found.titles().count("FiberTerminate") == 3
    assert "after 3 starts" in str(found.of("notice")[0]["message"])


def test_what_does_not_start_is_an_error_and_nothing_more(caller: Caller) -> None:
    bad = caller.folder / "bad"
    bad.write_bytes(b"\x7fELF and nothing more")
    bad.chmod(0o755)
    for program, wanted in (("no-such-program", "NX-RUN-002"), (str(bad), "NX-RUN-001")):
        code, out, found = caller.run("--", program)
        assert (code, out, found.others) == (125, "", [])
        assert [one["code"] for one in found.documents] == [wanted]


def test_a_request_to_stop_reaches_the_program_and_ends_the_restarts(caller: Caller) -> None:
    script = "trap 'echo stopped; exit 9' TERM; touch up; while :; do sleep 0.05; done"
    child = caller.start("--restart", "always", "--", SH, "-c", script)
    assert caller.exists("up")
    child.terminate()
    code, out, found = caller.end(child)
    assert (code, out) == (9, "stopped\n")
    assert found.of("over")[0]["why"] == "asked"


def test_any_other_signal_goes_on_to_the_program(caller: Caller) -> None:
    script = "trap 'echo one; exit 4' USR1; touch up; while :; do sleep 0.05; done"
    child = caller.start("--", SH, "-c", script)
    assert caller.exists("up")
    child.send_signal(signal.SIGUSR1)
    code, out, found = caller.end(child)
    assert (code, out, found.of("over")[0]["why"]) == (4, "one\n", "policy")


def test_a_program_that_ignores_the_request_is_killed_after_the_grace(caller: Caller) -> None:
    manifest = caller.folder / "fiber.kdl"
    script = "trap '' TERM; touch up; while :; do sleep 0.05; done"
    manifest.write_text(f'fiber "deaf" {{\n program "{SH}" "-c" "{script}"\n grace "300ms"\n}}\n')
    child = caller.start("--manifest", str(manifest))
    assert caller.exists("up")
    child.terminate()
    assert caller.end(child)[0] == 128 + signal.SIGKILL


def test_nothing_outlives_a_killed_parent(caller: Caller) -> None:
    word = f"orphan-{caller.folder.name}"
    script = f"(while :; do sleep 0.05; done; : {word}) & touch up; wait"
    child = caller.start("--", SH, "-c", script)
    assert caller.exists("up")
    assert alive(word)
    child.kill()
    child.wait()
    assert wait_until(lambda: not alive(word))


def test_a_killed_supervisor_is_told_and_takes_the_program_along(caller: Caller) -> None:
    word = f"headless-{caller.folder.name}"
    child = caller.start("--", SH, "-c", f"touch up; while :; do sleep 0.05; done; : {word}")
    assert caller.exists("up")
    assert child.stderr is not None
    lines = [child.stderr.readline() for _ in range(2)]
    os.kill(json.loads(lines[1])["data"][0], signal.SIGKILL)
    code, _, found = caller.end(child)
    assert (code, found.of("error")[0]["code"]) == (125, "NX-RUN-001")
    assert "137" in str(found.of("error")[0]["message"])
    assert wait_until(lambda: not alive(word))


def test_a_reader_that_leaves_does_not_end_the_program(caller: Caller) -> None:
    child = caller.start("--", SH, "-c", "touch up; read line; exec 2>&-; exit 6")
    assert caller.exists("up")
    assert child.stderr is not None
    child.stderr.close()
    child.communicate("go\n", timeout=WAIT_S)
    assert child.returncode == 6


def test_a_pipeline_ends_with_its_reader(caller: Caller) -> None:
    line = " ".join([*TELL, "--", "yes", "2>told", "|", "head -n 1"])
    pipe = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"],
        **{**caller.options(), "capture_output": True, "text": True, "timeout": WAIT_S},
        check=False,
    )
    assert pipe.stdout.split() == ["y", str(128 + signal.SIGPIPE)]
    assert told((caller.folder / "told").read_text()).of("over")[0]["status"] == 141


@pytest.mark.parametrize(("act", "status"), [("touch end", 0), ("kill -INT $!", 130)])
def test_a_job_in_the_background_ends_as_without_documents(
    caller: Caller, act: str, status: int
) -> None:
    script = "'touch up; until test -e end; do sleep 0.05; done'"
    for run in (TELL, RUN):
        line = f"{' '.join(run)} -- {SH} -c {script} 2>told"
        act_then = f"until test -e up; do sleep 0.05; done; {act}; wait $!; echo $?"
        done = subprocess.run(
            [SH, "-c", f"rm -f up end; {line} & {act_then}"],
            **{**caller.options(), "capture_output": True, "text": True, "timeout": WAIT_S},
            check=False,
        )
        assert done.stdout == f"{status}\n"
        over = told((caller.folder / "told").read_text()).of("over")
        assert [one["status"] for one in over] == ([status] if run is TELL else [])


def test_ctrl_c_ends_the_program_and_its_restarts(caller: Caller) -> None:
    script = "touch up; while :; do sleep 0.05; done"
    with caller.at_terminal("--restart", "always", "--", SH, "-c", script) as (pid, end):
        assert caller.exists("up")
        os.write(end, b"\x03")
        assert result_of(pid) == 128 + signal.SIGINT


def test_a_program_may_answer_ctrl_c_and_go_on(caller: Caller) -> None:
    manifest = caller.folder / "fiber.kdl"
    script = "trap 'touch heard' INT; touch up; until test -e end; do sleep 0.05; done; exit 4"
    manifest.write_text(f'fiber "calm" {{\n program "{SH}" "-c" "{script}"\n grace "100ms"\n}}\n')
    with caller.at_terminal("--manifest", str(manifest)) as (pid, end):
        assert caller.exists("up")
        os.write(end, b"\x03")
        assert caller.exists("heard")
        time.sleep(0.3)  # beyond the grace
        (caller.folder / "end").touch()
        assert result_of(pid) == 4


def test_ctrl_z_stops_all_of_it_and_it_goes_on(caller: Caller) -> None:
    script = "touch up; until test -e end; do sleep 0.05; done"
    with caller.at_terminal("--", SH, "-c", script) as (pid, end):
        assert caller.exists("up")
        os.write(end, b"\x1a")
        assert wait_until(lambda: state(pid) == "T")
        os.killpg(os.getpgid(pid), signal.SIGCONT)
        (caller.folder / "end").touch()
        assert result_of(pid) == 0
