"""Work on a volume that takes long: its progress on a terminal, its end by Ctrl-C, its errors.

The work runs in a thread of its own, in C and without the interpreter's lock; the main thread
shows the store's counters. Ctrl-C asks the store to end and waits for it, so that the volume is
closed in order; work that was done by then stays done.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar

from nexus.cli.entry_text import bytes_text, name_text
from nexus.cli.grammar import UsageError
from nexus.cli.output import Output
from nexus.errors import (
    CorruptError,
    DeadlineError,
    EmptyError,
    NexusError,
    VolumeCorruptError,
    VolumeFileError,
)
from nexus.seams.store import ContentStore

__all__ = ["explained", "watched"]

UPDATE_S = 0.15
T = TypeVar("T")


@contextmanager
def explained(volume: str) -> Iterator[None]:
    """What an error of the engine means to whoever typed the command.

    Raises:
        VolumeCorruptError: an object of the volume is damaged or not there.
        VolumeFileError: a file cannot be read or written.
        UsageError: a path or a name is none.
    """
    hint = f"nexus fs check {volume} names what is lost"
    try:
        yield
    except VolumeCorruptError as error:
        raise VolumeCorruptError(f"{volume}: {error}", hint=error.hint or hint) from error
    except CorruptError as error:
        raise VolumeCorruptError(f"{volume}: {error} is damaged", hint=hint) from error
    except EmptyError as error:
        raise VolumeCorruptError(f"{volume}: {error} is not there", hint=hint) from error
    except NexusError:
        raise
    except OSError as error:
        if error.filename is None:  # of the command's own output
            raise
        name = error.filename
        shown = name_text(name) if isinstance(name, bytes) else str(name)
        raise VolumeFileError(f"{shown}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _progress(doing: str, store: ContentStore) -> str:
    now = store.counters()
    text = f"{doing}: {now['files']} files, {bytes_text(now['file_bytes'])}"
    return f"{text}, {bytes_text(now['new_bytes'])} new" if now["new_bytes"] else text


def watched(
    work: Callable[[], T],
    store: ContentStore,
    output: Output,
    doing: str,
    *,
    quiet: bool,
    shown: Callable[[str, ContentStore], str] = _progress,
) -> T:
    """The result of the work; `shown` says how far it is.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    asked = False
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again by whoever waits
            failures.append(error)

    def end(*_: object) -> None:
        nonlocal asked
        asked = True
        store.cancel()

    before = signal.signal(signal.SIGINT, end)
    try:
        thread = Thread(target=run)
        thread.start()
        while thread.is_alive():
            thread.join(UPDATE_S)
            if thread.is_alive() and not quiet:
                output.progress(shown(doing, store))
        if failures:
            raise failures[0]
        return results[0]
    except DeadlineError:
        if asked:
            raise KeyboardInterrupt from None
        raise
    finally:
        if not quiet:
            output.progress("")
        signal.signal(signal.SIGINT, before)
