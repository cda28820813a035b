"""Pledged fibers on the running kernel: the exec gate, refusals, real programs, the install."""

from __future__ import annotations

import errno
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.logic.pledge import DEFAULT_PROMISES, LOADER_PROMISES
from nexus.logic.unveil import Unveil

pytestmark = pytest.mark.slow

DENIED = errno.EPERM


def gate_program(fibers, compiled) -> str:
    folder = fibers.folder / "gate"
    folder.mkdir(exist_ok=True)
    program = folder / "exec_gate"
    return str(program if program.exists() else compiled("exec_gate", folder))


@pytest.mark.parametrize("waived", [frozenset(), frozenset({"mount namespace", "landlock files"})])
def test_a_fiber_without_exec_starts_and_executes_nothing(fibers, compiled, waived) -> None:
    done = fibers.run(gate_program(fibers, compiled), promises=frozenset({"stdio"}), waived=waived)
    # Had the gate's constant stayed in the filter, it would have been let through to EFAULT.
    want = f"execve {DENIED}\nconstant {DENIED}\nnull {DENIED}\nguesses 0\n"
    assert done.stdout.decode() == want, done.stderr


def test_with_exec_the_same_program_executes(fibers, compiled) -> None:
    program = gate_program(fibers, compiled)
    done = fibers.run(program, program, promises=frozenset({"stdio", "rpath", "exec"}))
    assert done.stdout.decode() == "executed\n"


@pytest.mark.parametrize(
    ("disposition", "status"), [("trap", 128 + signal.SIGSYS), ("kill", 128 + signal.SIGSYS)]
)
def test_a_refused_call_ends_the_fiber(fibers, disposition: str, status: int) -> None:
    promises = frozenset({"stdio"}) | LOADER_PROMISES
    done = fibers.run("/bin/mkdir", "/tmp/x", promises=promises, disposition=disposition)
    assert done.returncode == status, done.stderr


def test_the_word_error_answers_instead(fibers) -> None:
    promises = frozenset({"stdio", "error"}) | LOADER_PROMISES
    done = fibers.run("/bin/mkdir", "/tmp/x", promises=promises, disposition="kill")
    assert done.returncode == 1
    assert b"not permitted" in done.stderr


PYTHON = """
import asyncio, fcntl, hashlib, mmap, multiprocessing, os, pty, resource, signal, socket, sqlite3
import ssl, subprocess, sys, tempfile, threading, uuid
os.chdir(sys.argv[1])
assert subprocess.run(["/bin/echo", "x"], capture_output=True, start_new_session=True).stdout
threads = [threading.Thread(target=work) for work in [lambda: None] * 8]
[t.start() for t in threads]
[t.join() for t in threads]
base = sqlite3.connect("x.db")
base.execute("pragma journal_mode=wal")
base.execute("create table t(a)")
base.execute("insert into t values(1)")
base.commit()
ssl.create_default_context()
hashlib.scrypt(b"x", salt=b"y", n=2, r=1, p=1)
uuid.uuid1()
queue = multiprocessing.get_context("fork").Queue()
child = multiprocessing.get_context("fork").Process(target=queue.put, args=(7,))
child.start()
assert queue.get() == 7
child.join()
async def speak():
    process = await asyncio.create_subprocess_exec("/bin/echo", "x", stdout=-1)
    return await process.communicate()
asyncio.run(speak())
left, right = socket.socketpair()
left.send(b"x")
listener = socket.socket(socket.AF_UNIX)
listener.bind("s")
listener.listen()
signal.setitimer(signal.ITIMER_REAL, 60)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
pty.openpty()
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.nice(1)
with open("lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
mmap.mmap(-1, 100).close()
os.memfd_create("x")
os.sync()
os.mkfifo("pipe")
os.chown("lock", -1, -1)
print("done")
"""

