"""A driver for a made-up timer, against a memory file instead of the device.

On hardware only the first line of `main` changes: `Mmio.uio(0)`, `Mmio.pci("0000:03:00.0", 0)` or
`Mmio("/dev/mem", 0xFE003000, 4096)`.
"""

import os

from nexus.physics import FieldSpec, Mmio, RegisterMap, RegisterSpec

TIMER = RegisterMap(
    name="timer",
    size=16,
    registers=(
        RegisterSpec(
            name="CONTROL",
            offset=0,
            fields=(
                FieldSpec(name="ENABLE", lsb=0),
                FieldSpec(
                    name="MODE", lsb=4, width=2, labels=((0, "ONCE"), (1, "REPEAT"), (2, "PWM"))
                ),
                FieldSpec(name="PRESCALE", lsb=8, width=8),
            ),
        ),
        RegisterSpec(name="COUNT", offset=4, access="ro"),
        RegisterSpec(name="COMPARE", offset=8),
    ),
)


def main() -> None:
    """Set the timer up and read back what the device would see."""
    fd = os.memfd_create("timer")
    os.ftruncate(fd, 4096)
    with Mmio.attach(fd, 0, TIMER.size) as window:
        timer = TIMER.bind(window)
        timer.COMPARE.value = 48_000
        timer.CONTROL.modify(MODE="REPEAT", PRESCALE=7)
        timer.CONTROL.ENABLE.value = 1
        assert window.read32(0) == 0x711
        print(f"control {timer.CONTROL.value:#x}: mode {timer.CONTROL.MODE.label}")
        print(f"fields {timer.CONTROL.read_fields()}")
    os.close(fd)


if __name__ == "__main__":
    main()
