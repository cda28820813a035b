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
# in microseconds that it has had since the change before. The main thread, where it is another one
# or that of another process, sleeps meanwhile and tells its own policy at the end.
OBSERVER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINK_US 10000

static const char *kind;
static long end;

static long cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *use(void *how)
{
    static char page[1 << 22];
    long begin = cpu_us(), at = begin, yielded = begin;
    int zero = open("/dev/zero", O_RDONLY), policy = sched_getscheduler(0);

    while (cpu_us() - begin < end) {
        if (strcmp(how, "kernel") == 0 && read(zero, page, sizeof page) < 0) {
            exit(1);
        }
        if (strcmp(how, "yield") == 0 && cpu_us() - yielded > 500) {
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
    return NULL;
}

/* Each process runs for less than a budget, starts the next one and ends. */
static void chain(void)
{
    for (long links = end / LINK_US; links > 0; links--) {
        while (cpu_us() < LINK_US) {
        }
        if (fork() != 0) {
            _exit(0);
        }
    }
    printf("%d %d 0\n", -1, sched_getscheduler(0));
}

int main(int argc, char **argv)
{
    pthread_t threads[2];
    int over[2];
    char none;

    (void)argc;
    kind = argv[1];
    end = atol(argv[2]) * 1000;
    if (strcmp(kind, "thread") == 0 || strcmp(kind, "threads-yield") == 0) {
        for (int i = 0; i < 2; i++) {
            char *how = kind[6] == 0 && i == 0 ? "spin" : "yield";
            pthread_create(&threads[i], NULL, use, how);
        }
        pthread_join(threads[0], NULL);
        pthread_join(threads[1], NULL);
        printf("%d %d 0\n", -2, sched_getscheduler(0));
    } else if (strcmp(kind, "child") == 0 || strcmp(kind, "chain") == 0) {
        if (pipe(over) != 0 || (fork() == 0 && close(over[0]) == 0)) {
            strcmp(kind, "chain") == 0 ? chain() : (void)use("spin");
            return 0;
        }
        close(over[1]);
        if (read(over[0], &none, 1) != 0) {
            return 1;
        }
        printf("%d %d 0\n", -2, sched_getscheduler(0));
    } else {
        use((void *)kind);
    }
    return 0;
}
"""
CHAIN, MAIN = -1, -2
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
    subprocess.run(["cc", "-O2", source, "-pthread", "-o", place / "observer"], check=True)
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


def policies(observer: Path, kind: str) -> tuple[set[int], dict[int, int]]:
    """What the one who ran became, and what those who only tell it at the end are."""
    found = changes(observer, "gravity", kind, 400)
    return (
        {new for old, new, _ in found if old >= 0},
        {old: new for old, new, _ in found if old < 0},
    )


def test_a_second_thread_that_burns_takes_all_down(observer: Path) -> None:
    burned, told = policies(observer, "thread")
    # The other thread yields in time, and the main thread sleeps all the time.
    assert IDLE in burned
    assert told == {MAIN: IDLE}


def test_a_child_that_burns_takes_the_fiber_down(observer: Path) -> None:
    burned, told = policies(observer, "child")
    assert IDLE in burned
    assert told == {MAIN: IDLE}


def test_a_chain_of_short_processes_is_one_burst(observer: Path) -> None:
    _, told = policies(observer, "chain")
    assert told == {CHAIN: IDLE, MAIN: IDLE}


def test_threads_that_yield_in_time_keep_the_tier(observer: Path) -> None:
    yielded, told = policies(observer, "threads-yield")
    assert yielded <= {BATCH}
    assert told == {MAIN: BATCH}


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
