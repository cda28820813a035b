"""Registers and fields bound to a window: values by attribute, access rules, shadow copies.

Writing a field of a register makes one read and one write when the register has bits that must be
carried over, and one write alone when it has none. What is carried over is read from the device;
for write-only bits it is what was written last (the shadow, which starts at the reset value).
Bits of the other fields that a write would act on ("write one to clear" and its kin) are written
with the value that does nothing; read-only bits with 0. A register where a read has a side effect
is not read for that, and one where any write has is not written in part: such a write is refused.

Not handled: a read and its write are two accesses, with the device free to act between them.
"""

cimport cython
from cpython.object cimport PyObject_GenericGetAttr
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from types import MappingProxyType

from nexus import errors

from nexus._core._args cimport as_bounded, as_u64
from nexus._core._window cimport (
    NX_MMIO_READONLY, NX_OK, nx_io_swap16, nx_io_swap32, nx_io_swap64, nx_mmio_locate,
    nx_mmio_read8, nx_mmio_read16, nx_mmio_read32, nx_mmio_read64, nx_mmio_update, nx_mmio_write8,
    nx_mmio_write16, nx_mmio_write32, nx_mmio_write64, width_bytes,
)
from nexus._core.mmio cimport Mmio

cdef enum:
    READS = 1        # a read gives the value
    WRITES = 2
    READ_ACTS = 4    # a read changes the register
    NEUTRAL_0 = 8    # writing 0 leaves it alone, and what is read must not be written back
    NEUTRAL_1 = 16   # writing 1 leaves it alone, likewise
    WRITE_ACTS = 32  # no write leaves it alone

# What each access word means; the order is that of docs/reference/registers.md.
cdef dict _ACCESS = {
    "rw": READS | WRITES,
    "ro": READS,
    "wo": WRITES,
    "rclr": READS | READ_ACTS,
    "rset": READS | READ_ACTS,
    "roa": READS | READ_ACTS,
    "rwa": READS | WRITES | READ_ACTS,
    "w1c": READS | WRITES | NEUTRAL_0,
    "w1s": READS | WRITES | NEUTRAL_0,
    "w1t": READS | WRITES | NEUTRAL_0,
    "w0c": READS | WRITES | NEUTRAL_1,
    "w0s": READS | WRITES | NEUTRAL_1,
    "w0t": READS | WRITES | NEUTRAL_1,
    "wo1": WRITES | NEUTRAL_0,
    "wo0": WRITES | NEUTRAL_1,
    "wa": READS | WRITES | WRITE_ACTS,
}


cdef uint32_t _access_bits(object word) except 0:
    bits = _ACCESS.get(word)
    if bits is None:
        raise ValueError(f"{word!r} is no access: {', '.join(_ACCESS)}")
    return bits


cdef inline int _load(Register reg, uint64_t *ret) noexcept:
    cdef uint8_t byte = 0
    cdef uint16_t half = 0
    cdef uint32_t word = 0
    cdef int code
    if reg.size == 4:
        code = nx_mmio_read32(reg.region, reg.position, &word)
        ret[0] = nx_io_swap32(word) if reg.big else word
    elif reg.size == 8:
        code = nx_mmio_read64(reg.region, reg.position, ret)
        if reg.big:
            ret[0] = nx_io_swap64(ret[0])
    elif reg.size == 2:
        code = nx_mmio_read16(reg.region, reg.position, &half)
        ret[0] = nx_io_swap16(half) if reg.big else half
    else:
        code = nx_mmio_read8(reg.region, reg.position, &byte)
        ret[0] = byte
    return code


cdef inline int _store(Register reg, uint64_t value) noexcept:
    if reg.size == 4:
        return nx_mmio_write32(
            reg.region, reg.position,
            nx_io_swap32(<uint32_t>value) if reg.big else <uint32_t>value,
        )
    if reg.size == 8:
        return nx_mmio_write64(
            reg.region, reg.position, nx_io_swap64(value) if reg.big else value
        )
    if reg.size == 2:
        return nx_mmio_write16(
            reg.region, reg.position,
            nx_io_swap16(<uint16_t>value) if reg.big else <uint16_t>value,
        )
    return nx_mmio_write8(reg.region, reg.position, <uint8_t>value)


