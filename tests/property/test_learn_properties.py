"""Learning's pure part: the promises of any calls open them all and none is spare; so do rules."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pledge_properties import OPENS, PAIRS, STDIO

from nexus.logic.confine import shown_anyway
from nexus.logic.kdl import manifest_text, quoted
from nexus.logic.learn import Lesson, learning_filter, needs
from nexus.logic.manifest import parse_manifest
from nexus.logic.pledge import LOADER_PROMISES, compile_pledge
from nexus.logic.promises import PROMISES
from nexus.logic.shown import RULES_MAX, Rule, Trace, learn_rules
from nexus.logic.unveil import Unveil, landlock_rules, mounts, show
from nexus.physics.seccomp import Action, SeccompFilter
from nexus.physics.syscalls import syscalls
from nexus.sim.files import DictFiles

MACHINE = "x86_64"


class Nobody:
    """A caller whose arguments point to nothing."""

    def string(self, address: int) -> str | None:
        return ""

    def place(self, descriptor: int) -> str | None:
        return None

    def memory(self, address: int, size: int) -> bytes | None:
        return b""


def passes(promises: frozenset[str], call: str, arguments: tuple[int, ...]) -> bool:
    code, _ = compile_pledge(promises | {"stdio"}, "trap", MACHINE)
    filter_ = SeccompFilter.from_bytes(code, machine=MACHINE)
    return filter_.simulate(call, arguments) == Action.ALLOW


def whole(arguments: tuple[int, ...]) -> tuple[int, ...]:
    return (*arguments, *[0] * 6)[:6]


CALLS = sorted({(call, whole(arguments)) for call, arguments, _ in [*OPENS, *PAIRS]})
OPENABLE = [(call, args) for call, args in CALLS if needs(syscalls(MACHINE)[call], args, MACHINE)]


@given(st.lists(st.sampled_from(OPENABLE), max_size=8), st.booleans())
def test_learnt_promises_open_every_call_and_none_is_spare(calls, dynamic: bool) -> None:
    lesson = Lesson(MACHINE)
    files = DictFiles({})
    for call, arguments in calls:
        number = syscalls(MACHINE)[call]
        assert lesson.observe(number, arguments, caller=Nobody(), files=files) == 0
    learnt = lesson.promises(dynamic=dynamic)
    given_ = LOADER_PROMISES if dynamic else frozenset()
    # Asking for the cache of names alone takes no promise.
    hard = [one for one in calls if one[0] != "socket" or one[1][0] != 1]
    assert all(passes(learnt | given_, *one) for one in hard)
    assert not learnt & given_
    for word in learnt - {"stdio"}:
        assert not all(passes((learnt | given_) - {word}, *one) for one in calls), word


@given(st.sampled_from(CALLS), st.integers(0, 2**64 - 1))
def test_needs_are_those_of_the_filter_and_smallest(call, noise: int) -> None:
    name, arguments = call
    number = syscalls(MACHINE)[name]
    sets = needs(number, arguments, MACHINE)
    for one in sets:
        assert passes(one, name, arguments)
        for word in one:
            assert not passes(one - {word}, name, arguments)
    if not sets:
        assert not passes(frozenset(PROMISES) - {"error"}, name, arguments)
    assert needs(number, (*arguments[:5], arguments[5] ^ noise), MACHINE) == sets


def test_the_learning_filter_tells_of_all_that_stdio_does_not_open() -> None:
    filter_ = SeccompFilter.from_bytes(learning_filter(MACHINE), machine=MACHINE)
    for call, arguments in STDIO:
        if call != "exit_group":
            assert filter_.simulate(call, arguments) == Action.ALLOW, call
    assert filter_.simulate("exit_group") == Action.NOTIFY
    for number in range(512):
        for value in (0, 1, 0xFFFFFFFF, 1 << 63):
            arguments = (value,) * 6
            got = filter_.simulate(number, arguments)
            if got == Action.ALLOW:
                assert passes(frozenset({"stdio"}), number, arguments)
            elif got != Action.errno(38):
                assert got == Action.NOTIFY
    assert filter_.simulate("io_uring_setup") == Action.NOTIFY
    assert filter_.simulate("getpid", arch=0x40000003) == Action.NOTIFY
    assert filter_.simulate(39 | 0x40000000) == Action.NOTIFY


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
places = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/srv/" + "/".join(parts))
homes = st.sampled_from(["/home/u/.ssh/id", "/home/u/x", "/tmp/x", "/etc/hosts", "/usr/lib/l.so"])
rights = st.sets(st.sampled_from("rwxc"))
traces = st.dictionaries(places | homes, rights, max_size=20)


@given(traces, st.sets(places))
def test_rules_show_every_path_with_its_rights_and_can_be_enforced(touched, moved) -> None:
    leaves = {p for p in touched if not any(q.startswith(p + "/") for q in touched)}
    entries = {path: "file" if path in leaves else "directory" for path in touched}
    files = DictFiles(entries)
    folders = {path for path in touched if path not in leaves}
    held = {path: set(r) - ({"c"} if path in leaves else set()) for path, r in touched.items()}
    trace = Trace(held, folders, moved & set(touched), {})
    rules = learn_rules(trace, program="/usr/bin/x", files=files, home="/home/u")
    assert len(rules) <= RULES_MAX
    asked = [rule.unveil for rule in rules]
    shown = show([*shown_anyway("/usr/bin/x"), *asked], files)
    assert not set(shown.missing) & {rule.path for rule in asked}
    for path, wanted in held.items():
        if any(path == one or path.startswith(f"{one}/") for one in trace.moved):
            continue  # its folder has them; a private folder needs nothing
        above = [path, *parents(path)]
        got = next((shown.paths[one] for one in above if one in shown.paths), None)
        if got is None:
            assert not wanted, path
            assert path in folders
        else:
            assert wanted <= set(got), path
    assert mounts(shown, system=True, own_proc=True)
    landlock_rules(shown, abi=7, system=True, hidden=True)  # refuses what cannot be enforced
    for rule in rules:
        if "/.ssh" in rule.unveil.path:
            assert "secret" in rule.remark


def parents(path: str) -> list[str]:
    found = []
    while path != "/":
        path = posixpath.dirname(path)
        found.append(path)
    return found


def test_many_paths_of_a_folder_become_the_folder() -> None:
    touched = {f"/srv/data/{n}": {"r"} for n in range(9)}
    files = DictFiles(dict.fromkeys(touched, "file"))
    (rule,) = learn_rules(Trace(touched, (), (), {}), program="/bin/x", files=files, home="/h/u")
    assert rule.unveil == Unveil("/srv/data", "r")


@given(st.text(max_size=40))
def test_any_text_survives_a_manifest(text: str) -> None:
    rules = [Rule(Unveil("/" + text.replace("\0", ""), "r"), "")]
    if "\0" in text:
        assert quoted(text)
        return
    manifest = manifest_text(
        name="n", program=["p", text], directory="/", promises={"stdio"}, rules=rules,
        remarks=[text],
    )  # fmt: skip
    (draft,) = parse_manifest(manifest)
    assert draft.program == ("p", text)
    assert draft.unveil == (rules[0].unveil,)


def test_what_is_not_unicode_is_refused() -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        quoted("\udcff")
