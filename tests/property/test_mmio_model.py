"""Any run of window verbs does to a memfd what it does to a bytearray, and its replay agrees."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus import errors
from nexus.physics import Mmio

SIZE = 64
WIDTH = st.sampled_from([8, 16, 32, 64])
OFFSET = st.integers(0, SIZE + 8)


def values(width):
    return st.integers(0, (1 << width) - 1)


@st.composite
def verbs(draw):
    """(method, arguments, width): what to call."""
    width = draw(WIDTH)
    offset = draw(OFFSET)
    kind = draw(st.sampled_from(["read", "write", "update", "block", "fifo", "read_block"]))
    if kind == "read":
        return (f"read{width}", (offset,), {}, width)
    if kind == "write":
        return (f"write{width}", (offset, draw(values(width))), {}, width)
    if kind == "update":
        mask = draw(values(width))
        return ("update", (offset, mask, draw(values(width)) & mask), {"width": width}, width)
    if kind == "read_block":
        return ("read_block", (offset, draw(st.integers(0, 9))), {"width": width}, width)
    data = draw(st.lists(values(width), max_size=9))
    return (f"write_{kind}", (offset, data), {"width": width}, width)


def outcome(call):
    try:
        return ("value", call())
    except errors.NexusError as error:
        return ("error", type(error))


def model(memory, name, arguments, width):
    """The same verb on a bytearray."""
    size = width // 8
    offset = arguments[0]
    count = {"read_block": arguments[1] if name == "read_block" else 1}.get(name, 1)
    if name == "write_block":
        count = len(arguments[1])
    if offset >= SIZE or SIZE - offset < size or SIZE - offset < count * size:
        return ("error", errors.OutOfRangeError)
    if offset % size:
        return ("error", errors.MisalignedError)

    def load(at):
        return int.from_bytes(memory[at : at + size], "little")

    def store(at, value):
        memory[at : at + size] = value.to_bytes(size, "little")

    if name == "update":
        store(offset, load(offset) & ~arguments[1] | arguments[2])
    elif name == "read_block":
        return ("value", [load(offset + i * size) for i in range(count)])
    elif name.startswith("read"):
        return ("value", load(offset))
    elif name == "write_block":
        for i, value in enumerate(arguments[1]):
            store(offset + i * size, value)
    elif name == "write_fifo":
        for value in arguments[1]:
            store(offset, value)
    else:
        store(offset, arguments[1])
    return ("value", None)


@settings(deadline=None, max_examples=150)
@given(st.lists(verbs(), max_size=12), st.booleans())
def test_window_equals_a_bytearray(steps, guard):
    fd = os.memfd_create("model", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, SIZE)
        memory = bytearray(SIZE)
        with Mmio.attach(fd, 0, SIZE, trace=1000, guard=guard) as window:
            results = []
            for name, arguments, extra, width in steps:
                got = outcome(lambda: getattr(window, name)(*arguments, **extra))  # noqa: B023
                want = model(memory, name, arguments, width)
                # Two faults at once may be reported in either order.
                assert got[0] == want[0]
                if want[0] == "value":
                    assert got == want
                assert os.pread(fd, SIZE, 0) == memory
                results.append(got)
            trace = window.trace()
    finally:
        os.close(fd)
    again = Mmio.replay(trace, SIZE)
    for (name, arguments, extra, _), before in zip(steps, results, strict=True):
        assert outcome(lambda: getattr(again, name)(*arguments, **extra)) == before  # noqa: B023
    assert again.remaining == 0
