"""`nexus.fiber` in real processes: what a fiber is given, and what it makes of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
import textwrap
import time

import pytest

from nexus.physics import CheckpointSlot, Ring

pytestmark = pytest.mark.slow  # each test starts an interpreter

IMAGE = 0x1122334455667788
FUTEX_WAKE = 1
SYS_FUTEX = {"x86_64": 202}.get(os.uname().machine, 98)


class Rig:
    """The supervisor's side: makes descriptors, starts programs, begins lives."""

    def __init__(self):
        self.files = contextlib.ExitStack()
        self.words = []
        self.descriptors = []
        self.page = None

    def give(self, word, descriptor):
        """Whatever number it has here, the child gets it under the same one."""
        self.words.append(f"{word}={descriptor}")
        self.descriptors.append(descriptor)
        return descriptor

    def memory(self, name, data):
        descriptor = os.memfd_create(name)
        self.files.callback(os.close, descriptor)
        os.write(descriptor, data)
        return descriptor

    def life(self, number=1, *, epoch=0, image=IMAGE, floor=0, own_epoch=0):
        """A page of a life that has begun, or of one that waits (0)."""
        data = struct.pack("<IIQQQI28x", number, epoch, image, floor, 77, own_epoch)
        self.page = self.give("life", self.memory("life", data))

    def begin(self, number):
        os.pwrite(self.page, struct.pack("<I", number), 0)
        import mmap

        with mmap.mmap(self.page, 64) as view:
            address = ctypes.addressof(ctypes.c_uint32.from_buffer(view))
            libc = ctypes.CDLL(None)
            return libc.syscall(SYS_FUTEX, ctypes.c_void_p(address), FUTEX_WAKE, 99, None, None, 0)

    def slot(self):
        slot = self.files.enter_context(CheckpointSlot.create())
        self.give("checkpoint", slot.fd)
        return slot

    def ring(self, word, **options):
        ring = self.files.enter_context(Ring.create(4096, **options))
        self.give(word, ring.fd)
        return ring

    def start(self, code, **environment):
        source = "import nexus.fiber\nfrom typing import NamedTuple\n" + textwrap.dedent(code)
        around = {**os.environ, "NEXUS_FIBER": " ".join(self.words), **environment}
        return subprocess.Popen(
            [sys.executable, "-c", source],
            pass_fds=self.descriptors,
            env=around,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code, **environment):
        process = self.start(code, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def rig():
    made = Rig()
    with made.files:
        yield made


def test_the_result_of_the_function_is_the_exit_code(rig):
    assert rig.run("nexus.fiber.run(lambda context: None)")[0] == 0
    assert rig.run("nexus.fiber.run(lambda context: 7)")[0] == 7
    code, _, err = rig.run("nexus.fiber.run(lambda context: 'x')")
    assert code == 1
    assert "TypeError" in err
    assert "TypeError" in rig.run("nexus.fiber.run(lambda context: 256)")[2]


def test_outside_a_fiber_the_error_says_so():
    done = subprocess.run(
        [sys.executable, "-c", "import nexus.fiber; nexus.fiber.run(print)"],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "NEXUS_FIBER"},
    )
    assert done.returncode == 1
    assert "NoFiberError: this process is no fiber" in done.stderr


def test_name_and_life(rig):
    rig.life(3)
    code = "nexus.fiber.run(lambda c: print(c.name, c.life, c.restored))"
    assert rig.run(code, NEXUS_NAME="sensor one") == (0, "sensor one 3 None\n", "")


def test_a_standby_waits_until_its_life_begins(rig):
    rig.life(0)
    process = rig.start("print('ready', flush=True)\nnexus.fiber.run(lambda c: print(c.life))")
    assert process.stdout.readline() == "ready\n"
    while rig.begin(0) == 0:  # wakes it for nothing, until it sleeps
        time.sleep(0.002)
    assert process.poll() is None
    rig.begin(5)
    assert process.communicate(timeout=60) == ("5\n", "")


def restored(rig):
    code, out, err = rig.run("nexus.fiber.run(lambda c: print(c.restored))")
    assert code == 0, err
    return out.strip()


def test_the_checkpoint_that_the_page_names_is_restored(rig):
    rig.slot().save(b"state", image=IMAGE, epoch=2)
    rig.life(2, epoch=2, floor=1, own_epoch=3)
    assert restored(rig) == "b'state'"


