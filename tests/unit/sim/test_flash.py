"""The flash emulator from Python: each rule has a client that breaks it; cuts, forks, traces."""

from __future__ import annotations

import dataclasses
import gc
import random

import pytest

from nexus import errors
from nexus.sim.flash import (
    CacheKeeps,
    Cut,
    Fail,
    Flash,
    FlashKind,
    FlashModel,
    Rule,
    mlc_nand,
    slc_nand,
    spi_nor,
)

PAGE, BLOCK, BLOCKS = 2048, 16384, 32
PLAIN = FlashModel(size=BLOCKS * BLOCK, block_size=BLOCK, page_size=PAGE, oob_size=64, seed=1)
ZEROS = bytes(PAGE)
YEAR_NS = 365 * 24 * 3600 * 10**9


def plain(**changes) -> Flash:
    return Flash(dataclasses.replace(PLAIN, **changes))


def out_of_order(flash):
    flash.program(PAGE, ZEROS)
    flash.program(0, ZEROS)


def twice(flash):
    flash.program(0, ZEROS)
    flash.program(0, ZEROS)


def set_a_bit(flash):
    flash.program(0, ZEROS)
    flash.program(0, b"\x01" + ZEROS[1:])


def after_a_cut_erase(flash):
    flash.program(0, ZEROS)
    flash.plan_cut(1, Cut.WEAK)
    with pytest.raises(errors.MediumGoneError):
        flash.erase(0)
    flash.power_on()
    flash.program(0, ZEROS)


def into_a_bad_block(flash):
    flash.mark_bad(0)
    flash.program(0, ZEROS)


def step_again(flash):
    flash.program(0, b"\0" * 512 + b"\xff" * 1536)
    flash.program(0, b"\0" * 512 + b"\xff" * 1536)


RULES = {
    Rule.ORDER: (out_of_order, {}, "page 0 is programmed when page 1"),
    Rule.PROGRAMS: (twice, {}, "program 2 of the page"),
    Rule.CLEAR: (set_a_bit, {"programs": 2}, "byte 0 sets bits"),
    Rule.ERASED: (after_a_cut_erase, {}, "interrupted or refused"),
    Rule.BAD: (into_a_bad_block, {}, "marked bad"),
    Rule.ECC: (step_again, {"programs": 4, "ecc_step": 512, "ecc_bits": 4}, "step or byte 0"),
}


def test_every_rule_has_a_client_that_breaks_it():
    assert set(RULES) == set(Rule.ALL)


@pytest.mark.parametrize("rule", list(RULES))
def test_a_broken_rule_is_told_with_its_place(rule):
    client, changes, words = RULES[rule]
    flash = plain(**changes)
    with pytest.raises(errors.MediumRuleError, match=words) as told:
        client(flash)
    assert "program of 2048 bytes at 0, block 0 page 0" in str(told.value)
    assert flash.breach == str(told.value)
    assert flash.counters.breaches == 1


@pytest.mark.parametrize("rule", list(RULES))
def test_a_rule_that_is_off_is_not_held(rule):
    client, changes, _ = RULES[rule]
    flash = plain(**changes, rules=Rule.ALL & ~rule & ~(Rule.PROGRAMS | Rule.ORDER))
    client(flash)
    assert flash.breach is None


def test_a_client_that_keeps_the_rules_breaks_none():
    flash = plain()
    for at in range(0, flash.size, BLOCK):
        flash.program(at, bytes(BLOCK))
        flash.erase(at)
        flash.program(at + PAGE, ZEROS)
    assert flash.breach is None
    assert flash.wear.least == flash.wear.most == 1


def test_the_first_breach_stays_and_each_error_is_of_its_own():
    flash = plain()
    with pytest.raises(errors.MisalignedError, match="erase"):
        flash.erase(1)
    with pytest.raises(errors.OutOfRangeError, match="read"):
        flash.read(flash.size, 1)
    assert flash.breach is not None
    assert "erase" in flash.breach
    assert flash.counters.breaches == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"size": BLOCK + 1},
        {"page_size": 100},
        {"factory_bad": 21},
        {"ecc_step": 512},
        {"ecc_bits": 4},
        {"ecc_step": 512, "ecc_bits": 16},  # 104 bytes of ECC do not fit 64
        {"kind": FlashKind.NAND, "erased": 0},
        {"rules": 64},
        {"page_size": 128},
        {"endurance_sigma": 2001},
    ],
)
def test_a_model_that_contradicts_itself_is_refused(changes):
    with pytest.raises(ValueError):
        plain(**changes)