@cython.final
cdef class Register:
    """One register of a window.

    `value` reads and writes it whole. A field is an attribute or an item: `reg.ENABLE.value = 1`,
    `reg["ENABLE"]`. A name that the class itself uses is reached by item alone.

    Args:
        window: where it lives.
        offset: bytes from the start of the window.
        width: 8, 16, 32 or 64 bits.
        access: one of the words of docs/reference/registers.md, for bits that no field describes.
        reset: the value that the shadow starts with.
        fields: descriptions with name, lsb, width, access (or None) and labels.
        name: for messages.
        byte_order: "little" or "big".

    Raises:
        OutOfRangeError, MisalignedError: the register does not fit the window.
        ValueError: fields overlap or do not fit, or a word is unknown.
    """

    def __init__(self, Mmio window not None, offset, width=32, *, access="rw", reset=0,
                 fields=(), str name="register", byte_order="little"):
        if self.window is not None:
            raise TypeError("a register is made once")
        if byte_order not in ("little", "big"):
            raise ValueError(f"{byte_order!r} is no byte order: little, big")
        self.size = width_bytes(width)
        self.full = 0xFFFFFFFFFFFFFFFFu >> (64 - 8 * self.size)
        self.region = &window.region
        self.position = as_u64(offset)
        self.big = byte_order == "big"
        self.shadow_value = as_bounded(reset, self.full)
        self.access = access
        self.name = name
        self.members = {}
        self.visible = {}
        cdef uint32_t bits = _access_bits(access)
        cdef int code = nx_mmio_locate(self.region, self.position, self.size)
        if code != NX_OK:
            window.fail(code, offset, self.size)
        self.flags = bits & (READS | WRITES)
        self._classify(self.full, bits)
        for spec in fields:
            self._add(spec)
        self.window = window

    cdef int _classify(self, uint64_t mask, uint32_t bits) except -1:
        """Note what a write of another field does with the bits of `mask`."""
        self.carried &= ~mask
        self.shadowed &= ~mask
        self.ones &= ~mask
        self.read_acts &= ~mask
        self.write_acts &= ~mask
        if bits & READ_ACTS:
            self.read_acts |= mask
        if not bits & WRITES:
            return 0
        if bits & WRITE_ACTS:
            self.write_acts |= mask
        elif bits & NEUTRAL_1:
            self.ones |= mask
        elif not bits & NEUTRAL_0:
            if bits & READS:
                self.carried |= mask
            else:
                self.shadowed |= mask
        return 0

    cdef int _add(self, object spec) except -1:
        cdef Field field = Field.__new__(Field, self)
        cdef uint64_t lsb = as_bounded(spec.lsb, 63)
        cdef uint64_t count = as_bounded(spec.width, 64)
        cdef uint32_t bits = _access_bits(self.access if spec.access is None else spec.access)
        if count == 0 or lsb + count > 8 * self.size:
            raise ValueError(f"{self.name}.{spec.name}: bits {lsb}+{count} leave the register")
        field.mask = (0xFFFFFFFFFFFFFFFFu >> (64 - count)) << lsb
        if field.mask & self.described:
            raise ValueError(f"{self.name}.{spec.name}: its bits belong to another field")
        if spec.name in self.members:
            raise ValueError(f"{self.name}: two fields are called {spec.name!r}")
        self.described |= field.mask
        # A field can do no more than its register: a register that cannot be read has only fields
        # that cannot be, and likewise for writing.
        bits &= ~(READS | WRITES) | self.flags
        field.flags = bits
        self._classify(field.mask, bits)
        field.lsb = <uint32_t>lsb
        field.maximum = field.mask >> lsb
        field.name = spec.name
        field.spec = spec
        field.labels = {as_bounded(v, field.maximum): str(label) for v, label in spec.labels}
        field.numbers = {label: number for number, label in field.labels.items()}
        if len(field.numbers) != len(spec.labels):
            raise ValueError(f"{self.name}.{spec.name}: a label or its value appears twice")
        self.members[spec.name] = field
        if not hasattr(Register, spec.name):
            self.visible[spec.name] = field
        return 0

    cdef int fail(self, int code) except -1:
        return self.window.fail(code, self.position, self.size)

    cdef int write_masked(self, uint64_t mask, uint64_t value) except -1:
        """Give the bits of `mask` a value, and leave the others alone as the class says."""
        cdef uint64_t others = ~mask & self.full
        cdef uint64_t old = 0
        cdef int code = NX_OK
        if self.write_acts & others:
            raise errors.DeniedError(
                f"{self.name}: writing a part would change bits {self.write_acts & others:#x}",
                hint="write the whole register by its value",
            )
        value |= self.ones & others
        value |= self.shadow_value & self.shadowed & others
        if self.carried & others:
            if self.read_acts:
                raise errors.DeniedError(
                    f"{self.name}: writing a part needs a read, which would change bits "
                    f"{self.read_acts:#x}",
                    hint="write the whole register by its value",
                )
            if self.region.mode & NX_MMIO_READONLY:
                code = nx_mmio_update(self.region, self.position, self.size, 0, 0)
            if code == NX_OK:
                code = _load(self, &old)
            value |= old & self.carried & others
        if code == NX_OK:
            code = _store(self, value)
        if code != NX_OK:
            self.fail(code)
        self.shadow_value = value
        return 0

    cdef object get(self):
        cdef uint64_t value = 0
        if not self.flags & READS:
            raise errors.DeniedError(f"{self.name} is write-only", hint="see its shadow")
        cdef int code = _load(self, &value)
        if code != NX_OK:
            self.fail(code)
        return value

    @property
    def value(self):
        """The whole register: a get is one read, a set is one write."""
        return self.get()

    def __setattr__(self, str name, value):
        # The only attribute that can be set; a slip such as reg.FIELD = 1 must not pass in silence.
        if name != "value":
            raise AttributeError(f"{self.name}.{name} cannot be set; its value can be")
        cdef uint64_t number = as_bounded(value, self.full)
        if not self.flags & WRITES:
            raise errors.DeniedError(f"{self.name} is read-only")
        cdef int code = _store(self, number)
        if code != NX_OK:
            self.fail(code)
        self.shadow_value = number

    def modify(self, **values):
        """Set several fields, by number or label, by one write and at most one read."""
        cdef uint64_t mask = 0, bits = 0
        cdef Field field
        for name, value in values.items():
            field = self.members.get(name)
            if field is None:
                raise AttributeError(f"{self.name} has no field {name!r}")
            bits |= field.encode(value)
            mask |= field.mask
        if mask:
            self.write_masked(mask, bits)

    def read_fields(self):
        """The values of all readable fields, from one read."""
        cdef uint64_t value = self.get()
        cdef Field field
        result = {}
        for field in self.members.values():
            if field.flags & READS:
                result[field.name] = (value & field.mask) >> field.lsb
        return result

    @property
    def shadow(self):
        """What was written last, or the reset value."""
        return self.shadow_value

    @property
    def offset(self):
        """Bytes from the start of the window."""
        return self.position

    @property
    def width(self):
        """Bits."""
        return self.size * 8

    @property
    def fields(self):
        """The fields by name."""
        return MappingProxyType(self.members)

    def __getitem__(self, name):
        return self.members[name]

    def __getattribute__(self, str name):
        # The hot names first: a miss of the generic look-up costs a microsecond.
        if name == "value":
            return self.get()
        found = self.visible.get(name) if self.visible is not None else None
        return PyObject_GenericGetAttr(self, name) if found is None else found

    def __dir__(self):
        return [*object.__dir__(self), *self.members]

    def __repr__(self):
        return f"<Register {self.name} at {self.position:#x}, {self.size * 8} bits, {self.access}>"


