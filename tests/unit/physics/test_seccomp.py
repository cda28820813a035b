"""Seccomp filters by simulation: what is decided, what is refused, how long a program gets."""

import random

import pytest

from nexus import errors
from nexus.physics import (
    Action,
    ArgumentTest,
    SeccompFilter,
    SeccompRule,
    seccomp_capabilities,
    syscall_mask,
    syscall_name,
    syscalls,
)

DENY = Action.errno(1)
MACHINES = ("x86_64", "aarch64", "riscv64")
I386 = 0x40000003


def allow(*names, tests=()):
    return SeccompRule(names, Action.ALLOW, tests)


@pytest.mark.parametrize("machine", MACHINES)
def test_first_rule_that_holds_decides(machine):
    filter_ = SeccompFilter.compile(
        [SeccompRule(("read",), Action.LOG), allow("read", "write")],
        default=DENY,
        machine=machine,
    )
    assert filter_.simulate("read") == Action.LOG
    assert filter_.simulate("write") == Action.ALLOW
    assert filter_.simulate("close") == DENY
    assert filter_.simulate(100_000) == DENY


@pytest.mark.parametrize("machine", MACHINES)
def test_other_architectures_get_the_foreign_action(machine):
    filter_ = SeccompFilter.compile([allow("read")], default=Action.ALLOW, machine=machine)
    assert filter_.simulate("read", arch=I386) == Action.KILL_PROCESS
    assert filter_.simulate("read", arch=0) == Action.KILL_PROCESS
    other = 0xC00000F3 if machine != "riscv64" else 0xC000003E
    assert filter_.simulate("read", arch=other) == Action.KILL_PROCESS


def test_x32_numbers_are_foreign_on_x86_64():
    filter_ = SeccompFilter.compile(
        [], default=Action.ALLOW, foreign=Action.errno(38), machine="x86_64"
    )
    for number in (1 << 30, (1 << 30) | 1, (1 << 32) - 1):
        assert filter_.simulate(number) == Action.errno(38)
    assert filter_.simulate((1 << 30) - 1) == Action.ALLOW


def test_clone3_is_refused_unless_asked_for():
    rules = [allow("clone3")]
    for default in (Action.ALLOW, DENY):
        refused = SeccompFilter.compile(rules, default=default)
        assert refused.simulate("clone3") == Action.errno(38)
        assert SeccompFilter.from_mask(b"\xff" * 64, default=default).simulate(
            "clone3"
        ) == Action.errno(38)
    plain = SeccompFilter.compile(rules, default=DENY, clone3_refused=False)
    assert plain.simulate("clone3") == Action.ALLOW


@pytest.mark.parametrize(
    ("test", "yes", "no"),
    [
        (ArgumentTest.equal(1, 5, width=64), [5], [4, 6, 5 | 1 << 32, 5 | 1 << 63]),
        (ArgumentTest.equal(1, 5, width=32), [5, 5 | 1 << 32], [4, 6]),
        (ArgumentTest.equal(1, 5 | 7 << 32, width=64), [5 | 7 << 32], [5, 7 << 32, 5 | 6 << 32]),
        (ArgumentTest.masked(1, 3, 2, width=64), [2, 6, 2 | 1 << 40], [0, 1, 3]),
        (ArgumentTest.masked(1, 3 << 32, 1 << 32, width=64), [1 << 32, 5 << 32 | 9], [1, 3 << 32]),
        (ArgumentTest.masked(1, 0, 0, width=64), [0, 1, (1 << 64) - 1], []),
        (ArgumentTest.between(1, 3, 5, width=64), [3, 4, 5], [2, 6, 4 | 1 << 32]),
        (ArgumentTest.between(1, 3, 5, width=32), [3, 5, 4 | 1 << 32], [2, 6]),
        (
            ArgumentTest.between(1, 1 << 32, 3 << 32, width=64),
            [1 << 32, (3 << 32) - 1, 3 << 32],
            [0, (1 << 32) - 1, (3 << 32) + 1, 4 << 32],
        ),
        (ArgumentTest.between(1, 0, (1 << 64) - 1, width=64), [0, (1 << 64) - 1], []),
    ],
)
def test_argument_tests_and_their_inversion(test, yes, no):
    plain = SeccompFilter.compile([allow("lseek", tests=(test,))], default=DENY)
    inverted = SeccompFilter.compile([allow("lseek", tests=(~test,))], default=DENY)
    for values, expected in ((yes, Action.ALLOW), (no, DENY)):
        for value in values:
            assert plain.simulate("lseek", (9, value)) == expected
            assert (inverted.simulate("lseek", (9, value)) == Action.ALLOW) == (expected == DENY)


