"""Promises: what each one opens, by simulation of its filter on all three machines.

The table re-expresses pledge(2) for Linux: each row is a call that a promise opens, and each is
checked to be closed by all others that do not open it too.
"""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import PledgeError
from nexus.logic.pledge import (
    DEFAULT_PROMISES,
    compile_pledge,
    founding_mask,
    parse_promises,
    promise_mask,
)
from nexus.logic.promises import ABSENT, CALLS, PROMISES
from nexus.physics.seccomp import Action, SeccompFilter
from nexus.physics.syscalls import syscalls

MACHINES = ("x86_64", "aarch64", "riscv64")
INSTRUCTIONS_MAX = 210  # of the sets that people use
INSTRUCTIONS_LIMIT = 250  # of any; a set with gaps makes more ranges than one without
TRAP = Action.trap()
FREE = frozenset(PROMISES)

O_CREAT, O_TRUNC, O_RDWR, O_WRONLY, O_TMPFILE = 0o100, 0o1000, 2, 1, 0o20200000
PROT_EXEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 4, 1, 2, 10, 16, 17
THREAD = 0x3D0F00
PATH = 0x7FFF_1234_5678


def compiled(promises, machine="x86_64", disposition="trap") -> SeccompFilter:
    code, _ = compile_pledge(frozenset(promises), disposition, machine)
    return SeccompFilter.from_bytes(code, machine=machine)


FILTERS: dict[tuple[frozenset[str], str], SeccompFilter] = {}


def verdict(promises, call: str, arguments=(), machine: str = "x86_64") -> Action:
    key = frozenset(promises), machine
    if key not in FILTERS:
        FILTERS[key] = compiled(*key)
    return FILTERS[key].simulate(call, arguments)


