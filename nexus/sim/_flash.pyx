"""The flash emulator for Python: csrc/nx_flash_sim.h, its codes as exceptions."""

cimport cython
from cpython.bool cimport PyBool_Check
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.number cimport PyNumber_Index
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from nexus.sim._flash_c cimport (
    NX_EABSENT, NX_EALIGN, NX_ECORRUPT, NX_EFAULT, NX_EINVAL, NX_EMEDIUM, NX_ENOMEM, NX_ERANGE,
    NX_ESTALE, NX_OK, c_bool, nx_flash, nx_flash_fail, nx_flash_sim, nx_flash_sim_advance,
    nx_flash_sim_age, nx_flash_sim_breach, nx_flash_sim_breach_last, nx_flash_sim_breach_of,
    nx_flash_sim_counters_of, nx_flash_sim_create, nx_flash_sim_destroy, nx_flash_sim_erases_of,
    nx_flash_sim_explain, nx_flash_sim_fail, nx_flash_sim_flip, nx_flash_sim_fork,
    nx_flash_sim_mark, nx_flash_sim_medium, nx_flash_sim_model, nx_flash_sim_plan,
    nx_flash_sim_plan_cut, nx_flash_sim_power_off, nx_flash_sim_power_on, nx_flash_sim_powered,
    nx_flash_sim_replay, nx_flash_sim_seed, nx_flash_sim_trace, nx_flash_sim_trace_of,
    nx_flash_sim_wear, nx_flash_sim_wear_of,
)

from nexus import errors
from nexus.sim.flash_model import FlashCounters, FlashModel, FlashWear

# What nobody outside has: a Flash that fork fills.
cdef object FORK = object()

cdef uint64_t U16 = 0xFFFF
cdef uint64_t U32 = 0xFFFFFFFF
cdef uint64_t U64 = 0xFFFFFFFFFFFFFFFF

# Where a field of FlashModel lies, and the most that it may be.
cdef tuple FIELDS = (
    ("size", U64), ("block_size", U32), ("page_size", U32), ("oob_size", U32), ("programs", U16),
    ("kind", 255), ("erased", 255), ("flips_max", U16), ("seed", U64), ("rules", U32),
    ("factory_bad", U16), ("ecc_step", U16), ("ecc_bits", U16), ("miscorrects", 1), ("pairs", 1),
    ("error_base", U64), ("error_wear", U64), ("error_hour", U64), ("error_read", U64),
    ("error_program", U64), ("endurance", U32), ("endurance_sigma", U32), ("worn", 255),
    ("cache_keeps", 255), ("cache", U16), ("read_ns", U32), ("program_ns", U32), ("erase_ns", U32),
    ("byte_ps", U32), ("read_nj", U32), ("program_nj", U32), ("erase_nj", U32),
)


cdef uint64_t number(object value, uint64_t maximum) except? 0xFFFFFFFFFFFFFFFF:
    """An int or what has __index__, no bool, from 0 to `maximum`."""
    cdef uint64_t got
    if PyBool_Check(value):
        raise TypeError("an integer is required, not bool")
    got = PyLong_AsUnsignedLongLong(PyNumber_Index(value))
    if got > maximum:
        raise OverflowError(f"{got} is larger than {maximum}")
    return got


cdef int model_read(object model, nx_flash_sim_model *ret) except -1:
    cdef dict of = {}
    for name, maximum in FIELDS:
        value = getattr(model, name)
        if name in ("miscorrects", "pairs"):
            if not PyBool_Check(value):
                raise TypeError(f"{name} is a bool, not {type(value).__name__}")
            value = int(value)
        of[name] = number(value, maximum)
    ret.geometry.size = of["size"]
    ret.geometry.block_size = of["block_size"]
    ret.geometry.page_size = of["page_size"]
    ret.geometry.oob_size = of["oob_size"]
    ret.geometry.programs = of["programs"]
    ret.geometry.kind = of["kind"]
    ret.geometry.erased = of["erased"]
    ret.geometry.flips_max = of["flips_max"]
    ret.seed = of["seed"]
    ret.rules = of["rules"]
    ret.factory_bad = of["factory_bad"]
    ret.ecc_step = of["ecc_step"]
    ret.ecc_bits = of["ecc_bits"]
    ret.miscorrects = of["miscorrects"]
    ret.pairs = of["pairs"]
    ret.error_base = of["error_base"]
    ret.error_wear = of["error_wear"]
    ret.error_hour = of["error_hour"]
    ret.error_read = of["error_read"]
    ret.error_program = of["error_program"]
    ret.endurance = of["endurance"]
    ret.endurance_sigma = of["endurance_sigma"]
    ret.worn = of["worn"]
    ret.cache_keeps = of["cache_keeps"]
    ret.cache = of["cache"]
    ret.read_ns = of["read_ns"]
    ret.program_ns = of["program_ns"]
    ret.erase_ns = of["erase_ns"]
    ret.byte_ps = of["byte_ps"]
    ret.read_nj = of["read_nj"]
    ret.program_nj = of["program_nj"]
    ret.erase_nj = of["erase_nj"]
    return 0


