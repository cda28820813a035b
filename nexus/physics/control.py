"""A connection to the supervisor of a node: packets of 64 bytes over a socket, with descriptors.

Answers come in any order; a ticket says to which request one belongs. What is asked for is kept
until its answer is collected, what nobody waits for any more is dropped.
"""

from __future__ import annotations

import array
import itertools
import os
import socket
import struct
import time
from pathlib import Path

from nexus.errors import CorruptError, DeadlineError, NodeDownError
from nexus.physics.systable import MappedTable
from nexus.seams.supervisor import Answer, Operation, Request

__all__ = ["ControlLink", "connect_node", "control_pair", "listen_node"]

_PACKET = struct.Struct("<HHIII6Q")
PACKET_BYTES = 64
_ANSWER = 0x8000
_TICKET_MAX = 0xFFFFFFFF
_PATH_MAX = 107  # sun_path without its zero byte
_BACKLOG = 16
RENEW_S = 30.0  # Phoenix takes milliseconds


class ControlLink:
    """One connection; implements `nexus.seams.supervisor.Supervisor`.

    Args:
        link: a connected SOCK_SEQPACKET socket; taken over.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._tickets = itertools.cycle(range(1, _TICKET_MAX))
        self._open: dict[int, int] = {}
        self._came: dict[int, Answer] = {}

    @classmethod
    def of_descriptor(cls, descriptor: int) -> ControlLink:
        """The connection that a process was started with."""
        return cls(socket.socket(fileno=descriptor))

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def post(self, request: Request) -> int:
        """Send a request; its ticket."""
        ticket = next(self._tickets)
        words = (*request.words, 0, 0, 0, 0, 0, 0)[:6]
        packet = _PACKET.pack(
            request.operation, request.flags, ticket, request.slot, request.generation, *words
        )
        rights = array.array("i", request.descriptors).tobytes()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        try:
            self._link.sendmsg([packet], ancillary)
        except (BrokenPipeError, ConnectionError) as error:
            raise _down() from error
        self._open[ticket] = request.operation
        return ticket

    def collect(self, ticket: int, timeout_s: float | None) -> Answer:
        """The answer to a request."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while ticket not in self._came:
            left = None if until is None else max(0.0, until - time.monotonic())
            self._receive(left)
        return self._came.pop(ticket)

    def open_table(self, descriptor: int) -> MappedTable:
        """The table that came with the answer to HELLO."""
        return MappedTable(descriptor, self._next_table)

    def _next_table(self) -> int:
        answer = self.collect(self.post(Request(Operation.HELLO)), RENEW_S)
        if answer.descriptor is None:
            raise _down()
        return answer.descriptor

    def _receive(self, timeout_s: float | None) -> None:
        # A timeout of 0 would make the socket non-blocking, with another exception.
        self._link.settimeout(None if timeout_s is None else max(timeout_s, 1e-6))
        room = socket.CMSG_SPACE(4)
        try:
            data, ancillary, _, _ = self._link.recvmsg(PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise DeadlineError(f"the supervisor did not answer in {timeout_s:.3g} s") from None
        except ConnectionError as error:
            raise _down() from error
        if not data:
            raise _down()
        descriptors = array.array("i")
        for _, _, rights in ancillary:
            descriptors.frombytes(rights[: len(rights) // 4 * 4])
        if len(data) != PACKET_BYTES:
            _drop(descriptors)
            raise CorruptError(f"an answer has {PACKET_BYTES} bytes, not {len(data)}")
        operation, _, ticket, slot, generation, result, *words = _PACKET.unpack(data)
        asked = self._open.pop(ticket, None)
        if asked is None or operation != asked + _ANSWER:
            _drop(descriptors)
            return
        signed = result - (1 << 64) if result >> 63 else result
        came = descriptors[0] if descriptors else None
        self._came[ticket] = Answer(slot, generation, signed, tuple(words), came)


def _drop(descriptors: array.array[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _down() -> NodeDownError:
    return NodeDownError(
        "the supervisor of this node is gone", hint="nexus beb show tells what it wrote last"
    )


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a control connection: ours, and the one that the supervisor is started with."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _bind(link: socket.socket, path: Path, *, listen: bool) -> None:
    """Bind or connect; a path too long for a socket address is reached through its folder."""
    name = str(path)
    folder = -1
    if len(os.fsencode(name)) > _PATH_MAX:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"/proc/self/fd/{folder}/{path.name}"
    try:
        (link.bind if listen else link.connect)(name)
    finally:
        if folder >= 0:
            os.close(folder)


def listen_node(path: Path) -> socket.socket:
    """A listening socket at a path where nobody else listens any more."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        path.unlink(missing_ok=True)
        _bind(link, path, listen=True)
        path.chmod(0o600)
        link.listen(_BACKLOG)
    except OSError:
        link.close()
        raise
    return link


def connect_node(path: Path) -> ControlLink:
    """A connection to the node that listens at a path.

    Raises:
        NodeDownError: nobody listens there.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _bind(link, path, listen=False)
    except (FileNotFoundError, ConnectionError):
        link.close()
        raise NodeDownError(
            f"no node is up in {path.parent.parent}", hint="start it with nexus boot"
        ) from None
    except OSError:
        link.close()
        raise
    return ControlLink(link)
