"""Physics mechanisms in C17 behind thin Cython wrappers; imports nothing of Nexus but errors.

Only `nexus.physics` imports this package. Every mechanism is a plain C kernel in `csrc/`
(no `Python.h`, tested on its own in `tests/native/`) and a wrapper that converts arguments,
checks them and maps result codes to exceptions.
"""
