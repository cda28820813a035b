"""Registers and fields: which accesses a write makes, what it carries over, what is refused."""

import pytest

from nexus import errors
from nexus.physics import (
    BlockSpec,
    FieldSpec,
    Mmio,
    Register,
    RegisterMap,
    RegisterSpec,
)


def register(*fields, window=None, **options):
    window = window or Mmio.dry_run(64)
    return window, Register(window, 8, fields=fields, name="REG", **options)


def steps(window):
    return [(access.op, access.value) for access in window.trace()]


MODE = FieldSpec(name="MODE", lsb=4, width=2, labels=((0, "OFF"), (2, "FAST")))
EN = FieldSpec(name="EN", lsb=0)


def test_value_is_one_access_each_way():
    window, reg = register()
    reg.value = 5
    assert reg.value == 5
    assert steps(window) == [("write", 5), ("read", 5)]


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("order", ["little", "big"])
def test_width_and_byte_order_are_those_of_the_register(width, order):
    window, reg = register(EN, width=width, byte_order=order)
    value = (1 << width) - 2
    reg.value = value
    assert reg.value == value
    reg.EN.value = 1
    assert reg.EN.value == 1
    raw = window.read_block(8, width // 8, width=8)
    assert int.from_bytes(bytes(raw), order) == value | 1
    assert {access.width for access in window.trace()[:5]} == {width}


def test_field_write_carries_the_other_bits_over():
    window, reg = register(EN, MODE)
    reg.value = 0xABCD00C1
    reg.MODE.value = 3
    assert reg.value == 0xABCD00F1
    assert steps(window)[1:3] == [("read", 0xABCD00C1), ("write", 0xABCD00F1)]


def test_field_is_read_by_one_access_and_shifted():
    _, reg = register(MODE)
    reg.value = 0x20
    assert (reg.MODE.value, reg["MODE"].value, reg.MODE.label) == (2, 2, "FAST")
    reg.MODE.value = "OFF"
    assert reg.value == 0
    reg.value = 0x10
    assert reg.MODE.label is None


@pytest.mark.parametrize(
    ("access", "neutral"),
    [("w1c", 0), ("w1s", 0), ("w1t", 0), ("wo1", 0), ("w0c", 0x80), ("w0s", 0x80), ("wo0", 0x80)],
)
def test_field_write_leaves_bits_that_a_write_acts_on_alone(access, neutral):
    window, reg = register(EN, FieldSpec(name="ERR", lsb=7, access=access))
    reg.value = 0x80
    reg.EN.value = 1
    assert steps(window)[-1] == ("write", neutral | 1)


def test_field_that_fills_what_can_be_carried_needs_no_read():
    fields = (
        FieldSpec(name="ACK", lsb=0, width=8, access="w1c"),
        FieldSpec(name="LEVEL", lsb=8, width=24, access="ro"),
    )
    window, reg = register(*fields)
    reg.ACK.value = 4
    assert steps(window) == [("write", 4)]


def test_write_only_register_is_carried_by_its_shadow():
    window, reg = register(EN, MODE, access="wo", reset=0x20)
    reg.EN.value = 1
    reg.MODE.value = 1
    assert steps(window) == [("write", 0x21), ("write", 0x11)]
    assert reg.shadow == 0x11
    for target in (reg, reg.EN):
        with pytest.raises(errors.DeniedError):
            _ = target.value


def test_write_only_field_of_a_readable_register_is_carried_by_the_shadow():
    window, reg = register(EN, FieldSpec(name="KEY", lsb=8, width=8, access="wo"))
    reg.KEY.value = 0x5A
    reg.EN.value = 1
    assert steps(window)[-1] == ("write", 0x5A01)
    assert "KEY" not in reg.read_fields()


def test_read_only_register_and_field_refuse_a_write():
    window, reg = register(EN, access="ro")
    for target in (reg, reg.EN):
        with pytest.raises(errors.DeniedError):
            target.value = 1
    _, mixed = register(EN, FieldSpec(name="BUSY", lsb=1, access="ro"))
    with pytest.raises(PermissionError):
        mixed.BUSY.value = 1
    assert window.trace() == []


@pytest.mark.parametrize("access", ["rclr", "rset", "roa", "rwa"])
def test_partial_write_that_needs_a_read_with_side_effects_is_refused(access):
    window, reg = register(EN, FieldSpec(name="COUNT", lsb=8, width=8, access=access))
    with pytest.raises(errors.DeniedError, match="read"):
        reg.EN.value = 1
    reg.value = 1
    assert steps(window) == [("write", 1)]


def test_partial_write_beside_bits_that_any_write_changes_is_refused():
    window, reg = register(EN, FieldSpec(name="KICK", lsb=8, access="wa"))
    with pytest.raises(errors.DeniedError):
        reg.EN.value = 1
    assert window.trace() == []


def test_modify_sets_many_fields_by_one_write():
    window, reg = register(EN, MODE)
    reg.modify(EN=1, MODE="FAST")
    assert steps(window) == [("read", 0), ("write", 0x21)]
    reg.modify()
    assert len(window.trace()) == 2
    assert reg.read_fields() == {"EN": 1, "MODE": 2}


def test_bad_part_of_modify_changes_nothing():
    window, reg = register(EN, MODE)
    for values, error in [
        ({"EN": 1, "MODE": 4}, OverflowError),
        ({"EN": 1, "MODE": "SLOW"}, ValueError),
        ({"EN": 1, "NONE": 1}, AttributeError),
        ({"EN": True}, TypeError),
    ]:
        with pytest.raises(error):
            reg.modify(**values)
    assert window.trace() == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [(1.0, TypeError), (True, TypeError), (None, TypeError), (-1, OverflowError)],
)
def test_bad_value_is_refused(bad, error):
    window, reg = register(EN)
    for target in (reg, reg.EN):
        with pytest.raises(error):
            target.value = bad
    for target, value in ((reg, 1 << 32), (reg.EN, 2), (reg, 1 << 64)):
        with pytest.raises(OverflowError):
            target.value = value
    assert window.trace() == []


