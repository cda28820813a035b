"""`nexus run --learn` as its users meet it, and what it says that it cannot learn."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.logic.manifest import parse_manifest
from nexus.physics.seccomp import seccomp_capabilities

RUN = [sys.executable, "-m", "nexus.cli", "run"]

pytestmark = pytest.mark.skipif(
    not seccomp_capabilities().actions["notify"],
    reason="this kernel notifies nobody (Linux 5.5): nothing of `--learn` was checked here",
)


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.parametrize("status", [0, 7, 255])
def test_status_and_output_are_the_programs_own(tmp_path: Path, status: int) -> None:
    done = run("--learn", "--", "sh", "-c", f"echo out; exit {status}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "out\n")
    (draft,) = parse_manifest(done.stderr)
    assert draft.program[0] == "sh"


def test_a_death_by_signal_is_128_and_its_number(tmp_path: Path) -> None:
    done = run("--learn", "--", "sh", "-c", "kill -9 $$", cwd=tmp_path)
    assert done.returncode == 128 + signal.SIGKILL
    assert parse_manifest(done.stderr)


def test_the_manifest_goes_to_a_file_with_its_name(tmp_path: Path) -> None:
    target = tmp_path / "m.kdl"
    done = run("--learn", "--name", "n", "--output", str(target), "--", "true", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (draft,) = parse_manifest(target.read_text())
    assert draft.name == "n"
    again = run("--manifest", str(target), cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_file_that_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    done = run("--learn", "--output", str(tmp_path / "no" / "m"), "--", "echo", "ran", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot write" in done.stderr


def test_json_says_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "PWD": str(tmp_path)}  # the shell looks whether it is there
    words = ["--learn", "--json", "--", "sh", "-c", "cat /etc/passwd > here"]
    done = run(*words, cwd=tmp_path, env=environment)
    lesson = json.loads(done.stderr)
    assert lesson["type"] == "lesson"
    assert {"cpath", "wpath", "exec", "proc"} <= set(lesson["promises"])
    assert parse_manifest(lesson["manifest"])
    shown = {rule["path"]: rule["rights"] for rule in lesson["unveil"]}
    assert shown == {str(tmp_path): "wc"} or shown == {str(tmp_path): "rwc"}


@pytest.mark.parametrize("words", [["--manifest", "m"], ["--explain"]])
def test_learning_goes_with_no_policy(words: list[str]) -> None:
    done = run("--learn", *words, "--", "true")
    assert done.returncode == 2
    assert "NX-MAN-001" in done.stderr
    assert run("--output", "x", "--", "true").returncode == 2


def test_an_interrupt_ends_the_program_and_prints_what_was_learnt(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [*RUN, "--learn", "--", "sh", "-c", "/bin/true; echo ready; exec sleep 60"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.killpg(child.pid, signal.SIGINT)
    _, text = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGINT
    (draft,) = parse_manifest(text)
    assert draft.promises is not None
    assert "exec" in draft.promises


def test_a_program_that_cannot_be_executed_is_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x7fELF but not really")
    bad.chmod(0o755)
    done = run("--learn", "--", str(bad))
    assert done.returncode not in (0, 70)
    assert "cannot execute" in done.stderr


def test_what_was_left_in_the_background_is_ended(tmp_path: Path) -> None:
    done = run("--learn", "--", "sh", "-c", "sleep 987 > /dev/null 2>&1 & echo $!", cwd=tmp_path)
    assert done.returncode == 0
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_secrets_are_named_or_stay_hidden(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id").write_text("secret")
    environment = {**os.environ, "HOME": str(tmp_path)}
    used = run("--learn", "--", "cat", ".ssh/id", cwd=tmp_path, env=environment)
    assert f'unveil "{tmp_path}/.ssh/id" "r"  // a secret: does' in used.stderr
    listed = run("--learn", "--", "ls", cwd=tmp_path, env=environment)
    assert f'unveil "{tmp_path}/.ssh" ""  // a secret, not used' in listed.stderr


@pytest.mark.parametrize(
    ("word", "said"),
    [("ring", "io_uring"), ("mount", "mount is refused"), ("entry", "32-bit entry")],
)
def test_what_no_manifest_can_give_is_said(tmp_path, compiled, word: str, said: str) -> None:
    if word == "entry" and platform.machine() != "x86_64":
        pytest.skip("only x86-64 has a foreign entry: that it is reported is not checked")
    program = compiled("unlearnable", tmp_path)
    done = run("--learn", "--", str(program), word, cwd=tmp_path)
    if word == "entry" and done.returncode == 128 + signal.SIGSEGV:
        pytest.skip("this kernel has no 32-bit entry: that it is reported is not checked")
    assert done.returncode == 0
    assert "not learnable" in done.stderr
    assert said in done.stderr
    plain = run("--learn", "--", "true", cwd=tmp_path)
    assert "not learnable" not in plain.stderr
