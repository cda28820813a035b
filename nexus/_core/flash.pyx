"""Real media of erase blocks: a file, a block device, a raw flash device of Linux.

The GIL is released around every call that reaches the medium: one may take milliseconds.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from posix.unistd cimport close as close_fd

from nexus._core._args cimport as_bounded, as_flag, as_u64
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._errors cimport raise_code

from nexus import errors

cdef extern from "stdbool.h":
    ctypedef bint c_bool "bool"

cdef extern from "nx_flash_file.h":
    enum:
        NX_OK
        NX_EINVAL
        NX_EBUSY
        NX_ECORRUPT
        NX_EABSENT
        NX_EFAULT
    ctypedef struct nx_flash_geometry:
        uint64_t size
        uint32_t block_size
        uint32_t page_size
        uint32_t oob_size
        uint16_t programs
        uint8_t kind
        uint8_t erased
        uint16_t flips_max
    ctypedef struct nx_flash_verbs:
        int (*read)(void *, uint64_t, void *, size_t, uint32_t *) noexcept nogil
        int (*program)(void *, uint64_t, const void *, size_t) noexcept nogil
        int (*erase)(void *, uint64_t) noexcept nogil
        int (*oob_read)(void *, uint64_t, void *, size_t) noexcept nogil
        int (*oob_write)(void *, uint64_t, const void *, size_t) noexcept nogil
        int (*is_bad)(void *, uint64_t, c_bool *) noexcept nogil
        int (*mark_bad)(void *, uint64_t) noexcept nogil
        int (*sync)(void *) noexcept nogil
    ctypedef struct nx_flash:
        const nx_flash_verbs *verbs
        void *self
        nx_flash_geometry geometry
    ctypedef struct nx_flash_file:
        nx_flash flash
        bint punches
    int nx_flash_file_init(
        int fd, bint writable, uint32_t block_size, uint32_t page_size, nx_flash_file *ret
    ) noexcept nogil
    void nx_flash_file_deinit(nx_flash_file *file) noexcept nogil

cdef extern from "nx_flash_mtd.h":
    ctypedef struct nx_flash_mtd:
        nx_flash flash
        uint32_t strength
        bint exact
    int nx_flash_mtd_init(int fd, bint writable, nx_flash_mtd *ret) noexcept nogil
    void nx_flash_mtd_deinit(nx_flash_mtd *mtd) noexcept nogil

cdef uint64_t U32 = 0xFFFFFFFF


# A destructor of a capsule: CPython calls it from C and looks for no exception.
cdef void capsule_end(object capsule) noexcept:
    cdef void *context = PyCapsule_GetContext(capsule)
    if context != NULL:
        (<Flash>context).exports -= 1
        Py_DECREF(<object>context)


@cython.final
cdef class Flash:
    """A medium on this host; made by Flash.file or Flash.mtd, see nexus.physics.flash.

    Use it as a context manager, or call close(). One thread at a time uses it.
    """

    cdef nx_flash_file of_file
    cdef nx_flash_mtd of_mtd
    cdef nx_flash *flash
    cdef int descriptor
    cdef uint32_t exports
    cdef uint32_t busy
    cdef readonly str path

    def __init__(self):
        raise TypeError("a Flash is made by Flash.file or Flash.mtd")

    @staticmethod
    def file(descriptor, path, *, writable, block_size=0, page_size=0):
        """A file or a block device, opened by the caller; the Flash has the descriptor now.

        Args:
            descriptor: of the file, which is closed with the Flash, or if this fails.
            path: for messages.
            writable: whether it was opened for writing; if so no other Flash may have it open.
            block_size: bytes that one erase sets; 0: 1 MiB.
            page_size: bytes of a program; 0: 4,096, or the device's physical block if larger.

        Raises:
            MediumBusyError: another has it.
            ValueError: sizes that contradict each other, or neither file nor block device.
        """
        cdef Flash flash = Flash.__new__(Flash)
        flash.begin(descriptor, path)
        cdef uint32_t block = <uint32_t>as_bounded(block_size, U32)
        cdef uint32_t page = <uint32_t>as_bounded(page_size, U32)
        cdef bint write = as_flag(writable, "writable")
        code = nx_flash_file_init(flash.descriptor, write, block, page, &flash.of_file)
        flash.opened(code, path)
        flash.flash = &flash.of_file.flash
        return flash

    @staticmethod
    def mtd(descriptor, path, *, writable):
        """A raw flash device, /dev/mtdN, opened by the caller; the Flash has the descriptor now.

        Raises:
            MediumBusyError: another has it.
            AbsentError: no MTD device, or of a kind that is not served.
        """
        cdef Flash flash = Flash.__new__(Flash)
        flash.begin(descriptor, path)
        cdef bint write = as_flag(writable, "writable")
        code = nx_flash_mtd_init(flash.descriptor, write, &flash.of_mtd)
        flash.opened(code, path)
        flash.flash = &flash.of_mtd.flash
        return flash

    def __cinit__(self):
        self.descriptor = -1

    cdef int begin(self, object descriptor, str path) except -1:
        self.descriptor = <int>as_bounded(descriptor, 0x7FFFFFFF)
        self.path = path
        return 0

    cdef int opened(self, int code, object path) except -1:
        if code == NX_EBUSY:
            raise errors.MediumBusyError(f"another has {path} open for writing, or wants to")
        if code == NX_EINVAL:
            raise ValueError(f"{path}: its size, block and page contradict each other")
        if code == NX_EABSENT:
            raise errors.AbsentError(f"{path} is no MTD device, or of a kind that is not served")
        return raise_code(code, path)

    cdef int check(self, int code, object what) except -1:
        if code == NX_EFAULT:
            raise errors.MediumGoneError(
                f"{what} of {self.path}: it was removed, became smaller or failed a sync"
            )
        return raise_code(code, f"{what} of {self.path}")

    cdef int alive(self) except -1:
        if self.flash == NULL:
            raise errors.ClosedError(f"the medium {self.path} is closed")
        return 0

    def __dealloc__(self):
        self.end()

    # Also from __dealloc__, where nobody could take an exception; nothing in it raises one.
    cdef void end(self) noexcept:
        if self.flash == &self.of_file.flash:
            nx_flash_file_deinit(&self.of_file)
        elif self.flash == &self.of_mtd.flash:
            nx_flash_mtd_deinit(&self.of_mtd)
        self.flash = NULL
        if self.descriptor >= 0:
            close_fd(self.descriptor)
            self.descriptor = -1

    def close(self):
        """Give the medium back; a second time does nothing.

        Raises:
            BufferError: another module has it, or another thread is inside a call.
        """
        if self.exports != 0 or self.busy != 0:
            raise BufferError(f"{self.path} is in use by {self.exports + self.busy} others")
        self.end()

    def __enter__(self):
        self.alive()
        return self

    def __exit__(self, *args):
        self.close()

    def __repr__(self):
        if self.flash == NULL:
            return f"<closed Flash {self.path!r}>"
        return f"<Flash {self.path!r}: {self.size} bytes in blocks of {self.block_size}>"

    @property
    def closed(self):
        """Whether it was closed."""
        return self.flash == NULL

    @property
    def kind(self):
        """One of FlashKind."""
        self.alive()
        return self.flash.geometry.kind

    @property
    def size(self):
        """Bytes of the medium."""
        self.alive()
        return self.flash.geometry.size

    @property
    def block_size(self):
        """Bytes that one erase sets."""
        self.alive()
        return self.flash.geometry.block_size

    @property
    def page_size(self):
        """Bytes of the unit of program."""
        self.alive()
        return self.flash.geometry.page_size

    @property
    def oob_size(self):
        """Bytes beside each page."""
        self.alive()
        return self.flash.geometry.oob_size

    @property
    def programs(self):
        """How often a page may be programmed between two erases."""
        self.alive()
        return self.flash.geometry.programs

    @property
    def erased(self):
        """What an erased byte reads as."""
        self.alive()
        return self.flash.geometry.erased

    @property
    def flips_max(self):
        """Corrected bits in one step from which data ought to move; 0: no ECC."""
        self.alive()
        return self.flash.geometry.flips_max

    @property
    def limits(self):
        """What this medium does less well than it could, each with what that costs."""
        self.alive()
        told = []
        if self.flash == &self.of_file.flash and not self.of_file.punches:
            told.append(
                "the file system makes no holes: an erase writes zeros, and room is never given "
                "back; ext4, xfs, btrfs and tmpfs make holes"
            )
        if (
            self.flash == &self.of_mtd.flash and self.of_mtd.strength != 0
            and not self.of_mtd.exact
        ):
            told.append(
                "the kernel has no MEMREAD: corrected bits are those of a whole read, and another "
                "reader adds to them; Linux 6.1 has it"
            )
        return tuple(told)

    def read(self, at, size):
        """Bytes, and the most bits that were corrected in one ECC step."""
        cdef uint64_t first = as_u64(at)
        cdef uint64_t count = as_u64(size)
        cdef uint32_t flips = 0
        cdef int code
        self.alive()
        # What is out of range is refused before a byte is written.
        cdef bint fits = count <= self.flash.geometry.size
        cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count if fits else 0)
        cdef char *place = PyBytes_AS_STRING(data)
        self.busy += 1
        with nogil:
            code = self.flash.verbs.read(self.flash.self, first, place, count, &flips)
        self.busy -= 1
        if code == NX_ECORRUPT:
            raise errors.UncorrectableError(
                f"read of {count} bytes at {first} of {self.path}: beyond correction",
                data=data,
                flips=flips,
            )
        if code != NX_OK:
            self.check(code, f"read of {count} bytes at {first}")
        return data, flips

    def program(self, at, data):
        """Write whole pages inside one block, in ascending order within it."""
        cdef uint64_t first = as_u64(at)
        cdef borrowed lent
        cdef int code
        self.alive()
        borrow(data, &lent)
        self.busy += 1
        with nogil:
            code = self.flash.verbs.program(self.flash.self, first, lent.data, lent.size)
        self.busy -= 1
        give_back(&lent)
        if code != NX_OK:
            self.check(code, f"program of {lent.size} bytes at {first}")

    def erase(self, at):
        """Set the block that begins there to `erased`."""
        cdef uint64_t first = as_u64(at)
        cdef int code
        self.alive()
        self.busy += 1
        with nogil:
            code = self.flash.verbs.erase(self.flash.self, first)
        self.busy -= 1
        if code != NX_OK:
            self.check(code, f"erase of the block at {first}")

    def oob_read(self, at, size):
        """Bytes beside a page, from its first on."""
        cdef uint64_t first = as_u64(at)
        cdef uint64_t count = as_u64(size)
        cdef int code
        self.alive()
        cdef bint fits = count <= self.flash.geometry.oob_size
        cdef bytes data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count if fits else 0)
        cdef char *place = PyBytes_AS_STRING(data)
        self.busy += 1
        with nogil:
            code = self.flash.verbs.oob_read(self.flash.self, first, place, count)
        self.busy -= 1
        if code != NX_OK:
            self.check(code, f"OOB read of {count} bytes at {first}")
        return data

    def oob_write(self, at, data):
        """Write beside a page, from its first byte on; only clears bits."""
        cdef uint64_t first = as_u64(at)
        cdef borrowed lent
        cdef int code
        self.alive()
        borrow(data, &lent)
        self.busy += 1
        with nogil:
            code = self.flash.verbs.oob_write(self.flash.self, first, lent.data, lent.size)
        self.busy -= 1
        give_back(&lent)
        if code != NX_OK:
            self.check(code, f"OOB write of {lent.size} bytes at {first}")

    def is_bad(self, at):
        """Whether the block is marked bad."""
        cdef uint64_t first = as_u64(at)
        cdef c_bool bad = False
        self.alive()
        code = self.flash.verbs.is_bad(self.flash.self, first, &bad)
        if code != NX_OK:
            self.check(code, f"look for a mark at {first}")
        return bool(bad)

    def mark_bad(self, at):
        """Mark the block as bad, for good."""
        cdef uint64_t first = as_u64(at)
        self.alive()
        code = self.flash.verbs.mark_bad(self.flash.self, first)
        if code != NX_OK:
            self.check(code, f"mark as bad at {first}")

    def sync(self):
        """Return when all that was done before is on the medium."""
        cdef int code
        self.alive()
        self.busy += 1
        with nogil:
            code = self.flash.verbs.sync(self.flash.self)
        self.busy -= 1
        if code != NX_OK:
            self.check(code, "sync")

    def __flash__(self):
        """The medium for other extension modules: a capsule that keeps this object open."""
        self.alive()
        capsule = PyCapsule_New(<void *>self.flash, "nexus.flash", capsule_end)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <void *>self)
        self.exports += 1
        return capsule
