"""One peer of the ring in a process of its own: puts and gets 64 bytes and times itself.

    python bench/ring_peers.py NAME

Reads loop counts from stdin, one a line, and answers each with the seconds that it took. Apart
because one peer's licence is CeCILL-C, and so that no peer disturbs another.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable

RECORD = b"x" * 64
UNIQUE = f"nexus-bench-{os.getpid()}"


def kickmsg() -> Callable[[], bytes]:
    import kickmsg as peer

    config = peer.Config()
    config.max_payload_size = 64
    config.sub_ring_capacity = 1024
    config.pool_size = 2048
    region = peer.SharedRegion.create(f"/{UNIQUE}", peer.ChannelType.PubSub, config)
    subscriber = peer.Subscriber(region)
    publisher = peer.Publisher(region)
    # The region stays mapped; without a name nothing is left behind.
    region.unlink()
    send, receive = publisher.send, subscriber.try_receive

    def pair() -> bytes:
        send(RECORD)
        return receive()

    return pair


def zeroq() -> Callable[[], bytes]:
    import zeroq as peer

    queue = peer.Queue(UNIQUE, 64, 1024, True)
    put, get = queue.put_nowait, queue.get_nowait

    def pair() -> bytes:
        put(RECORD)
        return get()

    return pair


def cloudtoid() -> Callable[[], bytes]:
    import cloudtoid_interprocess as peer

    publisher = peer.Publisher(UNIQUE, 1 << 16)
    subscriber = peer.Subscriber(UNIQUE, 1 << 16)
    send, receive = publisher.try_send, subscriber.try_receive

    def pair() -> bytes:
        send(RECORD)
        return receive()

    return pair


def iceoryx2() -> Callable[[], bytes]:
    import iceoryx2 as peer

    class Payload(ctypes.Structure):
        _fields_ = (("data", ctypes.c_uint8 * 64),)

    peer.set_log_level(peer.LogLevel.Error)
    node = peer.NodeBuilder.new().create(peer.ServiceType.Ipc)
    builder = node.service_builder(peer.ServiceName.new(UNIQUE))
    service = builder.publish_subscribe(Payload).open_or_create()
    publisher = service.publisher_builder().create()
    subscriber = service.subscriber_builder().create()

    def pair() -> bytes:
        publisher.send_copy(Payload.from_buffer_copy(RECORD))
        return ctypes.string_at(subscriber.receive().payload(), 64)

    return pair


def faster_fifo() -> Callable[[], bytes]:
    import faster_fifo as peer

    queue = peer.Queue(1 << 16)
    put, get = queue.put, queue.get

    def pair() -> bytes:
        put(RECORD)
        return get()

    return pair


def multiprocessing() -> Callable[[], bytes]:
    import multiprocessing as peer

    queue = peer.Queue()
    put, get = queue.put, queue.get

    def pair() -> bytes:
        put(RECORD)
        return get()

    return pair


PEERS = {
    "kickmsg": ("kickmsg", kickmsg),
    "zeroq": ("zeroq", zeroq),
    "cloudtoid-interprocess": ("cloudtoid_interprocess", cloudtoid),
    "iceoryx2": ("iceoryx2", iceoryx2),
    "faster-fifo": ("faster_fifo", faster_fifo),
    "multiprocessing.Queue": ("multiprocessing", multiprocessing),
}


def serve(name: str) -> None:
    """Answer each count on stdin until it ends."""
    pair = PEERS[name][1]()
    assert pair() == RECORD, f"{name} does not return what was put"
    for line in sys.stdin:
        loops = range(int(line))
        start = time.perf_counter()
        for _ in loops:
            pair()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
