"""One pair of processes that send 64 bytes to and fro; see bench_channel.

    python bench/channel_peers.py NAME CPU CPU

Reads loop counts from stdin, one a line, and answers each with the seconds of so many round trips.
The other process sleeps on a pipe until it is told the count, so it disturbs nobody in between.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from nexus.fiber import U64, Channel
from nexus.fiber.channel import RecordChannel
from nexus.physics import Ring

RECORD = b"x" * 64
Ends = tuple[Callable[[], object], Callable[[Any], object]]  # receive, send
# Called in either process: True for the one that begins.
Opener = Callable[[bool], Ends]


class Eight(NamedTuple):
    """64 bytes as a record."""

    a: U64
    b: U64
    c: U64
    d: U64
    e: U64
    f: U64
    g: U64
    h: U64


def rings() -> Callable[[bool], tuple[Channel[bytes], Channel[bytes]]]:
    there, back = Ring.create(1 << 16), Ring.create(1 << 16)

    def ends(begins: bool) -> tuple[Channel[bytes], Channel[bytes]]:
        source, target = (back, there) if begins else (there, back)
        return Channel("in", "read", source), Channel("out", "write", target)

    return ends


def looking(take: Callable[[], Any]) -> Callable[[], Any]:
    def receive() -> Any:
        while (data := take()) is None:
            pass
        return data

    return receive


def channel_looking() -> Opener:
    ends = rings()

    def open_ends(begins: bool) -> Ends:
        source, target = ends(begins)
        return looking(source.try_recv), target.try_send

    return open_ends


def channel_waiting() -> Opener:
    ends = rings()

    def open_ends(begins: bool) -> Ends:
        source, target = ends(begins)
        return source.recv, target.send

    return open_ends


def typed_waiting() -> Opener:
    ends = rings()

    def open_ends(begins: bool) -> Ends:
        source, target = (RecordChannel(end, Eight) for end in ends(begins))
        record = Eight(*range(8))
        return source.recv, lambda _: target.send(record)

    return open_ends


def iceoryx2_looking() -> Opener:
    import iceoryx2 as peer

    class Payload(ctypes.Structure):
        _fields_ = (("data", ctypes.c_uint8 * 64),)

    unique = f"nexus-bench-{os.getpid()}"

    def port(node: Any, name: str) -> Any:
        builder = node.service_builder(peer.ServiceName.new(f"{unique}-{name}"))
        return builder.publish_subscribe(Payload).open_or_create()

    def open_ends(begins: bool) -> Ends:
        peer.set_log_level(peer.LogLevel.Error)
        node = peer.NodeBuilder.new().create(peer.ServiceType.Ipc)
        source, target = ("back", "there") if begins else ("there", "back")
        subscriber = port(node, source).subscriber_builder().create()
        publisher = port(node, target).publisher_builder().create()

        def take() -> bytes | None:
            sample = subscriber.receive()
            return None if sample is None else ctypes.string_at(sample.payload(), 64)

        return looking(take), lambda data: publisher.send_copy(Payload.from_buffer_copy(data))

    return open_ends


def queues(make: Callable[[], Any]) -> Callable[[], Opener]:
    def prepare() -> Opener:
        there, back = make(), make()

        def open_ends(begins: bool) -> Ends:
            return (back.get, there.put) if begins else (there.get, back.put)

        return open_ends

    return prepare


def faster_fifo() -> Any:
    import faster_fifo as peer

    return peer.Queue(1 << 16)


def pipe_waiting() -> Opener:
    there, back = multiprocessing.Pipe(), multiprocessing.Pipe()

    def open_ends(begins: bool) -> Ends:
        if begins:
            return back[0].recv_bytes, there[1].send_bytes
        return there[0].recv_bytes, back[1].send_bytes

    return open_ends


PAIRS: dict[str, tuple[str | None, Callable[[], Opener]]] = {
    "channel looking": (None, channel_looking),
    "iceoryx2 looking": ("iceoryx2", iceoryx2_looking),
    "channel waiting": (None, channel_waiting),
    "typed channel waiting": (None, typed_waiting),
    "faster-fifo waiting": ("faster_fifo", queues(faster_fifo)),
    "multiprocessing.Pipe waiting": (None, pipe_waiting),
}


def echo(open_ends: Opener, orders: int, ready: int) -> None:
    """The other process: sends back what comes, as often as it was told."""
    receive, send = open_ends(False)
    os.write(ready, b"r")
    while data := os.read(orders, 8):
        for _ in range(struct.unpack("<Q", data)[0]):
            send(receive())


def serve(name: str, cpus: list[int]) -> None:
    """Answer each count on stdin until it ends."""
    open_ends = PAIRS[name][1]()
    orders, tell = os.pipe()
    ready, report = os.pipe()
    if os.fork() == 0:
        os.close(tell)
        os.sched_setaffinity(0, {cpus[1]})
        echo(open_ends, orders, report)
        os._exit(0)
    os.sched_setaffinity(0, {cpus[0]})
    receive, send = open_ends(True)
    os.read(ready, 1)
    time.sleep(0.2)  # iceoryx2 connects in the background
    for line in sys.stdin:
        loops = int(line)
        os.write(tell, struct.pack("<Q", loops))
        start = time.perf_counter()
        for _ in range(loops):
            send(RECORD)
            receive()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], [int(word) for word in sys.argv[2:]])
