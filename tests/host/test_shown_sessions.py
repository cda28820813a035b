"""The sessions that README and guides show happen: commands run in order, and say what is shown.

The lines between `$ ` are compared with what one bash and its children print, after `normal`. A
command in the background is awaited until it has printed what is shown; a command that only looks
is repeated until it says what is shown, for ten seconds: who reads a README is slower than a shell.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nexus.errors import AbsentError
from nexus.physics.supervisor import host_facts, supervisor_path

ROOT = Path(__file__).resolve().parents[2]
# Where the commands are shown to run, and the heading above them, if not all of the text is meant.
SESSIONS = {
    "README.md": ("/home/you", "## A session\n"),
    "docs/guides/run.md": ("/srv/job", ""),
    "docs/guides/volumes.md": ("/srv/box", ""),
}
WAIT_S = 10.0
MARK = "-- end of a command --"
LOOKS = ("nexus status", "nexus fiber", "nexus stl", "tail ")
# What varies from run to run, and what stands for it. Everything else is compared as it is.
VARIES = (
    (r"\d+\.\d+", "TIME"),
    (r"\d+ ms", "TIME"),
    (r"\bpid \d+", "pid PID"),
    (r"(?m)^((?:pulse|digest|lazarus|L1) .*) \d+$", r"\1 PID"),  # the last column
    (r"(?m)^(digest .*) \d+ PID$", r"\1 SAVED PID"),  # it saves once a second
    (r"\d+ events", "COUNT events"),
    (r"\d+ wake-ups", "COUNT wake-ups"),
    (r"^\d+ records", "COUNT records"),
    (r"by [0-9a-f]{16}", "by KEY"),
    (r"\b[0-9a-f]{32}\b", "ID"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "WHEN"),
    (r"\d+ B (new|stored)", r"COUNT B \1"),
    (r"\d+ B for it", "COUNT B for it"),
    (r"objects, \d+ B:", "objects, COUNT B:"),  # compressed, with times and owners
    (r"^sh: (line )?\d+: ", "sh: LINE: "),  # as dash and bash say it
    (r"cannot create me: |me: ", "me: "),
)


@dataclass(frozen=True)
class Step:
    """A command and what it prints."""

    command: str
    text: str


def normal(text: str, home: str = "HOME") -> list[str]:
    """Lines without what varies, columns one space apart."""
    text = text.replace(home, "HOME")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for pattern, word in VARIES:
        lines = [re.sub(pattern, word, line) for line in lines]
    return lines


def shown(path: str) -> list[Step]:
    """The commands of a text, with what it says that they print."""
    home, heading = SESSIONS[path]
    text = (ROOT / path).read_text()
    if heading:
        text = text.partition(heading)[2].partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S)
    parts = re.split(r"^\$ (.*)\n", "".join(blocks).replace(home, "HOME"), flags=re.M)
    assert parts[0] == ""
    return [Step(command, text) for command, text in zip(parts[1::2], parts[2::2], strict=True)]


def differences(wanted: list[Step], got: list[Step], home: str) -> list[str]:
    """What is shown that did not happen so."""
    return [
        f"$ {one.command}\nshown: {normal(one.text)}\ncame:  {normal(other.text, home)}"
        for one, other in zip(wanted, got, strict=True)
        if normal(one.text) != normal(other.text, home)
    ]


class Shell:
    """One bash, told one command after the other."""

    def __init__(self, home: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)},
            cwd=home,
        )
        self.home = str(home)

    def _more(self, until: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0, until - time.time()))
        return os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""

    def once(self, command: str, wanted: str) -> str:
        """What a command prints; in the background, until it has printed what is wanted."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\nprintf '%s\\n' '{MARK}'\n".encode())
        self._process.stdin.flush()
        seen, until = b"", time.time() + 3 * WAIT_S
        while time.time() < until:
            text = seen.decode("utf-8", "replace")
            said = text.replace(f"{MARK}\n", "", 1)
            enough = not command.endswith("&") or normal(said, self.home) == normal(wanted)
            if MARK in text and enough:
                return said
            part = self._more(until)
            if not part and self._process.poll() is not None:
                break
            seen += part
        return seen.decode("utf-8", "replace").replace(f"{MARK}\n", "", 1)

    def run(self, step: Step) -> Step:
        """The step as it came."""
        until = time.time() + WAIT_S
        while True:
            got = self.once(step.command, step.text)
            same = normal(got, self.home) == normal(step.text)
            if same or not step.command.startswith(LOOKS) or time.time() > until:
                return Step(step.command, got)

    def close(self) -> None:
        """End it, and the node that it may have left: that one ends when its boot is gone."""
        lock = Path(self.home, ".local/share/nexus/run/lock")
        if self._process.poll() is None and lock.exists():
            self.once("kill %1 2> /dev/null; wait", "")
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module", params=SESSIONS)
def session(request: pytest.FixtureRequest) -> Iterator[tuple[list[Step], list[Step], str]]:
    """What is shown, what came, and the home of it."""
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"{request.param}: its session was not run: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"{request.param}: its session was not run, this host lacks layers: {facts}")
    # Not below /tmp, which fibers have anew.
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as folder:
        shell = Shell(Path(folder))
        try:
            steps = shown(request.param)
            yield steps, [shell.run(step) for step in steps], folder
        finally:
            shell.close()


@pytest.mark.slow
def test_a_shown_session_happens(session) -> None:
    steps, got, home = session
    assert not differences(steps, got, home)


@pytest.mark.slow
def test_a_changed_line_is_noticed(session) -> None:
    steps, got, home = session
    changes = 0
    for number, step in enumerate(steps):
        lines = step.text.splitlines(keepends=True)
        for at, line in enumerate(lines):
            if not line.strip():
                continue
            for other in ("", "something else\n", line[:-2] + "~\n"):
                text = "".join([*lines[:at], other, *lines[at + 1 :]])
                changed = [*steps[:number], Step(step.command, text), *steps[number + 1 :]]
                assert len(differences(changed, got, home)) == 1, (line, other)
                changes += 1
    assert changes >= 20
    for before, after in (("died 1 times", "died 0 times"), ("life 2", "life 3"), ("6", "5")):
        assert normal(before) != normal(after)


def test_what_varies_is_all_that_is_left_out() -> None:
    for one, other in (
        ("state up, for 1.8 s, pid 2669", "state up, for 12.25 s, pid 1"),
        ("digest alive 1 0 - - - 4 31389", "digest alive  1  0  -  -  -  17  9"),
        ("16 records in 1 files: 14 events", "17 records in 1 files: 15 events"),
    ):
        assert normal(one) == normal(other)
    for one, other in (
        ("lazarus alive 2 1 - - - 1 7", "lazarus alive 2 1 - - - 2 7"),
        ("digest alive 1 0 - - - 4 31389", "digest alive 1 1 - - - 4 31389"),
        ("14 events, 1 seals by 0123456789abcdef", "14 events, 2 seals by 0123456789abcdef"),
        ("life 2: died 1 times before", "life 2: died 0 times before"),
    ):
        assert normal(one) != normal(other)
