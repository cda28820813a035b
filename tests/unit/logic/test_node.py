"""Nodes in KDL: what they come to, and what they may not say."""

from __future__ import annotations

import pytest

from nexus.errors import LocalError, ManifestError, NodeError
from nexus.logic.bkdl import HANDLE_CHECKPOINT, HANDLE_LIFE, Policy
from nexus.logic.guard import Guard
from nexus.logic.node import (
    Channel,
    Opening,
    check_restart,
    fiber_handles,
    fiber_policy,
    parse_node,
)

WHOLE = """
survivability "hardened"
waive "user-namespace" "landlock-scopes"
waive "pid-namespace"
group "telemetry" strategy="rest-for-one" {
    fiber "pulse" {
        module "a.b" "--rate" "5"
        pledge "stdio" "rpath"
        open "led" "leds/0" write=#true
        open "clock" "/dev/rtc0"
    }
    fiber "digest" { program "/bin/cat"; checkpoint; standby; restart "always" }
}
group "alone" { fiber "one" { program "/bin/true" } }
fiber "free" { program "/bin/true"; held }
channel "telemetry" from="pulse" to="digest" slots=4 size=10
channel "back" from="digest" to="pulse"
"""


def test_every_node_is_read() -> None:
    node = parse_node(WHOLE, "/node")
    assert node.survivability == "hardened"
    assert node.waived == {"user namespace", "landlock scopes", "pid namespace"}
    assert [fiber.held for fiber in node.fibers] == [False, False, False, True]
    pulse, digest, one, free = node.fibers
    assert [fiber.name for fiber in node.fibers] == ["pulse", "digest", "one", "free"]
    assert pulse.module == ("a.b", "--rate", "5")
    assert pulse.draft.promises == frozenset({"stdio", "rpath"})
    assert pulse.openings == (
        Opening("led", "/node/leds/0", True),
        Opening("clock", "/dev/rtc0", False),
    )
    assert (digest.checkpoint, digest.standby, digest.draft.restart) == (True, True, "always")
    assert [(f.company, f.strategy) for f in node.fibers] == [(1, 2), (1, 2), (2, 0), (0, 0)]
    assert node.channels == (
        Channel("telemetry", "pulse", "digest", 4, 10),
        Channel("back", "digest", "pulse", 256, 256),
    )
    assert node.channels[0].capacity == 4 * 24, "ten bytes take sixteen and a word"
    assert one.draft.program == free.draft.program == ("/bin/true",)


def test_handles_are_numbered_from_three_and_named_in_the_variable() -> None:
    node = parse_node(WHOLE, "/node")
    pulse, digest = node.fibers[:2]
    places = {"channel telemetry": 4, "channel back": 5, "open led": 6, "open clock": 7}
    handles = fiber_handles(pulse, node.channels, places)
    assert handles.table == ((HANDLE_LIFE, 3), (4, 4), (5, 5), (6, 6), (7, 7))
    assert handles.variable == ("life=3 write:telemetry=4 read:back=5 open:led=6 open:clock=7")
    handles = fiber_handles(digest, node.channels, places)
    assert handles.table == ((HANDLE_LIFE, 3), (HANDLE_CHECKPOINT, 4), (4, 5), (5, 6))
    assert handles.variable == "life=3 checkpoint=4 read:telemetry=5 write:back=6"
    nothing = fiber_handles(node.fibers[3], node.channels, places)
    assert nothing.table == ()
    assert nothing.variable == ""


def test_a_node_adds_standby_and_group_to_the_policy() -> None:
    digest = parse_node(WHOLE, "/").fibers[1]
    policy = fiber_policy(digest, Policy(flags=2))
    assert (policy.flags, policy.strategy, policy.company) == (18, 2, 1)


def test_a_standby_that_would_never_be_used_is_refused() -> None:
    (fiber,) = parse_node('fiber "a" { program "/bin/true"; standby }', "/").fibers
    with pytest.raises(ManifestError, match="never restarted"):
        check_restart(fiber)
    check_restart(parse_node(WHOLE, "/").fibers[1])


