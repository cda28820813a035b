"""SystemRDL and CMSIS-SVD files become the register maps that they describe."""

import sys

import pytest

from nexus import errors
from nexus.physics import Mmio
from nexus.physics.registers_rdl import load_rdl
from nexus.physics.registers_svd import load_svd

RDL = """
enum speed { OFF = 0; SLOW = 1; FAST = 2; };
regfile channel {
  reg { field { sw = rw; hw = r; } COUNT[15:0] = 0x10; } LEN @ 0x0;
  reg { field { sw = w; hw = r; onwrite = woset; } GO[0:0]; } CMD @ 0x4;
};
addrmap uart {
  desc = "A small serial port";
  reg {
    field { sw = rw; hw = r; encode = speed; } SPEED[3:2] = 1;
    field { sw = rw; hw = r; } EN[0:0] = 0;
    field { sw = rw; hw = w; onwrite = woclr; } ERR[7:7] = 0;
  } CTRL @ 0x0;
  reg { field { sw = r; hw = w; onread = rclr; } N[31:0]; } EVENTS @ 0x4;
  external reg {
    regwidth = 16; field { sw = rw; hw = rw; onread = ruser; } D[7:0];
  } DATA @ 0x8;
  reg { field { sw = rw; hw = r; } D[31:0]; } SLOT[2][3] @ 0x10 += 4;
  channel CH[2] @ 0x40 += 0x10;
};
"""

SVD = """<?xml version="1.0" encoding="utf-8"?>
<device schemaVersion="1.1" xmlns:xs="http://www.w3.org/2001/XMLSchema-instance">
  <name>CHIP</name><version>1</version><description>a chip</description>
  <addressUnitBits>8</addressUnitBits><width>32</width><size>32</size>
  <access>read-write</access><resetValue>0</resetValue>
  <peripherals>
    <peripheral>
      <name>UART0</name><description>serial
        port</description><baseAddress>0x40001000</baseAddress>
      <addressBlock><offset>0</offset><size>0x100</size><usage>registers</usage></addressBlock>
      <registers>
        <register>
          <name>CTRL</name><addressOffset>0</addressOffset><resetValue>4</resetValue>
          <fields>
            <field><name>EN</name><bitRange>[0:0]</bitRange></field>
            <field><name>SPEED</name><lsb>2</lsb><msb>3</msb>
              <enumeratedValues>
                <enumeratedValue><name>OFF</name><value>0</value></enumeratedValue>
                <enumeratedValue><name>FAST</name><value>#10</value></enumeratedValue>
                <enumeratedValue><name>LOST</name><value>0b11</value></enumeratedValue>
              </enumeratedValues>
            </field>
            <field><name>ERR</name><bitOffset>7</bitOffset><bitWidth>1</bitWidth>
              <modifiedWriteValues>oneToClear</modifiedWriteValues></field>
          </fields>
        </register>
        <register>
          <name>DATA</name><addressOffset>4</addressOffset><size>16</size>
          <readAction>modify</readAction>
        </register>
        <register>
          <name>EVENTS</name><addressOffset>8</addressOffset><access>read-only</access>
          <readAction>clear</readAction>
        </register>
        <register>
          <dim>3</dim><dimIncrement>4</dimIncrement>
          <name>SLOT[%s]</name><addressOffset>0x10</addressOffset>
        </register>
        <register>
          <dim>2</dim><dimIncrement>4</dimIncrement><dimIndex>A,B</dimIndex>
          <name>KEY%s</name><addressOffset>0x20</addressOffset><access>write-only</access>
        </register>
        <cluster>
          <dim>2</dim><dimIncrement>0x10</dimIncrement>
          <name>CH[%s]</name><addressOffset>0x40</addressOffset>
          <register><name>LEN</name><addressOffset>0</addressOffset></register>
        </cluster>
      </registers>
    </peripheral>
    <peripheral derivedFrom="UART0">
      <name>UART1</name><baseAddress>0x40002000</baseAddress>
    </peripheral>
  </peripherals>
</device>
"""


@pytest.fixture
def rdl(tmp_path):
    pytest.importorskip("systemrdl", reason="RDL loader not checked: pip install nexus-node[rdl]")
    path = tmp_path / "uart.rdl"

    def load(text=RDL, **options):
        path.write_text(text)
        return load_rdl(path, **options)

    return load


@pytest.fixture
def svd(tmp_path):
    pytest.importorskip("cmsis_svd", reason="SVD loader not checked: pip install nexus-node[svd]")
    path = tmp_path / "chip.svd"

    def load(text=SVD):
        path.write_text(text)
        return load_svd(path)

    return load


def by_name(items):
    return {item.name: item for item in items}


def test_rdl_registers_and_fields(rdl):
    uart = rdl()
    registers = by_name(uart.registers)
    assert (uart.name, uart.description, uart.byte_order) == (
        "uart",
        "A small serial port",
        "little",
    )
    assert {name: (r.offset, r.width, r.access) for name, r in registers.items()} == {
        "CTRL": (0, 32, "rw"),
        "EVENTS": (4, 32, "ro"),
        "DATA": (8, 16, "rw"),
        "SLOT": (0x10, 32, "rw"),
    }
    assert registers["CTRL"].reset == 4
    fields = by_name(registers["CTRL"].fields)
    assert {name: (f.lsb, f.width, f.access) for name, f in fields.items()} == {
        "EN": (0, 1, "rw"),
        "SPEED": (2, 2, "rw"),
        "ERR": (7, 1, "w1c"),
    }
    assert fields["SPEED"].labels == ((0, "OFF"), (1, "SLOW"), (2, "FAST"))
    assert registers["EVENTS"].fields[0].access == "rclr"
    assert registers["DATA"].fields[0].access == "rwa"
    assert (registers["SLOT"].count, registers["SLOT"].step) == (6, 4)