@pytest.mark.parametrize(
    "page",
    [
        {"floor": 0, "epoch": 2},
        {"floor": 3, "epoch": 2},
        {"floor": 1, "epoch": 1},
        {"floor": 1, "epoch": 2, "image": IMAGE + 1},
    ],
    ids=["cold", "replayed", "epoch", "image"],
)
def test_any_other_checkpoint_is_refused(rig, page):
    slot = rig.slot()
    slot.save(b"older", image=IMAGE, epoch=2)
    slot.save(b"state", image=IMAGE, epoch=2)
    rig.life(2, **page)
    assert restored(rig) == "None"


def test_a_replayed_slot_is_refused_although_its_hash_is_right(rig):
    slot = rig.slot()
    slot.save(b"old", image=IMAGE, epoch=2)
    replay = os.pread(slot.fd, 82576, 0)
    slot.save(b"new", image=IMAGE, epoch=2)
    os.pwrite(slot.fd, replay, 0)
    assert slot.verify() == ("valid", "valid")
    rig.life(2, epoch=2, floor=2)
    assert restored(rig) == "None"


def test_a_checkpoint_carries_image_and_own_epoch(rig):
    slot = rig.slot()
    rig.life(2, epoch=8, own_epoch=9)
    code = "nexus.fiber.run(lambda c: print(c.checkpoint(b'1'), c.checkpoint(b'2')))"
    assert rig.run(code)[1] == "1 2\n"
    assert slot.restore(image=IMAGE, epoch=9).blob == b"2"
    assert slot.restore(image=IMAGE, epoch=8) is None


def test_a_blob_that_is_too_large_changes_nothing(rig):
    slot = rig.slot()
    rig.life(1, own_epoch=1)
    code = """
        from nexus.errors import TooLargeError
        def main(context):
            context.checkpoint(bytes(32768))
            try:
                context.checkpoint(bytes(32769))
            except TooLargeError as error:
                print(error.code, "32769" in str(error))
        nexus.fiber.run(main)
    """
    assert rig.run(code) == (0, "NX-USE-004 True\n", "")
    found = slot.restore(image=IMAGE, epoch=1)
    assert (found.sequence, found.blob) == (1, bytes(32768))


def test_what_was_not_given_is_a_typed_error(rig):
    code = """
        from nexus.errors import NoHandleError
        def main(context):
            for ask in (lambda: context.checkpoint(b""), lambda: context.channel("x"),
                        lambda: context.open("y")):
                try:
                    ask()
                except NoHandleError as error:
                    print(error.code)
        nexus.fiber.run(main)
    """
    assert rig.run(code) == (0, "NX-FIB-003\n" * 3, "")


def test_channels_carry_bytes_both_ways(rig):
    up, down = rig.ring("read:up"), rig.ring("write:down")
    for number in range(3):
        up.put(b"%d" % number)
    up.put(b"")
    code = """
        def main(context):
            down = context.channel("down")
            for data in context.channel("up"):
                if not data:
                    break
                down.send(data * 2)
        nexus.fiber.run(main)
    """
    assert rig.run(code)[0] == 0
    assert down.get_many(9) == [b"00", b"11", b"22"]


def test_channels_time_out_and_know_their_end(rig):
    rig.ring("read:up")
    code = """
        from nexus.errors import DeadlineError, NoHandleError
        def main(context):
            up = context.channel("up")
            print(up.try_recv(), up.way)
            try:
                up.recv(timeout=0.01)
            except DeadlineError as error:
                print(error.code)
            for verb in (up.send, up.try_send):
                try:
                    verb(b"")
                except NoHandleError as error:
                    print(error)
        nexus.fiber.run(main)
    """
    answer = "this fiber may not write the channel 'up', only read\n"
    assert rig.run(code) == (0, "None read\nNX-USE-007\n" + 2 * answer, "")


def test_typed_channels_carry_records(rig):
    up, down = rig.ring("read:up"), rig.ring("write:down")
    up.put(struct.pack("<Qd", 7, 0.5))
    up.put(b"short")
    code = """
        from nexus.errors import PeerRecordError, RecordError
        class Sample(NamedTuple):
            time_ns: nexus.fiber.U64
            celsius: nexus.fiber.F64
        def main(context):
            up, down = context.channel("up", Sample), context.channel("down", Sample)
            got = up.recv()
            down.send(got._replace(time_ns=got.time_ns + 1))
            try:
                up.recv()
            except PeerRecordError as error:
                print(error.code)
            for wrong in (Sample(-1, 0.0), (1, 2.0), Sample("x", 1.0)):
                try:
                    down.try_send(wrong)
                except RecordError as error:
                    print(error.code)
        nexus.fiber.run(main)
    """
    assert rig.run(code) == (0, "NX-FIB-005\n" + "NX-FIB-004\n" * 3, "")
    assert down.get_many(9) == [struct.pack("<Qd", 8, 0.5)]