TWO = 'fiber "a" { program "x" }\nfiber "b" { program "x" }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not KDL 2"),
        ("fibre", "'fibre' is not known"),
        ('survivability "brave"', "no survivability"),
        ('survivability "hardened"\nsurvivability "hardened"', "twice"),
        ('fiber "a" { }', "takes one of program and module"),
        ('fiber "a" { program "x"; module "y" }', "takes one of program and module"),
        ('fiber "a b" { program "x" }', "'a b' is no name of a fiber"),
        ('fiber "a" { program "x"; checkpoint "for ever" }', "takes #true or #false"),
        ('fiber "a" { program "x"; held "yes" }', "takes #true or #false"),
        ("waive", "takes 1"),
        ('waive "a" { b; }', "waive"),
        ('fiber "a" { program "x"; standby; standby }', "two nodes 'standby'"),
        ('fiber "a" { program "x"; open "n" }', "takes 2 to 2 values"),
        ('fiber "a" { program "x"; open "n" "p" write=1 }', "write is #true or #false"),
        ('fiber "a" { program "x"; pledge "nothing" }', "nothing"),
        ('fiber "a" { program "x"; colour "red" }', "'colour'"),
        (TWO + 'fiber "a" { program "x" }', "two fibers have the name 'a'"),
        ('group "g" strategy="all" { fiber "a" { program "x" } }', "'all' is no strategy"),
        ('group "g" { channel "c" }', "group g has the node 'channel'"),
        ('group "g" { }\ngroup "g" { }', "two groups"),
        ("group", "a group takes its name"),
        (TWO + 'channel "c" from="a" to="c"', "to is 'c', which is no fiber"),
        (TWO + 'channel "c" from="a"', "to is '', which is no fiber"),
        (TWO + 'channel "c" from="a" to="a"', "to itself"),
        (TWO + 'channel "c" from="a" to="b" slots=0', "slots is a number from 1"),
        (TWO + 'channel "c" from="a" to="b" size=70000', "size is a number from 1"),
        (TWO + 'channel "c" from="a" to="b" slots=1048576 size=65536', "the most is 1073741824"),
        (TWO + 'channel "c" from="a" to="b" way=1', "a channel takes"),
        (TWO + 'channel "c" from="a" to="b"\nchannel "c" from="b" to="a"', "two channels"),
        ("phoenix limit=0", "limit is a number from 1 to 64"),
        ("phoenix limit=65", "limit is a number from 1 to 64"),
        ('phoenix period="0s"', "period is a time"),
        ('phoenix then="explode"', "then is 'explode'"),
        ('phoenix then="reset"', "leaves the reset to a watchdog"),
        ("phoenix 3", "values are strings"),
        ('phoenix "x"', "takes 0 to 0 values"),
        ("phoenix\nphoenix", "phoenix is said twice"),
        ("watchdog", "takes 1 to 1 values"),
        ('watchdog "w" timeout="1s"', "timeout is 2 to 65535 whole seconds"),
        ('watchdog "w" timeout="2500ms"', "timeout is 2 to 65535 whole seconds"),
        ('watchdog "w" nowayout=#true', "'nowayout' is not known here"),
        ("".join(f'fiber "f{i}" {{ program "x" }}\n' for i in range(17)), "at most 16"),
    ],
)
def test_what_a_node_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(LocalError, match=message):
        parse_node(text, "/")


def test_last_measures_are_taken_only_if_asked_for() -> None:
    assert parse_node("", "/").guard is None
    assert parse_node("phoenix", "/").guard == Guard()
    guard = parse_node('watchdog "w"', "/node").guard
    assert guard == Guard(watchdog="/node/w")
    assert guard is not None
    assert guard.words == (3, 60_000, 0, 10)
    text = 'phoenix limit=2 period="5s" then="reset"\nwatchdog "/dev/watchdog" timeout="4s"'
    guard = parse_node(text, "/node").guard
    assert guard == Guard(2, 5_000, "reset", "/dev/watchdog", 4)
    assert guard is not None
    assert guard.words == (2, 5_000, 1, 4)
    reboot = parse_node('phoenix then="reboot"', "/").guard
    assert reboot is not None
    assert reboot.words == (3, 60_000, 2, 0)


def test_node_errors_have_their_own_code_and_a_hint() -> None:
    with pytest.raises(NodeError) as refused:
        parse_node(TWO + 'channel "c" from="a" to="z"', "/")
    assert refused.value.code == "NX-NOD-001"
    assert refused.value.hint == "one of a, b"


def test_handles_have_names_of_their_own_and_are_not_too_many() -> None:
    with pytest.raises(NodeError, match="two openings of fiber a"):
        parse_node('fiber "a" { program "x"; open "n" "p"; open "n" "q" }', "/")
    text = "; ".join(f'open "n{i}" "p"' for i in range(61))
    (fiber,) = parse_node(f'fiber "a" {{ program "x"; {text} }}', "/").fibers
    with pytest.raises(NodeError, match="the most is 60"):
        fiber_handles(fiber, (), {f"open n{i}": 4 + i for i in range(61)})