@cython.final
cdef class Field:
    """Some bits of a register; made by `Register`."""

    def __cinit__(self, Register parent not None):
        self.parent = parent

    cdef uint64_t encode(self, object value) except? 0xFFFFFFFFFFFFFFFF:
        """The bits in place, or the exception for what may not be written."""
        cdef uint64_t number
        if PyUnicode_Check(value):
            if value not in self.numbers:
                raise ValueError(
                    f"{self.parent.name}.{self.name} has no label {value!r}: "
                    f"{', '.join(self.numbers) or 'none at all'}"
                )
            number = self.numbers[value]
        else:
            number = as_bounded(value, self.maximum)
        if not self.flags & WRITES:
            raise errors.DeniedError(f"{self.parent.name}.{self.name} is read-only")
        return number << self.lsb

    @property
    def value(self):
        """The field as a number: a get is one read; a set takes a number or a label."""
        cdef uint64_t value = 0
        if not self.flags & READS:
            raise errors.DeniedError(
                f"{self.parent.name}.{self.name} is write-only", hint="see the register's shadow"
            )
        cdef int code = _load(self.parent, &value)
        if code != NX_OK:
            self.parent.fail(code)
        return (value & self.mask) >> self.lsb

    @value.setter
    def value(self, value):
        self.parent.write_masked(self.mask, self.encode(value))

    @property
    def label(self):
        """The name of the value that is read, or None when it has none."""
        return self.labels.get(self.value)

    @property
    def width(self):
        """Bits."""
        return self.maximum.bit_length()

    def __repr__(self):
        return f"<Field {self.parent.name}.{self.name}, mask {self.mask:#x}>"
