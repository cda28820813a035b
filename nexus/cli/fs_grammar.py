"""The commands about volumes: what is in them, and their snapshots."""

from __future__ import annotations

from nexus.cli.grammar import Commands, Parser, add_command, add_common, add_noun
from nexus.cli.snap_grammar import add_proof_commands

__all__ = ["add_volume_commands"]


def _volume(parser: Parser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help="its directory, file or device")


def _plan(parser: Parser, done: str) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dry-run", action="store_true", help="only say what would be done")
    which.add_argument("--yes", action="store_true", help=done)


def _quiet(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_making(fs: Commands) -> None:
    create = add_command(
        fs,
        "create",
        "fs",
        "Make an empty volume: a directory, with --size one file, or all of a device.",
        "  nexus fs create photos\n  nexus fs create archive --level 12\n"
        "  nexus fs create archive.nx --size 8GiB\n  nexus fs create /dev/mtd3 --class mesh",
    )
    _volume(create)
    create.add_argument("--size", metavar="SIZE", help="make it one file of so much: 8GiB, 64MiB")
    create.add_argument(
        "--class",
        dest="storage_class",
        choices=("sovereign", "mesh"),
        help="of a file or device: sovereign for one machine, mesh for several; sovereign",
    )
    create.add_argument(
        "--level", type=int, default=3, help="how hard to compress, as zstd counts: -7 to 22; 3"
    )
    create.add_argument(
        "--chunker",
        choices=("fastcdc2020", "nx1"),
        default="fastcdc2020",
        help="where files are cut: fastcdc2020, or nx1, which SIMD finds faster",
    )
    create.add_argument(
        "--keyed",
        action="store_true",
        help="cut by a random number of its own, so that sizes of chunks cannot be looked up",
    )
    add_common(create)
    take = add_command(
        fs,
        "import",
        "fs",
        "Take a file or directory of the host into a volume. What was at the path is replaced; "
        "what is known is not stored again. With code 3 something was left out, and is named.",
        "  nexus fs import photos ~/pictures\n"
        "  nexus fs import photos ~/pictures --as /    # this is the whole tree then\n"
        "  pg_dump shop | nexus fs import backup - --as shop.sql",
    )
    _volume(take)
    take.add_argument("source", metavar="SOURCE", help="file or directory; - is standard input")
    take.add_argument(
        "--as", dest="path", metavar="PATH", help="where in it; without it the source's name"
    )
    _quiet(take)
    add_common(take)
    put = add_command(
        fs,
        "export",
        "fs",
        "Make a file or directory of a volume a new one of the host. Every byte is verified. "
        "With code 3 something was left out, and is named.",
        "  nexus fs export photos pictures/2026 /tmp/2026\n"
        "  nexus fs export photos / everything --snapshot monday",
    )
    _volume(put)
    put.add_argument("path", metavar="PATH", help="what; / is all")
    put.add_argument("target", metavar="DEST", help="a name that is not there yet")
    _snapshot(put)
    _quiet(put)
    add_common(put)


def _snapshot(parser: Parser) -> None:
    parser.add_argument("--snapshot", metavar="NAME", help="as it was then; without it as it is")


def _add_looking(fs: Commands) -> None:
    show = add_command(
        fs,
        "show",
        "fs",
        "Show what a volume has, and what it takes.",
        "  nexus fs show photos\n  nexus fs show photos --json | jq .stored_bytes",
    )
    _volume(show)
    add_common(show)
    listing = add_command(
        fs,
        "list",
        "fs",
        "List a directory of a volume.",
        "  nexus fs list photos\n  nexus fs list photos pictures --snapshot monday --recursive",
    )
    _volume(listing)
    listing.add_argument("path", nargs="?", default="/", metavar="PATH", help="of what; / without")
    _snapshot(listing)
    listing.add_argument("--recursive", action="store_true", help="and all that is below")
    add_common(listing)
    cat = add_command(
        fs,
        "cat",
        "fs",
        "Print a file of a volume, every byte verified.",
        "  nexus fs cat backup shop.sql | psql shop",
    )
    _volume(cat)
    cat.add_argument("path", metavar="PATH", help="of the file")
    _snapshot(cat)
    add_common(cat)


def _add_check(fs: Commands) -> None:
    check = add_command(
        fs,
        "check",
        "fs_check",
        "Check a volume: that every block is what was written, and that all which its tree and its "
        "snapshots need is there. With code 1 something is damaged, and is named. A repair takes "
        "a damaged state from its copy, makes a damaged index anew from the packs, and removes "
        "what nothing names; without --repair it only says what it would do.",
        "  nexus fs check photos\n  nexus fs check photos --full --json | jq .lost\n"
        "  nexus fs check photos --repair",
    )
    _volume(check)
    check.add_argument(
        "--full", action="store_true", help="decode everything, and verify the id of each object"
    )
    which = check.add_mutually_exclusive_group()
    which.add_argument("--dry-run", action="store_true", help="only say what a repair would do")
    which.add_argument("--repair", action="store_true", help="do it")
    _quiet(check)
    add_common(check)


def _add_gc(fs: Commands) -> None:
    gc = add_command(
        fs,
        "gc",
        "fs_gc",
        "Give back the room of what neither the tree nor a snapshot needs. Each pack is a commit: "
        "what ends it loses nothing, and the next time it goes on. With code 3 a damaged pack was "
        "left as it is.",
        "  nexus fs gc photos --dry-run\n  nexus fs gc photos --limit 20000000",
    )
    _volume(gc)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be done")
    gc.add_argument(
        "--limit", type=int, metavar="BYTES", help="of packs that are written anew in a second"
    )
    gc.add_argument(
        "--keep-pack",
        type=float,
        default=0.8,
        metavar="RATIO",
        help="a pack that is needed to this part stays; 0.8",
    )
    _quiet(gc)
    add_common(gc)


def _add_deleting(fs: Commands) -> None:
    delete = add_command(
        fs,
        "delete",
        "fs",
        "Take a path out of a volume's tree, or delete the volume itself with all its snapshots. "
        "Without --yes it only says what it would do. Snapshots keep what they have.",
        "  nexus fs delete photos pictures/2019\n"
        "  nexus fs delete photos pictures/2019 --yes\n"
        "  nexus fs delete photos --all --yes",
    )
    _volume(delete)
    delete.add_argument("path", nargs="?", metavar="PATH", help="what to take out")
    delete.add_argument("--all", action="store_true", help="the volume, with all snapshots")
    _plan(delete, "do it")
    add_common(delete)


def _add_mounting(fs: Commands) -> None:
    mount = add_command(
        fs,
        "mount",
        "fs_mount",
        "Mount a volume on a directory until Ctrl-C or until it is unmounted. Its snapshots are "
        "below .timewarp, which is not listed; a directory made there is a new one.",
        "  nexus fs mount photos /mnt\n"
        "  nexus fs mount --read-only photos /mnt --snapshot monday\n"
        "  mkdir /mnt/.timewarp/monday",
    )
    _volume(mount)
    mount.add_argument("directory", metavar="DIRECTORY", help="where")
    mount.add_argument("--read-only", action="store_true", help="to be read; several may")
    _snapshot(mount)
    mount.add_argument("--allow-other", action="store_true", help="other users may enter it")
    mount.add_argument(
        "--commit-interval",
        metavar="SECONDS",
        type=float,
        default=5.0,
        help="what was written is on the medium after so long, and when fsync says so; 5",
    )
    mount.add_argument("--threads", type=int, default=2, help="that answer the kernel, 1 to 16; 2")
    add_common(mount)
    unmount = add_command(
        fs,
        "unmount",
        "fs_mount",
        "Unmount a volume. It is refused while a program uses it.",
        "  nexus fs unmount /mnt",
    )
    unmount.add_argument("directory", metavar="DIRECTORY", help="where it is mounted")
    add_common(unmount)


def _add_snap(commands: Commands) -> None:
    snap = add_noun(commands, "snap", "The snapshots of a volume.")
    create = add_command(
        snap,
        "create",
        "snap",
        "Keep the tree of a volume as it is now, under a name.",
        "  nexus snap create photos monday",
    )
    _volume(create)
    create.add_argument("name", metavar="NAME", help="of the snapshot")
    add_common(create)
    listing = add_command(
        snap,
        "list",
        "snap",
        "List the snapshots of a volume, the oldest first.",
        "  nexus snap list photos\n  nexus snap list photos --json | jq '.items[].name'",
    )
    _volume(listing)
    add_common(listing)
    diff = add_command(
        snap,
        "diff",
        "snap",
        "Show what is different between two snapshots, or a snapshot and the tree as it is: + is "
        "new, - is gone, M is not the same.",
        "  nexus snap diff photos monday\n  nexus snap diff photos monday tuesday --json",
    )
    _volume(diff)
    diff.add_argument("old", metavar="OLD", help="a snapshot")
    diff.add_argument("new", nargs="?", metavar="NEW", help="another; without it the tree as it is")
    add_common(diff)
    restore = add_command(
        snap,
        "restore",
        "snap",
        "Make the tree what it was at a snapshot, at once. If no snapshot has the tree as it is, "
        "--yes is needed: what only it has is lost.",
        "  nexus snap restore photos monday\n  nexus snap restore photos monday --yes",
    )
    _volume(restore)
    restore.add_argument("name", metavar="NAME", help="of the snapshot")
    _plan(restore, "do it, whatever is lost")
    add_common(restore)
    delete = add_command(
        snap,
        "delete",
        "snap",
        "Delete a snapshot. Without --yes it only says what it would do. The tree stays as it is.",
        "  nexus snap delete photos monday --yes",
    )
    _volume(delete)
    delete.add_argument("name", metavar="NAME", help="of the snapshot")
    _plan(delete, "do it")
    add_common(delete)
    add_proof_commands(snap)


def add_volume_commands(commands: Commands) -> None:
    """Add all of them."""
    fs = add_noun(commands, "fs", "Volumes: content-addressed, compressed, verified storage.")
    _add_making(fs)
    _add_looking(fs)
    _add_check(fs)
    _add_gc(fs)
    _add_deleting(fs)
    _add_mounting(fs)
    _add_snap(commands)
