"""Shared libraries: the addresses of their functions, for C that calls them later."""

from libc.stdint cimport uintptr_t


cdef extern from "<dlfcn.h>" nogil:
    int RTLD_NOW
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)
    const char *dlerror()


def find_functions(bytes path not None, names) -> tuple:
    """The addresses of the named functions of a library, which stays loaded for ever.

    Args:
        path: of the library.
        names: of the functions, as bytes.

    Raises:
        OSError: it cannot be loaded, or has no such function.
    """
    cdef void *library
    cdef void *found
    ret = []
    library = dlopen(path, RTLD_NOW)
    if library == NULL:
        raise OSError((<bytes>dlerror()).decode(errors="replace"))
    for name in names:
        found = dlsym(library, <bytes?>name)
        if found == NULL:
            raise OSError((<bytes>dlerror()).decode(errors="replace"))
        ret.append(<uintptr_t>found)
    return tuple(ret)
