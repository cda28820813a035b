"""Peer of bench_mmio: a field written through peakrdl-python (LGPL) into a dict."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from peer import serve

RDL = """
addrmap device {
  reg {
    field { sw = rw; hw = r; } EN[0:0] = 0;
    field { sw = rw; hw = r; } MODE[3:2] = 0;
  } CTRL @ 0x0;
};
"""


def make():
    from peakrdl_python import PythonExporter
    from systemrdl import RDLCompiler

    place = tempfile.TemporaryDirectory()
    folder = Path(place.name)
    (folder / "device.rdl").write_text(RDL)
    compiler = RDLCompiler()
    compiler.compile_file(str(folder / "device.rdl"))
    top = compiler.elaborate().top
    PythonExporter().export(top, str(folder), skip_test_case_generation=True)
    sys.path.insert(0, str(folder))
    from device.lib.callbacks import NormalCallbackSet
    from device.reg_model.device import device_cls

    memory = {0: 0}
    callbacks = NormalCallbackSet(
        read_callback=lambda addr, width, accesswidth: memory[addr],
        write_callback=lambda addr, width, accesswidth, data: memory.__setitem__(addr, data),
    )
    field = device_cls(callbacks=callbacks).CTRL.EN

    def work(loops):
        for _ in range(loops):
            field.write(1)

    work.place = place  # removed when the peer ends
    return work


serve(make)