PROGRAMS = {
    "bash": "bash -c 'x=$(date); cat <(echo $x); sleep 0 & wait; ulimit -c 0; kill -0 $$'",
    "files": """
        cp -a a b; mv b c; ln c d; ln -s c e; touch c; chmod 600 c; chown :$(id -g) c; stat c; df .
        du -s .; rm c d e; mkfifo p; mktemp; truncate -s 9 a; sync a; install -m 644 a g""",
    "text": """
        seq 100000 | sort -R | sort -n --parallel=2 | tail -1 | grep 100000; sed -i s/a/b/ a
        awk 'BEGIN { "date" | getline d; system("true") }'""",
    "processes": """
        timeout 9 true; nice true; nohup true; setsid true; env true; nproc; id; uname -a""",
    "archives": "tar czf t.tgz a; mkdir x; tar xzf t.tgz -C x; find . -name a; find x -delete",
    "git": """
        git init -q g; cd g; echo a > a; git add a
        git -c user.name=a -c user.email=a@b commit -qm a; git status; git log; git gc -q
        git clone -q . ../h""",
    "gcc": "echo 'int main(void) { return 0; }' > m.c; gcc -c m.c -o m.o; gcc m.o -o m; ./m",
    "perl": """
        perl -e 'use POSIX; fork() or exit; wait; utime 1, 1, "a"; `date`; getpwnam("root")'""",
    "sqlite3": 'sqlite3 z.db "pragma journal_mode=wal; create table t(a); insert into t values(1)"',
    "openssl": "openssl rand -hex 4",
    "flock": "flock l true",
    "script": "script -qc true /dev/null",
}


def workspace(fibers, name: str) -> Path:
    folder = fibers.folder / f"work-{name}"
    folder.mkdir()
    shutil.chown(folder, fibers.user, fibers.user)
    return folder


@pytest.mark.parametrize("name", PROGRAMS)
def test_ordinary_programs_run_under_the_default_policy(fibers, name: str) -> None:
    if name not in ("files", "text", "processes", "archives") and shutil.which(name) is None:
        pytest.skip(f"{name} is not here, so whether it runs confined is not checked")
    folder = workspace(fibers, name)
    done = fibers.shell(
        f"cd {folder}; export HOME=$PWD; echo a > a; set -e; {PROGRAMS[name]}",
        unveil=(Unveil(str(folder), "rwxc"),),
        disposition="trap",
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"ad system call" not in done.stderr, done.stderr.decode()


def test_python_runs_under_the_default_policy(fibers) -> None:
    base = Path(sys.base_prefix)
    python = f"{base}/bin/python3"
    if subprocess.run(["ls", base], capture_output=True, **fibers.identity()).returncode != 0:
        base, python = Path("/usr"), "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip(f"uid {fibers.user} reaches no Python; how it runs confined is not checked")
    folder = workspace(fibers, "python")
    (folder / "work.py").write_text(PYTHON)
    done = fibers.shell(
        f"exec {python} {folder}/work.py {folder}",
        unveil=(Unveil(str(folder), "rwxc"), Unveil(str(base), "rx")),
        promises=DEFAULT_PROMISES, disposition="trap",
    )  # fmt: skip
    assert done.stdout == b"done\n", done.stderr.decode()


INSTALL = """
import os, time
from nexus.logic.pledge import DEFAULT_PROMISES, compile_pledge
from nexus.physics import Action, SeccompFilter
code, _ = compile_pledge(DEFAULT_PROMISES, "deny", os.uname().machine)
filters = {"pledge": SeccompFilter.from_bytes(code)}
filters["nothing"] = SeccompFilter.compile([], default=Action.ALLOW)
for _ in range(30):
    for name, filter_ in filters.items():
        if os.fork() == 0:
            start = time.perf_counter_ns()
            filter_.install(no_new_privs=True)
            os.write(1, f"{name} {time.perf_counter_ns() - start}\\n".encode())
            os._exit(0)
        os.wait()
"""


def test_installing_the_default_filter_is_cheap() -> None:
    done = subprocess.run([sys.executable, "-c", INSTALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    times: dict[str, list[int]] = {}
    for line in done.stdout.splitlines():
        name, number = line.split()
        times.setdefault(name, []).append(int(number))
    pledge, nothing = (statistics.median(times[name]) / 1000 for name in ("pledge", "nothing"))
    print(f"install: default pledge {pledge:.0f} us, empty filter {nothing:.0f} us (median of 30)")
    # The target of 100 us is for a quiet machine; this bound is for any.
    assert pledge < max(1000, 40 * nothing)


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["--unveil", "data=r", "--", "cat", "data/input"], "hello\n"),
        (["--unveil", "../here/data=r", "--", "pwd"], "HERE\n"),
        (["--", "pwd"], "HERE\n"),
        (["--unveil", "/usr=rx", "--", "pwd"], "/\n"),
    ],
)
def test_the_command_stays_in_its_directory_where_it_is_shown(fibers, words, out: str) -> None:
    if fibers.identity():
        pytest.skip("the command is run as the user of the tests")
    folder = fibers.folder / "here"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "input").write_text("hello\n")
    code = "import sys; from nexus.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.replace("HERE", str(folder))