# Call and arguments, and the sets of promises (each with stdio) of which any one opens it.
OPENS: list[tuple[str, tuple[int, ...], set[str]]] = [
    ("open", (PATH, 0), {"rpath"}),
    ("openat", (PATH, PATH, 0), {"rpath"}),
    ("openat", (PATH, PATH, O_WRONLY), {"wpath"}),
    ("openat", (PATH, PATH, O_RDWR), set()),
    ("openat", (PATH, PATH, O_WRONLY | O_TRUNC), {"wpath"}),
    ("openat", (PATH, PATH, O_CREAT), set()),
    ("openat", (PATH, PATH, O_CREAT | O_WRONLY), set()),
    ("openat", (PATH, PATH, O_TMPFILE | O_RDWR), set()),
    ("creat", (PATH, 0o644), set()),
    ("stat", (PATH,), {"rpath"}),
    ("newfstatat", (PATH, PATH, PATH, 0), {"rpath"}),
    ("access", (PATH,), {"rpath"}),
    ("readlink", (PATH,), {"rpath"}),
    ("chdir", (PATH,), {"rpath"}),
    ("getdents64", (3,), {"rpath"}),
    ("truncate", (PATH, 0), {"wpath"}),
    ("mkdir", (PATH,), {"cpath"}),
    ("unlink", (PATH,), {"cpath"}),
    ("renameat2", (PATH,), {"cpath"}),
    ("symlink", (PATH,), {"cpath"}),
    ("mknod", (PATH, 0o010644), {"dpath"}),
    ("mknod", (PATH, 0o020644), set()),
    ("mknod", (PATH, 0o060644), set()),
    ("chmod", (PATH, 0o755), {"fattr"}),
    ("chmod", (PATH, 0o4755), set()),
    ("fchmodat", (PATH, PATH, 0o2755), set()),
    ("utimensat", (PATH,), {"fattr"}),
    ("setxattr", (PATH,), {"fattr"}),
    ("chown", (PATH, 0, 0), {"chown"}),
    ("fchownat", (PATH,), {"chown"}),
    ("flock", (3, 2), {"flock"}),
    ("fcntl", (3, 6), {"flock"}),
    ("fcntl", (3, 8), {"proc"}),
    ("ioctl", (0, 0x5402), {"tty"}),
    ("ioctl", (0, 0x5412), set()),  # TIOCSTI
    ("ioctl", (0, 0x541C), set()),  # TIOCLINUX
    ("ioctl", (0, 0x5423), set()),  # TIOCSETD
    ("ioctl", (0, 0x40049409), {"wpath"}),
    ("ioctl", (3, 0x4112), {"audio"}),
    ("ioctl", (3, 0x5601), {"video"}),
    ("fork", (), {"proc"}),
    ("clone", (17,), {"proc"}),
    ("clone", (17 | 0x10000000,), set()),  # CLONE_NEWUSER
    ("clone", (17 | 0x80,), set()),  # CLONE_NEWTIME
    ("kill", (1, 9), {"proc"}),
    ("setsid", (), {"proc"}),
    ("setpriority", (), {"proc"}),
    ("prlimit64", (0, 7, PATH), {"proc"}),
    ("execve", (PATH,), {"exec"}),
    ("execveat", (-1 & 2**64 - 1, PATH), {"exec"}),
    ("mmap", (0, 4096, PROT_EXEC | 1), {"prot_exec"}),
    ("mprotect", (PATH, 4096, PROT_EXEC), {"prot_exec"}),
    ("socket", (AF_UNIX, 1, 0), {"unix", "getpw"}),
    ("socket", (AF_INET, 1, 0), {"inet", "dns", "mcast"}),
    ("socket", (AF_INET6, 2 | 0x80000, 17), {"inet", "dns", "mcast"}),
    ("socket", (AF_INET, 3, 1), set()),  # raw
    ("socket", (AF_NETLINK, 3, 0), {"route", "inet", "dns"}),
    ("socket", (AF_NETLINK, 3, 12), set()),  # packet filters
    ("socket", (AF_PACKET, 3, 0), set()),
    ("socketpair", (AF_INET, 1), set()),
    ("sendto", (3, PATH, 1, 0, PATH, 16), {"unix", "inet", "mcast", "dns", "getpw", "route"}),
    ("connect", (3,), {"unix", "inet", "mcast", "dns", "getpw", "route"}),
    ("listen", (3,), {"unix", "inet"}),
    ("accept4", (3,), {"unix", "inet"}),
    ("sendmsg", (3,), {"sendfd", "unix", "inet", "mcast", "dns", "getpw", "route"}),
    ("recvmsg", (3,), {"recvfd", "unix", "inet", "mcast", "dns", "getpw", "route"}),
    ("settimeofday", (), {"settime"}),
    ("clock_settime", (), {"settime"}),
    ("setuid", (0,), {"id"}),
    ("setgroups", (), {"id"}),
    ("landlock_restrict_self", (), {"unveil"}),
    ("seccomp", (), {"unveil"}),
]
# What takes two promises.
PAIRS: list[tuple[str, tuple[int, ...], frozenset[str]]] = [
    ("openat", (PATH, PATH, O_RDWR), frozenset({"rpath", "wpath"})),
    ("openat", (PATH, PATH, O_CREAT), frozenset({"rpath", "cpath"})),
    ("openat", (PATH, PATH, O_CREAT | O_WRONLY), frozenset({"wpath", "cpath"})),
    ("creat", (PATH, 0o644), frozenset({"wpath", "cpath"})),
]
# What stdio alone is for.
STDIO: list[tuple[str, tuple[int, ...]]] = [
    ("read", (0,)),
    ("write", (1,)),
    ("mmap", (0, 4096, 3)),
    ("newfstatat", (3, PATH, PATH, 0x1000)),
    ("clone", (THREAD,)),
    ("sendto", (3, PATH, 1, 0, 0, 0)),
    ("socketpair", (AF_UNIX, 1)),
    ("ioctl", (0, 0x5401)),
    ("fcntl", (0, 4)),
    ("prlimit64", (0, 7, 0)),
    ("prctl", (15,)),
    ("personality", (0xFFFFFFFF,)),
    ("exit_group", (0,)),
    ("futex", ()),
]
# Closed whatever is promised.
NEVER = [
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "kexec_load",
    "kexec_file_load", "mount", "umount2", "pivot_root", "chroot", "move_mount", "fsopen",
    "fsmount", "open_tree", "mount_setattr", "reboot", "init_module", "finit_module",
    "delete_module", "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd",
    "quotactl", "quotactl_fd", "swapon", "swapoff", "acct", "sethostname", "setdomainname",
    "iopl", "ioperm", "modify_ldt", "setns", "unshare", "open_by_handle_at", "fanotify_init",
    "syslog", "vhangup", "capset", "shmget", "semget", "msgget", "mq_open", "io_setup",
    "lookup_dcookie", "nfsservctl", "uselib", "_sysctl", "process_madvise", "remap_file_pages",
]  # fmt: skip
SOFT = ["clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register"]


