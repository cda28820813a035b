"""`nexus run` as its users meet it: statuses, signals, restarts, images, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, Program, complete
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_image, seal_plan, supervisor_path
from tests.host.runs import RUN, SH, alive, at_terminal, needs_layers, result_of, state, wait_until

pytestmark = needs_layers


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `nexus run` in the background; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def begin(*words: str, cwd: Path) -> subprocess.Popen[str]:
        command = [*RUN, *words]
        children.append(subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A folder the fiber may write in, whose name tells its processes from all others."""
    return tmp_path


@pytest.mark.parametrize("status", [0, 1, 7, 124, 255])
def test_the_status_is_the_programs_own(status: int) -> None:
    assert run("--", SH, "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_death_by_signal_is_128_and_its_number(number: signal.Signals) -> None:
    assert run("--", SH, "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_input_and_output_are_the_programs_own() -> None:
    done = run("--", "cat", input="through and through")
    assert (done.returncode, done.stdout) == (0, "through and through")


def test_a_broken_pipe_ends_a_writer_as_it_does_outside() -> None:
    done = run("--", SH, "-c", "yes | head -n 1")
    assert (done.stdout, done.stderr) == ("y\n", "")


def test_words_that_look_like_options_stay_the_programs(mark: Path) -> None:
    done = run("--", "echo", "--json", "--help", cwd=mark)
    assert done.stdout == "--json --help\n"


def test_a_script_is_run_by_its_interpreter(mark: Path) -> None:
    script = mark / "job"
    script.write_text("#!/bin/sh -e\necho $1 from $0\n")
    script.chmod(0o755)
    done = run("--", str(script), "hello", cwd=mark)
    assert done.stdout == f"hello from {script}\n"


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["--", "no-such-program"], 125, "NX-RUN-002"),
        ([], 2, "NX-MAN-001"),
        (["--pledge", "fly", "--", SH], 2, "NX-PLG-001"),
        (["--limit", "memory=lots", "--", SH], 2, "NX-MAN-001"),
        (["--limit", "sanity=1", "--", SH], 2, "NX-MAN-001"),
        (["--unveil", "/no/such/path=r", "--", SH], 2, "NX-MAN-001"),
        (["--waive", "the-law", "--", SH], 2, "NX-MAN-001"),
        (["--manifest", "/no/such/file", "--", SH], 2, "NX-MAN-001"),
        (["--tier", "warp", "--", SH], 2, "NX-CLI-001"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(words: list[str], status: int, code: str) -> None:
    done = run(*words)
    assert done.returncode == status
    assert code in done.stderr
    assert "Traceback" not in done.stderr


def test_restarts_are_counted_by_the_breaker(mark: Path) -> None:
    manifest = mark / "node.kdl"
    manifest.write_text(
        'fiber "again" {\n'
        f'  program "{SH}" "-c" "echo life; exit 3"\n'
        '  restart "on-failure" intensity=4 period="60s"\n}\n'
    )
    done = run("--manifest", str(manifest), cwd=mark)
    assert done.stdout.split() == ["life"] * 5
    assert done.returncode == 3
    assert "breaker opened after 5 starts" in done.stderr


def test_success_ends_a_restart_on_failure() -> None:
    assert run("--restart", "on-failure", "--", SH, "-c", "echo once").stdout == "once\n"


def test_a_request_to_stop_reaches_the_program_and_ends_the_restarts(mark: Path, start) -> None:
    word = f"stop-{mark.name}"
    script = f"trap 'echo stopped; exit 9' TERM; touch up; : {word}; while :; do sleep 0.05; done"
    child = start("--restart", "always", "--", SH, "-c", script, cwd=mark)
    assert wait_until((mark / "up").exists)
    child.terminate()
    out, _ = child.communicate(timeout=30)
    assert (out, child.returncode) == ("stopped\n", 9)
    assert alive(word) == []


def test_a_program_that_ignores_the_request_is_killed_after_the_grace(mark: Path, start) -> None:
    manifest = mark / "node.kdl"
    manifest.write_text(
        f'fiber "deaf" {{\n  program "{SH}" "-c" "trap \'\' TERM; touch up; while :; do sleep '
        '0.05; done"\n  grace "300ms"\n}\n'
    )
    child = start("--manifest", str(manifest), cwd=mark)
    assert wait_until((mark / "up").exists)
    child.terminate()
    assert child.wait(timeout=30) == 128 + signal.SIGKILL


def test_nothing_outlives_a_killed_supervisor(mark: Path, start) -> None:
    word = f"orphan-{mark.name}"
    script = f"(while :; do sleep 0.05; done; : {word}) & touch up; wait"
    child = start("--", SH, "-c", script, cwd=mark)
    assert wait_until((mark / "up").exists)
    assert alive(word)
    child.kill()
    child.wait()
    assert wait_until(lambda: not alive(word))


def test_a_fiber_without_namespaces_dies_with_its_supervisor(mark: Path, start) -> None:
    word = f"bare-{mark.name}"
    waived = ["user", "pid", "ipc", "mount", "network"]
    options = [word for one in waived for word in ("--waive", f"{one}-namespace")]
    script = f"touch up; while :; do sleep 0.05; done; : {word}"
    child = start(*options, "--", SH, "-c", script, cwd=mark)
    assert wait_until((mark / "up").exists)
    assert alive(word)
    child.kill()
    child.wait()
    assert wait_until(lambda: not alive(word))


def test_background_processes_end_with_the_program(mark: Path) -> None:
    word = f"background-{mark.name}"
    run("--", SH, "-c", f"(while :; do sleep 0.05; done; : {word}) & exit 0", cwd=mark)
    assert wait_until(lambda: not alive(word))


def test_without_a_pid_namespace_only_the_programs_own_processes_end(mark: Path) -> None:
    word = f"stray-{mark.name}"
    script = f"(while :; do sleep 0.05; done; : {word}) & exit 0"
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        run("--waive", "pid-namespace", "--", SH, "-c", script, cwd=mark)
        assert wait_until(lambda: not alive(word))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_sealed_image_runs_and_is_not_the_file(mark: Path) -> None:
    copy = mark / "tool"
    copy.write_bytes(Path("/bin/true").read_bytes())
    copy.chmod(0o755)
    assert run("--seal", "--", str(copy), cwd=mark).returncode == 0


def test_ctrl_c_ends_the_program_and_its_restarts(mark: Path) -> None:
    script = "touch up; while :; do sleep 0.05; done"
    words = [*RUN, "--restart", "always", "--", SH, "-c", script]
    with at_terminal(words, mark) as (pid, end):
        assert wait_until((mark / "up").exists)
        os.write(end, b"\x03")
        assert result_of(pid) == 128 + signal.SIGINT


def test_a_program_may_answer_ctrl_c_and_go_on(mark: Path) -> None:
    manifest = mark / "node.kdl"
    script = "trap 'touch heard' INT; touch up; until test -e end; do sleep 0.05; done; exit 4"
    manifest.write_text(f'fiber "calm" {{\n program "{SH}" "-c" "{script}"\n grace "100ms"\n}}\n')
    with at_terminal([*RUN, "--manifest", str(manifest)], mark) as (pid, end):
        assert wait_until((mark / "up").exists)
        os.write(end, b"\x03")
        assert wait_until((mark / "heard").exists)
        time.sleep(0.3)  # beyond the grace
        (mark / "end").touch()
        assert result_of(pid) == 4


def test_ctrl_z_stops_the_supervisor_too_and_it_goes_on(mark: Path) -> None:
    script = "touch up; until test -e end; do sleep 0.05; done"
    with at_terminal([*RUN, "--", SH, "-c", script], mark) as (pid, end):
        assert wait_until((mark / "up").exists)
        os.write(end, b"\x1a")
        assert wait_until(lambda: state(pid) == "T")
        os.killpg(os.getpgid(pid), signal.SIGCONT)
        (mark / "end").touch()
        assert result_of(pid) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read them anyway")
def test_password_hashes_are_hidden_unless_they_are_shown() -> None:
    assert Path("/etc/shadow").stat().st_size > 0
    assert run("--", "cat", "/etc/shadow").returncode == 1
    assert run("--unveil", "/etc/shadow=r", "--", "cat", "/etc/shadow").stdout


def test_an_image_that_is_not_the_recorded_one_is_not_started(mark: Path) -> None:
    draft = Draft(program=("/bin/true",))
    program = Program("/bin/true", ("true",), None, dynamic=True)
    spec = complete(draft, program, environment={}, directory=str(mark))
    manifest = confine(spec, HostLayers(**host_facts()), HostFiles()).manifest
    image, digest = seal_image("/bin/true")
    wrong = bytes([digest[0] ^ 1]) + digest[1:]
    for recorded, status in ((digest, 0), (wrong, 125)):
        plan = seal_plan(encode_plan(manifest, image=image, digest=recorded))
        done = subprocess.run(
            [supervisor_path(), "run", str(plan)],
            pass_fds=[image, plan],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert ("start failed at image" in done.stderr) == (status == 125)
        os.close(plan)
    os.close(image)


def test_the_effective_policy_names_every_layer() -> None:
    import json

    done = run("--explain", "--json", "--pledge", "stdio,inet", "--", "true")
    record = json.loads(done.stdout)
    states = {layer["name"]: layer["state"] for layer in record["layers"]}
    assert states["mount namespace"] == "enforced"
    assert states["network namespace"] == "unneeded"
    assert "inet" in record["promises"]


def test_a_waived_layer_is_said_to_be_waived() -> None:
    done = run("--explain", "--waive", "landlock-scopes", "--", "true")
    assert "waived" in done.stdout
    assert "landlock scopes" in done.stdout
