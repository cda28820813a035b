"""Peer of bench_seccomp: the program of the same calls through pyseccomp and libseccomp (LGPL)."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from peer import serve


def make():
    try:
        import pyseccomp
    except RuntimeError as error:  # libseccomp.so is not there
        raise ImportError(str(error)) from error

    from seccomp_calls import NUMBERS

    null = os.open("/dev/null", os.O_WRONLY)
    target = os.fdopen(null, "wb")

    def work(loops):
        for _ in range(loops):
            program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
            for number in NUMBERS:
                program.add_rule(pyseccomp.ALLOW, number)
            program.export_bpf(target)

    return work


serve(make)
