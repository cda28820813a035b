"""Rights of running fibers revoked: they are gone at the honest end, whatever the other does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nexus.seams.supervisor import FiberState, Taken

pytestmark = pytest.mark.slow

WAIT_S = 30.0
# A peer looks at least every 0.2 s; the rest is what two busy cores may add.
WAKE_S = 2.0
CHANNEL, MEMORY = 2, 3
PROGRAMS = {
    # Obeys nobody: it has the ring mapped, and writes into it for ever.
    "hostile": """
        import os, time
        from nexus.physics import Ring
        from nexus.fiber import run
        def hostile(context):
            words = dict(word.split("=") for word in os.environ["NEXUS_FIBER"].split())
            ring = Ring.attach(int(words["write:way"]))
            if context.life > 1:
                ring.succeed("producer")
            count = 0
            while True:
                count += ring.put(count.to_bytes(8, "little"))
                if count % 100 == 0:
                    print("put", count, flush=True)
                time.sleep(0.001)
        run(hostile)
    """,
    "honest": """
        import time
        from nexus.errors import RevokedError
        from nexus.fiber import run
        def honest(context):
            way = context.channel("way")
            taken = refused = 0
            while True:
                try:
                    way.recv()
                    taken += 1
                    refused = 0
                    if taken % 10 == 0:
                        print("took", taken, flush=True)
                except RevokedError as error:
                    refused += 1
                    if refused == 1:
                        print("revoked", error.code, time.monotonic(), flush=True)
                    if refused % 20 == 0:
                        print("refused", refused, flush=True)
                    time.sleep(0.01)
        run(honest)
    """,
    # The canary: it does not look at its life page.
    "deaf": """
        import os
        from nexus.physics import Ring
        from nexus.fiber import run
        def deaf(context):
            words = dict(word.split("=") for word in os.environ["NEXUS_FIBER"].split())
            ring = Ring.attach(int(words["read:way"]))
            taken = 0
            while ring.recv() is not None:
                taken += 1
                if taken % 10 == 0:
                    print("took", taken, flush=True)
        run(deaf)
    """,
    # Asleep for a record that never comes, or for room that never comes.
    "asleep": """
        import os, time
        from nexus.errors import RevokedError
        from nexus.fiber import run
        def asleep(context):
            way = context.channel("way")
            print("asleep", flush=True)
            try:
                while way.way == "write":
                    way.send(bytes(64))
                way.recv()
            except RevokedError as error:
                print("revoked", error.code, time.monotonic(), flush=True)
            context.sleep_until(time.monotonic() + 1000)
        run(asleep)
    """,
    "reader": """
        import os, time
        from nexus.errors import RevokedError
        from nexus.fiber import run
        def reader(context):
            words = dict(word.split("=") for word in os.environ["NEXUS_FIBER"].split())
            raw = os.pread(int(words["open:data"]), 100, 0)
            try:
                file = context.open("data")
                name = os.pread(file.fileno(), 100, 0).decode()
            except RevokedError as error:
                name = error.code
            print("life", context.life, raw, name, flush=True)
            context.sleep_until(time.monotonic() + 1000)
        run(reader)
    """,
}


@pytest.fixture
def node(live):
    live.programs(PROGRAMS)
    return live


@pytest.mark.parametrize("who", ["hostile", "honest"])
def test_nothing_more_is_taken_from_an_end_that_writes_on(node, who: str) -> None:
    node.fiber("hostile", "hostile", "standby")
    node.fiber("honest", "honest", "standby")
    node.channel("hostile", "honest")
    node.boot()
    node.until_said("honest", "took 50")
    began = time.monotonic()
    assert node.revoke(who, CHANNEL) == Taken.CHANNEL
    code, when = node.until_said("honest", "revoked").split()[1:]
    assert code == "NX-CAP-003"
    assert float(when) - began < WAKE_S
    before = len(node.log("honest"))
    puts = len(node.log("hostile"))
    node.until_said("honest", "refused 40")
    assert all(line.startswith("refused") for line in node.log("honest")[before:])
    # Both may begin new lives: the word is in their pages, too. The hostile one fills the ring.
    for name in ("hostile", "honest"):
        node.running.control.restart(node.place(name))
    before = len(node.log("honest"))
    node.until_said("honest", "refused 20", before)
    assert not [line for line in node.log("honest")[before:] if line.startswith("took")]
    kinds = [one.type for one in node.running.table.capabilities(node.place(who).slot)]
    assert kinds == [], "the trap does not give it again"
    # Granted again: the very records that were written meanwhile.
    number = {"hostile": "write:way=", "honest": "read:way="}[who]
    node.running.control.grant(
        node.place(who), type=CHANNEL, rights=11, object=handle(node, who, number)
    )
    node.until_said("honest", "took 10", before)
    node.until(lambda: len(node.log("hostile")) > puts, "the hostile end puts on")


def test_only_the_word_of_the_page_holds_it(node) -> None:
    node.fiber("hostile", "hostile")
    node.fiber("deaf", "deaf")
    node.channel("hostile", "deaf")
    node.boot()
    node.until_said("deaf", "took 50")
    assert node.revoke("hostile", CHANNEL) == Taken.CHANNEL
    before = len(node.log("deaf"))
    node.until_said("deaf", "took", before + 5)


def test_what_was_revoked_ends_with_the_fiber_that_it_was_taken_from(node) -> None:
    node.fiber("hostile", "hostile")
    node.fiber("honest", "honest")
    node.channel("hostile", "honest")
    node.boot()
    node.until_said("honest", "took 10")
    assert node.revoke("hostile", CHANNEL) == Taken.CHANNEL
    node.until_said("honest", "refused 20")
    before = len(node.log("honest"))
    control, place = node.running.control, node.place("hostile")
    control.stop(place, at_once=True)
    control.wait(place)
    time.sleep(0.5)
    assert not [line for line in node.log("honest")[before:] if line.startswith("took")]
    control.forget(place)
    node.until_said("honest", "took", before)  # what the ring still has


def handle(node, name: str, word: str) -> int:
    """The number of a handle: the life page is the first, 3."""
    environment = Path(f"/proc/{node.entry(name).pid}/environ").read_text().split("\0")
    (handles,) = [one for one in environment if one.startswith("NEXUS_FIBER=")]
    (found,) = [one for one in handles.split("=", 1)[1].split() if one.startswith(word)]
    return int(found.rpartition("=")[2])


@pytest.mark.parametrize(("asleep", "other"), [("read", "write"), ("write", "read")])
def test_who_sleeps_for_a_record_or_for_room_wakes_in_time(node, asleep: str, other: str) -> None:
    idle = 'program "/bin/sleep" "1000"'
    node.fiber("asleep", "asleep")
    node.describe(f'fiber "idle" {{ {idle}; }}\n')
    node.channel(*(("idle", "asleep") if asleep == "read" else ("asleep", "idle")))
    node.boot()
    node.until_said("asleep", "asleep")
    time.sleep(0.5)  # so that it does sleep: its waits are the case that matters
    assert len(node.log("asleep")) == 1, "nothing but the revocation wakes it"
    began = time.monotonic()
    assert node.revoke("idle", CHANNEL) == Taken.CHANNEL
    code, when = node.until_said("asleep", "revoked").split()[1:]
    assert code == "NX-CAP-003"
    assert float(when) - began < WAKE_S


@pytest.mark.parametrize(
    ("standby", "restart"), [(True, "always"), (False, "always"), (False, "never")]
)
def test_a_file_goes_with_the_life_that_has_it(node, standby: bool, restart: str) -> None:
    data = node.folder / "data"
    data.write_text("secret")
    more = [f'open "data" "{data}"', *(["standby"] if standby else [])]
    node.fiber("reader", "reader", *more, restart=restart)
    # Another fiber that has the same file keeps it.
    node.fiber("other", "reader", f'open "data" "{data}"')
    node.boot()
    assert node.until_said("reader", "life 1") == "life 1 b'secret' secret"
    pid = node.entry("reader").pid
    assert node.revoke("reader", MEMORY) == Taken.FILE
    assert node.until_said("reader", "life 2") == "life 2 b'' NX-CAP-003"
    assert not Path(f"/proc/{pid}").exists()
    node.running.control.restart(node.place("reader"))
    assert node.until_said("reader", "life 3") == "life 3 b'' NX-CAP-003"
    number = handle(node, "reader", "open:data=")
    node.running.control.grant(node.place("reader"), type=MEMORY, rights=1, object=number)
    assert node.entry("reader").lives == 3, "what is given ends no life"
    node.running.control.restart(node.place("reader"))
    assert node.until_said("reader", "life 4") == "life 4 b'secret' secret"
    assert node.log("other") == ["life 1 b'secret' secret"]
    assert node.entry("other").state == FiberState.ALIVE
