"""Unveil: which paths a fiber sees and what it may do there, as mounts and as Landlock rules.

A rule shows one path with some of the rights read, write, execute and create (OpenBSD's unveil(2));
no right at all hides it. The most specific rule wins. Everything that no rule shows is absent.

Two layers carry a rule. The mount namespace makes what is not shown absent, and can narrow below a
shown directory. Landlock holds the same rights again, below the mounts. Where there is no mount
namespace Landlock alone denies, but does not hide, and cannot narrow: such rules are refused.

Not handled: the names in a shown folder can be listed with any right; a hidden file is there, but
cannot be opened; paths that come to exist later (a rule needs its path at the start), and symbolic
links inside a shown tree, which lead wherever the fiber's tree has that path.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from nexus.errors import ManifestError
from nexus.logic.bkdl import LandlockRule, Mount
from nexus.seams.files import FileTree

__all__ = [
    "DEVICES",
    "SECRET_PATHS",
    "SYSTEM_PATHS",
    "Shown",
    "Unveil",
    "landlock_files",
    "landlock_rules",
    "mounts",
    "resolve",
    "show",
]

LINKS_MAX = 40
MOUNTS_MAX = 256  # NX_L0_MOUNTS_MAX of the supervisor

# What nearly every program needs to run; those that exist are shown for reading and execution.
SYSTEM_PATHS = (
    "/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/usr",
)  # fmt: skip
# Parts of those that root alone may read, and that no program without privileges needs.
SECRET_PATHS = ("/etc/gshadow", "/etc/gshadow-", "/etc/shadow", "/etc/shadow-")
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

# MOUNT_ATTR_* of linux/mount.h.
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8

# LANDLOCK_ACCESS_FS_* in the order of their bits, and the ABI that brought each.
_ABI_OF_BIT = (1,) * 13 + (2, 3, 5)
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_RIGHTS = {
    "r": _READ_FILE | _READ_DIR,
    "w": _WRITE_FILE | _TRUNCATE | _IOCTL_DEVICE,
    "x": _EXECUTE,
    # Removing and making of every kind but devices, and moving between directories.
    "c": (0x3FFF & ~0xF) & ~(1 << 6 | 1 << 11),
}

# What a fiber may do in the folders of its own.
_OWN = {"/tmp": "rwxc", "/dev/shm": "rwxc", "/dev": "rwc"}


@dataclass(frozen=True, slots=True)
class Unveil:
    """One rule: a path, and the rights in the order r, w, x, c; none hides the path."""

    path: str
    rights: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or "\0" in self.path:
            raise ManifestError(
                f"unveil of {self.path!r}: the path is not absolute",
                hint="give the whole path, from the root on",
            )
        unknown = set(self.rights) - set("rwxc")
        if unknown or len(set(self.rights)) != len(self.rights):
            raise ManifestError(
                f"unveil of {self.path}: the rights {self.rights!r} are not some of rwxc",
                hint="r reads, w writes, x executes, c creates and removes; none hides the path",
            )
        object.__setattr__(self, "path", posixpath.normpath(self.path))
        object.__setattr__(self, "rights", "".join(r for r in "rwxc" if r in self.rights))

    @classmethod
    def parse(cls, text: str, directory: str) -> Unveil:
        """A rule of the form PATH=RIGHTS, with read alone where no rights are given.

        Args:
            text: as on the command line.
            directory: what relative paths start from.
        """
        path, equals, rights = text.rpartition("=")
        if not equals:
            path, rights = rights, "r"
        if not path:
            raise ManifestError(f"unveil {text!r} names no path", hint="write PATH=rwxc")
        return cls(posixpath.join(directory, path), rights)


@dataclass(frozen=True, slots=True)
class Shown:
    """What rules come to on a file tree.

    Attributes:
        paths: rights by resolved path, parents before children.
        directories: which of them are directories.
        links: symbolic links met on the way, by path.
        missing: rules whose path does not exist.
    """

    paths: dict[str, str]
    directories: frozenset[str]
    links: dict[str, str]
    missing: tuple[str, ...]


def resolve(files: FileTree, path: str, links: dict[str, str]) -> str | None:
    """The path without symbolic links; those on the way go into `links`."""
    parts = path.split("/")[1:]
    at = "/"
    followed = 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            at = posixpath.dirname(at)
            continue
        here = posixpath.join(at, part)
        kind = files.kind(here)
        if kind is None:
            return None
        if kind != "link":
            at = here
            continue
        followed += 1
        if followed > LINKS_MAX:
            return None
        links[here] = text = files.link(here)
        if text.startswith("/"):
            at = "/"
        parts = text.split("/") + parts
    return at


def _covered(path: str, shown: Iterable[str]) -> bool:
    return any(path.startswith(one.rstrip("/") + "/") for one in shown)


def show(rules: Iterable[Unveil], files: FileTree) -> Shown:
    """Resolve rules on a file tree; of several for one path the rights add up."""
    links: dict[str, str] = {}
    rights: dict[str, str] = {}
    missing = []
    for rule in rules:
        place = resolve(files, rule.path, links)
        if place is None:
            missing.append(rule.path)
            continue
        both = rights.get(place, "") + rule.rights
        rights[place] = "".join(r for r in "rwxc" if r in both)
    paths = dict(sorted(rights.items()))
    directories = frozenset(path for path in paths if files.kind(path) == "directory")
    # A link inside a shown tree is there already.
    apart = {path: text for path, text in links.items() if not _covered(path, paths)}
    return Shown(paths, directories, apart, tuple(missing))


def _attributes(path: str, rights: str) -> int:
    value = NOSUID
    if "w" not in rights and "c" not in rights:
        value |= RDONLY
    if "x" not in rights:
        value |= NOEXEC
    if path != "/dev" and not path.startswith("/dev/"):
        value |= NODEV
    return value


def mounts(shown: Shown, *, system: bool, own_proc: bool) -> tuple[Mount, ...]:
    """The file tree of the fiber.

    Args:
        shown: the rules on the host's tree.
        system: with a /dev of the harmless devices, a /proc and an empty /tmp.
        own_proc: whether /proc is of the fiber's own pid namespace; else it is the host's.

    Raises:
        ManifestError: more than the supervisor takes.
    """
    steps: list[Mount] = []
    if system:
        private = NOSUID | NODEV
        # For reading: root without a capability may still write /proc/sys, core_pattern included.
        fixed = RDONLY | private | NOEXEC
        if own_proc:
            steps.append(Mount(Mount.PROC, "/proc", attributes=fixed))
        else:
            steps.append(Mount(Mount.BIND, "/proc", "/proc", fixed))
        steps.append(Mount(Mount.TMPFS, "/dev", attributes=NOSUID | NOEXEC, mode=0o755))
        for name in DEVICES:
            device = f"/dev/{name}"
            steps.append(Mount(Mount.BIND, device, device, NOSUID | NOEXEC, optional=True))
        steps.append(Mount(Mount.DEVPTS, "/dev/pts", attributes=NOSUID | NOEXEC))
        steps.append(Mount(Mount.TMPFS, "/dev/shm", attributes=private, mode=0o1777, life=True))
        for name, text in (
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ):
            steps.append(Mount(Mount.SYMLINK, f"/dev/{name}", text))
        steps.append(Mount(Mount.TMPFS, "/tmp", attributes=private, mode=0o1777, life=True))
    steps += [Mount(Mount.SYMLINK, path, text) for path, text in sorted(shown.links.items())]
    for path, rights in shown.paths.items():
        if rights:
            steps.append(Mount(Mount.BIND, path, path, _attributes(path, rights)))
        elif path in shown.directories:
            empty = RDONLY | NOSUID | NODEV | NOEXEC
            steps.append(Mount(Mount.TMPFS, path, attributes=empty, mode=0o555))
        else:
            # A device on a mount without devices: nobody can open it.
            steps.append(Mount(Mount.BIND, path, "/dev/null", RDONLY | NOSUID | NODEV | NOEXEC))
    if len(steps) > MOUNTS_MAX:
        raise ManifestError(
            f"what is unveiled takes {len(steps)} mounts, the most is {MOUNTS_MAX}",
            hint="show the folder that holds them",
        )
    return tuple(steps)


def landlock_files(abi: int) -> int:
    """All file rights that a Landlock of this version controls."""
    return sum(1 << bit for bit, since in enumerate(_ABI_OF_BIT) if since <= abi)


def _access(rights: str, directory: bool, abi: int) -> int:
    value = 0
    for right in rights:
        value |= _RIGHTS[right]
    if not directory:
        value &= _FILE_RIGHTS
    return value & landlock_files(abi)


def _check_narrowing(shown: Shown, path: str, rights: str, *, system: bool, hidden: bool) -> None:
    """Refuse what no layer can hold: Landlock rights only add up, and mounts are coarse."""
    everything = {**_OWN, **shown.paths} if system and hidden else shown.paths
    above = {one: set(everything[one]) for one in everything if _covered(path, [one])}
    wider = [one for one, held in above.items() if held - set(rights)]
    if not wider or (hidden and not rights):
        return
    if not hidden:
        raise ManifestError(
            f"unveil of {path} narrows {wider[0]}, which Landlock alone cannot do",
            hint="show less above it, or run where user namespaces are allowed",
        )
    left = set(rights).union(*above.values())
    left -= set() if set(rights) & {"w", "c"} else {"w", "c"}
    left -= set() if "x" in rights else {"x"}
    if left != set(rights):
        raise ManifestError(
            f"unveil of {path} with {rights} narrows {wider[0]}, and nothing can take away "
            f"{''.join(sorted(left - set(rights)))} alone",
            hint="below a wider folder, /tmp included, give r, and w and c both or neither",
        )


def landlock_rules(shown: Shown, *, abi: int, system: bool, hidden: bool) -> list[LandlockRule]:
    """The same rights for Landlock.

    Args:
        shown: the rules on the host's tree.
        abi: version of the kernel's Landlock.
        system: as for `mounts`.
        hidden: whether mounts hide what is not shown; else narrowing is refused.

    Raises:
        ManifestError: a rule narrows below a shown directory, and nothing can enforce that.
    """
    rules = []
    for path, rights in shown.paths.items():
        _check_narrowing(shown, path, rights, system=system, hidden=hidden)
        access = _access(rights, path in shown.directories, abi)
        if access:
            rules.append(LandlockRule(access, path))
    if system:
        everything = _access("rwxc", True, abi)
        rules.append(LandlockRule(_access("rw", False, abi), "/dev/null"))
        if hidden:
            # The skeleton of the tree holds nothing but what is shown.
            rules.append(LandlockRule(_access("r", True, abi) & ~_READ_FILE, "/"))
            rules.append(LandlockRule(everything & ~_EXECUTE, "/dev"))
            rules.append(LandlockRule(_access("r", True, abi), "/proc"))
            rules += [LandlockRule(everything, path) for path in ("/tmp", "/dev/shm")]
        else:
            rules.append(LandlockRule(_access("r", True, abi), "/proc"))
            rules += [LandlockRule(_access("rw", False, abi), f"/dev/{one}") for one in DEVICES]
    return rules
