"""Budgets and tiers as the kernel holds them: who overruns falls, who yields stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nexus._core import probe

RUN = [sys.executable, "-m", "nexus.cli", "run"]

# Uses CPU in the stated way and tells each change of its scheduling policy, with the CPU time
# in microseconds that it has had since the change before.
OBSERVER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    static char page[1 << 22];
    long end = atol(argv[2]) * 1000, begin = cpu_us(), at = begin, yielded = begin;
    int zero = open("/dev/zero", O_RDONLY), policy = sched_getscheduler(0);

    (void)argc;
    while (cpu_us() - begin < end) {
        if (strcmp(argv[1], "kernel") == 0 && read(zero, page, sizeof page) < 0) {
            return 1;
        }
        if (strcmp(argv[1], "yield") == 0 && cpu_us() - yielded > 500) {
            usleep(1000);
            yielded = cpu_us();
        }
        int now = sched_getscheduler(0);
        if (now != policy) {
            printf("%d %d %ld\n", policy, now, cpu_us() - at);
            policy = now;
            at = cpu_us();
        }
    }
    return 0;
}
"""
BATCH, IDLE = 3, 5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        probe.user_namespace() < 0 or probe.landlock() < 6 or probe.perf_clock(kernel=False) < 0,
        reason="budgets take perf, and a run without waived layers user namespaces and Landlock "
        "6: no budget was checked here",
    ),
]


@pytest.fixture(scope="module")
def observer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("observer")
    source = place / "observer.c"
    source.write_text(OBSERVER)
    subprocess.run(["cc", "-O2", source, "-o", place / "observer"], check=True)
    place.chmod(0o755)
    return place / "observer"


def changes(observer: Path, tier: str, kind: str, milliseconds: int) -> list[tuple[int, int, int]]:
    words = [*RUN, "--tier", tier, "--", str(observer), kind, str(milliseconds)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=True, cwd=observer.parent
    )
    found = [tuple(int(word) for word in line.split()) for line in done.stdout.splitlines()]
    return [(old, new, spent) for old, new, spent in found]


def test_a_fiber_that_never_yields_falls_to_the_bottom_and_goes_on(observer: Path) -> None:
    falls = {new: spent for _, new, spent in changes(observer, "matter", "spin", 400)}
    assert set(falls) >= {BATCH, IDLE}
    # Three budgets of 50 ms from gravity to void. A hypervisor's theft counts as the fiber's.
    assert falls[IDLE] >= 90_000
    if os.geteuid() == 0:
        # A supervisor with real-time priority is late by its wake-up alone, and a host by more.
        assert falls[IDLE] < 200_000


def test_kernel_time_is_the_fibers_own(observer: Path) -> None:
    assert IDLE in {new for _, new, _ in changes(observer, "gravity", "kernel", 400)}


def test_a_fiber_that_yields_in_time_keeps_its_tier(observer: Path) -> None:
    found = {new for _, new, _ in changes(observer, "gravity", "yield", 400)}
    assert found <= {BATCH}  # the scheduling of its own tier, at the start


def test_void_has_no_budget_and_is_not_killed(observer: Path) -> None:
    assert {new for _, new, _ in changes(observer, "void", "spin", 200)} <= {IDLE}


def test_without_a_tier_nothing_is_held(observer: Path) -> None:
    words = [*RUN, "--", str(observer), "spin", "300"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=True, cwd=observer.parent
    )
    assert (done.stdout, done.stderr) == ("", "")
