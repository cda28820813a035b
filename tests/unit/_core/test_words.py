"""Ordered words of shared memory: loads, stores, entries behind a lock, sleeping."""

from __future__ import annotations

import mmap
import os
import threading

import pytest

from nexus._core import words
from nexus.errors import CorruptError, MisalignedError, OutOfRangeError


def test_a_stored_word_is_loaded() -> None:
    memory = bytearray(32)
    words.store(memory, 8, 2**64 - 1)
    assert words.load(memory, 8) == 2**64 - 1
    assert memory[:8] == bytes(8)
    assert memory[16:] == bytes(16)


@pytest.mark.parametrize("offset", [25, 32, 2**40])
def test_what_lies_outside_is_refused(offset: int) -> None:
    memory = bytearray(32)
    for call in (
        lambda: words.load(memory, offset),
        lambda: words.store(memory, offset, 1),
        lambda: words.read_entry(memory, offset, 8),
    ):
        with pytest.raises(OutOfRangeError):
            call()
    assert memory == bytes(32)


def test_a_word_is_aligned() -> None:
    with pytest.raises(MisalignedError):
        words.load(bytearray(32), 4)
    with pytest.raises(MisalignedError):
        words.sleep_on(bytearray(32), 2, 0, 0)


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, True])
def test_a_word_is_an_unsigned_integer(value: object) -> None:
    with pytest.raises((OverflowError, TypeError)):
        words.store(bytearray(8), 0, value)


def test_a_constant_buffer_is_not_written() -> None:
    with pytest.raises(BufferError):
        words.store(bytes(8), 0, 1)


def test_an_entry_is_copied_when_its_lock_is_even_and_refused_while_odd() -> None:
    memory = bytearray(b"\2\0\0\0payload.")
    assert words.read_entry(memory, 0, 12) == bytes(memory)
    memory[0] = 3
    with pytest.raises(CorruptError, match="stays locked"):
        words.read_entry(memory, 0, 12)


def test_a_writer_that_was_interrupted_inside_is_waited_for() -> None:
    memory = bytearray(b"\3\0\0\0payload.")
    begin = threading.Event()

    def go_on() -> None:
        begin.wait()
        memory[0] = 4

    writer = threading.Thread(target=go_on)
    writer.start()
    begin.set()
    # Unless a reader naps, the writer has no turn here before it gives up.
    assert words.read_entry(memory, 0, 12) == b"\4\0\0\0payload."
    writer.join()


def test_sleeping_ends_by_another_value_by_time_and_by_a_wake() -> None:
    memory = mmap.mmap(-1, 4096)
    assert words.sleep_on(memory, 0, 1, None), "the word has another value already"
    assert not words.sleep_on(memory, 0, 0, 1_000_000)
    seen = []
    sleeper = threading.Thread(target=lambda: seen.append(words.sleep_on(memory, 0, 0, 10**10)))
    sleeper.start()
    # The sleeper sees the store, or the time passes: no wake is sent here, so look again.
    words.store(memory, 0, 7)
    assert words.sleep_on(memory, 0, 0, 10**9)
    wake = threading.Event()
    while sleeper.is_alive() and not wake.is_set():
        _wake(memory)
        sleeper.join(0.01)
    assert seen == [True]


def _wake(memory: mmap.mmap) -> None:
    import ctypes

    anchor = ctypes.c_char.from_buffer(memory)
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 202, "aarch64": 98, "riscv64": 98}[os.uname().machine]
    libc.syscall(number, ctypes.byref(anchor), 1, 1, None, None, 0)
    del anchor


def test_a_read_only_mapping_can_be_slept_on() -> None:
    descriptor = os.memfd_create("word")
    os.ftruncate(descriptor, 4096)
    with mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        os.close(descriptor)
        assert not words.sleep_on(memory, 0, 0, 1_000_000)
        assert words.sleep_on(memory, 0, 5, None)
