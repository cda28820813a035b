"""A compiled filter decides every call as a naive reading of its rules does."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.physics import Action, ArgumentTest, SeccompFilter, SeccompRule

ACTIONS = st.sampled_from(
    [Action.ALLOW, Action.LOG, Action.errno(1), Action.errno(13), Action.trap(3)]
)
# Close to each other and to the halves of a 64-bit value, so that every outcome occurs.
VALUES = st.builds(
    lambda high, low: (high << 32 | low) % (1 << 64),
    st.sampled_from([0, 1, 2, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 2, 3, 0xFFFFFFFE, 0xFFFFFFFF]),
)


@st.composite
def argument_tests(draw):
    width = draw(st.sampled_from([32, 64]))
    full = (1 << width) - 1
    a, b = draw(VALUES) & full, draw(VALUES) & full
    index = draw(st.integers(0, 2))
    if draw(st.booleans()):
        test = ArgumentTest.masked(index, a, a & b, width=width)
    else:
        test = ArgumentTest.between(index, min(a, b), max(a, b), width=width)
    return ~test if draw(st.booleans()) else test


RULES = st.builds(
    SeccompRule,
    st.lists(st.integers(0, 40) | st.integers(420, 470), min_size=1, max_size=12).map(tuple),
    ACTIONS,
    st.lists(argument_tests(), max_size=3).map(tuple),
)


def holds(test, arguments):
    value = arguments[test.argument] & ((1 << test.width) - 1)
    if test.op == "masked":
        return ((value & test.a) == test.b) != test.negate
    return (test.a <= value <= test.b) != test.negate


def naive(rules, default, number, arguments):
    if number == 435:
        return Action.errno(38)
    for rule in rules:
        if number in rule.syscalls and all(holds(test, arguments) for test in rule.tests):
            return rule.action
    return default


def after_constant(test):
    """A rule whose test looks at nothing, before one for the same number that looks."""
    looks = ArgumentTest.between(0, 0, 0, width=32)
    return [SeccompRule((1,), Action.ALLOW, (test,)), SeccompRule((1,), Action.ALLOW, (looks,))]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(RULES, max_size=12),
    ACTIONS,
    st.sampled_from(["x86_64", "aarch64", "riscv64"]),
    st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=5),
)
@example(after_constant(~ArgumentTest.masked(0, 0, 0, width=32)), Action.LOG, "x86_64", [(0, 0, 0)])
@example(
    after_constant(~ArgumentTest.between(0, 0, 0xFFFFFFFF, width=32)),
    Action.LOG,
    "aarch64",
    [(0, 0, 0)],
)
def test_rules_decide_as_they_read(rules, default, machine, calls):
    filter_ = SeccompFilter.compile(rules, default=default, machine=machine)
    for arguments in calls:
        for number in (*range(45), *range(415, 480), 600, (1 << 30) - 1):
            assert filter_.simulate(number, arguments) == naive(rules, default, number, arguments)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=64, max_size=64), st.sampled_from(["tree", "words", "auto"]))
def test_mask_decides_as_its_bits_read(mask, shape):
    filter_ = SeccompFilter.from_mask(mask, default=Action.errno(1), shape=shape)
    bits = int.from_bytes(mask, "little") & ~(1 << 435)
    decided = [filter_.simulate(n) == Action.ALLOW for n in range(530)]
    assert decided == [bool(bits >> n & 1) for n in range(530)]
