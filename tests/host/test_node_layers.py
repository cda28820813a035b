"""A node on a host that lacks layers, as in most containers: refused, or without them as asked.

The host is made: a user namespace in which no other can be made. Where none can be made at all this
host is such a one already.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import nexus
from nexus.errors import AbsentError
from nexus.physics.supervisor import host_facts, supervisor_path

WAIT_S = 30
SPACES = ("user", "pid", "ipc", "mount", "network")
WAIVED = [word for name in SPACES for word in ("--waive", f"{name}-namespace")]
POOR = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
NODE = """
fiber "module" { module "nexus.membrane.fibers.lazarus"; pledge "stdio" "rpath"; checkpoint; }
fiber "waits" { program "/bin/sleep" "1000"; held; }
"""


class Poor:
    """A node's directory, and commands in a place without user namespaces."""

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.folder = folder
        self.prefix = prefix
        self.environment = {
            "PATH": os.environ["PATH"],
            "NEXUS_NODE": str(folder),
            "PYTHONPATH": str(Path(nexus.__file__).resolve().parent.parent),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [*self.prefix, sys.executable, "-m", "nexus.cli", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, cwd="/", env=self.environment
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=WAIT_S)
        return process.returncode, out, err


@pytest.fixture
def poor() -> Iterator[Poor]:
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"nodes not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or facts["landlock"] < 6:
        pytest.skip(f"nodes without namespaces not checked, this host lacks more: {facts}")
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", POOR, "sh"]
    if not facts["namespaces"]:
        prefix = []
    else:
        again = [*prefix, "unshare", "--user", "true"]
        if subprocess.run(again, capture_output=True, check=False).returncode == 0:
            pytest.fail("the canary: a user namespace can be made where none should be")
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as top:
        folder = Path(top, "node")
        folder.mkdir(mode=0o700)
        (folder / "node.kdl").write_text(NODE)
        yield Poor(folder, prefix)


def test_a_missing_layer_ends_the_boot_by_name(poor: Poor) -> None:
    code, out, err = poor.run("boot", "--for", "0")
    assert (code, out) == (40, "")
    assert "NX-POL-001" in err
    assert "--waive user-namespace" in err
    assert not (poor.folder / "run" / "control").exists()


def test_a_word_that_is_no_layer_is_refused(poor: Poor) -> None:
    code, _, err = poor.run("boot", "--for", "0", "--waive", "gravity")
    assert (code, "'gravity' is no layer" in err) == (2, True), err


@pytest.mark.slow
@pytest.mark.parametrize("said", ["by the command", "by node.kdl"])
def test_a_node_goes_without_what_is_waived_and_says_so(poor: Poor, said: str) -> None:
    words = WAIVED
    if said == "by node.kdl":
        words = []
        layers = " ".join(f'"{name}-namespace"' for name in SPACES)
        (poor.folder / "node.kdl").write_text(f"waive {layers}\n{NODE}")
    process = poor.start("boot", "--json", *words)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        document = json.loads(line)
        found = {one["layer"]: one["fibers"] for one in document["waived"]}
        assert set(found) == {f"{name} namespace" for name in SPACES}
        assert set(found["mount namespace"]) == {"L1", "module", "waits"}
        shown = {
            name: json.loads(poor.run("fiber", "show", name, "--json")[1])
            for name in ("module", "waits", "L1")
        }
        states = {name: one["state"] for name, one in shown.items()}
        assert states == {"module": "alive", "waits": "held", "L1": "alive"}
        for one in shown.values():
            layers = {layer["name"]: layer["state"] for layer in one["policy"]["layers"]}
            assert layers["user namespace"] == layers["mount namespace"] == "waived"
            assert layers["landlock files"] == layers["system call filter"] == "enforced"
        code, out, err = poor.run("fiber", "start", "waits")
        assert (code, out) == (0, "waits is alive, life 1\n"), err
        after = json.loads(poor.run("fiber", "show", "module", "--json")[1])
        assert (after["state"], after["lives"]) == ("alive", 1), after["log"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert poor.run("verify")[0] == 0
