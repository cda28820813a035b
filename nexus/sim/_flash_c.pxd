# cython: language_level=3
"""The C interface of the flash emulator: csrc/nx_flash_sim.h."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "stdbool.h":
    ctypedef bint c_bool "bool"

cdef extern from "nx_flash_sim.h":
    enum:
        NX_OK
        NX_EINVAL
        NX_ERANGE
        NX_EALIGN
        NX_ENOMEM
        NX_ECORRUPT
        NX_EABSENT
        NX_ESTALE
        NX_EFAULT
        NX_EMEDIUM
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
    ctypedef enum nx_flash_fail:
        NX_FLASH_FAIL_NONE
    ctypedef struct nx_flash_sim_model:
        nx_flash_geometry geometry
        uint64_t seed
        uint32_t rules
        uint16_t factory_bad, ecc_step, ecc_bits
        uint8_t miscorrects, pairs
        uint64_t error_base, error_wear, error_hour, error_read, error_program
        uint32_t endurance, endurance_sigma
        uint8_t worn, cache_keeps
        uint16_t cache
        uint32_t read_ns, program_ns, erase_ns, byte_ps, read_nj, program_nj, erase_nj
    ctypedef struct nx_flash_sim_counters:
        uint64_t reads, read_bytes, read_pages, programs, program_bytes, erases
        uint64_t oob_reads, oob_writes, syncs, mutations
        uint64_t corrected, uncorrectable, miscorrected, refused, cuts, breaches
        uint64_t time_ns, energy_nj, marks, span_read_bytes_max, span_time_ns_max
    ctypedef struct nx_flash_sim_wear:
        uint32_t min, max
        uint64_t sum, blocks
    ctypedef struct nx_flash_sim_breach:
        uint32_t rule
    ctypedef struct nx_flash_sim_plan:
        uint64_t mutation
        uint8_t mode
        uint16_t weak_bits, unstable_reads
    ctypedef struct nx_flash_sim:
        pass
    int nx_flash_sim_create(const nx_flash_sim_model *, nx_flash_sim **) noexcept nogil
    void nx_flash_sim_destroy(nx_flash_sim *) noexcept nogil
    int nx_flash_sim_fork(const nx_flash_sim *, nx_flash_sim **) noexcept nogil
    const nx_flash *nx_flash_sim_medium(const nx_flash_sim *) noexcept nogil
    const nx_flash_sim_model *nx_flash_sim_model_of(const nx_flash_sim *) noexcept nogil
    const nx_flash_sim_counters *nx_flash_sim_counters_of(const nx_flash_sim *) noexcept nogil
    void nx_flash_sim_wear_of(const nx_flash_sim *, nx_flash_sim_wear *) noexcept nogil
    uint32_t nx_flash_sim_erases_of(const nx_flash_sim *, uint32_t) noexcept nogil
    const nx_flash_sim_breach *nx_flash_sim_breach_of(const nx_flash_sim *) noexcept nogil
    const nx_flash_sim_breach *nx_flash_sim_breach_last(const nx_flash_sim *) noexcept nogil
    size_t nx_flash_sim_explain(const nx_flash_sim_breach *, char *, size_t) noexcept nogil
    void nx_flash_sim_seed(nx_flash_sim *, uint64_t) noexcept nogil
    void nx_flash_sim_plan_cut(nx_flash_sim *, const nx_flash_sim_plan *) noexcept nogil
    bint nx_flash_sim_powered(const nx_flash_sim *) noexcept nogil
    int nx_flash_sim_power_off(nx_flash_sim *) noexcept nogil
    void nx_flash_sim_power_on(nx_flash_sim *) noexcept nogil
    void nx_flash_sim_advance(nx_flash_sim *, uint64_t) noexcept nogil
    void nx_flash_sim_mark(nx_flash_sim *) noexcept nogil
    int nx_flash_sim_fail(nx_flash_sim *, uint32_t, nx_flash_fail) noexcept nogil
    int nx_flash_sim_age(nx_flash_sim *, uint32_t, uint32_t) noexcept nogil
    int nx_flash_sim_flip(nx_flash_sim *, uint64_t, unsigned) noexcept nogil
    int nx_flash_sim_trace(nx_flash_sim *, bint) noexcept nogil
    const uint8_t *nx_flash_sim_trace_of(const nx_flash_sim *, size_t *) noexcept nogil
    int nx_flash_sim_trace_model(const uint8_t *, size_t, nx_flash_sim_model *) noexcept nogil
    int nx_flash_sim_replay(nx_flash_sim *, const uint8_t *, size_t, uint64_t *) noexcept nogil
