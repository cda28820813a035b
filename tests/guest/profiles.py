"""The machines that guests are: devices on top of the common ones, and their drivers."""

from __future__ import annotations

from dataclasses import dataclass

# What every guest needs to reach the host: its files over 9p, commands over a serial port.
BASE_MODULES = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of guest.

    Attributes:
        name: as given on the command line and to the marker `guest`.
        modules: loaded at boot, after those that they depend on; parameters follow a space.
        devices: further arguments of QEMU.
        memory_mib: of the guest.
    """

    name: str
    modules: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    memory_mib: int = 1024


PROFILES = {
    profile.name: profile
    for profile in (
        # QEMU's teaching device: registers of known behaviour that answer exact widths alone.
        # The second one is there to be told from the first, and to be removed.
        Profile("edu", modules=("uio_pci_generic",), devices=("-device", "edu") * 2),
        # A NAND of 128 KiB blocks that fails by place, and a NOR-like device beside it. The third
        # erase of block 20, program of page 1920 and read of page 2560 go wrong: test_mtd.py.
        Profile(
            "mtd",
            modules=(
                "nandsim id_bytes=0x20,0xa1,0x00,0x15 badblocks=10,11 weakblocks=20:2 "
                "weakpages=1920:2 gravepages=2560:2",
                "mtdram total_size=1024 erase_size=16",
            ),
        ),
        # A watchdog on the PCI bus: not petted, it resets the guest, which ends with that.
        Profile(
            "watchdog",
            modules=("i6300esb",),
            devices=("-device", "i6300esb", "-action", "watchdog=reset"),
        ),
    )
}
