"""The directory of a node: where everything of it is, made when missing, refused when foreign.

    node.kdl    what the node consists of
    identity/   key, the secret Ed25519 seed, and key.pub
    beb         the error buffer of its supervisor, 64 KiB
    ledger/     the chain of events, see docs/spec/ledger.md
    checkpoints/  what durable fibers saved, a file each
    log/        what fibers write to stdout and stderr
    policy/     what each fiber was confined to at its start, a record each
    run/        control, the socket of the supervisor; lock, held while the node is up

Guarantees. A directory of another user is refused before anything in it is touched. The secret key
is created with mode 0600 and never shown. Two boots of one node: the second is refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexus.errors import NodeBusyError, NodeError, NodeOwnerError
from nexus.membrane.default import default_node

__all__ = ["NodeDirectory", "find_node"]

BEB_BYTES = 65_536
LOG_BYTES_MAX = 1 << 20
KEY_BYTES = 32


def find_node(option: str | None, environment: Mapping[str, str]) -> NodeDirectory:
    """The node that a command is about: its option, NEXUS_NODE, or the user's own."""
    chosen = option or environment.get("NEXUS_NODE")
    if not chosen:
        data = environment.get("XDG_DATA_HOME", "")
        base = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
        return NodeDirectory(base / "nexus")
    return NodeDirectory(Path(chosen).absolute())


@dataclass(frozen=True, slots=True)
class NodeDirectory:
    """The places in a node's directory.

    Attributes:
        path: absolute.
    """

    path: Path

    @property
    def node_file(self) -> Path:
        """What the node consists of."""
        return self.path / "node.kdl"

    @property
    def key(self) -> Path:
        """The secret key."""
        return self.path / "identity" / "key"

    @property
    def public_key(self) -> Path:
        """The public key."""
        return self.path / "identity" / "key.pub"

    @property
    def beb(self) -> Path:
        """The error buffer."""
        return self.path / "beb"

    @property
    def ledger(self) -> Path:
        """The folder of the ledger."""
        return self.path / "ledger"

    @property
    def baselines(self) -> Path:
        """What L1 shows of its baselines."""
        return self.path / "baselines"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.path / "run" / "control"

    @property
    def lock(self) -> Path:
        """What is locked while the node is up."""
        return self.path / "run" / "lock"

    def checkpoints(self, fiber: str) -> Path:
        """What a durable fiber saved."""
        return self.path / "checkpoints" / fiber

    def log(self, fiber: str) -> Path:
        """What a fiber wrote."""
        return self.path / "log" / f"{fiber}.log"

    def write_policy(self, fiber: str, record: Mapping[str, object]) -> None:
        """Keep what a fiber is confined to, for whoever asks while the node is up."""
        (self.path / "policy").mkdir(mode=0o700, exist_ok=True)  # absent in one of an older version
        _write_new(self.path / "policy" / fiber, json.dumps(record).encode(), durable=False)

    def read_policy(self, fiber: str) -> dict[str, object] | None:
        """What `write_policy` kept; None where there is nothing to be read."""
        try:
            record = json.loads((self.path / "policy" / fiber).read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def prepare(self) -> list[str]:
        """Make what is missing; what was made.

        Raises:
            NodeOwnerError: the directory is another user's; nothing was changed.
            NodeError: something else is in the way.
        """
        made = []
        self.check_owner()
        try:
            if not self.path.exists():
                self.path.mkdir(mode=0o700, parents=True)
                made.append("the directory")
            self.path.chmod(0o700)
            for name in ("checkpoints", "identity", "ledger", "log", "policy", "run"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            if not self.node_file.exists():
                _write_new(self.node_file, default_node().encode())
                made.append("node.kdl")
            if not self.key.exists():
                self._make_key()
                made.append("identity")
            if not self.beb.exists():
                _write_new(self.beb, bytes(BEB_BYTES))
                made.append("beb")
        except OSError as error:
            raise NodeError(
                f"cannot make the node in {self.path}: {error.filename}: {error.strerror}",
                hint="choose another directory with --node",
            ) from error
        return made

    def check_owner(self) -> None:
        """Refuse the directory of another user, before anything of it is believed.

        Raises:
            NodeOwnerError: it is one.
            NodeError: it is no directory.
        """
        if self.path.exists():
            found = self.path.stat()
            if not stat.S_ISDIR(found.st_mode):
                raise NodeError(f"{self.path} is no directory", hint="choose one with --node")
            if found.st_uid != os.geteuid():
                raise NodeOwnerError(
                    f"{self.path} belongs to user {found.st_uid}, this is user {os.geteuid()}; "
                    "nothing was changed",
                    hint="choose a directory of your own with --node",
                )

    def _make_key(self) -> None:
        from nacl.bindings import crypto_sign_seed_keypair

        seed = os.urandom(KEY_BYTES)
        public, _ = crypto_sign_seed_keypair(seed)
        _write_new(self.public_key, public)
        _write_new(self.key, seed)

    def take(self) -> int:
        """Lock the node for this process and whom it gives the descriptor to.

        Raises:
            NodeBusyError: it is up already.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise NodeBusyError(
                f"the node in {self.path} is up already", hint="see nexus status"
            ) from None
        return descriptor

    def open_log(self, fiber: str) -> int:
        """A descriptor for what a fiber writes; a long log of earlier boots is put aside."""
        path = self.log(fiber)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.old"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write_new(path: Path, data: bytes, *, durable: bool = True) -> None:
    """A whole file of mode 0600, or none; a durable one is there after a loss of power, too."""
    part = path.with_name(f".{path.name}.new")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    part.replace(path)
