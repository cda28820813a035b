"""Manifests in KDL: what they come to, what they may not say, and how commands lie over them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import ManifestError, PledgeError
from nexus.logic.manifest import Draft, Program, complete, merge, parse_limit, parse_manifest
from nexus.logic.pledge import DEFAULT_PROMISES
from nexus.logic.unveil import Unveil

WHOLE = """
fiber "nav" {
    program "/usr/bin/nav" "--fast"
    environment { RATE "50"; HOME "/srv" }
    directory "/srv/nav"
    pledge "stdio" "rpath"
    unveil "/srv/nav" "rwc"
    unveil "/srv/maps"
    bare
    refused "deny"
    tier "photon"
    limit memory="64M" files=32
    limit processes=4
    restart "on-failure" intensity=3 period="10s" delay="5ms"
    survivability "hardened"
    grace "500ms"
    session #true
    seal
    waive "network-namespace"
}
"""
STATIC = Program("/usr/bin/nav", ("nav",), None, dynamic=False)


def test_every_node_is_read() -> None:
    (draft,) = parse_manifest(WHOLE)
    assert draft == Draft(
        name="nav",
        program=("/usr/bin/nav", "--fast"),
        environment={"RATE": "50", "HOME": "/srv"},
        directory="/srv/nav",
        promises=frozenset({"stdio", "rpath"}),
        unveil=(Unveil("/srv/nav", "rwc"), Unveil("/srv/maps", "r")),
        bare=True,
        disposition="deny",
        tier="photon",
        limits={"memory": 64 << 20, "files": 32, "processes": 4},
        restart="on-failure",
        intensity=3,
        period_ms=10_000,
        delay_ms=5,
        survivability="hardened",
        grace_ms=500,
        session=True,
        seal=True,
        waived=frozenset({"network namespace"}),
    )


WRONG = [
    ("fiber", "takes its name"),
    ("fiber 1 { }", "takes its name"),
    ('fiber ""', "1 to 63 bytes"),
    (f'fiber "{"x" * 64}"', "1 to 63 bytes"),
    ('node "a"', "'node' is not known"),
    ('fiber "a" { fly }', "'fly', which is not known"),
    ('fiber "a"\nfiber "a"', "two fibers"),
    ('fiber "a" { tier "matter"; tier "void" }', "two nodes 'tier'"),
    ('fiber "a" { tier "matter" x=1 }', "'x' is not known here"),
    ('fiber "a" { tier }', "1 to 1 values"),
    ('fiber "a" { tier 3 }', "are strings"),
    ('fiber "a" { session "yes" }', "#true or #false"),
    ('fiber "a" { limit memory="64Q" }', "is no value"),
    ('fiber "a" { limit memory=-1 }', "is no value"),
    ('fiber "a" { limit memory=1.5 }', "a number"),
    ('fiber "a" { limit memory=#true }', "a number"),
    ('fiber "a" { restart "always" period=10 }', "is a time"),
    ('fiber "a" { restart "always" intensity=-1 }', "a number from 0"),
    ('fiber "a" { grace "soon" }', "is no time"),
    ('fiber "a" { unveil "here" }', "not absolute"),
    ('fiber "a" { unveil "/x" "rr" }', "not some of rwxc"),
    ('fiber "a" { environment { A 1 } }', "takes one string"),
    ('fiber "a" { bare { x } }', "takes no block"),
    ('fiber "a" {', "not KDL 2"),
    ("x" * (1 << 20) + "y", "the most is"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_what_is_not_understood_is_an_error(text: str, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        parse_manifest(text)


def test_exec_promises_are_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest('fiber "a" { exec-promises "stdio" }')
    assert "fiber of its own" in str(caught.value.hint)


def test_an_unknown_promise_is_an_error() -> None:
    with pytest.raises(PledgeError, match="'fly' is no promise"):
        parse_manifest('fiber "a" { pledge "stdio" "fly" }')


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestError, PledgeError):
        parse_manifest(text)


def test_the_upper_draft_wins_and_limits_add_up() -> None:
    (below,) = parse_manifest(WHOLE)
    above = Draft(tier="void", limits={"files": 8}, waived=frozenset({"landlock scopes"}))
    both = merge(below, above)
    assert both.tier == "void"
    assert both.limits == {"memory": 64 << 20, "files": 8, "processes": 4}
    assert both.waived == {"network namespace", "landlock scopes"}
    assert both.promises == below.promises
    assert merge(below, Draft()) == below


def test_an_empty_draft_gets_the_defaults() -> None:
    spec = complete(Draft(program=("nav",)), STATIC, environment={"A": "b"}, directory="/work")
    assert spec.name == "nav"
    assert spec.promises == DEFAULT_PROMISES
    assert spec.unveil == (Unveil("/work", "rwxc"),)
    assert spec.directory == "/work"
    assert spec.environment == {"A": "b"}
    assert (spec.tier, spec.restart, spec.disposition) == (None, "never", "trap")


def test_a_loader_gets_what_it_needs_and_no_more() -> None:
    draft = Draft(program=("nav",), promises=frozenset({"stdio"}))
    loaded = Program("/usr/bin/nav", ("nav",), None, dynamic=True)
    assert complete(draft, STATIC, environment={}, directory="/").promises == {"stdio"}
    promises = complete(draft, loaded, environment={}, directory="/").promises
    assert promises == {"stdio", "rpath", "prot_exec"}


def test_a_script_is_shown_to_its_interpreter() -> None:
    script = Program("/bin/sh", ("/bin/sh", "/srv/job"), "/srv/job", dynamic=True)
    spec = complete(Draft(program=("job",)), script, environment={}, directory="/work")
    assert Unveil("/srv/job", "r") in spec.unveil


def test_a_directory_that_is_not_shown_is_left_for_the_root() -> None:
    draft = Draft(program=("nav",), unveil=(Unveil("/data", "r"),))
    assert complete(draft, STATIC, environment={}, directory="/work").directory == "/"


@pytest.mark.parametrize("text", ["memory", "memory=", "memory=x", "=5", "memory=1KB"])
def test_a_limit_needs_a_name_and_an_amount(text: str) -> None:
    if text == "=5":
        assert parse_limit(text) == ("", 5)  # an unknown name, which confine refuses
        return
    with pytest.raises(ManifestError):
        parse_limit(text)
