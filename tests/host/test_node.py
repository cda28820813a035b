"""A whole node on this host, by the commands that people use, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

import nexus
from nexus.errors import AbsentError
from nexus.membrane.default import default_node
from nexus.physics.supervisor import host_facts, supervisor_path

NOBODY = 65534
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "json"
WAIT_S = 30
NODE = """
survivability "hardened"
group "pair" strategy="one-for-one" {
    fiber "stays" { program "/bin/sleep" "1000"; restart "always" }
    fiber "fails" {
        program "/bin/sh" "-c" "echo here; sleep 0.1; exit 7"
        restart "on-failure" intensity=2 period="60s"
    }
}
fiber "once" { program "/bin/sh" "-c" "exit 3" }
channel "way" from="stays" to="fails"
"""


def checked(document: dict[str, object]) -> dict[str, object]:
    """A document that fits the schema of its type."""
    text = (SCHEMAS / f"{document['type']}.schema.json").read_text()
    jsonschema.validate(document, json.loads(text))
    return document


@dataclass
class Rig:
    """A node of one user.

    Attributes:
        user: its id.
        folder: the node's directory.
        code: where the package is imported from.
    """

    user: int
    folder: Path
    code: Path

    def options(self) -> dict[str, object]:
        environment = {
            "PATH": os.environ["PATH"],
            "NEXUS_NODE": str(self.folder),
            "PYTHONPATH": str(self.code),
            "LC_ALL": "C.UTF-8",
        }
        own = {"user": self.user, "group": self.user, "extra_groups": []}
        return {"env": environment, "cwd": "/", "text": True} | (
            own if self.user != os.geteuid() else {}
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nexus.cli", "boot", *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **self.options()
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nexus.cli", *words]
        return subprocess.run(
            command, capture_output=True, check=False, timeout=WAIT_S, **self.options()
        )

    def json(self, *words: str) -> dict[str, object]:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return checked(json.loads(done.stdout))


def up(process: subprocess.Popen[str]) -> dict[str, object]:
    """The first document of a boot, when the node is up."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return checked(json.loads(line))


