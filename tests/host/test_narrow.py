"""Pledge at run time: it narrows every thread for good, and widening is refused and logged."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from nexus.errors import DeniedError, PledgeError
from nexus.logic import narrow
from nexus.physics.seccomp import seccomp_capabilities

pytestmark = pytest.mark.skipif(
    not seccomp_capabilities().available, reason="no seccomp filters: run-time pledge unchecked"
)


def program(text: str) -> subprocess.CompletedProcess[str]:
    head = (
        "import os, threading, logging, sys\n"
        "from nexus.logic.narrow import pledge, held\n"
        "from nexus.errors import DeniedError\n"
        "wide = 'stdio rpath wpath cpath prot_exec proc unveil'\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + text], capture_output=True, text=True, check=False
    )


def test_a_refused_call_ends_the_process_and_a_promised_one_does_not() -> None:
    text = "pledge('stdio rpath'){}\nos.stat('/')\nprint('read', flush=True)\nos.mkdir('/tmp/nx')"
    assert program(text.format("")).returncode == -signal.SIGSYS
    assert program(text.format("")).stdout == "read\n"
    # The canary: without the pledge nothing stops it.
    free = program("os.stat('/')\nos.access('/tmp', os.W_OK)")
    assert free.returncode == 0


def test_narrowing_twice_takes_away_twice() -> None:
    done = program(
        "pledge('stdio rpath error')\nos.listdir('/')\npledge('stdio error')\n"
        "try: os.listdir('/')\nexcept PermissionError: print('closed', sorted(held()))"
    )
    assert done.stdout == "closed ['error', 'stdio']\n", done.stderr


def test_widening_is_refused_and_logged() -> None:
    done = program(
        "pledge('stdio rpath')\n"
        "try: pledge('stdio rpath wpath')\n"
        "except DeniedError as error: print(error.errno, sorted(held()))"
    )
    assert done.stdout == "1 ['rpath', 'stdio']\n", done.stderr
    assert "wpath is not held any more" in done.stderr


def test_after_error_widening_is_answered_by_what_both_have() -> None:
    done = program(
        "pledge('stdio rpath error')\nprint(sorted(pledge('stdio wpath')))\n"
        "try: os.listdir('/')\nexcept PermissionError: print('closed')"
    )
    assert done.stdout == "['error', 'stdio']\nclosed\n", done.stderr


def test_threads_that_run_already_are_narrowed_too() -> None:
    done = program(
        "go, out = threading.Event(), []\n"
        "def work():\n"
        "    go.wait()\n"
        "    try: out.append(os.listdir('/') and 'open')\n"
        "    except PermissionError: out.append('closed')\n"
        "thread = threading.Thread(target=work)\nthread.start()\n"
        "pledge('stdio error')\ngo.set()\nthread.join()\nprint(out)"
    )
    assert done.stdout == "['closed']\n", done.stderr


def test_children_and_what_they_execute_inherit_it() -> None:
    done = program(
        "pledge('stdio rpath prot_exec proc exec error')\n"
        "os.execv('/bin/mkdir', ['mkdir', '/tmp/nexus-narrow'])"
    )
    assert done.returncode == 1
    assert "not permitted" in done.stderr


def test_what_cannot_be_held_changes_nothing() -> None:
    with pytest.raises(PledgeError) as caught:
        narrow.pledge("stdio", "stdio")
    assert caught.value.hint
    with pytest.raises(PledgeError):
        narrow.pledge("stdio network")
    assert narrow.held() is None
    assert issubclass(DeniedError, PermissionError)
