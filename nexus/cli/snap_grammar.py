"""The commands that sign and prove snapshots."""

from __future__ import annotations

from nexus.cli.grammar import Commands, Parser, add_command, add_common

__all__ = ["add_proof_commands"]


def _named(parser: Parser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help="its directory, file or device")
    parser.add_argument("name", metavar="NAME", help="of the snapshot")


def _add_signing(snap: Commands) -> None:
    sign = add_command(
        snap,
        "sign",
        "snap_sign",
        "Sign a snapshot with an Ed25519 key: its name, its tree, and all snapshots before. The "
        "signature is kept in the volume until the snapshot is deleted. Prints the public key.",
        "  (umask 077; head -c 32 /dev/urandom > my.key)\n"
        "  nexus snap sign photos monday --key my.key",
    )
    _named(sign)
    sign.add_argument(
        "--key", metavar="FILE", required=True, help="the secret key: a file of 32 bytes, mode 600"
    )
    add_common(sign)
    verify = add_command(
        snap,
        "verify",
        "snap_sign",
        "Say whether the owner of a key signed a snapshot of this name and tree. With code 1 they "
        "did not. That all of the tree is there is what nexus fs check says.",
        "  nexus snap verify photos monday --key $(cat my.pub)",
    )
    _named(verify)
    verify.add_argument(
        "--key", metavar="PUBLIC", required=True, help="the public key, 64 hexadecimal digits"
    )
    add_common(verify)


def _add_proving(snap: Commands) -> None:
    prove = add_command(
        snap,
        "prove",
        "snap_proof",
        "Make a proof of what a snapshot has at a path, or that it has nothing there, for somebody "
        "who knows nothing but the id of its tree.",
        "  nexus snap prove photos monday pictures/one.jpg -o one.proof\n"
        "  nexus snap prove photos monday films/long.mp4 --whole -o long.proof",
    )
    _named(prove)
    prove.add_argument("path", metavar="PATH", help="of what")
    prove.add_argument("-o", dest="output", metavar="FILE", help="a new file; standard output")
    prove.add_argument(
        "--whole", action="store_true", help="so that a large file can be compared with it"
    )
    add_common(prove)
    verify = add_command(
        snap,
        "verify-proof",
        "snap_proof",
        "Say what a proof proves of a tree. No volume is needed. With code 1 it proves nothing, or "
        "the file is not what it proves.",
        "  nexus snap verify-proof one.proof --root ID\n"
        "  nexus snap verify-proof one.proof --root ID --file one.jpg",
    )
    verify.add_argument("file", metavar="FILE", help="the proof")
    verify.add_argument("--root", metavar="ID", required=True, help="of the tree: 64 digits")
    verify.add_argument(
        "--file", dest="local", metavar="LOCAL", help="compare this file with what is proved"
    )
    add_common(verify)


def add_proof_commands(snap: Commands) -> None:
    """Add all of them."""
    _add_signing(snap)
    _add_proving(snap)
