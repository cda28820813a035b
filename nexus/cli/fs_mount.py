"""`nexus fs mount` and `nexus fs unmount`: a volume as a directory of the host."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

from nexus.cli.grammar import UsageError
from nexus.cli.long_work import explained
from nexus.cli.output import Output
from nexus.fs import Volume
from nexus.fs.live import LiveVolume
from nexus.fs.mount import MountedVolume
from nexus.physics.clock import HostClock
from nexus.physics.fuse import unmount_fuse

__all__ = ["run"]

THREADS_MAX = 16
INTERVAL_MAX = 3600


def _serve(arguments: argparse.Namespace, output: Output, stop: threading.Event) -> None:
    reads = arguments.read_only
    with ExitStack() as stack:
        volume = stack.enter_context(Volume.open(arguments.volume, writes=not reads))
        mounted: MountedVolume | LiveVolume
        if reads:
            mounted = MountedVolume(
                volume,
                arguments.directory,
                snapshot=arguments.snapshot,
                allow_other=arguments.allow_other,
                threads=arguments.threads,
            )
        else:
            mounted = LiveVolume(
                volume,
                arguments.directory,
                clock=HostClock(),
                interval_s=arguments.commit_interval,
                allow_other=arguments.allow_other,
                threads=arguments.threads,
            )
        with mounted:
            body = {
                "volume": arguments.volume,
                "directory": arguments.directory,
                "read_only": reads,
            }
            if output.json:
                output.document("mounted", body)
            else:
                how = "to be read" if reads else "to be read and written"
                output.line(f"mounted {arguments.volume} on {arguments.directory}, {how}")
            mounted.wait(stop.wait)


def _mount(arguments: argparse.Namespace, output: Output) -> None:
    if not 1 <= arguments.threads <= THREADS_MAX:
        raise UsageError(f"{arguments.threads} threads", hint=f"1 to {THREADS_MAX}")
    if not 0 < arguments.commit_interval <= INTERVAL_MAX:
        raise UsageError(f"{arguments.commit_interval} seconds", hint=f"up to {INTERVAL_MAX}")
    if arguments.snapshot is not None and not arguments.read_only:
        raise UsageError(
            "a snapshot does not change",
            hint=f"nexus fs mount --read-only --snapshot {arguments.snapshot} ...",
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    _serve(arguments, output, stop)


def _unmount(directory: str) -> None:
    """What was changed is on the medium before, so that there is nothing left to wait for."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unmount_fuse(Path(directory).absolute(), lazy=False)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Mount a volume until it is unmounted, or unmount one."""
    if arguments.verb == "mount":
        with explained(arguments.volume):
            _mount(arguments, output)
        return 0
    with explained(arguments.directory):
        _unmount(arguments.directory)
    return 0
