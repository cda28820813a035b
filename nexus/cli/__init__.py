"""The `nexus` command: a client of the layers below, each noun loaded when it is called."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from nexus import __version__
from nexus.cli.fs_grammar import add_volume_commands
from nexus.cli.grammar import Commands, Parser, add_command, add_common
from nexus.cli.node_grammar import add_node_commands
from nexus.cli.output import Output
from nexus.errors import FaultError, NexusError

__all__ = ["command", "main", "make_parser"]

EXIT_BUG = 70
EXIT_INTERRUPT = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _add_words(run: Parser) -> None:
    run.add_argument("--bare", action="store_true", help="show nothing but what is unveiled")
    run.add_argument("--name", help="its name in messages")
    run.add_argument("--explain", action="store_true", help="show the policy, run nothing")
    run.add_argument(
        "--learn",
        action="store_true",
        help="run it unconfined, and print the least manifest that would let it pass",
    )
    run.add_argument(
        "--output", metavar="FILE", help="where --learn writes the manifest; stderr without it"
    )


def _add_run(commands: Commands) -> None:
    run = add_command(
        commands,
        "run",
        "run",
        "Run a program as a fiber: confined, limited, supervised.",
        "  nexus run -- python3 agent.py\n"
        "  nexus run --pledge stdio,rpath --unveil data=r -- ./parser data/input\n"
        "  nexus run --restart on-failure --limit memory=256M -- ./service\n"
        "  nexus run --json -- ./job    # stderr: one JSON document for each thing that happens\n"
        "  nexus run --explain --pledge stdio,inet -- ./client\n"
        "  nexus run --learn --output agent.kdl -- python3 agent.py",
    )
    run.add_argument(
        "--manifest", metavar="FILE", help="a fiber in KDL; what is said here, too, wins"
    )
    run.add_argument(
        "--pledge",
        metavar="WORDS",
        help="what it may do: stdio,rpath,...; without it all but the network",
    )
    run.add_argument(
        "--unveil",
        metavar="PATH=RIGHTS",
        action="append",
        default=[],
        help="what it sees besides the system: r reads, w writes, x executes, c creates; without "
        "it the working directory, rwxc",
    )
    run.add_argument(
        "--refused",
        choices=["deny", "trap", "kill"],
        help="what a call that is not pledged gets: EPERM, SIGSYS (as without it), or the end",
    )
    run.add_argument(
        "--tier",
        choices=["photon", "matter", "gravity", "void"],
        help="hold it to the time budget of this tier",
    )
    run.add_argument(
        "--limit",
        metavar="NAME=NUMBER",
        action="append",
        default=[],
        help="memory, file, stack, core (bytes, with K, M, G, T), cpu (seconds), processes, files",
    )
    run.add_argument(
        "--restart", choices=["never", "on-failure", "always"], help="when it starts again; never"
    )
    run.add_argument(
        "--survivability",
        choices=["sovereign", "hardened", "radiation"],
        help="the least of fault handling that is on; what takes L1 is on in a node alone",
    )
    run.add_argument("--seal", action="store_true", help="run a sealed copy, checked at each start")
    run.add_argument(
        "--session", action="store_true", help="a session of its own, without terminal"
    )
    run.add_argument(
        "--waive",
        metavar="LAYER",
        action="append",
        default=[],
        help="accept that this layer is missing; --explain lists them",
    )
    _add_words(run)
    run.add_argument(
        "program", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="what to run, and its words"
    )
    add_common(run)


def make_parser(words: Sequence[str] | None = None) -> Parser:
    """The grammar of a command line, or all of it, from which completion and manual are made."""
    parser = Parser(
        words=words,
        prog="nexus",
        description="A capability runtime that turns a Linux host into a sovereign node.",
        epilog="`nexus help WORD` explains a word of this system.",
    )
    parser.add_argument("--version", action="version", version=f"nexus {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    doctor = add_command(
        commands,
        "doctor",
        "doctor",
        "Report what this host offers, what each gap costs, and how to close it.",
        "  nexus doctor\n  nexus doctor --json | jq '.items[] | select(.state != \"ok\")'",
    )
    add_common(doctor)

    selftest = add_command(
        commands,
        "selftest",
        "selftest",
        "Run the shipped test vectors against this installation.",
        "  nexus selftest\n  NEXUS_SIMD=scalar nexus selftest --json",
    )
    add_common(selftest)

    bench = commands.add_parser("bench", help="Measure this installation on this machine.")
    subjects = bench.add_subparsers(metavar="SUBJECT", dest="subject", required=True)
    core = add_command(
        subjects,
        "core",
        "bench_core",
        "Time the core mechanisms beside what the standard library offers for the same work.",
        "  nexus bench core\n  nexus bench core --quick --json",
    )
    core.add_argument("--quick", action="store_true", help="few short rounds: a smoke test")
    core.add_argument("--only", metavar="WORD", help="only rows whose name has this word")
    add_common(core)

    _add_run(commands)
    add_node_commands(commands)
    add_volume_commands(commands)

    completion = add_command(
        commands,
        "completion",
        "completion",
        "Print the completion script of a shell.",
        '  eval "$(nexus completion bash)"\n  nexus completion zsh > ~/.zfunc/_nexus',
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="which shell")
    add_common(completion)

    explain = add_command(
        commands,
        "help",
        "glossary",
        "Explain a word of this system, or list the words.",
        "  nexus help\n  nexus help ring",
    )
    explain.add_argument("word", nargs="?", help="a word of the glossary")
    add_common(explain)
    return parser


def _report_bug(error: Exception, output: Output, *, debug: bool) -> int:
    import tempfile  # seldom needed, and slow to import
    import traceback

    text = "".join(traceback.format_exception(error))
    if debug:
        sys.stderr.write(text)
    with tempfile.NamedTemporaryFile(
        "w", prefix="nexus-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as report:
        report.write(f"nexus {__version__}, Python {sys.version}\n{text}")
    output.error(
        "NX-BUG-001",
        f"a bug in nexus: {type(error).__name__}: {error}",
        f"please report it with the file {report.name}",
    )
    return EXIT_BUG


def _report_no_room(error: OSError, output: Output) -> int:
    # What is still in the buffer has no room either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    message = f"the output cannot be written: {error.strerror}"
    output.error(FaultError.code, message, "make room where it is written to")
    return FaultError.exit_code


def _run(words: Sequence[str], output: Output) -> int:
    try:
        arguments = make_parser(words).parse_args(words)
    except SystemExit as stop:
        # argparse ends --help and --version this way.
        return stop.code if isinstance(stop.code, int) else 0
    module = importlib.import_module(arguments.module)
    code: int = module.run(arguments, output)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the words after the program's name; those of the process when None.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    own = words[: words.index("--")] if "--" in words else words
    output = Output(json="--json" in own)
    debug = "--debug" in own
    try:
        code = _run(words or ["--help"], output)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPT
    except BrokenPipeError:
        # The reader left; keep the interpreter's final flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except NexusError as error:
        if debug:
            sys.excepthook(type(error), error, error.__traceback__)
        output.error(error.code, str(error), error.hint)
        return error.exit_code
    except Exception as error:  # the last line of the program: whatever is left is a bug
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _report_no_room(error, output)
        return _report_bug(error, output, debug=debug)


def command() -> NoReturn:
    """The program: runs `main`, and ends at once.

    Taking the interpreter down piece by piece takes 10 ms, and there is nothing left for it to do:
    whatever must be closed in order was closed by a `with`.
    """
    code = main()
    with contextlib.suppress(OSError):  # said by now, if it matters
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
