"""The ledger: written, taken over after any crash, proved, and false ones found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import LedgerError
from nexus.logic import ledger as ledger_module
from nexus.logic.ledger import HEAD_BYTES, RECORD_BYTES, SEAL_EVERY, Ledger, verify
from nexus.physics.ledger import Ed25519Signer, FolderStore, ed25519_verify
from nexus.physics.stl import decode_event, encode_event
from nexus.seams.events import Event, EventKind
from nexus.sim.clock import SetClock
from nexus.sim.ledger import MemoryStore, SumSigner, sum_verify

NAME = "chain-00000000.nxl"
START = (1000, 2000, 1)


def event(id: int) -> Event:
    raw = encode_event(
        EventKind.FIBER_SPAWN, time_ns=id, fiber=1, entity=id, cause=0, data=(id, 0, 0)
    )
    return decode_event(raw, id)


def written(count: int, store: MemoryStore | None = None, first: int = 1) -> MemoryStore:
    store = store or MemoryStore()
    ledger = Ledger.open(store, SumSigner(), SetClock())
    ledger.start(*START, 1)
    for id in range(first, first + count):
        ledger.event(event(id))
    ledger.seal()
    return store


def proof(store: MemoryStore, key: bytes | None = None):
    return verify(store, key, sum_verify)


def test_what_was_written_is_proved() -> None:
    found = proof(written(10))
    assert found.bad is None
    assert (found.records, found.events, found.seals, found.unsigned) == (12, 10, 1, 0)


def test_an_empty_folder_proves_nothing_and_is_not_wrong() -> None:
    found = proof(MemoryStore())
    assert (found.bad, found.records, found.files) == (None, 0, 0)


def test_a_seal_stands_after_every_so_many_records() -> None:
    found = proof(written(3 * SEAL_EVERY))
    assert found.seals == 4
    assert found.unsigned == 0


def test_what_comes_after_the_last_seal_is_not_signed() -> None:
    store = written(3)
    ledger = Ledger.open(store, SumSigner(), SetClock())
    ledger.start(*START, 2)
    ledger.event(event(4))
    ledger.flush()
    assert proof(store).unsigned == 2


@given(st.integers(0, 20), st.data())
def test_any_flipped_bit_is_found_at_or_before_its_record(count: int, data: st.DataObject) -> None:
    store = written(count)
    raw = store.files[NAME]
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    found = proof(store, SumSigner().public)
    assert found.bad is not None
    assert found.bad[1] == max(1, (at - HEAD_BYTES) // RECORD_BYTES + 1)
    assert found.records == found.bad[1] - 1


@given(st.integers(1, 20), st.data())
def test_a_record_taken_out_is_found(count: int, data: st.DataObject) -> None:
    store = written(count)
    at = data.draw(st.integers(0, count)) * RECORD_BYTES + HEAD_BYTES
    del store.files[NAME][at : at + RECORD_BYTES]
    assert proof(store).bad is not None


def test_a_chain_of_another_key_is_found_by_who_knows_the_key() -> None:
    store = written(3)
    assert proof(store, bytes(31) + b"\2").bad is not None
    assert proof(store, SumSigner().public).bad is None


def test_a_chain_signed_by_nobody_is_found() -> None:
    class Forger(SumSigner):
        def sign(self, data: bytes) -> bytes:
            return bytes(64)

    store = MemoryStore()
    ledger = Ledger.open(store, Forger(), SetClock())
    ledger.start(*START, 1)
    ledger.seal()
    found = proof(store)
    assert found.bad == (NAME, 2, "its signature is wrong")


@given(st.integers(0, 700), st.integers(0, 2000))
def test_a_crash_at_any_byte_leaves_a_chain_that_goes_on(count: int, kept: int) -> None:
    store = MemoryStore()
    ledger = Ledger.open(store, SumSigner(), SetClock())
    ledger.start(*START, 1)
    ledger.flush()
    for id in range(1, count + 1):
        ledger.event(event(id))
        if id % 7 == 0:
            ledger.flush()
    # The last write is interrupted at any byte.
    pending, ledger._pending[:] = b"".join(ledger._pending), []
    store.files[NAME] += pending[:kept]
    before = (len(store.files[NAME]) - HEAD_BYTES) // RECORD_BYTES
    again = Ledger.open(store, SumSigner(), SetClock())
    cut = again.start(*START, 2)
    assert cut == (len(pending[:kept])) % RECORD_BYTES
    for id in range(again.next_id + 1, count + 3):
        again.event(event(id))
    again.seal()
    found = proof(store)
    assert found.bad is None
    assert found.events == count + 2, "each event once, whatever was torn"
    assert found.lost == 0
    assert found.records >= before + 3


def test_the_canary_a_writer_that_cuts_nothing_leaves_a_broken_chain() -> None:
    store = written(3)
    store.files[NAME] += bytes(50)
    assert proof(store).bad is not None


def test_a_file_whose_making_was_cut_short_is_made_again() -> None:
    for size in range(HEAD_BYTES):
        store = written(2)
        head = bytes(store.files[NAME][:size])
        store.files = {NAME: bytearray(head)}
        written(2, store)
        assert proof(store).bad is None


def test_damage_in_the_middle_is_no_crash_and_nothing_is_changed() -> None:
    store = written(5)
    store.files[NAME][HEAD_BYTES + 3 * RECORD_BYTES + 20] ^= 1
    before = bytes(store.files[NAME])
    with pytest.raises(LedgerError, match="record 4"):
        Ledger.open(store, SumSigner(), SetClock())
    assert bytes(store.files[NAME]) == before


def test_another_key_does_not_take_the_chain_over() -> None:
    store = written(2)
    with pytest.raises(LedgerError, match="another key"):
        Ledger.open(store, SumSigner(bytes(32)), SetClock())


def test_events_that_were_lost_are_counted_in_the_chain() -> None:
    store = MemoryStore()
    ledger = Ledger.open(store, SumSigner(), SetClock())
    ledger.start(*START, 1)
    ledger.event(event(1))
    ledger.event(event(11))
    ledger.seal()
    assert proof(store).lost == 9
    again = Ledger.open(store, SumSigner(), SetClock())
    again.start(*START, 2)
    assert again.next_id == 11
    again.start(5000, 6000, 2, 1)
    assert again.next_id == 0, "another supervisor counts anew"


def test_files_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "FILE_BYTES_MAX", HEAD_BYTES + 20 * RECORD_BYTES)
    store = written(100)
    assert len(store.files) > 4
    assert all(len(data) <= HEAD_BYTES + 20 * RECORD_BYTES for data in store.files.values())
    found = proof(store)
    assert (found.bad, found.events, found.files) == (None, 100, len(store.files))
    again = Ledger.open(store, SumSigner(), SetClock())
    again.start(*START, 2)
    assert again.next_id == 100, "the start may stand in an earlier file"
    again.seal()
    assert proof(store).bad is None
    del store.files["chain-00000002.nxl"]
    found = proof(store)
    assert found.bad is not None
    assert "chain-00000002.nxl" in found.bad[2]


def test_on_disk_and_with_ed25519_it_is_the_same(tmp_path) -> None:
    signer = Ed25519Signer(bytes(range(32)))
    store = FolderStore(tmp_path)
    ledger = Ledger.open(store, signer, SetClock())
    ledger.start(*START, 1)
    for id in range(1, 300):
        ledger.event(event(id))
    ledger.seal()
    store.close()
    found = verify(FolderStore(tmp_path), signer.public, ed25519_verify)
    assert (found.bad, found.events, found.seals) == (None, 299, 2)
    path = tmp_path / NAME
    raw = bytearray(path.read_bytes())
    raw[-33] ^= 1
    path.write_bytes(raw)
    assert verify(FolderStore(tmp_path), signer.public, ed25519_verify).bad is not None
    assert path.stat().st_mode & 0o777 == 0o600


def test_golden_bytes_of_a_ledger() -> None:
    store = written(1)
    raw = bytes(store.files[NAME])
    assert raw[:24].hex() == "4e584c4752000d0a01000000000000000100000000000000"
    first = raw[HEAD_BYTES : HEAD_BYTES + RECORD_BYTES]
    assert first[:16].hex() == "01000000000000000200000001000000"
    assert first[32:48].hex() == "e803000000000000d007000000000000"
    assert raw[HEAD_BYTES + RECORD_BYTES :][24:40].hex() == "01000000000000000300000001000000"
