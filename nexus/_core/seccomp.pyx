"""Seccomp programs: compiled from rules or a mask, checked, simulated and installed.

A program is checked by the kernel's own rules when it is made, so that an install fails for the
kernel's reasons alone (rights, an unknown action or flag). Simulation runs the same bytes in an
interpreter. Installing cannot be undone: a filter stays until the process ends, and is inherited.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from nexus import errors

from nexus._core._args cimport as_bounded, as_u64, view_open
from nexus._core._errors cimport raise_code

cdef extern from "nx_seccomp.h" nogil:
    enum:
        NX_OK
        NX_EINVAL
        NX_ETOOBIG
        NX_EABSENT
        NX_CBPF_COUNT_MAX
        NX_SECCOMP_DATA_SIZE
        NX_SECCOMP_RULES_MAX
        NX_SECCOMP_MASKED
        NX_SECCOMP_RANGE

    ctypedef struct nx_cbpf_insn:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k

    ctypedef struct nx_seccomp_data:
        uint32_t number
        uint32_t arch
        uint64_t instruction_pointer
        uint64_t arguments[6]

    ctypedef struct nx_seccomp_test:
        uint64_t a
        uint64_t b
        uint8_t argument
        uint8_t op
        uint8_t width
        bint negate

    ctypedef struct nx_seccomp_rule:
        uint32_t first
        uint32_t last
        uint32_t action
        uint32_t test_first
        uint32_t test_count

    ctypedef struct nx_seccomp_policy:
        const nx_seccomp_rule *rules
        const nx_seccomp_test *tests
        uint32_t rule_count
        uint32_t test_count
        uint32_t default_action
        uint32_t foreign_action
        uint32_t arch
        uint32_t clone3

    int nx_seccomp_compile(const nx_seccomp_policy *policy, nx_cbpf_insn *insns,
                           uint32_t capacity, uint32_t *ret_count)
    int nx_seccomp_compile_mask(const nx_seccomp_policy *policy, const uint8_t *mask,
                                uint32_t allow_action, uint32_t shape, nx_cbpf_insn *insns,
                                uint32_t capacity, uint32_t *ret_count)
    int nx_seccomp_install(const nx_cbpf_insn *insns, uint32_t count, uint32_t flags, int *ret_fd)
    int nx_seccomp_no_new_privs()
    int nx_seccomp_notify_sizes(uint16_t *ret_sizes)
    int nx_seccomp_take_listener(int pid, int descriptor, int *ret_fd)
    int nx_cbpf_check(const nx_cbpf_insn *insns, uint32_t count, uint32_t size,
                      uint32_t *ret_index)
    uint32_t nx_cbpf_run(const nx_cbpf_insn *insns, uint32_t count, const void *data,
                         uint32_t size)

cdef extern from *:
    """
    /* stdbool's bool is one byte and Cython's bint an int: these cross the difference. */
    static int probe_action(uint32_t action, int *ret)
    {
        bool found = false;
        int code = nx_seccomp_action_available(action, &found);
        *ret = found;
        return code;
    }
    static int probe_flag(uint32_t flag, int *ret)
    {
        bool found = false;
        int code = nx_seccomp_flag_available(flag, &found);
        *ret = found;
        return code;
    }
    """
    int probe_action(uint32_t action, int *ret) nogil
    int probe_flag(uint32_t flag, int *ret) nogil

cdef uint32_t NO_NUMBER = 0xFFFFFFFF
cdef dict _OPS = {"masked": NX_SECCOMP_MASKED, "range": NX_SECCOMP_RANGE}
cdef dict _SHAPES = {"auto": 0, "tree": 1, "words": 2}

MASK_BYTES = 64  # NX_SECCOMP_MASK_BITS


cdef int _policy(nx_seccomp_policy *policy, object default, object foreign, object arch,
                 object clone3) except -1:
    policy.rules = NULL
    policy.tests = NULL
    policy.rule_count = 0
    policy.test_count = 0
    policy.default_action = <uint32_t>as_bounded(default, 0xFFFFFFFF)
    policy.foreign_action = <uint32_t>as_bounded(foreign, 0xFFFFFFFF)
    policy.arch = <uint32_t>as_bounded(arch, 0xFFFFFFFF)
    policy.clone3 = NO_NUMBER if clone3 is None else <uint32_t>as_bounded(clone3, 0xFFFFFFFF)
    return 0


cdef int _refuse(int code, object what) except -1:
    if code == NX_EINVAL:
        raise ValueError(f"{what}: an action, architecture, number or test that cannot be")
    if code == NX_ETOOBIG:
        raise errors.TooLargeError(f"{what}: the program exceeds {NX_CBPF_COUNT_MAX} instructions")
    return raise_code(code, what)


@cython.final
cdef class Program:
    """A checked seccomp program.

    Args:
        code: instructions of 8 bytes as `bytes(program)` gives them (struct sock_filter).

    Raises:
        ValueError: the kernel would refuse it.
    """

    cdef nx_cbpf_insn *insns
    cdef uint32_t count

    def __init__(self, code):
        cdef Py_buffer view
        if self.insns != NULL:
            raise TypeError("a program is made once")
        view_open(code, &view)
        try:
            if view.len & 7 != 0 or view.len > NX_CBPF_COUNT_MAX * 8:
                raise ValueError(f"{view.len} bytes are no program of 8-byte instructions")
            self._adopt(<const nx_cbpf_insn *>view.buf, <uint32_t>(view.len >> 3))
        finally:
            PyBuffer_Release(&view)

    def __dealloc__(self):
        PyMem_Free(self.insns)

    cdef int _adopt(self, const nx_cbpf_insn *insns, uint32_t count) except -1:
        cdef uint32_t index = 0
        cdef nx_cbpf_insn *copy = <nx_cbpf_insn *>PyMem_Calloc(count + 1, sizeof(nx_cbpf_insn))
        if copy == NULL:
            raise MemoryError()
        if count != 0:
            memcpy(copy, insns, count * sizeof(nx_cbpf_insn))
        if nx_cbpf_check(copy, count, NX_SECCOMP_DATA_SIZE, &index) != NX_OK:
            PyMem_Free(copy)
            raise ValueError(f"the kernel would refuse instruction {index} of {count}")
        self.insns = copy
        self.count = count
        return 0

    def __len__(self):
        return self.count

    def __bytes__(self):
        return PyBytes_FromStringAndSize(<char *>self.insns, self.count * sizeof(nx_cbpf_insn))

    @property
    def instructions(self):
        """A list of (code, jt, jf, k)."""
        return [
            (self.insns[i].code, self.insns[i].jt, self.insns[i].jf, self.insns[i].k)
            for i in range(self.count)
        ]

    def run(self, number, arguments, arch, instruction_pointer=0):
        """The 32-bit value that the program returns for a syscall."""
        cdef nx_seccomp_data data
        cdef list values = list(arguments)
        cdef Py_ssize_t i
        if len(values) > 6:
            raise ValueError(f"a syscall has at most 6 arguments, not {len(values)}")
        data.number = <uint32_t>as_bounded(number, 0xFFFFFFFF)
        data.arch = <uint32_t>as_bounded(arch, 0xFFFFFFFF)
        data.instruction_pointer = as_u64(instruction_pointer)
        for i in range(6):
            data.arguments[i] = as_u64(values[i]) if i < len(values) else 0
        if self.count == 0:
            raise ValueError("the program was not made")
        return nx_cbpf_run(self.insns, self.count, &data, sizeof(data))

    def install(self, flags, bint no_new_privs):
        """Install on this thread; returns the listener's descriptor, or None without one.

        Raises:
            OSError: the kernel refuses, with its errno.
        """
        cdef uint32_t bits = <uint32_t>as_bounded(flags, 0xFFFFFFFF)
        cdef int fd = -1
        if no_new_privs:
            raise_code(nx_seccomp_no_new_privs(), "no_new_privs")
        raise_code(nx_seccomp_install(self.insns, self.count, bits, &fd), "seccomp filter")
        return None if fd < 0 else fd


cdef Program _finished(const nx_cbpf_insn *insns, uint32_t count):
    cdef Program program = Program.__new__(Program)
    program._adopt(insns, count)
    return program


def compile_mask(mask, *, allow, default, foreign, arch, clone3=None, shape="auto"):
    """The program of a mask of 64 bytes: bit n allows number n.

    Args:
        mask: 64 bytes.
        allow: action of the numbers whose bit is set.
        default: action of all others.
        foreign: action of other architectures and of x32.
        arch: AUDIT_ARCH value.
        clone3: its number, to answer ENOSYS to it whatever the mask says; or None.
        shape: "tree", "words", or "auto" for the tree up to 160 instructions.
    """
    cdef nx_cbpf_insn insns[2048]
    cdef nx_seccomp_policy policy
    cdef uint32_t count = 0
    cdef Py_buffer view
    cdef int code
    if shape not in _SHAPES:
        raise ValueError(f"{shape!r} is no shape: {', '.join(_SHAPES)}")
    _policy(&policy, default, foreign, arch, clone3)
    cdef uint32_t allow_action = <uint32_t>as_bounded(allow, 0xFFFFFFFF)
    view_open(mask, &view)
    try:
        if view.len != MASK_BYTES:
            raise ValueError(f"a mask has {MASK_BYTES} bytes, not {view.len}")
        code = nx_seccomp_compile_mask(&policy, <const uint8_t *>view.buf, allow_action,
                                       _SHAPES[shape], insns, 2048, &count)
    finally:
        PyBuffer_Release(&view)
    _refuse(code, "mask")
    return _finished(insns, count)


def compile_rules(rules, *, default, foreign, arch, clone3=None):
    """The program of rules, of which the first that holds decides.

    Args:
        rules: (first number, last number, action, tests); a test is (argument, op, a, b, width,
            negate) with op "masked" for (argument & a) == b or "range" for a <= argument <= b.
        default: action when no rule holds.
        foreign: action of other architectures and of x32.
        arch: AUDIT_ARCH value.
        clone3: its number, to answer ENOSYS to it whatever the rules say; or None.
    """
    cdef list given = list(rules)
    cdef list tests = [test for rule in given for test in rule[3]]
    cdef nx_seccomp_policy policy
    cdef nx_seccomp_rule *rule_items = NULL
    cdef nx_seccomp_test *test_items = NULL
    cdef nx_cbpf_insn *insns = NULL
    cdef uint32_t count = 0
    _policy(&policy, default, foreign, arch, clone3)
    if len(given) > NX_SECCOMP_RULES_MAX:
        raise errors.TooLargeError(f"{len(given)} rules; {NX_SECCOMP_RULES_MAX} can be")
    try:
        rule_items = <nx_seccomp_rule *>PyMem_Calloc(len(given) + 1, sizeof(nx_seccomp_rule))
        test_items = <nx_seccomp_test *>PyMem_Calloc(len(tests) + 1, sizeof(nx_seccomp_test))
        insns = <nx_cbpf_insn *>PyMem_Calloc(NX_CBPF_COUNT_MAX, sizeof(nx_cbpf_insn))
        if rule_items == NULL or test_items == NULL or insns == NULL:
            raise MemoryError()
        _fill_rules(given, rule_items)
        _fill_tests(tests, test_items)
        policy.rules = rule_items
        policy.tests = test_items
        policy.rule_count = <uint32_t>len(given)
        policy.test_count = <uint32_t>len(tests)
        _refuse(nx_seccomp_compile(&policy, insns, NX_CBPF_COUNT_MAX, &count), "rules")
        return _finished(insns, count)
    finally:
        PyMem_Free(rule_items)
        PyMem_Free(test_items)
        PyMem_Free(insns)


cdef int _fill_rules(list rules, nx_seccomp_rule *items) except -1:
    cdef uint32_t next_test = 0
    cdef Py_ssize_t i
    for i in range(len(rules)):
        first, last, action, tests = rules[i]
        items[i].first = <uint32_t>as_bounded(first, 0xFFFFFFFF)
        items[i].last = <uint32_t>as_bounded(last, 0xFFFFFFFF)
        items[i].action = <uint32_t>as_bounded(action, 0xFFFFFFFF)
        items[i].test_first = next_test
        items[i].test_count = <uint32_t>len(tests)
        next_test += items[i].test_count
    return 0


cdef int _fill_tests(list tests, nx_seccomp_test *items) except -1:
    cdef Py_ssize_t i
    for i in range(len(tests)):
        argument, op, a, b, width, negate = tests[i]
        if op not in _OPS:
            raise ValueError(f"{op!r} is no test: {', '.join(_OPS)}")
        items[i].argument = <uint8_t>as_bounded(argument, 0xFF)
        items[i].op = <uint8_t>_OPS[op]
        items[i].a = as_u64(a)
        items[i].b = as_u64(b)
        items[i].width = <uint8_t>as_bounded(width, 0xFF)
        items[i].negate = bool(negate)
    return 0


def action_available(action):
    """Whether the running kernel knows an action; AbsentError without seccomp filters."""
    cdef int found = 0
    raise_code(probe_action(<uint32_t>as_bounded(action, 0xFFFFFFFF), &found),
               "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
    return found != 0


def flag_available(flag):
    """Whether the running kernel knows a combination of install flags."""
    cdef int found = 0
    raise_code(probe_flag(<uint32_t>as_bounded(flag, 0xFFFFFFFF), &found), "seccomp flags")
    return found != 0


def notify_sizes():
    """Sizes in bytes of (seccomp_notif, seccomp_notif_resp, seccomp_data), or None."""
    cdef uint16_t sizes[3]
    cdef int code = nx_seccomp_notify_sizes(sizes)
    if code == NX_EABSENT:
        return None
    raise_code(code, "seccomp notification sizes")
    return sizes[0], sizes[1], sizes[2]


def take_listener(pid, descriptor):
    """A descriptor of the listener that another process has; OSError without the right to it."""
    cdef int fd = -1
    cdef int code = nx_seccomp_take_listener(<int>as_bounded(pid, 0x7FFFFFFF),
                                             <int>as_bounded(descriptor, 0x7FFFFFFF), &fd)
    raise_code(code, "this kernel hands over no descriptors (pidfd_getfd, Linux 5.6)"
               if code == NX_EABSENT else "seccomp listener")
    return fd
