"""The running kernel takes compiled filters and decides as the simulation says.

Each filter is installed in a process of its own, as it cannot be taken back.
"""

import json
import platform
import re
import shutil
import signal
import subprocess
import sys

import pytest

from nexus.physics import seccomp_capabilities, syscalls

pytestmark = pytest.mark.slow

PROLOGUE = """
import ctypes, errno, json, os, random, signal, sys, threading
from nexus.physics import (
    Action, ArgumentTest, SeccompFilter, SeccompRule, syscall_mask, syscalls,
)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
table = syscalls()

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(
        ctypes.c_long(number), *(ctypes.c_ulong(a) for a in arguments)
    )
    return -ctypes.get_errno() if result == -1 else result

def rule(*names, action, tests=()):
    return SeccompRule(names, action, tests)
"""


@pytest.fixture(scope="module")
def offers():
    found = seccomp_capabilities()
    if not found.available:
        pytest.skip("filters not checked on a kernel: it has none (CONFIG_SECCOMP_FILTER)")
    return found


@pytest.fixture
def child(offers):
    def run(text, wanted=0):
        done = subprocess.run(
            [sys.executable, "-c", PROLOGUE + text], capture_output=True, text=True
        )
        assert done.returncode == wanted, done.stderr
        return json.loads(done.stdout) if wanted == 0 else None

    return run


