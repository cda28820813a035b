"""Fetch what the storage benchmarks take in: series of versions, from the package registries.

    ./dev bench --corpora

Eight source releases of Django, six wheels of NumPy, six consecutive kernel packages of Debian,
each unpacked into a directory of its own below build/corpora. What is there already is kept.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

__all__ = ["CORPORA", "versions"]

PLACE = Path(__file__).resolve().parent.parent / "build" / "corpora"
CORPORA = {
    "django": [f"5.2.{number}" for number in range(8, 16)],
    "numpy": ["2.3.1", "2.3.2", "2.3.3", "2.3.4", "2.3.5", "2.4.0"],
    "kernel": [],  # those that the archive has today
}
KERNELS = 6
KERNEL = r"linux-image-[0-9.]+-[0-9]+-cloud-amd64-unsigned"


def versions(corpus: str) -> list[Path]:
    """The versions of a corpus that were fetched, in order."""

    def key(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", path.name)]

    place = PLACE / corpus
    return sorted((p for p in place.glob("*") if p.suffix != ".part"), key=key)


def _pip(place: Path, *words: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place)]
    subprocess.run([*command, *words], check=True)


def _unpack(archive: Path, place: Path) -> None:
    """The archive's tree at `place`, whole or not at all."""
    part = place.with_suffix(place.suffix + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(part)
    elif archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", archive, part], check=True)
    else:
        with tarfile.open(archive) as sdist:
            sdist.extractall(part, filter="tar")
    part.rename(place)
    archive.unlink()


def _fetch_python(name: str, release: str, place: Path) -> None:
    if name == "django":
        _pip(place, "--no-build-isolation", "--no-binary", name, f"{name}=={release}")
    else:
        _pip(place, "--only-binary", ":all:", f"{name}=={release}")
    (archive,) = (p for p in place.glob(f"{name}-{release}*") if p.is_file())
    _unpack(archive, place / release)


def _fetch_kernels(place: Path) -> None:
    names = subprocess.run(
        ["apt-cache", "search", "--names-only", KERNEL], capture_output=True, text=True, check=True
    )
    packages = sorted(
        (line.split()[0] for line in names.stdout.splitlines()),
        key=lambda name: [int(number) for number in re.findall(r"\d+", name)],
    )
    for package in packages[-KERNELS:]:
        release = package.removeprefix("linux-image-")
        if (place / release).exists():
            continue
        subprocess.run(["apt-get", "download", "-qq", package], cwd=place, check=True)
        (archive,) = place.glob("*.deb")
        _unpack(archive, place / release)


def main() -> int:
    """Fetch all of it; 1 where something could not be had."""
    failed = 0
    for name, releases in CORPORA.items():
        place = PLACE / name
        place.mkdir(parents=True, exist_ok=True)
        try:
            for release in releases:
                if not (place / release).exists():
                    _fetch_python(name, release, place)
            if not releases:
                _fetch_kernels(place)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            print(f"corpus {name}: {error}", file=sys.stderr)
            failed = 1
        print(f"{name}: {len(versions(name))} versions in {place}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