def test_files_are_opened_as_they_were_given(rig, tmp_path):
    place = tmp_path / "data"
    place.write_bytes(b"before")
    with place.open("rb") as readable, place.open("ab") as writable:
        rig.give("open:in", readable.fileno())
        rig.give("open:out", writable.fileno())
        code = """
            def main(context):
                with context.open("in") as file:
                    print(file.read(), file.mode)
                with context.open("out") as file:
                    print(file.write(b" after"), file.mode)
                context.open("out").close()
            nexus.fiber.run(main)
        """
        assert rig.run(code) == (0, "b'before' rb\n6 wb\n", "")
    assert place.read_bytes() == b"before after"


def test_handles_do_not_pass_on_to_children(rig):
    rig.life(1)
    code = """
        import subprocess, sys
        def main(context):
            test = "import os, sys; os.fstat(int(sys.argv[1]))"
            words = [sys.executable, "-c", test, sys.argv[1]]
            return subprocess.run(words, close_fds=False, stderr=subprocess.DEVNULL).returncode
        nexus.fiber.run(main)
    """.replace("sys.argv[1]]", f'"{rig.page}"]')
    assert rig.run(code)[0] == 1


def test_wrong_handles_are_told_before_anything_runs(rig, tmp_path):
    (tmp_path / "x").write_bytes(bytes(64))
    with (tmp_path / "x").open("rb") as file:
        rig.give("read:a", file.fileno())
        code, out, err = rig.run("nexus.fiber.run(lambda c: print('ran'))")
    assert (code, out) == (1, "")
    assert "HandlesError" in err
    for words in ("life=60", "life=x", "checkpoint=3 life=3"):
        rig.words, rig.descriptors = [words], []
        assert "HandlesError" in rig.run("nexus.fiber.run(print)")[2]


def test_yield_makes_a_switch_each_time_and_sched_yield_does_not(rig):
    """The control is what an idle machine does; where others run, sched_yield may switch."""
    code = """
        import os, resource
        def switches():
            return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        def main(context):
            before = switches()
            for _ in range(100):
                context.yield_()
            ours = switches() - before
            before = switches()
            for _ in range(100):
                os.sched_yield()
            print(ours, switches() - before)
        nexus.fiber.run(main)
    """
    code, out, err = rig.run(code)
    assert code == 0, err
    ours, theirs = map(int, out.split())
    assert ours >= 100
    assert theirs < 100


def test_periods_do_not_drift_and_late_cycles_are_skipped(rig):
    """Each cycle works for 2 ms; counted from its end, the last period would be 70 ms late.

    On a busy machine any cycle may be late, so the last ones are judged by the best of them.
    """
    code = """
        import time
        def main(context):
            start = time.monotonic()
            context.sleep_until(start + 0.02)
            assert time.monotonic() >= start + 0.02
            context.sleep_until(start)
            numbers, begun = [], []
            zero = time.monotonic()
            for number in context.periodic(0.01):
                numbers.append(number)
                begun.append(time.monotonic())
                time.sleep(0.035 if len(numbers) == 4 else 0.002)
                if len(numbers) == 40:
                    break
            assert numbers[0] == 0 and numbers == sorted(set(numbers)), numbers
            assert numbers[4] >= numbers[3] + 3, numbers
            late = [b - zero - n * 0.01 for b, n in zip(begun, numbers)]
            assert min(late) >= 0, late
            assert min(late[-10:]) < 0.01, late
            try:
                context.periodic(0)
            except ValueError:
                print("refused")
        nexus.fiber.run(main)
    """
    assert rig.run(code) == (0, "refused\n", "")


def test_ctrl_c_ends_a_standby(rig):
    import signal

    rig.life(0)
    process = rig.start("print('ready', flush=True)\nnexus.fiber.run(print)")
    assert process.stdout.readline() == "ready\n"
    while rig.begin(0) == 0:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
