"""Raw flash without hardware: an emulated device that keeps the laws of flash and can break.

`Flash(model)` is a medium like any other (nexus.seams.flash), with a second face for the test:
`plan_cut` and `power_on`, `fork`, `fail`, `age`, `flip`, `advance`, `counters`, `trace`. The models
below are of usual parts; `dataclasses.replace` changes one thing about them.

Guarantees: docs/reference/flash.md. Not handled: planes, suspended erases, real ECC codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.seams.flash import FlashKind
from nexus.sim._flash import Flash
from nexus.sim.flash_model import (
    CacheKeeps,
    Cut,
    Fail,
    FlashCounters,
    FlashModel,
    FlashWear,
    Rule,
)

if TYPE_CHECKING:
    from nexus.seams import flash as seam

    _is_a_medium: type[seam.Flash] = Flash

__all__ = [
    "CacheKeeps",
    "Cut",
    "Fail",
    "Flash",
    "FlashCounters",
    "FlashKind",
    "FlashModel",
    "FlashWear",
    "Rule",
    "mlc_nand",
    "slc_nand",
    "spi_nor",
]


def spi_nor(*, size: int = 4 << 20, seed: int = 0) -> FlashModel:
    """A serial NOR: sectors of 4 KiB, pages of 256 bytes that any program may clear bits of.

    Times are the typical ones of parts of this class: 0.4 ms a page, 45 ms a sector, 50 MB/s.
    """
    return FlashModel(
        size=size,
        block_size=4096,
        page_size=256,
        programs=65535,
        kind=FlashKind.NOR,
        seed=seed,
        rules=Rule.ALL & ~Rule.ORDER,
        endurance=100_000,
        endurance_sigma=300,
        read_ns=200,
        program_ns=400_000,
        erase_ns=45_000_000,
        byte_ps=20_000,
        read_nj=10,
        program_nj=20_000,
        erase_nj=2_000_000,
    )


def slc_nand(*, size: int = 128 << 20, seed: int = 0) -> FlashModel:
    """A single-level NAND: blocks of 128 KiB, pages of 2 KiB + 64, ECC of 4 bits in 512 bytes.

    It leaves the factory with bad blocks and wears out; its raw errors stay below what ECC corrects
    for most of its life. Times: 25 us to read a page, 200 us to program it, 1.5 ms to erase.
    """
    return FlashModel(
        size=size,
        block_size=128 << 10,
        page_size=2048,
        oob_size=64,
        flips_max=3,
        seed=seed,
        factory_bad=10,
        ecc_step=512,
        ecc_bits=4,
        error_base=1_000,
        error_wear=1_000,
        error_hour=20,
        error_read=10,
        error_program=1_000,
        endurance=100_000,
        endurance_sigma=300,
        read_ns=25_000,
        program_ns=200_000,
        erase_ns=1_500_000,
        byte_ps=25_000,
        read_nj=1_500,
        program_nj=12_000,
        erase_nj=90_000,
    )


def mlc_nand(*, size: int = 256 << 20, seed: int = 0) -> FlashModel:
    """A two-bit NAND: blocks of 1 MiB, pages of 8 KiB + 448 in pairs, ECC of 24 bits in 1 KiB.

    A cut inside one page can spoil an earlier one. It bears about 3,000 erases.
    """
    return FlashModel(
        size=size,
        block_size=1 << 20,
        page_size=8192,
        oob_size=448,
        kind=FlashKind.MLC,
        flips_max=18,
        seed=seed,
        factory_bad=20,
        ecc_step=1024,
        ecc_bits=24,
        pairs=True,
        error_base=2_000_000,
        error_wear=40_000_000,
        error_hour=20_000,
        error_read=10_000,
        error_program=500_000,
        endurance=3_000,
        endurance_sigma=250,
        read_ns=75_000,
        program_ns=1_300_000,
        erase_ns=3_800_000,
        byte_ps=5_000,
        read_nj=5_000,
        program_nj=80_000,
        erase_nj=250_000,
    )