def until(process: subprocess.Popen[str], title: str, fiber: str | None) -> dict[str, object]:
    """Read events until one."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("title") == title and fiber in (None, event.get("fiber")):
            return event
    raise AssertionError(f"the node ended without {title} of {fiber}")


def end(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str, str]:
    if process.poll() is None:
        process.send_signal(number)
    try:
        out, err = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def users() -> list[int]:
    return [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]


@pytest.fixture(params=users(), ids=lambda user: f"uid{user}")
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"nodes not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"nodes not checked, this host lacks layers: {facts}")
    user = request.param
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as top:
        Path(top).chmod(0o755)
        own = {"user": user, "group": user} if user != os.geteuid() else {}
        look = [sys.executable, "-c", "import encodings"]
        if subprocess.run(look, capture_output=True, check=False, cwd="/", **own).returncode:
            pytest.skip(f"nodes not checked as user {user}: it cannot run {sys.executable}")
        folder = Path(top, "node")
        folder.mkdir(mode=0o700)
        (folder / "node.kdl").write_text(NODE)
        for path in (folder, folder / "node.kdl"):
            os.chown(path, user, user)
        yield Rig(user, folder, Path(nexus.__file__).resolve().parent.parent)


@pytest.mark.slow
def test_a_node_boots_is_looked_at_and_shuts_down_in_order(rig: Rig) -> None:
    process = rig.start("--json")
    try:
        document = up(process)
        assert document["fibers"] == ["L1", "fails", "once", "stays"]
        assert document["up_ms"] > 0
        until(process, "Quarantine", "fails")
        status = rig.json("status")
        assert status["state"] == "up"
        assert status["features"]["boot"] == 0b11111
        fibers = {fiber["name"]: fiber for fiber in status["fibers"]}
        assert (fibers["stays"]["state"], fibers["stays"]["company"]) == ("alive", 1)
        assert (fibers["fails"]["state"], fibers["fails"]["lives"]) == ("quarantined", 3)
        assert (fibers["once"]["state"], fibers["once"]["status"]) == ("over", 3)
        assert fibers["L1"]["flags"] == ["l1"]
        shown = rig.json("fiber", "show", "fai")
        assert shown["log"] == ["here"] * 3
        code, out, err = end(process)
        assert (code, err) == (0, "") or "breaker" in err
        assert code == 0
        titles = [json.loads(line)["title"] for line in out.splitlines()]
        assert "SystemShutdown" in titles
    finally:
        end(process, signal.SIGKILL)
    proof = rig.json("verify")
    assert proof["bad"] is None
    assert proof["unsigned"] == 0
    assert proof["events"] >= 10
    down = rig.run("status", "--json")
    assert down.returncode == 30
    assert json.loads(down.stderr)["code"] == "NX-NOD-002"
    assert rig.json("beb", "show")["generation"] == 1


@pytest.mark.slow
def test_fibers_and_capabilities_are_told_what_to_do(rig: Rig) -> None:
    process = rig.start("--json")
    try:
        up(process)
        assert rig.json("fiber", "restart", "stays")["lives"] == 2
        assert rig.json("fiber", "stop", "stays", "--now")["state"] == "over"
        assert rig.json("fiber", "start", "stays")["lives"] == 3
        refused = rig.run("fiber", "start", "stays")
        assert refused.returncode == 1
        assert "error[NX-NOD-005]" in refused.stderr
        unknown = rig.run("fiber", "show", "nobody")
        assert "error[NX-NOD-006]" in unknown.stderr
        assert "hint: one of" in unknown.stderr
        words = ["stays", "memory:frames", "--rights", "read,delegate", "--bounds", "0:0x1000"]
        assert rig.json("cap", "grant", *words)["index"] == 1
        words = ["stays", "memory:frames", "--rights", "read", "--bounds", "0:64", "--parent", "1"]
        assert rig.json("cap", "grant", *words)["index"] == 2
        items = rig.json("cap", "list", "stays")["items"]
        assert [(item["parent"], item["depth"]) for item in items] == [(None, 0), (None, 0), (1, 1)]
        assert (items[0]["type"], items[0]["object"]) == ("channel", "#4"), "its end of the channel"
        assert rig.json("cap", "revoke", "stays", "1")["count"] == 2
        assert rig.json("cap", "revoke", "stays", "0")["taken"] == "channel"
        rig.json("fiber", "restart", "stays")
        assert rig.json("cap", "list", "stays")["items"] == []
        words = ["stays", "channel:#4", "--rights", "write,map"]
        assert rig.json("cap", "grant", *words)["index"] == 0
        wrong = rig.run("cap", "grant", "stays", "channel:#64", "--rights", "write")
        assert (wrong.returncode, "names no handle" in wrong.stderr) == (2, True)
        watched = rig.run("stl", "watch", "--since", "0", "--for", "0.1", "--json")
        events = [checked(json.loads(line)) for line in watched.stdout.splitlines()]
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["title"] == "SystemBoot"
        busy = rig.run("boot", "--json")
        assert busy.returncode == 11
        assert json.loads(busy.stderr)["code"] == "NX-NOD-003"
        assert end(process, signal.SIGTERM)[0] == 0
    finally:
        end(process, signal.SIGKILL)


@pytest.mark.slow
def test_a_fiber_that_was_described_since_the_boot_is_started(rig: Rig) -> None:
    process = rig.start("--json")
    try:
        up(process)
        late = 'fiber "late" { program "/bin/sh" "-c" "echo late; exec sleep 1000"; }\n'
        tied = 'fiber "tied" { program "/bin/true"; }\nchannel "two" from="tied" to="once"\n'
        grouped = 'group "new" { fiber "grouped" { program "/bin/true"; }; }\n'
        (rig.folder / "node.kdl").write_text(NODE + late + tied + grouped)
        begun = rig.json("fiber", "start", "late")
        assert (begun["state"], begun["lives"], begun["company"]) == ("alive", 1, 0)
        assert begun["slot"] not in (0, 1, 2)
        until(process, "FiberSpawn", "late")
        assert rig.json("fiber", "stop", "late", "--now")["state"] == "over"
        assert rig.json("fiber", "start", "late")["lives"] == 2
        assert rig.json("fiber", "show", "late")["log"] == ["late", "late"]
        for name, why in (("tied", "channel two"), ("grouped", "its group")):
            refused = rig.run("fiber", "start", name, "--json")
            error = json.loads(refused.stderr)
            assert (refused.returncode, error["code"]) == (2, "NX-NOD-001")
            assert why in error["message"]
            assert "nexus boot" in error["hint"]
        unknown = rig.run("fiber", "start", "nobody")
        assert (unknown.returncode, "error[NX-NOD-006]" in unknown.stderr) == (1, True)
        assert end(process)[0] == 0
    finally:
        end(process, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root reaches the node of another user")
def test_root_opens_nothing_for_the_node_of_another_user(rig: Rig) -> None:
    if rig.user == 0:
        pytest.skip("this node is root's own")
    process = rig.start("--json")
    try:
        up(process)
        text = NODE + 'fiber "thief" { program "/bin/cat"; open "key" "/etc/shadow"; }\n'
        (rig.folder / "node.kdl").write_text(text)
        refused = Rig(0, rig.folder, rig.code).run("fiber", "start", "thief")
        assert refused.returncode != 0
        assert "error[NX-NOD-004]" in refused.stderr
        assert [
            one["name"] for one in rig.json("fiber", "list")["items"] if one["name"] == "thief"
        ] == []
        assert end(process)[0] == 0
    finally:
        end(process, signal.SIGKILL)


@pytest.mark.slow
def test_l1_is_killed_and_the_chain_goes_on(rig: Rig) -> None:
    process = rig.start("--json")
    try:
        up(process)
        for life in (1, 2):
            (observer,) = [f for f in rig.json("fiber", "list")["items"] if f["name"] == "L1"]
            assert observer["lives"] == life
            os.kill(observer["pid"], signal.SIGKILL)
            while until(process, "FiberSpawn", "L1")["data"][0] != life + 1:
                pass
        # While it starts, SIGTERM still ends it as any program.
        while rig.json("status")["beat_ns"] < rig.json("fiber", "show", "L1")["begin_ns"]:
            pass
        assert end(process)[0] == 0
    finally:
        end(process, signal.SIGKILL)
    proof = rig.json("verify")
    assert (proof["bad"], proof["lost"], proof["unsigned"]) == (None, 0, 0)


@pytest.mark.slow
def test_the_default_node_survives_the_end_of_each_of_its_fibers(rig: Rig) -> None:
    (rig.folder / "node.kdl").write_text(default_node())
    process = rig.start("--json")
    try:
        assert up(process)["fibers"] == ["L1", "digest", "lazarus", "pulse"]
        for name in ("digest", "pulse", "lazarus"):
            rig.json("fiber", "restart", name)
        # A checkpoint is saved each second; a life that has one says so.
        limit = time.monotonic() + WAIT_S
        while not any("goes on" in line for line in rig.json("fiber", "show", "digest")["log"]):
            assert time.monotonic() < limit
            rig.json("fiber", "restart", "digest")
            rig.run("stl", "watch", "--for", "1.5")
        fibers = {fiber["name"]: fiber for fiber in rig.json("fiber", "list")["items"]}
        assert all(fiber["state"] in ("alive", "starting") for fiber in fibers.values())
        assert end(process)[0] == 0
    finally:
        end(process, signal.SIGKILL)
    assert rig.json("verify")["bad"] is None


@pytest.mark.slow
def test_a_killed_boot_leaves_nothing_behind_and_the_next_one_works(rig: Rig) -> None:
    process = rig.start("--json")
    document = up(process)
    process.kill()
    process.communicate()
    limit = time.monotonic() + WAIT_S
    while Path(f"/proc/{document['pid']}").exists():
        assert time.monotonic() < limit, "the supervisor outlives who started it"
        time.sleep(0.01)
    again = rig.start("--json", "--for", "0.5")
    try:
        up(again)
        assert end_by_itself(again) == 0
    finally:
        end(again, signal.SIGKILL)
    assert rig.json("beb", "show")["generation"] == 2
    assert rig.json("verify")["bad"] is None


def end_by_itself(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=WAIT_S)
    return process.returncode


@pytest.mark.slow
def test_a_changed_ledger_is_found_out(rig: Rig) -> None:
    process = rig.start("--for", "1")
    assert end_by_itself(process) == 0
    (chain,) = (rig.folder / "ledger").iterdir()
    raw = bytearray(chain.read_bytes())
    raw[96 + 3 * 128 + 50] ^= 1
    chain.write_bytes(raw)
    done = rig.run("verify")
    assert done.returncode == 13
    assert "record 4" in done.stderr
    assert "3 records in 1 files follow" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fiber", "NX-MAN-001"),
        ('survivability "brave"', "NX-NOD-001"),
        ('fiber "a" { program "/no/such/program" }', "NX-RUN-002"),
        ('fiber "a" { program "/bin/true"; unveil "/no/such/path" "r" }', "NX-MAN-001"),
        ('fiber "a" { program "/bin/true"; open "x" "/no/such/path" }', "NX-NOD-001"),
    ],
)
def test_a_node_that_cannot_be_leaves_nothing_running(rig: Rig, text: str, code: str) -> None:
    (rig.folder / "node.kdl").write_text(text)
    done = rig.run("boot", "--json")
    assert json.loads(done.stderr.splitlines()[-1])["code"] == code
    assert done.returncode != 0
    shutil.rmtree(rig.folder / "log", ignore_errors=True)
    assert rig.run("status").returncode == 30