def test_all_tests_of_a_rule_must_hold():
    tests = tuple(ArgumentTest.equal(i, i + 1, width=64) for i in range(6))
    filter_ = SeccompFilter.compile([allow("mmap", tests=tests)], default=DENY)
    assert filter_.simulate("mmap", (1, 2, 3, 4, 5, 6)) == Action.ALLOW
    for i in range(6):
        arguments = [1, 2, 3, 4, 5, 6]
        arguments[i] = 0
        assert filter_.simulate("mmap", arguments) == DENY


def test_rules_with_tests_fall_through_to_later_ones():
    filter_ = SeccompFilter.compile(
        [
            allow("socket", tests=(ArgumentTest.equal(0, 1, width=32),)),
            SeccompRule(("socket",), Action.trap(7), (ArgumentTest.between(0, 2, 10, width=32),)),
            SeccompRule(("socket",), Action.errno(97)),
        ],
        default=Action.KILL_PROCESS,
    )
    assert [filter_.simulate("socket", (n,)) for n in (1, 2, 10, 11)] == [
        Action.ALLOW,
        Action.trap(7),
        Action.trap(7),
        Action.errno(97),
    ]


# Masks.


def masks():
    source = random.Random(20240607)
    yield bytes(64)
    yield b"\xff" * 64
    yield b"\x55" * 64
    for _ in range(20):
        yield source.randbytes(64)
        yield bytes(source.getrandbits(8) & source.getrandbits(8) for _ in range(64))


@pytest.mark.parametrize("shape", ["auto", "tree", "words"])
def test_mask_decides_every_number(shape):
    for mask in masks():
        filter_ = SeccompFilter.from_mask(mask, default=DENY, machine="x86_64", shape=shape)
        value = int.from_bytes(mask, "little")
        for number in range(0, 600, 7 if shape == "auto" else 1):
            wanted = Action.ALLOW if value >> number & 1 else DENY
            assert filter_.simulate(number) == (Action.errno(38) if number == 435 else wanted)


def test_mask_takes_at_most_160_instructions():
    lengths = {
        shape: [len(SeccompFilter.from_mask(m, default=DENY, shape=shape)) for m in masks()]
        for shape in ("auto", "words", "tree")
    }
    assert max(lengths["auto"]) <= 160
    assert max(lengths["words"]) <= 63
    # A rig that cannot fail would find every tree short as well.
    assert max(lengths["tree"]) > 250


