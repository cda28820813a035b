"""Learned normal behaviour of a few metrics; the theory is in nx_baseline.h."""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from libc.math cimport isfinite
from libc.stdint cimport uint32_t, uint64_t

from nexus._core._args cimport as_bounded, as_u64
from nexus._core._errors cimport raise_code

cdef extern from "nx_baseline.h":
    enum:
        NX_BASELINE_METRICS_MAX
    ctypedef struct nx_baseline:
        uint64_t samples
        uint64_t lock
        uint32_t metrics
        bint locked
        double sigma
        double mean[64]
        double m2[64]
    int nx_baseline_init(nx_baseline *, uint32_t, uint64_t, double)
    void nx_baseline_learn(nx_baseline *, const double *)
    uint64_t nx_baseline_deviations(const nx_baseline *, const double *)
    size_t nx_baseline_feed(nx_baseline *, const double *, size_t, uint64_t *) nogil
    bint nx_baseline_all_finite(const double *, size_t)

cdef extern from *:
    """
    static inline Py_ssize_t nx_whole_samples(Py_ssize_t values, uint32_t metrics)
    {
        return values % (Py_ssize_t)metrics == 0 ? values / (Py_ssize_t)metrics : -1;
    }
    """
    Py_ssize_t whole_samples "nx_whole_samples"(Py_ssize_t values, uint32_t metrics)


# About 50 us of work; a longer batch lets other threads run.
cdef enum:
    GIL_HELD_VALUES = 16384


cdef inline double as_value(object value) except? -1.0:
    cdef double number
    if PyFloat_CheckExact(value):
        number = PyFloat_AS_DOUBLE(value)
    elif PyBool_Check(value):
        raise TypeError("a number is required, not bool")
    else:
        number = PyFloat_AsDouble(value)
    if not isfinite(number):
        raise ValueError(f"a metric must be finite, not {number}")
    return number


@cython.final
cdef class Baseline:
    """Mean and variance of some metrics, learned from a fixed number of samples, then locked.

    Args:
        metrics: how many values a sample has, 1 to 64.
        lock_after: how many samples are learned, at least 2.
        sigma: how many standard deviations from the mean are still normal.
    """

    cdef nx_baseline state
    cdef bint busy

    def __cinit__(self, object metrics, *, object lock_after=1000, object sigma=3.0):
        cdef uint32_t count = <uint32_t>as_bounded(metrics, 0xFFFFFFFF)
        cdef uint64_t lock = as_u64(lock_after)
        cdef double width = as_value(sigma)
        raise_code(
            nx_baseline_init(&self.state, count, lock, width),
            "a baseline has 1 to 64 metrics, lock_after of at least 2 and sigma above 0")

    def __repr__(self):
        state = "locked" if self.state.locked else f"{self.state.samples} of {self.state.lock}"
        return f"<Baseline of {self.state.metrics} metrics, {state}>"

    @property
    def metrics(self) -> int:
        """How many values a sample has."""
        return self.state.metrics

    @property
    def samples(self) -> int:
        """How many samples were learned."""
        return self.state.samples

    @property
    def locked(self) -> bool:
        """Whether learning is over."""
        return self.state.locked

    @property
    def mean(self) -> list[float]:
        """The mean of each metric so far."""
        return [self.state.mean[i] for i in range(self.state.metrics)]

    @property
    def variance(self) -> list[float]:
        """The sample variance of each metric so far; 0.0 below two samples."""
        if self.state.samples < 2:
            return [0.0] * self.state.metrics
        return [self.state.m2[i] / (self.state.samples - 1.0) for i in range(self.state.metrics)]

    cdef int read_sample(self, object values, double *ret) except -1:
        cdef Py_ssize_t i
        cdef object value
        if self.busy:
            raise BufferError("another thread is feeding this baseline")
        if not (PyTuple_CheckExact(values) or PyList_CheckExact(values)):
            values = tuple(values)
        if len(values) != self.state.metrics:
            raise ValueError(
                f"a sample has {self.state.metrics} values, not {len(values)}")
        for i in range(self.state.metrics):
            value = values[i]
            ret[i] = as_value(value)
        return 0

    def update(self, object values) -> int:
        """Learn one sample; once locked, test it instead.

        Args:
            values: one finite number a metric, in a tuple, list or other iterable.

        Returns:
            0 while learning or when all is normal, else the deviating metrics as bits.
        """
        cdef double sample[64]
        self.read_sample(values, sample)
        if self.state.locked:
            return nx_baseline_deviations(&self.state, sample)
        nx_baseline_learn(&self.state, sample)
        return 0

    def check(self, object values) -> int:
        """Test one sample without learning: the deviating metrics as bits, 0 while unlocked."""
        cdef double sample[64]
        self.read_sample(values, sample)
        return nx_baseline_deviations(&self.state, sample)

    def update_many(self, object samples) -> bytes:
        """Feed many samples in order, as `update` would one by one.

        Args:
            samples: a C-contiguous buffer of doubles (`array('d')`, a float64 ndarray), a whole
                number of samples.

        Returns:
            One native 64-bit mask a sample; `memoryview(result).cast('Q')` reads them.
        """
        cdef Py_buffer view
        cdef Py_ssize_t count, values
        cdef uint64_t *masks
        cdef bytes result
        if self.busy:
            raise BufferError("another thread is feeding this baseline")
        PyObject_GetBuffer(samples, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        try:
            if view.format is NULL or view.format != b"d":
                raise TypeError("the buffer must hold native doubles (format 'd')")
            values = view.len >> 3
            count = whole_samples(values, self.state.metrics)
            if count < 0:
                raise ValueError(
                    f"{values} values are no whole number of samples of {self.state.metrics}")
            result = PyBytes_FromStringAndSize(NULL, count * 8)
            masks = <uint64_t *>PyBytes_AS_STRING(result)
            if not nx_baseline_all_finite(<const double *>view.buf, values):
                raise ValueError("a metric is not finite")
            if values <= GIL_HELD_VALUES:
                nx_baseline_feed(&self.state, <const double *>view.buf, count, masks)
            else:
                self.busy = True
                with nogil:
                    nx_baseline_feed(&self.state, <const double *>view.buf, count, masks)
                self.busy = False
        finally:
            PyBuffer_Release(&view)
        return result
