"""What SECURITY.md says that a captured L1 cannot do."""

from __future__ import annotations

import pytest

from nexus.logic.pledge import LOADER_PROMISES, compile_pledge
from nexus.membrane.assembly import OBSERVER_PROMISES
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
