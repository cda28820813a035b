"""Where register windows come from: opening a path, a UIO map or a PCI BAR for mmap.

Each function returns what `Mmio` maps, and says in its error what the host lacks and how to get
it. The roots of sysfs and devtmpfs are arguments, so that tests point them at a directory.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from pathlib import Path

from nexus.errors import AbsentError, CorruptError, DeniedError, OutOfRangeError

_PCI_ADDRESS = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", re.ASCII)
_IORESOURCE_MEM = 0x200

_HINTS = {
    "mem": "use a kernel with CONFIG_DEVMEM=y, or reach the device through UIO or its PCI BAR",
    "uio": "load a UIO driver (CONFIG_UIO, modules uio and uio_pci_generic) and bind the device",
    "raw": "run as root or with CAP_SYS_RAWIO",
    "strict": "STRICT_DEVMEM hides RAM always, and registers that a driver claims unless booted "
    "with iomem=relaxed: use UIO or a PCI BAR",
}


def open_path(path: str, *, writable: bool, sync: bool) -> int:
    """Open a backing for mmap.

    Raises:
        AbsentError: /dev/mem or a UIO device that this host does not have.
        DeniedError: the kernel refuses the open.
        OSError: any other failure, with errno and path.
    """
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
    if sync:
        flags |= os.O_SYNC
    name = Path(path).name
    kind = "mem" if name == "mem" else "uio" if re.fullmatch(r"uio\d+", name) else ""
    try:
        return os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        if kind:
            raise AbsentError(f"{path} is absent", hint=_HINTS[kind]) from None
        raise
    except PermissionError as error:
        hint = _HINTS["raw"] if kind else None
        raise DeniedError(f"{path} cannot be opened: {error.strerror}", hint=hint) from None


def check_size(fd: int, offset: int, size: int, name: str) -> None:
    """Refuse a window beyond the end of a regular file, where a touch would raise SIGBUS."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and offset + size > status.st_size:
        raise OutOfRangeError(
            f"{name}: a window of {size:#x} bytes at {offset:#x} ends after the file's "
            f"{status.st_size:#x} bytes"
        )


def map_refused(error: OSError, name: str, offset: int) -> Exception:
    """What a failed mmap means."""
    if isinstance(error, PermissionError):
        hint = _HINTS["strict"] if Path(name).name == "mem" else None
        return DeniedError(f"{name}: mapping at {offset:#x} refused: {error.strerror}", hint=hint)
    return error


def _attribute(folder: Path, name: str) -> int:
    text = (folder / name).read_text("ascii").strip()
    try:
        return int(text, 0)
    except ValueError:
        raise CorruptError(f"{folder / name} is {text!r}, not a number") from None


def find_uio(number: int, index: int, *, sysfs: str, dev: str) -> tuple[str, int, int]:
    """The path, mmap offset and size of a UIO map.

    A UIO device numbers its maps by mmap offset, one page a map; `offset` in sysfs is where the
    registers start inside their first page.
    """
    device = Path(sysfs) / "class" / "uio" / f"uio{number}"
    folder = device / "maps" / f"map{index}"
    if not device.is_dir():
        raise AbsentError(f"UIO device {number} is absent: no {device}", hint=_HINTS["uio"])
    if not folder.is_dir():
        raise AbsentError(f"uio{number} has no map {index}: no {folder}")
    size = _attribute(folder, "size")
    inside = _attribute(folder, "offset") if (folder / "offset").exists() else 0
    if not 0 <= inside < mmap.PAGESIZE or size <= 0:
        raise CorruptError(f"{folder}: offset {inside:#x} and size {size:#x} make no window")
    return str(Path(dev) / f"uio{number}"), index * mmap.PAGESIZE + inside, size


def find_pci(address: str, bar: int, *, combining: bool, sysfs: str) -> tuple[str, int]:
    """The path and size of a memory BAR, as the sysfs file that maps it."""
    if not isinstance(address, str):
        raise TypeError(f"a PCI address is a str, not {type(address).__name__}")
    if not _PCI_ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is not a PCI address such as 0000:00:01.0")
    full = address if address.count(":") == 2 else f"0000:{address}"
    folder = Path(sysfs) / "bus" / "pci" / "devices" / full
    if not folder.is_dir():
        raise AbsentError(
            f"PCI device {full} is absent: no {folder}",
            hint="list the devices in /sys/bus/pci/devices, and rescan with /sys/bus/pci/rescan",
        )
    table = folder / "resource"
    if table.exists():
        rows = table.read_text("ascii").split("\n")
        flags = int(rows[bar].split()[2], 0) if bar < len(rows) and rows[bar].strip() else 0
        if not flags & _IORESOURCE_MEM:
            raise AbsentError(f"PCI device {full} has no memory BAR {bar}")
    path = folder / (f"resource{bar}_wc" if combining else f"resource{bar}")
    if not path.exists():
        raise AbsentError(
            f"PCI device {full} has no {path.name} to map",
            hint="a write-combining file exists only for prefetchable BARs" if combining else None,
        )
    return str(path), path.stat().st_size