@pytest.mark.parametrize(("call", "arguments", "promises"), OPENS)
def test_a_call_is_opened_by_its_promises_alone(call, arguments, promises) -> None:
    for word in PROMISES:
        got = verdict({"stdio", word} - {"error"}, call, arguments) == Action.ALLOW
        assert got == (word in promises), word
    if not promises:
        closed = verdict(FREE - {"error"}, call, arguments) != Action.ALLOW
        together = call in ("openat", "creat")  # each of these takes two promises
        assert closed != together


@pytest.mark.parametrize(("call", "arguments", "both"), PAIRS)
def test_some_calls_take_two_promises(call, arguments, both) -> None:
    assert verdict(both | {"stdio"}, call, arguments) == Action.ALLOW
    for word in both:
        without = FREE - {word, "error"}
        assert verdict(without, call, arguments) == TRAP


@pytest.mark.parametrize(("call", "arguments"), STDIO)
def test_stdio_has_what_every_program_needs(call, arguments) -> None:
    assert verdict({"stdio"}, call, arguments) == Action.ALLOW
    assert (verdict({"flock"}, call, arguments) == Action.ALLOW) == (call == "exit_group")


@pytest.mark.parametrize("machine", MACHINES)
def test_some_calls_are_closed_to_all(machine: str) -> None:
    known = syscalls(machine)
    present = [call for call in NEVER if call in known]
    assert len(present) > 30
    for call in present:
        for first in (0, 1, 0xFFFFFFFF):
            assert verdict(FREE - {"error"}, call, (first,) * 6, machine) == TRAP, call
    for call in SOFT:
        assert verdict(FREE, call, (), machine) == Action.errno(38), call


@pytest.mark.parametrize("machine", MACHINES)
def test_foreign_entries_end_the_process(machine: str) -> None:
    filter_ = compiled(FREE, machine)
    for arch in (0x40000003, 0x40000028, 0xC000003E, 0xC00000B7, 0xC00000F3):
        if filter_.simulate("getpid", arch=arch) == Action.ALLOW:
            own = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
            assert arch == own[machine]
    if machine == "x86_64":
        x32 = filter_.simulate(39 | 0x40000000)
        assert x32 == Action.KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
def test_filters_are_short(machine: str) -> None:
    sets = [DEFAULT_PROMISES, FREE, FREE - {"exec"}, frozenset()]
    sets += [frozenset({word}) for word in PROMISES]
    sets += [frozenset(pair) for pair in combinations(PROMISES, 2)]
    sizes = [len(compiled(one, machine)) for one in sets]
    print(f"{machine}: default {sizes[0]}, all {sizes[1]}, longest {max(sizes)}")
    assert max(sizes) <= INSTRUCTIONS_MAX


@given(st.sets(st.sampled_from(PROMISES)), st.sampled_from(MACHINES))
def test_any_set_is_short(promises: set[str], machine: str) -> None:
    assert len(compiled(promises, machine)) <= INSTRUCTIONS_LIMIT


