# cython: language_level=3
"""How a module picks its SIMD level at import: the best of the CPU, or what NEXUS_SIMD demands."""

cdef extern from "nx_simd.h":
    ctypedef enum nx_simd:
        NX_SIMD_SCALAR
    ctypedef enum nx_simd_verdict:
        NX_SIMD_GRANTED
        NX_SIMD_UNKNOWN_NAME
        NX_SIMD_NOT_BUILT
        NX_SIMD_NOT_IN_CPU
    const char *nx_simd_name(nx_simd level) nogil
    nx_simd nx_simd_detect() nogil
    nx_simd_verdict nx_simd_demand(const char *name, nx_simd *ret) nogil


cdef inline int simd_demanded(nx_simd *ret) except -1:
    """The level to select; raises when NEXUS_SIMD asks for what is not there."""
    cdef bytes name
    cdef nx_simd_verdict verdict
    import os  # a .pxd has no module-level Python imports

    from nexus import errors

    wanted = os.environ.get("NEXUS_SIMD")
    if wanted is None:
        ret[0] = nx_simd_detect()
        return 0
    name = os.fsencode(wanted)
    verdict = nx_simd_demand(name, ret)
    if verdict == NX_SIMD_GRANTED:
        return 0
    if verdict == NX_SIMD_UNKNOWN_NAME:
        raise ValueError(
            f"NEXUS_SIMD={wanted!r} is not one of scalar, sse41, avx2, avx512, neon"
        )
    if verdict == NX_SIMD_NOT_BUILT:
        raise errors.AbsentError(
            f"NEXUS_SIMD={wanted}: this build is for another architecture and has no such kernels",
            hint="unset NEXUS_SIMD, or set it to scalar",
        )
    raise errors.AbsentError(
        f"NEXUS_SIMD={wanted}: this CPU lacks the instructions",
        hint=f"the best level of this CPU is {nx_simd_name(nx_simd_detect()).decode()}",
    )
