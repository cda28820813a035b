"""What SECURITY.md says that a captured L1 cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.errors import UnenforceableError
from nexus.logic.node import parse_node
from nexus.logic.pledge import LOADER_PROMISES, compile_pledge
from nexus.membrane import assembly
from nexus.membrane.assembly import OBSERVER_PROMISES, Assembly
from nexus.membrane.directory import NodeDirectory
from nexus.physics.cgroups import NodeCgroups
from nexus.physics.seccomp import Action, SeccompFilter
from nexus.physics.syscalls import Machine, syscalls

MACHINES: tuple[Machine, ...] = ("x86_64", "aarch64", "riscv64")
SENDS = ("sendmsg", "sendmmsg")


def answers(promises: frozenset[str], machine: Machine) -> dict[str, Action]:
    code, _ = compile_pledge(promises | LOADER_PROMISES, "trap", machine)
    filter_ = SeccompFilter.from_bytes(code, machine=machine)
    names = (*SENDS, "execve", "socket", "ptrace", "process_vm_writev", "pidfd_getfd")
    return {name: filter_.simulate(syscalls(machine)[name], (0,) * 6) for name in names}


@pytest.mark.parametrize("machine", MACHINES)
def test_l1_can_send_no_descriptor_and_start_nothing(machine: Machine) -> None:
    assert Action.ALLOW not in answers(OBSERVER_PROMISES, machine).values()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_promise_too_many_would_be_seen(machine: Machine) -> None:
    more = answers(OBSERVER_PROMISES | {"sendfd", "exec"}, machine)
    assert all(more[name] == Action.ALLOW for name in (*SENDS, "execve"))


def test_a_host_that_lacks_a_layer_boots_no_node_and_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {**assembly.host_facts(), "namespaces": False}
    monkeypatch.setattr(assembly, "host_facts", lambda: facts)
    directory = NodeDirectory(tmp_path / "node")
    directory.prepare()
    with (
        Assembly(directory, parse_node("", str(directory.path)), NodeCgroups(None, "")) as made,
        pytest.raises(UnenforceableError, match="the observer L1") as caught,
    ):
        made.observer(("--ledger", str(directory.ledger)))
    assert caught.value.hint is not None
    assert "--waive" in caught.value.hint