cdef object explained(const nx_flash_sim_breach *breach):
    cdef char text[320]
    cdef size_t length = nx_flash_sim_explain(breach, text, sizeof(text))
    return text[:length].decode()


# A destructor of a capsule: CPython calls it from C and looks for no exception.
cdef void capsule_end(object capsule) noexcept:
    cdef void *context = PyCapsule_GetContext(capsule)
    if context != NULL:
        Py_DECREF(<object>context)


@cython.final
cdef class Flash:
    """An emulated device: a medium, and for its test a second face.

    Args:
        model: what it is; nexus.sim.flash has models of usual parts.

    Raises:
        ValueError: the model contradicts itself.
    """

    cdef nx_flash_sim *sim
    cdef const nx_flash *flash
    cdef readonly object model

    def __cinit__(self, model not None):
        cdef nx_flash_sim_model of
        if model is FORK:
            return
        if not isinstance(model, FlashModel):
            raise TypeError(f"a FlashModel is required, not {type(model).__name__}")
        memset(&of, 0, sizeof(of))
        model_read(model, &of)
        self.model = model
        cdef int code = nx_flash_sim_create(&of, &self.sim)
        if code == NX_EINVAL:
            raise ValueError(f"{model} contradicts itself: docs/spec/flash.md, limits of a model")
        if code != NX_OK:
            raise MemoryError("no memory for an emulated flash device")
        self.flash = nx_flash_sim_medium(self.sim)

    def __dealloc__(self):
        nx_flash_sim_destroy(self.sim)

    def __repr__(self):
        return (
            f"Flash({self.size} bytes in blocks of {self.block_size} and pages of "
            f"{self.page_size}, {'powered' if self.powered else 'without power'})"
        )

    cdef int check(self, int code, object what) except -1:
        if code == NX_OK:
            return 0
        if code == NX_ENOMEM:
            raise MemoryError(what)
        if code == NX_EMEDIUM:
            raise errors.MediumError(f"{what}: the medium refused")
        if code == NX_EFAULT:
            raise errors.MediumGoneError(f"{what}: the device has no power")
        if code == NX_EABSENT:
            raise errors.AbsentError(f"{what}: this device has no OOB")
        text = explained(nx_flash_sim_breach_last(self.sim))
        if code == NX_ERANGE:
            raise errors.OutOfRangeError(text)
        if code == NX_EALIGN:
            raise errors.MisalignedError(text)
        raise errors.MediumRuleError(text)

    @property
    def kind(self):
        """One of FlashKind."""
        return self.flash.geometry.kind

    @property
    def size(self):
        """Bytes of the device."""
        return self.flash.geometry.size

    @property
    def block_size(self):
        """Bytes that one erase sets."""
        return self.flash.geometry.block_size

    @property
    def page_size(self):
        """Bytes of the unit of program."""
        return self.flash.geometry.page_size

    @property
    def oob_size(self):
        """Bytes beside each page."""
        return self.flash.geometry.oob_size

    @property
    def programs(self):
        """How often a page may be programmed between two erases."""
        return self.flash.geometry.programs

    @property
    def erased(self):
        """What an erased byte reads as."""
        return self.flash.geometry.erased

    @property
    def flips_max(self):
        """Corrected bits in one step from which data ought to move."""
        return self.flash.geometry.flips_max

    def read(self, at, size):
        """Bytes, and the most bits that were corrected in one ECC step."""
        cdef uint64_t first = number(at, U64)
        cdef uint64_t count = number(size, U64)
        cdef uint32_t flips = 0
        # What is out of range is refused before a byte is written.
        cdef bint fits = count <= self.flash.geometry.size
        cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count if fits else 0)
        cdef int code = self.flash.verbs.read(
            self.flash.self, first, PyBytes_AS_STRING(data), count, &flips
        )
        if code == NX_ECORRUPT:
            raise errors.UncorrectableError(
                f"read of {count} bytes at {first}: beyond correction", data=data, flips=flips
            )
        self.check(code, f"read of {count} bytes at {first}")
        return data, flips

    def program(self, at, data):
        """Write whole pages inside one block, in ascending order within it."""
        cdef uint64_t first = number(at, U64)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            code = self.flash.verbs.program(self.flash.self, first, view.buf, <size_t>view.len)
            self.check(code, f"program of {view.len} bytes at {first}")
        finally:
            PyBuffer_Release(&view)

    def erase(self, at):
        """Set the block that begins there to `erased`."""
        cdef uint64_t first = number(at, U64)
        self.check(self.flash.verbs.erase(self.flash.self, first), f"erase of the block at {first}")

    def oob_read(self, at, size):
        """Bytes beside a page, from its first on."""
        cdef uint64_t first = number(at, U64)
        cdef uint64_t count = number(size, U64)
        cdef bint fits = count <= self.flash.geometry.oob_size
        cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count if fits else 0)
        cdef int code = self.flash.verbs.oob_read(
            self.flash.self, first, PyBytes_AS_STRING(data), count
        )
        self.check(code, f"OOB read of {count} bytes at {first}")
        return data

    def oob_write(self, at, data):
        """Write beside a page, from its first byte on; only clears bits."""
        cdef uint64_t first = number(at, U64)
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            code = self.flash.verbs.oob_write(self.flash.self, first, view.buf, <size_t>view.len)
            self.check(code, f"OOB write of {view.len} bytes at {first}")
        finally:
            PyBuffer_Release(&view)

    def is_bad(self, at):
        """Whether the block is marked bad."""
        cdef uint64_t first = number(at, U64)
        cdef c_bool bad = False
        self.check(self.flash.verbs.is_bad(self.flash.self, first, &bad), f"look at {first}")
        return bool(bad)

    def mark_bad(self, at):
        """Mark the block as bad, for good."""
        cdef uint64_t first = number(at, U64)
        self.check(self.flash.verbs.mark_bad(self.flash.self, first), f"mark of {first}")

    def sync(self):
        """Return when all that was done before is on the medium."""
        self.check(self.flash.verbs.sync(self.flash.self), "sync")

    def __flash__(self):
        """The medium for other extension modules: a capsule that keeps this object alive."""
        capsule = PyCapsule_New(<void *>self.flash, "nexus.flash", capsule_end)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <void *>self)
        return capsule

    def fork(self, *, seed=None):
        """A second device of the same content; copies what either changes, when it does.

        Args:
            seed: chance of what is to happen to the fork; None goes on with this one's.
        """
        cdef Flash copy = Flash.__new__(Flash, FORK)
        if nx_flash_sim_fork(self.sim, &copy.sim) != NX_OK:
            raise MemoryError("no memory for a fork")
        copy.model = self.model
        copy.flash = nx_flash_sim_medium(copy.sim)
        if seed is not None:
            copy.seed(seed)
        return copy

    def seed(self, seed):
        """Set the chance of what is still to happen; what the die is like stays."""
        nx_flash_sim_seed(self.sim, number(seed, U64))

    def plan_cut(self, later, mode=0, *, weak_bits=16, unstable_reads=16):
        """Let the power go inside a mutation: a page program, an erase or an OOB write.

        Args:
            later: which one from now on; 1 is the next, 0 calls an earlier plan off.
            mode: one of Cut, what it leaves.
            weak_bits: of a page or block, for Cut.WEAK.
            unstable_reads: of a page, until its weak bits settle.
        """
        cdef nx_flash_sim_plan plan
        cdef uint64_t count = number(later, U64)
        memset(&plan, 0, sizeof(plan))
        plan.mode = <uint8_t>number(mode, 6)
        plan.weak_bits = <uint16_t>number(weak_bits, U16)
        plan.unstable_reads = <uint16_t>number(unstable_reads, U16)
        if count != 0:
            plan.mutation = nx_flash_sim_counters_of(self.sim).mutations + count
        nx_flash_sim_plan_cut(self.sim, &plan)

    @property
    def powered(self):
        """Whether the device answers; without power every verb raises MediumGoneError."""
        return bool(nx_flash_sim_powered(self.sim))

    def power_off(self):
        """Take the power between two operations: nothing but a cache is lost."""
        self.check(nx_flash_sim_power_off(self.sim), "power off")

    def power_on(self):
        """Give the power back."""
        nx_flash_sim_power_on(self.sim)

    def advance(self, ns):
        """Let virtual time pass, in nanoseconds: what retention costs."""
        nx_flash_sim_advance(self.sim, number(ns, U64))

    def mark(self):
        """End a span and begin the next: `counters` has the most read and spent in one."""
        nx_flash_sim_mark(self.sim)

    def fail(self, block, behaviour):
        """Let a block, by its number, fail as one of Fail says; Fail.NONE heals it."""
        cdef uint32_t index = self.index_of(block)
        self.check(
            nx_flash_sim_fail(self.sim, index, <nx_flash_fail><int>number(behaviour, 6)), "fail"
        )

    def age(self, block, erases):
        """Set the count of erases of a block, by its number."""
        cdef uint32_t index = self.index_of(block)
        self.check(nx_flash_sim_age(self.sim, index, <uint32_t>number(erases, U32)), "age")

    def flip(self, at, bit):
        """Turn over a stored bit, 0 to 7 of the byte, as radiation does."""
        cdef uint64_t first = number(at, U64)
        if first >= self.flash.geometry.size:
            raise errors.OutOfRangeError(f"byte {first} of {self.size}")
        self.check(nx_flash_sim_flip(self.sim, first, <unsigned>number(bit, 7)), "flip")

    cdef uint32_t index_of(self, object block) except? 0xFFFFFFFF:
        cdef uint64_t index = number(block, U32)
        if index * self.flash.geometry.block_size >= self.flash.geometry.size:
            raise errors.OutOfRangeError(f"block {index} of a device of {self.size} bytes")
        return <uint32_t>index

    @property
    def counters(self):
        """What was done, as FlashCounters."""
        cdef dict of = nx_flash_sim_counters_of(self.sim)[0]
        return FlashCounters(**of)

    @property
    def wear(self):
        """How often the blocks were erased, as FlashWear."""
        cdef nx_flash_sim_wear wear
        nx_flash_sim_wear_of(self.sim, &wear)
        return FlashWear(wear.min, wear.max, float(wear.sum) / float(wear.blocks))

    def erases(self, block):
        """How often a block, by its number, was erased."""
        return nx_flash_sim_erases_of(self.sim, self.index_of(block))

    @property
    def breach(self):
        """The first rule that was broken, in words; None when none was."""
        cdef const nx_flash_sim_breach *breach = nx_flash_sim_breach_of(self.sim)
        return explained(breach) if breach.rule != 0 else None

    def start_trace(self):
        """Begin to log every call, from an empty log."""
        if nx_flash_sim_trace(self.sim, True) != NX_OK:
            raise MemoryError("no memory for a trace")

    def stop_trace(self):
        """End the log and drop it."""
        nx_flash_sim_trace(self.sim, False)

    @property
    def trace(self):
        """The log of all calls since start_trace; None without one."""
        cdef size_t size = 0
        cdef const uint8_t *bytes = nx_flash_sim_trace_of(self.sim, &size)
        return None if bytes == NULL else PyBytes_FromStringAndSize(<char *>bytes, <Py_ssize_t>size)

    def replay(self, trace):
        """Do again what a trace says, on a device as it was when the trace began.

        Returns:
            How many calls were done.

        Raises:
            ReplayError: a call had another outcome; the message says which.
            CorruptError: it is no trace, or contradicts itself.
        """
        cdef uint64_t record = 0
        cdef Py_buffer view
        PyObject_GetBuffer(trace, &view, PyBUF_SIMPLE)
        try:
            code = nx_flash_sim_replay(
                self.sim, <const uint8_t *>view.buf, <size_t>view.len, &record
            )
        finally:
            PyBuffer_Release(&view)
        if code == NX_ESTALE:
            raise errors.ReplayError(f"call {record} of the trace had another outcome")
        if code == NX_ECORRUPT:
            raise errors.CorruptError(f"no flash trace, or damaged at call {record}")
        self.check(code, "replay")
        return record