@pytest.mark.parametrize("changes", [{"size": 1.0}, {"seed": True}, {"pairs": 1}])
def test_a_model_of_wrong_types_is_refused(changes):
    with pytest.raises(TypeError):
        plain(**changes)


@pytest.mark.parametrize("changes", [{"seed": -1}, {"ecc_step": 1 << 16}, {"seed": 1 << 64}])
def test_a_number_that_is_too_large_is_refused(changes):
    with pytest.raises(OverflowError):
        plain(**changes)
    with pytest.raises(TypeError):
        Flash(None)


@pytest.mark.parametrize("model", [spi_nor, slc_nand, mlc_nand])
def test_the_models_of_parts_are_sound(model):
    flash = Flash(model(seed=3))
    at = next(a for a in range(0, flash.size, flash.block_size) if not flash.is_bad(a))
    data = random.Random(1).randbytes(flash.block_size)
    flash.program(at, data)
    assert flash.read(at, len(data))[0] == data
    flash.erase(at)
    assert flash.counters.time_ns > 0
    assert flash.counters.energy_nj > 0


def test_an_mlc_page_ages_before_it_is_lost():
    flash = Flash(mlc_nand(size=16 << 20, seed=5))
    at = next(a for a in range(0, flash.size, flash.block_size) if not flash.is_bad(a))
    flash.age(at // flash.block_size, 1500)
    flash.program(at, bytes(flash.block_size))
    young = flash.read(at, flash.block_size)[1]
    flash.advance(YEAR_NS)
    old = flash.read(at, flash.block_size)[1]
    assert young < old <= 24
    flash.advance(100 * YEAR_NS)
    with pytest.raises(errors.UncorrectableError) as lost:
        flash.read(at, flash.block_size)
    assert len(lost.value.data) == flash.block_size


@pytest.mark.parametrize("mode", list(Cut))
def test_a_cut_ends_every_verb_until_power_is_back(mode):
    flash = plain()
    flash.plan_cut(2, mode)
    flash.program(0, ZEROS)
    with pytest.raises(errors.MediumGoneError):
        flash.program(PAGE, ZEROS)
    calls = (
        lambda: flash.read(0, 1),
        lambda: flash.erase(0),
        lambda: flash.is_bad(0),
        lambda: flash.mark_bad(0),
        lambda: flash.oob_read(0, 1),
        flash.sync,
    )
    for call in calls:
        with pytest.raises(errors.MediumGoneError):
            call()
    assert not flash.powered
    flash.power_on()
    assert flash.read(0, PAGE)[0] == ZEROS
    assert flash.read(2 * PAGE, PAGE)[0] == b"\xff" * PAGE


def test_a_plan_is_called_off():
    flash = plain()
    flash.plan_cut(1)
    flash.plan_cut(0)
    flash.program(0, ZEROS)
    assert flash.powered


def test_all_cuts_of_a_run_are_reached_by_forks():
    """Exhaustive, as a power-cut rig does it: before each mutation a fork, each mode on its own."""
    flash = plain()
    seen = {mode: set() for mode in Cut if mode != Cut.ANY}
    for page in range(BLOCK // PAGE):
        for mode, outcomes in seen.items():
            branch = flash.fork(seed=page)
            branch.plan_cut(1, mode)
            with pytest.raises(errors.MediumGoneError):
                branch.program(page * PAGE, ZEROS)
            branch.power_on()
            assert branch.read(0, page * PAGE)[0] == bytes(page * PAGE)
            outcomes.add(branch.read(page * PAGE, PAGE)[0].count(0))
        flash.program(page * PAGE, ZEROS)
    assert seen[Cut.BEFORE] == seen[Cut.OOB] == {0}
    assert seen[Cut.AFTER] == {PAGE}
    assert len(seen[Cut.PREFIX]) > 4
    assert len(seen[Cut.SUBSET]) > 4
    assert all(PAGE - 16 <= count < PAGE for count in seen[Cut.WEAK])
    assert flash.counters.cuts == 0


def test_a_cut_while_marking_leaves_a_block_that_may_be_bad():
    outcomes = set()
    for seed in range(40):
        flash = plain(seed=seed)
        flash.plan_cut(1, Cut.ANY)
        with pytest.raises(errors.MediumGoneError):
            flash.mark_bad(BLOCK)
        flash.power_on()
        outcomes.add(flash.is_bad(BLOCK))
    assert outcomes == {False, True}


def test_one_seed_is_one_run():
    def run(seed):
        flash = plain(seed=4)
        flash.seed(seed)
        flash.plan_cut(1, Cut.SUBSET)
        with pytest.raises(errors.MediumGoneError):
            flash.program(0, ZEROS)
        flash.power_on()
        return flash.read(0, PAGE)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_fork_outlives_its_origin():
    flash = plain()
    flash.program(0, ZEROS)
    branch = flash.fork()
    del flash
    gc.collect()
    branch.erase(0)
    assert branch.read(0, 1)[0] == b"\xff"
    assert branch.counters.programs == 1
    assert branch.model == PLAIN


def test_failures_by_order():
    flash = plain()
    flash.fail(1, Fail.PROGRAM)
    with pytest.raises(errors.MediumError):
        flash.program(BLOCK, ZEROS)
    flash.fail(2, Fail.ERASE_DEAF)
    flash.program(2 * BLOCK, ZEROS)
    flash.erase(2 * BLOCK)
    assert flash.read(2 * BLOCK, PAGE)[0] == ZEROS
    flash.fail(2, Fail.NONE)
    flash.erase(2 * BLOCK)
    assert flash.read(2 * BLOCK, 1)[0] == b"\xff"
    with pytest.raises(errors.OutOfRangeError):
        flash.fail(BLOCKS, Fail.READ)
    with pytest.raises(OverflowError):
        flash.fail(0, 7)


def test_a_flipped_bit_is_read_without_ecc_and_corrected_with():
    bare, guarded = plain(), plain(ecc_step=512, ecc_bits=4)
    for flash in (bare, guarded):
        flash.program(0, ZEROS)
        flash.flip(100, 3)
    assert bare.read(100, 1) == (b"\x08", 0)
    assert guarded.read(100, 1) == (b"\0", 1)
    assert guarded.counters.corrected == 1
    with pytest.raises(errors.OutOfRangeError):
        bare.flip(bare.size, 0)


def test_a_cache_forgets_what_was_not_synced():
    flash = plain(cache=100, cache_keeps=CacheKeeps.NOTHING)
    flash.program(0, ZEROS)
    flash.sync()
    flash.program(PAGE, ZEROS)
    assert flash.read(PAGE, PAGE)[0] == ZEROS
    flash.power_off()
    flash.power_on()
    assert flash.read(0, PAGE)[0] == ZEROS
    assert flash.read(PAGE, PAGE)[0] == b"\xff" * PAGE


def test_a_span_is_what_one_operation_read():
    flash = plain()
    for size in (10, 3000, 500):
        flash.mark()
        flash.read(0, size)
    flash.mark()
    assert flash.counters.span_read_bytes_max == 3000


def test_a_trace_repeats_and_tells_what_differs():
    model = slc_nand(size=4 << 20, seed=2)
    flash = Flash(model)
    assert flash.trace is None
    flash.start_trace()
    flash.program(0, b"x" * PAGE)
    flash.read(5, 100)
    with pytest.raises(errors.MediumRuleError):
        flash.program(0, b"x" * PAGE)
    flash.plan_cut(1, Cut.SUBSET)
    with pytest.raises(errors.MediumGoneError):
        flash.program(PAGE, ZEROS)
    flash.power_on()
    with pytest.raises(errors.UncorrectableError):
        flash.read(PAGE, PAGE)
    trace = flash.trace
    assert trace is not None
    again = Flash(model)
    assert again.replay(trace) == 7
    assert again.counters == flash.counters
    with pytest.raises(errors.ReplayError, match="call 0 "):
        again.replay(trace)
    with pytest.raises(errors.CorruptError):
        Flash(model).replay(trace[:-1])
    with pytest.raises(errors.CorruptError):
        Flash(model).replay(b"nothing of the kind")
    flash.stop_trace()
    assert flash.trace is None