def test_rdl_register_file_is_a_block(rdl):
    (channel,) = rdl().blocks
    assert (channel.name, channel.offset, channel.count, channel.step) == ("CH", 0x40, 2, 16)
    command = by_name(channel.map.registers)["CMD"]
    assert (command.access, command.fields[0].access) == ("wo", "wo1")
    assert by_name(channel.map.registers)["LEN"].reset == 0x10


def test_rdl_map_drives_a_window(rdl):
    window = Mmio.dry_run(0x100)
    uart = rdl().bind(window)
    uart.CTRL.modify(EN=1, SPEED="FAST")
    uart.CH[1].CMD.GO.value = 1
    assert [(a.op, a.offset, a.value) for a in window.trace()] == [
        ("read", 0, 0),
        ("write", 0, 9),
        ("write", 0x54, 1),
    ]


def test_rdl_top_is_chosen_by_name(rdl):
    text = "addrmap a { reg { field {} X; } R; }; addrmap b { reg { field {} X; } S; };"
    assert rdl(text).registers[0].name == "S"
    assert rdl(text, top="a").registers[0].name == "R"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("addrmap a {", "."),
        (
            "addrmap a { reg { field { sw = rw; onread = rclr; onwrite = woclr; } X; } R; };",
            "onrea",
        ),
        ("addrmap a { reg { regwidth = 32; accesswidth = 16; field {} X; } R; };", "accesswidth"),
        ("addrmap a { reg { regwidth = 128; accesswidth = 128; field {} X; } R; };", "128"),
    ],
)
def test_rdl_without_a_counterpart_is_refused(rdl, text, message):
    with pytest.raises(ValueError, match=message):
        rdl(text)


def test_svd_registers_and_fields(svd):
    chip = svd()
    uart = chip["UART0"]
    assert (uart.base_address, uart.map.size) == (0x40001000, 0x100)
    assert uart.map.description == "serial port"
    registers = by_name(uart.map.registers)
    assert {n: (r.offset, r.width, r.access, r.count) for n, r in registers.items()} == {
        "CTRL": (0, 32, "rw", None),
        "DATA": (4, 16, "rwa", None),
        "EVENTS": (8, 32, "rclr", None),
        "SLOT": (0x10, 32, "rw", 3),
        "KEYA": (0x20, 32, "wo", None),
        "KEYB": (0x24, 32, "wo", None),
    }
    fields = by_name(registers["CTRL"].fields)
    assert {n: (f.lsb, f.width, f.access) for n, f in fields.items()} == {
        "EN": (0, 1, "rw"),
        "SPEED": (2, 2, "rw"),
        "ERR": (7, 1, "w1c"),
    }
    assert fields["SPEED"].labels == ((0, "OFF"), (2, "FAST"))
    assert registers["CTRL"].reset == 4
    (channel,) = uart.map.blocks
    assert (channel.name, channel.count, channel.step) == ("CH", 2, 16)


def test_svd_derived_peripheral_has_the_same_registers(svd):
    chip = svd()
    assert chip["UART1"].base_address == 0x40002000
    assert chip["UART1"].map.registers == chip["UART0"].map.registers


def test_svd_map_drives_a_window(svd):
    window = Mmio.dry_run(0x100)
    uart = svd()["UART0"].map.bind(window)
    uart.CTRL.SPEED.value = "FAST"
    uart.KEYB.value = 5
    assert [(a.op, a.offset, a.value) for a in window.trace()] == [
        ("read", 0, 0),
        ("write", 0, 8),
        ("write", 0x24, 5),
    ]


def test_svd_endianness_is_that_of_the_cpu(svd):
    cpu = "<cpu><name>CM3</name><revision>r0p0</revision><endian>big</endian></cpu><peripherals>"
    chip = svd(SVD.replace("<peripherals>", cpu))
    assert chip["UART0"].map.byte_order == "big"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("</device>", ""), "."),
        (("<size>16</size>", "<size>24</size>"), "24 bits"),
        (("<readAction>modify</readAction>", "<readAction>modify</readAction>"
          "<modifiedWriteValues>clear</modifiedWriteValues>"), "together"),
    ],
)  # fmt: skip
def test_svd_without_a_counterpart_is_refused(svd, change, message):
    with pytest.raises(ValueError, match=message):
        svd(SVD.replace(*change))


def test_missing_file_is_a_missing_file(svd, rdl, tmp_path):
    with pytest.raises(FileNotFoundError):
        load_svd(tmp_path / "none.svd")


@pytest.mark.parametrize(
    ("load", "module", "extra"),
    [(load_rdl, "systemrdl", "rdl"), (load_svd, "cmsis_svd.parser", "svd")],
)
def test_missing_extra_says_how_to_get_it(monkeypatch, tmp_path, load, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(errors.AbsentError) as caught:
        load(tmp_path / "file")
    assert caught.value.hint == f"pip install nexus-node[{extra}]"