# Calls without effect, and what an allowed lseek on no file gives.
HARMLESS = ["getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "sched_yield"]


def test_kernel_agrees_with_simulation_on_random_sets(child):
    wrong = child(f"""
source = random.Random(7)
names = {HARMLESS!r}
denied = [name for name in names if source.random() < 0.5]
extra = [n for n in range(480, 500) if source.random() < 0.5]
filter_ = SeccompFilter.compile(
    [rule(*denied, *extra, action=Action.errno(77))], default=Action.ALLOW
)
filter_.install(no_new_privs=True)
wrong = []
for name in names + extra:
    number = table.get(name, name)
    got = call(number) == -77
    if got != (filter_.simulate(number) == Action.errno(77)) or got != (name in denied + extra):
        wrong.append(name)
print(json.dumps([len(denied), len(extra), wrong]))
""")
    assert wrong[0] > 0
    assert wrong[1] > 0
    assert wrong[2] == []


@pytest.mark.parametrize("shape", ["tree", "words"])
def test_kernel_takes_both_shapes_of_a_mask(child, shape):
    got = child(f"""
mask = bytearray(b"\\xff" * 64)
number = table["getppid"]
mask[number // 8] &= ~(1 << number % 8)
filter_ = SeccompFilter.from_mask(mask, default=Action.errno(77), shape={shape!r})
filter_.install(no_new_privs=True)
print(json.dumps([call(number), call(table["getpid"]) == os.getpid(), call(table["clone3"], 0, 0)]))
""")
    assert got == [-77, True, -38]


def test_kernel_agrees_on_64_bit_arguments(child):
    wrong = child("""
test = ArgumentTest.between(1, 5, (3 << 32) + 2, width=64)
low = ArgumentTest.masked(2, 0xF0, 0x10, width=32)
filter_ = SeccompFilter.compile(
    [rule("lseek", action=Action.errno(77), tests=(test, ~low))], default=Action.ALLOW
)
filter_.install(no_new_privs=True)
wrong = []
for offset in (0, 4, 5, 6, 1 << 32, 3 << 32, (3 << 32) + 2, (3 << 32) + 3, 1 << 63, 2**64 - 1):
    for whence in (0, 0x10, 0x11, 0x20, 0x10 | 1 << 32):
        arguments = (2**64 - 1, offset, whence)
        simulated = filter_.simulate("lseek", arguments)
        want = -77 if simulated == Action.errno(77) else -errno.EBADF
        if call(table["lseek"], *arguments) != want:
            wrong.append(arguments)
print(json.dumps(wrong))
""")
    assert wrong == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 exists on x86-64 alone")
def test_x32_numbers_are_closed(child):
    got = child("""
filter_ = SeccompFilter.compile([], default=Action.ALLOW, foreign=Action.errno(99))
filter_.install(no_new_privs=True)
print(json.dumps(call(table["getpid"] | 1 << 30)))
""")
    assert got == -99


ENTRY_32 = """
#include <errno.h>
long enter_32(long number)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number) : "memory", "r8", "r9", "r10", "r11");
    return result;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 exists on x86-64 alone")
def test_32_bit_entry_is_closed(child, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("32-bit entry not checked: no C compiler; apt-get install gcc")
    (tmp_path / "entry.c").write_text(ENTRY_32)
    library = tmp_path / "entry.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "entry.c"], check=True)
    before, after = child(f"""
entry = ctypes.CDLL({str(library)!r})
before = entry.enter_32(20) == os.getpid()
SeccompFilter.compile([], default=Action.ALLOW, foreign=Action.errno(99)).install(no_new_privs=True)
print(json.dumps([before, entry.enter_32(20)]))
""")
    if not before:
        pytest.skip("32-bit entry not checked: this kernel has none (CONFIG_IA32_EMULATION)")
    assert after == -99


def test_trap_delivers_its_data(child):
    got = child("""
seen = []
class Info(ctypes.Structure):
    _fields_ = [("signo", ctypes.c_int), ("errno", ctypes.c_int), ("code", ctypes.c_int)]
handler_type = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(Info), ctypes.c_void_p)
handler = handler_type(lambda n, info, context: seen.append([n, info.contents.errno]))
class Sigaction(ctypes.Structure):
    _fields_ = [("handler", handler_type), ("mask", ctypes.c_ulong * 16),
                ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
action = Sigaction(handler=handler, flags=4)
assert libc.sigaction(signal.SIGSYS, ctypes.byref(action), None) == 0
SeccompFilter.compile(
    [rule("getppid", action=Action.trap(9))], default=Action.ALLOW
).install(no_new_privs=True)
call(table["getppid"])
print(json.dumps(seen))
""")
    assert got == [[signal.SIGSYS, 9]]


def test_kill_process_kills(child):
    child(
        """
SeccompFilter.compile(
    [rule("getppid", action=Action.KILL_PROCESS)], default=Action.ALLOW
).install(no_new_privs=True)
call(table["getppid"])
""",
        wanted=-signal.SIGSYS,
    )


def test_thread_sync_reaches_threads_that_run(child, offers):
    if not offers.flags["thread_sync"]:
        pytest.skip("thread_sync not checked: this kernel does not know the flag")
    got = child("""
start, done, results = threading.Event(), threading.Event(), []
def work():
    start.set()
    done.wait()
    results.append(call(table["getppid"]))
thread = threading.Thread(target=work)
thread.start()
start.wait()
SeccompFilter.compile(
    [rule("getppid", action=Action.errno(77))], default=Action.ALLOW
).install(no_new_privs=True, thread_sync=True)
done.set()
thread.join()
print(json.dumps(results))
""")
    assert got == [-77]


def test_listener_is_a_descriptor_and_its_close_ends_the_service(child, offers):
    if not offers.flags["listener"]:
        pytest.skip("listener not checked: this kernel does not know the flag")
    got = child("""
fd = SeccompFilter.compile(
    [rule("getppid", action=Action.NOTIFY)], default=Action.ALLOW
).install(no_new_privs=True, listener=True)
kind = os.readlink(f"/proc/self/fd/{fd}")
os.close(fd)
print(json.dumps([fd > 2, kind, call(table["getppid"])]))
""")
    assert got == [True, "anon_inode:seccomp notify", -38]


def test_install_without_the_right_is_refused(child):
    got = child("""
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    SeccompFilter.compile([], default=Action.ALLOW).install(no_new_privs=False)
    print("0")
except OSError as error:
    print(error.errno)
""")
    assert got == 13


def test_table_is_that_of_the_headers(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("table not compared: no C compiler; apt-get install gcc libc6-dev")
    done = subprocess.run(
        [compiler, "-E", "-dM", "-x", "c", "-"],
        input="#include <sys/syscall.h>\n",
        capture_output=True,
        text=True,
        check=True,
    )
    found = {n: int(v) for n, v in re.findall(r"^#define __NR_(\w+) (\d+)$", done.stdout, re.M)}
    found.pop("syscalls", None)
    assert len(found) > 300
    table = syscalls()
    assert {name: table.get(name) for name in found} == found