def test_mask_of_names_is_the_mask_of_their_numbers():
    table = syscalls("x86_64")
    mask = syscall_mask(["read", "openat", 300], "x86_64")
    bits = {n for n in range(512) if mask[n // 8] >> n % 8 & 1}
    assert bits == {table["read"], table["openat"], 300}
    with pytest.raises(ValueError, match="bit"):
        syscall_mask([512])
    with pytest.raises(OverflowError):
        syscall_mask([-1])


# Names and numbers.


def test_names_and_numbers_of_three_machines():
    assert syscalls("x86_64")["read"] == 0
    assert syscalls("aarch64")["read"] == syscalls("riscv64")["read"] == 63
    assert {syscalls(machine)["clone3"] for machine in MACHINES} == {435}
    assert "open" not in syscalls("riscv64")
    for machine in MACHINES:
        table = syscalls(machine)
        assert len(set(table.values())) == len(table) > 300
        assert all(syscall_name(number, machine) == name for name, number in table.items())
        assert max(table.values()) < 512


def test_unknown_name_is_refused_and_a_foreign_one_can_be_skipped():
    with pytest.raises(ValueError, match="open"):
        SeccompFilter.compile([allow("open")], default=DENY, machine="aarch64")
    filter_ = SeccompFilter.compile(
        [allow("open", "openat")], default=DENY, machine="aarch64", skip_absent=True
    )
    assert filter_.simulate("openat") == Action.ALLOW
    with pytest.raises(ValueError, match="opne"):
        SeccompFilter.compile([allow("opne")], default=DENY, skip_absent=True)
    with pytest.raises(ValueError, match="machine"):
        syscalls("vax")


# What is refused.


@pytest.mark.parametrize(
    ("rules", "error"),
    [
        ([SeccompRule((-1,), Action.ALLOW)], OverflowError),
        ([SeccompRule((1 << 30,), Action.ALLOW)], ValueError),
        ([SeccompRule((1.0,), Action.ALLOW)], TypeError),
        ([SeccompRule((True,), Action.ALLOW)], TypeError),
        ([SeccompRule((1,), Action("trace"))], ValueError),
        ([SeccompRule((1,), Action("errno", 4096))], ValueError),
        ([SeccompRule((1,), Action("allow", 1))], ValueError),
        ([allow(1, tests=(ArgumentTest.equal(6, 1, width=64),))], ValueError),
        ([allow(1, tests=(ArgumentTest.equal(0, 1, width=16),))], ValueError),
        ([allow(1, tests=(ArgumentTest.equal(0, 1 << 32, width=32),))], ValueError),
        ([allow(1, tests=(ArgumentTest.equal(0, -1, width=64),))], OverflowError),
        ([allow(1, tests=(ArgumentTest.equal(0, 1.5, width=64),))], TypeError),
        ([allow(1, tests=(ArgumentTest.masked(0, 1, 2, width=64),))], ValueError),
        ([allow(1, tests=(ArgumentTest.between(0, 2, 1, width=64),))], ValueError),
        ([allow(1, tests=(ArgumentTest(0, "like", 1, 1, 64),))], ValueError),
        ([allow(n) for n in range(0, 3000, 2)], errors.TooLargeError),
    ],
)
def test_rule_that_cannot_be_is_refused(rules, error):
    with pytest.raises(error):
        SeccompFilter.compile(rules, default=DENY)


def test_program_beyond_the_kernels_limit_is_refused():
    tests = tuple(ArgumentTest.between(i, 1 << 33, 1 << 40, width=64) for i in range(6))
    rules = [allow(n, tests=tests) for n in range(0, 300, 2)]
    with pytest.raises(errors.TooLargeError):
        SeccompFilter.compile(rules, default=DENY)


@pytest.mark.parametrize(
    ("mask", "options", "error"),
    [
        (bytes(63), {}, ValueError),
        (bytes(65), {}, ValueError),
        (None, {}, TypeError),
        ([0] * 64, {}, TypeError),
        (bytes(64), {"shape": "round"}, ValueError),
        (bytes(64), {"allow": Action("trace")}, ValueError),
        (bytes(64), {"machine": "vax"}, (KeyError, ValueError)),
    ],
)
def test_mask_that_cannot_be_is_refused(mask, options, error):
    with pytest.raises(error):
        SeccompFilter.from_mask(mask, default=DENY, **options)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1,), OverflowError),
        ((1 << 64,), OverflowError),
        ((0.0,), TypeError),
        ((0,) * 7, ValueError),
    ],
)
def test_simulation_of_nonsense_is_refused(arguments, error):
    filter_ = SeccompFilter.compile([], default=DENY)
    with pytest.raises(error):
        filter_.simulate(0, arguments)


def test_action_round_trips_through_its_value():
    for action in (Action.ALLOW, Action.LOG, Action.NOTIFY, Action.KILL_PROCESS, Action.trap(9)):
        assert Action.from_value(action.value) == action
    assert Action.errno(1).value == 0x50001
    for make, error in (
        (lambda: Action("pass"), ValueError),
        (lambda: Action("errno", 1 << 16), OverflowError),
        (lambda: Action("errno", -1), OverflowError),
        (lambda: Action.from_value(0x12340000), ValueError),
    ):
        with pytest.raises(error):
            make()


def test_program_is_what_it_says():
    filter_ = SeccompFilter.compile([allow("read")], default=DENY)
    assert len(bytes(filter_)) == 8 * len(filter_) == 8 * len(filter_.instructions)
    code, jt, jf, k = filter_.instructions[0]
    assert bytes(filter_)[:8] == bytes([code, 0, jt, jf]) + k.to_bytes(4, "little")


def test_program_comes_back_from_its_bytes():
    filter_ = SeccompFilter.compile([allow("read")], default=DENY)
    again = SeccompFilter.from_bytes(bytes(filter_))
    assert again.instructions == filter_.instructions
    assert again.simulate("read") == Action.ALLOW


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (b"", ValueError),
        (bytes(7), ValueError),
        (bytes(8), ValueError),
        (b"\x06" + bytes(7) + bytes(8), ValueError),
        (b"\x05\0\0\0\1\0\0\0" + b"\x06" + bytes(7), ValueError),
        (b"\x06" + bytes(7) * 5000, ValueError),
        (None, TypeError),
        ("text", TypeError),
    ],
)
def test_program_that_the_kernel_would_refuse_is_refused(code, error):
    with pytest.raises(error):
        SeccompFilter.from_bytes(code)


def test_capabilities_are_booleans_or_all_absent():
    found = seccomp_capabilities()
    assert set(found.actions) >= {"allow", "errno", "trap", "kill_process", "notify", "log"}
    if not found.available:
        assert not any(found.actions.values())
        pytest.skip("capabilities not checked: this kernel has no seccomp filters")
    assert found.actions["allow"]
    assert found.notify_sizes is None or found.notify_sizes[2] == 64