probes = st.sampled_from(sorted(OPENS, key=str)).map(lambda row: row[:2]) | st.tuples(
    st.integers(0, 470), st.tuples(*[st.integers(0, 2**64 - 1)] * 6)
)


@given(st.sets(st.sampled_from(PROMISES)), st.sets(st.sampled_from(PROMISES)), probes)
def test_more_promises_close_nothing(fewer: set[str], more: set[str], probe) -> None:
    wide = (fewer | more) - {"error"}
    if verdict(fewer - {"error"}, *probe) == Action.ALLOW:
        assert verdict(wide, *probe) == Action.ALLOW


@given(st.sets(st.sampled_from(PROMISES)), probes, st.sampled_from(["deny", "trap", "kill"]))
def test_disposition_changes_nothing_but_the_refusal(promises, probe, disposition) -> None:
    plain = promises - {"error"}
    got = compiled(plain, disposition=disposition).simulate(*probe)
    want = verdict(plain, *probe)
    if want == TRAP:
        want = {"deny": Action.errno(1), "trap": TRAP, "kill": Action.KILL_PROCESS}[disposition]
    assert got == want


@pytest.mark.parametrize("disposition", ["deny", "trap", "kill"])
def test_the_word_error_means_deny(disposition: str) -> None:
    filter_ = compiled({"stdio", "error"}, disposition=disposition)
    assert filter_.simulate("ptrace") == Action.errno(1)
    assert filter_.simulate("read") == Action.ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_exec_gate_is_where_the_supervisor_writes(machine: str) -> None:
    code, gate = compile_pledge(frozenset({"stdio"}), "trap", machine)
    address = 0x12_3456_7ABC
    written = bytearray(code)
    for index, half in ((gate, address >> 32), (gate + 2, address & 0xFFFFFFFF)):
        written[index * 8 + 4 : index * 8 + 8] = half.to_bytes(4, "little")
    filter_ = SeccompFilter.from_bytes(bytes(written), machine=machine)
    assert filter_.simulate("execveat", (3, address, 0, 0, 0x1000)) == Action.ALLOW
    for wrong in (0, address + 1, address ^ 1 << 32, 0x4E58_4755_5445_4741):
        assert filter_.simulate("execveat", (3, wrong, 0, 0, 0x1000)) == TRAP
    assert filter_.simulate("execve", (address,)) == TRAP
    assert compile_pledge(frozenset({"stdio", "exec"}), "trap", machine)[1] == 0xFFFFFFFF


def test_every_call_of_the_table_exists() -> None:
    known = set().union(*(syscalls(machine) for machine in MACHINES))
    for word, names in CALLS.items():
        assert word in PROMISES
        assert set(names.split()) <= known, word


@pytest.mark.parametrize("text", ["stdio rpath", "stdio,rpath", " rpath , stdio "])
def test_promises_are_words(text: str) -> None:
    assert parse_promises(text) == {"stdio", "rpath"}
    assert parse_promises("") == frozenset()


@pytest.mark.parametrize("word", [*ABSENT, "Stdio", "network", "std\0io"])
def test_a_word_that_is_none_is_refused_with_a_hint(word: str) -> None:
    with pytest.raises(PledgeError) as caught:
        parse_promises(f"stdio {word}")
    assert caught.value.code == "NX-PLG-001"
    assert caught.value.hint


def test_founding_names_are_the_first_bits() -> None:
    masks = {"stdio": 1, "rpath": 2, "wpath": 4, "cpath": 4, "inet": 8, "dns": 8, "exec": 16}
    for word in PROMISES:
        assert founding_mask(frozenset({word})) == masks.get(word, 8 if word == "mcast" else 0)
        assert promise_mask({word}) == 1 << PROMISES.index(word)
    assert founding_mask(FREE) == 31
