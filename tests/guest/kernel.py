"""The guest's kernel: fetched as Debian's package, unpacked in part, packed into a boot archive.

Nothing is installed on the host. The package's name changes with each security update, so it is
looked up at run time and keys the cache: `build/guest`, or `NEXUS_GUEST_CACHE`.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
META_PACKAGE = "linux-image-amd64"
# Below lib/modules/VERSION/kernel; what no profile needs stays in the package.
FOLDERS = (
    *("drivers/char", "drivers/mtd", "drivers/uio", "drivers/virtio", "drivers/watchdog"),
    *("fs", "lib", "net/9p"),
)
FILE, EXECUTABLE = 0o100644, 0o100755


class Unavailable(Exception):
    """A guest cannot be had here; the text says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel.

    Attributes:
        folder: holds `vmlinux`, and the package's files below `tree`.
    """

    folder: Path

    @property
    def vmlinux(self) -> Path:
        """The uncompressed image, which boots in less than half the time of the compressed one."""
        return self.folder / "vmlinux"

    def closure(self, names: Iterable[str]) -> list[Path]:
        """The files of these modules and of those that they depend on, in loading order.

        Raises:
            LookupError: a module that is neither unpacked nor built in.
        """
        (modules,) = self.folder.glob("tree/lib/modules/*")
        files = {_module(p.name): p for p in modules.glob("kernel/**/*.ko*")}
        builtin = {_module(line) for line in (modules / "modules.builtin").read_text().split()}
        order: list[Path] = []

        def add(name: str) -> None:
            if name in builtin:
                return
            if name not in files:
                raise LookupError(f"no module {name} in {modules}: is its folder in FOLDERS?")
            for needed in dependencies(image(files[name])):
                add(needed)
            if files[name] not in order:
                order.append(files[name])

        for name in names:
            add(_module(name))
        return order


def _module(name: str) -> str:
    return name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def image(path: Path) -> bytes:
    """A module as the kernel loads it."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def dependencies(module: bytes) -> list[str]:
    """The modules that an ELF image names in its .modinfo section."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [_module(name) for name in found[1].decode().split(",") if name] if found else []


def uncompressed(vmlinuz: bytes) -> bytes:
    """The ELF image inside a compressed kernel."""
    start = vmlinuz.find(b"\xfd7zXZ\0")
    while start >= 0:
        try:
            inner = lzma.LZMADecompressor().decompress(vmlinuz[start:])
        except lzma.LZMAError:
            inner = b""
        if inner.startswith(b"\x7fELF"):
            return inner
        start = vmlinuz.find(b"\xfd7zXZ\0", start + 1)
    raise Unavailable("the kernel is not compressed by xz: teach tests/guest/kernel.py its format")


def archive(files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A newc cpio archive, as the kernel unpacks it into its first root, of (name, mode, data)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        word = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(word), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + word
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def cache() -> Path:
    """Where unpacked kernels are kept."""
    return Path(os.environ.get("NEXUS_GUEST_CACHE", ROOT / "build" / "guest"))


def initial_root(kernel: Kernel, modules: Sequence[str]) -> bytes:
    """The boot archive: init, the modules with their closure, and the list of these.

    Args:
        kernel: has the modules.
        modules: their names, each with its parameters after a space.
    """
    parameters = {_module(name): rest for name, _, rest in (m.partition(" ") for m in modules)}
    paths = kernel.closure(parameters)
    files = [(f"m{i}.ko", FILE, image(path)) for i, path in enumerate(paths)]
    listing = "".join(
        f"/{name} {parameters.get(_module(path.name), '')}\n"
        for (name, _, _), path in zip(files, paths, strict=True)
    )
    program = compiled_init().read_bytes()
    return archive([("init", EXECUTABLE, program), ("modules", FILE, listing.encode()), *files])


def compiled_init() -> Path:
    """The first program of the guest, compiled once for each version of its source."""
    source = Path(__file__).with_name("init.c")
    made = cache() / f"init-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_suffix(f".{os.getpid()}")
        warnings = ["-std=c17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
        subprocess.run(["gcc", *warnings, "-static", "-o", draft, source], check=True)
        draft.rename(made)
    return made


def prepare() -> Kernel:
    """The kernel that this machine's package index names, fetched and unpacked if need be.

    The newest cached one serves where no index names one.

    Raises:
        Unavailable: it is not cached and cannot be fetched.
    """
    name, version = _candidate()
    kept = cached()
    if not name and kept is not None:
        return kept
    if shutil.which("apt-get") is None:
        raise Unavailable(f"no guest kernel in {cache()}, and no apt-get to fetch one")
    if not name or not _place(name, version).is_dir():
        name, version = _install(name, version)
    os.utime(_place(name, version))  # the newest of the cache from now on
    return Kernel(_place(name, version))


def _install(name: str, version: str) -> tuple[str, str]:
    """Fill the cache; several processes may do so at once."""
    cache().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=cache(), prefix="new-"))
    try:
        name, version, package = _fetch(name, version, folder)
        _unpack(package, folder)
        package.unlink()
        try:
            folder.rename(_place(name, version))
        except OSError:
            if not _place(name, version).is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return name, version


def cached() -> Kernel | None:
    """The kernel prepared last, or None."""
    kept = sorted(cache().glob(f"linux-image-*_{_selection()}"), key=lambda p: p.stat().st_mtime)
    return Kernel(kept[-1]) if kept else None


def _selection() -> str:
    return hashlib.sha256(" ".join(FOLDERS).encode()).hexdigest()[:8]


def _place(name: str, version: str) -> Path:
    return cache() / f"{name}_{version}_{_selection()}"


def _candidate() -> tuple[str, str]:
    """Name and version of the package that the meta package stands for; empty when unknown."""
    if shutil.which("apt-cache") is None:
        return "", ""
    words = ["apt-cache", "show", "--no-all-versions", META_PACKAGE]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.search(r"^Depends: (linux-image-\S+) \(= (\S+)\)", done.stdout, re.MULTILINE)
    return (found[1], found[2]) if found else ("", "")


def _fetch(name: str, version: str, folder: Path) -> tuple[str, str, Path]:
    """Download the package; an index that is missing or behind its mirror is renewed once."""
    complaint = f"the package index does not know {META_PACKAGE}"
    for renewed in (False, True):
        if renewed:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            name, version = _candidate()
        if not name:
            continue
        words = ["apt-get", "download", "-qq", f"{name}={version}"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        packages = list(folder.glob("*.deb"))
        if done.returncode == 0 and packages:
            return name, version, packages[0]
        complaint = done.stderr.strip()
    raise Unavailable(
        f"the guest kernel cannot be fetched ({complaint}): run apt-get update as root, or set "
        "NEXUS_GUEST_CACHE to a folder that has one"
    )


def _unpack(package: Path, folder: Path) -> None:
    """Put the kernel and the modules of FOLDERS beside each other, and free the image."""
    tree = folder / "tree"
    tree.mkdir()
    wanted = ["./boot/vmlinuz-*", "./lib/modules/*/modules.builtin"]
    wanted += [f"./lib/modules/*/kernel/{name}/*" for name in FOLDERS]
    words = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as source:
        tar = ["tar", "-x", "-C", str(tree), "--no-same-owner", "--wildcards", *wanted]
        subprocess.run(tar, stdin=source.stdout, check=True)
    if source.returncode != 0:
        raise Unavailable(f"{package.name} is damaged: dpkg-deb ended with {source.returncode}")
    (vmlinuz,) = tree.glob("boot/vmlinuz-*")
    (folder / "vmlinux").write_bytes(uncompressed(vmlinuz.read_bytes()))
    vmlinuz.unlink()
