"""What an emulated flash device is, and what it tells: the values of nexus.sim.flash."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nexus.seams.flash import FlashKind

__all__ = [
    "CacheKeeps",
    "Cut",
    "Fail",
    "FlashCounters",
    "FlashModel",
    "FlashWear",
    "Rule",
]


class Rule(enum.IntFlag):
    """The rules that a client is held to; docs/spec/flash.md has each."""

    ORDER = 1
    PROGRAMS = 2
    CLEAR = 4
    ERASED = 8
    BAD = 16
    ECC = 32
    ALL = 63


class Cut(enum.IntEnum):
    """What an interrupted operation leaves."""

    ANY = 0
    BEFORE = 1
    AFTER = 2
    PREFIX = 3
    SUBSET = 4
    WEAK = 5
    OOB = 6


class Fail(enum.IntEnum):
    """What a worn or failed block does; NONE of a model's `worn` lets each block draw one."""

    NONE = 0
    PROGRAM = 1
    ERASE = 2
    READ = 3
    PROGRAM_DEAF = 4
    ERASE_DEAF = 5
    PROGRAM_ERASE = 6


class CacheKeeps(enum.IntEnum):
    """What survives of what a caching controller had not synced."""

    NOTHING = 0
    PREFIX = 1
    SUBSET = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashModel:
    """What a device is, and all that can happen to it. Units and laws: docs/spec/flash.md.

    Attributes:
        size: bytes of the device.
        block_size: bytes that one erase sets.
        page_size: bytes of the unit of program.
        oob_size: bytes beside each page.
        programs: of one page between two erases; 65535: any number.
        kind: whether a program can only clear bits depends on it.
        erased: what an erased byte reads as.
        flips_max: corrected bits in one step from which the client ought to move data.
        seed: all chance is a function of it.
        rules: what the client is held to.
        factory_bad: blocks of a thousand that are bad from the start, at most 20.
        ecc_step: bytes of an ECC step; 0: no ECC.
        ecc_bits: that are corrected in a step.
        miscorrects: whether what is beyond correction may pass as corrected.
        pairs: whether pages share cells, so that a cut of one spoils the other.
        error_base: raw errors in 1e-12 of a bit...
        error_wear: ...for the square of the block's thousands of erases.
        error_hour: ...for an hour since the program, and again per thousand erases.
        error_read: ...for a read of a neighbour page since the erase.
        error_program: ...for a program of a neighbour page since the program.
        endurance: median of the erases that a block bears; 0: any number.
        endurance_sigma: of its log-normal, in thousandths.
        worn: what a worn block does.
        cache: changes that a controller holds back until a sync.
        cache_keeps: which of them survive a cut.
        read_ns: virtual time of a page read.
        program_ns: of a page program.
        erase_ns: of a block erase.
        byte_ps: picoseconds to move a byte.
        read_nj: energy of a page read.
        program_nj: of a page program.
        erase_nj: of a block erase.
    """

    size: int
    block_size: int
    page_size: int
    oob_size: int = 0
    programs: int = 1
    kind: FlashKind = FlashKind.NAND
    erased: int = 0xFF
    flips_max: int = 0
    seed: int = 0
    rules: Rule = Rule.ALL
    factory_bad: int = 0
    ecc_step: int = 0
    ecc_bits: int = 0
    miscorrects: bool = False
    pairs: bool = False
    error_base: int = 0
    error_wear: int = 0
    error_hour: int = 0
    error_read: int = 0
    error_program: int = 0
    endurance: int = 0
    endurance_sigma: int = 0
    worn: Fail = Fail.NONE
    cache: int = 0
    cache_keeps: CacheKeeps = CacheKeeps.NOTHING
    read_ns: int = 0
    program_ns: int = 0
    erase_ns: int = 0
    byte_ps: int = 0
    read_nj: int = 0
    program_nj: int = 0
    erase_nj: int = 0


@dataclass(frozen=True, slots=True)
class FlashCounters:
    """What was done since the device was made; a fork goes on from its origin's.

    `mutations` counts what a cut can interrupt: page programs, erases, writes beside a page.
    A span lies between two calls of `mark`.
    """

    reads: int
    read_bytes: int
    read_pages: int
    programs: int
    program_bytes: int
    erases: int
    oob_reads: int
    oob_writes: int
    syncs: int
    mutations: int
    corrected: int
    uncorrectable: int
    miscorrected: int
    refused: int
    cuts: int
    breaches: int
    time_ns: int
    energy_nj: int
    marks: int
    span_read_bytes_max: int
    span_time_ns_max: int


@dataclass(frozen=True, slots=True)
class FlashWear:
    """Erases of the blocks: the fewest, the most, and the mean."""

    least: int
    most: int
    mean: float