def test_slip_of_assigning_to_a_field_is_an_error():
    window, reg = register(EN)
    with pytest.raises(AttributeError):
        reg.EN = 1
    with pytest.raises(AttributeError):
        reg.EN.valeu = 1
    with pytest.raises(AttributeError):
        _ = reg.NONE
    with pytest.raises(KeyError):
        _ = reg["NONE"]
    assert window.trace() == []


def test_field_with_a_name_of_the_class_is_reached_by_item():
    window, reg = register(FieldSpec(name="value", lsb=0), FieldSpec(name="fields", lsb=1))
    reg["value"].value = 1
    reg["fields"].value = 1
    assert reg.value == 3
    assert set(reg.fields) == {"value", "fields"}
    assert "value" in dir(reg)
    assert len(window.trace()) == 5


def test_closed_window_refuses_its_registers():
    window, reg = register(EN)
    window.close()
    for target in (reg, reg.EN):
        with pytest.raises(errors.ClosedError):
            _ = target.value
        with pytest.raises(errors.ClosedError):
            target.value = 1


def test_readonly_window_refuses_before_the_read(tmp_path):
    path = tmp_path / "registers"
    path.write_bytes(bytes(64))
    with Mmio(path, 0, 64, writable=False, trace=10) as window:
        reg = Register(window, 0, fields=(EN,))
        for target in (reg, reg.EN):
            with pytest.raises(errors.DeniedError):
                target.value = 1
        assert window.trace() == []


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((64,), {}, errors.OutOfRangeError),
        ((2,), {}, errors.MisalignedError),
        ((0, 24), {}, ValueError),
        ((0,), {"access": "rx"}, ValueError),
        ((0,), {"byte_order": "middle"}, ValueError),
        ((0, 8), {"reset": 256}, OverflowError),
        ((0, 8), {"fields": (FieldSpec(name="WIDE", lsb=4, width=5),)}, ValueError),
        ((0,), {"fields": (EN, FieldSpec(name="TWO", lsb=0))}, ValueError),
        ((0,), {"fields": (EN, FieldSpec(name="EN", lsb=1))}, ValueError),
        ((0,), {"fields": (FieldSpec(name="A", lsb=0, labels=((2, "X"),)),)}, OverflowError),
        ((0,), {"fields": (FieldSpec(name="A", lsb=0, labels=((0, "X"), (1, "X"))),)}, ValueError),
        ((True,), {}, TypeError),
    ],
)
def test_register_that_cannot_be_is_refused(arguments, options, error):
    with pytest.raises(error):
        Register(Mmio.dry_run(64), *arguments, **options)


