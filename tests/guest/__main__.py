"""`python -m tests.guest prepare` fills the cache; `run --profile NAME -- CMD` runs CMD in a guest.

`run` exits with the status of CMD, 125 when the guest died, and 69 when there can be none.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.guest.guest import LIFETIME_S, Guest, GuestDied, ready, status
from tests.guest.kernel import Unavailable
from tests.guest.profiles import PROFILES

UNAVAILABLE, DIED = 69, 125


def run(arguments: argparse.Namespace) -> int:
    """Run one command in a guest of its own."""
    streams = {"o": sys.stdout.buffer, "e": sys.stderr.buffer}
    environment = {k: v for k, v in os.environ.items() if k.startswith(("NEXUS_", "PYTHON"))}
    data = b""
    with Guest(PROFILES[arguments.profile], lifetime_s=arguments.lifetime) as guest:
        words = {"environment": environment, "folder": str(Path.cwd())}
        for kind, data in guest.stream(arguments.command, **words):
            if kind in streams:
                streams[kind].write(data)
                streams[kind].flush()
    return status(data)


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.guest", description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)
    commands.add_parser("prepare", help="fetch and unpack the guest's kernel")
    runner = commands.add_parser("run", help="run a command in a guest")
    runner.add_argument("--profile", choices=sorted(PROFILES), required=True)
    runner.add_argument("--lifetime", type=int, default=LIFETIME_S, metavar="SECONDS")
    runner.add_argument("command", nargs="+", metavar="CMD")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "run":
            return run(arguments)
        print(ready())
    except Unavailable as error:
        print(f"no guest: {error}", file=sys.stderr)
        return UNAVAILABLE
    except GuestDied as error:
        print(error, file=sys.stderr)
        return DIED
    return 0


if __name__ == "__main__":
    sys.exit(main())
