"""Learning believes of a process's memory only what was read while its call waited."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nexus.physics.seccomp import seccomp_capabilities

pytestmark = pytest.mark.skipif(
    not seccomp_capabilities().actions["notify"],
    reason="this kernel notifies nobody (Linux 5.5): nothing of `--learn` was checked here",
)

# In a process of its own, because a watcher ends all that is below it. `stolen` is a call of the
# program as it looks when the number of its process is another's: here that of the watcher itself,
# which has the path of a secret where the call points to.
REUSED = """
import ctypes, os, signal
from dataclasses import replace
from nexus.cli.learn import observe
from nexus.logic.learn import Lesson, learning_filter
from nexus.physics.files import HostFiles
from nexus.physics.syscalls import native_machine, syscalls
from nexus.physics.watch import Watch

machine = native_machine()
environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
words = ("sh", "-c", "cd /; cat etc/hostname; sleep 60")
watch = Watch("/bin/sh", words, environment, learning_filter(machine))
secret = ctypes.create_string_buffer(b"/etc/passwd")
numbers = syscalls(machine)


def learnt(call):
    lesson = Lesson(machine)
    error, relative = observe(watch, call, lesson, HostFiles(), start=False)
    assert not error
    return sorted(lesson.touched), lesson.problems, sorted(lesson.calls.values()), relative


killed = False
for call in watch.calls():
    if call.number != numbers["openat"] or killed:
        watch.let(call)
        continue
    arguments = (0xFFFFFF9C, ctypes.addressof(secret), 0, 0, 0, 0)
    stolen = replace(call, thread=os.getpid(), arguments=arguments)
    nobody = replace(call, thread=2**22, arguments=arguments)  # more than a pid can be
    print(learnt(stolen))
    os.kill(watch.pid, signal.SIGKILL)
    os.waitid(os.P_PID, watch.pid, os.WEXITED | os.WNOWAIT)
    killed = True
    print(learnt(stolen))
    print(learnt(nobody))
    watch.measure(stolen)
    print(watch.usage.memory, watch.usage.files)
    if BELIEVES:
        Watch.waits = lambda self, call: True
        print(learnt(stolen))
    watch.let(call)
assert watch.result() == -signal.SIGKILL
"""
BELIEVED = "(['/etc/passwd'], [], ['openat'], False)"
NOTHING = "([], [], [], False)"


def ran(believes: bool) -> list[str]:
    code = REUSED.replace("BELIEVES", str(believes))
    words = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_memory_of_a_process_with_a_reused_number_is_not_believed() -> None:
    assert ran(believes=False) == [BELIEVED, NOTHING, NOTHING, "0 0"]


def test_a_watcher_that_does_not_ask_whether_a_call_waits_is_found_out() -> None:
    assert ran(believes=True)[4] == BELIEVED