def test_register_needs_a_window_and_a_field_a_register():
    with pytest.raises(TypeError):
        Register(None, 0)
    _, reg = register(EN)
    with pytest.raises(TypeError):
        type(reg.EN)()


CHANNEL = RegisterMap(
    name="channel",
    size=8,
    registers=(
        RegisterSpec(name="LEN", offset=0, width=16),
        RegisterSpec(name="GO", offset=4, access="wo"),
    ),
)
DEVICE = RegisterMap(
    name="dma",
    size=0x80,
    registers=(
        RegisterSpec(name="CTRL", offset=0, fields=(EN, MODE)),
        RegisterSpec(name="SLOT", offset=0x10, count=4, stride=8),
    ),
    blocks=(BlockSpec(name="CH", offset=0x40, map=CHANNEL, count=2, stride=16),),
)


def test_bound_map_places_arrays_and_blocks():
    window = Mmio.dry_run(0x200)
    dma = DEVICE.bind(window, 0x100)
    dma.CH[1].GO.value = 7
    dma.SLOT[3].value = 8
    dma["CTRL"]["MODE"].value = "FAST"
    assert [(a.offset, a.width) for a in window.trace() if a.op == "write"] == [
        (0x154, 32),
        (0x128, 32),
        (0x100, 32),
    ]
    assert [r.name for r in dma.registers()] == [
        "dma.CTRL",
        *(f"dma.SLOT[{i}]" for i in range(4)),
        *(f"dma.CH[{i}].{name}" for i in range(2) for name in ("LEN", "GO")),
    ]
    assert list(dma) == ["CTRL", "SLOT", "CH"]


def test_bound_map_refuses_assignment_and_unknown_names():
    dma = DEVICE.bind(Mmio.dry_run(0x80))
    with pytest.raises(AttributeError):
        dma.CTRL = 1
    with pytest.raises(AttributeError):
        _ = dma.NONE
    with pytest.raises(KeyError):
        _ = dma["NONE"]


def test_map_that_does_not_fit_the_window_is_refused():
    for size, offset in ((0x7F, 0), (0x100, 0x81)):
        with pytest.raises(errors.OutOfRangeError):
            DEVICE.bind(Mmio.dry_run(size), offset)
    with pytest.raises(errors.MisalignedError):
        DEVICE.bind(Mmio.dry_run(0x100), 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FieldSpec(name="A", lsb=60, width=5),
        lambda: FieldSpec(name="A", lsb=-1),
        lambda: FieldSpec(name="A", lsb=0, width=0),
        lambda: RegisterSpec(name="A", offset=0, width=12),
        lambda: RegisterSpec(name="A", offset=-4),
        lambda: RegisterSpec(name="A", offset=0, width=8, reset=256),
        lambda: RegisterSpec(name="A", offset=0, fields=(EN, FieldSpec(name="B", lsb=0))),
        lambda: RegisterSpec(name="A", offset=0, fields=(EN, FieldSpec(name="EN", lsb=1))),
        lambda: RegisterSpec(name="A", offset=0, width=8, fields=(FieldSpec(name="B", lsb=8),)),
        lambda: RegisterSpec(name="A", offset=0, count=0),
        lambda: RegisterSpec(name="A", offset=0, count=2, stride=2),
        lambda: RegisterSpec(name="A", offset=0, count=1 << 20),
        lambda: RegisterMap(name="M", size=0),
        lambda: RegisterMap(name="M", size=4, byte_order="middle"),
        lambda: RegisterMap(name="M", size=4, registers=(RegisterSpec(name="A", offset=4),)),
        lambda: RegisterMap(name="M", size=8, blocks=(BlockSpec(name="B", offset=4, map=CHANNEL),)),
        lambda: RegisterMap(
            name="M",
            size=8,
            registers=(RegisterSpec(name="A", offset=0), RegisterSpec(name="A", offset=4)),
        ),
        lambda: BlockSpec(name="B", offset=0, map=CHANNEL, count=2, stride=4),
    ],
)
def test_description_that_contradicts_itself_is_refused(make):
    with pytest.raises((ValueError, OverflowError)):
        make()
